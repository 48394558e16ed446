/* What the executor does with a frame: order, groups, memory, faults. */
#include <errno.h>

#include "store/exec_short.h"
#include "store/frame_sample.h"

/* ---- order and groups ---- */

/* The original did all nodes, then all edges: what was deleted and made again was gone. */
static void test_exec__original_reordered_between_kinds(void **state)
{
	(void)state;
	(void)CREATE(1, .text = "first");
	(void)delete_node(1, 0, 0);
	(void)CREATE(1, .text = "second");
	(void)edge(EDGE_CREATE, 1, 1, OPTIONS(.flags = 0));
	(void)edge(EDGE_DELETE, 1, 1, OPTIONS(.flags = 0));
	(void)delete_node(1, 0, 0);
	(void)CREATE(1, .text = "third");
	(void)UPDATE(1, .text = "fourth");
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 0);
	assert_string_equal(text_of(1), "fourth");
}

/* The original stopped at what failed and kept what was done before it. */
static void test_exec__original_had_no_undo(void **state)
{
	(void)state;
	(void)CREATE(1, .key = "one");
	assert_int_equal(last(), 0);
	const uint64_t hash = lab_hash(lab, true);
	assert_int_equal(haul_changes_begin(lab->changes), 0);
	(void)CREATE(2, .key = "two", .kind = 2);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	(void)embed(1, 0, 3);
	(void)UPDATE(1, .key = "uno");
	(void)create(1);
	(void)create(3);
	assert_int_equal(haul_changes_end(lab->changes), 0);
	assert_int_equal(last(), -ECANCELED);
	for (int i = 0; i < 4; i++)
		assert_int_equal(lab->statuses[i], -ECANCELED);
	assert_int_equal(lab->statuses[4], -EEXIST);
	assert_int_equal(lab->result.failed, 6);
	assert_int_equal(lab->staged_count, 0);
	assert_true(lab_hash(lab, true) == hash);
	(void)embed(1, 0, 5); /* the index has no dimensions yet */
	assert_int_equal(last(), 0);
}

/* A group that failed is seen by those behind it, or takes them with it. */
static void test_exec__groups_fail_alone(void **state)
{
	(void)state;
	(void)create(1);
	for (uint64_t group = 0; group < 3; group++) {
		assert_int_equal(haul_changes_begin(lab->changes), 0);
		(void)CREATE(10 + group, .key = "shared");
		(void)create(20 + group);
		(void)edge(EDGE_CREATE, 10 + group, group == 0 ? 99 : 1, OPTIONS(.flags = 0));
		assert_int_equal(haul_changes_end(lab->changes), 0);
	}
	(void)edge(EDGE_CREATE, 20, 21, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 21, 11, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	static const int want[] = { 0, -ECANCELED, -ECANCELED, -ENOENT,    0,       0,
				    0, -EEXIST,    -ECANCELED, -ECANCELED, -ENOENT, 0 };
	for (uint32_t i = 0; i < sizeof want / sizeof *want; i++)
		assert_int_equal(lab->statuses[i], want[i]);
	assert_int_equal(by_key("shared"), 11);
	assert_false(has(TREE_NODE, 10, 0, 0) || has(TREE_NODE, 20, 0, 0));
	assert_int_equal(lab->lsm.aborts, 2);
}

/* What a group takes back before it fails is gone for those behind it. */
static void test_exec__failed_group_gives_back_what_was_there(void **state)
{
	(void)state;
	for (int flushed = 0; flushed < 2; flushed++) {
		haul_changes_clear(lab->changes);
		(void)CREATE(1, .key = "one", .text = "x", .flags = HAUL_UPSERT);
		(void)embed(1, 0, 3);
		assert_int_equal(last(), 0);
		if (flushed)
			lab_flush(lab);
		assert_int_equal(haul_changes_begin(lab->changes), 0);
		(void)delete_node(1, HAUL_DETACH, 0);
		(void)CREATE(1, .text = "y");
		(void)delete_node(77, 0, 0);
		assert_int_equal(haul_changes_end(lab->changes), 0);
		(void)UPDATE(1, .version = lab->op, .flags = HAUL_PATCH);
		(void)CREATE(2, .key = "one");
		(void)haul_changes_delete_embedding(lab->changes, 1, 0);
		assert_int_equal(last(), 0);
		static const int want[] = { -ECANCELED, -ECANCELED, -ENOENT, 0, -EEXIST, 0 };
		for (uint32_t i = 0; i < sizeof want / sizeof *want; i++)
			assert_int_equal(lab->statuses[i], want[i]);
		assert_string_equal(text_of(1), "x");
		assert_int_equal(by_key("one"), 1);
	}
}

/* Unordered: a status goes to another change, or kinds are not done in their order. */
static void test_exec__unordered(void **state)
{
	(void)state;
	haul_changes_free(lab->changes);
	assert_int_equal(haul_changes_new(&lab->changes, 0, 0, HAUL_CHANGES_UNORDERED), 0);
	(void)embed(1, 0, 3);                               /* after the nodes */
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0)); /* after the nodes */
	(void)update(7);                                    /* is not there */
	(void)create(2);
	(void)create(1);
	(void)delete_node(1, 0, 0); /* before them */
	(void)create(1);
	(void)last();
	static const int want[] = { 0, 0, -ENOENT, 0, 0, -ENOENT, -EEXIST };
	for (uint32_t i = 0; i < sizeof want / sizeof *want; i++)
		assert_int_equal(lab->statuses[i], want[i]);
	assert_true(has_edge(1, 2));
}

