/* disk/admit.h — a budget of bytes written, for flash that wears out.
 *
 * Model      A token bucket: bytes_per_s flow in, up to burst_bytes; admit takes. 0 = no budget:
 *            everything is admitted. Who was seen before (in the ghost, or a second store within
 *            memory) is admitted down to an empty bucket; others only while it is over half full.
 * Units      bytes, nanoseconds. Threads: one. Errors: none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct admit {
	uint64_t bytes_per_s;
	uint64_t burst_bytes;
	double tokens;
	int64_t last_ns;
	uint64_t admitted, refused;
};

void admit_init(struct admit *admit, uint64_t bytes_per_s, uint64_t burst_bytes, int64_t now_ns);
bool admit_ask(struct admit *admit, uint64_t bytes, bool seen_before, int64_t now_ns);
