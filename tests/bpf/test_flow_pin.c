/* Tables that outlive their process: pins, names, other versions, half-done states. */
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/flow_group.h"
#include "lib/testlib.h"

enum { NOBODY = 65534, PATH_BYTES = 256 };

static void says(const struct haul_err *err, const char *text)
{
	if (!strstr(err->text, text))
		fail_msg("\"%s\" does not say \"%s\"", err->text, text);
}

static void path_of(char path[PATH_BYTES], const char *rest)
{
	(void)snprintf(path, PATH_BYTES, "%s/haul/flows%s", net.env.bpffs, rest);
}

static bool there(const char *rest)
{
	char path[PATH_BYTES];
	struct stat info;
	path_of(path, rest);
	return stat(path, &info) == 0;
}

/* A table on veth0 of that side, pinned. */
static struct haul_flows *pinned(int side, const char *name)
{
	struct haul_flows *flows = flow_net_flows(&net, side, NULL);
	struct haul_err err = { 0 };
	if (haul_flows_pin(flows, name, &err) < 0)
		fail_msg("%s", err.text);
	return flows;
}

static void nothing_left(int side)
{
	assert_int_equal(flow_net_tcx(&net, side, false), 0);
	assert_int_equal(flow_net_tcx(&net, side, true), 0);
	assert_false(there(""));
}

static int attach_and_end(void *arg)
{
	struct haul_flows_options options = { .ifname = "veth0", .entries_max = 100 };
	struct haul_flows *flows = NULL;
	(void)arg;
	if (flows_create_in(&flows, &net.env, &options, NULL) < 0)
		return 1;
	return haul_flows_pin(flows, "veth0", NULL) < 0 ? 2 : 0;
}

/* The process that attached ends without a word, and the table goes on counting. */
static void test_pin__survives_the_process(void **state)
{
	struct haul_flows *flows = NULL;
	struct haul_err err = { 0 };
	struct flow_net_ids ids;
	uint64_t packets;
	int status = 0, fd;
	pid_t child;
	(void)state;

	/* Mounted by us, so that it is not the child's alone. */
	haul_flows_close(pinned(1, "other"));
	fflush(stdout);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(flow_net_call(&net, 0, attach_and_end, NULL));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(flows_open_in(&flows, &net.env, "veth0", &err), 0);
	assert_string_equal(haul_flows_info(flows)->name, "veth0");
	assert_string_equal(haul_flows_info(flows)->ifname, "veth0");
	assert_string_equal(haul_flows_info(flows)->hook, "tcx");
	assert_int_equal(haul_flows_info(flows)->entries_max, 100);
	assert_string_equal(haul_flows_stats(flows)->name, "flows.veth0");
	flow_net_ids(flows, &ids);
	packets = flow_net_total(flows, HAUL_FLOW_T_PACKETS);
	fd = flow_net_socket(&net, 1, SOCK_DGRAM, false, 0);
	flow_net_udp(fd, 0, 9, 5, 10);
	close(fd);
	assert_true(flow_net_total(flows, HAUL_FLOW_T_PACKETS) >= packets + 5);
	/* Detached while somebody has it open: it stays readable. */
	assert_int_equal(flow_net_detach(&net, 0, "veth0", &err), 0);
	assert_int_equal(flow_net_tcx(&net, 0, false), 0);
	flow_net_balance(flows);
	haul_flows_close(flows);
	flow_net_gone(&ids);
	assert_int_equal(flow_net_detach(&net, 1, "other", &err), 0);
	nothing_left(1);
}

/* Whoever pinned may still have it open: detach by name takes it off the interface all the same. */
static void test_detach__works_while_the_maker_lives(void **state)
{
	struct haul_flows *flows = pinned(0, "veth0");
	struct flow_net_ids ids;
	(void)state;

	flow_net_ids(flows, &ids);
	assert_int_equal(flow_net_tcx(&net, 0, false), 1);
	assert_int_equal(flow_net_detach(&net, 1, "veth0", NULL), 0);
	nothing_left(0);
	haul_flows_close(flows);
	flow_net_gone(&ids);
}

/* Names that a folder cannot have, or that we use ourselves, are refused; odd ones are kept. */
static void test_pin__checks_names(void **state)
{
	static const char *const wrong[] = { "",    "a/b",  "~veth0",
					     "a b", "a\nb", "12345678901234567890123456789012" };
	static const char *const odd[] = { "eth0.100", "%2e", ".",
					   "1234567890123456789012345678901" };
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct haul_err err = { 0 };
	(void)state;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		assert_int_equal(haul_flows_pin(flows, wrong[i], &err), -EINVAL);
		says(&err, "the name");
		assert_int_equal(flow_net_detach(&net, 0, wrong[i], &err), -EINVAL);
	}
	haul_flows_close(flows);
	for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
		haul_flows_close(pinned(0, odd[i]));
		assert_int_equal(flows_open_in(&flows, &net.env, odd[i], &err), 0);
		assert_string_equal(haul_flows_info(flows)->name, odd[i]);
		haul_flows_close(flows);
		assert_int_equal(flow_net_detach(&net, 0, odd[i], &err), 0);
	}
	nothing_left(0);
}

