/* SPDX-License-Identifier: MIT */
/*
 * Loads the options of the process from its environment. Called once, while the process starts.
 * Part of both implementations.
 */
#include "base/format.h"
#include "base/options.h"
#include "os/os.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/*
 * Far above what all options take; a bigger file is a mistake that is told, not half obeyed. A line
 * has room for the longest path the kernel opens.
 */
enum { file_bytes_max = 8192, line_bytes_max = 4096 + 128 };

static void warn(const char *line)
{
	os_write(STDERR_FILENO, line, strlen(line));
}

static void warn_file(const char *path, const char *what)
{
	char buf[line_bytes_max];
	struct format f;

	format_init(&f, buf, sizeof(buf));
	format_str(&f, "allod: ALLOD_CONF_FILE: cannot read '");
	format_str(&f, path);
	format_str(&f, "': ");
	format_str(&f, what);
	format_str(&f, "\n");
	warn(buf);
}

static const char *reason(int error)
{
	switch (error) {
	case ENOENT: return "no such file";
	case EACCES: return "permission denied";
	case EISDIR: return "is a directory";
	case EFBIG: return "larger than 8 KiB";
	default: return "input error";
	}
}

static int file_load(struct options *opts, const char *path)
{
	char text[file_bytes_max];
	ssize_t len = os_file_read(path, text, sizeof(text));

	if (len + 1 == (ssize_t)sizeof(text))
		len = -EFBIG;
	if (len < 0) {
		warn_file(path, reason((int)-len));
		return (int)len;
	}
	options_parse(opts, text, "ALLOD_CONF_FILE", warn);
	return 0;
}

int os_config_load(struct options *opts)
{
	const char *path;
	const char *text;
	int ret = 0;

	if (os_is_secure())
		return 0;
	path = os_env("ALLOD_CONF_FILE");
	text = os_env("ALLOD_CONF");
	if (path && *path)
		ret = file_load(opts, path);
	if (text)
		options_parse(opts, text, "ALLOD_CONF", warn);
	return ret;
}
