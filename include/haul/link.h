/* haul/link.h — packets in and out, a burst a call.
 *
 * Model      A link carries whole frames. What the kernel or a device offers to carry many frames
 *            at once (TSO and USO on a TAP, UDP_SEGMENT and UDP_GRO on a socket, recvmmsg,
 *            sendmmsg) is the link's own business: above it, one frame is one frame. Back ends:
 *              tap  a layer-2 interface of this host; frames are Ethernet frames
 *              udp  datagrams to and from peers; a frame is a datagram's payload
 *              raw  Ethernet frames of one EtherType on an interface; a frame is what follows the
 *                   14-byte Ethernet header, which the link writes and strips, and at least 46
 *                   bytes: shorter ones would arrive padded, so they are refused
 *              mem  a pair of ends in memory with injected faults, for tests
 *            haul_link_rx drains what is queued and never waits; haul_link_tx hands all over in as
 *            few calls as it can. Order within a peer never changes.
 * Units      bytes.
 * Ownership  received bytes are the link's until the next rx on it. Sent bytes are the caller's and
 *            may be reused when tx returns.
 * Memory     all at open.
 * Threads    one thread for rx and one for tx at a time, the two may differ; peers are changed only
 *            by the tx thread.
 * Errors     open: -errno or HAUL_ECONFIG with text. rx: frames received, or a negative code when
 *            the link itself is broken (-ENETDOWN: may come back; -ENODEV and others: gone); a bad
 *            frame is counted and left out. tx: frames sent; status[i] of each tells its own fate:
 *            0; -EAGAIN or -ENOBUFS (the kernel's queue is full: try later, in order, or count a
 *            drop), and then no later frame of that peer in the batch was sent; -EMSGSIZE;
 *            -EDESTADDRREQ (no such peer) …
 * Blocking   open may; nothing else does.
 * Limits     HAUL_LINK_PEERS peers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/api.h>
#include <haul/err.h>
#include <haul/frames.h>
#include <haul/stats.h>

enum { HAUL_LINK_PEERS = 4096, HAUL_LINK_NAME_BYTES = 32 };

enum haul_link_kind { HAUL_LINK_TAP, HAUL_LINK_UDP, HAUL_LINK_RAW, HAUL_LINK_MEM };

/* Off switches, one a feature: some drivers and tunnels corrupt superframes. */
enum {
	HAUL_OFFLOAD_TSO = 1,  /* tap: 64 KiB TCP superframes in both directions */
	HAUL_OFFLOAD_USO = 2,  /* tap: the same for UDP (kernel >= 6.2) */
	HAUL_OFFLOAD_CSUM = 4, /* tap: partial checksums; needed by TSO and USO */
	HAUL_OFFLOAD_GSO = 8,  /* udp: UDP_SEGMENT */
	HAUL_OFFLOAD_GRO = 16, /* udp: UDP_GRO */
	HAUL_OFFLOAD_ALL = 31
};

struct haul_link_options {
	enum haul_link_kind kind;
	char name[HAUL_LINK_NAME_BYTES]; /* of the stats blocks: "<name>.rx", "<name>.tx" */
	char ifname[16];                 /* tap: interface to make or take; raw: to bind; udp: to
	                                    * bind to when not empty */
	int fd;                     /* tap: an open /dev/net/tun queue to take over; -1 = open */
	struct haul_addr local;     /* udp: address and port to bind; port 0 = any */
	struct haul_addr broadcast; /* udp: where HAUL_PEER 0 goes; raw: ff:ff:ff:ff:ff:ff */
	uint32_t mtu_bytes;         /* largest frame it must carry, 0 = 1514 tap, 1472 udp, the
	                                    * interface's own raw */
	uint32_t offloads;          /* HAUL_OFFLOAD_* wanted; what the kernel refuses is left off */
	uint32_t burst_max;         /* frames a kernel call; 1 = one frame a call (read, sendto,
	                                    * …: what haul is measured against); 0 = default 64 */
	uint32_t sockbuf_bytes;     /* udp, raw: SO_RCVBUF and SO_SNDBUF, 0 = 4 MiB */
	uint32_t txqueuelen;        /* tap: 0 = 1000 */
	uint16_t ethertype;         /* raw: 0 = 0x88b5 */
	struct haul_stats_table *stats; /* may be NULL */
};

