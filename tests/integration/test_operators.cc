/* SPDX-License-Identifier: MIT */
/* Every form of operator new and delete of C++17, run with liballod-malloc.so preloaded. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <new>
#include <string>
#include <vector>

#define _Noreturn [[noreturn]]
extern "C" {
#include "harness.h"
}

namespace
{

/* The compiler may leave out a new whose block is not looked at, and knows what new returns. */
template <typename T> T *opaque(T *p)
{
	__asm__("" : "+r"(p) : : "memory");
	return p;
}

size_t opaque_size(size_t n)
{
	__asm__("" : "+r"(n));
	return n;
}

const size_t too_large = SIZE_MAX / 4;

size_t held_bytes()
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

bool is_aligned(void *p, size_t alignment)
{
	return (reinterpret_cast<uintptr_t>(p) & (alignment - 1)) == 0;
}

const char *const operator_names[] = { "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t",
	"_ZnamRKSt9nothrow_t", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t",
	"_ZnwmSt11align_val_tRKSt9nothrow_t", "_ZnamSt11align_val_tRKSt9nothrow_t", "_ZdlPv",
	"_ZdaPv", "_ZdlPvm", "_ZdaPvm", "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t",
	"_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t", "_ZdlPvmSt11align_val_t",
	"_ZdaPvmSt11align_val_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
	"_ZdaPvSt11align_val_tRKSt9nothrow_t" };

int handler_calls;

void handler_that_throws()
{
	handler_calls++;
	throw std::bad_alloc();
}

/* Any class may come out of a handler for the nothrow forms, not only bad_alloc. */
struct oddity {
};

void handler_that_throws_an_oddity()
{
	handler_calls++;
	throw oddity();
}

/* Gives up on the third call by removing itself, as the standard lets it. */
void handler_that_gives_up()
{
	if (++handler_calls == 3)
		std::set_new_handler(nullptr);
}

