/* SPDX-License-Identifier: MIT */
/*
 * An auditor for LD_AUDIT. It allocates in each of its calls, by its own malloc (the loader gives
 * it a namespace, and a libc, of its own) or, built WITH_ALLOD, by a liballod there. It answers for
 * getppid(), so that a program can tell whether it is at work.
 */
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit_module.h"

#ifdef WITH_ALLOD
#include <allod/heap.h>
#define allocate allod_malloc
#define resize allod_realloc
#define release allod_free
#else
#define allocate malloc
#define resize realloc
#define release free
#endif

#define EXPORT __attribute__((visibility("default")))

static void use_heap(const char *text)
{
	const size_t bytes = strlen(text) + 1;
	char *copy = allocate(bytes);
	if (copy == NULL)
		_exit(AUDIT_FAILED);
	memcpy(copy, text, bytes);
	copy = resize(copy, bytes + 5000);
	if (copy == NULL || strcmp(copy, text) != 0)
		_exit(AUDIT_FAILED);
	release(copy);
}

static pid_t audited_getppid(void)
{
	use_heap("called");
	return AUDIT_ANSWER;
}

EXPORT unsigned la_version(unsigned version)
{
	use_heap("version");
	return version;
}

EXPORT unsigned la_objopen(struct link_map *map, Lmid_t namespace, uintptr_t *cookie)
{
	use_heap(map->l_name);
	return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

EXPORT unsigned la_objclose(uintptr_t *cookie)
{
	use_heap("closed");
	return 0;
}

EXPORT uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned index, uintptr_t *from, uintptr_t *to,
	unsigned *flags, const char *name)
{
	use_heap(name);
	return strcmp(name, "getppid") == 0 ? (uintptr_t)audited_getppid : symbol->st_value;
}
