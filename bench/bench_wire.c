/* bench/bench_wire.c — UDP links over a veth pair: one frame a call against batches. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "wire_path.h"

enum { BATCH = 256 };

/* What a case's parameter indexes. */
static const struct wire_case {
	uint32_t frame_bytes;
	uint32_t batch;
	bool split;
	bool mixed;
	bool scattered;
	bool relay;
} wire_cases[] = {
	{ .frame_bytes = 1472, .batch = BATCH },
	{ .frame_bytes = 1472, .batch = BATCH, .split = true },
	{ .frame_bytes = 64, .batch = BATCH },
	{ .frame_bytes = 64, .batch = 64, .mixed = true },
	{ .frame_bytes = 64, .batch = BATCH, .scattered = true },
	{ .frame_bytes = 512, .batch = BATCH },
	{ .frame_bytes = 1024, .batch = BATCH },
	{ .frame_bytes = 64, .batch = 1 },
	{ .frame_bytes = 64, .batch = 8 },
	{ .frame_bytes = 64, .batch = 32 },
	{ .frame_bytes = 1472, .batch = 1 },
	{ .frame_bytes = 1472, .batch = 8 },
	{ .frame_bytes = 1472, .batch = 64, .mixed = true },
	{ .frame_bytes = 1472, .batch = BATCH, .relay = true },
};

static int run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
	       struct bench_sample *ret_sample, struct haul_err *err)
{
	const struct wire_case *wire = &wire_cases[self->parameter];
	bool individual = arm == BENCH_INDIVIDUAL;
	struct wire_run wire_run = {
		.frame_bytes = wire->frame_bytes,
		.batch = individual ? 1 : wire->batch,
		.individual = individual,
		.mixed = wire->mixed,
		.scattered = wire->scattered,
		.relay = wire->relay,
		.seconds = seconds,
	};
	struct wire_result result;
	int rc = wire_path_split(ctx, wire->split, err);
	if (rc >= 0)
		rc = wire_path_run(ctx, &wire_run, &result, err);
	if (rc < 0)
		return rc;
	ret_sample->value = result.frames_per_s / 1000;
	ret_sample->syscalls_per_op = result.syscalls_per_frame;
	ret_sample->fill_mean = result.fill_mean;
	snprintf(ret_sample->note, sizeof ret_sample->note, "sent %.0f kpps, %.1f frames a packet",
		 result.sent_per_s / 1000, result.frames_per_packet);
	return 0;
}

#define GSO_ARMS   "sendto+recvfrom | UDP_SEGMENT+UDP_GRO"
#define MMSG_ARMS  "sendto+recvfrom | sendmmsg+recvmmsg"
#define RELAY_ARMS "recvfrom+sendto | UDP_GRO+UDP_SEGMENT from the same slab"
#define CASE(case_name, case_goal, case_arms, index)                                               \
	{                                                                                          \
		.name = case_name, .unit = "kpps", .goal = case_goal, .arms = case_arms,           \
		.run = run, .parameter = index                                                     \
	}

static const struct bench_case cases[] = {
	CASE("udp_1472", 8, GSO_ARMS, 0),
	CASE("udp_1472_split", 3.5, GSO_ARMS, 1),
	CASE("udp_64", 20, GSO_ARMS, 2),
	CASE("udp_64_mixed", 0.95, MMSG_ARMS, 3),
	CASE("udp_64_scattered", 0.95, GSO_ARMS, 4),
	CASE("udp_512", 0.95, GSO_ARMS, 5),
	CASE("udp_1024", 0.95, GSO_ARMS, 6),
	CASE("udp_64_batch1", 0.95, GSO_ARMS, 7),
	CASE("udp_64_batch8", 0.95, GSO_ARMS, 8),
	CASE("udp_64_batch32", 0.95, GSO_ARMS, 9),
	CASE("udp_1472_batch1", 0.95, GSO_ARMS, 10),
	CASE("udp_1472_batch8", 0.95, GSO_ARMS, 11),
	CASE("udp_1472_mixed", 0.95, MMSG_ARMS, 12),
	CASE("relay", 2, RELAY_ARMS, 13),
};

static int open_path(void **ret_ctx, struct haul_err *err)
{
	struct wire_path *path = malloc(sizeof *path);
	if (path == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	int rc = wire_path_open(path, err);
	if (rc < 0) {
		free(path);
		return rc;
	}
	*ret_ctx = path;
	return 0;
}

static void close_path(void *ctx)
{
	wire_path_close(ctx);
	free(ctx);
}

const struct bench bench_wire = {
	.name = "wire",
	.help = "UDP links over a veth pair: one frame a call against batches",
	.cases = cases,
	.case_count = sizeof cases / sizeof cases[0],
	.open = open_path,
	.close = close_path,
};
