/* A node fed garbage on its wire, between pings that must still be answered: it neither dies, nor
 * grows, nor lets one byte of it through to its TAP. Runs for HAUL_SOAK_SECONDS (default 60) and
 * prints the counters. Needs root. argv[1]: the haul program. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "load.h"
#include "os/netns.h"
#include "os/os.h"
#include "overlay.h"
#include "wire/format.h"

enum {
	WIRE_MTU_BYTES = 1500,
	GARBAGE_BYTES_MAX = 1472,
	GARBAGE_BURST = 200,
	ECHOES = 5,
	WARM_UP_PARTS = 10, /* one tenth of the time, before sizes are compared */
	GROWTH_MAX_KIB = 1024,
	SECONDS_DEFAULT = 60
};

static const char *haul_program;

/* ---- sockets ---- */

struct sockets {
	int obu_netns;
	int rsu_netns;
	int garbage; /* in the OBU's namespace, towards the RSU's radio port */
	int tap;     /* sees what the RSU hands to its TAP */
};

static void *open_garbage(void *arg)
{
	struct sockets *sockets = arg;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(4789) };

	assert_int_equal(inet_pton(AF_INET, "10.50.0.1", &to.sin_addr), 1);
	sockets->garbage = -1;
	if (netns_enter(sockets->obu_netns) == 0)
		sockets->garbage = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (connect(sockets->garbage, (struct sockaddr *)&to, sizeof to))
		sockets->garbage = -1;
	return NULL;
}

static void *open_tap(void *arg)
{
	struct sockets *sockets = arg;
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };

	sockets->tap = -1;
	if (netns_enter(sockets->rsu_netns) == 0)
		sockets->tap = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	at.sll_ifindex = (int)if_nametoindex("haul0");
	if (bind(sockets->tap, (struct sockaddr *)&at, sizeof at))
		sockets->tap = -1;
	return NULL;
}

static void run_thread(void *(*function)(void *), void *arg)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, function, arg), 0);
	pthread_join(thread, NULL);
}

/* ---- garbage ---- */

/* What no node accepts: noise, or a data message with one field broken. */
static uint32_t make_garbage(struct prng *prng, uint8_t *bytes)
{
	uint32_t len = 1 + prng_below(prng, GARBAGE_BYTES_MAX);

	for (uint32_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)prng_next(prng);
	if (len < WIRE_HEADER_BYTES + WIRE_FRAME_BYTES_MIN || prng_below(prng, 2))
		return len;
	memset(bytes, 0, WIRE_HEADER_BYTES);
	bytes[WIRE_OFF_VERSION] = WIRE_VERSION;
	bytes[WIRE_OFF_TYPE] = (uint8_t)(1 + prng_below(prng, 5));
	bytes[WIRE_OFF_TTL] = 8;
	be16_store(bytes + WIRE_OFF_LENGTH, (uint16_t)len);
	be64_store(bytes + WIRE_OFF_SEQUENCE, prng_next(prng));
	mac_store(bytes + WIRE_OFF_ORIGIN, prng_next(prng) & UINT64_C(0xfeffffffffff));
	switch (prng_below(prng, 5)) {
	case 0:
		bytes[WIRE_OFF_VERSION] = (uint8_t)(2 + prng_below(prng, 254));
		break;
	case 1:
		be16_store(bytes + WIRE_OFF_LENGTH, (uint16_t)(len + 1 + prng_below(prng, 100)));
		break;
	case 2:
		be16_store(bytes + WIRE_OFF_LENGTH, (uint16_t)(len - 1));
		break;
	case 3:
		bytes[WIRE_OFF_TTL] = 0;
		break;
	default:
		bytes[WIRE_OFF_TYPE] = (uint8_t)(6 + prng_below(prng, 250));
		break;
	}
	return len;
}

static uint64_t send_garbage(int fd, struct prng *prng)
{
	uint8_t bytes[GARBAGE_BYTES_MAX];
	uint64_t sent = 0;

	for (uint32_t i = 0; i < GARBAGE_BURST; i++) {
		uint32_t len = make_garbage(prng, bytes);
		sent += send(fd, bytes, len, 0) == (ssize_t)len;
	}
	return sent;
}

/* All that reaches the RSU's TAP from the overlay comes from the OBU's kernel: its MAC, or IPv6
 * neighbour discovery from the same. Anything else was let through. */
static void check_tap(int fd, uint64_t *ret_frames)
{
	uint8_t frame[2048];
	struct sockaddr_ll from;
	socklen_t from_bytes = sizeof from;
	static uint64_t obu_mac;
	ssize_t got;

	while ((got = recvfrom(fd, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr *)&from,
			       &from_bytes)) > 0) {
		if (from.sll_pkttype == PACKET_OUTGOING)
			continue;
		assert_true(got >= 14);
		if (!obu_mac)
			obu_mac = mac_load(frame + 6);
		if (mac_load(frame + 6) != obu_mac)
			fail_msg("a frame from %012llx reached the TAP",
				 (unsigned long long)mac_load(frame + 6));
		++*ret_frames;
	}
}

