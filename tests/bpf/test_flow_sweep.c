/* Needs root: entries that have been silent for too long are reported and removed, exactly. */
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "bpf/flow_lab.h"
#include "flow.skel.h"
#include "lib/testlib.h"

enum { EVENTS_MAX = 4096, EVENT_ROOM = 152 /* with the ring's header */ };
static const uint64_t second_ns = 1000000000, hour_ns = 3600 * UINT64_C(1000000000);

static struct flow_lab lab;
static struct ring_buffer *ring;
static struct haul_flow_event events[EVENTS_MAX];
static uint32_t event_count;

static int take(void *context, void *data, size_t bytes)
{
	(void)context;
	assert_int_equal(bytes, sizeof *events);
	assert_true(event_count < EVENTS_MAX);
	memcpy(&events[event_count++], data, sizeof *events);
	return 0;
}

static void open_with(const struct flow_lab_options *options, bool listen)
{
	flow_lab_open(&lab, options);
	ring = ring_buffer__new(bpf_map__fd(lab.programs->maps.events), take, NULL, NULL);
	assert_non_null(ring);
	event_count = 0;
	lab.control->listener = listen;
}

static int close_lab(void **state)
{
	(void)state;
	ring_buffer__free(ring);
	ring = NULL;
	flow_lab_close(&lab);
	return 0;
}

static struct packet numbered(uint32_t n)
{
	struct packet packet = packet_udp(4, 10);
	packet.src[2] = (uint8_t)(n >> 8);
	packet.src[3] = (uint8_t)n;
	return packet;
}

static void send_numbered(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct packet packet = numbered(i);
		flow_lab_send(&lab, NULL, &packet);
	}
}

static uint64_t last_of_all(void)
{
	static struct flow_lab_entry entries[FLOW_MODEL_ENTRIES];
	uint32_t count = flow_lab_entries(&lab, entries, FLOW_MODEL_ENTRIES);
	uint64_t last = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (entries[i].value.last_ns > last)
			last = entries[i].value.last_ns;
	}
	return last;
}

static struct flow_sweep_args mark(uint32_t generation, uint64_t now_ns)
{
	struct flow_sweep_args args = { .mark = 1, .generation = generation, .now_ns = now_ns };
	flow_lab_sweep(&lab, &args);
	flow_lab_balance(&lab);
	return args;
}

static struct flow_sweep_args harvest(uint32_t generation, uint64_t now_ns)
{
	struct flow_sweep_args args = { .harvest = 1, .generation = generation, .now_ns = now_ns };
	flow_lab_sweep(&lab, &args);
	flow_lab_balance(&lab);
	return args;
}

/* Mark, then remove: with nobody listening, all are unreported. */
static void test_flow_sweep__removes_what_is_expired(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ 0 }, false);
	send_numbered(100);
	uint64_t later = last_of_all() + 2 * hour_ns;
	assert_int_equal(mark(1, 0).marked, 0);
	struct flow_sweep_args args = mark(1, later);
	assert_int_equal(args.visited, 100);
	assert_int_equal(args.marked, 100);
	assert_int_equal(args.removed, 0);
	args = harvest(2, later);
	assert_int_equal(args.visited, 100);
	assert_int_equal(args.removed, 100);
	assert_int_equal(harvest(3, later).visited, 0);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_REMOVED), 100);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_CLOSED), 100);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_UNREPORTED), 100);
	/* Four shards, four sweeps. */
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_SWEEPS), 16);
	send_numbered(1);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_OPENED), 101);
	flow_lab_balance(&lab);
}

/* What this very sweep marked it does not remove, not even when it does both. */
static void test_flow_sweep__never_removes_its_own_marks(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ 0 }, false);
	send_numbered(10);
	uint64_t later = last_of_all() + 2 * hour_ns;
	for (int i = 0; i < 3; i++) {
		struct flow_sweep_args args = {
			.mark = 1, .harvest = 1, .generation = 5, .now_ns = later
		};
		flow_lab_sweep(&lab, &args);
		assert_int_equal(args.marked, i == 0 ? 10 : 0);
		assert_int_equal(args.removed, 0);
	}
	assert_int_equal(harvest(5, later).removed, 0);
	assert_int_equal(harvest(6, later).removed, 10);
}

