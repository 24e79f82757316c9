/* SPDX-License-Identifier: MIT */
/*
 * A JSON writer on top of a struct format: nesting, commas and escapes are looked after, nothing is
 * allocated. Output that may exceed the buffer wants a format with a flush function.
 *
 * Invariants (asserted): keys only in objects and each followed by one value; begin and end match;
 * at most JSON_DEPTH_MAX levels. A writer belongs to one thread. May be used by every layer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/format.h"

#define JSON_DEPTH_MAX 32

struct json {
	struct format *format;
	uint32_t depth;
	uint32_t is_object; /* a bit a level: object, else array */
	uint32_t has_items; /* a bit a level: a comma is due before the next item */
	bool after_key;
};

void json_init(struct json *j, struct format *f);

void json_object_begin(struct json *j);
void json_object_end(struct json *j);
void json_array_begin(struct json *j);
void json_array_end(struct json *j);

void json_key(struct json *j, const char *key);

/*
 * A string value; bytes that are not valid UTF-8 become U+FFFD, so that the output is always valid.
 * NULL writes null.
 */
void json_str(struct json *j, const char *value);
void json_u64(struct json *j, uint64_t value);
void json_i64(struct json *j, int64_t value);
void json_bool(struct json *j, bool value);
void json_null(struct json *j);

/* Ends the document with a newline; every level must be closed. Does not end the format. */
void json_end(struct json *j);