/* One interface is not attached twice by mistake, and a name stands for one table. */
static void test_pin__refuses_what_is_there(void **state)
{
	struct haul_flows_options options = { .ifname = "veth0" };
	struct haul_flows *first = pinned(0, "first"), *other = NULL;
	struct haul_err err = { 0 };
	(void)state;

	assert_int_equal(haul_flows_pin(first, "again", &err), -EEXIST);
	says(&err, "as \"first\"");
	assert_int_equal(flow_net_try(&net, 0, &options, &other, &err), -EEXIST);
	says(&err, "\"veth0\" has a connection table already, \"first\"");
	assert_null(other);
	other = flow_net_flows(&net, 1, NULL);
	assert_int_equal(haul_flows_pin(other, "first", &err), -EEXIST);
	says(&err, "another network namespace");
	assert_int_equal(haul_flows_pin(other, "second", &err), 0);
	haul_flows_close(other);
	/* Of the same namespace: made before the first was pinned. */
	assert_int_equal(flow_net_detach(&net, 0, "first", NULL), 0);
	haul_flows_close(first);
	first = flow_net_flows(&net, 0, NULL);
	other = pinned(0, "first");
	assert_int_equal(haul_flows_pin(first, "first", &err), -EEXIST);
	says(&err, "\"first\" is attached already, to \"veth0\"");
	haul_flows_close(first);
	haul_flows_close(other);
	assert_int_equal(flow_net_detach(&net, 0, "first", NULL), 0);
	assert_int_equal(flow_net_detach(&net, 1, "second", NULL), 0);
	nothing_left(0);
}

struct names {
	int count;
	int stop_at;
	char text[256];
};

static int names_add(const char *name, void *arg)
{
	struct names *names = arg;
	size_t used = strlen(names->text);
	(void)snprintf(names->text + used, sizeof names->text - used, "%s ", name);
	return ++names->count == names->stop_at;
}

/* All pinned tables are listed, in order; and whoever asks for one that is not there is told. */
static void test_each__lists_in_order(void **state)
{
	struct names names = { 0 };
	struct haul_flows *flows = NULL;
	struct haul_err err = { 0 };
	(void)state;

	assert_int_equal(flows_each_in(&net.env, names_add, &names, &err), 0);
	assert_int_equal(flows_open_in(&flows, &net.env, "x", &err), -ENOENT);
	says(&err, "\"x\" is not attached: no connection table is");
	assert_int_equal(flow_net_detach(&net, 0, "x", &err), -ENOENT);
	says(&err, "\"x\" is not attached: no connection table is");
	haul_flows_close(pinned(0, "b.1"));
	haul_flows_close(pinned(1, "a"));
	assert_int_equal(flows_each_in(&net.env, names_add, &names, &err), 2);
	assert_string_equal(names.text, "a b.1 ");
	names = (struct names){ .stop_at = 1 };
	assert_int_equal(flows_each_in(&net.env, names_add, &names, &err), 1);
	assert_string_equal(names.text, "a ");
	assert_int_equal(flows_open_in(&flows, &net.env, "x", &err), -ENOENT);
	says(&err, "attached: a, b.1");
	assert_int_equal(flow_net_detach(&net, 0, "b.1", &err), 0);
	assert_int_equal(flow_net_detach(&net, 1, "a", &err), 0);
	nothing_left(0);
}

/* What a pin did not finish is no table; detach takes it away, and another pin takes its place. */
static void test_detach__clears_what_is_half_done(void **state)
{
	struct names names = { 0 };
	struct haul_flows *flows = NULL;
	struct haul_err err = { 0 };
	char done[PATH_BYTES], half[PATH_BYTES];
	(void)state;

	path_of(done, "/x");
	path_of(half, "/~x");
	haul_flows_close(pinned(0, "x"));
	assert_int_equal(rename(done, half), 0);
	assert_int_equal(flows_each_in(&net.env, names_add, &names, &err), 0);
	assert_int_equal(flows_open_in(&flows, &net.env, "x", &err), -ENOENT);
	assert_int_equal(flow_net_detach(&net, 0, "x", &err), 0);
	nothing_left(0);
	haul_flows_close(pinned(0, "x"));
	assert_int_equal(rename(done, half), 0);
	haul_flows_close(pinned(0, "x"));
	assert_false(there("/~x"));
	/* A detach that was interrupted behind its first step. */
	path_of(done, "/x/sweep");
	assert_int_equal(unlink(done), 0);
	assert_int_equal(flows_open_in(&flows, &net.env, "x", &err), -ENOENT);
	says(&err, "not complete");
	assert_int_equal(flow_net_detach(&net, 0, "x", &err), 0);
	nothing_left(0);
}

