/* SPDX-License-Identifier: MIT */
/* The option table: every type, every warning word for word, and the printed table. */
#include <string.h>

#include "base/options.h"
#include "harness.h"

static char warnings[4096];

static void collect(const char *line)
{
	size_t len = strlen(warnings);

	CHECK(len + strlen(line) < sizeof warnings);
	strcpy(warnings + len, line);
}

/* Parses a text over the defaults; *o has the result and `warnings` the lines. */
static size_t parse(struct options *o, const char *text)
{
	warnings[0] = '\0';
	options_default(o);
	return options_parse(o, text, "ALLOD_CONF", collect);
}

static void check_defaults(const struct options *o)
{
	CHECK_EQ(o->enabled, true);
	CHECK_EQ(o->help, false);
	CHECK_EQ(o->background, OPTION_BACKGROUND_AUTO);
	CHECK_EQ(o->page, OPTION_PAGE_ARENA);
	CHECK_EQ(o->decay_ms, 500);
	CHECK_EQ(o->stats, OPTION_STATS_OFF);
	CHECK_EQ(o->stats_fd, 2);
	CHECK_EQ(o->arena_bytes, 0);
}

/* A wrong text gives exactly this warning and leaves everything as it was. */
static void check_warning(const char *text, const char *warning)
{
	struct options o;

	CHECK_EQ(parse(&o, text), 1);
	CHECK_STR_EQ(warnings, warning);
	check_defaults(&o);
}

TEST(defaults_hold_before_anything_is_parsed)
{
	struct options o;

	check_defaults(&options);
	CHECK_EQ(parse(&o, ""), 0);
	check_defaults(&o);
}

TEST(every_option_is_set)
{
	struct options o;

	CHECK_EQ(parse(&o,
			 "enabled:false,help:true,background:off,page:mmap,decay_ms:3600000,"
			 "stats:json,stats_fd:7,arena_bytes:3g"),
		0);
	CHECK_STR_EQ(warnings, "");
	CHECK_EQ(o.enabled, false);
	CHECK_EQ(o.help, true);
	CHECK_EQ(o.background, OPTION_BACKGROUND_OFF);
	CHECK_EQ(o.page, OPTION_PAGE_MMAP);
	CHECK_EQ(o.decay_ms, 3600000);
	CHECK_EQ(o.stats, OPTION_STATS_JSON);
	CHECK_EQ(o.stats_fd, 7);
	CHECK_EQ(o.arena_bytes, 3ull << 30);
	CHECK_EQ(options_parse(&o, "background:on,stats:text,enabled:true,decay_ms:0", "X", NULL),
		0);
	CHECK_EQ(o.background, OPTION_BACKGROUND_ON);
	CHECK_EQ(o.stats, OPTION_STATS_TEXT);
	CHECK_EQ(o.enabled, true);
	CHECK_EQ(o.decay_ms, 0);
	CHECK_EQ(o.help, true);
}

TEST(sizes_have_suffixes)
{
	struct options o;

	CHECK_EQ(parse(&o, "arena_bytes:12345"), 0);
	CHECK_EQ(o.arena_bytes, 12345);
	CHECK_EQ(parse(&o, "arena_bytes:1k"), 0);
	CHECK_EQ(o.arena_bytes, 1024);
	CHECK_EQ(parse(&o, "arena_bytes:64M"), 0);
	CHECK_EQ(o.arena_bytes, 64ull << 20);
	CHECK_EQ(parse(&o, "arena_bytes:16777215t"), 0);
	CHECK_EQ(o.arena_bytes, 16777215ull << 40);
}

TEST(separators_blanks_and_comments)
{
	struct options o;

	CHECK_EQ(parse(&o,
			 ",, \t, decay_ms : 7 ,\n\n# stats:json, page:mmap\r\n"
			 "stats:text # a comment, with a comma\nstats_fd:\t5\r\n#"),
		0);
	CHECK_STR_EQ(warnings, "");
	CHECK_EQ(o.decay_ms, 7);
	CHECK_EQ(o.stats, OPTION_STATS_TEXT);
	CHECK_EQ(o.page, OPTION_PAGE_ARENA);
	CHECK_EQ(o.stats_fd, 5);
	CHECK_EQ(parse(&o, "decay_ms:1,decay_ms:2"), 0);
	CHECK_EQ(o.decay_ms, 2);
}

