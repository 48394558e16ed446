#include "wire_path.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <haul/link.h>
#include "base/assert.h"
#include "os/netns.h"
#include "os/os.h"
#include "tool.h"

enum {
	MTU_BYTES = 1500,
	NEAR_CPU = 0,
	FAR_CPU = 1,
	POLL_MS = 20,
	TTL_BYTE = 3,
	BATCH_MAX = 1024,
	RX_CAPACITY = 512,
	PORT = 4789,
	WARM_UP_SHARE = 5 /* of the run, before counting starts */
};

static const char near_address[] = "10.60.0.1/16";

int wire_path_open(struct wire_path *path, struct haul_err *err)
{
	*path = (struct wire_path){ .near_netns = -1, .far_netns = -1 };
	int rc = netns_open(err);
	if (rc < 0)
		return rc;
	path->near_netns = rc;
	rc = netns_open(err);
	if (rc < 0)
		goto fail;
	path->far_netns = rc;
	rc = netns_veth(path->near_netns, "wire0", path->far_netns, "wire0", MTU_BYTES, err);
	if (rc >= 0)
		rc = netns_address(path->near_netns, "wire0", near_address, err);
	for (unsigned int i = 0; i < WIRE_DESTINATIONS && rc >= 0; i++) {
		char address[32];
		snprintf(address, sizeof address, "10.60.1.%u/16", i + 1);
		rc = netns_address(path->far_netns, "wire0", address, err);
	}
	if (rc >= 0)
		return 0;
fail:
	wire_path_close(path);
	return rc;
}

void wire_path_close(struct wire_path *path)
{
	if (path->near_netns >= 0)
		close(path->near_netns);
	if (path->far_netns >= 0)
		close(path->far_netns);
}

int wire_path_split(struct wire_path *path, bool split, struct haul_err *err)
{
	if (path->split == split)
		return 0;
	int rc = tool_split(path->near_netns, path->far_netns, split, err);
	if (rc >= 0)
		path->split = split;
	return rc;
}

/* One link and the thread that drives it. */
struct station {
	const struct wire_run *run;
	int netns;
	size_t cpu;
	struct haul_link_options options;
	struct haul_link *link;
	struct haul_send_batch batch;
	struct haul_frames frames;
	uint8_t *payload;
	atomic_bool *stop;
	_Atomic uint64_t delivered;
	pthread_t thread;
	bool started;
	int rc;
	struct haul_err *err;
};

enum { SENDER, RELAY, RECEIVER, STATIONS };

static int open_inside(void *arg)
{
	struct station *station = arg;
	return haul_link_open(&station->options, &station->link, station->err);
}

static int station_open(struct station *station, const char *name, const char *address)
{
	haul_link_options_init(&station->options, HAUL_LINK_UDP);
	snprintf(station->options.name, sizeof station->options.name, "%s", name);
	int rc = haul_addr_parse(address, &station->options.local, station->err);
	if (rc < 0)
		return rc;
	station->options.burst_max = station->run->individual ? 1 : 0;
	rc = netns_call(station->netns, open_inside, station);
	if (rc < 0)
		return rc;
	uint32_t capacity = station->run->individual ? 1 : RX_CAPACITY;
	rc = haul_send_batch_init(&station->batch, capacity);
	if (rc >= 0)
		rc = haul_frames_init(&station->frames, capacity);
	station->payload = calloc(BATCH_MAX, station->run->frame_bytes + 1);
	return station->payload ? rc : -ENOMEM;
}

static void station_close(struct station *station)
{
	haul_link_close(station->link);
	haul_send_batch_done(&station->batch);
	haul_frames_done(&station->frames);
	free(station->payload);
}

