/* SPDX-License-Identifier: MIT */
/* What the files about memory pressure know of each other. */
#pragma once

#include "linux/linux.h"

/* Watches a descriptor; false if the kernel cannot. */
bool os_pressure_watch_fd(struct os_pressure *p, uint32_t data, int fd, uint32_t events);
void os_pressure_close_fd(int fd);
/* Enters a source, which owns the descriptors then; NULL, and they are closed, if it cannot be. */
struct os_pressure_entry *os_pressure_add(struct os_pressure *p, enum os_pressure_source source,
	unsigned severity, int fd, int aux, uint32_t events);

/* pressure_source.c */

void os_pressure_sources_open(struct os_pressure *p);
/* After an event: its severity, 0 if it was none. Reads what is to be read. */
unsigned os_pressure_entry_read(struct os_pressure_entry *e);
