/* The power is cut at every single step that a small workload takes on the disk, in every way a cut
 * can leave it, and again at every step of a recovery. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph_expect.h"
#include "store_lab.h"

/* Under a sanitizer, which is slow at taking memory, not every step. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STRIDE = 17 };
#else
enum { STRIDE = 1 };
#endif

enum {
	SEED = 20,
	FRAMES = 30,

	SETTLE_EVERY = 3,
	HANDED_MAX = FRAMES + 4
};

struct crash {
	struct store_lab lab;
	struct graph_model model; /* after the frames that are there */
	struct model_frame frame[HANDED_MAX];
	uint64_t acknowledged, handed;
};

/* The same frames every time. */
static void frames_make(struct crash *crash)
{
	struct graph_model *model = calloc(1, sizeof *model);
	int32_t statuses[MODEL_FRAME];
	struct prng prng;

	assert_non_null(model);
	prng_init(&prng, SEED);
	for (uint32_t i = 0; i < FRAMES; i++) {
		struct model_frame *frame = &crash->frame[i];
		model_frame_random(frame, model, &prng);
		while (frame->count < MODEL_FRAME) { /* long ones */
			struct model_frame more;
			model_frame_random(&more, model, &prng);
			for (uint32_t k = 0; k < more.count && frame->count < MODEL_FRAME; k++) {
				frame->change[frame->count] = more.change[k];
				frame->change[frame->count++].group += i + 100;
			}
		}
		for (uint32_t k = 0; k < MODEL_FRAME; k++) {
			struct model_property *motto = &frame->change[k].properties[1];
			if (motto->given && (motto->type == HAUL_TEXT || motto->type == HAUL_BYTES))
				motto->bytes = MODEL_BYTES_MAX - 1;
		}
		model_apply(model, frame, i + 1, statuses);
	}
	free(model);
}

/* As far as the disk goes. Ends with the store open, closed, or given up. */
static void workload(struct crash *crash)
{
	struct store_lab *lab = &crash->lab;

	crash->acknowledged = crash->handed = 0;
	if (store_lab_open(lab) < 0)
		return;
	for (uint32_t i = 0; i < FRAMES; i++) {
		model_frame_put(&crash->frame[i], lab->changes);
		crash->handed++;
		if (store_lab_commit(lab) < 0)
			return;
		crash->acknowledged++;
		if (i % SETTLE_EVERY == 0 && store_lab_settle(lab) < 0)
			return;
	}
	(void)store_lab_close(lab);
}

static void crash_init(struct crash *crash)
{
	store_lab_init(&crash->lab, SEED);
	crash->lab.options.memtable_bytes = 12 << 10;
}

/* What is there is what the model is after the last frame that is there. */
static void expect_whole(struct crash *crash)
{
	struct store_lab *lab = &crash->lab;
	struct haul_store_status status;
	struct haul_reader *reader;
	int32_t statuses[MODEL_FRAME];

	haul_store_status(lab->store, &status);
	assert_in_range(status.op_last, crash->acknowledged, crash->handed);
	memset(&crash->model, 0, sizeof crash->model);
	for (uint64_t op = 1; op <= status.op_last; op++)
		model_apply(&crash->model, &crash->frame[op - 1], op, statuses);
	assert_int_equal(haul_store_reader(lab->store, 0, &reader), 0);
	model_expect(&crash->model, reader, &lab->prng);
	haul_reader_close(reader);
}

static void open_whole(struct crash *crash)
{
	struct store_lab *lab = &crash->lab;

	if (store_lab_open(lab) < 0)
		fail_msg("open: %s", lab->err.text);
	expect_whole(crash);
}

static uint64_t workload_steps(struct crash *crash)
{
	crash_init(crash);
	const uint64_t before = vfs_sim_steps(crash->lab.disk);
	workload(crash);
	assert_int_equal(crash->acknowledged, FRAMES);
	assert_null(crash->lab.store);
	const uint64_t steps = vfs_sim_steps(crash->lab.disk) - before;
	open_whole(crash);
	struct haul_store_status status;
	haul_store_status(crash->lab.store, &status);
	assert_true(status.op_checkpoint == FRAMES && status.level[1].tables > 0);
	store_lab_done(&crash->lab);
	return steps;
}

