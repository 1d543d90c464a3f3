/* SPDX-License-Identifier: Apache-2.0 */
/* keys: key files, passphrases and identities, read into memory that is wiped.
 *
 * As soon as a key is in memory the process leaves no core dump and lets nobody of the same
 * user look into it (secret_guard_process).  Notes name files and never what is in
 * them. */
#include "cmd/lifeboat/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/secret.h"
#include "cmd/lifeboat/ask.h"
#include "cmd/lifeboat/cli.h"

static struct keys given;

/* ---- options ---- */

bool keys_is_option(int key)
{
	return key >= KEYS_FIRST && key < KEYS_END;
}

enum err keys_option(int key, const char *value)
{
	const char **where = key == KEYS_FILE	      ? &given.key_file
			     : key == KEYS_PASSPHRASE ? &given.passphrase_file
			     : key == KEYS_IDENTITY   ? &given.identity
						      : &given.key_fd;

	if (*where)
		return err_note(ERR_USAGE, 0, "it was said twice: %s and %s", *where, value);
	*where = value;
	return ERR_OK;
}

const struct keys *keys_given(void)
{
	return &given;
}

static bool any(const struct keys *k)
{
	return k->identity || k->key_fd || k->key_file || k->passphrase_file;
}

static const char *variable(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

/* Options before variables, and of these one. */
static struct keys with_variables(const struct keys *k)
{
	struct keys all = *k;

	if (any(k))
		return all;
	all.key_file = variable("LIFEBOAT_KEY_FILE");
	if (!all.key_file)
		all.passphrase_file = variable("LIFEBOAT_PASSPHRASE_FILE");
	return all;
}

/* ---- secret files ---- */

struct text {
	char *p; /* room + 1 bytes of secret memory, ends with NUL */
	size_t len, room;
};

static void text_fini(struct text *t)
{
	secret_free(t->p, t->room + 1);
	*t = (struct text){.p = NULL};
}

static enum err check_mode(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return err_sys(errno, "%s", path);
	if (S_ISREG(st.st_mode) && (st.st_mode & 077))
		return err_note(ERR_AUTH, 0, "%s: others than its owner may read or change it (mode %04o): "
					     "chmod 600 %s", path, st.st_mode & 07777, path);
	return ERR_OK;
}

/* Files and pipes alike, up to their end. */
static enum err read_fd(int fd, const char *what, size_t room, struct text *t)
{
	t->room = room;
	t->p = secret_alloc(room + 1);
	if (!t->p)
		return err_note(ERR_NOMEM, 0, "read %s: out of memory", what);
	secret_guard_process();
	for (;;) {
		ssize_t n = read(fd, t->p + t->len, room - t->len);

		if (n < 0 && errno == EINTR) {
			enum err e = cli_check_interrupted();

			if (e != ERR_OK)
				return e;
			continue;
		}
		if (n < 0)
			return err_sys(errno, "read %s", what);
		if (n == 0)
			break;
		t->len += (size_t)n;
		if (t->len == room)
			return err_note(ERR_AUTH, 0, "%s: is too long for a key", what);
	}
	t->p[t->len] = '\0';
	return ERR_OK;
}

static enum err read_secret(const char *path, size_t room, struct text *t)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(AT_FDCWD, path, O_RDONLY, 0, &fd);

	if (e == ERR_OK)
		e = check_mode(fd, path);
	if (e == ERR_OK)
		e = read_fd(fd, path, room, t);
	return e == ERR_NOTFOUND ? err_note(ERR_AUTH, 0, "%s: there is no such file", path) : e;
}

/* Its first line. */
static enum err read_passphrase(const char *path, struct text *t)
{
	enum err e = read_secret(path, ARCHIVE_KEY_PASSPHRASE_MAX + 2, t);

	if (e != ERR_OK)
		return e;
	t->len = strcspn(t->p, "\r\n");
	t->p[t->len] = '\0';
	if (t->len == 0)
		return err_note(ERR_AUTH, 0, "%s: its first line, the passphrase, is empty", path);
	return ERR_OK;
}

/* ---- kinds of keys ---- */

static enum err from_file(const char *path, struct archive_key **out)
{
	struct text t = {.p = NULL};
	enum err e = read_secret(path, ARCHIVE_KEY_TEXT_MAX + 1, &t);

