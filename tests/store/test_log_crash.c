/* Every crash point of a log: appends of one record and of several, over the ends of segments, with
 * segments made ahead and used again, checkpoints and marks. At each step of the disk the power is
 * cut, in each of the ways a simulated disk knows. What log_write said is durable has to be there,
 * what is replayed has to be a prefix of what was put, and what a recovery has relied on has to
 * stay, also when the power is cut again while it runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log_lab.h"

enum { TURNS = 28, RECORDS_AFTER = 3, AGAIN_MAX = 3 };

struct trial {
	struct log_lab lab;
	struct prng prng;   /* of the workload: the same at every point */
	struct prng chance; /* of the crashes */
	uint64_t root_version;
	struct log_place kept, tried; /* what the root was told to be, before and now */
	uint64_t acknowledged;
	uint64_t put;
};

/* ---- the workload ---- */

/* The root as the store keeps it: only what is durable may be in it. */
static int checkpoint(struct trial *trial)
{
	struct log_lab *lab = &trial->lab;
	int rc;

	trial->tried = log_place(lab->log);
	assert_int_equal(trial->tried.op, lab->durable);
	rc = MEDIA_CALL(lab->media, root_cas, trial->root_version, &trial->tried,
			sizeof trial->tried);
	if (rc < 0)
		return rc;
	trial->root_version++;
	trial->kept = trial->tried;
	lab->place = trial->kept;
	return MEDIA_CALL(lab->media, log_trim, trial->kept.position);
}

static int turn(struct trial *trial)
{
	struct log_lab *lab = &trial->lab;
	uint32_t records = 1 + prng_below(&trial->prng, 3);
	uint32_t what = prng_below(&trial->prng, 6);
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < records; i++) {
		rc = log_lab_put(lab);
		trial->put += rc == 0;
	}
	if (rc == 0)
		rc = log_lab_write(lab);
	if (rc < 0)
		return rc;
	trial->acknowledged = lab->durable;
	if (what == 0)
		return log_mark(lab->log);
	if (what == 1)
		return checkpoint(trial);
	return what == 2 ? log_reserve_ahead(lab->log) : 0;
}

static int run(struct trial *trial)
{
	int rc = 0;

	for (uint32_t i = 0; rc >= 0 && i < TURNS; i++)
		rc = turn(trial);
	return rc;
}

static void trial_open(struct trial *trial, uint64_t seed)
{
	memset(trial, 0, sizeof *trial);
	prng_init(&trial->prng, seed);
	prng_init(&trial->chance, seed + 1);
	log_lab_init(&trial->lab, seed);
	/* From zero to LOG_LAB_OPS: which records there are follows from the seed. */
	for (uint32_t op = 0; op < LOG_LAB_OPS; op++)
		trial->lab.history[op] = (uint32_t)seed * 1000;
}

/* ---- recovery ---- */

static void root_load(struct trial *trial)
{
	struct log_lab *lab = &trial->lab;
	struct log_place place = { 0 };
	size_t bytes = sizeof place;
	int rc = MEDIA_CALL(lab->media, root_get, &trial->root_version, &place, &bytes);

	assert_true(rc == 0 || (rc == -ENOENT && trial->kept.op == 0));
	/* The one before, or the one that was being written. */
	assert_true(memcmp(&place, &trial->kept, sizeof place) == 0 ||
		    memcmp(&place, &trial->tried, sizeof place) == 0);
	trial->kept = trial->tried = lab->place = place;
}

/* 0 or -EIO: the power was cut again. */
static int recover(struct trial *trial)
{
	struct log_lab *lab = &trial->lab;
	int rc;

	log_lab_abandon(lab);
	rc = log_lab_media(lab, MEDIA_WRITE);
	if (rc < 0)
		return rc;
	root_load(trial);
	rc = log_lab_open(lab);
	if (rc < 0)
		return rc;
	assert_true(rc == LOG_END || rc == LOG_TORN);
	assert_false(lab->wrong);
	assert_true(lab->told >= trial->acknowledged);
	assert_true(lab->told <= trial->put);
	return 0;
}

static void crash(struct trial *trial, enum vfs_sim_crash how)
{
	vfs_sim_crash(trial->lab.disk, how, &trial->chance);
}

