/* What the executor does with a change of each kind. */
#include <errno.h>

#include "store/exec_short.h"

/* ---- nodes ---- */

/* A node is not there, or cannot be found by its key or kind. */
static void test_exec__create_node(void **state)
{
	(void)state;
	(void)CREATE(1, .kind = 3, .key = "one", .text = "x");
	(void)create(2);
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 0);
	assert_true(has(TREE_NODE, 1, 0, 0) && has(TREE_NODE, 2, 0, 0));
	assert_true(has(TREE_KIND, 3, 1, 0));
	assert_int_equal(lab_rows(lab, TREE_KIND), 1);
	assert_int_equal(by_key("one"), 1);
	assert_string_equal(text_of(1), "x");
	assert_int_equal(lab->lsm.memory_finds, 0); /* nothing of it was written before */
}

/* What is there is overwritten, or another node's key is taken. */
static void test_exec__create_node_that_exists(void **state)
{
	(void)state;
	(void)CREATE(1, .key = "one", .text = "first");
	assert_int_equal(last(), 0);
	for (int flushed = 0; flushed < 2; flushed++) {
		(void)CREATE(1, .text = "second");
		assert_int_equal(last(), -EEXIST);
		(void)CREATE(2, .key = "one");
		assert_int_equal(last(), -EEXIST);
		(void)CREATE(3, .key = "two");
		(void)CREATE(4, .key = "two"); /* of this very frame */
		assert_int_equal(last(), -EEXIST);
		assert_int_equal(lab->result.failed, 1);
		(void)delete_node(3, 0, 0);
		assert_int_equal(last(), 0);
		lab_flush(lab);
	}
	assert_string_equal(text_of(1), "first");
	assert_int_equal(by_key("one"), 1);
	assert_false(has(TREE_NODE, 2, 0, 0) || has(TREE_NODE, 4, 0, 0));
}

/* An upsert leaves key or kind of what was there before. */
static void test_exec__upsert_node_replaces(void **state)
{
	(void)state;
	(void)CREATE(1, .kind = 1, .key = "one", .text = "first", .flags = HAUL_UPSERT);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	(void)CREATE(1, .kind = 2, .key = "uno", .text = "second", .flags = HAUL_UPSERT);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "second");
	assert_int_equal(by_key("one"), 0);
	assert_int_equal(by_key("uno"), 1);
	assert_true(has(TREE_KIND, 2, 1, 0) && !has(TREE_KIND, 1, 1, 0));
	(void)CREATE(1, .flags = HAUL_UPSERT);
	assert_int_equal(last(), 0);
	assert_int_equal(by_key("uno"), 0);
	assert_int_equal(lab_rows(lab, TREE_KIND) + lab_rows(lab, TREE_NAME), 0);
	(void)CREATE(2, .key = "two");
	(void)CREATE(1, .key = "two", .flags = HAUL_UPSERT);
	assert_int_equal(last(), -EEXIST);
}

/* A key of its own counts as that of another. */
static void test_exec__node_keeps_its_own_key(void **state)
{
	(void)state;
	(void)CREATE(1, .kind = 4, .key = "one");
	assert_int_equal(last(), 0);
	const uint32_t rows = lab->lsm.count;
	(void)UPDATE(1, .kind = 4, .key = "one", .text = "x");
	assert_int_equal(last(), 0);
	assert_int_equal(lab->lsm.count, rows + 1); /* neither key nor kind is written again */
	(void)UPDATE(1, .key = "two");
	(void)UPDATE(1, .key = "one");
	(void)CREATE(2, .key = "two");
	assert_int_equal(last(), 0);
	assert_int_equal(by_key("one"), 1);
	assert_int_equal(by_key("two"), 2);
}

/* An update makes what is not there, or keeps what it does not say. */
static void test_exec__update_node(void **state)
{
	(void)state;
	(void)UPDATE(1, .kind = 1);
	assert_int_equal(last(), -ENOENT);
	(void)CREATE(1, .kind = 1, .key = "one", .text = "x");
	(void)UPDATE(1, .kind = 2);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "");
	assert_int_equal(by_key("one"), 0);
	assert_true(has(TREE_KIND, 2, 1, 0) && !has(TREE_KIND, 1, 1, 0));
}

