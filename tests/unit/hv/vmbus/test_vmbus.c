/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmbus: what a guest and a provider rely on: connection, offers, page lists,
 * channels that open, close and move, and a checkpoint that nobody notices. */
#include "tests/unit/hv/vmbus/echo.h"

struct fixture {
	struct bed bed;
	struct echo a, b;
	uint32_t relid[16];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	bed_open(&f->bed);
	echo_add(&f->bed, &f->a, 1, 3);
	echo_add(&f->bed, &f->b, 2, 0);
	vmbus_resume(f->bed.bus);
	bed_synic_on(&f->bed);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	bed_close(&f->bed);
	free(f);
	return 0;
}

static void connect_all(struct fixture *f)
{
	assert_int_equal(bed_connect(&f->bed, f->relid), 2);
}

static bool echoes(struct fixture *f, struct bed_ring *r, uint32_t relid, uint64_t transaction)
{
	static const char text[] = "how are you?";
	uint8_t p[8192];
	size_t len;

	bed_send(&f->bed, r, relid, 6, transaction, text, sizeof(text));
	if ((len = bed_receive(&f->bed, r, p)) == 0)
		return false;
	assert_int_equal(le16_get(p), 11);
	assert_true(le64_get(p + 8) == transaction);
	assert_int_equal(len, 32);
	assert_memory_equal(p + 16, text, sizeof(text));
	return true;
}

/* ---- connection ---- */

static void test_vmbus__versions_from_4_0_to_5_3_are_taken(void **state)
{
	static const uint32_t good[] = {4 << 16, 4 << 16 | 1, 5 << 16, 5 << 16 | 1, 5 << 16 | 2,
					5 << 16 | 3};
	static const uint32_t bad[] = {0, 13, 1 << 16 | 1, 2 << 16 | 4, 3 << 16, 4 << 16 | 2,
				       5 << 16 | 4, 6 << 16, UINT32_MAX};
	struct fixture *f = *state;
	struct vmbus_info info;

	for (unsigned i = 0; i < 6; i++) {
		assert_true(bed_contact(&f->bed, good[i]));
		vmbus_info(f->bed.bus, &info);
		assert_true(info.connected && info.version == good[i]);
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(bed_contact(&f->bed, bad[i]));
		vmbus_info(f->bed.bus, &info);
		assert_false(info.connected);
	}
}

static void test_vmbus__messages_go_to_the_connection_that_was_told(void **state)
{
	uint8_t m[8] = {3};
	struct fixture *f = *state;

	assert_err(vmbus_post(f->bed.bus, 2, 1, m, 8), ERR_NOTFOUND);
	assert_err(vmbus_post(f->bed.bus, 0x2001, 1, m, 8), ERR_NOTFOUND);
	assert_err(vmbus_post(f->bed.bus, 4, 2, m, 8), ERR_USAGE);
	assert_ok(vmbus_post(f->bed.bus, 1, 1, m, 8));
}

static void test_vmbus__offers_are_made_once(void **state)
{
	struct fixture *f = *state;
	uint8_t m[240];

	connect_all(f);
	assert_int_not_equal(f->relid[0], f->relid[1]);
	bed_words(&f->bed, 3, 0, 0, 0);
	assert_int_equal(bed_expect(&f->bed, 4, m), 8);
	bed_nothing(&f->bed);
}

static void test_vmbus__before_a_contact_nothing_is_answered(void **state)
{
	struct fixture *f = *state;

	for (uint32_t type = 0; type < 30; type++)
		if (type != 14 && type != 16)
			bed_words(&f->bed, type, 2, 1, 1);
	bed_nothing(&f->bed);
}

/* ---- page lists ---- */

