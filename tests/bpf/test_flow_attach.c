/* Onto interfaces and off them: hooks, neighbours on the hook, refusals; nothing stays behind. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/flow_group.h"
#include "lib/testlib.h"
#include "os/netns.h"

enum { TCX_INGRESS = 46, TCX_EGRESS = 47, ACT_NEXT = -1, ACT_SHOT = 2, NOBODY = 65534 };

/* A kernel that refuses what it is told to. */
struct refusing {
	struct bpf_sys sys;
	uint32_t from, to; /* attach types */
	int code;
};

static int refusing_call(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	const struct refusing *refusing = (const void *)sys;

	if (cmd == BPF_LINK_CREATE && attr->link_create.attach_type >= refusing->from &&
	    attr->link_create.attach_type <= refusing->to)
		return refusing->code;
	return bpf_sys_linux()->call(bpf_sys_linux(), cmd, attr);
}

static struct refusing no_tcx(void)
{
	return (struct refusing){ .sys = { .call = refusing_call },
				  .from = TCX_INGRESS,
				  .to = TCX_EGRESS,
				  .code = -EINVAL };
}

static void udp_to(int side, uint32_t count)
{
	int fd = flow_net_socket(&net, 1 - side, SOCK_DGRAM, false, 0);
	flow_net_udp(fd, side, 9, count, 100);
	close(fd);
}

/* Packets of UDP that the table has seen, overflow and all. */
static uint64_t udp_packets(struct haul_flows *flows)
{
	static struct haul_flows_summary summary;
	assert_int_equal(haul_flows_summary(flows, NULL, &summary), 0);
	return summary.by_proto[IPPROTO_UDP].packets;
}

/* A table counts what passes both ways, and when it is closed the kernel holds nothing of it. */
static void test_create__leaves_nothing_behind(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct flow_net_ids ids;
	(void)state;

	flow_net_ids(flows, &ids);
	assert_string_equal(haul_flows_info(flows)->hook, "tcx");
	assert_string_equal(haul_flows_info(flows)->ifname, "veth0");
	assert_string_equal(haul_flows_info(flows)->name, "");
	assert_int_equal(flow_net_tcx(&net, 0, false), 1);
	assert_int_equal(flow_net_tcx(&net, 0, true), 1);
	udp_to(0, 7);
	udp_to(1, 5);
	assert_int_equal(udp_packets(flows), 12);
	haul_flows_close(flows);
	assert_int_equal(flow_net_tcx(&net, 0, false), 0);
	assert_int_equal(flow_net_tcx(&net, 0, true), 0);
	flow_net_gone(&ids);
}

/* A timer in the kernel does not keep the table alive either. */
static void test_create__timer_ends_with_it(void **state)
{
	struct haul_flows_options options = { .entries_max = 100, .sweep_ms = 10 };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	struct flow_net_ids ids;
	uint64_t totals[HAUL_FLOW_TOTALS] = { 0 };
	(void)state;

	flow_net_ids(flows, &ids);
	for (int attempt = 0; attempt < 1000 && totals[HAUL_FLOW_T_SWEEPS] < 3; attempt++) {
		(void)poll(NULL, 0, 10);
		assert_int_equal(haul_flows_totals(flows, totals), 0);
	}
	assert_true(totals[HAUL_FLOW_T_SWEEPS] >= 3);
	haul_flows_close(flows);
	flow_net_gone(&ids);
}

/* What cannot be is refused with one line that names it, before anything is loaded. */
static void test_create__refuses_wrong_options(void **state)
{
	static const struct {
		struct haul_flows_options options;
		int code;
		const char *text;
	} cases[] = {
		{ { .ifname = NULL }, -EINVAL, "no interface" },
		{ { .ifname = "" }, -EINVAL, "no interface" },
		{ { .ifname = "nosuch0" }, -ENODEV, "\"nosuch0\": there is none of that name" },
		{ { .ifname = "a-name-that-is-too-long" }, -ENODEV, "longer than 15" },
		{ { .ifname = "veth0", .entries_max = HAUL_FLOWS_ENTRIES_MAX + 1 },
		  -EINVAL,
		  "16777217 connections" },
		{ { .ifname = "veth0", .shards = 3 }, -EINVAL, "3 shards" },
		{ { .ifname = "veth0", .shards = 512 }, -EINVAL, "512 shards" },
		{ { .ifname = "veth0", .sweep_ms = 9 }, -EINVAL, "9 ms" },
		{ { .ifname = "veth0", .ring_bytes = 1000 }, -EINVAL, "1000 bytes" },
		{ { .ifname = "veth0", .ring_bytes = 2048 }, -EINVAL, "2048 bytes" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct haul_flows *flows = NULL;
		struct haul_err err = { 0 };
		assert_int_equal(flow_net_try(&net, 0, &cases[i].options, &flows, &err),
				 cases[i].code);
		if (!strstr(err.text, cases[i].text))
			fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].text);
		assert_null(flows);
	}
}

