-- SPDX-License-Identifier: MIT
-- Lua at work: strings built and taken apart, tables of tables, closures. Always the same output.
local state = 4711
local function random(limit)
	state = (state * 1103515245 + 12345) % 2147483648
	return state // 256 % limit + 1
end

local words = {}
for i = 1, 3000 do
	local parts = {}
	for k = 1, random(4) do
		parts[k] = string.char(96 + random(26), 96 + random(26), 96 + random(26))
	end
	words[i] = table.concat(parts)
end

local counts, lines = {}, {}
for n = 1, 30000 do
	local line = {}
	for k = 1, random(16) do
		line[k] = words[random(3000)]
	end
	lines[n] = table.concat(line, " ")
	for word in lines[n]:gmatch("%a+") do
		local entry = counts[word] or { word = word, seen = 0, where = {} }
		entry.seen = entry.seen + 1
		entry.where[#entry.where + 1] = n
		counts[word] = entry
	end
	if n % 3 == 0 then
		lines[n - 1] = lines[n]:upper():gsub("(%u)(%u+)", "%2%1")
	end
end

local sorted = {}
for _, entry in pairs(counts) do
	sorted[#sorted + 1] = entry
end
table.sort(sorted, function(a, b)
	return a.seen > b.seen or a.seen == b.seen and a.word < b.word
end)
for i = 1, 10 do
	print(sorted[i].word, sorted[i].seen, #sorted[i].where)
end

local function tree(depth)
	if depth == 0 then
		return { value = random(10) }
	end
	return { tree(depth - 1), tree(depth - 1), sum = function(self)
		return (self[1].value or self[1]:sum()) + (self[2].value or self[2]:sum())
	end }
end
for _ = 1, 4 do
	print(tree(14):sum())
end
