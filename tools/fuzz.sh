#!/bin/sh
# tools/fuzz.sh SECONDS — run every fuzz target that long, from its corpus. New inputs stay in
# build-fuzz/; a crash is kept there too and ends the run with exit 1.
set -eu
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 # what it says is no line in a log
cd "$(dirname "$0")/.."
seconds=$1

[ -f build-fuzz/build.ninja ] ||
	CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined \
		-Db_lundef=false -Dwerror=false
ninja -C build-fuzz
for target in build-fuzz/fuzz/fuzz_*; do
	if [ -d "$target" ] || [ ! -x "$target" ]; then continue; fi
	name=$(basename "$target")
	mkdir -p "build-fuzz/new/$name"
	echo "== $name, $seconds s"
	"$target" -max_total_time="$seconds" -artifact_prefix="build-fuzz/$name-" \
		-print_final_stats=1 "build-fuzz/new/$name" "fuzz/corpus/${name#fuzz_}"
done
