/* node/test_switch.c — an RSU's switch: who gets a frame, and who must not. */
#include <string.h>

#include "base/bytes.h"
#include "lab.h"
#include "lib/testlib.h"
#include "node/switch.h"
#include "wire/format.h"

/* Two OBUs below (A direct, B behind A's radio peer), one RSU over the backhaul with an OBU of its
 * own, and a client MAC behind each and behind our TAP. */
#define OBU_A   UINT64_C(0x02000000000a)
#define OBU_B   UINT64_C(0x02000000000b)
#define RSU_2   UINT64_C(0x0200000000c2)
#define RSU_3   UINT64_C(0x0200000000c3)
#define OBU_FAR UINT64_C(0x02000000000f)
#define OBU_OUT UINT64_C(0x020000000099) /* owns a client, but there is no route to it */

#define MAC_US  UINT64_C(0x060000000000)
#define MAC_A   UINT64_C(0x06000000000a)
#define MAC_B   UINT64_C(0x06000000000b)
#define MAC_R2  UINT64_C(0x0600000000c2)
#define MAC_FAR UINT64_C(0x06000000000f)
#define MAC_OUT UINT64_C(0x060000000099)
#define MAC_NEW UINT64_C(0x060000001234)
#define GROUP   UINT64_C(0x01005e000001)
#define ALL     UINT64_C(0xffffffffffff)

enum { PEER_A = 3, PEER_2 = 1, PEER_3 = 2, FRAME = 600 };

static struct lab lab;
static uint8_t frame[9300];

static int open_rsu(void **state)
{
	const struct route routes[] = {
		{ .node = OBU_A, .next = { NODE_RADIO, PEER_A }, .role = NODE_OBU },
		{ .node = OBU_B, .next = { NODE_RADIO, PEER_A }, .role = NODE_OBU },
		{ .node = RSU_2, .next = { NODE_BACKHAUL, PEER_2 }, .role = NODE_RSU },
		{ .node = RSU_3, .next = { NODE_BACKHAUL, PEER_3 }, .role = NODE_RSU },
		{ .node = OBU_FAR, .next = { NODE_BACKHAUL, PEER_2 }, .role = NODE_OBU },
	};
	const struct client clients[] = {
		{ .mac = MAC_US, .owner = LAB_SELF }, { .mac = MAC_A, .owner = OBU_A },
		{ .mac = MAC_B, .owner = OBU_B },     { .mac = MAC_R2, .owner = RSU_2 },
		{ .mac = MAC_FAR, .owner = OBU_FAR }, { .mac = MAC_OUT, .owner = OBU_OUT },
	};
	const uint64_t attached[] = { OBU_A, OBU_B };
	(void)state;
	lab_open(&lab, &(struct lab_options){ .role = NODE_RSU, .policy = HAUL_SIZER_FILL });
	lab_publish(&lab, &(struct snapshot_input){ .routes = routes,
						    .route_count = 5,
						    .clients = clients,
						    .client_count = 6,
						    .attached = attached,
						    .attached_count = 2 });
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	lab_close(&lab);
	return 0;
}

static uint64_t sequence;

static struct lab_frame *from_node(uint64_t origin, uint64_t dst, uint64_t src)
{
	uint32_t port = origin == OBU_A || origin == OBU_B ? NODE_RADIO : NODE_BACKHAUL;
	uint32_t peer = port == NODE_RADIO ? PEER_A : origin == RSU_3 ? PEER_3 : PEER_2;
	struct haul_message_header h = { .type = HAUL_MESSAGE_DATA_UP,
					 .ttl = 8,
					 .origin = origin,
					 .destination = LAB_SELF,
					 .sequence = ++sequence };
	lab_ethernet(frame, FRAME, dst, src, (uint32_t)sequence);
	return lab_message(&lab, port, peer, &h, frame, FRAME);
}

