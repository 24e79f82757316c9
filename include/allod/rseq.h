/* SPDX-License-Identifier: MIT */
/*
 * Restartable sequences: which processor a thread runs on, read from memory that the kernel keeps
 * up to date, and short sequences of instructions that start again when the thread is interrupted
 * or moved in the middle. The per-CPU operations of <allod/percpu-ops.h> are made of them.
 * Compiles alone as C99 and as C++17. Needs nothing of the heap.
 *
 * A process works in one of three ways, chosen when the library starts:
 *  - libc has registered an area for every thread (glibc 2.35 and later): it is used;
 *  - libc has none (musl, static programs, glibc.pthread.rseq=0): the library has an area in its
 *    thread-local storage and registers it for each thread at the thread's first operation;
 *  - the kernel refuses (valgrind, a sandbox, another owner of the area): operations are atomic
 *    instructions throughout the process.
 * The ways are never mixed. Should a thread turn out later that cannot be registered, because
 * another library owns its area, the whole process goes over to atomic instructions, once and for
 * good, behind a fence that stops all sequences.
 *
 * The number is read from `cpu_id` and never from `cpu_id_start`, which at least one allocator
 * overwrites. No operation may be used between vfork() and exec, nor in a task made by a raw
 * clone() that shares this thread's thread-local storage.
 */
#ifndef ALLOD_RSEQ_H
#define ALLOD_RSEQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* By which number a thread finds its place. */
enum allod_rseq_index {
	/* The processor. Its number says on which node of memory it is; numbers may have gaps. */
	ALLOD_RSEQ_CPU_ID = 0,
	/*
	 * The concurrency id: no two running threads of the process have the same, and ids are
	 * below the lesser of threads and processors allowed, whatever the machine has (Linux 6.3).
	 * Where the kernel gives none, it is the processor's number.
	 */
	ALLOD_RSEQ_MM_CID = 1
};

/* How the process works. */
enum allod_rseq_mode {
	ALLOD_RSEQ_MODE_LIBC = 0,  /* in the area that libc registered */
	ALLOD_RSEQ_MODE_OWN = 1,   /* in an area of this library */
	ALLOD_RSEQ_MODE_ATOMIC = 2 /* without restartable sequences */
};

/*
 * How the process works. The answer may change once, to ALLOD_RSEQ_MODE_ATOMIC.
 *
 * Returns: the mode. Errors: none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  librseq, rseq_available().
 */
enum allod_rseq_mode allod_rseq_mode(void);

/*
 * How much of the area the kernel fills, in bytes: 20 up to and with `flags`, 28 with `mm_cid`. What
 * libc says of itself is corrected: glibc 2.36 says 20, and 2.35 says 32, whatever the kernel does.
 *
 * Returns: bytes; 0 in atomic mode. Errors: none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  librseq, rseq_feature_size; getauxval(3), AT_RSEQ_FEATURE_SIZE.
 */
unsigned allod_rseq_feature_bytes(void);

/*
 * Whether the kernel gives numbers of this kind. ALLOD_RSEQ_CPU_ID: unless the mode is atomic.
 *
 * Returns: 1 or 0. Errors: none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  librseq, rseq_mm_cid_available().
 */
int allod_rseq_available(enum allod_rseq_index by);

/*
 * Registers the calling thread, where libc has not. Every operation does so by itself when it has
 * to: this is for a thread that wants no system call at its first operation.
 *
 * Returns: 0, or -ENOTSUP: the process works by atomic instructions, maybe from now on.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  librseq, rseq_register_current_thread().
 */
int allod_rseq_register(void);

/*
 * The number of the calling thread at this moment. It may be another as soon as this returns.
 *
 * by:      the kind of number.
 * Returns: the number, 0 or more. Without restartable sequences, what the vdso says.
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  librseq, rseq_current_cpu(), rseq_current_mm_cid().
 */
int allod_rseq_current(enum allod_rseq_index by);

/*
 * A fence for work on another processor's memory. When it has returned 0, each sequence that was
 * under way on the processor when the call began has ended or starts again, and sees what was
 * written before the call. It waits for no thread: processors that run threads of this process are
 * interrupted by membarrier(2); where the kernel refuses that, the calling thread visits each
 * processor in turn, which takes some microseconds each.
 *
 * cpu:     a processor, or -1 for all of them. For memory indexed by concurrency ids it must be -1,
 *          since an id names no processor.
 * Returns: 0, or a negative errno. Nothing is known then of the sequences.
 * Errors:  -EPERM: a sandbox refuses both ways. -EINVAL: no such processor.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ; tcmalloc, FenceCpu().
 */
int allod_rseq_fence(int cpu);

/*
 * Makes the calling thread's area point at no sequence. A shared object that holds sequences which
 * were compiled as position-independent code by these headers need not call it before it is
 * unloaded, since each of those does so when it ends. Others must, on each of their threads.
 *
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  librseq, rseq_prepare_unload().
 */
void allod_rseq_clear(void);

/*
 * The library's own half of the inline operations; not for programs. Offsets are from the thread
 * pointer, in bytes. `index` leads to the number of each kind, which is negative while the thread
 * cannot use it; sequences read it again in their middle, so that changing it stops them.
 */
struct allod_rseq_state_ {
	ptrdiff_t index[2];
	ptrdiff_t cs; /* to the field that points at the descriptor of the current sequence */
};
extern struct allod_rseq_state_ allod_rseq_state_;

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_RSEQ_H */
