/* Real traffic: what the table says is what the interface, the sender and a capture say. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpf/flow_group.h"
#include "bpf/packet.h"
#include "lib/testlib.h"

enum {
	STREAM_BYTES = 8000000,
	CONNECTIONS = 200,
	PACKETS_MAX = 12,
	PCAP_ETHERNET = 1,
	WIRE_MTU = 1514,
	ARP_BYTES = 42
};

/* ---- the interface's counters ---- */

struct watch {
	int side;
	bool on_wire; /* compare packets and bytes, not skbs */
	struct haul_flows *flows;
	struct flow_net_counters before;
	uint64_t totals_before[HAUL_FLOW_TOTALS];
	uint64_t seen, counted, seen_bytes, counted_bytes;
};

static void watch_read(struct watch *watch)
{
	uint64_t t[HAUL_FLOW_TOTALS];
	struct flow_net_counters now;

	flow_net_count(&net, watch->side, "veth0", &now);
	assert_int_equal(haul_flows_totals(watch->flows, t), 0);
	for (int i = 0; i < HAUL_FLOW_TOTALS; i++)
		t[i] -= watch->totals_before[i];
	watch->counted = now.rx_packets + now.tx_packets - watch->before.rx_packets -
			 watch->before.tx_packets;
	watch->counted_bytes =
		now.rx_bytes + now.tx_bytes - watch->before.rx_bytes - watch->before.tx_bytes;
	watch->seen = t[HAUL_FLOW_T_SKBS];
	watch->seen_bytes = t[HAUL_FLOW_T_SKB_BYTES];
	if (watch->on_wire) {
		watch->seen = t[HAUL_FLOW_T_PACKETS];
		watch->seen_bytes = t[HAUL_FLOW_T_BYTES];
		/* The kernel may ask whether its neighbour is still there. */
		watch->seen += t[HAUL_FLOW_T_NOT_IP];
		watch->seen_bytes += t[HAUL_FLOW_T_NOT_IP] * ARP_BYTES;
	}
	assert_int_equal(t[HAUL_FLOW_T_MALFORMED], 0);
}

static int watch_agrees(void *arg)
{
	struct watch *watch = arg;
	watch_read(watch);
	return watch->seen == watch->counted && watch->seen_bytes == watch->counted_bytes;
}

static void watch_open(struct watch *watch, int side)
{
	struct flow_net_counters again;

	memset(watch, 0, sizeof *watch);
	watch->side = side;
	watch->flows = flow_net_flows(&net, side, NULL);
	/* A packet between two readings would be in one of them only. */
	do {
		flow_net_count(&net, side, "veth0", &watch->before);
		assert_int_equal(haul_flows_totals(watch->flows, watch->totals_before), 0);
		flow_net_count(&net, side, "veth0", &again);
	} while (memcmp(&again, &watch->before, sizeof again) != 0);
}

static struct haul_flow_key tcp_key(bool v6, uint16_t port0, uint16_t port1)
{
	struct haul_flow_key key = flow_net_key(IPPROTO_TCP, port0, port1);
	if (v6) {
		assert_int_equal(inet_pton(AF_INET6, "fd09::1", key.addr_lo), 1);
		assert_int_equal(inet_pton(AF_INET6, "fd09::2", key.addr_hi), 1);
	}
	return key;
}

/* The connection from side 1 (hi) to side 0 carried the stream, all of it, once. */
static void stream_check(struct haul_flows *flows, struct haul_flow_key key)
{
	struct haul_flow_value value;
	struct haul_map_rows rows = { .count = 1, .keys = &key, .values = &value };
	struct haul_map_result result;

	assert_int_equal(haul_flows_get(flows, &rows, &result), 0);
	assert_int_equal(result.done, 1);
	assert_int_equal(value.payload[1], STREAM_BYTES);
	assert_int_equal(value.payload[0], 0);
	assert_int_equal(value.initiator, HAUL_FLOW_INITIATOR_HI);
	assert_int_equal(value.state, HAUL_FLOW_CLOSED);
	assert_int_equal(value.retransmits, 0);
	/* On the wire no packet is longer than the MTU allows. */
	assert_true(value.packets[1] * WIRE_MTU >= value.bytes[1]);
	assert_true(value.bytes[1] > STREAM_BYTES);
	assert_true(value.last_ns >= value.first_ns);
}

/* Resolve addresses first: ARP and neighbour discovery are no part of what is compared. */
static void warm_up(bool v6)
{
	(void)flow_net_tcp(&net, 1, v6, 1, NULL);
}

/* With segmentation offloads a packet of the interface is many on the wire: skbs and their bytes
 * are the interface's to the byte, on both ends. */
