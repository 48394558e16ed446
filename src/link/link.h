/* link/link.h — what every back end shares, and how to add one.
 *
 * Model      A back end is one file with a struct that starts with struct haul_link, an open
 *            function listed below and in link.c, and a table of operations. haul_link_rx and
 *            haul_link_tx call one operation a burst and keep the statistics; the back end fills in
 *            what the burst cost.
 * Ownership  open allocates the struct, ops->close frees all of it but the struct's shared part,
 *            which link_done undoes; close is the last call.
 * Memory     all at open.
 * Threads    everything that rx writes is apart from everything that tx writes; peers.h says how
 *            the peer table is shared.
 * Errors     as in haul/link.h. */
#pragma once

#include <haul/link.h>
#include "link/peers.h"

enum {
	LINK_BURST_DEFAULT = 64,
	LINK_BURST_MAX = 1024, /* UIO_MAXIOV: the kernel takes no more in a recvmmsg or sendmmsg */
	LINK_ENOBUFS_RETRIES = 4,
	LINK_WIRE_BYTES = 48 /* room an overlay header and its tag take in a datagram */
};

/* Counters of "<name>.rx". */
#define LINK_RX_COUNTER_LIST(X)                                                                    \
	X(LINK_RX_GRO_SLOTS, "gro_slots", "Kernel packets received that held several frames.")     \
	X(LINK_RX_GRO_FRAMES, "gro_frames", "Frames that came in such packets.")                   \
	X(LINK_RX_TRUNCATED, "truncated", "Received packets dropped because they were cut short.") \
	X(LINK_RX_MALFORMED, "malformed", "Received packets dropped because they made no sense.")  \
	X(LINK_RX_OWN, "own", "Our own broadcasts that the kernel handed back.")                   \
	X(LINK_RX_QUEUE_DROPS, "queue_drops", "Packets the kernel dropped: our queue was full.")   \
	X(LINK_RX_SOCKET_ERRORS, "socket_errors",                                                  \
	  "Errors of earlier sends that a receive reported.")

/* Counters of "<name>.tx". */
#define LINK_TX_COUNTER_LIST(X)                                                                    \
	X(LINK_TX_GSO_RUNS, "gso_runs", "Kernel packets sent that held several frames.")           \
	X(LINK_TX_GSO_FRAMES, "gso_frames", "Frames that left in such packets.")                   \
	X(LINK_TX_GSO_REFUSED, "gso_refused", "Such packets refused and sent again one by one.")   \
	X(LINK_TX_EAGAIN, "eagain", "Frames not sent because the queue was full.")                 \
	X(LINK_TX_ENOBUFS, "enobufs", "Sends tried again because the kernel lacked buffers.")      \
	X(LINK_TX_FAILED, "failed", "Frames the kernel refused for good.")                         \
	X(LINK_TX_CSUM_COMPLETED, "csum_completed", "Frames whose checksum was finished here.")

enum link_rx_counter {
#define X(id, name, help) id,
	LINK_RX_COUNTER_LIST(X)
#undef X
		LINK_RX_COUNTERS
};

enum link_tx_counter {
#define X(id, name, help) id,
	LINK_TX_COUNTER_LIST(X)
#undef X
		LINK_TX_COUNTERS
};

/* What one burst cost; a back end adds to it. ops is filled in by link.c. */
struct link_burst {
	uint64_t bytes;
	uint32_t syscalls;
	enum haul_close reason; /* IDLE unless the back end stopped for another reason */
};

struct link_ops {
	/* frames is empty and has room. Returns frames->count, or a negative code when the link is
	 * broken and nothing was received. */
	int (*rx)(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst);
	/* batch is not empty, and grouped. Sets every status; returns frames sent. */
	int (*tx)(struct haul_link *link, struct haul_send_batch *batch, struct link_burst *burst);
	/* Prepare peers->sockaddr[peer]; NULL where a back end has no peers. */
	int (*peer_set)(struct haul_link *link, uint32_t peer, const struct haul_addr *addr);
	void (*close)(struct haul_link *link);
};

struct haul_link {
	const struct link_ops *ops;
	int fd;                    /* what haul_link_fd returns */
	_Atomic uint32_t offloads; /* on now; the tx thread may clear bits */
	uint32_t mtu_bytes;
	uint32_t burst_max;    /* 1 = individual mode */
	uint32_t tx_offer_max; /* rows send_all may offer at once */
	struct haul_addr local;
	struct peers *peers; /* NULL where there are none */
	struct haul_stats_table *table;
	struct haul_stats rx_stats;
	struct haul_stats tx_stats;
	uint32_t rx_syscalls; /* made by rx calls that brought nothing, not told to stats yet */
	uint32_t tx_syscalls; /* the same for tx */
	char rx_name[HAUL_LINK_NAME_BYTES + 4];
	char tx_name[HAUL_LINK_NAME_BYTES + 4];
};

/* Set up the shared part; the back end then sets fd, local, offloads and peers. options are
 * complete: link.c has put the defaults in. */
int link_init(struct haul_link *link, const struct haul_link_options *options,
	      const struct link_ops *ops, struct haul_err *err);
/* Undo link_init; NULL table and peers are allowed. */
void link_done(struct haul_link *link);

/* Back ends. options are complete. */
int link_tap_open(const struct haul_link_options *options, struct haul_link **ret_link,
		  struct haul_err *err);
int link_udp_open(const struct haul_link_options *options, struct haul_link **ret_link,
		  struct haul_err *err);
int link_raw_open(const struct haul_link_options *options, struct haul_link **ret_link,
		  struct haul_err *err);