static void test_vmbus__long_page_lists_come_in_pieces(void **state)
{
	struct fixture *f = *state;
	uint64_t page[3000];

	connect_all(f);
	for (unsigned i = 0; i < 3000; i++)
		page[i] = 0x1000 * (1 + (uint64_t)i * 7 % 4000);
	assert_int_equal(bed_gpadl(&f->bed, f->relid[0], 1, page, 26), 0);
	assert_int_equal(bed_gpadl(&f->bed, f->relid[0], 2, page, 27), 0);
	assert_int_equal(bed_gpadl(&f->bed, f->relid[0], 3, page, 3000), 0);
}

static void test_vmbus__bad_page_lists_are_refused(void **state)
{
	struct fixture *f = *state;
	uint64_t page[2] = {0x1000, MEMORY_MIN_BYTES}; /* beyond RAM */
	uint8_t m[240] = {0};

	connect_all(f);
	assert_int_not_equal(bed_gpadl(&f->bed, f->relid[0], 1, page, 2), 0);
	page[1] = 0x2000;
	assert_int_equal(bed_gpadl(&f->bed, f->relid[0], 1, page, 2), 0);
	assert_int_not_equal(bed_gpadl(&f->bed, f->relid[0], 1, page, 2), 0); /* twice */
	assert_int_not_equal(bed_gpadl(&f->bed, 99, 2, page, 2), 0); /* no such channel */
	le32_put(m, 8);
	le32_put(m + 8, f->relid[0]);
	le16_put(m + 16, 16);
	le16_put(m + 18, 2); /* ranges */
	le32_put(m + 20, 4096);
	bed_post(&f->bed, m, 36);
	assert_int_equal(bed_expect(&f->bed, 10, m), 20);
	assert_int_not_equal(le32_get(m + 16), 0);
}

static void test_vmbus__page_lists_have_an_end(void **state)
{
	struct fixture *f = *state;
	uint64_t page = 0x1000;
	uint32_t id = 1;

	connect_all(f);
	while (id < 5000 && bed_gpadl(&f->bed, f->relid[0], id, &page, 1) == 0)
		id++;
	assert_in_range(id, 500, 4999);
	bed_words(&f->bed, 11, 2, f->relid[0], 1); /* and after one is gone there is room */
	uint8_t m[240];
	assert_int_equal(bed_expect(&f->bed, 12, m), 12);
	assert_int_equal(bed_gpadl(&f->bed, f->relid[0], id + 1, &page, 1), 0);
}

/* ---- channels ---- */

static void test_vmbus__a_channel_opens_works_closes_and_opens_again(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;
	uint8_t m[240];

	connect_all(f);
	for (unsigned round = 1; round < 4; round++) {
		bed_open_channel(&f->bed, f->relid[0], 2, round, &r);
		assert_int_equal(f->a.opened, round);
		assert_int_equal(f->bed.listeners, 1);
		assert_int_equal(f->bed.listening[0], 0x2000 + f->relid[0]);
		for (unsigned i = 0; i < 500; i++)
			assert_true(echoes(f, &r, f->relid[0], i));
		assert_true(bed_event(&f->bed, round, f->relid[0]));
		bed_words(&f->bed, 7, 1, f->relid[0], 0);
		assert_int_equal(f->a.closed, round);
		assert_int_equal(f->bed.listeners, 0);
		bed_words(&f->bed, 11, 2, f->relid[0], r.gpadl);
		assert_int_equal(bed_expect(&f->bed, 12, m), 12);
		assert_err(vmbus_signal(f->bed.bus, 0x2000 + f->relid[0]), ERR_NOTFOUND);
	}
	bed_nothing(&f->bed);
}

