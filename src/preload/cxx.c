/* SPDX-License-Identifier: MIT */
/*
 * The program's C++ run-time, found when an allocation has failed, or when the program has an
 * operator new of its own that a nothrow form must call.
 *
 * A run-time that was there when the process started is found by the linker through weak
 * references. One that came later (python3 loads extensions written in C++, each with local scope)
 * is asked of the loader, which may take its lock: this is the one path of the library that can
 * wait for another thread. Behind a failure it is about to throw or to give up, and nothing is
 * cached, so a run-time that is loaded between two failures is seen by the second. For a program's
 * own operator new it runs once.
 */
#include "cxx.h"

#include <dlfcn.h>

#include "base/atomic.h"
#include "face.h"
#include "os/os.h"

typedef void new_handler_fn(void);
typedef new_handler_fn *get_new_handler_fn(void);
typedef void throw_fn(void);
typedef void *nothrow_fn(size_t size, const struct nothrow *tag);
typedef void *aligned_nothrow_fn(size_t size, size_t alignment, const struct nothrow *tag);

/* std::get_new_handler() and std::__throw_bad_alloc(). */
extern get_new_handler_fn _ZSt15get_new_handlerv __attribute__((weak));
extern throw_fn _ZSt17__throw_bad_allocv __attribute__((weak));

static const char *const nothrow_names[CXX_NOTHROW_COUNT] = {
	[CXX_NEW] = "_ZnwmRKSt9nothrow_t",
	[CXX_NEW_ARRAY] = "_ZnamRKSt9nothrow_t",
	[CXX_NEW_ALIGNED] = "_ZnwmSt11align_val_tRKSt9nothrow_t",
	[CXX_NEW_ARRAY_ALIGNED] = "_ZnamSt11align_val_tRKSt9nothrow_t",
};

/*
 * A function of a loaded C++ run-time, whatever scope that was loaded in. Another allocator that
 * replaces the operators is not asked: its blocks would not be ours.
 */
static FACE_COLD void *runtime_lookup(const char *name)
{
	static const char *const runtimes[] = { "libstdc++.so.6", "libc++abi.so.1", "libc++.so.1" };

	for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]); i++) {
		void *handle = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
		void *function = handle != NULL ? dlsym(handle, name) : NULL;

		if (function != NULL)
			return function;
	}
	return NULL;
}

static new_handler_fn *new_handler(void)
{
	get_new_handler_fn *get = _ZSt15get_new_handlerv;

	if (get == NULL)
		get = (get_new_handler_fn *)runtime_lookup("_ZSt15get_new_handlerv");
	return get != NULL ? get() : NULL;
}

FACE_COLD _Noreturn void cxx_throw_bad_alloc(void)
{
	throw_fn *throw_bad_alloc = _ZSt17__throw_bad_allocv;

	if (throw_bad_alloc == NULL)
		throw_bad_alloc = (throw_fn *)runtime_lookup("_ZSt17__throw_bad_allocv");
	if (throw_bad_alloc != NULL)
		throw_bad_alloc();
	os_fatal("allod: operator new: out of memory and no C++ run-time to throw bad_alloc\n");
}

FACE_COLD void cxx_call_new_handler(void)
{
	new_handler_fn *handler = new_handler();

	if (handler == NULL)
		cxx_throw_bad_alloc();
	handler();
}

/* Without a handler there is nothing to ask, and the answer needs no C++. */
static void *nothrow_operator(enum cxx_nothrow which)
{
	return new_handler() != NULL ? runtime_lookup(nothrow_names[which]) : NULL;
}

FACE_COLD void *cxx_new_nothrow(enum cxx_nothrow which, size_t size, const struct nothrow *tag)
{
	nothrow_fn *next = (nothrow_fn *)nothrow_operator(which);

	return next != NULL ? next(size, tag) : NULL;
}

FACE_COLD void *cxx_new_aligned_nothrow(enum cxx_nothrow which, size_t size, size_t alignment,
	const struct nothrow *tag)
{
	aligned_nothrow_fn *next = (aligned_nothrow_fn *)nothrow_operator(which);

	return next != NULL ? next(size, alignment, tag) : NULL;
}

/*
 * The run-time's own nothrow operator, looked up once for each form and then kept: several threads
 * may look up at once, and write the same value. NULL without a C++ run-time.
 */
static void *runtime_nothrow(enum cxx_nothrow which)
{
	static _Atomic(void *) found[CXX_NOTHROW_COUNT];
	void *function = a_load_rlx(&found[which]);

	if (function == NULL) {
		function = runtime_lookup(nothrow_names[which]);
		a_store_rlx(&found[which], function);
	}
	return function;
}

/* Without a run-time nothing can be thrown, so nothing need be caught. */
void *cxx_new_nothrow_by_runtime(enum cxx_nothrow which, size_t size, const struct nothrow *tag)
{
	nothrow_fn *next = (nothrow_fn *)runtime_nothrow(which);

	if (next != NULL)
		return next(size, tag);
	return which == CXX_NEW ? _Znwm(size) : _Znam(size);
}

void *cxx_new_aligned_nothrow_by_runtime(enum cxx_nothrow which, size_t size, size_t alignment,
	const struct nothrow *tag)
{
	aligned_nothrow_fn *next = (aligned_nothrow_fn *)runtime_nothrow(which);

	if (next != NULL)
		return next(size, alignment, tag);
	return which == CXX_NEW_ALIGNED ? _ZnwmSt11align_val_t(size, alignment)
					: _ZnamSt11align_val_t(size, alignment);
}
