/* SPDX-License-Identifier: MIT */
/* A module in C++ for test_operators_late.c; counts what it misses of operator new. */
#include <stddef.h>
#include <stdint.h>

#include <new>

namespace
{

size_t too_large = SIZE_MAX / 4;
int handler_calls;

void handler()
{
	handler_calls++;
	throw std::bad_alloc();
}

bool throws()
{
	try {
		::operator delete(::operator new(too_large));
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

} // namespace

extern "C" __attribute__((visibility("default"))) int operators_module_failures()
{
	int failures = 0;

	failures += !throws();
	failures += ::operator new(too_large, std::nothrow) != nullptr;
	std::set_new_handler(handler);
	failures += !throws();
	failures += handler_calls != 1;
	failures += ::operator new(too_large, std::nothrow) != nullptr;
	failures += handler_calls != 2;
	failures += ::operator new[](too_large, std::align_val_t(64), std::nothrow) != nullptr;
	failures += handler_calls != 3;
	std::set_new_handler(nullptr);
	return failures;
}
