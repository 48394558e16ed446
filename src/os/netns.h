/* os/netns.h — network namespaces that leave nothing behind.
 *
 * Model      A namespace is only a file descriptor: it is never mounted under a name, so it and all
 *            that lives in it vanish with the last process that holds it, also after SIGKILL.
 * Ownership  the caller closes the fd.
 * Threads    netns_enter moves the calling thread only; every other call leaves the caller where
 *            it was, also on failure.
 * Errors     -errno; -EPERM without CAP_NET_ADMIN and CAP_SYS_ADMIN.
 * Blocking   yes: control plane. */
#pragma once

#include <stdint.h>

#include <haul/err.h>

/* A new namespace with lo up; returns its fd (close-on-exec). */
int netns_open(struct haul_err *err);
/* Move the calling thread. */
int netns_enter(int netns_fd);
/* Call inside(arg) on a helper thread that is in there, wait for it, and return what it returned:
 * the way to open a socket or a TAP in a namespace. */
int netns_call(int netns_fd, int (*inside)(void *arg), void *arg);
/* A veth pair, one end in each namespace, both up. mac may be NULL. */
int netns_veth(int a_fd, const char *a_name, int b_fd, const char *b_name, uint32_t mtu_bytes,
	       struct haul_err *err);
/* "10.0.0.1/24" or an IPv6 address with prefix, onto an interface there. */
int netns_address(int netns_fd, const char *ifname, const char *cidr, struct haul_err *err);
int netns_up(int netns_fd, const char *ifname, uint32_t mtu_bytes, struct haul_err *err);
/* Write a value to a file of /proc/sys/net as seen in there: "ipv4/tcp_congestion_control". */
int netns_sysctl(int netns_fd, const char *path, const char *value, struct haul_err *err);
/* Start argv[0] (found in PATH) in there; its stdout and stderr go to out_fd (-1 = ours), its
 * stdin is /dev/null, and it leads a process group of its own, so that Ctrl-C on the terminal is
 * ours alone. It gets SIGKILL when the calling thread ends (PR_SET_PDEATHSIG). Returns its pid; a
 * program that cannot be started is an error here and leaves no child. */
int netns_spawn(int netns_fd, const char *const argv[], int out_fd, struct haul_err *err);