/* A kernel without descriptions of its types is told from one that lacks something else. */
static void test_create__says_that_there_is_no_btf(void **state)
{
	struct haul_flows_options options = { .ifname = "veth0" };
	struct haul_flows *flows = NULL;
	struct haul_err err = { 0 };
	const char *btf = net.env.btf;
	int rc;
	(void)state;

	net.env.btf = "/nonexistent/vmlinux";
	rc = flow_net_try(&net, 0, &options, &flows, &err);
	net.env.btf = btf;
	assert_int_equal(rc, -ENOTSUP);
	assert_non_null(strstr(err.text, "BTF"));
	assert_null(flows);
}

static int create_as_nobody(void *arg)
{
	const struct flow_env *env = arg;
	struct haul_flows_options options = { .ifname = "veth0", .entries_max = 100 };
	struct haul_flows *flows = NULL;
	struct haul_err err = { 0 };

	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return 2;
	if (flows_create_in(&flows, env, &options, &err) != -EPERM)
		return 3;
	return strstr(err.text, "CAP_BPF") ? 0 : 4;
}

/* Whoever may not load programs learns what is needed. */
static void test_create__says_that_it_needs_privilege(void **state)
{
	int status = 0;
	pid_t child;
	(void)state;

	fflush(stdout);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(flow_net_call(&net, 0, create_as_nobody, &net.env));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static bool tc_says(int side, const char *object, const char *what)
{
	const char *const argv[] = { "tc",    object,
				     "show",  "dev",
				     "veth0", strcmp(object, "filter") == 0 ? "ingress" : NULL,
				     NULL };
	char text[4096];
	assert_int_equal(flow_net_run(&net, side, argv, text, sizeof text), 0);
	return strstr(text, what) != NULL;
}

/* Where the kernel has no TCX, filters on clsact do the same, and go with the table. */
static void test_create__falls_back_to_clsact(void **state)
{
	struct refusing refusing = no_tcx();
	struct haul_flows *flows;
	struct flow_net_ids ids;
	(void)state;

	net.env.sys = &refusing.sys;
	flows = flow_net_flows(&net, 0, NULL);
	net.env.sys = bpf_sys_linux();
	assert_string_equal(haul_flows_info(flows)->hook, "clsact");
	assert_int_equal(flow_net_tcx(&net, 0, false), 0);
	assert_true(tc_says(0, "qdisc", "clsact"));
	assert_true(tc_says(0, "filter", "flow_ingress"));
	flow_net_ids(flows, &ids);
	udp_to(0, 7);
	udp_to(1, 5);
	assert_int_equal(udp_packets(flows), 12);
	flow_net_done(&net, 0, flows);
	assert_false(tc_says(0, "qdisc", "clsact"));
	flow_net_gone(&ids);
}

/* A filter of somebody else on the qdisc that we made keeps the qdisc, and itself. */
static void test_close__leaves_a_qdisc_that_others_use(void **state)
{
	/* A classic program: return 0, which is no match. */
	static const char *const add[] = { "tc",    "filter",   "add",        "dev",
					   "veth0", "ingress",  "prio",       "7",
					   "bpf",   "bytecode", "1,6 0 0 0,", NULL };
	static const char *const del[] = { "tc", "qdisc", "del", "dev", "veth0", "clsact", NULL };
	struct refusing refusing = no_tcx();
	struct haul_flows *flows;
	(void)state;

	net.env.sys = &refusing.sys;
	flows = flow_net_flows(&net, 0, NULL);
	net.env.sys = bpf_sys_linux();
	assert_int_equal(flow_net_run(&net, 0, add, NULL, 0), 0);
	flow_net_done(&net, 0, flows);
	assert_true(tc_says(0, "qdisc", "clsact"));
	assert_true(tc_says(0, "filter", "pref 7"));
	assert_false(tc_says(0, "filter", "flow_ingress"));
	assert_int_equal(flow_net_run(&net, 0, del, NULL, 0), 0);
}

/* What was attached before a later step failed is taken back, and the text says what failed. */
static void test_create__undoes_a_half_done_attach(void **state)
{
	static const struct {
		uint32_t from, to;
		int code;
		enum haul_flows_hook hook;
		const char *text;
	} cases[] = {
		{ TCX_EGRESS, TCX_EGRESS, -EPERM, HAUL_FLOWS_TC, "CAP_NET_ADMIN" },
		{ TCX_EGRESS, TCX_EGRESS, -ENOMEM, HAUL_FLOWS_TC, "a TCX program to \"veth0\"" },
		{ TCX_EGRESS, TCX_EGRESS, -ENOMEM, HAUL_FLOWS_XDP, "a TCX program to \"veth0\"" },
		{ BPF_XDP, BPF_XDP, -EBUSY, HAUL_FLOWS_XDP, "has an XDP program already" },
		{ BPF_XDP, BPF_XDP, -ENOMEM, HAUL_FLOWS_XDP, "an XDP program to \"veth0\"" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct refusing refusing = { .sys = { .call = refusing_call },
					     .from = cases[i].from,
					     .to = cases[i].to,
					     .code = cases[i].code };
		struct haul_flows_options options = { .ifname = "veth0",
						      .entries_max = 100,
						      .hook = cases[i].hook };
		struct haul_flows *flows = NULL;
		struct haul_err err = { 0 };
		net.env.sys = &refusing.sys;
		assert_int_equal(flow_net_try(&net, 0, &options, &flows, &err), cases[i].code);
		net.env.sys = bpf_sys_linux();
		if (!strstr(err.text, cases[i].text))
			fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].text);
		assert_null(flows);
		assert_int_equal(flow_net_tcx(&net, 0, false), 0);
		assert_int_equal(flow_net_tcx(&net, 0, true), 0);
	}
}

