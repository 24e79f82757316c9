/* SPDX-License-Identifier: MIT */
/*
 * Text into a fixed buffer; the contract is in format.h.
 */
#include "base/format.h"

#include <string.h>

#include "base/assert.h"

void format_init_flush(struct format *f, char *buf, size_t cap, format_flush_fn *flush,
	void *context)
{
	ASSERT(cap > 0);
	*f = (struct format){
		.buf = buf,
		.cap = cap,
		.flush = flush,
		.flush_context = context,
	};
	buf[0] = '\0';
}

void format_init(struct format *f, char *buf, size_t cap)
{
	format_init_flush(f, buf, cap, NULL, NULL);
}

/* Hands the text in the buffer over and starts again at its front. */
static void format_flush(struct format *f)
{
	f->flush(f->flush_context, f->buf, f->len);
	f->len = 0;
	f->buf[0] = '\0';
}

/* Adds up to `len` bytes and returns how many there was room for. */
static size_t format_some(struct format *f, const char *s, size_t len)
{
	size_t room = f->cap - 1 - f->len;
	size_t part = len < room ? len : room;

	memcpy(f->buf + f->len, s, part);
	f->len += part;
	f->buf[f->len] = '\0';
	return part;
}

void format_mem(struct format *f, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		f->column = s[i] == '\n' ? 0 : f->column + 1;
	for (;;) {
		size_t part = format_some(f, s, len);
		if (part == len)
			return;
		if (!f->flush || f->cap == 1) {
			f->truncated = true;
			return;
		}
		s += part;
		len -= part;
		format_flush(f);
	}
}

void format_char(struct format *f, char c)
{
	format_mem(f, &c, 1);
}

void format_str(struct format *f, const char *s)
{
	format_mem(f, s, strlen(s));
}

/* Adds the digits of a value to a base of at most 16, at least `width` bytes wide. */
static void format_number(struct format *f, uint64_t value, unsigned base, size_t width)
{
	char digits[64];
	size_t at = sizeof digits;

	do {
		digits[--at] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	size_t len = sizeof digits - at;
	format_pad(f, f->column + (width > len ? width - len : 0));
	format_mem(f, digits + at, len);
}

void format_u64(struct format *f, uint64_t value)
{
	format_number(f, value, 10, 0);
}

void format_u64_width(struct format *f, uint64_t value, size_t width)
{
	format_number(f, value, 10, width);
}

void format_i64(struct format *f, int64_t value)
{
	uint64_t magnitude = (uint64_t)value;

	if (value < 0) {
		format_char(f, '-');
		magnitude = 0 - magnitude;
	}
	format_number(f, magnitude, 10, 0);
}

void format_hex(struct format *f, uint64_t value)
{
	format_str(f, "0x");
	format_number(f, value, 16, 0);
}

/* The size in tenths of 1024^unit, rounded to nearest; unit is 1 to 6. */
static uint64_t format_tenths(uint64_t bytes, unsigned unit)
{
	/* Of the low bits that ten times the value has no room for, none is seen. */
	unsigned drop = unit > 5 ? 10 : 0;
	unsigned shift = 10 * unit - drop;

	return ((bytes >> drop) * 10 + (1ull << (shift - 1))) >> shift;
}

void format_bytes(struct format *f, uint64_t bytes)
{
	static const char units[][5] = { " B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB" };
	unsigned unit;

	if (bytes < 1024) {
		format_u64(f, bytes);
		format_str(f, units[0]);
		return;
	}
	unit = (63 - (unsigned)__builtin_clzll(bytes)) / 10;
	/* What would round to 1024.0 goes to the next unit. */
	if (unit < 6 && format_tenths(bytes, unit) == 10240)
		unit++;
	format_u64(f, format_tenths(bytes, unit) / 10);
	format_char(f, '.');
	format_u64(f, format_tenths(bytes, unit) % 10);
	format_str(f, units[unit]);
}

void format_pad(struct format *f, size_t column)
{
	while (f->column < column)
		format_char(f, ' ');
}

size_t format_end(struct format *f)
{
	if (f->flush && f->len)
		format_flush(f);
	return f->len;
}
