#include <stdio.h>
#include <string.h>

#include "lib/testlib.h"
#include "node/net.h"

enum { SECOND_MS = 1000 };

static void run_ms(struct net *net, int64_t ms)
{
	net_run(net, ms * NS_PER_MS);
}

static void expect_way(const struct net *net, uint32_t from, uint32_t to, uint32_t hops)
{
	const struct net_walk walk = net_walk_frame(net, from, to);
	if (walk.end != NET_ARRIVES || walk.hops != hops)
		fail_msg("%u -> %u: ends %d at %u after %u hops, expected %u hops", from, to,
			 (int)walk.end, walk.last, walk.hops, hops);
}

/* A line RSU - 1 - 2 - 3 - 4: everybody reaches everybody, hops are distances, within three
 * heartbeats. */
static void test_control_net__line_of_four_gets_routes(void **state)
{
	(void)state;
	struct net *net = net_open(1);
	net_add(net, NODE_RSU);
	for (uint32_t i = 1; i <= 4; i++)
		net_join(net, i - 1, net_add(net, NODE_OBU), 0);
	run_ms(net, 3 * NET_PERIOD_MS);
	for (uint32_t i = 1; i <= 4; i++) {
		expect_way(net, i, 0, i);
		expect_way(net, 0, i, i);
		assert_int_equal(snapshot_route(net->node[0].snapshot, net_id(i))->hops, i);
		assert_int_equal(net->node[i].snapshot->upstream.hops, i);
		assert_true(snapshot_route(net->node[0].snapshot, net_id(i))->rtt_ns > 0);
		assert_int_equal(snapshot_client(net->node[0].snapshot, net_client(i))->owner,
				 net_id(i));
	}
	expect_way(net, 4, 2, 4 + 2);
	assert_int_equal(net->node[0].snapshot->flood_obu_count, 4);
	net_close(net);
}

/* What is published does not change while nothing changes: no route is computed for a frame
 * (defect 10), and the datapath keeps its snapshot. */
static void test_control_net__steady_network_publishes_nothing(void **state)
{
	(void)state;
	struct net *net = net_open(2);
	net_add(net, NODE_RSU);
	for (uint32_t i = 1; i <= 4; i++)
		net_join(net, i - 1, net_add(net, NODE_OBU), 0);
	run_ms(net, SECOND_MS);
	uint64_t before[5];
	for (uint32_t i = 0; i < 5; i++)
		before[i] = net->node[i].snapshots;
	run_ms(net, 20 * SECOND_MS);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(net->node[i].snapshots, before[i]);
	net_close(net);
}

/* A car drives from RSU 0 to RSU 1: it is never without a way for longer than a period, and both
 * RSUs agree where it is one message after it has changed. */
static void test_control_net__moving_obu_hands_over(void **state)
{
	(void)state;
	struct net *net = net_open(3);
	net_add(net, NODE_RSU);
	net_add(net, NODE_RSU);
	const uint32_t car = net_add(net, NODE_OBU);
	net_join(net, 0, car, 0);
	run_ms(net, 2 * SECOND_MS);
	assert_int_equal(net_chosen(net, car), 0);
	expect_way(net, 1, car, 1);
	net_join(net, 1, car, 0);
	for (uint32_t i = 1; i <= 9; i++) {
		net->link[0][car].loss = net->link[car][0].loss = 0.1 * i;
		run_ms(net, 5 * NET_PERIOD_MS);
	}
	assert_int_equal(net_chosen(net, car), 1);
	for (uint32_t from = 0; from < 2; from++) {
		expect_way(net, from, car, 1);
		assert_int_equal(net_walk(net, from, car).steps, from == 0 ? 2 : 1);
		assert_int_equal(net->node[from].snapshot->flood_obu_count, from);
	}
	net_part(net, 0, car);
	run_ms(net, SECOND_MS);
	expect_way(net, 0, car, 1);
	expect_way(net, car, 0, 1);
	assert_true(net_counter(net, car, CONTROL_UPSTREAM_CHANGES) <= 3);
	net_close(net);
}

