/* SPDX-License-Identifier: MIT */
/* The formatter: numbers, sizes, columns, and a buffer that is never overrun. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/format.h"
#include "harness.h"

static char text[256];

static struct format start(void)
{
	struct format f;

	format_init(&f, text, sizeof text);
	return f;
}

static void check_bytes(uint64_t bytes, const char *want)
{
	struct format f = start();

	format_bytes(&f, bytes);
	CHECK_STR_EQ(text, want);
	CHECK_EQ(format_end(&f), strlen(want));
	CHECK(strlen(want) <= 10);
}

TEST(numbers)
{
	struct format f = start();

	format_u64(&f, 0);
	format_char(&f, ' ');
	format_u64(&f, UINT64_MAX);
	format_char(&f, ' ');
	format_i64(&f, INT64_MIN);
	format_char(&f, ' ');
	format_i64(&f, INT64_MAX);
	format_char(&f, ' ');
	format_i64(&f, -7);
	format_char(&f, ' ');
	format_hex(&f, 0);
	format_char(&f, ' ');
	format_hex(&f, 0xfedcba9876543210);
	CHECK_STR_EQ(text,
		"0 18446744073709551615 -9223372036854775808 9223372036854775807 -7 0x0 "
		"0xfedcba9876543210");
}

TEST(numbers_agree_with_printf)
{
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t value = test_random(&seed) >> (test_random(&seed) % 64);
		char want[128];
		struct format f = start();
		format_u64_width(&f, value, i % 23);
		format_char(&f, '|');
		format_i64(&f, (int64_t)value);
		format_char(&f, '|');
		format_hex(&f, value);
		snprintf(want, sizeof want, "%*" PRIu64 "|%" PRId64 "|0x%" PRIx64, (int)(i % 23),
			value, (int64_t)value, value);
		CHECK_STR_EQ(text, want);
	}
}

TEST(sizes)
{
	check_bytes(0, "0 B");
	check_bytes(1023, "1023 B");
	check_bytes(1024, "1.0 KiB");
	check_bytes(1536, "1.5 KiB");
	check_bytes(1024 + 51, "1.0 KiB");
	check_bytes(1024 + 52, "1.1 KiB");
	check_bytes(1023 * 1024 + 972, "1023.9 KiB");
	check_bytes(1024 * 1024 - 51, "1.0 MiB");
	check_bytes(1024 * 1024 - 1, "1.0 MiB");
	check_bytes(1024 * 1024, "1.0 MiB");
	check_bytes(2ull << 30, "2.0 GiB");
	check_bytes((1ull << 40) - 1, "1.0 TiB");
	check_bytes((1ull << 60) - 1, "1.0 EiB");
	check_bytes(1000ull << 50, "1000.0 PiB");
	check_bytes(UINT64_MAX, "16.0 EiB");
}

TEST(sizes_agree_with_floating_point)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t bytes = test_random(&seed) >> (16 + test_random(&seed) % 38);
		long double value = bytes;
		unsigned unit = 0;
		char want[64];
		for (; value >= 1023.95L && unit < 4 && bytes >= 1024; unit++)
			value /= 1024;
		snprintf(want, sizeof want, unit ? "%.1Lf %s" : "%.0Lf %s", value, units[unit]);
		/* printf rounds an exact half to even, the formatter upward. */
		if (unit && (bytes * 20 >> (10 * unit) << (10 * unit)) == bytes * 20)
			continue;
		check_bytes(bytes, want);
	}
}

TEST(columns)
{
	struct format f = start();

	format_str(&f, "name");
	format_pad(&f, 8);
	format_u64_width(&f, 42, 5);
	format_str(&f, "\nlong name");
	format_pad(&f, 8);
	format_u64_width(&f, 123456, 5);
	format_pad(&f, 18);
	format_char(&f, '.');
	CHECK_STR_EQ(text, "name       42\nlong name123456   .");
}

TEST(text_that_does_not_fit_is_cut_off)
{
	for (size_t cap = 1; cap < 12; cap++) {
		struct format f;
		char want[16] = "0123456789";
		memset(text, '#', sizeof text);
		format_init(&f, text, cap);
		format_str(&f, "0123");
		format_u64(&f, 456);
		format_str(&f, "789");
		want[cap - 1] = '\0';
		CHECK_STR_EQ(text, want);
		CHECK_EQ(text[cap], '#');
		CHECK_EQ(f.truncated, cap < 11);
		CHECK_EQ(format_end(&f), strlen(want));
	}
}

static char flushed[4096];
static unsigned flushes;

static void flush(void *context, const char *part, size_t len)
{
	CHECK(context == &flushes);
	CHECK_EQ(strlen(part), len);
	flushes++;
	strcat(flushed, part);
}

TEST(a_full_buffer_is_handed_over)
{
	for (size_t cap = 2; cap < 20; cap++) {
		struct format f;
		flushed[0] = '\0';
		flushes = 0;
		format_init_flush(&f, text, cap, flush, &flushes);
		format_str(&f, "a line much longer than the buffer\n");
		format_u64(&f, 18446744073709551615u);
		format_pad(&f, 25);
		format_str(&f, "|");
		CHECK_EQ(format_end(&f), 0);
		CHECK_STR_EQ(flushed,
			"a line much longer than the buffer\n18446744073709551615     |");
		CHECK(!f.truncated);
		CHECK_EQ(flushes, (strlen(flushed) + cap - 2) / (cap - 1));
	}
}