static struct lab_frame *from_tap(uint64_t dst, uint64_t src)
{
	lab_ethernet(frame, FRAME, dst, src, 77);
	return lab_receive(&lab, NODE_TAP, frame, FRAME, HAUL_PEER_NONE);
}

/* What left, as a text: "tap" and "a b 2 3 far" for messages to those nodes, in order. */
static const char *left(void)
{
	static const struct {
		uint64_t node;
		const char *name;
	} names[] = { { OBU_A, "a " },
		      { OBU_B, "b " },
		      { RSU_2, "2 " },
		      { RSU_3, "3 " },
		      { OBU_FAR, "far " } };
	static char text[256];
	text[0] = '\0';
	for (uint32_t i = 0; i < lab.link[NODE_TAP]->out_count; i++)
		strncat(text, "tap ", sizeof text - strlen(text) - 1);
	for (uint32_t port = NODE_RADIO; port < NODE_PORTS; port++) {
		const struct haul_messages *m = lab_sent(&lab, port);
		for (uint32_t i = 0; i < m->count; i++)
			for (uint32_t n = 0; n < 5; n++)
				if (m->destination[i] == names[n].node)
					strncat(text, names[n].name,
						sizeof text - strlen(text) - 1);
	}
	lab_clear(&lab);
	return text;
}

/* The table: where a frame comes from and goes to, and who gets it. */
static void test_switch__who_gets_it(void **state)
{
	static const struct {
		uint64_t origin; /* 0 = our TAP */
		uint64_t src, dst;
		const char *left;
	} cases[] = {
		{ 0, MAC_US, MAC_A, "a " },
		{ 0, MAC_US, MAC_B, "b " },
		{ 0, MAC_US, MAC_R2, "2 " },
		{ 0, MAC_US, MAC_FAR, "far " },
		{ 0, MAC_US, ALL, "a b 2 3 " },
		{ 0, MAC_US, GROUP, "a b 2 3 " },
		{ 0, MAC_US, MAC_NEW, "a b 2 3 " },
		{ 0, MAC_US, MAC_US, "" },
		{ 0, MAC_US, MAC_OUT, "" },
		{ OBU_A, MAC_A, MAC_US, "tap " },
		{ OBU_A, MAC_A, MAC_B, "b " },
		{ OBU_A, MAC_A, MAC_A, "" },
		{ OBU_A, MAC_A, MAC_R2, "2 " },
		{ OBU_A, MAC_A, MAC_FAR, "far " },
		{ OBU_A, MAC_A, ALL, "tap b 2 3 " },
		{ OBU_A, MAC_A, MAC_NEW, "tap b 2 3 " },
		{ OBU_B, MAC_B, ALL, "tap a 2 3 " },
		/* split horizon: from the backhaul never to the backhaul */
		{ RSU_2, MAC_R2, MAC_US, "tap " },
		{ RSU_2, MAC_R2, MAC_A, "a " },
		{ RSU_2, MAC_R2, ALL, "tap a b " },
		{ RSU_2, MAC_R2, MAC_NEW, "tap a b " },
		{ RSU_2, MAC_R2, MAC_FAR, "" },
		{ RSU_3, MAC_NEW, MAC_R2, "" },
		{ RSU_2, MAC_R2, MAC_R2, "" },
	};
	(void)state;
	for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (cases[i].origin == 0)
			from_tap(cases[i].dst, cases[i].src);
		else
			from_node(cases[i].origin, cases[i].dst, cases[i].src);
		lab_run(&lab);
		const char *got = left();
		if (strcmp(got, cases[i].left) != 0)
			fail_msg("case %u: left to \"%s\", want \"%s\"", i, got, cases[i].left);
	}
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_SPLIT), 5);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_NO_ROUTE), 1);
}

/* From one OBU to another, the new header is written over the old one: the frame stays where it was
 * received; direction, origin, destination and TTL are new. */
