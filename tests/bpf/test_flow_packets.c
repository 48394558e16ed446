/* Needs root: what the counting programs make of every kind of packet. */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "bpf/flow_lab.h"
#include "lib/testlib.h"

static struct flow_lab lab;
static struct flow_model model;
static const struct flow_gso no_gso;

static int open_lab(void **state)
{
	(void)state;
	flow_lab_open(&lab, &(struct flow_lab_options){ 0 });
	flow_model_init(&model, FLOW_MODEL_ENTRIES);
	return 0;
}

static int open_bare(void **state)
{
	(void)state;
	flow_lab_open(&lab, &(struct flow_lab_options){ .bare = true });
	flow_model_init(&model, FLOW_MODEL_ENTRIES);
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	flow_lab_close(&lab);
	return 0;
}

/* To the program and to the model. */
static void pass(enum flow_lab_hook hook, const struct packet *packet)
{
	static struct packet_frame frame;
	packet_build(packet, &frame);
	flow_lab_run(&lab, hook, &frame, NULL, 1);
	flow_model_count(&model, packet, &frame, &no_gso);
}

static void pass_gso(const struct packet *packet, const struct flow_gso *gso)
{
	static struct packet_frame frame;
	packet_build(packet, &frame);
	flow_lab_run(&lab, FLOW_LAB_EGRESS, &frame, gso, 1);
	flow_model_count(&model, packet, &frame, gso);
}

/* PROG_TEST_RUN refuses to make an skb of a very short IP packet, but not a frame for XDP. */
static enum flow_lab_hook hook_for(const struct packet_frame *frame)
{
	return frame->bytes < PACKET_ETHERNET + 40 ? FLOW_LAB_XDP : FLOW_LAB_INGRESS;
}

static void pass_malformed(const struct packet_frame *frame)
{
	flow_lab_run(&lab, hook_for(frame), frame, NULL, 1);
	flow_model_malformed(&model, frame->bytes);
}

static void pass_not_ip(const struct packet_frame *frame)
{
	flow_lab_run(&lab, FLOW_LAB_INGRESS, frame, NULL, 1);
	flow_model_not_ip(&model, frame->bytes);
}

static const struct {
	uint8_t proto;
	uint8_t icmp_type;
} kinds[] = {
	{ IPPROTO_TCP, 0 },
	{ IPPROTO_UDP, 0 },
	{ IPPROTO_SCTP, 0 },
	{ IPPROTO_ICMP, 8 },
	{ IPPROTO_ICMP, 0 },
	{ IPPROTO_ICMP, 3 },
	{ IPPROTO_ICMP, 11 },
	{ IPPROTO_ICMPV6, 128 },
	{ IPPROTO_ICMPV6, 129 },
	{ IPPROTO_ICMPV6, 1 },
	{ IPPROTO_GRE, 0 },
	{ IPPROTO_ESP, 0 },
	{ 253, 0 },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static struct packet kind_packet(uint32_t kind, int version, uint32_t tags)
{
	struct packet packet = packet_tcp(version, PACKET_ACK, 1000, 100);
	packet.proto = kinds[kind].proto;
	packet.icmp_type = kinds[kind].icmp_type;
	packet.tags = tags;
	packet.tag[0] = 0xe000 | 5;
	packet.tag[1] = 4094;
	if (tags == 2)
		packet.tag_type[0] = 0x88a8;
	return packet;
}

/* Every protocol, IP version, tagging, direction and hook: one entry for both directions, exact. */
static void test_flow_packets__every_kind_is_counted(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < KINDS * 2 * 3 * FLOW_LAB_HOOKS; i++) {
		int version = i / KINDS % 2 ? 6 : 4;
		enum flow_lab_hook hook = i / KINDS / 2 / 3;
		struct packet packet = kind_packet(i % KINDS, version, i / KINDS / 2 % 3);
		struct packet reply = packet_reply(&packet);
		pass(hook, &packet);
		pass(hook, &reply);
		pass(hook, &packet);
	}
	flow_lab_compare(&lab, &model);
	/* ICMP's first two share the identifier, the next two have none; likewise ICMPv6. */
	assert_int_equal(model.count, 2 * 3 * (KINDS - 3));
}