/* ---- neighbours on the hook ---- */

struct neighbour {
	int map_fd, prog_fd, link_fd;
};

/* A program that counts packets, and then says what it is told to. */
static int neighbour_load(struct neighbour *neighbour, int verdict)
{
	neighbour->map_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "neighbour", 4, 8, 1, NULL);
	assert_true(neighbour->map_fd >= 0);
	const struct bpf_insn program[] = {
		/* *(u32 *)(r10 - 4) = 0; r2 = r10 - 4 */
		{ .code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = 10, .off = -4 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -4 },
		/* r1 = the map; r0 = its element; none: go on behind the addition */
		{ .code = BPF_LD | BPF_DW | BPF_IMM,
		  .dst_reg = 1,
		  .src_reg = BPF_PSEUDO_MAP_FD,
		  .imm = neighbour->map_fd },
		{ 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem },
		{ .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 0, .off = 2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 1 },
		{ .code = BPF_STX | BPF_ATOMIC | BPF_DW,
		  .dst_reg = 0,
		  .src_reg = 1,
		  .imm = BPF_ADD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = verdict },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	neighbour->prog_fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "neighbour", "MIT", program,
					   sizeof program / sizeof program[0], NULL);
	return neighbour->prog_fd;
}

static int neighbour_attach(void *arg)
{
	const struct neighbour *neighbour = arg;
	union bpf_attr attr = { 0 };

	attr.link_create.prog_fd = (uint32_t)neighbour->prog_fd;
	attr.link_create.target_ifindex = if_nametoindex("veth0");
	attr.link_create.attach_type = TCX_INGRESS;
	return bpf_sys_linux()->call(bpf_sys_linux(), BPF_LINK_CREATE, &attr);
}

static void neighbour_open(struct neighbour *neighbour, int verdict)
{
	assert_true(neighbour_load(neighbour, verdict) >= 0);
	neighbour->link_fd = flow_net_call(&net, 0, neighbour_attach, neighbour);
	assert_true(neighbour->link_fd >= 0);
}

static uint64_t neighbour_close(struct neighbour *neighbour)
{
	uint64_t count = 0;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(neighbour->map_fd, &zero, &count), 0);
	assert_int_equal(close(neighbour->link_fd), 0);
	assert_int_equal(close(neighbour->prog_fd), 0);
	assert_int_equal(close(neighbour->map_fd), 0);
	return count;
}

