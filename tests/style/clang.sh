#!/bin/sh
# tests/style/clang.sh format|tidy BUILD — LLVM's checkers over the tree, by .clang-format and
# .clang-tidy. Looked for when run, not when configured, so that a package added later counts.
set -eu
cd "$(dirname "$0")/../.."

skip_without() {
	command -v "$1" >/dev/null || { echo "$1 is not installed"; exit 77; }
}

case $1 in
format)
	skip_without clang-format
	# Other versions lay out code in other ways, so only Debian 12's decides.
	clang-format --version | grep -q 'version 14\.' || { echo "needs clang-format 14"; exit 77; }
	find include src bench tests fuzz examples -name '*.[ch]' -print0 |
		xargs -0 clang-format --dry-run -Werror
	;;
tidy)
	skip_without run-clang-tidy
	# gcc's own warning options are unknown to clang, which is no finding.
	exec run-clang-tidy -quiet -j2 -p "$2" -extra-arg=-Wno-unknown-warning-option \
		'/src/[a-z]+/[a-z_]+[.]c$'
	;;
esac
