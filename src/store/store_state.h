/* store/store_state.h — the store as its own parts, the server and the tests see it.
 *
 * Model      store_open_on opens over any vfs and clock; with `threads` false nothing runs by
 *            itself: commit writes the log inline and store_step does one piece of background work,
 *            so a whole store runs in simulated time on a simulated disk, deterministic.
 *            store_submit_frame takes a frame as it came over the wire.
 * Threads    as haul/store.h; without threads: one. */
#pragma once

#include <haul/store.h>
#include "os/os.h"
#include "os/vfs.h"
#include "store/exec.h"

struct store_deep {      /* what haul_store_options does not show */
	struct vfs *vfs; /* borrowed; outlives the store */
	struct os *os;
	bool threads;
	uint64_t segment_bytes; /* zeros: as usual; tests take less */
	uint64_t table_bytes;
	uint32_t block_bytes;
	uint64_t frame_budget;
	uint64_t log_buffer_bytes;
};
int store_init_on(const struct store_deep *deep, const uint8_t uuid[16], struct haul_err *err);
int store_open_on(struct haul_store **ret_store, const struct store_deep *deep,
		  const struct haul_store_options *options, struct haul_err *err);
/* One piece of background work: 1 if there may be more. Without threads only. */
int store_step(struct haul_store *store);
/* Let go at once, as a crash would: nothing is written. */
void store_abandon(struct haul_store *store);

struct store_answer {
	int error;
	struct exec_result result;
	const int32_t *statuses;
};
typedef void store_answered(void *arg, const struct store_answer *answer);
/* frame has been checked and stays in place until answered, which is called once, when the frame is
 * durable; in any thread, in the order of submits. Must not block. */
int store_submit_frame(struct haul_store *store, const struct frame *frame,
		       store_answered *answered, void *arg);
/* Frames under way: the server's credits. */
uint32_t store_in_flight(struct haul_store *store);
