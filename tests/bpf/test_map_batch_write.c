/* What batch calls with keys of the caller do in the corners: putting, deleting, asking. */
#include <errno.h>
#include <string.h>

#include "bpf/batch_lab.h"

/* A full map stops an update at a row: rows before are in, this one failed, the rest was not
 * reached. */
static void test_update__full_map(void **state)
{
	(void)state;
	for (int engine = HAUL_MAP_AUTO; engine < HAUL_MAP_ENGINES; engine++) {
		struct batch_lab f;
		struct haul_map_result result;
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 8, 5, (enum haul_map_engine)engine);
		batch_lab_fill(&f, 0, 12);
		assert_int_equal(haul_map_update(f.map, &f.rows.rows, HAUL_MAP_ANY, &result),
				 -E2BIG);
		assert_int_equal(result.done, 8);
		assert_int_equal(result.failed_index, 8);
		assert_int_equal(result.reason, -E2BIG);
		for (uint32_t i = 0; i < 12; i++)
			assert_int_equal(f.rows.status[i], i < 8    ? 0
							   : i == 8 ? -E2BIG
								    : -ECANCELED);
		for (uint32_t i = 0; i < 12; i++)
			assert_int_equal(map_lab_has(&f.lab, i), i < 8);
		assert_int_equal(batch_lab_extra(&f, MAP_C_FAILED), 1);
		batch_lab_close(&f);
	}
}

/* EINVAL and the like leave the count that was put in: nothing of that call was done. */
static void test_update__count_of_a_refused_call_is_not_believed(void **state)
{
	(void)state;
	static const int codes[] = { -EINVAL, -EPERM, -ENOMEM };
	for (uint32_t i = 0; i < 3; i++) {
		struct batch_lab f;
		struct haul_map_result result;
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 64, 5, HAUL_MAP_BATCH);
		batch_lab_fill(&f, 0, 20);
		lab_sys_fault(&f.twin, BPF_MAP_UPDATE_BATCH, 2, 1, codes[i]);
		assert_int_equal(haul_map_update(f.map, &f.rows.rows, HAUL_MAP_ANY, &result),
				 codes[i]);
		assert_int_equal(result.done, 10);
		assert_int_equal(result.failed_index, 10);
		assert_int_equal(f.rows.status[9], 0);
		assert_int_equal(f.rows.status[10], codes[i]);
		assert_int_equal(f.rows.status[19], -ECANCELED);
		batch_lab_close(&f);
	}
}

/* A call that is not there at all (524) is handed down, and counted, with nothing done twice. */
static void test_update__kernel_without_the_call(void **state)
{
	(void)state;
	for (int forced = 0; forced <= 1; forced++) {
		struct batch_lab f;
		struct haul_map_result result;
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 64, 0,
			       forced ? HAUL_MAP_BATCH : HAUL_MAP_AUTO);
		batch_lab_fill(&f, 0, 20);
		lab_sys_fault(&f.twin, BPF_MAP_UPDATE_BATCH, 0, 1, -EOPNOTSUPP);
		assert_int_equal(haul_map_update(f.map, &f.rows.rows, HAUL_MAP_ANY, &result),
				 forced ? -ENOTSUP : 0);
		assert_int_equal(result.done, forced ? 0 : 20);
		assert_int_equal(result.fallbacks, !forced);
		assert_int_equal(result.engine, forced ? HAUL_MAP_BATCH : HAUL_MAP_SINGLE);
		assert_int_equal(f.rows.status[0], forced ? -ENOTSUP : 0);
		assert_int_equal(f.rows.status[19], forced ? -ECANCELED : 0);
		batch_lab_close(&f);
	}
}

/* The batch call refuses modes, so rows go one by one: stated by the engine, and counted. */
static void test_update__modes_are_handed_down(void **state)
{
	(void)state;
	struct batch_lab f;
	struct haul_map_result result;
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 64, 0, HAUL_MAP_AUTO);
	map_lab_fill(&f.lab, 5, 5);
	batch_lab_fill(&f, 0, 20);
	assert_int_equal(haul_map_update(f.map, &f.rows.rows, HAUL_MAP_ONLY_NEW, &result), 0);
	assert_int_equal(result.inserted, 15);
	assert_int_equal(result.kept, 5);
	assert_int_equal(result.fallbacks, 1);
	assert_int_equal(result.engine, HAUL_MAP_SINGLE);
	assert_int_equal(f.rows.status[5], -EEXIST);
	batch_lab_close(&f);
}