/* ---- the frame ---- */

/* A frame asks tables once a change, not once a frame. */
static void test_exec__asks_for_all_of_a_frame_at_once(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 1000; id++)
		(void)CREATE(id, .key = "one");
	for (uint64_t id = 1; id <= 1000; id++) {
		(void)edge(EDGE_CREATE, id, 1001 - id, OPTIONS(.flags = HAUL_LOOSE));
		(void)update(id);
	}
	const uint32_t before = lab->lsm.finds;
	(void)last();
	/* names, nodes with values and without, edges */
	assert_int_equal(lab->lsm.finds - before, 4);
	for (uint64_t id = 2001; id <= 2008; id++)
		(void)create(id);
	(void)last();
	const uint32_t memory = lab->lsm.memory_finds;
	for (uint64_t id = 2001; id <= 2008; id++)
		(void)update(id);
	(void)last();
	/* The frame before is no matter; two keys may share a bit. */
	assert_true(lab->lsm.memory_finds - memory <= 1);
}

/* Values that do not fit into memory at once make a change fail, or are those of before the
 * frame. */
static void test_exec__values_over_the_arena(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 200; id++)
		(void)CREATE(id, .text = "some text", .key = NULL, .kind = 1);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	lab->lsm.arena_max = 100; /* five records at a time */
	for (uint64_t id = 200; id >= 1; id--)
		(void)UPDATE(id, .flags = HAUL_PATCH, .kind = 2);
	for (uint64_t id = 1; id <= 200; id++)
		(void)UPDATE(id, .flags = HAUL_PATCH, .version = lab->op + 1);
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 0);
	for (uint64_t id = 1; id <= 200; id++) {
		assert_string_equal(text_of(id), "some text");
		assert_true(has(TREE_KIND, 2, id, 0) && !has(TREE_KIND, 1, id, 0));
	}
}

