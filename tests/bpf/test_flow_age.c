/* What is taken out of a table: exactly the idle, also while packets come; whole shards, exactly
 * once, also while another thread sends as fast as it can. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpf/flow_group.h"
#include "lib/testlib.h"

enum { IDLE = 400, BUSY_PORTS = 50, ROUNDS = 12, ENOUGH = 5000 };

/* ---- somebody who sends ---- */

struct sender {
	pthread_t thread;
	int fd;
	atomic_bool stop;
	atomic_uint_fast64_t sent;
};

static void *sender_run(void *arg)
{
	struct sender *sender = arg;

	while (!atomic_load(&sender->stop)) {
		for (uint16_t port = 1; port <= BUSY_PORTS; port++)
			flow_net_udp(sender->fd, 0, port, 1, 32);
		atomic_fetch_add(&sender->sent, BUSY_PORTS);
	}
	return NULL;
}

static void sender_start(struct sender *sender)
{
	memset(sender, 0, sizeof *sender);
	sender->fd = flow_net_socket(&net, 1, SOCK_DGRAM, false, 0);
	assert_int_equal(pthread_create(&sender->thread, NULL, sender_run, sender), 0);
}

struct progress {
	struct sender *sender;
	uint64_t until;
};

static int has_sent(void *arg)
{
	const struct progress *progress = arg;
	return atomic_load(&progress->sender->sent) >= progress->until;
}

/* Let it send a good many more. */
static void sender_wait(struct sender *sender, uint64_t more)
{
	struct progress progress = { .sender = sender, .until = atomic_load(&sender->sent) + more };
	flow_net_wait(has_sent, &progress);
}

static uint64_t sender_stop(struct sender *sender)
{
	atomic_store(&sender->stop, true);
	assert_int_equal(pthread_join(sender->thread, NULL), 0);
	close(sender->fd);
	return atomic_load(&sender->sent);
}

/* ---- clean ---- */

static void idle_put(struct haul_flows *flows, uint64_t last_ns)
{
	static struct haul_flow_key keys[IDLE];
	static struct haul_flow_value values[IDLE];
	struct haul_map_rows rows = { .count = IDLE, .keys = keys, .values = values };
	struct haul_map_result result;

	for (uint32_t i = 0; i < IDLE; i++) {
		keys[i] = flow_net_key(IPPROTO_TCP, (uint16_t)(5000 + i), 80);
		values[i] = (struct haul_flow_value){ .packets = { i, 1 },
						      .bytes = { i * 60ULL, 60 },
						      .first_ns = last_ns,
						      .last_ns = last_ns,
						      .state = HAUL_FLOW_ESTABLISHED };
	}
	assert_int_equal(haul_flows_put(flows, &rows, &result), 0);
	assert_int_equal(result.inserted, IDLE);
}

static uint64_t of_proto(struct haul_flows *flows, uint8_t proto)
{
	static struct haul_flows_summary summary;
	assert_int_equal(haul_flows_summary(flows, NULL, &summary), 0);
	return summary.by_proto[proto].connections;
}

/* While packets come at full speed the idle go, the busy stay, and no packet is lost between. */
static void test_clean__takes_exactly_the_idle(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct haul_map_result result;
	struct sender sender;
	uint64_t began_ns, sent, late;
	(void)state;

	began_ns = (uint64_t)flows->env.os->now_ns(flows->env.os);
	idle_put(flows, began_ns - 1000);
	sender_start(&sender);
	for (int round = 0; round < ROUNDS; round++) {
		sender_wait(&sender, 4 * BUSY_PORTS);
		/* Everything: what is met by a packet between mark and harvest stays. */
		assert_int_equal(
			haul_flows_clean(flows, round == 0 ? began_ns : UINT64_MAX, &result), 0);
		if (round == 0)
			assert_true(result.done >= IDLE);
		assert_int_equal(of_proto(flows, IPPROTO_TCP), 0);
	}
	sent = sender_stop(&sender);
	flow_net_balance(flows);
	late = flow_net_total(flows, HAUL_FLOW_T_LATE);
	/* Every packet is in an entry, in removed or in late. */
	assert_true(flow_net_total(flows, HAUL_FLOW_T_PACKETS) >= sent);
	assert_true(late < sent);
	haul_flows_close(flows);
}