/* Hard handover: the link to the old RSU breaks at once. The other RSU takes over within three
 * heartbeats and a half, and the old one follows with one message. */
static void test_control_net__broken_link_to_rsu_hands_over_within_three_heartbeats(void **state)
{
	(void)state;
	struct net *net = net_open(4);
	net_add(net, NODE_RSU);
	net_add(net, NODE_RSU);
	const uint32_t car = net_add(net, NODE_OBU);
	net_join(net, 0, car, 0);
	run_ms(net, SECOND_MS);
	net_join(net, 1, car, 0);
	run_ms(net, SECOND_MS);
	assert_int_equal(net_chosen(net, car), 0);
	net_part(net, 0, car);
	run_ms(net, 3 * NET_PERIOD_MS + NET_PERIOD_MS / 2 + 10);
	assert_int_equal(net_chosen(net, car), 1);
	expect_way(net, 0, car, 1);
	expect_way(net, 1, car, 1);
	net_close(net);
}

/* Defect 11: a vanished neighbour was noticed after up to 60 s. Here a dead relay is left within
 * three missed heartbeats, in both directions. */
static void test_control_net__defect_11_dead_relay_is_left_within_three_heartbeats(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct net *net = net_open(seed);
		net_add(net, NODE_RSU);
		for (uint32_t i = 1; i <= 3; i++)
			net_add(net, NODE_OBU);
		net_join(net, 0, 1, 0);
		net_join(net, 0, 2, 0);
		net_join(net, 1, 3, 0);
		net_join(net, 2, 3, 0);
		run_ms(net, SECOND_MS + (int64_t)seed * 7);
		const uint32_t relay = net->node[3].snapshot->upstream.next.peer - 1;
		assert_in_range(relay, 1, 2);
		net_off(net, relay);
		run_ms(net, 3 * NET_PERIOD_MS + NET_PERIOD_MS / 2 + 10);
		expect_way(net, 3, 0, 2);
		expect_way(net, 0, 3, 2);
		assert_int_equal(net_counter(net, 3, CONTROL_UPSTREAM_LOST), 1);
		net_close(net);
	}
}

/* Without another way there is none: upstream is empty, and comes back with the relay. */
static void test_control_net__obu_without_candidates_has_no_upstream(void **state)
{
	(void)state;
	struct net *net = net_open(5);
	net_add(net, NODE_RSU);
	net_join(net, 0, net_add(net, NODE_OBU), 0);
	net_join(net, 1, net_add(net, NODE_OBU), 0);
	run_ms(net, SECOND_MS);
	net_off(net, 1);
	run_ms(net, SECOND_MS);
	assert_int_equal(net->node[2].snapshot->upstream.node, 0);
	assert_int_equal(net_walk(net, 0, 2).end, NET_NO_ROUTE);
	assert_int_equal(net->node[0].snapshot->flood_obu_count, 0);
	net_on(net, 1);
	run_ms(net, 3 * NET_PERIOD_MS);
	expect_way(net, 2, 0, 2);
	expect_way(net, 0, 2, 2);
	net_close(net);
}

/* A restarted RSU counts its heartbeats from one again: its higher boot time says so, and all is
 * well with its first heartbeat. */
static void test_control_net__restarted_rsu_is_accepted_at_once(void **state)
{
	(void)state;
	struct net *net = net_open(6);
	net_add(net, NODE_RSU);
	for (uint32_t i = 1; i <= 3; i++)
		net_join(net, i - 1, net_add(net, NODE_OBU), 0);
	run_ms(net, 20 * SECOND_MS);
	const uint64_t changes = net_counter(net, 3, CONTROL_UPSTREAM_CHANGES);
	net_off(net, 0);
	run_ms(net, 50);
	net_on(net, 0);
	run_ms(net, 50);
	for (uint32_t i = 1; i <= 3; i++) {
		expect_way(net, i, 0, i);
		expect_way(net, 0, i, i);
	}
	assert_int_equal(net_counter(net, 3, CONTROL_UPSTREAM_CHANGES), changes);
	net_close(net);
}

