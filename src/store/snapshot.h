/* store/snapshot.h — one state of a store, seen for as long as a call takes.
 *
 * Model      An op, and a view that has all rows up to it. Writers need the memory tables that a
 *            view holds: so who looks for long goes over to the newest view between two pieces of
 *            his work. The op is pinned for as long, so that merges keep what it sees. A walk of a
 *            snapshot does so by itself, and goes on behind the last row it told; one walk of a
 *            snapshot at a time, and what was found in the view before is copied before.
 * Ownership  a view and perhaps a pin, from take to drop.
 * Memory     none.
 * Threads    one.
 * Errors     those of lsm.h.
 * Limits     when all pins are in use the view stays; then writers may have to wait for its end. */
#pragma once

#include "store/lsm.h"

struct snapshot {
	struct lsm *lsm;
	uint64_t op;
	bool fixed; /* op is given, and pinned by who gave it; else each take sees the newest */
	/* while it is taken */
	struct lsm_view *view; /* NULL: it is not */
	bool pinned;           /* by itself */
	uint32_t looked;       /* bytes or so, since it was seen to that the view is the newest */
};
/* For a call that is over soon, whatever there is. */
void snapshot_take(struct snapshot *snapshot);
/* For one that may take long. */
void snapshot_take_long(struct snapshot *snapshot);
void snapshot_drop(struct snapshot *snapshot); /* also one that is not taken */
/* Between two pieces of work other than a walk's: nothing of the view is in use. */
void snapshot_renew(struct snapshot *snapshot);

/* Rows as lsm_walk tells them; op_max of the options is the snapshot's. */
struct snapshot_walk {
	struct snapshot *snapshot;
	struct lsm_walk_options options;
	struct lsm_walk *walk;
	bool told; /* options.from is the last row that was told */
};
int snapshot_walk_open(struct snapshot_walk *walk, struct snapshot *snapshot,
		       const struct lsm_walk_options *options);
int snapshot_walk_next(struct snapshot_walk *walk, struct rows *ret_rows); /* 1, 0, negative */
void snapshot_walk_close(struct snapshot_walk *walk); /* also zeros, and one that did not open */
