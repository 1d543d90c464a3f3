/* SPDX-License-Identifier: Apache-2.0 */
/* keyring: the files of keys/.  Format: keyring.h, keyslot.h, FORMAT.md section 8.
 *
 * Everything in a slot is bound to the archive's id by the seal's additional data, so a
 * slot of another archive opens nothing here. */
#include "store/keyring.h"

#include "base/bytes.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/secret.h"
#include "store/keyslot.h"
#include "store/layout.h"
#include "store/mac.h"
#include "store/recipient.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_LABEL "lifeboat configuration"
#define UNLOCK_PREFIX "unlock-"
#define UNLOCK_HEX 16u
#define EPOCH_PREFIX "epoch-"
#define DOMAIN_FILE "domain"

/* ---- names ---- */

static bool is_unlock(const char *file)
{
	size_t head = strlen(UNLOCK_PREFIX);

	return strncmp(file, UNLOCK_PREFIX, head) == 0 &&
	       strspn(file + head, "0123456789abcdef") == UNLOCK_HEX &&
	       file[head + UNLOCK_HEX] == '\0';
}

/* The number in epoch-N; 0 if it is no such name. */
static uint32_t epoch_of(const char *file)
{
	size_t head = strlen(EPOCH_PREFIX);
	uint64_t n = 0;

	if (strncmp(file, EPOCH_PREFIX, head) != 0 || file[head] < '1' || file[head] > '9')
		return 0;
	for (const char *p = file + head; *p; p++) {
		if (*p < '0' || *p > '9' || (n = n * 10 + (uint64_t)(*p - '0')) > UINT32_MAX)
			return 0;
	}
	return (uint32_t)n;
}

static bool is_ours(const char *file)
{
	return is_unlock(file) || epoch_of(file) || strcmp(file, DOMAIN_FILE) == 0;
}

static void path_of(const char *file, char out[LAYOUT_PATH_BYTES])
{
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_KEYS "/%.96s", file);
}

/* ---- the configuration's seal ---- */

static enum err config_seal(const uint8_t master[CIPHER_KEY_BYTES], const struct settings *c,
			    struct digest *out)
{
	uint8_t rec[RECORD_BYTES], key[CIPHER_KEY_BYTES];
	struct mac *mac = NULL;
	enum err e = cipher_hkdf(master, CIPHER_KEY_BYTES, c->archive_id, 16, CONFIG_LABEL, key);

	if (e == ERR_OK)
		e = mac_create(key, &mac);
	secret_wipe(key, sizeof(key));
	if (e != ERR_OK)
		return e;
	settings_encode(c, rec);
	mac_of(mac, rec, SETTINGS_SEALED_BYTES, out);
	mac_destroy(mac);
	return ERR_OK;
}

/* ---- making ---- */

static void slot_begin(const struct settings *c, enum keyslot_kind kind, struct keyslot *s)
{
	memset(s, 0, sizeof(*s));
	s->kind = kind;
	memcpy(s->archive_id, c->archive_id, 16);
}

static enum err write_unlock(int root, struct keyslot *s, const uint8_t by[CIPHER_KEY_BYTES],
			     const uint8_t master[CIPHER_KEY_BYTES])
{
	uint8_t id[UNLOCK_HEX / 2];
	char hex[UNLOCK_HEX + 1], file[32], path[LAYOUT_PATH_BYTES];
	enum err e = keyslot_seal(s, by, master);

	if (e != ERR_OK || (e = layout_random(id, sizeof(id))) != ERR_OK)
		return e;
	bytes_hex(id, sizeof(id), hex);
	snprintf(file, sizeof(file), UNLOCK_PREFIX "%s", hex);
	path_of(file, path);
	return keyslot_create(root, path, s);
}

