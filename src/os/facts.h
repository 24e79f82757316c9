/* SPDX-License-Identifier: MIT */
/* What src/os/facts.c needs of an implementation. For src/os only. */
#pragma once

#include "os/os.h"

/* Fills the facts; never fails. Linux: reads them. Mock: those, with the test's overrides. */
void os_facts_gather(struct os_facts *ret_facts);
