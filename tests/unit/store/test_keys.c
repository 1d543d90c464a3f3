/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: who opens an encrypted archive and who does not, what damage in keys/ costs, and that
 * nothing that was changed, moved or exchanged by somebody without the keys is believed. */
#include "tests/unit/store/bed.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "store/keyslot.h"
#include "store/record.h"

static struct content content;

static int setup(void **state)
{
	content_make(&content, 4, 150000);
	if (bed_setup(state) != 0)
		return -1;
	return bed_put_once(*state, "web", &content, NULL) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
	content_free(&content);
	return bed_teardown(state);
}

static enum err open_by(const char *path, const struct archive_key *key)
{
	struct archive_options opt = {.threads = 1, .key = key};
	struct archive *a;
	enum err e = archive_open(path, &opt, &a);

	if (e == ERR_OK)
		archive_close(a);
	return e;
}

static void read_all(const char *path, uint8_t *p, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, p, len), len);
	close(fd);
}

static void write_all(const char *path, const uint8_t *p, size_t len)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, p, len), len);
	close(fd);
}

/* The only file of packs/, or the i-th of keys/. */
static void file_in(const char *archive, const char *dir, size_t i, char *out, size_t room)
{
	char path[400], **files;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", archive, dir);
	n = bed_files(path, &files);
	assert_true(i < n);
	snprintf(out, room, "%s/%s", path, files[i]);
	for (size_t k = 0; k < n; k++)
		free(files[k]);
	free(files);
}

/* ---- who opens ---- */

static EVP_PKEY *pair(const char *kind)
{
	if (strcmp(kind, "RSA") == 0)
		return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	if (strcmp(kind, "EC") == 0)
		return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	return EVP_PKEY_Q_keygen(NULL, NULL, kind);
}

static size_t pem_of(EVP_PKEY *key, bool private, char *out, size_t room)
{
	BIO *b = BIO_new(BIO_s_mem());
	int n;

	assert_int_equal(private ? PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL)
				 : PEM_write_bio_PUBKEY(b, key),
			 1);
	n = BIO_read(b, out, (int)room);
	BIO_free(b);
	assert_true(n > 0);
	return (size_t)n;
}

static void test_keys__every_way_opens_and_no_other(void **state)
{
	static const char *const kinds[] = {"X25519", "EC", "RSA"};
	const struct bed *b = *state;
	struct archive_key *keys[2], *wrong, *other, *identity[3], *stranger;
	struct recipient *who[3];
	char text[ARCHIVE_KEY_TEXT_MAX], pem[8192], path[400];

	assert_ok(archive_key_make(text, &keys[0]));
	assert_ok(archive_key_from_passphrase("open sesame", 11, &keys[1]));
	assert_ok(archive_key_from_passphrase("open sesamE", 11, &wrong));
	assert_ok(archive_key_make(text, &other));
	for (int i = 0; i < 3; i++) {
		EVP_PKEY *p = pair(kinds[i]);
		size_t n = pem_of(p, false, pem, sizeof(pem));

		assert_ok(archive_key_recipient(pem, n, "public", &who[i]));
		n = pem_of(p, true, pem, sizeof(pem));
		assert_ok(archive_key_from_identity(pem, n, NULL, "private", &identity[i]));
		EVP_PKEY_free(p);
	}
	EVP_PKEY *p = pair("X25519");
	size_t n = pem_of(p, true, pem, sizeof(pem));
	assert_ok(archive_key_from_identity(pem, n, NULL, "private", &stranger));
	EVP_PKEY_free(p);
	struct archive_init_options opt = {.keys = (const struct archive_key *const *)keys,
					   .n_keys = 2,
					   .recipients = (const struct recipient *const *)who,
					   .n_recipients = 3,
					   .scrypt_log2_n = 11};
	snprintf(path, sizeof(path), "%s/many", b->dir);
	assert_ok(archive_init(path, &opt));
	assert_ok(open_by(path, keys[0]));
	assert_ok(open_by(path, keys[1]));
	for (int i = 0; i < 3; i++)
		assert_ok(open_by(path, identity[i]));
	assert_err(open_by(path, wrong), ERR_AUTH);
	assert_err(open_by(path, other), ERR_AUTH);
	assert_err(open_by(path, stranger), ERR_AUTH);
	assert_err(open_by(path, NULL), ERR_AUTH);
	assert_err(open_by(b->archive, keys[1]), ERR_AUTH); /* it has no passphrase */
	for (int i = 0; i < 3; i++) {
		archive_key_close(identity[i]);
		archive_key_recipient_close(who[i]);
	}
	archive_key_close(keys[0]);
	archive_key_close(keys[1]);
	archive_key_close(wrong);
	archive_key_close(other);
	archive_key_close(stranger);
}

