/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_MONITOR_H
#define CMD_LIFEBOAT_MONITOR_H

#include <stdnoreturn.h>

/* monitor: the process that keeps a worker's life: its parent, holder of the
 * name's lock, writer of its log and of how it ended.  One per machine, detached
 * from every terminal; holds no archive, no keys, and none of the guest's data. */

struct home;

/* The whole life of the process.  home: as the launcher opened it; fd: the channel to the
 * launcher (taken). */
noreturn void monitor_main(const struct home *home, int fd);

#endif
