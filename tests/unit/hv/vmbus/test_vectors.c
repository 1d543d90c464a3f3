/* SPDX-License-Identifier: Apache-2.0 */
/* test_vectors: what really passed between a host and a stock guest, 213 messages and
 * packets, against our parsers and our own messages.
 *
 * vectors.txt was recorded from one run of Debian 12 (6.1, 2 vCPUs) on a trial host: a line
 * "DIRECTION message TYPE NAME len=N" or "DIRECTION packet DEVICE subK [#I] len=N", then up to
 * 320 bytes as words of 8 hexadecimal digits.  Packets begin with their descriptor.  Page
 * numbers and transaction ids are those of that run. */
#include <ctype.h>
#include <stdio.h>

#include "hv/vsp/heartbeat.h"
#include "hv/vsp/shutdown.h"
#include "hv/vsp/timesync.h"
#include "tests/unit/hv/vmbus/bed.h"

struct vector {
	char from[16], kind[16], name[24];
	unsigned type, sub, len; /* len: as it was; */
	uint8_t p[320];
	size_t bytes; /* as it is recorded */
};

static struct vector vectors[256];
static unsigned count;

static void read_header(const char *line, struct vector *v)
{
	const char *len = strstr(line, "len=");

	assert_non_null(len);
	v->len = (unsigned)strtoul(len + 4, NULL, 10);
	if (sscanf(line, "%15s message %u %23s", v->from, &v->type, v->name) == 3)
		strcpy(v->kind, "message");
	else if (sscanf(line, "%15s packet %23s sub%u", v->from, v->name, &v->sub) == 3)
		strcpy(v->kind, "packet");
	else
		fail_msg("what is this: %s", line);
}

static void read_bytes(const char *line, struct vector *v)
{
	char two[3] = "";

	while (*line) {
		if (!isxdigit((unsigned char)*line)) {
			line++;
			continue;
		}
		memcpy(two, line, 2);
		assert_true(v->bytes < sizeof(v->p));
		v->p[v->bytes++] = (uint8_t)strtoul(two, NULL, 16);
		line += 2;
	}
}

static int load(void **state)
{
	FILE *f = fopen(VECTORS, "r");
	char line[512];

	(void)state;
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "END", 3))
			break;
		if (line[0] != ' ' && line[0] != '\n')
			read_header(line, &vectors[count++]);
		else if (count > 0)
			read_bytes(line, &vectors[count - 1]);
	}
	fclose(f);
	return 0;
}

static bool is(const struct vector *v, const char *from, const char *kind)
{
	return !strcmp(v->from, from) && !strcmp(v->kind, kind);
}

static void test_vectors__all_are_there(void **state)
{
	(void)state;
	assert_int_equal(count, 213);
	for (unsigned i = 0; i < count; i++) {
		const struct vector *v = &vectors[i];

		assert_int_equal(v->bytes, v->len < 320 ? v->len : 320);
		if (!strcmp(v->kind, "message"))
			assert_int_equal(le32_get(v->p), v->type);
	}
}

/* Every packet, of storage and network too, is one for us. */
static void test_vectors__packets_parse(void **state)
{
	struct packet_range ranges[64];
	struct memory *m;
	unsigned packets = 0, direct = 0;

	(void)state;
	assert_ok(memory_create(1ull << 30, &m));
	for (unsigned i = 0; i < count; i++) {
		const struct vector *v = &vectors[i];
		uint8_t whole[4096] = {0};
		struct packet p;
		uint64_t total;
		size_t n;

		if (strcmp(v->kind, "packet") != 0)
			continue;
		memcpy(whole, v->p, v->bytes);
		assert_ok(packet_parse(whole, v->len, &p));
		assert_int_equal(SPEC_DESCRIPTOR_BYTES + p.header_bytes + p.bytes, v->len);
		assert_ok(packet_ranges(&p, m, 1 << 20, ranges, 64, &n, &total));
		direct += n > 0;
		packets++;
	}
	assert_in_range(packets, 100, 213);
	assert_in_range(direct, 10, packets);
	memory_destroy(m);
}

/* ---- the guest's half of the run, played to our bus ---- */

struct run {
	struct bed bed;
	struct shutdown *shutdown;
	struct timesync *timesync;
	struct heartbeat *heartbeat;
	bool healthy;
};

static void on_refused(void *arg, uint32_t status)
{
	(void)arg, (void)status;
}

static void on_healthy(void *arg, bool healthy)
{
	((struct run *)arg)->healthy = healthy;
}

static void on_now(void *arg, uint64_t *real_ns, uint64_t *reference)
{
	(void)arg;
	*real_ns = 1000000000ull * 1764000000;
	*reference = 0x2770b0a8;
}

static void open_run(struct run *r)
{
	memset(r, 0, sizeof(*r));
	bed_open(&r->bed);
	assert_ok(shutdown_create(r->bed.bus, on_refused, r, &r->shutdown));
	assert_ok(timesync_create(r->bed.bus, &(struct timesync_host){NULL, on_now, r},
				  &r->timesync));
	assert_ok(heartbeat_create(r->bed.bus, NULL, on_healthy, r, &r->heartbeat));
	vmbus_resume(r->bed.bus);
	bed_synic_on(&r->bed);
}

static void close_run(struct run *r)
{
	bed_detach(&r->bed);
	heartbeat_destroy(r->heartbeat);
	timesync_destroy(r->timesync);
	shutdown_destroy(r->shutdown);
	memory_destroy(r->bed.memory);
}