static void test_vmbus__opens_that_make_no_sense_fail(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r, bad;

	connect_all(f);
	bed_rings(&f->bed, f->relid[0], 2, &r);
	for (uint32_t down = 0; down < 6; down++) {
		bad = r;
		bad.downstream = down;
		if (down != 2)
			assert_int_not_equal(bed_try_open(&f->bed, f->relid[0], &bad, 0), 0);
	}
	assert_int_not_equal(bed_try_open(&f->bed, f->relid[0], &r, BED_VCPUS), 0);
	assert_int_not_equal(bed_try_open(&f->bed, f->relid[1], &r, 0), 0); /* not its list */
	bed_put(&f->bed, r.page[0] + 4, 12); /* read index */
	assert_int_not_equal(bed_try_open(&f->bed, f->relid[0], &r, 0), 0);
	bed_put(&f->bed, r.page[0] + 4, 0);
	bad = r;
	bad.gpadl++;
	assert_int_not_equal(bed_try_open(&f->bed, f->relid[0], &bad, 0), 0);
	assert_int_equal(f->a.opened, 0);
	assert_int_equal(bed_try_open(&f->bed, f->relid[0], &r, 0), 0);
	assert_int_not_equal(bed_try_open(&f->bed, f->relid[0], &r, 0), 0); /* it is open */
}

static void test_vmbus__memory_comes_back_when_io_has_ended(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;
	uint8_t m[240];

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[0], 2, 0, &r);
	f->a.linger = true;
	bed_words(&f->bed, 7, 1, f->relid[0], 0);
	bed_words(&f->bed, 11, 2, f->relid[0], r.gpadl);
	bed_nothing(&f->bed);
	chan_closed(f->a.closing);
	vmbus_work(f->bed.bus);
	assert_int_equal(bed_expect(&f->bed, 12, m), 12);
}

static void test_vmbus__a_full_ring_holds_answers_back_in_order(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;
	uint8_t p[8192], text[1000] = {0};
	uint64_t sent = 0, got = 0;

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[0], 2, 0, &r);
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 3; i++) { /* 4 would not fit into the guest's own ring */
			le64_put(text, sent);
			bed_send(&f->bed, &r, f->relid[0], 6, sent++, text, sizeof(text));
		}
		while (bed_get(&f->bed, r.page[0]) != bed_get(&f->bed, r.page[0] + 4)) {
			/* The provider stopped reading because its answers do not fit. */
			assert_int_not_equal(bed_get(&f->bed, r.page[r.downstream] + 12), 0);
			while (bed_receive(&f->bed, &r, p)) {
				assert_true(le64_get(p + 8) == got);
				got++;
			}
			assert_ok(vmbus_signal(f->bed.bus, 0x2000 + f->relid[0]));
			vmbus_work(f->bed.bus);
		}
	}
	while (bed_receive(&f->bed, &r, p))
		assert_true(le64_get(p + 8) == got++);
	assert_true(got == sent);
}

static void test_vmbus__a_provider_may_pause_its_intake(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[0], 4, 0, &r);
	f->a.refuse = true;
	for (unsigned i = 0; i < 5; i++) {
		uint8_t packet[64];

		bed_write(&f->bed, &r, packet, bed_packet(packet, 6, i, "x", 1));
	}
	assert_ok(vmbus_signal(f->bed.bus, 0x2000 + f->relid[0]));
	vmbus_work(f->bed.bus);
	assert_int_equal(f->a.packets, 1);
	f->a.refuse = false;
	chan_kick(f->a.last);
	vmbus_work(f->bed.bus);
	assert_int_equal(f->a.packets, 5);
	assert_true(f->a.batches >= 2);
}

static void test_vmbus__a_channel_moves_to_another_processor(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;
	uint8_t m[240];

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[1], 2, 0, &r);
	bed_words(&f->bed, 22, 2, f->relid[1], 3);
	assert_int_equal(bed_expect(&f->bed, 24, m), 16);
	assert_int_equal(le32_get(m + 12), 0);
	assert_true(echoes(f, &r, f->relid[1], 1));
	assert_false(bed_event(&f->bed, 0, f->relid[1]));
	assert_true(bed_event(&f->bed, 3, f->relid[1]));
	bed_words(&f->bed, 22, 2, f->relid[1], BED_VCPUS);
	assert_int_equal(bed_expect(&f->bed, 24, m), 16);
	assert_int_not_equal(le32_get(m + 12), 0);
	assert_true(bed_contact(&f->bed, 5 << 16 | 2)); /* before 5.3 there is no answer */
	bed_words(&f->bed, 22, 2, 1, 1);
	bed_nothing(&f->bed);
}

