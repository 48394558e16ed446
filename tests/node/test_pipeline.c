/* node/test_pipeline.c — car, relay and road-side unit in a row: what goes into one TAP comes out
 * of the other unchanged; and a node that is fed rubbish forwards none of it. */
#include <string.h>

#include "base/bytes.h"
#include "lab.h"
#include "lib/testlib.h"

#define CAR   UINT64_C(0x020000000001)
#define RELAY UINT64_C(0x020000000002)
#define RSU   UINT64_C(0x020000000003)

#define MAC_CAR UINT64_C(0x060000000001)
#define MAC_RSU UINT64_C(0x060000000003)
#define ALL     UINT64_C(0xffffffffffff)

enum {
	UP = 5,   /* radio peer towards the RSU */
	DOWN = 6, /* radio peer towards the car */
	MTU = 9300,
	FRAME_MAX = MTU - 32 - 16,
	FRAMES = 200,
	ROUNDS = 40,
	GARBAGE = 200000 /* messages */
};

struct row {
	struct lab car, relay, rsu;
};

static struct row row;

struct sent { /* frames that went into a TAP */
	uint32_t count;
	uint32_t len[FRAMES];
	uint16_t csum_start[FRAMES]; /* 0 = complete */
	uint8_t bytes[FRAMES][FRAME_MAX];
};

static struct sent up, down;

static void publish(struct lab *lab, const struct route *upstream, const struct route *routes,
		    uint32_t route_count)
{
	static const struct client clients[] = { { .mac = MAC_CAR, .owner = CAR },
						 { .mac = MAC_RSU, .owner = RSU } };
	static const uint64_t attached[] = { CAR };
	bool rsu = lab->role == NODE_RSU;
	lab_publish(lab, &(struct snapshot_input){ .upstream = upstream,
						   .routes = routes,
						   .route_count = route_count,
						   .clients = rsu ? clients : NULL,
						   .client_count = rsu ? 2 : 0,
						   .attached = attached,
						   .attached_count = rsu ? 1 : 0 });
}

static void open_row(const struct lab_options *options)
{
	const struct route to_rsu = { .node = RSU, .next = { NODE_RADIO, UP }, .role = NODE_RSU };
	const struct route to_car = { .node = CAR, .next = { NODE_RADIO, DOWN }, .role = NODE_OBU };
	const struct route both[] = { to_rsu, to_car };
	struct lab_options o = *options;
	o.mtu_bytes = MTU;
	o.role = NODE_OBU;
	o.self = CAR;
	lab_open(&row.car, &o);
	o.self = RELAY;
	lab_open(&row.relay, &o);
	o.role = NODE_RSU;
	o.self = RSU;
	lab_open(&row.rsu, &o);
	publish(&row.car, &to_rsu, &to_rsu, 1);
	publish(&row.relay, &to_rsu, both, 2);
	publish(&row.rsu, NULL, &to_car, 1);
}

static void close_row(void)
{
	lab_close(&row.car);
	lab_close(&row.relay);
	lab_close(&row.rsu);
}

/* What from sent to its peer via arrives at to, from that node's peer back. */
static void carry(struct lab *from, uint32_t via, struct lab *to, uint32_t back)
{
	const struct lab_link *radio = from->link[NODE_RADIO];
	for (uint32_t i = 0; i < radio->out_count; i++)
		if (radio->out[i].peer == via)
			lab_receive(to, NODE_RADIO, radio->out[i].data, radio->out[i].len, back);
	lab_run(to);
}

/* Kinds of frames that have to cross as they are. */
static uint32_t make_frame(struct prng *prng, uint8_t *out, uint64_t dst, uint64_t src)
{
	static const uint16_t ethertypes[] = { 0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x0042 };
	uint32_t len = prng_below(prng, 3) == 0 ? 14 + prng_below(prng, FRAME_MAX - 13)
						: 14 + prng_below(prng, 300);
	if (prng_below(prng, 20) == 0)
		len = FRAME_MAX;
	for (uint32_t i = 0; i < len; i++)
		out[i] = (uint8_t)prng_next(prng);
	mac_store(out, prng_below(prng, 10) == 0 ? ALL : dst);
	mac_store(out + 6, src);
	be16_store(out + 12, ethertypes[prng_below(prng, 6)]);
	return len;
}