/* Whoever was on the hook before us, or comes after us, goes on to see every packet. */
static void test_attach__lets_others_see_every_packet(void **state)
{
	struct neighbour before, after;
	struct haul_flows *flows;
	(void)state;

	neighbour_open(&before, ACT_NEXT);
	flows = flow_net_flows(&net, 0, NULL);
	neighbour_open(&after, ACT_NEXT);
	assert_int_equal(flow_net_tcx(&net, 0, false), 3);
	udp_to(0, 9);
	assert_int_equal(udp_packets(flows), 9);
	assert_true(neighbour_close(&after) >= 9);
	/* Nobody else is touched by our going. */
	flow_net_done(&net, 0, flows);
	assert_int_equal(flow_net_tcx(&net, 0, false), 1);
	assert_true(neighbour_close(&before) >= 9);
}

/* We stand first: what another program drops has been counted. */
static void test_attach__counts_what_others_drop(void **state)
{
	struct neighbour neighbour;
	struct haul_flows *flows;
	(void)state;

	udp_to(0, 1); /* resolves the address, before nothing gets through */
	neighbour_open(&neighbour, ACT_SHOT);
	flows = flow_net_flows(&net, 0, NULL);
	udp_to(0, 9);
	assert_int_equal(udp_packets(flows), 9);
	assert_true(neighbour_close(&neighbour) >= 9);
	flow_net_done(&net, 0, flows);
}

/* Two tables on one interface count the same, each for itself. */
static void test_attach__twice_counts_twice(void **state)
{
	struct haul_flows *one = flow_net_flows(&net, 0, NULL);
	struct haul_flows *two = flow_net_flows(&net, 0, NULL);
	(void)state;

	udp_to(0, 4);
	udp_to(1, 3);
	assert_int_equal(udp_packets(one), 7);
	assert_int_equal(udp_packets(two), 7);
	flow_net_done(&net, 0, one);
	udp_to(0, 1);
	assert_int_equal(udp_packets(two), 8);
	flow_net_done(&net, 0, two);
}

/* ---- other hooks, other interfaces ---- */

/* XDP counts what tc counts on the same interface, and leaves egress to tc. */
static void test_xdp__counts_as_tc_does(void **state)
{
	struct haul_flows_options options = { .hook = HAUL_FLOWS_XDP };
	struct haul_flows *tc = flow_net_flows(&net, 0, NULL);
	struct haul_flows *xdp;
	struct haul_flow_key keys[2];
	struct haul_flow_value values[2][2];
	uint16_t from = 0, port;
	(void)state;

	/* Before the program comes: an interface with XDP may not change these. */
	flow_net_offloads(&net, false);
	xdp = flow_net_flows(&net, 0, &options);
	assert_non_null(strstr(haul_flows_info(xdp)->hook, "xdp"));
	port = flow_net_tcp(&net, 1, false, 100000, &from);
	keys[0] = flow_net_key(IPPROTO_TCP, port, from);
	struct haul_map_rows rows = { .count = 1, .keys = keys, .values = values[0] };
	struct haul_map_result result;
	assert_int_equal(haul_flows_get(tc, &rows, &result), 0);
	assert_int_equal(result.done, 1);
	rows.values = values[1];
	assert_int_equal(haul_flows_get(xdp, &rows, &result), 0);
	assert_int_equal(result.done, 1);
	assert_memory_equal(values[0][0].packets, values[1][0].packets,
			    sizeof values[0][0].packets);
	assert_memory_equal(values[0][0].bytes, values[1][0].bytes, sizeof values[0][0].bytes);
	assert_int_equal(values[1][0].payload[1], 100000);
	flow_net_done(&net, 0, xdp);
	flow_net_done(&net, 0, tc);
	flow_net_offloads(&net, true);
}

struct tun_job {
	const char *ifname;
	short flags;
};

static int tun_inside(void *arg)
{
	const struct tun_job *job = arg;
	struct ifreq request = { .ifr_flags = job->flags };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	memcpy(request.ifr_name, job->ifname, strlen(job->ifname));
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	return fd;
}

/* An IPv4 UDP packet from 192.0.2.1:1000 to 192.0.2.2:2000 with 4 bytes, behind an Ethernet header
 * that is left out where there is none. */
static const uint8_t frame[14 + 32] = {
	2, 0,  0, 0,    0, 1,    2,  0,  0,    0,    0,   2,   8,   0,   0x45, 0,
	0, 32, 0, 0,    0, 0,    64, 17, 0xf6, 0xcb, 192, 0,   2,   1,   192,  0,
	2, 2,  3, 0xe8, 7, 0xd0, 0,  12, 0,    0,    'h', 'a', 'u', 'l',
};

