/* SPDX-License-Identifier: MIT */
/* malloc, free, calloc and the rules that all calls share: sizes, alignment, errno. */
#include "conformance.h"

#ifndef FACE_ALLOD
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

/* Without this the suite might pass on libc's own malloc. */
TEST(standard_names_come_from_the_preloaded_library)
{
	static const char *const names[] = { "malloc", "free", "calloc", "realloc", "reallocarray",
		"free_sized", "free_aligned_sized", "aligned_alloc", "posix_memalign", "memalign",
		"valloc", "pvalloc", "malloc_usable_size", "malloc_trim", "mallinfo", "mallinfo2",
		"malloc_info", "malloc_stats", "mallopt", "cfree", "__libc_malloc", "__libc_free",
		"__libc_calloc", "__libc_realloc", "__libc_memalign", "__libc_valloc",
		"__libc_pvalloc", "__libc_mallinfo", "__libc_mallopt" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *function = dlsym(RTLD_DEFAULT, names[i]);
		Dl_info info;

		CHECK(function != NULL && dladdr(function, &info) != 0);
		if (strstr(info.dli_fname, "liballod-malloc.so") == NULL)
			test_fail(__FILE__, __LINE__, "%s comes from %s", names[i], info.dli_fname);
	}
}

/* A block may go through the first and the second name of a call. */
TEST(second_names_are_the_same_calls)
{
	void *(*libc_malloc)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "__libc_malloc");
	void *(*libc_realloc)(void *, size_t) =
		(void *(*)(void *, size_t))dlsym(RTLD_DEFAULT, "__libc_realloc");
	void *(*libc_memalign)(size_t, size_t) =
		(void *(*)(size_t, size_t))dlsym(RTLD_DEFAULT, "__libc_memalign");
	void (*libc_free)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "__libc_free");
	void (*old_cfree)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");

	free(libc_malloc(100));
	libc_free(malloc(100));
	old_cfree(malloc(100));
	free(libc_realloc(malloc(10), 1000));
	free(libc_memalign(4096, 10));
	free_sized(libc_malloc(64), 64);
}

/*
 * Frees what a call of libc has allocated: it must be one of our blocks, or this ends the process.
 */
static void take_from_libc(void *block, size_t size)
{
	CHECK(block != NULL);
	CHECK(malloc_usable_size(block) >= size);
	block = opaque(realloc(block, size + 1000));
	CHECK(block != NULL);
	free(block);
}

/* POSIX says of each that the caller frees the result. */
TEST(what_libc_allocates_may_be_freed)
{
	struct dirent **names = NULL;
	char *text = NULL;
	size_t len = 0;
	FILE *f;
	int count;

	take_from_libc(strdup("a text"), 7);
	take_from_libc(strndup("a text", 3), 4);
	CHECK(asprintf(&text, "%300d", 5) == 300);
	take_from_libc(text, 301);
	take_from_libc(getcwd(NULL, 0), 2);
	take_from_libc(realpath("/", NULL), 2);
	text = NULL;
	f = open_memstream(&text, &len);
	CHECK(f != NULL && fprintf(f, "%5000d\n", 7) == 5001 && fclose(f) == 0);
	CHECK_EQ(len, 5001);
	f = fmemopen(text, len, "r");
	CHECK(f != NULL);
	{
		char *line = malloc(3);
		size_t size = 3;

		CHECK_EQ(getline(&line, &size, f), 5001);
		CHECK_EQ(line[4999], '7');
		take_from_libc(line, 5002);
	}
	fclose(f);
	take_from_libc(text, 5002);
	count = scandir("/", &names, NULL, alphasort);
	CHECK(count > 2);
	for (int i = 0; i < count; i++)
		take_from_libc(names[i], sizeof(void *));
	take_from_libc(names, (size_t)count * sizeof(names[0]));
}
#endif

TEST(malloc_of_zero_gives_distinct_blocks)
{
	void *blocks[200];

	for (size_t i = 0; i < 200; i++) {
		blocks[i] = opaque(M(malloc)(opaque_size(0)));
		CHECK(blocks[i] != NULL);
		for (size_t j = 0; j < i; j++)
			CHECK(blocks[i] != blocks[j]);
	}
	for (size_t i = 0; i < 200; i++)
		M(free)(blocks[i]);
}