static const struct vector *first(const char *from, const char *kind, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (is(&vectors[i], from, kind) && !strcmp(vectors[i].name, name))
			return &vectors[i];
	fail_msg("no %s %s %s", from, kind, name);
	return NULL;
}

/* Contact and offers: what we say is byte for byte what was said then. */
static void test_vectors__connection_and_offers_are_the_same(void **state)
{
	struct run r;
	uint8_t m[240];
	unsigned offer = 0;

	(void)state;
	open_run(&r);
	bed_post(&r.bed, first("guest->host", "message", "INITIATE_CONTACT")->p, 40);
	assert_int_equal(bed_expect(&r.bed, 15, m), 16);
	assert_memory_equal(m, first("host->guest", "message", "VERSION_RESPONSE")->p, 16);
	bed_post(&r.bed, first("guest->host", "message", "REQUESTOFFERS")->p, 8);
	for (unsigned i = 0; i < count && offer < 3; i++) {
		if (!is(&vectors[i], "host->guest", "message") || vectors[i].type != 1)
			continue;
		assert_int_equal(bed_expect(&r.bed, 1, m), 196);
		assert_memory_equal(m, vectors[i].p, 196);
		offer++;
	}
	assert_int_equal(bed_expect(&r.bed, 4, m), 8);
	close_run(&r);
}

static unsigned next_packet(unsigned i, const char *from, const char *name)
{
	while (!(is(&vectors[i], from, "packet") && !strcmp(vectors[i].name, name)))
		assert_true(++i < count);
	return i;
}

/* A service's channel opened, and the first `n` packets of the host compared; each is
 * answered by what the guest answered. */
static void converse(struct run *r, unsigned number, const char *name, unsigned n)
{
	uint32_t relid[3];
	struct bed_ring ring;
	uint8_t p[8192];
	unsigned host = 0, guest = 0;

	assert_int_equal(bed_connect(&r->bed, relid), 3);
	bed_open_channel(&r->bed, relid[number], 4, 1, &ring);
	for (; n > 0; n--, host++, guest++) {
		host = next_packet(host, "host->guest", name);
		assert_int_equal(bed_receive(&r->bed, &ring, p), vectors[host].len);
		/* The time is another one. */
		assert_memory_equal(p, vectors[host].p,
				    strcmp(name, "timesync") ? vectors[host].bytes : 44);
		guest = next_packet(guest, "guest->host", name);
		bed_write(&r->bed, &ring, vectors[guest].p, vectors[guest].len);
		assert_ok(vmbus_signal(r->bed.bus, 0x2000 + relid[number]));
		vmbus_work(r->bed.bus);
		if (!strcmp(name, "heartbeat"))
			heartbeat_beat(r->heartbeat);
	}
}

static void test_vectors__heartbeats_are_the_same(void **state)
{
	struct heartbeat_info info;
	struct run r;

	(void)state;
	open_run(&r);
	converse(&r, 2, "heartbeat", 4);
	heartbeat_info(r.heartbeat, &info);
	assert_true(info.ready && info.healthy && r.healthy);
	assert_int_equal(info.version, 3 << 16);
	assert_true(info.answers >= 2);
	close_run(&r);
}

static void test_vectors__time_is_told_the_same_way(void **state)
{
	struct timesync_info info;
	struct run r;

	(void)state;
	open_run(&r);
	converse(&r, 1, "timesync", 2);
	timesync_info(r.timesync, &info);
	assert_true(info.ready);
	assert_int_equal(info.version, 4 << 16);
	assert_int_equal(info.syncs, 1);
	close_run(&r);
}

static void test_vectors__shutdown_negotiates_the_same_way(void **state)
{
	struct shutdown_info info;
	struct run r;

	(void)state;
	open_run(&r);
	assert_err(shutdown_request(r.shutdown, false), ERR_GUEST);
	converse(&r, 0, "shutdown", 1);
	shutdown_info(r.shutdown, &info);
	assert_true(info.ready);
	assert_int_equal(info.version, 3 << 16 | 2);
	assert_ok(shutdown_request(r.shutdown, false));
	assert_err(shutdown_request(r.shutdown, false), ERR_BUSY);
	close_run(&r);
}

/* All that the guest ever posted and sent, at once and in order, to a bus that has other
 * devices: nothing of it is taken for a violation that it is not. */
static void test_vectors__the_whole_run_does_no_harm(void **state)
{
	struct run r;
	uint8_t m[240];

	(void)state;
	open_run(&r);
	for (unsigned i = 0; i < count; i++) {
		if (!is(&vectors[i], "guest->host", "message"))
			continue;
		bed_post(&r.bed, vectors[i].p, vectors[i].len);
		while (bed_take(&r.bed, 0, m) >= 0)
			;
	}
	close_run(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors__all_are_there),
		cmocka_unit_test(test_vectors__packets_parse),
		cmocka_unit_test(test_vectors__connection_and_offers_are_the_same),
		cmocka_unit_test(test_vectors__heartbeats_are_the_same),
		cmocka_unit_test(test_vectors__time_is_told_the_same_way),
		cmocka_unit_test(test_vectors__shutdown_negotiates_the_same_way),
		cmocka_unit_test(test_vectors__the_whole_run_does_no_harm),
	};

	return cmocka_run_group_tests(tests, load, NULL);
}
