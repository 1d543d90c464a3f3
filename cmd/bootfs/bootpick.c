/* SPDX-License-Identifier: Apache-2.0 */
/* bootpick: the search for a kernel, in this order:
 *
 *   each ext file system of the disk, in the order of the partition table
 *     its /boot, then its root (which is where a partition of its own has what is in /boot)
 *       grub/grub.cfg with grub/grubenv   as GRUB would start it
 *       extlinux/extlinux.conf            the same for extlinux
 *       the newest vmlinuz-VERSION        by Debian's order, with initrd.img-VERSION
 *
 * A configuration that names no kernel that is there, or in a way only its boot loader
 * understands, counts as none.  The newest kernel's command line is /etc/kernel/cmdline, in
 * which a missing root= becomes the file system's UUID.  A command line without console=
 * gets our serial line, for there is no other console. */
#include "cmd/bootfs/bootpick.h"

#include <stdio.h>
#include <string.h>

#include "cmd/bootfs/extfs.h"
#include "cmd/bootfs/parttable.h"

#define CONFIG_MAX_BYTES (1u << 20)
#define ENV_MAX_BYTES 4096u
#define CONSOLE "console=ttyS0"

struct search {
	struct extfs *fs;
	const char *boot; /* "/boot" or "" */
	struct bootpick *out;
};

static void join(char out[BOOTMENU_PATH_BYTES], const char *dir, const char *name)
{
	(void)snprintf(out, BOOTMENU_PATH_BYTES, "%s/%s", dir, name);
}

/* Only files that are there: all of them, or it is no entry. */
static bool complete(struct search *s)
{
	const struct bootmenu_entry *entry = &s->out->entry;

	if (!extfs_is_file(s->fs, entry->kernel))
		return false;
	for (unsigned i = 0; i < entry->initrds; i++)
		if (!extfs_is_file(s->fs, entry->initrd[i]))
			return false;
	return true;
}

/* A text that need not be there; one that is damaged is an error. */
static enum err read_text(struct search *s, const char *path, size_t max_bytes, struct buf *out)
{
	enum err e = extfs_text(s->fs, path, max_bytes, out);

	if (e != ERR_NOTFOUND)
		return e;
	err_clear();
	buf_clear(out);
	return ERR_OK;
}

static enum err by_grub(struct search *s, bool *found)
{
	static const char *const dirs[] = {"grub", "grub2"};
	AUTO_BUF struct buf text = {0}, env = {0};
	char path[BOOTMENU_PATH_BYTES], name[32];
	enum err e = ERR_OK;

	for (unsigned i = 0; i < 2 && !*found && e == ERR_OK; i++) {
		(void)snprintf(name, sizeof(name), "%s/grubenv", dirs[i]);
		join(path, s->boot, name);
		if ((e = read_text(s, path, ENV_MAX_BYTES, &env)) != ERR_OK)
			return e;
		(void)snprintf(name, sizeof(name), "%s/grub.cfg", dirs[i]);
		join(path, s->boot, name);
		e = read_text(s, path, CONFIG_MAX_BYTES, &text);
		*found = e == ERR_OK && bootmenu_grub(buf_str(&text), buf_str(&env), &s->out->entry) &&
			 complete(s);
	}
	if (*found)
		(void)snprintf(s->out->from, sizeof(s->out->from), "%s", path);
	return e;
}

static enum err by_extlinux(struct search *s, bool *found)
{
	AUTO_BUF struct buf text = {0};
	char path[BOOTMENU_PATH_BYTES];

	join(path, s->boot, "extlinux/extlinux.conf");
	enum err e = read_text(s, path, CONFIG_MAX_BYTES, &text);
	*found = e == ERR_OK && bootmenu_extlinux(buf_str(&text), &s->out->entry) && complete(s);
	if (*found)
		(void)snprintf(s->out->from, sizeof(s->out->from), "%s", path);
	return e;
}

/* ---- the newest ---- */

struct newest {
	struct search *s;
	char version[BOOTMENU_PATH_BYTES / 2]; /* "": none yet */
};

static bool ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);

	return a >= b && strcmp(text + a - b, end) == 0;
}

static void consider(void *arg, const char *name)
{
	static const char *const leftovers[] = {".old", ".bak", ".dpkg-new", ".dpkg-tmp", "~"};
	static const char start[] = "vmlinuz-";
	struct newest *n = arg;
	const char *version = name + sizeof(start) - 1;

	if (strncmp(name, start, sizeof(start) - 1) != 0 || !*version || !bootmenu_plain(name) ||
	    strlen(version) >= sizeof(n->version))
		return;
	for (size_t i = 0; i < sizeof(leftovers) / sizeof(leftovers[0]); i++)
		if (ends_with(version, leftovers[i]))
			return;
	if (!n->version[0] || bootmenu_compare(version, n->version) > 0)
		(void)snprintf(n->version, sizeof(n->version), "%s", version);
}

static void find_initrd(struct search *s, const char *version)
{
	static const char *const forms[][2] = {
		{"initrd.img-", ""}, {"initramfs-", ".img"}, {"initrd-", ""}};
	struct bootmenu_entry *entry = &s->out->entry;

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		(void)snprintf(entry->initrd[0], BOOTMENU_PATH_BYTES, "%s/%s%s%s", s->boot, forms[i][0],
			       version, forms[i][1]);
		if (!extfs_is_file(s->fs, entry->initrd[0]))
			continue;
		entry->initrds = 1;
		return;
	}
}

