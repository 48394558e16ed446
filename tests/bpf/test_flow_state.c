/* Needs root: TCP's ways through the states, its stream bytes, round-trip times and restarts. */
#include <netinet/in.h>
#include <string.h>

#include "bpf/flow_lab.h"
#include "lib/testlib.h"

enum { S = PACKET_SYN, A = PACKET_ACK, F = PACKET_FIN, R = PACKET_RST, P = PACKET_PSH };

static struct flow_lab lab;
static struct flow_model model;

static int open_lab(void **state)
{
	(void)state;
	flow_lab_open(&lab, &(struct flow_lab_options){ .shards = 1 });
	flow_model_init(&model, FLOW_MODEL_ENTRIES);
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	flow_lab_close(&lab);
	return 0;
}

/* A segment from the client (which is lo) or the server, and the state that follows. */
struct step {
	bool server;
	uint8_t flags;
	uint32_t seq;
	uint32_t payload;
	uint8_t state;
};

static void send_step(const struct step *step)
{
	struct packet packet = packet_tcp(4, step->flags, step->seq, step->payload);
	if (step->server)
		packet = packet_reply(&packet);
	flow_lab_send(&lab, &model, &packet);
}

static void walk(const struct step *steps, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		send_step(&steps[i]);
		if (flow_lab_only(&lab).state != steps[i].state)
			fail_msg("step %u: state %u, not %u", i, flow_lab_only(&lab).state,
				 steps[i].state);
		flow_lab_compare(&lab, &model);
	}
}
#define WALK(...)                                                                                  \
	walk((const struct step[]){ __VA_ARGS__ },                                                 \
	     sizeof((const struct step[]){ __VA_ARGS__ }) / sizeof(struct step))

/* Open, talk, close: the whole life, with the bytes of each direction. */
static void test_flow_state__a_whole_connection(void **state)
{
	(void)state;
	WALK({ false, S, 99, 0, HAUL_FLOW_SYN_SENT }, { true, S | A, 499, 0, HAUL_FLOW_SYN_RECV },
	     { false, A, 100, 0, HAUL_FLOW_ESTABLISHED },
	     { false, P | A, 100, 50, HAUL_FLOW_ESTABLISHED },
	     { true, A, 500, 1000, HAUL_FLOW_ESTABLISHED },
	     { true, A, 1500, 1000, HAUL_FLOW_ESTABLISHED },
	     { false, A, 150, 0, HAUL_FLOW_ESTABLISHED },
	     { false, F | A, 150, 0, HAUL_FLOW_CLOSING }, { true, A, 2500, 10, HAUL_FLOW_CLOSING },
	     { true, F | A, 2510, 0, HAUL_FLOW_CLOSED }, { false, A, 151, 0, HAUL_FLOW_CLOSED });
	struct haul_flow_value value = flow_lab_only(&lab);
	assert_int_equal(value.payload[0], 50);
	assert_int_equal(value.payload[1], 2010);
	assert_int_equal(value.seq_next[0], 151);
	assert_int_equal(value.seq_next[1], 2511);
	assert_int_equal(value.initiator, HAUL_FLOW_INITIATOR_LO);
	assert_int_equal(value.retransmits, 0);
	assert_int_equal(value.packets[0], 6);
	assert_int_equal(value.packets[1], 5);
	assert_int_equal(value.tcp_flags[0], S | A | P | F);
	assert_int_not_equal(value.rtt_us, 0);
}

/* Met in the middle: established, whoever speaks first began it as far as we know. */
static void test_flow_state__met_in_the_middle(void **state)
{
	(void)state;
	WALK({ true, P | A, 7000, 100, HAUL_FLOW_ESTABLISHED },
	     { false, A, 3000, 20, HAUL_FLOW_ESTABLISHED },
	     { true, A, 7100, 100, HAUL_FLOW_ESTABLISHED });
	struct haul_flow_value value = flow_lab_only(&lab);
	assert_int_equal(value.initiator, HAUL_FLOW_INITIATOR_HI);
	assert_int_equal(value.payload[0], 20);
	assert_int_equal(value.payload[1], 200);
	assert_int_equal(value.rtt_us, 0);
}

