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

enum err depot_open(struct depot *d, bool writable)
{
	enum err e = cli_archive_path(d->given, &d->path);

	return e == ERR_OK ? keys_open(d->path, writable, &d->archive) : e;
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
