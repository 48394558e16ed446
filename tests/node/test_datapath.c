#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lab.h"
#include "lib/testlib.h"
#include "link/checksum.h"

#define RSU   UINT64_C(0x020000000001)
#define OBU   UINT64_C(0x020000000002)
#define OTHER UINT64_C(0x020000000003)
#define HOST  UINT64_C(0x0200000000e1)
#define CAR   UINT64_C(0x0200000000e2)

enum { UP_PEER = 5, DOWN_PEER = 6, FRAME = 600 };

static struct lab lab;
static uint8_t frame[70000];

/* An OBU with an RSU above it (peer 5) and another OBU below (peer 6). */
static void publish_obu(void)
{
	struct route upstream = { .node = RSU, .next = { NODE_RADIO, UP_PEER }, .role = NODE_RSU };
	struct route routes[] = {
		upstream,
		{ .node = OBU, .next = { NODE_RADIO, DOWN_PEER }, .role = NODE_OBU },
	};
	lab_publish(&lab, &(struct snapshot_input){
				  .upstream = &upstream,
				  .routes = routes,
				  .route_count = 2,
			  });
}

static int open_obu(void **state)
{
	(void)state;
	lab_open(&lab, &(struct lab_options){ .role = NODE_OBU, .policy = HAUL_SIZER_FILL });
	publish_obu();
	return 0;
}

static int open_alone(void **state)
{
	(void)state;
	lab_open(&lab, &(struct lab_options){ .role = NODE_OBU });
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	lab_close(&lab);
	return 0;
}

static struct haul_message_header header(uint8_t type, uint64_t origin, uint64_t destination,
					 uint64_t sequence)
{
	return (struct haul_message_header){ .type = type,
					     .ttl = 8,
					     .origin = origin,
					     .destination = destination,
					     .sequence = sequence };
}

static struct lab_frame *receive_down(uint64_t destination, uint64_t sequence)
{
	struct haul_message_header h = header(HAUL_MESSAGE_DATA_DOWN, RSU, destination, sequence);
	lab_ethernet(frame, FRAME, CAR, HOST, (uint32_t)sequence);
	return lab_message(&lab, NODE_RADIO, UP_PEER, &h, frame, FRAME);
}

/* What the TAP reads goes to the chosen RSU, by the peer that leads to it. */
static void test_datapath__obu_sends_up(void **state)
{
	(void)state;
	lab_ethernet(frame, FRAME, HOST, CAR, 1);
	struct lab_frame *in = lab_receive(&lab, NODE_TAP, frame, FRAME, HAUL_PEER_NONE);
	in->flags |= HAUL_FRAME_CSUM_PARTIAL;
	in->csum_start = 34;
	in->csum_offset = 6;
	assert_int_equal(lab_run(&lab), 1);
	const struct haul_messages *m = lab_sent(&lab, NODE_RADIO);
	assert_int_equal(m->count, 1);
	assert_int_equal(m->type[0], HAUL_MESSAGE_DATA_UP);
	assert_int_equal(m->origin[0], LAB_SELF);
	assert_int_equal(m->destination[0], RSU);
	assert_int_equal(m->csum_start[0], 34);
	assert_int_equal(m->csum_offset[0], 6);
	assert_int_equal(m->body_len[0], FRAME);
	assert_memory_equal(m->body[0], frame, FRAME);
	assert_int_equal(lab.link[NODE_RADIO]->out[0].peer, UP_PEER);
	assert_ptr_equal(lab.link[NODE_RADIO]->out[0].sent_data, in->data - 32);
	assert_int_equal(lab_counter(&lab, DATAPATH_SENT), 1);
}

/* Data down for us ends at the TAP, with its note on the checksum, from where it was received. */
static void test_datapath__obu_delivers_down(void **state)
{
	struct haul_message_header h = header(HAUL_MESSAGE_DATA_DOWN, RSU, LAB_SELF, 1);
	(void)state;
	h.csum_start = 54;
	h.csum_offset = 16;
	lab_ethernet(frame, FRAME, CAR, HOST, 1);
	struct lab_frame *in = lab_message(&lab, NODE_RADIO, UP_PEER, &h, frame, FRAME);
	assert_int_equal(lab_run(&lab), 1);
	const struct lab_link *tap = lab.link[NODE_TAP];
	assert_int_equal(tap->out_count, 1);
	assert_int_equal(tap->out[0].len, FRAME);
	assert_memory_equal(tap->out[0].data, frame, FRAME);
	assert_ptr_equal(tap->out[0].sent_data, in->data + 32);
	assert_int_equal(tap->out[0].flags, HAUL_FRAME_CSUM_PARTIAL);
	assert_int_equal(tap->out[0].csum_start, 54);
	assert_int_equal(tap->out[0].csum_offset, 16);
	assert_int_equal(lab_counter(&lab, DATAPATH_DELIVERED), 1);
}

