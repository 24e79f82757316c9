/* SPDX-License-Identifier: MIT */
#include "park_symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

enum { SYMBOLS_MOST = 4096 };

static struct symbol symbols[SYMBOLS_MOST];
static size_t symbol_count;

/*
 * A parking counts for each region that a function of its stack belongs to. What a compiler puts
 * into its caller is found under the caller's name, so callers stand here too where they do little
 * else.
 */
const struct region_info regions[REGIONS] = {
	[REGION_MALLOC_FAST] = { "malloc, fast path",
		"malloc __libc_malloc heap_alloc heap_malloc_fast", true },
	[REGION_FREE_FAST] = { "free, fast path", "free __libc_free cfree heap_free heap_free_fast",
		true },
	[REGION_MALLOC_SLOW] = { "malloc, slow path",
		"heap_alloc_slow alloc_any heap_alloc_class current_ready heap_current_replace slab_create slab_carve "
		"slab_collect remote_collect slab_take_attached slab_drain_pending",
		false },
	[REGION_FREE_SLOW] = { "free, slow path",
		"heap_free_slow heap_free_at_mark slab_relieved remote_push remote_push_chain slab_settle",
		false },
	[REGION_PURGE] = { "purge",
		"page_tick tick_round purge_some purge_chunk due_run drop os_decommit os_linux_decommit "
		"cool os_lazyfree os_linux_lazyfree guard_freed guard_round look warm_lower purge_high "
		"os_headroom_read",
		false },
	[REGION_ADOPT] = { "adoption", "slab_adopt remote_adopt slab_take_available adopt_popped",
		false },
	[REGION_SEIZE] = { "seizing",
		"heap_seize_idle seize take_marked each_attached mark take heap_reroute_seized os_barrier "
		"os_linux_barrier",
		false },
	[REGION_LISTS] = { "slabs held beside",
		"slab_attach slab_relieved slab_take_attached slab_open_attached heap_open_slabs attach "
		"detach entry_get entry_drop list_insert list_remove lists_clean spare_replace "
		"slab_drain_pending",
		false },
	[REGION_GROW] = { "arena growth",
		"arena_grow arena_grow_to frontier_move arena_commit_records arena_note_reach "
		"reserve_extend reserve_granules reserve_records reserve_range reserve_dress "
		"reserve_jump",
		false },
	[REGION_MOVE] = { "page moves", "page_move arena_move move_reset refresh marks_clear",
		false },
	[REGION_EXIT] = { "thread exit", "thread_exit page_thread_exit heap_release", false },
	[REGION_TRIM] = { "trim", "malloc_trim heap_trim page_trim", false },
	[REGION_STATS] = { "statistics",
		"heap_stats_read heap_class_stats_read walk_all count_record page_record_each "
		"page_stats mallinfo2 mallinfo __libc_mallinfo malloc_info face_totals_read",
		false },
	[REGION_POOL] = { "heap pool",
		"enter_pooled heap_pool_take heap_pool_put heap_make watch_exit", false },
	[REGION_LARGE] = { "large blocks",
		"large_alloc large_alloc_room large_free large_give large_begin large_resize "
		"large_resize_in_place",
		false },
	[REGION_JANITOR] = { "janitor's start",
		"background_poke janitor_start os_task_start os_linux_task_start clone_blocked",
		false },
};

/* "heap_free.cold" and "claim.part.0" are parts of the function before the point. */
static bool name_is(const char *name, const char *want, size_t length)
{
	return strncmp(name, want, length) == 0 && (name[length] == '\0' || name[length] == '.');
}

static bool list_has(const char *list, const char *name)
{
	while (*list != '\0') {
		const size_t length = strcspn(list, " ");
		if (name_is(name, list, length))
			return true;
		list += length + strspn(list + length, " ");
	}
	return false;
}

static uint32_t regions_of(const char *name)
{
	uint32_t set = 0;
	for (unsigned i = 0; i < REGIONS; i++) {
		if (list_has(regions[i].functions, name))
			set |= 1u << i;
	}
	return set;
}

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a;
	const struct symbol *y = b;
	return x->from < y->from ? -1 : x->from > y->from;
}

/*
 * Static functions follow the name of their source; the others of the tests begin with few words.
 */
static bool is_tests_source(const char *name)
{
	return strncmp(name, "park", 4) == 0 || strncmp(name, "test_", 5) == 0 ||
		strncmp(name, "harness", 7) == 0;
}

static bool is_tests_function(const char *name)
{
	static const char *const words[] = { "block_make", "block_check", "block_free", "face_",
		"park_", "others_", "slot", "symbol", "test_", "victim_", "main" };
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (strncmp(name, words[i], strlen(words[i])) == 0)
			return true;
	}
	return false;
}

static void add_all(const char *file, const ElfW(Shdr) * table, const ElfW(Shdr) * names,
	uintptr_t base)
{
	const ElfW(Sym) *all = (const ElfW(Sym) *)(const void *)(file + table->sh_offset);
	bool in_tests = false;
	for (size_t i = 0; i < table->sh_size / sizeof *all; i++) {
		const char *name = file + names->sh_offset + all[i].st_name;
		if (ELF64_ST_TYPE(all[i].st_info) == STT_FILE)
			in_tests = is_tests_source(name);
		if (ELF64_ST_TYPE(all[i].st_info) != STT_FUNC || all[i].st_size == 0)
			continue;
		CHECK(symbol_count < SYMBOLS_MOST);
		const uintptr_t from = base + all[i].st_value;
		const bool is_local = ELF64_ST_BIND(all[i].st_info) == STB_LOCAL;
		symbols[symbol_count++] = (struct symbol){
			.from = from,
			.to = from + all[i].st_size,
			.name = name,
			.regions = regions_of(name),
			.is_tests = is_local ? in_tests : is_tests_function(name),
		};
	}
}

bool symbols_load(const char *path, uintptr_t base)
{
	struct stat status;
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && fstat(fd, &status) == 0);
	const char *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(file != MAP_FAILED);
	close(fd);
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)(const void *)file;
	const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(const void *)(file + header->e_shoff);
	for (unsigned i = 0; i < header->e_shnum; i++) {
		if (sections[i].sh_type == SHT_SYMTAB)
			add_all(file, &sections[i], &sections[sections[i].sh_link], base);
	}
	qsort(symbols, symbol_count, sizeof symbols[0], by_address);
	return symbol_count > 0;
}

const struct symbol *symbol_at(uintptr_t pc)
{
	size_t low = 0;
	size_t high = symbol_count;
	while (low < high) {
		const size_t middle = (low + high) / 2;
		if (symbols[middle].from <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && pc < symbols[low - 1].to ? &symbols[low - 1] : NULL;
}

size_t symbol_describe(uintptr_t pc, char *text, size_t cap)
{
	const struct symbol *symbol = symbol_at(pc);
	const int length = symbol != NULL
		? snprintf(text, cap, "%s+%#zx", symbol->name, (size_t)(pc - symbol->from))
		: snprintf(text, cap, "%#zx", (size_t)pc);
	return length < 0 ? 0 : (size_t)length < cap ? (size_t)length : cap - 1;
}
