/* link/udp_tx.c — send datagrams, many a kernel packet and many a call.
 *
 * Promise: a row is a datagram, whole, in order for each peer; it is sent once or has a status.
 *
 * How: rows of equal size to one peer, and one shorter at the end, leave as one UDP_SEGMENT send;
 * all runs go into one sendmmsg. If the kernel refuses a run (no checksum offload on the way out, a
 * tunnel, a segment above the path MTU) its rows are sent at once one by one in its place, and the
 * peer's limit is lowered: at most one refusal a size and peer, no loss, no duplicate, because a
 * refused entry has sent nothing. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "link/send.h"
#include "link/udp.h"

enum {
	SEND_ERRORS_MAX = 2,   /* errors of earlier sends that one send call may meet */
	SEGMENTS_MAX = 128,    /* Linux >= 6.9 */
	SEGMENTS_MAX_OLD = 64, /* before */
	SEGMENTS_MIN = 2,      /* a control message for one segment is refused by some kernels */
	PAYLOAD_MAX_IPV4 = 65507,
	PAYLOAD_MAX_IPV6 = 65487
};

struct udp_send {
	struct udp *udp;
	struct haul_send_batch *batch;
	struct link_burst *burst;
};

/* Put a piece behind iov[*count - 1], or into it where the two meet in memory. */
static void add_piece(struct udp_tx *tx, uint32_t first, uint8_t *base, uint32_t bytes)
{
	if (bytes == 0)
		return;
	if (tx->iov_count > first) {
		struct iovec *last = &tx->iov[tx->iov_count - 1];
		if ((uint8_t *)last->iov_base + last->iov_len == base) {
			last->iov_len += bytes;
			return;
		}
	}
	HAUL_ASSERT(tx->iov_count < UDP_IOV_COUNT);
	tx->iov[tx->iov_count++] = (struct iovec){ .iov_base = base, .iov_len = bytes };
}

/* Make msg[entries] of the longest run at the front of order. The peer exists. Returns its rows. */
static uint32_t add_run(struct udp *udp, const struct haul_frames *frames, const uint32_t *order,
			uint32_t left, uint32_t segments_max)
{
	struct udp_tx *tx = &udp->tx;
	uint32_t entry = tx->entries++;
	uint32_t iov_first = tx->iov_count;
	uint32_t peer = frames->peer[order[0]];
	uint32_t size = haul_frame_bytes(frames, order[0]);
	uint32_t rows = 0, total = 0;
	HAUL_ASSERT(entry < udp->link.burst_max);
	HAUL_ASSERT(left > 0 && segments_max > 0);
	if (size > udp->link.peers->gso_bytes_max[peer])
		segments_max = 1;
	if (left > segments_max)
		left = segments_max;
	for (uint32_t last = size; rows < left && last == size; rows++) {
		uint32_t row = order[rows];
		last = haul_frame_bytes(frames, row);
		if (rows > 0 &&
		    (last > size || frames->peer[row] != peer || total + last > tx->payload_max ||
		     tx->iov_count + 2 > UDP_IOV_COUNT))
			break;
		add_piece(tx, iov_first, frames->data[row], frames->len[row]);
		add_piece(tx, iov_first, frames->tail[row], frames->tail_len[row]);
		total += last;
	}
	HAUL_ASSERT(rows == 1 || total <= tx->payload_max);
	struct msghdr *msg = &tx->msg[entry].msg_hdr;
	msg->msg_name = udp->link.peers->sockaddr[peer];
	msg->msg_namelen = udp->name_bytes;
	msg->msg_iov = tx->iov + iov_first;
	msg->msg_iovlen = tx->iov_count - iov_first;
	msg->msg_control = NULL;
	msg->msg_controllen = 0;
	if (rows >= SEGMENTS_MIN) {
		msg->msg_control = &tx->control[entry];
		msg->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
		uint16_t segment = (uint16_t)size;
		memcpy(CMSG_DATA(&tx->control[entry].align), &segment, sizeof segment);
	}
	tx->run[entry].rows = rows;
	tx->run[entry].bytes = total;
	return rows;
}

/* One system call, the lightest that will do. Returns entries sent, or -1. */
static int send_call(const struct udp *udp)
{
	const struct udp_tx *tx = &udp->tx;
	const struct msghdr *first = &tx->msg[0].msg_hdr;
	ssize_t sent;
	HAUL_ASSERT(tx->entries > 0);
	if (tx->entries > 1)
		return sendmmsg(udp->link.fd, tx->msg, tx->entries, 0);
	if (first->msg_iovlen > 1 || first->msg_controllen > 0)
		sent = sendmsg(udp->link.fd, first, 0);
	else
		sent = sendto(udp->link.fd, first->msg_iov->iov_base, first->msg_iov->iov_len, 0,
			      first->msg_name, first->msg_namelen);
	return sent < 0 ? -1 : 1;
}