TEST(blocks_are_aligned_to_16_bytes)
{
	for (size_t size = 0; size <= 5000; size++) {
		void *a = opaque(M(malloc)(size));
		void *b = opaque(M(calloc)(1, size));
		void *c = opaque(M(realloc)(NULL, size));

		CHECK(a != NULL && b != NULL && c != NULL);
		CHECK(is_aligned(a, 16) && is_aligned(b, 16) && is_aligned(c, 16));
		c = opaque(M(realloc)(c, size + 100));
		CHECK(c != NULL && is_aligned(c, 16));
		M(free)(a);
		M(free)(b);
		M(free)(c);
	}
}

/* Around every power of two up to 64 MiB: all bytes are the caller's. */
TEST(whole_block_is_usable_at_every_size)
{
	for (size_t power = 1; power <= (size_t)64 << 20; power *= 2) {
		for (size_t delta = 0; delta < 3; delta++) {
			size_t size = power + delta - 1;
			char *p = opaque(M(malloc)(size));

			CHECK(p != NULL);
			CHECK(M(malloc_usable_size)(p) >= size);
			if (size <= 1 << 20)
				memset(p, 0xa5, size);
			else
				p[0] = p[size / 2] = p[size - 1] = 1;
			M(free)(p);
		}
	}
}

TEST(blocks_do_not_overlap)
{
	enum { count = 4000 };
	static unsigned char *blocks[count];
	static size_t sizes[count];
	uint64_t random = test_seed();

	for (size_t round = 0; round < 3; round++) {
		for (size_t i = round % 2; i < count; i += round == 0 ? 1 : 2) {
			M(free)(blocks[i]);
			sizes[i] = test_random(&random) % (i % 16 == 0 ? 20000 : 300);
			blocks[i] = opaque(M(malloc)(sizes[i]));
			CHECK(blocks[i] != NULL);
			stamp(blocks[i], sizes[i], i);
		}
		for (size_t i = 0; i < count; i++)
			CHECK(stamp_holds(blocks[i], sizes[i], i));
	}
	for (size_t i = 0; i < count; i++)
		M(free)(blocks[i]);
}

TEST(free_of_null_does_nothing)
{
	KEEPS_ERRNO(M(free)(NULL));
	KEEPS_ERRNO(M(free_sized)(NULL, 10));
	KEEPS_ERRNO(M(free_aligned_sized)(NULL, 64, 128));
}

/* POSIX.1-2024 asks it of free(); a caller that reports an error after cleaning up relies on it. */
TEST(success_and_free_keep_errno)
{
	static const size_t sizes[] = { 0, 1, 100, 5000, 40000, 300000, 1 << 20, 40 << 20 };
	void *p;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		KEEPS_ERRNO(p = opaque(M(malloc)(sizes[i])));
		KEEPS_ERRNO(p = opaque(M(realloc)(p, sizes[i] + 5000)));
		KEEPS_ERRNO(M(free)(p));
		KEEPS_ERRNO(p = opaque(M(calloc)(3, sizes[i])));
		KEEPS_ERRNO(M(free)(p));
		KEEPS_ERRNO(p = opaque(M(memalign)(4096, sizes[i])));
		KEEPS_ERRNO(M(malloc_usable_size)(p));
		KEEPS_ERRNO(M(free)(p));
		KEEPS_ERRNO(p = opaque(M(malloc)(sizes[i] + 1)));
		KEEPS_ERRNO(CHECK_EQ(M(realloc)(p, opaque_size(0)), NULL));
	}
	KEEPS_ERRNO(M(malloc_trim)(0));
	KEEPS_ERRNO(M(mallinfo2)());
	KEEPS_ERRNO(M(mallopt)(M_MMAP_THRESHOLD, 65536));
}

