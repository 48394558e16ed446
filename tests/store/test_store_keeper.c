/* What a store does beside its commits, in simulated time: how far it holds them back for it, and
 * that it builds graphs over embeddings while there is other work. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/lsm_state.h"
#include "store/store_lab.h"
#include "store/store_parts.h"
#include "store/vectors_state.h"

enum {
	PAUSE_MAX_NS = 20000000,
	VECTORS = VECTORS_INDEX_MIN + 100,
	FLOATS = 4,
	FRAME = 500,
};

static struct store_lab lab;
static uint64_t last_id;

static int open_all(void **state)
{
	struct prng prng;

	(void)state;
	test_prng(&prng);
	last_id = 0;
	store_lab_init(&lab, prng_next(&prng));
	lab.options.level_factor = 10;
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	store_lab_done(&lab);
	return 0;
}

/* What the next frame will be held back by. */
static int64_t pause_ns(void)
{
	const int64_t ns = lab.store->commit.pace_ns - lab.os.now_ns;

	return ns > 0 ? ns : 0;
}

static void commit_some(uint32_t nodes)
{
	for (uint32_t i = 0; i < nodes; i++)
		assert_true(lab_node(&lab, ++last_id, 1, NULL, "some text") >= 0);
	assert_int_equal(store_lab_commit(&lab), 0);
}

/* 0 … 100: how full the memory table is that is written. */
static uint64_t filled_percent(void)
{
	return memtable_used(lab.store->lsm->active->table) * 100 /
	       lab.store->lsm->options.memtable_bytes;
}

static struct haul_store_status status_now(void)
{
	struct haul_store_status status;

	haul_store_status(lab.store, &status);
	return status;
}

/* A first memory table is filled without a pause, and half of the next while the first is flushed;
 * from there on pauses grow, none is over 20 ms, and status has counted each. When flushing has
 * caught up there are none. */
static void test_store__holds_commits_back_by_what_flushing_owes(void **state)
{
	uint64_t counted = 0, longest = 0, before = 0;

	(void)state;
	assert_int_equal(store_lab_open(&lab), 0);
	while (lab.store->lsm->frozen == NULL) {
		commit_some(4);
		assert_int_equal(pause_ns(), 0);
	}
	while (filled_percent() < 48) {
		commit_some(4);
		assert_int_equal(pause_ns(), 0);
	}
	while (filled_percent() < 97) {
		commit_some(4);
		const uint64_t ns = (uint64_t)pause_ns();
		assert_true(ns >= before && ns <= PAUSE_MAX_NS);
		assert_true(filled_percent() < 53 || ns > 0);
		/* The next commit takes it, and then it is over. */
		before = ns;
		counted += ns;
		longest = ns;
		if (ns == 0)
			continue;
		commit_pace(&lab.store->commit);
		os_sim_advance(&lab.os, (int64_t)ns);
	}
	assert_true(longest > PAUSE_MAX_NS * UINT64_C(3) / 4);
	assert_int_equal(status_now().throttle_ns, counted);
	assert_int_equal(status_now().throttle_max_ns, longest);
	assert_int_equal(store_lab_settle(&lab), 0);
	os_sim_advance(&lab.os, PAUSE_MAX_NS);
	commit_some(4);
	assert_int_equal(pause_ns(), 0);
	assert_int_equal(status_now().throttle_ns, counted);
}

/* Many callers at once are held back together, not one behind the other: the end of the pause is
 * never further away than 20 ms. */
static void test_store__holds_no_frame_back_for_longer_than_it_says(void **state)
{
	int64_t longest = 0;

	(void)state;
	assert_int_equal(store_lab_open(&lab), 0);
	while (lab.store->lsm->frozen == NULL)
		commit_some(4);
	while (filled_percent() < 97) {
		commit_some(1);
		assert_true(pause_ns() <= PAUSE_MAX_NS);
		longest = pause_ns() > longest ? pause_ns() : longest;
	}
	assert_int_equal(longest, PAUSE_MAX_NS);
	assert_int_equal(status_now().throttle_max_ns, PAUSE_MAX_NS);
}

/* Runs of a level that wait to be merged hold commits back, too, once they are half of what they
 * may be beyond the ten. */
