/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_TABLE_H
#define CMD_LIFEBOAT_TABLE_H

#include <stddef.h>

#include "base/err.h"

/* table: columns of text that are as wide as their widest cell. */
struct table;

/* columns: headings, NULL-terminated, borrowed for the life of the table; a
 * heading that starts with '>' is right-aligned (and shown without it). */
MUST_USE enum err table_create(const char *const *columns, struct table **out);
void table_destroy(struct table *t); /* NULL allowed */

/* The next cell, row by row; bytes that a terminal would obey become '?'. */
void table_cell(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* All rows by cli_print; ERR_NOMEM if a cell was lost. */
MUST_USE enum err table_print(const struct table *t);

#endif
