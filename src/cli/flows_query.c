#include "cli/flows_query.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/option.h"
#include "cli/quantity.h"

enum { KEY_PROTO = 512, KEY_PORT, KEY_ADDR, KEY_STATE, KEY_BYTES_MIN, KEY_IDLE, KEY_SINCE };

enum { V4_BITS = 32, V6_BITS = 128, MAPPED_BITS = 96 };

int64_t flows_query_duration(const char *option, const char *arg, struct argp_state *state)
{
	int64_t ns = 0;

	if (quantity_duration(arg, &ns) < 0 || ns <= 0)
		argp_error(state, "--%s '%s': wanted is %s", option, arg, QUANTITY_DURATION);
	return ns;
}

static uint8_t parse_proto(const char *arg, struct argp_state *state)
{
	char name[8], *end;
	unsigned long number = strtoul(arg, &end, 10);

	for (unsigned proto = 1; proto <= UINT8_MAX; proto++)
		if (!strcmp(haul_flow_proto_name((uint8_t)proto, name), arg))
			return (uint8_t)proto;
	if (*arg < '0' || *arg > '9' || *end != '\0' || number < 1 || number > UINT8_MAX)
		argp_error(state,
			   "--proto '%s': wanted is tcp, udp, icmp, icmp6, sctp, or a number from "
			   "1 to 255",
			   arg);
	return (uint8_t)number;
}

/* "10.0.0.0/8", "2001:db8::1"; IPv4 becomes ::ffff:a.b.c.d. */
static bool parse_address(const char *arg, struct haul_flow_query *query)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const char *slash = strchr(arg, '/');
	size_t bytes = slash == NULL ? strlen(arg) : (size_t)(slash - arg);
	char text[INET6_ADDRSTRLEN];
	unsigned long prefix, bits;
	char *end;
	bool v4;

	if (bytes >= sizeof text)
		return false;
	memcpy(text, arg, bytes);
	text[bytes] = '\0';
	v4 = strchr(text, ':') == NULL;
	if (inet_pton(v4 ? AF_INET : AF_INET6, text, query->addr + (v4 ? 12 : 0)) != 1)
		return false;
	if (v4)
		memcpy(query->addr, mapped, sizeof mapped);
	bits = v4 ? V4_BITS : V6_BITS;
	prefix = bits;
	if (slash != NULL) {
		prefix = strtoul(slash + 1, &end, 10);
		if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || prefix > bits)
			return false;
	}
	query->addr_prefix = (uint8_t)(prefix + (v4 ? MAPPED_BITS : 0));
	return true;
}

/* One name of length bytes. */
static bool add_state(const char *name, size_t bytes, uint32_t *states)
{
	for (unsigned i = 0; i < HAUL_FLOW_STATES; i++) {
		const char *known = haul_flow_state_name((uint8_t)i);

		if (strlen(known) != bytes || memcmp(known, name, bytes) != 0)
			continue;
		*states |= UINT32_C(1) << i;
		return true;
	}
	return false;
}

