/* SPDX-License-Identifier: Apache-2.0 */
/* The parts below the archive's face: names, records, groups, runs, directories,
 * manifests, the table of new pages; each encoder against its decoder, and what
 * decoders must refuse. */
#include "tests/unit/store/bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/dedup.h"
#include "store/group.h"
#include "store/layout.h"
#include "store/manifest.h"
#include "store/pack.h"
#include "store/record.h"
#include "store/runlist.h"

static void test_layout__names_parse_to_what_made_them(void **state)
{
	const char *const bad[] = {"web", "web@", "web@0", "web@01", "web@-1", "@1", "web@1x",
				   "web@18446744073709551616", "Web@1", "a/b@1", "-@1"};
	char path[LAYOUT_PATH_BYTES], name[ARCHIVE_NAME_BYTES], long_name[80];
	struct writer_id w = {{1, 2, 3, 255}}, w2;
	struct pack_id id, id2;
	uint64_t n;

	(void)state;
	layout_pack_id(&w, 0x01020304, &id);
	layout_pack_path(&id, path);
	assert_string_equal(path, "packs/010203ff000000000000000004030201.pack");
	assert_true(layout_pack_parse(path + 6, &id2));
	assert_memory_equal(&id, &id2, sizeof(id));
	assert_false(layout_pack_parse("010203FF000000000000000004030201.pack", &id2));
	assert_false(layout_pack_parse("010203ff.pack", &id2));
	layout_temp_path(&w, path);
	assert_true(layout_temp_parse(path + strlen("manifests/"), &w2));
	assert_memory_equal(&w, &w2, sizeof(w));
	layout_manifest_path("web-1", UINT64_MAX, path);
	assert_true(layout_manifest_parse(path + strlen("manifests/"), name, &n));
	assert_string_equal(name, "web-1");
	assert_true(n == UINT64_MAX);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(layout_manifest_parse(bad[i], name, &n));
	memset(long_name, 'a', sizeof(long_name));
	long_name[63] = '\0';
	assert_true(layout_name_ok(long_name));
	strcpy(long_name + 63, "a");
	assert_false(layout_name_ok(long_name));
}

static void test_record__any_flipped_bit_is_seen(void **state)
{
	uint8_t rec[RECORD_BYTES];

	(void)state;
	record_begin(rec, "LBTESTRC");
	rec[100] = 7;
	record_seal(rec);
	assert_ok(record_check(rec, "LBTESTRC", "it"));
	assert_err(record_check(rec, "LBTESTRD", "it"), ERR_CORRUPT);
	for (unsigned bit = 0; bit < RECORD_BYTES * 8; bit++) {
		rec[bit / 8] = (uint8_t)(rec[bit / 8] ^ 1u << bit % 8);
		assert_err(record_check(rec, "LBTESTRC", "it"), ERR_CORRUPT);
		rec[bit / 8] = (uint8_t)(rec[bit / 8] ^ 1u << bit % 8);
	}
	rec[8] ^= 1; /* another version, sealed by it */
	record_seal(rec);
	assert_err(record_check(rec, "LBTESTRC", "it"), ERR_VERSION);
}

static void test_group__any_number_of_pages_comes_back(void **state)
{
	static uint8_t out[GROUP_BYTES], back[GROUP_BYTES];
	const struct group_sum_key key = {{1, 2, 3}};
	struct group_codec *g;

	(void)state;
	assert_ok(group_codec_create(&g));
	for (uint64_t seed = 0; seed < 60; seed++) {
		struct group_sum d[GROUP_PAGES];
		struct content c;
		const uint8_t *stored;
		unsigned n = 1 + (unsigned)(seed % GROUP_PAGES);
		int level = (int)(seed % 20) - 7;
		uint32_t len;
		uint8_t codec;

		content_make(&c, seed, (size_t)n * PAGE_BYTES);
		for (unsigned i = 0; i < n; i++)
			group_sum(g, &key, c.data + (size_t)i * PAGE_BYTES, &d[i]);
		assert_ok(group_encode(g, level ? level : 19, c.data, n, out, &stored, &len, &codec));
		assert_true(len <= c.len);
		assert_ok(group_prove(g, stored, len, codec, &key, d, n, back));
		assert_ok(group_decode(g, stored, len, codec, n, back));
		assert_memory_equal(back, c.data, c.len);
		d[n - 1].high ^= 1;
		assert_err(group_prove(g, stored, len, codec, &key, d, n, back), ERR_FAILED);
		assert_err(group_decode(g, stored, len, 7, n, back), ERR_CORRUPT);
		assert_err(group_decode(g, stored, len - 1, codec, n, back), ERR_CORRUPT);
		if (n > 1)
			assert_err(group_decode(g, stored, len, codec, n - 1, back), ERR_CORRUPT);
		content_free(&c);
	}
	group_codec_destroy(g);
}

