/* What the executor says when it can do no more: no budget left, nothing readable, no memory. */
#include <errno.h>
#include <string.h>

#include "store/exec_group.h"
#include "store/frame_sample.h"

static uint8_t large[HAUL_PROPERTIES_MAX];

/* Properties of so many bytes, encoded. */
static struct haul_properties properties_of(uint32_t bytes)
{
	static const uint8_t zeros[HAUL_PROPERTIES_MAX];
	const struct haul_property property = {
		.name = "p",
		.name_bytes = 1,
		.type = HAUL_BYTES,
		.data = zeros,
		.data_bytes = bytes - 9,
	};
	struct haul_properties properties;

	assert_int_equal(haul_properties_encode(&property, 1, large, sizeof large, &properties), 0);
	return properties;
}

static void put_node(bool create, uint64_t id, uint32_t bytes, uint32_t flags)
{
	const struct haul_change_options options = { .flags = flags };
	const struct haul_node node = { .id = id, .kind = 1, .properties = properties_of(bytes) };
	const int rc = create ? haul_changes_create_node(lab->changes, &node, &options)
			      : haul_changes_update_node(lab->changes, &node, &options);

	assert_true(rc >= 0);
}

static void put_edge(bool create, uint64_t src, uint64_t dst, uint32_t flags)
{
	const struct haul_change_options options = { .flags = flags };
	const struct haul_edge edge = { .id = { src, dst, 0, 0 },
					.properties = properties_of(100) };
	const int rc = create ? haul_changes_create_edge(lab->changes, &edge, &options)
			      : haul_changes_update_edge(lab->changes, &edge, &options);

	assert_true(rc >= 0);
}

static void put_embedding(uint64_t node)
{
	static const float vector[3] = { 1, 2, 3 };
	const struct haul_embedding embedding = { .node = node, .dimensions = 3, .vector = vector };

	assert_true(haul_changes_set_embedding(lab->changes, &embedding) >= 0);
}

/* One of each kind of change, on what world() made; every one of them can be done. */
static void each_kind(void)
{
	const struct haul_edge_id gone = { 1, 3, 0, 0 };
	const struct haul_change_options detach = { .flags = HAUL_DETACH };

	put_node(true, 10, 100, 0);
	put_node(true, 1, 100, HAUL_UPSERT);
	put_node(false, 2, 100, 0);
	put_node(false, 2, 100, HAUL_PATCH);
	put_edge(true, 3, 1, 0);
	put_edge(true, 1, 2, HAUL_UPSERT);
	put_edge(false, 1, 2, 0);
	put_edge(false, 1, 2, HAUL_PATCH);
	put_embedding(3);
	assert_true(haul_changes_delete_embedding(lab->changes, 1, 0) >= 0);
	assert_true(haul_changes_delete_edge(lab->changes, &gone, NULL) >= 0);
	assert_true(haul_changes_delete_node(lab->changes, 5, NULL) >= 0);
	assert_true(haul_changes_delete_node(lab->changes, 4, &detach) >= 0);
}
enum { KINDS = 13 };

static void world(void)
{
	for (uint64_t id = 1; id <= 5; id++)
		put_node(true, id, 50, 0);
	put_edge(true, 1, 2, 0);
	put_edge(true, 1, 3, 0);
	put_edge(true, 4, 1, 0);
	put_embedding(1);
	put_embedding(4);
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lab->result.failed, 0);
	lab_flush(lab);
}

/* A change is done over the budget, or half of it. */
static void test_limits__every_kind_of_change_keeps_the_budget(void **state)
{
	(void)state;
	uint64_t id = 100;

	world();
	each_kind();
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lab->result.failed, 0); /* with budget each is done */
	lab_close(lab);
	lab_open(lab);
	world();
	lab->budget = EXEC_BUDGET_MIN;
	lab_reopen(lab);
	const uint64_t used = lab->lsm.used;
	for (uint32_t bytes = 10000; bytes > 9; bytes = bytes * 3 / 4) {
		for (int i = 0; i < 24; i++)
			put_node(true, id++, bytes, 0);
	}
	const uint32_t from = haul_changes_count(lab->changes);
	each_kind();
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lab->result.count, from + KINDS);
	assert_int_equal(lab->statuses[0], 0);
	for (uint32_t i = from; i < from + KINDS; i++)
		assert_int_equal(lab->statuses[i], HAUL_ELIMIT);
	assert_true(lab->lsm.used - used <= lab->budget);
	each_kind();
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lab->result.failed, 0); /* nothing of them had been done */
}

