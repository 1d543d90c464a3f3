/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_VMFILE_H
#define CMD_LIFEBOAT_VMFILE_H

#include "base/err.h"
#include "cmd/lifeboat/words.h"

/* vmfile: a machine described in YAML, one mapping with the words of the options:
 *
 *   name: web
 *   kernel: /boot/vmlinuz
 *   memory: 2G
 *   cpus: 2
 */
struct vmfile;

/* Read and parse the file; its words that w does not have yet go into w, which
 * borrows them and path until vmfile_close.  ERR_USAGE with file and line for
 * unknown keys and anything else that is not as above; ERR_NOTFOUND. */
MUST_USE enum err vmfile_open(const char *path, struct words *w, struct vmfile **out);
void vmfile_close(struct vmfile *f); /* NULL allowed */

#endif
