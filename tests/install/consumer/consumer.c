/* SPDX-License-Identifier: MIT */
/* A C program against the installed library: every face of it that a plain program would use. */
#include <allod/heap.h>
#include <allod/version.h>
#include <stdio.h>
#include <string.h>

/* Names that the library uses inside; a program linked with the archive may have them too. */
int options = 1;
int page_alloc(void);
int page_alloc(void)
{
	return options;
}

int main(void)
{
	char *text = allod_malloc(100);
	char *grown;

	if (!text || strcmp(allod_version(), ALLOD_VERSION_STRING) != 0)
		return 1;
	strcpy(text, "allod");
	grown = allod_realloc(text, 100000);
	if (!grown || strcmp(grown, "allod") != 0 || allod_malloc_usable_size(grown) < 100000)
		return 2;
	puts(grown);
	allod_free(grown);
	return page_alloc() - 1;
}
