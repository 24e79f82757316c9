# SPDX-License-Identifier: MIT
"""Prints a large C++ source: regular expressions, containers and templates over many types.
make_cpp.py [NUMBER OF PARTS]; the same text on every run."""
import sys

HEAD = """#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

template <int N> struct Fold {
	template <typename T> static auto apply(T value) { return Fold<N - 1>::apply(value * N + 1); }
};
template <> struct Fold<0> {
	template <typename T> static auto apply(T value) { return value; }
};
template <int N, typename... T> struct Chain : Chain<N - 1, std::pair<int, T>...> {
	std::tuple<T...> own;
};
template <typename... T> struct Chain<0, T...> {};
"""

PART = """
struct Item{n} {{
	std::string name;
	long value[{size}];
	bool operator<(const Item{n} &o) const {{ return name < o.name; }}
}};
using Table{n} = std::map<std::string, std::vector<std::shared_ptr<Item{n}>>>;
static long part{n}(std::istream &in)
{{
	Table{n} table;
	std::unordered_map<int, std::set<std::tuple<int, std::string, Item{n}>>> index;
	std::regex pattern("([a-z]+{n})-(\\\\d{{1,{size}}})(?:x|y)*");
	std::function<long(long)> scale = [&](long v) {{ return Fold<{depth}>::apply(v) + {n}; }};
	std::string line;
	Chain<{links}, int, char> chain;
	while (std::getline(in, line)) {{
		std::smatch match;
		if (!std::regex_match(line, match, pattern))
			continue;
		auto item = std::make_shared<Item{n}>();
		item->name = match[1];
		std::fill(std::begin(item->value), std::end(item->value), scale(std::stol(match[2])));
		table[item->name].push_back(item);
		index[int(line.size())].insert(std::make_tuple({n}, line, *item));
	}}
	long sum = std::get<0>(chain.own);
	for (auto &[name, items] : table) {{
		std::sort(items.begin(), items.end(), [](auto &a, auto &b) {{ return *a < *b; }});
		for (auto &item : items)
			sum += item->value[0] + long(name.size());
	}}
	return sum + long(index.size());
}}
"""


def main():
    parts = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    text = [HEAD]
    for n in range(parts):
        text.append(PART.format(n=n, size=n % 5 + 2, depth=n + 10, links=n % 4 + 2))
    calls = " + ".join("part%d(in)" % n for n in range(parts))
    text.append("\nint main()\n{\n\tstd::istringstream in;\n\tstd::cout << %s << '\\n';\n}\n"
                % calls)
    sys.stdout.write("".join(text))


main()
