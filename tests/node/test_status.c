/* node/test_status.c — the status socket: what it says, and that nobody can hold it up. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "node/status.h"
#include "os/unixsock.h"

/* So many long names that a document is larger than a socket's buffer: else nobody could stall. */
enum { START_NS = 1000, BLOCKS = 40, COUNTERS = 30, LONG_NAME = 400 };

static char directory[] = "/tmp/haul-status-XXXXXX";
static char path[64];
static struct control *control;
static struct haul_stats_table *table;
static struct haul_stats block[BLOCKS];
static struct status *status;
static struct haul_link *links[NODE_PORTS];

static int open_status(void **state)
{
	static char counter_names[COUNTERS][LONG_NAME] = { "drop_test" };
	static struct haul_counter counters[COUNTERS];
	static char names[BLOCKS][16];
	struct haul_err err = { 0 };
	(void)state;
	const struct control_options options = { .role = NODE_RSU,
						 .self = 0x020000000001,
						 .client = 0x020000000001,
						 .sequence = 1,
						 .period_ms = 100,
						 .history = 10,
						 .candidates = 3,
						 .missed_max = 3,
						 .ttl = 8 };
	(void)snprintf(path, sizeof path, "%s/s", directory);
	for (uint32_t i = 1; i < COUNTERS; i++) {
		memset(counter_names[i], 'x', LONG_NAME - 1);
		counter_names[i][0] = (char)('@' + i);
	}
	for (uint32_t i = 0; i < COUNTERS; i++)
		counters[i].name = counter_names[i];
	assert_int_equal(control_open(&options, 0, &control, &err), 0);
	assert_int_equal(haul_stats_table_open(&table), 0);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		(void)snprintf(names[i], sizeof names[i], "block%u", i);
		haul_stats_init(&block[i], names[i], counters, COUNTERS);
		assert_int_equal(haul_stats_enter(table, &block[i]), 0);
	}
	const struct status_source source = { .name = "corner",
					      .role = NODE_RSU,
					      .id = 0x020000000001,
					      .tap_mtu = 1406,
					      .start_ns = START_NS,
					      .control = control,
					      .stats = table,
					      .link = links };
	if (status_open(path, &source, &status, &err) < 0)
		fail_msg("%s", err.text);
	return 0;
}

static int close_status(void **state)
{
	struct stat at;
	(void)state;
	status_close(status);
	assert_int_equal(stat(path, &at), -1);
	for (uint32_t i = 0; i < BLOCKS; i++)
		haul_stats_remove(table, &block[i]);
	haul_stats_table_close(table);
	control_close(control);
	return 0;
}

static int make_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) == NULL;
}

static int remove_directory(void **state)
{
	(void)state;
	return rmdir(directory);
}

static int dial(void)
{
	struct haul_err err = { 0 };
	int fd = unixsock_connect(path, &err);
	if (fd < 0)
		fail_msg("%s", err.text);
	return fd;
}

/* All that comes until end of file; the status is served while we read. */
static json_t *read_document(int fd, int64_t now_ns)
{
	static char text[1 << 20];
	size_t used = 0;
	for (uint32_t round = 0; round < 10000; round++) {
		ssize_t n = recv(fd, text + used, sizeof text - used, MSG_DONTWAIT);
		if (n == 0)
			return json_loadb(text, used, 0, NULL);
		if (n > 0)
			used += (size_t)n;
		status_serve(status, 7, now_ns);
	}
	fail_msg("no end of the document after %zu bytes", used);
	return NULL;
}

/* Who connects reads one document with all that is promised, and end of file. */
static void test_status__gives_one_document(void **state)
{
	(void)state;
	haul_stats_batch(&block[0], &(struct haul_stats_batch){ .ops = 5,
								.syscalls = 2,
								.bytes = 500,
								.reason = HAUL_CLOSE_IDLE,
								.wait_ns = -1,
								.service_ns = 1000 });
	haul_stats_count(&block[0], 0, 3);
	int fd = dial();
	json_t *root = read_document(fd, START_NS + 5);
	(void)close(fd);
	assert_non_null(root);
	assert_string_equal(json_string_value(json_object_get(root, "node")), "corner");
	assert_string_equal(json_string_value(json_object_get(root, "role")), "rsu");
	assert_string_equal(json_string_value(json_object_get(root, "id")), "02:00:00:00:00:01");
	assert_int_equal(json_integer_value(json_object_get(root, "uptime_ns")), 5);
	assert_int_equal(json_integer_value(json_object_get(root, "tap_mtu")), 1406);
	assert_int_equal(json_integer_value(json_object_get(root, "clients")), 7);
	assert_true(json_is_null(json_object_get(root, "flows")));
	assert_true(json_is_null(json_object_get(root, "upstream")));
	assert_true(json_is_array(json_object_get(root, "candidates")));
	assert_true(json_is_array(json_object_get(root, "routes")));
	const json_t *stats = json_object_get(root, "stats");
	assert_int_equal(json_array_size(stats), BLOCKS);
	const json_t *first = json_array_get(stats, 0);
	assert_string_equal(json_string_value(json_object_get(first, "name")), "block0");
	assert_int_equal(json_integer_value(json_object_get(first, "ops")), 5);
	assert_int_equal(json_integer_value(json_object_get(first, "batches")), 1);
	assert_int_equal(json_integer_value(json_object_get(first, "bytes")), 500);
	assert_int_equal(json_integer_value(json_object_get(first, "syscalls")), 2);
	const json_t *closed = json_object_get(first, "closed");
	assert_int_equal(json_integer_value(json_object_get(closed, "idle")), 1);
	const json_t *counted = json_object_get(first, "counters");
	assert_int_equal(json_integer_value(json_object_get(counted, "drop_test")), 3);
	assert_int_equal(json_real_value(json_object_get(json_object_get(first, "fill"), "mean")),
			 5);
	assert_non_null(json_object_get(json_object_get(first, "service_ns"), "p99"));
	json_decref(root);
}