/* A patch takes away what it does not name. */
static void test_exec__patch_node(void **state)
{
	(void)state;
	static const uint8_t null[] = { HAUL_NULL, 1, 0, 0, 0, 0, 0, 0, 'p' };
	const struct haul_change_options patch = { .flags = HAUL_PATCH };
	const struct haul_node taken = { .id = 1, .properties = { null, sizeof null, 1 } };

	(void)CREATE(1, .kind = 1, .key = "one", .text = "x");
	assert_int_equal(last(), 0);
	lab_flush(lab);
	(void)UPDATE(1, .flags = HAUL_PATCH);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "x");
	assert_int_equal(by_key("one"), 1);
	assert_true(has(TREE_KIND, 1, 1, 0));
	(void)UPDATE(1, .text = "y", .kind = 2, .flags = HAUL_PATCH);
	(void)UPDATE(1, .key = "uno", .flags = HAUL_PATCH);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "y");
	assert_int_equal(by_key("uno"), 1);
	assert_int_equal(by_key("one"), 0);
	assert_true(has(TREE_KIND, 2, 1, 0) && !has(TREE_KIND, 1, 1, 0));
	assert_true(haul_changes_update_node(lab->changes, &taken, &patch) >= 0);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "");
}

/* Patches make a record that is longer than a record may be. */
static void test_exec__patch_over_the_limit(void **state)
{
	(void)state;
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	const struct haul_change_options patch = { .flags = HAUL_PATCH };
	struct haul_node of = { .id = 1 };
	struct haul_edge of_edge = { .id = { 1, 1, 0, 0 } };

	fill(&of.properties, "a", 9000, buffer);
	of_edge.properties = of.properties;
	assert_true(haul_changes_create_node(lab->changes, &of, NULL) >= 0);
	assert_true(haul_changes_create_edge(lab->changes, &of_edge, NULL) >= 0);
	assert_int_equal(last(), 0);
	fill(&of.properties, "b", 9000, buffer);
	of_edge.properties = of.properties;
	assert_true(haul_changes_update_node(lab->changes, &of, &patch) >= 0);
	assert_int_equal(last(), HAUL_ELIMIT);
	assert_true(haul_changes_update_edge(lab->changes, &of_edge, &patch) >= 0);
	assert_int_equal(last(), HAUL_ELIMIT);
	fill(&of.properties, "b", 7000, buffer);
	assert_true(haul_changes_update_node(lab->changes, &of, &patch) >= 0);
	assert_int_equal(last(), 0);
}

/* A change of what has been changed meanwhile goes through. */
static void test_exec__expected_version(void **state)
{
	(void)state;
	(void)create(1);
	(void)create(2);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	lab_flush(lab);
	(void)UPDATE(1, .version = 2);
	assert_int_equal(last(), HAUL_ESTALE);
	(void)UPDATE(1, .version = 1);
	(void)UPDATE(1, .version = 1); /* has that of this frame now */
	assert_int_equal(last(), HAUL_ESTALE);
	assert_int_equal(lab->statuses[0], 0);
	(void)UPDATE(1, .version = lab->op, .flags = HAUL_PATCH);
	(void)UPDATE(1, .version = lab->op + 1, .flags = HAUL_PATCH);
	assert_int_equal(last(), 0);
	(void)CREATE(1, .version = 1, .flags = HAUL_UPSERT);
	assert_int_equal(last(), HAUL_ESTALE);
	(void)CREATE(9, .version = 1, .flags = HAUL_UPSERT); /* no version at all */
	assert_int_equal(last(), HAUL_ESTALE);
	(void)delete_node(1, HAUL_DETACH, 1);
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_UPDATE, 1, 2, OPTIONS(.expected_version = 9));
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.expected_version = 9));
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(HAUL_UPSERT, 9));
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_CREATE, 2, 1, OPTIONS(HAUL_UPSERT, 9));
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_UPDATE, 1, 2, OPTIONS(.expected_version = 1));
	assert_int_equal(last(), 0);
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.expected_version = lab->op));
	assert_int_equal(last(), 0);
	(void)delete_node(2, 0, 1);
	assert_int_equal(last(), 0);
}

