/* cli/test_flows_past.c — what each connection had counted when it was last looked at. */
#include <string.h>

#include "cli/flows_past.h"
#include "lib/testlib.h"

static struct haul_flow_key key_of(uint32_t number)
{
	struct haul_flow_key key = { .proto = 17 };

	memcpy(key.addr_hi, &number, sizeof number);
	return key;
}

static enum flows_past_found note(struct flows_past *past, uint32_t number,
				  const struct haul_flow_value *value, struct flows_delta *delta)
{
	struct haul_flow_key key = key_of(number);

	return flows_past_note(past, 0, &key, value, delta);
}

/* All at first, then what was added since, each direction and figure for itself. */
static void test_flows_past__tells_what_was_added(void **state)
{
	struct haul_flow_value value = {
		.packets = { 1, 2 }, .bytes = { 10, 20 }, .payload = { 5, 6 }, .first_ns = 1
	};
	struct flows_past past;
	struct flows_delta delta;

	(void)state;
	assert_int_equal(flows_past_init(&past), 0);
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_NEW);
	assert_memory_equal(delta.packets, value.packets, sizeof delta.packets);
	assert_memory_equal(delta.bytes, value.bytes, sizeof delta.bytes);
	assert_memory_equal(delta.payload, value.payload, sizeof delta.payload);
	value.bytes[1] += 7;
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_AGAIN);
	assert_int_equal(delta.bytes[0], 0);
	assert_int_equal(delta.bytes[1], 7);
	flows_past_turn(&past);
	value.payload[0] += 3;
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_KNOWN);
	assert_int_equal(delta.payload[0], 3);
	assert_int_equal(delta.bytes[1], 0);
	/* Read before what is known: nothing was added, and nothing is added twice later. */
	value.payload[0] -= 3;
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_AGAIN);
	assert_int_equal(delta.payload[0], 0);
	value.payload[0] += 4;
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_AGAIN);
	assert_int_equal(delta.payload[0], 1);
	flows_past_done(&past);
}

/* The same ends that begin anew, or in another table, are another connection. */
static void test_flows_past__tells_connections_apart(void **state)
{
	struct haul_flow_value value = { .packets = { 1, 0 }, .first_ns = 1 };
	struct haul_flow_key key = key_of(1);
	struct flows_past past;
	struct flows_delta delta;

	(void)state;
	assert_int_equal(flows_past_init(&past), 0);
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_NEW);
	assert_int_equal(flows_past_note(&past, 1, &key, &value, &delta), FLOWS_PAST_NEW);
	value.first_ns = 2;
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_NEW);
	key.vlan_inner = 1;
	assert_int_equal(flows_past_note(&past, 0, &key, &value, &delta), FLOWS_PAST_NEW);
	flows_past_done(&past);
}

/* The end tells the rest, once; whoever looks late learns that it is over. */
static void test_flows_past__end_is_told_once(void **state)
{
	struct haul_flow_value value = { .packets = { 1, 0 }, .first_ns = 1 };
	struct haul_flow_key key = key_of(1), other = key_of(2);
	struct flows_past past;
	struct flows_delta delta;

	(void)state;
	assert_int_equal(flows_past_init(&past), 0);
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_NEW);
	value.packets[0] = 5;
	assert_int_equal(flows_past_end(&past, 0, &key, &value, &delta), FLOWS_PAST_AGAIN);
	assert_int_equal(delta.packets[0], 4);
	assert_int_equal(note(&past, 1, &value, &delta), FLOWS_PAST_ENDED);
	assert_int_equal(flows_past_end(&past, 0, &key, &value, &delta), FLOWS_PAST_ENDED);
	assert_int_equal(delta.packets[0], 0);
	assert_int_equal(flows_past_end(&past, 0, &other, &value, &delta), FLOWS_PAST_NEW);
	assert_int_equal(delta.packets[0], 5);
	flows_past_done(&past);
}

/* Growing loses nobody; those that are there no more make room without growing. */
static void test_flows_past__grows_and_forgets(void **state)
{
	enum { LIVE = 10000, PASSING = 5000, LOOKS = 40 };
	struct haul_flow_value value = { .first_ns = 1 };
	struct flows_past past;
	struct flows_delta delta;
	uint32_t next = LIVE, slots = 0;

	(void)state;
	assert_int_equal(flows_past_init(&past), 0);
	for (uint32_t look = 0; look < LOOKS; look++) {
		flows_past_turn(&past);
		value.packets[0] = look + 1;
		for (uint32_t i = 0; i < LIVE; i++) {
			assert_int_equal(note(&past, i, &value, &delta),
					 look == 0 ? FLOWS_PAST_NEW : FLOWS_PAST_KNOWN);
			assert_int_equal(delta.packets[0], 1);
		}
		for (uint32_t i = 0; i < PASSING; i++)
			assert_int_equal(note(&past, next++, &value, &delta), FLOWS_PAST_NEW);
		if (look == LOOKS / 2)
			slots = past.slot_count;
	}
	assert_int_equal(past.slot_count, slots);
	assert_true(past.slot_count <= 8 * (LIVE + PASSING));
	assert_int_equal(past.refused, 0);
	flows_past_done(&past);
}

/* At its limit it says so, counts them, and goes on for those it knows; room comes back. */
static void test_flows_past__full_is_told(void **state)
{
	enum { MOST = FLOWS_PAST_SLOTS_MAX / 4 * 3, MORE = 1000 };
	struct haul_flow_value value = { .packets = { 1, 1 }, .first_ns = 1 };
	struct flows_past past;
	struct flows_delta delta;

	(void)state;
	assert_int_equal(flows_past_init(&past), 0);
	for (uint32_t i = 0; i < MOST; i++)
		if (note(&past, i, &value, &delta) != FLOWS_PAST_NEW)
			fail_msg("connection %u was not taken", i);
	for (uint32_t i = 0; i < MORE; i++) {
		assert_int_equal(note(&past, MOST + i, &value, &delta), FLOWS_PAST_FULL);
		assert_int_equal(delta.packets[0], 0);
	}
	assert_int_equal(past.refused, MORE);
	value.packets[1] = 3;
	assert_int_equal(note(&past, 7, &value, &delta), FLOWS_PAST_AGAIN);
	assert_int_equal(delta.packets[1], 2);
	for (int i = 0; i < FLOWS_PAST_KEEP; i++)
		flows_past_turn(&past);
	assert_int_equal(note(&past, MOST, &value, &delta), FLOWS_PAST_NEW);
	assert_int_equal(note(&past, 7, &value, &delta), FLOWS_PAST_NEW);
	flows_past_done(&past);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flows_past__tells_what_was_added),
		cmocka_unit_test(test_flows_past__tells_connections_apart),
		cmocka_unit_test(test_flows_past__end_is_told_once),
		cmocka_unit_test(test_flows_past__grows_and_forgets),
		cmocka_unit_test(test_flows_past__full_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
