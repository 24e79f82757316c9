/* SPDX-License-Identifier: MIT */
/*
 * The one table of options. It makes the struct, the parser, the text that help:true prints, the
 * man page section and the shell completion; an option is added here and nowhere else.
 *
 * A text is "key:value,key:value"; newlines separate as commas do, blanks around keys and values
 * are ignored, and # begins a comment that ends with the line, so that a file can be parsed as
 * well as an environment variable. A later value wins. What is wrong is warned about and changes
 * nothing.
 *
 * `options` is written while the process starts, before the allocator hands out anything, and const
 * after that. May be read by every layer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/format.h"

enum option_background {
	OPTION_BACKGROUND_AUTO = 0,
	OPTION_BACKGROUND_ON,
	OPTION_BACKGROUND_OFF,
};

enum option_page {
	OPTION_PAGE_ARENA = 0,
	OPTION_PAGE_MMAP,
};

enum option_stats {
	OPTION_STATS_OFF = 0,
	OPTION_STATS_TEXT,
	OPTION_STATS_JSON,
};

/*
 * BOOL(name, default, doc)
 * CHOICE(name, enum, default, "word|word…" in the order of the enum, doc)
 * NUMBER(name, default, min, max, doc)
 * SIZE(name, default, doc): bytes, with a suffix k, m, g or t for powers of 1024
 */
#define OPTION_TABLE(BOOL, CHOICE, NUMBER, SIZE)                                                 \
	BOOL(enabled, true, "Serve the program from allod; false hands every call to libc.")     \
	BOOL(help, false, "Print this table on standard error when the program starts.")         \
	CHOICE(background, option_background, OPTION_BACKGROUND_AUTO, "auto|on|off",             \
		"Give idle memory back while the program does not call the allocator: auto "     \
		"starts "                                                                        \
		"a helper task once there is something to give back, on starts it at once, off " \
		"never.")                                                                        \
	CHOICE(page, option_page, OPTION_PAGE_ARENA, "arena|mmap",                               \
		"Where pages come from: a reserved arena that keeps freed runs mapped, or one "  \
		"mmap and munmap for each run, for comparison.")                                 \
	NUMBER(decay_ms, 500, 0, 3600000,                                                        \
		"Milliseconds for which freed memory stays warm before it is given back.")       \
	SIZE(page_cache_bytes, 0,                                                                \
		"Free memory that may be kept; what is freed beyond goes back at once. 0: half " \
		"of what the control group, or the machine, has left.")                          \
	CHOICE(stats, option_stats, OPTION_STATS_OFF, "off|text|json",                           \
		"Print statistics when the process ends.")                                       \
	NUMBER(stats_fd, 2, 0, 1048576, "File descriptor that statistics are written to.")       \
	SIZE(arena_bytes, 0, "Address space to reserve for the arena; 0 chooses from the RAM size.")

#define OPTION_FIELD_BOOL(name, def, doc) bool name;
#define OPTION_FIELD_CHOICE(name, type, def, words, doc) enum type name;
#define OPTION_FIELD_NUMBER(name, def, min, max, doc) uint64_t name;
#define OPTION_FIELD_SIZE(name, def, doc) uint64_t name;

struct options {
	OPTION_TABLE(OPTION_FIELD_BOOL, OPTION_FIELD_CHOICE, OPTION_FIELD_NUMBER, OPTION_FIELD_SIZE)
};

/* The process's options; hold the defaults from the first instruction on. */
extern struct options options;

/* Takes one whole line, its newline included. */
typedef void option_warn_fn(const char *line);

/* Sets every option to its default. */
void options_default(struct options *o);

/*
 * Applies a text to *o. `source` names it in warnings ("ALLOD_CONF"). Each mistake is one call of
 * warn, which may be NULL:
 *   allod: SOURCE: unknown option 'KEY'
 *   allod: SOURCE: option 'KEY' has no value
 *   allod: SOURCE: option 'KEY': 'VALUE' is not true or false
 *   allod: SOURCE: option 'KEY': 'VALUE' is not one of auto, on, off
 *   allod: SOURCE: option 'KEY': 'VALUE' is not a number
 *   allod: SOURCE: option 'KEY': 'VALUE' is not between MIN and MAX
 *   allod: SOURCE: option 'KEY': 'VALUE' is not a size
 * Keys and values are shown up to 64 bytes, then "..."; bytes that do not print are shown as "?".
 * Returns the number of mistakes.
 */
size_t options_parse(struct options *o, const char *text, const char *source, option_warn_fn *warn);

/* Prints the table with the values of *o, the text of help:true. */
void options_print(const struct options *o, struct format *f);

/* One option, for tools that list them. */
struct option_info {
	const char *name;
	const char *values; /* "true|false", "auto|on|off", "0..3600000", "bytes[k|m|g|t]" */
	const char *words;  /* "true|false", "auto|on|off", or NULL if not a choice */
	const char *doc;
};

/* The i-th option of the table, or false when there are no more. */
bool options_info(size_t i, struct option_info *ret);

/* The value that *o has for the i-th option, as options_parse() would read it. */
void options_value(const struct options *o, size_t i, struct format *f);