static void test_vmbus__subchannels_come_and_go_with_their_primary(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r, sub;
	uint32_t relid[3] = {0};
	uint8_t m[240];

	connect_all(f);
	for (unsigned round = 0; round < 3; round++) {
		bed_open_channel(&f->bed, f->relid[0], 2, 0, &r);
		chan_offer_more(f->a.primary, 3);
		vmbus_work(f->bed.bus);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(bed_expect(&f->bed, 1, m), 196);
			assert_memory_equal(m + 24, f->a.provider.instance_id, 16);
			assert_int_equal(le16_get(m + 180), i + 1);
			relid[i] = le32_get(m + 184);
		}
		bed_open_channel(&f->bed, relid[1], 2, 1, &sub);
		assert_int_equal(chan_index(f->a.last), 2);
		assert_true(echoes(f, &sub, relid[1], 5));
		bed_words(&f->bed, 7, 1, relid[1], 0);
		bed_words(&f->bed, 11, 2, relid[1], sub.gpadl);
		assert_int_equal(bed_expect(&f->bed, 12, m), 12);
		bed_words(&f->bed, 7, 1, f->relid[0], 0);
		bed_words(&f->bed, 11, 2, f->relid[0], r.gpadl);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(bed_expect(&f->bed, 2, m), 12);
		assert_int_equal(bed_expect(&f->bed, 12, m), 12);
		for (unsigned i = 0; i < 3; i++)
			bed_words(&f->bed, 13, 1, relid[i], 0);
		bed_nothing(&f->bed);
	}
}

static void test_vmbus__removed_devices_are_rescinded_and_released(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;
	uint32_t old;
	uint8_t m[240];

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[0], 2, 0, &r);
	vmbus_withdraw(f->a.primary);
	assert_int_equal(bed_expect(&f->bed, 2, m), 12);
	assert_int_equal(le32_get(m + 8), f->relid[0]);
	bed_words(&f->bed, 7, 1, f->relid[0], 0);
	vmbus_offer(f->a.primary); /* not before the guest has released the old one */
	vmbus_work(f->bed.bus);
	bed_nothing(&f->bed);
	old = f->relid[0];
	bed_words(&f->bed, 13, 1, old, 0); /* no teardown of its page lists: they are dropped */
	assert_int_equal(bed_expect(&f->bed, 1, m), 196);
	assert_int_not_equal(le32_get(m + 184), old);
	f->relid[0] = le32_get(m + 184);
	assert_int_equal(bed_gpadl(&f->bed, f->relid[0], r.gpadl, r.page, r.pages), 0);
}

/* ---- starting anew ---- */

static void test_vmbus__unload_drops_what_is_on_its_way(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;
	uint8_t m[240] = {3};

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[0], 2, 0, &r);
	for (unsigned i = 0; i < 10; i++)
		bed_post(&f->bed, m, 8); /* ten answers wait */
	le32_put(m, 16);
	bed_post(&f->bed, m, 8);
	assert_int_equal(f->a.closed, 1);
	assert_int_equal(f->bed.listeners, 0);
	assert_int_equal(bed_expect(&f->bed, 4, m), 8); /* was in the slot already */
	assert_int_equal(bed_expect(&f->bed, 17, m), 8);
	bed_words(&f->bed, 13, 1, f->relid[0], 0); /* as rmmod does */
	bed_nothing(&f->bed);
	connect_all(f);
	bed_open_channel(&f->bed, f->relid[0], 2, 0, &r);
	assert_true(echoes(f, &r, f->relid[0], 1));
}

