/* SPDX-License-Identifier: Apache-2.0 */
/* upkeep: see upkeep.h.
 *
 * A temporary is called like what it replaces, with more at its end and then .tmp (fs_write_file,
 * mend.c).  Nothing else in these directories ends so: names of packs, forwards, pins and keys end
 * in digits or .pack, and a number's temporaries are number.c's. */
#include "store/upkeep.h"

#include "base/fs.h"
#include "store/layout.h"
#include "store/pin.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static bool is_temporary(const char *name, const char *prefix)
{
	size_t len = strlen(name);

	return len > 4 && strcmp(name + len - 4, ".tmp") == 0 &&
	       strncmp(name, prefix, strlen(prefix)) == 0;
}

static enum err sweep(int root, const char *dir, const char *prefix)
{
	char **names, path[LAYOUT_PATH_BYTES + 256];
	size_t n;
	enum err e = fs_list(root, dir, &names, &n);

	if (e != ERR_OK)
		return e == ERR_NOTFOUND ? ERR_OK : e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		if (!is_temporary(names[i], prefix))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		e = fs_unlink(root, path);
		if (e == ERR_NOTFOUND)
			e = ERR_OK;
	}
	fs_names_free(names, n);
	return e;
}

static enum err sweep_pins(int root)
{
	AUTO_FD int lock = -1;
	enum err e = pin_lock(root, &lock);

	if (e != ERR_OK)
		return e == ERR_NOTFOUND ? ERR_OK : e;
	return sweep(root, LAYOUT_PINS, "");
}

static enum err sweep_all(int root)
{
	static const char *const dirs[] = {LAYOUT_PACKS, LAYOUT_MANIFESTS, LAYOUT_FORWARDS,
					   LAYOUT_LEASES, LAYOUT_KEYS};
	enum err e = sweep(root, ".", LAYOUT_CONFIG ".");

	for (size_t i = 0; e == ERR_OK && i < sizeof(dirs) / sizeof(dirs[0]); i++)
		e = sweep(root, dirs[i], "");
	return e == ERR_OK ? sweep_pins(root) : e;
}

enum err upkeep_begin(int root, int *lock)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, LAYOUT_GC_LOCK, O_RDWR | O_CREAT, 0600, &fd);

	if (e == ERR_OK)
		e = fs_lock(fd, LAYOUT_GC_LOCK, true, false);
	if (e == ERR_BUSY)
		return err_note(e, 0,
				"another collection or repair is at work in this archive: wait for "
				"it to end");
	if (e != ERR_OK || (e = sweep_all(root)) != ERR_OK)
		return e;
	*lock = fd;
	fd = -1;
	return ERR_OK;
}