static void test_switch__encapsulates_anew_in_place(void **state)
{
	(void)state;
	struct lab_frame *in = from_node(OBU_A, MAC_B, MAC_A);
	in->data[WIRE_OFF_TTL] = 2;
	lab_run(&lab);
	const struct haul_messages *m = lab_sent(&lab, NODE_RADIO);
	assert_int_equal(m->count, 1);
	assert_ptr_equal(lab.link[NODE_RADIO]->out[0].sent_data, in->data);
	assert_null(lab.link[NODE_RADIO]->out[0].sent_tail);
	assert_int_equal(m->type[0], HAUL_MESSAGE_DATA_DOWN);
	assert_int_equal(m->origin[0], LAB_SELF);
	assert_int_equal(m->destination[0], OBU_B);
	assert_int_equal(m->ttl[0], 8);
	assert_int_equal(m->body_len[0], FRAME);
	assert_memory_equal(m->body[0], frame, FRAME);
}

/* Towards another RSU data goes up, towards an OBU behind it down; by the peer of the route. */
static void test_switch__direction_and_peer(void **state)
{
	(void)state;
	from_tap(MAC_R2, MAC_US);
	from_tap(MAC_FAR, MAC_US);
	lab_run(&lab);
	const struct haul_messages *m = lab_sent(&lab, NODE_BACKHAUL);
	assert_int_equal(m->count, 2);
	assert_int_equal(m->type[0], HAUL_MESSAGE_DATA_UP);
	assert_int_equal(m->type[1], HAUL_MESSAGE_DATA_DOWN);
	assert_int_equal(lab.link[NODE_BACKHAUL]->out[0].peer, PEER_2);
	assert_int_equal(lab.link[NODE_BACKHAUL]->out[1].peer, PEER_2);
}

/* A flooded frame is the same for all, with its note on the checksum, and stays where it lies. */
static void test_switch__flood_copies_no_payload(void **state)
{
	(void)state;
	struct lab_frame *in = from_tap(ALL, MAC_US);
	const uint8_t *data = in->data;
	in->flags |= HAUL_FRAME_CSUM_PARTIAL;
	in->csum_start = 34;
	in->csum_offset = 6;
	lab_run(&lab);
	for (uint32_t port = NODE_RADIO; port < NODE_PORTS; port++) {
		const struct haul_messages *m = lab_sent(&lab, port);
		assert_int_equal(m->count, 2);
		for (uint32_t i = 0; i < 2; i++) {
			assert_ptr_equal(lab.link[port]->out[i].sent_tail, data);
			assert_memory_equal(m->body[i], frame, FRAME);
			assert_int_equal(m->csum_offset[i], 6);
		}
	}
	assert_int_equal(lab_counter(&lab, DATAPATH_FLOODED), 1);
	assert_int_equal(lab_counter(&lab, DATAPATH_SENT), 4);
}

static uint32_t count_learnt(uint64_t mac, uint64_t owner)
{
	struct control_event event;
	uint32_t count = 0;
	while (lab_event(&lab, &event)) {
		assert_int_equal(event.kind, CONTROL_LEARN);
		assert_true(event.mac == mac);
		assert_true(event.owner == owner);
		count++;
	}
	return count;
}

/* A source MAC that is new, or has moved, is told to control once, and again only after a while. */
static void test_switch__learns_sources(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 50; i++)
		from_node(OBU_A, MAC_US, MAC_NEW);
	lab_run(&lab);
	assert_int_equal(count_learnt(MAC_NEW, OBU_A), 1);
	os_sim_advance(&lab.os, SWITCH_LEARN_NS - 1);
	from_node(OBU_A, MAC_US, MAC_NEW);
	lab_run(&lab);
	assert_int_equal(count_learnt(MAC_NEW, OBU_A), 0);
	os_sim_advance(&lab.os, 1);
	from_node(OBU_A, MAC_US, MAC_NEW);
	lab_run(&lab);
	assert_int_equal(count_learnt(MAC_NEW, OBU_A), 1);
	from_node(OBU_B, MAC_US, MAC_NEW);
	lab_run(&lab);
	assert_int_equal(count_learnt(MAC_NEW, OBU_B), 1);
	from_tap(MAC_A, MAC_B);
	lab_run(&lab);
	assert_int_equal(count_learnt(MAC_B, LAB_SELF), 1);
}

