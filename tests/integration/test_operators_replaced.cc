/* SPDX-License-Identifier: MIT */
/*
 * Programs that replace some operators new and delete, and not others, run with liballod-malloc.so
 * preloaded. [new.delete] defines each operator that a program leaves alone by one that it may have
 * replaced: a block of the program's own operator new, had in whatever form, must come to its own
 * operator delete, in whatever form it is deleted.
 *
 * Built once for each pair that programs replace: for one object, for arrays, and both with an
 * alignment. None replaces the sized forms, of which compilers rightly warn.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#define _Noreturn [[noreturn]]
extern "C" {
#include "harness.h"
}

namespace
{

enum group { PLAIN, ARRAY, ALIGNED, ARRAY_ALIGNED };

const uint64_t MAGIC = 0x5ca1ab1e0ddba11;
const std::align_val_t ALIGN{ 64 };

/* In front of each block of the program's operators: other allocators would stumble over it. */
struct header {
	alignas(64) uint64_t magic;
};

size_t news, deletes;
bool refuse;

/* Not inlined: compilers would warn of new and free() in one function. */
__attribute__((noinline)) void *take(size_t size)
{
	header *h;

	if (refuse)
		throw std::bad_alloc();
	h = static_cast<header *>(aligned_alloc(64, sizeof(header) + size));
	CHECK(h != nullptr);
	h->magic = MAGIC;
	news++;
	return h + 1;
}

__attribute__((noinline)) void give(void *block)
{
	header *h = static_cast<header *>(block) - 1;

	if (block == nullptr)
		return;
	CHECK_EQ(h->magic, MAGIC);
	h->magic = 0;
	deletes++;
	free(h);
}

} // namespace

#ifdef REPLACED_PLAIN
static const enum group replaced = PLAIN;
void *operator new(size_t size)
{
	return take(size);
}
void operator delete(void *block) noexcept
{
	give(block);
}
#endif

#ifdef REPLACED_ARRAY
static const enum group replaced = ARRAY;
void *operator new[](size_t size)
{
	return take(size);
}
void operator delete[](void *block) noexcept
{
	give(block);
}
#endif

#ifdef REPLACED_ALIGNED
static const enum group replaced = ALIGNED;
void *operator new(size_t size, std::align_val_t)
{
	return take(size);
}
void operator delete(void *block, std::align_val_t) noexcept
{
	give(block);
}
#endif

#ifdef REPLACED_ARRAY_ALIGNED
static const enum group replaced = ARRAY_ALIGNED;
void *operator new[](size_t size, std::align_val_t)
{
	return take(size);
}
void operator delete[](void *block, std::align_val_t) noexcept
{
	give(block);
}
#endif

namespace
{

/* The compiler may leave out a new whose block is not looked at, and knows what new returns. */
void *opaque(void *p)
{
	__asm__("" : "+r"(p) : : "memory");
	return p;
}

struct forms {
	enum group group;
	void *(*news[2])(size_t size); /* throwing, nothrow */
	void (*deletes[3])(void *block, size_t size);
};

const forms all_forms[] = {
	{ PLAIN,
		{ [](size_t n) { return ::operator new(n); },
			[](size_t n) { return ::operator new(n, std::nothrow); } },
		{ [](void *p, size_t) { ::operator delete(p); },
			[](void *p, size_t n) { ::operator delete(p, n); },
			[](void *p, size_t) { ::operator delete(p, std::nothrow); } } },
	{ ARRAY,
		{ [](size_t n) { return ::operator new[](n); },
			[](size_t n) { return ::operator new[](n, std::nothrow); } },
		{ [](void *p, size_t) { ::operator delete[](p); },
			[](void *p, size_t n) { ::operator delete[](p, n); },
			[](void *p, size_t) { ::operator delete[](p, std::nothrow); } } },
	{ ALIGNED,
		{ [](size_t n) { return ::operator new(n, ALIGN); },
			[](size_t n) { return ::operator new(n, ALIGN, std::nothrow); } },
		{ [](void *p, size_t) { ::operator delete(p, ALIGN); },
			[](void *p, size_t n) { ::operator delete(p, n, ALIGN); },
			[](void *p, size_t) { ::operator delete(p, ALIGN, std::nothrow); } } },
	{ ARRAY_ALIGNED,
		{ [](size_t n) { return ::operator new[](n, ALIGN); },
			[](size_t n) { return ::operator new[](n, ALIGN, std::nothrow); } },
		{ [](void *p, size_t) { ::operator delete[](p, ALIGN); },
			[](void *p, size_t n) { ::operator delete[](p, n, ALIGN); },
			[](void *p, size_t) { ::operator delete[](p, ALIGN, std::nothrow); } } },
};

/* Whether this group of forms is defined by the program's operators, by [new.delete]. */
bool is_replaced(enum group group)
{
	return group == replaced || (replaced == PLAIN && group == ARRAY) ||
		(replaced == ALIGNED && group == ARRAY_ALIGNED);
}

} // namespace

TEST(any_new_with_any_delete_of_its_kind)
{
	for (const forms &f : all_forms) {
		size_t counted = is_replaced(f.group);

		for (auto allocate : f.news) {
			for (auto release : f.deletes) {
				size_t news_before = news, deletes_before = deletes;
				void *p = opaque(allocate(100));

				CHECK(p != nullptr);
				memset(p, 0x55, 100);
				release(p, 100);
				CHECK_EQ(news, news_before + counted);
				CHECK_EQ(deletes, deletes_before + counted);
			}
		}
	}
}

/* What the program's operator throws passes through, and the nothrow forms catch it. */
TEST(a_refusal_throws_or_gives_null)
{
	for (const forms &f : all_forms) {
		bool thrown = false;

		if (!is_replaced(f.group))
			continue;
		refuse = true;
		try {
			opaque(f.news[0](100));
		} catch (const std::bad_alloc &) {
			thrown = true;
		}
		CHECK(thrown);
		CHECK(opaque(f.news[1](100)) == nullptr);
		refuse = false;
	}
}

TEST(delete_of_null_does_nothing)
{
	for (const forms &f : all_forms) {
		for (auto release : f.deletes)
			release(opaque(nullptr), 0);
	}
	CHECK_EQ(deletes, 0);
}

struct alignas(64) over_aligned {
	char bytes[64];
	virtual ~over_aligned() = default;
};

/* The compiler chooses the forms, and so does the library: a sort asks for a buffer by nothrow. */
TEST(what_compilers_and_libraries_call)
{
	size_t news_before = news, deletes_before = deletes;

	{
		std::vector<std::unique_ptr<int[]>> arrays;
		std::vector<int> numbers(1000);
		std::unique_ptr<over_aligned> one(new over_aligned);
		std::unique_ptr<over_aligned[]> more(new over_aligned[10]);

		for (int i = 0; i < 1000; i++) {
			arrays.push_back(std::make_unique<int[]>(size_t(i)));
			numbers[size_t(i)] = i * 7919 % 1000;
		}
		std::stable_sort(numbers.begin(), numbers.end());
		for (int i = 0; i < 1000; i++)
			CHECK_EQ(numbers[size_t(i)], i);
	}
	CHECK(news > news_before);
	CHECK_EQ(news - news_before, deletes - deletes_before);
}
