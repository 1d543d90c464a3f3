/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_bootmenu: boot loaders' configurations and versions that a hostile guest wrote.
 *
 * Input: 'g': a grub.cfg, and after a NUL a grubenv; 'v': two versions with a NUL between; else
 * an extlinux.conf.
 * Whatever came in: an entry has an absolute path to a kernel and to each initrd, all of it
 * is printable and within its bounds; an order of versions is one. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/bootfs/bootmenu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct bootmenu_entry *e)
{
	assert(e->kernel[0] == '/' && strlen(e->kernel) < BOOTMENU_PATH_BYTES && bootmenu_plain(e->kernel));
	assert(e->initrds <= BOOTMENU_INITRDS);
	for (unsigned i = 0; i < e->initrds; i++)
		assert(e->initrd[i][0] == '/' && bootmenu_plain(e->initrd[i]));
	assert(strlen(e->cmdline) < BOOTMENU_CMDLINE_BYTES && bootmenu_plain(e->cmdline));
}

static int sign(int v) { return (v > 0) - (v < 0); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct bootmenu_entry entry;
	char *text = malloc(len + 2);

	if (!text || len == 0) {
		free(text);
		return 0;
	}
	memcpy(text, data, len);
	text[len] = text[len + 1] = '\0';
	const char *first = text + 1, *second = first + strlen(first) + 1;
	if (second > text + len)
		second = text + len;
	if (data[0] == 'v') {
		assert(sign(bootmenu_compare(first, second)) == -sign(bootmenu_compare(second, first)));
		assert(bootmenu_compare(first, first) == 0);
	} else if (data[0] == 'g' ? bootmenu_grub(first, second, &entry)
				  : bootmenu_extlinux(first, &entry)) {
		check(&entry);
	}
	free(text);
	return 0;
}
