/* SPDX-License-Identifier: MIT */
/* Probes of what is not about mappings: per-CPU operations, pressure, and the background task. */
#include "group.h"
#include "linux/area.h"
#include "linux/linux.h"
#include "linux/probe.h"
#include "linux/syscall.h"

#include "base/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* Kernel ABI that headers of supported systems may lack. */
enum {
	BARRIER_REGISTER_EXPEDITED = 1 << 4,
	BARRIER_EXPEDITED = 1 << 3,
	BARRIER_REGISTER_RSEQ = 1 << 8,
	BARRIER_RSEQ = 1 << 7,
	AUX_RSEQ_FEATURE_BYTES = 27,
	RSEQ_BYTES_FOR_MM_CID = 28,
};

/* glibc 2.35 registers every thread and says so by these. */
extern const unsigned int __rseq_size __attribute__((weak));

static int barrier(long enable, long use)
{
	long ret = os_syscall3(SYS_membarrier, enable, 0, 0);

	if (!ret)
		ret = os_syscall3(SYS_membarrier, use, 0, 0);
	return (int)ret;
}

static int try_membarrier(void)
{
	return barrier(BARRIER_REGISTER_EXPEDITED, BARRIER_EXPEDITED);
}

static int try_membarrier_rseq(void)
{
	return barrier(BARRIER_REGISTER_RSEQ, BARRIER_RSEQ);
}

static int try_rseq(void)
{
	static char area[64] __attribute__((aligned(64)));

	return os_rseq_register(area, 32);
}

static int try_close_range(void)
{
	return (int)os_syscall3(SYS_close_range, 0, ~0U, 0);
}

static int membarrier_expedited(struct format *value)
{
	(void)value;
	return probe_forked(try_membarrier);
}

static int membarrier_rseq(struct format *value)
{
	(void)value;
	return probe_forked(try_membarrier_rseq);
}

static int close_range(struct format *value)
{
	(void)value;
	return probe_forked(try_close_range);
}

static int rseq(struct format *value)
{
	if (&__rseq_size && __rseq_size) {
		format_str(value, "registered by libc, ");
		format_u64(value, __rseq_size);
		format_str(value, " bytes");
		return 0;
	}
	/* Each thread registers an area of the library then. */
	const int ret = probe_forked(try_rseq);
	if (ret == 0)
		format_str(value, "by allod");
	return ret;
}

static int rseq_mm_cid(struct format *value)
{
	unsigned long bytes = getauxval(AUX_RSEQ_FEATURE_BYTES);

	if (!(&__rseq_size && __rseq_size) && probe_forked(try_rseq)) {
		format_str(value, "needs rseq");
		return -ENOTSUP;
	}

	if (bytes)
		format_str(value, "kernel writes "), format_u64(value, bytes),
			format_str(value, " bytes");
	return bytes >= RSEQ_BYTES_FOR_MM_CID ? 0 : -ENOTSUP;
}

/* What the pools of per-CPU memory take their shared initial contents from. */
static int memory_file(struct format *value)
{
	const int fd = os_linux_file_make("allod-probe", os_facts()->page_bytes);

	(void)value;
	if (fd < 0)
		return fd;
	os_syscall1(SYS_close, fd);
	return 0;
}

static int kcmp(struct format *value)
{
	int pid = os_pid();

	(void)value;
	return (int)os_syscall5(SYS_kcmp, pid, pid, KCMP_VM, 0, 0);
}

/* Sets a trigger at 20 ms of stalls within 2 s, the least that may be asked without privileges. */
static int pressure(const char *path)
{
	static const char trigger[] = "some 20000 2000000";
	long fd = os_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
	long ret;

	if (fd < 0)
		return (int)fd;
	ret = os_syscall3(SYS_write, fd, (long)trigger, sizeof(trigger));
	os_syscall1(SYS_close, fd);
	return ret < 0 ? (int)ret : 0;
}

static int psi_system(struct format *value)
{
	(void)value;
	return pressure("/proc/pressure/memory");
}

static int psi_group(struct format *value)
{
	char path[640];

	if (!os_group_stall_path(path, sizeof(path))) {
		format_str(value, "needs control groups of version 2");
		return -ENOTSUP;
	}
	return pressure(path);
}

/* What a subscription would listen to; see pressure_source.c. */
static int pressure_sources(struct format *value)
{
	static const char *const names[] = { "manager", "group stalls", "system stalls",
		"memory.events", "pressure level", "usage" };
	struct os_pressure p;
	int ret = os_linux_pressure_open(&p);
	bool any = false;

	if (ret)
		return ret;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!(p.sources >> i & 1))
			continue;
		format_str(value, any ? ", " : "");
		format_str(value, names[i]);
		any = true;
	}
	os_linux_pressure_close(&p);
	return any ? 0 : -ENOTSUP;
}

/* Static because a task that does not end must find it for the process's life. */
static struct os_task trial;
static _Atomic(uint32_t) trial_ran;

static void trial_run(void *arg)
{
	(void)arg;
	if (os_linux_task_sleep(&trial, 1))
		a_store_rlx(&trial_ran, trial.can_compare ? 1 : 2);
}

static int background_task(struct format *value)
{
	struct timespec poll = { 0, 1000000 };
	int ret = os_linux_task_start(&trial, trial_run, NULL);

	if (ret)
		return ret;
	for (int i = 0; i < 100 && os_linux_task_alive(&trial); i++)
		os_syscall2(SYS_nanosleep, (long)&poll, 0);
	os_linux_task_stop(&trial);
	/* Forgotten, so that the probe can run again. */
	os_task_fork_child(&trial);
	if (!a_load_rlx(&trial_ran))
		return -ENOTSUP;
	format_str(value,
		a_load_rlx(&trial_ran) == 1 ? "exec seen by kcmp" : "exec seen by tid word");
	return 0;
}

const struct probe probes_system[] = {
	{ "background-task", "idle memory goes back while the program sleeps",
		"idle memory goes back when the program next frees or allocates", background_task },
	{ "kcmp", "the background task sees that its process has executed another program",
		"the word of set_tid_address() has to show it", kcmp },
	{ "close-range", "the background task drops its copies of descriptors",
		"no background task", close_range },
	{ "psi-system", "free memory is given back, and programs are told, when the machine stalls",
		"age and limits decide alone", psi_system },
	{ "psi-cgroup", "the same when tasks of the control group stall",
		"age and limits decide alone", psi_group },
	{ "pressure-sources", "allod_page_pressure_subscribe() tells when memory runs short",
		"it fails with EOPNOTSUPP", pressure_sources },
	{ "membarrier", "memory that an idle thread keeps for itself is used by others",
		"it stays with that thread until it allocates again or ends",
		membarrier_expedited },
	{ "membarrier-rseq", "per-CPU memory of another processor is worked on at once",
		"the thread that wants to visits the processors, one after the other",
		membarrier_rseq },
	{ "rseq", "per-CPU operations without atomic instructions",
		"atomic instructions throughout", rseq },
	{ "rseq-mm-cid", "per-CPU memory for no more processors than are used at once",
		"memory for every processor that a thread has run on", rseq_mm_cid },
	{ "memfd", "initial contents of per-CPU memory are shared until a processor writes",
		"only pools with ALLOD_PERCPU_CONTENT_ZERO have initial contents", memory_file },
	{ 0 },
};
