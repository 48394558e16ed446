#include "store/run.h"

#include <stdlib.h>

#include "base/assert.h"

struct run *run_new(enum tree tree, uint32_t level, struct table *const *tables, uint32_t count)
{
	HAUL_ASSERT(count > 0);
	size_t bytes =
		sizeof(struct run) + count * (sizeof(struct table *) + sizeof(struct run_bound));
	struct run *run = malloc(bytes);
	if (!run)
		return NULL;
	struct run_bound *bound = (struct run_bound *)(void *)(run->table + count);
	*run = (struct run){
		.holds = 1, .tree = tree, .level = level, .count = count, .bound = bound
	};
	for (uint32_t i = 0; i < count; i++) {
		const struct table_info *info = &tables[i]->info;
		HAUL_ASSERT(tree_key_compare(&info->first, &info->last) <= 0);
		HAUL_ASSERT(i == 0 || tree_key_compare(&bound[i - 1].last, &info->first) < 0);
		run->table[i] = tables[i];
		bound[i] = (struct run_bound){ .first = info->first, .last = info->last };
		run->rows += info->rows;
		run->bytes += info->bytes;
	}
	return run;
}

struct run *run_hold(struct run *run)
{
	HAUL_ASSERT(__atomic_add_fetch(&run->holds, 1, __ATOMIC_RELAXED) > 1);
	return run;
}

void run_drop(struct run *run)
{
	if (!run)
		return;
	uint32_t before = __atomic_fetch_sub(&run->holds, 1, __ATOMIC_ACQ_REL);
	HAUL_ASSERT(before > 0);
	if (before > 1)
		return;
	for (uint32_t i = 0; i < run->count; i++)
		table_drop(run->table[i]);
	free(run);
}

uint32_t run_find(const struct run *run, uint32_t from, const struct tree_key *key)
{
	uint32_t low = from, high = run->count;
	/* Keys that are asked for ascend, so it is mostly here or next door. */
	for (uint32_t step = 1; low < high; step *= 2) {
		uint32_t at = low + step - 1;
		if (at >= high)
			break;
		if (tree_key_compare(&run->bound[at].last, key) >= 0) {
			high = at;
			break;
		}
		low = at + 1;
	}
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (tree_key_compare(&run->bound[middle].last, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---- walking ---- */

static bool walk_skips(const struct run_walk *walk, uint32_t table)
{
	return walk->filter && !table_filter_pass(walk->run->table[table], walk->prefix);
}

/* Rows behind `to` are left out by the table: a walk over the edges of one node must not cost a
 * block of rows. */
static void walk_bound(struct run_walk *walk)
{
	struct tree_key behind = walk->to;
	for (uint32_t i = walk->words; i-- > 0 && !walk->walk.bounded;)
		walk->walk.bounded = ++behind.word[i] != 0;
	walk->walk.behind = behind;
}

static int walk_next(struct source *source, struct rows *ret_rows)
{
	struct run_walk *walk = (struct run_walk *)source;
	for (;;) {
		if (walk->open) {
			int rc = walk->walk.source.next(&walk->walk.source, ret_rows);
			if (rc != 0)
				return rc;
			table_walk_close(&walk->walk);
			walk->open = false;
			walk->table++;
		}
		while (walk->table < walk->end && walk_skips(walk, walk->table))
			walk->table++;
		if (walk->table >= walk->end ||
		    tree_key_compare(&walk->run->bound[walk->table].first, &walk->to) > 0)
			return 0;
		struct table *table = walk->run->table[walk->table];
		int rc = walk->bypass ? table_walk_open(&walk->walk, table, &walk->from,
							walk->ahead, true)
				      : table_walk_open_lent(&walk->walk, table, &walk->from,
							     walk->ahead, walk->lend);
		if (rc < 0)
			return rc;
		walk_bound(walk);
		walk->open = true;
	}
}

void run_walk_init(struct run_walk *walk, struct run *run)
{
	*walk = (struct run_walk){ .source.next = walk_next, .run = run, .end = run->count };
	walk->words = tree_words[run->tree];
	walk->ahead = 1;
	for (int i = 0; i < TREE_WORDS_MAX; i++)
		walk->to.word[i] = UINT64_MAX;
}

void run_walk_done(struct run_walk *walk)
{
	if (walk->open)
		table_walk_close(&walk->walk);
	walk->open = false;
}
