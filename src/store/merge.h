/* store/merge.h — many sorted sources as one, without the rows that nobody can see any more.
 *
 * Model      A loser tree over the first rows of all inputs. Rows of a key come newest first; which
 *            stay is said by a rule: all over keep_from, and for each snapshot the newest that it
 *            sees. Stretches of an input that nothing else falls into are handed on where they are,
 *            the rest is gathered into columns.
 * Memory     at merge_new.
 * Threads    one.
 * Errors     those of the sources: negative, and then it is of no more use. */
#pragma once

#include "store/lend.h"
#include "store/tree.h"

enum merge_deletions {
	MERGE_KEEP, /* they hide what is not read here */
	MERGE_DROP, /* nothing older is anywhere */
	MERGE_ASK,  /* rule.below says */
};

struct merge_rule {
	uint64_t op_max;    /* rows above do not exist */
	uint64_t keep_from; /* every version above stays */
	const uint64_t *snapshots;
	uint32_t snapshot_count;
	enum merge_deletions deletions;
	bool hide; /* what is deleted is not told, whatever a snapshot sees: for readers */
	/* Whether something older of the key may lie where this merge does not read. */
	bool (*below)(const struct tree_key *key, void *arg);
	void *arg;
};

/* Rows [from, to) of rows; good until the next call. */
struct merge_piece {
	struct rows rows;
	uint32_t from, to;
};

/* Of keys and values. */
static inline uint64_t merge_piece_bytes(const struct merge_piece *piece)
{
	const struct rows *rows = &piece->rows;
	uint32_t from = piece->from ? rows->end[piece->from - 1] : 0;
	uint64_t row = (rows->words + 1) * sizeof(uint64_t);
	return rows->end[piece->to - 1] - from + (piece->to - piece->from) * row;
}

struct merge;
int merge_new(struct merge **ret_merge, uint32_t inputs);
int merge_new_lent(struct merge **ret_merge, uint32_t inputs, struct lend *lend);
void merge_free(struct merge *merge);
/* sources: newest first; borrowed. direct: pieces may start in the middle of rows. */
int merge_start(struct merge *merge, enum tree tree, struct source *const *sources, uint32_t count,
		bool direct);
void merge_rule(struct merge *merge, const struct merge_rule *rule);
int merge_next(struct merge *merge, struct merge_piece *ret_piece); /* 1, 0, negative */