static void test_group__incompressible_pages_are_stored_as_they_are(void **state)
{
	static uint8_t out[GROUP_BYTES], pages[GROUP_BYTES];
	struct group_codec *g;
	const uint8_t *stored;
	uint64_t seed = 1;
	uint32_t len;
	uint8_t codec;

	(void)state;
	for (size_t i = 0; i < sizeof(pages); i++)
		pages[i] = (uint8_t)bed_random(&seed);
	assert_ok(group_codec_create(&g));
	assert_ok(group_encode(g, 1, pages, GROUP_PAGES, out, &stored, &len, &codec));
	assert_int_equal(codec, GROUP_RAW);
	assert_int_equal(len, GROUP_BYTES);
	assert_ptr_equal(stored, pages);
	group_codec_destroy(g);
}

static void test_runs__random_runs_come_back(void **state)
{
	uint64_t seed = bed_seed();

	(void)state;
	for (int round = 0; round < 200; round++) {
		AUTO_BUF struct buf b = {0};
		struct run in[100], out[100];
		struct runs_at at = {0};
		uint64_t page = bed_random(&seed) >> (bed_random(&seed) % 60 + 4);

		for (int i = 0; i < 100; i++) {
			in[i] = (struct run){.page = page,
					     .count = 1 + (uint32_t)(bed_random(&seed) >>
								     (34 + bed_random(&seed) % 30)),
					     .pack = (uint32_t)bed_random(&seed) >>
						     bed_random(&seed) % 32,
					     .slot = (uint32_t)bed_random(&seed) >>
						     (2 + bed_random(&seed) % 30)};
			in[i].repeat = in[i].count > 1 && bed_random(&seed) % 4 == 0;
			page = in[i].page + in[i].count + bed_random(&seed) % 3;
			if (i == 0)
				at.page = in[0].page;
			runs_put(&b, &at, &in[i]);
		}
		assert_ok(runs_decode(b.data, b.len, in[0].page, at.page, 100, out));
		for (int i = 0; i < 100; i++) {
			assert_true(in[i].page == out[i].page && in[i].count == out[i].count);
			assert_true(in[i].pack == out[i].pack && in[i].slot == out[i].slot);
			assert_true(in[i].repeat == out[i].repeat);
		}
		assert_err(runs_decode(b.data, b.len - 1, in[0].page, at.page, 100, out),
			   ERR_CORRUPT);
		assert_err(runs_decode(b.data, b.len, in[0].page, at.page - 1, 100, out),
			   ERR_CORRUPT);
		assert_err(runs_decode(b.data, b.len, in[0].page, at.page, 99, out), ERR_CORRUPT);
	}
}

static void test_runs__other_spellings_are_refused(void **state)
{
	const uint8_t longer[] = {0x80, 0x00, 2, 0, 0}, huge[] = {0, 0xff, 0xff, 0xff, 0xff, 0xff,
								 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0};
	const uint8_t zero[] = {0, 0, 0, 0}, below[] = {0, 2, 1, 0}, twice[] = {0, 3, 0, 0};
	struct run r;

	(void)state;
	assert_err(runs_decode(longer, sizeof(longer), 0, 1, 1, &r), ERR_CORRUPT);
	assert_err(runs_decode(huge, sizeof(huge), 0, 1, 1, &r), ERR_CORRUPT);
	assert_err(runs_decode(zero, sizeof(zero), 0, 0, 1, &r), ERR_CORRUPT);
	assert_err(runs_decode(below, sizeof(below), 0, 1, 1, &r), ERR_CORRUPT);
	assert_err(runs_decode(twice, sizeof(twice), 0, 1, 1, &r), ERR_CORRUPT);
}