/* A cutoff in the past removes nothing, one behind everything all; timeouts hold as well. */
static void test_clean__obeys_cutoff_and_timeouts(void **state)
{
	struct haul_flows_options options = { .timeout_s = { [HAUL_FLOW_ESTABLISHED] = 100 } };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	uint64_t now_ns = (uint64_t)flows->env.os->now_ns(flows->env.os);
	uint64_t closed = flow_net_total(flows, HAUL_FLOW_T_CLOSED);
	struct haul_map_result result;
	(void)state;

	assert_int_equal(haul_flows_info(flows)->timeout_s[HAUL_FLOW_ESTABLISHED], 100);
	assert_int_equal(haul_flows_info(flows)->timeout_s[HAUL_FLOW_NEW], 30);
	idle_put(flows, now_ns - 50 * 1000000000ULL);
	assert_int_equal(haul_flows_clean(flows, 0, &result), 0);
	assert_int_equal(result.done, 0);
	assert_true(result.visited >= IDLE);
	assert_int_equal(haul_flows_clean(flows, now_ns - 60 * 1000000000ULL, &result), 0);
	assert_int_equal(result.done, 0);
	assert_int_equal(haul_flows_clean(flows, now_ns - 40 * 1000000000ULL, &result), 0);
	assert_int_equal(result.done, IDLE);
	assert_int_equal(flow_net_total(flows, HAUL_FLOW_T_CLOSED), closed + IDLE);
	flow_net_balance(flows);
	idle_put(flows, now_ns - 101 * 1000000000ULL);
	assert_int_equal(haul_flows_clean(flows, 0, &result), 0);
	assert_int_equal(result.done, IDLE);
	flow_net_balance(flows);
	haul_flows_close(flows);
}

static int timer_has_removed(void *arg)
{
	return of_proto(arg, IPPROTO_TCP) == 0;
}

/* Nobody calls: the timer in the kernel removes what has expired, and nothing else. */
static void test_timer__removes_what_expired(void **state)
{
	struct haul_flows_options options = { .sweep_ms = 10,
					      .timeout_s = { [HAUL_FLOW_ESTABLISHED] = 100 } };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	uint64_t now_ns = (uint64_t)flows->env.os->now_ns(flows->env.os);
	struct haul_flow_key key = flow_net_key(IPPROTO_UDP, 7, 8);
	struct haul_flow_value value = { .packets = { 1, 0 }, .last_ns = now_ns };
	struct haul_map_rows rows = { .count = 1, .keys = &key, .values = &value };
	struct haul_map_result result;
	(void)state;

	assert_int_equal(haul_flows_put(flows, &rows, &result), 0);
	idle_put(flows, now_ns - 101 * 1000000000ULL);
	flow_net_wait(timer_has_removed, flows);
	assert_int_equal(of_proto(flows, IPPROTO_UDP), 1);
	flow_net_balance(flows);
	assert_true(flow_net_total(flows, HAUL_FLOW_T_SWEEPS) > 0);
	haul_flows_close(flows);
}

/* ---- interval ---- */

struct deltas {
	uint64_t packets, bytes, entries, visits;
	uint64_t stop_at;
};

static int deltas_add(const struct haul_map_batch *batch, void *arg)
{
	struct deltas *deltas = arg;

	for (uint32_t i = 0; i < batch->count; i++) {
		struct haul_flow_value value;
		memcpy(&value, haul_map_value(batch, i), sizeof value);
		deltas->packets += value.packets[0] + value.packets[1];
		deltas->bytes += value.bytes[0] + value.bytes[1];
	}
	deltas->entries += batch->count;
	deltas->visits++;
	return deltas->visits == deltas->stop_at ? 5 : 0;
}

/* Intervals taken while somebody sends at full speed sum up to all that passed, to the packet. */
static void intervals_check(const struct haul_flows_options *options)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, options);
	struct deltas deltas = { 0 };
	struct sender sender;
	uint64_t sent;

	sender_start(&sender);
	for (int round = 0; round < ROUNDS; round++) {
		struct haul_map_report report;
		uint64_t before = deltas.entries;
		sender_wait(&sender, 3 * BUSY_PORTS);
		assert_int_equal(haul_flows_interval(flows, deltas_add, &deltas, &report), 0);
		assert_int_equal(report.read, deltas.entries - before);
	}
	sent = sender_stop(&sender);
	assert_int_equal(haul_flows_interval(flows, deltas_add, &deltas, NULL), 0);
	assert_true(deltas.packets >= sent);
	assert_int_equal(flow_net_total(flows, HAUL_FLOW_T_LATE), 0);
	assert_int_equal(deltas.packets, flow_net_total(flows, HAUL_FLOW_T_PACKETS));
	assert_int_equal(deltas.bytes, flow_net_total(flows, HAUL_FLOW_T_BYTES));
	assert_int_equal(deltas.packets, flow_net_total(flows, HAUL_FLOW_T_REMOVED));
	assert_int_equal(deltas.entries, flow_net_total(flows, HAUL_FLOW_T_CLOSED));
	assert_int_equal(deltas.entries, flow_net_total(flows, HAUL_FLOW_T_OPENED));
	flow_net_balance(flows);
	haul_flows_close(flows);
}

/* With few and with many shards (more than are swapped in one go). */
static void test_interval__sums_up_to_all(void **state)
{
	const struct haul_flows_options one = { .entries_max = 1024, .shards = 1 };
	const struct haul_flows_options many = { .entries_max = 8192, .shards = 32 };
	(void)state;

	intervals_check(&one);
	intervals_check(&many);
}

