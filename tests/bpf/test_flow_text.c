/* Names of states and protocols, addresses as people write them; needs no privilege. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include <haul/flow.h>
#include "bpf/flow_state.h"
#include "lib/testlib.h"

/* Every state has its name, and what is none says so. */
static void test_state_name__names_all(void **state)
{
	(void)state;
	assert_string_equal(haul_flow_state_name(HAUL_FLOW_NEW), "new");
	assert_string_equal(haul_flow_state_name(HAUL_FLOW_SYN_RECV), "syn-recv");
	assert_string_equal(haul_flow_state_name(HAUL_FLOW_RESET), "reset");
	assert_string_equal(haul_flow_state_name(HAUL_FLOW_STATES), "unknown");
	assert_string_equal(haul_flow_state_name(255), "unknown");
}

/* The protocols people know by name, the others by number. */
static void test_proto_name__names_or_numbers(void **state)
{
	char buffer[8];
	(void)state;
	assert_string_equal(haul_flow_proto_name(IPPROTO_TCP, buffer), "tcp");
	assert_string_equal(haul_flow_proto_name(IPPROTO_ICMPV6, buffer), "icmp6");
	assert_string_equal(haul_flow_proto_name(IPPROTO_SCTP, buffer), "sctp");
	assert_string_equal(haul_flow_proto_name(0, buffer), "0");
	assert_string_equal(haul_flow_proto_name(253, buffer), "253");
	for (int proto = 0; proto < 256; proto++)
		assert_true(strlen(haul_flow_proto_name((uint8_t)proto, buffer)) < 8);
}

/* IPv4 looks like IPv4, IPv6 has brackets when a port follows. */
static void test_end_text__looks_as_usual(void **state)
{
	struct haul_flow_key key = { .port_lo = 443, .port_hi = 65535 };
	char text[HAUL_FLOW_TEXT];
	(void)state;

	key.addr_lo[10] = key.addr_lo[11] = 0xff;
	assert_int_equal(inet_pton(AF_INET, "192.0.2.1", key.addr_lo + 12), 1);
	assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", key.addr_hi), 1);
	haul_flow_end_text(&key, 0, 1, text);
	assert_string_equal(text, "192.0.2.1:443");
	haul_flow_end_text(&key, 0, 0, text);
	assert_string_equal(text, "192.0.2.1");
	haul_flow_end_text(&key, 1, 1, text);
	assert_string_equal(text, "[2001:db8::1]:65535");
	haul_flow_end_text(&key, 1, 0, text);
	assert_string_equal(text, "2001:db8::1");
}

/* Shards have room for all of their part and for how unevenly a hash deals. */
static void test_shard_entries__leaves_room_for_chance(void **state)
{
	(void)state;
	assert_int_equal(flow_shard_entries(100, 1), 100);
	assert_int_equal(flow_shard_entries(65536, 16), 4096 + 6 * 64);
	assert_int_equal(flow_shard_entries(100, 64), 2 + 6 * 2);
	assert_int_equal(flow_shard_entries(HAUL_FLOWS_ENTRIES_MAX, 256), 65536 + 6 * 256);
}

/* The hash deals as evenly as chance would, also when keys differ in one field only, and differs
 * with the salt. */
static void test_shard__deals_evenly(void **state)
{
	enum { KEYS = 65536, SHARDS = 16, MEAN = KEYS / SHARDS };
	struct prng prng;
	uint32_t moved = 0;
	(void)state;

	test_prng(&prng);
	uint64_t salt = prng_next(&prng), other = prng_next(&prng);
	for (int field = 0; field < 4; field++) {
		uint32_t counts[SHARDS] = { 0 };
		for (uint32_t i = 0; i < KEYS; i++) {
			_Alignas(8) struct haul_flow_key key = { .proto = IPPROTO_TCP };
			if (field == 0)
				key.port_lo = (uint16_t)i;
			else if (field == 1)
				key.port_hi = (uint16_t)i;
			else
				memcpy(field == 2 ? key.addr_lo + 12 : key.addr_hi + 12, &i, 4);
			counts[flow_shard(&key, salt, SHARDS - 1)]++;
			moved += flow_shard(&key, salt, SHARDS - 1) !=
				 flow_shard(&key, other, SHARDS - 1);
		}
		for (int shard = 0; shard < SHARDS; shard++)
			assert_in_range(counts[shard], MEAN - 6 * 64, MEAN + 6 * 64);
	}
	assert_true(moved > KEYS * 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state_name__names_all),
		cmocka_unit_test(test_proto_name__names_or_numbers),
		cmocka_unit_test(test_end_text__looks_as_usual),
		cmocka_unit_test(test_shard_entries__leaves_room_for_chance),
		cmocka_unit_test(test_shard__deals_evenly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
