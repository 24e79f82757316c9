/* SPDX-License-Identifier: MIT */
/* Reading one number from a file of /proc or /sys. For src/os only. */
#pragma once

#include <stdint.h>

/* The decimal number a text begins with, or `deflt`; "max" of a control group is no number. */
static inline uint64_t number_parse(const char *text, uint64_t deflt)
{
	uint64_t value = 0;

	if (*text < '0' || *text > '9')
		return deflt;
	for (; *text >= '0' && *text <= '9'; text++)
		value = value * 10 + (uint64_t)(*text - '0');
	return value;
}
