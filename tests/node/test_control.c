#include <errno.h>
#include <string.h>

#include <haul/err.h>
#include "lib/testlib.h"
#include "node/bench_control.h"

/* Every value out of range is refused with its name, and nothing is opened. */
static void test_control_open__names_what_is_out_of_range(void **state)
{
	(void)state;
	struct case_row {
		const char *name;
		size_t offset;
		uint32_t bad;
	};
#define ROW(field, value)                                                                          \
	{                                                                                          \
#field, offsetof(struct control_options, field), value                             \
	}
	const struct case_row rows[] = {
		ROW(history, 3),       ROW(history, 33),        ROW(candidates, 0),
		ROW(candidates, 9),    ROW(missed_max, 0),      ROW(missed_max, 17),
		ROW(ttl, 0),           ROW(ttl, 256),           ROW(period_ms, 9),
		ROW(period_ms, 60001), ROW(jitter_percent, 51), ROW(backhaul_peers, 257),
	};
#undef ROW
	for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct control_options options = said_options(NODE_RSU);
		struct control *control = NULL;
		struct haul_err err = { 0 };
		memcpy((char *)&options + rows[i].offset, &rows[i].bad, sizeof rows[i].bad);
		assert_int_equal(control_open(&options, 0, &control, &err), -EINVAL);
		assert_null(control);
		assert_non_null(strstr(err.text, rows[i].name));
	}
	struct control_options options = said_options(NODE_OBU);
	struct control *control = NULL;
	struct haul_err err = { 0 };
	options.self = HAUL_NODE_BROADCAST;
	assert_int_equal(control_open(&options, 0, &control, &err), -EINVAL);
	options = said_options(NODE_OBU);
	options.client = 0;
	assert_int_equal(control_open(&options, 0, &control, &err), -EINVAL);
	assert_int_equal(control_open(&options, 0, &control, NULL), -EINVAL);
	assert_null(control);
}

/* The first snapshot always comes, with our own TAP in it; then none until something changes. */
static void test_control_snapshot__first_always_then_on_change(void **state)
{
	struct bench *bench = *state;
	const struct snapshot *first = bench_routes(bench);
	assert_non_null(first);
	assert_int_equal(first->generation, 1);
	assert_int_equal(snapshot_client(first, UINT64_C(0x0600000000ff))->owner, SAID_SELF);
	struct snapshot *none = bench->snapshot;
	assert_int_equal(control_snapshot(bench->control, bench->now_ns, &none), 0);
	assert_null(none);
	const struct control_event learn = { .kind = CONTROL_LEARN,
					     .now_ns = bench->now_ns,
					     .mac = SAID_CLIENT,
					     .owner = SAID_OBU };
	bench_tell(bench, &learn);
	assert_int_equal(bench_routes(bench)->generation, 2);
	assert_int_equal(snapshot_client(bench->snapshot, SAID_CLIENT)->owner, SAID_OBU);
}

/* A full queue refuses what is more, and counts it; what was queued comes out in order. */
static void test_control_take__full_queue_counts_what_it_loses(void **state)
{
	struct bench *bench = *state;
	for (uint32_t i = 0; i < CONTROL_TX_MAX / 3 + 10; i++) {
		bench->now_ns += SAID_PERIOD_MS * 2 * NS_PER_MS;
		(void)control_tick(bench->control, bench->now_ns);
	}
	assert_int_equal(bench_counter(bench, CONTROL_DROP_FULL),
			 (CONTROL_TX_MAX / 3 + 10) * 3 - CONTROL_TX_MAX);
	uint32_t taken = 0;
	uint32_t last_id = 0;
	for (bench_take(bench); bench->tx_count > 0; bench_take(bench)) {
		for (uint32_t i = 0; i < bench->tx_count; i++) {
			haul_heartbeat_get(bench->tx[i].bytes + HAUL_MESSAGE_HEADER_BYTES,
					   &bench->sent);
			assert_in_range(bench->sent.id, last_id, last_id + 1);
			last_id = bench->sent.id;
		}
		taken += bench->tx_count;
	}
	assert_int_equal(taken, CONTROL_TX_MAX);
}

/* Seen marks of a snapshot keep a client known beyond its age, and are cleared by the look. */
static void test_control_seen__keeps_clients_in_use(void **state)
{
	struct bench *bench = *state;
	struct control_event learn = { .kind = CONTROL_LEARN, .owner = SAID_OBU };
	learn.now_ns = bench->now_ns;
	for (uint64_t mac = 2; mac <= 4; mac += 2) {
		learn.mac = mac;
		bench_tell(bench, &learn);
	}
	(void)bench_routes(bench);
	bench->now_ns += 200 * NS_PER_S;
	atomic_store(&snapshot_client(bench->snapshot, 4)->seen, 1);
	control_seen(bench->control, bench->snapshot, bench->now_ns);
	assert_int_equal(atomic_load(&snapshot_client(bench->snapshot, 4)->seen), 0);
	bench_wait_ms(bench, 101 * 1000);
	assert_null(snapshot_client(bench_routes(bench), 2));
	assert_non_null(snapshot_client(bench->snapshot, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control_open__names_what_is_out_of_range),
		cmocka_unit_test_setup_teardown(test_control_snapshot__first_always_then_on_change,
						bench_open_obu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_take__full_queue_counts_what_it_loses,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_seen__keeps_clients_in_use,
						bench_open_obu, bench_close),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