TEST(unknown_options)
{
	check_warning("x", "allod: ALLOD_CONF: unknown option 'x'\n");
	check_warning("x:1", "allod: ALLOD_CONF: unknown option 'x'\n");
	check_warning("Help:true", "allod: ALLOD_CONF: unknown option 'Help'\n");
	check_warning("decay_ms=5", "allod: ALLOD_CONF: unknown option 'decay_ms=5'\n");
	check_warning("decay_m:5", "allod: ALLOD_CONF: unknown option 'decay_m'\n");
	check_warning(":5", "allod: ALLOD_CONF: unknown option ''\n");
}

TEST(missing_values)
{
	check_warning("help", "allod: ALLOD_CONF: option 'help' has no value\n");
	check_warning("help: ", "allod: ALLOD_CONF: option 'help' has no value\n");
}

TEST(wrong_words)
{
	check_warning("enabled:maybe",
		"allod: ALLOD_CONF: option 'enabled': 'maybe' is not true or false\n");
	check_warning("help:1", "allod: ALLOD_CONF: option 'help': '1' is not true or false\n");
	check_warning("background:yes",
		"allod: ALLOD_CONF: option 'background': 'yes' is not one of auto, on, off\n");
	check_warning("background:aut",
		"allod: ALLOD_CONF: option 'background': 'aut' is not one of auto, on, off\n");
	check_warning("background:auto|on",
		"allod: ALLOD_CONF: option 'background': 'auto|on' is not one of auto, on, off\n");
	check_warning("page:brk",
		"allod: ALLOD_CONF: option 'page': 'brk' is not one of arena, mmap\n");
	check_warning("stats:xml",
		"allod: ALLOD_CONF: option 'stats': 'xml' is not one of off, text, json\n");
}

TEST(wrong_numbers)
{
	check_warning("decay_ms:abc",
		"allod: ALLOD_CONF: option 'decay_ms': 'abc' is not a number\n");
	check_warning("decay_ms:5x",
		"allod: ALLOD_CONF: option 'decay_ms': '5x' is not a number\n");
	check_warning("decay_ms:-1",
		"allod: ALLOD_CONF: option 'decay_ms': '-1' is not a number\n");
	check_warning("decay_ms:1:2",
		"allod: ALLOD_CONF: option 'decay_ms': '1:2' is not a number\n");
	check_warning("decay_ms:3600001",
		"allod: ALLOD_CONF: option 'decay_ms': '3600001' is not between 0 and 3600000\n");
	check_warning("decay_ms:18446744073709551616",
		"allod: ALLOD_CONF: option 'decay_ms': '18446744073709551616' is not between 0 and "
		"3600000\n");
	check_warning("stats_fd:9999999",
		"allod: ALLOD_CONF: option 'stats_fd': '9999999' is not between 0 and 1048576\n");
}

TEST(wrong_sizes)
{
	check_warning("arena_bytes:x",
		"allod: ALLOD_CONF: option 'arena_bytes': 'x' is not a size\n");
	check_warning("arena_bytes:12q",
		"allod: ALLOD_CONF: option 'arena_bytes': '12q' is not a size\n");
	check_warning("arena_bytes:12kb",
		"allod: ALLOD_CONF: option 'arena_bytes': '12kb' is not a size\n");
	check_warning("arena_bytes:16777216t",
		"allod: ALLOD_CONF: option 'arena_bytes': '16777216t' is not a size\n");
	check_warning("arena_bytes:99999999999999999999",
		"allod: ALLOD_CONF: option 'arena_bytes': '99999999999999999999' is not a size\n");
	check_warning("arena_bytes:199999999999999999999999k",
		"allod: ALLOD_CONF: option 'arena_bytes': '199999999999999999999999k' is not a "
		"size\n");
}