/* An aggregate for us is taken apart where it lies. */
static void test_datapath__splits_aggregates(void **state)
{
	struct haul_message_header h = header(HAUL_MESSAGE_AGGREGATE, RSU, LAB_SELF, 1);
	uint8_t body[1000];
	uint32_t len = 0;
	(void)state;
	h.flags = HAUL_MESSAGE_DOWN;
	for (uint32_t i = 0; i < 5; i++) {
		be16_store(body + len, (uint16_t)(60 + i));
		be16_store(body + len + 2, 0);
		lab_ethernet(body + len + 4, 60 + i, CAR, HOST, i);
		len += 4 + 60 + i;
	}
	struct lab_frame *in = lab_message(&lab, NODE_RADIO, UP_PEER, &h, body, len);
	assert_int_equal(lab_run(&lab), 1);
	const struct lab_link *tap = lab.link[NODE_TAP];
	assert_int_equal(tap->out_count, 5);
	assert_int_equal(tap->tx_calls, 1);
	assert_ptr_equal(tap->out[0].sent_data, in->data + 32 + 4);
	for (uint32_t i = 0; i < 5; i++) {
		lab_ethernet(frame, 60 + i, CAR, HOST, i);
		assert_int_equal(tap->out[i].len, 60 + i);
		assert_memory_equal(tap->out[i].data, frame, 60 + i);
	}
}

/* A message for another node is sent from the memory it was received in, its TTL one less and not a
 * byte else changed. */
static void test_datapath__relays_without_a_copy(void **state)
{
	(void)state;
	struct lab_frame *in = receive_down(OBU, 1);
	struct lab_frame before = *in;
	uint8_t was[FRAME + 32];
	memcpy(was, in->data, in->len);
	assert_int_equal(lab_run(&lab), 1);
	const struct lab_frame *out = &lab.link[NODE_RADIO]->out[0];
	assert_int_equal(lab.link[NODE_RADIO]->out_count, 1);
	assert_ptr_equal(out->sent_data, before.data);
	assert_null(out->sent_tail);
	assert_int_equal(out->peer, DOWN_PEER);
	assert_int_equal(out->len, FRAME + 32);
	assert_int_equal(out->data[3], was[3] - 1);
	was[3]--;
	assert_memory_equal(out->data, was, out->len);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 0);
	assert_int_equal(lab_counter(&lab, DATAPATH_RELAYED), 1);
}

/* Each reason not to pass a message on has its counter, and nothing is sent. */
static void test_datapath__counts_what_it_does_not_relay(void **state)
{
	struct haul_message_header h = header(HAUL_MESSAGE_DATA_DOWN, RSU, OBU, 1);
	(void)state;
	lab_ethernet(frame, FRAME, CAR, HOST, 1);
	h.ttl = 1;
	lab_message(&lab, NODE_RADIO, UP_PEER, &h, frame, FRAME);
	h = header(HAUL_MESSAGE_DATA_DOWN, RSU, OTHER, 2);
	lab_message(&lab, NODE_RADIO, UP_PEER, &h, frame, FRAME);
	h = header(HAUL_MESSAGE_DATA_DOWN, RSU, HAUL_NODE_BROADCAST, 3);
	lab_message(&lab, NODE_RADIO, UP_PEER, &h, frame, FRAME);
	h = header(HAUL_MESSAGE_DATA_DOWN, RSU, OBU, 4);
	lab_message(&lab, NODE_RADIO, DOWN_PEER, &h, frame, FRAME);
	h = header(HAUL_MESSAGE_DATA_UP, LAB_SELF, RSU, 5);
	lab_message(&lab, NODE_RADIO, DOWN_PEER, &h, frame, FRAME);
	h = header(HAUL_MESSAGE_DATA_UP, OBU, LAB_SELF, 6);
	lab_message(&lab, NODE_RADIO, DOWN_PEER, &h, frame, FRAME);
	assert_int_equal(lab_run(&lab), 6);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_TTL), 1);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_NO_ROUTE), 2);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_LOOP), 2);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_DIRECTION), 1);
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		assert_int_equal(lab.link[port]->out_count, 0);
}

