/* SPDX-License-Identifier: MIT */
/*
 * Text into a fixed buffer without allocation, locale or stdio; safe in a signal handler.
 *
 * Invariants: the buffer is never overrun and is always terminated by NUL; without a flush function
 * text that does not fit is cut off at the end, and `truncated` is set. With one, the buffer is
 * handed over each time it is full and the text goes on at its front. A format belongs to one
 * thread. May be used by every layer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes `len` bytes of text that the buffer held. */
typedef void format_flush_fn(void *context, const char *text, size_t len);

struct format {
	char *buf;
	size_t cap;    /* bytes of buf, the final NUL included */
	size_t len;    /* bytes of text in buf now */
	size_t column; /* bytes of text since the last newline, flushed ones included */
	bool truncated;
	format_flush_fn *flush; /* NULL: cut off */
	void *flush_context;
};

/* Starts an empty text in buf; cap must be at least 1. */
void format_init(struct format *f, char *buf, size_t cap);

/* The same, but hands the text to flush(context, …) when the buffer is full and at format_end(). */
void format_init_flush(struct format *f, char *buf, size_t cap, format_flush_fn *flush,
	void *context);

void format_char(struct format *f, char c);
void format_str(struct format *f, const char *s);
void format_mem(struct format *f, const char *s, size_t len);
void format_u64(struct format *f, uint64_t value);
void format_i64(struct format *f, int64_t value);

/* 0x and lower-case digits without leading zeros. */
void format_hex(struct format *f, uint64_t value);

/* The same value right-aligned in `width` bytes, wider if it needs to be. */
void format_u64_width(struct format *f, uint64_t value, size_t width);

/*
 * A size for people: exact below 1 KiB ("512 B"), else one decimal, rounded to nearest, and a
 * binary unit ("1.5 KiB", "2.0 GiB"); at most 10 bytes long.
 */
void format_bytes(struct format *f, uint64_t bytes);

/* Spaces up to the given column of the line; nothing when the line is that long already. */
void format_pad(struct format *f, size_t column);

/* Hands over what is left if there is a flush function; returns the bytes now in the buffer. */
size_t format_end(struct format *f);
