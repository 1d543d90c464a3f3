/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_DISKS_H
#define CMD_LIFEBOAT_DISKS_H

#include "base/err.h"
#include "cmd/lifeboat/words.h"

/* disks: the files of a machine's disks, from the side of the verb that starts it.
 *
 * They are opened and locked here and handed on as descriptors; the lock (of the open
 * file, so that it goes with the descriptor) lasts as long as any process has it, thus
 * as long as the worker. */

/* One value of --disk: FILE[,ro][,cache=host|direct][,on-error=report|pause]. */
MUST_USE enum err disks_parse(struct machine *m, const char *value, const char *dir_of);

/* "disk3" or "3".  ERR_USAGE. */
MUST_USE enum err disks_number(const char *text, unsigned *lun);

/* Open and lock what disks_parse put down, and describe it in m->config.  ERR_BUSY: some
 * machine has it. */
MUST_USE enum err disks_open(struct machine *m);

/* New files for the disks of a restored machine, whose config is there already:
 * DIR/NAME-disk0.raw, ...  Until disks_keep they have ".partial" at their ends, and
 * machine_fini removes them.  ERR_BUSY: one exists. */
MUST_USE enum err disks_create(struct machine *m, const char *dir);
MUST_USE enum err disks_keep(struct machine *m);

/* Give those disks an identity that have none: it follows from the machine's name and
 * the disk's place, so that a guest finds its disks again however often it is started. */
void disks_identify(struct vm_config *c);
void disks_identify_one(struct config_disk *d, const char *name); /* whose LUN is known */

/* All descriptors as one (given); -1 if there are no disks. */
MUST_USE enum err disks_pack(const struct machine *m, int *pack);

void disks_fini(struct machine *m);

#endif
