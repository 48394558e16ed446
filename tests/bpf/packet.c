/* bpf/packet.c — see packet.h. */
#include "bpf/packet.h"

#include <netinet/in.h>
#include <string.h>

#include "lib/testlib.h"

static void put(struct packet_frame *frame, uint64_t value, uint32_t bytes)
{
	assert_true(frame->bytes + bytes <= PACKET_BYTES);
	for (uint32_t i = 0; i < bytes; i++)
		frame->data[frame->bytes++] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static void put_bytes(struct packet_frame *frame, const void *from, uint32_t bytes)
{
	assert_true(frame->bytes + bytes <= PACKET_BYTES);
	memcpy(frame->data + frame->bytes, from, bytes);
	frame->bytes += bytes;
}

/* Filler that is no valid header of anything. */
static void put_fill(struct packet_frame *frame, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		put(frame, 0xa5, 1);
}

static void build_ethernet(const struct packet *packet, struct packet_frame *frame)
{
	uint16_t type = packet->version == 4 ? 0x0800 : 0x86dd;
	if (packet->bare)
		return;
	put(frame, 0x020000000001, 6);
	put(frame, 0x020000000002, 6);
	for (uint32_t i = 0; i < packet->tags; i++) {
		put(frame, packet->tag_type[i] ? packet->tag_type[i] : 0x8100, 2);
		put(frame, packet->tag[i], 2);
	}
	put(frame, packet->ethertype ? packet->ethertype : type, 2);
}

static void build_v4(const struct packet *packet, struct packet_frame *frame)
{
	put(frame, 0x45 + packet->ip_options / 4, 1);
	put(frame, 0, 1);
	put(frame, 0, 2); /* length: later */
	put(frame, 0x1234, 2);
	put(frame, (packet->more ? 0x2000u : 0) | packet->fragment, 2);
	put(frame, 64, 1);
	put(frame, packet->extensions ? packet->extension[0] : packet->proto, 1);
	put(frame, 0, 2);
	put_bytes(frame, packet->src, 4);
	put_bytes(frame, packet->dst, 4);
	for (uint32_t i = 0; i < packet->ip_options; i++)
		put(frame, 1, 1);
}

static void build_v6(const struct packet *packet, struct packet_frame *frame)
{
	put(frame, 0x60000000, 4);
	put(frame, 0, 2); /* length: later */
	put(frame, packet->extensions ? packet->extension[0] : packet->proto, 1);
	put(frame, 64, 1);
	put_bytes(frame, packet->src, 16);
	put_bytes(frame, packet->dst, 16);
}

/* The i-th of them is i units longer than it must be. */
static void build_extension(const struct packet *packet, uint32_t i, struct packet_frame *frame)
{
	bool last = i + 1 == packet->extensions;
	put(frame, last ? packet->proto : packet->extension[i + 1], 1);
	if (packet->extension[i] == IPPROTO_FRAGMENT) {
		put(frame, 0, 1);
		put(frame, (uint32_t)packet->fragment << 3 | packet->more, 2);
		put(frame, 0xdeadbeef, 4);
	} else if (packet->extension[i] == IPPROTO_AH) {
		put(frame, 4 + i, 1);
		put_fill(frame, (4 + i + 2) * 4 - 2);
	} else {
		put(frame, i, 1);
		put_fill(frame, (i + 1) * 8 - 2);
	}
}

static void build_l4(const struct packet *packet, struct packet_frame *frame)
{
	switch (packet->proto) {
	case IPPROTO_TCP:
		put(frame, packet->sport, 2);
		put(frame, packet->dport, 2);
		put(frame, packet->seq, 4);
		put(frame, 0x01020304, 4);
		put(frame, (5 + packet->tcp_options / 4) << 4, 1);
		put(frame, packet->tcp_flags, 1);
		put_fill(frame, 6 + packet->tcp_options);
		break;
	case IPPROTO_UDP:
		put(frame, packet->sport, 2);
		put(frame, packet->dport, 2);
		put(frame, 8 + packet->payload, 2);
		put(frame, 0, 2);
		break;
	case IPPROTO_SCTP:
		put(frame, packet->sport, 2);
		put(frame, packet->dport, 2);
		put_fill(frame, 8);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		put(frame, packet->icmp_type, 1);
		put(frame, 0, 3);
		put(frame, packet->sport, 2);
		put(frame, 7, 2);
		break;
	default:
		break;
	}
}

void packet_build(const struct packet *packet, struct packet_frame *ret_frame)
{
	struct packet_frame *frame = ret_frame;
	memset(frame, 0, sizeof *frame);
	build_ethernet(packet, frame);
	frame->ip = frame->bytes;
	if (packet->version == 4)
		build_v4(packet, frame);
	else
		build_v6(packet, frame);
	for (uint32_t i = 0; i < packet->extensions; i++)
		build_extension(packet, i, frame);
	frame->l4 = frame->bytes;
	if (packet->fragment == 0)
		build_l4(packet, frame);
	frame->payload = frame->bytes;
	put_fill(frame, packet->payload);
	frame->end = frame->bytes;
	put_fill(frame, packet->padding);
	if (packet->no_length)
		return;
	uint32_t length = frame->end - frame->ip - (packet->version == 4 ? 0 : 40);
	uint8_t *field = frame->data + frame->ip + (packet->version == 4 ? 2 : 4);
	field[0] = (uint8_t)(length >> 8);
	field[1] = (uint8_t)length;
}

void packet_address(const struct packet *packet, bool dst, uint8_t ret_address[16])
{
	const uint8_t *from = dst ? packet->dst : packet->src;
	memset(ret_address, 0, 16);
	if (packet->version == 6) {
		memcpy(ret_address, from, 16);
		return;
	}
	ret_address[10] = 0xff;
	ret_address[11] = 0xff;
	memcpy(ret_address + 12, from, 4);
}

struct packet packet_reply(const struct packet *packet)
{
	struct packet reply = *packet;
	memcpy(reply.src, packet->dst, sizeof reply.src);
	memcpy(reply.dst, packet->src, sizeof reply.dst);
	if (packet->proto == IPPROTO_ICMP || packet->proto == IPPROTO_ICMPV6)
		return reply;
	reply.sport = packet->dport;
	reply.dport = packet->sport;
	return reply;
}

static struct packet between(int version, uint8_t proto)
{
	static const uint8_t v4[2][4] = { { 192, 0, 2, 1 }, { 198, 51, 100, 2 } };
	struct packet packet = { .version = version, .proto = proto, .sport = 1000, .dport = 80 };
	memcpy(packet.src, v4[0], sizeof v4[0]);
	memcpy(packet.dst, v4[1], sizeof v4[1]);
	if (version == 4)
		return packet;
	memcpy(packet.src, (const uint8_t[]){ 0x20, 0x01, 0x0d, 0xb8 }, 4);
	memcpy(packet.dst, packet.src, 16);
	packet.src[15] = 1;
	packet.dst[15] = 2;
	return packet;
}

struct packet packet_tcp(int version, uint8_t flags, uint32_t seq, uint32_t payload)
{
	struct packet packet = between(version, IPPROTO_TCP);
	packet.tcp_flags = flags;
	packet.seq = seq;
	packet.payload = payload;
	return packet;
}

struct packet packet_udp(int version, uint32_t payload)
{
	struct packet packet = between(version, IPPROTO_UDP);
	packet.payload = payload;
	return packet;
}
