/* link/udp.h — what the parts of the UDP back end share: udp.c opens and closes, udp_bind.c says
 * where it listens, udp_rx.c receives, udp_tx.c sends.
 *
 * Threads    struct udp_rx belongs to the rx thread, struct udp_tx to the tx thread; the rest does
 *            not change after open, but for the peers (peers.h). */
#pragma once

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include "link/link.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { UDP_IOV_COUNT = 1024 };

union sockaddr_any {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};
_Static_assert(sizeof(union sockaddr_any) == PEERS_SOCKADDR_BYTES, "one row of peers->sockaddr");

/* Room for one control message with a number in it. */
union control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

struct udp_rx {
	uint8_t *slab; /* slots of pitch bytes */
	size_t slab_bytes;
	uint32_t pitch;
	uint32_t slot_bytes;   /* room for a datagram */
	uint32_t next, filled; /* slots filled and not yet delivered: next … filled - 1 */
	uint32_t at;           /* bytes of slot next already delivered */
	uint32_t bytes_mean;   /* moving average of bytes a slot */
	struct mmsghdr *msg;   /* one a slot */
	struct iovec *iov;
	union sockaddr_any *name;
	union control *control;
};

struct udp_tx {
	uint32_t segments_max;
	uint32_t payload_max;
	uint32_t entries;   /* of msg[] in use */
	uint32_t iov_count; /* of iov[] in use */
	struct mmsghdr *msg;
	union control *control;
	struct {
		uint32_t rows;
		uint32_t bytes;
	} * run; /* what msg[i] carries */
	struct iovec iov[UDP_IOV_COUNT];
};

struct udp {
	struct haul_link link;
	socklen_t name_bytes; /* of this family's addresses */
	uint32_t scope;       /* interface of link-local IPv6 peers, 0 = none */
	bool hears_itself;    /* what we broadcast comes back: leave out what comes from own */
	union sockaddr_any own;
	struct udp_rx rx;
	struct udp_tx tx;
};

static inline struct udp *udp_of(struct haul_link *link)
{
	return (struct udp *)link;
}

/* The address in a name the kernel filled in, and back. */
struct haul_addr udp_addr_of(const union sockaddr_any *name);
union sockaddr_any udp_name_of(const struct udp *udp, const struct haul_addr *addr);

int udp_peer_set(struct haul_link *link, uint32_t peer, const struct haul_addr *addr);

/* Bind the socket so that it hears its local address and, where one is set, the broadcast one. */
int udp_bind(struct udp *udp, const struct haul_link_options *options, struct haul_err *err);

int udp_rx(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst);
int udp_tx(struct haul_link *link, struct haul_send_batch *batch, struct link_burst *burst);

/* Individual mode: one recvfrom, one frame. */
int udp_rx_one(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst);

/* Set how many rows may make one kernel packet from now on: 1 without UDP_SEGMENT. */
void udp_tx_init(struct udp *udp, bool gso, bool ipv6);
