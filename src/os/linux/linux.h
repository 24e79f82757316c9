/* SPDX-License-Identifier: MIT */
/*
 * The Linux implementation of os/os.h under names of its own, so that the mock can stand in front
 * of it: entry.c forwards each os_x() to os_linux_x(), the mock counts and fails first. For
 * src/os only; the contracts are those of os/os.h.
 */
#pragma once

#include "os/os.h"

void os_linux_facts_gather(struct os_facts *ret_facts);

void *os_linux_reserve(size_t bytes, size_t align);
int os_linux_commit(void *base, size_t bytes);
int os_linux_decommit(void *base, size_t bytes);
int os_linux_lazyfree(void *base, size_t bytes);
void *os_linux_map(size_t bytes, size_t align);
int os_linux_unmap(void *base, size_t bytes);
int os_linux_reserve_at(void *base, size_t bytes);
int os_linux_map_fixed(void *base, size_t bytes);
int os_linux_remap_fixed_none(void *base, size_t bytes);
void *os_linux_move(void *old, size_t old_bytes, void *dst, size_t new_bytes, bool keep_old);
bool os_linux_is_mapped(void *base, size_t bytes);
int os_linux_grow(void *base, size_t old_bytes, size_t new_bytes);
int os_linux_huge(void *base, size_t bytes, bool on);
int os_linux_collapse(void *base, size_t bytes);
int os_linux_present(void *base, size_t bytes, size_t *ret_pages);
int os_linux_populate(void *base, size_t bytes);
int os_linux_prefer_node(void *base, size_t bytes, int node);
void os_linux_barrier_register(void);
int os_linux_barrier(void);
int os_linux_task_barrier(void);
int os_linux_rseq_register(void *area, unsigned bytes);
int os_linux_rseq_fence(int cpu);
int os_linux_rseq_fence_by_visits(int cpu);
void os_linux_wait_while(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns);
void os_linux_wake(_Atomic(uint32_t) *word);
int os_linux_name(void *base, size_t bytes, const char *name);
int os_linux_wipe_on_fork(void *base, size_t bytes);

uint64_t os_linux_now_ns(void);
int os_linux_pressure_open(struct os_pressure *p);
bool os_linux_pressure_wait(struct os_pressure *p, int timeout_ms,
	struct os_pressure_event *ret_event);
void os_linux_pressure_wake(const struct os_pressure *p);
void os_linux_pressure_close(struct os_pressure *p);
uint64_t os_linux_fine_ns(void);
void os_linux_write(int fd, const char *text, size_t bytes);
_Noreturn void os_linux_fatal(const char *line);
const char *os_linux_env(const char *name);
int os_linux_file_open(const char *path);
ssize_t os_linux_file_reread(int fd, char *buf, size_t cap);
bool os_linux_is_joined(const void *base, size_t bytes);
uint64_t os_linux_map_count(uint64_t most);
ssize_t os_linux_file_read(const char *path, char *buf, size_t cap);

int os_linux_task_start(struct os_task *task, void (*fn)(void *arg), void *arg);
bool os_linux_task_alive(const struct os_task *task);
bool os_linux_task_is_me(const struct os_task *task);
bool os_linux_task_sleep(struct os_task *task, uint64_t ns);
void os_linux_task_wake(struct os_task *task);
void os_linux_task_stop(struct os_task *task);
