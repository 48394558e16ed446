/* os/netif.h — a few facts about the network interfaces of the caller's namespace.
 *
 * Errors     -errno, with text where there is a struct haul_err.
 * Threads    any; the namespace is the calling thread's.
 * Blocking   control plane. */
#pragma once

#include <net/if.h>
#include <stdint.h>

#include <haul/err.h>
#include <haul/frames.h>

/* The interface that has this address; -ENOENT when none has (or it is a wildcard). */
int netif_name(const struct haul_addr *addr, char ret_name[IF_NAMESIZE]);
/* The MTU of the interface that has this address; -ENOENT when none has (or it is a wildcard). */
int netif_mtu(const struct haul_addr *addr, uint32_t *ret_mtu_bytes);
/* "10.0.0.1/24" or an IPv6 address with prefix, onto an interface. */
int netif_address(const char *ifname, const char *cidr, struct haul_err *err);