/* A restarted OBU has forgotten all, and its sequence starts at its new boot time. */
static void test_control_net__restarted_obu_is_accepted_at_once(void **state)
{
	(void)state;
	struct net *net = net_open(7);
	net_add(net, NODE_RSU);
	for (uint32_t i = 1; i <= 3; i++)
		net_join(net, i - 1, net_add(net, NODE_OBU), 0);
	run_ms(net, 5 * SECOND_MS);
	net_off(net, 2);
	run_ms(net, 50);
	net_on(net, 2);
	run_ms(net, 2 * NET_PERIOD_MS);
	for (uint32_t i = 1; i <= 3; i++) {
		expect_way(net, i, 0, i);
		expect_way(net, 0, i, i);
	}
	net_close(net);
}

/* A link that comes and goes every second next to a steady one of the same length: hysteresis and
 * the memory of its past keep the OBU on the steady one. */
static void test_control_net__flapping_link_causes_few_changes(void **state)
{
	(void)state;
	struct net *net = net_open(8);
	net_add(net, NODE_RSU);
	for (uint32_t i = 1; i <= 3; i++)
		net_add(net, NODE_OBU);
	net_join(net, 0, 1, 0);
	net_join(net, 0, 2, 0);
	net_join(net, 1, 3, 0);
	run_ms(net, SECOND_MS);
	net_join(net, 2, 3, 0);
	for (uint32_t i = 0; i < 60; i++) {
		run_ms(net, SECOND_MS / 2);
		if (i % 2 == 0)
			net_part(net, 2, 3);
		else
			net_join(net, 2, 3, 0);
		assert_int_equal(net->node[3].snapshot->upstream.next.peer, 1 + 1);
	}
	assert_int_equal(net_counter(net, 3, CONTROL_UPSTREAM_CHANGES), 1);
	/* The link in use flaps: each time it breaks it is left once. Coming back it is no better
	 * than the one in use, so nothing changes then. */
	for (uint32_t i = 0; i < 60; i++) {
		if (i % 2 == 0)
			net_part(net, 1, 3);
		else
			net_join(net, 1, 3, 0);
		run_ms(net, SECOND_MS / 2);
	}
	assert_true(net_counter(net, 3, CONTROL_UPSTREAM_CHANGES) <= 3);
	net_close(net);
}

/* A ring of eight around one RSU: both ways round are used, the far node has one way only, and
 * cutting any one link leaves everybody reachable. */
static void test_control_net__ring_survives_any_cut(void **state)
{
	(void)state;
	enum { RING = 9 };
	for (uint32_t cut = 0; cut < RING; cut++) {
		struct net *net = net_open(cut);
		net->options.ttl = 16;
		net_add(net, NODE_RSU);
		for (uint32_t i = 1; i < RING; i++)
			net_join(net, i - 1, net_add(net, NODE_OBU), 0);
		net_join(net, RING - 1, 0, 0);
		run_ms(net, SECOND_MS);
		for (uint32_t i = 1; i < RING; i++) {
			const uint32_t hops = i < RING - i ? i : RING - i;
			expect_way(net, i, 0, hops);
			expect_way(net, 0, i, hops);
		}
		net_part(net, cut, (cut + 1) % RING);
		run_ms(net, SECOND_MS);
		for (uint32_t i = 1; i < RING; i++) {
			const uint32_t hops = i <= cut ? i : RING - i;
			expect_way(net, i, 0, hops);
			expect_way(net, 0, i, hops);
		}
		net_close(net);
	}
}

/* ---- circles ---- */

struct circles {
	uint64_t walks;
	uint64_t up;                          /* circles on the way to an RSU: never one */
	uint64_t down;                        /* circles on the way to an OBU */
	int64_t down_since_ns[NET_NODES_MAX]; /* per destination, -1 = none now */
	int64_t down_longest_ns;
};