/* A known source teaches nothing but that it is alive; a group address is nobody's source. */
static void test_switch__marks_clients_seen(void **state)
{
	(void)state;
	from_node(OBU_A, MAC_US, MAC_A);
	from_node(OBU_A, MAC_US, GROUP);
	from_node(OBU_A, MAC_US, 0);
	lab_run(&lab);
	assert_int_equal(count_learnt(0, 0), 0);
	assert_int_equal(atomic_load(&snapshot_client(lab.snapshot, MAC_A)->seen), 1);
	assert_int_equal(atomic_load(&snapshot_client(lab.snapshot, MAC_B)->seen), 0);
}

/* Another RSU speaks for the OBUs behind it, but not for those of a third. */
static void test_switch__believes_an_rsu_about_its_obus(void **state)
{
	(void)state;
	from_node(RSU_2, MAC_US, MAC_FAR);
	lab_run(&lab);
	assert_int_equal(count_learnt(0, 0), 0);
	assert_int_equal(atomic_load(&snapshot_client(lab.snapshot, MAC_FAR)->seen), 1);
	from_node(RSU_3, MAC_US, MAC_FAR);
	lab_run(&lab);
	assert_int_equal(count_learnt(MAC_FAR, RSU_3), 1);
	from_node(RSU_2, MAC_US, MAC_A);
	lab_run(&lab);
	assert_int_equal(count_learnt(MAC_A, RSU_2), 1);
}

/* What another RSU sends to our OBUs is passed on unopened, and is all we ever hear of the stations
 * behind it: their MACs are learnt in passing, or every answer to them would be flooded. */
static void test_switch__learns_from_what_it_passes_on(void **state)
{
	struct haul_message_header header = { .type = HAUL_MESSAGE_DATA_DOWN,
					      .ttl = 8,
					      .origin = RSU_2,
					      .destination = OBU_B,
					      .sequence = 1000 };
	(void)state;
	lab_ethernet(frame, FRAME, MAC_B, MAC_NEW, 1);
	lab_message(&lab, NODE_BACKHAUL, PEER_2, &header, frame, FRAME);
	lab_run(&lab);
	assert_string_equal(left(), "b ");
	assert_int_equal(count_learnt(MAC_NEW, RSU_2), 1);
	/* the same in an aggregate, seen by its first frame */
	header.type = HAUL_MESSAGE_AGGREGATE;
	header.flags = HAUL_MESSAGE_DOWN;
	header.sequence++;
	memset(frame, 0, WIRE_ENTRY_BYTES);
	be16_store(frame + WIRE_ENTRY_OFF_LENGTH, 60);
	lab_ethernet(frame + WIRE_ENTRY_BYTES, 60, MAC_B, MAC_NEW + 1, 2);
	lab_message(&lab, NODE_BACKHAUL, PEER_2, &header, frame, WIRE_ENTRY_BYTES + 60);
	lab_run(&lab);
	assert_string_equal(left(), "b ");
	assert_int_equal(count_learnt(MAC_NEW + 1, RSU_2), 1);
	/* a known one is only marked */
	header.type = HAUL_MESSAGE_DATA_DOWN;
	header.flags = 0;
	header.sequence++;
	lab_ethernet(frame, FRAME, MAC_B, MAC_R2, 3);
	lab_message(&lab, NODE_BACKHAUL, PEER_2, &header, frame, FRAME);
	lab_run(&lab);
	assert_int_equal(count_learnt(0, 0), 0);
	assert_int_equal(atomic_load(&snapshot_client(lab.snapshot, MAC_R2)->seen), 1);
}

