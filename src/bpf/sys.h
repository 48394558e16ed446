/* bpf/sys.h — the one way from here into bpf(2), with room for a twin that fails on demand.
 *
 * Model      A bpf_sys is a function that makes the call and a count. Everything that touches a
 *            map's contents goes through it; loading and attaching programs is libbpf's.
 * Ownership  the caller's; bpf_sys_linux returns one without state.
 * Threads    any, as the call itself.
 * Errors     -errno, ENOTSUPP (524) turned into -EOPNOTSUPP. */
#pragma once

#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <stdint.h>

struct bpf_sys {
	/* attr is in and out, all of it zeroed by the caller first. */
	int (*call)(struct bpf_sys *sys, int cmd, union bpf_attr *attr);
};

struct bpf_sys *bpf_sys_linux(void);

/* libbpf prints to stderr of its own accord; between these two it does not. end takes what begin
 * returned. (One printer a process: two threads that load at once may leave it silent.) */
libbpf_print_fn_t bpf_quiet_begin(void);
void bpf_quiet_end(libbpf_print_fn_t printer);
