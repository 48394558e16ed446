/* Needs root: a full table, entries on their way out, two CPUs at one connection, tags beside the
 * frame. */
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "bpf/flow_lab.h"
#include "flow.skel.h"
#include "lib/testlib.h"

enum { THREADS = 2 };

static struct flow_lab lab;
static struct flow_model model;

static void open_with(const struct flow_lab_options *options)
{
	flow_lab_open(&lab, options);
	flow_model_init(&model, FLOW_MODEL_ENTRIES);
}

static int close_lab(void **state)
{
	(void)state;
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

/* When it is full, nothing is evicted, known connections go on, and the rest is counted. */
static void test_flow_table__overflow_is_exact(void **state)
{
	(void)state;
	enum { ROOM = 100 };
	open_with(&(struct flow_lab_options){ .shards = 1, .shard_entries = ROOM });
	model.entries_max = ROOM;
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < ROOM + 50; i++) {
			struct packet packet = numbered(i);
			flow_lab_send(&lab, &model, &packet);
		}
	}
	flow_lab_compare(&lab, &model);
	assert_int_equal(model.totals[HAUL_FLOW_T_OVERFLOW], 150);
	/* Room again: the next packet of an unknown one opens it. */
	struct haul_flow_key key;
	int dir;
	struct packet first = numbered(0), late = numbered(ROOM + 1);
	flow_model_key(&first, &key, &dir);
	assert_int_equal(bpf_map_delete_elem(lab.shard_fd[0], &key), 0);
	flow_lab_send(&lab, NULL, &late);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_OVERFLOW), 150);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_OPENED), ROOM + 1);
}

/* A shard that is not there is as good as a full one. */
static void test_flow_table__missing_shard_overflows(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ .shards = 1 });
	uint32_t zero = 0;
	struct packet packet = numbered(1);
	assert_int_equal(bpf_map_delete_elem(bpf_map__fd(lab.programs->maps.shards), &zero), 0);
	flow_lab_send(&lab, NULL, &packet);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_OVERFLOW), 1);
	flow_lab_balance(&lab);
}

/* Connections spread over all shards, whatever differs in their keys. */
static void test_flow_table__shards_are_filled_evenly(void **state)
{
	(void)state;
	enum { COUNT = 3200, SHARDS = 16 };
	uint32_t in[SHARDS] = { 0 };
	open_with(&(struct flow_lab_options){ .shards = SHARDS });
	for (uint32_t i = 0; i < COUNT; i++) {
		struct packet packet = numbered(i % 4 * 100);
		packet.sport = (uint16_t)(1024 + i);
		flow_lab_send(&lab, &model, &packet);
	}
	flow_lab_compare(&lab, &model);
	for (uint32_t i = 0; i < SHARDS; i++) {
		struct haul_flow_key key;
		const void *from = NULL;
		for (; bpf_map_get_next_key(lab.shard_fd[i], from, &key) == 0; in[i]++)
			from = &key;
		/* 200 each, give or take 5 times the root of that. */
		assert_in_range(in[i], COUNT / SHARDS - 71, COUNT / SHARDS + 71);
	}
}

static void set_life(const struct packet *packet, uint32_t life)
{
	struct haul_flow_key key;
	struct haul_flow_value value;
	int dir;
	flow_model_key(packet, &key, &dir);
	assert_true(flow_lab_get(&lab, &key, &value));
	value.life = life;
	flow_lab_put(&lab, &key, &value);
}

/* A packet brings a marked entry back, whoever marked it. */
static void test_flow_table__packet_revives_marked(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ 0 });
	struct packet packet = numbered(1);
	flow_lab_send(&lab, &model, &packet);
	set_life(&packet, 0x123456u << 8 | HAUL_FLOW_MARKED);
	flow_lab_send(&lab, &model, &packet);
	assert_int_equal(flow_lab_only(&lab).life, HAUL_FLOW_LIVE);
	flow_lab_compare(&lab, &model);
}