static void feed(struct prng *prng, struct lab *lab, struct sent *sent, uint64_t dst, uint64_t src)
{
	sent->count = 1 + prng_below(prng, FRAMES);
	for (uint32_t i = 0; i < sent->count; i++) {
		sent->len[i] = make_frame(prng, sent->bytes[i], dst, src);
		sent->csum_start[i] = 0;
		struct lab_frame *in =
			lab_receive(lab, NODE_TAP, sent->bytes[i], sent->len[i], HAUL_PEER_NONE);
		if (sent->len[i] < 60 || prng_below(prng, 3) > 0)
			continue;
		sent->csum_start[i] = in->csum_start = (uint16_t)(14 + prng_below(prng, 40));
		in->csum_offset = (uint16_t)(1 + prng_below(prng, 4));
		in->flags |= HAUL_FRAME_CSUM_PARTIAL;
	}
	lab_run(lab);
}

static void expect_at_tap(const struct lab *lab, const struct sent *sent)
{
	const struct lab_link *tap = lab->link[NODE_TAP];
	assert_int_equal(tap->out_count, sent->count);
	for (uint32_t i = 0; i < sent->count; i++) {
		const struct lab_frame *out = &tap->out[i];
		bool partial = (out->flags & HAUL_FRAME_CSUM_PARTIAL) != 0;
		assert_int_equal(out->len, sent->len[i]);
		assert_memory_equal(out->data, sent->bytes[i], out->len);
		assert_int_equal(partial, sent->csum_start[i] != 0);
		if (partial)
			assert_int_equal(out->csum_start, sent->csum_start[i]);
	}
}

static void run_row(const struct lab_options *options)
{
	struct prng prng;
	test_prng(&prng);
	open_row(options);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		feed(&prng, &row.car, &up, MAC_RSU, MAC_CAR);
		carry(&row.car, UP, &row.relay, DOWN);
		carry(&row.relay, UP, &row.rsu, DOWN);
		expect_at_tap(&row.rsu, &up);
		lab_clear(&row.car);
		lab_clear(&row.relay);
		lab_clear(&row.rsu);

		feed(&prng, &row.rsu, &down, MAC_CAR, MAC_RSU);
		carry(&row.rsu, DOWN, &row.relay, UP);
		carry(&row.relay, DOWN, &row.car, UP);
		expect_at_tap(&row.car, &down);
		lab_clear(&row.car);
		lab_clear(&row.relay);
		lab_clear(&row.rsu);
	}
	assert_int_equal(row.relay.link[NODE_TAP]->out_count, 0);
	assert_true(lab_counter(&row.relay, DATAPATH_RELAYED) > 0);
	close_row();
}

/* VLAN-tagged, jumbo, IPv6, unknown and broadcast frames of all sizes cross two radio hops in both
 * directions unchanged and in order, with the notes on their checksums; in batches and one by
 * one. */
static void test_pipeline__frames_cross_unchanged(void **state)
{
	(void)state;
	run_row(&(struct lab_options){ .policy = HAUL_SIZER_FILL });
	run_row(&(struct lab_options){ .policy = HAUL_SIZER_FILL,
				       .preset = HAUL_PRESET_THROUGHPUT });
	run_row(&(struct lab_options){ .individual = true });
}

/* ---- rubbish ---- */

static uint32_t garbage_bytes(struct prng *prng, uint8_t *out)
{
	uint32_t len = 1 + prng_below(prng, prng_below(prng, 4) == 0 ? 2000 : 80);
	for (uint32_t i = 0; i < len; i++)
		out[i] = (uint8_t)prng_next(prng);
	/* A version and a type that are right let it get further. */
	if (prng_below(prng, 2) == 0)
		out[0] = 1;
	if (len > 5 && prng_below(prng, 2) == 0) {
		out[1] = (uint8_t)(1 + prng_below(prng, 5));
		out[2] = 0;
		be16_store(out + 4, (uint16_t)len);
	}
	return len;
}