static void test_vmbus__a_contact_out_of_nothing_is_a_new_start(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;

	for (unsigned i = 0; i < 5; i++) {
		connect_all(f);
		bed_open_channel(&f->bed, f->relid[0], 2, 0, &r);
		bed_open_channel(&f->bed, f->relid[1], 2, 1, &r);
		assert_true(echoes(f, &r, f->relid[1], 1));
		f->bed.next_gpadl = 0xE1E10;
	}
	assert_int_equal(f->a.closed, 4);
	assert_ok(vmbus_quiesce(f->bed.bus));
	vmbus_reset(f->bed.bus);
	assert_int_equal(f->bed.listeners, 0);
	assert_int_equal(f->a.resets, 1);
	vmbus_resume(f->bed.bus);
	connect_all(f);
}

static void test_vmbus__a_guest_that_does_not_read_is_told_to_wait(void **state)
{
	struct fixture *f = *state;
	uint8_t m[240] = {3};
	unsigned posts = 0, answers = 0;

	connect_all(f);
	while (posts < 5000 && bed_try_post(&f->bed, m, 8) == ERR_OK) {
		vmbus_work(f->bed.bus);
		posts++;
	}
	assert_in_range(posts, 64, 2000);
	while (bed_take(&f->bed, 0, m) >= 0)
		answers++;
	assert_int_equal(answers, posts);
}

/* ---- checkpoints ---- */

static void move(struct fixture *from, struct fixture *to)
{
	struct state_out *out;
	struct state_file *file;
	const uint8_t *p;
	size_t len;

	assert_ok(vmbus_quiesce(from->bed.bus));
	assert_ok(state_out_create(&out));
	synic_save(from->bed.synic, out);
	assert_ok(vmbus_save(from->bed.bus, out));
	assert_ok(state_out_finish(out, &p, &len));
	bed_attach(&to->bed, from->bed.memory);
	to->bed.next_page = from->bed.next_page;
	memcpy(to->relid, from->relid, sizeof(to->relid));
	echo_add(&to->bed, &to->a, 1, 3);
	echo_add(&to->bed, &to->b, 2, 0);
	assert_ok(state_open(p, len, &file));
	assert_ok(synic_load(to->bed.synic, file));
	assert_ok(vmbus_load(to->bed.bus, file));
	state_close(file);
	state_out_destroy(out);
	vmbus_resume(to->bed.bus);
	vmbus_work(to->bed.bus);
}

static void test_vmbus__a_checkpoint_is_not_noticed(void **state)
{
	struct fixture *f = *state, next = {0};
	struct bed_ring r;
	uint8_t m[240] = {3}, p[8192], text[1000] = {0};
	unsigned got = 0;

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[0], 2, 2, &r);
	f->bed.next_gpadl = 100;
	for (unsigned i = 0; i < 3; i++)
		bed_post(&f->bed, m, 8); /* messages wait */
	for (unsigned i = 0; i < 6; i++) /* answers wait, and packets that nobody read */
		bed_send(&f->bed, &r, f->relid[0], 6, i, text, i < 3 ? sizeof(text) : 16);
	move(f, &next);
	assert_int_equal(next.bed.listeners, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(bed_expect(&next.bed, 4, m), 8);
	bed_nothing(&next.bed);
	for (unsigned i = 0; i < 4; i++) {
		while (bed_receive(&next.bed, &r, p))
			assert_true(le64_get(p + 8) == got++);
		assert_ok(vmbus_signal(next.bed.bus, 0x2000 + next.relid[0]));
		vmbus_work(next.bed.bus);
	}
	assert_int_equal(got, 6);
	assert_true(echoes(&next, &r, next.relid[0], 77));
	bed_words(&next.bed, 7, 1, next.relid[0], 0);
	assert_int_equal(next.a.closed, 1);
	bed_detach(&next.bed);
}

static void test_vmbus__a_quiesce_that_fails_leaves_all_running(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[1], 2, 2, &r);
	f->a.quiesce_fails = true;
	assert_err(vmbus_quiesce(f->bed.bus), ERR_BUSY);
	assert_int_equal(f->a.resumes, 1);
	assert_int_equal(f->b.resumes, 2);
	assert_true(echoes(f, &r, f->relid[1], 1));
}

