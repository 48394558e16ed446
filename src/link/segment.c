/* link/segment.c — see segment.h.
 *
 * Promise: the rows are, byte for byte but for the L4 checksum, the frames a network card with
 * TCP segmentation offload would put on the wire; the checksum field of each is the partial sum
 * that belongs to it.
 * How: one template (the superframe's own headers) and two sums taken once. A segment changes only
 * lengths, the IPv4 id, the TCP sequence number and flags; the IPv4 checksum and the pseudo-header
 * sum follow by adding the changed words to the sums.
 * The superframe's own field gives the pseudo-header sum (less its length): it is right also where
 * an IPv6 routing header makes the final destination another than the one in the IPv6 header. */
#include "link/segment.h"

#include <netinet/in.h>
#include <string.h>

#include <haul/err.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "link/checksum.h"

enum { ARENA_ALIGN = 16, TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };

static bool kind_matches(const struct headers *headers, uint8_t gso_type)
{
	switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return headers->version == 4 && headers->proto == IPPROTO_TCP;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return headers->version == 6 && headers->proto == IPPROTO_TCP;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return headers->proto == IPPROTO_UDP;
	default:
		return false;
	}
}

static uint16_t ip_sum_of(const uint8_t *ip, uint32_t bytes)
{
	uint8_t copy[HEADERS_BYTES_MAX];
	HAUL_ASSERT(bytes >= 20 && bytes <= sizeof copy);
	memcpy(copy, ip, bytes);
	memset(copy + 2, 0, 4);  /* total length, id */
	memset(copy + 10, 0, 2); /* checksum */
	return checksum_fold(checksum_add(copy, bytes, 0));
}

int segment_open(struct segment *segment, uint8_t *frame, uint32_t len,
		 const struct virtio_net_hdr *vnet)
{
	struct headers headers;
	if (headers_parse(frame, len, &headers) < 0)
		return HAUL_ECORRUPT;
	if (!kind_matches(&headers, vnet->gso_type) || vnet->gso_size == 0)
		return HAUL_ECORRUPT;
	if ((vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0 || vnet->csum_start != headers.l4 ||
	    vnet->csum_start + vnet->csum_offset != headers_csum(&headers))
		return HAUL_ECORRUPT;
	if (headers.payload + vnet->gso_size > HAUL_FRAME_BYTES_MAX || headers.payload == len)
		return HAUL_ECORRUPT;
	uint16_t l4_bytes = checksum_word(len - headers.l4);
	HAUL_ASSERT(headers.payload < len);
	*segment = (struct segment){
		.frame = frame,
		.len = len,
		.at = headers.payload,
		.headers = headers,
		.payload_bytes = vnet->gso_size,
		.l4_sum = checksum_fold((uint64_t)checksum_load(frame + headers_csum(&headers)) +
					(uint16_t)~l4_bytes),
		.row_flags = HAUL_FRAME_CSUM_PARTIAL | HAUL_FRAME_HEADROOM,
	};
	if (headers.version == 4)
		segment->ip_sum =
			ip_sum_of(frame + headers.l3, (uint32_t)(headers.l4 - headers.l3));
	if ((frame[0] & 1) != 0)
		segment->row_flags |= HAUL_FRAME_BROADCAST;
	return 0;
}

static void fix_ip(const struct segment *segment, uint8_t *header, uint32_t frame_bytes)
{
	uint8_t *ip = header + segment->headers.l3;
	uint32_t bytes = frame_bytes - segment->headers.l3;
	HAUL_ASSERT(frame_bytes > segment->headers.payload && bytes <= UINT16_MAX);
	if (segment->headers.version == 6) {
		be16_store(ip + 4, (uint16_t)(bytes - 40));
		return;
	}
	uint16_t id = (uint16_t)(be16_load(ip + 4) + segment->index);
	be16_store(ip + 2, (uint16_t)bytes);
	be16_store(ip + 4, id);
	uint64_t sum = (uint64_t)segment->ip_sum + checksum_word(bytes) + checksum_word(id);
	checksum_store(ip + 10, (uint16_t)~checksum_fold(sum));
}

static void fix_l4(const struct segment *segment, uint8_t *header, uint32_t frame_bytes)
{
	uint8_t *l4 = header + segment->headers.l4;
	uint32_t bytes = frame_bytes - segment->headers.l4;
	if (segment->headers.proto == IPPROTO_TCP) {
		uint32_t done = segment->at - segment->headers.payload;
		be32_store(l4 + 4, be32_load(l4 + 4) + done);
		if (segment->index > 0)
			l4[13] &= (uint8_t)~TCP_CWR;
		if (frame_bytes - segment->headers.payload < segment->len - segment->at)
			l4[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	} else {
		be16_store(l4 + 4, (uint16_t)bytes);
	}
	checksum_store(header + headers_csum(&segment->headers),
		       checksum_fold((uint64_t)segment->l4_sum + checksum_word(bytes)));
}

/* One row; returns its bytes. */
static uint32_t cut(struct segment *segment, uint8_t *header, struct haul_frames *frames)
{
	const struct headers *at = &segment->headers;
	uint32_t left = segment->len - segment->at;
	uint32_t payload = left < segment->payload_bytes ? left : segment->payload_bytes;
	uint32_t row = frames->count++;
	HAUL_ASSERT(payload > 0 && row < frames->capacity);
	memcpy(header, segment->frame, at->payload);
	fix_ip(segment, header, at->payload + payload);
	fix_l4(segment, header, at->payload + payload);
	frames->data[row] = header;
	frames->len[row] = at->payload;
	frames->tail[row] = segment->frame + segment->at;
	frames->tail_len[row] = payload;
	frames->peer[row] = HAUL_PEER_NONE;
	frames->from[row] = 0;
	frames->flags[row] = segment->row_flags;
	frames->csum_start[row] = at->l4;
	frames->csum_offset[row] = (uint16_t)(headers_csum(at) - at->l4);
	frames->status[row] = 0;
	segment->at += payload;
	segment->index++;
	return at->payload + payload;
}

uint32_t segment_fill(struct segment *segment, struct segment_arena *arena,
		      struct haul_frames *frames)
{
	uint32_t pitch = HAUL_FRAME_HEADROOM_BYTES + segment->headers.payload;
	uint32_t bytes = 0;
	pitch = (pitch + ARENA_ALIGN - 1) & ~(uint32_t)(ARENA_ALIGN - 1);
	HAUL_ASSERT(segment->at >= segment->headers.payload && segment->at <= segment->len);
	while (!segment_done(segment) && haul_frames_room(frames) > 0 &&
	       arena->bytes - arena->used >= pitch) {
		uint8_t *header = arena->base + arena->used + HAUL_FRAME_HEADROOM_BYTES;
		arena->used += pitch;
		bytes += cut(segment, header, frames);
	}
	return bytes;
}
