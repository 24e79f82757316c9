/* SPDX-License-Identifier: MIT */
/*
 * allod stat: the per-CPU pools of a running process, read from its memory.
 *
 * The process takes no part: its structures are read as they are (percpu/percpu.h), the root found
 * by the name or the first word of its mapping. It goes on meanwhile, so a figure may be a moment
 * old; what cannot be right is left out. The JSON form is an interface: fields are only ever added.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/format.h"
#include "base/json.h"
#include "cli.h"
#include "percpu/percpu.h"

enum { POOLS_MOST = 100000, CHUNKS_MOST = 1000000 };

/* The process that is looked at. */
struct target {
	int pid;
	int pagemap; /* -1: not readable */
	size_t page_bytes;
	struct percpu_root *root;
};

/* What is known of a pool. */
struct pool_stat {
	char name[NAME_BYTES + 1];
	const char *index; /* what its places are numbered by */
	uint64_t elements;
	uint64_t bytes;
	uint64_t chunks;
	uint64_t unit_bytes;
	uint64_t resident[ALLOD_PERCPU_CPUS_MAX]; /* by index */
};

static bool read_at(const struct target *t, const void *at, void *ret, size_t bytes)
{
	struct iovec mine = { ret, bytes };
	struct iovec theirs = { (void *)(uintptr_t)at, bytes };

	return process_vm_readv(t->pid, &mine, 1, &theirs, 1, 0) == (ssize_t)bytes;
}

static bool is_root(struct target *t, uintptr_t at)
{
	struct percpu_root *root = t->root;

	return read_at(t, (void *)at, &root->magic, sizeof(root->magic)) &&
		root->magic == ROOT_MAGIC && read_at(t, (void *)at, root, sizeof(*root)) &&
		root->layout == ROOT_LAYOUT && root->pool_bytes == sizeof(struct allod_percpu_pool);
}

/* 0, or an errno value; ENOENT: the process has no per-CPU pools of this version. */
static int find_root(struct target *t)
{
	char path[64];
	char line[512];
	int error = ENOENT;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", t->pid);
	maps = fopen(path, "r");
	if (!maps)
		return errno == ENOENT ? ESRCH : errno;
	while (error && fgets(line, sizeof(line), maps)) {
		unsigned long start;
		char flags[8];

		if (sscanf(line, "%lx-%*x %7s", &start, flags) == 2 && !strcmp(flags, "rw-p") &&
			(strstr(line, "allod-percpu") || strstr(line, " 0 \n")) &&
			is_root(t, start))
			error = 0;
	}
	fclose(maps);
	/* An empty list of mappings, or none of them readable: whose process is it? */
	if (error && !read_at(t, NULL, line, 0) && errno == EPERM)
		error = EPERM;
	return error;
}

/* Pages of the range that are the process's own, in bytes. */
static uint64_t resident_bytes(const struct target *t, uintptr_t at, uint64_t bytes)
{
	enum { STEP = 512 };
	uint64_t entries[STEP];
	uint64_t own = 0;

	for (uint64_t done = 0; done < bytes && t->pagemap >= 0; done += STEP * t->page_bytes) {
		size_t pages = (bytes - done) / t->page_bytes;
		size_t now = pages < STEP ? pages : STEP;
		ssize_t got = pread(t->pagemap, entries, now * sizeof(entries[0]),
			(off_t)((at + done) / t->page_bytes * sizeof(entries[0])));

		for (ssize_t i = 0; i < got / (ssize_t)sizeof(entries[0]); i++) {
			bool is_exclusive = entries[i] >> 63 & 1 && entries[i] >> 56 & 1;
			bool is_file = entries[i] >> 61 & 1;
			own += (is_exclusive && !is_file) || entries[i] >> 62 & 1;
		}
	}
	return own * t->page_bytes;
}

/* Counts the elements of a chunk by its two maps. */
static void count_elements(const struct target *t, const struct percpu_chunk *chunk,
	struct pool_stat *s)
{
	size_t words = chunk->bits / 64;
	uint64_t *maps = calloc(2 * words, sizeof(*maps));
	uint64_t start = 0;
	bool inside = false;

