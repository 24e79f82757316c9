/* SPDX-License-Identifier: MIT */
/*
 * The library's start and end in a process: its constructor and destructor.
 *
 * The heap may have been started earlier, by a constructor of another library that allocates. After
 * the destructor it goes on working, for the destructors that run later. A process that ends by
 * _exit() or by a signal skips the destructor, and with it the statistics.
 */
#include "base/options.h"
#include "face.h"
#include "heap/heap.h"
#include "page/page.h"
#include "report.h"

static __attribute__((constructor)) void process_begin(void)
{
	if (heap_init() == 0 && !face_is_delegated())
		heap_register_hooks();
	if (options.help)
		report_options();
}

static __attribute__((destructor)) void process_end(void)
{
	report_stats();
	page_exit();
}
