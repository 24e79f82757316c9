/* SPDX-License-Identifier: MIT */
/*
 * The calls of os/os.h that the mock replaces, forwarded to Linux. Linked where the mock is not.
 */
#include "facts.h"
#include "linux/linux.h"

void os_facts_gather(struct os_facts *ret_facts)
{
	os_linux_facts_gather(ret_facts);
}

void *os_reserve(size_t bytes, size_t align)
{
	return os_linux_reserve(bytes, align);
}

int os_reserve_at(void *base, size_t bytes)
{
	return os_linux_reserve_at(base, bytes);
}

int os_commit(void *base, size_t bytes)
{
	return os_linux_commit(base, bytes);
}

int os_decommit(void *base, size_t bytes)
{
	return os_linux_decommit(base, bytes);
}

int os_lazyfree(void *base, size_t bytes)
{
	return os_linux_lazyfree(base, bytes);
}

void *os_map(size_t bytes, size_t align)
{
	return os_linux_map(bytes, align);
}

int os_unmap(void *base, size_t bytes)
{
	return os_linux_unmap(base, bytes);
}

int os_map_fixed(void *base, size_t bytes)
{
	return os_linux_map_fixed(base, bytes);
}

int os_remap_fixed_none(void *base, size_t bytes)
{
	return os_linux_remap_fixed_none(base, bytes);
}

void *os_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old)
{
	return os_linux_move(old, old_bytes, dst, new_bytes, keep_old);
}

bool os_is_mapped(void *base, size_t bytes)
{
	return os_linux_is_mapped(base, bytes);
}

bool os_is_joined(const void *base, size_t bytes)
{
	return os_linux_is_joined(base, bytes);
}

uint64_t os_map_count(uint64_t most)
{
	return os_linux_map_count(most);
}

int os_grow(void *base, size_t old_bytes, size_t new_bytes)
{
	return os_linux_grow(base, old_bytes, new_bytes);
}

int os_huge(void *base, size_t bytes, bool on)
{
	return os_linux_huge(base, bytes, on);
}

int os_collapse(void *base, size_t bytes)
{
	return os_linux_collapse(base, bytes);
}

int os_present(void *base, size_t bytes, size_t *ret_pages)
{
	return os_linux_present(base, bytes, ret_pages);
}

int os_populate(void *base, size_t bytes)
{
	return os_linux_populate(base, bytes);
}

int os_prefer_node(void *base, size_t bytes, int node)
{
	return os_linux_prefer_node(base, bytes, node);
}

int os_name(void *base, size_t bytes, const char *name)
{
	return os_linux_name(base, bytes, name);
}

int os_wipe_on_fork(void *base, size_t bytes)
{
	return os_linux_wipe_on_fork(base, bytes);
}

void os_barrier_register(void)
{
	os_linux_barrier_register();
}

int os_barrier(void)
{
	return os_linux_barrier();
}

int os_task_barrier(void)
{
	return os_linux_task_barrier();
}

int os_rseq_register(void *area, unsigned bytes)
{
	return os_linux_rseq_register(area, bytes);
}

int os_rseq_fence(int cpu)
{
	return os_linux_rseq_fence(cpu);
}

void os_wait_while(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns)
{
	os_linux_wait_while(word, value, ns);
}

void os_wake(_Atomic(uint32_t) *word)
{
	os_linux_wake(word);
}

uint64_t os_now_ns(void)
{
	return os_linux_now_ns();
}

uint64_t os_fine_ns(void)
{
	return os_linux_fine_ns();
}

void os_write(int fd, const char *text, size_t bytes)
{
	os_linux_write(fd, text, bytes);
}

_Noreturn void os_fatal(const char *line)
{
	os_linux_fatal(line);
}

const char *os_env(const char *name)
{
	return os_linux_env(name);
}

ssize_t os_file_read(const char *path, char *buf, size_t cap)
{
	return os_linux_file_read(path, buf, cap);
}

int os_pressure_open(struct os_pressure *ret_pressure)
{
	return os_linux_pressure_open(ret_pressure);
}

bool os_pressure_wait(struct os_pressure *pressure, int timeout_ms,
	struct os_pressure_event *ret_event)
{
	return os_linux_pressure_wait(pressure, timeout_ms, ret_event);
}

void os_pressure_wake(const struct os_pressure *pressure)
{
	os_linux_pressure_wake(pressure);
}

void os_pressure_close(struct os_pressure *pressure)
{
	os_linux_pressure_close(pressure);
}

int os_file_open(const char *path)
{
	return os_linux_file_open(path);
}

ssize_t os_file_reread(int fd, char *buf, size_t cap)
{
	return os_linux_file_reread(fd, buf, cap);
}

int os_task_start(struct os_task *task, void (*fn)(void *arg), void *arg)
{
	return os_linux_task_start(task, fn, arg);
}

bool os_task_is_me(const struct os_task *task)
{
	return os_linux_task_is_me(task);
}

bool os_task_alive(const struct os_task *task)
{
	return os_linux_task_alive(task);
}

bool os_task_sleep(struct os_task *task, uint64_t ns)
{
	return os_linux_task_sleep(task, ns);
}

void os_task_wake(struct os_task *task)
{
	os_linux_task_wake(task);
}

void os_task_stop(struct os_task *task)
{
	os_linux_task_stop(task);
}
