/* bench/wire_path.h — a veth pair between two namespaces, and links over it that are driven as fast
 * as they go, counted where the frames arrive.
 * Ownership: wire_path_close lets the namespaces go. Threads: a run starts its own and joins them.
 * Errors: -EPERM without root. Blocking: a run, for about the seconds given. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>

enum { WIRE_DESTINATIONS = 64 };

struct wire_path {
	int near_netns; /* senders, and the receiver behind a relay */
	int far_netns;  /* receivers, and relays */
	bool split;     /* packets cross one MTU at a time */
};

int wire_path_open(struct wire_path *path, struct haul_err *err);
void wire_path_close(struct wire_path *path);
/* Whether superframes cross whole, or are cut before the veth and put together again behind it. */
int wire_path_split(struct wire_path *path, bool split, struct haul_err *err);

struct wire_run {
	uint32_t frame_bytes;
	uint32_t batch;  /* frames a tx call and at most a rx call; 1 in the individual arm */
	bool individual; /* links with burst_max 1 */
	bool mixed;      /* every frame of a batch to another destination */
	bool scattered;  /* frames do not adjoin in memory */
	bool relay;      /* through a third socket that rewrites a byte of each frame */
	double seconds;
};

struct wire_result {
	double frames_per_s;
	double syscalls_per_frame; /* all links together, a frame delivered */
	double fill_mean;          /* frames a receive burst, at the last link */
	double sent_per_s;
	double frames_per_packet; /* frames in a kernel packet, at the last link */
};

int wire_path_run(const struct wire_path *path, const struct wire_run *run,
		  struct wire_result *ret_result, struct haul_err *err);
