/* SPDX-License-Identifier: MIT */
/*
 * The JSON writer; the contract is in json.h.
 */
#include "base/json.h"

#include <stddef.h>

#include "base/assert.h"

void json_init(struct json *j, struct format *f)
{
	*j = (struct json){ .format = f };
}

static inline uint32_t json_level(const struct json *j)
{
	return 1u << (j->depth - 1);
}

/* What stands before an item: a comma after another one, nothing after a key. */
static void json_separate(struct json *j)
{
	if (j->after_key || !j->depth)
		return;
	if (j->has_items & json_level(j))
		format_char(j->format, ',');
	j->has_items |= json_level(j);
}

static void json_before_value(struct json *j)
{
	ASSERT(j->after_key || !j->depth || !(j->is_object & json_level(j)));
	json_separate(j);
	j->after_key = false;
}

static void json_begin(struct json *j, bool is_object)
{
	json_before_value(j);
	ASSERT(j->depth < JSON_DEPTH_MAX);
	j->depth++;
	j->has_items &= ~json_level(j);
	j->is_object &= ~json_level(j);
	j->is_object |= is_object ? json_level(j) : 0;
	format_char(j->format, is_object ? '{' : '[');
}

static void json_close(struct json *j, bool is_object)
{
	ASSERT(j->depth > 0 && !j->after_key);
	ASSERT(is_object == !!(j->is_object & json_level(j)));
	j->depth--;
	format_char(j->format, is_object ? '}' : ']');
}

void json_object_begin(struct json *j)
{
	json_begin(j, true);
}

void json_object_end(struct json *j)
{
	json_close(j, true);
}

void json_array_begin(struct json *j)
{
	json_begin(j, false);
}

void json_array_end(struct json *j)
{
	json_close(j, false);
}

static inline bool utf8_is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/*
 * The length of the valid UTF-8 sequence at s, or 0: over-long forms, surrogates and values above
 * U+10FFFF are not valid. s ends in NUL, which is no tail, so nothing behind it is read.
 */
static size_t utf8_length(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		return utf8_is_tail(s[1]) ? 2 : 0;
	if (s[0] >= 0xe0 && s[0] <= 0xef) {
		unsigned char low = s[0] == 0xe0 ? 0xa0 : 0x80;
		unsigned char high = s[0] == 0xed ? 0x9f : 0xbf;
		return s[1] >= low && s[1] <= high && utf8_is_tail(s[2]) ? 3 : 0;
	}
	if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		unsigned char low = s[0] == 0xf0 ? 0x90 : 0x80;
		unsigned char high = s[0] == 0xf4 ? 0x8f : 0xbf;
		bool valid =
			s[1] >= low && s[1] <= high && utf8_is_tail(s[2]) && utf8_is_tail(s[3]);
		return valid ? 4 : 0;
	}
	return 0;
}

/* A byte below 0x80 as it stands in a string. */
static void json_ascii(struct format *f, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	/* The two-byte escapes of the bytes from 8 to 13; 11 has none. */
	static const char escapes[] = "btn\0fr";

	if (c == '"' || c == '\\') {
		format_char(f, '\\');
		format_char(f, (char)c);
	} else if (c >= 8 && c <= 13 && escapes[c - 8]) {
		format_char(f, '\\');
		format_char(f, escapes[c - 8]);
	} else if (c < 0x20 || c == 0x7f) {
		format_str(f, "\\u00");
		format_char(f, digits[c >> 4]);
		format_char(f, digits[c & 15]);
	} else {
		format_char(f, (char)c);
	}
}

static void json_quoted(struct json *j, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	format_char(j->format, '"');
	while (*s) {
		size_t len = utf8_length(s);
		if (len == 0)
			format_str(j->format, "\\ufffd");
		else if (len == 1)
			json_ascii(j->format, *s);
		else
			format_mem(j->format, (const char *)s, len);
		s += len ? len : 1;
	}
	format_char(j->format, '"');
}

void json_key(struct json *j, const char *key)
{
	ASSERT(j->depth > 0 && (j->is_object & json_level(j)) && !j->after_key);
	json_separate(j);
	json_quoted(j, key);
	format_char(j->format, ':');
	j->after_key = true;
}

void json_str(struct json *j, const char *value)
{
	if (!value) {
		json_null(j);
		return;
	}
	json_before_value(j);
	json_quoted(j, value);
}

void json_u64(struct json *j, uint64_t value)
{
	json_before_value(j);
	format_u64(j->format, value);
}

void json_i64(struct json *j, int64_t value)
{
	json_before_value(j);
	format_i64(j->format, value);
}

void json_bool(struct json *j, bool value)
{
	json_before_value(j);
	format_str(j->format, value ? "true" : "false");
}

void json_null(struct json *j)
{
	json_before_value(j);
	format_str(j->format, "null");
}

void json_end(struct json *j)
{
	ASSERT(j->depth == 0 && !j->after_key);
	format_char(j->format, '\n');
}