static void test_runlist__runs_grow_repeat_and_fill_blocks(void **state)
{
	struct runlist l = {0};
	struct run *out;
	uint64_t covered = 0;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) /* one run */
		assert_ok(runlist_add(&l, i, 0, 50 + i));
	for (uint32_t i = 1000; i < 3000; i++) /* one repeated page */
		assert_ok(runlist_add(&l, i, 0, 7));
	for (uint32_t i = 3000; i < 30000; i++) /* no two belong together */
		assert_ok(runlist_add(&l, 2ull * i, i % 3, i * 2654435761u >> 17));
	assert_ok(runlist_finish(&l));
	assert_int_equal(l.pages, 30000);
	assert_true(l.blocks > 1);
	out = malloc(RUNS_BLOCK_MAX / 4 * sizeof(*out));
	for (uint32_t b = 0, at = 0; b < l.blocks; at += l.block[b++].bytes) {
		assert_true(l.block[b].bytes <= RUNS_BLOCK_MAX);
		assert_ok(runs_decode(l.data.data + at, l.block[b].bytes, l.block[b].first,
				      l.block[b].end, l.block[b].runs, out));
		for (uint32_t i = 0; i < l.block[b].runs; i++)
			covered += out[i].count;
		if (b == 0) {
			assert_int_equal(out[0].count, 1000);
			assert_int_equal(out[1].count, 2000);
			assert_true(out[1].repeat);
		}
	}
	assert_int_equal(covered, 30000);
	free(out);
	runlist_fini(&l);
}

static void test_dedup__finds_what_was_added_and_nothing_else(void **state)
{
	struct dedup d = {0};
	struct digest x;
	uint32_t pack, slot;

	(void)state;
	assert_false(dedup_find(&d, &(struct digest){{1}}, &pack, &slot));
	for (uint32_t i = 0; i < 50000; i++) {
		digest_of(&i, sizeof(i), &x);
		assert_ok(dedup_add(&d, &x, i / 1000, i % 1000));
	}
	for (uint32_t i = 0; i < 100000; i++) {
		digest_of(&i, sizeof(i), &x);
		assert_int_equal(dedup_find(&d, &x, &pack, &slot), i < 50000);
		if (i < 50000)
			assert_int_equal(pack * 1000 + slot, i);
	}
	dedup_fini(&d);
}

/* A manifest with everything in it. */
static void example(struct manifest *m, struct manifest_stream *s, struct pack_ref *p,
		    struct manifest_block *b)
{
	memset(m, 0, sizeof(*m));
	memset(s, 0, 2 * sizeof(*s));
	memset(p, 0, sizeof(*p));
	memset(b, 0, sizeof(*b));
	strcpy(m->info.name, "web");
	strcpy(m->info.label, "before the upgrade");
	m->info.number = 12;
	strcpy(m->info.parent.name, "web-blue");
	m->info.parent.number = 7;
	memset(&m->info.parent.digest, 0x5a, sizeof(m->info.parent.digest));
	strcpy(m->info.origin.name, "db");
	m->info.origin.number = 1;
	memset(&m->info.origin.digest, 0xa5, sizeof(m->info.origin.digest));
	strcpy(s[0].info.name, "ram");
	s[0].info.length = 1 << 20;
	s[0].nonzero_pages = 9;
	s[0].blocks = 1;
	strcpy(s[1].info.name, "state");
	s[1].info.length = 77;
	p->dir_offset = 2048;
	p->slots = 16;
	p->dir_bytes = 40 + 16 + 16 * 32;
	*b = (struct manifest_block){.first = 3, .end = 12, .bytes = 4, .runs = 1};
	m->n_streams = 2;
	m->n_packs = m->n_blocks = 1;
	m->stream = s;
	m->pack = p;
	m->block = b;
}

