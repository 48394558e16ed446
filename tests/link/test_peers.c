/* link/test_peers.c — the peer table against a plain array, and with a reader beside the writer;
 * the addresses that it holds, as text. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/peers.h"

enum { STEPS = 200000, ADDRESSES = 6000, READS = 200000 };

static struct haul_addr numbered(uint32_t number)
{
	struct haul_addr addr = { .kind = HAUL_ADDR_IPV4, .port = (uint16_t)(number % 3) };
	memcpy(addr.bytes, &number, sizeof number);
	return addr;
}

/* Random adds, finds and removals give what a plain array gives; a full table says so. */
static void test_peers__is_a_map(void **state)
{
	static uint32_t model[ADDRESSES]; /* index + 1, 0 = not there */
	struct prng prng;
	struct peers *peers = NULL;
	uint32_t count = 0;
	(void)state;
	test_prng(&prng);
	memset(model, 0, sizeof model);
	assert_int_equal(peers_open(&peers), 0);
	for (uint32_t step = 0; step < STEPS; step++) {
		uint32_t number = prng_below(&prng, ADDRESSES);
		struct haul_addr addr = numbered(number), got;
		/* mostly grow at first, mostly shrink towards the end */
		if (prng_below(&prng, STEPS) > step / 2 + STEPS / 8) {
			int peer = peers_add(peers, &addr);
			if (model[number] == 0 && count == HAUL_LINK_PEERS - 1) {
				assert_int_equal(peer, HAUL_EFULL);
				continue;
			}
			assert_true(peer > 0 && peer < HAUL_LINK_PEERS);
			if (model[number] != 0)
				assert_int_equal(peer, model[number] - 1);
			count += model[number] == 0;
			model[number] = (uint32_t)peer + 1;
			assert_int_equal(peers_addr(peers, (uint32_t)peer, &got), 0);
			assert_memory_equal(&got, &addr, sizeof addr);
		} else if (model[number] != 0) {
			assert_int_equal(peers_remove(peers, model[number] - 1), 0);
			assert_int_equal(peers_remove(peers, model[number] - 1), -ENOENT);
			assert_int_equal(peers_addr(peers, model[number] - 1, &got), -ENOENT);
			model[number] = 0;
			count--;
		}
		number = prng_below(&prng, ADDRESSES);
		addr = numbered(number);
		assert_int_equal(peers_find(peers, &addr),
				 model[number] != 0 ? (int)model[number] - 1 : -ENOENT);
	}
	peers_close(peers);
}

/* Peer 0 is the broadcast address and nobody else ever. */
static void test_peers__keeps_0_for_broadcast(void **state)
{
	struct peers *peers = NULL;
	struct haul_addr all = numbered(7), one = numbered(8);
	(void)state;
	assert_int_equal(peers_open(&peers), 0);
	assert_false(peers_has(peers, 0));
	assert_int_equal(peers_add(peers, &one), 1);
	peers_set_broadcast(peers, &all);
	assert_true(peers_has(peers, 0));
	assert_int_equal(peers_add(peers, &all), 0);
	assert_int_equal(peers_find(peers, &all), 0);
	assert_false(peers_has(peers, HAUL_LINK_PEERS));
	assert_int_equal(peers_remove(peers, HAUL_LINK_PEERS), -ENOENT);
	peers_close(peers);
}

struct reader {
	struct peers *peers;
	atomic_bool stop;
	uint32_t wrong;
};

/* Looks up an address that is always there, at index 1, while others come and go. */
static void *read_peers(void *arg)
{
	struct reader *reader = arg;
	struct haul_addr addr = numbered(0);
	while (!atomic_load(&reader->stop)) {
		if (peers_find(reader->peers, &addr) != 1)
			reader->wrong++;
	}
	return NULL;
}

/* A receiver that looks a sender up while peers are added and removed finds who is there. */
static void test_peers__may_be_read_while_it_changes(void **state)
{
	struct reader reader = { .peers = NULL };
	struct haul_addr addr = numbered(0);
	struct prng prng;
	pthread_t thread;
	(void)state;
	test_prng(&prng);
	assert_int_equal(peers_open(&reader.peers), 0);
	assert_int_equal(peers_add(reader.peers, &addr), 1);
	assert_int_equal(pthread_create(&thread, NULL, read_peers, &reader), 0);
	for (uint32_t step = 0; step < READS; step++) {
		addr = numbered(1 + prng_below(&prng, ADDRESSES));
		int peer = peers_find(reader.peers, &addr);
		if (peer >= 0)
			assert_int_equal(peers_remove(reader.peers, (uint32_t)peer), 0);
		else
			(void)peers_add(reader.peers, &addr);
	}
	atomic_store(&reader.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(reader.wrong, 0);
	peers_close(reader.peers);
}

/* What format writes, parse reads. */
static void test_addr__text_goes_both_ways(void **state)
{
	static const struct {
		const char *text;
		uint8_t kind;
		uint16_t port;
	} rows[] = {
		{ "192.0.2.1:4789", HAUL_ADDR_IPV4, 4789 },
		{ "0.0.0.0:0", HAUL_ADDR_IPV4, 0 },
		{ "[2001:db8::1]:65535", HAUL_ADDR_IPV6, 65535 },
		{ "[::]:1", HAUL_ADDR_IPV6, 1 },
		{ "02:00:00:00:00:fe", HAUL_ADDR_MAC, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct haul_addr addr;
		char text[HAUL_ADDR_TEXT];
		assert_int_equal(haul_addr_parse(rows[i].text, &addr, NULL), 0);
		assert_int_equal(addr.kind, rows[i].kind);
		assert_int_equal(addr.port, rows[i].port);
		assert_int_equal(addr.pad, 0);
		assert_string_equal(haul_addr_format(&addr, text), rows[i].text);
	}
	struct haul_addr none = { 0 };
	char text[HAUL_ADDR_TEXT];
	assert_string_equal(haul_addr_format(&none, text), "none");
}

/* Anything else is refused, with the text and what would be right, and the output untouched. */
static void test_addr__refuses_what_is_no_address(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"192.0.2.1",
		"192.0.2.1:",
		"192.0.2.1:65536",
		"192.0.2.1:-1",
		"192.0.2.1: 1",
		"192.0.2.256:1",
		"2001:db8::1:1",
		"[2001:db8::1]",
		"[2001:db8::1]1",
		"[192.0.2.1]:1",
		"[::1:1",
		"host:1",
		"02:00:00:00:00",
		"02:00:00:00:00:0g",
		"02-00-00-00-00-01",
		"02:00:00:00:00:01:",
		("1111111111111111111111111111111111111111"
		 "1111111111:1"),
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct haul_err err = { 0 };
		struct haul_addr addr = { .port = 77 };
		assert_int_equal(haul_addr_parse(bad[i], &addr, &err), -EINVAL);
		assert_int_equal(addr.port, 77);
		assert_non_null(strstr(err.text, bad[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peers__is_a_map),
		cmocka_unit_test(test_peers__keeps_0_for_broadcast),
		cmocka_unit_test(test_peers__may_be_read_while_it_changes),
		cmocka_unit_test(test_addr__text_goes_both_ways),
		cmocka_unit_test(test_addr__refuses_what_is_no_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
