/* What walks in batches do in the corners, each provoked: by a map built for it, or by a bpf(2)
 * that answers as the kernel does then. */
#include <errno.h>
#include <string.h>

#include "bpf/batch_lab.h"
#include "bpf/reader.h"

/* ---- reading ---- */

/* The end of a map comes together with the last entries; they must not be dropped with it. */
static void test_read__end_comes_with_entries(void **state)
{
	(void)state;
	struct batch_lab f;
	struct batch_walked w = { 0 };
	struct haul_map_cursor cursor = { 0 };
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 64, 100, HAUL_MAP_BATCH);
	map_lab_fill(&f.lab, 0, 40);
	assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
	batch_lab_once(&w, 40);
	assert_int_equal(w.calls, 1);
	assert_int_equal(cursor.ended, 1);
	batch_lab_close(&f);
}

/* An empty map is at its end at once. */
static void test_read__empty_map(void **state)
{
	(void)state;
	static const uint32_t types[] = { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LPM_TRIE };
	for (uint32_t i = 0; i < 2; i++) {
		for (int engine = HAUL_MAP_SINGLE; engine <= HAUL_MAP_BATCH; engine++) {
			struct batch_lab f;
			struct batch_walked w = { 0 };
			struct haul_map_cursor cursor = { 0 };
			batch_lab_open(&f, types[i], 64, 10, (enum haul_map_engine)engine);
			assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
			assert_int_equal(w.count, 0);
			assert_int_equal(cursor.ended, 1);
			batch_lab_close(&f);
		}
	}
}

/* Buckets are never split, so batches come short of what was asked for, and all is read. */
static void test_read__short_batches(void **state)
{
	(void)state;
	struct batch_lab f;
	struct batch_walked w = { 0 };
	struct haul_map_cursor cursor = { 0 };
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 16, HAUL_MAP_BATCH);
	map_lab_fill(&f.lab, 0, 256);
	assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
	batch_lab_once(&w, 256);
	assert_true(w.batches > 256 / 16);
	batch_lab_close(&f);
}

/* Room for one entry and buckets that hold several: the same bucket is asked for again with more
 * room until it fits, nothing is skipped, and the floor is remembered. */
static void test_read__bucket_larger_than_a_batch(void **state)
{
	(void)state;
	for (int take = 0; take <= 1; take++) {
		struct batch_lab f;
		struct batch_walked w = { 0 };
		struct haul_map_cursor cursor = { 0 };
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 64, 1, HAUL_MAP_BATCH);
		map_lab_fill(&f.lab, 0, 64);
		assert_int_equal(batch_lab_walk(&f, take != 0, &cursor, &w), 0);
		batch_lab_once(&w, 64);
		/* That 64 keys take 64 different buckets does not happen. */
		assert_true(w.retries >= 1);
		assert_int_equal(batch_lab_extra(&f, MAP_C_RETRIES), w.retries);
		assert_true(batch_lab_extra(&f, MAP_C_GROWN) >= 1);
		assert_true(f.map->reader.floor >= HAUL_MAP_BATCH_MIN);
		/* Once learnt, it is not learnt again. */
		struct batch_walked again = { 0 };
		cursor = (struct haul_map_cursor){ 0 };
		assert_int_equal(batch_lab_walk(&f, false, &cursor, &again), 0);
		assert_int_equal(again.retries, 0);
		batch_lab_close(&f);
	}
}

/* A bucket of a thousand entries: the buffers grow as far as it takes. */
static void test_read__buffers_grow_to_the_largest_bucket(void **state)
{
	(void)state;
	struct batch_lab f;
	struct batch_walked w = { 0 };
	struct haul_map_cursor cursor = { 0 };
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 1000, 4, HAUL_MAP_BATCH);
	map_lab_fill(&f.lab, 0, BATCH_LAB_ROWS);
	/* The kernel says so seven times. */
	lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_BATCH, 0, 7, -ENOSPC)->count_set = true;
	assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
	batch_lab_once(&w, BATCH_LAB_ROWS);
	assert_int_equal(w.retries, 7);
	assert_int_equal(f.twin.sizes[0], 4);
	for (uint32_t i = 1; i < 7; i++)
		assert_true(f.twin.sizes[i + 1] == 2 * f.twin.sizes[i]);
	batch_lab_close(&f);
}

/* A kernel that says so for ever is not believed for ever: it is an error, not an endless loop and
 * not a silent end. */
