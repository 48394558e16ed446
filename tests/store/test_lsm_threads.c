#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "store/folder_lab.h"
#include "store/lsm_lab.h"

enum { READERS = 2, FRAMES = 400, GROUP = 32, FRAMES_OF_KEY = 6 };

/* A frame of op n puts GROUP keys of its own and deletes those of the frame FRAMES_OF_KEY before:
 * so at every op a reader finds exactly the keys of the last FRAMES_OF_KEY frames. */
struct shared {
	struct lsm_lab lab;
	bool done;        /* atomic */
	uint64_t durable; /* atomic */
	int error;        /* atomic: the first of anybody */
};

static void note(struct shared *shared, int error)
{
	int none = 0;
	(void)__atomic_compare_exchange_n(&shared->error, &none, error, false, __ATOMIC_RELAXED,
					  __ATOMIC_RELAXED);
}

static bool done(struct shared *shared)
{
	return __atomic_load_n(&shared->done, __ATOMIC_ACQUIRE);
}

static struct tree_key key_of(uint64_t op, uint32_t i)
{
	return (struct tree_key){ .word = { hash_u64(op * GROUP + i), i } };
}

static int frame_put(struct shared *shared, uint64_t op)
{
	struct lsm *lsm = shared->lab.lsm;
	for (uint32_t i = 0; i < GROUP; i++) {
		struct tree_key key = key_of(op, i);
		struct tree_row row = { .value = (const uint8_t *)&op, .bytes = sizeof op };
		int rc = lsm_put(lsm, TREE_NAME, &key, op, &row);
		if (rc == 0 && op > FRAMES_OF_KEY) {
			key = key_of(op - FRAMES_OF_KEY, i);
			row = (struct tree_row){ .deleted = true };
			rc = lsm_put(lsm, TREE_NAME, &key, op, &row);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void *write_all(void *arg)
{
	struct shared *shared = arg;
	struct lsm *lsm = shared->lab.lsm;
	struct log_place place = { .op = 0 };
	struct table_ask asks[GROUP];
	struct arena arena = { .data = malloc(1 << 20), .bytes = 1 << 20 };
	for (uint64_t op = 1; op <= FRAMES && arena.data; op++) {
		arena.used = 0;
		for (uint32_t i = 0; i < GROUP; i++)
			asks[i] = (struct table_ask){ .key = key_of(op > 3 ? op - 3 : op, i) };
		int rc = lsm_find(lsm, TREE_NAME, asks, GROUP, &arena);
		for (uint32_t i = 0; i < GROUP && rc == 0; i++)
			rc = asks[i].row.op == (op > 3 ? op - 3 : 0) ? 0 : -ERANGE;
		if (rc == 0)
			rc = frame_put(shared, op);
		place.op = op;
		place.position += 4096;
		__atomic_store_n(&shared->durable, op, __ATOMIC_RELEASE);
		lsm_publish(lsm, op);
		while (rc == 0 && (rc = lsm_ready(lsm, &place)) == -EAGAIN)
			rc = 0;
		(void)lsm_throttle_ns(lsm);
		if (rc < 0) {
			note(shared, rc);
			break;
		}
	}
	free(arena.data);
	__atomic_store_n(&shared->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *step_all(void *arg)
{
	struct shared *shared = arg;
	int rc = 0;
	while (!done(shared) && rc >= 0)
		rc = lsm_step(shared->lab.lsm, __atomic_load_n(&shared->durable, __ATOMIC_ACQUIRE));
	if (rc < 0)
		note(shared, rc);
	return NULL;
}

static int check_walk(struct lsm_view *view, uint64_t op)
{
	struct lsm_walk_options options = { .tree = TREE_NAME, .op_max = op };
	options.to.word[0] = options.to.word[1] = UINT64_MAX;
	struct lsm_walk *walk;
	int rc = lsm_walk_open(&walk, view, &options);
	if (rc < 0)
		return rc;
	uint64_t count = 0;
	struct rows rows;
	while ((rc = lsm_walk_next(walk, &rows)) == 1)
		count += rows.count;
	lsm_walk_close(walk);
	uint64_t frames = op < FRAMES_OF_KEY ? op : FRAMES_OF_KEY;
	return rc < 0 ? rc : count == frames * GROUP ? 0 : -ERANGE;
}

static int check_view(struct lsm_view *view, uint64_t op, struct lsm_scratch *scratch,
		      struct arena *arena)
{
	struct table_ask asks[GROUP];
	arena->used = 0;
	for (uint32_t i = 0; i < GROUP; i++)
		asks[i] = (struct table_ask){ .key = key_of(op - i % 8, i), .op_max = op };
	lsm_get(view, TREE_NAME, asks, GROUP, lsm_into(scratch, arena));
	for (uint32_t i = 0; i < GROUP; i++) {
		bool there = asks[i].row.op != 0 && !asks[i].row.deleted;
		bool should = i % 8 < FRAMES_OF_KEY && op - i % 8 >= 1 && op - i % 8 <= op;
		if (asks[i].status < 0)
			return asks[i].status;
		if (there != should)
			return -ERANGE;
	}
	return 0;
}

static void *read_all(void *arg)
{
	struct shared *shared = arg;
	struct lsm *lsm = shared->lab.lsm;
	struct lsm_scratch *scratch = NULL;
	struct arena arena = { .data = malloc(1 << 20), .bytes = 1 << 20 };
	uint64_t op, pin;
	int rc = arena.data ? lsm_scratch_new(&scratch, GROUP) : -ENOMEM;
	while (!done(shared) && rc == 0) {
		rc = lsm_pin(lsm, &pin);
		struct lsm_view *view = lsm_view_take(lsm, &op);
		if (rc == 0 && op >= 8)
			rc = check_view(view, op, scratch, &arena);
		if (rc == 0)
			rc = check_walk(view, op);
		lsm_view_drop(lsm, view);
		view = lsm_view_take(lsm, &op);
		if (rc == 0)
			rc = check_walk(view, pin);
		lsm_view_drop(lsm, view);
		lsm_unpin(lsm, pin);
		struct haul_store_status status = { .op_last = 0 };
		lsm_status(lsm, &status);
		(void)lsm_busy(lsm);
	}
	if (rc < 0)
		note(shared, rc);
	lsm_scratch_free(scratch);
	free(arena.data);
	return NULL;
}

/* A reader beside writer and background would see a frame that is not whole, or one that is gone;
 * under the thread sanitizer, unprotected sharing. */
static void test_lsm_threads__readers_see_whole_frames(void **state)
{
	(void)state;
	struct shared *shared = calloc(1, sizeof *shared);
	assert_non_null(shared);
	struct folder_lab folder;
	folder_lab_open(&folder);
	lsm_lab_init_in(&shared->lab, folder.path);
	assert_int_equal(lsm_lab_open(&shared->lab), 0);
	pthread_t writer, stepper, readers[READERS];
	assert_int_equal(pthread_create(&stepper, NULL, step_all, shared), 0);
	for (uint32_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, read_all, shared), 0);
	assert_int_equal(pthread_create(&writer, NULL, write_all, shared), 0);
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_int_equal(pthread_join(stepper, NULL), 0);
	for (uint32_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_join(readers[i], NULL), 0);
	assert_int_equal(shared->error, 0);
	assert_true(shared->lab.lsm->flushes > 2 && shared->lab.lsm->merges > 0);
	lsm_lab_done(&shared->lab);
	free(shared);
	folder_lab_close(&folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsm_threads__readers_see_whole_frames),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
