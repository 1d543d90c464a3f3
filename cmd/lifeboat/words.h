/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_WORDS_H
#define CMD_LIFEBOAT_WORDS_H

#include <stdbool.h>

#include "base/err.h"
#include "hv/config.h"

/* words: a machine as a person describes it.  The same words are long options
 * of `lifeboat run` and keys of a VM file. */
enum word {
	WORD_KERNEL, WORD_INITRD, WORD_BOOT_FROM_DISK, WORD_CMDLINE, WORD_MEMORY, WORD_CPUS, WORD_CPU,
	WORD_CONSOLE,
	WORD_CONSOLE2, WORD_ON_REBOOT, WORD_ON_CRASH, WORD_NAME, WORD_COUNT
};
/* Beside them "disk", which can be said more than once: a list in a VM file. */
#define WORD_DISK WORD_COUNT
#define WORDS_KEYS (WORD_COUNT + 1)

/* "kernel", "on-reboot", ... */
const char *words_name(enum word w);

/* argp keys and rows. */
#define WORDS_KEY 0x2000
#define WORDS_ROW(w, n, a, d) {.name = n, .key = WORDS_KEY + (w), .arg = a, .doc = d}
#define WORDS_ROW_NAME WORDS_ROW(WORD_NAME, "name", "NAME", "Name of the machine (default: vm-1, vm-2...)")
#define WORDS_ROWS_CONSOLE                                                                         \
	WORDS_ROW(WORD_CONSOLE, "console", "WHERE",                                                \
		  "First serial line: stdio, pty, file:PATH (appended to) or none"),               \
	WORDS_ROW(WORD_CONSOLE2, "console2", "WHERE", "Second serial line (default: none)")
#define WORDS_ROWS                                                                                 \
	WORDS_ROW(WORD_KERNEL, "kernel", "FILE", "Linux bzImage, or ELF64 with a PVH note"),       \
	WORDS_ROW(WORD_INITRD, "initrd", "FILE", "Initial RAM disk"),                              \
	WORDS_ROW(WORD_BOOT_FROM_DISK, "boot-from-disk", NULL,                                     \
		  "Instead of both: what /boot of the first disk would start"),                    \
	WORDS_ROW(WORD_CMDLINE, "cmdline", "TEXT", "Kernel command line"),                         \
	WORDS_ROW(WORD_MEMORY, "memory", "SIZE", "Memory, as 512M or 4G (default: 512M)"),         \
	WORDS_ROW(WORD_CPUS, "cpus", "N", "Virtual CPUs, 1 to 32 (default: 1)"),                   \
	WORDS_ROW(WORD_CPU, "cpu", "MODEL",                                                        \
		  "host, or x86-64-v2, -v3, -v4 for images that move between hosts"),              \
	WORDS_ROW(WORD_DISK, "disk", "FILE[,ro][,cache=C][,on-error=E]",                           \
		  "A raw image as a SCSI disk; give it again for more. C: host or direct; E: "     \
		  "report (to the guest) or pause"),                                               \
	WORDS_ROWS_CONSOLE,                                                                        \
	WORDS_ROW(WORD_ON_REBOOT, "on-reboot", "ACTION", "reboot (default) or stop"),              \
	WORDS_ROW(WORD_ON_CRASH, "on-crash", "ACTION",                                             \
		  "After a triple fault: stop (default) or reboot"),                               \
	WORDS_ROW_NAME

/* What was said, and where.  Values are borrowed or owned by whoever filled it. */
struct words {
	struct {
		const char *value; /* NULL: not said */
		int line;	   /* of the file; 0: an option */
	} at[WORD_COUNT], disk[CONFIG_MAX_DISKS];
	unsigned disk_count;
	const char *file; /* VM file, borrowed; NULL: none */
};

struct machine_disk {
	char *path;
	int fd, direct_fd; /* owned; -1: none */
	bool partial, renamed; /* a new file, before and after it got its name */
};

/* A machine to start.  Owns its strings and descriptors. */
struct machine {
	struct vm_config config;
	char *kernel, *initrd;	 /* paths; NULL: none */
	char *console_file[2];	 /* CONFIG_CONSOLE_FILE: where */
	struct machine_disk disks[CONFIG_MAX_DISKS]; /* see disks.h */
	unsigned disk_count;
	bool disks_from_image, boot_from_disk;
	bool kept; /* it lives without us: its new files stay */
};

void machine_init(struct machine *m); /* config_init's defaults, console on stdio */
void machine_fini(struct machine *m);

/* What an argp key of WORDS_ROWS said; false: another's key.  ERR_USAGE in *e. */
bool words_option(struct words *w, int key, const char *value, enum err *e);
MUST_USE enum err words_add_disk(struct words *w, const char *value, int line);

/* A path as it was said, in *out (given; the old one is freed).  dir_of: the VM file that
 * said it, NULL if none. */
MUST_USE enum err words_path(char **out, const char *value, const char *dir_of);

/* Apply what was said.  Relative paths of a VM file count from its directory.
 * ERR_USAGE with the option's or the file's name and line. */
MUST_USE enum err words_apply(const struct words *w, struct machine *m);

#endif
