/* SPDX-License-Identifier: MIT */
/*
 * The preloaded operators in a process that starts without a C++ run-time: there is nothing to
 * throw with, until a module brings one, in a scope that the library cannot see by its own
 * references.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>

#include "harness.h"

void *_Znwm(size_t size) __attribute__((weak));
void *_Znam(size_t size) __attribute__((weak));
void *_ZnwmSt11align_val_t(size_t size, size_t alignment) __attribute__((weak));
void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag) __attribute__((weak));
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag)
	__attribute__((weak));
void _ZdlPv(void *block) __attribute__((weak));

#define NO_RUNTIME "allod: operator new: out of memory and no C++ run-time to throw bad_alloc\n"

TEST(without_a_runtime_memory_is_to_be_had)
{
	CHECK(_Znwm != NULL && _ZdlPv != NULL);
	_ZdlPv(_Znwm(100));
	_ZdlPv(_Znam(100));
	_ZdlPv(_ZnwmSt11align_val_t(100, 4096));
}

TEST(without_a_runtime_failure_ends_the_process)
{
	CHECK_DEATH(_Znwm(SIZE_MAX / 4), SIGABRT, NO_RUNTIME);
	CHECK_DEATH(_ZnwmSt11align_val_t(SIZE_MAX / 4, 64), SIGABRT, NO_RUNTIME);
}

TEST(without_a_runtime_nothrow_gives_null)
{
	CHECK_EQ(_ZnwmRKSt9nothrow_t(SIZE_MAX / 4, ""), NULL);
	CHECK_EQ(_ZnwmSt11align_val_tRKSt9nothrow_t(SIZE_MAX / 4, 64, ""), NULL);
}

TEST(runtime_of_a_module_is_found)
{
	void *module = dlopen(OPERATORS_MODULE, RTLD_NOW | RTLD_LOCAL);
	int (*failures)(void);

	CHECK(module != NULL);
	CHECK_EQ(dlsym(RTLD_DEFAULT, "_ZSt17__throw_bad_allocv"), NULL);
	*(void **)&failures = dlsym(module, "operators_module_failures");
	CHECK(failures != NULL);
	CHECK_EQ(failures(), 0);
}
