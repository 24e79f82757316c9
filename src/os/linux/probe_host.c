/* SPDX-License-Identifier: MIT */
/* Probes of the machine and of the limits set on this process: facts that are read or measured. */
#include "linux/linux.h"
#include "linux/probe.h"
#include "linux/syscall.h"
#include "number.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>

enum { text_bytes = 256, fault_pages = 64, fault_rounds = 3 };

static int kernel(struct format *value)
{
	struct utsname name;

	memset(&name, 0, sizeof(name));
	os_syscall1(SYS_uname, (long)&name);
	format_str(value, name.release);
	format_char(value, ' ');
	format_str(value, name.machine);
	return 0;
}

static int page_size(struct format *value)
{
	format_bytes(value, os_facts()->page_bytes);
	return 0;
}

static int ram(struct format *value)
{
	format_bytes(value, os_facts()->ram_bytes);
	return 0;
}

/* Shows a file's one line; of words, if any is in brackets, that one ("always [madvise] never"). */
static int line_show(struct format *value, const char *path)
{
	char text[text_bytes];
	const char *from = text;
	const char *open;
	ssize_t len = os_file_read(path, text, sizeof(text));

	if (len < 0)
		return (int)len;
	open = strchr(text, '[');
	if (open)
		from = open + 1;
	format_mem(value, from, strcspn(from, open ? "]" : "\n"));
	return 0;
}

static int cpus_usable(struct format *value)
{
	format_u64(value, os_facts()->cpus_usable);
	return 0;
}

static int cpus_online(struct format *value)
{
	return line_show(value, "/sys/devices/system/cpu/online");
}

static int cpus_possible(struct format *value)
{
	return line_show(value, "/sys/devices/system/cpu/possible");
}

static int memory_nodes(struct format *value)
{
	return line_show(value, "/sys/devices/system/node/online");
}

static int thp_mode(struct format *value)
{
	return line_show(value, "/sys/kernel/mm/transparent_hugepage/enabled");
}

static int thp_defrag(struct format *value)
{
	return line_show(value, "/sys/kernel/mm/transparent_hugepage/defrag");
}

/*
 * Shows what `after` a file name holds for each page size from 8 KiB to 16 GiB that has a directory
 * `before`SIZE`after` ("hugepages-64kB/enabled").
 */
static int each_size_show(struct format *value, const char *before, const char *after)
{
	for (uint64_t kib = 8; kib <= 16u << 20; kib *= 2) {
		char path[text_bytes];
		char text[text_bytes];
		struct format f;

		format_init(&f, path, sizeof(path));
		format_str(&f, before);
		format_u64(&f, kib);
		format_str(&f, after);
		if (os_file_read(path, text, sizeof(text)) < 0)
			continue;
		if (value->len)
			format_str(value, ", ");
		format_bytes(value, kib * 1024);
		format_char(value, ' ');
		line_show(value, path);
	}
	return value->len ? 0 : -ENOENT;
}

static int thp_sizes(struct format *value)
{
	return each_size_show(value, "/sys/kernel/mm/transparent_hugepage/hugepages-",
		"kB/enabled");
}

static int hugetlb_sizes(struct format *value)
{
	return each_size_show(value, "/sys/kernel/mm/hugepages/hugepages-", "kB/nr_hugepages");
}

static uint64_t now_exact_ns(void)
{
	struct timespec now = { 0, 0 };

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The first touch of each page of a fresh mapping; base pages, whatever the mode of huge ones. */
static uint64_t touch_ns(size_t page_bytes)
{
	char *base = os_linux_map(fault_pages * page_bytes, page_bytes);
	uint64_t begin;
	uint64_t end;

	if (!base)
		return 0;
	os_linux_huge(base, fault_pages * page_bytes, false);
	begin = now_exact_ns();
	for (size_t i = 0; i < fault_pages; i++)
		((volatile char *)base)[i * page_bytes] = 1;
	end = now_exact_ns();
	os_linux_unmap(base, fault_pages * page_bytes);
	return (end - begin) / fault_pages;
}

static int page_fault(struct format *value)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < fault_rounds; i++) {
		uint64_t ns = touch_ns(os_facts()->page_bytes);

		if (ns < best)
			best = ns;
	}
	format_u64(value, best);
	format_str(value, " ns");
	return 0;
}

