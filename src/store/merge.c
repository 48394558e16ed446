/* store/merge.c: k-way merging of columns.
 *
 * How        A head holds the key of an input's row and the complement of its op, so that one
 *            comparison of words orders by key and then from new to old; equal heads (versions
 *            written by one op are in one input, in order) do not cross inputs. An input at its end
 *            has a head of ones, which no row has, for ops begin at 1.
 *
 * Which versions stay. Rows of a key come from new to old. A row of op o, met after one of op p
 * (p = infinity for the first), is seen by the snapshots s with o <= s < p. It stays if there is
 * one, or if o is above keep_from, where snapshots may still be taken; not if o = p, for one op
 * shows only the last of what it wrote. Whether the row before it stayed does not matter: p hides
 * what is older either way.
 *
 * Deletions. A deletion need not stay if nothing older of its key can be seen behind it: nothing
 * lies below, and no snapshot is older than the deletion (such a snapshot may keep an older row,
 * which then must stay hidden to younger ones). */
#include "store/merge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum {
	OUT_ROWS = 1024,
	OUT_HEAP = 256 << 10,
	STREAK = 8,  /* rows from one input in a row before a stretch is looked for */
	STRETCH = 24 /* rows that are worth a piece of their own */
};
#define NOTHING UINT32_MAX
static const uint64_t NEVER = UINT64_MAX;

struct head {
	uint64_t key[TREE_WORDS_MAX];
	uint64_t age; /* ~op */
};

struct input {
	struct source *source;
	struct rows rows;
	uint32_t at;
};

struct merge {
	struct lend *lend;
	uint32_t words, count, inputs_max;
	struct input *inputs;
	struct head *heads;
	uint32_t *losers; /* [0] the winner */
	struct merge_rule rule;
	uint64_t snapshot_min;
	bool direct;
	uint32_t streak_input, streak;
	uint32_t stretch_input, stretch_to; /* handed out, to be passed over */
	struct head last;                   /* key of the row before, any */
	uint64_t last_op;                   /* NEVER: none yet */
	uint32_t rows;
	uint64_t *key, *op;
	uint32_t *end;
	uint8_t *heap;
};

/* One block of memory, for walks are opened for every query. */
int merge_new_lent(struct merge **ret_merge, uint32_t inputs, struct lend *lend)
{
	uint32_t room = inputs ? inputs : 1;
	struct merge *merge =
		lend_alloc(lend, sizeof *merge +
					 room * (sizeof *merge->heads + sizeof *merge->inputs +
						 sizeof *merge->losers) +
					 OUT_ROWS * (TREE_WORDS_MAX * sizeof *merge->key +
						     sizeof *merge->op + sizeof *merge->end) +
					 OUT_HEAP);
	if (!merge)
		return -ENOMEM;
	*merge = (struct merge){ .inputs_max = room, .lend = lend };
	merge->heads = (struct head *)(merge + 1);
	merge->inputs = (struct input *)(merge->heads + room);
	merge->key = (uint64_t *)(merge->inputs + room);
	merge->op = merge->key + (size_t)OUT_ROWS * TREE_WORDS_MAX;
	merge->losers = (uint32_t *)(merge->op + OUT_ROWS);
	merge->end = merge->losers + room;
	merge->heap = (uint8_t *)(merge->end + OUT_ROWS);
	*ret_merge = merge;
	return 0;
}

int merge_new(struct merge **ret_merge, uint32_t inputs)
{
	return merge_new_lent(ret_merge, inputs, NULL);
}

void merge_free(struct merge *merge)
{
	if (merge)
		lend_free(merge->lend, merge);
}

/* ---- the loser tree ---- */

static inline bool head_less(const struct head *a, const struct head *b, uint32_t words)
{
	for (uint32_t i = 0; i < words; i++) {
		if (a->key[i] != b->key[i])
			return a->key[i] < b->key[i];
	}
	return a->age < b->age;
}

static inline bool head_ended(const struct head *head)
{
	return head->age == NEVER;
}

static inline void head_load(struct merge *merge, uint32_t input, uint32_t words)
{
	const struct input *in = &merge->inputs[input];
	struct head *head = &merge->heads[input];
	const uint64_t *key = in->rows.key + (size_t)in->at * words;
	for (uint32_t i = 0; i < words; i++)
		head->key[i] = key[i];
	head->age = ~(in->rows.op[in->at] & ~TREE_DELETED);
}

/* The next piece of an input that has none left. */
static int input_fill(struct merge *merge, uint32_t input)
{
	struct input *in = &merge->inputs[input];
	in->at = 0;
	in->rows.count = 0;
	int rc = 1;
	while (rc == 1 && in->rows.count == 0)
		rc = in->source->next(in->source, &in->rows);
	if (rc == 1) {
		HAUL_ASSERT(in->rows.words == merge->words);
		head_load(merge, input, merge->words);
		return 0;
	}
	in->rows.count = 0;
	memset(&merge->heads[input], 0xff, sizeof merge->heads[input]);
	return rc;
}

