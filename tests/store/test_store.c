/* The life of a store: made, opened, written, closed, opened again; what it says when it cannot. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_lab.h"

static int setup(void **state)
{
	struct store_lab *lab = malloc(sizeof *lab);

	assert_non_null(lab);
	store_lab_init(lab, 7);
	assert_int_equal(store_lab_open(lab), 0);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	store_lab_done(*state);
	free(*state);
	return 0;
}

/* What was committed is there at once, after closing, and after a power cut. */
static void test_store__keeps_what_was_committed(void **state)
{
	struct store_lab *lab = *state;

	assert_int_equal(lab_node(lab, 1, 5, "one", "first"), 0);
	assert_int_equal(lab_node(lab, 2, 5, NULL, NULL), 1);
	assert_int_equal(lab_edge(lab, 1, 2, 3), 2);
	assert_int_equal(store_lab_commit(lab), 0);
	assert_int_equal(lab->commit.op, 1);
	assert_int_equal(lab->commit.failed, 0);
	assert_true(lab_has(lab, 1, "first"));
	store_lab_reopen(lab);
	assert_true(lab_has(lab, 1, "first"));
	assert_int_equal(lab_node(lab, 3, 0, NULL, "third"), 0);
	assert_int_equal(store_lab_commit(lab), 0);
	assert_int_equal(lab->commit.op, 2);
	store_lab_crash(lab, VFS_SIM_LOSE_ALL);
	assert_int_equal(store_lab_open(lab), 0);
	assert_true(lab_has(lab, 3, "third"));
	assert_int_equal(lab_count_nodes(lab), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_store__keeps_what_was_committed, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