	if (e == ERR_OK)
		e = archive_key_from_text(t.p, t.len, path, out);
	text_fini(&t);
	return e;
}

/* What came from descriptors: they can be read only once, and some verbs open an archive twice, or
 * two archives by one key. */
static struct {
	long fd;
	struct text text; /* p NULL: free */
} from_fds[4];

void keys_forget(void)
{
	for (size_t i = 0; i < sizeof(from_fds) / sizeof(from_fds[0]); i++)
		text_fini(&from_fds[i].text);
}

/* Borrowed until keys_forget. */
static enum err fd_text(long fd, const char *what, const struct text **out)
{
	enum err e;
	size_t i = 0;

	while (i + 1 < sizeof(from_fds) / sizeof(from_fds[0]) && from_fds[i].text.p &&
	       from_fds[i].fd != fd)
		i++;
	*out = &from_fds[i].text;
	if (from_fds[i].text.p && from_fds[i].fd == fd)
		return ERR_OK;
	text_fini(&from_fds[i].text);
	from_fds[i].fd = fd;
	e = read_fd((int)fd, what, ARCHIVE_KEY_TEXT_MAX + 1, &from_fds[i].text);
	if (e != ERR_OK)
		text_fini(&from_fds[i].text);
	return e;
}

static enum err from_fd(const char *number, struct archive_key **out)
{
	const struct text *t;
	char *end, what[32];
	long fd = strtol(number, &end, 10);
	enum err e;

	if (*end || end == number || fd < 0 || fd > INT_MAX)
		return err_note(ERR_USAGE, 0, "--key-fd %s: not the number of a descriptor", number);
	snprintf(what, sizeof(what), "descriptor %ld", fd);
	e = fd_text(fd, what, &t);
	return e == ERR_OK ? archive_key_from_text(t->p, t->len, what, out) : e;
}

static enum err from_passphrase_file(const char *path, struct archive_key **out)
{
	struct text t = {.p = NULL};
	enum err e = read_passphrase(path, &t);

	if (e == ERR_OK)
		e = archive_key_from_passphrase(t.p, t.len, out);
	text_fini(&t);
	return e;
}

static enum err from_identity(const char *path, const char *passphrase_file,
			      struct archive_key **out)
{
	struct text pem = {.p = NULL}, pass = {.p = NULL};
	enum err e = read_secret(path, ARCHIVE_KEY_PEM_MAX + 1, &pem);

	if (e == ERR_OK && passphrase_file)
		e = read_passphrase(passphrase_file, &pass);
	if (e == ERR_OK)
		e = archive_key_from_identity(pem.p, pem.len, pass.p, path, out);
	text_fini(&pem);
	text_fini(&pass);
	return e;
}

static enum err from_terminal(const char *path, bool twice, struct archive_key **out)
{
	char *line = secret_alloc(ARCHIVE_KEY_PASSPHRASE_MAX + 2);
	enum err e;

	if (!line)
		return err_note(ERR_NOMEM, 0, "ask for a passphrase: out of memory");
	secret_guard_process();
	e = ask_secret(twice ? "New passphrase" : "Passphrase", path, twice, line,
		       ARCHIVE_KEY_PASSPHRASE_MAX + 2);
	if (e == ERR_OK)
		e = archive_key_from_passphrase(line, strlen(line), out);
	secret_free(line, ARCHIVE_KEY_PASSPHRASE_MAX + 2);
	return e;
}

/* ---- opening ---- */

static enum err find(const struct keys *k, const char *path, const struct archive_opens_by *by,
		     struct archive_key **out)
{
	*out = NULL;
	if (k->identity)
		return from_identity(k->identity, k->passphrase_file, out);
	if (!!k->key_fd + !!k->key_file + !!k->passphrase_file > 1)
		return err_note(ERR_USAGE, 0, "open %s: more than one key was given: give one", path);
	if (k->key_fd)
		return from_fd(k->key_fd, out);
	if (k->key_file)
		return from_file(k->key_file, out);
	if (k->passphrase_file)
		return from_passphrase_file(k->passphrase_file, out);
	if (by->passphrase && ask_possible())
		return from_terminal(path, false, out);
	return ERR_OK; /* archive_open says what it needs */
}