/* ---- what must not grow ---- */

static long rss_kib(pid_t pid)
{
	char path[64], line[128];
	long kib = -1;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, "VmRSS:", 6))
			kib = strtol(line + 6, NULL, 10);
	if (file)
		fclose(file);
	return kib;
}

static int fd_count(pid_t pid)
{
	char path[64];
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/* Prints what the RSU counted; returns the messages it rejected. */
static uint64_t print_counters(const struct overlay *overlay)
{
	json_t *status = overlay_status(overlay, "rsu"), *block, *value;
	uint64_t rejected = 0;
	const char *name;
	size_t i;

	assert_non_null(status);
	json_array_foreach(json_object_get(status, "stats"), i, block)
	{
		const char *block_name = json_string_value(json_object_get(block, "name"));

		json_object_foreach(json_object_get(block, "counters"), name, value)
		{
			uint64_t count = (uint64_t)json_number_value(value);

			if (count > 0)
				print_message("  %s %s %llu\n", block_name, name,
					      (unsigned long long)count);
			if (!strncmp(name, "reject_", 7))
				rejected += count;
		}
	}
	json_decref(status);
	return rejected;
}

static void check_echoes(const struct overlay *overlay)
{
	struct load_echo load = { .from_netns = overlay->obu_netns,
				  .to_netns = overlay->rsu_netns,
				  .to_address = OVERLAY_RSU_ADDRESS,
				  .count = ECHOES };
	int64_t rtt_ns[ECHOES];
	struct haul_err err = { 0 };

	/* Garbage may push one out of a full socket buffer, never all of them. */
	if (load_echo_run(&load, rtt_ns, &err) < 1)
		fail_msg("no echo came back: %s", err.text);
}

static void soak(struct overlay *overlay, struct sockets *sockets, struct prng *prng)
{
	const char *text = getenv("HAUL_SOAK_SECONDS");
	int64_t seconds = text ? strtol(text, NULL, 10) : SECONDS_DEFAULT;
	struct os *os = os_linux();
	int64_t start_ns = os->now_ns(os), end_ns = start_ns + seconds * NS_PER_S;
	int64_t warm_ns = start_ns + seconds * NS_PER_S / WARM_UP_PARTS;
	uint64_t garbage = 0, frames = 0;
	long warm_kib = 0;
	int warm_fds = 0;

	while (os->now_ns(os) < end_ns) {
		garbage += send_garbage(sockets->garbage, prng);
		check_echoes(overlay);
		check_tap(sockets->tap, &frames);
		if (!warm_kib && os->now_ns(os) >= warm_ns) {
			warm_kib = rss_kib(overlay->rsu);
			warm_fds = fd_count(overlay->rsu);
		}
	}
	print_message("%llu datagrams of garbage, %llu good frames, RSS %ld -> %ld KiB, %d fds\n",
		      (unsigned long long)garbage, (unsigned long long)frames, warm_kib,
		      rss_kib(overlay->rsu), fd_count(overlay->rsu));
	/* Every one of them was seen, and told apart from what is good. */
	assert_int_equal(print_counters(overlay), garbage);
	assert_true(garbage > 0 && frames > 0);
	assert_int_equal(kill(overlay->rsu, 0), 0);
	assert_int_equal(fd_count(overlay->rsu), warm_fds);
	assert_true(rss_kib(overlay->rsu) <= warm_kib + GROWTH_MAX_KIB);
}

/* Random bytes and broken messages for a minute: the node stays up, stays small, and stays shut. */
static void test_soak__garbage_on_the_wire_changes_nothing(void **state)
{
	const struct overlay_nodes nodes = { false, false, 0 };
	struct overlay overlay;
	struct sockets sockets;
	struct haul_err err = { 0 };
	struct prng prng;

	(void)state;
	test_prng(&prng);
	if (overlay_open(&overlay, haul_program, WIRE_MTU_BYTES, &err) ||
	    overlay_start(&overlay, &nodes, &err))
		fail_msg("%s", err.text);
	sockets.obu_netns = overlay.obu_netns;
	sockets.rsu_netns = overlay.rsu_netns;
	run_thread(open_garbage, &sockets);
	run_thread(open_tap, &sockets);
	assert_true(sockets.garbage >= 0 && sockets.tap >= 0);
	soak(&overlay, &sockets, &prng);
	close(sockets.garbage);
	close(sockets.tap);
	overlay_close(&overlay);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_soak__garbage_on_the_wire_changes_nothing),
	};

	if (argc < 2)
		test_skip("needs the path of the haul program");
	if (geteuid() != 0)
		test_skip("needs root: namespaces and TAP interfaces");
	haul_program = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
