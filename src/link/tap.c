/* link/tap.c — a TAP interface.
 *
 * Promise: one frame of the interface is one row, and one row is one frame, in order; a read or a
 * write of the descriptor carries one kernel packet, which is one frame or one superframe.
 *
 * rx: frames are read one behind the other into a slab, each after HAUL_FRAME_HEADROOM_BYTES whose
 * last ten bytes the kernel overwrites with its virtio_net_hdr. A superframe is cut in place
 * (segment.h); when the batch is too small for its segments, the rest is the first thing of the
 * next rx. The slab starts anew only when a rx begins with nothing left to cut, so every row lives
 * until the next rx. A read is begun only if the largest frame still fits: nothing is ever
 * truncated.
 *
 * tx: rows that make one superframe (coalesce.h) are one writev. If the kernel refuses it, the rows
 * go out one by one in the same place of the order, and the kind is not merged again. Without
 * checksum offload nothing is merged, and partial checksums are completed on the way: the field is
 * sent from a scratch word, the caller's bytes are not touched. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "link/coalesce.h"
#include "link/link.h"
#include "link/segment.h"
#include "link/send.h"
#include "link/tapdev.h"

enum {
	SLAB_BYTES = 512 * 1024,
	/* the largest IP packet, Ethernet, two VLAN tags */
	READ_BYTES_MAX = HAUL_FRAME_BYTES_MAX + 22,
	/* headers of as many rows as a batch can have: cutting never stops for want of it */
	ARENA_BYTES = HAUL_FRAMES_MAX * (HAUL_FRAME_HEADROOM_BYTES + HEADERS_BYTES_MAX),
	IOV_COUNT = 1024,      /* IOV_MAX */
	USO_ROWS_MAX = 128,    /* datagrams the kernel takes in one superframe … */
	USO_ROWS_MAX_OLD = 64, /* … and before Linux 6.9 */
	LONE_MAX = 8,          /* see settle_for_one */
	PIECES_MAX = 2         /* of a row */
};

struct tap_tx {
	uint32_t uso_rows_max;
	uint8_t header[HEADERS_BYTES_MAX];
	uint16_t checksum; /* a completed one, on its way */
	struct virtio_net_hdr vnet;
	struct iovec iov[IOV_COUNT];
};

struct tap {
	struct haul_link link;
	bool vnet;
	uint8_t *slab; /* SLAB_BYTES, then ARENA_BYTES */
	uint32_t slab_used;
	struct segment_arena arena;
	struct segment segment; /* being cut */
	uint32_t lone_left;     /* see settle_for_one */
	struct tap_tx tx;
};

static struct tap *tap_of(struct haul_link *link)
{
	return (struct tap *)link;
}

/* ---- rx ---- */

static void count_rx(struct tap *tap, enum link_rx_counter counter, uint32_t n)
{
	haul_stats_count(&tap->link.rx_stats, counter, n);
}

static void cut_superframe(struct tap *tap, struct haul_frames *frames, struct link_burst *burst)
{
	uint32_t before = frames->count;
	burst->bytes += segment_fill(&tap->segment, &tap->arena, frames);
	count_rx(tap, LINK_RX_GRO_FRAMES, frames->count - before);
}

