#include <errno.h>

#include "store/lsm_lab.h"

enum { FRAMES = 30, KEYS = 60, AGAIN_STEPS = 12 };

/* What was promised, and what was about to be, when the power went. */
struct promise {
	uint64_t checkpoint; /* op of the root that was told */
	uint64_t frozen;     /* op of the one that may have got there; 0 = none */
};

/* Rows of two trees; keys are written again and deleted. */
static int frame_put(struct lsm_lab *lab, uint32_t number)
{
	for (uint32_t i = 0; i < 10; i++) {
		uint32_t k = (number * 17 + i * 7) % KEYS;
		bool deleted = (number + i) % 5 == 0;
		lsm_lab_put(lab, TREE_NODE, k, 30 + i, deleted);
		lsm_lab_put(lab, TREE_OUT, k, 20, deleted);
	}
	int rc = lsm_lab_frame(lab);
	if (rc == 0)
		lsm_lab_publish(lab, lab->place.op);
	return rc;
}

static struct promise promise_of(struct lsm_lab *lab)
{
	struct lsm_view *view = lsm_view_current(lab->lsm);
	struct promise promise = { .checkpoint = view->place.op };
	if (view->frozen)
		promise.frozen = view->frozen->place.op;
	lsm_view_drop(lab->lsm, view);
	return promise;
}

/* Frames and steps until all is done or the power goes. */
static int play(struct lsm_lab *lab, struct promise *promise)
{
	int rc = 0;
	for (uint32_t i = 0; i < FRAMES && rc >= 0; i++) {
		rc = frame_put(lab, i);
		for (uint32_t k = 0; k < i % 3 && rc >= 0; k++)
			rc = lsm_step(lab->lsm, lab->published);
		*promise = promise_of(lab);
	}
	if (rc >= 0)
		rc = lsm_lab_flush(lab);
	*promise = promise_of(lab);
	return rc;
}

static void check_reopened(struct lsm_lab *lab, const struct promise *promise)
{
	uint64_t op = lsm_checkpoint(lab->lsm).op;
	assert_true(op == promise->checkpoint || (promise->frozen && op == promise->frozen));
	struct lsm_view *view = lsm_view_take(lab->lsm, &op);
	lsm_lab_check(lab, view, op);
	lsm_view_drop(lab->lsm, view);
	lsm_lab_check_blobs(lab);
}

/* Opens, perhaps with the power going once more meanwhile. */
static void reopen(struct lsm_lab *lab, enum vfs_sim_crash how)
{
	if (prng_below(&lab->prng, 3) == 0) {
		vfs_sim_stop_after(lab->sim, prng_below(&lab->prng, AGAIN_STEPS));
		if (lsm_lab_open(lab) == 0)
			lsm_lab_close(lab);
		vfs_sim_crash(lab->sim, how, &lab->prng);
		vfs_sim_stop_after(lab->sim, UINT64_MAX);
	}
	assert_int_equal(lsm_lab_open(lab), 0);
}

static void crash_at(uint64_t stop, enum vfs_sim_crash how)
{
	struct promise promise;
	struct lsm_lab *lab = lsm_lab_new(stop * VFS_SIM_CRASHES + (uint64_t)how);
	lab->options.level_factor = 2;
	assert_int_equal(lsm_lab_open(lab), 0);
	vfs_sim_stop_after(lab->sim, stop);
	(void)play(lab, &promise); /* deleting what is replaced may go wrong unnoticed */
	assert_true(vfs_sim_stopped(lab->sim));
	lsm_lab_close(lab);
	vfs_sim_crash(lab->sim, how, &lab->prng);
	vfs_sim_stop_after(lab->sim, UINT64_MAX);
	reopen(lab, how);
	check_reopened(lab, &promise);
	lsm_lab_replay(lab);
	lsm_lab_check_executor(lab);
	assert_int_equal(lsm_lab_flush(lab), 0);
	lsm_lab_check_executor(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_free(lab);
}

static uint64_t steps_of_play(void)
{
	struct promise promise;
	struct lsm_lab *lab = lsm_lab_new(1);
	lab->options.level_factor = 2;
	assert_int_equal(lsm_lab_open(lab), 0);
	uint64_t before = vfs_sim_steps(lab->sim);
	assert_int_equal(play(lab, &promise), 0);
	uint64_t steps = vfs_sim_steps(lab->sim) - before;
	assert_int_equal(promise.checkpoint, FRAMES);
	assert_true(lab->lsm->flushes >= 3 && lab->lsm->merges >= 3);
	lsm_lab_free(lab);
	return steps;
}

/* After a power cut at any step of a flush or a merge a store would open as a mixture of two
 * checkpoints, or as one that was never promised, or not at all. */
static void test_lsm_crash__any_step_leaves_a_checkpoint(void **state)
{
	(void)state;
	uint64_t steps = steps_of_play();
	assert_true(steps > 100);
	for (uint64_t stop = 0; stop < steps; stop++) {
		for (uint32_t how = 0; how < VFS_SIM_CRASHES; how++)
			crash_at(stop, (enum vfs_sim_crash)how);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsm_crash__any_step_leaves_a_checkpoint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