/* A packet in between brings the entry back: not removed, and marked anew only when it expires. */
static void test_flow_sweep__packet_in_between_saves(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ 0 }, false);
	send_numbered(10);
	uint64_t later = last_of_all() + 2 * hour_ns;
	assert_int_equal(mark(1, later).marked, 10);
	send_numbered(4);
	assert_int_equal(harvest(2, later).removed, 6);
	send_numbered(10);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_LATE), 0);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_OPENED), 16);
	flow_lab_balance(&lab);
}

/* Each state has a timeout of its own: to the nanosecond. */
static void test_flow_sweep__timeouts_by_state(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .shards = 1 }, false);
	struct packet packet = packet_udp(4, 1);
	struct haul_flow_key key;
	struct haul_flow_value value;
	int dir;
	flow_lab_send(&lab, NULL, &packet);
	flow_model_key(&packet, &key, &dir);
	for (uint32_t i = 0; i < HAUL_FLOW_STATES; i++) {
		uint64_t timeout_ns = (3600 + i) * second_ns;
		value = flow_lab_only(&lab);
		value.state = (uint8_t)i;
		value.life = HAUL_FLOW_LIVE;
		flow_lab_put(&lab, &key, &value);
		assert_int_equal(mark(1, value.last_ns + timeout_ns).marked, 0);
		assert_int_equal(mark(1, value.last_ns + timeout_ns + 1).marked, 1);
	}
	/* A clock behind the entry's does not make it old. */
	value.life = HAUL_FLOW_LIVE;
	flow_lab_put(&lab, &key, &value);
	assert_int_equal(mark(1, value.last_ns - second_ns).marked, 0);
}

/* A cutoff removes also what its state would let live: what was last seen before it, no more. */
static void test_flow_sweep__cutoff(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .shards = 1 }, false);
	struct packet packet = numbered(1);
	flow_lab_send(&lab, NULL, &packet);
	uint64_t last = last_of_all();
	struct flow_sweep_args args = { .mark = 1, .generation = 1, .cutoff_ns = last };
	flow_lab_sweep(&lab, &args);
	assert_int_equal(args.marked, 0);
	args.cutoff_ns = last + 1;
	flow_lab_sweep(&lab, &args);
	assert_int_equal(args.marked, 1);
	assert_int_equal(harvest(2, 0).removed, 1);
}

static void check_closed(uint32_t count)
{
	uint64_t packets = 0;
	assert_int_equal(event_count, count);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(events[i].kind, HAUL_FLOW_EVENT_CLOSED);
		assert_int_equal(events[i].value.life & 0xff, HAUL_FLOW_DEAD);
		packets += events[i].value.packets[0] + events[i].value.packets[1];
		for (uint32_t j = 0; j < i; j++)
			assert_memory_not_equal(&events[i].key, &events[j].key,
						sizeof events[i].key);
	}
	assert_int_equal(packets, flow_lab_total(&lab, HAUL_FLOW_T_REMOVED));
}

/* A listener gets each removed entry once, with its final numbers. */
static void test_flow_sweep__reports_to_the_listener(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .ring_bytes = 65536 }, false);
	send_numbered(50);
	send_numbered(20);
	lab.control->listener = 1;
	uint64_t later = last_of_all() + 2 * hour_ns;
	assert_int_equal(mark(1, later).marked, 50);
	assert_int_equal(harvest(2, later).removed, 50);
	assert_int_equal(ring_buffer__consume(ring), 50);
	check_closed(50);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_REPORTED), 50);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_UNREPORTED), 0);
}

/* Opened ones too, as they were with their first packet; what finds no room is counted. */
static void test_flow_sweep__announces_opened(void **state)
{
	(void)state;
	enum { ROOM = 4096 / EVENT_ROOM };
	open_with(&(struct flow_lab_options){ .ring_bytes = 4096 }, true);
	send_numbered(ROOM + 20);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_OPENED), ROOM + 20);
	uint64_t lost = flow_lab_total(&lab, HAUL_FLOW_T_UNANNOUNCED);
	assert_int_equal(ring_buffer__consume(ring), ROOM + 20 - (int)lost);
	assert_in_range(lost, 20, 22);
	for (uint32_t i = 0; i < event_count; i++) {
		struct packet packet = numbered(i);
		struct haul_flow_key key;
		int dir;
		flow_model_key(&packet, &key, &dir);
		assert_int_equal(events[i].kind, HAUL_FLOW_EVENT_OPENED);
		assert_memory_equal(&events[i].key, &key, sizeof key);
		assert_int_equal(events[i].value.packets[dir], 1);
		assert_int_equal(events[i].value.life, HAUL_FLOW_LIVE);
	}
	flow_lab_balance(&lab);
}