/* The SYN was missed: who got the SYN-ACK began it. */
static void test_flow_state__met_at_the_answer(void **state)
{
	(void)state;
	WALK({ true, S | A, 99, 0, HAUL_FLOW_SYN_RECV }, { false, A, 1, 0, HAUL_FLOW_ESTABLISHED });
	assert_int_equal(flow_lab_only(&lab).initiator, HAUL_FLOW_INITIATOR_LO);
	assert_int_equal(flow_lab_only(&lab).rtt_us, 0);
}

/* One direction only passes here: still established. */
static void test_flow_state__one_direction_only(void **state)
{
	(void)state;
	WALK({ false, S, 99, 0, HAUL_FLOW_SYN_SENT }, { false, A, 100, 0, HAUL_FLOW_ESTABLISHED },
	     { false, A, 100, 10, HAUL_FLOW_ESTABLISHED },
	     { false, F | A, 110, 0, HAUL_FLOW_CLOSING },
	     { false, F | A, 110, 0, HAUL_FLOW_CLOSING });
}

/* Refused, aborted, or reset before it was met. */
static void test_flow_state__reset(void **state)
{
	(void)state;
	WALK({ false, S, 99, 0, HAUL_FLOW_SYN_SENT }, { true, R | A, 0, 0, HAUL_FLOW_RESET },
	     { false, S, 99, 0, HAUL_FLOW_SYN_SENT }, { true, S | A, 9, 0, HAUL_FLOW_SYN_RECV },
	     { false, A, 100, 0, HAUL_FLOW_ESTABLISHED }, { false, R, 100, 0, HAUL_FLOW_RESET },
	     { true, A, 10, 5, HAUL_FLOW_RESET }, { true, S | A, 9, 0, HAUL_FLOW_RESET },
	     { true, F | A, 15, 0, HAUL_FLOW_RESET });
	assert_int_equal(flow_lab_only(&lab).payload[1], 5);
}

/* A SYN sent twice, or answered twice: no RTT, or the first one. */
static void test_flow_state__rtt_only_when_sent_once(void **state)
{
	(void)state;
	WALK({ false, S, 99, 0, HAUL_FLOW_SYN_SENT }, { false, S, 99, 0, HAUL_FLOW_SYN_SENT },
	     { true, S | A, 9, 0, HAUL_FLOW_SYN_RECV });
	assert_int_equal(flow_lab_only(&lab).rtt_us, 0);
	WALK({ false, R, 100, 0, HAUL_FLOW_RESET }, { false, S, 5000, 0, HAUL_FLOW_SYN_SENT },
	     { true, S | A, 9, 0, HAUL_FLOW_SYN_RECV });
	uint32_t rtt_us = flow_lab_only(&lab).rtt_us;
	assert_int_not_equal(rtt_us, 0);
	WALK({ true, S | A, 9, 0, HAUL_FLOW_SYN_RECV }, { false, S, 5000, 0, HAUL_FLOW_SYN_RECV },
	     { false, A, 5001, 0, HAUL_FLOW_ESTABLISHED });
	assert_int_equal(flow_lab_only(&lab).rtt_us, rtt_us);
}

/* The RTT is what lies between the two packets: SYN set back by hand to 5 s before. */
static void test_flow_state__rtt_is_the_time_between(void **state)
{
	(void)state;
	struct packet packet = packet_tcp(4, S, 1, 0);
	struct haul_flow_key key;
	int dir;
	flow_lab_send(&lab, NULL, &packet);
	flow_model_key(&packet, &key, &dir);
	struct haul_flow_value value = flow_lab_only(&lab);
	value.syn_us -= 5000000;
	flow_lab_put(&lab, &key, &value);
	packet = packet_reply(&packet);
	packet.tcp_flags = S | A;
	flow_lab_send(&lab, NULL, &packet);
	value = flow_lab_only(&lab);
	assert_in_range(value.rtt_us, 5000000,
			5000000 + (value.last_ns - value.first_ns) / 1000 + 1001);
}