/* As above, and a group that fails in between: its rows are taken for the truth. */
static void test_exec__values_over_the_arena_and_groups(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 40; id++)
		(void)CREATE(id, .text = "before");
	assert_int_equal(last(), 0);
	lab_flush(lab);
	lab->lsm.arena_max = 64;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(haul_changes_begin(lab->changes), 0);
		for (uint64_t id = 40; id >= 1; id--)
			(void)UPDATE(id, .flags = HAUL_PATCH, .text = "wrong");
		(void)update(41);
		assert_int_equal(haul_changes_end(lab->changes), 0);
	}
	for (uint64_t id = 1; id <= 40; id++)
		(void)UPDATE(id, .flags = HAUL_PATCH, .kind = 1, .version = 1);
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 3 * 41);
	for (uint64_t id = 1; id <= 40; id++)
		assert_string_equal(text_of(id), "before");
}

/* The same, as small as can be: what is asked for again while a group is under way is its row. */
static void test_exec__value_asked_for_again_in_a_group(void **state)
{
	(void)state;
	(void)CREATE(1, .text = "before");
	(void)CREATE(2, .text = "before");
	assert_int_equal(last(), 0);
	lab_flush(lab);
	lab->lsm.arena_max = 30; /* one record */
	assert_int_equal(haul_changes_begin(lab->changes), 0);
	(void)UPDATE(1, .flags = HAUL_PATCH, .text = "wrong");
	(void)UPDATE(2, .flags = HAUL_PATCH, .text = "wrong");
	(void)update(3);
	assert_int_equal(haul_changes_end(lab->changes), 0);
	(void)UPDATE(1, .flags = HAUL_PATCH, .kind = 1, .version = 1);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "before");
}

/* A frame writes more than the memory table has room for. */
static void test_exec__budget(void **state)
{
	(void)state;
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	struct haul_node of = { .id = 1 };
	uint32_t good = 0;

	lab->budget = 400 << 10;
	lab_reopen(lab);
	fill(&of.properties, "a", 10000, buffer);
	for (; of.id <= 100; of.id++)
		assert_true(haul_changes_create_node(lab->changes, &of, NULL) >= 0);
	(void)create(1000);
	const uint64_t used = lab->lsm.used;
	assert_int_equal(last(), 0); /* a small one still fits */
	for (uint32_t i = 0; i < 100; i++) {
		assert_true(lab->statuses[i] == 0 || lab->statuses[i] == HAUL_ELIMIT);
		assert_true(lab->statuses[i] != 0 || i == good);
		good += lab->statuses[i] == 0;
	}
	assert_true(good >= 35 && good < 41);
	assert_true(lab->lsm.used - used <= lab->budget);
	for (of.id = 101; of.id <= 135; of.id++)
		assert_true(haul_changes_create_node(lab->changes, &of, NULL) >= 0);
	assert_int_equal(last(), 0); /* the next has its own */
	assert_int_equal(lab->result.failed, 0);
}

/* Groups that fail write for nothing, over and over, until memory is full. */
static void test_exec__failed_groups_count_in_the_budget(void **state)
{
	(void)state;
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	struct haul_node of = { .id = 1 };

	lab->budget = 400 << 10;
	lab_reopen(lab);
	fill(&of.properties, "a", 10000, buffer);
	for (int group = 0; group < 10; group++) {
		assert_int_equal(haul_changes_begin(lab->changes), 0);
		for (of.id = 1; of.id <= 10; of.id++)
			assert_true(haul_changes_create_node(lab->changes, &of, NULL) >= 0);
		(void)delete_node(77, 0, 0);
		assert_int_equal(haul_changes_end(lab->changes), 0);
	}
	assert_int_equal(last(), -ECANCELED);
	assert_int_equal(lab->statuses[10], -ENOENT);
	assert_int_equal(lab->statuses[11 * 5], HAUL_ELIMIT);
	assert_true(lab->lsm.used <= lab->budget);
	assert_int_equal(lab_rows(lab, TREE_NODE), 0);
}

/* What a row costs is less than what it takes. */
static void test_exec_cost__is_enough(void **state)
{
	(void)state;
	for (uint32_t bytes = 0; bytes < 100; bytes++) {
		for (int tree = 0; tree < TREES; tree++)
			assert_true(exec_cost(bytes) >= memtable_cost((enum tree)tree, bytes));
	}
	assert_int_equal(exec_cost(9), 64); /* of the format: frames fail by it */
}