/* Bare IP packets (TUN), with the same numbers. */
static void test_flow_packets__frames_without_ethernet_header(void **state)
{
	(void)state;
	static struct packet_frame frame;
	for (uint32_t i = 0; i < KINDS * 2; i++) {
		struct packet packet = kind_packet(i % KINDS, i / KINDS ? 6 : 4, 0);
		packet.bare = true;
		pass(FLOW_LAB_INGRESS, &packet);
		pass(FLOW_LAB_XDP, &packet);
	}
	struct packet packet = packet_udp(4, 20);
	packet.bare = true;
	packet_build(&packet, &frame);
	frame.data[0] = 0x25;
	pass_not_ip(&frame);
	flow_lab_compare(&lab, &model);
}

/* The ends in the order of their addresses' bytes, then of their ports. */
static void test_flow_packets__ends_are_in_canonical_order(void **state)
{
	(void)state;
	struct haul_flow_value value;
	struct haul_flow_key key;
	int dir;
	struct packet packet = packet_udp(4, 1);
	packet.src[0] = 1;
	packet.src[3] = 200;
	packet.dst[0] = 2;
	packet.dst[3] = 100;
	pass(FLOW_LAB_INGRESS, &packet);
	flow_model_key(&packet, &key, &dir);
	assert_int_equal(dir, 0);
	assert_int_equal(key.addr_lo[12], 1);
	assert_true(flow_lab_get(&lab, &key, &value));
	/* To itself: the ports decide. */
	memcpy(packet.dst, packet.src, sizeof packet.dst);
	packet.sport = 0x0100;
	packet.dport = 0x00ff;
	pass(FLOW_LAB_INGRESS, &packet);
	flow_model_key(&packet, &key, &dir);
	assert_int_equal(dir, 1);
	assert_int_equal(key.port_lo, 0x00ff);
	packet.dport = packet.sport;
	pass(FLOW_LAB_INGRESS, &packet);
	flow_lab_compare(&lab, &model);
}

/* A bit of an address, a port, the protocol or a tag makes it another connection. */
static void test_flow_packets__every_bit_of_the_key_counts(void **state)
{
	(void)state;
	struct packet packet = packet_udp(6, 10);
	packet.tags = 2;
	pass(FLOW_LAB_INGRESS, &packet);
	for (uint32_t bit = 0; bit < 128; bit++) {
		struct packet other = packet;
		other.src[bit / 8] ^= (uint8_t)(1 << bit % 8);
		pass(FLOW_LAB_INGRESS, &other);
	}
	for (uint32_t bit = 0; bit < 16; bit++) {
		struct packet other = packet;
		other.sport ^= (uint16_t)(1 << bit);
		pass(FLOW_LAB_INGRESS, &other);
	}
	for (uint32_t bit = 0; bit < 24; bit++) {
		struct packet other = packet;
		other.tag[bit / 12] ^= (uint16_t)(1 << bit % 12);
		pass(FLOW_LAB_INGRESS, &other);
	}
	packet.proto = IPPROTO_TCP;
	pass(FLOW_LAB_INGRESS, &packet);
	assert_int_equal(model.count, 1 + 128 + 16 + 24 + 1);
	flow_lab_compare(&lab, &model);
}

/* The first fragment has ports; the later ones count in an entry without, and in a total. */
static void test_flow_packets__fragments(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		for (uint32_t i = 0; i < 3; i++) {
			struct packet packet = packet_udp(version, 96);
			packet.proto = i == 0 ? IPPROTO_UDP : i == 1 ? IPPROTO_TCP : IPPROTO_ICMP;
			packet.tcp_flags = PACKET_ACK;
			packet.tags = i;
			packet.extensions = version == 6;
			packet.extension[0] = IPPROTO_FRAGMENT;
			packet.more = true;
			pass(FLOW_LAB_INGRESS, &packet);
			packet.fragment = 13;
			pass(FLOW_LAB_INGRESS, &packet);
			packet.more = false;
			packet.fragment = 0x1fff;
			struct packet reply = packet_reply(&packet);
			pass(FLOW_LAB_INGRESS, &packet);
			pass(FLOW_LAB_XDP, &reply);
		}
	}
	assert_int_equal(model.totals[HAUL_FLOW_T_FRAGMENTS], 18);
	flow_lab_compare(&lab, &model);
}

