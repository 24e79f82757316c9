/* SPDX-License-Identifier: MIT */
/* What <allod/compat/librseq-mempool.h> cannot do by the public calls alone. */
#include <allod/compat/librseq-mempool.h>

#include <errno.h>

#include "os/area.h"
#include "os/os.h"
#include "percpu/percpu.h"

/* MPOL_MF_MOVE and MPOL_MF_MOVE_ALL, which librseq's callers pass. */
enum { MOVE = 2, MOVE_ALL = 4 };

__attribute__((visibility("default"))) int allod_percpu_range_to_node_(void *range, size_t bytes,
	int cpu, int flags)
{
	const uintptr_t page = os_facts()->page_bytes;
	const uintptr_t first = (uintptr_t)range & ~(page - 1);
	const uintptr_t end = round_up((uintptr_t)range + bytes, page);
	int node;

	if (!flags || flags & ~(MOVE | MOVE_ALL) || cpu < 0 ||
		(unsigned)cpu >= allod_percpu_possible_cpus())
		return -EINVAL;
	if (os_cpu_node(0) == -ENOENT)
		return -ENOSYS;
	node = os_cpu_node((unsigned)cpu);
	/* A processor that is switched off belongs to no node yet. */
	return node < 0 || first == end ? 0 : os_move_to_node((void *)first, end - first, node);
}
