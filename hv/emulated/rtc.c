/* SPDX-License-Identifier: Apache-2.0 */
/* rtc: MC146818 clock and 128 bytes of CMOS storage.
 *
 * The time of day is not counted, it is worked out at each read: the host's wall
 * clock plus an offset.  While the guest holds the clock (SET, or the divider chain
 * in reset) the ten time registers are plain bytes that it may change one by one;
 * on letting go they are taken as the new time, and only the offset is kept.
 *
 * States: RUNNING (time registers in ram[] are 0 and unused) -[SET or divider
 * reset]-> HELD (they hold the time as the guest sees it) -[both gone]-> RUNNING
 *
 * Not offered: alarm and periodic flags and any interrupt (IRQ 8 is not wired); the
 * day of the week follows from the date and cannot be set on its own.
 *
 * Source: Motorola MC146818 data sheet; century byte 0x32 as in the PC/AT. */
#include "hv/emulated/rtc.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
	PORT_INDEX = 0,
	PORT_DATA = 1,

	REG_SECOND = 0x00,
	REG_MINUTE = 0x02,
	REG_HOUR = 0x04,
	REG_WEEKDAY = 0x06,
	REG_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_CENTURY = 0x32,

	A_UPDATING = 1 << 7,
	A_DIVIDER_RESET = 3 << 5, /* both bits: oscillator's divider held */
	A_POWER_ON = 0x26,	  /* 32768 Hz, 1024 Hz periodic rate */

	B_SET = 1 << 7,
	B_UPDATE_IRQ = 1 << 4,
	B_BINARY = 1 << 2,
	B_24_HOURS = 1 << 1,
	B_POWER_ON = B_24_HOURS,

	C_IRQ = 1 << 7,
	C_UPDATE_ENDED = 1 << 4,
	D_POWER_GOOD = 1 << 7,

	HOUR_PM = 1 << 7,
	CMOS_BYTES = 128,

	/* An update takes 1984 us and is announced 244 us ahead. */
	UPDATE_NS = 2228000,
};

#define SECONDS_MIN (-62167219200)  /* 0000-01-01 */
#define SECONDS_MAX (253402300799)  /* 9999-12-31 23:59:59 */
#define SECONDS_PER_DAY 86400

enum {
	TAG_INDEX = 1,
	TAG_CMOS,
	TAG_OFFSET_S,
	TAG_OFFSET_NS,
	TAG_UPDATE_ENDED,
};

static const struct state_field fields[] = {
	{TAG_INDEX, STATE_U8, false, "index"},
	{TAG_CMOS, STATE_BYTES, false, "cmos"},
	{TAG_OFFSET_S, STATE_U64, false, "wall_clock_offset_s"}, /* two's complement */
	{TAG_OFFSET_NS, STATE_U32, false, "wall_clock_offset_ns"},
	{TAG_UPDATE_ENDED, STATE_U8, false, "update_ended"},
};

const struct state_kind rtc_state_kind = {
	.kind = "rtc", .version = 1, .fields = fields, .count = sizeof(fields) / sizeof(*fields),
};

struct instant {
	int64_t s;
	uint32_t ns;
};

struct calendar {
	unsigned year, month, day, hour, minute, second, weekday; /* weekday 1 = Sunday */
};

struct rtc {
	struct device dev;
	uint64_t (*real_ns)(void);
	struct instant offset; /* what the guest's clock is ahead of the host's */
	int64_t c_read_s;      /* the second in which register C was read last */
	uint8_t index;
	uint8_t cmos[CMOS_BYTES];
};