/* Clients that do not read cost nobody else anything, and are cut off after a while; while all
 * places are taken nobody is accepted, then the next ones are served. */
static void test_status__stalling_clients_are_cut_off(void **state)
{
	enum { DIALLERS = STATUS_CLIENTS + 2 };
	struct pollfd fds[STATUS_FDS];
	int fd[DIALLERS];
	int small = 1;
	(void)state;
	for (uint32_t i = 0; i < DIALLERS; i++) {
		fd[i] = dial();
		(void)setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	}
	status_serve(status, 0, START_NS);
	uint32_t waiting = 0;
	for (uint32_t i = status_poll(status, fds); i > 0; i--)
		waiting += fds[i - 1].events == POLLOUT;
	assert_int_equal(waiting, STATUS_CLIENTS);
	assert_int_equal(status_deadline(status), START_NS + STATUS_PATIENCE_NS);
	status_serve(status, 0, START_NS + STATUS_PATIENCE_NS - 1);
	assert_int_equal(status_deadline(status), START_NS + STATUS_PATIENCE_NS);
	for (uint32_t round = 0; round < 3; round++)
		status_serve(status, 0, START_NS + 2 * STATUS_PATIENCE_NS * (round + 2));
	assert_int_equal(status_deadline(status), INT64_MAX);
	for (uint32_t i = 0; i < DIALLERS; i++)
		(void)close(fd[i]);
	int next = dial();
	json_t *root = read_document(next, START_NS + 20 * STATUS_PATIENCE_NS);
	assert_non_null(root);
	json_decref(root);
	(void)close(next);
}

/* A client that hangs up at once ends nothing but itself. */
static void test_status__survives_hang_ups(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 50; i++) {
		(void)close(dial());
		status_serve(status, 0, START_NS);
	}
	int fd = dial();
	json_t *root = read_document(fd, START_NS);
	assert_non_null(root);
	json_decref(root);
	(void)close(fd);
}

/* The socket is for its owner only; a live one is not taken away, a stale one is, and a file that
 * is no socket stays. */
static void test_status__respects_what_is_there(void **state)
{
	struct haul_err err = { 0 };
	struct stat at;
	char other[80];
	(void)state;
	assert_int_equal(stat(path, &at), 0);
	assert_int_equal(at.st_mode & 0777, 0600);
	assert_int_equal(unixsock_listen(path, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, path));

	(void)snprintf(other, sizeof other, "%s/o", directory);
	int fd = unixsock_listen(other, &err);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(unixsock_connect(other, &err), -ECONNREFUSED);
	fd = unixsock_listen(other, &err);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(unlink(other), 0);

	fd = open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(unixsock_listen(other, &err), -EADDRINUSE);
	assert_int_equal(stat(other, &at), 0);
	assert_int_equal(unlink(other), 0);
	assert_int_equal(unixsock_connect(other, &err), -ENOENT);

	char longest[200];
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	assert_int_equal(unixsock_listen(longest, &err), -ENAMETOOLONG);
	assert_int_equal(unixsock_listen("/nowhere/at/all", &err), -ENOENT);
}

int main(void)
{
#define STATUS_TEST(name) cmocka_unit_test_setup_teardown(name, open_status, close_status)
	const struct CMUnitTest tests[] = {
		STATUS_TEST(test_status__gives_one_document),
		STATUS_TEST(test_status__stalling_clients_are_cut_off),
		STATUS_TEST(test_status__survives_hang_ups),
		STATUS_TEST(test_status__respects_what_is_there),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