/* A node goes and leaves edges or embeddings of nobody, or its key or kind. */
static void test_exec__delete_node(void **state)
{
	(void)state;
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), -ENOENT);
	(void)CREATE(1, .kind = 1, .key = "one");
	(void)create(2);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), -ENOTEMPTY);
	(void)delete_node(2, 0, 0);
	assert_int_equal(last(), -ENOTEMPTY);
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.flags = 0));
	(void)embed(1, 7, 3);
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), -ENOTEMPTY);
	(void)haul_changes_delete_embedding(lab->changes, 1, 7);
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), 0);
	assert_false(has(TREE_NODE, 1, 0, 0));
	assert_int_equal(lab_rows(lab, TREE_KIND) + lab_rows(lab, TREE_NAME), 0);
	assert_int_equal(lab_rows(lab, TREE_OF_NODE) + lab_rows(lab, TREE_EMBEDDING), 0);
	(void)CREATE(3, .key = "one");
	assert_int_equal(last(), 0);
}

/* Detaching leaves one side of an edge, or an embedding. */
static void test_exec__detach(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 4; id++)
		(void)create(id);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 3, 1, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 1, 1, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 2, 3, OPTIONS(.flags = 0));
	(void)embed(1, 0, 2);
	(void)embed(1, 255, 3);
	(void)embed(2, 255, 3);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	const uint32_t before = lab->lsm.count;
	(void)edge(EDGE_CREATE, 4, 1, OPTIONS(.flags = 0)); /* of this frame */
	(void)delete_node(1, HAUL_DETACH, 0);
	assert_int_equal(last(), 0);
	assert_false(has_edge(1, 2) || has_edge(3, 1) || has_edge(1, 1) || has_edge(4, 1));
	assert_true(has_edge(2, 3));
	assert_false(has(TREE_EMBEDDING, 0, 1, 0) || has(TREE_EMBEDDING, 255, 1, 0));
	assert_false(has(TREE_OF_NODE, 1, 0, 0) || has(TREE_OF_NODE, 1, 255, 0));
	assert_true(has(TREE_EMBEDDING, 255, 2, 0));
	/* 2 new, 4 edges and 2 embeddings from both sides, the node, 2 rows of indexes */
	assert_int_equal(lab->lsm.count - before, 2 + 8 + 4 + 1 + 2);
	assert_int_equal(lab->staged_count, 2);
	assert_int_equal(lab->staged[0].node, 1);
	assert_int_equal(lab->staged[0].op, lab->op);
}

/* A node with more edges than a frame can take away takes some of them away. */
static void test_exec__detach_over_the_limit(void **state)
{
	(void)state;
	const struct tree_row in = { 0 };
	struct tree_key key = { { 1, 0, 0 } };

	(void)create(1);
	assert_int_equal(last(), 0);
	for (uint64_t i = 0; i < EXEC_DETACH_MAX; i++) {
		key.word[2] = i + 2;
		assert_int_equal(lsm_put(&lab->lsm, TREE_IN, &key, 1, &in), 0);
	}
	const uint32_t rows = lab->lsm.count;
	(void)delete_node(1, HAUL_DETACH, 0);
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), -ENOENT);
	assert_int_equal(lab->statuses[0], 0);
	assert_int_equal(lab->lsm.count - rows, 2 * EXEC_DETACH_MAX + 1);

	(void)create(1);
	assert_int_equal(last(), 0);
	for (uint64_t i = 0; i <= EXEC_DETACH_MAX; i++) {
		key.word[2] = i + 2;
		assert_int_equal(lsm_put(&lab->lsm, TREE_IN, &key, lab->op, &in), 0);
	}
	const uint64_t hash = lab_hash(lab, true);
	(void)delete_node(1, HAUL_DETACH, 0);
	assert_int_equal(last(), HAUL_ELIMIT);
	assert_true(lab_hash(lab, true) == hash);
}

/* ---- edges ---- */

