/* SPDX-License-Identifier: MIT */
/*
 * options-man PAGE.scd: copies a man page to standard output and puts a paragraph for each entry
 * of the option table in place of the line "; options". Runs while allod is built, on the building
 * machine.
 */
#include <stdio.h>
#include <string.h>

#include "base/options.h"

/* Text as scdoc takes it literally. */
static void print_literal(const char *text)
{
	for (; *text; text++) {
		if (strchr("\\_*", *text))
			putchar('\\');
		putchar(*text);
	}
}

static void print_option(const struct options *defaults, size_t i, const struct option_info *info)
{
	char value[64];
	struct format f;

	format_init(&f, value, sizeof value);
	options_value(defaults, i, &f);
	printf("%s*%s*:", i ? "\n" : "", info->name);
	print_literal(info->values);
	printf("\n\t");
	print_literal(info->doc);
	printf(" Default ");
	print_literal(value);
	printf(".\n");
}

static void print_options(void)
{
	struct options defaults;
	struct option_info info;

	options_default(&defaults);
	for (size_t i = 0; options_info(i, &info); i++)
		print_option(&defaults, i, &info);
}

int main(int argc, char **argv)
{
	char line[4096];
	unsigned places = 0;
	FILE *page = argc == 2 ? fopen(argv[1], "r") : NULL;

	if (!page) {
		fprintf(stderr, "usage: options-man PAGE.scd\n");
		return 2;
	}
	while (fgets(line, sizeof line, page)) {
		if (strcmp(line, "; options\n") == 0) {
			places++;
			print_options();
		} else {
			fputs(line, stdout);
		}
	}
	fclose(page);
	if (!places) {
		fprintf(stderr, "options-man: %s: no line \"; options\"\n", argv[1]);
		return 1;
	}
	return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
