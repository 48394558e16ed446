/* Opened and closed connections as events: each once, to one listener, who may die. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/flow_group.h"
#include "lib/testlib.h"

enum { PORTS = 1000, RING_BYTES = 4096, RING_EVENTS = RING_BYTES / (144 + 8) };

struct heard {
	uint32_t opened[PORTS], closed[PORTS]; /* by port */
	uint64_t packets;                      /* of closed ones */
	uint32_t batches;
};

static void heard_add(const struct haul_flow_event *events, uint32_t count, void *arg)
{
	struct heard *heard = arg;

	heard->batches++;
	for (uint32_t i = 0; i < count; i++) {
		uint16_t port = events[i].key.port_lo;
		if (events[i].key.proto != IPPROTO_UDP || port >= PORTS)
			continue;
		if (events[i].kind == HAUL_FLOW_EVENT_OPENED) {
			heard->opened[port]++;
			continue;
		}
		assert_int_equal(events[i].kind, HAUL_FLOW_EVENT_CLOSED);
		heard->closed[port]++;
		heard->packets += events[i].value.packets[0] + events[i].value.packets[1];
	}
}

static void send_to_ports(int fd, uint32_t from, uint32_t to, uint32_t count)
{
	for (uint32_t port = from; port < to; port++)
		flow_net_udp(fd, 0, (uint16_t)port, count, 16);
}

/* Every connection is heard of when it opens and when it closes, once, with its final figures. */
static void test_poll__hears_each_once(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct heard *heard = calloc(1, sizeof *heard);
	int fd = flow_net_socket(&net, 1, SOCK_DGRAM, false, 0);
	struct haul_map_result result;
	struct haul_err err = { 0 };
	(void)state;

	assert_non_null(heard);
	assert_int_equal(haul_flows_poll(flows, 0, heard_add, heard), -EINVAL);
	send_to_ports(fd, 1, 2, 1); /* before anybody listens */
	assert_int_equal(haul_flows_listen(flows, &err), 0);
	assert_int_equal(haul_flows_poll(flows, 0, heard_add, heard), 0);
	send_to_ports(fd, 2, PORTS, 3);
	assert_true(haul_flows_poll(flows, 1000, heard_add, heard) >= PORTS - 2);
	assert_true(heard->batches < PORTS / 2);
	assert_int_equal(haul_flows_clean(flows, UINT64_MAX, &result), 0);
	assert_true(result.done >= PORTS - 1);
	assert_true(haul_flows_poll(flows, 1000, heard_add, heard) >= PORTS - 1);
	assert_int_equal(heard->opened[1], 0);
	assert_int_equal(heard->closed[1], 1);
	for (uint32_t port = 2; port < PORTS; port++) {
		assert_int_equal(heard->opened[port], 1);
		assert_int_equal(heard->closed[port], 1);
	}
	assert_int_equal(heard->packets, 1 + 3 * (PORTS - 2));
	assert_int_equal(flow_net_total(flows, HAUL_FLOW_T_UNREPORTED), 0);
	haul_flows_unlisten(flows);
	send_to_ports(fd, 2, 10, 1);
	assert_int_equal(haul_flows_poll(flows, 0, heard_add, heard), -EINVAL);
	assert_int_equal(haul_flows_listen(flows, &err), 0);
	assert_int_equal(haul_flows_poll(flows, 0, heard_add, heard), 0);
	close(fd);
	free(heard);
	haul_flows_close(flows);
}