/* A packet that finds an entry dead counts as late, and changes nothing in it. */
static void test_flow_table__packet_finds_dead(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ 0 });
	struct packet packet = packet_tcp(4, PACKET_ACK, 1, 100);
	flow_lab_send(&lab, NULL, &packet);
	set_life(&packet, 7u << 8 | HAUL_FLOW_DEAD);
	struct haul_flow_value before = flow_lab_only(&lab), after;
	packet.seq = 101;
	flow_lab_send(&lab, NULL, &packet);
	after = flow_lab_only(&lab);
	assert_memory_equal(&before, &after, sizeof before);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_LATE), 1);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_LATE_BYTES), 154);
	flow_lab_balance(&lab);
}

/* ---- a tag beside the frame ---- */

/* A program that puts the tag in skb->mark beside the frame and goes on to flow_ingress. */
static int tagging_program(int array_fd)
{
	enum { VLAN_PUSH = 18, TAIL_CALL = 12 };
	const struct bpf_insn insns[] = {
		{ .code = 0xbf, .dst_reg = 6, .src_reg = 1 },
		{ .code = 0xb7, .dst_reg = 2, .imm = 0x0081 }, /* 0x8100 in network order */
		{ .code = 0x61,
		  .dst_reg = 3,
		  .src_reg = 1,
		  .off = offsetof(struct __sk_buff, mark) },
		{ .code = 0x85, .imm = VLAN_PUSH },
		{ .code = 0xbf, .dst_reg = 1, .src_reg = 6 },
		{ .code = 0x18, .dst_reg = 2, .src_reg = BPF_PSEUDO_MAP_FD, .imm = array_fd },
		{ .code = 0 },
		{ .code = 0xb7, .dst_reg = 3 },
		{ .code = 0x85, .imm = TAIL_CALL },
		{ .code = 0xb7, .dst_reg = 0, .imm = 99 },
		{ .code = 0x95 },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "tag", "Dual MIT/GPL", insns,
			       sizeof insns / sizeof *insns, NULL);
	assert_true(fd >= 0);
	return fd;
}

static void send_tagged(int fd, const struct packet *packet, uint16_t tag)
{
	struct packet_frame frame;
	struct __sk_buff skb = { .mark = tag };
	packet_build(packet, &frame);
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data, .data_size_in = frame.bytes,
		    .ctx_in = &skb, .ctx_size_in = sizeof skb);
	assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
	assert_int_equal((int)run.retval, -1);
	/* The model is told of the frame as it is on the wire. */
	struct packet tagged = *packet;
	static const struct flow_gso none;
	tagged.tags = packet->tags + 1;
	tagged.tag[0] = tag;
	tagged.tag[1] = packet->tag[0];
	packet_build(&tagged, &frame);
	flow_model_count(&model, &tagged, &frame, &none);
}

/* A program that tags, and then calls flow_ingress. */
static int tagging_open(int *ret_array)
{
	uint32_t zero = 0;
	int ingress = bpf_program__fd(lab.programs->progs.flow_ingress);
	int array = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "next", 4, 4, 1, NULL);
	assert_true(array >= 0);
	assert_int_equal(bpf_map_update_elem(array, &zero, &ingress, BPF_ANY), 0);
	*ret_array = array;
	return tagging_program(array);
}

/* Tags that the kernel keeps beside the frame, alone or before one in it: as on the wire. */
static void test_flow_table__tags_beside_the_frame(void **state)
{
	(void)state;
	int array;
	open_with(&(struct flow_lab_options){ 0 });
	int fd = tagging_open(&array);
	for (uint32_t i = 0; i < 4; i++) {
		struct packet packet = packet_udp(i % 2 ? 6 : 4, 100);
		packet.tags = i / 2;
		packet.tag[0] = 77;
		send_tagged(fd, &packet, 5);
		send_tagged(fd, &packet, 0xefff);
		packet.proto = IPPROTO_SCTP;
		send_tagged(fd, &packet, 5);
		packet = packet_tcp(i % 2 ? 6 : 4, PACKET_ACK, 1, 100);
		packet.tags = i / 2;
		packet.tag[0] = 77;
		packet.tcp_options = 4;
		send_tagged(fd, &packet, 5);
	}
	flow_lab_compare(&lab, &model);
	close(fd);
	close(array);
}

