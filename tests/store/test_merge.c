#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "lib/testlib.h"
#include "store/merge.h"

enum {
	INPUTS = 9,
	ROWS_MAX = 6000,
	HEAP = 1 << 20,
	PIECE_MAX = 700,
	SNAPSHOTS = 3,
	ROUNDS = 60,
	LONG_VALUE = 50000,
};
#define OP_MAX (TREE_DELETED - 1)

/* Rows of one input, told in pieces of random length. */
struct feed {
	struct source source;
	struct prng *prng;
	uint32_t words, count, at;
	uint64_t key[ROWS_MAX * TREE_WORDS_MAX];
	uint64_t op[ROWS_MAX];
	uint32_t end[ROWS_MAX];
	uint8_t heap[HEAP];
	uint32_t piece_end[ROWS_MAX];
	int fails;
};

static int feed_next(struct source *source, struct rows *ret_rows)
{
	struct feed *feed = (struct feed *)source;
	if (feed->fails)
		return feed->fails;
	if (feed->at == feed->count)
		return 0;
	uint32_t rows = prng_below(feed->prng, PIECE_MAX);
	if (rows > feed->count - feed->at)
		rows = feed->count - feed->at;
	uint32_t base = feed->at ? feed->end[feed->at - 1] : 0;
	for (uint32_t i = 0; i < rows; i++)
		feed->piece_end[feed->at + i] = feed->end[feed->at + i] - base;
	*ret_rows = (struct rows){ .count = rows,
				   .words = feed->words,
				   .key = feed->key + (size_t)feed->at * feed->words,
				   .op = feed->op + feed->at,
				   .end = feed->piece_end + feed->at,
				   .heap = feed->heap + base };
	feed->at += rows;
	return 1;
}

static void feed_put(struct feed *feed, const uint64_t *key, uint64_t op, uint32_t bytes)
{
	assert_true(feed->count < ROWS_MAX);
	uint32_t row = feed->count++;
	uint32_t from = row ? feed->end[row - 1] : 0;
	if (from + bytes > HEAP)
		bytes = 0;
	memcpy(feed->key + (size_t)row * feed->words, key, feed->words * sizeof *key);
	feed->op[row] = op;
	feed->end[row] = from + bytes;
	memset(feed->heap + from, (int)(op ^ key[feed->words - 1]), bytes);
}

/* ---- a round ---- */

struct round {
	struct prng prng;
	enum tree tree;
	uint32_t inputs, keys;
	struct feed *feeds; /* newest first */
	struct merge *merge;
	uint64_t snapshots[SNAPSHOTS];
	struct merge_rule rule;
	/* what came out */
	struct feed *out;
};

/* Input i has ops [100 * (inputs - i), … + 99]; stretches of keys of its own make long runs. */
static void feeds_fill(struct round *round, bool stretches, bool heavy)
{
	uint32_t words = tree_words[round->tree];
	uint32_t owner = 0;
	for (uint32_t i = 0; i < round->inputs; i++) {
		round->feeds[i].source.next = feed_next;
		round->feeds[i].prng = &round->prng;
		round->feeds[i].words = words;
		round->feeds[i].count = round->feeds[i].at = 0;
		round->feeds[i].fails = 0;
	}
	for (uint32_t k = 0; k < round->keys; k++) {
		uint64_t key[TREE_WORDS_MAX] = { k / 16, words == 2 ? k : k / 4 % 4, k };
		if (words == 1 || k + 1 == round->keys)
			key[0] = k + 1 == round->keys ? UINT64_MAX : k;
		if (prng_below(&round->prng, 100) == 0)
			owner = prng_below(&round->prng, round->inputs);
		for (uint32_t i = 0; i < round->inputs; i++) {
			if (stretches ? owner != i : prng_below(&round->prng, 3) > 0)
				continue;
			uint64_t base = 100 * (round->inputs - i);
			uint32_t versions = prng_below(&round->prng, 10) ? 1 : 4;
			uint64_t op = base + 50 + prng_below(&round->prng, 50);
			for (uint32_t v = 0; v < versions; v++) {
				bool deleted = prng_below(&round->prng, stretches ? 200 : 4) == 0;
				uint32_t bytes = prng_below(&round->prng, heavy ? LONG_VALUE : 60);
				uint64_t flag = deleted ? TREE_DELETED : 0;
				feed_put(&round->feeds[i], key, op | flag, deleted ? 0 : bytes);
				op -= prng_below(&round->prng, 12);
			}
		}
	}
}

