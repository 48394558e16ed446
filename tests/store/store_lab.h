/* store/store_lab.h — a whole store on a simulated disk, for tests of what stands on it.
 *
 * Model      store_lab_init makes an empty store in memory, with tiny memory tables, blocks and
 *            segments, so that a few hundred changes go through every part; store_lab_open opens
 *            it. Nothing runs by itself: background work is done by store_lab_settle, or a piece at
 *            a time by store_step. When the disk stops (vfs_sim_stop_after) calls return -EIO;
 *            store_lab_crash then leaves what the power cut would.
 *            The lab_… calls add a change to lab->changes; store_lab_commit commits and clears.
 * Threads    one. Errors: asserts, but where it says otherwise. */
#pragma once

#include "lib/testlib.h"
#include "os/vfs_sim.h"
#include "store/store_state.h"

enum {
	STORE_LAB_DISK = 64 << 20,
	STORE_LAB_MEMTABLE = 48 << 10,
	STORE_LAB_BUDGET = 256 << 10,
	STORE_LAB_TABLE = 32 << 10,
	STORE_LAB_BLOCK = 4 << 10,
	STORE_LAB_SEGMENT = 128 << 10,
	STORE_LAB_LOG = 1 << 20, /* so a frame of the lab is no longer than that */
	STORE_LAB_MEMORY = 24 << 20,
};

struct store_lab {
	struct vfs_sim *disk;
	struct vfs *vfs;
	struct os_sim os;
	struct prng prng;
	struct store_deep deep;
	struct haul_store_options options;
	struct haul_err err;
	struct haul_store *store; /* NULL: closed */
	struct haul_changes *changes;
	struct haul_commit commit; /* of the last commit */
	int32_t statuses[HAUL_CHANGES_OPS];
};

void store_lab_init(struct store_lab *lab, uint64_t seed);
/* With an empty disk, and no store on it. */
void store_lab_init_empty(struct store_lab *lab, uint64_t seed);
void store_lab_done(struct store_lab *lab);
/* For cmocka: an open one as the state of a test. */
int store_lab_setup(void **state);
int store_lab_teardown(void **state);
/* What store_init_on and store_open_on say; lab->err has the text. */
int store_lab_make(struct store_lab *lab);
int store_lab_open(struct store_lab *lab);
/* What haul_store_close says. */
int store_lab_close(struct store_lab *lab);
/* Let go without a word to the disk; the power is cut, and is there again. */
void store_lab_crash(struct store_lab *lab, enum vfs_sim_crash how);
/* Close and open again. */
void store_lab_reopen(struct store_lab *lab);
/* Background work until there is none. 0, or what a step said. */
int store_lab_settle(struct store_lab *lab);

/* Numbers of the changes. text: of the property "text", NULL = no properties. */
int lab_node(struct store_lab *lab, uint64_t id, uint32_t kind, const char *key, const char *text);
int lab_edge(struct store_lab *lab, uint64_t src, uint64_t dst, uint32_t type);
int lab_delete(struct store_lab *lab, uint64_t id, uint32_t flags);
int lab_embedding(struct store_lab *lab, uint64_t node, uint32_t index, const float *vector,
		  uint32_t dimensions);
/* What haul_store_commit says. */
int store_lab_commit(struct store_lab *lab);
/* Whether the node is there with this text (NULL: any); through a new reader. */
bool lab_has(struct store_lab *lab, uint64_t id, const char *text);
uint32_t lab_count_nodes(struct store_lab *lab);
