/* Marks of the meta protocol: who has been told to recache, what is stale. */
#include "lib/testlib.h"
#include "rpc/marks.h"

/* A mark is found until it is cleared, and the count follows. */
static void test_marks__are_found_until_cleared(void **state)
{
	(void)state;
	static struct marks marks;
	assert_null(marks_find(&marks, 7));
	struct mark *mark = marks_set(&marks, 7);
	assert_ptr_equal(marks_set(&marks, 7), mark);
	assert_int_equal(marks.count, 1);
	marks_clear(&marks, 8);
	assert_ptr_equal(marks_find(&marks, 7), mark);
	marks_clear(&marks, 7);
	assert_null(marks_find(&marks, 7));
	assert_int_equal(marks.count, 0);
}

/* A stale mark is never displaced; one that only says who won is. */
static void test_marks__stale_ones_keep_their_place(void **state)
{
	(void)state;
	static struct marks marks;
	for (uint64_t i = 0; i < MARK_TRIES; i++)
		marks_set(&marks, MARKS * (i + 1))->stale = true;
	assert_null(marks_set(&marks, MARKS * 100));
	marks_find(&marks, MARKS)->stale = false;
	assert_non_null(marks_set(&marks, MARKS * 100));
	assert_null(marks_find(&marks, MARKS));
	assert_int_equal(marks.count, MARK_TRIES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marks__are_found_until_cleared),
		cmocka_unit_test(test_marks__stale_ones_keep_their_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
