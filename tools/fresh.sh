#!/bin/sh
# tools/fresh.sh [DIR] — do what a new user does, on a Debian 12 that has nothing.
#
# Makes a minimal system in DIR (default: a new folder of /var/tmp; removed at the end, a DIR given is
# kept), copies the committed tree in, installs make as README.md says, and runs both README commands
# there, the tests also as a user who is not root. Packages come from wherever this machine's apt gets
# its own. Needs root and debootstrap. All mounts live in a mount namespace, and all processes in a
# process namespace, of this script: both vanish with it, however it ends.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)

say() {
	echo "fresh: $*" >&2
}

# Inside the namespaces: $root is the new system.

debian_sources() { # what this machine has configured for Debian itself, as one-line entries
	# shellcheck disable=SC2016 # apt fills these in
	apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' |
		awk '$1 == "Debian" && $4 ~ /^bookworm(-updates|-security)?$/ { sub(/^Debian /, ""); print }' |
		sort -u
}

make_system() {
	sources=$(debian_sources)
	mirror=$(echo "$sources" | awk '$3 == "bookworm" { print $2; exit }')
	[ -n "$mirror" ] || { say "this machine's apt has no source for bookworm"; exit 1; }
	debootstrap --variant=minbase bookworm "$root" "$mirror" >"$root.log" 2>&1 ||
		{ tail -20 "$root.log" >&2; say "debootstrap failed"; exit 1; }
	rm -f "$root.log"
	echo "$sources" >"$root/etc/apt/sources.list"
	apt-config dump | grep -E '^Acquire::(http|https)::.*[Pp]roxy' \
		>"$root/etc/apt/apt.conf.d/99host" || true
	cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
}

enter() { # COMMAND... in the new system, with a new user's environment
	chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/root TERM=dumb ${http_proxy:+"http_proxy=$http_proxy"} \
		${https_proxy:+"https_proxy=$https_proxy"} ${no_proxy:+"no_proxy=$no_proxy"} \
		/bin/sh -c "cd /usr/src/haul && $1" </dev/null
}

step() { # COMMAND
	say "== $1"
	if enter "$1"; then
		result="$result
fresh: passed: $1"
	else
		result="$result
fresh: FAILED: $1"
		failed=1
	fi
}

inside() {
	root=$1
	failed=0
	result=
	make_system
	mount --bind "$root" "$root" # the root of a system is a mount point
	mount -t proc proc "$root/proc"
	mount -t sysfs sys "$root/sys"
	mount --rbind /dev "$root/dev"
	mkdir -p "$root/usr/src/haul"
	git -C "$tree" archive HEAD | tar -x -C "$root/usr/src/haul"

	step "apt-get -q update && apt-get -q -y install make"
	step "make demo"
	step "make check"
	step "useradd -m driver && chown -R driver: . && runuser -u driver -- make check"
	echo "$result"
	return "$failed"
}

if [ "${1:-}" = --inside ]; then
	inside "$2"
	exit
fi

[ "$(id -u)" = 0 ] || { say "needs root"; exit 1; }
command -v debootstrap >/dev/null || { say "needs debootstrap: apt-get install debootstrap"; exit 1; }
if [ $# -gt 0 ]; then
	mkdir -p "$1"
	[ -z "$(ls -A "$1")" ] || { say "$1 is not empty"; exit 1; }
	root=$(cd "$1" && pwd)
else
	root=$(mktemp -d /var/tmp/haul-fresh-XXXXXX)
	trap 'rm -rf --one-file-system "$root"' EXIT
	trap 'exit 1' INT TERM HUP
	chmod 755 "$root"
fi
unshare --mount --pid --fork --kill-child --propagation private "$tree/tools/fresh.sh" --inside "$root"
