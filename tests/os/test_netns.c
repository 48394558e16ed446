/* Needs root: makes namespaces, interfaces and processes, and sees that none of them stays. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "os/netns.h"

enum { OUTPUT_BYTES = 4096 };

static ino_t own_netns(void)
{
	struct stat st;

	assert_int_equal(stat("/proc/thread-self/ns/net", &st), 0);
	return st.st_ino;
}

/* Run a program in a namespace to its end; returns its exit status and all it printed. */
static int run(int netns_fd, const char *const argv[], char output[OUTPUT_BYTES])
{
	struct haul_err err = { 0 };
	size_t len = 0;
	int out[2];
	int status = 0;
	ssize_t got;
	int pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = netns_spawn(netns_fd, argv, out[1], &err);
	if (pid < 0)
		print_error("%s\n", err.text);
	assert_true(pid > 0);
	close(out[1]);
	while ((got = read(out[0], output + len, OUTPUT_BYTES - 1 - len)) > 0)
		len += (size_t)got;
	output[len] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A new namespace is another one, has lo up, and the caller is still where it was. */
static void test_netns_open__gives_lo_up_and_stays_outside(void **state)
{
	const char *const argv[] = { "ip", "-brief", "link", NULL };
	ino_t before = own_netns();
	char output[OUTPUT_BYTES];
	struct stat st;
	int fd = netns_open(NULL);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(own_netns(), before);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_ino != before);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(run(fd, argv, output), 0);
	assert_non_null(strstr(output, "LOOPBACK,UP"));
	close(fd);
}

/* A veth pair with addresses of both families carries ping between two namespaces. */
static void test_netns_veth__carries_ipv4_and_ipv6(void **state)
{
	const char *const ping4[] = { "ping", "-c1", "-W2", "10.1.2.2", NULL };
	const char *const ping6[] = { "ping", "-c1", "-W2", "fd00::2", NULL };
	struct haul_err err = { 0 };
	char output[OUTPUT_BYTES];
	int a = netns_open(NULL);
	int b = netns_open(NULL);

	(void)state;
	assert_int_equal(netns_veth(a, "left", b, "right", 1600, &err), 0);
	assert_int_equal(netns_address(a, "left", "10.1.2.1/24", &err), 0);
	assert_int_equal(netns_address(b, "right", "10.1.2.2/24", &err), 0);
	assert_int_equal(netns_address(a, "left", "fd00::1/64", &err), 0);
	assert_int_equal(netns_address(b, "right", "fd00::2/64", &err), 0);
	assert_int_equal(run(a, ping4, output), 0);
	assert_int_equal(run(a, ping6, output), 0);
	assert_int_equal(if_nametoindex("left"), 0);
	close(a);
	close(b);
}

/* MTU and sysctl are those of the namespace, not of the host. */
static void test_netns_up__sets_mtu_and_sysctl_inside(void **state)
{
	const char *const cat[] = { "cat", "/proc/sys/net/ipv4/ip_forward", NULL };
	const char *const link[] = { "ip", "link", "show", "lo", NULL };
	char output[OUTPUT_BYTES];
	int fd = netns_open(NULL);

	(void)state;
	assert_int_equal(netns_up(fd, "lo", 1234, NULL), 0);
	assert_int_equal(run(fd, link, output), 0);
	assert_non_null(strstr(output, "mtu 1234"));
	assert_int_equal(netns_sysctl(fd, "ipv4/ip_forward", "1", NULL), 0);
	assert_int_equal(run(fd, cat, output), 0);
	assert_string_equal(output, "1\n");
	close(fd);
}

/* Every refusal names what was asked for, and nothing is left half made. */
static void test_netns__errors_name_the_cause(void **state)
{
	const char *const missing[] = { "no-such-program-at-all", NULL };
	struct haul_err err = { 0 };
	ino_t before = own_netns();
	int fd = netns_open(NULL);

	(void)state;
	assert_int_equal(netns_up(fd, "gone0", 0, &err), -ENODEV);
	assert_non_null(strstr(err.text, "gone0"));
	assert_int_equal(netns_up(fd, "a-name-that-is-far-too-long", 0, &err), -EINVAL);
	assert_int_equal(netns_address(fd, "lo", "10.0.0.1", &err), -EINVAL);
	assert_non_null(strstr(err.text, "10.0.0.1"));
	assert_int_equal(netns_address(fd, "lo", "10.0.0.1/33", &err), -EINVAL);
	assert_int_equal(netns_address(fd, "lo", "10.0.0.256/8", &err), -EINVAL);
	assert_int_equal(netns_address(fd, "lo", "fd00::1/64x", &err), -EINVAL);
	assert_int_equal(netns_address(fd, "gone0", "10.0.0.1/24", &err), -ENODEV);
	assert_int_equal(netns_address(fd, "lo", "127.0.0.1/8", &err), -EEXIST);
	assert_int_equal(netns_veth(fd, "lo", fd, "b0", 1500, &err), -EEXIST);
	assert_int_equal(netns_sysctl(fd, "no/such", "1", &err), -ENOENT);
	assert_non_null(strstr(err.text, "no/such"));
	assert_int_equal(netns_spawn(fd, missing, -1, &err), -ENOENT);
	assert_non_null(strstr(err.text, missing[0]));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(own_netns(), before);
	assert_int_equal(netns_enter(STDIN_FILENO), -EINVAL);
	close(fd);
}

static int inode_inside(void *arg)
{
	*(ino_t *)arg = own_netns();
	return 7;
}

/* The helper thread is inside, the caller is not, and the result comes back. */
static void test_netns_call__runs_inside_only(void **state)
{
	ino_t before = own_netns();
	ino_t inside = 0;
	struct stat st;
	int fd = netns_open(NULL);

	(void)state;
	assert_int_equal(netns_call(fd, inode_inside, &inside), 7);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(inside == st.st_ino);
	assert_int_equal(own_netns(), before);
	close(fd);
}

/* The child of a killed parent is killed too: it closes its end of the pipe, and we read the
 * end. */
static void test_netns_spawn__child_dies_with_its_parent(void **state)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	int alive[2];
	int ready[2];
	char byte;
	pid_t parent;

	(void)state;
	assert_int_equal(pipe(alive), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	parent = fork();
	if (parent == 0) {
		int fd = netns_open(NULL);
		int pid = netns_spawn(fd, argv, -1, NULL);

		if (pid > 0 && write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(alive[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	assert_int_equal(read(alive[0], &byte, 1), 0);
	close(alive[0]);
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_netns_open__gives_lo_up_and_stays_outside),
		cmocka_unit_test(test_netns_veth__carries_ipv4_and_ipv6),
		cmocka_unit_test(test_netns_up__sets_mtu_and_sysctl_inside),
		cmocka_unit_test(test_netns__errors_name_the_cause),
		cmocka_unit_test(test_netns_call__runs_inside_only),
		cmocka_unit_test(test_netns_spawn__child_dies_with_its_parent),
	};
	struct haul_err err = { 0 };
	int fd = netns_open(&err);

	if (fd < 0)
		test_skip(err.text);
	close(fd);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