/* An edge is there on one side only, or has an end that is not there. */
static void test_exec__edges(void **state)
{
	(void)state;
	(void)create(1);
	assert_int_equal(last(), 0);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	(void)edge(EDGE_CREATE, 2, 1, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = HAUL_LOOSE));
	assert_int_equal(last(), 0);
	assert_true(has_edge(1, 2));
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = HAUL_LOOSE));
	assert_int_equal(last(), -EEXIST);
	(void)create(2);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = HAUL_UPSERT));
	(void)edge(EDGE_CREATE, 2, 1, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 2, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 0);
	lab_flush(lab);
	const uint32_t rows = lab->lsm.count;
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = HAUL_UPSERT));
	assert_int_equal(last(), 0);
	assert_int_equal(lab->lsm.count - rows, 1); /* the way back stays as it is */
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), -EEXIST);
	(void)edge(EDGE_UPDATE, 1, 1, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	(void)edge(EDGE_DELETE, 1, 1, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	(void)edge(EDGE_UPDATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.flags = 0));
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	assert_int_equal(lab->statuses[0], 0);
	assert_false(has_edge(1, 2));
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	assert_true(has_edge(1, 2) && has_edge(2, 1) && has_edge(2, 2));
}

/* Properties of an edge are lost by a patch, or kept by an update. */
static void test_exec__patch_edge(void **state)
{
	(void)state;
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	const struct haul_change_options patch = { .flags = HAUL_PATCH };
	struct haul_edge of = { .id = { 1, 2, 5, 6 } }, got;
	struct haul_property property;
	const struct tree_key key = { { 1, UINT64_C(5) << 32 | 6, 2 } };

	fill(&of.properties, "a", 10, buffer);
	const struct haul_change_options loose = { .flags = HAUL_LOOSE };
	assert_true(haul_changes_create_edge(lab->changes, &of, &loose) >= 0);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	fill(&of.properties, "b", 20, buffer);
	assert_true(haul_changes_update_edge(lab->changes, &of, &patch) >= 0);
	assert_int_equal(last(), 0);
	const struct lab_row *row = lab_find(lab, TREE_OUT, key);
	record_get_edge(row->value, row->bytes, &got);
	assert_int_equal(got.properties.count, 2);
	assert_int_equal(haul_property_find(&got.properties, "a", &property), 0);
	assert_true(haul_changes_update_edge(lab->changes, &of, NULL) >= 0);
	assert_int_equal(last(), 0);
	row = lab_find(lab, TREE_OUT, key);
	record_get_edge(row->value, row->bytes, &got);
	assert_int_equal(got.properties.count, 1);
}

/* ---- embeddings ---- */

/* Vectors that cannot be compared get into one index, or it is told wrong what it holds. */
static void test_exec__embeddings(void **state)
{
	(void)state;
	(void)embed(1, 3, 4);
	assert_int_equal(last(), -ENOENT);
	(void)create(1);
	(void)create(2);
	(void)embed(1, 3, 4);
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(3).count, 1);
	assert_int_equal(index_of(3).dimensions, 4);
	lab_flush(lab);
	lab_reopen(lab);
	(void)embed(2, 3, 5);
	assert_int_equal(last(), -EINVAL);
	(void)embed(2, 4, 5); /* another index */
	assert_int_equal(last(), 0);
	(void)embed(1, 3, 6); /* the only one may be replaced by any */
	assert_int_equal(last(), 0);
	(void)embed(2, 3, 6);
	(void)embed(2, 3, 6);
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(3).count, 2);
	assert_int_equal(index_of(3).dimensions, 6);
	assert_int_equal(lab->staged_count, 2);
	(void)embed(1, 3, 4);
	assert_int_equal(last(), -EINVAL);
	assert_int_equal(lab->staged_count, 0);
	(void)haul_changes_delete_embedding(lab->changes, 2, 3);
	(void)haul_changes_delete_embedding(lab->changes, 2, 3);
	assert_int_equal(last(), -ENOENT);
	(void)haul_changes_delete_embedding(lab->changes, 1, 3);
	(void)embed(1, 3, 8); /* empty in between */
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(3).dimensions, 8);
	(void)haul_changes_delete_embedding(lab->changes, 1, 3);
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(3).count, 0);
	assert_int_equal(lab_rows(lab, TREE_OF_NODE), 2); /* of index 4 and its one node */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_exec__create_node),
		T(test_exec__create_node_that_exists),
		T(test_exec__upsert_node_replaces),
		T(test_exec__node_keeps_its_own_key),
		T(test_exec__update_node),
		T(test_exec__patch_node),
		T(test_exec__patch_over_the_limit),
		T(test_exec__expected_version),
		T(test_exec__delete_node),
		T(test_exec__detach),
		T(test_exec__detach_over_the_limit),
		T(test_exec__edges),
		T(test_exec__patch_edge),
		T(test_exec__embeddings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
