/* SPDX-License-Identifier: MIT */
/*
 * Names for kinds of blocks, each with a number. Names are kept for ever; when there are too many,
 * further ones have no number.
 *
 * Operations        tag_number
 * Synchronization   any number of threads. A name is written before a compare-and-swap publishes
 *                   it in the first place that is free; who loses looks at what the winner put there
 * Ordering          [block.7]
 * Progress          lock-free; a thread stopped here keeps one name's memory
 */
#include "core.h"

#include <string.h>

enum {
	TAGS = 255,
	TAG_BYTES = 32,
};

static char names[2 * TAGS][TAG_BYTES];
static _Atomic(uint32_t) names_used;
static _Atomic(char *) tags[TAGS];

static char *name_make(const char *name)
{
	uint32_t i = a_load_rlx(&names_used);

	do {
		if (i == 2 * TAGS)
			return NULL;
	} while (!a_cas_weak_rlx(&names_used, &i, i + 1));
	memcpy(names[i], name, strlen(name) + 1);
	return names[i];
}

unsigned tag_number(const char *name)
{
	char *mine = NULL;

	for (unsigned i = 0; name && i < TAGS; i++) {
		/* [block.7] acq: the name is written; pairs with the exchange below. */
		char *known = a_load_acq(&tags[i]);
		if (!known && !mine)
			mine = name_make(name);
		if (!known && !mine)
			return 0;
		/* [block.7] acqrel: publishes the name, or reads another one. */
		if (!known && a_cas_strong_acqrel(&tags[i], &known, mine))
			return i + 1;
		if (!strcmp(known, name))
			return i + 1;
	}
	return 0;
}
