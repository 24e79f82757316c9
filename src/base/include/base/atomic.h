/* SPDX-License-Identifier: MIT */
/*
 * Atomic operations with the memory order in the name. This is the only file that says
 * memory_order_.
 *
 * Owns: nothing; every operation acts on the caller's _Atomic(T) object of 1, 2, 4 or 8 bytes, so
 * that each is lock-free and none needs a library. May be called by: every layer, from any context.
 *
 *   a_load_{rlx,acq,seq}(p)                      a_store_{rlx,rel,seq}(p, v)
 *   a_xchg_{rlx,acq,rel,acqrel}(p, v)            returns the old value
 *   a_{add,sub,or,and}_{rlx,acq,rel,acqrel}(p, v) returns the old value
 *   a_cas_{weak,strong}_{rlx,acq,rel,acqrel}(p, &expected, v), a_cas_weak_seq(p, &expected, v)
 *                                                the failed read is relaxed for rlx and rel,
 *                                                acquire for acq and acqrel, and as ordered for seq
 *   a_fence_{acq,rel,acqrel,seq}()               a_signal_fence() orders against a signal handler
 *                                                on the same thread only
 *   a_pause()                                    a hint in a retry loop
 *   a_fold(p)                                    a relaxed load that the compiler may fold into
 *                                                another instruction, but not split; it stays
 *                                                where it is only between compiler fences
 *   a_store8_rlx(p, v)                           stores v in each of eight uint16_t side by side, each
 *                                                by itself
 *   a_data_read(p), a_data_write(p, v)           plain accesses that a protocol protects; the
 *                                                explorer checks them for races
 *
 * With ALLOD_EXPLORE defined each of them is a scheduling point of the interleaving explorer
 * (tests/model), which also decides which store a load may see. The sources under test need no
 * change for it; see docs/design/explorer.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef ALLOD_EXPLORE

#include <stdatomic.h>

#define a_load_rlx(p) atomic_load_explicit((p), memory_order_relaxed)
#define a_load_acq(p) atomic_load_explicit((p), memory_order_acquire)
#define a_load_seq(p) atomic_load_explicit((p), memory_order_seq_cst)

#define a_store_rlx(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define a_store_rel(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define a_store_seq(p, v) atomic_store_explicit((p), (v), memory_order_seq_cst)

#define a_xchg_rlx(p, v) atomic_exchange_explicit((p), (v), memory_order_relaxed)
#define a_xchg_acq(p, v) atomic_exchange_explicit((p), (v), memory_order_acquire)
#define a_xchg_rel(p, v) atomic_exchange_explicit((p), (v), memory_order_release)
#define a_xchg_acqrel(p, v) atomic_exchange_explicit((p), (v), memory_order_acq_rel)

#define A_CAS_(kind, p, e, v, ok, bad)                                              \
	atomic_compare_exchange_##kind##_explicit((p), (e), (v), memory_order_##ok, \
		memory_order_##bad)
#define a_cas_weak_rlx(p, e, v) A_CAS_(weak, p, e, v, relaxed, relaxed)
#define a_cas_weak_acq(p, e, v) A_CAS_(weak, p, e, v, acquire, acquire)
#define a_cas_weak_rel(p, e, v) A_CAS_(weak, p, e, v, release, relaxed)
#define a_cas_weak_acqrel(p, e, v) A_CAS_(weak, p, e, v, acq_rel, acquire)
#define a_cas_weak_seq(p, e, v) A_CAS_(weak, p, e, v, seq_cst, seq_cst)
#define a_cas_strong_rlx(p, e, v) A_CAS_(strong, p, e, v, relaxed, relaxed)
#define a_cas_strong_acq(p, e, v) A_CAS_(strong, p, e, v, acquire, acquire)
#define a_cas_strong_rel(p, e, v) A_CAS_(strong, p, e, v, release, relaxed)
#define a_cas_strong_acqrel(p, e, v) A_CAS_(strong, p, e, v, acq_rel, acquire)

#define a_add_rlx(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define a_add_acq(p, v) atomic_fetch_add_explicit((p), (v), memory_order_acquire)
#define a_add_rel(p, v) atomic_fetch_add_explicit((p), (v), memory_order_release)
#define a_add_acqrel(p, v) atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define a_sub_rlx(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)
#define a_sub_acq(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_acquire)
#define a_sub_rel(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_release)
#define a_sub_acqrel(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)
#define a_or_rlx(p, v) atomic_fetch_or_explicit((p), (v), memory_order_relaxed)
#define a_or_acq(p, v) atomic_fetch_or_explicit((p), (v), memory_order_acquire)
#define a_or_rel(p, v) atomic_fetch_or_explicit((p), (v), memory_order_release)
#define a_or_acqrel(p, v) atomic_fetch_or_explicit((p), (v), memory_order_acq_rel)
#define a_and_rlx(p, v) atomic_fetch_and_explicit((p), (v), memory_order_relaxed)
#define a_and_acq(p, v) atomic_fetch_and_explicit((p), (v), memory_order_acquire)
#define a_and_rel(p, v) atomic_fetch_and_explicit((p), (v), memory_order_release)
#define a_and_acqrel(p, v) atomic_fetch_and_explicit((p), (v), memory_order_acq_rel)

#define a_fence_acq() atomic_thread_fence(memory_order_acquire)
#define a_fence_rel() atomic_thread_fence(memory_order_release)
#define a_fence_acqrel() atomic_thread_fence(memory_order_acq_rel)
#define a_fence_seq() atomic_thread_fence(memory_order_seq_cst)
#define a_signal_fence() atomic_signal_fence(memory_order_seq_cst)

/* ThreadSanitizer must see the atomic load. */
#if defined(__SANITIZE_THREAD__)
#define A_PLAIN_ 0
#elif defined(__has_feature)
#define A_PLAIN_ !__has_feature(thread_sanitizer)
#else
#define A_PLAIN_ 1
#endif

