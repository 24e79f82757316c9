/* SPDX-License-Identifier: MIT */
/* <rseq/mempool.h> for programs compiled with -I.../allod/compat: see librseq-mempool.h. */
#ifndef ALLOD_COMPAT_RSEQ_MEMPOOL_H
#define ALLOD_COMPAT_RSEQ_MEMPOOL_H

#include <allod/compat/librseq-mempool.h>

#endif /* ALLOD_COMPAT_RSEQ_MEMPOOL_H */