/* A change that cannot look is told something, or leaves something behind; alone or in a group. */
static void test_limits__every_kind_of_change_with_every_look_failing(void **state)
{
	(void)state;
	world();
	const uint64_t hash = lab_hash(lab, true);
	for (int group = 0; group < 2; group++) {
		for (uint32_t at = 1;; at++) {
			if (group != 0)
				assert_int_equal(haul_changes_begin(lab->changes), 0);
			each_kind();
			if (group != 0)
				assert_int_equal(haul_changes_end(lab->changes), 0);
			lab->lsm.fail_find = at;
			const int rc = lab_run(lab);
			if (lab->lsm.fail_find != 0)
				break; /* there are no more */
			assert_int_equal(rc, -EIO);
			assert_true(lab_hash(lab, true) == hash);
		}
		lab->lsm.fail_find = 0;
		lab_close(lab);
		lab_open(lab);
		world();
		assert_true(lab_hash(lab, true) == hash);
	}
}

/* The same, where a value is asked for again. */
static void test_limits__a_second_look_fails(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 10; id++)
		put_node(true, id, 100, 0);
	assert_int_equal(lab_run(lab), 0);
	lab_flush(lab);
	const uint64_t hash = lab_hash(lab, true);
	lab->lsm.arena_max = 300;
	/* Two fit into the arena; eight are asked for again, of which two fit. */
	for (uint32_t at = 11; at <= 12; at++) {
		for (uint64_t id = 1; id <= 10; id++)
			put_node(false, id, 100, HAUL_PATCH);
		lab->lsm.fail_find = at;
		assert_int_equal(lab_run(lab), -EIO);
		assert_int_equal(lab->lsm.fail_find, 0);
		assert_true(lab_hash(lab, true) == hash);
	}
}

/* Rows of a table that are not what they should be are used. */
static void test_limits__rows_that_are_none(void **state)
{
	(void)state;
	const struct tree_key index = { { 0, 9 } }, name = record_name("one", 3);
	const struct haul_node node = { .id = 1, .key = "one", .key_bytes = 3 };
	const uint8_t byte = 0;
	struct tree_row row = { .value = &byte, .bytes = 1 };
	struct exec *exec = NULL;

	assert_int_equal(lsm_put(&lab->lsm, TREE_NAME, &name, 1, &row), 0);
	assert_int_equal(haul_changes_create_node(lab->changes, &node, NULL), 0);
	assert_int_equal(lab_run(lab), HAUL_ECORRUPT);
	const struct tree_key two = { { 2 } }, edge = { { 1, 0, 2 } };
	assert_int_equal(lsm_put(&lab->lsm, TREE_NODE, &two, 1, &row), 0);
	assert_int_equal(lsm_put(&lab->lsm, TREE_OUT, &edge, 1, &row), 0);
	put_node(true, 2, 10, HAUL_UPSERT);
	assert_int_equal(lab_run(lab), HAUL_ECORRUPT);
	put_node(false, 2, 10, 0);
	assert_int_equal(lab_run(lab), HAUL_ECORRUPT);
	assert_true(haul_changes_delete_node(lab->changes, 2, NULL) >= 0);
	assert_int_equal(lab_run(lab), HAUL_ECORRUPT);
	put_edge(false, 1, 2, HAUL_PATCH);
	assert_int_equal(lab_run(lab), HAUL_ECORRUPT);
	put_edge(false, 1, 2, 0); /* what is there is of no interest */
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lsm_put(&lab->lsm, TREE_OF_NODE, &index, 1, &row), 0);
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), HAUL_ECORRUPT);
	row.deleted = true;
	assert_int_equal(lsm_put(&lab->lsm, TREE_OF_NODE, &index, 1, &row), 0);
	lab_reopen(lab);
}

/* The row of an index was lost with a table; the embeddings were not. */
static void test_limits__an_index_that_holds_more_than_it_says(void **state)
{
	(void)state;
	const struct tree_key index = { { 0, 0 } };
	const struct tree_row gone = { .deleted = true };

	world();
	assert_int_equal(lsm_put(&lab->lsm, TREE_OF_NODE, &index, lab->op, &gone), 0);
	lab_reopen(lab);
	assert_true(haul_changes_delete_embedding(lab->changes, 1, 0) >= 0);
	put_embedding(4);
	put_embedding(2);
	assert_true(haul_changes_delete_embedding(lab->changes, 4, 0) >= 0);
	assert_true(haul_changes_delete_embedding(lab->changes, 2, 0) >= 0);
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lab->result.failed, 0);
	assert_int_equal(lab_rows(lab, TREE_OF_NODE), 0);
}

