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

struct vm_config {
	char name[CONFIG_NAME_BYTES];	/* "name" */
	uint64_t memory_bytes;		/* "memory_bytes" */
	uint32_t vcpus;			/* "vcpus" */
	enum config_cpu cpu;		/* "cpu": "host", "x86-64-v2", ... */
	char *cmdline;			/* "cmdline", malloc'd, owned; may be NULL */
	enum config_action on_reboot;	/* "on_reboot": "reboot" | "stop" */
	enum config_action on_crash;	/* "on_crash" (triple fault): "stop" | "reboot" */
	enum config_console console[2]; /* "console": ["stdio", "none"]: COM1, COM2 */
};

void config_init(struct vm_config *c); /* defaults: 512 MiB, 1 vCPU, host */
void config_fini(struct vm_config *c);
/* ERR_USAGE, one sentence for the first thing wrong (range of memory, vcpus, name). */
MUST_USE enum err config_check(const struct vm_config *c);
MUST_USE enum err config_to_json(const struct vm_config *c, struct buf *out);
MUST_USE enum err config_from_json(const void *text, size_t len, struct vm_config *out);
bool config_name_ok(const char *name);
const char *config_cpu_name(enum config_cpu cpu);
MUST_USE enum err config_cpu_parse(const char *text, enum config_cpu *out);

#endif