static enum err make_unlocks(int root, const struct keyring_plan *plan, const struct settings *c,
			     const uint8_t master[CIPHER_KEY_BYTES])
{
	uint8_t by[CIPHER_KEY_BYTES];
	struct keyslot s;
	enum err e = ERR_OK;

	for (unsigned i = 0; e == ERR_OK && i < plan->n_keys; i++) {
		slot_begin(c, KEYSLOT_FILE, &s);
		e = archive_key_wrap(plan->keys[i], plan->log2_n, &s, by);
		if (e == ERR_OK)
			e = write_unlock(root, &s, by, master);
	}
	for (unsigned i = 0; e == ERR_OK && i < plan->n_recipients; i++) {
		slot_begin(c, KEYSLOT_RECIPIENT, &s);
		e = recipient_wrap(plan->recipients[i], &s, by);
		if (e == ERR_OK)
			e = write_unlock(root, &s, by, master);
	}
	secret_wipe(by, sizeof(by));
	return e;
}

static enum err make_inner(int root, const struct settings *c, enum keyslot_kind kind,
			   const char *file, const uint8_t master[CIPHER_KEY_BYTES],
			   const uint8_t key[CIPHER_KEY_BYTES])
{
	char path[LAYOUT_PATH_BYTES];
	struct keyslot s;
	enum err e;

	slot_begin(c, kind, &s);
	if (kind == KEYSLOT_DOMAIN)
		memcpy(s.domain_id, c->domain_id, 16);
	else
		s.epoch = c->epoch;
	path_of(file, path);
	e = keyslot_seal(&s, master, key);
	return e == ERR_OK ? keyslot_create(root, path, &s) : e;
}

struct fresh {
	uint8_t master[CIPHER_KEY_BYTES], domain[CIPHER_KEY_BYTES], epoch[CIPHER_KEY_BYTES];
};

static enum err make_all(int root, const struct keyring_plan *plan, struct settings *c,
			 struct fresh *f)
{
	char file[32];
	enum err e = layout_random(f, sizeof(*f));

	if (e != ERR_OK)
		return e;
	if (plan->domain)
		memcpy(f->domain, plan->domain, sizeof(f->domain));
	c->epoch = 1;
	snprintf(file, sizeof(file), EPOCH_PREFIX "%" PRIu32, c->epoch);
	if ((e = make_unlocks(root, plan, c, f->master)) != ERR_OK ||
	    (e = make_inner(root, c, KEYSLOT_DOMAIN, DOMAIN_FILE, f->master, f->domain)) != ERR_OK ||
	    (e = make_inner(root, c, KEYSLOT_EPOCH, file, f->master, f->epoch)) != ERR_OK)
		return e;
	return config_seal(f->master, c, &c->seal);
}

enum err keyring_make(int root, const struct keyring_plan *plan, struct settings *c)
{
	struct fresh *f = secret_alloc(sizeof(*f));
	enum err e;

	if (!f)
		return err_note(ERR_NOMEM, 0, "make keys: out of memory");
	assert(plan->n_keys > 0 && plan->n_keys + plan->n_recipients <= KEYRING_UNLOCKS_MAX);
	e = make_all(root, plan, c, f);
	secret_free(f, sizeof(*f));
	return e;
}

/* ---- opening ---- */

static enum err read_slot(int root, const char *file, const struct settings *c, struct keyslot *s)
{
	char path[LAYOUT_PATH_BYTES];
	bool damaged;
	enum err e;

	path_of(file, path);
	if ((e = keyslot_read(root, path, s, &damaged)) != ERR_OK)
		return e;
	if (damaged)
		log_event(LOG_WARN, "key_copy_damaged path=%s", path);
	if (memcmp(s->archive_id, c->archive_id, 16) != 0)
		return err_note(ERR_CORRUPT, 0, "%s: belongs to another archive", path);
	return ERR_OK;
}

struct unlocking {
	unsigned slots, fitting; /* all, and those of the key's kind */
	unsigned kinds[4];	 /* by kind */
	enum err damage;
	char why[ERR_NOTE_BYTES]; /* of the first slot that could not be read */
};