static void test_store__holds_commits_back_by_what_merging_owes(void **state)
{
	struct lsm *lsm;

	(void)state;
	assert_int_equal(store_lab_open(&lab), 0);
	lsm = lab.store->lsm;
	commit_some(4);
	assert_int_equal(pause_ns(), 0);
	for (uint32_t percent = 0; percent <= 200; percent += 10) {
		const uint32_t debt = LSM_DEBT_ONE * percent / 100;
		lsm->debt_level = debt;
		os_sim_advance(&lab.os, PAUSE_MAX_NS);
		commit_some(1);
		const int64_t ns = pause_ns();
		assert_true(ns <= PAUSE_MAX_NS);
		assert_true((ns > 0) == (percent > 50));
		assert_true(percent < 100 || ns == PAUSE_MAX_NS);
	}
}

/* ---- graphs ---- */

static void vectors_put(void)
{
	for (uint64_t node = 1; node <= VECTORS;) {
		const uint64_t end = node + FRAME < VECTORS + 1 ? node + FRAME : VECTORS + 1;
		for (; node < end; node++) {
			float vector[FLOATS];
			for (uint32_t i = 0; i < FLOATS; i++)
				vector[i] = (float)(int16_t)hash_u64(node * FLOATS + i);
			assert_true(lab_node(&lab, node, 1, NULL, NULL) >= 0);
			assert_true(lab_embedding(&lab, node, 0, vector, FLOATS) >= 0);
		}
		assert_int_equal(store_lab_commit(&lab), 0);
		assert_int_equal(store_lab_settle(&lab), 0);
	}
	last_id = VECTORS;
}

static void asked(void *arg)
{
	++*(uint32_t *)arg;
}

/* The node whose vector is asked for is found: by comparing or through the graph. */
static void search(struct haul_reader *reader, uint64_t node)
{
	float vector[FLOATS];
	struct haul_near_hit hit;
	const struct haul_near near = {
		.dimensions = FLOATS, .k = 1, .count = 1, .vectors = vector
	};

	for (uint32_t i = 0; i < FLOATS; i++)
		vector[i] = (float)(int16_t)hash_u64(node * FLOATS + i);
	assert_int_equal(haul_reader_near(reader, &near, &hit), 1);
	assert_int_equal(hit.node, node);
}

/* Searches take nothing into a graph and ask for it; the keeper takes some in with each step, also
 * when it has a memory table to flush, and beside a search that has the set. What the graph takes
 * is of the memory that the store has said it takes. */
static void test_store__builds_graphs_beside_other_work(void **state)
{
	struct haul_reader *reader = NULL;
	uint32_t calls = 0;

	(void)state;
	lab.options.memory = 64 << 20;
	assert_int_equal(store_lab_open(&lab), 0);
	struct vectors *vectors = lab.store->vectors;
	struct vectors_index *of = &vectors->index[0];
	const struct hnsw *graph = &of->graph[HAUL_EUCLIDEAN];
	vectors_put();
	assert_int_equal(haul_store_reader(lab.store, 0, &reader), 0);
	vectors_on_work(vectors, asked, &calls);
	for (uint32_t i = 1; i <= 5; i++) {
		search(reader, i);
		assert_int_equal(graph->taken, 0);
		assert_int_equal(calls, i);
	}
	while (!lsm_busy(lab.store->lsm))
		commit_some(50);
	(void)pthread_rwlock_rdlock(&of->lock);
	assert_int_equal(store_step(lab.store), 1);
	assert_int_equal(graph->taken, VECTORS_STEP);
	(void)pthread_rwlock_unlock(&of->lock);
	assert_int_equal(store_lab_settle(&lab), 0);
	assert_int_equal(graph->taken, VECTORS);
	calls = 0;
	search(reader, 7);
	assert_int_equal(calls, 0);
	assert_int_equal(of->set.taken, vectors->pool.count - vectors->pool.free_count);
	assert_true(vectors_memory(vectors) <= lab.store->memory.vectors + lab.store->memory.fixed);
	assert_true(status_now().memory_bytes >= vectors_memory(vectors));
	haul_reader_close(reader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_store__holds_commits_back_by_what_flushing_owes, open_all, close_all),
		cmocka_unit_test_setup_teardown(
			test_store__holds_no_frame_back_for_longer_than_it_says, open_all,
			close_all),
		cmocka_unit_test_setup_teardown(test_store__holds_commits_back_by_what_merging_owes,
						open_all, close_all),
		cmocka_unit_test_setup_teardown(test_store__builds_graphs_beside_other_work,
						open_all, close_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