/* Both ends open at once. */
static void test_flow_state__simultaneous_open(void **state)
{
	(void)state;
	WALK({ false, S, 99, 0, HAUL_FLOW_SYN_SENT }, { true, S, 499, 0, HAUL_FLOW_SYN_RECV },
	     { false, S | A, 99, 0, HAUL_FLOW_SYN_RECV },
	     { true, S | A, 499, 0, HAUL_FLOW_SYN_RECV },
	     { false, A, 100, 10, HAUL_FLOW_ESTABLISHED },
	     { true, A, 500, 10, HAUL_FLOW_ESTABLISHED });
	struct haul_flow_value value = flow_lab_only(&lab);
	assert_int_equal(value.initiator, HAUL_FLOW_INITIATOR_LO);
	assert_int_equal(value.rtt_us, 0);
	assert_int_equal(value.payload[0], 10);
	assert_int_equal(value.payload[1], 10);
}

/* Both ends close at once, and repeat it. */
static void test_flow_state__simultaneous_close(void **state)
{
	(void)state;
	WALK({ false, A, 100, 0, HAUL_FLOW_ESTABLISHED },
	     { true, A, 500, 0, HAUL_FLOW_ESTABLISHED },
	     { false, F | A, 100, 7, HAUL_FLOW_CLOSING },
	     { false, F | A, 100, 7, HAUL_FLOW_CLOSING }, { true, F | A, 500, 0, HAUL_FLOW_CLOSED },
	     { false, A, 108, 0, HAUL_FLOW_CLOSED }, { true, F | A, 500, 0, HAUL_FLOW_CLOSED });
	assert_int_equal(flow_lab_only(&lab).payload[0], 7);
	assert_int_equal(flow_lab_only(&lab).retransmits, 1);
}

/* Stream bytes count once: in order, overtaken, sent again in part, whole, and beyond a wrap. */
static void test_flow_state__stream_bytes_count_once(void **state)
{
	(void)state;
	const uint32_t begin = UINT32_MAX - 1499;
	WALK({ false, A, begin, 500, HAUL_FLOW_ESTABLISHED },
	     { false, A, begin + 1000, 500, HAUL_FLOW_ESTABLISHED }, /* to the wrap: next is 0 */
	     { false, A, begin + 500, 500, HAUL_FLOW_ESTABLISHED },  /* late: not new */
	     { false, A, begin + 1500, 100, HAUL_FLOW_ESTABLISHED },
	     { false, A, begin + 1000, 600, HAUL_FLOW_ESTABLISHED }, /* again */
	     { false, A, begin + 1500, 300, HAUL_FLOW_ESTABLISHED }, /* in part new */
	     { false, A, begin + 1799, 1, HAUL_FLOW_ESTABLISHED },   /* keepalive with a byte */
	     { false, A, begin + 1799, 0, HAUL_FLOW_ESTABLISHED });
	struct haul_flow_value value = flow_lab_only(&lab);
	assert_int_equal(value.payload[0], 1800);
	assert_int_equal(value.retransmits, 3);
	assert_int_equal(value.seq_next[0], begin + 1800);
}

/* A number of another world does not add gigabytes. */
static void test_flow_state__wild_numbers_add_little(void **state)
{
	(void)state;
	WALK({ false, A, 1000, 100, HAUL_FLOW_ESTABLISHED },
	     { false, A, 1100 + 0x50000000, 100, HAUL_FLOW_ESTABLISHED },
	     { false, A, 1100, 100, HAUL_FLOW_ESTABLISHED }, { false, R, 77, 0, HAUL_FLOW_RESET });
	assert_int_equal(flow_lab_only(&lab).payload[0], 300);
	assert_int_equal(flow_lab_only(&lab).retransmits, 0);
}

/* Data in the SYN (fast open), sent again without. */
static void test_flow_state__data_in_the_syn(void **state)
{
	(void)state;
	WALK({ false, S, 99, 200, HAUL_FLOW_SYN_SENT }, { false, S, 99, 0, HAUL_FLOW_SYN_SENT },
	     { true, S | A, 499, 30, HAUL_FLOW_SYN_RECV },
	     { false, A, 300, 10, HAUL_FLOW_ESTABLISHED });
	assert_int_equal(flow_lab_only(&lab).payload[0], 210);
	assert_int_equal(flow_lab_only(&lab).payload[1], 30);
	assert_int_equal(flow_lab_only(&lab).retransmits, 0);
}