static void test_read__gives_up_aloud(void **state)
{
	(void)state;
	struct batch_lab f;
	struct batch_walked w = { 0 };
	struct haul_map_cursor cursor = { 0 };
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 1000, 4, HAUL_MAP_BATCH);
	map_lab_fill(&f.lab, 0, 10);
	lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_BATCH, 0, UINT32_MAX, -ENOSPC)->count_set = true;
	assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), -ENOSPC);
	assert_int_equal(cursor.ended, 0);
	assert_int_equal(batch_lab_extra(&f, MAP_C_FAILED), 1);
	batch_lab_close(&f);
}

/* A bucket lock that could not be had, with nothing read: asked again, nothing lost or doubled. */
static void test_read__busy_lock_is_asked_again(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < BATCH_LAB_BUSY; i++) {
		struct batch_lab f;
		struct batch_walked w = { 0 };
		struct haul_map_cursor cursor = { 0 };
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 32, HAUL_MAP_BATCH);
		map_lab_fill(&f.lab, 0, 200);
		lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_BATCH, 2, 3, batch_lab_busy[i])->count_set =
			true;
		assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
		batch_lab_once(&w, 200);
		assert_int_equal(w.retries, 3);
		batch_lab_close(&f);
	}
}

/* The same after a part was read: the part is handed on and the walk goes on behind it. A taken
 * part is in no map any more, so to ask again for all would lose it. */
static void test_read__what_came_before_a_busy_lock_counts(void **state)
{
	(void)state;
	for (uint32_t i = 0; i <= BATCH_LAB_BUSY; i++) {
		for (int take = 0; take <= 1; take++) {
			struct batch_lab f;
			struct batch_walked w = { 0 };
			struct haul_map_cursor cursor = { 0 };
			int cmd = take ? BPF_MAP_LOOKUP_AND_DELETE_BATCH : BPF_MAP_LOOKUP_BATCH;
			batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 64, HAUL_MAP_BATCH);
			map_lab_fill(&f.lab, 0, 200);
			struct lab_fault *fault =
				lab_sys_fault(&f.twin, cmd, 1, 1,
					      i < BATCH_LAB_BUSY ? batch_lab_busy[i] : -ENOMEM);
			fault->partial = true;
			fault->part = 20;
			assert_int_equal(batch_lab_walk(&f, take != 0, &cursor, &w), 0);
			batch_lab_once(&w, 200);
			batch_lab_close(&f);
		}
	}
}

/* A lock that is never to be had ends the call with that error; the cursor stays good. */
static void test_read__busy_for_ever_is_an_error(void **state)
{
	(void)state;
	struct batch_lab f;
	struct batch_walked w = { 0 };
	struct haul_map_cursor cursor = { 0 };
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 32, HAUL_MAP_BATCH);
	map_lab_fill(&f.lab, 0, 200);
	struct lab_fault *fault =
		lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_BATCH, 1, UINT32_MAX, -EBUSY);
	fault->count_set = true;
	assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), -EBUSY);
	assert_true(w.count > 0 && w.count < 200);
	fault->times = 0;
	assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
	batch_lab_once(&w, 200);
	batch_lab_close(&f);
}

/* EINVAL, EPERM and EFAULT leave no count that could be believed: no entries, cursor unchanged. */
static void test_read__count_of_a_refused_call_is_not_believed(void **state)
{
	(void)state;
	static const int codes[] = { -EINVAL, -EPERM, -EFAULT };
	for (uint32_t i = 0; i < 3; i++) {
		struct batch_lab f;
		struct batch_walked w = { 0 };
		struct haul_map_cursor cursor = { 0 };
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 32, HAUL_MAP_BATCH);
		map_lab_fill(&f.lab, 0, 200);
		lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_BATCH, 1, 1, codes[i]);
		assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), codes[i]);
		assert_int_equal(w.batches, 1);
		assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
		batch_lab_once(&w, 200);
		batch_lab_close(&f);
	}
}

/* A kernel without the call (524): one by one, and that is counted; asked for batch only: said. */
static void test_read__kernel_without_the_call(void **state)
{
	(void)state;
	for (int forced = 0; forced <= 1; forced++) {
		struct batch_lab f;
		struct batch_walked w = { 0 };
		struct haul_map_cursor cursor = { 0 };
		batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 32,
			       forced ? HAUL_MAP_BATCH : HAUL_MAP_AUTO);
		map_lab_fill(&f.lab, 0, 200);
		lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_BATCH, 0, UINT32_MAX, -EOPNOTSUPP);
		assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), forced ? -ENOTSUP : 0);
		batch_lab_once(&w, forced ? 0 : 200);
		assert_true(forced || batch_lab_extra(&f, MAP_C_FALLBACKS) >= 1);
		batch_lab_close(&f);
	}
}

