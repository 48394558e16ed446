/* sql/pending.h — changes of a transaction, until it is committed.
 *
 * Model      A list of copies. pending_commit makes one group of all of it.
 * Ownership  what is added is copied.
 * Threads    one. Errors: -ENOMEM; HAUL_EFULL: more than fits into a frame. */
#pragma once

#include <haul/graph.h>

struct pending_change {
	enum haul_change change;
	struct haul_change_options options;
	union {
		struct haul_node node;
		struct haul_edge edge;
		struct haul_embedding embedding;
	} of;
	void *data; /* what the record points into */
};

struct pending {
	struct pending_change *changes;
	uint32_t count, room;
};

int pending_add(struct pending *pending, const struct pending_change *change);
/* Forget all behind the first `count`. */
void pending_cut(struct pending *pending, uint32_t count);
void pending_free(struct pending *pending);
/* All of them as a group of `changes`, which is cleared first. */
int pending_build(const struct pending *pending, struct haul_changes *changes);
