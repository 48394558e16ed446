#include "store/snapshot.h"

#include "base/assert.h"

enum {
	LOOKED_MAX = 256 << 10, /* then there may be a newer view: some milliseconds of work */
	LOOKED_OPEN = 16 << 10, /* what opening a walk counts for: it may read blocks */
	LOOKED_ROW = 64,        /* a row, beside its value */
};

void snapshot_take(struct snapshot *snapshot)
{
	uint64_t op;

	HAUL_ASSERT(snapshot->view == NULL && !snapshot->pinned);
	snapshot->looked = 0;
	snapshot->view = lsm_view_take(snapshot->lsm, &op);
	if (!snapshot->fixed)
		snapshot->op = op;
	HAUL_ASSERT(snapshot->op <= op);
}

void snapshot_take_long(struct snapshot *snapshot)
{
	uint64_t pin = 0;

	/* First the pin: a merge that begins before it keeps what is visible now. */
	const bool pinned = !snapshot->fixed && lsm_pin(snapshot->lsm, &pin) == 0;
	snapshot_take(snapshot);
	snapshot->pinned = pinned;
	if (pinned)
		snapshot->op = pin;
}

void snapshot_drop(struct snapshot *snapshot)
{
	lsm_view_drop(snapshot->lsm, snapshot->view);
	snapshot->view = NULL;
	if (snapshot->pinned)
		lsm_unpin(snapshot->lsm, snapshot->op);
	snapshot->pinned = false;
}

/* The newest view, held, if the snapshot's is older and it can do without; NULL. */
static struct lsm_view *view_newer(struct snapshot *snapshot)
{
	uint64_t op;

	snapshot->looked = 0;
	if (!snapshot->pinned && !snapshot->fixed)
		return NULL;
	struct lsm_view *view = lsm_view_take(snapshot->lsm, &op);
	if (view != snapshot->view)
		return view;
	lsm_view_drop(snapshot->lsm, view);
	return NULL;
}

static void view_replace(struct snapshot *snapshot, struct lsm_view *view)
{
	lsm_view_drop(snapshot->lsm, snapshot->view);
	snapshot->view = view;
}

void snapshot_renew(struct snapshot *snapshot)
{
	struct lsm_view *newest = view_newer(snapshot);

	if (newest != NULL)
		view_replace(snapshot, newest);
}

/* ---- walks ---- */

static int walk_open(struct snapshot_walk *walk)
{
	walk->snapshot->looked += LOOKED_OPEN;
	return lsm_walk_open(&walk->walk, walk->snapshot->view, &walk->options);
}

int snapshot_walk_open(struct snapshot_walk *walk, struct snapshot *snapshot,
		       const struct lsm_walk_options *options)
{
	HAUL_ASSERT(snapshot->view != NULL);
	*walk = (struct snapshot_walk){ .snapshot = snapshot, .options = *options };
	walk->options.op_max = snapshot->op;
	return walk_open(walk);
}

/* On to the newest view, if there is another one, behind what was told. 1; 0: that was the end. */
static int walk_renew(struct snapshot_walk *walk)
{
	struct tree_key *from = &walk->options.from;
	struct lsm_view *newest = view_newer(walk->snapshot);

	if (newest == NULL)
		return 1;
	snapshot_walk_close(walk);
	view_replace(walk->snapshot, newest);
	if (walk->told && (!tree_key_next(walk->options.tree, from) ||
			   tree_key_compare(from, &walk->options.to) > 0))
		return 0;
	walk->told = false;
	const int error = walk_open(walk);
	return error < 0 ? error : 1;
}

int snapshot_walk_next(struct snapshot_walk *walk, struct rows *ret_rows)
{
	struct snapshot *snapshot = walk->snapshot;
	int more = walk->walk != NULL;

	if (more > 0 && snapshot->looked >= LOOKED_MAX)
		more = walk_renew(walk);
	if (more > 0)
		more = lsm_walk_next(walk->walk, ret_rows);
	if (more <= 0)
		return more;
	const uint32_t count = ret_rows->count;
	HAUL_ASSERT(count > 0 && ret_rows->words == tree_words[walk->options.tree]);
	snapshot->looked += count * LOOKED_ROW + ret_rows->end[count - 1];
	for (uint32_t i = 0; i < ret_rows->words; i++)
		walk->options.from.word[i] =
			ret_rows->key[(size_t)(count - 1) * ret_rows->words + i];
	walk->told = true;
	return 1;
}

void snapshot_walk_close(struct snapshot_walk *walk)
{
	lsm_walk_close(walk->walk);
	walk->walk = NULL;
}
