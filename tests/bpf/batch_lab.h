/* bpf/batch_lab.h — a map behind a bpf(2) that fails when told to, and what a walk over it gave.
 *
 * Model      `map` is the map of `lab` with one engine, through `twin`, where faults are entered.
 * Threads    one. Errors: asserts; without privilege the program is skipped (77). */
#pragma once

#include "bpf/map_lab.h"
#include "bpf/map_state.h"
#include "lib/testlib.h"

enum { BATCH_LAB_ROWS = 500, BATCH_LAB_BUSY = 5 };

/* What a kernel says when a lock could not be had. */
extern const int batch_lab_busy[BATCH_LAB_BUSY];

struct batch_lab {
	struct lab_map lab;
	struct lab_sys twin;
	struct haul_map *map; /* lab's, through the twin */
	struct lab_rows rows; /* BATCH_LAB_ROWS */
};
/* batch: of the options; 0 = the engine chooses. */
void batch_lab_open(struct batch_lab *f, uint32_t type, uint32_t max_entries, uint32_t batch,
		    enum haul_map_engine engine);
void batch_lab_close(struct batch_lab *f);
/* count rows with the keys first, first + 1 … */
void batch_lab_fill(struct batch_lab *f, uint32_t first, uint32_t count);
uint64_t batch_lab_extra(const struct batch_lab *f, enum map_counter counter);

/* What a walk to its end gave. */
struct batch_walked {
	uint32_t count, batches;
	uint64_t calls, retries;
	uint8_t times[BATCH_LAB_ROWS];
};
/* Adds to w, from the cursor on; take: what is read is deleted. 0 at the end, or the error. */
int batch_lab_walk(struct batch_lab *f, bool take, struct haul_map_cursor *cursor,
		   struct batch_walked *w);
/* The keys 0 … count - 1, each once. */
void batch_lab_once(const struct batch_walked *w, uint32_t count);
