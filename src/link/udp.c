/* link/udp.c — a UDP socket: open and close. udp_bind.c says where it listens, udp_rx.c and
 * udp_tx.c carry the datagrams. */
#include "link/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"

enum { CACHE_LINE_BYTES = 64 };

struct haul_addr udp_addr_of(const union sockaddr_any *name)
{
	struct haul_addr addr = { 0 };
	if (name->any.sa_family == AF_INET6) {
		addr.kind = HAUL_ADDR_IPV6;
		addr.port = ntohs(name->v6.sin6_port);
		memcpy(addr.bytes, &name->v6.sin6_addr, 16);
	} else {
		HAUL_ASSERT(name->any.sa_family == AF_INET);
		addr.kind = HAUL_ADDR_IPV4;
		addr.port = ntohs(name->v4.sin_port);
		memcpy(addr.bytes, &name->v4.sin_addr, 4);
	}
	return addr;
}

union sockaddr_any udp_name_of(const struct udp *udp, const struct haul_addr *addr)
{
	union sockaddr_any name = { 0 };
	if (addr->kind == HAUL_ADDR_IPV6) {
		name.v6.sin6_family = AF_INET6;
		name.v6.sin6_port = htons(addr->port);
		memcpy(&name.v6.sin6_addr, addr->bytes, 16);
		if (IN6_IS_ADDR_LINKLOCAL(&name.v6.sin6_addr))
			name.v6.sin6_scope_id = udp->scope;
	} else {
		name.v4.sin_family = AF_INET;
		name.v4.sin_port = htons(addr->port);
		memcpy(&name.v4.sin_addr, addr->bytes, 4);
	}
	return name;
}

int udp_peer_set(struct haul_link *link, uint32_t peer, const struct haul_addr *addr)
{
	if (addr->kind != link->local.kind)
		return -EAFNOSUPPORT;
	union sockaddr_any name = udp_name_of(udp_of(link), addr);
	memcpy(link->peers->sockaddr[peer], &name, sizeof name);
	return 0;
}

static void udp_close(struct haul_link *link)
{
	struct udp *udp = udp_of(link);
	link_done(link);
	if (udp->rx.slab != NULL)
		(void)munmap(udp->rx.slab, udp->rx.slab_bytes);
	if (link->fd >= 0)
		(void)close(link->fd);
	free(udp->rx.msg);
	free(udp->rx.iov);
	free(udp->rx.name);
	free(udp->rx.control);
	free(udp->tx.msg);
	free(udp->tx.control);
	free(udp->tx.run);
	free(udp);
}

static const struct link_ops udp_ops = {
	.rx = udp_rx,
	.tx = udp_tx,
	.peer_set = udp_peer_set,
	.close = udp_close,
};

static const struct link_ops udp_ops_one = {
	.rx = udp_rx_one,
	.tx = udp_tx,
	.peer_set = udp_peer_set,
	.close = udp_close,
};

static int alloc_columns(struct udp *udp, uint32_t slots)
{
	struct udp_rx *rx = &udp->rx;
	struct udp_tx *tx = &udp->tx;
	rx->msg = calloc(slots, sizeof *rx->msg);
	rx->iov = calloc(slots, sizeof *rx->iov);
	rx->name = calloc(slots, sizeof *rx->name);
	rx->control = calloc(slots, sizeof *rx->control);
	tx->msg = calloc(slots, sizeof *tx->msg);
	tx->control = calloc(slots, sizeof *tx->control);
	tx->run = calloc(slots, sizeof *tx->run);
	if (rx->msg == NULL || rx->iov == NULL || rx->name == NULL || rx->control == NULL ||
	    tx->msg == NULL || tx->control == NULL || tx->run == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < slots; i++)
		tx->control[i].align = (struct cmsghdr){
			.cmsg_level = SOL_UDP,
			.cmsg_type = UDP_SEGMENT,
			.cmsg_len = CMSG_LEN(sizeof(uint16_t)),
		};
	return peers_open(&udp->link.peers);
}

/* Slots lie an odd number of cache lines apart, or all would compete for a few sets of the cache.
 * They are mapped, not touched: small datagrams never make more than their first page real. */
