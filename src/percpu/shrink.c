/* SPDX-License-Identifier: MIT */
/*
 * Giving back the memory of free blocks, on every active processor: many runs of them, of all of a
 * pool's chunks, by one system call. The caller holds the pool's lock.
 */
#include "os/area.h"
#include "os/os.h"
#include "percpu/bits.h"
#include "percpu/content.h"
#include "percpu/percpu.h"

enum { RANGES_MOST = 64, RUNS_MOST = 32 };

/* Free blocks whose ranges are among those that go back together. */
struct blocks {
	struct percpu_chunk *chunk;
	uint32_t first;
	uint32_t count;
};

struct shrink {
	size_t ranges;
	size_t runs;
	size_t bytes; /* that went back, for each processor */
	int error;    /* of what was handed over since the runs were last dealt with */
	struct os_range range[RANGES_MOST];
	struct blocks run[RUNS_MOST];
};

static void ranges_flush(struct shrink *s)
{
	int error = s->ranges ? os_decommit_many(s->range, s->ranges) : 0;

	s->error = s->error ? s->error : error;
	s->ranges = 0;
}

/* The run of blocks, on each processor that may have memory there. */
static void ranges_add(struct shrink *s, const struct percpu_chunk *chunk, uint32_t first,
	uint32_t count)
{
	struct cpu_walk walk = { 0 };
	unsigned cpu;
	uint32_t row;

	while (percpu_cpu_walk_next(&walk, chunk->pool, &cpu, &row)) {
		if (s->ranges == RANGES_MOST)
			ranges_flush(s);
		s->range[s->ranges++] = (struct os_range){
			chunk_place(chunk, cpu, block_base(chunk, first)),
			(size_t)count << BLOCK_SHIFT,
		};
	}
}

/* Whether the blocks of the page are free, and one of them may have memory. */
static bool page_is_idle(const struct percpu_chunk *chunk, uint32_t first, uint32_t per)
{
	bool has_memory = false;

	for (uint32_t i = first; i < first + per; i++) {
		if (i >= chunk->blocks || chunk->block[i].left != block_bits(chunk))
			return false;
		has_memory |= chunk->block[i].fresh != 0;
	}
	return has_memory;
}

/*
 * Blocks whose memory went back contain the image. That is made zero again; if the file does not
 * let go of it, the blocks are not fresh.
 */
static void blocks_freshen(struct percpu_chunk *chunk, uint32_t first, uint32_t count)
{
	uint32_t words = (chunk->blocks + 63) / 64;

	for (uint32_t row = 0; row < chunk->known_rows; row++)
		bits_clear(chunk->known + (size_t)row * words, first, first + count);
	if (chunk->is_file &&
		os_file_discard(percpu_content_image(chunk, block_base(chunk, first)),
			(size_t)count << BLOCK_SHIFT))
		return;
	for (uint32_t i = first; i < first + count; i++) {
		if (!chunk->block[i].fresh)
			continue;
		chunk->block[i].fresh = 0;
		chunk->idle_blocks--;
		chunk->pool->idle_blocks--;
		chunk->pool->dirty_blocks--;
		if (chunk->tag)
			chunk->tag[i] = 0;
	}
}

static void runs_flush(struct shrink *s)
{
	ranges_flush(s);
	for (size_t i = 0; i < s->runs && !s->error; i++) {
		blocks_freshen(s->run[i].chunk, s->run[i].first, s->run[i].count);
		s->bytes += (size_t)s->run[i].count << BLOCK_SHIFT;
	}
	s->runs = 0;
	s->error = 0;
}

static void chunk_shrink(struct shrink *s, struct percpu_chunk *chunk)
{
	uint32_t per = percpu_page_blocks();

	for (uint32_t i = 0; i < chunk->blocks;) {
		uint32_t run = 0;

		while (page_is_idle(chunk, i + run, per))
			run += per;
		if (run) {
			if (s->runs == RUNS_MOST)
				runs_flush(s);
			ranges_add(s, chunk, i, run);
			s->run[s->runs++] = (struct blocks){ chunk, i, run };
		}
		i += run ? run : per;
	}
}

size_t percpu_content_shrink(struct allod_percpu_pool *pool)
{
	struct shrink s;
	int is_alone = -1;

	s.ranges = s.runs = s.bytes = 0;
	s.error = 0;
	if (pool->options.init_cpu)
		return 0;
	for (struct percpu_chunk *c = pool->chunks; c; c = c->next_of_pool) {
		if (!c->idle_blocks || percpu_content_is_frozen(c))
			continue;
		/* A child may go on reading pages of the file. */
		if (c->is_file && is_alone < 0)
			is_alone = percpu_content_is_alone();
		if (!c->is_file || is_alone)
			chunk_shrink(&s, c);
	}
	runs_flush(&s);
	return s.bytes;
}

bool percpu_content_revert(struct percpu_chunk *chunk)
{
	size_t bytes = (size_t)chunk->blocks << BLOCK_SHIFT;
	struct shrink s;

	s.ranges = 0;
	s.error = 0;
	ranges_add(&s, chunk, 0, chunk->blocks);
	ranges_flush(&s);
	if (s.error)
		return false;
	if (!chunk->is_file || percpu_content_is_frozen(chunk))
		return true;
	if (!percpu_content_is_alone())
		return false;
	return os_file_discard(chunk->image, bytes) == 0;
}
