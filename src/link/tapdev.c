/* link/tapdev.c — see tapdev.h.
 *
 * Offloads are probed downwards: all that was asked for, then without USO (before Linux 6.2), then
 * checksums alone, then none. USO4 alone is refused by the kernel, so the pair goes together.
 * The interface is told to build superframes of no more segments than one UDP_SEGMENT send can
 * carry (LINK_WIRE_BYTES a segment more than the frame): then a superframe read here leaves on the
 * wire as one kernel packet instead of a full one and a scrap. */
#include "link/tapdev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "link/link.h"
#include "link/vnet.h"

enum { ETHER_BYTES = 14, UDP_PAYLOAD_MAX = 65507 };

static const uint32_t offload_sets[] = {
	HAUL_OFFLOAD_CSUM | HAUL_OFFLOAD_TSO | HAUL_OFFLOAD_USO,
	HAUL_OFFLOAD_CSUM | HAUL_OFFLOAD_TSO,
	HAUL_OFFLOAD_CSUM | HAUL_OFFLOAD_USO,
	HAUL_OFFLOAD_CSUM,
};

static unsigned int tun_flags(uint32_t offloads)
{
	unsigned int flags = 0;
	if ((offloads & HAUL_OFFLOAD_CSUM) != 0)
		flags |= TUN_F_CSUM;
	if ((offloads & HAUL_OFFLOAD_TSO) != 0)
		flags |= TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	if ((offloads & HAUL_OFFLOAD_USO) != 0)
		flags |= TUN_F_USO4 | TUN_F_USO6;
	return flags;
}

/* The largest set within wanted that the kernel takes; always leaves the descriptor in that
 * state. */
static uint32_t agree_offloads(const struct tapdev *dev, uint32_t wanted)
{
	if (dev->vnet && (wanted & HAUL_OFFLOAD_CSUM) != 0) {
		for (size_t i = 0; i < sizeof offload_sets / sizeof offload_sets[0]; i++) {
			uint32_t set = offload_sets[i] & wanted;
			if (ioctl(dev->fd, TUNSETOFFLOAD, tun_flags(set)) == 0)
				return set;
		}
	}
	(void)ioctl(dev->fd, TUNSETOFFLOAD, 0u);
	return 0;
}

static int make(const struct haul_link_options *options, struct tapdev *dev, struct haul_err *err)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	if (dev->vnet)
		request.ifr_flags |= IFF_VNET_HDR;
	memcpy(request.ifr_name, options->ifname, sizeof request.ifr_name);
	dev->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (dev->fd < 0)
		return haul_err_set(err, -errno, "/dev/net/tun: %s", haul_strerror(-errno));
	if (ioctl(dev->fd, TUNSETIFF, &request) < 0)
		return haul_err_set(err, -errno, "TAP interface \"%s\": %s", options->ifname,
				    haul_strerror(-errno));
	memcpy(dev->ifname, request.ifr_name, sizeof dev->ifname);
	return 0;
}

