/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_VERBS_H
#define CMD_LIFEBOAT_VERBS_H

#include "base/err.h"

/* verbs: one function and one file for each.  argv[0] is the verb itself; the
 * result becomes the exit code and, unless ERR_OK, one sentence. */
typedef enum err verb_fn(int argc, char **argv);

verb_fn verb_run, verb_ps, verb_console, verb_pause, verb_resume, verb_stop, verb_kill;
verb_fn verb_checkpoint, verb_checkpoints, verb_inspect, verb_restore;
verb_fn verb_archive_init, verb_archive_verify, verb_archive_ls, verb_archive_stats;
verb_fn verb_archive_import, verb_archive_export, verb_archive_rebuild_index, verb_archive_copy;
verb_fn verb_archive_repair, verb_archive_rm, verb_archive_gc, verb_archive_pins;
verb_fn verb_disk_add, verb_disk_remove, verb_disk_resize, verb_disk_ls;
verb_fn verb_guest_info, verb_guest_ping, verb_guest_time;
verb_fn verb_host_check;
verb_fn verb_image_build;

#endif