static void cut_at(struct crash *crash, uint64_t step, enum vfs_sim_crash how)
{
	crash_init(crash);
	vfs_sim_stop_after(crash->lab.disk, step);
	workload(crash);
	store_lab_crash(&crash->lab, how);
}

/* Every step, every kind of cut: acknowledged frames are there, the others whole or not at all. */
static void test_store_crash__every_step_of_a_workload(void **state)
{
	struct crash *crash = calloc(1, sizeof *crash);

	(void)state;
	assert_non_null(crash);
	frames_make(crash);
	const uint64_t steps = workload_steps(crash);
	assert_in_range(steps, 60, 5000);
	for (uint64_t step = 0; step < steps; step += STRIDE) {
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			cut_at(crash, step, (enum vfs_sim_crash)how);
			open_whole(crash);
			store_lab_done(&crash->lab);
		}
	}
	free(crash);
}

/* After a cut the recovery is cut at each of its own steps, and the one after that succeeds. */
static void test_store_crash__every_step_of_recovery(void **state)
{
	enum { CUTS = 12, RECOVERY_MAX = 400 };
	struct crash *crash = calloc(1, sizeof *crash);

	(void)state;
	assert_non_null(crash);
	frames_make(crash);
	const uint64_t steps = workload_steps(crash);
	for (uint64_t cut = 0; cut < CUTS; cut += (STRIDE + 3) / 4) {
		bool all = false;
		for (uint64_t step = 0; !all; step++) {
			assert_true(step < RECOVERY_MAX);
			const enum vfs_sim_crash how =
				(enum vfs_sim_crash)((cut + step) % VFS_SIM_CRASHES);
			cut_at(crash, steps * (2 * cut + 1) / (2 * CUTS), VFS_SIM_TORN);
			vfs_sim_stop_after(crash->lab.disk, step);
			all = store_lab_open(&crash->lab) == 0 && !vfs_sim_stopped(crash->lab.disk);
			store_lab_crash(&crash->lab, how);
			open_whole(crash);
			/* and it goes on from there */
			assert_int_equal(lab_node(&crash->lab, 1000, 0, NULL, "after"), 0);
			assert_int_equal(store_lab_commit(&crash->lab), 0);
			store_lab_crash(&crash->lab, VFS_SIM_LOSE_ALL);
			assert_int_equal(store_lab_open(&crash->lab), 0);
			assert_true(lab_has(&crash->lab, 1000, "after"));
			store_lab_done(&crash->lab);
		}
	}
	free(crash);
}

/* A store that was being made when the power went is there and empty, or can be made. */
static void test_store_crash__every_step_of_making(void **state)
{
	enum { MAKING_MAX = 200 };
	struct store_lab *lab = calloc(1, sizeof *lab);
	bool all = false;

	(void)state;
	assert_non_null(lab);
	for (uint64_t step = 0; !all; step++) {
		assert_true(step < MAKING_MAX);
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			store_lab_init_empty(lab, SEED);
			vfs_sim_stop_after(lab->disk, step);
			all = store_lab_make(lab) == 0 && !vfs_sim_stopped(lab->disk);
			store_lab_crash(lab, (enum vfs_sim_crash)how);
			int rc = store_lab_open(lab);
			if (rc == -ENOENT) {
				if (store_lab_make(lab) < 0)
					fail_msg("make: %s", lab->err.text);
				rc = store_lab_open(lab);
			}
			if (rc < 0)
				fail_msg("open after step %llu: %s", (unsigned long long)step,
					 lab->err.text);
			assert_int_equal(lab_count_nodes(lab), 0);
			store_lab_done(lab);
		}
	}
	free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_crash__every_step_of_a_workload),
		cmocka_unit_test(test_store_crash__every_step_of_recovery),
		cmocka_unit_test(test_store_crash__every_step_of_making),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