/* An interface that does not count such a tag: neither does skb_bytes, but bytes do. */
static void test_flow_table__tags_the_interface_leaves_out(void **state)
{
	(void)state;
	int array;
	open_with(&(struct flow_lab_options){ .tag_uncounted = true });
	int fd = tagging_open(&array);
	struct packet packet = packet_udp(4, 100);
	send_tagged(fd, &packet, 5);
	packet.tags = 1;
	send_tagged(fd, &packet, 6);
	model.totals[HAUL_FLOW_T_SKB_BYTES] -= 8;
	flow_lab_compare(&lab, &model);
	close(fd);
	close(array);
}

/* ---- two CPUs ---- */

struct job {
	int cpu;
	int repeat;
	uint32_t first, count; /* of the packets */
	pthread_barrier_t *barrier;
};

static void *count_on(void *arg)
{
	const struct job *job = arg;
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET((size_t)job->cpu, &set);
	(void)sched_setaffinity(0, sizeof set, &set); /* one CPU only: then they take turns */
	for (uint32_t i = 0; i < job->count; i++) {
		struct packet_frame frame;
		struct packet packet = numbered(i);
		if (i % 2) {
			packet.proto = IPPROTO_TCP;
			packet.tcp_flags = PACKET_ACK;
			packet.seq = 1000 * (job->first + 1);
			packet.payload = 100;
		}
		if (job->cpu % 2 && i % 4 < 2)
			packet = packet_reply(&packet);
		packet_build(&packet, &frame);
		(void)pthread_barrier_wait(job->barrier);
		flow_lab_run(&lab, FLOW_LAB_INGRESS, &frame, NULL, job->repeat);
	}
	return NULL;
}

static void count_on_all(uint32_t connections, int repeat)
{
	pthread_t threads[THREADS];
	struct job jobs[THREADS];
	pthread_barrier_t barrier;
	assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	for (int i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){ .cpu = i,
					.repeat = repeat,
					.count = connections,
					.first = (uint32_t)i,
					.barrier = &barrier };
		assert_int_equal(pthread_create(&threads[i], NULL, count_on, &jobs[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}

static void check_sums(uint32_t connections, uint64_t repeat)
{
	static struct flow_lab_entry entries[FLOW_MODEL_ENTRIES];
	assert_int_equal(flow_lab_entries(&lab, entries, FLOW_MODEL_ENTRIES), connections);
	for (uint32_t i = 0; i < connections; i++) {
		const struct haul_flow_value *value = &entries[i].value;
		bool tcp = entries[i].key.proto == IPPROTO_TCP;
		uint64_t packets = value->packets[0] + value->packets[1];
		uint64_t payload = value->payload[0] + value->payload[1];
		assert_int_equal(packets, THREADS * repeat);
		assert_int_equal(value->bytes[0] + value->bytes[1], packets * (tcp ? 154 : 52));
		if (!tcp)
			assert_int_equal(payload, packets * 10);
	}
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_OPENED), connections);
	assert_int_equal(flow_lab_total(&lab, HAUL_FLOW_T_SKBS), THREADS * repeat * connections);
	flow_lab_balance(&lab);
}

/* Two CPUs at one connection, in the same and in both directions: sums are exact. */
static void test_flow_table__two_cpus_lose_nothing(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ 0 });
	count_on_all(4, 100000);
	check_sums(4, 100000);
}

/* Two CPUs meet a connection for the first time, again and again: one entry, nothing lost. */
static void test_flow_table__two_cpus_open_one_entry(void **state)
{
	(void)state;
	open_with(&(struct flow_lab_options){ 0 });
	count_on_all(2000, 2);
	check_sums(2000, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(test_flow_table__##name, close_lab)
	const struct CMUnitTest tests[] = {
		TEST(overflow_is_exact),
		TEST(missing_shard_overflows),
		TEST(shards_are_filled_evenly),
		TEST(packet_revives_marked),
		TEST(packet_finds_dead),
		TEST(tags_beside_the_frame),
		TEST(tags_the_interface_leaves_out),
		TEST(two_cpus_lose_nothing),
		TEST(two_cpus_open_one_entry),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
