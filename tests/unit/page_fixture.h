/* SPDX-License-Identifier: MIT */
/* What the tests of moved and composed runs share. */
#pragma once

#include <stddef.h>

/* Mappings of the process that lie in the arena's committed part. */
size_t page_fixture_mappings(void);
