/* SPDX-License-Identifier: Apache-2.0 */
/* depot: names, opens and closes the archive of a verb. */
#include "cmd/lifeboat/depot.h"

#include <string.h>
#include <sys/stat.h>

enum err depot_option(struct depot *d, int key, char *value)
{
	if (key != CLI_KEY_ARCHIVE)
		return cli_unknown_key(key);
	return depot_name(d, value);
}

bool depot_is_path(const char *word)
{
	return strchr(word, '/') || strcmp(word, ".") == 0 || strcmp(word, "..") == 0;
}

enum err depot_name(struct depot *d, const char *word)
{
	if (d->given)
		return err_note(ERR_USAGE, 0, "the archive was named twice: %s and %s", d->given,
				word);
	d->given = word;
	return ERR_OK;
}

bool depot_is_second(int key)
{
	return key >= DEPOT_FIRST && key < DEPOT_END;
}

enum err depot_second_option(struct depot *second, int key, char *value)
{
	const char **const what[] = {&second->keys.key_file, &second->keys.passphrase_file,
				     &second->keys.identity, &second->keys.key_fd};
	const char **one = what[key - DEPOT_FIRST];

	if (*one)
		return err_note(ERR_USAGE, 0, "it was given twice: %s and %s", *one, value);
	*one = value;
	return ERR_OK;
}

static enum err open_second(struct depot *d, bool writable)
{
	const struct keys *k = &d->keys;
	struct archive_opens_by by;

	if (k->key_file || k->passphrase_file || k->identity || k->key_fd)
		return keys_open_with(k, d->path, writable, &d->archive);
	/* The verb's keys are the other archive's: they are not to be refused by one without. */
	if (archive_opens_by(d->path, &by) == ERR_OK && !by.encrypted)
		return keys_open_with(k, d->path, writable, &d->archive);
	err_clear();
	return keys_open(d->path, writable, &d->archive);
}

enum err depot_open(struct depot *d, bool writable)
{
	enum err e = cli_archive_path(d->given, &d->path);

	if (e != ERR_OK)
		return e;
	return d->second ? open_second(d, writable) : keys_open(d->path, writable, &d->archive);
}

enum err depot_close(struct depot *d, enum err e)
{
	cli_keep_note(e);
	archive_close(d->archive);
	d->archive = NULL;
	return cli_kept_note(e);
}

enum err depot_find(const struct depot *d, const char *ref, struct checkpoint_info *out)
{
	enum err e = archive_find(d->archive, ref, out);
	struct stat st;

	if ((e == ERR_NOTFOUND || e == ERR_USAGE) && stat(ref, &st) == 0 && S_ISDIR(st.st_mode))
		return err_note(e, 0, "%s: for the archive in the directory %s, write ./%s",
				err_text(), ref, ref);
	return e;
}