static bool add_word(char *cmdline, const char *word)
{
	size_t len = strlen(cmdline), more = strlen(word) + (len ? 1 : 0);

	if (len + more >= BOOTMENU_CMDLINE_BYTES)
		return false;
	(void)snprintf(cmdline + len, BOOTMENU_CMDLINE_BYTES - len, "%s%s", len ? " " : "", word);
	return true;
}

static enum err cmdline_of_newest(struct search *s)
{
	AUTO_BUF struct buf text = {0};
	char *cmdline = s->out->entry.cmdline, uuid[EXTFS_UUID_BYTES], root[64];
	enum err e = read_text(s, "/etc/kernel/cmdline", BOOTMENU_CMDLINE_BYTES - 1, &text);

	if (e != ERR_OK)
		return e;
	const char *line = buf_str(&text);
	(void)snprintf(cmdline, BOOTMENU_CMDLINE_BYTES, "%.*s", (int)strcspn(line, "\r\n"), line);
	if (!bootmenu_plain(cmdline))
		return err_note(ERR_CORRUPT, 0, "/etc/kernel/cmdline: it is not text");
	/* Where there is only a /boot, its file system is not the root. */
	if (bootmenu_has(cmdline, "root=") || !*s->boot)
		return ERR_OK;
	extfs_uuid(s->fs, uuid);
	(void)snprintf(root, sizeof(root), "root=UUID=%s ro", uuid);
	return add_word(cmdline, root) ? ERR_OK
				       : err_note(ERR_CORRUPT, 0, "/etc/kernel/cmdline: too long");
}

static enum err by_version(struct search *s, bool *found)
{
	struct newest n = {.s = s};
	enum err e = extfs_list(s->fs, *s->boot ? s->boot : "/", consider, &n);

	if (e == ERR_NOTFOUND) {
		err_clear();
		return ERR_OK;
	}
	if (e != ERR_OK || !n.version[0])
		return e;
	s->out->entry = (struct bootmenu_entry){0};
	(void)snprintf(s->out->entry.kernel, BOOTMENU_PATH_BYTES, "%s/vmlinuz-%s", s->boot, n.version);
	find_initrd(s, n.version);
	*found = extfs_is_file(s->fs, s->out->entry.kernel);
	return *found ? cmdline_of_newest(s) : ERR_OK;
}

/* ---- all ---- */

static enum err search_fs(struct search *s, bool *found)
{
	static const char *const places[] = {"/boot", ""};
	enum err e = ERR_OK;

	for (unsigned i = 0; i < 2 && !*found && e == ERR_OK; i++) {
		s->boot = places[i];
		e = by_grub(s, found);
		if (e == ERR_OK && !*found)
			e = by_extlinux(s, found);
		if (e == ERR_OK && !*found)
			e = by_version(s, found);
	}
	return e;
}

/* Initial RAM disks one after the other, as boot loaders hand them on, each at a multiple of
 * four. */
static enum err copy_out(struct search *s, int kernel, int initrd, uint64_t max_bytes)
{
	struct bootpick *out = s->out;
	enum err e = extfs_copy(s->fs, out->entry.kernel, kernel, max_bytes, &out->kernel_bytes);

	if (e == ERR_OK && out->kernel_bytes == 0)
		return err_note(ERR_CORRUPT, 0, "%s: it is empty", out->entry.kernel);
	for (unsigned i = 0; i < out->entry.initrds && e == ERR_OK; i++) {
		out->initrd_bytes = (out->initrd_bytes + 3) & ~3ull;
		e = extfs_copy(s->fs, out->entry.initrd[i], initrd, max_bytes, &out->initrd_bytes);
	}
	return e;
}

static enum err try_part(int disk, const struct part *part, int kernel, int initrd, uint64_t max_bytes,
			 struct bootpick *out, bool *found)
{
	struct search s = {.out = out};
	enum err e = extfs_open(disk, part, &s.fs);

	if (e == ERR_OK && (e = search_fs(&s, found)) == ERR_OK && *found) {
		out->dirty = extfs_dirty(s.fs);
		e = copy_out(&s, kernel, initrd, max_bytes);
		if (e == ERR_OK && !bootmenu_has(out->entry.cmdline, "console=") &&
		    !add_word(out->entry.cmdline, CONSOLE))
			e = err_note(ERR_CORRUPT, 0, "%s: the kernel's command line is too long",
				     out->from);
	}
	extfs_close(s.fs);
	return e;
}

enum err bootpick_read(int disk, uint64_t disk_bytes, int kernel, int initrd, uint64_t max_bytes,
		       struct bootpick *out)
{
	struct part parts[PARTTABLE_MAX];
	unsigned count;
	bool found = false;

	*out = (struct bootpick){0};
	enum err e = parttable_read(disk, disk_bytes, parts, &count);
	for (unsigned i = 0; i < count && e == ERR_OK && !found; i++)
		e = try_part(disk, &parts[i], kernel, initrd, max_bytes, out, &found);
	if (e != ERR_OK || found)
		return e;
	if (count == 0)
		return err_note(ERR_NOTFOUND, 0, "there is no ext4 file system on it: name a kernel by "
				"--kernel");
	return err_note(ERR_NOTFOUND, 0, "there is no kernel in /boot of its ext4 file system%s: name one "
			"by --kernel", count == 1 ? "" : "s");
}