/* Data has a TTL and a sequence number: a message that comes twice goes on once (defect 13). */
static void test_datapath__drops_repeats(void **state)
{
	(void)state;
	receive_down(LAB_SELF, 7);
	receive_down(LAB_SELF, 7);
	lab_run(&lab);
	receive_down(LAB_SELF, 7);
	receive_down(LAB_SELF, 6);
	lab_run(&lab);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 2);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_DUPLICATE), 2);
}

/* A control message's sequence number says nothing about data: the two are numbered apart. */
static void test_datapath__control_does_not_age_data(void **state)
{
	struct haul_message_header h =
		header(HAUL_MESSAGE_HEARTBEAT, RSU, HAUL_NODE_BROADCAST, UINT64_C(1) << 63);
	uint8_t body[16] = { 0 };
	(void)state;
	lab_message(&lab, NODE_RADIO, UP_PEER, &h, body, sizeof body);
	receive_down(LAB_SELF, 7);
	lab_run(&lab);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 1);
	assert_int_equal(lab_counter(&lab, DATAPATH_EVENTS), 1);
}

/* Malformed messages are counted by reason, teach no peer, and go nowhere. */
static void test_datapath__counts_rejects_by_reason(void **state)
{
	struct haul_message_header h = header(HAUL_MESSAGE_HEARTBEAT, RSU, HAUL_NODE_BROADCAST, 1);
	static const struct {
		uint32_t len, at;
		uint8_t value;
		enum haul_reject reject;
	} cases[] = {
		{ 47, 0, 1, HAUL_REJECT_SHORT },    { 3, 0, 1, HAUL_REJECT_SHORT },
		{ 49, 0, 1, HAUL_REJECT_LONG },     { 48, 0, 9, HAUL_REJECT_VERSION },
		{ 48, 1, 77, HAUL_REJECT_TYPE },    { 48, 3, 0, HAUL_REJECT_TTL },
		{ 48, 37, 1, HAUL_REJECT_CORRUPT },
	};
	enum { CASES = sizeof cases / sizeof cases[0] };
	(void)state;
	for (uint32_t i = 0; i < CASES; i++) {
		uint8_t bytes[64] = { 0 };
		haul_message_put(bytes, &h, 48);
		bytes[cases[i].at] = cases[i].value;
		struct lab_frame *in =
			lab_receive(&lab, NODE_RADIO, bytes, cases[i].len, HAUL_PEER_NONE);
		struct haul_addr from = in->from;
		uint64_t before = lab_reject(&lab, cases[i].reject);
		assert_int_equal(lab_run(&lab), 1);
		assert_int_equal(lab_reject(&lab, cases[i].reject), before + 1);
		assert_int_equal(haul_link_peer_find(&lab.link[NODE_RADIO]->link, &from), -ENOENT);
	}
	assert_int_equal(lab_counter(&lab, DATAPATH_EVENTS), 0);
}

/* A heartbeat and a reply reach control as they were sent, and make their sender a peer. */
static void test_datapath__hands_control_its_messages(void **state)
{
	struct haul_message_header h = header(HAUL_MESSAGE_HEARTBEAT, RSU, HAUL_NODE_BROADCAST, 9);
	struct haul_heartbeat heartbeat = { .id = 77, .hops = 2, .period_ms = 200, .time_ns = 5 };
	struct haul_heartbeat_reply reply = { .heartbeat = heartbeat, .hold_us = 3, .client = CAR };
	struct control_event event;
	uint8_t bytes[64];
	(void)state;
	uint32_t len = haul_heartbeats_encode(&h, &heartbeat, 1, bytes, sizeof bytes);
	struct haul_addr from = lab_receive(&lab, NODE_RADIO, bytes, len, HAUL_PEER_NONE)->from;
	h = header(HAUL_MESSAGE_REPLY, OBU, RSU, 10);
	len = haul_replies_encode(&h, &reply, 1, bytes, sizeof bytes);
	lab_receive(&lab, NODE_RADIO, bytes, len, DOWN_PEER);
	lab_run(&lab);

	int peer = haul_link_peer_find(&lab.link[NODE_RADIO]->link, &from);
	assert_true(peer > 0);
	assert_true(lab_event(&lab, &event));
	assert_int_equal(event.kind, CONTROL_HEARTBEAT);
	assert_int_equal(event.from.port, NODE_RADIO);
	assert_int_equal(event.from.peer, peer);
	assert_int_equal(event.now_ns, lab.os.now_ns);
	assert_int_equal(event.header.origin, RSU);
	assert_int_equal(event.header.sequence, 9);
	assert_int_equal(event.header.ttl, 8);
	assert_int_equal(event.reply.heartbeat.id, 77);
	assert_int_equal(event.reply.heartbeat.hops, 2);
	assert_int_equal(event.reply.heartbeat.period_ms, 200);
	assert_true(lab_event(&lab, &event));
	assert_int_equal(event.kind, CONTROL_REPLY);
	assert_int_equal(event.from.peer, DOWN_PEER);
	assert_int_equal(event.reply.client, CAR);
	assert_int_equal(event.reply.hold_us, 3);
	assert_false(lab_event(&lab, &event));
	uint64_t signals;
	assert_int_equal(read(lab.mailbox.event_fd, &signals, sizeof signals), sizeof signals);
}

