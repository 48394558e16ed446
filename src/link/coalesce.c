/* link/coalesce.c — see coalesce.h.
 *
 * Promise: a run is merged only if cutting it again gives the very same frames. So a row follows
 * when all its header bytes equal the first row's but those that cutting would set (lengths, IPv4
 * id and checksum, sequence number, PSH and FIN of the last, CWR of the first, the partial sum),
 * and those are just what cutting would set them to. The one freedom: IPv4 ids may stand still
 * where "don't fragment" makes them meaningless (RFC 6864).
 * A frame whose IPv4 checksum or partial sum is wrong never joins: a superframe gets fresh ones,
 * and would hide the damage. */
#include "link/coalesce.h"

#include <netinet/in.h>
#include <string.h>

#include <haul/link.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "link/checksum.h"

enum {
	IP_TOTAL_MAX = 65535,
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20,
	TCP_CWR = 0x80
};

/* What is known of a run while it grows. */
struct grow {
	const uint8_t *first; /* headers of the first row */
	struct headers at;
	uint32_t payload_bytes;
	uint32_t ip_bytes; /* of the superframe so far */
	uint16_t id_step;  /* IPv4: 0 or 1, decided by the second row */
};

/* The rules for one frame by itself: lengths that agree with each other, headers that may be merged
 * and that carry correct sums. */
static bool is_whole(const uint8_t *frame, uint32_t bytes, const struct headers *at)
{
	const uint8_t *ip = frame + at->l3;
	const uint8_t *l4 = frame + at->l4;
	if (at->version == 4) {
		uint64_t sum = checksum_add(ip, (size_t)(at->l4 - at->l3), 0);
		if (be16_load(ip + 2) != bytes - at->l3 || checksum_fold(sum) != UINT16_MAX)
			return false;
	} else if (be16_load(ip + 4) != bytes - at->l3 - 40) {
		return false;
	}
	if (at->proto == IPPROTO_UDP)
		return be16_load(l4 + 4) == bytes - at->l4;
	return (l4[13] & (TCP_SYN | TCP_RST | TCP_URG | TCP_ACK)) == TCP_ACK;
}

static bool may_merge(const struct coalesce *in, uint32_t row)
{
	return (in->frames->flags[row] & HAUL_FRAME_CSUM_PARTIAL) != 0;
}

/* Whether the columns say what the headers say. */
static bool columns_match(const struct coalesce *in, uint32_t row, const struct headers *at)
{
	return in->frames->csum_start[row] == at->l4 &&
	       in->frames->csum_offset[row] == headers_csum(at) - at->l4;
}

static bool start(const struct coalesce *in, uint32_t row, struct grow *grow)
{
	const struct haul_frames *frames = in->frames;
	uint32_t bytes = haul_frame_bytes(frames, row);
	struct headers at;
	if (!may_merge(in, row) || headers_parse(frames->data[row], frames->len[row], &at) < 0)
		return false;
	uint32_t kind = at.proto == IPPROTO_TCP ? HAUL_OFFLOAD_TSO : HAUL_OFFLOAD_USO;
	if ((in->offloads & kind) == 0 || bytes == at.payload || !columns_match(in, row, &at))
		return false;
	if (!is_whole(frames->data[row], bytes, &at))
		return false;
	*grow = (struct grow){
		.first = frames->data[row],
		.at = at,
		.payload_bytes = bytes - at.payload,
		.ip_bytes = bytes - at.l3,
	};
	return true;
}

static bool ipv4_follows(struct grow *grow, const uint8_t *next, uint32_t index, uint32_t bytes)
{
	const uint8_t *a = grow->first + grow->at.l3;
	const uint8_t *b = next + grow->at.l3;
	uint32_t header_bytes = (uint32_t)(grow->at.l4 - grow->at.l3);
	HAUL_ASSERT(index > 0);
	HAUL_ASSERT(header_bytes >= 20 && header_bytes <= 60);
	if (memcmp(a, b, 2) != 0 || memcmp(a + 6, b + 6, 4) != 0 ||
	    memcmp(a + 12, b + 12, header_bytes - 12) != 0)
		return false;
	if (be16_load(b + 2) != bytes - grow->at.l3 ||
	    checksum_fold(checksum_add(b, header_bytes, 0)) != UINT16_MAX)
		return false;
	uint16_t ahead = (uint16_t)(be16_load(b + 4) - be16_load(a + 4));
	bool dont_fragment = (a[6] & 0x40) != 0;
	if (index == 1)
		grow->id_step = ahead == 0 && dont_fragment ? 0 : 1;
	return ahead == (uint16_t)(grow->id_step * index);
}

