/* SPDX-License-Identifier: MIT */
/* What both sides of the background task share, and the mock. For src/os only. */
#pragma once

#include "os/os.h"

/* The task's first function: becomes inconspicuous, runs task->fn, ends. `arg` is the os_task. */
_Noreturn void os_task_main(void *arg);

/* Makes the calling thread the one that started the task. */
void os_task_claim(struct os_task *task);
