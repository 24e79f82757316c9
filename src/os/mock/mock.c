/* SPDX-License-Identifier: MIT */
/*
 * The state of the mock: scripted failures, counts, records, clock, facts and texts. calls.c asks
 * mock_enter() before each call and tells mock_record() after it. Shared fields are atomic because
 * the code under test runs threads; they carry no order, since only counts depend on them.
 */
#include "mock/mock.h"

#include "base/atomic.h"
#include "facts.h"
#include "linux/linux.h"

#include <errno.h>
#include <string.h>

enum { records_max = 4096, pairs_max = 24, written_max = 8192 };

struct script {
	_Atomic(uint32_t) count;
	_Atomic(uint32_t) fail_at;   /* the count that fails; 0: none */
	_Atomic(uint32_t) fail_from; /* this count and all behind it fail; 0: none */
	int error;                   /* const while calls are made */
};

/* A name and its value; for variables and files. Const while calls are made. */
struct pair {
	const char *name;
	const char *value;
};

static struct script scripts[OS_CALL_KINDS];
static struct mock_record records[records_max];
static _Atomic(uint32_t) records_used;
static _Atomic(uint64_t) clock_ns = 1000000000;
static const uint64_t *fine_steps; /* const while calls are made */
static size_t fine_count;
static _Atomic(uint64_t) fine_ns; /* what the steps add up to so far */
static _Atomic(uint64_t) fine_calls;
static _Atomic(uint64_t) pressure_event; /* sources and severity; 0: none */
static struct pair variables[pairs_max];
static struct pair files[pairs_max];
static char written[written_max]; /* each writer fills the part it claimed */
static _Atomic(uint32_t) written_used;
static jmp_buf *fatal_env; /* const while calls are made */

static const char *const call_names[OS_CALL_KINDS] = {
	[OS_CALL_RESERVE] = "reserve",
	[OS_CALL_RESERVE_AT] = "reserve_at",
	[OS_CALL_COMMIT] = "commit",
	[OS_CALL_DECOMMIT] = "decommit",
	[OS_CALL_LAZYFREE] = "lazyfree",
	[OS_CALL_MAP] = "map",
	[OS_CALL_UNMAP] = "unmap",
	[OS_CALL_MAP_FIXED] = "map_fixed",
	[OS_CALL_REMAP_FIXED_NONE] = "remap_fixed_none",
	[OS_CALL_MOVE] = "move",
	[OS_CALL_GROW] = "grow",
	[OS_CALL_HUGE] = "huge",
	[OS_CALL_COLLAPSE] = "collapse",
	[OS_CALL_PRESENT] = "present",
	[OS_CALL_POPULATE] = "populate",
	[OS_CALL_PREFER_NODE] = "prefer_node",
	[OS_CALL_NAME] = "name",
	[OS_CALL_BARRIER] = "barrier",
	[OS_CALL_RSEQ_REGISTER] = "rseq_register",
	[OS_CALL_RSEQ_FENCE] = "rseq_fence",
	[OS_CALL_WIPE_ON_FORK] = "wipe_on_fork",
	[OS_CALL_FILE_READ] = "file_read",
	[OS_CALL_FILE_OPEN] = "file_open",
	[OS_CALL_FILE_REREAD] = "file_reread",
	[OS_CALL_PRESSURE_OPEN] = "pressure_open",
	[OS_CALL_TASK_START] = "task_start",
	[OS_CALL_MAP_LAZY] = "map_lazy",
	[OS_CALL_FILE_MAKE] = "file_make",
	[OS_CALL_FILE_MAP] = "file_map",
	[OS_CALL_HIDE_FROM_FORK] = "hide_from_fork",
	[OS_CALL_GUARD] = "guard",
	[OS_CALL_DECOMMIT_MANY] = "decommit_many",
	[OS_CALL_PAGES] = "pages",
};

const char *mock_call_name(enum os_call kind)
{
	return call_names[kind];
}

void os_facts_gather(struct os_facts *ret_facts)
{
	os_linux_facts_gather(ret_facts);
}

struct os_facts *mock_facts(void)
{
	/* The object behind is not const: facts.c keeps it in plain static memory. */
	return (struct os_facts *)os_facts();
}

void mock_reset(void)
{
	memset(scripts, 0, sizeof(scripts));
	memset(variables, 0, sizeof(variables));
	memset(files, 0, sizeof(files));
	memset(written, 0, sizeof(written));
	a_store_rlx(&written_used, 0);
	a_store_rlx(&records_used, 0);
	fatal_env = NULL;
	mock_fine_set(NULL, 0);
	mock_map_count_set(0);
	mock_pressure_set(0, 0);
	mock_clock_set(1000000000);
	os_linux_facts_gather(mock_facts());
}

