/* bench/bench_tap.c — two nodes, TAP to UDP to TAP, carrying real traffic: one frame at a time
 * against batches. Both arms are the same program with other lines in its configuration. The nodes
 * are started anew for each run, so that no run inherits what another one learnt. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "bench.h"
#include "load.h"
#include "overlay.h"

/* What a case sends; SPLIT beside it: superframes are cut to the MTU on the wire. */
enum {
	LOAD_TCP,
	LOAD_UDP_GSO,
	LOAD_UDP_SMALL,
	LOAD_ECHO_P50,
	LOAD_ECHO_P99,
	LOAD_MASK = 0xff,
	LOAD_SPLIT = 0x100
};

enum {
	PAYLOAD_SMALL_BYTES = 64,
	PAYLOAD_GSO_BYTES = 1348, /* fits the TAP's MTU of 1400 */
	GSO_SEGMENTS = 44,
	ECHO_PER_SECOND = 1000,
	WIRE_MTU_BYTES = 1500
};

#define ECHO_PAUSE_NS INT64_C(500000)

static int tap_open(void **ret_ctx, struct haul_err *err)
{
	struct overlay *overlay = calloc(1, sizeof *overlay);
	int r = overlay ? overlay_open(overlay, "/proc/self/exe", WIRE_MTU_BYTES, err) : -ENOMEM;

	if (r) {
		free(overlay);
		return r;
	}
	*ret_ctx = overlay;
	return 0;
}

static void tap_close(void *ctx)
{
	overlay_close(ctx);
	free(ctx);
}

static int load_tcp(const struct overlay *overlay, double seconds, struct bench_sample *sample,
		    struct haul_err *err)
{
	const struct load_tcp load = { .from_netns = overlay->obu_netns,
				       .to_netns = overlay->rsu_netns,
				       .to_address = OVERLAY_RSU_ADDRESS,
				       .seconds = seconds };
	uint32_t retransmits;
	int r = load_tcp_run(&load, &sample->value, &retransmits, err);

	if (!r)
		snprintf(sample->note, sizeof sample->note, "cubic, %u retransmits", retransmits);
	return r;
}

static int load_udp(const struct overlay *overlay, double seconds, uint64_t kind,
		    struct bench_sample *sample, struct haul_err *err)
{
	const bool gso = kind == LOAD_UDP_GSO;
	struct load_udp load = { .from_netns = overlay->obu_netns,
				 .to_netns = overlay->rsu_netns,
				 .to_address = OVERLAY_RSU_ADDRESS,
				 .payload_bytes = gso ? PAYLOAD_GSO_BYTES : PAYLOAD_SMALL_BYTES,
				 .segments = gso ? GSO_SEGMENTS : 1,
				 .seconds = seconds };
	double per_s;
	int r = load_udp_run(&load, &per_s, err);

	if (!r)
		sample->value = per_s / 1e3;
	return r;
}

static int load_echo(const struct overlay *overlay, double seconds, uint64_t kind,
		     struct bench_sample *sample, struct haul_err *err)
{
	uint32_t count = (uint32_t)(seconds * ECHO_PER_SECOND) + 100;
	int64_t *rtt_ns = calloc(count, sizeof *rtt_ns);
	struct load_echo load = { .from_netns = overlay->obu_netns,
				  .to_netns = overlay->rsu_netns,
				  .to_address = OVERLAY_RSU_ADDRESS,
				  .count = count,
				  .pause_ns = ECHO_PAUSE_NS };
	int r = rtt_ns ? load_echo_run(&load, rtt_ns, err) : -ENOMEM;

	if (r > 0) {
		double p50_us = (double)rtt_ns[r / 2] / 1e3;
		double p99_us = (double)rtt_ns[(int64_t)r * 99 / 100] / 1e3;

		sample->value = kind == LOAD_ECHO_P50 ? p50_us : p99_us;
		snprintf(sample->note, sizeof sample->note,
			 "p50 %.1f p99 %.1f us, %d of %u answered", p50_us, p99_us, r, count);
	}
	free(rtt_ns);
	if (!r)
		return haul_err_set(err, -EIO, "tap: no echo came back");
	return r < 0 ? r : 0;
}

static int run_load(const struct overlay *overlay, uint64_t kind, double seconds,
		    struct bench_sample *sample, struct haul_err *err)
{
	struct overlay_figures before, after;
	int r = overlay_figures(overlay, &before, err);

	if (r)
		return r;
	if (kind == LOAD_TCP)
		r = load_tcp(overlay, seconds, sample, err);
	else if (kind == LOAD_ECHO_P50 || kind == LOAD_ECHO_P99)
		r = load_echo(overlay, seconds, kind, sample, err);
	else
		r = load_udp(overlay, seconds, kind, sample, err);
	if (!r)
		r = overlay_figures(overlay, &after, err);
	if (r)
		return r;
	if (after.frames > before.frames) {
		sample->syscalls_per_op =
			(after.syscalls - before.syscalls) / (after.frames - before.frames);
		sample->fill_mean =
			(after.frames - before.frames) / (after.batches - before.batches);
	}
	return 0;
}

static int tap_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		   struct bench_sample *ret_sample, struct haul_err *err)
{
	struct bench_sample sample = { .syscalls_per_op = -1, .fill_mean = -1 };
	const bool individual = arm == BENCH_INDIVIDUAL;
	const struct overlay_nodes nodes = { individual, individual, 0 };
	struct overlay *overlay = ctx;
	int r = overlay_split(overlay, self->parameter & LOAD_SPLIT, err);

	if (!r)
		r = overlay_start(overlay, &nodes, err);
	if (r)
		return r;
	r = run_load(overlay, self->parameter & LOAD_MASK, seconds, &sample, err);
	overlay_stop(overlay);
	if (!r)
		*ret_sample = sample;
	return r;
}

#define ARMS "read+sendto, recvfrom+write | superframes, UDP_SEGMENT, UDP_GRO, aggregates"

static const struct bench_case tap_cases[] = {
	{ .name = "tap_tcp",
	  .unit = "Gbit/s",
	  .goal = 7,
	  .arms = ARMS,
	  .run = tap_run,
	  .parameter = LOAD_TCP },
	{ .name = "tap_tcp_split",
	  .unit = "Gbit/s",
	  .goal = 4,
	  .arms = ARMS,
	  .run = tap_run,
	  .parameter = LOAD_TCP | LOAD_SPLIT },
	{ .name = "tap_udp_gso",
	  .unit = "kpps",
	  .goal = 4,
	  .arms = ARMS,
	  .run = tap_run,
	  .parameter = LOAD_UDP_GSO },
	{ .name = "tap_udp_64",
	  .unit = "kpps",
	  .goal = 2,
	  .arms = ARMS,
	  .run = tap_run,
	  .parameter = LOAD_UDP_SMALL },
	{ .name = "idle_rtt",
	  .unit = "us",
	  .lower_is_better = true,
	  .excess_max = 5,
	  .arms = ARMS,
	  .run = tap_run,
	  .parameter = LOAD_ECHO_P50 },
	{ .name = "idle_rtt_p99",
	  .unit = "us",
	  .lower_is_better = true,
	  .goal = 1,
	  .arms = ARMS,
	  .run = tap_run,
	  .parameter = LOAD_ECHO_P99 },
};

const struct bench bench_tap = {
	.name = "tap",
	.help = "two nodes in two namespaces, TAP to UDP to TAP, with real TCP and UDP",
	.cases = tap_cases,
	.case_count = sizeof tap_cases / sizeof *tap_cases,
	.open = tap_open,
	.close = tap_close,
};
