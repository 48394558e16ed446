/* store/lsm_plan.c: what is to be merged next.
 *
 * A level that has level_factor runs of a tree is merged into one run of the next. The last level
 * merges into itself: when it has as many, or when what is newer there is more than twice its
 * oldest run, so that overwritten rows take no more than so much room. In a store that nobody
 * writes to, what costs reads more than it costs to merge goes, too: the newest runs of a tree up
 * to the last one that is at most twice as big as all before it together. After that sizes more
 * than double from run to run, so there is an end to it. */
#include "base/assert.h"
#include "store/lsm_state.h"

enum { AMPLIFICATION = 2, IDLE_RATIO = 2 };

/* Levels do not fall from new to old, but where a merge was overtaken and then stopped by a crash:
 * its runs go with those that are newer, or they would be alone for ever in their level's way. */
static uint32_t level_behind(uint32_t level, const struct run *run)
{
	return run->level > level ? run->level : level;
}

/* The runs of a level, next to each other and in no merge, the oldest such group. */
static struct lsm_change level_group(const struct lsm_runs *runs, enum tree tree, uint32_t level)
{
	struct lsm_change group = { .tree = tree };
	uint32_t at = 0;
	bool fitted = false;
	for (uint32_t i = 0; i < runs->count; i++) {
		at = level_behind(at, runs->run[i]);
		bool fits = at == level && !runs->run[i]->merging;
		if (fits && !fitted)
			group = (struct lsm_change){ .tree = tree, .first = i };
		if (fits)
			group.count++;
		fitted = fits;
	}
	return group;
}

static bool last_level_grown(const struct lsm_runs *runs, const struct lsm_change *group)
{
	if (group->count < 2)
		return false;
	uint64_t newer = 0;
	for (uint32_t i = 0; i + 1 < group->count; i++)
		newer += runs->run[group->first + i]->bytes;
	return newer > AMPLIFICATION * runs->run[group->first + group->count - 1]->bytes;
}

bool lsm_plan_level(const struct lsm *lsm, uint32_t level, struct lsm_change *ret_span)
{
	struct lsm_change most = { .count = 0 };
	bool last = level + 1 >= lsm->options.levels;
	for (uint32_t tree = 0; tree < TREES; tree++) {
		const struct lsm_runs *runs = &lsm->base->tree[tree];
		struct lsm_change group = level_group(runs, (enum tree)tree, level);
		bool due = group.count >= lsm->options.level_factor ||
			   (last && last_level_grown(runs, &group));
		if (due && group.count > most.count)
			most = group;
	}
	if (most.count)
		*ret_span = most;
	return most.count > 0;
}

static uint32_t idle_runs(const struct lsm_runs *runs)
{
	uint64_t newer = 0;
	uint32_t count = 0;
	for (uint32_t i = 0; i < runs->count; i++) {
		if (runs->run[i]->merging)
			break;
		if (i > 0 && runs->run[i]->bytes <= IDLE_RATIO * newer)
			count = i + 1;
		newer += runs->run[i]->bytes;
	}
	return count;
}

bool lsm_plan_idle(const struct lsm *lsm, struct lsm_change *ret_span)
{
	for (uint32_t tree = 0; tree < TREES; tree++) {
		uint32_t count = idle_runs(&lsm->base->tree[tree]);
		if (count < 2)
			continue;
		*ret_span = (struct lsm_change){ .tree = (enum tree)tree, .count = count };
		return true;
	}
	return false;
}

static bool runs_free(const struct lsm_runs *runs)
{
	for (uint32_t i = 0; i < runs->count; i++) {
		if (runs->run[i]->merging)
			return false;
	}
	return true;
}

bool lsm_plan_compact(const struct lsm *lsm, struct lsm_change *ret_span)
{
	for (uint32_t tree = 0; tree < TREES; tree++) {
		const struct lsm_runs *runs = &lsm->base->tree[tree];
		if (!lsm->compact_now[tree] || runs->count < 2 || !runs_free(runs))
			continue;
		*ret_span = (struct lsm_change){ .tree = (enum tree)tree,
						 .count = runs->count,
						 .compact = true };
		return true;
	}
	return false;
}

/* Runs of one level, those in a merge under way included. */
static uint32_t level_runs(const struct lsm_runs *runs, uint32_t level)
{
	uint32_t count = 0, at = 0;
	for (uint32_t i = 0; i < runs->count; i++) {
		at = level_behind(at, runs->run[i]);
		count += at == level;
	}
	return count;
}

void lsm_plan_debt(struct lsm *lsm)
{
	uint32_t factor = lsm->options.level_factor, worst = 0;
	uint64_t memory = 0;
	for (uint32_t tree = 0; tree < TREES; tree++) {
		const struct lsm_runs *runs = &lsm->base->tree[tree];
		for (uint32_t level = 0; level < lsm->options.levels; level++) {
			uint32_t count = level_runs(runs, level);
			worst = count > worst ? count : worst;
		}
		for (uint32_t i = 0; i < runs->count; i++) {
			for (uint32_t k = 0; k < runs->run[i]->count; k++)
				memory += table_memory(runs->run[i]->table[k]);
		}
	}
	uint32_t debt = worst > factor ? (worst - factor) * (uint32_t)LSM_DEBT_ONE / factor : 0;
	__atomic_store_n(&lsm->debt_level, debt, __ATOMIC_RELAXED);
	lsm->table_stays = memory;
	lsm->filters_seen = 0;
}