static void push_frame(struct haul_frames *frames, uint8_t *frame, uint32_t bytes,
		       const struct virtio_net_hdr *vnet)
{
	uint32_t row = frames->count++;
	HAUL_ASSERT(row < frames->capacity);
	uint16_t flags = HAUL_FRAME_HEADROOM;
	if ((frame[0] & 1) != 0)
		flags |= HAUL_FRAME_BROADCAST;
	if ((vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0)
		flags |= HAUL_FRAME_CSUM_PARTIAL;
	frames->data[row] = frame;
	frames->len[row] = bytes;
	frames->tail[row] = NULL;
	frames->tail_len[row] = 0;
	frames->peer[row] = HAUL_PEER_NONE;
	frames->from[row] = 0;
	frames->flags[row] = flags;
	frames->csum_start[row] = vnet->csum_start;
	frames->csum_offset[row] = vnet->csum_offset;
	frames->status[row] = 0;
}

/* A kernel packet of bytes at frame, its vnet header before it if there is one. */
static void take_packet(struct tap *tap, uint8_t *frame, uint32_t bytes, struct haul_frames *frames,
			struct link_burst *burst)
{
	struct virtio_net_hdr vnet = { 0 };
	if (tap->vnet)
		memcpy(&vnet, frame - VNET_BYTES, VNET_BYTES);
	if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		if (segment_open(&tap->segment, frame, bytes, &vnet) < 0) {
			count_rx(tap, LINK_RX_MALFORMED, 1);
			return;
		}
		count_rx(tap, LINK_RX_GRO_SLOTS, 1);
		cut_superframe(tap, frames, burst);
		return;
	}
	if ((vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0 &&
	    (uint32_t)vnet.csum_start + vnet.csum_offset + 2 > bytes) {
		count_rx(tap, LINK_RX_MALFORMED, 1);
		return;
	}
	push_frame(frames, frame, bytes, &vnet);
	burst->bytes += bytes;
}

/* Read one packet to frame, behind what the slab holds. Returns its bytes, 0 when the queue is
 * empty. */
static int read_packet(struct tap *tap, uint8_t *frame, struct link_burst *burst)
{
	uint32_t before = tap->vnet ? VNET_BYTES : 0;
	HAUL_ASSERT(tap->slab_used + HAUL_FRAME_HEADROOM_BYTES + READ_BYTES_MAX <= SLAB_BYTES);
	burst->syscalls++;
	ssize_t got = read(tap->link.fd, frame - before, before + READ_BYTES_MAX);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	HAUL_ASSERT(got > (ssize_t)before && got <= (ssize_t)(before + READ_BYTES_MAX));
	uint32_t bytes = (uint32_t)got - before;
	tap->slab_used += HAUL_FRAME_HEADROOM_BYTES + bytes;
	return (int)bytes;
}

static bool slab_has_room(const struct tap *tap)
{
	return SLAB_BYTES - tap->slab_used >= HAUL_FRAME_HEADROOM_BYTES + READ_BYTES_MAX;
}

/* A lone frame should not wait for the read that finds nothing behind it. After a rx that found one
 * frame alone the next few settle for the first they get; what may lie behind it keeps the
 * descriptor readable. So at the start of a load at most LONE_MAX frames travel alone. */
static bool settle_for_one(struct tap *tap, const struct haul_frames *frames)
{
	if (tap->lone_left == 0 || frames->count != 1 || !segment_done(&tap->segment))
		return false;
	tap->lone_left--;
	return true;
}

static int tap_rx(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst)
{
	struct tap *tap = tap_of(link);
	uint32_t limit = link->burst_max == 1 ? 1 : frames->capacity;
	tap->arena.used = 0;
	if (segment_done(&tap->segment))
		tap->slab_used = 0;
	else
		cut_superframe(tap, frames, burst);
	while (frames->count < limit && segment_done(&tap->segment) && slab_has_room(tap)) {
		uint8_t *frame = tap->slab + tap->slab_used + HAUL_FRAME_HEADROOM_BYTES;
		int bytes = read_packet(tap, frame, burst);
		if (bytes < 0 && frames->count == 0)
			return bytes;
		if (bytes <= 0) {
			tap->lone_left = frames->count == 1 ? LONE_MAX : 0;
			return (int)frames->count;
		}
		take_packet(tap, frame, (uint32_t)bytes, frames, burst);
		if (settle_for_one(tap, frames))
			return 1;
	}
	HAUL_ASSERT(tap->slab_used <= SLAB_BYTES);
	burst->reason = frames->count >= limit ? HAUL_CLOSE_OPS : HAUL_CLOSE_BYTES;
	return (int)frames->count;
}

/* ---- tx ---- */

/* One writev of tx->iov; 0 or -errno. A short write cannot be: a packet is taken whole. */
static int write_packet(struct tap *tap, uint32_t iov_count, struct link_burst *burst)
{
	const struct iovec *iov = tap->tx.iov;
	ssize_t wrote;
	if (!tap->vnet) {
		iov++;
		iov_count--;
	}
	HAUL_ASSERT(iov_count >= 1 && iov_count <= IOV_COUNT);
	do {
		burst->syscalls++;
		wrote = writev(tap->link.fd, iov, (int)iov_count);
	} while (wrote < 0 && errno == EINTR);
	return wrote < 0 ? -errno : 0;
}

static uint32_t add_iov(struct iovec *iov, uint32_t count, uint8_t *base, uint32_t bytes)
{
	HAUL_ASSERT(count < IOV_COUNT);
	if (bytes == 0)
		return count;
	iov[count] = (struct iovec){ .iov_base = base, .iov_len = bytes };
	return count + 1;
}

static int send_single(struct tap *tap, const struct haul_frames *frames, uint32_t row,
		       struct link_burst *burst)
{
	struct tap_tx *tx = &tap->tx;
	bool partial = (frames->flags[row] & HAUL_FRAME_CSUM_PARTIAL) != 0;
	uint32_t count = 1;
	tx->vnet = (struct virtio_net_hdr){ 0 };
	if (partial && (tap->link.offloads & HAUL_OFFLOAD_CSUM) != 0) {
		tx->vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		tx->vnet.csum_start = frames->csum_start[row];
		tx->vnet.csum_offset = frames->csum_offset[row];
		partial = false;
	}
	if (partial) {
		uint32_t field = (uint32_t)frames->csum_start[row] + frames->csum_offset[row];
		int rc = send_checksum(&tap->link, frames, row, &tx->checksum);
		if (rc < 0)
			return rc;
		count = add_iov(tx->iov, count, frames->data[row], field);
		count = add_iov(tx->iov, count, (uint8_t *)&tx->checksum, sizeof tx->checksum);
		count = add_iov(tx->iov, count, frames->data[row] + field + 2,
				frames->len[row] - field - 2);
	} else {
		count = add_iov(tx->iov, count, frames->data[row], frames->len[row]);
	}
	count = add_iov(tx->iov, count, frames->tail[row], frames->tail_len[row]);
	int rc = write_packet(tap, count, burst);
	if (rc < 0)
		return rc;
	burst->bytes += haul_frame_bytes(frames, row);
	return 1;
}

static int send_merged(struct tap *tap, const struct coalesce *in, const struct coalesce_run *run,
		       struct link_burst *burst)
{
	struct tap_tx *tx = &tap->tx;
	const struct haul_frames *frames = in->frames;
	uint32_t header = run->headers.payload;
	uint32_t count = 1;
	HAUL_ASSERT(tap->vnet && run->count > 1);
	coalesce_header(in, run, tx->header, &tx->vnet);
	count = add_iov(tx->iov, count, tx->header, header);
	for (uint32_t i = 0; i < run->count; i++) {
		uint32_t row = in->order[i];
		count = add_iov(tx->iov, count, frames->data[row] + header,
				frames->len[row] - header);
		count = add_iov(tx->iov, count, frames->tail[row], frames->tail_len[row]);
	}
	int rc = write_packet(tap, count, burst);
	if (rc < 0)
		return rc;
	burst->bytes += run->bytes + (uint64_t)header * (run->count - 1);
	haul_stats_count(&tap->link.tx_stats, LINK_TX_GSO_RUNS, 1);
	haul_stats_count(&tap->link.tx_stats, LINK_TX_GSO_FRAMES, run->count);
	return (int)run->count;
}

/* The queue is full or the device is gone: no verdict on superframes. */
static bool is_refusal(int code)
{
	return code != -EAGAIN && code != -ENOBUFS && code != -ENOMEM && code != -EBADFD;
}

/* Single frames passed where their superframe did not: it was too long, or its kind is refused. */
static void believe_refusal(struct tap *tap, const struct coalesce_run *run)
{
	if (run->headers.proto == IPPROTO_TCP)
		tap->link.offloads &= ~(uint32_t)HAUL_OFFLOAD_TSO;
	else if (run->count > USO_ROWS_MAX_OLD)
		tap->tx.uso_rows_max = USO_ROWS_MAX_OLD;
	else
		tap->link.offloads &= ~(uint32_t)HAUL_OFFLOAD_USO;
}

struct tap_send {
	struct tap *tap;
	struct haul_send_batch *batch;
	struct link_burst *burst;
};

/* Carry the first run of what is offered. */
static int tap_send(void *ctx, uint32_t first, uint32_t count)
{
	const struct tap_send *send = ctx;
	struct tap *tap = send->tap;
	struct coalesce in = {
		.frames = &send->batch->frames,
		.order = send->batch->order + first,
		.left = count,
		.rows_max = (IOV_COUNT - 2) / PIECES_MAX,
		.uso_rows_max = tap->tx.uso_rows_max,
		.offloads = tap->link.offloads,
	};
	struct coalesce_run run = coalesce_find(&in);
	if (run.count == 1)
		return send_single(tap, in.frames, in.order[0], send->burst);
	int rc = send_merged(tap, &in, &run, send->burst);
	if (rc > 0 || !is_refusal(rc))
		return rc;
	haul_stats_count(&tap->link.tx_stats, LINK_TX_GSO_REFUSED, 1);
	int sent = 0;
	for (uint32_t i = 0; i < run.count; i++) {
		rc = send_single(tap, in.frames, in.order[i], send->burst);
		if (rc < 0)
			return sent > 0 ? sent : rc;
		sent++;
	}
	believe_refusal(tap, &run);
	return sent;
}

static int tap_tx(struct haul_link *link, struct haul_send_batch *batch, struct link_burst *burst)
{
	struct tap_send send = { .tap = tap_of(link), .batch = batch, .burst = burst };
	return send_all(link, batch, tap_send, &send);
}

/* ---- open, close ---- */

static void tap_close(struct haul_link *link)
{
	struct tap *tap = tap_of(link);
	link_done(link);
	if (tap->slab != NULL)
		(void)munmap(tap->slab, SLAB_BYTES + ARENA_BYTES);
	if (link->fd >= 0)
		(void)close(link->fd);
	free(tap);
}

static const struct link_ops tap_ops = {
	.rx = tap_rx,
	.tx = tap_tx,
	.close = tap_close,
};

int link_tap_open(const struct haul_link_options *options, struct haul_link **ret_link,
		  struct haul_err *err)
{
	struct tapdev dev;
	struct tap *tap = calloc(1, sizeof *tap);
	if (tap == NULL)
		return haul_err_set(err, -ENOMEM, "%s: out of memory", options->name);
	tap->link.fd = -1;
	int rc = link_init(&tap->link, options, &tap_ops, err);
	if (rc < 0)
		goto fail;
	tap->slab = mmap(NULL, SLAB_BYTES + ARENA_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (tap->slab == MAP_FAILED) {
		tap->slab = NULL;
		rc = haul_err_set(err, -ENOMEM, "%s: out of memory", options->name);
		goto fail;
	}
	rc = tapdev_open(options, &dev, err);
	if (rc < 0) {
		rc = haul_err_wrap(err, rc, "%s", options->name);
		goto fail;
	}
	tap->link.tx_offer_max = HAUL_FRAMES_MAX;
	tap->arena = (struct segment_arena){ .base = tap->slab + SLAB_BYTES, .bytes = ARENA_BYTES };
	tap->vnet = dev.vnet;
	tap->tx.uso_rows_max = USO_ROWS_MAX;
	tap->tx.iov[0] = (struct iovec){ .iov_base = &tap->tx.vnet, .iov_len = VNET_BYTES };
	tap->link.fd = dev.fd;
	tap->link.offloads = dev.offloads;
	tap->link.local = dev.mac;
	*ret_link = &tap->link;
	return 0;
fail:
	tap_close(&tap->link);
	return rc;
}