/* IPv4 options and TCP options of every length; what lies behind them is found. */
static void test_flow_packets__options(void **state)
{
	(void)state;
	for (uint32_t bytes = 0; bytes <= 40; bytes += 4) {
		for (uint32_t kind = 0; kind < KINDS; kind++) {
			struct packet packet = kind_packet(kind, 4, bytes / 4 % 3);
			packet.ip_options = bytes;
			packet.tcp_options = 40 - bytes;
			pass(FLOW_LAB_INGRESS, &packet);
			pass(FLOW_LAB_XDP, &packet);
		}
	}
	flow_lab_compare(&lab, &model);
}

/* Extension headers, each alone and as many as are followed; one more is malformed. */
static void test_flow_packets__extension_headers(void **state)
{
	(void)state;
	static const uint8_t types[] = { IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS,
					 IPPROTO_AH, IPPROTO_FRAGMENT };
	enum { FOLLOWED = 8 };
	static struct packet_frame frame;
	for (uint32_t count = 1; count <= FOLLOWED + 1; count++) {
		for (uint32_t i = 0; i < sizeof types * KINDS; i++) {
			struct packet packet = kind_packet(i % KINDS, 6, count % 3);
			packet.extensions = count;
			for (uint32_t at = 0; at < count; at++)
				packet.extension[at] = types[(i / KINDS + at) % sizeof types];
			if (count <= FOLLOWED) {
				pass(FLOW_LAB_INGRESS, &packet);
				continue;
			}
			packet_build(&packet, &frame);
			pass_malformed(&frame);
		}
	}
	struct packet packet = kind_packet(0, 4, 0);
	packet.extensions = 1;
	packet.extension[0] = IPPROTO_AH;
	pass(FLOW_LAB_INGRESS, &packet);
	flow_lab_compare(&lab, &model);
}

/* What is not IP: ARP, LLC, more tags than we tell apart, a frame that ends in its tag. */
static void test_flow_packets__what_is_not_ip(void **state)
{
	(void)state;
	static const uint16_t types[] = { 0x0806, 0x0026, 0x88cc, 0x8847, 0x8863 };
	static struct packet_frame frame;
	for (uint32_t i = 0; i < sizeof types / sizeof *types; i++) {
		struct packet packet = packet_udp(4, 50);
		packet.ethertype = types[i];
		packet.tags = i % 3;
		packet_build(&packet, &frame);
		pass_not_ip(&frame);
	}
	struct packet packet = packet_udp(4, 50);
	packet.tags = 3;
	packet_build(&packet, &frame);
	pass_not_ip(&frame);
	packet.tags = 2;
	packet_build(&packet, &frame);
	for (frame.bytes = PACKET_ETHERNET + 1; frame.bytes < PACKET_ETHERNET + 8; frame.bytes++)
		pass_not_ip(&frame);
	assert_int_equal(model.count, 0);
	flow_lab_compare(&lab, &model);
}

/* Say in the IP header that the packet ends where the frame does. */
static void shorten(const struct packet *packet, struct packet_frame *frame, uint32_t bytes)
{
	uint32_t length = bytes - frame->ip - (packet->version == 4 ? 0 : 40);
	uint8_t *field = frame->data + frame->ip + (packet->version == 4 ? 2 : 4);
	frame->bytes = bytes;
	frame->end = bytes;
	if (bytes < frame->ip + (packet->version == 4 ? 4u : 40u))
		return;
	field[0] = (uint8_t)(length >> 8);
	field[1] = (uint8_t)length;
}

static void cut_everywhere(const struct packet *packet)
{
	static struct packet_frame whole, frame;
	struct packet rest = *packet;
	packet_build(packet, &whole);
	for (uint32_t bytes = PACKET_ETHERNET + 1; bytes < whole.bytes; bytes++) {
		/* Longer than the frame, says the header: broken, wherever it ends. */
		frame = whole;
		frame.bytes = bytes;
		if (bytes < whole.ip)
			continue;
		pass_malformed(&frame);
		/* The header knows: whole as soon as all headers are there. */
		shorten(packet, &frame, bytes);
		if (bytes < whole.payload) {
			pass_malformed(&frame);
			continue;
		}
		rest.payload = bytes - whole.payload;
		flow_lab_run(&lab, hook_for(&frame), &frame, NULL, 1);
		flow_model_count(&model, &rest, &frame, &no_gso);
	}
}

