/* store/lsm_walk.c: rows in order, as one reader sees them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/lsm_state.h"

struct lsm_walk {
	struct lsm_walk_options options;
	struct merge *merge;
	uint32_t words;
	bool ended;
	uint32_t memory_count, run_count, source_count;
	struct memtable_walk memory[2];
	struct source **sources;
	struct run_walk runs[];
};

/* Filters of tables and chains of memory tables know first words of these. */
static bool prefix_known(enum tree tree)
{
	return tree == TREE_OUT || tree == TREE_IN || tree == TREE_OF_NODE;
}

static int memory_open(struct lsm_walk *walk, const struct lsm_memory *memory)
{
	const struct lsm_walk_options *options = &walk->options;
	if (!memory || memtable_rows(memory->table, options->tree) == 0)
		return 0;
	bool prefix = options->prefix && prefix_known(options->tree);
	if (prefix && !memtable_prefix(memory->table, options->tree, options->from.word[0]))
		return 0;
	struct memtable_walk *at = &walk->memory[walk->memory_count];
	*at = (struct memtable_walk){ .op_max = options->op_max, .lend = options->lend };
	int rc = memtable_walk_open(at, memory->table, options->tree, &options->from, prefix);
	if (rc < 0)
		return rc;
	walk->memory_count++;
	walk->sources[walk->source_count++] = &at->source;
	return 0;
}

static bool run_concerns(const struct run *run, const struct lsm_walk_options *options)
{
	return tree_key_compare(&run->bound[0].first, &options->to) <= 0 &&
	       tree_key_compare(&run->bound[run->count - 1].last, &options->from) >= 0;
}

static void run_open(struct lsm_walk *walk, struct run *run, uint64_t prefix)
{
	const struct lsm_walk_options *options = &walk->options;
	if (!run_concerns(run, options))
		return;
	struct run_walk *at = &walk->runs[walk->run_count];
	run_walk_init(at, run);
	at->from = options->from;
	at->lend = options->lend;
	at->to = options->to;
	at->ahead = options->ahead ? options->ahead : 1;
	at->table = run_find(run, 0, &options->from);
	if (options->prefix && prefix_known(options->tree)) {
		at->filter = true;
		at->prefix = prefix;
		while (at->table < at->end &&
		       tree_key_compare(&run->bound[at->table].first, &options->to) <= 0 &&
		       !table_filter_pass(run->table[at->table], prefix))
			at->table++;
	}
	if (at->table == at->end ||
	    tree_key_compare(&run->bound[at->table].first, &options->to) > 0)
		return;
	walk->run_count++;
	walk->sources[walk->source_count++] = &at->source;
}

/* The filters that will be asked, all at once. */
static void runs_prefetch(const struct lsm_runs *runs, const struct lsm_walk_options *options,
			  uint64_t prefix)
{
	for (uint32_t i = 0; i < runs->count; i++) {
		const struct run *run = runs->run[i];
		uint32_t table = run_find(run, 0, &options->from);
		if (table < run->count)
			table_filter_prefetch(run->table[table], prefix);
	}
}

static int sources_open(struct lsm_walk *walk, struct lsm_view *view)
{
	const struct lsm_walk_options *options = &walk->options;
	const struct lsm_runs *runs = &view->tree[options->tree];
	int rc = memory_open(walk, view->active);
	if (rc == 0)
		rc = memory_open(walk, view->frozen);
	if (rc < 0)
		return rc;
	uint64_t prefix = options->prefix ? table_hash(&options->from, 1) : 0;
	if (options->prefix && prefix_known(options->tree) && runs->count > 1)
		runs_prefetch(runs, options, prefix);
	for (uint32_t i = 0; i < runs->count; i++)
		run_open(walk, runs->run[i], prefix);
	walk->ended = walk->source_count == 0;
	rc = walk->ended ? 0 : merge_new_lent(&walk->merge, walk->source_count, options->lend);
	if (rc < 0 || walk->ended)
		return rc;
	return merge_start(walk->merge, options->tree, walk->sources, walk->source_count, false);
}