/* A delete batch stops at each key that is not there; all the others are deleted all the same. */
static void test_delete__missing_keys_do_not_stop_it(void **state)
{
	(void)state;
	static const uint32_t chunks[] = { 0, 1, 7, 100 };
	for (uint32_t c = 0; c < 4; c++) {
		struct batch_lab f;
		struct haul_map_result result;
		uint64_t missing = 0;
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, chunks[c], HAUL_MAP_BATCH);
		map_lab_fill(&f.lab, 0, 100);
		for (uint32_t i = 0; i < 100; i += 3)
			missing += map_lab_remove(&f.lab, i);
		batch_lab_fill(&f, 0, 110); /* the last ones were never there */
		assert_int_equal(haul_map_delete(f.map, &f.rows.rows, &result), 0);
		assert_int_equal(result.done, 100 - missing);
		assert_int_equal(result.missing, missing + 10);
		for (uint32_t i = 0; i < 110; i++)
			assert_int_equal(f.rows.status[i], i < 100 && i % 3 ? 0 : -ENOENT);
		for (uint32_t i = 0; i < 100; i++)
			assert_false(map_lab_has(&f.lab, i));
		assert_int_equal(batch_lab_extra(&f, MAP_C_MISSING), result.missing);
		batch_lab_close(&f);
	}
}

/* A busy lock in the middle of a written batch: on from the row that it stopped at. */
static void test_write__busy_lock_is_asked_again(void **state)
{
	(void)state;
	static const int cmds[] = { BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH };
	for (uint32_t i = 0; i < 2 * BATCH_LAB_BUSY; i++) {
		struct batch_lab f;
		struct haul_map_result result;
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 0, HAUL_MAP_BATCH);
		batch_lab_fill(&f, 0, 100);
		if (i % 2 == 1)
			map_lab_fill(&f.lab, 0, 100);
		struct lab_fault *fault =
			lab_sys_fault(&f.twin, cmds[i % 2], 0, 4, batch_lab_busy[i / 2]);
		fault->partial = true;
		fault->part = 10;
		int rc = i % 2 ? haul_map_delete(f.map, &f.rows.rows, &result)
			       : haul_map_update(f.map, &f.rows.rows, HAUL_MAP_ANY, &result);
		assert_int_equal(rc, 0);
		assert_int_equal(result.done, 100);
		assert_int_equal(result.retries, 4);
		for (uint32_t k = 0; k < 100; k++)
			assert_int_equal(map_lab_has(&f.lab, k), i % 2 == 0);
		batch_lab_close(&f);
	}
}

/* … but not for ever. */
static void test_write__busy_for_ever_is_an_error(void **state)
{
	(void)state;
	for (int engine = HAUL_MAP_SINGLE; engine <= HAUL_MAP_BATCH; engine++) {
		struct batch_lab f;
		struct haul_map_result result;
		int cmd = engine == HAUL_MAP_SINGLE ? BPF_MAP_UPDATE_ELEM : BPF_MAP_UPDATE_BATCH;
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 0, (enum haul_map_engine)engine);
		batch_lab_fill(&f, 0, 10);
		struct lab_fault *fault = lab_sys_fault(&f.twin, cmd, 0, UINT32_MAX, -EBUSY);
		fault->count_set = engine == HAUL_MAP_BATCH;
		assert_int_equal(haul_map_update(f.map, &f.rows.rows, HAUL_MAP_ANY, &result),
				 -EBUSY);
		assert_int_equal(result.done, 0);
		assert_int_equal(result.failed_index, 0);
		assert_true(result.retries > 0);
		batch_lab_close(&f);
	}
}

