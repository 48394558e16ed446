/* bpf/packet.h — frames for tests, built from a description of what is in them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	PACKET_TAGS = 4,
	PACKET_EXTENSIONS = 12,
	PACKET_BYTES = 6400,
	PACKET_ETHERNET = 14,
	PACKET_FIN = 1,
	PACKET_SYN = 2,
	PACKET_RST = 4,
	PACKET_PSH = 8,
	PACKET_ACK = 16
};

struct packet {
	bool bare;     /* without Ethernet header */
	uint32_t tags; /* outermost first; type 0 = 0x8100 */
	uint16_t tag[PACKET_TAGS];
	uint16_t tag_type[PACKET_TAGS];
	uint16_t ethertype; /* 0 = by version */
	int version;        /* 4 or 6 */
	uint8_t src[16];    /* IPv4: the first four */
	uint8_t dst[16];
	uint32_t ip_options; /* IPv4: bytes, a multiple of 4 */
	/* IPv6 extension headers in order (44: fragment, as below); IPv4: only 51. */
	uint32_t extensions;
	uint8_t extension[PACKET_EXTENSIONS];
	bool more;         /* fragments follow */
	uint16_t fragment; /* offset in 8 bytes; > 0: the payload follows at once */
	uint8_t proto;
	uint16_t sport;
	uint16_t dport;
	uint8_t tcp_flags;
	uint32_t tcp_options; /* bytes, a multiple of 4 */
	uint32_t seq;
	uint8_t icmp_type; /* sport is the identifier */
	uint32_t payload;
	uint32_t padding; /* behind the IP packet */
	bool no_length;   /* the IP header says 0, as for superframes beyond 64 KiB */
};

/* Where it lies in the frame. */
struct packet_frame {
	uint32_t ip;
	uint32_t l4;      /* behind IP options and extension headers */
	uint32_t payload; /* behind the L4 header */
	uint32_t end;     /* of the IP packet */
	uint32_t bytes;   /* with padding */
	uint8_t data[PACKET_BYTES];
};

void packet_build(const struct packet *packet, struct packet_frame *ret_frame);
/* Addresses as haul_flow_key has them. */
void packet_address(const struct packet *packet, bool dst, uint8_t ret_address[16]);
/* The same with both ends exchanged. */
struct packet packet_reply(const struct packet *packet);

/* TCP 192.0.2.1:1000 -> 198.51.100.2:80, or the same in IPv6. */
struct packet packet_tcp(int version, uint8_t flags, uint32_t seq, uint32_t payload);
struct packet packet_udp(int version, uint32_t payload);