static void test_keys__a_slip_in_a_key_file_is_told(void **state)
{
	char text[ARCHIVE_KEY_TEXT_MAX];
	struct archive_key *made, *again;
	size_t line;

	(void)state;
	assert_ok(archive_key_make(text, &made));
	assert_ok(archive_key_from_text(text, strlen(text), "it", &again));
	archive_key_close(again);
	line = (size_t)(strstr(text, "\nlifeboat-key-1") - text) + 1;
	for (size_t i = line; text[i] != '\n'; i++) {
		text[i] ^= 1;
		assert_err(archive_key_from_text(text, strlen(text), "it", &again), ERR_AUTH);
		text[i] ^= 1;
	}
	assert_err(archive_key_from_text(text, line, "it", &again), ERR_AUTH);
	assert_err(archive_key_from_text("", 0, "it", &again), ERR_AUTH);
	archive_key_close(made);
}

static void test_keys__an_archive_without_encryption_takes_no_key(void **state)
{
	const struct bed *b = *state;
	struct archive_options with = bed_options(b, false);
	struct archive_init_options plain = {.plain = true}, none = {.n_keys = 0};
	char path[400];

	snprintf(path, sizeof(path), "%s/plain", b->dir);
	assert_err(archive_init(path, &none), ERR_USAGE);
	assert_ok(archive_init(path, &plain));
	assert_err(open_by(path, with.key), ERR_AUTH);
	assert_ok(open_by(path, NULL));
}

/* ---- damage ---- */

static void test_keys__one_damaged_copy_loses_nothing_and_is_named(void **state)
{
	const struct bed *b = *state;
	struct archive_options opt = bed_options(b, false);
	size_t step = bed_count(1000) > 20000 ? 1 : 20000 / bed_count(1000);
	char path[700];

	for (size_t file = 0; file < 3; file++) {
		file_in(b->archive, "keys", file, path, sizeof(path));
		assert_int_equal(bed_file_size(path), 2 * KEYSLOT_BYTES);
		for (size_t at = file; at < 2 * KEYSLOT_BYTES; at += step) {
			struct archive_damage d = {.what = ""};

			bed_flip(path, at * 8 + at / step % 8);
			assert_ok(open_by(b->archive, opt.key));
			assert_err(bed_verify(b, false, &d), ERR_CORRUPT);
			assert_non_null(strstr(d.what, strstr(path, "keys/")));
			bed_flip(path, at * 8 + at / step % 8);
		}
	}
	assert_ok(bed_verify(b, true, NULL));
}

static void test_keys__two_damaged_copies_are_named_and_open_nothing(void **state)
{
	const struct bed *b = *state;
	struct archive_options opt = bed_options(b, false);
	uint8_t whole[2 * KEYSLOT_BYTES];
	char path[700];

	for (size_t file = 0; file < 3; file++) {
		file_in(b->archive, "keys", file, path, sizeof(path));
		read_all(path, whole, sizeof(whole));
		for (size_t at = 0; at < KEYSLOT_BYTES; at += 97) {
			bed_flip(path, at * 8);
			bed_flip(path, (KEYSLOT_BYTES + (at * 31) % KEYSLOT_BYTES) * 8);
			enum err e = open_by(b->archive, opt.key);
			assert_true(e == ERR_CORRUPT || e == ERR_VERSION);
			assert_non_null(strstr(err_text(), strstr(path, "keys/")));
			write_all(path, whole, sizeof(whole));
		}
		for (size_t len = 0; len < sizeof(whole); len += 511) {
			write_all(path, whole, len);
			assert_err(open_by(b->archive, opt.key),
				   len < KEYSLOT_BYTES ? ERR_CORRUPT : ERR_OK);
		}
		assert_int_equal(unlink(path), 0);
		assert_err(open_by(b->archive, opt.key), ERR_CORRUPT);
		write_all(path, whole, sizeof(whole));
	}
	assert_ok(open_by(b->archive, opt.key));
}

