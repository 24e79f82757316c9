/* SPDX-License-Identifier: MIT */
/*
 * Parser and printer over the table in options.h; the contract is there. Nothing here knows an
 * option by name.
 */
#include "base/options.h"

#include <string.h>

enum option_kind { OPTION_BOOL, OPTION_CHOICE, OPTION_NUMBER, OPTION_SIZE };

struct option_entry {
	struct option_info info;
	enum option_kind kind;
	size_t offset; /* of the field in struct options */
	uint64_t min;
	uint64_t max;
};

/* A piece of the text that is parsed. */
struct span {
	const char *s;
	size_t len;
};

/* What a parse needs to warn. */
struct parse {
	struct options *options;
	const char *source;
	option_warn_fn *warn;
	size_t mistakes;
};

enum { SHOWN_BYTES = 64, SOURCE_BYTES = 200, LINE_BYTES = 512 };

_Static_assert(sizeof(enum option_background) == sizeof(unsigned) &&
		sizeof(enum option_page) == sizeof(unsigned) &&
		sizeof(enum option_stats) == sizeof(unsigned),
	"choices are stored as unsigned");

#define ENTRY_BOOL(n, def, text)                                                                 \
	{ { #n, "true|false", "true|false", text }, OPTION_BOOL, offsetof(struct options, n), 0, \
		1 },
#define ENTRY_CHOICE(n, type, def, w, text) \
	{ { #n, w, w, text }, OPTION_CHOICE, offsetof(struct options, n), 0, 0 },
#define ENTRY_NUMBER(n, def, low, high, text)                                                   \
	{ { #n, #low ".." #high, NULL, text }, OPTION_NUMBER, offsetof(struct options, n), low, \
		high },
#define ENTRY_SIZE(n, def, text)                                                             \
	{ { #n, "bytes[k|m|g|t]", NULL, text }, OPTION_SIZE, offsetof(struct options, n), 0, \
		UINT64_MAX },

static const struct option_entry entries[] = { OPTION_TABLE(ENTRY_BOOL, ENTRY_CHOICE, ENTRY_NUMBER,
	ENTRY_SIZE) };

enum { ENTRIES = sizeof entries / sizeof entries[0] };

#define DEFAULT_BOOL(n, def, text) .n = (def),
#define DEFAULT_CHOICE(n, type, def, w, text) .n = (def),
#define DEFAULT_NUMBER(n, def, low, high, text) .n = (def),
#define DEFAULT_SIZE(n, def, text) .n = (def),
#define DEFAULTS                                                                         \
	{                                                                                \
		OPTION_TABLE(DEFAULT_BOOL, DEFAULT_CHOICE, DEFAULT_NUMBER, DEFAULT_SIZE) \
	}

struct options options = DEFAULTS;

void options_default(struct options *o)
{
	*o = (struct options)DEFAULTS;
}

static bool span_is(struct span a, const char *s)
{
	return strlen(s) == a.len && memcmp(a.s, s, a.len) == 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct span span_trim(struct span a)
{
	while (a.len && is_blank(a.s[0])) {
		a.s++;
		a.len--;
	}
	while (a.len && is_blank(a.s[a.len - 1]))
		a.len--;
	return a;
}

/* The next of the words that bars separate; false at the end of the list. */
static bool words_next(const char **words, struct span *ret)
{
	size_t len = strcspn(*words, "|");

	if (!len)
		return false;
	*ret = (struct span){ *words, len };
	*words += len + ((*words)[len] == '|');
	return true;
}

/* Whatever comes from outside is shown so that it stays on one line of limited length. */
static void show(struct format *f, struct span a, size_t limit)
{
	for (size_t i = 0; i < a.len && i < limit; i++)
		format_char(f, a.s[i] >= ' ' && a.s[i] <= '~' ? a.s[i] : '?');
	if (a.len > limit)
		format_str(f, "...");
}

static void show_words(struct format *f, const char *words)
{
	struct span word;

	for (bool first = true; words_next(&words, &word); first = false) {
		format_str(f, first ? "" : ", ");
		format_mem(f, word.s, word.len);
	}
}

/* Starts a warning about the key: "allod: SOURCE: WHAT'KEY'". */
static void warn_begin(struct parse *p, struct format *f, char *line, const char *what,
	struct span key)
{
	p->mistakes++;
	format_init(f, line, LINE_BYTES);
	format_str(f, "allod: ");
	show(f, (struct span){ p->source, strlen(p->source) }, SOURCE_BYTES);
	format_str(f, ": ");
	format_str(f, what);
	format_char(f, '\'');
	show(f, key, SHOWN_BYTES);
	format_char(f, '\'');
}

static void warn_end(struct parse *p, struct format *f, char *line)
{
	format_char(f, '\n');
	if (p->warn)
		p->warn(line);
}

static void warn_unknown(struct parse *p, struct span key)
{
	struct format f;
	char line[LINE_BYTES];

	warn_begin(p, &f, line, "unknown option ", key);
	warn_end(p, &f, line);
}

static void warn_no_value(struct parse *p, struct span key)
{
	struct format f;
	char line[LINE_BYTES];

	warn_begin(p, &f, line, "option ", key);
	format_str(&f, " has no value");
	warn_end(p, &f, line);
}

/* Says what the value should have been; `in_type` if it only lies out of the range. */
static void warn_value(struct parse *p, const struct option_entry *e, struct span value,
	bool in_type)
{
	struct format f;
	char line[LINE_BYTES];

	warn_begin(p, &f, line, "option ", (struct span){ e->info.name, strlen(e->info.name) });
	format_str(&f, ": '");
	show(&f, value, SHOWN_BYTES);
	if (e->kind == OPTION_BOOL) {
		format_str(&f, "' is not true or false");
	} else if (e->kind == OPTION_CHOICE) {
		format_str(&f, "' is not one of ");
		show_words(&f, e->info.words);
	} else if (e->kind == OPTION_SIZE) {
		format_str(&f, "' is not a size");
	} else if (!in_type) {
		format_str(&f, "' is not a number");
	} else {
		format_str(&f, "' is not between ");
		format_u64(&f, e->min);
		format_str(&f, " and ");
		format_u64(&f, e->max);
	}
	warn_end(p, &f, line);
}

/* Splits decimal digits off the front; a value that does not fit becomes UINT64_MAX. */
static bool take_digits(struct span *a, uint64_t *ret)
{
	uint64_t value = 0;
	size_t i = 0;

	for (; i < a->len && a->s[i] >= '0' && a->s[i] <= '9'; i++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (unsigned)(a->s[i] - '0'), &value))
			value = UINT64_MAX; /* and so with each digit that follows */
	}
	if (!i)
		return false;
	*a = (struct span){ a->s + i, a->len - i };
	*ret = value;
	return true;
}

static bool read_word(const char *words, struct span value, uint64_t *ret)
{
	struct span word;

	for (uint64_t i = 0; words_next(&words, &word); i++) {
		if (word.len == value.len && memcmp(word.s, value.s, word.len) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static bool read_size(struct span value, uint64_t *ret)
{
	static const char suffixes[] = "kmgt";
	unsigned shift = 0;
	uint64_t count;

	if (!take_digits(&value, &count) || value.len > 1)
		return false;
	if (value.len) {
		char lower = value.s[0] | 0x20;
		const char *suffix = lower ? strchr(suffixes, lower) : NULL;
		if (!suffix)
			return false;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (count == UINT64_MAX || count > UINT64_MAX >> shift)
		return false;
	*ret = count << shift;
	return true;
}

/* Reads a value of the option's type; *ret_in_type tells whether it was but out of range. */
static bool read_value(const struct option_entry *e, struct span value, uint64_t *ret,
	bool *ret_in_type)
{
	*ret_in_type = false;
	if (e->info.words)
		return read_word(e->info.words, value, ret);
	if (e->kind == OPTION_SIZE)
		return read_size(value, ret);
	if (!take_digits(&value, ret) || value.len)
		return false;
	*ret_in_type = true;
	return *ret >= e->min && *ret <= e->max;
}

static void store(struct options *o, const struct option_entry *e, uint64_t value)
{
	char *field = (char *)o + e->offset;

	if (e->kind == OPTION_BOOL)
		*(bool *)field = value == 0; /* the first word is "true" */
	else if (e->kind == OPTION_CHOICE)
		*(unsigned *)field = (unsigned)value;
	else
		*(uint64_t *)field = value;
}

/* The inverse of store(): the number, or the place of the word. */
static uint64_t load(const struct options *o, const struct option_entry *e)
{
	const char *field = (const char *)o + e->offset;

	if (e->kind == OPTION_BOOL)
		return !*(const bool *)field;
	if (e->kind == OPTION_CHOICE)
		return *(const unsigned *)field;
	return *(const uint64_t *)field;
}

static const struct option_entry *find(struct span key)
{
	for (size_t i = 0; i < ENTRIES; i++) {
		if (span_is(key, entries[i].info.name))
			return &entries[i];
	}
	return NULL;
}

/* Applies one "key:value". */
static void apply(struct parse *p, struct span item)
{
	const char *colon = memchr(item.s, ':', item.len);
	struct span key = { item.s, colon ? (size_t)(colon - item.s) : item.len };
	struct span value = { NULL, 0 };
	uint64_t number;
	bool in_type;

	key = span_trim(key);
	if (colon)
		value = span_trim((struct span){
			colon + 1, item.len - (size_t)(colon + 1 - item.s) });
	const struct option_entry *e = find(key);
	if (!e)
		warn_unknown(p, key);
	else if (!value.len)
		warn_no_value(p, key);
	else if (!read_value(e, value, &number, &in_type))
		warn_value(p, e, value, in_type);
	else
		store(p->options, e, number);
}

size_t options_parse(struct options *o, const char *text, const char *source, option_warn_fn *warn)
{
	struct parse p = { .options = o, .source = source, .warn = warn };

	while (*text) {
		struct span item = { text, strcspn(text, ",\n#") };
		text += item.len;
		if (*text == '#')
			text += strcspn(text, "\n");
		if (*text)
			text++;
		item = span_trim(item);
		if (item.len)
			apply(&p, item);
	}
	return p.mistakes;
}

bool options_info(size_t i, struct option_info *ret)
{
	if (i >= ENTRIES)
		return false;
	*ret = entries[i].info;
	return true;
}

void options_value(const struct options *o, size_t i, struct format *f)
{
	uint64_t value = load(o, &entries[i]);
	const char *words = entries[i].info.words;
	struct span word = { "?", 1 };

	if (!words) {
		format_u64(f, value);
		return;
	}
	for (uint64_t at = 0; at <= value && words_next(&words, &word);)
		at++;
	format_mem(f, word.s, word.len);
}

/* Adds a text broken into lines of at most 80 bytes, each indented. */
static void print_wrapped(struct format *f, const char *text, size_t indent)
{
	while (*text) {
		size_t len = strcspn(text, " ");
		if (f->column + 1 + len > 80)
			format_char(f, '\n');
		format_pad(f, indent);
		format_str(f, f->column > indent ? " " : "");
		format_mem(f, text, len);
		text += len + (text[len] == ' ');
	}
	format_char(f, '\n');
}

void options_print(const struct options *o, struct format *f)
{
	format_str(f, "allod options, set by ALLOD_CONF=\"key:value,key:value\":\n");
	for (size_t i = 0; i < ENTRIES; i++) {
		format_str(f, "  ");
		format_str(f, entries[i].info.name);
		format_char(f, ':');
		options_value(o, i, f);
		format_pad(f, 30);
		format_str(f, " (");
		format_str(f, entries[i].info.values);
		format_str(f, ")\n");
		print_wrapped(f, entries[i].info.doc, 6);
	}
}
