/* SPDX-License-Identifier: MIT */
/* The end of a process that misuses the layer. The lines are interface: tests compare them. */
#include "os/os.h"
#include "percpu/percpu.h"

_Noreturn void percpu_fatal(const char *line)
{
	os_fatal(line);
}

/* Whether a live element that begins before `bit` reaches it. */
static bool is_inside(const struct percpu_chunk *chunk, uint32_t bit, bool is_misaligned)
{
	for (uint32_t at = bit + is_misaligned; at-- > 0;) {
		if (a_load_rlx(&chunk->live[at / 64]) >> at % 64 & 1)
			return chunk_end_of(chunk, at) >= bit;
		if (at < bit && (a_load_rlx(&chunk->end[at / 64]) >> at % 64 & 1))
			return false;
	}
	return false;
}

_Noreturn void percpu_fatal_free(uintptr_t element)
{
	struct percpu_chunk *chunk = percpu_root ? chunk_of(element) : NULL;

	if (chunk &&
		is_inside(chunk, chunk_bit_of(chunk, element), (element & chunk->grain_mask) != 0))
		percpu_fatal("allod: percpu: interior pointer freed\n");
	if (!chunk || element % ALLOD_PERCPU_GRANULE)
		percpu_fatal("allod: percpu: invalid free\n");
	percpu_fatal("allod: percpu: double free\n");
}