/* ---- somebody hostile ---- */

static void copy_of(const struct bed *b, const char *name, char *path, size_t room)
{
	snprintf(path, room, "%s/%s", b->dir, name);
	bed_remove(path);
	bed_copy(b->archive, path);
}

/* Another archive of the same key, with a checkpoint of the same name. */
static void twin_of(const struct bed *b, char *path, size_t room)
{
	struct archive_options opt = bed_options(b, true);
	struct archive *a;

	snprintf(path, room, "%s/twin", b->dir);
	assert_ok(bed_init(b, path));
	assert_ok(archive_open(path, &opt, &a));
	assert_ok(bed_put(a, "web", &content, NULL));
	archive_close(a);
}

static void test_keys__what_is_moved_between_archives_is_refused(void **state)
{
	struct bed *b = *state, mixed;
	struct archive_options opt = bed_options(b, false);
	char twin[400], from[700], to[700];
	uint8_t manifest[65536];

	mixed = *b;
	twin_of(b, twin, sizeof(twin));
	copy_of(b, "mixed", mixed.archive, sizeof(mixed.archive)); /* keys */
	snprintf(from, sizeof(from), "%s/keys", twin);
	snprintf(to, sizeof(to), "%s/keys", mixed.archive);
	bed_remove(to);
	bed_copy(from, to);
	assert_err(open_by(mixed.archive, opt.key), ERR_CORRUPT);

	copy_of(b, "mixed", mixed.archive, sizeof(mixed.archive)); /* a manifest */
	snprintf(from, sizeof(from), "%s/manifests/web@1", twin);
	snprintf(to, sizeof(to), "%s/manifests/web@1", mixed.archive);
	bed_copy(from, to);
	assert_err(bed_check_once(&mixed, "web@1", &content), ERR_CORRUPT);

	/* the same with the archive's id put in, and the digest made right again */
	size_t n = bed_file_size(to);
	assert_true(n < sizeof(manifest));
	read_all(to, manifest, n);
	uint8_t config[RECORD_BYTES];
	snprintf(from, sizeof(from), "%s/archive", mixed.archive);
	read_all(from, config, sizeof(config));
	memcpy(manifest + 16, config + 16, 16);
	uint32_t root = le32_get(manifest + 12);
	struct digest d;
	digest_of(manifest, root - DIGEST_BYTES, &d);
	memcpy(manifest + root - DIGEST_BYTES, d.b, DIGEST_BYTES);
	write_all(to, manifest, n);
	assert_err(bed_check_once(&mixed, "web@1", &content), ERR_CORRUPT);

	copy_of(b, "mixed", mixed.archive, sizeof(mixed.archive)); /* a pack's bytes */
	file_in(twin, "packs", 0, from, sizeof(from));
	file_in(mixed.archive, "packs", 0, to, sizeof(to));
	bed_copy(from, to);
	assert_err(bed_check_once(&mixed, "web@1", &content), ERR_CORRUPT);
}

static void test_keys__a_checkpoint_cannot_take_anothers_place(void **state)
{
	const struct bed *b = *state;
	char from[500], to[500];
	uint8_t manifest[65536];
	struct digest d;
	size_t n;

	snprintf(from, sizeof(from), "%s/manifests/web@1", b->archive);
	snprintf(to, sizeof(to), "%s/manifests/web@2", b->archive);
	bed_copy(from, to);
	assert_err(bed_check_once(b, "web@2", &content), ERR_CORRUPT);
	n = bed_file_size(to);
	read_all(to, manifest, n);
	uint32_t root = le32_get(manifest + 12);
	le64_put(manifest + 96, 2); /* its number, and the digest made right again */
	digest_of(manifest, root - DIGEST_BYTES, &d);
	memcpy(manifest + root - DIGEST_BYTES, d.b, DIGEST_BYTES);
	write_all(to, manifest, n);
	assert_err(bed_check_once(b, "web@2", &content), ERR_CORRUPT);
	assert_ok(bed_check_once(b, "web@1", &content));
}