static bool ipv6_follows(const struct grow *grow, const uint8_t *next, uint32_t bytes)
{
	const uint8_t *a = grow->first + grow->at.l3;
	const uint8_t *b = next + grow->at.l3;
	return memcmp(a, b, 4) == 0 && be16_load(b + 4) == bytes - grow->at.l3 - 40 &&
	       memcmp(a + 6, b + 6, (size_t)(grow->at.l4 - grow->at.l3 - 6)) == 0;
}

static bool tcp_follows(const struct grow *grow, const uint8_t *next, uint32_t index)
{
	const uint8_t *a = grow->first + grow->at.l4;
	const uint8_t *b = next + grow->at.l4;
	uint32_t option_bytes = (uint32_t)(grow->at.payload - grow->at.l4 - 20);
	HAUL_ASSERT(option_bytes <= 40);
	if (memcmp(a, b, 4) != 0 ||
	    be32_load(b + 4) != be32_load(a + 4) + index * grow->payload_bytes)
		return false;
	/* acknowledgement, data offset; window; urgent pointer and options */
	return memcmp(a + 8, b + 8, 5) == 0 && memcmp(a + 14, b + 14, 2) == 0 &&
	       ((a[13] & ~TCP_CWR) | TCP_PSH | TCP_FIN) == (b[13] | TCP_PSH | TCP_FIN) &&
	       memcmp(a + 18, b + 18, option_bytes + 2) == 0;
}

static bool udp_follows(const struct grow *grow, const uint8_t *next, uint32_t bytes)
{
	const uint8_t *b = next + grow->at.l4;
	return memcmp(grow->first + grow->at.l4, b, 4) == 0 &&
	       be16_load(b + 4) == bytes - grow->at.l4;
}

/* The next row's partial sum is the first one's but for the length. */
static bool sum_follows(const struct grow *grow, const uint8_t *next, uint32_t bytes)
{
	uint32_t field = headers_csum(&grow->at);
	uint32_t first_bytes = grow->at.payload + grow->payload_bytes;
	HAUL_ASSERT(bytes <= first_bytes);
	uint64_t sum = (uint64_t)checksum_load(grow->first + field) +
		       (uint16_t)~checksum_word(first_bytes - grow->at.l4) +
		       checksum_word(bytes - grow->at.l4);
	return checksum_equal(checksum_fold(sum), checksum_load(next + field));
}

/* Whether row is the index-th of the run that grow describes. */
static bool follows(const struct coalesce *in, struct grow *grow, uint32_t row, uint32_t index)
{
	const struct haul_frames *frames = in->frames;
	const uint8_t *next = frames->data[row];
	uint32_t bytes = haul_frame_bytes(frames, row);
	if (!may_merge(in, row) || frames->len[row] < grow->at.payload ||
	    bytes <= grow->at.payload || bytes > grow->at.payload + grow->payload_bytes ||
	    grow->ip_bytes + bytes - grow->at.payload > IP_TOTAL_MAX)
		return false;
	if (!columns_match(in, row, &grow->at) || memcmp(grow->first, next, grow->at.l3) != 0)
		return false;
	if (grow->at.version == 4 ? !ipv4_follows(grow, next, index, bytes)
				  : !ipv6_follows(grow, next, bytes))
		return false;
	if (grow->at.proto == IPPROTO_TCP ? !tcp_follows(grow, next, index)
					  : !udp_follows(grow, next, bytes))
		return false;
	return sum_follows(grow, next, bytes);
}

