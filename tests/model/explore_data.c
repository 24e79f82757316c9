/* SPDX-License-Identifier: MIT */
/*
 * Plain data that the scenarios or sources tell of, checked for races by vector clocks, and ranges
 * of memory that a scenario declares unmapped. A datum is known by the address of its first byte.
 */
#include <string.h>

#include "explore_memory.h"

enum {
	CELLS = 256,
	RANGES = 8,
};

/* A plain datum: its last write and each thread's last read since. */
struct cell {
	uintptr_t addr;
	uint32_t write_clock, read_clock[EXPLORE_THREADS];
	int writer; /* -1 = set_up */
	const char *file;
	unsigned line;
};

struct range {
	uintptr_t addr;
	size_t size;
};

static uintptr_t cell_addr(unsigned index);

static struct cell cells[CELLS];
static struct range unmapped[RANGES];
static unsigned cell_count, range_count;
static struct memory_table cell_table = { .addr_of = cell_addr };

static uintptr_t cell_addr(unsigned index)
{
	return cells[index].addr;
}

void data_begin_execution(void)
{
	cell_count = range_count = 0;
}

void data_check_mapped(uintptr_t addr, size_t size, const char *file, unsigned line)
{
	for (unsigned i = 0; i < range_count; i++)
		if (addr < unmapped[i].addr + unmapped[i].size && unmapped[i].addr < addr + size)
			explore_fail("%s:%u: access to unmapped memory", file, line);
}

static struct cell *find_cell(uintptr_t addr)
{
	unsigned i = memory_look_up(&cell_table, addr, cell_count);

	if (i == CELLS)
		explore_fail("more than %d plain data", CELLS);
	if (i == cell_count)
		cells[cell_count++] = (struct cell){ .addr = addr, .writer = -1, .file = "" };
	return &cells[i];
}

static void check_write(const struct cell *c, const char *file, unsigned line)
{
	if (c->writer >= 0 && !memory_knows(c->writer, c->write_clock))
		explore_fail("%s:%u: data race with the write by thread %d at %s:%u", file, line,
			c->writer, c->file, c->line);
}

static void check_reads(const struct cell *c, const char *file, unsigned line)
{
	for (int t = 0; t < EXPLORE_THREADS; t++)
		if (!memory_knows(t, c->read_clock[t]))
			explore_fail("%s:%u: data race with a read by thread %d", file, line, t);
}

void explore_data_read(const volatile void *p, size_t size, const char *file, unsigned line)
{
	struct cell *c;

	if (sched_self < 0)
		return;
	data_check_mapped((uintptr_t)p, size, file, line);
	c = find_cell((uintptr_t)p);
	check_write(c, file, line);
	c->read_clock[sched_self] = memory_clock(sched_self, sched_self);
}

void explore_data_write(volatile void *p, size_t size, const char *file, unsigned line)
{
	struct cell *c;

	if (sched_self < 0)
		return;
	data_check_mapped((uintptr_t)p, size, file, line);
	c = find_cell((uintptr_t)p);
	check_write(c, file, line);
	check_reads(c, file, line);
	memset(c->read_clock, 0, sizeof(c->read_clock));
	c->writer = sched_self;
	c->write_clock = memory_clock(sched_self, sched_self);
	c->file = file;
	c->line = line;
}

/* Unmapping races with every access that it is not ordered behind. */
static void check_unmap(const volatile void *p, size_t bytes)
{
	for (unsigned i = 0; i < cell_count; i++) {
		if (cells[i].addr - (uintptr_t)p >= bytes)
			continue;
		check_write(&cells[i], "explore_unmap", 0);
		check_reads(&cells[i], "explore_unmap", 0);
	}
}

void explore_unmap(const volatile void *p, size_t bytes)
{
	struct explore_access access = { .addr = (uintptr_t)p, .size = bytes, .write = true };

	if (range_count == RANGES)
		explore_fail("more than %d unmapped ranges", RANGES);
	if (sched_self >= 0) {
		sched_point(&access);
		check_unmap(p, bytes);
		sched_performed(true);
	}
	unmapped[range_count++] = (struct range){ (uintptr_t)p, bytes };
	trace("T%d unmaps ..%04lx", sched_self, (unsigned long)((uintptr_t)p & 0xffff));
}

void explore_map(const volatile void *p, size_t bytes)
{
	for (unsigned i = 0; i < range_count; i++)
		if (unmapped[i].addr == (uintptr_t)p && unmapped[i].size == bytes)
			unmapped[i--] = unmapped[--range_count];
	explore_forget(p, bytes);
}

void explore_forget(const volatile void *p, size_t bytes)
{
	memory_forget(p, bytes);
	for (unsigned i = 0; i < cell_count; i++)
		if (cells[i].addr - (uintptr_t)p < bytes)
			cells[i] = (struct cell){ .addr = cells[i].addr, .writer = -1, .file = "" };
}
