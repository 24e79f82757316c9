/* SPDX-License-Identifier: MIT */
/* The table of size classes and the arithmetic over it, without a heap. */
#include "harness.h"
#include "heap/class.h"
#include "heap/heap.h"
#include "heap/slab.h"

#define GRANULE ((size_t)64 << 10)

static size_t bytes_of(unsigned class)
{
	return heap_classes[class].bytes;
}

TEST(every_size_maps_to_the_smallest_class)
{
	for (size_t size = 1; size <= CLASS_BYTES_MAX; size++) {
		const unsigned class = class_of(size);
		CHECK(class > 0 && class < CLASS_COUNT);
		CHECK(bytes_of(class) >= size);
		CHECK(bytes_of(class - 1) < size);
	}
	CHECK_EQ(bytes_of(CLASS_COUNT - 1), CLASS_BYTES_MAX);
}

TEST(the_good_size_is_the_class_or_whole_granules)
{
	for (size_t size = 1; size <= CLASS_BYTES_MAX; size++)
		CHECK_EQ(heap_good_size(size), bytes_of(class_of(size)));
	CHECK_EQ(heap_good_size(0), 16);
	CHECK_EQ(heap_good_size(CLASS_BYTES_MAX + 1), GRANULE);
	CHECK_EQ(heap_good_size(GRANULE), GRANULE);
	CHECK_EQ(heap_good_size(GRANULE + 1), 2 * GRANULE);
	CHECK_EQ(heap_good_size(HEAP_SIZE_MAX), (size_t)1 << 63);
	CHECK_EQ(heap_good_size(HEAP_SIZE_MAX + 1), 0);
	CHECK_EQ(heap_good_size(SIZE_MAX), 0);
}

/* The table agrees with the constants that the fast path relies on. */
TEST(fine_classes_are_multiples_of_16)
{
	CHECK_EQ(bytes_of(0), 0);
	for (unsigned class = 1; class < CLASS_FINE_COUNT; class ++)
		CHECK_EQ(bytes_of(class), class * 16);
	CHECK_EQ(bytes_of(CLASS_FINE_COUNT - 1), CLASS_FINE_BYTES);
}

TEST(classes_are_an_eighth_apart)
{
	for (unsigned class = 2; class < CLASS_COUNT; class ++) {
		const size_t below = bytes_of(class - 1);
		CHECK(bytes_of(class) > below);
		CHECK_EQ(bytes_of(class) % HEAP_ALIGN_MIN, 0);
		if (below >= 128)
			CHECK(8 * bytes_of(class) <= 9 * below);
	}
}

TEST(slabs_waste_little_and_hold_enough)
{
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		const struct class *c = &heap_classes[class];
		const size_t span = c->granules * GRANULE;
		CHECK(c->granules >= 1 && c->granules <= 32);
		CHECK_EQ(c->capacity, span / c->bytes);
		CHECK(span - (size_t)c->capacity * c->bytes <= span / 28);
		CHECK(c->capacity >= 4);
		/* Index plus one, and the count, fit into the word. */
		CHECK(c->capacity < 1u << WORD_HEAD_BITS);
		CHECK(c->threshold >= 1 && c->threshold <= c->capacity);
		CHECK(c->batch >= 1 && c->batch <= c->capacity);
		/* Carving touches a page's worth of blocks at most. */
		CHECK(c->batch == 1 || (size_t)c->batch * c->bytes <= 4096);
	}
}

/* As few granules as that takes: no smaller slab would satisfy the two rules. */
TEST(slabs_are_as_small_as_the_rules_allow)
{
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		const struct class *c = &heap_classes[class];
		for (size_t granules = 1; granules < c->granules; granules++) {
			const size_t span = granules * GRANULE;
			CHECK(span / c->bytes < 4 || span % c->bytes > span / 28);
		}
	}
}

/* The fast path's test: the product with the magic is below the magic only for multiples. */
TEST(the_magic_is_exact_for_every_offset)
{
	unsigned single = 0;
	for (unsigned class = 1; class < CLASS_COUNT; class ++) {
		const struct class *c = &heap_classes[class];
		if (c->granules != 1) {
			CHECK_EQ(c->magic, 0);
			continue;
		}
		single++;
		for (uint32_t offset = 0; offset < GRANULE; offset++) {
			const uint32_t remainder = offset * c->magic;
			CHECK_EQ(remainder < c->magic, offset % c->bytes == 0);
		}
	}
	CHECK(single > CLASS_FINE_COUNT);
}

TEST(aligned_classes_are_the_smallest_that_serve)
{
	for (size_t align = HEAP_ALIGN_MIN; align <= GRANULE; align *= 2) {
		for (size_t size = align; size <= CLASS_BYTES_MAX; size += 48) {
			const unsigned class = class_of(size_aligned(align, size));
			CHECK(class > 0);
			CHECK(bytes_of(class) >= size && bytes_of(class) % align == 0);
			for (unsigned lower = class_of(size); lower < class; lower++)
				CHECK(bytes_of(lower) % align != 0);
		}
	}
}

/* The price of an alignment is at most the next power of two. */
TEST(aligned_classes_exist_up_to_the_largest)
{
	for (size_t align = HEAP_ALIGN_MIN; align <= CLASS_BYTES_MAX; align *= 2) {
		size_t power = align;
		for (size_t size = align; size <= CLASS_BYTES_MAX; size += 16) {
			while (power < size)
				power *= 2;
			CHECK(bytes_of(class_of(size_aligned(align, size))) <= power);
		}
		CHECK_EQ(class_of(size_aligned(align, CLASS_BYTES_MAX)), CLASS_COUNT - 1);
	}
}
