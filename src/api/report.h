/* SPDX-License-Identifier: MIT */
/* What the options `help` and `stats` print; each report is a function of its own for process.c. */
#pragma once

/* The table of options with their values, on standard error. */
void report_options(void);

/* The statistics that options.stats asks for, if any, on the descriptor options.stats_fd. */
void report_stats(void);