static inline void tree_replay(struct merge *merge, uint32_t input, uint32_t words)
{
	uint32_t winner = input;
	for (uint32_t node = (input + merge->count) / 2; node > 0; node /= 2) {
		uint32_t other = merge->losers[node];
		if (other == NOTHING) {
			merge->losers[node] = winner;
			return;
		}
		if (head_less(&merge->heads[other], &merge->heads[winner], words)) {
			merge->losers[node] = winner;
			winner = other;
		}
	}
	merge->losers[0] = winner;
}

/* The first head of all others. */
static const struct head *tree_second(const struct merge *merge, uint32_t winner)
{
	const struct head *second = NULL;
	for (uint32_t node = (winner + merge->count) / 2; node > 0; node /= 2) {
		const struct head *head = &merge->heads[merge->losers[node]];
		if (!second || head_less(head, second, merge->words))
			second = head;
	}
	return second;
}

int merge_start(struct merge *merge, enum tree tree, struct source *const *sources, uint32_t count,
		bool direct)
{
	HAUL_ASSERT(count <= merge->inputs_max);
	merge->words = tree_words[tree];
	merge->count = count;
	merge->direct = direct;
	merge->streak = 0;
	merge->streak_input = NOTHING;
	merge->stretch_input = NOTHING;
	merge->last_op = NEVER;
	merge->rows = 0;
	for (uint32_t i = 0; i < count; i++) {
		merge->inputs[i] = (struct input){ .source = sources[i] };
		merge->losers[i] = NOTHING;
	}
	for (uint32_t i = 0; i < count; i++) {
		int rc = input_fill(merge, i);
		if (rc < 0)
			return rc;
		tree_replay(merge, i, merge->words);
	}
	return 0;
}

void merge_rule(struct merge *merge, const struct merge_rule *rule)
{
	merge->rule = *rule;
	merge->snapshot_min = rule->keep_from;
	for (uint32_t i = 0; i < rule->snapshot_count; i++) {
		if (rule->snapshots[i] < merge->snapshot_min)
			merge->snapshot_min = rule->snapshots[i];
	}
}

/* ---- which rows stay ---- */

static bool version_seen(const struct merge_rule *rule, uint64_t op, uint64_t newer)
{
	if (op == newer)
		return false;
	if (rule->keep_from < newer)
		return true;
	for (uint32_t i = 0; i < rule->snapshot_count; i++) {
		if (op <= rule->snapshots[i] && rule->snapshots[i] < newer)
			return true;
	}
	return false;
}

static bool deletion_stays(const struct merge *merge, const struct head *head, uint64_t op)
{
	const struct merge_rule *rule = &merge->rule;
	if (rule->hide)
		return false;
	if (rule->deletions == MERGE_KEEP || merge->snapshot_min < op)
		return true;
	if (rule->deletions == MERGE_DROP)
		return false;
	struct tree_key key = { .word = { 0 } };
	memcpy(key.word, head->key, merge->words * sizeof key.word[0]);
	return rule->below(&key, rule->arg);
}

static inline bool key_same(const struct merge *merge, const uint64_t *key, uint32_t words)
{
	if (merge->last_op == NEVER)
		return false;
	for (uint32_t i = 0; i < words; i++) {
		if (merge->last.key[i] != key[i])
			return false;
	}
	return true;
}

/* Whether the row stays; notes it as the one before. */
static inline bool row_stays(struct merge *merge, const struct head *head, bool deleted,
			     uint32_t words)
{
	uint64_t op = ~head->age;
	if (op > merge->rule.op_max)
		return false;
	bool stays = true;
	if (key_same(merge, head->key, words))
		stays = version_seen(&merge->rule, op, merge->last_op);
	for (uint32_t i = 0; i < words; i++)
		merge->last.key[i] = head->key[i];
	merge->last_op = op;
	if (stays && deleted)
		stays = deletion_stays(merge, head, op);
	return stays;
}

static inline bool out_put(struct merge *merge, const struct input *in, uint32_t words)
{
	const struct rows *rows = &in->rows;
	uint32_t from = in->at ? rows->end[in->at - 1] : 0;
	uint32_t bytes = rows->end[in->at] - from;
	uint32_t row = merge->rows;
	uint32_t used = row ? merge->end[row - 1] : 0;
	if (row == OUT_ROWS || bytes > OUT_HEAP - used)
		return false;
	for (uint32_t i = 0; i < words; i++)
		merge->key[(size_t)row * words + i] = rows->key[(size_t)in->at * words + i];
	merge->op[row] = rows->op[in->at];
	merge->end[row] = used + bytes;
	if (bytes)
		memcpy(merge->heap + used, rows->heap + from, bytes);
	merge->rows = row + 1;
	return true;
}

/* ---- stretches ---- */

static bool key_before(const uint64_t *key, const struct head *head, uint32_t words)
{
	for (uint32_t i = 0; i < words; i++) {
		if (key[i] != head->key[i])
			return key[i] < head->key[i];
	}
	return false;
}