static void pin(size_t cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static bool stopped(const struct station *station)
{
	return atomic_load_explicit(station->stop, memory_order_relaxed);
}

static void *send_loop(void *arg)
{
	struct station *station = arg;
	const struct wire_run *run = station->run;
	uint32_t pitch = run->frame_bytes + (run->scattered ? 1 : 0);
	pin(station->cpu);
	while (!stopped(station)) {
		haul_send_batch_clear(&station->batch);
		for (uint32_t i = 0; i < run->batch; i++) {
			struct haul_frame row = {
				.data = station->payload + (size_t)i * pitch,
				.len = run->frame_bytes,
				.peer = run->mixed ? 1 + i % WIRE_DESTINATIONS : 1,
			};
			(void)haul_send_batch_push(&station->batch, &row);
		}
		(void)haul_link_tx(station->link, &station->batch);
	}
	return NULL;
}

static void wait_readable(const struct station *station)
{
	struct pollfd poll_fd = { .fd = haul_link_fd(station->link), .events = POLLIN };
	(void)poll(&poll_fd, 1, POLL_MS);
}

static void *receive_loop(void *arg)
{
	struct station *station = arg;
	uint64_t delivered = 0;
	pin(station->cpu);
	while (!stopped(station)) {
		int got = haul_link_rx(station->link, &station->frames);
		if (got <= 0) {
			wait_readable(station);
			continue;
		}
		delivered += (uint64_t)got;
		atomic_store_explicit(&station->delivered, delivered, memory_order_relaxed);
	}
	return NULL;
}

/* What arrived leaves again from where it lies. */
static void *relay_loop(void *arg)
{
	struct station *station = arg;
	struct haul_frames *in = &station->frames;
	pin(station->cpu);
	while (!stopped(station)) {
		if (haul_link_rx(station->link, in) <= 0) {
			wait_readable(station);
			continue;
		}
		haul_send_batch_clear(&station->batch);
		for (uint32_t i = 0; i < in->count; i++) {
			struct haul_frame row = { .data = in->data[i],
						  .len = in->len[i],
						  .peer = 1 };
			row.data[TTL_BYTE]--;
			(void)haul_send_batch_push(&station->batch, &row);
		}
		(void)haul_link_tx(station->link, &station->batch);
	}
	return NULL;
}

static int add_peers(struct station *station, const char *net, uint32_t count, uint16_t port)
{
	for (uint32_t i = 1; i <= count; i++) {
		char text[HAUL_ADDR_TEXT];
		struct haul_addr addr;
		snprintf(text, sizeof text, "%s.%u:%u", net, i, port);
		int rc = haul_addr_parse(text, &addr, station->err);
		if (rc >= 0)
			rc = haul_link_peer_add(station->link, &addr);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Sender near; then a relay far and the receiver near again, or the receiver far. */
static int stations_open(struct station *stations, const struct wire_run *run)
{
	bool relay = run->relay;
	int rc = station_open(&stations[SENDER], "sender", "10.60.0.1:0");
	if (rc >= 0)
		rc = add_peers(&stations[SENDER], "10.60.1", WIRE_DESTINATIONS, PORT);
	if (rc >= 0)
		rc = station_open(&stations[RECEIVER], "receiver",
				  relay ? "10.60.0.1:4789" : "0.0.0.0:4789");
	if (rc < 0 || !relay)
		return rc;
	rc = station_open(&stations[RELAY], "relay", "0.0.0.0:4789");
	return rc < 0 ? rc : add_peers(&stations[RELAY], "10.60.0", 1, PORT);
}

static int station_start(struct station *station, void *(*loop)(void *))
{
	int rc = pthread_create(&station->thread, NULL, loop, station);
	station->started = rc == 0;
	return -rc;
}

static void pause_s(double seconds)
{
	struct timespec time = { .tv_sec = (time_t)seconds };
	time.tv_nsec = (long)((seconds - (double)time.tv_sec) * (double)NS_PER_S);
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &time) == EINTR)
		;
}

static void measure(struct station *stations, double seconds, struct wire_result *result)
{
	struct os *os = os_linux();
	_Atomic uint64_t *delivered = &stations[RECEIVER].delivered;
	pause_s(seconds / WARM_UP_SHARE);
	uint64_t before = atomic_load(delivered);
	int64_t start_ns = os->now_ns(os);
	pause_s(seconds);
	uint64_t frames = atomic_load(delivered) - before;
	result->frames_per_s =
		(double)frames * (double)NS_PER_S / (double)(os->now_ns(os) - start_ns);
}

/* Counter of a stats block by its name. */
static double counter(const struct haul_stats *stats, const char *name)
{
	for (uint32_t i = 0; i < stats->counter_count; i++) {
		if (strcmp(stats->counters[i].name, name) == 0)
			return (double)stats->extra[i];
	}
	return 0;
}

static void sum_up(const struct station *stations, double seconds, struct wire_result *result)
{
	const struct haul_stats *last = haul_link_rx_stats(stations[RECEIVER].link);
	double syscalls = 0;
	for (uint32_t i = 0; i < STATIONS; i++) {
		if (stations[i].link != NULL)
			syscalls += (double)(haul_link_rx_stats(stations[i].link)->syscalls +
					     haul_link_tx_stats(stations[i].link)->syscalls);
	}
	result->syscalls_per_frame = last->ops > 0 ? syscalls / (double)last->ops : -1;
	result->fill_mean = haul_hist_mean(&last->fill);
	double merged = counter(last, "gro_frames");
	double packets = (double)last->ops - merged + counter(last, "gro_slots");
	result->frames_per_packet = packets > 0 ? (double)last->ops / packets : 0;
	result->sent_per_s = (double)haul_link_tx_stats(stations[SENDER].link)->ops /
			     (seconds * (1 + 1.0 / WARM_UP_SHARE));
}

int wire_path_run(const struct wire_path *path, const struct wire_run *run,
		  struct wire_result *ret_result, struct haul_err *err)
{
	static void *(*const loops[STATIONS])(void *) = { send_loop, relay_loop, receive_loop };
	struct station stations[STATIONS] = { { 0 } };
	struct wire_result result = { 0 };
	atomic_bool stop = false;
	HAUL_ASSERT(run->batch >= 1 && run->batch <= RX_CAPACITY);
	for (uint32_t i = 0; i < STATIONS; i++) {
		bool is_near = i == SENDER || (i == RECEIVER && run->relay);
		stations[i].run = run;
		stations[i].stop = &stop;
		stations[i].err = err;
		stations[i].netns = is_near ? path->near_netns : path->far_netns;
		stations[i].cpu = is_near ? NEAR_CPU : FAR_CPU;
	}
	int rc = stations_open(stations, run);
	for (uint32_t i = STATIONS; i-- > 0 && rc >= 0;) {
		if (stations[i].link != NULL)
			rc = station_start(&stations[i], loops[i]);
	}
	if (rc >= 0)
		measure(stations, run->seconds, &result);
	atomic_store(&stop, true);
	for (uint32_t i = 0; i < STATIONS; i++) {
		if (stations[i].started)
			(void)pthread_join(stations[i].thread, NULL);
	}
	if (rc >= 0)
		sum_up(stations, run->seconds, &result);
	for (uint32_t i = 0; i < STATIONS; i++)
		station_close(&stations[i]);
	if (rc < 0)
		return haul_err_wrap(err, rc, "wire");
	*ret_result = result;
	return 0;
}
