/* SPDX-License-Identifier: MIT */
/*
 * The calls of os/os.h, as the mock answers them: it counts, fails if told to, else hands the call
 * to Linux, and records. A call told to fail does not reach Linux at all, so nothing has changed.
 */
#include "base/atomic.h"
#include "linux/linux.h"
#include "linux/task.h"
#include "mock/mock.h"

#include <errno.h>
#include <string.h>

static _Atomic(uint32_t) task_sleeps;
static _Atomic(uint32_t) tids;
/* The task that the calling thread plays, if any. */
static __thread const struct os_task *task_running;

void *os_reserve(size_t bytes, size_t align)
{
	void *p = mock_enter(OS_CALL_RESERVE) ? NULL : os_linux_reserve(bytes, align);

	mock_record(OS_CALL_RESERVE, p, bytes, p ? 0 : -ENOMEM);
	return p;
}

void *os_map(size_t bytes, size_t align)
{
	void *p = mock_enter(OS_CALL_MAP) ? NULL : os_linux_map(bytes, align);

	mock_record(OS_CALL_MAP, p, bytes, p ? 0 : -ENOMEM);
	return p;
}

/* A call on a range that gives 0 or negative errno. */
static int on_range(enum os_call kind, int (*call)(void *, size_t), void *base, size_t bytes)
{
	int ret = mock_enter(kind);

	return mock_record(kind, base, bytes, ret ? ret : call(base, bytes));
}

int os_reserve_at(void *base, size_t bytes)
{
	return on_range(OS_CALL_RESERVE_AT, os_linux_reserve_at, base, bytes);
}

int os_commit(void *base, size_t bytes)
{
	return on_range(OS_CALL_COMMIT, os_linux_commit, base, bytes);
}

int os_decommit(void *base, size_t bytes)
{
	return on_range(OS_CALL_DECOMMIT, os_linux_decommit, base, bytes);
}

int os_lazyfree(void *base, size_t bytes)
{
	return on_range(OS_CALL_LAZYFREE, os_linux_lazyfree, base, bytes);
}

int os_unmap(void *base, size_t bytes)
{
	return on_range(OS_CALL_UNMAP, os_linux_unmap, base, bytes);
}

int os_map_fixed(void *base, size_t bytes)
{
	return on_range(OS_CALL_MAP_FIXED, os_linux_map_fixed, base, bytes);
}

int os_remap_fixed_none(void *base, size_t bytes)
{
	return on_range(OS_CALL_REMAP_FIXED_NONE, os_linux_remap_fixed_none, base, bytes);
}

int os_collapse(void *base, size_t bytes)
{
	return on_range(OS_CALL_COLLAPSE, os_linux_collapse, base, bytes);
}

int os_populate(void *base, size_t bytes)
{
	return on_range(OS_CALL_POPULATE, os_linux_populate, base, bytes);
}

int os_present(void *base, size_t bytes, size_t *ret_pages)
{
	int ret = mock_enter(OS_CALL_PRESENT);

	if (!ret)
		ret = os_linux_present(base, bytes, ret_pages);
	return mock_record(OS_CALL_PRESENT, base, bytes, ret);
}

int os_wipe_on_fork(void *base, size_t bytes)
{
	return on_range(OS_CALL_WIPE_ON_FORK, os_linux_wipe_on_fork, base, bytes);
}

void *os_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old)
{
	void *p = NULL;

	if (!mock_enter(OS_CALL_MOVE))
		p = os_linux_move(old, old_bytes, dst, new_bytes, keep_old);
	mock_record(OS_CALL_MOVE, old, new_bytes, p ? 0 : -ENOMEM);
	return p;
}

bool os_is_mapped(void *base, size_t bytes)
{
	return os_linux_is_mapped(base, bytes);
}

bool os_is_joined(const void *base, size_t bytes)
{
	return os_linux_is_joined(base, bytes);
}

static _Atomic(uint64_t) map_count;

void mock_map_count_set(uint64_t mappings)
{
	a_store_rlx(&map_count, mappings);
}

uint64_t os_map_count(uint64_t most)
{
	uint64_t n = a_load_rlx(&map_count);

	return n < most ? n : most;
}

int os_grow(void *base, size_t old_bytes, size_t new_bytes)
{
	int ret = mock_enter(OS_CALL_GROW);

	if (!ret)
		ret = os_linux_grow(base, old_bytes, new_bytes);
	return mock_record(OS_CALL_GROW, base, new_bytes, ret);
}

int os_huge(void *base, size_t bytes, bool on)
{
	int ret = mock_enter(OS_CALL_HUGE);

	return mock_record(OS_CALL_HUGE, base, bytes, ret ? ret : os_linux_huge(base, bytes, on));
}

int os_prefer_node(void *base, size_t bytes, int node)
{
	int ret = mock_enter(OS_CALL_PREFER_NODE);

	return mock_record(OS_CALL_PREFER_NODE, base, bytes,
		ret ? ret : os_linux_prefer_node(base, bytes, node));
}

int os_name(void *base, size_t bytes, const char *name)
{
	int ret = mock_enter(OS_CALL_NAME);

	return mock_record(OS_CALL_NAME, base, bytes, ret ? ret : os_linux_name(base, bytes, name));
}

