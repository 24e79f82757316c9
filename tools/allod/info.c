/* SPDX-License-Identifier: MIT */
/*
 * allod info: every probe of the os layer, what allod does with it and what is lost without it.
 *
 * The probes come in the order of the os layer, those of a group together; nothing is kept or
 * sorted here. The JSON form is an interface: fields are only ever added.
 */
#include <stdio.h>
#include <string.h>

#include "base/format.h"
#include "base/json.h"
#include "cli.h"
#include "os/os.h"

enum { LINE_COLUMNS = 80, NAME_COLUMNS = 26, LABEL_COLUMN = 6, TEXT_COLUMN = 15 };

/* What the callback of the text form carries from probe to probe. */
struct text_state {
	const char *group;
	unsigned missing;
};

/* Prints words from column `indent` on, where the cursor stands, and wraps them there. */
static void print_wrapped(const char *text, int indent)
{
	int column = indent;

	while (*text) {
		int length = (int)strcspn(text, " ");

		if (column > indent && column + 1 + length > LINE_COLUMNS) {
			printf("\n%*s", indent, "");
			column = indent;
		}
		column += printf("%s%.*s", column > indent ? " " : "", length, text);
		text += length;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static void print_labelled(const char *label, const char *text)
{
	if (!text || !*text)
		return;
	printf("%*s%-*s", LABEL_COLUMN, "", TEXT_COLUMN - LABEL_COLUMN, label);
	print_wrapped(text, TEXT_COLUMN);
}

static void print_group_of(const struct os_probe *probe, struct text_state *state)
{
	const char *group = probe->group ? probe->group : "host";

	if (state->group && strcmp(state->group, group) == 0)
		return;
	printf("\n%c%s\n", group[0] - 'a' + 'A', group + 1);
	state->group = group;
}

/* "yes", "no", a value, or "no" and a value that says why. */
static void print_finding(const struct os_probe *probe)
{
	bool has_value = probe->value && *probe->value;
	int column = printf("  %-*s", NAME_COLUMNS, probe->name);

	if (!probe->available)
		column += printf("no%s", has_value ? ": " : "");
	else if (!has_value)
		column += printf("yes");
	print_wrapped(has_value ? probe->value : "", column);
}

static void print_probe(const struct os_probe *probe, void *arg)
{
	struct text_state *state = arg;

	print_group_of(probe, state);
	print_finding(probe);
	print_labelled("enables:", probe->enables);
	print_labelled(probe->available ? "without:" : "lost:", probe->lost);
	state->missing += !probe->available;
}

static void print_text(void)
{
	struct text_state state = { NULL, 0 };

	puts("allod " ALLOD_VERSION ": what this host offers");
	os_probe_each(print_probe, &state);
	if (state.missing)
		printf("\nNot here: %u of these; see 'lost' above.\n", state.missing);
	else
		puts("\nNothing is missing here.");
}

static void flush_to_stdout(void *context, const char *text, size_t length)
{
	(void)context;
	fwrite(text, 1, length, stdout);
}

static void write_string(struct json *json, const char *key, const char *value)
{
	json_key(json, key);
	json_str(json, value);
}

static void write_probe(const struct os_probe *probe, void *arg)
{
	struct json *json = arg;

	json_object_begin(json);
	write_string(json, "group", probe->group ? probe->group : "host");
	write_string(json, "name", probe->name);
	json_key(json, "available");
	json_bool(json, probe->available);
	write_string(json, "value", probe->value);
	write_string(json, "enables", probe->enables);
	write_string(json, "lost", probe->lost);
	json_object_end(json);
}

static void print_json(void)
{
	char buffer[4096];
	struct format format;
	struct json json;

	format_init_flush(&format, buffer, sizeof(buffer), flush_to_stdout, NULL);
	json_init(&json, &format);
	json_object_begin(&json);
	write_string(&json, "schema", "allod.info/1");
	write_string(&json, "version", ALLOD_VERSION);
	json_key(&json, "probes");
	json_array_begin(&json);
	os_probe_each(write_probe, &json);
	json_array_end(&json);
	json_object_end(&json);
	json_end(&json);
	format_end(&format);
}

int info_main(const struct cli_command *command, int argc, char **argv)
{
	struct cli_parser parser = { .command = command, .argc = argc, .argv = argv, .next = 1 };
	bool json = false;
	int index;

	while ((index = cli_next_option_only(&parser)) >= 0)
		json = true;
	if (index == CLI_ERROR)
		return CLI_USAGE;
	if (index == CLI_END && json)
		print_json();
	else if (index == CLI_END)
		print_text();
	return cli_finish();
}