/* ---- the size of a batch ---- */

/* A kernel in which an entry takes so long. */
struct slow {
	struct bpf_sys sys;
	struct os_sim os;
	int64_t entry_ns;
	uint32_t asked_last;
};

static int slow_call(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	struct slow *slow = (struct slow *)sys;
	if (cmd == BPF_MAP_LOOKUP_BATCH)
		slow->asked_last = attr->batch.count;
	int rc = bpf_sys_linux()->call(bpf_sys_linux(), cmd, attr);
	if (cmd == BPF_MAP_LOOKUP_BATCH)
		os_sim_advance(&slow->os, slow->entry_ns * attr->batch.count);
	return rc;
}

/* The batch grows while a call is short and shrinks when it takes longer than it may. */
static void test_read__batch_keeps_to_the_latency_budget(void **state)
{
	(void)state;
	enum { ENTRIES = 40000 };
	struct lab_map lab;
	struct slow slow = { .sys = { .call = slow_call } };
	struct haul_map *map;
	struct haul_err err;
	os_sim_init(&slow.os, 1);
	map_lab_open(&lab,
		     (struct haul_map_spec){ .type = BPF_MAP_TYPE_ARRAY, .max_entries = ENTRIES },
		     NULL);
	assert_int_equal(map_open_with(&map, haul_map_fd(lab.map), NULL, &slow.sys, &err), 0);
	map->os = &slow.os.os;
	static const int64_t entry_ns[] = { 5, 250, 4000, 100000, 50 };
	for (uint32_t i = 0; i < 5; i++) {
		struct haul_map_batch batch;
		struct haul_map_result result;
		slow.entry_ns = entry_ns[i];
		for (uint32_t walks = 0; walks < 3; walks++) {
			struct haul_map_cursor cursor = { 0 };
			for (uint32_t calls = 0; calls < 200; calls++) {
				int rc = haul_map_read(map, &cursor, &batch, &result);
				assert_true(rc >= 0);
				if (rc == 0)
					break;
			}
		}
		int64_t call_ns = slow.asked_last * entry_ns[i];
		assert_true(call_ns <= HAUL_MAP_CALL_MAX_NS || slow.asked_last <= 16);
		/* At least an eighth of the budget is used, where there are entries for it. */
		assert_true(call_ns >= HAUL_MAP_CALL_MAX_NS / 8 || slow.asked_last >= ENTRIES / 4);
	}
	haul_map_close(map);
	map_lab_close(&lab);
}

/* A batch size that was asked for is kept to. */
static void test_read__fixed_batch(void **state)
{
	(void)state;
	struct batch_lab f;
	struct batch_walked w = { 0 };
	struct haul_map_cursor cursor = { 0 };
	batch_lab_open(&f, BPF_MAP_TYPE_ARRAY, 300, 25, HAUL_MAP_AUTO);
	assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
	assert_int_equal(w.count, 300);
	for (uint32_t i = 0; i < f.twin.size_count; i++)
		assert_int_equal(f.twin.sizes[i], 25);
	batch_lab_close(&f);
}

/* ---- cursors ---- */

/* A cursor is of one map, one engine and within it; anything else is refused, not walked. */
static void test_cursor__of_another_walk_is_refused(void **state)
{
	(void)state;
	struct batch_lab f;
	struct haul_map_batch batch;
	struct haul_map_result result;
	struct haul_map_cursor cursor = { 0 };
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 16, HAUL_MAP_BATCH);
	map_lab_fill(&f.lab, 0, 200);
	assert_true(haul_map_read(f.map, &cursor, &batch, &result) > 0);
	const struct haul_map_cursor good = cursor;

	cursor.map_id++;
	assert_int_equal(haul_map_read(f.map, &cursor, &batch, &result), -EINVAL);
	cursor = good;
	cursor.bytes = 8; /* a key */
	assert_int_equal(haul_map_read(f.map, &cursor, &batch, &result), -EINVAL);
	cursor.bytes = UINT32_MAX;
	assert_int_equal(haul_map_read(f.map, &cursor, &batch, &result), -EINVAL);
	cursor = good;
	memset(cursor.data, 0xff, 4); /* the kernel would say: the end */
	struct haul_map_cursor before = cursor;
	assert_int_equal(haul_map_read(f.map, &cursor, &batch, &result), -EINVAL);
	assert_memory_equal(&cursor, &before, sizeof cursor);

	cursor = good;
	assert_true(haul_map_read(f.map, &cursor, &batch, &result) > 0);
	batch_lab_close(&f);
}