/* With a full ring the closed stay in the table until there is room; none goes unreported. */
static void test_poll__closed_wait_for_room(void **state)
{
	struct haul_flows_options options = { .ring_bytes = RING_BYTES };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	struct heard *heard = calloc(1, sizeof *heard);
	int fd = flow_net_socket(&net, 1, SOCK_DGRAM, false, 0);
	struct haul_map_result result;
	uint64_t held, total = 0;
	(void)state;

	assert_non_null(heard);
	send_to_ports(fd, 1, 200, 1);
	assert_int_equal(haul_flows_listen(flows, NULL), 0);
	/* Just behind the last packet: nothing has waited for longer than it may. */
	for (int round = 0; round < 100 && total < 199; round++) {
		uint64_t now_ns = (uint64_t)flows->env.os->now_ns(flows->env.os);
		assert_int_equal(haul_flows_clean(flows, now_ns, &result), 0);
		assert_true(result.done <= RING_EVENTS);
		(void)haul_flows_poll(flows, 0, heard_add, heard);
		total = 0;
		for (uint32_t port = 1; port < 200; port++)
			total += heard->closed[port];
	}
	assert_int_equal(total, 199);
	for (uint32_t port = 1; port < 200; port++)
		assert_int_equal(heard->closed[port], 1);
	held = flow_net_total(flows, HAUL_FLOW_T_HELD);
	assert_true(held > 0);
	assert_int_equal(flow_net_total(flows, HAUL_FLOW_T_UNREPORTED), 0);
	flow_net_balance(flows);
	close(fd);
	free(heard);
	haul_flows_close(flows);
}

/* The child listens, says so, and then ends without a word. */
static int listen_and_end(int said_fd, int wait_fd)
{
	struct haul_flows *flows = NULL;
	char byte = 0;

	if (flows_open_in(&flows, &net.env, "x", NULL) < 0 || haul_flows_listen(flows, NULL) < 0)
		return 1;
	if (write(said_fd, &byte, 1) != 1)
		return 2;
	return read(wait_fd, &byte, 1) < 0;
}

/* There is one listener a table; one that is dead is no listener. */
static void test_listen__is_for_one_who_lives(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct haul_err err = { 0 };
	int said[2], wait[2], status = 0;
	char byte, text[64];
	pid_t child;
	(void)state;

	assert_int_equal(haul_flows_pin(flows, "x", &err), 0);
	assert_int_equal(pipe(said), 0);
	assert_int_equal(pipe(wait), 0);
	fflush(stdout);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(wait[1]);
		_exit(listen_and_end(said[1], wait[0]));
	}
	close(said[1]);
	assert_int_equal(read(said[0], &byte, 1), 1);
	assert_int_equal(haul_flows_listen(flows, &err), -EBUSY);
	(void)snprintf(text, sizeof text, "process %d listens to \"x\" already", (int)child);
	assert_non_null(strstr(err.text, text));
	close(wait[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(flows->control->listener, child);
	assert_int_equal(haul_flows_listen(flows, &err), 0);
	assert_int_equal(haul_flows_listen(flows, &err), -EBUSY);
	assert_int_equal(flows->control->listener, getpid());
	haul_flows_unlisten(flows);
	assert_int_equal(flows->control->listener, 0);
	haul_flows_unlisten(flows);
	close(said[0]);
	close(wait[0]);
	haul_flows_close(flows);
	assert_int_equal(flow_net_detach(&net, 0, "x", NULL), 0);
}

/* Closing ends the listening: the program stops to report. */
static void test_close__ends_listening(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL), *other = NULL;
	(void)state;

	assert_int_equal(haul_flows_pin(flows, "x", NULL), 0);
	assert_int_equal(flows_open_in(&other, &net.env, "x", NULL), 0);
	assert_int_equal(haul_flows_listen(flows, NULL), 0);
	assert_int_equal(haul_flows_listen(other, NULL), -EBUSY);
	haul_flows_close(flows);
	assert_int_equal(haul_flows_listen(other, NULL), 0);
	haul_flows_close(other);
	assert_int_equal(flow_net_detach(&net, 0, "x", NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_poll__hears_each_once),
		cmocka_unit_test(test_poll__closed_wait_for_room),
		cmocka_unit_test(test_listen__is_for_one_who_lives),
		cmocka_unit_test(test_close__ends_listening),
	};
	return cmocka_run_group_tests(tests, group_open, group_close);
}
