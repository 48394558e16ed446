/* store/lsm_lab.h — a merge tree on a simulated disk beside a naive sorted map, for its tests.
 *
 * Model      A key is the number `k` of one of LAB_KEYS in a tree; lab_key makes words of it, in
 *            the same order. A value is made of tree, k and op. The model keeps every version of
 *            every key; it says what is seen at an op. The log is only a place: what a crash takes
 *            from the memory tables is put again by lsm_lab_replay.
 * Threads    one. Errors: asserts. */
#pragma once

#include "lib/testlib.h"
#include "os/vfs_sim.h"
#include "store/lsm_state.h"

enum {
	LAB_KEYS = 192,
	LAB_DISK = 64 << 20,
	LAB_MEMTABLE = 6 << 10,
	LAB_BUDGET = 128 << 10,
	LAB_TABLE = 4 << 10,
	LAB_BLOCK = 512,
	LAB_CACHE = 4 << 20,
	LAB_FRAME_ROWS = 24,
	LAB_VALUE = 8 << 10,
};

struct lab_version {
	uint64_t op;
	uint32_t bytes;
	bool deleted;
};
struct lab_cell {
	struct lab_version *versions; /* ascending */
	uint32_t count, room;
};
/* A row as it was put; in order. */
struct lab_row {
	uint64_t op;
	enum tree tree;
	uint32_t k, bytes;
	bool deleted;
};

struct lsm_lab {
	const char *folder; /* NULL: on the simulated disk */
	struct vfs_sim *sim;
	struct vfs *vfs;
	struct media *media;
	struct os_sim os;
	struct lsm_options options;
	struct lsm *lsm;
	struct haul_err err;
	struct prng prng;
	struct log_place place; /* of the last frame */
	uint64_t published;
	bool stopped; /* a merge, by closing, since levels were in order */
	struct lab_cell cells[TREES][LAB_KEYS];
	struct lab_row *rows;
	uint32_t row_count, row_room;
	struct lsm_scratch *scratch;
	struct arena arena;
};

/* Made, not opened: options may still be changed. Free undoes everything. */
struct lsm_lab *lsm_lab_new(uint64_t seed);
/* Made and opened, as lsm_lab_init leaves the options. */
struct lsm_lab *lsm_lab_new_open(uint64_t seed);
void lsm_lab_free(struct lsm_lab *lab);
/* The same for a lab that is part of something. */
void lsm_lab_init(struct lsm_lab *lab, uint64_t seed);
/* In a real, empty folder: for threads, which the simulated disk does not bear. */
void lsm_lab_init_in(struct lsm_lab *lab, const char *folder);
void lsm_lab_done(struct lsm_lab *lab);
/* As lsm_open; and close, media included. */
int lsm_lab_open(struct lsm_lab *lab);
void lsm_lab_close(struct lsm_lab *lab);
/* Put again what came after the checkpoint, up to the last frame, and publish it. */
void lsm_lab_replay(struct lsm_lab *lab);

struct tree_key lab_key(enum tree tree, uint32_t k);
/* One row of the frame under way, in store and model. */
void lsm_lab_put(struct lsm_lab *lab, enum tree tree, uint32_t k, uint32_t bytes, bool deleted);
/* The frame is whole: begins the next; waits (by steps) until that may start. What lsm_step said,
 * if that was negative. */
int lsm_lab_frame(struct lsm_lab *lab);
/* A frame of random rows, some keys twice, perhaps with an aborted group. */
int lsm_lab_frame_random(struct lsm_lab *lab);
void lsm_lab_publish(struct lsm_lab *lab, uint64_t op);
/* A frame of the keys from … to - 1, with short values or deleted, and publish it. */
void lsm_lab_frame_range(struct lsm_lab *lab, enum tree tree, uint32_t from, uint32_t to,
			 bool deleted);
/* What is in the memory table becomes a run, and no merge follows. */
void lsm_lab_flush_only(struct lsm_lab *lab);
/* Steps until there is nothing to do: 0 or what one of them said. */
int lsm_lab_settle(struct lsm_lab *lab);
/* Freeze and settle, so that all is in tables. */
int lsm_lab_flush(struct lsm_lab *lab);

/* Everything that is seen at op, by walking and by looking for it. */
void lsm_lab_check(struct lsm_lab *lab, struct lsm_view *view, uint64_t op);
/* The same of what is newest, through the executor's calls. */
void lsm_lab_check_executor(struct lsm_lab *lab);
struct haul_store_status lsm_lab_status(const struct lsm_lab *lab);
/* Runs of a tree. */
uint32_t lsm_lab_runs(struct lsm_lab *lab, enum tree tree);
/* The blobs there are: exactly the tables of the checkpoint and its manifest. */
void lsm_lab_check_blobs(struct lsm_lab *lab);
