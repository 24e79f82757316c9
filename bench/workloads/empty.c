/* SPDX-License-Identifier: MIT */
/* empty [resident]: a program that allocates one block, so that an allocator that starts late does
 * start; what it costs to have the library at all. */
#include "workload.h"

int main(int argc, char **argv)
{
	free(malloc(1));
	if (argc > 1)
		report("resident", (double)resident_bytes(), "bytes");
	return 0;
}