/* First row from `from` on whose key is not before that of head. */
static uint32_t rows_until(const struct rows *rows, uint32_t from, const struct head *head)
{
	uint32_t low = from, high = rows->count;
	for (uint32_t step = 1; step < high - low; step *= 2) {
		if (!key_before(rows->key + (size_t)(low + step) * rows->words, head,
				rows->words)) {
			high = low + step;
			break;
		}
		low += step;
	}
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (key_before(rows->key + (size_t)middle * rows->words, head, rows->words))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* How far rows from `at` on stay without a question: no deletions, no second versions. */
static uint32_t rows_plain(const struct merge *merge, const struct rows *rows, uint32_t at,
			   uint32_t to)
{
	uint32_t words = rows->words;
	const uint64_t *before = merge->last_op == NEVER ? NULL : merge->last.key;
	for (uint32_t i = at; i < to; i++) {
		const uint64_t *key = rows->key + (size_t)i * words;
		if (rows->op[i] > merge->rule.op_max) /* a deletion is, too */
			return i;
		if (before && memcmp(before, key, words * sizeof *key) == 0)
			return i;
		before = key;
	}
	return to;
}

/* A stretch of the winner that can be handed on as it is; 0: none worth it. */
static uint32_t stretch_find(struct merge *merge, uint32_t winner)
{
	const struct input *in = &merge->inputs[winner];
	const struct head *second = tree_second(merge, winner);
	uint32_t to = in->rows.count;
	if (second && !head_ended(second))
		to = rows_until(&in->rows, in->at, second);
	if (to - in->at < STRETCH)
		return 0;
	to = rows_plain(merge, &in->rows, in->at, to);
	return to - in->at < STRETCH ? 0 : to;
}

static void stretch_take(struct merge *merge, uint32_t winner, uint32_t to,
			 struct merge_piece *ret_piece)
{
	struct input *in = &merge->inputs[winner];
	*ret_piece = (struct merge_piece){ .rows = in->rows, .from = in->at, .to = to };
	memcpy(merge->last.key, in->rows.key + (size_t)(to - 1) * merge->words,
	       merge->words * sizeof merge->last.key[0]);
	merge->last_op = in->rows.op[to - 1];
	merge->stretch_input = winner;
	merge->stretch_to = to;
}

/* Go on behind row at - 1 of the winner. */
static inline int advance(struct merge *merge, uint32_t winner, uint32_t at, uint32_t words)
{
	struct input *in = &merge->inputs[winner];
	in->at = at;
	if (at < in->rows.count) {
		head_load(merge, winner, words);
	} else {
		int rc = input_fill(merge, winner);
		if (rc < 0)
			return rc;
	}
	tree_replay(merge, winner, words);
	return 0;
}

static void out_piece(struct merge *merge, struct merge_piece *ret_piece)
{
	*ret_piece = (struct merge_piece){ .to = merge->rows };
	ret_piece->rows = (struct rows){ .count = merge->rows,
					 .words = merge->words,
					 .key = merge->key,
					 .op = merge->op,
					 .end = merge->end,
					 .heap = merge->heap };
}

/* Whether a stretch may begin at the winner's row, and how far it goes. */
static inline uint32_t stretch_try(struct merge *merge, uint32_t winner)
{
	if (merge->streak_input != winner) {
		merge->streak_input = winner;
		merge->streak = 0;
	}
	bool start = merge->inputs[winner].at == 0;
	if (merge->streak++ < STREAK && !start)
		return 0;
	if (!merge->direct && !start)
		return 0;
	merge->streak = 0;
	return stretch_find(merge, winner);
}

static inline __attribute__((always_inline)) int pieces_fill(struct merge *merge, uint32_t words,
							     struct merge_piece *ret_piece)
{
	for (;;) {
		uint32_t winner = merge->losers[0];
		const struct head *head = &merge->heads[winner];
		if (head_ended(head))
			break;
		struct input *in = &merge->inputs[winner];
		uint32_t to = stretch_try(merge, winner);
		if (to && merge->rows)
			break; /* it comes with the next call, which finds it again */
		if (to) {
			stretch_take(merge, winner, to, ret_piece);
			return 1;
		}
		struct head before = merge->last;
		uint64_t before_op = merge->last_op;
		bool deleted = in->rows.op[in->at] & TREE_DELETED;
		if (row_stays(merge, head, deleted, words) && !out_put(merge, in, words)) {
			merge->last = before; /* the row is judged again */
			merge->last_op = before_op;
			break;
		}
		int rc = advance(merge, winner, in->at + 1, words);
		if (rc < 0)
			return rc;
	}
	if (merge->rows == 0)
		return 0;
	merge->streak = STREAK;
	out_piece(merge, ret_piece);
	return 1;
}

int merge_next(struct merge *merge, struct merge_piece *ret_piece)
{
	merge->rows = 0;
	if (merge->count == 0)
		return 0;
	if (merge->stretch_input != NOTHING) {
		int rc = advance(merge, merge->stretch_input, merge->stretch_to, merge->words);
		if (rc < 0)
			return rc;
		merge->stretch_input = NOTHING;
	}
	if (merge->words == 1)
		return pieces_fill(merge, 1, ret_piece);
	if (merge->words == 2)
		return pieces_fill(merge, 2, ret_piece);
	return pieces_fill(merge, 3, ret_piece);
}