/* More embeddings change in a frame than can be noted: some would be missing in memory. */
static void test_limits__embeddings_of_a_frame(void **state)
{
	(void)state;
	const struct haul_change_options detach = { .flags = HAUL_DETACH };
	const struct tree_row empty = { 0 };
	const uint32_t nodes = EXEC_STAGED_MAX / HAUL_EMBEDDING_INDEXES;

	for (uint64_t id = 1; id <= nodes + 1; id++)
		put_node(true, id, 10, 0);
	assert_int_equal(lab_run(lab), 0);
	for (uint64_t id = 1; id <= nodes + 1; id++) {
		for (uint64_t i = 0; i < HAUL_EMBEDDING_INDEXES; i++) {
			const struct tree_key of_node = { { id, i } }, key = { { i, id } };
			assert_int_equal(lsm_put(&lab->lsm, TREE_OF_NODE, &of_node, 1, &empty), 0);
			assert_int_equal(lsm_put(&lab->lsm, TREE_EMBEDDING, &key, 1, &empty), 0);
		}
	}
	for (uint64_t id = 1; id <= nodes + 1; id++)
		assert_true(haul_changes_delete_node(lab->changes, id, &detach) >= 0);
	put_embedding(nodes + 1);
	assert_true(haul_changes_delete_embedding(lab->changes, nodes + 1, 0) >= 0);
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lab->result.failed, 3);
	assert_int_equal(lab->statuses[nodes - 1], 0);
	for (uint32_t i = nodes; i < nodes + 3; i++)
		assert_int_equal(lab->statuses[i], HAUL_ELIMIT);
	assert_int_equal(lab->staged_count, EXEC_STAGED_MAX);
}

/* A store without embeddings in memory needs them all the same; or a frame is executed twice when
 * nobody asked whether it may be. */
static void test_limits__without_vectors_and_without_asking(void **state)
{
	(void)state;
	const struct changes_sender sender = { .session = { 5, 0 },
					       .seq = 1,
					       .kind = FRAME_CHANGES };
	static int32_t statuses[8];
	struct exec_result result;
	struct frame frame;
	struct exec *exec;

	world();
	put_embedding(2);
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), 0);
	assert_int_equal(changes_seal(lab->changes, &sender, lab->frame, FRAME_BYTES_MAX), 0);
	frame_trust(lab->frame, &frame);
	assert_int_equal(exec_frame(exec, &frame, 2, statuses, &result), 0);
	assert_int_equal(statuses[0], 0);
	assert_int_equal(exec_frame(exec, &frame, 3, statuses, &result), HAUL_ESTALE);
	exec_free(exec);
}

/* A tree holds more sessions than there may be, or a horizon that is none. */
static void test_limits__sessions_of_a_tree(void **state)
{
	(void)state;
	uint8_t value[SESSION_REPLY_HEAD] = { 1, [22] = FRAME_CHANGES };
	struct tree_row row = { .value = value, .bytes = sizeof value };
	const struct tree_key horizon = { { 0 } };
	struct exec *exec = NULL;

	for (uint64_t i = 1; i <= SESSIONS_MAX; i++) {
		const struct tree_key key = { { i, 0, 1 } };
		assert_int_equal(lsm_put(&lab->lsm, TREE_SESSION, &key, i, &row), 0);
	}
	lab_reopen(lab);
	const struct tree_key one = { { SESSIONS_MAX + 1, 0, 1 } };
	assert_int_equal(lsm_put(&lab->lsm, TREE_SESSION, &one, 1, &row), 0);
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), HAUL_ECORRUPT);
	row.deleted = true;
	assert_int_equal(lsm_put(&lab->lsm, TREE_SESSION, &one, 1, &row), 0);
	lab_reopen(lab);
	row.deleted = false;
	assert_int_equal(lsm_put(&lab->lsm, TREE_SESSION, &horizon, 1, &row), 0);
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), HAUL_ECORRUPT);
	row.bytes = 8;
	assert_int_equal(lsm_put(&lab->lsm, TREE_SESSION, &horizon, 1, &row), 0);
	lab_reopen(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_limits__every_kind_of_change_keeps_the_budget),
		T(test_limits__every_kind_of_change_with_every_look_failing),
		T(test_limits__a_second_look_fails),
		T(test_limits__rows_that_are_none),
		T(test_limits__an_index_that_holds_more_than_it_says),
		T(test_limits__embeddings_of_a_frame),
		T(test_limits__without_vectors_and_without_asking),
		T(test_limits__sessions_of_a_tree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