/* Data from an address that is no peer is taken when it is for us or for a known node; it makes no
 * peer of its sender. */
static void test_datapath__takes_data_from_strangers_on_the_radio(void **state)
{
	(void)state;
	receive_down(LAB_SELF, 1)->peer = HAUL_PEER_NONE;
	struct lab_frame *in = receive_down(OBU, 2);
	struct haul_addr from = in->from;
	in->peer = HAUL_PEER_NONE;
	lab_run(&lab);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 1);
	assert_int_equal(lab.link[NODE_RADIO]->out_count, 1);
	assert_int_equal(haul_link_peer_find(&lab.link[NODE_RADIO]->link, &from), -ENOENT);
}

/* On the backhaul only configured peers are heard. */
static void test_datapath__refuses_strangers_on_the_backhaul(void **state)
{
	struct haul_message_header h = header(HAUL_MESSAGE_DATA_DOWN, RSU, LAB_SELF, 1);
	struct control_event event;
	uint8_t body[16] = { 0 };
	(void)state;
	lab_ethernet(frame, FRAME, CAR, HOST, 1);
	lab_message(&lab, NODE_BACKHAUL, HAUL_PEER_NONE, &h, frame, FRAME);
	h.type = HAUL_MESSAGE_HEARTBEAT;
	lab_message(&lab, NODE_BACKHAUL, HAUL_PEER_NONE, &h, body, sizeof body);
	lab_run(&lab);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_STRANGER), 2);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 0);
	assert_false(lab_event(&lab, &event));
	/* Nor did the refused data mark its number as seen. */
	h.type = HAUL_MESSAGE_DATA_DOWN;
	lab_message(&lab, NODE_BACKHAUL, 1, &h, frame, FRAME);
	lab_run(&lab);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 1);
}

/* What control sends leaves before the data of the same turn; a removed peer is gone. */
static void test_datapath__commands_go_first(void **state)
{
	struct haul_link *radio = &lab.link[NODE_RADIO]->link;
	struct haul_addr addr = { .kind = HAUL_ADDR_MAC, .bytes = { 2, 1 } };
	(void)state;
	int peer = haul_link_peer_add(radio, &addr);
	assert_true(peer > 0);
	struct command commands[] = {
		{ .kind = COMMAND_SEND,
		  .tx = { .to = { NODE_RADIO, 0 }, .len = 3, .bytes = "one" } },
		{ .kind = COMMAND_SEND,
		  .tx = { .to = { NODE_BACKHAUL, 1 }, .len = 3, .bytes = "two" } },
		{ .kind = COMMAND_PEER_REMOVE, .tx = { .to = { NODE_RADIO, (uint32_t)peer } } },
	};
	lab_ethernet(frame, FRAME, HOST, CAR, 1);
	lab_receive(&lab, NODE_TAP, frame, FRAME, HAUL_PEER_NONE);
	assert_int_equal(ring_push(&lab.mailbox.commands, commands, 3), 3);
	mailbox_wake(lab.mailbox.command_fd);
	lab_run(&lab);
	const struct lab_link *out = lab.link[NODE_RADIO];
	assert_int_equal(out->out_count, 2);
	assert_memory_equal(out->out[0].data, "one", 3);
	assert_int_equal(out->out[0].peer, 0);
	assert_int_equal(out->out[1].len, FRAME + 32);
	assert_memory_equal(lab.link[NODE_BACKHAUL]->out[0].data, "two", 3);
	assert_int_equal(haul_link_peer_find(radio, &addr), -ENOENT);
	assert_int_equal(lab_counter(&lab, DATAPATH_COMMANDS), 2);
}