/* Whether the allocation ends in std::bad_alloc. */
template <typename F> bool throws_bad_alloc(F allocate)
{
	try {
		opaque(allocate());
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

void *new_plain()
{
	return ::operator new(opaque_size(too_large));
}

void *new_array()
{
	return ::operator new[](opaque_size(too_large));
}

void *new_aligned()
{
	return ::operator new(opaque_size(too_large), std::align_val_t(64));
}

void *new_array_aligned()
{
	return ::operator new[](opaque_size(too_large), std::align_val_t(64));
}

void *new_nothrow()
{
	return ::operator new(opaque_size(too_large), std::nothrow);
}

void *new_array_nothrow()
{
	return ::operator new[](opaque_size(too_large), std::nothrow);
}

void *new_aligned_nothrow()
{
	return ::operator new(opaque_size(too_large), std::align_val_t(64), std::nothrow);
}

void *new_array_aligned_nothrow()
{
	return ::operator new[](opaque_size(too_large), std::align_val_t(64), std::nothrow);
}

typedef void *allocate_fn();
allocate_fn *const throwing[] = { new_plain, new_array, new_aligned, new_array_aligned };
allocate_fn *const nothrowing[] = { new_nothrow, new_array_nothrow, new_aligned_nothrow,
	new_array_aligned_nothrow };

} // namespace

TEST(operators_come_from_the_preloaded_library)
{
	for (const char *name : operator_names) {
		Dl_info info;
		void *function = dlsym(RTLD_DEFAULT, name);

		CHECK(function != nullptr && dladdr(function, &info) != 0);
		if (strstr(info.dli_fname, "liballod-malloc.so") == nullptr)
			test_fail(__FILE__, __LINE__, "%s comes from %s", name, info.dli_fname);
	}
}

TEST(plain_forms_pair_up)
{
	size_t before = (free(opaque(malloc(10))), held_bytes());

	for (size_t size = 0; size < 100000; size = size * 5 / 4 + 1) {
		void *blocks[] = { ::operator new(size), ::operator new(size),
			::operator new(size, std::nothrow), ::operator new[](size),
			::operator new[](size), ::operator new[](size, std::nothrow) };

		for (void *p : blocks) {
			CHECK(opaque(p) != nullptr && is_aligned(p, 16));
			CHECK(malloc_usable_size(p) >= size);
			memset(p, 0x77, size);
		}
		::operator delete(blocks[0]);
		::operator delete(blocks[1], size);
		::operator delete(blocks[2], std::nothrow);
		::operator delete[](blocks[3]);
		::operator delete[](blocks[4], size);
		::operator delete[](blocks[5], std::nothrow);
	}
	CHECK(held_bytes() <= before + 65536);
}

TEST(aligned_forms_pair_up)
{
	for (size_t power = 1; power <= (size_t)1 << 21; power *= 2) {
		std::align_val_t align = std::align_val_t(power);
		size_t size = 777;
		void *blocks[] = { ::operator new(size, align), ::operator new(size, align),
			::operator new(size, align, std::nothrow), ::operator new[](size, align),
			::operator new[](size, align),
			::operator new[](size, align, std::nothrow) };

		for (void *p : blocks) {
			CHECK(opaque(p) != nullptr && is_aligned(p, power) && is_aligned(p, 16));
			memset(p, 0x77, size);
		}
		::operator delete(blocks[0], align);
		::operator delete(blocks[1], size, align);
		::operator delete(blocks[2], align, std::nothrow);
		::operator delete[](blocks[3], align);
		::operator delete[](blocks[4], size, align);
		::operator delete[](blocks[5], align, std::nothrow);
	}
}

TEST(new_of_zero_gives_distinct_blocks)
{
	void *a = opaque(::operator new(opaque_size(0)));
	void *b = opaque(::operator new[](opaque_size(0)));

	CHECK(a != nullptr && b != nullptr && a != b);
	::operator delete(a);
	::operator delete[](b);
}

TEST(delete_of_null_does_nothing)
{
	void *none = opaque<void>(nullptr);

	::operator delete(none);
	::operator delete[](none);
	::operator delete(none, 10);
	::operator delete(none, std::align_val_t(64));
	::operator delete(none, 10, std::align_val_t(64));
	::operator delete(none, std::nothrow);
	::operator delete(none, std::align_val_t(64), std::nothrow);
	::operator delete[](none, 10);
	::operator delete[](none, std::align_val_t(64));
	::operator delete[](none, 10, std::align_val_t(64));
	::operator delete[](none, std::nothrow);
	::operator delete[](none, std::align_val_t(64), std::nothrow);
}

/* A block of new may be looked at by the C calls; libraries do so. */
TEST(new_and_malloc_share_the_heap)
{
	void *p = opaque(::operator new(100));

	CHECK(malloc_usable_size(p) >= 100);
	::operator delete(p);
	p = opaque(malloc(100));
	::operator delete(p);
	p = opaque(::operator new(100));
	free(p);
}

TEST(failure_throws_bad_alloc)
{
	for (allocate_fn *allocate : throwing)
		CHECK(throws_bad_alloc(allocate));
	CHECK(throws_bad_alloc([] { return new std::vector<char>(opaque_size(too_large)); }));
}

TEST(failure_of_nothrow_gives_null)
{
	for (allocate_fn *allocate : nothrowing)
		CHECK(opaque(allocate()) == nullptr);
}

/* No power of two: as libstdc++ has it. */
TEST(alignment_that_cannot_be_throws)
{
	CHECK(throws_bad_alloc([] {
		return ::operator new(10, std::align_val_t(opaque_size(24)));
	}));
	CHECK(throws_bad_alloc([] {
		return ::operator new(10, std::align_val_t(opaque_size(0)));
	}));
	CHECK(opaque(::operator new(10, std::align_val_t(opaque_size(24)), std::nothrow)) ==
		nullptr);
}

TEST(handler_is_called_until_it_gives_up)
{
	for (allocate_fn *allocate : throwing) {
		handler_calls = 0;
		std::set_new_handler(handler_that_gives_up);
		CHECK(throws_bad_alloc(allocate));
		CHECK_EQ(handler_calls, 3);
	}
	for (allocate_fn *allocate : nothrowing) {
		handler_calls = 0;
		std::set_new_handler(handler_that_gives_up);
		CHECK(opaque(allocate()) == nullptr);
		CHECK_EQ(handler_calls, 3);
	}
}

/* What a new_handler is for: it lets go of something, and the allocation is tried again. */
std::vector<void *> spare;

void handler_that_frees()
{
	handler_calls++;
	if (spare.empty())
		throw std::bad_alloc();
	free(spare.back());
	spare.pop_back();
}

void limit_address_space()
{
	struct rlimit limit;
	size_t pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f != nullptr && fscanf(f, "%zu", &pages) == 1);
	fclose(f);
	CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + ((size_t)20 << 20);
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

TEST(handler_that_frees_memory_is_rewarded)
{
	const size_t size = (size_t)1 << 20;
	void *(*const allocates[])() = { [] { return ::operator new(size); },
		[] { return ::operator new[](size); },
		[] { return ::operator new(size, std::nothrow); },
		[] { return ::operator new[](size, std::nothrow); },
		[] { return ::operator new(size, std::align_val_t(4096)); },
		[] { return ::operator new[](size, std::align_val_t(4096)); },
		[] { return ::operator new(size, std::align_val_t(4096), std::nothrow); },
		[] { return ::operator new[](size, std::align_val_t(4096), std::nothrow); } };

	spare.reserve(1 << 16);
	limit_address_space();
	for (void *p = malloc(size); p != nullptr; p = malloc(size))
		spare.push_back(p);
	CHECK(spare.size() > 8 && spare.size() < 1 << 16);
	std::set_new_handler(handler_that_frees);
	for (auto allocate : allocates) {
		void *p;

		handler_calls = 0;
		p = opaque(allocate());
		CHECK(p != nullptr && handler_calls > 0);
		memset(p, 1, size);
	}
}

TEST(handler_that_throws_ends_the_allocation)
{
	std::set_new_handler(handler_that_throws);
	for (allocate_fn *allocate : throwing) {
		handler_calls = 0;
		CHECK(throws_bad_alloc(allocate));
		CHECK_EQ(handler_calls, 1);
	}
	for (allocate_fn *allocate : nothrowing) {
		handler_calls = 0;
		CHECK(opaque(allocate()) == nullptr);
		CHECK_EQ(handler_calls, 1);
	}
}

TEST(whatever_a_handler_throws_passes_or_is_caught)
{
	std::set_new_handler(handler_that_throws_an_oddity);
	for (allocate_fn *allocate : throwing) {
		bool caught = false;

		try {
			opaque(allocate());
		} catch (const oddity &) {
			caught = true;
		}
		CHECK(caught);
	}
	for (allocate_fn *allocate : nothrowing)
		CHECK(opaque(allocate()) == nullptr);
}

TEST(heap_works_after_failures)
{
	std::vector<std::unique_ptr<std::string>> strings;

	std::set_new_handler(handler_that_throws);
	for (int i = 0; i < 10000; i++) {
		if (i % 100 == 0)
			CHECK(throws_bad_alloc(throwing[i / 100 % 4]));
		strings.push_back(std::make_unique<std::string>(size_t(i) % 300, 'x'));
	}
	for (int i = 0; i < 10000; i++)
		CHECK_EQ(strings[size_t(i)]->size(), size_t(i) % 300);
}
