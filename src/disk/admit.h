/* disk/admit.h — a budget of bytes written, for flash that wears out.
 *
 * Model      A token bucket: bytes_per_s flow in, up to burst_bytes; admit takes. 0 = no budget:
 *            everything is admitted. Who was seen before (in the ghost, or a second store within
 *            memory) is admitted down to an empty bucket; others only while it is over half full.
 *            What must be written in any case is charged: it may leave the bucket in debt.
 *            In any window of t seconds, admit_ask lets at most burst + t * bytes_per_s through.
 * Units      bytes, nanoseconds. Threads: one. Errors: none.
 * Limits     a burst below ADMIT_BURST_MIN is raised to it, or the largest values would never be
 *            admitted. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { ADMIT_BURST_MIN = 4 << 20 };

struct admit {
	uint64_t bytes_per_s;
	uint64_t burst_bytes;
	double tokens;
	int64_t last_ns;
	uint64_t admitted, refused; /* bytes */
};

void admit_init(struct admit *admit, uint64_t bytes_per_s, uint64_t burst_bytes, int64_t now_ns);
bool admit_ask(struct admit *admit, uint64_t bytes, bool seen_before, int64_t now_ns);
/* Written whatever the bucket holds. */
void admit_charge(struct admit *admit, uint64_t bytes, int64_t now_ns);
