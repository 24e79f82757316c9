/* SPDX-License-Identifier: MIT */
/*
 * What the tests of slots share. The memory under the mock OS is real, and so are the mappings that
 * are counted here.
 */
#pragma once

#include "harness.h"
#include "os/mock.h"
#include "slot.h"

#include <errno.h>
#include <string.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* A machine without limits, and the page layer made. */
void slot_start(void);
/* A block in a slot; its live record; what check_zone() counts. */
char *slot_take(size_t bytes, size_t reserve, unsigned flags);
struct slot_ref slot_ref_of(const char *p);
/* A block in small slots side by side. */
char *slot_take_small(size_t bytes);
/* A run of the arena as a block, stamped. */
struct block slot_take_run(size_t bytes, size_t align, uint64_t seed);
/* One number each 64 KiB, at a place that varies. */
void slot_stamp(char *p, size_t bytes, uint64_t seed);
void slot_check_stamp(const char *p, size_t bytes, uint64_t seed);
/* Mappings of the process that lie in the accessible part of the zone. */
size_t slot_mappings(const struct zone *z);
size_t slot_costs(const struct zone *z);
/* The equation of slot.h. */
void slot_check_zone(enum slot_class class);
void slot_check_zones(void);
