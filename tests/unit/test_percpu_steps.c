/* SPDX-License-Identifier: MIT */
/*
 * Every operation interrupted at every instruction by every operation, on the real machine code.
 * The test plays the kernel (percpu_kernel.h). After the interruption the thread goes on on the
 * same processor or on another. What comes out must be what the plain C of the operations gives
 * when they run one after the other, in one of the orders that the interruption allows. And without
 * interruption, random operations give what the plain C gives.
 */
#include <stddef.h>
#include <string.h>

#include "harness.h"
#include "percpu_cases.h"
#include "percpu_kernel.h"

struct world world;
struct allod_percpu_view world_view = { sizeof(struct world_copy), ALLOD_RSEQ_CPU_ID,
	WORLD_COPIES };

/* The state behind a run, and what the two operations gave. */
struct result {
	struct world world;
	struct outcome first;
	struct outcome second;
};

static const uint64_t values[2] = { 0x1122334455667701, 0x99aabbccddeeff02 };

static struct result now;
static unsigned first_case;
static unsigned second_case;
static int32_t go_on_at; /* where the interrupted operation goes on */

static void link_list(struct allod_percpu_list *list, unsigned node)
{
	list->first = &world.nodes[node];
	world.nodes[node].next = &world.nodes[node + 1];
	world.nodes[node + 1].next = NULL;
}

static void world_make(void)
{
	memset(&world, 0, sizeof world);
	memset(&now, 0, sizeof now);
	for (unsigned i = 0; i < WORLD_COPIES; i++) {
		struct world_copy *copy = &world.copies[i];

		copy->word = 100 + i;
		copy->small[0] = 7 + i;
		copy->small[1] = 0xfffffff0;
		copy->compared = i;
		copy->pair.first = 1000 + i;
		copy->depth = 1 + i;
		for (unsigned k = 0; k < copy->depth; k++)
			copy->stack[k][0] = copy->stack[k][1] = 50 * i + k;
		copy->closed.gate = 1;
		link_list(&copy->list, 2 * i);
		/* Almost full, so that the ring's end comes into play. */
		copy->ring.head = copy->ring.tail = WORLD_RING_BYTES - 40 * (i + 1);
	}
	for (unsigned i = 2 * WORLD_COPIES; i < WORLD_NODES; i++)
		world.nodes[i].next = &world.nodes[i];
}

/* What nobody can see is not compared: records above the depth, links of nodes in no list. */
static void world_save(struct result *ret)
{
	bool listed[WORLD_NODES] = { false };

	for (unsigned i = 0; i < WORLD_COPIES; i++) {
		struct world_copy *copy = &world.copies[i];
		unsigned length = 0;

		for (uint64_t k = copy->depth; k < WORLD_RECORDS; k++)
			memset(copy->stack[k], 0, sizeof copy->stack[k]);
		for (struct allod_percpu_node *n = copy->list.first; n != NULL; n = n->next) {
			CHECK(length++ < WORLD_NODES);
			listed[n - world.nodes] = true;
		}
	}
	for (unsigned i = 0; i < WORLD_NODES; i++) {
		if (!listed[i])
			world.nodes[i].next = NULL;
	}
	*ret = now;
	ret->world = world;
}

static void run_first(void)
{
	cases_of_sequences[first_case].run(0, values[0], &now.first);
}

/* The intruder works on the processor that the other was on. */
static void intrude(void)
{
	cases_of_sequences[second_case].run(1, values[1], &now.second);
	kernel_move(go_on_at);
}

/* One after the other by the plain C. */
static void run_in_order(bool second_comes_first, int32_t first_at, struct result *ret)
{
	world_make();
	for (unsigned turn = 0; turn < 2; turn++) {
		const bool second = (turn == 0) == second_comes_first;

		reference_move(second ? 0 : first_at);
		kernel_move(second ? 0 : first_at); /* rings have no plain C of their own */
		if (second)
			cases_of_reference[second_case].run(1, values[1], &now.second);
		else
			cases_of_reference[first_case].run(0, values[0], &now.first);
	}
	world_save(ret);
}

