/* bench/map_packet.h — what the counting program costs a packet, by PROG_TEST_RUN.
 * Threads: one. Errors: with text; -ENOTSUP where the program cannot be loaded. */
#pragma once

#include "bench.h"

/* A case's run: individual, a program that does nothing; batched, the connection table's. */
int map_packet_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		   struct bench_sample *ret_sample, struct haul_err *err);
