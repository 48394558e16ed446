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
/* Backup and restore, between any two folders. */
struct store_copying {
	haul_store_progress *progress; /* may be NULL */
	void *arg;
};
int store_backup_to(struct haul_store *store, struct vfs *vfs, const struct store_copying *copying,
		    struct haul_err *err);
int store_restore_on(struct vfs *from, const struct store_deep *deep,
		     const struct store_copying *copying, struct haul_err *err);
/* Check and repair what nobody has open (haul/store.h). */
struct store_telling {
	haul_store_told *told;
	haul_store_progress *progress; /* may be NULL */
	void *arg;
};
int store_check_on(const struct store_deep *deep, const struct store_telling *telling,
		   struct haul_err *err);
int store_repair_on(const struct store_deep *deep, bool accept_loss,
		    const struct store_telling *telling, struct haul_err *err);

/* Frames under way: the server's credits. */
uint32_t store_in_flight(struct haul_store *store);