/* Nothing larger than PTRDIFF_MAX exists, whatever the headers and roundings make of it. */
TEST(requests_above_the_limit_fail_with_enomem)
{
	static const size_t distances[] = { 0, 1, 15, 16, 17, 4095, 4096, 65535, 65536, 1 << 20,
		(size_t)1 << 32, (size_t)1 << 62 };
	char *held = M(malloc)(100);

	stamp(held, 100, 1);
	for (size_t i = 0; i < sizeof(distances) / sizeof(distances[0]); i++) {
		size_t size = opaque_size(SIZE_MAX - distances[i]);

		FAILS(M(malloc)(size), ENOMEM);
		FAILS(M(calloc)(1, size), ENOMEM);
		FAILS(M(calloc)(size, 1), ENOMEM);
		FAILS(M(realloc)(NULL, size), ENOMEM);
		FAILS(M(realloc)(held, size), ENOMEM);
		FAILS(M(reallocarray)(held, size, 1), ENOMEM);
		FAILS(M(valloc)(size), ENOMEM);
		FAILS(M(pvalloc)(size), ENOMEM);
		for (size_t align = 8; align <= 1 << 20; align *= 2) {
			FAILS(M(memalign)(align, size), ENOMEM);
			FAILS(M(aligned_alloc)(align, size), ENOMEM);
		}
	}
	FAILS(M(malloc)(opaque_size((size_t)PTRDIFF_MAX + 1)), ENOMEM);
	FAILS(M(malloc)(opaque_size((size_t)PTRDIFF_MAX)), ENOMEM);
	CHECK(stamp_holds(held, 100, 1));
	M(free)(held);
}

/* Within the limit, but more than there are addresses. */
TEST(requests_beyond_the_address_space_fail_with_enomem)
{
	size_t size = opaque_size((size_t)1 << 48);
	char *held = M(malloc)(5000);

	stamp(held, 5000, 2);
	FAILS(M(malloc)(size), ENOMEM);
	FAILS(M(calloc)(size / 64, 64), ENOMEM);
	FAILS(M(realloc)(held, size), ENOMEM);
	FAILS(M(memalign)(1 << 21, size), ENOMEM);
	FAILS(M(pvalloc)(size), ENOMEM);
	CHECK(stamp_holds(held, 5000, 2));
	M(free)(held);
	M(free)(M(malloc)(100));
}

TEST(calloc_is_zero_in_reused_memory)
{
	for (size_t size = 1; size <= (size_t)16 << 20; size = size * 3 / 2 + 1) {
		for (int round = 0; round < 3; round++) {
			void *p = opaque(M(malloc)(size));

			CHECK(p != NULL);
			memset(p, 0xff, size);
			M(free)(p);
			p = opaque(M(calloc)(1, size));
			CHECK(p != NULL && all_zero(p, size));
			memset(p, 0xee, size);
			M(free)(p);
		}
	}
}

TEST(calloc_zeroes_many_small_blocks)
{
	enum { count = 3000 };
	static void *blocks[count];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < count; i++) {
			blocks[i] = opaque(M(calloc)(i % 97, 3));
			CHECK(blocks[i] != NULL && all_zero(blocks[i], i % 97 * 3));
			memset(blocks[i], 0xdd, i % 97 * 3);
		}
		for (size_t i = 0; i < count; i++)
			M(free)(blocks[i]);
	}
}

TEST(calloc_refuses_products_that_overflow)
{
	static const size_t pairs[][2] = { { SIZE_MAX, 2 }, { (size_t)1 << 32, (size_t)1 << 32 },
		{ SIZE_MAX / 2 + 1, 2 }, { SIZE_MAX / 16 + 1, 16 }, { SIZE_MAX, SIZE_MAX },
		{ ((size_t)1 << 33) + 1, (size_t)1 << 31 } };

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		FAILS(M(calloc)(opaque_size(pairs[i][0]), opaque_size(pairs[i][1])), ENOMEM);
		FAILS(M(calloc)(opaque_size(pairs[i][1]), opaque_size(pairs[i][0])), ENOMEM);
	}
}

TEST(calloc_of_nothing_gives_a_block)
{
	void *a = opaque(M(calloc)(opaque_size(0), opaque_size(SIZE_MAX)));
	void *b = opaque(M(calloc)(opaque_size(SIZE_MAX), opaque_size(0)));

	CHECK(a != NULL && b != NULL && a != b);
	M(free)(a);
	M(free)(b);
}