/* Ports used again after a close: the same entry starts over, from the other end even. */
static void test_flow_state__ports_used_again(void **state)
{
	(void)state;
	WALK({ false, S, 99, 0, HAUL_FLOW_SYN_SENT }, { true, S | A, 499, 0, HAUL_FLOW_SYN_RECV },
	     { false, A, 100, 10, HAUL_FLOW_ESTABLISHED },
	     { false, F | A, 110, 0, HAUL_FLOW_CLOSING }, { true, F | A, 500, 0, HAUL_FLOW_CLOSED },
	     { true, S, 20, 0, HAUL_FLOW_SYN_SENT });
	struct haul_flow_value value = flow_lab_only(&lab);
	assert_int_equal(value.initiator, HAUL_FLOW_INITIATOR_HI);
	assert_int_equal(value.rtt_us, 0);
	assert_int_equal(value.tcp_flags[0], 0);
	assert_int_equal(value.tcp_flags[1], S);
	WALK({ false, S | A, 70, 0, HAUL_FLOW_SYN_RECV }, { true, A, 21, 5, HAUL_FLOW_ESTABLISHED },
	     { false, F | A, 71, 0, HAUL_FLOW_CLOSING }, { true, F | A, 26, 0, HAUL_FLOW_CLOSED });
	value = flow_lab_only(&lab);
	assert_int_equal(value.payload[0], 10);
	assert_int_equal(value.payload[1], 5);
	assert_int_equal(value.packets[0] + value.packets[1], 10);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_OPENED), 1);
}

/* The end was not seen: a SYN beyond all numbers starts over, an old one changes nothing. */
static void test_flow_state__syn_in_the_midst(void **state)
{
	(void)state;
	WALK({ false, S, 99, 0, HAUL_FLOW_SYN_SENT }, { true, S | A, 499, 0, HAUL_FLOW_SYN_RECV },
	     { false, A, 100, 1000, HAUL_FLOW_ESTABLISHED },
	     { false, S, 99, 0, HAUL_FLOW_ESTABLISHED },
	     { true, S | A, 499, 0, HAUL_FLOW_ESTABLISHED },
	     { false, A, 1100, 10, HAUL_FLOW_ESTABLISHED });
	assert_int_equal(flow_lab_only(&lab).payload[0], 1010);
	WALK({ false, S, 90000, 0, HAUL_FLOW_SYN_SENT }, { true, S | A, 3, 0, HAUL_FLOW_SYN_RECV },
	     { false, A, 90001, 5, HAUL_FLOW_ESTABLISHED });
	assert_int_equal(flow_lab_only(&lab).payload[0], 1015);
	assert_int_equal(flow_lab_only(&lab).retransmits, 0);
}

/* A client that gives up and tries again from the same port with another number. */
static void test_flow_state__syn_with_another_number(void **state)
{
	(void)state;
	WALK({ false, S, 1000000, 0, HAUL_FLOW_SYN_SENT },
	     { false, S, 5000, 0, HAUL_FLOW_SYN_SENT }, { true, S | A, 70, 0, HAUL_FLOW_SYN_RECV },
	     { false, A, 5001, 25, HAUL_FLOW_ESTABLISHED });
	assert_int_equal(flow_lab_only(&lab).payload[0], 25);
	assert_int_equal(flow_lab_only(&lab).retransmits, 0);
	assert_int_not_equal(flow_lab_only(&lab).rtt_us, 0);
}

/* A superframe sent again counts as the segments it is. */
static void test_flow_state__retransmits_count_segments(void **state)
{
	(void)state;
	struct packet packet = packet_tcp(4, A, 1, 3000);
	struct packet_frame frame;
	struct flow_gso gso = { .segs = 3, .size = 1000 };
	packet_build(&packet, &frame);
	for (int i = 0; i < 2; i++) {
		flow_lab_run(&lab, FLOW_LAB_INGRESS, &frame, &gso, 1);
		flow_model_count(&model, &packet, &frame, &gso);
	}
	flow_lab_compare(&lab, &model);
	assert_int_equal(flow_lab_only(&lab).retransmits, 3);
}

