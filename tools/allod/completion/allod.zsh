# SPDX-License-Identifier: MIT
# zsh: the logic of the completion. _allod_words, above, is made from allod's tables.

# _allod_offer TOPIC [OPTION OF COMPADD...]: offers the topic's words with their descriptions.
_allod_offer()
{
	local topic=$1 line
	local -a names shown
	shift
	for line in ${(f)"$(_allod_words $topic)"}; do
		names+=("${line%%$'\t'*}")
		shown+=("${line/$'\t'/  -- }")
	done
	((${#names})) && compadd "$@" -l -d shown -- $names
}

# The last item of "key:value,key:value".
_allod_conf()
{
	compset -P '*,'
	if compset -P '*:'; then
		_allod_offer "conf:${${IPREFIX%:}##*[=,]}" -S ''
	else
		_allod_offer conf -S ''
	fi
}

_allod_run()
{
	if [[ $words[CURRENT-1] == --conf ]] || compset -P '--conf='; then
		_allod_conf
		return
	fi
	local -i i=3
	while ((i < CURRENT)); do
		case $words[i] in
		--conf) ((i += 2)) ;;
		--) ((i++)); break ;;
		-*) ((i++)) ;;
		*) break ;;
		esac
	done
	if ((i >= CURRENT)) && [[ $words[CURRENT-1] != -- && $PREFIX == -* ]]; then
		_allod_offer run
		return
	fi
	shift $((i - 1)) words
	((CURRENT -= i - 1))
	_normal
}

_allod()
{
	if ((CURRENT == 2)) || [[ $words[2] == help ]]; then
		_allod_offer commands
	elif [[ $words[2] == run ]]; then
		_allod_run
	else
		_allod_offer "$words[2]"
	fi
}

_allod "$@"