static void out_take(struct round *round, const struct merge_piece *piece)
{
	const struct rows *rows = &piece->rows;
	assert_true(piece->from < piece->to && piece->to <= rows->count);
	for (uint32_t i = piece->from; i < piece->to; i++) {
		uint32_t from = i ? rows->end[i - 1] : 0;
		const uint64_t *key = rows->key + (size_t)i * rows->words;
		feed_put(round->out, key, rows->op[i], rows->end[i] - from);
		uint8_t byte = (uint8_t)(rows->op[i] ^ key[rows->words - 1]);
		for (uint32_t b = from; b < rows->end[i]; b++)
			assert_int_equal(rows->heap[b], byte);
	}
}

/* Newest row of a key at most of op, of one feed; 0 = none. */
static uint64_t feed_get(const struct feed *feed, const uint64_t *key, uint64_t op)
{
	for (uint32_t i = 0; i < feed->count; i++) {
		if (memcmp(feed->key + (size_t)i * feed->words, key, feed->words * sizeof *key))
			continue;
		if ((feed->op[i] & OP_MAX) <= op)
			return feed->op[i];
	}
	return 0;
}

static uint64_t inputs_get(const struct round *round, const uint64_t *key, uint64_t op)
{
	for (uint32_t i = 0; i < round->inputs; i++) {
		uint64_t found = feed_get(&round->feeds[i], key, op);
		if (found)
			return found;
	}
	return 0;
}

static bool out_ordered(const struct feed *out)
{
	for (uint32_t i = 1; i < out->count; i++) {
		const uint64_t *a = out->key + (size_t)(i - 1) * out->words, *b = a + out->words;
		int order = 0;
		for (uint32_t w = 0; w < out->words && order == 0; w++)
			order = a[w] < b[w] ? -1 : a[w] > b[w];
		if (order > 0 || (order == 0 && (out->op[i - 1] & OP_MAX) <= (out->op[i] & OP_MAX)))
			return false;
	}
	return true;
}

static void check_at(const struct round *round, const uint64_t *key, uint64_t op)
{
	uint64_t before = inputs_get(round, key, op);
	uint64_t after = feed_get(round->out, key, op);
	bool gone = (before & TREE_DELETED) && after == 0 && round->rule.deletions != MERGE_KEEP;
	if (!gone)
		assert_true(before == after);
}

/* Each snapshot sees the same; each row that stayed is seen by one. */
static void check_out(const struct round *round)
{
	const struct feed *out = round->out;
	assert_true(out_ordered(out));
	for (uint32_t i = 0; i < round->inputs; i++) {
		const struct feed *feed = &round->feeds[i];
		for (uint32_t k = 0; k < feed->count; k += 1 + k % 7) {
			const uint64_t *key = feed->key + (size_t)k * feed->words;
			check_at(round, key, round->rule.keep_from);
			check_at(round, key, round->rule.keep_from + 60);
			check_at(round, key, OP_MAX);
			for (uint32_t s = 0; s < round->rule.snapshot_count; s++)
				check_at(round, key, round->snapshots[s]);
		}
	}
	for (uint32_t i = 0; i < out->count; i += 1 + i % 5) {
		const uint64_t *key = out->key + (size_t)i * out->words;
		uint64_t op = out->op[i] & OP_MAX;
		bool seen = op > round->rule.keep_from ||
			    inputs_get(round, key, round->rule.keep_from) == out->op[i];
		for (uint32_t s = 0; s < round->rule.snapshot_count; s++)
			seen |= inputs_get(round, key, round->snapshots[s]) == out->op[i];
		/* … or is the newest, above them all. */
		seen |= inputs_get(round, key, OP_MAX) == out->op[i];
		assert_true(seen);
		if (round->rule.deletions == MERGE_DROP && round->rule.snapshot_count == 0 &&
		    op <= round->rule.keep_from)
			assert_false(out->op[i] & TREE_DELETED);
	}
}

