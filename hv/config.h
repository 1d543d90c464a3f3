/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CONFIG_H
#define HV_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

/* config: what a VM is, apart from its state; stream "config" of an image, the
 * worker's first message, and what `lifeboat run` builds from options or YAML.
 * As JSON it is an object with the names below; unknown keys are ERR_USAGE. */

#define CONFIG_NAME_BYTES 64u
#define CONFIG_MAX_VCPUS 32u
#define CONFIG_MAX_CMDLINE 2048u

enum config_cpu { CONFIG_CPU_HOST, CONFIG_CPU_V2, CONFIG_CPU_V3, CONFIG_CPU_V4 };
enum config_action { CONFIG_REBOOT, CONFIG_STOP };
enum config_console { CONFIG_CONSOLE_STDIO, CONFIG_CONSOLE_PTY, CONFIG_CONSOLE_FILE,
		      CONFIG_CONSOLE_NONE };

enum config_cache { CONFIG_CACHE_HOST, CONFIG_CACHE_DIRECT };
enum config_on_error { CONFIG_ERROR_REPORT, CONFIG_ERROR_PAUSE };

#define CONFIG_MAX_DISKS 64u
#define CONFIG_DISK_ID_BYTES 16u
/* A disk as the guest knows it; where its content lies is the host's matter. */
struct config_disk {
	uint8_t lun;			  /* "lun": below CONFIG_MAX_DISKS; it is disk<lun> */
	uint8_t id[CONFIG_DISK_ID_BYTES]; /* "id": 32 hexadecimal digits; its serial number */
	uint64_t bytes;			  /* "bytes" */
	bool read_only;			  /* "read_only" */
	enum config_cache cache;	  /* "cache": "host" | "direct" */
	enum config_on_error on_error;	  /* "on_error": "report" | "pause" */
};

struct vm_config {
	char name[CONFIG_NAME_BYTES];	/* "name" */
	uint64_t memory_bytes;		/* "memory_bytes" */
	uint32_t vcpus;			/* "vcpus" */
	enum config_cpu cpu;		/* "cpu": "host", "x86-64-v2", ... */
	char *cmdline;			/* "cmdline", malloc'd, owned; may be NULL */
	enum config_action on_reboot;	/* "on_reboot": "reboot" | "stop" */
	enum config_action on_crash;	/* "on_crash" (triple fault): "stop" | "reboot" */
	enum config_console console[2]; /* "console": ["stdio", "none"]: COM1, COM2 */
	/* "scsi": a disk controller also without disks (one that had some is never without) */
	bool scsi;
	/* "disks": a list in the order of their LUNs, absent if there are none */
	struct config_disk disks[CONFIG_MAX_DISKS];
	uint32_t disk_count;
};

void config_init(struct vm_config *c); /* defaults: 512 MiB, 1 vCPU, host */
void config_fini(struct vm_config *c);
/* ERR_USAGE, one sentence for the first thing wrong (range of memory, vcpus, name). */
MUST_USE enum err config_check(const struct vm_config *c);
MUST_USE enum err config_to_json(const struct vm_config *c, struct buf *out);
MUST_USE enum err config_from_json(const void *text, size_t len, struct vm_config *out);
/* The first free LUN; false: there is none. */
bool config_disk_place(const struct vm_config *c, uint8_t *lun);
bool config_has_scsi(const struct vm_config *c);
/* The disk with that LUN; NULL: there is none. */
struct config_disk *config_disk_find(struct vm_config *c, unsigned lun);
/* Put a disk into its place in the list, or take one out.  There is room, nobody has its
 * LUN; it is there. */
void config_disk_insert(struct vm_config *c, const struct config_disk *d);
void config_disk_remove(struct vm_config *c, unsigned lun);
bool config_name_ok(const char *name);
const char *config_cpu_name(enum config_cpu cpu);
/* Words of a disk: "host"..., "report"... */
const char *config_cache_name(enum config_cache cache);
const char *config_on_error_name(enum config_on_error on_error);
MUST_USE enum err config_cache_parse(const char *text, enum config_cache *out);
MUST_USE enum err config_on_error_parse(const char *text, enum config_on_error *out);
MUST_USE enum err config_cpu_parse(const char *text, enum config_cpu *out);

#endif
