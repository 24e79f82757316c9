/* SPDX-License-Identifier: MIT */
/* What both sides of the background task share. For src/os/linux/task*.c only. */
#pragma once

#include "os/os.h"

/* The task's first function: becomes inconspicuous, runs task->fn, ends. `arg` is the os_task. */
_Noreturn void os_task_main(void *arg);
