/* SPDX-License-Identifier: MIT */
/*
 * The version of allod: of the headers at compile time, of the library at run time.
 * Compiles alone as C99 and as C++17.
 */
#ifndef ALLOD_VERSION_H
#define ALLOD_VERSION_H

#define ALLOD_VERSION_MAJOR 0
#define ALLOD_VERSION_MINOR 1
#define ALLOD_VERSION_PATCH 0
#define ALLOD_VERSION_STRING "0.1.0"

/* One number that grows with each release: major * 1000000 + minor * 1000 + patch. */
#define ALLOD_VERSION_NUMBER \
	(ALLOD_VERSION_MAJOR * 1000000 + ALLOD_VERSION_MINOR * 1000 + ALLOD_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The version of the library that is loaded, "MAJOR.MINOR.PATCH".
 *
 * Returns: a constant string that is never freed.
 * Errors:  none.
 * Safety:  any thread, signal handlers.
 * Since:   0.1.
 * Source:  zlib's zlibVersion(): what was compiled against need not be what is loaded.
 */
const char *allod_version(void);

#ifdef __cplusplus
}
#endif

#endif /* ALLOD_VERSION_H */
