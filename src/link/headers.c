/* link/headers.c — see headers.h. Every load is preceded by a check that it lies within the
 * frame. */
#include "link/headers.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>

#include "base/assert.h"
#include "base/bytes.h"

enum {
	ETHER_BYTES = 14,
	VLAN_BYTES = 4,
	VLAN_TAGS_MAX = 2,
	TYPE_IPV4 = 0x0800,
	TYPE_IPV6 = 0x86dd,
	TYPE_VLAN = 0x8100,
	TYPE_QINQ = 0x88a8,
	IPV4_BYTES = 20,
	IPV6_BYTES = 40,
	IPV4_MF_OFFSET_MASK = 0x3fff, /* more fragments, fragment offset */
	TCP_BYTES = 20,
	UDP_BYTES = 8
};

/* Walk over Ethernet and VLAN headers; returns the EtherType of what follows, or -EPROTO. */
static int parse_l2(const uint8_t *frame, uint32_t len, struct headers *headers)
{
	uint32_t at = ETHER_BYTES;
	if (len < at)
		return -EPROTO;
	int type = be16_load(frame + at - 2);
	for (uint32_t tags = 0; type == TYPE_VLAN || type == TYPE_QINQ; tags++) {
		at += VLAN_BYTES;
		if (tags == VLAN_TAGS_MAX || len < at)
			return -EPROTO;
		type = be16_load(frame + at - 2);
	}
	headers->l3 = (uint16_t)at;
	return type;
}

static int parse_ipv4(const uint8_t *frame, uint32_t len, struct headers *headers)
{
	const uint8_t *ip = frame + headers->l3;
	if (len < headers->l3 + (uint32_t)IPV4_BYTES || ip[0] >> 4 != 4)
		return -EPROTO;
	uint32_t bytes = (ip[0] & 15u) * 4u;
	if (bytes < IPV4_BYTES || (be16_load(ip + 6) & IPV4_MF_OFFSET_MASK) != 0)
		return -EPROTO;
	headers->version = 4;
	headers->proto = ip[9];
	headers->l4 = (uint16_t)(headers->l3 + bytes);
	return 0;
}

/* Extension headers a whole packet may have; a fragment header is not among them. */
static bool is_extension(uint8_t next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS;
}

static int parse_ipv6(const uint8_t *frame, uint32_t len, struct headers *headers)
{
	const uint8_t *ip = frame + headers->l3;
	uint32_t at = headers->l3 + (uint32_t)IPV6_BYTES;
	if (len < at || ip[0] >> 4 != 6)
		return -EPROTO;
	uint8_t next = ip[6];
	while (is_extension(next)) {
		if (len < at + 8 || at > HEADERS_BYTES_MAX)
			return -EPROTO;
		next = frame[at];
		at += (frame[at + 1] + 1u) * 8u;
	}
	if (at > HEADERS_BYTES_MAX)
		return -EPROTO;
	headers->version = 6;
	headers->proto = next;
	headers->l4 = (uint16_t)at;
	return 0;
}

static int parse_l4(const uint8_t *frame, uint32_t len, struct headers *headers)
{
	uint32_t at = headers->l4;
	uint32_t bytes = UDP_BYTES;
	if (headers->proto == IPPROTO_TCP) {
		if (len < at + TCP_BYTES)
			return -EPROTO;
		bytes = (frame[at + 12] >> 4) * 4u;
		if (bytes < TCP_BYTES)
			return -EPROTO;
	} else if (headers->proto != IPPROTO_UDP) {
		return -EPROTO;
	}
	if (len < at + bytes || at + bytes > HEADERS_BYTES_MAX)
		return -EPROTO;
	headers->payload = (uint16_t)(at + bytes);
	return 0;
}

int headers_parse(const uint8_t *frame, uint32_t len, struct headers *ret_headers)
{
	struct headers headers = { 0 };
	int type = parse_l2(frame, len, &headers);
	int rc = -EPROTO;
	if (type == TYPE_IPV4)
		rc = parse_ipv4(frame, len, &headers);
	else if (type == TYPE_IPV6)
		rc = parse_ipv6(frame, len, &headers);
	if (rc == 0)
		rc = parse_l4(frame, len, &headers);
	if (rc < 0)
		return rc;
	HAUL_ASSERT(headers.l3 < headers.l4 && headers.l4 < headers.payload);
	HAUL_ASSERT(headers.payload <= len && headers.payload <= HEADERS_BYTES_MAX);
	*ret_headers = headers;
	return 0;
}
