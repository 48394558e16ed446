/* link/udp_bind.c — where a UDP link listens.
 *
 * A socket bound to one address of the host gets neither broadcasts nor multicasts. So a link with
 * a broadcast address is bound to all addresses of one interface: the one that was named, or the
 * one that has the local address. What the kernel loops back of our own broadcasts is left out by
 * its source (udp_rx.c); multicasts are told not to come back. */
#include <errno.h>
#include <net/if.h>
#include <string.h>

#include "base/assert.h"
#include "link/udp.h"
#include "os/netif.h"

static bool is_wildcard(const struct haul_addr *addr)
{
	static const uint8_t none[sizeof addr->bytes];
	return memcmp(addr->bytes, none, sizeof none) == 0;
}

static bool is_multicast(const struct haul_addr *addr)
{
	return addr->kind == HAUL_ADDR_IPV6 ? addr->bytes[0] == 0xff : addr->bytes[0] >> 4 == 0xe;
}

static int bind_to_interface(struct udp *udp, const struct haul_link_options *options,
			     struct haul_err *err)
{
	char name[IF_NAMESIZE] = { 0 };
	if (options->ifname[0] != '\0') {
		memcpy(name, options->ifname, strnlen(options->ifname, sizeof name - 1));
	} else if (options->broadcast.kind == HAUL_ADDR_NONE || is_wildcard(&udp->link.local)) {
		return 0;
	} else if (netif_name(&udp->link.local, name) < 0) {
		char text[HAUL_ADDR_TEXT];
		return haul_err_set(err, -EADDRNOTAVAIL, "%s: no interface has the address %s",
				    options->name, haul_addr_format(&udp->link.local, text));
	}
	udp->scope = if_nametoindex(name);
	if (setsockopt(udp->link.fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name)) <
	    0)
		return haul_err_set(err, -errno, "%s: bind to interface %s: %s", options->name,
				    name, haul_strerror(-errno));
	return 0;
}

static int join(const struct udp *udp, const struct haul_addr *group)
{
	int fd = udp->link.fd;
	int off = 0;
	if (group->kind == HAUL_ADDR_IPV6) {
		struct ipv6_mreq want = { .ipv6mr_interface = udp->scope };
		memcpy(&want.ipv6mr_multiaddr, group->bytes, sizeof want.ipv6mr_multiaddr);
		if (setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &want, sizeof want) < 0 ||
		    setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof off) < 0 ||
		    setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &udp->scope,
			       sizeof udp->scope) < 0)
			return -errno;
		return 0;
	}
	struct ip_mreqn want = { .imr_ifindex = (int)udp->scope };
	memcpy(&want.imr_multiaddr, group->bytes, sizeof want.imr_multiaddr);
	if (setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &want, sizeof want) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof off) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &want, sizeof want) < 0)
		return -errno;
	return 0;
}

static int set_broadcast(struct udp *udp, const struct haul_link_options *options,
			 struct haul_err *err)
{
	char text[HAUL_ADDR_TEXT];
	const struct haul_addr *to = &options->broadcast;
	int one = 1;
	int rc = setsockopt(udp->link.fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one) < 0 ? -errno
											  : 0;
	if (rc == 0 && is_multicast(to))
		rc = join(udp, to);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: broadcast to %s: %s", options->name,
				    haul_addr_format(to, text), haul_strerror(rc));
	peers_set_broadcast(udp->link.peers, to);
	return udp_peer_set(&udp->link, 0, to);
}

int udp_bind(struct udp *udp, const struct haul_link_options *options, struct haul_err *err)
{
	bool broadcast = options->broadcast.kind != HAUL_ADDR_NONE;
	struct haul_addr where = udp->link.local;
	char text[HAUL_ADDR_TEXT];
	int one = 1;
	if (broadcast && options->broadcast.kind != where.kind)
		return haul_err_set(err, -EAFNOSUPPORT,
				    "%s: broadcast and local address differ in kind",
				    options->name);
	if (where.kind == HAUL_ADDR_IPV6)
		(void)setsockopt(udp->link.fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	int rc = bind_to_interface(udp, options, err);
	if (rc < 0)
		return rc;
	if (broadcast)
		memset(where.bytes, 0, sizeof where.bytes);
	union sockaddr_any name = udp_name_of(udp, &where);
	socklen_t name_bytes = udp->name_bytes;
	if (bind(udp->link.fd, &name.any, name_bytes) < 0 ||
	    getsockname(udp->link.fd, &name.any, &name_bytes) < 0)
		return haul_err_set(err, -errno, "%s: bind to %s: %s", options->name,
				    haul_addr_format(&udp->link.local, text),
				    haul_strerror(-errno));
	udp->link.local.port = udp_addr_of(&name).port;
	HAUL_ASSERT(udp->link.local.port != 0);
	udp->own = udp_name_of(udp, &udp->link.local);
	udp->hears_itself = broadcast;
	return broadcast ? set_broadcast(udp, options, err) : 0;
}