int lsm_walk_open(struct lsm_walk **ret_walk, struct lsm_view *view,
		  const struct lsm_walk_options *options)
{
	HAUL_ASSERT(!options->prefix || options->from.word[0] == options->to.word[0]);
	uint32_t runs = view->tree[options->tree].count;
	struct lsm_walk *walk =
		lend_alloc(options->lend, sizeof *walk + runs * sizeof walk->runs[0] +
						  (runs + 2) * sizeof(struct source *));
	if (!walk)
		return -ENOMEM;
	*walk = (struct lsm_walk){ .options = *options };
	walk->sources = (struct source **)(void *)(walk->runs + runs);
	if (walk->options.op_max > LSM_OP_MAX)
		walk->options.op_max = LSM_OP_MAX;
	walk->words = tree_words[options->tree];
	walk->ended = tree_key_compare(&options->from, &options->to) > 0;
	int rc = walk->ended ? 0 : sources_open(walk, view);
	if (rc < 0) {
		lsm_walk_close(walk);
		return rc;
	}
	const struct merge_rule rule = { .op_max = walk->options.op_max,
					 .keep_from = walk->options.op_max,
					 .hide = true };
	if (walk->merge)
		merge_rule(walk->merge, &rule);
	*ret_walk = walk;
	return 0;
}

/* How many of the rows are not behind the end. */
static uint32_t rows_within(const struct lsm_walk *walk, const struct rows *rows)
{
	const uint64_t *to = walk->options.to.word;
	uint32_t low = 0, high = rows->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const uint64_t *key = rows->key + (size_t)middle * rows->words;
		int order = 0;
		for (uint32_t i = 0; i < rows->words && order == 0; i++)
			order = key[i] < to[i] ? -1 : key[i] > to[i];
		if (order <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int lsm_walk_next(struct lsm_walk *walk, struct rows *ret_rows)
{
	if (walk->ended)
		return 0;
	struct merge_piece piece;
	int rc = merge_next(walk->merge, &piece);
	if (rc <= 0) {
		walk->ended = true;
		return rc;
	}
	HAUL_ASSERT(piece.from == 0);
	piece.rows.count = piece.to;
	uint32_t within = rows_within(walk, &piece.rows);
	walk->ended = within < piece.to;
	piece.rows.count = within;
	if (within == 0)
		return 0;
	*ret_rows = piece.rows;
	return 1;
}

void lsm_walk_close(struct lsm_walk *walk)
{
	if (!walk)
		return;
	for (uint32_t i = 0; i < walk->memory_count; i++)
		memtable_walk_close(&walk->memory[i]);
	for (uint32_t i = 0; i < walk->run_count; i++)
		run_walk_done(&walk->runs[i]);
	merge_free(walk->merge);
	lend_free(walk->options.lend, walk);
}

/* ---- the executor's ---- */

static int rows_tell(const struct rows *rows, lsm_told *told, void *arg)
{
	for (uint32_t i = 0; i < rows->count; i++) {
		uint32_t from = i ? rows->end[i - 1] : 0;
		struct tree_key key = { .word = { 0 } };
		memcpy(key.word, rows->key + (size_t)i * rows->words,
		       rows->words * sizeof key.word[0]);
		struct tree_row row = { .op = rows->op[i],
					.value = rows->heap + from,
					.bytes = rows->end[i] - from };
		int rc = told(&key, &row, arg);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int lsm_prefix(struct lsm *lsm, enum tree tree, uint64_t word, lsm_told *told, void *arg)
{
	struct lsm_view *view = lsm_view_current(lsm);
	struct lsm_walk_options options = {
		.tree = tree, .op_max = LSM_OP_MAX, .prefix = true, .lend = &lsm->lend
	};
	options.from.word[0] = options.to.word[0] = word;
	for (uint32_t i = 1; i < tree_words[tree]; i++)
		options.to.word[i] = UINT64_MAX;
	struct lsm_walk *walk = NULL;
	int rc = lsm_walk_open(&walk, view, &options);
	struct rows rows;
	while (rc == 0) {
		rc = lsm_walk_next(walk, &rows);
		if (rc <= 0)
			break;
		rc = rows_tell(&rows, told, arg);
	}
	lsm_walk_close(walk);
	lend_all_back(&lsm->lend);
	lsm_view_drop(lsm, view);
	return rc;
}