/* Send msg[0] … msg[entries - 1]. Returns how many were sent, or -errno for the first. */
static int send_entries(const struct udp *udp, struct link_burst *burst)
{
	for (uint32_t errors = 0;;) {
		burst->syscalls++;
		int sent = send_call(udp);
		if (sent >= 0)
			return sent;
		/* These may be about an earlier datagram, and then are told only once. */
		bool earlier = errno == ECONNREFUSED || errno == EHOSTUNREACH ||
			       errno == ENETUNREACH || errno == EHOSTDOWN || errno == EPROTO;
		if (errno != EINTR && (!earlier || errors++ == SEND_ERRORS_MAX))
			return -errno;
	}
}

/* Carry the first rows offered in one call, in runs of at most segments_max. Returns how many rows
 * were carried, or a code for the first run, whose rows are then in *ret_refused. */
static int carry(const struct udp_send *send, uint32_t first, uint32_t count, uint32_t segments_max,
		 uint32_t *ret_refused)
{
	struct udp *udp = send->udp;
	struct udp_tx *tx = &udp->tx;
	const uint32_t *order = send->batch->order + first;
	const struct haul_frames *frames = &send->batch->frames;
	uint32_t rows = 0;
	tx->entries = tx->iov_count = 0;
	while (rows < count && tx->entries < udp->link.burst_max &&
	       tx->iov_count + 2 <= UDP_IOV_COUNT &&
	       peers_has(udp->link.peers, frames->peer[order[rows]]))
		rows += add_run(udp, frames, order + rows, count - rows, segments_max);
	if (tx->entries == 0)
		return -EDESTADDRREQ;
	int sent = send_entries(udp, send->burst);
	if (sent < 0) {
		*ret_refused = tx->run[0].rows;
		return sent;
	}
	HAUL_ASSERT((uint32_t)sent <= tx->entries);
	rows = 0;
	for (int i = 0; i < sent; i++) {
		rows += tx->run[i].rows;
		send->burst->bytes += tx->run[i].bytes;
		if (tx->run[i].rows >= SEGMENTS_MIN) {
			haul_stats_count(&udp->link.tx_stats, LINK_TX_GSO_RUNS, 1);
			haul_stats_count(&udp->link.tx_stats, LINK_TX_GSO_FRAMES, tx->run[i].rows);
		}
	}
	return (int)rows;
}

/* Believe a refusal of a run of rows frames of size bytes each. */
static void lower_limit(struct udp *udp, uint32_t peer, uint32_t rows, uint32_t size, int code)
{
	uint16_t *limit = &udp->link.peers->gso_bytes_max[peer];
	HAUL_ASSERT(rows >= SEGMENTS_MIN && code < 0);
	if (code == -EINVAL && rows > SEGMENTS_MAX_OLD)
		udp->tx.segments_max = SEGMENTS_MAX_OLD;
	else if (code == -EMSGSIZE && size > 0)
		*limit = (uint16_t)(size - 1);
	else
		*limit = 0;
}

static int udp_send(void *ctx, uint32_t first, uint32_t count)
{
	const struct udp_send *send = ctx;
	struct udp *udp = send->udp;
	const struct haul_frames *frames = &send->batch->frames;
	uint32_t refused = 0, unused;
	int rc = carry(send, first, count, udp->tx.segments_max, &refused);
	if (rc > 0 || refused < SEGMENTS_MIN ||
	    (rc != -EIO && rc != -EINVAL && rc != -EMSGSIZE && rc != -EOPNOTSUPP))
		return rc;
	haul_stats_count(&udp->link.tx_stats, LINK_TX_GSO_REFUSED, 1);
	int code = rc;
	rc = carry(send, first, refused, 1, &unused);
	if (rc > 0) {
		uint32_t row = send->batch->order[first];
		lower_limit(udp, frames->peer[row], refused, haul_frame_bytes(frames, row), code);
	}
	return rc;
}

int udp_tx(struct haul_link *link, struct haul_send_batch *batch, struct link_burst *burst)
{
	struct udp_send send = { .udp = udp_of(link), .batch = batch, .burst = burst };
	return send_all(link, batch, udp_send, &send);
}

void udp_tx_init(struct udp *udp, bool gso, bool ipv6)
{
	udp->tx.segments_max = gso ? SEGMENTS_MAX : 1;
	udp->tx.payload_max = ipv6 ? PAYLOAD_MAX_IPV6 : PAYLOAD_MAX_IPV4;
}