static bool held(const uint8_t *cmos)
{
	return cmos[REG_B] & B_SET || (cmos[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
}

static struct instant rtc_now(const struct rtc *rtc)
{
	uint64_t real = rtc->real_ns();
	struct instant t = {
		.s = (int64_t)(real / NS_PER_SEC) + rtc->offset.s,
		.ns = (uint32_t)(real % NS_PER_SEC) + rtc->offset.ns,
	};

	if (t.ns >= NS_PER_SEC) {
		t.ns -= (uint32_t)NS_PER_SEC;
		t.s++;
	}
	if (t.s < SECONDS_MIN)
		t.s = SECONDS_MIN;
	if (t.s > SECONDS_MAX)
		t.s = SECONDS_MAX;
	return t;
}

/* ---- calendar ---- */

static bool leap(int64_t year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days from 0000-01-01 (Gregorian, counted backwards too) to January 1 of year. */
static int64_t days_before(int64_t year)
{
	if (year <= 0)
		return 365 * year;
	return 365 * year + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
}

static unsigned month_days(int64_t year, unsigned month)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return month == 2 && leap(year) ? 29 : days[month - 1];
}

static struct calendar calendar_of(int64_t s)
{
	int64_t days = (s - SECONDS_MIN) / SECONDS_PER_DAY;
	unsigned rest = (unsigned)((s - SECONDS_MIN) % SECONDS_PER_DAY);
	int64_t year = days / 366;
	struct calendar c = {.month = 1};

	c.weekday = (unsigned)((days + 6) % 7) + 1; /* 0000-01-01 was a Saturday */
	while (days_before(year + 1) <= days)
		year++;
	days -= days_before(year);
	for (; days >= month_days(year, c.month); c.month++)
		days -= month_days(year, c.month);
	c.year = (unsigned)year;
	c.day = (unsigned)days + 1;
	c.hour = rest / 3600;
	c.minute = rest / 60 % 60;
	c.second = rest % 60;
	return c;
}

/* Fields beyond their range carry over; a month that is none counts as the nearest. */
static int64_t seconds_of(const struct calendar *c)
{
	unsigned month = c->month < 1 ? 1 : c->month > 12 ? 12 : c->month;
	int64_t days = days_before(c->year) + (int64_t)c->day - 1;

	for (unsigned m = 1; m < month; m++)
		days += month_days(c->year, m);
	return SECONDS_MIN + days * SECONDS_PER_DAY + (int64_t)c->hour * 3600 +
	       (int64_t)c->minute * 60 + c->second;
}

/* ---- registers in the guest's chosen form ---- */

static uint8_t encode(const uint8_t *cmos, unsigned v)
{
	return (uint8_t)(cmos[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static unsigned decode(const uint8_t *cmos, uint8_t v)
{
	return cmos[REG_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15u);
}

static uint8_t encode_hour(const uint8_t *cmos, unsigned hour)
{
	if (cmos[REG_B] & B_24_HOURS)
		return encode(cmos, hour);
	return (uint8_t)(encode(cmos, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0));
}

static unsigned decode_hour(const uint8_t *cmos, uint8_t v)
{
	if (cmos[REG_B] & B_24_HOURS)
		return decode(cmos, v);
	return decode(cmos, v & (uint8_t)~HOUR_PM) % 12 + (v & HOUR_PM ? 12 : 0);
}

static bool is_time(unsigned reg)
{
	return reg == REG_SECOND || reg == REG_MINUTE || reg == REG_HOUR ||
	       (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

/* Put the time s into the time registers of cmos. */
static void time_to_cmos(uint8_t *cmos, int64_t s)
{
	struct calendar c = calendar_of(s);

	cmos[REG_SECOND] = encode(cmos, c.second);
	cmos[REG_MINUTE] = encode(cmos, c.minute);
	cmos[REG_HOUR] = encode_hour(cmos, c.hour);
	cmos[REG_WEEKDAY] = encode(cmos, c.weekday);
	cmos[REG_DAY] = encode(cmos, c.day);
	cmos[REG_MONTH] = encode(cmos, c.month);
	cmos[REG_YEAR] = encode(cmos, c.year % 100);
	cmos[REG_CENTURY] = encode(cmos, c.year / 100);
}

static int64_t time_from_cmos(const uint8_t *cmos)
{
	struct calendar c = {
		.year = decode(cmos, cmos[REG_CENTURY]) % 100 * 100 +
			decode(cmos, cmos[REG_YEAR]) % 100,
		.month = decode(cmos, cmos[REG_MONTH]),
		.day = decode(cmos, cmos[REG_DAY]),
		.hour = decode_hour(cmos, cmos[REG_HOUR]),
		.minute = decode(cmos, cmos[REG_MINUTE]),
		.second = decode(cmos, cmos[REG_SECOND]),
	};

	return seconds_of(&c);
}

/* From now on the clock shows s, `ns` into that second. */
static void set_time(struct rtc *rtc, int64_t s, uint32_t ns)
{
	uint64_t real = rtc->real_ns();
	int64_t real_s = (int64_t)(real / NS_PER_SEC);
	int64_t diff_ns = (int64_t)ns - (int64_t)(real % NS_PER_SEC);

	rtc->offset.s = s - real_s;
	if (diff_ns < 0) {
		diff_ns += (int64_t)NS_PER_SEC;
		rtc->offset.s--;
	}
	rtc->offset.ns = (uint32_t)diff_ns;
}

static void hold(struct rtc *rtc)
{
	time_to_cmos(rtc->cmos, rtc_now(rtc).s);
}

/* The registers become the time.  The fraction of the second goes on counting,
 * unless the divider was reset: then the next update comes half a second later. */
static void let_go(struct rtc *rtc, bool divider_was_reset)
{
	uint32_t ns = divider_was_reset ? (uint32_t)(NS_PER_SEC / 2) : rtc_now(rtc).ns;

	set_time(rtc, time_from_cmos(rtc->cmos), ns);
	for (unsigned reg = 0; reg < CMOS_BYTES; reg++)
		if (is_time(reg))
			rtc->cmos[reg] = 0;
}

/* Registers A and B, which decide between RUNNING and HELD. */
static void control_write(struct rtc *rtc, unsigned reg, uint8_t value)
{
	bool was_held = held(rtc->cmos);
	bool was_reset = (rtc->cmos[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
	uint8_t next[2] = {rtc->cmos[REG_A], rtc->cmos[REG_B]};
	bool reset;

	next[reg - REG_A] = value;
	next[0] &= (uint8_t)~A_UPDATING;
	if (next[1] & B_SET)
		next[1] &= (uint8_t)~B_UPDATE_IRQ;
	reset = (next[0] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
	if (!was_held && (next[1] & B_SET || reset))
		hold(rtc); /* in the old form: a new one does not convert registers */
	memcpy(&rtc->cmos[REG_A], next, sizeof(next));
	if (was_held && !held(rtc->cmos))
		let_go(rtc, was_reset);
}

static uint8_t a_read(const struct rtc *rtc)
{
	uint8_t v = rtc->cmos[REG_A];

	if (!held(rtc->cmos) && rtc_now(rtc).ns >= NS_PER_SEC - UPDATE_NS)
		v |= A_UPDATING;
	return v;
}

static bool update_ended(const struct rtc *rtc)
{
	return !held(rtc->cmos) && rtc_now(rtc).s != rtc->c_read_s;
}

static uint8_t c_read(struct rtc *rtc)
{
	uint8_t v = 0;

	if (update_ended(rtc)) {
		v = C_UPDATE_ENDED | (rtc->cmos[REG_B] & B_UPDATE_IRQ ? C_IRQ : 0);
		rtc->c_read_s = rtc_now(rtc).s;
	}
	return v;
}

static uint8_t cmos_read(struct rtc *rtc, unsigned reg)
{
	uint8_t shown[CMOS_BYTES];

	switch (reg) {
	case REG_A:
		return a_read(rtc);
	case REG_C:
		return c_read(rtc);
	case REG_D:
		return D_POWER_GOOD;
	default:
		break;
	}
	if (!is_time(reg) || held(rtc->cmos))
		return rtc->cmos[reg];
	memcpy(shown, rtc->cmos, sizeof(shown));
	time_to_cmos(shown, rtc_now(rtc).s);
	return shown[reg];
}

static void cmos_write(struct rtc *rtc, unsigned reg, uint8_t value)
{
	if (reg == REG_A || reg == REG_B) {
		control_write(rtc, reg, value);
	} else if (reg == REG_C || reg == REG_D) {
		return; /* read-only */
	} else if (is_time(reg) && !held(rtc->cmos)) {
		hold(rtc);
		rtc->cmos[reg] = value;
		let_go(rtc, false);
	} else {
		rtc->cmos[reg] = value;
	}
}

static uint8_t rtc_read8(void *self, uint64_t offset)
{
	struct rtc *rtc = self;

	if (offset != PORT_DATA)
		return 0xff; /* the index is write-only */
	return cmos_read(rtc, rtc->index % CMOS_BYTES);
}

static void rtc_write8(void *self, uint64_t offset, uint8_t value)
{
	struct rtc *rtc = self;

	if (offset == PORT_INDEX)
		rtc->index = value; /* bit 7 is the NMI gate of the PC: kept, not used */
	else if (offset == PORT_DATA)
		cmos_write(rtc, rtc->index % CMOS_BYTES, value);
}

static enum err rtc_read(void *self, struct io *io)
{
	return device_read_bytes(io, rtc_read8, self);
}

static enum err rtc_write(void *self, const struct io *io)
{
	return device_write_bytes(io, rtc_write8, self);
}

/* Storage and clock have a battery.  The control registers are what a PC's firmware
 * would make of them. */
static void rtc_reset(void *self)
{
	struct rtc *rtc = self;

	control_write(rtc, REG_A, A_POWER_ON);
	control_write(rtc, REG_B, (rtc->cmos[REG_B] & (uint8_t)~B_SET));
	rtc->cmos[REG_B] = B_POWER_ON;
	rtc->index = 0;
	rtc->c_read_s = rtc_now(rtc).s;
}

static enum err rtc_quiesce(void *self)
{
	(void)self;
	return ERR_OK;
}

static void rtc_resume(void *self)
{
	(void)self;
}

static enum err rtc_save(const void *self, struct state_out *out)
{
	const struct rtc *rtc = self;

	state_put_u8(out, TAG_INDEX, rtc->index);
	state_put_bytes(out, TAG_CMOS, rtc->cmos, sizeof(rtc->cmos));
	state_put_u64(out, TAG_OFFSET_S, (uint64_t)rtc->offset.s);
	state_put_u32(out, TAG_OFFSET_NS, rtc->offset.ns);
	state_put_u8(out, TAG_UPDATE_ENDED, update_ended(rtc));
	return ERR_OK;
}

static enum err load_check(const uint8_t *cmos, struct instant offset, uint8_t ended)
{
	const int64_t span = SECONDS_MAX - SECONDS_MIN;

	if (cmos[REG_A] & A_UPDATING || cmos[REG_C] || cmos[REG_D] || ended > 1)
		return err_note(ERR_CORRUPT, 0, "state of rtc: registers A 0x%02x C 0x%02x D 0x%02x "
				"update ended %u: not what this chip can hold", cmos[REG_A],
				cmos[REG_C], cmos[REG_D], ended);
	if (offset.s < -span || offset.s > span || offset.ns >= NS_PER_SEC)
		return err_note(ERR_CORRUPT, 0, "state of rtc: offset of %lld s and %u ns from the "
				"wall clock is out of range", (long long)offset.s, offset.ns);
	return ERR_OK;
}

static enum err rtc_load(void *self, struct state_in *in)
{
	struct rtc *rtc = self;
	uint8_t index = 0, ended = 0, cmos[CMOS_BYTES];
	uint64_t offset_s = 0;
	struct instant offset = {0};
	enum err e;

	if ((e = state_get_u8(in, TAG_INDEX, &index)) != ERR_OK)
		return e;
	if ((e = state_get_exact(in, TAG_CMOS, cmos, sizeof(cmos))) != ERR_OK)
		return e;
	if ((e = state_get_u64(in, TAG_OFFSET_S, &offset_s)) != ERR_OK)
		return e;
	if ((e = state_get_u32(in, TAG_OFFSET_NS, &offset.ns)) != ERR_OK)
		return e;
	if ((e = state_get_u8(in, TAG_UPDATE_ENDED, &ended)) != ERR_OK)
		return e;
	offset.s = (int64_t)offset_s;
	if ((e = load_check(cmos, offset, ended)) != ERR_OK)
		return e;
	rtc->index = index;
	memcpy(rtc->cmos, cmos, sizeof(cmos));
	rtc->offset = offset;
	rtc->c_read_s = rtc_now(rtc).s - ended;
	return ERR_OK;
}

static const struct device_ops rtc_ops = {
	.kind = "rtc",
	.read = rtc_read,
	.write = rtc_write,
	.reset = rtc_reset,
	.quiesce = rtc_quiesce,
	.resume = rtc_resume,
	.save = rtc_save,
	.load = rtc_load,
	.destroy = free,
};

enum err rtc_create(struct device **dev)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return err_note(ERR_NOMEM, 0, "real-time clock: no memory");
	rtc->real_ns = clock_real_ns;
	rtc->cmos[REG_A] = A_POWER_ON;
	rtc->cmos[REG_B] = B_POWER_ON;
	rtc->c_read_s = rtc_now(rtc).s;
	device_init(&rtc->dev, &rtc_ops, rtc, 0);
	*dev = &rtc->dev;
	return ERR_OK;
}

void rtc_set_clock(struct device *dev, uint64_t (*real_ns)(void))
{
	struct rtc *rtc = dev->self;

	rtc->real_ns = real_ns ? real_ns : clock_real_ns;
}
