/* SPDX-License-Identifier: Apache-2.0 */
/* init: makes an empty archive.
 *
 * The file "archive" comes last and makes the directory one; what is there before it is
 * the left-over of somebody who was interrupted, and is removed.  `init.lock`, held
 * meanwhile, keeps two who make an archive in one place apart: the later one finds
 * the lock, or the archive. */
#include "store/init.h"

#include "base/fs.h"
#include "store/keyring.h"
#include "store/reserve.h"
#include "store/settings.h"
#include "store/shared.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define LOCK "init.lock"

/* ---- left-overs ---- */

/* Empty files to lock, made at once so that a full file system can be freed. */
static const char *const locks[] = {LAYOUT_NUMBERS_LOCK, LAYOUT_GC_LOCK, LAYOUT_PINS_LOCK,
				    LAYOUT_LEASES_SHARED};
#define LOCKS (sizeof(locks) / sizeof(locks[0]))

static bool is_part(const char *name)
{
	for (size_t i = 0; i < LOCKS; i++)
		if (strcmp(name, locks[i]) == 0)
			return true;
	for (size_t i = 0; i < layout_part_count; i++)
		if (strcmp(name, layout_parts[i]) == 0)
			return true;
	return strcmp(name, LAYOUT_RESERVE) == 0;
}

static bool is_temporary(const char *name)
{
	size_t len = strlen(name);

	return len > 4 && strncmp(name, LAYOUT_CONFIG ".", 8) == 0 &&
	       strcmp(name + len - 4, ".tmp") == 0;
}

/* Nothing but what an interrupted init leaves: which is then removed. */
static enum err must_be_empty(int root, const char *path)
{
	char **names;
	size_t n;
	bool ours = true;
	enum err e = fs_list(root, ".", &names, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++)
		ours &= is_part(names[i]) || is_temporary(names[i]) || strcmp(names[i], LOCK) == 0;
	for (size_t i = 0; e == ERR_OK && ours && i < n; i++)
		if (is_temporary(names[i]))
			e = fs_unlink(root, names[i]);
	fs_names_free(names, n);
	if (e == ERR_OK && !ours)
		e = err_note(ERR_BUSY, 0, "make an archive in %s: the directory is not empty: choose "
					  "another", path);
	return e;
}

/* Keys that belong to no archive yet would open nothing. */
static enum err remove_keys(int root)
{
	char **names, path[LAYOUT_PATH_BYTES + 256];
	size_t n;
	enum err e = fs_list(root, LAYOUT_KEYS, &names, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		snprintf(path, sizeof(path), LAYOUT_KEYS "/%s", names[i]);
		e = fs_unlink(root, path);
	}
	fs_names_free(names, n);
	return e;
}

static enum err make_parts(int root)
{
	for (size_t i = 0; i < layout_part_count; i++) {
		enum err e = fs_mkdir(root, layout_parts[i], 0700);

		if (e != ERR_OK && e != ERR_BUSY)
			return e;
	}
	for (size_t i = 0; i < LOCKS; i++) {
		AUTO_FD int fd = -1;
		enum err e = fs_open(root, locks[i], O_RDWR | O_CREAT, 0600, &fd);

		if (e != ERR_OK)
			return e;
	}
	return fs_sync_dir(root, ".");
}

/* The new directory's own name must survive as well. */
static enum err sync_parent(int root)
{
	AUTO_FD int up = -1;
	enum err e = fs_open(root, "..", O_RDONLY | O_DIRECTORY, 0, &up);

	return e == ERR_OK ? fs_sync_dir(up, "..") : e;
}

/* ---- keys ---- */

static enum err make_keys(int root, const struct archive_init_options *opt, struct settings *c)
{
	struct keyring_plan plan = {.keys = opt->keys,
				    .n_keys = opt->n_keys,
				    .recipients = opt->recipients,
				    .n_recipients = opt->n_recipients,
				    .log2_n = opt->scrypt_log2_n ? opt->scrypt_log2_n
								 : KEYRING_LOG2_N};
	const struct crypt *other = opt->domain_of ? opt->domain_of->crypt : NULL;

	c->encrypted = true;
	if (other) {
		plan.domain = crypt_domain(other);
		memcpy(c->domain_id, crypt_domain_id(other), sizeof(c->domain_id));
		return keyring_make(root, &plan, c);
	}
	enum err e = layout_random(c->domain_id, sizeof(c->domain_id));
	return e == ERR_OK ? keyring_make(root, &plan, c) : e;
}

static enum err make(int root, const char *path, const struct archive_init_options *opt)
{
	struct settings c;
	enum err e;

	if ((e = must_be_empty(root, path)) != ERR_OK || (e = make_parts(root)) != ERR_OK ||
	    (e = remove_keys(root)) != ERR_OK || (e = reserve_fill(root)) != ERR_OK ||
	    (e = sync_parent(root)) != ERR_OK ||
	    (e = settings_new(&c)) != ERR_OK)
		return e;
	if (opt->level)
		c.level = opt->level;
	if (!opt->plain && (e = make_keys(root, opt, &c)) != ERR_OK)
		return e;
	return settings_create(root, &c);
}

static enum err options_check(const struct archive_init_options *opt)
{
	if (opt->level && !group_level_ok(opt->level))
		return err_note(ERR_USAGE, 0, "make an archive: there is no level of compression %d",
				opt->level);
	if (opt->plain)
		return opt->n_keys || opt->n_recipients || opt->domain_of
			       ? err_note(ERR_USAGE, 0, "make an archive: without encryption there are "
							"no keys, no recipients and no dedup domain")
			       : ERR_OK;
	if (opt->n_keys == 0)
		return err_note(ERR_USAGE, 0, "make an archive: give it a key, or say that it is not to "
					      "be encrypted");
	if (opt->n_keys + opt->n_recipients > KEYRING_UNLOCKS_MAX)
		return err_note(ERR_USAGE, 0, "make an archive: more than %u keys and recipients",
				KEYRING_UNLOCKS_MAX);
	if (opt->domain_of && !crypt_domain(opt->domain_of->crypt))
		return err_note(ERR_USAGE, 0, "make an archive: the other one is not encrypted, so it has "
					      "no dedup domain to share");
	return ERR_OK;
}

enum err init_archive(const char *path, const struct archive_init_options *opt)
{
	AUTO_FD int root = -1;
	AUTO_FD int lock = -1;
	enum err e;

	if ((e = options_check(opt)) != ERR_OK || (e = fs_mkdirs(path, 0700)) != ERR_OK ||
	    (e = fs_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &root)) != ERR_OK ||
	    (e = must_be_empty(root, path)) != ERR_OK ||
	    (e = fs_open(root, LOCK, O_RDWR | O_CREAT, 0600, &lock)) != ERR_OK)
		return e;
	e = fs_lock(lock, LOCK, true, false);
	if (e == ERR_BUSY)
		return err_note(e, 0, "make an archive in %s: somebody else is doing so right now",
				path);
	if (e == ERR_OK)
		e = make(root, path, opt);
	if (e == ERR_OK) /* left behind, it would hurt nobody */
		(void)!fs_unlink(root, LOCK);
	return e;
}
