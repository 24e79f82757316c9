/* SPDX-License-Identifier: MIT */
/*
 * fragment LIVE PHASES TURNS IDLE_MS: keeps LIVE bytes through PHASES whose sizes shift, from small
 * blocks to larger ones and back. A phase replaces random blocks until it has allocated LIVE anew
 * TURNS times over, so that each begins among a few that are left of those before. Reports memory
 * over what is live, after an idle time.
 */
#include "workload.h"

enum { LEAST = 64, KINDS = 6 };

struct slot {
	void *block;
	size_t bytes;
};

static struct slot *slots;
static size_t slot_count, most_slots, live;

/* Frees random blocks until there is room for this many bytes. */
static void make_room(size_t bytes, size_t limit, uint32_t *state)
{
	while (live + bytes > limit) {
		struct slot *victim = &slots[random_below(state, slot_count)];

		block_give(victim->block);
		live -= victim->bytes;
		*victim = slots[--slot_count];
	}
}

static void run_phase(size_t low, size_t limit, size_t amount, uint32_t *state)
{
	for (size_t done = 0; done < amount;) {
		size_t bytes = size_log(state, low, 4 * low);

		make_room(bytes, limit, state);
		slots[slot_count++] = (struct slot){ block_take(bytes), bytes };
		live += bytes;
		done += bytes;
	}
	if (slot_count > most_slots)
		most_slots = slot_count;
}

int main(int argc, char **argv)
{
	size_t limit = number_of(argc, argv, 1);
	size_t phases = number_of(argc, argv, 2);
	size_t turns = number_of(argc, argv, 3);
	uint32_t state = 1;

	slots = table_of(limit / LEAST, sizeof(*slots));
	for (size_t i = 0; i < phases; i++) {
		size_t step = i % (2 * KINDS);
		size_t kind = step < KINDS ? step : 2 * KINDS - 1 - step;

		run_phase((size_t)LEAST << kind, limit, turns * limit, &state);
	}
	sleep_ms(number_of(argc, argv, 4));
	report("live", (double)live, "bytes");
	report("resident_over_live",
		((double)resident_bytes() - (double)(most_slots * sizeof(*slots))) / (double)live,
		"ratio");
	for (size_t i = 0; i < slot_count; i++)
		block_give(slots[i].block);
	return 0;
}