/* A table cannot be read: half of the frame is done, or a change is told what nobody knows. */
static void test_exec__unreadable_table_undoes_the_frame(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 10; id++)
		(void)CREATE(id, .key = NULL, .text = "x");
	(void)embed(1, 0, 3);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	const uint64_t hash = lab_hash(lab, true), op = lab->op;
	for (uint32_t at = 1; at <= 30; at++) {
		haul_changes_clear(lab->changes);
		for (uint64_t id = 11; id <= 20; id++)
			(void)create(id);
		(void)embed(2, 0, 3);
		(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
		for (uint64_t id = 1; id <= 10; id++)
			(void)UPDATE(id, .flags = HAUL_PATCH);
		(void)delete_node(1, HAUL_DETACH, 0);
		lab->lsm.fail_find = at <= 25 ? at : 0;
		lab->lsm.fail_prefix = at > 25 && at <= 28 ? at - 25 : 0;
		lab->lsm.fail_put = at > 28 ? 10 * (at - 28) : 0;
		assert_int_equal(lab_run(lab), at > 28 ? HAUL_EFULL : -EIO);
		assert_true(lab_hash(lab, true) == hash && lab->op == op);
		assert_int_equal(lab->staged_count, 0);
	}
	(void)embed(2, 0, 4); /* what is known of the index was given back, too */
	assert_int_equal(last(), -EINVAL);
	(void)embed(2, 0, 3);
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(0).count, 2);
	assert_int_equal(lab->lsm.fail_find, 0);
}

/* An executor is made on what it cannot read, or leaks. */
static void test_exec_new__refuses(void **state)
{
	(void)state;
	struct exec *exec = NULL;

	lab->lsm.fail_find = 1;
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), -EIO);
	lab->lsm.fail_prefix = 1;
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), -EIO);
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, EXEC_BUDGET_MIN - 1), HAUL_ELIMIT);
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, LSM_FRAME_BUDGET + 1), HAUL_ELIMIT);
	assert_null(exec);
	exec_free(NULL);
	for (uint32_t i = 0; i < 10; i++) {
		if (!test_malloc_fail(i))
			return;
		assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), -ENOMEM);
	}
}

/* Executing allocates. */
static void test_exec__allocates_nothing(void **state)
{
	(void)state;
	static int32_t statuses[64];
	struct exec_result result;
	struct prng prng;
	struct frame frame;

	prng_init(&prng, 3);
	(void)sample_changes(&prng, lab->changes, 10, 60);
	const uint32_t bytes = sample_seal(lab->changes, lab->frame, FRAME_BYTES_MAX);
	assert_int_equal(frame_check(lab->frame, bytes, &frame), 0);
	const uint64_t mallocs = test_mallocs();
	const uint32_t rows = lab->lsm.count;
	assert_int_equal(exec_frame(lab->exec, &frame, 1, statuses, &result), 0);
	/* Those of the lab: one a row, and the list of rows. */
	assert_true(test_mallocs() - mallocs <= lab->lsm.count - rows + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_exec__original_reordered_between_kinds),
		T(test_exec__original_had_no_undo),
		T(test_exec__groups_fail_alone),
		T(test_exec__failed_group_gives_back_what_was_there),
		T(test_exec__unordered),
		T(test_exec__asks_for_all_of_a_frame_at_once),
		T(test_exec__values_over_the_arena),
		T(test_exec__values_over_the_arena_and_groups),
		T(test_exec__value_asked_for_again_in_a_group),
		T(test_exec__budget),
		T(test_exec__failed_groups_count_in_the_budget),
		T(test_exec_cost__is_enough),
		T(test_exec__unreadable_table_undoes_the_frame),
		T(test_exec_new__refuses),
		T(test_exec__allocates_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