/* Cut at every byte of every header: malformed or whole, never somebody else's. */
static void test_flow_packets__cut_at_every_byte(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < KINDS * 2 * 3; i++) {
		struct packet packet = kind_packet(i % KINDS, i / KINDS % 2 ? 6 : 4, i / KINDS / 2);
		packet.payload = 3;
		packet.tcp_options = 8;
		packet.tcp_flags = PACKET_PSH; /* no ACK: state and number stay as they are */
		if (packet.version == 4)
			packet.ip_options = i % 2 * 8;
		else
			packet.extensions = i % 4;
		packet.extension[0] = IPPROTO_HOPOPTS;
		packet.extension[1] = IPPROTO_AH;
		packet.extension[2] = IPPROTO_FRAGMENT;
		packet.more = packet.version == 6;
		cut_everywhere(&packet);
	}
	flow_lab_compare(&lab, &model);
}

/* The same ends of an IP packet, padded by Ethernet: what lies behind the end is no header. */
static void test_flow_packets__padding_is_no_header(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < KINDS * 2; i++) {
		struct packet packet = kind_packet(i % KINDS, i / KINDS ? 6 : 4, i % 3);
		static struct packet_frame frame, cut;
		packet.payload = 0;
		packet.padding = 30;
		pass(FLOW_LAB_INGRESS, &packet);
		pass(FLOW_LAB_XDP, &packet);
		packet_build(&packet, &frame);
		for (uint32_t end = frame.l4; end < frame.payload; end++) {
			cut = frame;
			shorten(&packet, &cut, end);
			cut.bytes = frame.bytes;
			pass_malformed(&cut);
		}
	}
	flow_lab_compare(&lab, &model);
}

/* One byte of a good frame made wrong. */
static void break_byte(const struct packet *packet, uint32_t offset, uint8_t value)
{
	static struct packet_frame frame;
	packet_build(packet, &frame);
	frame.data[frame.ip + offset] = value;
	pass_malformed(&frame);
}

/* Lengths and versions that contradict each other. */
static void test_flow_packets__wrong_headers_are_malformed(void **state)
{
	(void)state;
	struct packet v4 = packet_tcp(4, PACKET_ACK, 1, 10), v6 = packet_tcp(6, PACKET_ACK, 1, 10);
	break_byte(&v4, 0, 0x55); /* version 5 */
	break_byte(&v4, 0, 0x44); /* header of 16 bytes */
	break_byte(&v4, 0, 0x4f); /* header longer than the packet */
	break_byte(&v4, 3, 19);   /* packet shorter than its header */
	break_byte(&v4, 3, 51);   /* packet longer than the frame */
	break_byte(&v4, 2, 1);
	break_byte(&v4, 32, 0x40); /* TCP header of 16 bytes */
	break_byte(&v4, 32, 0xf0); /* TCP header longer than the packet */
	break_byte(&v6, 0, 0x40);
	break_byte(&v6, 5, 31); /* packet longer than the frame */
	break_byte(&v6, 4, 1);
	break_byte(&v6, 52, 0x40);
	break_byte(&v6, 52, 0xf0);
	v6.extensions = 1;
	v6.extension[0] = IPPROTO_DSTOPTS;
	break_byte(&v6, 41, 40); /* extension longer than the packet */
	v4.no_length = true;     /* allowed for superframes only */
	break_byte(&v4, 1, 0);
	assert_int_equal(model.count, 0);
	flow_lab_compare(&lab, &model);
}

