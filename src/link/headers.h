/* link/headers.h — where the headers of a TCP or UDP frame are.
 *
 * Model      Ethernet with up to two VLAN tags (802.1Q, 802.1ad), IPv4 with options or IPv6 with
 *            extension headers, TCP or UDP. Anything else, fragments included, is -EPROTO: such a
 *            frame is carried as it is, never cut or merged.
 * Units      offsets from the start of the frame, in bytes.
 * Threads    pure. */
#pragma once

#include <stdint.h>

enum {
	HEADERS_BYTES_MAX = 192 /* room kept for one copy of all headers */
};

struct headers {
	uint16_t l3;      /* IPv4 or IPv6 header */
	uint16_t l4;      /* TCP or UDP header */
	uint16_t payload; /* first byte after the L4 header */
	uint8_t version;  /* 4 or 6 */
	uint8_t proto;    /* IPPROTO_TCP or IPPROTO_UDP */
};

/* Look at the first len bytes of a frame. -EPROTO, also when headers are over HEADERS_BYTES_MAX. */
int headers_parse(const uint8_t *frame, uint32_t len, struct headers *ret_headers);

/* Offset of the L4 checksum field. */
static inline uint16_t headers_csum(const struct headers *headers)
{
	return (uint16_t)(headers->l4 + (headers->proto == 6 ? 16 : 6));
}
