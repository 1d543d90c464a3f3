/* SPDX-License-Identifier: Apache-2.0 */
/* number: the counters of checkpoints.
 *
 * All changes happen under an exclusive lock on numbers.lock.  The counter is
 * durable before the number is used: a crash in between leaves a gap, never a
 * second use. */
#include "store/number.h"

#include "base/bytes.h"
#include "base/fs.h"
#include "store/listing.h"
#include "store/manifest.h"
#include "store/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err number_decode(const uint8_t *rec, const char *name, uint64_t *number)
{
	char own[ARCHIVE_NAME_BYTES] = "";

	snprintf(own, sizeof(own), "%s", name);
	if (memcmp(rec + 12, own, sizeof(own)) != 0 || strlen(name) >= sizeof(own) ||
	    !bytes_zero(rec + 84, RECORD_BODY - 84))
		return err_note(ERR_CORRUPT, 0, LAYOUT_NUMBERS "/%s: belongs to another name", name);
	*number = le64_get(rec + 76);
	return ERR_OK;
}

enum err number_read(int root, const char *name, uint64_t *number, bool *damaged)
{
	uint8_t rec[RECORD_BYTES];
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	*number = 0;
	layout_number_path(name, path);
	e = record_read_twin(root, path, NUMBER_MAGIC, rec, damaged);
	if (e == ERR_NOTFOUND)
		return ERR_OK;
	return e == ERR_OK ? number_decode(rec, name, number) : e;
}

/* The file may be missing in an archive that was copied by hand.  Only a checkpoint that can be
 * read counts: anybody can make a file that is called NAME@18446744073709551615. */
static enum err at_least_listed(int root, const struct crypt *crypt, const char *name,
				uint64_t *number)
{
	struct listing_item *items;
	size_t n;
	bool found = false;
	enum err e = listing_read(root, &items, &n);

	if (e != ERR_OK)
		return e;
	while (n-- > 0 && !found) { /* the highest first */
		AUTO_FD int fd = -1;
		struct manifest m;

		if (strcmp(items[n].name, name) != 0 || items[n].number <= *number)
			continue;
		found = manifest_load(root, crypt, name, items[n].number, &m, &fd) == ERR_OK;
		if (found)
			*number = items[n].number;
		else
			err_clear();
		manifest_fini(&m);
	}
	free(items);
	return ERR_OK;
}

/* The next that no file has, sound or not. */
static enum err step(int root, const char *name, uint64_t *number)
{
	char path[LAYOUT_PATH_BYTES];
	bool there = true;
	enum err e = ERR_OK;

	while (e == ERR_OK && there) {
		if (*number == UINT64_MAX)
			return err_note(ERR_FAILED, 0, "%s has no numbers left", name);
		layout_manifest_path(name, ++*number, path);
		e = fs_exists(root, path, &there);
	}
	return e;
}

static enum err lock_numbers(int root, int *fd)
{
	enum err e = fs_open(root, LAYOUT_NUMBERS_LOCK, O_RDWR | O_CREAT, 0600, fd);

	return e == ERR_OK ? fs_lock(*fd, LAYOUT_NUMBERS_LOCK, true, true) : e;
}

static enum err put(int root, const char *name, uint64_t number)
{
	uint8_t rec[RECORD_BYTES];
	char path[LAYOUT_PATH_BYTES];

	record_begin(rec, NUMBER_MAGIC);
	snprintf((char *)rec + 12, ARCHIVE_NAME_BYTES, "%s", name);
	le64_put(rec + 76, number);
	record_seal(rec);
	layout_number_path(name, path);
	return record_write_twin(root, path, rec);
}

enum err number_take(int root, const struct crypt *crypt, const char *name, uint64_t *number)
{
	AUTO_FD int lock = -1;
	bool damaged;
	enum err e;

	if ((e = lock_numbers(root, &lock)) != ERR_OK ||
	    (e = number_read(root, name, number, &damaged)) != ERR_OK ||
	    (e = at_least_listed(root, crypt, name, number)) != ERR_OK ||
	    (e = step(root, name, number)) != ERR_OK)
		return e;
	return put(root, name, *number);
}

enum err number_write(int root, const char *name, uint64_t number)
{
	AUTO_FD int lock = -1;
	uint64_t now;
	bool damaged;
	enum err e = lock_numbers(root, &lock);

	if (e != ERR_OK)
		return e;
	/* Somebody may have taken one meanwhile. */
	if (number_read(root, name, &now, &damaged) != ERR_OK)
		err_clear();
	else if (now > number)
		number = now;
	return put(root, name, number);
}

enum err number_sweep(int root)
{
	AUTO_FD int lock = -1;
	char **names, path[LAYOUT_PATH_BYTES + 256];
	bool any = false;
	size_t n;
	enum err e = fs_list(root, LAYOUT_NUMBERS, &names, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++)
		any |= !layout_name_ok(names[i]);
	if (any)
		e = lock_numbers(root, &lock);
	for (size_t i = 0; any && e == ERR_OK && i < n; i++) {
		size_t len = strlen(names[i]);

		if (len < 4 || strcmp(names[i] + len - 4, ".tmp") != 0)
			continue;
		snprintf(path, sizeof(path), LAYOUT_NUMBERS "/%s", names[i]);
		e = fs_unlink(root, path);
		if (e == ERR_NOTFOUND)
			e = ERR_OK;
	}
	fs_names_free(names, n);
	return e;
}