static void test_vmbus__while_quiet_no_packet_is_taken(void **state)
{
	struct fixture *f = *state;
	struct bed_ring r;

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[1], 2, 2, &r);
	assert_ok(vmbus_quiesce(f->bed.bus));
	bed_send(&f->bed, &r, f->relid[1], 6, 1, "x", 1);
	assert_int_equal(f->b.packets, 0);
	vmbus_resume(f->bed.bus);
	vmbus_work(f->bed.bus);
	assert_int_equal(f->b.packets, 1);
}

/* ---- hostile ---- */

static void test_vmbus__a_broken_ring_breaks_only_its_channel(void **state)
{
	static const struct {
		uint16_t offset8, len8;
		uint32_t index; /* 0: as it should be */
	} cases[] = {{0, 3, 0},	 {1, 3, 0}, {4, 3, 0}, {2, 1, 0},     {2, 0, 0},
		     {2, 100, 0}, {2, 3, 4}, {2, 3, 8}, {2, 3, 0xFFFFFFF8}, {2, 3, 4096}};
	struct fixture *f = *state;
	struct bed_ring good, bad;

	connect_all(f);
	bed_open_channel(&f->bed, f->relid[1], 2, 0, &good);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t packet[64];

		bed_open_channel(&f->bed, f->relid[0], 2, 0, &bad);
		bed_packet(packet, 6, 1, "x", 1);
		le16_put(packet + 2, cases[i].offset8);
		le16_put(packet + 4, cases[i].len8);
		bed_write(&f->bed, &bad, packet, 24);
		if (cases[i].index)
			bed_put(&f->bed, bad.page[0], cases[i].index);
		assert_ok(vmbus_signal(f->bed.bus, 0x2000 + f->relid[0]));
		vmbus_work(f->bed.bus);
		assert_int_equal(f->a.packets, 0);
		assert_true(echoes(f, &good, f->relid[1], i));
		bed_words(&f->bed, 7, 1, f->relid[0], 0);
	}
	bed_open_channel(&f->bed, f->relid[0], 2, 0, &bad);
	assert_true(echoes(f, &bad, f->relid[0], 1)); /* opened anew, it works */
}

static void test_vmbus__short_messages_do_no_harm(void **state)
{
	struct fixture *f = *state;
	uint8_t m[240];

	connect_all(f);
	for (uint32_t type = 0; type < 40; type++)
		for (size_t len = 0; len <= 240; len += 3) {
			memset(m, 0xff, sizeof(m));
			le32_put(m, type);
			if (type == 14 || type == 16)
				continue;
			bed_post(&f->bed, m, len);
			while (bed_take(&f->bed, 0, m) >= 0)
				;
		}
	assert_int_equal(f->a.opened, 0);
	connect_all(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_vmbus__##name, setup, teardown)
		T(versions_from_4_0_to_5_3_are_taken),
		T(messages_go_to_the_connection_that_was_told),
		T(offers_are_made_once),
		T(before_a_contact_nothing_is_answered),
		T(long_page_lists_come_in_pieces),
		T(bad_page_lists_are_refused),
		T(page_lists_have_an_end),
		T(a_channel_opens_works_closes_and_opens_again),
		T(opens_that_make_no_sense_fail),
		T(memory_comes_back_when_io_has_ended),
		T(a_full_ring_holds_answers_back_in_order),
		T(a_provider_may_pause_its_intake),
		T(a_channel_moves_to_another_processor),
		T(subchannels_come_and_go_with_their_primary),
		T(removed_devices_are_rescinded_and_released),
		T(unload_drops_what_is_on_its_way),
		T(a_contact_out_of_nothing_is_a_new_start),
		T(a_guest_that_does_not_read_is_told_to_wait),
		T(a_checkpoint_is_not_noticed),
		T(a_quiesce_that_fails_leaves_all_running),
		T(while_quiet_no_packet_is_taken),
		T(a_broken_ring_breaks_only_its_channel),
		T(short_messages_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