void mock_fail(enum os_call kind, unsigned nth, int error)
{
	struct script *s = &scripts[kind];

	s->error = error;
	a_store_rlx(&s->fail_at, error ? a_load_rlx(&s->count) + nth : 0);
}

void mock_fail_all_after(enum os_call kind, unsigned n)
{
	struct script *s = &scripts[kind];

	a_store_rlx(&s->fail_from, a_load_rlx(&s->count) + n + 1);
}

unsigned mock_count(enum os_call kind)
{
	return a_load_rlx(&scripts[kind].count);
}

int mock_enter(enum os_call kind)
{
	struct script *s = &scripts[kind];
	uint32_t count = a_add_rlx(&s->count, 1) + 1;
	uint32_t from = a_load_rlx(&s->fail_from);

	if (count == a_load_rlx(&s->fail_at))
		return -s->error;
	return from && count >= from ? -ENOMEM : 0;
}

int mock_record(enum os_call kind, void *addr, size_t bytes, int result)
{
	uint32_t at = a_add_rlx(&records_used, 1);

	if (at < records_max)
		records[at] = (struct mock_record){ kind, addr, bytes, result };
	return result;
}

size_t mock_calls(const struct mock_record **ret_records)
{
	uint32_t used = a_load_rlx(&records_used);

	*ret_records = records;
	return used < records_max ? used : records_max;
}

void mock_clock_set(uint64_t ns)
{
	a_store_rlx(&clock_ns, ns);
}

void mock_clock_advance(uint64_t ns)
{
	a_add_rlx(&clock_ns, ns);
}

uint64_t os_now_ns(void)
{
	return a_load_rlx(&clock_ns);
}

void mock_fine_set(const uint64_t *steps, size_t count)
{
	fine_steps = steps;
	fine_count = count;
	a_store_rlx(&fine_ns, 0);
	a_store_rlx(&fine_calls, 0);
}

uint64_t os_fine_ns(void)
{
	uint64_t step = 0;

	if (fine_count)
		step = fine_steps[a_add_rlx(&fine_calls, 1) % fine_count];
	return os_now_ns() + a_add_rlx(&fine_ns, step) + step;
}

void mock_pressure_set(unsigned severity, unsigned sources)
{
	a_store_rlx(&pressure_event, (uint64_t)sources << 32 | severity);
}

bool mock_pressure_take(struct os_pressure_event *ret_event)
{
	uint64_t event = a_xchg_rlx(&pressure_event, 0);

	*ret_event = (struct os_pressure_event){ (uint32_t)event, event >> 32 };
	return event != 0;
}

static struct pair *pair_find(struct pair *pairs, const char *name)
{
	for (int i = 0; i < pairs_max; i++) {
		if (pairs[i].name && !strcmp(pairs[i].name, name))
			return &pairs[i];
	}
	return NULL;
}

/* Sets a pair; a table that is full is a mistake in the test, which must not pass for that. */
static void pair_set(struct pair *pairs, const char *name, const char *value)
{
	struct pair *p = pair_find(pairs, name);

	for (int i = 0; !p && i < pairs_max; i++) {
		if (!pairs[i].name)
			p = &pairs[i];
	}
	if (!p)
		os_linux_fatal("mock: too many variables or files\n");
	*p = (struct pair){ value ? name : NULL, value };
}

void mock_env_set(const char *name, const char *value)
{
	pair_set(variables, name, value);
}

void mock_file_set(const char *path, const char *text)
{
	pair_set(files, path, text);
}

const char *os_env(const char *name)
{
	const struct pair *p = pair_find(variables, name);

	return p ? p->value : NULL;
}

const char *mock_file_text(const char *path)
{
	const struct pair *p = pair_find(files, path);

	return p ? p->value : NULL;
}

int mock_file_number(const char *path)
{
	const struct pair *p = pair_find(files, path);

	return p ? (int)(p - files) : -ENOENT;
}

const char *mock_file_name(int number)
{
	return number >= 0 && number < pairs_max && files[number].name ? files[number].name : "";
}

const char *mock_written(void)
{
	return written;
}

void os_write(int fd, const char *text, size_t bytes)
{
	uint32_t at = a_add_rlx(&written_used, (uint32_t)bytes);

	(void)fd;
	if (at + bytes < written_max)
		memcpy(written + at, text, bytes);
}

void mock_fatal_catch(jmp_buf *env)
{
	fatal_env = env;
}

_Noreturn void os_fatal(const char *line)
{
	if (!fatal_env)
		os_linux_fatal(line);
	os_write(2, line, strlen(line));
	longjmp(*fatal_env, 1);
}