	if (maps && read_at(t, (const void *)chunk->live, maps, words * 8) &&
		read_at(t, (const void *)chunk->end, maps + words, words * 8)) {
		for (uint64_t bit = 0; bit < chunk->bits; bit++) {
			if (maps[bit / 64] >> bit % 64 & 1) {
				inside = true;
				start = bit;
				s->elements++;
			}
			if (inside && maps[words + bit / 64] >> bit % 64 & 1) {
				inside = false;
				s->bytes += (bit + 1 - start) << chunk->shift;
			}
		}
	}
	free(maps);
}

static void add_chunk(const struct target *t, const struct allod_percpu_pool *pool,
	const struct percpu_chunk *chunk, struct pool_stat *s)
{
	uint64_t bytes = (uint64_t)chunk->blocks << BLOCK_SHIFT;
	uint32_t active = a_load_rlx(&t->root->active_count);

	s->chunks++;
	s->unit_bytes += bytes;
	count_elements(t, chunk, s);
	if (pool_has(pool, ALLOD_PERCPU_GLOBAL)) {
		s->resident[0] += resident_bytes(t, chunk->base, bytes);
		return;
	}
	for (uint32_t i = 0; i < active; i++) {
		unsigned cpu = t->root->active[i];
		if (cpu < pool->cpus)
			s->resident[cpu] +=
				resident_bytes(t, chunk->base + cpu * chunk->stride, bytes);
	}
}

static void read_pool(const struct target *t, const struct allod_percpu_pool *pool,
	struct pool_stat *s)
{
	struct percpu_chunk chunk;
	const struct percpu_chunk *at = pool->chunks;

	memset(s, 0, sizeof(*s));
	memcpy(s->name, pool->name, NAME_BYTES);
	s->index = pool_has(pool, ALLOD_PERCPU_GLOBAL)       ? "none"
		: pool->options.index == ALLOD_PERCPU_BY_CID ? "cid"
							     : "cpu";
	for (unsigned i = 0; at && i < CHUNKS_MOST; i++) {
		if (!read_at(t, at, &chunk, sizeof(chunk)) || chunk.bits % 64 ||
			chunk.shift > BLOCK_SHIFT ||
			chunk.bits > (ALLOD_PERCPU_STRIDE >> GRANULE_SHIFT) - 1)
			return;
		add_chunk(t, pool, &chunk, s);
		at = chunk.next_of_pool;
	}
}

static void print_resident(const struct target *t, const struct pool_stat *s)
{
	char size[32];
	struct format f;

	if (t->pagemap < 0)
		puts("  resident  not known: /proc/PID/pagemap cannot be read");
	for (unsigned cpu = 0; cpu < ALLOD_PERCPU_CPUS_MAX; cpu++) {
		if (!s->resident[cpu])
			continue;
		format_init(&f, size, sizeof(size));
		format_bytes(&f, s->resident[cpu]);
		if (!strcmp(s->index, "none"))
			printf("  resident  %s\n", size);
		else
			printf("  %s %-5u %s resident\n", s->index, cpu, size);
	}
}

static void print_text(const struct target *t, const struct pool_stat *s)
{
	char size[32];
	struct format f;

	printf("%s\n", s->name[0] ? s->name : "(no name)");
	format_init(&f, size, sizeof(size));
	format_bytes(&f, s->bytes);
	printf("  elements  %llu, %s for each processor\n", (unsigned long long)s->elements, size);
	format_init(&f, size, sizeof(size));
	format_bytes(&f, s->unit_bytes);
	printf("  chunks    %llu, %s for each processor\n", (unsigned long long)s->chunks, size);
	print_resident(t, s);
}

static void member_u64(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	json_u64(json, value);
}