static void test_manifest__comes_back_and_refuses_any_change(void **state)
{
	AUTO_BUF struct buf b = {0};
	struct manifest_stream s[2];
	struct manifest_block block;
	struct pack_ref p;
	struct manifest m, back;
	struct crypt *crypt;

	(void)state;
	assert_ok(crypt_create_plain((const uint8_t[16]){1}, &crypt));
	example(&m, s, &p, &block);
	assert_ok(manifest_prepare(&m, crypt));
	assert_ok(manifest_encode(&m, &b));
	assert_ok(manifest_decode(b.data, b.len, crypt, &back));
	assert_memory_equal(&back.info.digest, &m.info.digest, sizeof(m.info.digest));
	assert_string_equal(back.info.label, "before the upgrade");
	assert_string_equal(back.info.parent.name, "web-blue");
	assert_string_equal(back.info.origin.name, "db");
	assert_int_equal(back.info.origin.digest.b[31], 0xa5);
	assert_int_equal(back.info.parent.number, 7);
	assert_memory_equal(&back.info.parent.digest, &m.info.parent.digest, DIGEST_BYTES);
	assert_int_equal(back.info.logical_bytes, (1 << 20) + 77);
	assert_string_equal(back.stream[1].info.name, "state");
	assert_true(pack_ref_equal(&back.pack[0], &p));
	assert_int_equal(back.file_bytes, b.len + 4);
	manifest_fini(&back);
	for (size_t bit = 0; bit < b.len * 8; bit++) {
		b.data[bit / 8] = (uint8_t)(b.data[bit / 8] ^ 1u << bit % 8);
		assert_err(manifest_decode(b.data, b.len, crypt, &back), ERR_CORRUPT);
		b.data[bit / 8] = (uint8_t)(b.data[bit / 8] ^ 1u << bit % 8);
	}
	for (size_t len = 0; len < b.len; len++)
		assert_err(manifest_decode(b.data, len, crypt, &back), ERR_CORRUPT);
	crypt_destroy(crypt);
}

/* Changes that carry a right digest: made by somebody hostile. */
static void test_manifest__contradictions_are_refused(void **state)
{
	struct manifest_stream s[2];
	struct manifest_block block;
	struct pack_ref p;
	struct manifest m, back;
	struct crypt *crypt;

	(void)state;
	assert_ok(crypt_create_plain((const uint8_t[16]){1}, &crypt));
	for (int i = 0; i < 16; i++) {
		AUTO_BUF struct buf b = {0};

		example(&m, s, &p, &block);
		switch (i) {
		case 0: block.end = 257; break;
		case 1: block.first = 12; break;
		case 2: block.runs = 2; break;
		case 3: block.runs = 0; break;
		case 4: block.bytes = RUNS_BLOCK_MAX + 1; break;
		case 5: s[0].blocks = 2; break;
		case 6: strcpy(s[1].info.name, "ram"); break;
		case 7: strcpy(s[1].info.name, "../x"); break;
		case 8: s[0].nonzero_pages = 257; break;
		case 9: p.slots = PACK_PAGES + 1; break;
		case 10: p.dir_offset = 2049; break;
		case 11: m.info.parent.number = 0; break;
		case 12: memset(m.info.parent.name, 0, sizeof(m.info.parent.name)); break;
		case 13: memset(&m.info.parent.digest, 0, DIGEST_BYTES); break;
		case 14: p.epoch = 1; break;
		default: s[0].info.length = MANIFEST_LENGTH_MAX + 1; break;
		}
		assert_ok(manifest_prepare(&m, crypt));
		assert_ok(manifest_encode(&m, &b));
		assert_err(manifest_decode(b.data, b.len, crypt, &back), ERR_CORRUPT);
	}
	crypt_destroy(crypt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout__names_parse_to_what_made_them),
		cmocka_unit_test(test_record__any_flipped_bit_is_seen),
		cmocka_unit_test(test_group__any_number_of_pages_comes_back),
		cmocka_unit_test(test_group__incompressible_pages_are_stored_as_they_are),
		cmocka_unit_test(test_runs__random_runs_come_back),
		cmocka_unit_test(test_runs__other_spellings_are_refused),
		cmocka_unit_test(test_runlist__runs_grow_repeat_and_fill_blocks),
		cmocka_unit_test(test_dedup__finds_what_was_added_and_nothing_else),
		cmocka_unit_test(test_manifest__comes_back_and_refuses_any_change),
		cmocka_unit_test(test_manifest__contradictions_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