/* A GSO packet counts as its segments, each with its headers. */
static void test_flow_packets__gso_counts_segments(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2 * 3 * 2; i++) {
		struct packet packet = packet_tcp(i % 2 ? 6 : 4, PACKET_ACK, 5000 * i, 2500);
		packet.tags = i / 2 % 3;
		packet.tag[0] = (uint16_t)(i + 1);
		packet.tcp_options = 12;
		if (i >= 6)
			packet.proto = IPPROTO_UDP;
		pass_gso(&packet, &(struct flow_gso){ .segs = 5, .size = 500 });
		packet.seq += 2500;
		pass_gso(&packet, &(struct flow_gso){ .segs = 1, .size = 2500 });
		packet.seq += 2500;
		/* Not counted by the kernel (from a TAP): the last may be short. */
		pass_gso(&packet, &(struct flow_gso){ .size = 600 });
		packet.seq += 2500;
		pass_gso(&packet, &(struct flow_gso){ .size = 500 });
		packet.payload = 1;
		pass_gso(&packet, &(struct flow_gso){ .size = 500 });
		packet.payload = 0;
		pass_gso(&packet, &(struct flow_gso){ .size = 500 });
	}
	flow_lab_compare(&lab, &model);
	uint64_t packets = model.totals[HAUL_FLOW_T_PACKETS];
	assert_int_equal(packets, 12 * (5 + 1 + 5 + 5 + 1 + 1));
}

/* Inside a tunnel more is repeated than we see; the hook's own figure is taken when larger. */
static void test_flow_packets__gso_in_a_tunnel(void **state)
{
	(void)state;
	struct packet packet = packet_udp(4, 3000);
	static struct packet_frame frame;
	packet_build(&packet, &frame);
	struct flow_gso gso = { .segs = 3, .size = 1000, .wire_len = frame.bytes + 2 * 92 };
	pass_gso(&packet, &gso);
	flow_lab_compare(&lab, &model);
	assert_int_equal(model.totals[HAUL_FLOW_T_BYTES], frame.bytes + 2 * 92);
}

/* Longer than the IP header's field can say (BIG TCP): the packet ends with the frame. */
static void test_flow_packets__gso_without_length(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		struct packet packet = packet_tcp(version, PACKET_ACK, 1, 3000);
		packet.no_length = true;
		pass_gso(&packet, &(struct flow_gso){ .segs = 3, .size = 1000 });
		packet.seq = 3001;
		packet.extensions = version == 6;
		packet.extension[0] = IPPROTO_HOPOPTS;
		pass_gso(&packet, &(struct flow_gso){ .segs = 3, .size = 1000 });
	}
	flow_lab_compare(&lab, &model);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_PACKETS), 12);
}

/* A frame in several pieces (XDP with a large MTU). */
static void test_flow_packets__frames_in_pieces(void **state)
{
	(void)state;
	for (uint32_t kind = 0; kind < KINDS; kind++) {
		struct packet packet = kind_packet(kind, 4, kind % 3);
		packet.payload = 6000;
		pass(FLOW_LAB_XDP, &packet);
		packet.version = 6;
		pass(FLOW_LAB_XDP, &packet);
	}
	flow_lab_compare(&lab, &model);
}

static void random_addresses(struct prng *prng, struct packet *packet)
{
	memset(packet->src, 0, sizeof packet->src);
	memset(packet->dst, 0, sizeof packet->dst);
	packet->src[prng_below(prng, 2) * 3] = (uint8_t)prng_below(prng, 2);
	packet->dst[packet->version == 6 ? 15 : 3] = (uint8_t)prng_below(prng, 2);
}

static struct packet random_packet(struct prng *prng)
{
	static const uint8_t types[] = { IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS,
					 IPPROTO_AH };
	struct packet packet = kind_packet(prng_below(prng, KINDS), prng_below(prng, 2) ? 6 : 4,
					   prng_below(prng, 3));
	if (prng_below(prng, 2))
		packet.proto = IPPROTO_TCP;
	random_addresses(prng, &packet);
	packet.tag[0] = 0; /* priority only: no tag */
	packet.sport = (uint16_t)prng_below(prng, 2);
	packet.dport = (uint16_t)prng_below(prng, 2);
	packet.tcp_flags = (uint8_t)prng_below(prng, 256);
	packet.tcp_options = prng_below(prng, 11) * 4;
	packet.seq = prng_below(prng, 5) ? UINT32_MAX - 2000 + prng_below(prng, 5000)
					 : (uint32_t)prng_next(prng);
	packet.payload = prng_below(prng, 3) ? prng_below(prng, 1000) : 0;
	packet.padding = prng_below(prng, 3) ? 0 : prng_below(prng, 20);
	if (packet.version == 4)
		packet.ip_options = prng_below(prng, 3) ? 0 : prng_below(prng, 11) * 4;
	else
		packet.extensions = prng_below(prng, 3) ? 0 : prng_below(prng, 5);
	for (uint32_t i = 0; i < packet.extensions; i++)
		packet.extension[i] = types[prng_below(prng, sizeof types)];
	if (prng_below(prng, 8) == 0) {
		if (packet.version == 6)
			packet.extension[packet.extensions++] = IPPROTO_FRAGMENT;
		packet.more = true;
		packet.fragment = (uint16_t)(prng_below(prng, 2) * prng_below(prng, 1000));
	}
	return packet;
}

