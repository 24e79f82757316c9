/* SPDX-License-Identifier: MIT */
/*
 * Variables with one copy for each processor, defined like others:
 *
 *     static ALLOD_PERCPU_DEFINE(uint64_t, hits);
 *     …
 *     allod_percpu_add(ALLOD_PERCPU_VAR(hits), 1);
 *
 * Compiles alone as C99 and as C++17.
 *
 * The definition makes an ordinary variable in the section `allod_percpu` of the program or shared
 * object: it is the initial value, and nothing else may be done with it than what is told here. When
 * the object is loaded, the whole section becomes one element of a pool of the library, with this
 * content on each processor; when it is unloaded, the element is freed. No thread may be in the
 * object's code then, as ever; what the sequences of <allod/percpu-ops.h> leave behind is no
 * hindrance, if the object is compiled as position-independent code.
 *
 * The variables are there for constructors without a priority and all that runs later, up to and
 * with destructors without a priority. "allod: percpu: no memory for static variables" ends a process
 * whose memory does not suffice.
 */
#ifndef ALLOD_PERCPU_STATIC_H
#define ALLOD_PERCPU_STATIC_H

#include <allod/percpu-ops.h>

/* Defines a variable; `static` or nothing may stand in front, and `= value` behind. */
#define ALLOD_PERCPU_DEFINE(type, name) \
	__attribute__((__section__("allod_percpu"), __used__)) __typeof__(type) name

/* Declares one that another file of the same program or shared object defines. */
#define ALLOD_PERCPU_DECLARE(type, name) \
	extern __attribute__((__visibility__("hidden"))) __typeof__(type) name

/* The variable as an element: for allod_percpu_ptr() and all operations. */
#define ALLOD_PERCPU_VAR(name) \
	((__typeof__(name) ALLOD_PERCPU *)allod_percpu_static_of_((const void *)&(name)))

#ifdef __cplusplus
extern "C" {
#endif

/* The library's own half; not for programs. */
struct allod_percpu_module_ {
	const char *begin;
	const char *end;
	uintptr_t element;
	unsigned uses; /* files of the object that are there */
};

void allod_percpu_static_add_(struct allod_percpu_module_ *module, const char *begin,
	const char *end);
void allod_percpu_static_remove_(struct allod_percpu_module_ *module);

#ifndef ALLOD_PERCPU_STATIC_NONE_ /* the library has no such variables itself */

/* Of this program or shared object; the linker gives the ends of the section. */
extern struct allod_percpu_module_ allod_percpu_module_here_;
__attribute__((__weak__,
	__visibility__("hidden"))) struct allod_percpu_module_ allod_percpu_module_here_;
extern const char __start_allod_percpu[] __attribute__((__weak__, __visibility__("hidden")));
extern const char __stop_allod_percpu[] __attribute__((__weak__, __visibility__("hidden")));

static __inline__ __attribute__((__unused__)) uintptr_t allod_percpu_static_of_(const void *initial)
{
	return allod_percpu_module_here_.element +
		(uintptr_t)((const char *)initial - __start_allod_percpu);
}

static __attribute__((__constructor__(102), __unused__)) void allod_percpu_static_begin_(void)
{
	allod_percpu_static_add_(&allod_percpu_module_here_, __start_allod_percpu,
		__stop_allod_percpu);
}

static __attribute__((__destructor__(102), __unused__)) void allod_percpu_static_end_(void)
{
	allod_percpu_static_remove_(&allod_percpu_module_here_);
}

#endif /* ALLOD_PERCPU_STATIC_NONE_ */

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_PERCPU_STATIC_H */