static int take_over(const struct haul_link_options *options, struct tapdev *dev,
		     struct haul_err *err)
{
	struct ifreq request = { 0 };
	dev->fd = options->fd;
	if (ioctl(dev->fd, TUNGETIFF, &request) < 0)
		return haul_err_set(err, -errno, "descriptor %d is no TAP queue: %s", dev->fd,
				    haul_strerror(-errno));
	if ((request.ifr_flags & (IFF_TAP | IFF_NO_PI)) != (IFF_TAP | IFF_NO_PI))
		return haul_err_set(err, -EINVAL, "%s: want IFF_TAP and IFF_NO_PI",
				    request.ifr_name);
	int flags = fcntl(dev->fd, F_GETFL);
	if (flags < 0 || fcntl(dev->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return haul_err_set(err, -errno, "%s: fcntl: %s", request.ifr_name,
				    haul_strerror(-errno));
	dev->vnet = (request.ifr_flags & IFF_VNET_HDR) != 0;
	memcpy(dev->ifname, request.ifr_name, sizeof dev->ifname);
	return 0;
}

static int interface_ioctl(int sock, const struct tapdev *dev, unsigned long what,
			   struct ifreq *request)
{
	memcpy(request->ifr_name, dev->ifname, sizeof request->ifr_name);
	return ioctl(sock, what, request) < 0 ? -errno : 0;
}

/* Size, queue and state of an interface we made. */
static int configure(int sock, const struct haul_link_options *options, const struct tapdev *dev,
		     struct haul_err *err)
{
	struct ifreq request = { .ifr_mtu = (int)options->mtu_bytes - ETHER_BYTES };
	int rc = interface_ioctl(sock, dev, SIOCSIFMTU, &request);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: MTU %u: %s", dev->ifname,
				    options->mtu_bytes - ETHER_BYTES, haul_strerror(rc));
	request = (struct ifreq){ .ifr_qlen = (int)options->txqueuelen };
	rc = interface_ioctl(sock, dev, SIOCSIFTXQLEN, &request);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: txqueuelen %u: %s", dev->ifname,
				    options->txqueuelen, haul_strerror(rc));
	request = (struct ifreq){ 0 };
	rc = interface_ioctl(sock, dev, SIOCGIFFLAGS, &request);
	request.ifr_flags |= IFF_UP;
	if (rc == 0)
		rc = interface_ioctl(sock, dev, SIOCSIFFLAGS, &request);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: bring up: %s", dev->ifname, haul_strerror(rc));
	return 0;
}

struct segs_request {
	struct nlmsghdr header;
	struct ifinfomsg info;
	struct rtattr attr;
	uint32_t segs;
};

/* A wish: without it superframes are only cut less evenly, so a kernel that refuses is ignored. */
static void limit_segments(const struct haul_link_options *options, const struct tapdev *dev)
{
	struct segs_request request = {
		.header = {
			.nlmsg_len = sizeof request,
			.nlmsg_type = RTM_NEWLINK,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.info = {.ifi_index = (int)if_nametoindex(dev->ifname)},
		.attr = {.rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFLA_GSO_MAX_SEGS},
		.segs = UDP_PAYLOAD_MAX / (options->mtu_bytes + LINK_WIRE_BYTES),
	};
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (sock < 0)
		return;
	if (request.segs > 0)
		(void)!send(sock, &request, sizeof request, 0);
	(void)close(sock);
}

static int set_up(const struct haul_link_options *options, struct tapdev *dev, struct haul_err *err)
{
	int bytes = VNET_BYTES;
	if (dev->vnet && ioctl(dev->fd, TUNSETVNETHDRSZ, &bytes) < 0)
		return haul_err_set(err, -errno, "%s: header size: %s", dev->ifname,
				    haul_strerror(-errno));
	dev->offloads = agree_offloads(dev, options->offloads);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return haul_err_set(err, -errno, "socket: %s", haul_strerror(-errno));
	int rc = options->fd < 0 ? configure(sock, options, dev, err) : 0;
	struct ifreq request = { 0 };
	if (rc == 0 && interface_ioctl(sock, dev, SIOCGIFHWADDR, &request) == 0) {
		dev->mac.kind = HAUL_ADDR_MAC;
		memcpy(dev->mac.bytes, request.ifr_hwaddr.sa_data, 6);
	}
	(void)close(sock);
	return rc;
}

int tapdev_open(const struct haul_link_options *options, struct tapdev *ret_dev,
		struct haul_err *err)
{
	struct tapdev dev = { .fd = -1, .vnet = options->burst_max > 1 };
	if (options->mtu_bytes <= ETHER_BYTES)
		return haul_err_set(err, -EINVAL, "mtu_bytes %u: a frame has %d bytes of header",
				    options->mtu_bytes, ETHER_BYTES);
	int rc = options->fd < 0 ? make(options, &dev, err) : take_over(options, &dev, err);
	if (rc == 0)
		rc = set_up(options, &dev, err);
	if (rc < 0) {
		if (options->fd < 0 && dev.fd >= 0)
			(void)close(dev.fd);
		return rc;
	}
	if ((dev.offloads & HAUL_OFFLOAD_TSO) != 0 && options->fd < 0)
		limit_segments(options, &dev);
	HAUL_ASSERT(dev.fd >= 0);
	*ret_dev = dev;
	return 0;
}