/* Without a snapshot, and without an upstream, frames are counted drops. */
static void test_datapath__counts_frames_without_a_way(void **state)
{
	(void)state;
	lab_ethernet(frame, FRAME, HOST, CAR, 1);
	lab_receive(&lab, NODE_TAP, frame, FRAME, HAUL_PEER_NONE);
	receive_down(LAB_SELF, 1);
	lab_run(&lab);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_NO_ROUTE), 2);
	lab_publish(&lab, &(struct snapshot_input){ 0 });
	lab_receive(&lab, NODE_TAP, frame, FRAME, HAUL_PEER_NONE);
	lab_run(&lab);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_NO_ROUTE), 3);
	assert_int_equal(lab.link[NODE_RADIO]->out_count, 0);
}

/* A full kernel queue and an unreachable peer are told apart; control hears of the second only. */
static void test_datapath__counts_what_the_kernel_refuses(void **state)
{
	static const struct {
		int32_t code;
		enum datapath_counter counter;
		bool told;
	} cases[] = {
		{ -EAGAIN, DATAPATH_DROP_QUEUE, false },
		{ -ENOBUFS, DATAPATH_DROP_QUEUE, false },
		{ -EMSGSIZE, DATAPATH_DROP_SEND, false },
		{ -ENETUNREACH, DATAPATH_DROP_SEND, true },
	};
	struct control_event event;
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		uint64_t before = lab_counter(&lab, cases[i].counter);
		lab_ethernet(frame, FRAME, HOST, CAR, 1);
		for (uint32_t n = 0; n < 5; n++)
			lab_receive(&lab, NODE_TAP, frame, FRAME, HAUL_PEER_NONE);
		lab.link[NODE_RADIO]->refuse = 3;
		lab.link[NODE_RADIO]->refuse_code = cases[i].code;
		lab_run(&lab);
		assert_int_equal(lab_counter(&lab, cases[i].counter), before + 3);
		assert_int_equal(lab_event(&lab, &event), cases[i].told);
		if (cases[i].told) {
			assert_int_equal(event.kind, CONTROL_SEND_FAILED);
			assert_int_equal(event.from.port, NODE_RADIO);
			assert_int_equal(event.from.peer, UP_PEER);
		}
		assert_false(lab_event(&lab, &event));
	}
	assert_int_equal(lab.link[NODE_RADIO]->out_count, 4 * 2);
}

/* Events that control does not take in time are counted, and data goes on. */
static void test_datapath__counts_lost_events(void **state)
{
	struct haul_message_header h = header(HAUL_MESSAGE_HEARTBEAT, RSU, HAUL_NODE_BROADCAST, 9);
	uint8_t body[16] = { 0 };
	(void)state;
	for (uint32_t i = 0; i < MAILBOX_EVENTS + 10; i++)
		lab_message(&lab, NODE_RADIO, UP_PEER, &h, body, sizeof body);
	receive_down(LAB_SELF, 1);
	lab_run(&lab);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_EVENT), 10);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 1);
}

/* A frame without an Ethernet header is left out, and its neighbours go in order. */
static void test_datapath__leaves_runts_out(void **state)
{
	static const uint32_t len[] = { 13, 600, 1, 601, 602, 5 };
	(void)state;
	for (uint32_t i = 0; i < 6; i++) {
		lab_ethernet(frame, len[i] < 14 ? 14 : len[i], HOST, CAR, i);
		lab_receive(&lab, NODE_TAP, frame, len[i], HAUL_PEER_NONE);
	}
	lab_run(&lab);
	const struct haul_messages *m = lab_sent(&lab, NODE_RADIO);
	assert_int_equal(m->count, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(m->body_len[i], 600 + i);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_RUNT), 3);
}

/* A checksum that starts where a message cannot say so is finished before the frame leaves. */
static void test_datapath__completes_far_checksums(void **state)
{
	enum { START = 300, OFFSET = 16 };
	(void)state;
	lab_ethernet(frame, 901, HOST, CAR, 1);
	struct lab_frame *in = lab_receive(&lab, NODE_TAP, frame, 901, HAUL_PEER_NONE);
	in->flags |= HAUL_FRAME_CSUM_PARTIAL;
	in->csum_start = START;
	in->csum_offset = OFFSET;
	lab_run(&lab);
	const struct haul_messages *m = lab_sent(&lab, NODE_RADIO);
	assert_int_equal(m->csum_offset[0], 0);
	/* The field held a sum of what is not in the frame: it and all that is summed make zero. */
	uint64_t sum = checksum_add(m->body[0] + START, 901 - START, 0);
	uint16_t before = checksum_load(frame + START + OFFSET);
	assert_true(checksum_equal(checksum_fold(sum + before), 0));
	assert_memory_equal(m->body[0], frame, START + OFFSET);
}