static void test_tcp__equals_the_interface_with_gso(void **state)
{
	(void)state;
	for (int v6 = 0; v6 <= 1; v6++) {
		struct watch watch[FLOW_NET_SIDES];
		uint16_t from = 0, port;
		warm_up(v6);
		for (int side = 0; side < FLOW_NET_SIDES; side++)
			watch_open(&watch[side], side);
		port = flow_net_tcp(&net, 1, v6, STREAM_BYTES, &from);
		for (int side = 0; side < FLOW_NET_SIDES; side++) {
			flow_net_wait(watch_agrees, &watch[side]);
			assert_true(flow_net_total(watch[side].flows, HAUL_FLOW_T_PACKETS) >
				    2 * watch[side].counted);
			stream_check(watch[side].flows, tcp_key(v6, port, from));
			flow_net_balance(watch[side].flows);
			haul_flows_close(watch[side].flows);
		}
	}
}

/* Without them the interface counts what is on the wire, and so do packets and bytes; a table that
 * sees them before they are cut (egress) says the same. */
static void test_tcp__equals_the_interface_without_gso(void **state)
{
	(void)state;
	flow_net_offloads(&net, false);
	for (int v6 = 0; v6 <= 1; v6++) {
		struct watch watch[FLOW_NET_SIDES];
		uint16_t from = 0, port;
		warm_up(v6);
		for (int side = 0; side < FLOW_NET_SIDES; side++)
			watch_open(&watch[side], side);
		port = flow_net_tcp(&net, 1, v6, STREAM_BYTES, &from);
		/* The receiver's skbs are the packets; see it both ways. */
		flow_net_wait(watch_agrees, &watch[0]);
		for (int side = 0; side < FLOW_NET_SIDES; side++) {
			watch[side].on_wire = true;
			flow_net_wait(watch_agrees, &watch[side]);
			stream_check(watch[side].flows, tcp_key(v6, port, from));
			flow_net_balance(watch[side].flows);
			haul_flows_close(watch[side].flows);
		}
	}
	flow_net_offloads(&net, true);
}

/* ---- a capture ---- */

struct expected {
	struct haul_flow_key key;
	uint64_t packets[2], bytes[2];
};

struct capture {
	FILE *file;
	uint64_t frames;
	struct expected expected[CONNECTIONS];
};

static void u32_write(FILE *file, uint32_t value)
{
	assert_int_equal(fwrite(&value, sizeof value, 1, file), 1);
}

static void capture_open(struct capture *capture, const char *path)
{
	capture->file = fopen(path, "we");
	assert_non_null(capture->file);
	u32_write(capture->file, 0xa1b2c3d4);
	u32_write(capture->file, 4U << 16 | 2);
	u32_write(capture->file, 0);
	u32_write(capture->file, 0);
	u32_write(capture->file, 65535);
	u32_write(capture->file, PCAP_ETHERNET);
}

static void capture_add(struct capture *capture, const struct packet *packet,
			struct expected *expected, int dir)
{
	struct packet_frame frame;

	packet_build(packet, &frame);
	/* To a station that is not there, so that nobody answers. */
	memcpy(frame.data, "\x02\x00\x00\x00\x00\x42\x02\x00\x00\x00\x00\x43", 12);
	u32_write(capture->file, (uint32_t)capture->frames / 1000);
	u32_write(capture->file, (uint32_t)capture->frames % 1000);
	u32_write(capture->file, frame.bytes);
	u32_write(capture->file, frame.bytes);
	assert_int_equal(fwrite(frame.data, 1, frame.bytes, capture->file), frame.bytes);
	capture->frames++;
	expected->packets[dir]++;
	expected->bytes[dir] += frame.bytes;
}

/* Connection i: its kind, addresses, ports and tags follow from its number; nothing but the number
 * of packets, their direction and their length is left to chance. The first end is the lower. */
static struct packet connection(uint32_t i)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	struct packet packet = { .version = i % 2 ? 6 : 4,
				 .proto = protos[i % 3],
				 .sport = (uint16_t)(1000 + i),
				 .dport = (uint16_t)(60000 - i),
				 .tcp_flags = PACKET_ACK,
				 .tags = i % 5 < 3 ? i % 5 : 0 };
	memcpy(packet.src, i % 2 ? "\xfd\x01" : "\x0a\x01", 2);
	memcpy(packet.dst, i % 2 ? "\xfd\x02" : "\x0a\x02", 2);
	packet.src[3] = packet.dst[3] = (uint8_t)(i % 7);
	packet.tag[0] = (uint16_t)(100 + i);
	packet.tag[1] = (uint16_t)(7 + i);
	packet.tag_type[0] = packet.tags == 2 ? 0x88a8 : 0x8100;
	packet.tag_type[1] = 0x8100;
	return packet;
}