static void test_keys__a_changed_configuration_is_refused(void **state)
{
	const struct bed *b = *state;
	struct archive_options opt = bed_options(b, false);
	char path[500];
	uint8_t two[2 * RECORD_BYTES], whole[2 * RECORD_BYTES];

	snprintf(path, sizeof(path), "%s/archive", b->archive);
	read_all(path, whole, sizeof(whole));
	for (unsigned at = 16; at < 108; at++) {
		memcpy(two, whole, sizeof(two));
		two[at] ^= 1;
		record_seal(two);
		memcpy(two + RECORD_BYTES, two, RECORD_BYTES);
		write_all(path, two, sizeof(two));
		enum err e = open_by(b->archive, opt.key);
		assert_true(e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_AUTH);
	}
	/* as one without encryption */
	memcpy(two, whole, sizeof(two));
	memset(two + 56, 0, 16);
	memset(two + 76, 0, 32);
	record_seal(two);
	memcpy(two + RECORD_BYTES, two, RECORD_BYTES);
	write_all(path, two, sizeof(two));
	assert_err(open_by(b->archive, opt.key), ERR_AUTH);
	assert_err(open_by(b->archive, NULL), ERR_CORRUPT); /* nobody was asked for a passphrase */
	write_all(path, whole, sizeof(whole));
	assert_ok(open_by(b->archive, opt.key));
}

static void test_keys__a_forged_file_uses_no_number_up(void **state)
{
	const struct bed *b = *state;
	char from[500], to[500];
	uint64_t number;

	snprintf(from, sizeof(from), "%s/manifests/web@1", b->archive);
	snprintf(to, sizeof(to), "%s/manifests/web@18446744073709551615", b->archive);
	bed_copy(from, to);
	snprintf(to, sizeof(to), "%s/manifests/web@2", b->archive);
	bed_copy(from, to);
	assert_ok(bed_put_once(b, "web", &content, &number));
	assert_int_equal(number, 3);
	assert_ok(bed_check_once(b, "web@3", &content));
}

/* ---- together ---- */

static void test_keys__a_shared_domain_has_equal_digests(void **state)
{
	const struct bed *b = *state;
	struct archive_options opt = bed_options(b, false);
	char shared[400], alone[400];
	struct archive *a, *same, *other;

	snprintf(shared, sizeof(shared), "%s/shared", b->dir);
	snprintf(alone, sizeof(alone), "%s/alone", b->dir);
	assert_ok(bed_init_sharing(b, shared));
	assert_ok(bed_init(b, alone));
	assert_ok(archive_open(b->archive, &opt, &a));
	assert_ok(archive_open(shared, &opt, &same));
	assert_ok(archive_open(alone, &opt, &other));
	assert_true(archive_same_domain(a, same));
	assert_false(archive_same_domain(a, other));
	archive_close(a);
	archive_close(same);
	archive_close(other);
}

static void test_keys__of_two_who_make_an_archive_one_does(void **state)
{
	const struct bed *b = *state;
	struct archive_options opt = bed_options(b, true);
	char path[400];

	snprintf(path, sizeof(path), "%s/raced", b->dir);
	for (unsigned i = 0; i < bed_count(100); i++) {
		unsigned made = 0;
		int status;

		bed_remove(path);
		for (int k = 0; k < 4; k++)
			if (fork() == 0)
				_exit(bed_init(b, path) == ERR_OK);
		while (wait(&status) > 0) {
			assert_true(WIFEXITED(status));
			made += (unsigned)WEXITSTATUS(status);
		}
		assert_int_equal(made, 1);
		assert_ok(open_by(path, opt.key));
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_keys__every_way_opens_and_no_other),
		T(test_keys__a_slip_in_a_key_file_is_told),
		T(test_keys__an_archive_without_encryption_takes_no_key),
		T(test_keys__one_damaged_copy_loses_nothing_and_is_named),
		T(test_keys__two_damaged_copies_are_named_and_open_nothing),
		T(test_keys__what_is_moved_between_archives_is_refused),
		T(test_keys__a_checkpoint_cannot_take_anothers_place),
		T(test_keys__a_changed_configuration_is_refused),
		T(test_keys__a_forged_file_uses_no_number_up),
		T(test_keys__a_shared_domain_has_equal_digests),
		T(test_keys__of_two_who_make_an_archive_one_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