static int map_slots(struct udp *udp, uint32_t slots)
{
	struct udp_rx *rx = &udp->rx;
	bool gro = (udp->link.offloads & HAUL_OFFLOAD_GRO) != 0;
	rx->slot_bytes = gro ? HAUL_FRAME_BYTES_MAX + 1 : udp->link.mtu_bytes;
	uint32_t lines = (HAUL_FRAME_HEADROOM_BYTES + rx->slot_bytes) / CACHE_LINE_BYTES + 1;
	rx->pitch = (lines | 1) * CACHE_LINE_BYTES;
	rx->slab_bytes = (size_t)slots * rx->pitch;
	rx->slab = mmap(NULL, rx->slab_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (rx->slab == MAP_FAILED) {
		rx->slab = NULL;
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < slots; i++) {
		uint8_t *slot = rx->slab + (size_t)i * rx->pitch + HAUL_FRAME_HEADROOM_BYTES;
		rx->iov[i] = (struct iovec){ .iov_base = slot, .iov_len = rx->slot_bytes };
		rx->msg[i].msg_hdr = (struct msghdr){
			.msg_name = &rx->name[i],
			.msg_iov = &rx->iov[i],
			.msg_iovlen = 1,
			.msg_control = &rx->control[i],
		};
	}
	return 0;
}

/* The buffers asked for, or as much as an unprivileged process may have. */
static void set_buffers(int fd, uint32_t bytes)
{
	int value = (int)bytes;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &value, sizeof value) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &value, sizeof value) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value);
}

/* Which of wanted the kernel knows. */
static uint32_t agree_offloads(int fd, uint32_t wanted)
{
	uint32_t agreed = 0;
	int value = 1, none = 0;
	if ((wanted & HAUL_OFFLOAD_GRO) != 0 &&
	    setsockopt(fd, SOL_UDP, UDP_GRO, &value, sizeof value) == 0)
		agreed |= HAUL_OFFLOAD_GRO;
	if ((wanted & HAUL_OFFLOAD_GSO) != 0 &&
	    setsockopt(fd, SOL_UDP, UDP_SEGMENT, &none, sizeof none) == 0)
		agreed |= HAUL_OFFLOAD_GSO;
	return agreed;
}

static int open_socket(struct udp *udp, const struct haul_link_options *options,
		       struct haul_err *err)
{
	bool v6 = udp->link.local.kind == HAUL_ADDR_IPV6;
	udp->link.fd =
		socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (udp->link.fd < 0)
		return haul_err_set(err, -errno, "%s: socket: %s", options->name,
				    haul_strerror(-errno));
	udp->name_bytes = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	set_buffers(udp->link.fd, options->sockbuf_bytes);
	if (options->burst_max > 1)
		udp->link.offloads = agree_offloads(udp->link.fd, options->offloads);
	udp_tx_init(udp, (udp->link.offloads & HAUL_OFFLOAD_GSO) != 0, v6);
	return udp_bind(udp, options, err);
}

int link_udp_open(const struct haul_link_options *options, struct haul_link **ret_link,
		  struct haul_err *err)
{
	struct udp *udp;
	if (options->local.kind == HAUL_ADDR_MAC)
		return haul_err_set(err, -EAFNOSUPPORT, "%s: a UDP link needs an IP address",
				    options->name);
	udp = calloc(1, sizeof *udp);
	if (udp == NULL)
		return haul_err_set(err, -ENOMEM, "%s: out of memory", options->name);
	int rc = link_init(&udp->link, options, options->burst_max == 1 ? &udp_ops_one : &udp_ops,
			   err);
	if (rc < 0)
		goto fail;
	udp->link.tx_offer_max = options->burst_max == 1 ? 1 : HAUL_FRAMES_MAX;
	udp->link.local = options->local;
	if (options->local.kind == HAUL_ADDR_NONE)
		udp->link.local.kind = HAUL_ADDR_IPV4;
	rc = alloc_columns(udp, options->burst_max);
	if (rc == 0)
		rc = open_socket(udp, options, err);
	if (rc == 0)
		rc = map_slots(udp, options->burst_max);
	if (rc == -ENOMEM)
		(void)haul_err_set(err, rc, "%s: out of memory", options->name);
	if (rc < 0)
		goto fail;
	*ret_link = &udp->link;
	return 0;
fail:
	udp_close(&udp->link);
	return rc;
}