static void round_merge(struct round *round, bool direct)
{
	struct source *sources[INPUTS];
	for (uint32_t i = 0; i < round->inputs; i++) {
		sources[i] = &round->feeds[i].source;
		round->feeds[i].at = 0;
	}
	round->out->words = tree_words[round->tree];
	round->out->count = 0;
	int rc = merge_start(round->merge, round->tree, sources, round->inputs, direct);
	assert_int_equal(rc, 0);
	merge_rule(round->merge, &round->rule);
	struct merge_piece piece;
	while ((rc = merge_next(round->merge, &piece)) == 1) {
		assert_true(direct || piece.from == 0);
		assert_true(merge_piece_bytes(&piece) > 0);
		out_take(round, &piece);
	}
	assert_int_equal(rc, 0);
}

static struct round *round_new(void)
{
	struct round *round = calloc(1, sizeof *round);
	assert_non_null(round);
	round->feeds = calloc(INPUTS, sizeof *round->feeds);
	round->out = calloc(1, sizeof *round->out);
	assert_true(round->feeds && round->out);
	assert_int_equal(merge_new(&round->merge, INPUTS), 0);
	test_prng(&round->prng);
	return round;
}

static void round_free(struct round *round)
{
	merge_free(round->merge);
	free(round->out);
	free(round->feeds);
	free(round);
}

static void round_init(struct round *round, bool stretches, bool heavy)
{
	static const enum tree trees[] = { TREE_NODE, TREE_KIND, TREE_OUT };
	round->tree = trees[prng_below(&round->prng, 3)];
	round->inputs = 1 + prng_below(&round->prng, INPUTS);
	round->keys = heavy ? 20 : 400;
	feeds_fill(round, stretches, heavy);
	round->rule = (struct merge_rule){ .op_max = OP_MAX, .snapshots = round->snapshots };
	round->rule.keep_from = prng_below(&round->prng, 100 * (round->inputs + 1));
	round->rule.snapshot_count = prng_below(&round->prng, SNAPSHOTS + 1);
	for (uint32_t i = 0; i < SNAPSHOTS; i++)
		round->snapshots[i] = prng_below(&round->prng, (uint32_t)round->rule.keep_from + 1);
	round->rule.deletions = prng_below(&round->prng, 2) ? MERGE_KEEP : MERGE_DROP;
}

/* A snapshot would see other rows after merging than before, or rows that nobody sees would be
 * kept for ever. */
static void test_merge__keeps_what_snapshots_see(void **state)
{
	(void)state;
	struct round *round = round_new();
	for (uint32_t i = 0; i < ROUNDS; i++) {
		round_init(round, i % 2, i % 16 == 0);
		round_merge(round, true);
		check_out(round);
		uint32_t rows = round->out->count;
		round_merge(round, false);
		check_out(round);
		assert_int_equal(round->out->count, rows);
	}
	round_free(round);
}

/* A reader would see what is too new for it, was deleted, or is hidden. */
static void test_merge__shows_a_reader_one_version(void **state)
{
	(void)state;
	struct round *round = round_new();
	for (uint32_t i = 0; i < ROUNDS; i++) {
		round_init(round, i % 2, false);
		uint64_t op = prng_below(&round->prng, 100 * (round->inputs + 2));
		round->rule = (struct merge_rule){ .op_max = op, .keep_from = op, .hide = true };
		round_merge(round, false);
		const struct feed *out = round->out;
		assert_true(out_ordered(out));
		for (uint32_t k = 0; k < out->count; k++) {
			const uint64_t *key = out->key + (size_t)k * out->words;
			assert_true(out->op[k] == inputs_get(round, key, op));
			assert_false(out->op[k] & TREE_DELETED);
		}
		for (uint32_t k = 0; k < round->feeds[0].count; k++) {
			const uint64_t *key = round->feeds[0].key + (size_t)k * out->words;
			uint64_t found = inputs_get(round, key, op);
			uint64_t shown = feed_get(out, key, OP_MAX);
			assert_true(shown == (found & TREE_DELETED ? 0 : found));
		}
	}
	round_free(round);
}