/* After every publication: walk from every node to every node. */
static void look_for_circles(struct net *net, void *arg)
{
	struct circles *circles = arg;
	for (uint32_t to = 0; to < net->count; to++) {
		bool found = false;
		for (uint32_t from = 0; from < net->count; from++) {
			circles->walks++;
			if (net_walk(net, from, to).end != NET_CIRCLE)
				continue;
			found = true;
			if (net->node[to].options.role == NODE_RSU)
				circles->up++;
		}
		int64_t *since_ns = &circles->down_since_ns[to];
		if (!found && *since_ns >= 0 && net->now_ns - *since_ns > circles->down_longest_ns)
			circles->down_longest_ns = net->now_ns - *since_ns;
		if (found && *since_ns < 0) {
			*since_ns = net->now_ns;
			circles->down++;
		} else if (!found) {
			*since_ns = -1;
		}
	}
}

static void random_topology(struct net *net)
{
	const uint32_t nodes = 4 + prng_below(&net->prng, 13);
	const uint32_t rsus = 1 + prng_below(&net->prng, 3);
	net->options.ttl = 32;
	for (uint32_t i = 0; i < nodes; i++) {
		net_add(net, i < rsus ? NODE_RSU : NODE_OBU);
		if (i >= rsus) /* a way for everybody */
			net_join(net, i, prng_below(&net->prng, i), 0.4 * prng_unit(&net->prng));
	}
	for (uint32_t i = 0; i < 2 * nodes; i++) {
		const uint32_t a = prng_below(&net->prng, nodes);
		const uint32_t b = prng_below(&net->prng, nodes);
		if (a != b)
			net_join(net, a, b, 0.8 * prng_unit(&net->prng));
	}
}

static void change_something(struct net *net)
{
	const uint32_t a = prng_below(&net->prng, net->count);
	const uint32_t b = prng_below(&net->prng, net->count);
	if (a == b)
		return;
	if (net->link[a][b].up)
		net_part(net, a, b);
	else
		net_join(net, a, b, 0.6 * prng_unit(&net->prng));
}

/* 200 random networks with lossy links that come and go: after every single change of any snapshot,
 * no two nodes' next hops towards an RSU form a circle, ever; and none towards an OBU outlives a
 * heartbeat. Once left in peace, whoever has a way uses it. */
static void test_control_net__no_circles_in_random_topologies(void **state)
{
	(void)state;
	struct prng prng;
	uint64_t walks = 0;
	uint64_t down = 0;
	int64_t longest_ns = 0;
	test_prng(&prng);
	for (uint32_t round = 0; round < 200; round++) {
		struct net *net = net_open(prng_next(&prng));
		struct circles circles = { 0 };
		memset(circles.down_since_ns, 0xff, sizeof circles.down_since_ns);
		random_topology(net);
		net->check = look_for_circles;
		net->check_arg = &circles;
		run_ms(net, SECOND_MS);
		for (uint32_t i = 0; i < 20; i++) {
			change_something(net);
			run_ms(net, prng_below(&net->prng, 3 * NET_PERIOD_MS));
		}
		run_ms(net, SECOND_MS);
		look_for_circles(net, &circles);
		assert_int_equal(circles.up, 0);
		if (circles.down_longest_ns > longest_ns)
			longest_ns = circles.down_longest_ns;
		walks += circles.walks;
		down += circles.down;
		net_close(net);
	}
	printf("%llu walks, %llu circles towards an OBU, longest %lld us\n",
	       (unsigned long long)walks, (unsigned long long)down,
	       (long long)(longest_ns / NS_PER_US));
	assert_true(longest_ns <= NET_PERIOD_NS);
}

/* The same without loss, in peace: every OBU that the radio connects to an RSU gets there and back,
 * by a shortest way. */