static void connection_add(struct capture *capture, uint32_t i, struct prng *prng)
{
	struct expected *expected = &capture->expected[i];
	struct packet there = connection(i);
	struct packet back = packet_reply(&there);
	uint32_t count = 1 + prng_below(prng, PACKETS_MAX);

	packet_address(&there, false, expected->key.addr_lo);
	packet_address(&there, true, expected->key.addr_hi);
	expected->key.port_lo = there.sport;
	expected->key.port_hi = there.dport;
	expected->key.proto = there.proto;
	expected->key.vlan_outer = there.tags > 0 ? there.tag[0] & 0xfffU : 0;
	expected->key.vlan_inner = there.tags > 1 ? there.tag[1] & 0xfffU : 0;
	for (uint32_t n = 0; n < count; n++) {
		int dir = (int)prng_below(prng, 2);
		struct packet *packet = dir ? &back : &there;
		packet->payload = 20 + prng_below(prng, 1300);
		capture_add(capture, packet, expected, dir);
		packet->seq += packet->payload;
	}
}

struct arrived {
	struct haul_flows *flows;
	uint64_t until;
};

static int has_arrived(void *arg)
{
	const struct arrived *arrived = arg;
	return flow_net_total(arrived->flows, HAUL_FLOW_T_SKBS) >= arrived->until;
}

/* A capture of IPv4 and IPv6, plain, tagged and doubly tagged, replayed onto the wire: for each
 * connection and direction the table has the packets and bytes that were written to the file. */
static void test_replay__counts_each_connection(void **state)
{
	struct capture *capture = calloc(1, sizeof *capture);
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct arrived arrived = { .flows = flows };
	char path[128], text[4096];
	struct prng prng;
	(void)state;

	assert_non_null(capture);
	if (access("/usr/bin/tcpreplay", X_OK) < 0)
		test_skip("tcpreplay is not installed");
	test_prng(&prng);
	(void)snprintf(path, sizeof path, "%s.pcap", net.folder);
	capture_open(capture, path);
	for (uint32_t i = 0; i < CONNECTIONS; i++)
		connection_add(capture, i, &prng);
	assert_int_equal(fclose(capture->file), 0);
	const char *const replay[] = {
		"/usr/bin/tcpreplay", "--topspeed", "-i", "veth0", path, NULL
	};
	arrived.until = flow_net_total(flows, HAUL_FLOW_T_SKBS) + capture->frames;
	if (flow_net_run(&net, 1, replay, text, sizeof text) != 0)
		fail_msg("%s", text);
	flow_net_wait(has_arrived, &arrived);
	for (uint32_t i = 0; i < CONNECTIONS; i++) {
		struct expected *expected = &capture->expected[i];
		struct haul_flow_value value;
		struct haul_map_rows rows = { .count = 1,
					      .keys = &expected->key,
					      .values = &value };
		struct haul_map_result result;
		assert_int_equal(haul_flows_get(flows, &rows, &result), 0);
		if (result.done != 1)
			fail_msg("connection %u is not in the table", i);
		assert_memory_equal(value.packets, expected->packets, sizeof value.packets);
		assert_memory_equal(value.bytes, expected->bytes, sizeof value.bytes);
	}
	flow_net_balance(flows);
	assert_int_equal(unlink(path), 0);
	free(capture);
	haul_flows_close(flows);
}

/* ---- many connections ---- */

/* Connections that open, carry a little and close, all are found closed, with a round trip time. */
static void test_tcp__sees_connections_through(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 1, NULL);
	(void)state;

	for (int i = 0; i < 50; i++) {
		uint16_t from = 0, port = flow_net_tcp(&net, 1, false, 10, &from);
		struct haul_flow_key key = flow_net_key(IPPROTO_TCP, port, from);
		struct haul_flow_value value;
		struct haul_map_rows rows = { .count = 1, .keys = &key, .values = &value };
		struct haul_map_result result;
		assert_int_equal(haul_flows_get(flows, &rows, &result), 0);
		assert_int_equal(result.done, 1);
		assert_int_equal(value.payload[1], 10);
		assert_int_equal(value.payload[0], 0);
		assert_int_equal(value.state, HAUL_FLOW_CLOSED);
		assert_int_equal(value.tcp_flags[0] & 0x17, 0x13); /* SYN, ACK, FIN; no RST */
	}
	flow_net_balance(flows);
	haul_flows_close(flows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp__equals_the_interface_with_gso),
		cmocka_unit_test(test_tcp__equals_the_interface_without_gso),
		cmocka_unit_test(test_replay__counts_each_connection),
		cmocka_unit_test(test_tcp__sees_connections_through),
	};
	return cmocka_run_group_tests(tests, group_open, group_close);
}
