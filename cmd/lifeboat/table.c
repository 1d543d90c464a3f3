/* SPDX-License-Identifier: Apache-2.0 */
/* table: columns of text that are as wide as their widest cell.  Labels and
 * names come from archives, so control characters never reach the terminal. */
#include "cmd/lifeboat/table.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lifeboat/cli.h"

struct table {
	const char *const *columns;
	size_t width, count, room; /* columns; cells */
	char **cells;
	bool failed;
};

enum err table_create(const char *const *columns, struct table **out)
{
	struct table *t = calloc(1, sizeof(*t));

	*out = t;
	if (!t)
		return err_note(ERR_NOMEM, 0, "table");
	t->columns = columns;
	while (columns[t->width])
		t->width++;
	return ERR_OK;
}

void table_destroy(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

static bool grow(struct table *t)
{
	if (t->count < t->room)
		return true;
	size_t room = t->room ? 2 * t->room : 64;
	char **cells = realloc(t->cells, room * sizeof(*cells));
	if (!cells)
		return false;
	t->cells = cells;
	t->room = room;
	return true;
}

void table_cell(struct table *t, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0 || !grow(t)) {
		if (n >= 0)
			free(text);
		t->failed = true;
		return;
	}
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	t->cells[t->count++] = text;
}

/* Characters, not bytes: labels are UTF-8. */
static int columns_of(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xC0) != 0x80;
	return n;
}

static void print_cell(const char *text, int width, bool right, bool last)
{
	int pad = width - columns_of(text);

	if (right)
		cli_print("%*s%s", pad > 0 ? pad : 0, "", text);
	else
		cli_print("%s%*s", text, pad > 0 && !last ? pad : 0, "");
	cli_print("%s", last ? "\n" : "  ");
}

static int width_of(const struct table *t, size_t column)
{
	const char *head = t->columns[column];
	int width = columns_of(head + (*head == '>'));

	for (size_t i = column; i < t->count; i += t->width)
		if (columns_of(t->cells[i]) > width)
			width = columns_of(t->cells[i]);
	return width;
}

enum err table_print(const struct table *t)
{
	int *widths = calloc(t->width, sizeof(*widths));

	if (t->failed || !widths) {
		free(widths);
		return err_note(ERR_NOMEM, 0, "print a table");
	}
	for (size_t c = 0; c < t->width; c++) {
		const char *head = t->columns[c];

		widths[c] = width_of(t, c);
		print_cell(head + (*head == '>'), widths[c], *head == '>', c + 1 == t->width);
	}
	for (size_t i = 0; i + t->width <= t->count; i += t->width)
		for (size_t c = 0; c < t->width; c++)
			print_cell(t->cells[i + c], widths[c], t->columns[c][0] == '>',
				   c + 1 == t->width);
	free(widths);
	return ERR_OK;
}
