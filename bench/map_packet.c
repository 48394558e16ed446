/* The kernel runs a program on one packet again and again and tells the mean. The packet is TCP
 * data of a connection that is in the table since the first run; since each has the sequence number
 * of the one before, it is counted as sent again. Table and packet stay in the caches. */
#include "map_packet.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/progs/flow_hash.h"
#include "bpf/sys.h"
#include "flow.skel.h"
#include "os/os.h"

enum {
	SHARDS = 16, /* of 4096: the table as it is made by default */
	SHARD_ENTRIES = 4096,
	PAYLOAD_BYTES = 1400,
	REPEAT = 200000,
	SLICES = 5,
	NEXT = -1, /* what both programs return */
	FLOW_SALT = 0x5eed
};

struct packet {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t payload[PAYLOAD_BYTES];
} __attribute__((packed));

static void packet_fill(struct packet *packet)
{
	*packet = (struct packet){
		.ethernet = { .h_proto = htons(ETH_P_IP) },
		.ip = { .version = 4,
			.ihl = 5,
			.tot_len = htons(sizeof *packet - sizeof packet->ethernet),
			.ttl = 64,
			.protocol = IPPROTO_TCP,
			.saddr = htonl(0x0a000001),
			.daddr = htonl(0xc0a80001) },
		.tcp = { .source = htons(40000),
			 .dest = htons(443),
			 .seq = htonl(1),
			 .doff = 5,
			 .ack = 1 },
	};
}

/* mov r0, -1; exit */
static int nothing_load(void)
{
	struct bpf_sys *sys = bpf_sys_linux();
	static const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = NEXT },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.prog_type = BPF_PROG_TYPE_SCHED_CLS;
	attr.insns = (uintptr_t)code;
	attr.insn_cnt = sizeof code / sizeof code[0];
	attr.license = (uintptr_t) "Dual MIT/GPL";
	return sys->call(sys, BPF_PROG_LOAD, &attr);
}

static int shards_fill(const struct flow_bpf *skel)
{
	int shards = bpf_map__fd(skel->maps.shards), rc = 0;
	for (uint32_t i = 0; i < SHARDS && rc == 0; i++) {
		int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "bench_shard",
					sizeof(struct haul_flow_key),
					sizeof(struct haul_flow_value), SHARD_ENTRIES, NULL);
		if (fd < 0)
			return fd;
		rc = bpf_map_update_elem(shards, &i, &fd, BPF_ANY);
		close(fd);
	}
	return rc;
}

static int counting_load(struct flow_bpf **ret_skel)
{
	struct flow_bpf *skel = flow_bpf__open();
	if (!skel)
		return -errno;
	skel->rodata->flow_config.salt = FLOW_SALT;
	skel->rodata->flow_config.shard_mask = SHARDS - 1;
	skel->rodata->flow_config.l2_bytes = ETH_HLEN;
	for (int state = 0; state < HAUL_FLOW_STATES; state++)
		skel->rodata->flow_config.timeout_ns[state] = NS_PER_S;
	int rc = bpf_map__set_max_entries(skel->maps.shards, SHARDS);
	rc = rc ? rc : bpf_program__set_autoload(skel->progs.flow_xdp, false);
	rc = rc ? rc : bpf_program__set_autoload(skel->progs.flow_egress, false);
	libbpf_print_fn_t printer = bpf_quiet_begin();
	rc = rc ? rc : flow_bpf__load(skel);
	bpf_quiet_end(printer);
	rc = rc ? rc : shards_fill(skel);
	if (rc < 0) {
		flow_bpf__destroy(skel);
		return rc;
	}
	*ret_skel = skel;
	return 0;
}

/* Mean of so many runs, as the kernel measures it: whole ns. */
static int packet_repeat(int prog_fd, uint32_t repeat, uint32_t *ret_ns)
{
	struct packet packet;
	packet_fill(&packet);
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &packet, .data_size_in = sizeof packet,
		    .repeat = (int)repeat);
	int rc = bpf_prog_test_run_opts(prog_fd, &options);
	if (rc < 0)
		return rc;
	*ret_ns = options.duration;
	return (int)options.retval == NEXT ? 0 : -EPROTO;
}

/* All packets are in the one entry. */
static int count_check(const struct flow_bpf *skel, uint64_t packets, struct haul_err *err)
{
	struct packet packet;
	packet_fill(&packet);
	_Alignas(8) struct haul_flow_key key = { .port_lo = 40000,
						 .port_hi = 443,
						 .proto = IPPROTO_TCP };
	memset(key.addr_lo + 10, 0xff, 2);
	memset(key.addr_hi + 10, 0xff, 2);
	memcpy(key.addr_lo + 12, &packet.ip.saddr, 4);
	memcpy(key.addr_hi + 12, &packet.ip.daddr, 4);
	uint32_t shard = flow_shard(&key, FLOW_SALT, SHARDS - 1), id = 0;
	struct haul_flow_value value = { 0 };
	int rc = bpf_map_lookup_elem(bpf_map__fd(skel->maps.shards), &shard, &id);
	int fd = rc < 0 ? rc : bpf_map_get_fd_by_id(id);
	if (fd >= 0) {
		rc = bpf_map_lookup_elem(fd, &key, &value);
		close(fd);
	}
	if (fd < 0 || rc < 0)
		return haul_err_set(err, -EIO, "the connection is not in the table");
	if (value.packets[0] != packets || value.bytes[0] != packets * sizeof packet)
		return haul_err_set(err, -EIO, "counted %llu packets, right is %llu",
				    (unsigned long long)value.packets[0],
				    (unsigned long long)packets);
	return 0;
}

static int arm_run(const struct flow_bpf *skel, int prog_fd, double seconds, double *ret_ns,
		   struct haul_err *err)
{
	struct os *os = os_linux();
	uint32_t mean_ns;
	uint64_t sum_ns = 0, runs = 0;
	int rc = packet_repeat(prog_fd, 1, &mean_ns); /* it is known from now on */
	int64_t end_ns = os->now_ns(os) + (int64_t)(seconds / SLICES * (double)NS_PER_S);
	do {
		rc = rc < 0 ? rc : packet_repeat(prog_fd, REPEAT, &mean_ns);
		sum_ns += mean_ns;
		runs++;
	} while (rc >= 0 && os->now_ns(os) < end_ns);
	if (rc < 0)
		return haul_err_set(err, rc, "PROG_TEST_RUN: %s", haul_strerror(rc));
	*ret_ns = (double)sum_ns / (double)runs;
	return skel ? count_check(skel, runs * REPEAT + 1, err) : 0;
}

int map_packet_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		   struct bench_sample *ret_sample, struct haul_err *err)
{
	(void)ctx;
	(void)self;
	struct flow_bpf *skel = NULL;
	int rc, prog_fd;
	prog_fd = arm == BENCH_INDIVIDUAL ? nothing_load() : counting_load(&skel);
	if (skel)
		prog_fd = bpf_program__fd(skel->progs.flow_ingress);
	rc = prog_fd < 0 ? prog_fd : 0;
	if (rc < 0)
		return haul_err_set(err, -ENOTSUP, "the program cannot be loaded: %s",
				    haul_strerror(rc));
	rc = arm_run(skel, prog_fd, seconds, &ret_sample->value, err);
	if (ret_sample->value <= 0.0)
		ret_sample->value = 0.5; /* less than the kernel's whole ns */
	if (skel)
		flow_bpf__destroy(skel);
	else
		close(prog_fd);
	return rc;
}