/* A shorter row, or one that pushes or ends the stream, is the last of its run. */
static bool is_last(const struct grow *grow, const uint8_t *frame, uint32_t bytes)
{
	if (bytes < grow->at.payload + grow->payload_bytes)
		return true;
	return grow->at.proto == IPPROTO_TCP &&
	       (frame[grow->at.l4 + 13] & (TCP_FIN | TCP_PSH)) != 0;
}

struct coalesce_run coalesce_find(const struct coalesce *in)
{
	struct coalesce_run run = { .count = 1 };
	struct grow grow;
	uint32_t last = in->order[0];
	HAUL_ASSERT(in->left > 0 && in->rows_max > 0 && in->uso_rows_max > 0);
	if (!start(in, last, &grow))
		return run;
	uint32_t limit = grow.at.proto == IPPROTO_UDP ? in->uso_rows_max : in->rows_max;
	if (limit > in->left)
		limit = in->left;
	while (run.count < limit &&
	       !is_last(&grow, in->frames->data[last], haul_frame_bytes(in->frames, last)) &&
	       follows(in, &grow, in->order[run.count], run.count)) {
		last = in->order[run.count++];
		grow.ip_bytes += haul_frame_bytes(in->frames, last) - grow.at.payload;
	}
	HAUL_ASSERT(run.count <= limit);
	HAUL_ASSERT(grow.ip_bytes <= IP_TOTAL_MAX);
	run.bytes = grow.at.l3 + grow.ip_bytes;
	run.payload_bytes = grow.payload_bytes;
	run.headers = grow.at;
	if (grow.at.proto == IPPROTO_TCP)
		run.tcp_flags =
			grow.first[grow.at.l4 + 13] | in->frames->data[last][grow.at.l4 + 13];
	return run;
}

static uint8_t gso_type_of(const struct coalesce_run *run)
{
	if (run->headers.proto == IPPROTO_UDP)
		return VIRTIO_NET_HDR_GSO_UDP_L4;
	uint8_t type =
		run->headers.version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	return (run->tcp_flags & TCP_CWR) != 0 ? type | VIRTIO_NET_HDR_GSO_ECN : type;
}

static void set_ip_length(const struct coalesce_run *run, uint8_t *ip)
{
	uint32_t bytes = run->bytes - run->headers.l3;
	if (run->headers.version == 6) {
		be16_store(ip + 4, (uint16_t)(bytes - 40));
		return;
	}
	be16_store(ip + 2, (uint16_t)bytes);
	checksum_store(ip + 10, 0);
	uint64_t sum = checksum_add(ip, (size_t)(run->headers.l4 - run->headers.l3), 0);
	checksum_store(ip + 10, (uint16_t)~checksum_fold(sum));
}

void coalesce_header(const struct coalesce *in, const struct coalesce_run *run,
		     uint8_t out[HEADERS_BYTES_MAX], struct virtio_net_hdr *ret_vnet)
{
	const struct headers *at = &run->headers;
	uint32_t first = in->order[0];
	uint32_t l4_bytes = run->bytes - at->l4;
	HAUL_ASSERT(run->count > 1 && run->bytes - at->l3 <= IP_TOTAL_MAX);
	memcpy(out, in->frames->data[first], at->payload);
	uint32_t first_l4_bytes = haul_frame_bytes(in->frames, first) - at->l4;
	uint64_t sum = (uint64_t)checksum_load(out + headers_csum(at)) +
		       (uint16_t)~checksum_word(first_l4_bytes) + checksum_word(l4_bytes);
	set_ip_length(run, out + at->l3);
	if (at->proto == IPPROTO_UDP)
		be16_store(out + at->l4 + 4, (uint16_t)l4_bytes);
	else
		out[at->l4 + 13] = run->tcp_flags;
	checksum_store(out + headers_csum(at), checksum_fold(sum));
	*ret_vnet = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = gso_type_of(run),
		.hdr_len = at->payload,
		.gso_size = (uint16_t)run->payload_bytes,
		.csum_start = at->l4,
		.csum_offset = (uint16_t)(headers_csum(at) - at->l4),
	};
}
