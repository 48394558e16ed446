/* link/superframe.c — see superframe.h. */
#include "link/superframe.h"

#include <string.h>

#include "base/bytes.h"

enum { FIN = 0x01, PSH = 0x08, ACK = 0x10, ECE = 0x40, CWR = 0x80, PROTO_TCP = 6, PROTO_UDP = 17 };

void superframe_random(struct superframe *sf, struct prng *prng)
{
	static const uint8_t flag_sets[] = { ACK, ACK | PSH, ACK | FIN, ACK | PSH | CWR | ECE };
	for (uint32_t i = 0; i < sizeof sf->filler; i++)
		sf->filler[i] = (uint8_t)prng_next(prng);
	memcpy(sf->mac, sf->filler, sizeof sf->mac);
	sf->tags = prng_below(prng, 3);
	sf->ipv6 = prng_below(prng, 2) == 1;
	sf->tcp = prng_below(prng, 2) == 1;
	sf->dont_fragment = prng_below(prng, 2) == 1;
	sf->ip_option_bytes = sf->ipv6 ? 8 * prng_below(prng, 6) : 4 * prng_below(prng, 11);
	sf->l4_option_bytes = sf->tcp ? 4 * prng_below(prng, 11) : 0;
	sf->tcp_flags = flag_sets[prng_below(prng, sizeof flag_sets)];
	sf->ip_id = (uint16_t)prng_next(prng);
	sf->tcp_seq = (uint32_t)prng_next(prng);
	sf->segment_bytes = 1 + prng_below(prng, prng_below(prng, 2) == 1 ? 1500 : 9000);
	uint32_t room = 65535 - (superframe_header_bytes(sf) - superframe_l3(sf));
	uint32_t most = sf->segment_bytes * (1 + prng_below(prng, 100));
	sf->payload_bytes = 1 + prng_below(prng, most < room ? most : room);
	for (uint32_t i = 0; i < sf->payload_bytes; i++)
		sf->payload[i] = (uint8_t)prng_next(prng);
}

uint32_t superframe_segments(const struct superframe *sf)
{
	return (sf->payload_bytes + sf->segment_bytes - 1) / sf->segment_bytes;
}

uint32_t superframe_l3(const struct superframe *sf)
{
	return 14 + 4 * sf->tags;
}

uint32_t superframe_l4(const struct superframe *sf)
{
	return superframe_l3(sf) + (sf->ipv6 ? 40 : 20) + sf->ip_option_bytes;
}

uint32_t superframe_header_bytes(const struct superframe *sf)
{
	return superframe_l4(sf) + (sf->tcp ? 20 + sf->l4_option_bytes : 8);
}