const struct probe probes_host[] = {
	{ "kernel", "", "", kernel },
	{ "ram", "the default size of the reserved arena follows it", "", ram },
	{ "page-size", "the unit in which memory is taken and given back", "", page_size },
	{ "page-fault", "what is saved each time that a page stays mapped", "", page_fault },
	{ "cpus-usable", "", "", cpus_usable },
	{ "cpus-online", "", "", cpus_online },
	{ "cpus-possible", "per-CPU memory has addresses for each", "", cpus_possible },
	{ "memory-nodes", "ALLOD_PERCPU_NUMA: per-CPU memory comes from the processor's node",
		"it comes from the node of who first stores to it", memory_nodes },
	{ "thp", "huge pages for 2 MiB that come at once, or are used again and again",
		"every page is a base page: more faults, more TLB misses", thp_mode },
	{ "thp-defrag", "whether those may wait until the kernel has made room for one", "",
		thp_defrag },
	{ "thp-sizes", LATER "page sizes between the base page and 2 MiB",
		LATER "only base pages and the largest size", thp_sizes },
	{ "hugetlb-sizes", "", "no reserved huge pages; allod does not need them", hugetlb_sizes },
	{ 0 },
};

static void limit_show(struct format *value, uint64_t limit)
{
	if (limit == OS_UNLIMITED)
		format_str(value, "unlimited");
	else
		format_bytes(value, limit);
}

static int overcommit(struct format *value)
{
	static const char *const words[] = { "0 (heuristic)", "1 (always)", "2 (never)" };
	int mode = os_facts()->overcommit_mode;

	format_str(value, mode >= 0 && mode <= 2 ? words[mode] : "unknown");
	return 0;
}

static int max_map_count(struct format *value)
{
	format_u64(value, os_facts()->max_map_count);
	return 0;
}

static int address_space(struct format *value)
{
	limit_show(value, os_facts()->address_limit_bytes);
	return 0;
}

static int data_segment(struct format *value)
{
	limit_show(value, os_facts()->data_limit_bytes);
	return 0;
}

static int locked_memory(struct format *value)
{
	struct rlimit64 limit = { RLIM64_INFINITY, RLIM64_INFINITY };

	os_syscall4(SYS_prlimit64, 0, RLIMIT_MEMLOCK, 0, (long)&limit);
	limit_show(value, limit.rlim_cur == RLIM64_INFINITY ? OS_UNLIMITED : limit.rlim_cur);
	return 0;
}

static int group_version(struct format *value)
{
	struct os_group_limits limits;

	os_group_limits_read(&limits);
	if (!limits.version)
		return -ENOENT;
	format_u64(value, (uint64_t)limits.version);
	return 0;
}

static int group_max(struct format *value)
{
	struct os_group_limits limits;

	os_group_limits_read(&limits);
	limit_show(value, limits.max_bytes);
	return 0;
}

static int group_high(struct format *value)
{
	struct os_group_limits limits;

	os_group_limits_read(&limits);
	limit_show(value, limits.high_bytes);
	return 0;
}

const struct probe probes_limits[] = {
	{ "overcommit", "with 2, the arena is smaller, and no pages are moved", "", overcommit },
	{ "max-map-count", "moving blocks may use up a quarter of these mappings", "",
		max_map_count },
	{ "address-space", "RLIMIT_AS: with a limit, the arena is smaller, and no pages are moved",
		"", address_space },
	{ "data", "RLIMIT_DATA: with a limit, no pages are moved", "", data_segment },
	{ "locked-memory", "RLIMIT_MEMLOCK: what mlockall() of the program must stay below", "",
		locked_memory },
	{ "cgroup", "free memory that is kept warm stays below half of what the group has left",
		"only the machine's memory bounds it", group_version },
	{ "cgroup-max", "a limit that counts for this", "", group_max },
	{ "cgroup-high", "a limit that counts for this", "", group_high },
	{ 0 },
};