/* Random bytes by the hundred thousand, on every port that faces the network: the node neither
 * crashes nor hands a single frame on; everything is counted. */
static void test_pipeline__forwards_no_garbage(void **state)
{
	static uint8_t bytes[2100];
	struct prng prng;
	struct control_event event;
	uint64_t counted = 0;
	(void)state;
	test_prng(&prng);
	open_row(&(struct lab_options){ .policy = HAUL_SIZER_FILL });
	struct lab *nodes[] = { &row.relay, &row.rsu };
	for (uint32_t i = 0; i < GARBAGE; i++) {
		struct lab *lab = nodes[i % 2];
		uint32_t len = garbage_bytes(&prng, bytes);
		lab_receive(lab, i % 7 == 0 ? NODE_BACKHAUL : NODE_RADIO, bytes, len,
			    i % 3 == 0 ? HAUL_PEER_NONE : 1 + i % 9);
		if (i % 256 > 1)
			continue;
		lab_run(lab);
		while (lab_event(lab, &event))
			;
		for (uint32_t port = 0; port < NODE_PORTS; port++)
			assert_int_equal(lab->link[port]->out_count, 0);
		lab_clear(lab);
	}
	for (uint32_t n = 0; n < 2; n++) {
		lab_run(nodes[n]);
		for (uint32_t i = 0; i < HAUL_REJECTS; i++)
			counted += datapath_stats(nodes[n]->datapath)->extra[i];
		for (uint32_t i = DATAPATH_EVENTS; i < DATAPATH_COUNTERS; i++)
			counted += datapath_stats(nodes[n]->datapath)->extra[i];
	}
	assert_true(counted >= GARBAGE);
	close_row();
}

/* Good messages with a few bytes wrong: whatever is still sent is a message that decodes, and the
 * TAP gets nothing shorter than an Ethernet header. */
static void test_pipeline__survives_bit_errors(void **state)
{
	static uint8_t body[600];
	struct prng prng;
	struct control_event event;
	(void)state;
	test_prng(&prng);
	open_row(&(struct lab_options){ .policy = HAUL_SIZER_FILL });
	for (uint32_t i = 0; i < GARBAGE / 2; i++) {
		struct haul_message_header h = { .type = (uint8_t)(3 + prng_below(&prng, 3)),
						 .ttl = 8,
						 .origin = CAR,
						 .destination = RSU,
						 .sequence = i };
		uint32_t len = 60 + prng_below(&prng, 500);
		lab_ethernet(body + 4, len, MAC_RSU, MAC_CAR, i);
		be16_store(body, (uint16_t)len);
		be16_store(body + 2, 0);
		bool aggregate = h.type == HAUL_MESSAGE_AGGREGATE;
		struct lab *lab = i % 2 == 0 ? &row.relay : &row.rsu;
		struct lab_frame *in =
			lab_message(lab, NODE_RADIO, DOWN, &h, aggregate ? body : body + 4,
				    aggregate ? len + 4 : len);
		for (uint32_t n = prng_below(&prng, 4); n > 0; n--)
			in->data[prng_below(&prng, 50)] ^= (uint8_t)(1 << prng_below(&prng, 8));
		if (prng_below(&prng, 8) == 0)
			in->len -= prng_below(&prng, in->len - 1);
		lab_run(lab);
		while (lab_event(lab, &event))
			;
		assert_true(lab_sent(lab, NODE_RADIO)->count <= 2);
		for (uint32_t n = 0; n < lab->link[NODE_TAP]->out_count; n++)
			assert_true(lab->link[NODE_TAP]->out[n].len >= 14);
		lab_clear(lab);
	}
	assert_true(lab_counter(&row.rsu, DATAPATH_DELIVERED) > 0);
	assert_true(lab_counter(&row.relay, DATAPATH_RELAYED) > 0);
	close_row();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pipeline__frames_cross_unchanged),
		cmocka_unit_test(test_pipeline__forwards_no_garbage),
		cmocka_unit_test(test_pipeline__survives_bit_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
