/* SPDX-License-Identifier: Apache-2.0 */
/* bootmenu: grub.cfg and extlinux.conf, as far as a default entry needs them.
 *
 * Format, GRUB: a shell's.  Of it this reads words with their quotes, "{" and "}" as words
 * of their own, and the commands menuentry, submenu, set default=, linux, initrd (with
 * their endings 16 and efi).  Conditions are not evaluated: of several `set default' the
 * last that names something counts, which is what grub-mkconfig means by them.
 * Format, extlinux: one keyword and its value a line, in any case of letters.
 *
 * Everything has a fixed bound; what exceeds it makes the entry one that is not understood.
 * Source: GNU GRUB manual, "Shell-like scripting", "menuentry", "default"; Syslinux wiki,
 * "Config"; deb-version(7). */
#include "cmd/bootfs/bootmenu.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NODES 128u
#define DEPTH 16u
#define WORD_BYTES 512u
#define NO_PARENT (-1)

bool bootmenu_plain(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

bool bootmenu_has(const char *cmdline, const char *start)
{
	size_t len = strlen(start);

	for (const char *p = cmdline; *p;) {
		p += strspn(p, " ");
		if (strncmp(p, start, len) == 0)
			return true;
		p += strcspn(p, " ");
	}
	return false;
}

/* ---- versions ---- */

static int weight(char c)
{
	if (c == '~')
		return -1;
	if (c == '\0' || isdigit((unsigned char)c))
		return 0;
	return isalpha((unsigned char)c) ? (unsigned char)c : (unsigned char)c + 256;
}

static int compare_digits(const char **a, const char **b)
{
	int first = 0;

	*a += strspn(*a, "0");
	*b += strspn(*b, "0");
	for (; isdigit((unsigned char)**a) && isdigit((unsigned char)**b); ++*a, ++*b)
		if (first == 0)
			first = **a - **b;
	if (isdigit((unsigned char)**a))
		return 1;
	return isdigit((unsigned char)**b) ? -1 : first;
}

int bootmenu_compare(const char *a, const char *b)
{
	while (*a || *b) {
		while ((*a && !isdigit((unsigned char)*a)) || (*b && !isdigit((unsigned char)*b))) {
			if (weight(*a) != weight(*b))
				return weight(*a) - weight(*b);
			a++;
			b++;
		}
		int d = compare_digits(&a, &b);
		if (d != 0)
			return d;
	}
	return 0;
}

/* ---- words ---- */

struct reader {
	const char *p;
	char word[WORD_BYTES];
	bool bad; /* a word was too long */
};

static void put(struct reader *r, size_t *len, char c)
{
	if (*len + 1 < WORD_BYTES)
		r->word[(*len)++] = c;
	else
		r->bad = true;
}

/* One quoted part; p is behind its end then. */
static void quoted(struct reader *r, size_t *len, char quote)
{
	for (r->p++; *r->p && *r->p != quote; r->p++) {
		if (quote == '"' && *r->p == '\\' && r->p[1])
			r->p++;
		put(r, len, *r->p);
	}
	if (*r->p)
		r->p++;
}

/* The next word of this line; false at its end. */
static bool next_word(struct reader *r)
{
	size_t len = 0;

	r->p += strspn(r->p, " \t\r");
	if (!*r->p || strchr("\n;#", *r->p))
		return false;
	while (*r->p && !strchr(" \t\r\n;", *r->p)) {
		if (*r->p == '\'' || *r->p == '"') {
			quoted(r, &len, *r->p);
			continue;
		}
		if (*r->p == '\\' && r->p[1] == '\n') {
			r->p += 2;
			continue;
		}
		if (*r->p == '\\' && r->p[1])
			r->p++;
		put(r, &len, *r->p++);
	}
	r->word[len] = '\0';
	return true;
}

static void next_line(struct reader *r)
{
	if (*r->p == ';') {
		r->p++;
		return;
	}
	r->p += strcspn(r->p, "\n");
	if (*r->p)
		r->p++;
}

static bool copy(char *out, size_t room, const char *text)
{
	size_t len = strlen(text);

	if (len >= room)
		return false;
	memcpy(out, text, len + 1);
	return true;
}

/* " word" at the end of a command line. */
static bool append(char *cmdline, const char *word)
{
	size_t len = strlen(cmdline), more = strlen(word) + (len ? 1 : 0);

	if (len + more >= BOOTMENU_CMDLINE_BYTES)
		return false;
	(void)snprintf(cmdline + len, BOOTMENU_CMDLINE_BYTES - len, "%s%s", len ? " " : "", word);
	return true;
}

/* A path in the file system: what GRUB says before it names a device, "($root)/boot". */
static bool take_path(char out[BOOTMENU_PATH_BYTES], const char *word)
{
	const char *end = *word == '(' ? strchr(word, ')') : NULL;
	const char *path = end ? end + 1 : word;

	return *path == '/' && !strchr(path, '$') && bootmenu_plain(path) &&
	       copy(out, BOOTMENU_PATH_BYTES, path);
}

/* ---- GRUB ---- */

struct node {
	int parent;	/* a submenu's place, or NO_PARENT */
	unsigned index; /* among its parent's */
	bool submenu;
	char title[WORD_BYTES / 2], id[WORD_BYTES / 2];
	const char *body; /* borrowed */
};

struct menu {
	struct reader r;
	struct node nodes[NODES];
	unsigned count;
	int stack[DEPTH]; /* of open braces: a node, or NO_PARENT for others */
	unsigned depth;
	char chosen[WORD_BYTES];
	bool saved;
};

static int open_node(const struct menu *m)
{
	return m->depth > 0 ? m->stack[m->depth - 1] : NO_PARENT;
}

static void push(struct menu *m, int node)
{
	if (m->depth < DEPTH)
		m->stack[m->depth++] = node;
	else
		m->r.bad = true;
}

/* menuentry TITLE [OPTION...] { */
static void read_node(struct menu *m, bool submenu)
{
	struct node *n = &m->nodes[m->count];
	bool id = false, opened = false;

	if (m->count == NODES || !next_word(&m->r)) {
		m->r.bad = true;
		return;
	}
	*n = (struct node){.parent = open_node(m), .submenu = submenu};
	(void)snprintf(n->title, sizeof(n->title), "%.*s", (int)sizeof(n->title) - 1, m->r.word);
	for (unsigned i = 0; i < m->count; i++)
		n->index += m->nodes[i].parent == n->parent;
	while (!opened && next_word(&m->r)) {
		opened = strcmp(m->r.word, "{") == 0;
		if (id && !opened)
			(void)snprintf(n->id, sizeof(n->id), "%.*s", (int)sizeof(n->id) - 1,
				       m->r.word);
		id = strcmp(m->r.word, "--id") == 0 || strstr(m->r.word, "menuentry_id_option");
	}
	if (!opened)
		return;
	n->body = m->r.p;
	push(m, (int)m->count++);
}

static void read_set(struct menu *m)
{
	static const char name[] = "default=";

	if (m->depth > 0 || !next_word(&m->r) || strncmp(m->r.word, name, sizeof(name) - 1) != 0)
		return;
	const char *value = m->r.word + sizeof(name) - 1;
	if (strchr(value, '$')) {
		m->saved = m->saved || strstr(value, "saved_entry");
		return;
	}
	m->saved = false;
	(void)copy(m->chosen, sizeof(m->chosen), value);
}

static void scan(struct menu *m)
{
	while (*m->r.p) {
		if (next_word(&m->r)) {
			if (strcmp(m->r.word, "menuentry") == 0)
				read_node(m, false);
			else if (strcmp(m->r.word, "submenu") == 0)
				read_node(m, true);
			else if (strcmp(m->r.word, "set") == 0)
				read_set(m);
			else if (strcmp(m->r.word, "}") == 0 && m->depth > 0)
				m->depth--;
			while (next_word(&m->r))
				if (strcmp(m->r.word, "{") == 0)
					push(m, NO_PARENT);
		}
		next_line(&m->r);
	}
}

/* saved_entry=... of grubenv, which has one variable a line. */
static void look_up_saved(struct menu *m, const char *env)
{
	static const char name[] = "saved_entry=";

	for (const char *p = env; p && *p;) {
		size_t len = strcspn(p, "\n");

		if (strncmp(p, name, sizeof(name) - 1) == 0 && len < WORD_BYTES) {
			(void)snprintf(m->chosen, sizeof(m->chosen), "%.*s",
				       (int)(len - (sizeof(name) - 1)), p + sizeof(name) - 1);
			return;
		}
		p += len + (p[len] == '\n');
	}
}

static bool is_called(const struct node *n, const char *name, size_t len)
{
	char index[16];

	(void)snprintf(index, sizeof(index), "%u", n->index);
	return (strlen(index) == len && strncmp(index, name, len) == 0) ||
	       (strlen(n->title) == len && strncmp(n->title, name, len) == 0) ||
	       (len > 0 && strlen(n->id) == len && strncmp(n->id, name, len) == 0);
}

static int child(const struct menu *m, int parent, const char *name, size_t len)
{
	for (unsigned i = 0; i < m->count; i++)
		if (m->nodes[i].parent == parent && (!name || is_called(&m->nodes[i], name, len)))
			return (int)i;
	return NO_PARENT;
}

/* The entry that `chosen' names; the first of all where it names none. */
static const struct node *choose(const struct menu *m)
{
	int at = NO_PARENT;

	for (const char *p = m->chosen; *p;) {
		size_t len = strcspn(p, ">");
		int next = child(m, at, p, len);

		if (next == NO_PARENT)
			break;
		at = next;
		p += len + (p[len] == '>');
	}
	for (unsigned i = 0; i < DEPTH && (at == NO_PARENT || m->nodes[at].submenu); i++) {
		int next = child(m, at, NULL, 0);

		if (next == NO_PARENT)
			return NULL;
		at = next;
	}
	return at == NO_PARENT || m->nodes[at].submenu ? NULL : &m->nodes[at];
}

static bool read_linux(struct reader *r, struct bootmenu_entry *out)
{
	if (!next_word(r) || !take_path(out->kernel, r->word))
		return false;
	out->cmdline[0] = '\0';
	while (next_word(r))
		if (strchr(r->word, '$') || !bootmenu_plain(r->word) || !append(out->cmdline, r->word))
			return false;
	return true;
}

static bool read_initrd(struct reader *r, struct bootmenu_entry *out)
{
	out->initrds = 0;
	while (next_word(r)) {
		if (out->initrds == BOOTMENU_INITRDS || !take_path(out->initrd[out->initrds], r->word))
			return false;
		out->initrds++;
	}
	return true;
}

static bool is_command(const char *word, const char *command)
{
	size_t len = strlen(command);

	return strncmp(word, command, len) == 0 &&
	       (!word[len] || strcmp(word + len, "16") == 0 || strcmp(word + len, "efi") == 0);
}

static bool read_body(const char *body, struct bootmenu_entry *out)
{
	struct reader r = {.p = body};
	unsigned depth = 0;
	bool ok = true;

	while (ok && *r.p) {
		if (next_word(&r)) {
			if (strcmp(r.word, "}") == 0 && depth-- == 0)
				break;
			if (is_command(r.word, "linux"))
				ok = read_linux(&r, out);
			else if (is_command(r.word, "initrd"))
				ok = read_initrd(&r, out);
			while (next_word(&r))
				depth += strcmp(r.word, "{") == 0;
		}
		next_line(&r);
	}
	return ok && !r.bad && out->kernel[0];
}

bool bootmenu_grub(const char *text, const char *env, struct bootmenu_entry *out)
{
	struct menu m = {.r.p = text};

	*out = (struct bootmenu_entry){0};
	scan(&m);
	if (m.saved)
		look_up_saved(&m, env);
	const struct node *n = choose(&m);
	return n && read_body(n->body, out);
}

/* ---- extlinux ---- */

struct label {
	struct bootmenu_entry entry;
	bool ok;
};

/* The value of this line, without what is around it; false: too long. */
static bool value_of(const char *p, char *out, size_t room)
{
	size_t len = strcspn(p, "\n");

	while (len > 0 && strchr(" \t\r", p[len - 1]))
		len--;
	if (len >= room)
		return false;
	memcpy(out, p, len);
	out[len] = '\0';
	return bootmenu_plain(out);
}

static bool take_initrds(struct bootmenu_entry *e, char *list)
{
	char *rest = NULL;

	e->initrds = 0;
	for (char *p = strtok_r(list, ",", &rest); p; p = strtok_r(NULL, ",", &rest)) {
		if (e->initrds == BOOTMENU_INITRDS || !take_path(e->initrd[e->initrds], p))
			return false;
		e->initrds++;
	}
	return true;
}

static bool is_key(const struct reader *r, const char *key) { return strcasecmp(r->word, key) == 0; }

/* A line of a label. */
static void read_key(const struct reader *r, struct label *l)
{
	char value[BOOTMENU_CMDLINE_BYTES];
	bool fits = value_of(r->p + strspn(r->p, " \t"), value, sizeof(value));

	if (is_key(r, "linux") || is_key(r, "kernel"))
		l->ok = l->ok && fits && take_path(l->entry.kernel, value);
	else if (is_key(r, "initrd"))
		l->ok = l->ok && fits && take_initrds(&l->entry, value);
	else if (is_key(r, "append"))
		l->ok = l->ok && fits && copy(l->entry.cmdline, sizeof(l->entry.cmdline), value);
}

bool bootmenu_extlinux(const char *text, struct bootmenu_entry *out)
{
	struct reader r = {.p = text};
	struct label found = {0}, current = {0};
	char chosen[WORD_BYTES] = "", name[WORD_BYTES];
	bool in_label = false, have = false, is_default = false;

	for (; *r.p; next_line(&r)) {
		if (!next_word(&r))
			continue;
		if (is_key(&r, "default")) {
			(void)value_of(r.p + strspn(r.p, " \t"), chosen, sizeof(chosen));
		} else if (is_key(&r, "label")) {
			if (in_label && !is_default && (!have || strcmp(name, chosen) == 0)) {
				found = current;
				have = true;
				is_default = strcmp(name, chosen) == 0;
			}
			if (!value_of(r.p + strspn(r.p, " \t"), name, sizeof(name)))
				name[0] = '\0';
			current = (struct label){.ok = true};
			in_label = true;
		} else if (in_label) {
			read_key(&r, &current);
		}
	}
	if (in_label && !is_default && (!have || strcmp(name, chosen) == 0))
		found = current;
	*out = found.entry;
	return found.ok && out->kernel[0];
}
