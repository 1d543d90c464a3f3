/* SPDX-License-Identifier: Apache-2.0 */
/* pin: see pin.h. */
#include "store/pin.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "store/layout.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- records ---- */

void pin_encode(const struct archive_pin *pin, uint8_t rec[RECORD_BYTES])
{
	record_begin(rec, PIN_MAGIC);
	memcpy(rec + 12, pin->name, strnlen(pin->name, ARCHIVE_NAME_BYTES - 1));
	le64_put(rec + 76, pin->number);
	le64_put(rec + 84, pin->created_ns);
	memcpy(rec + 92, pin->owner, strnlen(pin->owner, sizeof(pin->owner) - 1));
	record_seal(rec);
}

static bool text_get(const uint8_t *p, size_t size, char *out)
{
	size_t len = strnlen((const char *)p, size);

	memcpy(out, p, size);
	return len < size && bytes_zero(p + len, size - len);
}

enum err pin_decode(const uint8_t rec[RECORD_BYTES], struct archive_pin *pin)
{
	pin->number = le64_get(rec + 76);
	pin->created_ns = le64_get(rec + 84);
	if (!text_get(rec + 12, sizeof(pin->name), pin->name) || !layout_name_ok(pin->name) ||
	    !text_get(rec + 92, sizeof(pin->owner), pin->owner) || pin->number == 0 ||
	    !bytes_zero(rec + 348, RECORD_BODY - 348))
		return err_note(ERR_CORRUPT, 0, LAYOUT_PINS ": malformed pin");
	return ERR_OK;
}

static enum err read_one(int root, const char *file, struct archive_pin *pin)
{
	uint8_t rec[RECORD_BYTES];
	char path[LAYOUT_PATH_BYTES];
	uint64_t id;
	enum err e;

	memset(pin, 0, sizeof(*pin));
	snprintf(pin->id, sizeof(pin->id), "%s", file);
	if (!layout_id_parse(file, &id))
		return err_note(ERR_NOTFOUND, 0, "no pin %s in the archive", file);
	layout_id_path(LAYOUT_PINS, id, path);
	e = record_read_twin(root, path, PIN_MAGIC, rec, &pin->worn);
	return e == ERR_OK ? pin_decode(rec, pin) : e;
}

/* ---- files ---- */

static enum err make_directory(int root)
{
	AUTO_FD int fd = -1;
	enum err e = fs_mkdir(root, LAYOUT_PINS, 0700);

	if (e != ERR_OK && e != ERR_BUSY)
		return e;
	return fs_open(root, LAYOUT_PINS_LOCK, O_RDWR | O_CREAT, 0600, &fd);
}

enum err pin_lock(int root, int *fd)
{
	enum err e = fs_open(root, LAYOUT_PINS_LOCK, O_RDWR, 0, fd);

	if (e == ERR_NOTFOUND && (e = make_directory(root)) == ERR_OK)
		e = fs_open(root, LAYOUT_PINS_LOCK, O_RDWR, 0, fd);
	return e == ERR_OK ? fs_lock(*fd, LAYOUT_PINS_LOCK, true, true) : e;
}

enum err pin_create(int root, const char *name, uint64_t number, const char *owner,
		    struct archive_pin *out)
{
	uint8_t two[2 * RECORD_BYTES];
	char path[LAYOUT_PATH_BYTES];
	uint64_t id;
	enum err e = layout_random(&id, sizeof(id));

	if (e != ERR_OK)
		return e;
	memset(out, 0, sizeof(*out));
	snprintf(out->id, sizeof(out->id), "%016" PRIx64, id);
	snprintf(out->name, sizeof(out->name), "%s", name);
	snprintf(out->owner, sizeof(out->owner), "%s", owner);
	out->number = number;
	out->created_ns = clock_real_ns();
	pin_encode(out, two);
	memcpy(two + RECORD_BYTES, two, RECORD_BYTES);
	layout_id_path(LAYOUT_PINS, id, path);
	return fs_create_file(root, path, two, sizeof(two), 0600);
}

enum err pin_remove(int root, const char *id)
{
	AUTO_FD int dir = -1;
	char path[LAYOUT_PATH_BYTES];
	uint64_t number;
	enum err e;

	if (!layout_id_parse(id, &number))
		return err_note(ERR_USAGE, 0, "\"%s\" is no pin: give the 16 digits that lifeboat "
					      "archive pins shows",
				id);
	layout_id_path(LAYOUT_PINS, number, path);
	e = fs_unlink(root, path);
	if (e == ERR_NOTFOUND)
		return err_note(e, 0, "no pin %s in the archive", id);
	if (e != ERR_OK || (e = fs_open(root, LAYOUT_PINS, O_RDONLY | O_DIRECTORY, 0, &dir)) != ERR_OK)
		return e;
	return fs_sync_dir(dir, LAYOUT_PINS);
}

enum err pin_list(int root, archive_pin_fn *fn, void *arg)
{
	size_t n;
	char **names;
	enum err e = fs_list(root, LAYOUT_PINS, &names, &n);

	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		struct archive_pin pin;
		uint64_t id;

		if (!layout_id_parse(names[i], &id))
			continue;
		e = read_one(root, names[i], &pin);
		if (e == ERR_NOTFOUND) { /* taken back since it was listed */
			e = ERR_OK;
			continue;
		}
		if (e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO) {
			memset(&pin, 0, sizeof(pin));
			snprintf(pin.id, sizeof(pin.id), "%s", names[i]);
			pin.damaged = true;
			e = ERR_OK;
		}
		if (e == ERR_OK)
			e = fn(arg, &pin);
	}
	fs_names_free(names, n);
	return e;
}

struct wanted {
	const char *name;
	uint64_t number;
};

static enum err refuse(void *arg, const struct archive_pin *pin)
{
	const struct wanted *w = arg;

	if (pin->damaged)
		return err_note(ERR_BUSY, 0, "remove %s@%llu: " LAYOUT_PINS "/%s is damaged and may "
					     "hold it: take that pin away first",
				w->name, (unsigned long long)w->number, pin->id);
	if (pin->number != w->number || strcmp(pin->name, w->name) != 0)
		return ERR_OK;
	return err_note(ERR_BUSY, 0, "remove %s@%llu: pin %s of %s holds it: take that pin away "
				     "first",
			w->name, (unsigned long long)w->number, pin->id, pin->owner);
}

enum err pin_check(int root, const char *name, uint64_t number)
{
	struct wanted w = {name, number};

	return pin_list(root, refuse, &w);
}
