#!/bin/sh
# tools/deps.sh SECTION... — see that the packages of these sections are there.
#
# As root, what is missing is installed; otherwise it is named, with the command that installs it.
# Exit 0: all needed to go on is there (build and clang are needed, the rest can be done without).
set -eu
cd "$(dirname "$0")/.."

missing() { # SECTION... -> names, one a line
	for section in "$@"; do
		awk -v s="$section" '$1 == s { print $2 }' packaging/debian-packages.txt
	done | while read -r package; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
		[ "$status" = installed ] || echo "$package"
	done
}

if ! command -v dpkg-query >/dev/null; then
	echo "haul: not a Debian system: packages are not checked" \
		"(packaging/debian-packages.txt lists them)" >&2
	exit 0
fi

wanted=$(missing "$@" | tr '\n' ' ')
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "haul: missing packages: $wanted" >&2
	echo "haul: install them with: sudo apt-get install --no-install-recommends $wanted" >&2
	for section in build clang; do
		case " $* " in *" $section "*) [ -z "$(missing $section)" ] || exit 1 ;; esac
	done
	exit 0
fi

echo "haul: installing $wanted" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o Acquire::Retries=3 update </dev/null >&2
# shellcheck disable=SC2086 # one word a package
apt-get -qq -y -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 install --no-install-recommends $wanted </dev/null >&2