/* UDP and its like: new, and replied as soon as the other end speaks, for good. */
static void test_flow_state__replied(void **state)
{
	(void)state;
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_ICMP, IPPROTO_GRE };
	for (uint32_t i = 0; i < sizeof protos; i++) {
		struct packet packet = packet_udp(4, 40), reply;
		struct haul_flow_key key;
		struct haul_flow_value value;
		int dir;
		packet.proto = protos[i];
		packet.icmp_type = 8;
		flow_model_key(&packet, &key, &dir);
		reply = packet_reply(&packet);
		reply.icmp_type = 0;
		flow_lab_send(&lab, &model, &packet);
		flow_lab_send(&lab, &model, &packet);
		assert_true(flow_lab_get(&lab, &key, &value));
		assert_int_equal(value.state, HAUL_FLOW_NEW);
		flow_lab_send(&lab, &model, &reply);
		flow_lab_send(&lab, &model, &packet);
		assert_true(flow_lab_get(&lab, &key, &value));
		assert_int_equal(value.state, HAUL_FLOW_REPLIED);
		assert_int_equal(value.initiator, HAUL_FLOW_INITIATOR_LO);
		assert_int_equal(value.payload[0], 120);
		assert_int_equal(value.payload[1], 40);
	}
	flow_lab_compare(&lab, &model);
}

/* Times: first never moves; last follows, but not for less than a millisecond. */
static void test_flow_state__last_moves_by_milliseconds(void **state)
{
	(void)state;
	struct packet packet = packet_udp(4, 1);
	struct haul_flow_key key;
	int dir;
	flow_model_key(&packet, &key, &dir);
	flow_lab_send(&lab, NULL, &packet);
	struct haul_flow_value before = flow_lab_only(&lab), value = before;
	assert_int_equal(value.first_ns, value.last_ns);
	/* As if it were later than now. */
	value.last_ns += 3600000000000;
	flow_lab_put(&lab, &key, &value);
	flow_lab_send(&lab, NULL, &packet);
	assert_int_equal(flow_lab_only(&lab).last_ns, value.last_ns);
	/* And 2 ms ago. */
	value.last_ns = before.last_ns - 2000000;
	flow_lab_put(&lab, &key, &value);
	flow_lab_send(&lab, NULL, &packet);
	value = flow_lab_only(&lab);
	assert_true(value.last_ns > before.last_ns);
	assert_int_equal(value.first_ns, before.first_ns);
}

static void random_walk(struct prng *prng)
{
	static const uint8_t flags[] = { S, S | A, A, A, A, P | A, F | A, F | A, R, R | A, 0 };
	uint32_t seq[2] = { (uint32_t)prng_next(prng), (uint32_t)prng_next(prng) };
	for (uint32_t i = 0; i < 60; i++) {
		struct step step = { .server = prng_below(prng, 2),
				     .flags = flags[prng_below(prng, sizeof flags)] };
		uint32_t *next = &seq[step.server];
		step.seq = *next - (prng_below(prng, 4) ? 0 : prng_below(prng, 300));
		step.payload = prng_below(prng, 2) ? prng_below(prng, 500) : 0;
		*next = step.seq + step.payload + !!(step.flags & S) + !!(step.flags & F);
		if (prng_below(prng, 20) == 0)
			*next = (uint32_t)prng_next(prng);
		send_step(&step);
	}
	flow_lab_compare(&lab, &model);
}

/* Hundreds of connections one after the other in one entry, random segments: as in the model. */
static void test_flow_state__random_walks_as_in_the_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < 300; i++)
		random_walk(&prng);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_flow_state__##name, open_lab, close_lab)
	const struct CMUnitTest tests[] = {
		TEST(a_whole_connection),
		TEST(met_in_the_middle),
		TEST(met_at_the_answer),
		TEST(one_direction_only),
		TEST(reset),
		TEST(rtt_only_when_sent_once),
		TEST(rtt_is_the_time_between),
		TEST(simultaneous_open),
		TEST(simultaneous_close),
		TEST(stream_bytes_count_once),
		TEST(wild_numbers_add_little),
		TEST(data_in_the_syn),
		TEST(ports_used_again),
		TEST(syn_in_the_midst),
		TEST(syn_with_another_number),
		TEST(retransmits_count_segments),
		TEST(replied),
		TEST(last_moves_by_milliseconds),
		TEST(random_walks_as_in_the_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