/* Long stretches of one input would be copied row by row. */
static void test_merge__hands_stretches_on(void **state)
{
	(void)state;
	struct round *round = round_new();
	round->tree = TREE_NODE;
	round->inputs = 2;
	for (uint32_t i = 0; i < 2; i++)
		round->feeds[i] =
			(struct feed){ .source.next = feed_next, .prng = &round->prng, .words = 1 };
	for (uint64_t key = 0; key < 4000; key++)
		feed_put(&round->feeds[key / 1000 % 2], &key, 7, 8);
	round->rule = (struct merge_rule){ .op_max = OP_MAX, .keep_from = 9 };
	struct source *sources[] = { &round->feeds[0].source, &round->feeds[1].source };
	assert_int_equal(merge_start(round->merge, TREE_NODE, sources, 2, true), 0);
	merge_rule(round->merge, &round->rule);
	struct merge_piece piece;
	uint32_t rows = 0, there = 0;
	while (merge_next(round->merge, &piece) == 1) {
		rows += piece.to - piece.from;
		for (uint32_t i = 0; i < 2; i++) {
			const struct feed *feed = &round->feeds[i];
			if (piece.rows.key >= feed->key && piece.rows.key < feed->key + ROWS_MAX)
				there += piece.to - piece.from;
		}
	}
	assert_int_equal(rows, 4000);
	assert_true(there > 3500);
	round_free(round);
}

static bool below_some(const struct tree_key *key, void *arg)
{
	(*(uint32_t *)arg)++;
	return key->word[0] % 2 == 0;
}

/* A deletion would go although older rows lie below, which would come back. */
static void test_merge__asks_what_lies_below_a_deletion(void **state)
{
	(void)state;
	struct round *round = round_new();
	struct feed *feed = &round->feeds[0];
	*feed = (struct feed){ .source.next = feed_next, .prng = &round->prng, .words = 1 };
	for (uint64_t key = 0; key < 100; key++)
		feed_put(feed, &key, 5 | TREE_DELETED, 0);
	round->tree = TREE_NODE;
	round->inputs = 1;
	uint32_t asked = 0;
	round->rule = (struct merge_rule){ .op_max = OP_MAX,
					   .keep_from = 9,
					   .deletions = MERGE_ASK,
					   .below = below_some,
					   .arg = &asked };
	round_merge(round, true);
	assert_int_equal(asked, 100);
	assert_int_equal(round->out->count, 50);
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(round->out->key[i], 2 * i);
	round_free(round);
}

/* An input that cannot be read would be taken for one at its end. */
static void test_merge__tells_errors(void **state)
{
	(void)state;
	struct round *round = round_new();
	round_init(round, false, false);
	struct source *sources[INPUTS];
	for (uint32_t i = 0; i < round->inputs; i++)
		sources[i] = &round->feeds[i].source;
	round->feeds[0].fails = -EIO;
	assert_int_equal(merge_start(round->merge, round->tree, sources, round->inputs, true),
			 -EIO);
	round->feeds[0].fails = 0;
	assert_int_equal(merge_start(round->merge, round->tree, sources, round->inputs, true), 0);
	merge_rule(round->merge, &round->rule);
	for (uint32_t i = 0; i < round->inputs; i++)
		round->feeds[i].fails = HAUL_ECORRUPT;
	struct merge_piece piece;
	int rc;
	while ((rc = merge_next(round->merge, &piece)) == 1)
		continue;
	assert_int_equal(rc, HAUL_ECORRUPT);
	round_free(round);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge__keeps_what_snapshots_see),
		cmocka_unit_test(test_merge__shows_a_reader_one_version),
		cmocka_unit_test(test_merge__hands_stretches_on),
		cmocka_unit_test(test_merge__asks_what_lies_below_a_deletion),
		cmocka_unit_test(test_merge__tells_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