void os_barrier_register(void)
{
	os_linux_barrier_register();
}

int os_barrier(void)
{
	int ret = mock_enter(OS_CALL_BARRIER);

	return mock_record(OS_CALL_BARRIER, NULL, 0, ret ? ret : os_linux_barrier());
}

int os_task_barrier(void)
{
	return os_barrier();
}

int os_rseq_register(void *area, unsigned bytes)
{
	int ret = mock_enter(OS_CALL_RSEQ_REGISTER);

	return mock_record(OS_CALL_RSEQ_REGISTER, area, bytes,
		ret ? ret : os_linux_rseq_register(area, bytes));
}

int os_rseq_fence(int cpu)
{
	int ret = mock_enter(OS_CALL_RSEQ_FENCE);

	return mock_record(OS_CALL_RSEQ_FENCE, NULL, 0, ret ? ret : os_linux_rseq_fence(cpu));
}

void os_wait_while(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns)
{
	os_linux_wait_while(word, value, ns);
}

void os_wake(_Atomic(uint32_t) *word)
{
	os_linux_wake(word);
}

static ssize_t file_read(const char *path, char *buf, size_t cap)
{
	const char *text = mock_file_text(path);
	size_t bytes;

	if (!text)
		return -ENOENT;
	bytes = strlen(text);
	if (bytes >= cap)
		bytes = cap - 1;
	memcpy(buf, text, bytes);
	buf[bytes] = '\0';
	return (ssize_t)bytes;
}

ssize_t os_file_read(const char *path, char *buf, size_t cap)
{
	int failed = mock_enter(OS_CALL_FILE_READ);
	ssize_t ret = failed ? failed : file_read(path, buf, cap);

	mock_record(OS_CALL_FILE_READ, buf, cap, ret < 0 ? (int)ret : 0);
	return ret;
}

/* The descriptor is the place of the file in the table. */
int os_file_open(const char *path)
{
	int failed = mock_enter(OS_CALL_FILE_OPEN);

	return mock_record(OS_CALL_FILE_OPEN, NULL, 0, failed ? failed : mock_file_number(path));
}

ssize_t os_file_reread(int fd, char *buf, size_t cap)
{
	int failed = mock_enter(OS_CALL_FILE_REREAD);
	ssize_t ret = failed ? failed : file_read(mock_file_name(fd), buf, cap);

	mock_record(OS_CALL_FILE_REREAD, buf, cap, ret < 0 ? (int)ret : 0);
	return ret;
}

/* The descriptor is a real one, for who polls it; events are what the test sets. */
int os_pressure_open(struct os_pressure *ret_pressure)
{
	int ret = mock_enter(OS_CALL_PRESSURE_OPEN);

	memset(ret_pressure, 0, sizeof(*ret_pressure));
	if (!ret) {
		ret_pressure->fd = 1000;
		ret_pressure->wake = -1;
		ret_pressure->sources = OS_PRESSURE_STALL_SYSTEM;
	}
	return mock_record(OS_CALL_PRESSURE_OPEN, NULL, 0, ret);
}

bool os_pressure_wait(struct os_pressure *pressure, int timeout_ms,
	struct os_pressure_event *ret_event)
{
	return mock_pressure_take(ret_event);
}

void os_pressure_wake(const struct os_pressure *pressure)
{
}

void os_pressure_close(struct os_pressure *pressure)
{
	pressure->fd = -1;
}

static int task_accept(struct os_task *task, void (*fn)(void *arg), void *arg)
{
	if (os_task_alive(task))
		return -EALREADY;
	if (a_load_rlx(&task->stop))
		return -EPERM;
	task->fn = fn;
	task->arg = arg;
	os_task_claim(task);
	a_store_rlx(&task->tid, a_add_rlx(&tids, 1) + 1);
	return 0;
}

int os_task_start(struct os_task *task, void (*fn)(void *arg), void *arg)
{
	int ret = mock_enter(OS_CALL_TASK_START);

	return mock_record(OS_CALL_TASK_START, task, 0, ret ? ret : task_accept(task, fn, arg));
}

bool os_task_is_me(const struct os_task *task)
{
	return task_running == task;
}

bool os_task_alive(const struct os_task *task)
{
	return a_load_rlx(&task->tid) != 0;
}

bool os_task_sleep(struct os_task *task, uint64_t ns)
{
	uint32_t left = a_load_rlx(&task_sleeps);

	if (!left || a_load_rlx(&task->stop))
		return false;
	a_store_rlx(&task_sleeps, left - 1);
	mock_clock_advance(ns);
	return true;
}

void os_task_wake(struct os_task *task)
{
	a_add_rlx(&task->wakes, 1);
}

void os_task_stop(struct os_task *task)
{
	a_store_rlx(&task->stop, 1);
	a_store_rlx(&task->tid, 0);
}

void mock_task_run(struct os_task *task, unsigned sleeps)
{
	a_store_rlx(&task_sleeps, sleeps);
	task_running = task;
	task->fn(task->arg);
	task_running = NULL;
	a_store_rlx(&task->tid, 0);
}