static enum err try_slot(int root, const char *file, const struct settings *c,
			 const struct archive_key *key, struct unlocking *u,
			 uint8_t master[CIPHER_KEY_BYTES])
{
	uint8_t by[CIPHER_KEY_BYTES];
	struct keyslot s;
	enum err e = read_slot(root, file, c, &s);

	if (e == ERR_OK && s.kind > KEYSLOT_RECIPIENT)
		e = err_note(ERR_CORRUPT, 0, LAYOUT_KEYS "/%s: holds another key", file);
	if (e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO) {
		if (u->damage == ERR_OK)
			snprintf(u->why, sizeof(u->why), "%s", err_text());
		u->damage = u->damage == ERR_OK ? e : u->damage;
		return ERR_AUTH;
	}
	if (e != ERR_OK)
		return e;
	u->kinds[s.kind]++;
	e = archive_key_unwrap(key, &s, by);
	u->fitting += e != ERR_NOTFOUND;
	if (e == ERR_OK)
		e = keyslot_open(&s, by, master);
	secret_wipe(by, sizeof(by));
	return e == ERR_NOTFOUND ? ERR_AUTH : e;
}

/* None of the slots gave way: say what would. */
static enum err refused(const char *path, const struct archive_key *key, const struct unlocking *u)
{
	if (u->damage != ERR_OK)
		return err_note(u->damage, 0, "open %s: the %s opens none of its sound keys, and %s",
				path, archive_key_word(key), u->why);
	if (u->slots == 0)
		return err_note(ERR_CORRUPT, 0, "open %s: its " LAYOUT_KEYS "/ holds no key to open it "
						"by: bring that directory back from a copy", path);
	if (u->fitting)
		return err_note(ERR_AUTH, 0, "open %s: wrong %s: it was not made with this one", path,
				archive_key_word(key));
	return err_note(ERR_AUTH, 0, "open %s: it was not made with a key of that kind: it opens by "
				     "%s%s%s%s%s", path,
			u->kinds[KEYSLOT_FILE] ? "--key-file" : "",
			u->kinds[KEYSLOT_FILE] && u->kinds[KEYSLOT_PASSPHRASE] ? " or " : "",
			u->kinds[KEYSLOT_PASSPHRASE] ? "--passphrase-file" : "",
			u->kinds[KEYSLOT_RECIPIENT] &&
					(u->kinds[KEYSLOT_FILE] || u->kinds[KEYSLOT_PASSPHRASE])
				? " or " : "",
			u->kinds[KEYSLOT_RECIPIENT] ? "--identity" : "");
}

static enum err unlock(int root, const char *path, const struct settings *c, char *const *names,
		       size_t n, const struct archive_key *key, uint8_t master[CIPHER_KEY_BYTES])
{
	struct unlocking u = {0};

	for (size_t i = 0; i < n; i++) {
		enum err e;

		if (!is_unlock(names[i]))
			continue;
		if (++u.slots > KEYRING_UNLOCKS_MAX)
			break;
		e = try_slot(root, names[i], c, key, &u, master);
		if (e != ERR_AUTH)
			return e;
	}
	return refused(path, key, &u);
}

static enum err missing_is_damage(enum err e, const char *file)
{
	return e == ERR_NOTFOUND
		       ? err_note(ERR_CORRUPT, 0, LAYOUT_KEYS "/%s is missing", file)
		       : e;
}

/* A sound slot that the master key does not open was put there by somebody without it. */
static enum err open_inner(int root, const char *file, const struct settings *c,
			   const uint8_t master[CIPHER_KEY_BYTES], enum keyslot_kind kind,
			   uint32_t epoch, uint8_t key[CIPHER_KEY_BYTES])
{
	struct keyslot s;
	enum err e = missing_is_damage(read_slot(root, file, c, &s), file);

	if (e != ERR_OK)
		return e;
	if (s.kind != kind || s.epoch != epoch ||
	    (kind == KEYSLOT_DOMAIN && memcmp(s.domain_id, c->domain_id, 16) != 0))
		return err_note(ERR_CORRUPT, 0, LAYOUT_KEYS "/%s: holds another key", file);
	e = keyslot_open(&s, master, key);
	return e == ERR_AUTH ? err_note(ERR_CORRUPT, 0, LAYOUT_KEYS "/%s: was not made with this "
							"archive's master key", file)
			     : e;
}