static bool same(const struct result *a, const struct result *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

/*
 * The first runs on processor 0 before the second, or behind it wherever it goes on. What only reads
 * may do so behind it on processor 0 too, where the thread no longer is.
 */
static bool is_explained(const struct result *got)
{
	struct result want;

	run_in_order(false, 0, &want);
	if (same(got, &want))
		return true;
	run_in_order(true, go_on_at, &want);
	if (same(got, &want) || first_case >= READS)
		return same(got, &want);
	run_in_order(true, 0, &want);
	return same(got, &want);
}

static bool interrupt_once(long k)
{
	struct result got;

	world_make();
	kernel_move(0);
	const bool hit = kernel_interrupt(k, run_first, intrude);
	if (!hit)
		return false;
	world_save(&got);
	if (!is_explained(&got))
		test_fail(__FILE__, __LINE__, "%s, interrupted by %s at step %ld, goes on at %d",
			cases_of_sequences[first_case].name, cases_of_sequences[second_case].name,
			k, (int)go_on_at);
	return true;
}

/* How many interruptions there were. */
static unsigned interrupt_everywhere(void)
{
	const long steps = kernel_steps();
	unsigned hits = 0;

	for (long k = 0; steps < 0 || k < steps; k++) {
		const bool hit = interrupt_once(k);

		hits += hit;
		if (steps < 0 && !hit)
			break;
	}
	return hits;
}

/*
 * Of the pairs of an operation with itself each second, of the others each `sparse`-th, others in
 * every run; the long form takes all.
 */
static bool is_chosen(unsigned sparse)
{
	const uint64_t number = first_case * CASES + second_case + test_seed();

	return number % test_count(first_case == second_case ? 2 : sparse, 1) == 0;
}

static void each_by_each(enum allod_rseq_index by, unsigned sparse)
{
	unsigned hits = 0;
	unsigned pairs = 0;

	kernel_start();
	world_view.by = by;
	for (first_case = 0; first_case < CASES; first_case++) {
		for (second_case = 0; second_case < CASES; second_case++) {
			if (!is_chosen(sparse))
				continue;
			pairs++;
			for (go_on_at = 0; go_on_at < WORLD_COPIES; go_on_at++)
				hits += interrupt_everywhere();
		}
	}
	test_note("%u interruptions of %u pairs", hits, pairs);
	CHECK(hits > pairs * 2 * 4);
}

TEST_TIMEOUT(every_instruction_by_processor, 60)
{
	each_by_each(ALLOD_RSEQ_CPU_ID, 17);
}

TEST_TIMEOUT(every_instruction_by_concurrency_id, 60)
{
	each_by_each(ALLOD_RSEQ_MM_CID, 97);
}

/* The same operations on the same state, by sequences and by plain C. */
static void run_both(unsigned number, unsigned by, uint64_t value, int32_t at)
{
	static struct world before;
	struct result got, want;

	before = world;
	memset(&now, 0, sizeof now);
	kernel_move(at);
	cases_of_sequences[number].run(by, value, &now.first);
	got = now;
	got.world = world;
	world = before;
	memset(&now, 0, sizeof now);
	reference_move(at);
	cases_of_reference[number].run(by, value, &now.first);
	want = now;
	want.world = world;
	if (!same(&got, &want))
		test_fail(__FILE__, __LINE__, "%s is not what the plain C says",
			cases_of_sequences[number].name);
}

TEST(sequences_are_what_the_plain_c_says)
{
	uint64_t random = test_seed();

	kernel_start();
	for (unsigned round = 0; round < test_count(2000, 100000); round++) {
		world_make();
		for (unsigned i = 0; i < 20; i++) {
			const uint64_t choice = test_random(&random);

			world_view.by = choice >> 40 & 1;
			run_both(choice % CASES, choice >> 41 & 1, test_random(&random),
				choice >> 42 & 1);
		}
	}
}

TEST(descriptors_are_sound)
{
	CHECK(kernel_check_descriptors() > CASES);
}