struct haul_link;

HAUL_API void haul_link_options_init(struct haul_link_options *options, enum haul_link_kind kind);
HAUL_API int haul_link_open(const struct haul_link_options *options, struct haul_link **ret_link,
			    struct haul_err *err);
/* NULL is allowed. */
HAUL_API void haul_link_close(struct haul_link *link);

/* Readable when the kernel has something for rx. A link may hold more than fitted into the batch,
 * so wait for it only after a rx that left room. */
HAUL_API int haul_link_fd(const struct haul_link *link);
/* The offloads that are on now: what was asked for less what the kernel refused. */
HAUL_API uint32_t haul_link_offloads(const struct haul_link *link);
/* The address it is bound to (udp: with the port the kernel chose; raw, tap: the MAC). */
HAUL_API struct haul_addr haul_link_local(const struct haul_link *link);
/* Largest frame it carries. */
HAUL_API uint32_t haul_link_mtu(const struct haul_link *link);

/* Clear the batch and fill it with what is queued, at most its capacity. Returns the count. */
HAUL_API int haul_link_rx(struct haul_link *link, struct haul_frames *frames);
/* Group the batch and send it. Returns how many frames were sent; see status[]. */
HAUL_API int haul_link_tx(struct haul_link *link, struct haul_send_batch *batch);

/* Peers. Peer 0 is the broadcast address where one is set. add of a known address returns its
 * index; HAUL_EFULL when the table is full. */
HAUL_API int haul_link_peer_add(struct haul_link *link, const struct haul_addr *addr);
HAUL_API int haul_link_peer_find(const struct haul_link *link, const struct haul_addr *addr);
HAUL_API int haul_link_peer_remove(struct haul_link *link, uint32_t peer);
HAUL_API int haul_link_peer_addr(const struct haul_link *link, uint32_t peer,
				 struct haul_addr *ret_addr);

HAUL_API const struct haul_stats *haul_link_rx_stats(const struct haul_link *link);
HAUL_API const struct haul_stats *haul_link_tx_stats(const struct haul_link *link);

/* Text form: "192.0.2.1:4789", "[2001:db8::1]:4789", "02:00:00:00:00:01". */
enum { HAUL_ADDR_TEXT = 64 };
HAUL_API int haul_addr_parse(const char *text, struct haul_addr *ret_addr, struct haul_err *err);
HAUL_API const char *haul_addr_format(const struct haul_addr *addr, char text[HAUL_ADDR_TEXT]);

/* ---- mem: two ends in memory ---- */

/* What the "kernel" behind a mem end is to do wrong. Countdowns: the nth call (1 = next) fails with
 * the code given, 0 = never; they are decremented as calls are made. */
struct haul_mem_faults {
	uint32_t eagain_in;      /* tx stops with -EAGAIN */
	uint32_t eio_in;         /* the frame at hand is refused with -EIO */
	uint32_t enobufs_in;     /* -ENOBUFS once; a retry succeeds */
	uint32_t partial_in;     /* the call carries only part of its frames */
	uint32_t partial_frames; /* how many then */
	uint32_t seed;           /* != 0: also fail at random, reproducibly */
	uint32_t percent;        /* with seed: chance of a fault a call */
};

HAUL_API int haul_link_mem_pair(const char *name, uint32_t queue_frames, struct haul_link **ret_a,
				struct haul_link **ret_b);
HAUL_API void haul_link_mem_faults(struct haul_link *link, const struct haul_mem_faults *faults);