/* A table of another version is neither read nor written, but can be detached. */
static void test_open__knows_other_versions(void **state)
{
	struct haul_flows *made = pinned(0, "x"), *flows = NULL;
	struct flow_saved saved = made->saved;
	struct haul_err err = { 0 };
	uint32_t zero = 0;
	(void)state;

	saved.version = FLOW_VERSION + 1;
	assert_int_equal(bpf_map_update_elem(made->fd[FLOW_INFO], &zero, &saved, BPF_ANY), 0);
	haul_flows_close(made);
	assert_int_equal(flows_open_in(&flows, &net.env, "x", &err), HAUL_EVERSION);
	says(&err, "another version");
	assert_null(flows);
	assert_int_equal(flow_net_detach(&net, 0, "x", &err), 0);
	nothing_left(0);
}

static int refuse_tcx(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	(void)sys;
	if (cmd == BPF_LINK_CREATE)
		return -EINVAL;
	return bpf_sys_linux()->call(bpf_sys_linux(), cmd, attr);
}

/* Filters on clsact are found again by a later process, in their own namespace only. */
static void test_detach__removes_filters_where_they_are(void **state)
{
	static const char *const show[] = { "tc", "qdisc", "show", "dev", "veth0", NULL };
	struct bpf_sys no_tcx = { .call = refuse_tcx };
	struct haul_err err = { 0 };
	struct flow_net_ids ids;
	struct haul_flows *flows;
	char text[1024];
	(void)state;

	net.env.sys = &no_tcx;
	flows = pinned(0, "x");
	net.env.sys = bpf_sys_linux();
	flow_net_ids(flows, &ids);
	flow_net_done(&net, 0, flows);
	assert_int_equal(flows_open_in(&flows, &net.env, "x", &err), 0);
	assert_string_equal(haul_flows_info(flows)->hook, "clsact");
	haul_flows_close(flows);
	assert_int_equal(flow_net_detach(&net, 1, "x", &err), -EXDEV);
	says(&err, "another network namespace");
	assert_true(there("/x/info"));
	assert_int_equal(flow_net_detach(&net, 0, "x", &err), 0);
	assert_int_equal(flow_net_run(&net, 0, show, text, sizeof text), 0);
	assert_null(strstr(text, "clsact"));
	nothing_left(0);
	flow_net_gone(&ids);
}

/* Where nothing can be mounted a pin says so, and the table goes on unpinned. */
static void test_pin__needs_a_bpf_file_system(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct haul_err err = { 0 };
	(void)state;

	flows->env.bpffs = "/nonexistent";
	assert_int_equal(haul_flows_pin(flows, "x", &err), -ENOENT);
	says(&err, "/nonexistent is no BPF file system");
	flows->env.bpffs = "/dev/null";
	assert_int_equal(haul_flows_pin(flows, "x", &err), -ENOTDIR);
	assert_string_equal(haul_flows_info(flows)->name, "");
	assert_int_equal(flow_net_tcx(&net, 0, false), 1);
	haul_flows_close(flows);
}

static int open_as_nobody(void)
{
	struct haul_flows *flows = NULL;
	struct haul_err err = { 0 };

	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return 2;
	if (flows_open_in(&flows, &net.env, "x", &err) != -EPERM || !strstr(err.text, "needs root"))
		return 3;
	if (flows_detach_in(&net.env, "x", &err) != -EPERM || !strstr(err.text, "needs root"))
		return 4;
	return flows_each_in(&net.env, names_add, NULL, &err) == -EPERM ? 0 : 5;
}

/* Without privilege one line says what is needed. */
static void test_open__says_that_it_needs_privilege(void **state)
{
	int status = 0;
	pid_t child;
	(void)state;

	haul_flows_close(pinned(0, "x"));
	fflush(stdout);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(open_as_nobody());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(flow_net_detach(&net, 0, "x", NULL), 0);
	nothing_left(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pin__survives_the_process),
		cmocka_unit_test(test_detach__works_while_the_maker_lives),
		cmocka_unit_test(test_pin__checks_names),
		cmocka_unit_test(test_pin__refuses_what_is_there),
		cmocka_unit_test(test_each__lists_in_order),
		cmocka_unit_test(test_detach__clears_what_is_half_done),
		cmocka_unit_test(test_open__knows_other_versions),
		cmocka_unit_test(test_detach__removes_filters_where_they_are),
		cmocka_unit_test(test_pin__needs_a_bpf_file_system),
		cmocka_unit_test(test_open__says_that_it_needs_privilege),
	};
	return cmocka_run_group_tests(tests, group_open, group_close);
}
