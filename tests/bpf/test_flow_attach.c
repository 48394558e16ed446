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

#include "bpf/flow_net.h"
#include "lib/testlib.h"
#include "os/netns.h"

enum { TCX_INGRESS = 46, TCX_EGRESS = 47, ACT_NEXT = -1, ACT_SHOT = 2, NOBODY = 65534 };

static struct flow_net net;

static int group_open(void **state)
{
	(void)state;
	flow_net_open(&net);
	return 0;
}

static int group_close(void **state)
{
	(void)state;
	flow_net_close(&net);
	return 0;
}

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create__leaves_nothing_behind),
		cmocka_unit_test(test_create__timer_ends_with_it),
		cmocka_unit_test(test_create__refuses_wrong_options),
		cmocka_unit_test(test_create__says_that_there_is_no_btf),
		cmocka_unit_test(test_create__says_that_it_needs_privilege),
		cmocka_unit_test(test_create__falls_back_to_clsact),
	};
	return cmocka_run_group_tests(tests, group_open, group_close);
}