static void print_json(struct json *json, const struct pool_stat *s)
{
	json_object_begin(json);
	json_key(json, "name");
	json_str(json, s->name);
	json_key(json, "index");
	json_str(json, s->index);
	member_u64(json, "elements", s->elements);
	member_u64(json, "bytes", s->bytes);
	member_u64(json, "chunks", s->chunks);
	member_u64(json, "unit_bytes", s->unit_bytes);
	json_key(json, "resident");
	json_array_begin(json);
	for (unsigned cpu = 0; cpu < ALLOD_PERCPU_CPUS_MAX; cpu++) {
		if (!s->resident[cpu])
			continue;
		json_object_begin(json);
		member_u64(json, "cpu", cpu);
		member_u64(json, "bytes", s->resident[cpu]);
		json_object_end(json);
	}
	json_array_end(json);
	json_object_end(json);
}

static void flush_to_stdout(void *context, const char *text, size_t length)
{
	(void)context;
	fwrite(text, 1, length, stdout);
}

/* Walks the pools; with `json`, into it. Returns how many there are. */
static unsigned walk(const struct target *t, struct json *json)
{
	static struct pool_stat stat;
	static struct allod_percpu_pool pool;
	const struct allod_percpu_pool *at = a_load_rlx(&t->root->pools);
	unsigned count = 0;

	for (; at && count < POOLS_MOST && read_at(t, at, &pool, sizeof(pool)); count++) {
		at = pool.next;
		read_pool(t, &pool, &stat);
		if (json)
			print_json(json, &stat);
		else
			print_text(t, &stat);
	}
	return count;
}

static void show(const struct target *t, bool is_json)
{
	char buffer[4096];
	struct format format;
	struct json json;

	if (!is_json) {
		printf("allod " ALLOD_VERSION ": per-CPU pools of process %d\n", t->pid);
		if (!walk(t, NULL))
			puts("(none)");
		return;
	}
	format_init_flush(&format, buffer, sizeof(buffer), flush_to_stdout, NULL);
	json_init(&json, &format);
	json_object_begin(&json);
	json_key(&json, "schema");
	json_str(&json, "allod.stat/1");
	member_u64(&json, "pid", (uint64_t)t->pid);
	member_u64(&json, "active_cpus", a_load_rlx(&t->root->active_count));
	json_key(&json, "resident_known");
	json_bool(&json, t->pagemap >= 0);
	json_key(&json, "pools");
	json_array_begin(&json);
	walk(t, &json);
	json_array_end(&json);
	json_object_end(&json);
	json_end(&json);
	format_end(&format);
}

static int stat_process(int pid, bool is_json)
{
	static struct percpu_root root;
	struct target target = { .pid = pid, .root = &root };
	char path[64];
	int error;

	target.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	error = find_root(&target);
	if (error == ENOENT)
		cli_error("stat", "process %d has no per-CPU pools of this version of allod", pid);
	else if (error)
		cli_error("stat", "cannot read process %d: %s", pid, strerror(error));
	if (error)
		return CLI_FAILURE;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	target.pagemap = open(path, O_RDONLY | O_CLOEXEC);
	show(&target, is_json);
	if (target.pagemap >= 0)
		close(target.pagemap);
	return cli_finish();
}

int stat_main(const struct cli_command *command, int argc, char **argv)
{
	struct cli_parser parser = { .command = command, .argc = argc, .argv = argv, .next = 1 };
	bool json = false;
	char *end = NULL;
	long pid = 0;
	int index;

	while ((index = cli_next_option(&parser)) >= 0)
		json = true;
	if (index == CLI_ERROR)
		return CLI_USAGE;
	if (index == CLI_HELP)
		return cli_finish();
	if (parser.next < argc)
		pid = strtol(argv[parser.next], &end, 10);
	if (!end || *end || pid < 1 || pid > INT32_MAX) {
		cli_error("stat", "one process number is wanted (see 'allod help stat')");
		return CLI_USAGE;
	}
	if (parser.next + 1 < argc) {
		cli_error("stat", "unexpected argument '%s' (see 'allod help stat')",
			argv[parser.next + 1]);
		return CLI_USAGE;
	}
	return stat_process((int)pid, json);
}