static uint32_t parse_states(const char *arg, struct argp_state *state)
{
	uint32_t states = 0;
	const char *at = arg;

	for (;;) {
		size_t bytes = strcspn(at, ",");

		if (!add_state(at, bytes, &states))
			argp_error(state,
				   "--state '%.*s': wanted are, separated by commas:"
#define X(id, name, timeout) " " name
				   HAUL_FLOW_STATE_LIST(X),
#undef X
				   (int)bytes, at);
		if (at[bytes] == '\0')
			return states;
		at += bytes + 1;
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct flows_query *query = state->input;

	switch (key) {
	case KEY_PROTO:
		query->fixed.proto = parse_proto(arg, state);
		return 0;
	case KEY_PORT:
		query->fixed.port = (uint16_t)option_number("port", arg, 1, UINT16_MAX, state);
		return 0;
	case KEY_ADDR:
		if (!parse_address(arg, &query->fixed))
			argp_error(state,
				   "--addr '%s': wanted is an address or a network, as in "
				   "192.0.2.1, 10.0.0.0/8 or 2001:db8::/32",
				   arg);
		return 0;
	case KEY_STATE:
		query->fixed.states = parse_states(arg, state);
		return 0;
	case KEY_BYTES_MIN:
		if (quantity_size(arg, &query->fixed.bytes_min) < 0)
			argp_error(state, "--bytes-min '%s': wanted is %s", arg, QUANTITY_SIZE);
		return 0;
	case KEY_IDLE:
		query->idle_ns = flows_query_duration("idle", arg, state);
		return 0;
	case KEY_SINCE:
		query->since_ns = flows_query_duration("since", arg, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options[] = {
	{ "idle", KEY_IDLE, "TIME", 0, "no packet for at least so long: 30s, 5m", 1 },
	{ "since", KEY_SINCE, "TIME", 0, "a packet within the last 10s, 5m, ...", 1 },
	{ NULL, 0, NULL, 0, "Which connections (all that is given must hold):", 1 },
	{ "proto", KEY_PROTO, "PROTO", 0, "tcp, udp, icmp, icmp6, sctp or a number", 1 },
	{ "port", KEY_PORT, "PORT", 0, "of either end", 1 },
	{ "addr", KEY_ADDR, "ADDR[/BITS]", 0, "either end is in this network", 1 },
	{ "state", KEY_STATE, "STATE,...", 0, "one of these, as list shows them", 1 },
	{ "bytes-min", KEY_BYTES_MIN, "SIZE", 0, "at least so many, both ways: 900, 1M", 1 },
	{ 0 }
};
enum { OPTIONS_TIME = 2 };

const struct argp flows_query_argp = { .options = options, .parser = parse };
const struct argp flows_query_argp_events = { .options = options + OPTIONS_TIME, .parser = parse };

bool flows_query_empty(const struct flows_query *query)
{
	const struct haul_flow_query *fixed = &query->fixed;

	return fixed->proto == 0 && fixed->port == 0 && fixed->addr_prefix == 0 &&
	       fixed->states == 0 && fixed->bytes_min == 0 && query->idle_ns == 0 &&
	       query->since_ns == 0;
}

struct haul_flow_query flows_query_at(const struct flows_query *query, int64_t now_ns)
{
	struct haul_flow_query absolute = query->fixed;

	HAUL_ASSERT(now_ns > 0);
	/* 0 stands for "any": asked for times before the start of the clock are after 1 ns. */
	if (query->idle_ns > 0)
		absolute.idle_since_ns =
			now_ns > query->idle_ns ? (uint64_t)(now_ns - query->idle_ns) : 1;
	if (query->since_ns > 0)
		absolute.seen_since_ns =
			now_ns > query->since_ns ? (uint64_t)(now_ns - query->since_ns) : 1;
	return absolute;
}

static bool within(const uint8_t address[16], const struct haul_flow_query *query)
{
	unsigned whole = query->addr_prefix / 8, rest = query->addr_prefix % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	if (memcmp(address, query->addr, whole) != 0)
		return false;
	return rest == 0 || ((address[whole] ^ query->addr[whole]) & mask) == 0;
}

bool flows_query_match_ends(const struct flows_query *query, const struct haul_flow_key *key)
{
	const struct haul_flow_query *fixed = &query->fixed;

	if (fixed->proto != 0 && key->proto != fixed->proto)
		return false;
	if (fixed->port != 0 && key->port_lo != fixed->port && key->port_hi != fixed->port)
		return false;
	return fixed->addr_prefix == 0 || within(key->addr_lo, fixed) ||
	       within(key->addr_hi, fixed);
}

bool flows_query_match(const struct flows_query *query, const struct haul_flow_key *key,
		       const struct haul_flow_value *value)
{
	const struct haul_flow_query *fixed = &query->fixed;

	if (!flows_query_match_ends(query, key))
		return false;
	if (fixed->states != 0 && (fixed->states >> value->state & 1) == 0)
		return false;
	return value->bytes[0] + value->bytes[1] >= fixed->bytes_min;
}
