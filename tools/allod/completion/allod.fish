# SPDX-License-Identifier: MIT
# fish: the logic of the completion. _allod_words, above, is made from allod's tables.

# The last item of "key:value,key:value", offered with what stands before it.
function _allod_conf
	set -l current (commandline -ct)
	set -l before (string match -r '^.*,' -- $current; or string match -r '^--conf=' -- $current)
	set -l item (string replace -r '^(.*,|--conf=)' '' -- $current)
	set -l key (string match -r '^[^:]*:' -- $item)
	if test -n "$key"
		_allod_words conf:(string trim -c : -- $key) | string replace -r '^' -- "$before$key"
	else
		_allod_words conf | string replace -r '^' -- "$before"
	end
end

# How many words stand before the program's name in `allod run [OPTION]... [--] PROGRAM`.
function _allod_words_before_program
	set -l words (commandline -opc)
	set -l i 3
	while test $i -le (count $words)
		switch $words[$i]
			case --conf
				set i (math $i + 2)
			case --
				set i (math $i + 1)
				break
			case '-*'
				set i (math $i + 1)
			case '*'
				break
		end
	end
	math $i - 1
end

# Completes the program's own command line, which begins behind this many words.
function _allod_complete_program
	set -l words (commandline -opc)
	set -l own (string escape -- $words[(math $argv[1] + 1)..-1])
	complete -C (string join -- ' ' $own (commandline -ct))
end

function _allod_complete_run
	set -l words (commandline -opc)
	set -l current (commandline -ct)
	set -l before (_allod_words_before_program)
	if test "$words[-1]" = --conf -a $before -gt (count $words)
		_allod_conf
	else if test "$words[-1]" = -- -o $before -lt (count $words)
		_allod_complete_program $before
	else if string match -q -- '--conf=*' $current
		_allod_conf
	else if string match -q -- '-*' $current
		_allod_words run
	else
		_allod_complete_program $before
	end
end

function _allod_complete
	set -l words (commandline -opc)
	if test (count $words) -eq 1; or test "$words[2]" = help
		_allod_words commands
	else if test "$words[2]" = run
		_allod_complete_run
	else
		_allod_words $words[2]
	end
end
complete -c allod -f -a '(_allod_complete)'