/* A key that is not needed is a mistake, or worse: the archive was exchanged. */
static enum err not_encrypted(const struct keys *k, const char *path)
{
	if (!any(k))
		return ERR_OK;
	return err_note(ERR_AUTH, 0, "open %s: a key was given (by an option, LIFEBOAT_KEY_FILE or "
				     "LIFEBOAT_PASSPHRASE_FILE), but this archive is not encrypted: leave "
				     "the key away if that is as it should be", path);
}

enum err keys_open_with(const struct keys *k, const char *path, bool writable,
			struct archive **out)
{
	struct archive_options opt = {.writable = writable};
	struct keys all = with_variables(k);
	struct archive_opens_by by;
	struct archive_key *key = NULL;
	enum err e;

	e = archive_opens_by(path, &by);
	if (e != ERR_OK && by.encrypted) /* its keys are lost: no key would help */
		return err_context(e, "open %s", path);
	if (e != ERR_OK) /* it says why */
		return archive_open(path, &opt, out);
	if (!by.encrypted) {
		if ((e = not_encrypted(&all, path)) != ERR_OK)
			return e;
	} else if ((e = find(&all, path, &by, &key)) != ERR_OK) {
		return e;
	}
	opt.key = key;
	e = archive_open(path, &opt, out);
	archive_key_close(key);
	return e;
}

enum err keys_open(const char *path, bool writable, struct archive **out)
{
	return keys_open_with(&given, path, writable, out);
}

/* ---- making ---- */

static enum err make_file(const char *path, struct archive_key **out)
{
	char *text = secret_alloc(ARCHIVE_KEY_TEXT_MAX);
	enum err e;

	if (!text)
		return err_note(ERR_NOMEM, 0, "make %s: out of memory", path);
	secret_guard_process();
	e = archive_key_make(text, out);
	if (e == ERR_OK) {
		e = fs_create_file(AT_FDCWD, path, text, strlen(text), 0600);
		if (e != ERR_OK) {
			archive_key_close(*out);
			*out = NULL;
		} else {
			cli_say("%s: a new key: keep it: without it nothing in the archive can be "
				"read", path);
		}
	}
	secret_free(text, ARCHIVE_KEY_TEXT_MAX);
	return e;
}

static enum err read_or_make(const char *path, struct archive_key **out)
{
	bool there;
	enum err e = fs_exists(AT_FDCWD, path, &there);

	if (e != ERR_OK)
		return e;
	return there ? from_file(path, out) : make_file(path, out);
}

enum err keys_make(struct keys_new *n)
{
	struct keys k = with_variables(&given);
	enum err e = ERR_OK;

	n->count = 0;
	if (k.identity)
		return err_note(ERR_USAGE, 0, "archive init: --identity opens an archive: for whom else a "
					      "new one is to open, give --recipient");
	if (k.key_file && (e = read_or_make(k.key_file, &n->key[n->count])) == ERR_OK)
		n->count++;
	if (e == ERR_OK && k.key_fd && (e = from_fd(k.key_fd, &n->key[n->count])) == ERR_OK)
		n->count++;
	if (e == ERR_OK && k.passphrase_file &&
	    (e = from_passphrase_file(k.passphrase_file, &n->key[n->count])) == ERR_OK)
		n->count++;
	if (e == ERR_OK && n->count == 0 && ask_possible() &&
	    (e = from_terminal("the archive", true, &n->key[0])) == ERR_OK)
		n->count = 1;
	if (e == ERR_OK && n->count == 0)
		e = err_note(ERR_USAGE, 0, "archive init: how is it to be opened? give --key-file FILE "
					   "(made if there is none), --passphrase-file FILE, or say "
					   "--no-encryption");
	if (e != ERR_OK)
		keys_new_close(n);
	return e;
}

void keys_new_close(struct keys_new *n)
{
	while (n->count)
		archive_key_close(n->key[--n->count]);
}

enum err keys_recipient(const char *path, struct recipient **out)
{
	AUTO_BUF struct buf pem = {0};
	enum err e = fs_read_file(AT_FDCWD, path, ARCHIVE_KEY_PEM_MAX, &pem);

	return e == ERR_OK ? archive_key_recipient(pem.data, pem.len, path, out) : e;
}