static void test_control_net__random_topologies_get_shortest_ways(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t round = 0; round < 200; round++) {
		struct net *net = net_open(prng_next(&prng));
		random_topology(net);
		for (uint32_t a = 0; a < net->count; a++)
			for (uint32_t b = 0; b < net->count; b++)
				net->link[a][b].loss = 0;
		run_ms(net, 2 * SECOND_MS);
		uint32_t hops[NET_NODES_MAX];
		for (uint32_t i = 0; i < net->count; i++)
			hops[i] = net->node[i].options.role == NODE_RSU ? 0 : NET_NODES_MAX;
		for (uint32_t pass = 0; pass < net->count; pass++)
			for (uint32_t a = 0; a < net->count; a++)
				for (uint32_t b = 0; b < net->count; b++)
					if (net->link[a][b].up && hops[a] + 1 < hops[b])
						hops[b] = hops[a] + 1;
		for (uint32_t i = 0; i < net->count; i++) {
			if (hops[i] == 0)
				continue;
			expect_way(net, i, net_chosen(net, i), hops[i]);
			expect_way(net, net_chosen(net, i), i, hops[i]);
			for (uint32_t rsu = 0; net->node[rsu].options.role == NODE_RSU; rsu++)
				expect_way(net, rsu, i, hops[i]);
		}
		net_close(net);
	}
}

/* The largest network of the original had 119 nodes. 8 RSUs and 112 OBUs on a grid, some links
 * lossy: everybody reaches everybody, and the messages a period stay in proportion to the links. */
static void test_control_net__120_nodes_converge(void **state)
{
	(void)state;
	enum { COLUMNS = 12, ROWS = 10, NODES = COLUMNS * ROWS, RSUS = 8 };
	struct net *net = net_open(9);
	net->options.ttl = 16;
	/* Where node i stands: RSUs first, spread over the grid. */
	uint32_t place[NODES];
	uint32_t node_at[NODES];
	memset(node_at, 0xff, sizeof node_at);
	for (uint32_t i = 0; i < RSUS; i++)
		node_at[place[i] = i * (NODES / RSUS) + 7] = i;
	for (uint32_t i = RSUS, at = 0; i < NODES; i++, at++) {
		while (node_at[at] != UINT32_MAX)
			at++;
		node_at[place[i] = at] = i;
	}
	for (uint32_t i = 0; i < NODES; i++)
		net_add(net, i < RSUS ? NODE_RSU : NODE_OBU);
	for (uint32_t at = 0; at < NODES; at++) {
		if (at % COLUMNS + 1 < COLUMNS)
			net_join(net, node_at[at], node_at[at + 1], 0.02);
		if (at + COLUMNS < NODES)
			net_join(net, node_at[at], node_at[at + COLUMNS], 0.02);
	}
	run_ms(net, 10 * NET_PERIOD_MS);
	const uint64_t sent = net->sent;
	run_ms(net, 10 * NET_PERIOD_MS);
	uint32_t reached = 0;
	for (uint32_t from = 0; from < NODES; from++)
		for (uint32_t to = 0; to < NODES; to++)
			reached += net_walk_frame(net, from, to).end == NET_ARRIVES;
	printf("120 nodes: %u of %u pairs reached, %llu messages a period\n", reached,
	       NODES * NODES, (unsigned long long)(net->sent - sent) / 10);
	assert_true(reached >= NODES * NODES * 99 / 100);
	net_close(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control_net__line_of_four_gets_routes),
		cmocka_unit_test(test_control_net__steady_network_publishes_nothing),
		cmocka_unit_test(test_control_net__moving_obu_hands_over),
		cmocka_unit_test(
			test_control_net__broken_link_to_rsu_hands_over_within_three_heartbeats),
		cmocka_unit_test(
			test_control_net__defect_11_dead_relay_is_left_within_three_heartbeats),
		cmocka_unit_test(test_control_net__obu_without_candidates_has_no_upstream),
		cmocka_unit_test(test_control_net__restarted_rsu_is_accepted_at_once),
		cmocka_unit_test(test_control_net__restarted_obu_is_accepted_at_once),
		cmocka_unit_test(test_control_net__flapping_link_causes_few_changes),
		cmocka_unit_test(test_control_net__ring_survives_any_cut),
		cmocka_unit_test(test_control_net__no_circles_in_random_topologies),
		cmocka_unit_test(test_control_net__random_topologies_get_shortest_ways),
		cmocka_unit_test(test_control_net__120_nodes_converge),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
