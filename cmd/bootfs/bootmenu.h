/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_BOOTFS_BOOTMENU_H
#define CMD_BOOTFS_BOOTMENU_H

#include <stdbool.h>

/* bootmenu: which kernel a boot loader's configuration names.  Pure functions over text
 * that a guest wrote.  Any thread. */

#define BOOTMENU_PATH_BYTES 256u
#define BOOTMENU_CMDLINE_BYTES 2048u
#define BOOTMENU_INITRDS 4u

/* Paths are absolute in the file system that the configuration is in. */
struct bootmenu_entry {
	char kernel[BOOTMENU_PATH_BYTES];
	char initrd[BOOTMENU_INITRDS][BOOTMENU_PATH_BYTES];
	unsigned initrds;
	char cmdline[BOOTMENU_CMDLINE_BYTES];
};

/* The entry that a grub.cfg starts by itself: its "default", a number, title or id, with ">"
 * between levels; "saved" is looked up in env, the text of grubenv (NULL: none).  false: it
 * names none, or in a way that only GRUB itself can work out (variables in a path or in
 * the kernel's command line). */
bool bootmenu_grub(const char *text, const char *env, struct bootmenu_entry *out);

/* The same for an extlinux.conf: the label that DEFAULT names, else the first. */
bool bootmenu_extlinux(const char *text, struct bootmenu_entry *out);

/* Compare two versions as Debian does: digits by value, "~" before the end, letters before
 * other characters.  <0, 0, >0. */
int bootmenu_compare(const char *a, const char *b);

/* Does the command line have a word that starts so ("root=")? */
bool bootmenu_has(const char *cmdline, const char *start);

/* Only printable ASCII? */
bool bootmenu_plain(const char *text);

#endif