/* No system call gets several keys: handed down and counted; the batch engine alone says no. */
static void test_get__has_no_batch_call(void **state)
{
	(void)state;
	struct batch_lab f;
	struct haul_map_result result;
	char text[HAUL_MAP_TEXT];
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 64, 0, HAUL_MAP_AUTO);
	map_lab_fill(&f.lab, 0, 10);
	batch_lab_fill(&f, 0, 20);
	assert_int_equal(haul_map_get(f.map, &f.rows.rows, &result), 0);
	assert_int_equal(result.done, 10);
	assert_int_equal(result.missing, 10);
	assert_int_equal(result.fallbacks, 1);
	assert_int_equal(batch_lab_extra(&f, MAP_C_FALLBACKS), 1);
	batch_lab_close(&f);

	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 64, 0, HAUL_MAP_BATCH);
	batch_lab_fill(&f, 0, 20);
	assert_int_equal(haul_map_get(f.map, &f.rows.rows, &result), -ENOTSUP);
	assert_int_equal(haul_map_explain(f.map, HAUL_MAP_OP_GET, 20, text), HAUL_MAP_AUTO);
	assert_non_null(strstr(text, "no batch call takes keys"));
	batch_lab_close(&f);
}

/* Somebody inserts and deletes between the two tries of an upsert: it tries on, and tells in the
 * end what it did. */
static void test_upsert__is_exact_when_others_write(void **state)
{
	(void)state;
	struct batch_lab f;
	struct haul_map_result result;
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 64, 0, HAUL_MAP_SINGLE);
	batch_lab_fill(&f, 0, 1);
	lab_sys_fault(&f.twin, BPF_MAP_UPDATE_ELEM, 0, 1, -ENOENT);
	lab_sys_fault(&f.twin, BPF_MAP_UPDATE_ELEM, 0, 1, -EEXIST);
	lab_sys_fault(&f.twin, BPF_MAP_UPDATE_ELEM, 0, 1, -ENOENT);
	assert_int_equal(haul_map_upsert(f.map, &f.rows.rows, &result), 0);
	assert_int_equal(result.inserted, 1);
	assert_int_equal(result.updated, 0);
	assert_int_equal(result.calls, 4);
	batch_lab_close(&f);
}

/* Between reading and deleting an entry changed its mind: it is kept, and counted. */
static void test_delete_if__asks_again_before_it_deletes(void **state)
{
	(void)state;
	const struct haul_map_filter filter = {
		.count = 1,
		.conditions = { { .field = { .width = 4 }, .test = HAUL_MAP_EQ, .operand = 3 } },
	};
	struct batch_lab f;
	struct haul_map_result result;
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 0, HAUL_MAP_BATCH);
	map_lab_fill(&f.lab, 0, 80); /* ten of them have the value 3 */
	lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_ELEM, 2, 1, -ENOENT);
	lab_sys_fault(&f.twin, BPF_MAP_DELETE_ELEM, 4, 1, -ENOENT);
	/* "Succeeds", but the value that was read before stays: it still matches. */
	assert_int_equal(haul_map_delete_if(f.map, &filter, &result), 0);
	assert_int_equal(result.visited, 80);
	assert_int_equal(result.done, 8);
	assert_int_equal(result.missing, 2);
	lab_sys_fault(&f.twin, BPF_MAP_DELETE_ELEM, 0, 1, -EPERM);
	assert_int_equal(haul_map_delete_if(f.map, &filter, &result), -EPERM);
	assert_int_equal(result.reason, -EPERM);
	batch_lab_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_update__full_map),
		cmocka_unit_test(test_update__count_of_a_refused_call_is_not_believed),
		cmocka_unit_test(test_update__kernel_without_the_call),
		cmocka_unit_test(test_update__modes_are_handed_down),
		cmocka_unit_test(test_delete__missing_keys_do_not_stop_it),
		cmocka_unit_test(test_write__busy_lock_is_asked_again),
		cmocka_unit_test(test_write__busy_for_ever_is_an_error),
		cmocka_unit_test(test_get__has_no_batch_call),
		cmocka_unit_test(test_upsert__is_exact_when_others_write),
		cmocka_unit_test(test_delete_if__asks_again_before_it_deletes),
	};
	map_lab_need();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