static enum err open_epochs(int root, const struct settings *c, char *const *names, size_t n,
			    const uint8_t master[CIPHER_KEY_BYTES], struct keyring *k)
{
	bool current = false;

	for (size_t i = 0; i < n; i++) {
		uint32_t number = epoch_of(names[i]);
		struct keyring_epoch *slot = &k->epoch[k->n_epochs];
		enum err e;

		if (number == 0)
			continue;
		if (k->n_epochs == KEYRING_EPOCHS_MAX)
			return err_note(ERR_CORRUPT, 0, LAYOUT_KEYS "/: more than %u epochs",
					KEYRING_EPOCHS_MAX);
		e = open_inner(root, names[i], c, master, KEYSLOT_EPOCH, number, slot->key);
		/* Others are needed no less than this one, but by fewer: what they hide
		 * says so when it is read. */
		if (e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO) {
			if (number == c->epoch)
				return e;
			log_event(LOG_WARN, "key_unusable why=\"%s\"", err_text());
			err_clear();
			continue;
		}
		if (e != ERR_OK)
			return e;
		slot->number = number;
		k->n_epochs++;
		current |= number == c->epoch;
	}
	return current ? ERR_OK
		       : err_note(ERR_CORRUPT, 0, LAYOUT_KEYS "/" EPOCH_PREFIX "%" PRIu32 " is missing",
				  c->epoch);
}

static enum err open_all(int root, const char *path, const struct settings *c, char *const *names,
			 size_t n, const struct archive_key *key, uint8_t master[CIPHER_KEY_BYTES],
			 struct keyring *k)
{
	struct digest seal;
	enum err e;

	if ((e = unlock(root, path, c, names, n, key, master)) != ERR_OK ||
	    (e = config_seal(master, c, &seal)) != ERR_OK)
		return e;
	if (memcmp(&seal, &c->seal, sizeof(seal)) != 0)
		return err_note(ERR_CORRUPT, 0, "open %s: its configuration was changed by somebody "
						"who does not have its master key", path);
	e = open_inner(root, DOMAIN_FILE, c, master, KEYSLOT_DOMAIN, 0, k->domain);
	if (e == ERR_OK)
		e = open_epochs(root, c, names, n, master, k);
	return e == ERR_CORRUPT ? err_context(e, "open %s", path) : e;
}

enum err keyring_open(int root, const char *path, const struct settings *c,
		      const struct archive_key *key, struct keyring **out)
{
	struct keyring *k = secret_alloc(sizeof(*k));
	uint8_t *master = secret_alloc(CIPHER_KEY_BYTES);
	char **names = NULL;
	size_t n = 0;
	enum err e = k && master ? ERR_OK : err_note(ERR_NOMEM, 0, "open %s: out of memory", path);

	if (e == ERR_OK)
		e = missing_is_damage(fs_list(root, LAYOUT_KEYS, &names, &n), "");
	if (e == ERR_OK)
		e = open_all(root, path, c, names, n, key, master, k);
	fs_names_free(names, n);
	secret_free(master, CIPHER_KEY_BYTES);
	if (e != ERR_OK) {
		keyring_close(k);
		return e;
	}
	*out = k;
	return ERR_OK;
}

void keyring_close(struct keyring *k)
{
	secret_free(k, sizeof(*k));
}

enum err keyring_kinds(int root, bool *passphrase, bool *key_file, bool *identity)
{
	char **names;
	size_t n;
	enum err e = missing_is_damage(fs_list(root, LAYOUT_KEYS, &names, &n), "");

	*passphrase = *key_file = *identity = false;
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++) {
		char path[LAYOUT_PATH_BYTES];
		struct keyslot s;
		bool damaged;

		if (!is_unlock(names[i]))
			continue;
		path_of(names[i], path);
		if (keyslot_read(root, path, &s, &damaged) != ERR_OK) {
			err_clear();
			continue;
		}
		*passphrase |= s.kind == KEYSLOT_PASSPHRASE;
		*key_file |= s.kind == KEYSLOT_FILE;
		*identity |= s.kind == KEYSLOT_RECIPIENT;
	}
	fs_names_free(names, n);
	return ERR_OK;
}

