/* bench/bench_lab.h — what tests of a bench do with any of them.
 *
 * Errors     fails the test that called. */
#pragma once

#include "bench.h"

const struct bench_case *bench_lab_case(const struct bench *bench, const char *name);
/* Run both arms of every case on an open bench, for so long each: they give a figure. What this
 * machine or program does not have is said, and left out. Returns how many ran. */
uint32_t bench_lab_run(const struct bench *bench, void *ctx, double seconds);