TEST(each_mistake_is_one_line_and_the_rest_is_applied)
{
	struct options o;

	CHECK_EQ(parse(&o, "x:1,decay_ms:9,help:2"), 2);
	CHECK_STR_EQ(warnings,
		"allod: ALLOD_CONF: unknown option 'x'\n"
		"allod: ALLOD_CONF: option 'help': '2' is not true or false\n");
	CHECK_EQ(o.decay_ms, 9);
	CHECK_EQ(options_parse(&o, "x:1", "f", NULL), 1);
}

TEST(long_and_unprintable_text_is_shown_safely)
{
	char text[400], want[256];

	memset(text, 'k', sizeof text);
	text[sizeof text - 1] = '\0';
	strcpy(want, "allod: ALLOD_CONF: unknown option '");
	size_t len = strlen(want);
	memset(want + len, 'k', 64);
	strcpy(want + len + 64, "...'\n");
	check_warning(text, want);
	check_warning("\x1b[1m\xc3\xa9:1",
		"allod: ALLOD_CONF: unknown option '?[1m?"
		"?'\n");
}

TEST(a_long_source_name_leaves_room_for_the_rest)
{
	char source[1000];
	struct options o;

	memset(source, 's', sizeof source);
	source[sizeof source - 1] = '\0';
	options_default(&o);
	warnings[0] = '\0';
	char text[200] = "decay_ms:";
	memset(text + 9, '9', 100);
	CHECK_EQ(options_parse(&o, text, source, collect), 1);
	const char *end = "999...' is not between 0 and 3600000\n";
	CHECK_STR_EQ(warnings + strlen(warnings) - strlen(end), end);
}

TEST(the_table_is_printed_with_the_values_in_force)
{
	char buf[4096];
	struct format f;
	struct options o;

	CHECK_EQ(parse(&o, "background:off,decay_ms:42"), 0);
	format_init(&f, buf, sizeof buf);
	options_print(&o, &f);
	CHECK(!f.truncated);
	CHECK_STR_EQ(buf,
		"allod options, set by ALLOD_CONF=\"key:value,key:value\":\n"
		"  enabled:true                 (true|false)\n"
		"      Serve the program from allod; false hands every call to libc.\n"
		"  help:false                   (true|false)\n"
		"      Print this table on standard error when the program starts.\n"
		"  background:off               (auto|on|off)\n"
		"      Give idle memory back while the program does not call the allocator: auto\n"
		"      starts a helper task once there is something to give back, on starts it at\n"
		"      once, off never.\n"
		"  page:arena                   (arena|mmap)\n"
		"      Where pages come from: a reserved arena that keeps freed runs mapped, or\n"
		"      one mmap and munmap for each run, for comparison.\n"
		"  decay_ms:42                  (0..3600000)\n"
		"      Milliseconds for which freed memory stays warm before it is given back.\n"
		"  page_cache_bytes:0           (bytes[k|m|g|t])\n"
		"      Free memory that may be kept; what is freed beyond goes back at once. 0:\n"
		"      half of what the control group, or the machine, has left.\n"
		"  stats:off                    (off|text|json)\n"
		"      Print statistics when the process ends.\n"
		"  stats_fd:2                   (0..1048576)\n"
		"      File descriptor that statistics are written to.\n"
		"  arena_bytes:0                (bytes[k|m|g|t])\n"
		"      Address space to reserve for the arena; 0 chooses from the RAM size.\n");
}

/* What options_value() writes, options_parse() reads back: for every option and every word. */
TEST(values_printed_are_values_read)
{
	struct options o;
	struct option_info info;

	CHECK_EQ(parse(&o,
			 "enabled:false,help:true,background:on,page:mmap,decay_ms:3,stats:json,"
			 "stats_fd:9,arena_bytes:1t"),
		0);
	for (size_t i = 0; options_info(i, &info); i++) {
		char buf[128], again[128];
		struct format f;
		struct options copy;
		format_init(&f, buf, sizeof buf);
		format_str(&f, info.name);
		format_char(&f, ':');
		options_value(&o, i, &f);
		CHECK_EQ(parse(&copy, buf), 0);
		format_init(&f, again, sizeof again);
		format_str(&f, info.name);
		format_char(&f, ':');
		options_value(&copy, i, &f);
		CHECK_STR_EQ(again, buf);
	}
}