/* The ring is full: entries stay, can be revived, and are reported when there is room again. */
static void test_flow_sweep__full_ring_holds_entries(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .ring_bytes = 4096, .hold_ns = hour_ns }, false);
	send_numbered(60);
	lab.control->listener = 1;
	uint64_t later = last_of_all() + hour_ns + second_ns;
	mark(1, later);
	struct flow_sweep_args args = harvest(2, later);
	assert_int_equal(args.removed + args.held, 60);
	assert_in_range(args.removed, 20, 27);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_HELD), args.held);
	struct flow_sweep_args again = harvest(3, later);
	assert_int_equal(again.removed, 0);
	assert_int_equal(again.held, args.held);
	uint32_t removed = (uint32_t)args.removed;
	while (removed < 60) {
		assert_true(ring_buffer__consume(ring) > 0);
		removed += (uint32_t)harvest(4, later).removed;
	}
	assert_true(ring_buffer__consume(ring) > 0);
	check_closed(60);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_UNREPORTED), 0);
}

/* Held for no longer than hold_ns beyond the timeout: then removed and counted as unreported. */
static void test_flow_sweep__holds_for_a_bounded_time(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .ring_bytes = 4096, .hold_ns = 60 * second_ns },
		  false);
	send_numbered(60);
	lab.control->listener = 1;
	uint64_t later = last_of_all() + hour_ns + second_ns;
	mark(1, later);
	struct flow_sweep_args args = harvest(2, later);
	assert_true(args.held > 0);
	assert_int_equal(harvest(3, later + 30 * second_ns).removed, 0);
	assert_int_equal(harvest(4, later + 61 * second_ns).removed, args.held);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_UNREPORTED), args.held);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_REPORTED), args.removed);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_CLOSED), 60);
}

/* What is dead already is left to who killed it. */
static void test_flow_sweep__leaves_the_dead(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .shards = 1 }, true);
	struct packet packet = numbered(1);
	struct haul_flow_key key;
	int dir;
	flow_lab_send(&lab, NULL, &packet);
	flow_model_key(&packet, &key, &dir);
	struct haul_flow_value value = flow_lab_only(&lab);
	value.life = 9u << 8 | HAUL_FLOW_DEAD;
	flow_lab_put(&lab, &key, &value);
	uint64_t later = value.last_ns + 2 * hour_ns;
	assert_int_equal(mark(1, later).marked, 0);
	assert_int_equal(harvest(2, later).removed, 0);
	assert_int_equal(flow_lab_only(&lab).life, value.life);
}

/* ---- the timer ---- */

/* All programs that run now have ended when this returns. */
static void grace(void)
{
	uint32_t zero = 0;
	int fd = bpf_map__fd(lab.programs->maps.shards);
	assert_int_equal(bpf_map_update_elem(fd, &zero, &lab.shard_fd[0], BPF_ANY), 0);
}

/* Wait for events, at most 10 s each; the timer has no other way to end a test. */
static void wait_for_events(uint32_t count)
{
	struct pollfd fd = { .fd = ring_buffer__epoll_fd(ring), .events = POLLIN };
	while (event_count < count) {
		assert_true(poll(&fd, 1, 10000) > 0);
		assert_true(ring_buffer__consume(ring) >= 0);
	}
}

/* Started once, it sweeps all shards by itself, over and over, and reports. */
static void test_flow_sweep__timer_removes_unaided(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .shards = 8,
					      .tick_ns = 100000,
					      .timeout_ns = 1000000,
					      .ring_bytes = 262144 },
		  false);
	send_numbered(300);
	lab.control->listener = 1;
	flow_lab_start(&lab);
	flow_lab_start(&lab); /* it runs already */
	wait_for_events(300);
	check_closed(300);
	event_count = 0;
	lab.control->listener = 0;
	send_numbered(1);
	lab.control->listener = 1;
	wait_for_events(1);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_CLOSED), 301);
	assert_true(flow_lab_total(&lab, HAUL_FLOW_T_SWEEPS) >= 3 * 8);
	grace();
	flow_lab_balance(&lab);
}

/* Without a tick there is no timer, and that is said. */
static void test_flow_sweep__no_tick_no_timer(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ 0 }, false);
	uint8_t nothing[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = nothing, .data_size_in = sizeof nothing);
	int fd = bpf_program__fd(lab.programs->progs.flow_start);
	assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
	assert_int_equal(run.retval, 1);
}

