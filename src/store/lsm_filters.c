/* store/lsm_filters.c: which filters of tables are in memory.
 *
 * What for   Indexes and filters of tables grow with what is stored, and have a share of memory.
 *            All indexes are in it, filters as far as they fit. A filter saves a lookup of a key
 *            that is not there one read, whatever the size of its table; those of the upper levels
 *            are small, so they save most for their bytes, and those of the deepest are left out.
 * How        A part of the share, the reserve, is kept for level 0, whose filters come with every
 *            flush. Whatever is opened while there is room for it keeps its filter. When what
 *            stays is over the share without the reserve, tables of the deepest level are opened
 *            once more without one (table_reopen), and their run put in the place of the run
 *            before; when much is free, tables of the uppermost that have none once more with it.
 *            What readers still hold of the runs before counts until they let go, and a filter
 *            that would not fit beside it is left out meanwhile.
 * Threads    background. */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "store/lsm_state.h"

enum {
	RESERVE = 8, /* a part of the share */
	TURNS = 16,  /* tables opened once more in a step: each may read its tail */
};

/* What filters may take beside the indexes, the reserve kept free; so many times. */
static uint64_t share_without(const struct lsm *lsm, uint64_t reserves)
{
	uint64_t share = lsm->options.filter_bytes;
	return share - share / RESERVE * reserves;
}

int lsm_table_open(struct lsm *lsm, const struct table_info *info, uint32_t level,
		   struct table **ret_table, struct haul_err *err)
{
	struct table *table;
	int rc = table_open(&table, lsm->media, lsm->cache, info, err);
	if (rc < 0)
		return rc;
	uint64_t memory = __atomic_load_n(&lsm->table_memory, __ATOMIC_RELAXED);
	if (lsm->options.filter_bytes &&
	    memory + table_memory(table) > share_without(lsm, level > 0))
		table_filter_drop(table);
	table_count(table, &lsm->table_memory);
	*ret_table = table;
	return 0;
}

/* ---- once more ---- */

struct turn {
	bool filtered;  /* what they shall become */
	uint64_t bytes; /* of filters: with that, at most; without, at least */
	uint32_t tables;
};

static bool table_turns(const struct table *table, const struct turn *turn)
{
	if (table_filtered(table) == turn->filtered || table_filter_bytes(table) == 0)
		return false;
	return turn->tables < TURNS && turn->bytes > 0 &&
	       (!turn->filtered || table_filter_bytes(table) <= turn->bytes);
}

static bool run_turns(const struct run *run, const struct turn *turn)
{
	for (uint32_t i = 0; i < run->count && !run->merging; i++) {
		if (table_turns(run->table[i], turn))
			return true;
	}
	return false;
}

static int table_turn(struct lsm *lsm, struct table *before, struct turn *turn,
		      struct table **ret_table)
{
	int rc = table_reopen(ret_table, before, turn->filtered);
	if (rc < 0)
		return rc;
	table_count(*ret_table, &lsm->table_memory);
	uint64_t bytes = table_filter_bytes(before);
	turn->bytes -= bytes < turn->bytes ? bytes : turn->bytes;
	turn->tables++;
	return 0;
}

/* The run as it shall be; what was done is done when the disk or memory stops it half-way. */
static int run_turned_new(struct lsm *lsm, const struct run *run, struct turn *turn,
			  struct run **ret_run)
{
	struct table **tables = calloc(run->count, sizeof(struct table *));
	int rc = tables ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < run->count && tables; i++) {
		if (rc == 0 && table_turns(run->table[i], turn))
			rc = table_turn(lsm, run->table[i], turn, &tables[i]);
		if (!tables[i])
			tables[i] = table_hold(run->table[i]);
	}
	struct run *made = tables ? run_new(run->tree, run->level, tables, run->count) : NULL;
	for (uint32_t i = 0; i < run->count && tables && !made; i++)
		table_drop(tables[i]);
	free(tables);
	*ret_run = made;
	return made ? rc : -ENOMEM;
}

static int run_turn(struct lsm *lsm, struct lsm_change *change, struct turn *turn)
{
	const struct run *run = lsm->base->tree[change->tree].run[change->first];
	int rc = run_turned_new(lsm, run, turn, &change->run);
	if (!change->run)
		return rc;
	/* The same tables: the manifest and the root are as they were. */
	struct lsm_view *view = lsm_view_change_new(lsm->base, change, 1);
	if (view)
		lsm_view_install(lsm, view, false);
	run_drop(change->run);
	return view ? rc : -ENOMEM;
}

/* A run of the level, the oldest first. */
static bool level_find(const struct lsm *lsm, uint32_t level, const struct turn *turn,
		       struct lsm_change *ret_change)
{
	for (uint32_t tree = 0; tree < TREES; tree++) {
		const struct lsm_runs *runs = &lsm->base->tree[tree];
		for (uint32_t i = runs->count; i-- > 0;) {
			if (runs->run[i]->level != level || !run_turns(runs->run[i], turn))
				continue;
			*ret_change = (struct lsm_change){ .tree = (enum tree)tree,
							   .first = i,
							   .count = 1 };
			return true;
		}
	}
	return false;
}

static int levels_turn(struct lsm *lsm, uint32_t from, struct turn *turn)
{
	for (uint32_t i = from; i < lsm->options.levels; i++) {
		uint32_t level = turn->filtered ? i : from + lsm->options.levels - 1 - i;
		struct lsm_change change;
		if (level_find(lsm, level, turn, &change)) {
			int rc = run_turn(lsm, &change, turn);
			return rc < 0 ? rc : 1;
		}
	}
	return 0;
}

static int filters_return(struct lsm *lsm, uint64_t memory)
{
	uint64_t most = share_without(lsm, 2);
	uint64_t held = memory > lsm->table_stays ? memory : lsm->table_stays;
	struct turn turn = { .filtered = true, .bytes = held < most ? most - held : 0 };
	return levels_turn(lsm, 0, &turn);
}

/* Those of level 0 only for want of the reserve, too. */
static int filters_leave(struct lsm *lsm)
{
	uint64_t most = share_without(lsm, 1), share = share_without(lsm, 0);
	struct turn turn = { .bytes = lsm->table_stays - most };
	int rc = levels_turn(lsm, 1, &turn);
	if (rc != 0 || lsm->table_stays <= share)
		return rc;
	turn.bytes = lsm->table_stays - share;
	return levels_turn(lsm, 0, &turn);
}

int lsm_filters_step(struct lsm *lsm)
{
	uint64_t memory = __atomic_load_n(&lsm->table_memory, __ATOMIC_RELAXED);
	if (!lsm->options.filter_bytes || lsm->filters_seen == memory)
		return 0;
	int rc = lsm->table_stays > share_without(lsm, 1) ? filters_leave(lsm)
							  : filters_return(lsm, memory);
	/* A filter is a help and no more: what cannot be read now is left as it is. */
	lsm->filters_seen = rc > 0 ? 0 : __atomic_load_n(&lsm->table_memory, __ATOMIC_RELAXED);
	return rc > 0;
}
