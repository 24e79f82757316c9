# SPDX-License-Identifier: MIT
# bash: the logic of the completion. _allod_words, above, is made from allod's tables.

# _allod_reply TOPIC TEXT [PREFIX]: offers the topic's words that begin with TEXT, less PREFIX.
_allod_reply()
{
	local word
	while IFS=$'\t' read -r word _; do
		[[ $word == "$2"* ]] && COMPREPLY+=("${word#"${3-}"}")
	done < <(_allod_words "$1")
}

# _allod_conf TEXT: the last item of "key:value,key:value". The shell takes the colon for the end
# of a word, so only what stands behind it is offered.
_allod_conf()
{
	local item=${1##*,} before=
	if [[ $item == *:* ]]; then
		_allod_reply "conf:${item%%:*}" "${item#*:}"
		return
	fi
	compopt -o nospace 2>/dev/null
	_allod_reply conf "$item"
	[[ $1 == *,* ]] && before=${1%,*},
	COMPREPLY=("${COMPREPLY[@]/#/${before##*:}}")
}

# _allod_program FIRST: the program of `allod run`, whose word number FIRST is its name.
_allod_program()
{
	if (($1 == ${#words[@]} - 1)); then
		mapfile -t COMPREPLY < <(compgen -c -- "$current")
	elif declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	else
		compopt -o default 2>/dev/null
	fi
}

# The index of the first word that is no option of `allod run`, or of the word being completed.
_allod_program_index()
{
	local i
	for ((i = 2; i < ${#words[@]} - 1; i++)); do
		case ${words[i]} in
		--conf) ((i++)) ;;
		--)
			((i++))
			break
			;;
		-*) ;;
		*) break ;;
		esac
	done
	REPLY=$i
}

_allod_run()
{
	local last=$((${#words[@]} - 1)) REPLY
	_allod_program_index
	if [[ $REPLY -gt $last ]]; then
		_allod_conf "$current"
	elif [[ $REPLY -lt $last || ${words[last - 1]} == -- ]]; then
		_allod_program "$REPLY"
	elif [[ $current == --conf=* ]]; then
		_allod_conf "${current#--conf=}"
	elif [[ $current == --*=* ]]; then
		_allod_reply run "$current" "${current%%=*}="
	elif [[ $current == -* ]]; then
		_allod_reply run "$current"
	else
		_allod_program "$last"
	fi
}

_allod()
{
	local line=${COMP_LINE:0:COMP_POINT} current words
	read -ra words <<<"$line"
	[[ $line == *[[:blank:]] ]] && words+=("")
	current=${words[-1]}
	COMPREPLY=()
	if ((${#words[@]} == 2)); then
		_allod_reply commands "$current"
	elif [[ ${words[1]} == run ]]; then
		_allod_run
	elif [[ ${words[1]} == help ]]; then
		_allod_reply commands "$current"
	else
		_allod_reply "${words[1]}" "$current"
	fi
}
complete -F _allod allod