static uint32_t sum_bytes(const uint8_t *p, uint32_t bytes)
{
	uint32_t sum = 0;
	for (uint32_t i = 0; i < bytes; i++) {
		sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static uint32_t pseudo_sum(const struct superframe *sf, const uint8_t *frame, uint32_t l4_bytes)
{
	const uint8_t *ip = frame + superframe_l3(sf);
	uint32_t sum = sf->ipv6 ? sum_bytes(ip + 8, 32) : sum_bytes(ip + 12, 8);
	sum += l4_bytes + (sf->tcp ? PROTO_TCP : PROTO_UDP);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static uint32_t checksum_field(const struct superframe *sf)
{
	return superframe_l4(sf) + (sf->tcp ? 16 : 6);
}

uint16_t superframe_checksum(const struct superframe *sf, const uint8_t *frame, uint32_t bytes)
{
	uint32_t l4 = superframe_l4(sf);
	uint32_t sum = pseudo_sum(sf, frame, bytes - l4) + sum_bytes(frame + l4, bytes - l4);
	sum += 0xffff - (uint32_t)be16_load(frame + checksum_field(sf));
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = 0xffff - sum;
	return (uint16_t)(sum != 0 ? sum : 0xffff);
}

static void put_l2(const struct superframe *sf, uint8_t *out)
{
	memcpy(out, sf->mac, 12);
	for (uint32_t i = 0; i < sf->tags; i++) {
		be16_store(out + 12 + 4 * i, i + 1 < sf->tags ? 0x88a8 : 0x8100);
		memcpy(out + 14 + 4 * i, sf->filler + 20 + 2 * i, 2);
	}
	be16_store(out + superframe_l3(sf) - 2, sf->ipv6 ? 0x86dd : 0x0800);
}

static void put_ipv4(const struct superframe *sf, uint8_t *ip, uint32_t ip_bytes, uint32_t index)
{
	uint32_t header = 20 + sf->ip_option_bytes;
	memcpy(ip, sf->filler + 30, header);
	ip[0] = (uint8_t)(0x40 | header / 4);
	be16_store(ip + 2, (uint16_t)ip_bytes);
	be16_store(ip + 4, (uint16_t)(sf->ip_id + index));
	be16_store(ip + 6, sf->dont_fragment ? 0x4000 : 0);
	ip[9] = sf->tcp ? PROTO_TCP : PROTO_UDP;
	be16_store(ip + 10, 0);
	be16_store(ip + 10, (uint16_t)(0xffff - sum_bytes(ip, header)));
}

static void put_ipv6(const struct superframe *sf, uint8_t *ip, uint32_t ip_bytes)
{
	uint8_t proto = sf->tcp ? PROTO_TCP : PROTO_UDP;
	memcpy(ip, sf->filler + 30, 40 + sf->ip_option_bytes);
	ip[0] = 0x60 | (ip[0] & 0x0f);
	be16_store(ip + 4, (uint16_t)(ip_bytes - 40));
	ip[6] = sf->ip_option_bytes > 0 ? 60 : proto; /* destination options */
	if (sf->ip_option_bytes > 0) {
		ip[40] = proto;
		ip[41] = (uint8_t)(sf->ip_option_bytes / 8 - 1);
	}
}

/* A frame with payload [from, from + payload) of the whole, checksum field 0. */
static uint32_t build(const struct superframe *sf, uint32_t index, uint32_t from, uint32_t payload,
		      uint8_t *out)
{
	uint32_t l3 = superframe_l3(sf), l4 = superframe_l4(sf);
	uint32_t header = superframe_header_bytes(sf);
	put_l2(sf, out);
	if (sf->ipv6)
		put_ipv6(sf, out + l3, header + payload - l3);
	else
		put_ipv4(sf, out + l3, header + payload - l3, index);
	memcpy(out + l4, sf->filler + 130, header - l4);
	if (sf->tcp) {
		be32_store(out + l4 + 4, sf->tcp_seq + from);
		out[l4 + 12] = (uint8_t)((20 + sf->l4_option_bytes) / 4 << 4);
		out[l4 + 13] = sf->tcp_flags;
	} else {
		be16_store(out + l4 + 4, (uint16_t)(8 + payload));
	}
	be16_store(out + checksum_field(sf), 0);
	memcpy(out + header, sf->payload + from, payload);
	return header + payload;
}

uint32_t superframe_whole(const struct superframe *sf, uint8_t *out)
{
	uint32_t bytes = build(sf, 0, 0, sf->payload_bytes, out);
	uint32_t sum = pseudo_sum(sf, out, bytes - superframe_l4(sf));
	be16_store(out + checksum_field(sf), (uint16_t)sum);
	return bytes;
}

struct virtio_net_hdr superframe_vnet(const struct superframe *sf)
{
	uint8_t type = VIRTIO_NET_HDR_GSO_UDP_L4;
	if (sf->tcp)
		type = sf->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
	if (sf->tcp && (sf->tcp_flags & CWR) != 0)
		type |= VIRTIO_NET_HDR_GSO_ECN;
	return (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = type,
		.hdr_len = (uint16_t)superframe_header_bytes(sf),
		.gso_size = (uint16_t)sf->segment_bytes,
		.csum_start = (uint16_t)superframe_l4(sf),
		.csum_offset = sf->tcp ? 16 : 6,
	};
}

uint32_t superframe_segment(const struct superframe *sf, uint32_t index, uint8_t *out)
{
	uint32_t from = index * sf->segment_bytes;
	uint32_t left = sf->payload_bytes - from;
	uint32_t payload = left < sf->segment_bytes ? left : sf->segment_bytes;
	uint32_t bytes = build(sf, index, from, payload, out);
	uint8_t *flags = out + superframe_l4(sf) + 13;
	if (sf->tcp && index > 0)
		*flags &= (uint8_t)~CWR;
	if (sf->tcp && payload < left)
		*flags &= (uint8_t) ~(PSH | FIN);
	be16_store(out + checksum_field(sf), superframe_checksum(sf, out, bytes));
	return bytes;
}