/* Thousands of packets of few ends, all kinds mixed, any flags and numbers: as in the model. */
static void test_flow_packets__random_packets_as_in_the_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < 20000; i++) {
		struct packet packet = random_packet(&prng);
		if (prng_below(&prng, 4) == 0) {
			struct flow_gso gso = { .size = 1 + prng_below(&prng, 400) };
			gso.segs = prng_below(&prng, 2) * (1 + prng_below(&prng, 9));
			packet.padding = 0; /* superframes have none */
			pass_gso(&packet, &gso);
		} else {
			pass(prng_below(&prng, FLOW_LAB_HOOKS), &packet);
		}
		if (i % 1000 == 0)
			flow_lab_compare(&lab, &model);
	}
	flow_lab_compare(&lab, &model);
}

/* Frames of noise behind an IP header: whatever they are taken for, the balance holds. */
static void test_flow_packets__random_bytes_keep_the_balance(void **state)
{
	(void)state;
	struct prng prng;
	static struct packet_frame frame;
	test_prng(&prng);
	for (uint32_t i = 0; i < 20000; i++) {
		struct packet packet = random_packet(&prng);
		packet_build(&packet, &frame);
		uint32_t from = prng_below(&prng, 2) ? 0 : frame.ip;
		for (uint32_t n = 1 + prng_below(&prng, 8); n > 0; n--)
			frame.data[from + prng_below(&prng, frame.bytes - from)] =
				(uint8_t)prng_next(&prng);
		if (prng_below(&prng, 2))
			frame.bytes = 15 + prng_below(&prng, frame.bytes - 15);
		flow_lab_run(&lab, i % 2 ? FLOW_LAB_XDP : hook_for(&frame), &frame, NULL, 1);
	}
	flow_lab_balance(&lab);
	uint64_t totals[HAUL_FLOW_TOTALS];
	flow_lab_totals(&lab, totals);
	assert_int_equal(totals[HAUL_FLOW_T_SKBS], 20000);
	assert_int_equal(totals[HAUL_FLOW_T_SKBS], totals[HAUL_FLOW_T_PACKETS] +
							   totals[HAUL_FLOW_T_NOT_IP] +
							   totals[HAUL_FLOW_T_MALFORMED]);
}

int main(void)
{
#define TEST(name, open) cmocka_unit_test_setup_teardown(test_flow_packets__##name, open, close_lab)
	const struct CMUnitTest tests[] = {
		TEST(every_kind_is_counted, open_lab),
		TEST(frames_without_ethernet_header, open_bare),
		TEST(ends_are_in_canonical_order, open_lab),
		TEST(every_bit_of_the_key_counts, open_lab),
		TEST(fragments, open_lab),
		TEST(options, open_lab),
		TEST(extension_headers, open_lab),
		TEST(what_is_not_ip, open_lab),
		TEST(cut_at_every_byte, open_lab),
		TEST(padding_is_no_header, open_lab),
		TEST(wrong_headers_are_malformed, open_lab),
		TEST(gso_counts_segments, open_lab),
		TEST(gso_in_a_tunnel, open_lab),
		TEST(gso_without_length, open_lab),
		TEST(frames_in_pieces, open_lab),
		TEST(random_packets_as_in_the_model, open_lab),
		TEST(random_bytes_keep_the_balance, open_lab),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