#if A_PLAIN_
#define a_fold(p) (*(__typeof__((void)0, *(p)) const *)(const void *)(p))
/* One instruction; no processor that has it tears an element. */
typedef uint16_t a_eight_ __attribute__((vector_size(16), aligned(2), may_alias));
#define a_store8_rlx(p, v) ((void)(*(a_eight_ *)(void *)(p) = (a_eight_){ 0 } + (uint16_t)(v)))
#else
#define a_fold(p) a_load_rlx(p)
#define a_store8_rlx(p, v) A_STORE8_(p, v)
#endif

#define a_data_read(p) (*(p))
#define a_data_write(p, v) ((void)(*(p) = (v)))

#if defined(__x86_64__)
#define a_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define a_pause() __asm__ __volatile__("isb" ::: "memory")
#else
#define a_pause() a_signal_fence()
#endif

#else /* ALLOD_EXPLORE: each operation is handed to the explorer, which performs it. */

enum explore_order { EXPLORE_RLX, EXPLORE_ACQ, EXPLORE_REL, EXPLORE_ACQREL, EXPLORE_SEQ };
enum explore_rmw { EXPLORE_XCHG, EXPLORE_ADD, EXPLORE_SUB, EXPLORE_OR, EXPLORE_AND };

/* One operation in the source; the explorer can weaken its order at run time. */
struct explore_site {
	const char *file;
	const char *func;
	const char *name;
	unsigned line;
	enum explore_order order;
	int index; /* given by the explorer at the first use, 0 = not yet */
};

void explore_load(struct explore_site *site, const volatile void *p, size_t size, void *ret);
void explore_store(struct explore_site *site, volatile void *p, size_t size, const void *value);
void explore_rmw(struct explore_site *site, enum explore_rmw op, volatile void *p, size_t size,
	const void *operand, void *ret_old);
bool explore_cas(struct explore_site *site, bool weak, volatile void *p, size_t size,
	void *expected, const void *desired);
void explore_fence(struct explore_site *site);
void explore_pause(void);
void explore_data_read(const volatile void *p, size_t size, const char *file, unsigned line);
void explore_data_write(volatile void *p, size_t size, const char *file, unsigned line);

