/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive init: make an empty archive, encrypted unless the person says no. */
#include "base/netfs.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/keys.h"
#include "cmd/lifeboat/level.h"
#include "cmd/lifeboat/verbs.h"
#include "store/archive.h"

#define RECIPIENTS_MAX 16u

enum { KEY_NETWORK = 0x3300, KEY_PLAIN, KEY_RECIPIENT, KEY_DOMAIN };

struct init {
	const char *path, *domain_of;
	const char *recipient[RECIPIENTS_MAX];
	unsigned recipients;
	bool plain, network;
	int level; /* 0: not said */
};

static enum err name(struct init *i, const char *value)
{
	if (i->path)
		return err_note(ERR_USAGE, 0, "archive init: it was named twice: %s and %s", i->path,
				value);
	i->path = value;
	return ERR_OK;
}

static enum err option(void *args, int key, char *value)
{
	struct init *i = args;

	switch (key) {
	case CLI_ARGUMENT:
	case CLI_KEY_ARCHIVE: return name(i, value);
	case KEY_NETWORK: i->network = true; return ERR_OK;
	case KEY_PLAIN: i->plain = true; return ERR_OK;
	case LEVEL_KEY: return level_parse(value, &i->level);
	case KEY_DOMAIN: i->domain_of = value; return ERR_OK;
	case KEY_RECIPIENT:
		if (i->recipients == RECIPIENTS_MAX)
			return err_note(ERR_USAGE, 0, "archive init: more than %u recipients",
					RECIPIENTS_MAX);
		i->recipient[i->recipients++] = value;
		return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	CLI_OPTION_ARCHIVE,
	{.name = "recipient", .key = KEY_RECIPIENT, .arg = "FILE",
	 .doc = "A public key or certificate (PEM) whose owner can open it too; may be repeated"},
	{.name = "dedup-domain-of", .key = KEY_DOMAIN, .arg = "PATH",
	 .doc = "Share the dedup domain of that archive, which the same key opens"},
	{.name = "no-encryption", .key = KEY_PLAIN,
	 .doc = "Everybody who can read its files can read all that is in it"},
	LEVEL_OPTION("1"),
	{.name = "allow-network-fs",
	 .key = KEY_NETWORK,
	 .doc = "On a network file system as well: only if its locks work, and one host uses it"},
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive init",
	.args_doc = "[PATH]",
	.doc = "Make an empty archive in a directory that is empty or does not exist yet.  It is "
	       "encrypted: give a key file (made if there is none) or a passphrase, and keep it."
	       "\vExample:\n  lifeboat archive init /backup --key-file /root/backup.key",
	.options = options,
	.option = option,
	.max_args = 1,
};

/* ---- the parts of a new archive's keys ---- */

struct made {
	struct keys_new keys;
	struct recipient *recipient[RECIPIENTS_MAX];
	unsigned recipients;
	struct archive *other;
};

static void made_fini(struct made *m)
{
	keys_new_close(&m->keys);
	while (m->recipients)
		archive_key_recipient_close(m->recipient[--m->recipients]);
	archive_close(m->other);
}

static enum err gather(const struct init *i, struct made *m)
{
	enum err e = ERR_OK;

	for (; e == ERR_OK && m->recipients < i->recipients; m->recipients += e == ERR_OK)
		e = keys_recipient(i->recipient[m->recipients], &m->recipient[m->recipients]);
	if (e == ERR_OK && i->domain_of)
		e = keys_open(i->domain_of, false, &m->other);
	return e == ERR_OK ? keys_make(&m->keys) : e;
}

static enum err encrypted(const struct init *i, const char *path)
{
	struct made m = {.other = NULL};
	enum err e = gather(i, &m);

	if (e == ERR_OK) {
		struct archive_init_options opt = {
			.level = i->level,
			.keys = (const struct archive_key *const *)m.keys.key,
			.n_keys = m.keys.count,
			.recipients = (const struct recipient *const *)m.recipient,
			.n_recipients = m.recipients,
			.domain_of = m.other,
		};

		e = archive_init(path, &opt);
	}
	cli_keep_note(e);
	made_fini(&m);
	return cli_kept_note(e);
}

static enum err plain(const struct init *i, const char *path)
{
	struct archive_init_options opt = {.plain = true, .level = i->level};
	const struct keys *k = keys_given();
	enum err e;

	if (i->recipients || i->domain_of || k->identity || k->key_fd || k->key_file ||
	    k->passphrase_file)
		return err_note(ERR_USAGE, 0, "archive init: with --no-encryption there are no keys, "
					      "recipients and dedup domains");
	e = archive_init(path, &opt);
	if (e == ERR_OK)
		cli_say("WARNING: %s is NOT ENCRYPTED: whoever can read its files can read the memory "
			"and the disks of every machine in it", path);
	return e;
}

/* Numbers, leases and collections rely on locks that end with their process and that all users
 * see at once, and on syncs of directories: network file systems promise that in some
 * configurations only, and what went wrong would be noticed when something is missing. */
static enum err local_only(const char *path)
{
	const char *name;
	enum err e = netfs_of(path, &name);

	if (e != ERR_OK || !name)
		return e;
	return err_note(
		ERR_UNSUPPORTED, 0,
		"make an archive in %s: it is on %s, where locks and syncs may not hold: choose a "
		"local file system, or say --allow-network-fs if only this host will use it",
		path, name);
}

enum err verb_archive_init(int argc, char **argv)
{
	struct init i = {.path = NULL};
	const char *path;
	enum err e = cli_parse(&verb, argc, argv, &i);

	if (e != ERR_OK || (e = cli_archive_path(i.path, &path)) != ERR_OK)
		return e;
	if (!i.network && (e = local_only(path)) != ERR_OK)
		return e;
	return i.plain ? plain(&i, path) : encrypted(&i, path);
}