static enum vfs_sim_crash any_crash(struct trial *trial)
{
	return (enum vfs_sim_crash)prng_below(&trial->chance, VFS_SIM_CRASHES);
}

/* What a recovery that ended has relied on is acknowledged; ops behind it will be others. */
static void rely(struct trial *trial)
{
	struct log_lab *lab = &trial->lab;

	for (uint64_t op = lab->told + 1; op <= trial->put; op++)
		lab->history[op]++;
	trial->acknowledged = trial->put = lab->told;
}

/* Go on, and be cut off for good. */
static void go_on(struct trial *trial)
{
	struct log_lab *lab = &trial->lab;

	rely(trial);
	crash(trial, VFS_SIM_LOSE_ALL);
	assert_int_equal(recover(trial), 0);
	assert_int_equal(lab->told, trial->acknowledged);
	for (uint32_t i = 0; i < RECORDS_AFTER; i++) {
		log_lab_append(lab, 1);
		trial->put++;
		trial->acknowledged++;
	}
	crash(trial, any_crash(trial));
	assert_int_equal(recover(trial), 0);
	assert_int_equal(lab->told, trial->acknowledged);
}

/* Cut off at `point` of the workload, and then `again` steps into each of some recoveries. Returns
 * whether the workload was cut off at all. */
static bool trial_at(uint64_t seed, uint64_t point, enum vfs_sim_crash how, uint64_t again)
{
	static struct trial trial;
	bool cut;

	trial_open(&trial, seed);
	vfs_sim_stop_after(trial.lab.disk, point);
	cut = run(&trial) < 0;
	assert_true(cut == vfs_sim_stopped(trial.lab.disk));
	crash(&trial, how);
	for (uint32_t i = 0; i < AGAIN_MAX && again < UINT64_MAX; i++) {
		vfs_sim_stop_after(trial.lab.disk, again + i);
		if (recover(&trial) == 0) {
			rely(&trial);
			vfs_sim_stop_after(trial.lab.disk, UINT64_MAX);
			break;
		}
		crash(&trial, any_crash(&trial));
	}
	assert_int_equal(recover(&trial), 0);
	go_on(&trial);
	log_lab_done(&trial.lab);
	return cut;
}

static uint64_t seed_now(void)
{
	struct prng prng;

	test_prng(&prng);
	return prng_next(&prng) & 0xffff;
}

/* The power cut at every step, in all five ways. */
static void test_log_crash__every_point(void **state)
{
	uint64_t seed = seed_now();
	uint64_t point = 0;
	bool cut = true;

	(void)state;
	for (; cut; point++) {
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			cut = trial_at(seed, point, (enum vfs_sim_crash)how, UINT64_MAX);
			trial_at(seed, point, (enum vfs_sim_crash)how, point % 13);
		}
	}
	/* Or else there was nothing to cut. */
	assert_true(point > TURNS);
	print_message("points: %d\n", (int)point);
}

/* The power cut at every step of recoveries, too, of some points. */
static void test_log_crash__every_point_of_recovery(void **state)
{
	uint64_t seed = seed_now();
	struct prng prng;

	(void)state;
	prng_init(&prng, seed);
	for (uint32_t trial = 0; trial < 12; trial++) {
		uint64_t point = prng_below(&prng, 2 * TURNS);

		for (uint64_t again = 0; again < 24; again++)
			for (int how = 0; how < VFS_SIM_CRASHES; how++)
				trial_at(seed + trial, point, (enum vfs_sim_crash)how, again);
	}
}

/* Many workloads, each cut off somewhere. */
static void test_log_crash__many_workloads(void **state)
{
	uint64_t seed = seed_now();
	struct prng prng;

	(void)state;
	prng_init(&prng, seed);
	for (uint32_t trial = 0; trial < 600; trial++)
		trial_at(seed + trial, prng_below(&prng, 3 * TURNS),
			 (enum vfs_sim_crash)prng_below(&prng, VFS_SIM_CRASHES),
			 prng_below(&prng, 20));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log_crash__every_point),
		cmocka_unit_test(test_log_crash__every_point_of_recovery),
		cmocka_unit_test(test_log_crash__many_workloads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