/* Keys of four bytes look like bucket numbers: engines still tell their cursors apart, and AUTO
 * goes on with whichever began. */
static void test_cursor__of_four_byte_keys(void **state)
{
	(void)state;
	const struct haul_map_options single = { .engine = HAUL_MAP_SINGLE, .batch = 16 };
	const struct haul_map_options automatic = { .batch = 16 };
	struct batch_lab f;
	struct haul_map_batch batch;
	struct haul_map_result result;
	struct haul_map_cursor cursor = { 0 };
	map_lab_open(&f.lab,
		     (struct haul_map_spec){
			     .type = BPF_MAP_TYPE_HASH, .key_size = 4, .max_entries = 256 },
		     NULL);
	map_lab_fill(&f.lab, 0, 200);
	f.map = map_lab_again(&f.lab, &single, NULL);
	assert_int_equal(haul_map_read(f.map, &cursor, &batch, &result), 16);
	haul_map_close(f.map);

	struct haul_map *map = map_lab_again(&f.lab, &automatic, NULL);
	uint32_t count = 16;
	int rc;
	while ((rc = haul_map_read(map, &cursor, &batch, &result)) > 0) {
		assert_int_equal(result.engine, HAUL_MAP_SINGLE);
		count += batch.count;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(count, 200);
	haul_map_close(map);
	map_lab_close(&f.lab);
}

/* The longest keys there are leave no room beside them in a cursor. */
static void test_cursor__of_the_longest_keys(void **state)
{
	(void)state;
	for (int engine = HAUL_MAP_SINGLE; engine <= HAUL_MAP_BATCH; engine++) {
		const struct haul_map_options options = { .engine = (enum haul_map_engine)engine,
							  .batch = 16 };
		struct batch_lab f;
		struct batch_walked w = { 0 };
		struct haul_map_cursor cursor = { 0 };
		map_lab_open(&f.lab,
			     (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH,
						     .key_size = HAUL_MAP_KEY_MAX,
						     .max_entries = 256 },
			     NULL);
		map_lab_fill(&f.lab, 0, 100);
		f.map = map_lab_again(&f.lab, &options, NULL);
		assert_int_equal(batch_lab_walk(&f, false, &cursor, &w), 0);
		batch_lab_once(&w, 100);
		haul_map_close(f.map);
		map_lab_close(&f.lab);
	}
}

/* One by one, the key under the cursor vanishes, or a call fails: what was read is handed on. */
static void test_single__survives_faults_on_its_way(void **state)
{
	(void)state;
	struct batch_lab f;
	struct batch_walked w = { 0 };
	struct haul_map_cursor cursor = { 0 };
	batch_lab_open(&f, BPF_MAP_TYPE_HASH, 256, 16, HAUL_MAP_SINGLE);
	map_lab_fill(&f.lab, 0, 100);
	lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_ELEM, 20, 1, -EIO);
	lab_sys_fault(&f.twin, BPF_MAP_GET_NEXT_KEY, 40, 1, -EIO);
	lab_sys_fault(&f.twin, BPF_MAP_LOOKUP_ELEM, 60, 3, -EINTR);
	int rc;
	uint32_t failures = 0;
	while ((rc = batch_lab_walk(&f, false, &cursor, &w)) != 0 && failures < 5) {
		assert_int_equal(rc, -EIO);
		failures++;
	}
	batch_lab_once(&w, 100);
	batch_lab_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read__end_comes_with_entries),
		cmocka_unit_test(test_read__empty_map),
		cmocka_unit_test(test_read__short_batches),
		cmocka_unit_test(test_read__bucket_larger_than_a_batch),
		cmocka_unit_test(test_read__buffers_grow_to_the_largest_bucket),
		cmocka_unit_test(test_read__gives_up_aloud),
		cmocka_unit_test(test_read__busy_lock_is_asked_again),
		cmocka_unit_test(test_read__what_came_before_a_busy_lock_counts),
		cmocka_unit_test(test_read__busy_for_ever_is_an_error),
		cmocka_unit_test(test_read__count_of_a_refused_call_is_not_believed),
		cmocka_unit_test(test_read__kernel_without_the_call),
		cmocka_unit_test(test_read__batch_keeps_to_the_latency_budget),
		cmocka_unit_test(test_read__fixed_batch),
		cmocka_unit_test(test_cursor__of_another_walk_is_refused),
		cmocka_unit_test(test_cursor__of_four_byte_keys),
		cmocka_unit_test(test_cursor__of_the_longest_keys),
		cmocka_unit_test(test_single__survives_faults_on_its_way),
	};
	map_lab_need();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