/* The sizer bounds a turn; what it leaves is taken by the next ones, without a signal. */
static void test_datapath__bounds_the_work_of_a_turn(void **state)
{
	(void)state;
	lab_ethernet(frame, 60, HOST, CAR, 1);
	for (uint32_t i = 0; i < 1000; i++)
		lab_receive(&lab, NODE_TAP, frame, 60, HAUL_PEER_NONE);
	uint32_t total = 0, most = 0, turns = 0;
	int count;
	while ((count = datapath_turn(lab.datapath, 0)) > 0) {
		total += (uint32_t)count;
		most = (uint32_t)count > most ? (uint32_t)count : most;
		turns++;
	}
	assert_int_equal(total, 1000);
	assert_int_equal(datapath_stats(lab.datapath)->ops, 1000);
	assert_true(most > 8 && most <= DATAPATH_TURN_FRAMES_MAX);
	assert_true(turns >= 1000 / DATAPATH_TURN_FRAMES_MAX);
	assert_true(datapath_stats(lab.datapath)->syscalls < turns);
}

/* One frame a turn, one message a frame. */
static void test_datapath__individual_mode_takes_one(void **state)
{
	(void)state;
	lab_open(&lab, &(struct lab_options){ .role = NODE_OBU, .individual = true });
	publish_obu();
	lab_ethernet(frame, 60, HOST, CAR, 1);
	for (uint32_t i = 0; i < 10; i++)
		lab_receive(&lab, NODE_TAP, frame, 60, HAUL_PEER_NONE);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(datapath_turn(lab.datapath, 0), 1);
	assert_int_equal(datapath_turn(lab.datapath, 0), 0);
	assert_int_equal(lab.link[NODE_RADIO]->tx_calls, 10);
	assert_int_equal(lab_sent(&lab, NODE_RADIO)->count, 10);
	lab_close(&lab);
}

/* A link that breaks ends the run, and control learns the code. */
static void test_datapath__ends_when_a_link_breaks(void **state)
{
	(void)state;
	receive_down(LAB_SELF, 1);
	lab.link[NODE_RADIO]->rx_code = -ENODEV;
	assert_int_equal(datapath_run(lab.datapath), -ENODEV);
	assert_int_equal(atomic_load(&lab.mailbox.failed), -ENODEV);
}

/* Told to stop, it ends after the turn in hand. */
static void test_datapath__stops_when_told(void **state)
{
	(void)state;
	receive_down(LAB_SELF, 1);
	atomic_store(&lab.mailbox.stop, true);
	assert_int_equal(datapath_run(lab.datapath), 0);
	assert_int_equal(atomic_load(&lab.mailbox.failed), 0);
}

int main(void)
{
#define OBU_TEST(name) cmocka_unit_test_setup_teardown(name, open_obu, close_lab)
	const struct CMUnitTest tests[] = {
		OBU_TEST(test_datapath__obu_sends_up),
		OBU_TEST(test_datapath__obu_delivers_down),
		OBU_TEST(test_datapath__splits_aggregates),
		OBU_TEST(test_datapath__relays_without_a_copy),
		OBU_TEST(test_datapath__counts_what_it_does_not_relay),
		OBU_TEST(test_datapath__drops_repeats),
		OBU_TEST(test_datapath__control_does_not_age_data),
		OBU_TEST(test_datapath__counts_rejects_by_reason),
		OBU_TEST(test_datapath__hands_control_its_messages),
		OBU_TEST(test_datapath__takes_data_from_strangers_on_the_radio),
		OBU_TEST(test_datapath__refuses_strangers_on_the_backhaul),
		OBU_TEST(test_datapath__commands_go_first),
		cmocka_unit_test_setup_teardown(test_datapath__counts_frames_without_a_way,
						open_alone, close_lab),
		OBU_TEST(test_datapath__counts_what_the_kernel_refuses),
		OBU_TEST(test_datapath__counts_lost_events),
		OBU_TEST(test_datapath__leaves_runts_out),
		OBU_TEST(test_datapath__completes_far_checksums),
		OBU_TEST(test_datapath__bounds_the_work_of_a_turn),
		cmocka_unit_test(test_datapath__individual_mode_takes_one),
		OBU_TEST(test_datapath__ends_when_a_link_breaks),
		OBU_TEST(test_datapath__stops_when_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
