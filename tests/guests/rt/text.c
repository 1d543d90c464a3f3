/* SPDX-License-Identifier: Apache-2.0 */
/* text: strings, the command line, and a small printf. */
#include "rt/rt.h"
#include "rt/internal.h"

enum { CMDLINE_MAX = 2048, PRINT_MAX = 400 };

static char cmdline[CMDLINE_MAX];
static char values[CMDLINE_MAX];	/* where arg_str() keeps the values it gives out */
static size_t values_used;

void *memset(void *d, int c, size_t n)
{
	void *r = d;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return r;
}

void *memcpy(void *d, const void *s, size_t n)
{
	void *r = d;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	return r;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n > 0; n--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n] != '\0')
		n++;
	return n;
}

bool str_eq(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

uint64_t mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

void cmdline_set(const char *s)
{
	size_t n = 0;

	while (s != NULL && n < CMDLINE_MAX - 1 && s[n] != '\0') {
		cmdline[n] = s[n];
		n++;
	}
	cmdline[n] = '\0';
}

/* If the word at p is name or name=value, give its value. */
static const char *word_value(const char *p, const char *name)
{
	size_t n = strlen(name);

	if (memcmp(p, name, n) != 0)
		return NULL;
	if (p[n] == '=')
		return p + n + 1;
	return p[n] == '\0' || p[n] == ' ' ? p + n : NULL;
}

const char *arg_str(const char *name, const char *fallback)
{
	const char *found = NULL, *v;
	char *copy = values + values_used;

	for (const char *p = cmdline; *p != '\0';) {
		while (*p == ' ')
			p++;
		v = word_value(p, name);
		if (v != NULL)
			found = v;
		while (*p != '\0' && *p != ' ')
			p++;
	}
	if (found == NULL)
		return fallback;
	while (*found != '\0' && *found != ' ' && values_used < CMDLINE_MAX - 1)
		values[values_used++] = *found++;
	values[values_used++] = '\0';
	if (values_used >= CMDLINE_MAX)
		fail("too many arguments");
	return copy;
}

static unsigned digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	return 99;
}

uint64_t arg_u64(const char *name, uint64_t fallback)
{
	const char *s = arg_str(name, NULL), *p = s;
	unsigned base = 10;
	uint64_t v = 0;

	if (s == NULL)
		return fallback;
	if (p[0] == '0' && p[1] == 'x') {
		base = 16;
		p += 2;
	}
	if (digit(*p) >= base)
		fail("%s=%s is not a number", name, s);
	for (; digit(*p) < base; p++)
		v = v * base + digit(*p);
	if (*p == 'K' || *p == 'M' || *p == 'G') {
		v <<= *p == 'K' ? 10 : *p == 'M' ? 20 : 30;
		p++;
	}
	if (*p != '\0')
		fail("%s=%s is not a number", name, s);
	return v;
}

struct out {
	char *buf;
	size_t size, used;
};

static void put(struct out *o, char c)
{
	if (o->used + 1 < o->size)
		o->buf[o->used++] = c;
}

static void put_number(struct out *o, uint64_t v, unsigned base, char pad, unsigned width)
{
	char d[24];
	unsigned n = 0;

	do {
		d[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v != 0);
	for (unsigned i = n; i < width; i++)
		put(o, pad);
	while (n > 0)
		put(o, d[--n]);
}

/* One directive, p just behind its '%'; gives the position behind it. */
static const char *directive(struct out *o, const char *p, va_list *ap)
{
	char pad = *p == '0' ? '0' : ' ';
	unsigned width = 0;
	bool is_long;

	for (; *p >= '0' && *p <= '9'; p++)
		width = width * 10 + (unsigned)(*p - '0');
	is_long = *p == 'l';
	if (is_long)
		p++;
	if (*p == 's') {
		for (const char *s = va_arg(*ap, const char *); *s != '\0'; s++)
			put(o, *s);
	} else if (*p == 'c') {
		put(o, (char)va_arg(*ap, int));
	} else if (*p == 'u' || *p == 'x') {
		put_number(o, is_long ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned),
			   *p == 'u' ? 10 : 16, pad, width);
	} else {
		put(o, *p);
	}
	return *p == '\0' ? p : p + 1;
}

size_t format_v(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct out o = { buf, size, 0 };
	va_list copy;

	va_copy(copy, ap);
	while (*fmt != '\0') {
		if (*fmt == '%')
			fmt = directive(&o, fmt + 1, &copy);
		else
			put(&o, *fmt++);
	}
	va_end(copy);
	if (size > 0)
		buf[o.used] = '\0';
	return o.used;
}

size_t format(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = format_v(buf, size, fmt, ap);
	va_end(ap);
	return n;
}

void print(const char *fmt, ...)
{
	char buf[PRINT_MAX];
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = format_v(buf, sizeof buf, fmt, ap);
	va_end(ap);
	serial_write(buf, n);
}
