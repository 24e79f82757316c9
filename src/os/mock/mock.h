/* SPDX-License-Identifier: MIT */
/* What the two halves of the mock know of each other. For src/os/mock only. */
#pragma once

#include "os/mock.h"

/* Counts a call; 0, or the negative errno that it has to fail with. */
int mock_enter(enum os_call kind);

/* Records a finished call; returns `result`. */
int mock_record(enum os_call kind, void *addr, size_t bytes, int result);

/* What mock_file_set() gave, or NULL. */
const char *mock_file_text(const char *path);

/* The event that was set, once; false: there is none. */
bool mock_pressure_take(struct os_pressure_event *ret_event);

/* Its place in the table, or -ENOENT; and the name that is there, or "". */
int mock_file_number(const char *path);
const char *mock_file_name(int number);