/* With the timer at work in between, what it removed and what we visited is all there was. */
static void test_interval__beside_the_timer(void **state)
{
	struct haul_flows_options options = { .entries_max = 8192, .shards = 4, .sweep_ms = 10 };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	uint64_t now_ns = (uint64_t)flows->env.os->now_ns(flows->env.os);
	struct deltas deltas = { 0 };
	struct sender sender;
	uint64_t removed;
	(void)state;

	sender_start(&sender);
	for (int round = 0; round < ROUNDS; round++) {
		idle_put(flows, now_ns - 500000 * 1000000000ULL);
		sender_wait(&sender, 3 * BUSY_PORTS);
		assert_int_equal(haul_flows_interval(flows, deltas_add, &deltas, NULL), 0);
	}
	(void)sender_stop(&sender);
	assert_int_equal(haul_flows_interval(flows, deltas_add, &deltas, NULL), 0);
	removed = flow_net_total(flows, HAUL_FLOW_T_REMOVED);
	assert_int_equal(removed + flow_net_total(flows, HAUL_FLOW_T_LATE),
			 flow_net_total(flows, HAUL_FLOW_T_PACKETS));
	assert_true(deltas.packets <= removed);
	assert_int_equal(flow_net_total(flows, HAUL_FLOW_T_OPENED),
			 flow_net_total(flows, HAUL_FLOW_T_CLOSED));
	flow_net_balance(flows);
	haul_flows_close(flows);
}

/* A visit that wants to stop gets the rest of the shards at hand; the others stay as they are. */
static void test_interval__stops_without_loss(void **state)
{
	const struct haul_flows_options options = { .entries_max = 8192, .shards = 32 };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	struct deltas deltas = { .stop_at = 1 };
	uint64_t left;
	(void)state;

	idle_put(flows, (uint64_t)flows->env.os->now_ns(flows->env.os));
	assert_int_equal(haul_flows_interval(flows, deltas_add, &deltas, NULL), 5);
	assert_true(deltas.visits > 1);
	assert_int_equal(haul_flows_count(flows, &left), 0);
	assert_true(left > 0);
	flow_net_balance(flows);
	assert_int_equal(haul_flows_interval(flows, deltas_add, &deltas, NULL), 0);
	assert_int_equal(deltas.entries, flow_net_total(flows, HAUL_FLOW_T_OPENED));
	flow_net_balance(flows);
	haul_flows_close(flows);
}

struct second {
	struct haul_flows *flows;
	int codes[2];
};

static int second_try(const struct haul_map_batch *batch, void *arg)
{
	struct second *second = arg;
	struct haul_map_result result;
	(void)batch;
	second->codes[0] = haul_flows_interval(second->flows, second_try, NULL, NULL);
	second->codes[1] = haul_flows_clean(second->flows, 0, &result);
	return 0;
}

/* Two at once on a pinned table would count twice: the second is told. */
static void test_interval__is_for_one_at_a_time(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct second second = { .codes = { 0 } };
	struct haul_map_result result;
	struct haul_err err = { 0 };
	(void)state;

	assert_int_equal(haul_flows_pin(flows, "x", &err), 0);
	assert_int_equal(flows_open_in(&second.flows, &net.env, "x", &err), 0);
	idle_put(flows, 1);
	assert_int_equal(haul_flows_interval(flows, second_try, &second, NULL), 0);
	assert_int_equal(second.codes[0], -EBUSY);
	assert_int_equal(second.codes[1], -EBUSY);
	assert_int_equal(haul_flows_clean(second.flows, 0, &result), 0);
	haul_flows_close(second.flows);
	haul_flows_close(flows);
	assert_int_equal(flow_net_detach(&net, 0, "x", &err), 0);
}

/* A table that another process has swapped is read where it is now. */
static void test_interval__is_noticed_by_others(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL), *other = NULL;
	struct deltas deltas = { 0 };
	struct haul_err err = { 0 };
	(void)state;

	assert_int_equal(haul_flows_pin(flows, "x", &err), 0);
	assert_int_equal(flows_open_in(&other, &net.env, "x", &err), 0);
	idle_put(flows, 1);
	assert_true(of_proto(other, IPPROTO_TCP) == IDLE);
	assert_int_equal(haul_flows_interval(flows, deltas_add, &deltas, NULL), 0);
	assert_int_equal(of_proto(other, IPPROTO_TCP), 0);
	idle_put(flows, 1);
	assert_int_equal(of_proto(other, IPPROTO_TCP), IDLE);
	flow_net_balance(other);
	haul_flows_close(other);
	haul_flows_close(flows);
	assert_int_equal(flow_net_detach(&net, 0, "x", &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean__takes_exactly_the_idle),
		cmocka_unit_test(test_clean__obeys_cutoff_and_timeouts),
		cmocka_unit_test(test_timer__removes_what_expired),
		cmocka_unit_test(test_interval__sums_up_to_all),
		cmocka_unit_test(test_interval__beside_the_timer),
		cmocka_unit_test(test_interval__stops_without_loss),
		cmocka_unit_test(test_interval__is_for_one_at_a_time),
		cmocka_unit_test(test_interval__is_noticed_by_others),
	};
	return cmocka_run_group_tests(tests, group_open, group_close);
}
