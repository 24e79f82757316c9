/* SPDX-License-Identifier: MIT */
/* A C++ program against the installed library: containers whose memory comes from allod. */
#include <allod/heap.h>
#include <cstddef>
#include <iostream>
#include <map>
#include <new>
#include <string>

template <class T> struct allocator {
	using value_type = T;

	allocator() = default;
	template <class U> allocator(const allocator<U> &)
	{
	}
	T *allocate(std::size_t n)
	{
		if (void *block = allod_malloc(n * sizeof(T)))
			return static_cast<T *>(block);
		throw std::bad_alloc();
	}
	void deallocate(T *block, std::size_t)
	{
		allod_free(block);
	}
	bool operator==(const allocator &) const
	{
		return true;
	}
	bool operator!=(const allocator &) const
	{
		return false;
	}
};

int main()
{
	std::map<int, int, std::less<int>, allocator<std::pair<const int, int>>> squares;

	for (int i = 0; i < 10000; i++)
		squares[i] = i * i;
	std::cout << (squares.at(99) == 9801 ? "allod" : "wrong") << '\n';
}
