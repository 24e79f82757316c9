/* SPDX-License-Identifier: MIT */
/* The JSON writer: golden texts, and a stranger's parser (python3's) on random documents. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "harness.h"

static char text[1 << 16];
static struct format out;
static struct json json;

static void start(void)
{
	format_init(&out, text, sizeof text);
	json_init(&json, &out);
}

static void check_str(const char *value, const char *want)
{
	start();
	json_str(&json, value);
	CHECK_STR_EQ(text, want);
}

TEST(nesting_and_commas)
{
	start();
	json_object_begin(&json);
	json_key(&json, "a");
	json_u64(&json, UINT64_MAX);
	json_key(&json, "b");
	json_array_begin(&json);
	json_array_end(&json);
	json_key(&json, "c");
	json_array_begin(&json);
	json_i64(&json, -1);
	json_object_begin(&json);
	json_object_end(&json);
	json_array_begin(&json);
	json_bool(&json, true);
	json_bool(&json, false);
	json_array_end(&json);
	json_null(&json);
	json_array_end(&json);
	json_key(&json, "d");
	json_object_begin(&json);
	json_key(&json, "e");
	json_str(&json, "f");
	json_object_end(&json);
	json_object_end(&json);
	json_end(&json);
	CHECK_STR_EQ(text,
		"{\"a\":18446744073709551615,\"b\":[],\"c\":[-1,{},[true,false],null],"
		"\"d\":{\"e\":\"f\"}}\n");
}

TEST(strings_are_escaped)
{
	check_str("", "\"\"");
	check_str(NULL, "null");
	check_str("a\"b\\c/d", "\"a\\\"b\\\\c/d\"");
	check_str("\b\t\n\v\f\r", "\"\\b\\t\\n\\u000b\\f\\r\"");
	check_str("\x01\x07\x0e\x1f\x7f", "\"\\u0001\\u0007\\u000e\\u001f\\u007f\"");
}

TEST(only_valid_utf8_passes)
{
	check_str("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82",
		"\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82\"");
	check_str("\xef\xbf\xbf\xf4\x8f\xbf\xbf", "\"\xef\xbf\xbf\xf4\x8f\xbf\xbf\"");
	check_str("\xff|", "\"\\ufffd|\"");
	check_str("\xc3", "\"\\ufffd\"");
	check_str("\xe2\x82", "\"\\ufffd\\ufffd\"");
	check_str("\xc0\x80", "\"\\ufffd\\ufffd\"");
	check_str("\xe0\x9f\xbf", "\"\\ufffd\\ufffd\\ufffd\"");
	check_str("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");
	check_str("\xf0\x8f\xbf\xbf", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
	check_str("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
	check_str("\xf5\x80\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

TEST(the_deepest_nesting)
{
	start();
	for (unsigned i = 0; i < JSON_DEPTH_MAX; i++) {
		json_array_begin(&json);
		json_u64(&json, i);
	}
	for (unsigned i = 0; i < JSON_DEPTH_MAX; i++)
		json_array_end(&json);
	json_end(&json);
	CHECK_STR_EQ(text,
		"[0,[1,[2,[3,[4,[5,[6,[7,[8,[9,[10,[11,[12,[13,[14,[15,[16,[17,[18,[19,"
		"[20,[21,[22,[23,[24,[25,[26,[27,[28,[29,[30,[31"
		"]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n");
}

static void random_string(uint64_t *seed, bool as_key)
{
	char bytes[24];
	size_t len = test_random(seed) % (sizeof bytes - 1);

	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(test_random(seed) % 255 + 1);
	bytes[len] = '\0';
	if (as_key)
		json_key(&json, bytes);
	else
		json_str(&json, bytes);
}

static void random_value(uint64_t *seed, unsigned depth);

static void random_container(uint64_t *seed, unsigned depth)
{
	bool is_object = test_random(seed) % 2;
	unsigned items = test_random(seed) % 5;

	is_object ? json_object_begin(&json) : json_array_begin(&json);
	for (unsigned i = 0; i < items; i++) {
		if (is_object)
			random_string(seed, true);
		random_value(seed, depth + 1);
	}
	is_object ? json_object_end(&json) : json_array_end(&json);
}

static void random_value(uint64_t *seed, unsigned depth)
{
	switch (test_random(seed) % (depth < 8 ? 9 : 5)) {
	case 0: json_u64(&json, test_random(seed)); break;
	case 1: json_i64(&json, (int64_t)test_random(seed)); break;
	case 2: json_bool(&json, test_random(seed) % 2); break;
	case 3: json_null(&json); break;
	case 4: random_string(seed, false); break;
	default: random_container(seed, depth); break;
	}
}

static void write_out(void *file, const char *part, size_t len)
{
	CHECK_EQ(fwrite(part, 1, len, file), len);
}

/* A small buffer, so that the flush function is in use too. Each line is parsed by itself. */
TEST_TIMEOUT(a_strangers_parser_accepts_random_documents, 60)
{
	uint64_t seed = test_seed();
	char small[50];

	if (system("command -v python3 >/dev/null") != 0)
		SKIP("python3 is not installed");
	FILE *pipe = popen("python3 -c 'import json, sys\n"
			   "lines = sys.stdin.buffer.read().decode().split(\"\\n\")\n"
			   "assert len(lines) == 2001 and lines[2000] == \"\", len(lines)\n"
			   "for line in lines[:2000]: json.loads(line)'",
		"w");
	CHECK(pipe != NULL);
	for (unsigned i = 0; i < 2000; i++) {
		format_init_flush(&out, small, sizeof small, write_out, pipe);
		json_init(&json, &out);
		random_value(&seed, 0);
		json_end(&json);
		format_end(&out);
	}
	CHECK_EQ(pclose(pipe), 0);
}
