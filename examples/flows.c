/* flows — the connections that pass an interface, counted in the kernel.
 *
 *   cc flows.c $(pkg-config --cflags --libs haul) && sudo ./a.out [INTERFACE]
 *
 * Without a name it counts on the loopback interface, where it sends a few datagrams to itself (and
 * each is seen twice, as it leaves and as it arrives);
 * with one it waits until five seconds have passed without a new connection. The table goes with
 * the program; haul_flows_pin would keep it. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <haul/haul.h>

enum { DATAGRAMS = 10, QUIET_MS = 5000 };

static int send_to_ourselves(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* Nobody may listen there, and then an ICMP message comes back: a connection, too. */
	for (int i = 0; i < DATAGRAMS; i++)
		(void)sendto(fd, "haul", 4, 0, (struct sockaddr *)&to, sizeof to);
	return close(fd);
}

static void count_opened(const struct haul_flow_event *events, uint32_t count, void *arg)
{
	(void)events;
	*(uint64_t *)arg += count;
}

static int wait_for_quiet(struct haul_flows *flows, struct haul_err *err)
{
	uint64_t events = 0;
	int code = haul_flows_listen(flows, err);

	if (code < 0)
		return code;
	while (haul_flows_poll(flows, QUIET_MS, count_opened, &events) > 0)
		;
	printf("%" PRIu64 " connections have opened or closed\n", events);
	return 0;
}

/* Entries come in batches: columns of keys and values. */
static int list(const struct haul_map_batch *batch, void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct haul_flow_key *key = haul_map_key(batch, i);
		const struct haul_flow_value *value = haul_map_value(batch, i);
		char lo[HAUL_FLOW_TEXT], hi[HAUL_FLOW_TEXT], proto[8];

		haul_flow_end_text(key, 0, 1, lo);
		haul_flow_end_text(key, 1, 1, hi);
		printf("%-7s %-26s %-26s %8" PRIu64 " %8" PRIu64 " bytes  %s\n",
		       haul_flow_proto_name(key->proto, proto), lo, hi, value->bytes[0],
		       value->bytes[1], haul_flow_state_name(value->state));
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct haul_flows_options options = { .ifname = argc > 1 ? argv[1] : "lo",
						    .entries_max = 4096 };
	struct haul_flows *flows;
	struct haul_err err = { 0 };
	int code = haul_flows_create(&flows, &options, &err);

	if (code == -EPERM || code == -ENOTSUP || code == -EEXIST) {
		printf("nothing to show here: %s\n", err.text);
		return 0;
	}
	if (code < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	printf("counting on %s (%s)\n", options.ifname, haul_flows_info(flows)->hook);
	code = argc > 1 ? wait_for_quiet(flows, &err) : send_to_ourselves();
	if (code == 0)
		code = haul_flows_scan(flows, NULL, list, NULL, NULL);
	haul_flows_close(flows);
	return code < 0;
}
