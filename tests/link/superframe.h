/* link/superframe.h — random TCP and UDP packets and, independently of src/link, what cutting them
 * into segments must give. Sums are taken byte by byte, the slow and obvious way. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/prng.h"
#include "link/vnet.h"

enum { SUPERFRAME_BYTES_MAX = 65535 + 22, SUPERFRAME_OPTIONS_MAX = 40 };

struct superframe {
	uint8_t mac[12];
	uint32_t tags; /* 0 … 2 */
	bool ipv6;
	bool tcp;
	bool dont_fragment;
	uint32_t ip_option_bytes; /* IPv4 options, or IPv6 extension headers */
	uint32_t l4_option_bytes; /* TCP only */
	uint8_t tcp_flags;
	uint16_t ip_id;
	uint32_t tcp_seq;
	uint8_t filler[256]; /* what every field of no further meaning is made of */
	uint32_t payload_bytes;
	uint32_t segment_bytes;
	uint8_t payload[65536];
};

void superframe_random(struct superframe *sf, struct prng *prng);

uint32_t superframe_segments(const struct superframe *sf);
uint32_t superframe_l3(const struct superframe *sf);
uint32_t superframe_l4(const struct superframe *sf);
uint32_t superframe_header_bytes(const struct superframe *sf);

/* The whole packet as the kernel would hand it over: partial sum in the checksum field. Returns its
 * bytes. */
uint32_t superframe_whole(const struct superframe *sf, uint8_t *out);
struct virtio_net_hdr superframe_vnet(const struct superframe *sf);

/* Segment number index as it belongs on a wire, checksum complete. Returns its bytes. */
uint32_t superframe_segment(const struct superframe *sf, uint32_t index, uint8_t *out);

/* The Internet checksum over the TCP or UDP part of a frame, as it should stand in the field; the
 * field itself counts as zero. */
uint16_t superframe_checksum(const struct superframe *sf, const uint8_t *frame, uint32_t bytes);
