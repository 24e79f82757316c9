/* SPDX-License-Identifier: MIT */
/* What audit_module.c and its program agree upon. */
#pragma once

enum {
	AUDIT_ANSWER = 47110815, /* what getppid() says */
	AUDIT_FAILED = 97,       /* the exit code when the auditor's own blocks are wrong */
};