/* An aggregate is switched frame by frame, and small frames for one node are packed again. */
static void test_switch__switches_what_an_aggregate_holds(void **state)
{
	struct haul_message_header h = { .type = HAUL_MESSAGE_AGGREGATE,
					 .ttl = 8,
					 .origin = OBU_A,
					 .destination = LAB_SELF,
					 .sequence = 5000 };
	static const uint64_t dst[] = { MAC_B, MAC_US, MAC_B, MAC_R2, MAC_B };
	uint8_t body[1000];
	uint32_t len = 0;
	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		be16_store(body + len, 100);
		be16_store(body + len + 2, 0);
		lab_ethernet(body + len + 4, 100, dst[i], MAC_A, i);
		len += 104;
	}
	lab_message(&lab, NODE_RADIO, PEER_A, &h, body, len);
	lab_run(&lab);
	const struct haul_messages *m = lab_sent(&lab, NODE_RADIO);
	assert_int_equal(m->count, 1);
	assert_int_equal(m->type[0], HAUL_MESSAGE_AGGREGATE);
	assert_int_equal(m->flags[0], HAUL_MESSAGE_DOWN);
	assert_int_equal(haul_aggregate_count(m->body[0], m->body_len[0]), 3);
	lab_ethernet(frame, 100, MAC_B, MAC_A, 4);
	assert_memory_equal(m->body[0] + 2 * 104 + 4, frame, 100);
	assert_int_equal(lab_sent(&lab, NODE_BACKHAUL)->count, 1);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 1);
}

/* A runt is dropped, and the burst goes on. */
static void test_switch__drops_runts(void **state)
{
	(void)state;
	from_tap(MAC_A, MAC_US)->len = 13;
	from_tap(MAC_A, MAC_US);
	lab_run(&lab);
	assert_string_equal(left(), "a ");
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_RUNT), 1);
}

/* Floods to many nodes fill the send batch before the turn ends: nothing is lost or reordered. */
static void test_switch__flood_larger_than_a_batch(void **state)
{
	enum { OBUS = 40, FRAMES = 100 };
	static struct route routes[OBUS];
	static uint64_t attached[OBUS];
	(void)state;
	for (uint32_t i = 0; i < OBUS; i++) {
		attached[i] = OBU_A + i;
		routes[i] = (struct route){ .node = OBU_A + i,
					    .next = { NODE_RADIO, i + 1 },
					    .role = NODE_OBU };
	}
	lab_publish(&lab, &(struct snapshot_input){ .routes = routes,
						    .route_count = OBUS,
						    .attached = attached,
						    .attached_count = OBUS });
	for (uint32_t i = 0; i < FRAMES; i++)
		from_tap(ALL, MAC_US)->data[20] = (uint8_t)i;
	lab_run(&lab);
	assert_true(lab_counter(&lab, DATAPATH_FLUSHES) > 0);
	const struct haul_messages *m = lab_sent(&lab, NODE_RADIO);
	uint8_t next[OBUS] = { 0 };
	assert_int_equal(m->count, OBUS * FRAMES);
	for (uint32_t i = 0; i < m->count; i++)
		assert_int_equal(m->body[i][20], next[m->destination[i] - OBU_A]++);
}

int main(void)
{
#define RSU_TEST(name) cmocka_unit_test_setup_teardown(name, open_rsu, close_lab)
	const struct CMUnitTest tests[] = {
		RSU_TEST(test_switch__who_gets_it),
		RSU_TEST(test_switch__encapsulates_anew_in_place),
		RSU_TEST(test_switch__direction_and_peer),
		RSU_TEST(test_switch__flood_copies_no_payload),
		RSU_TEST(test_switch__learns_sources),
		RSU_TEST(test_switch__learns_from_what_it_passes_on),
		RSU_TEST(test_switch__marks_clients_seen),
		RSU_TEST(test_switch__believes_an_rsu_about_its_obus),
		RSU_TEST(test_switch__switches_what_an_aggregate_holds),
		RSU_TEST(test_switch__drops_runts),
		RSU_TEST(test_switch__flood_larger_than_a_batch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
