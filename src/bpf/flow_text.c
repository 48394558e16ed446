/* Names of states and protocols, and addresses as people write them. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <haul/flow.h>
#include "base/assert.h"

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

const char *haul_flow_state_name(uint8_t state)
{
	static const char *const names[HAUL_FLOW_STATES] = {
#define X(id, name, timeout) [id] = name,
		HAUL_FLOW_STATE_LIST(X)
#undef X
	};
	return state < HAUL_FLOW_STATES ? names[state] : "unknown";
}

const char *haul_flow_proto_name(uint8_t proto, char buffer[8])
{
	static const char *const names[256] = {
		[IPPROTO_ICMP] = "icmp",    [IPPROTO_IGMP] = "igmp", [IPPROTO_IPIP] = "ipip",
		[IPPROTO_TCP] = "tcp",      [IPPROTO_UDP] = "udp",   [IPPROTO_IPV6] = "ipv6",
		[IPPROTO_GRE] = "gre",      [IPPROTO_ESP] = "esp",   [IPPROTO_AH] = "ah",
		[IPPROTO_ICMPV6] = "icmp6", [IPPROTO_SCTP] = "sctp", [IPPROTO_UDPLITE] = "udplite",
	};
	HAUL_ASSERT(buffer != NULL);
	if (names[proto] != NULL)
		return names[proto];
	(void)snprintf(buffer, 8, "%u", proto);
	return buffer;
}

void haul_flow_end_text(const struct haul_flow_key *key, int end, int with_port,
			char ret_text[HAUL_FLOW_TEXT])
{
	const uint8_t *addr = end ? key->addr_hi : key->addr_lo;
	unsigned int port = end ? key->port_hi : key->port_lo;
	char text[INET6_ADDRSTRLEN];
	bool v4 = memcmp(addr, mapped_prefix, sizeof mapped_prefix) == 0;

	HAUL_ASSERT(end == 0 || end == 1);
	if (v4)
		(void)inet_ntop(AF_INET, addr + sizeof mapped_prefix, text, sizeof text);
	else
		(void)inet_ntop(AF_INET6, addr, text, sizeof text);
	if (!with_port)
		(void)snprintf(ret_text, HAUL_FLOW_TEXT, "%s", text);
	else
		(void)snprintf(ret_text, HAUL_FLOW_TEXT, v4 ? "%s:%u" : "[%s]:%u", text, port);
}