#define A_TYPE_(p) __typeof__((void)0, *(p))
#define A_SITE_(n, o)                                            \
	static struct explore_site a_site_ = { .file = __FILE__, \
		.func = __func__,                                \
		.name = (n),                                     \
		.line = __LINE__,                                \
		.order = EXPLORE_##o }

#define A_LOAD_(n, o, p)                                             \
	({                                                           \
		A_SITE_(n, o);                                       \
		A_TYPE_(p) a_ret_;                                   \
		explore_load(&a_site_, (p), sizeof a_ret_, &a_ret_); \
		a_ret_;                                              \
	})
#define A_STORE_(n, o, p, v)                                              \
	({                                                                \
		A_SITE_(n, o);                                            \
		A_TYPE_(p) a_value_ = (v);                                \
		explore_store(&a_site_, (p), sizeof a_value_, &a_value_); \
	})
#define A_RMW_(n, o, op, p, v)                                                                 \
	({                                                                                     \
		A_SITE_(n, o);                                                                 \
		A_TYPE_(p) a_value_ = (v);                                                     \
		A_TYPE_(p) a_ret_;                                                             \
		explore_rmw(&a_site_, EXPLORE_##op, (p), sizeof a_value_, &a_value_, &a_ret_); \
		a_ret_;                                                                        \
	})
#define A_CAS_(n, o, weak, p, e, v)                                                          \
	({                                                                                   \
		A_SITE_(n, o);                                                               \
		A_TYPE_(p) a_value_ = (v);                                                   \
		A_TYPE_(p) *a_expected_ = (e);                                               \
		explore_cas(&a_site_, (weak), (p), sizeof a_value_, a_expected_, &a_value_); \
	})
#define A_FENCE_(n, o)                   \
	({                               \
		A_SITE_(n, o);           \
		explore_fence(&a_site_); \
	})

#define a_load_rlx(p) A_LOAD_("a_load_rlx", RLX, p)
#define a_load_acq(p) A_LOAD_("a_load_acq", ACQ, p)
#define a_load_seq(p) A_LOAD_("a_load_seq", SEQ, p)

#define a_store_rlx(p, v) A_STORE_("a_store_rlx", RLX, p, v)
#define a_store_rel(p, v) A_STORE_("a_store_rel", REL, p, v)
#define a_store_seq(p, v) A_STORE_("a_store_seq", SEQ, p, v)

#define a_xchg_rlx(p, v) A_RMW_("a_xchg_rlx", RLX, XCHG, p, v)
#define a_xchg_acq(p, v) A_RMW_("a_xchg_acq", ACQ, XCHG, p, v)
#define a_xchg_rel(p, v) A_RMW_("a_xchg_rel", REL, XCHG, p, v)
#define a_xchg_acqrel(p, v) A_RMW_("a_xchg_acqrel", ACQREL, XCHG, p, v)

#define a_cas_weak_rlx(p, e, v) A_CAS_("a_cas_weak_rlx", RLX, true, p, e, v)
#define a_cas_weak_acq(p, e, v) A_CAS_("a_cas_weak_acq", ACQ, true, p, e, v)
#define a_cas_weak_rel(p, e, v) A_CAS_("a_cas_weak_rel", REL, true, p, e, v)
#define a_cas_weak_acqrel(p, e, v) A_CAS_("a_cas_weak_acqrel", ACQREL, true, p, e, v)
#define a_cas_weak_seq(p, e, v) A_CAS_("a_cas_weak_seq", SEQ, true, p, e, v)
#define a_cas_strong_rlx(p, e, v) A_CAS_("a_cas_strong_rlx", RLX, false, p, e, v)
#define a_cas_strong_acq(p, e, v) A_CAS_("a_cas_strong_acq", ACQ, false, p, e, v)
#define a_cas_strong_rel(p, e, v) A_CAS_("a_cas_strong_rel", REL, false, p, e, v)
#define a_cas_strong_acqrel(p, e, v) A_CAS_("a_cas_strong_acqrel", ACQREL, false, p, e, v)

#define a_add_rlx(p, v) A_RMW_("a_add_rlx", RLX, ADD, p, v)
#define a_add_acq(p, v) A_RMW_("a_add_acq", ACQ, ADD, p, v)
#define a_add_rel(p, v) A_RMW_("a_add_rel", REL, ADD, p, v)
#define a_add_acqrel(p, v) A_RMW_("a_add_acqrel", ACQREL, ADD, p, v)
#define a_sub_rlx(p, v) A_RMW_("a_sub_rlx", RLX, SUB, p, v)
#define a_sub_acq(p, v) A_RMW_("a_sub_acq", ACQ, SUB, p, v)
#define a_sub_rel(p, v) A_RMW_("a_sub_rel", REL, SUB, p, v)
#define a_sub_acqrel(p, v) A_RMW_("a_sub_acqrel", ACQREL, SUB, p, v)
#define a_or_rlx(p, v) A_RMW_("a_or_rlx", RLX, OR, p, v)
#define a_or_acq(p, v) A_RMW_("a_or_acq", ACQ, OR, p, v)
#define a_or_rel(p, v) A_RMW_("a_or_rel", REL, OR, p, v)
#define a_or_acqrel(p, v) A_RMW_("a_or_acqrel", ACQREL, OR, p, v)
#define a_and_rlx(p, v) A_RMW_("a_and_rlx", RLX, AND, p, v)
#define a_and_acq(p, v) A_RMW_("a_and_acq", ACQ, AND, p, v)
#define a_and_rel(p, v) A_RMW_("a_and_rel", REL, AND, p, v)
#define a_and_acqrel(p, v) A_RMW_("a_and_acqrel", ACQREL, AND, p, v)

#define a_fence_acq() A_FENCE_("a_fence_acq", ACQ)
#define a_fence_rel() A_FENCE_("a_fence_rel", REL)
#define a_fence_acqrel() A_FENCE_("a_fence_acqrel", ACQREL)
#define a_fence_seq() A_FENCE_("a_fence_seq", SEQ)
#define a_signal_fence() ((void)0)
#define a_pause() explore_pause()

#define a_fold(p) a_load_rlx(p)
#define a_store8_rlx(p, v) A_STORE8_(p, v)
#define a_data_read(p) (explore_data_read((p), sizeof *(p), __FILE__, __LINE__), *(p))
#define a_data_write(p, v) \
	(explore_data_write((p), sizeof *(p), __FILE__, __LINE__), (void)(*(p) = (v)))

#endif

#define A_STORE8_(p, v)                                    \
	({                                                 \
		for (size_t a_at_ = 0; a_at_ < 8; a_at_++) \
			a_store_rlx(&(p)[a_at_], (v));     \
	})
