# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the commands of ./dev, at the root of the repository.

jobs=${JOBS:-$(nproc)}

need_build_tools() {
	scripts/dev/install meson ninja:ninja-build gcc g++ pkg-config:pkgconf scdoc ar:binutils \
		python3
}

# quietly COMMAND...: runs it, and shows the end of its output only if it fails.
quietly() {
	local log status=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 || status=$?
	[ $status -eq 0 ] || tail -n 60 "$log" >&2
	rm -f "$log"
	return $status
}

# configure DIRECTORY OPTION...: sets a build directory up, or gives it these options.
configure() {
	local dir=$1
	shift
	if [ -f "$dir/build.ninja" ]; then
		quietly meson configure "$dir" "$@"
	else
		quietly meson setup "$dir" "$@"
	fi
}

# compile DIRECTORY [TARGET...]
compile() {
	local dir=$1
	shift
	quietly ninja --quiet -j "$jobs" -C "$dir" "$@"
}

# build_release [OPTION...]: what users get, at the top of build/.
build_release() {
	configure build -Dbuildtype=debugoptimized -Dwerror=true "$@" && compile build products
}
