/* SPDX-License-Identifier: Apache-2.0 */
/* units: sizes, durations and numbers as people write them.  See units.h. */
#include "base/units.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

/* A decimal with up to three places as thousandths; false if malformed or above
 * 2^53 thousandths (beyond every limit we have). */
static bool decimal(const char *text, const char **end, uint64_t *milli)
{
	uint64_t v = 0;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++) {
		v = v * 10 + (uint64_t)(*p - '0');
		if (v > (1ull << 53) / 1000)
			return false;
	}
	v *= 1000;
	if (*p == '.') {
		uint64_t place = 100;
		p++;
		if (!isdigit((unsigned char)*p))
			return false;
		for (; isdigit((unsigned char)*p); p++, place /= 10) {
			if (place == 0)
				return false;
			v += (uint64_t)(*p - '0') * place;
		}
	}
	*milli = v;
	*end = p;
	return true;
}

/* For products of a 64-bit count and a unit, before the range is checked. */
__extension__ typedef unsigned __int128 wide;

static bool whole(const char *text, uint64_t *v)
{
	uint64_t n = 0;

	if (!*text)
		return false;
	for (const char *p = text; *p; p++) {
		if (!isdigit((unsigned char)*p) ||
		    __builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return false;
	}
	*v = n;
	return true;
}

enum err units_size(const char *text, uint64_t *bytes)
{
	static const char letters[] = "KMGTP";
	const char *end;
	uint64_t milli;

	if (whole(text, bytes))
		return ERR_OK;
	if (decimal(text, &end, &milli) && *end) {
		const char *unit = strchr(letters, toupper((unsigned char)*end));
		const char *rest = end + 1;
		if (unit && (!*rest || !strcmp(rest, "B") || !strcmp(rest, "iB"))) {
			unsigned shift = 10 * (unsigned)(unit - letters + 1);
			wide v = ((wide)milli << shift) / 1000;
			if (v <= INT64_MAX) {
				*bytes = (uint64_t)v;
				return ERR_OK;
			}
		}
	}
	return err_note(ERR_USAGE, 0, "'%.40s' is not a size: write it like 512M, 4G or 1.5T", text);
}

enum err units_duration(const char *text, uint64_t *ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {
		{"us", 1000},			{"ms", NS_PER_MS},
		{"s", NS_PER_SEC},		{"m", 60 * NS_PER_SEC},
		{"h", 3600 * NS_PER_SEC},	{"d", 86400 * NS_PER_SEC},
	};
	const char *end;
	uint64_t milli;

	if (!strcmp(text, "0")) {
		*ns = 0;
		return ERR_OK;
	}
	if (decimal(text, &end, &milli)) {
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
			if (strcmp(end, units[i].unit) != 0)
				continue;
			wide v = (wide)milli * units[i].ns / 1000;
			if (v <= INT64_MAX) {
				*ns = (uint64_t)v;
				return ERR_OK;
			}
		}
	}
	return err_note(ERR_USAGE, 0, "'%.40s' is not a duration: write it like 90s, 15m, 6h or 7d",
			text);
}

enum err units_number(const char *text, const char *what, uint64_t min, uint64_t max,
		      uint64_t *value)
{
	uint64_t v;

	if (!whole(text, &v))
		return err_note(ERR_USAGE, 0, "%s '%.40s' is not a whole number", what, text);
	if (v < min || v > max)
		return err_note(ERR_USAGE, 0, "%s %s is out of range: it may be %llu to %llu", what,
				text, (unsigned long long)min, (unsigned long long)max);
	*value = v;
	return ERR_OK;
}

const char *units_format_size(uint64_t bytes, char out[UNITS_TEXT_BYTES])
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned i = 0;
	uint64_t rest = 0, v = bytes;

	while (v >= 1024) {
		rest = v % 1024;
		v /= 1024;
		i++;
	}
	if (i == 0 || rest == 0)
		snprintf(out, UNITS_TEXT_BYTES, "%llu %s", (unsigned long long)v, unit[i]);
	else
		snprintf(out, UNITS_TEXT_BYTES, "%llu.%llu %s", (unsigned long long)v,
			 (unsigned long long)(rest * 10 / 1024), unit[i]);
	return out;
}

const char *units_format_duration(uint64_t ns, char out[UNITS_TEXT_BYTES])
{
	if (ns < 1000)
		snprintf(out, UNITS_TEXT_BYTES, "%llu ns", (unsigned long long)ns);
	else if (ns < NS_PER_MS)
		snprintf(out, UNITS_TEXT_BYTES, "%.1f us", (double)ns / 1e3);
	else if (ns < NS_PER_SEC)
		snprintf(out, UNITS_TEXT_BYTES, "%.1f ms", (double)ns / 1e6);
	else if (ns < 60 * NS_PER_SEC)
		snprintf(out, UNITS_TEXT_BYTES, "%.2f s", (double)ns / 1e9);
	else if (ns < 3600 * NS_PER_SEC)
		snprintf(out, UNITS_TEXT_BYTES, "%llum%02llus",
			 (unsigned long long)(ns / (60 * NS_PER_SEC)),
			 (unsigned long long)(ns / NS_PER_SEC % 60));
	else
		snprintf(out, UNITS_TEXT_BYTES, "%lluh%02llum",
			 (unsigned long long)(ns / (3600 * NS_PER_SEC)),
			 (unsigned long long)(ns / (60 * NS_PER_SEC) % 60));
	return out;
}