/* The timer leaves alone for a while what a call has marked, and takes it up again after. */
static void test_flow_sweep__timer_rests_after_a_call(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .shards = 1, .tick_ns = 50000, .ring_bytes = 65536 },
		  false);
	send_numbered(20);
	lab.control->listener = 1;
	flow_lab_start(&lab);
	uint64_t later = last_of_all() + 2 * hour_ns;
	struct flow_sweep_args args = mark(1, later);
	assert_int_equal(args.marked, 20);
	uint64_t sweeps = flow_lab_total(&lab, HAUL_FLOW_T_SWEEPS);
	assert_int_equal(harvest(1, later).removed, 0);
	/* Marked by nobody's current sweep: the timer's, once its rest is over. */
	wait_for_events(20);
	check_closed(20);
	assert_true(flow_lab_total(&lab, HAUL_FLOW_T_SWEEPS) > sweeps);
	grace();
	flow_lab_balance(&lab);
}

struct traffic {
	atomic_bool stop;
	uint64_t sent;
};

/* One connection after the other, each for a while: there are always busy and silent ones. */
static void *keep_sending(void *arg)
{
	struct traffic *traffic = arg;
	for (uint32_t i = 0; !atomic_load(&traffic->stop); i++) {
		struct packet packet = numbered(i / 100 % 64);
		struct packet_frame frame;
		packet_build(&packet, &frame);
		flow_lab_run(&lab, FLOW_LAB_INGRESS, &frame, NULL, 5);
		traffic->sent += 5;
	}
	return NULL;
}

static void stop_traffic(struct traffic *traffic, pthread_t thread)
{
	atomic_store(&traffic->stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Traffic on one thread, sweeps by call on another: every packet is accounted for. */
static void test_flow_sweep__calls_lose_nothing_under_traffic(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .timeout_ns = 1,
					      .ring_bytes = 4096,
					      .hold_ns = 1000000 },
		  true);
	struct traffic traffic = { .stop = false };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, keep_sending, &traffic), 0);
	for (uint32_t i = 0; flow_lab_total(&lab, HAUL_FLOW_T_CLOSED) < 500; i++) {
		struct flow_sweep_args args = { .mark = 1, .generation = i };
		event_count = 0;
		(void)ring_buffer__consume(ring);
		flow_lab_sweep(&lab, &args);
		grace();
		args = (struct flow_sweep_args){ .harvest = 1, .generation = i + 1 };
		flow_lab_sweep(&lab, &args);
	}
	stop_traffic(&traffic, thread);
	flow_lab_balance(&lab);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_PACKETS), traffic.sent);
}

/* The same with the timer; a tick is long against the time a program can take. */
static void test_flow_sweep__timer_loses_nothing_under_traffic(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .shards = 2,
					      .tick_ns = 5000000,
					      .timeout_ns = 1,
					      .ring_bytes = 65536,
					      .hold_ns = 1000000 },
		  true);
	struct traffic traffic = { .stop = false };
	pthread_t thread;
	flow_lab_start(&lab);
	assert_int_equal(pthread_create(&thread, NULL, keep_sending, &traffic), 0);
	wait_for_events(700);
	stop_traffic(&traffic, thread);
	/* A call, for the timer's rest: the table rests with it. */
	struct flow_sweep_args args = { .now_ns = 1 };
	flow_lab_sweep(&lab, &args);
	grace();
	flow_lab_balance(&lab);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_PACKETS), traffic.sent);
	assert_int_not_equal(flow_lab_total(&lab, HAUL_FLOW_T_CLOSED), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(test_flow_sweep__##name, close_lab)
	const struct CMUnitTest tests[] = {
		TEST(removes_what_is_expired),
		TEST(never_removes_its_own_marks),
		TEST(packet_in_between_saves),
		TEST(timeouts_by_state),
		TEST(cutoff),
		TEST(reports_to_the_listener),
		TEST(announces_opened),
		TEST(full_ring_holds_entries),
		TEST(holds_for_a_bounded_time),
		TEST(leaves_the_dead),
		TEST(timer_removes_unaided),
		TEST(no_tick_no_timer),
		TEST(timer_rests_after_a_call),
		TEST(calls_lose_nothing_under_traffic),
		TEST(timer_loses_nothing_under_traffic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