enum err keyring_absent(int root, const char *path)
{
	char **names;
	size_t n;
	bool any = false;
	enum err e = fs_list(root, LAYOUT_KEYS, &names, &n);

	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++)
		any |= is_ours(names[i]);
	fs_names_free(names, n);
	return any ? err_note(ERR_CORRUPT, 0, "open %s: its configuration says that it is not encrypted, "
					      "but it has keys: somebody changed it: bring the file "
					      LAYOUT_CONFIG " back from a copy", path) : ERR_OK;
}

/* ---- checking ---- */

enum err keyring_verify(int root, const struct settings *c, keyring_finding_fn *fn, void *arg)
{
	char **names;
	size_t n;
	enum err e = fs_list(root, LAYOUT_KEYS, &names, &n);

	if (e != ERR_OK)
		return e == ERR_NOTFOUND && !c->encrypted ? ERR_OK : missing_is_damage(e, "");
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		char path[LAYOUT_PATH_BYTES], text[LAYOUT_PATH_BYTES + 64];
		struct keyslot s;
		bool damaged = false;

		if (!is_ours(names[i]))
			continue;
		path_of(names[i], path);
		e = keyslot_read(root, path, &s, &damaged);
		if (e == ERR_OK && memcmp(s.archive_id, c->archive_id, 16) != 0)
			e = err_note(ERR_CORRUPT, 0, "%s: belongs to another archive", path);
		if (e == ERR_CORRUPT || e == ERR_VERSION) {
			fn(arg, err_text());
			e = ERR_OK;
		} else if (e == ERR_OK && damaged) {
			snprintf(text, sizeof(text), "%s: one of its two copies is damaged", path);
			fn(arg, text);
		}
	}
	fs_names_free(names, n);
	return e;
}

/* ---- healing ---- */

static enum err heal_one(int root, int copy, const struct settings *c, const char *file,
			 keyring_healing_fn *fn, void *arg)
{
	char path[LAYOUT_PATH_BYTES];
	struct keyslot s;
	bool damaged, theirs;
	enum err e;

	path_of(file, path);
	e = keyslot_read(root, path, &s, &damaged);
	if (e == ERR_OK && !damaged)
		return e;
	if (e != ERR_OK && e != ERR_CORRUPT && e != ERR_IO && e != ERR_NOTFOUND)
		return e;
	if (e != ERR_OK && (copy < 0 || keyslot_read(copy, path, &s, &theirs) != ERR_OK ||
			    memcmp(s.archive_id, c->archive_id, 16) != 0)) {
		err_clear();
		fn(arg, path, false);
		return ERR_OK;
	}
	if ((e = keyslot_write(root, path, &s)) == ERR_OK)
		fn(arg, path, true);
	return e;
}

static enum err heal_listed(int root, int copy, int listed, const struct settings *c,
			    keyring_healing_fn *fn, void *arg)
{
	char **names;
	size_t n;
	enum err e = fs_list(listed, LAYOUT_KEYS, &names, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		if (is_ours(names[i]))
			e = heal_one(root, copy, c, names[i], fn, arg);
	fs_names_free(names, n);
	return e;
}

enum err keyring_heal(int root, int copy, const struct settings *c, keyring_healing_fn *fn,
		      void *arg)
{
	struct settings other;
	bool damaged;
	enum err e;

	if (!c->encrypted)
		return ERR_OK;
	if (copy >= 0 && (settings_read(copy, &other, &damaged) != ERR_OK ||
			  memcmp(other.archive_id, c->archive_id, 16) != 0))
		copy = -1;
	e = fs_mkdir(root, LAYOUT_KEYS, 0700);
	if (e == ERR_OK || e == ERR_BUSY)
		e = heal_listed(root, copy, root, c, fn, arg);
	if (e == ERR_OK && copy >= 0) /* what is missing here */
		e = heal_listed(root, copy, copy, c, fn, arg);
	return e;
}