static void tun_counts(short flags, size_t skip, const char *ifname)
{
	struct tun_job job = { .ifname = ifname, .flags = (short)(flags | IFF_NO_PI) };
	struct haul_flows_options options = { .ifname = ifname };
	struct haul_flow_key key;
	struct haul_flow_value value;
	struct haul_flows *flows;
	uint32_t entries;
	int fd = flow_net_call(&net, 0, tun_inside, &job);

	if (fd < 0)
		test_skip("/dev/net/tun cannot be opened");
	assert_int_equal(netns_up(net.netns_fd[0], ifname, 1500, NULL), 0);
	flows = flow_net_flows(&net, 0, &options);
	for (int i = 0; i < 3; i++)
		assert_int_equal(write(fd, frame + skip, sizeof frame - skip), sizeof frame - skip);
	entries = flow_net_entries(flows, &key, &value, 1);
	/* The kernel itself may send router or listener messages there. */
	assert_true(entries >= 1);
	memset(&key, 0, sizeof key);
	key = flow_net_key(IPPROTO_UDP, 1000, 2000);
	memcpy(key.addr_lo + 12, (const uint8_t[]){ 192, 0, 2, 1 }, 4);
	memcpy(key.addr_hi + 12, (const uint8_t[]){ 192, 0, 2, 2 }, 4);
	struct haul_map_rows rows = { .count = 1, .keys = &key, .values = &value };
	struct haul_map_result result;
	assert_int_equal(haul_flows_get(flows, &rows, &result), 0);
	assert_int_equal(result.done, 1);
	assert_int_equal(value.packets[0], 3);
	assert_int_equal(value.bytes[0], 3 * (sizeof frame - skip));
	assert_int_equal(value.payload[0], 3 * 4);
	flow_net_done(&net, 0, flows);
	assert_int_equal(close(fd), 0);
}

/* Interfaces without Ethernet headers are counted by what they have. */
static void test_attach__takes_a_tun(void **state)
{
	(void)state;
	tun_counts(IFF_TUN, 14, "tun0");
}

/* TAPs are counted, too. */
static void test_attach__takes_a_tap(void **state)
{
	(void)state;
	tun_counts(IFF_TAP, 0, "tap0");
}

/* When the interface goes, the table stays readable, and goes without complaint. */
static void test_close__after_the_interface_is_gone(void **state)
{
	struct tun_job job = { .ifname = "tun1", .flags = IFF_TUN | IFF_NO_PI };
	struct haul_flows_options options = { .ifname = "tun1" };
	struct haul_flows *flows;
	struct flow_net_ids ids;
	int fd = flow_net_call(&net, 0, tun_inside, &job);
	(void)state;

	if (fd < 0)
		test_skip("/dev/net/tun cannot be opened");
	assert_int_equal(netns_up(net.netns_fd[0], "tun1", 1500, NULL), 0);
	flows = flow_net_flows(&net, 0, &options);
	flow_net_ids(flows, &ids);
	assert_int_equal(write(fd, frame + 14, sizeof frame - 14), sizeof frame - 14);
	assert_int_equal(close(fd), 0);
	assert_true(flow_net_entries(flows, NULL, NULL, 0) >= 1);
	flow_net_done(&net, 0, flows);
	flow_net_gone(&ids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create__leaves_nothing_behind),
		cmocka_unit_test(test_create__timer_ends_with_it),
		cmocka_unit_test(test_create__refuses_wrong_options),
		cmocka_unit_test(test_create__says_that_there_is_no_btf),
		cmocka_unit_test(test_create__says_that_it_needs_privilege),
		cmocka_unit_test(test_create__falls_back_to_clsact),
		cmocka_unit_test(test_close__leaves_a_qdisc_that_others_use),
		cmocka_unit_test(test_create__undoes_a_half_done_attach),
		cmocka_unit_test(test_attach__lets_others_see_every_packet),
		cmocka_unit_test(test_attach__counts_what_others_drop),
		cmocka_unit_test(test_attach__twice_counts_twice),
		cmocka_unit_test(test_xdp__counts_as_tc_does),
		cmocka_unit_test(test_attach__takes_a_tun),
		cmocka_unit_test(test_attach__takes_a_tap),
		cmocka_unit_test(test_close__after_the_interface_is_gone),
	};
	return cmocka_run_group_tests(tests, group_open, group_close);
}
