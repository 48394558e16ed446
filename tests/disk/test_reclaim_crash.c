#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/cache.h>
#include "disk/reclaim_state.h"
#include "lib/testlib.h"
#include "shard_lab.h"

enum { SEGMENT = 65536, KEYS = 48, FILLERS = 400, TRIALS = 24, CRASHES = 12, STEPS = 220 };

/* What is promised of each key: no version below floor is ever seen again. */
struct trial {
	struct shard_lab lab;
	struct prng prng;
	uint64_t last[KEYS + FILLERS];  /* version that was stored last */
	uint64_t floor[KEYS + FILLERS]; /* of the last event that is durable */
	uint64_t event[KEYS + FILLERS]; /* floor, when all that was done is durable */
	uint64_t evicted, reclaimed;
};

static void open_trial(struct trial *trial, enum haul_cache_policy policy, uint64_t seed)
{
	*trial = (struct trial){ .evicted = 0 };
	prng_init(&trial->prng, seed);
	trial->lab.options.policy = policy;
	trial->lab.options.limits = (struct haul_limits){
		.ops_max = 8, .bytes_max = 40000, .wait_max_ns = 2 * NS_PER_MS, .ops_start = 8
	};
	trial->lab.options.buffer_bytes = 1 << 20;
	trial->lab.options.read_bytes = 1 << 20;
	trial->lab.options.pinned_percent = 20;
	uint32_t segments = 10 + prng_below(&trial->prng, 20);
	shard_lab_init(&trial->lab, (uint64_t)segments * SEGMENT + (1 << 18), SEGMENT, seed);
	assert_int_equal(shard_lab_open(&trial->lab), 0);
}

static void all_durable(struct trial *trial)
{
	for (uint32_t key = 0; key < KEYS + FILLERS; key++) {
		if (trial->event[key] > trial->floor[key])
			trial->floor[key] = trial->event[key];
	}
}

/* Buffered, then sometimes made durable. */
static void step_store(struct trial *trial, uint32_t key)
{
	struct shard_put put = { .how = prng_below(&trial->prng, 12) ? 0 : HAUL_CACHE_PINNED };
	uint32_t bytes = 24 + prng_below(&trial->prng, prng_below(&trial->prng, 2) ? 500 : 9000);
	if (prng_below(&trial->prng, 6) == 0)
		put.expiry = shard_now_s(trial->lab.shard) + 1 + prng_below(&trial->prng, 9);
	uint64_t version = trial->last[key] + 1;
	for (uint32_t i = 0;; i++) {
		int rc = shard_lab_put(&trial->lab, key, version, bytes, &put);
		if (rc == HAUL_EFULL && put.how)
			return;
		if (rc == -ENODEV)
			return;
		if (rc == 0)
			break;
		assert_int_equal(rc, -EAGAIN);
		shard_lab_settle(&trial->lab);
		if (trial->lab.crashed)
			return;
		os_sim_advance(&trial->lab.os, NS_PER_MS);
		if (i == 3000)
			fail_msg("no room for key %u", key);
	}
	trial->last[key] = trial->event[key] = version;
}

static void step_delete(struct trial *trial, uint32_t key)
{
	int rc = shard_lab_delete(&trial->lab, key);
	if (rc == 0) {
		/* it and all before it are durable */
		trial->event[key] = trial->last[key] + 1;
		all_durable(trial);
	}
	if (rc == 0 || !trial->lab.crashed)
		trial->event[key] = trial->last[key] + 1;
}

static void check_key(struct trial *trial, uint32_t key, bool opened)
{
	uint64_t version;
	enum haul_cache_status status = shard_lab_get(&trial->lab, key, &version);
	if (trial->lab.crashed)
		return;
	if (status != HAUL_CACHE_HIT) {
		assert_int_not_equal(status, HAUL_CACHE_CORRUPT);
		return;
	}
	if (version < trial->floor[key] || version > trial->last[key])
		fail_msg("key %u: version %llu, after %llu was durable", key,
			 (unsigned long long)version, (unsigned long long)trial->floor[key]);
	if (opened) {
		trial->floor[key] = version; /* what an open found is durable */
		trial->event[key] = version;
	} else {
		assert_true(version == trial->event[key]);
	}
}

static void one_step(struct trial *trial)
{
	uint32_t key =
		prng_below(&trial->prng, prng_below(&trial->prng, 3) ? KEYS : KEYS + FILLERS);
	uint32_t what = prng_below(&trial->prng, 20);
	if (what < 12)
		step_store(trial, key);
	else if (what < 14)
		step_delete(trial, key);
	else if (what < 18)
		check_key(trial, key, false);
	else if (what == 18)
		os_sim_advance(&trial->lab.os, NS_PER_S / 3);
	else if (shard_lab_flush(&trial->lab) == 0)
		all_durable(trial);
	if (!trial->lab.crashed)
		(void)shard_poll(trial->lab.shard);
}

static void crash(struct trial *trial)
{
	struct haul_cache_stat stat = { 0 };
	if (trial->lab.shard)
		shard_stat(trial->lab.shard, &stat);
	trial->evicted += stat.evicted;
	trial->reclaimed += stat.reclaimed_segments;
	enum io_sim_crash how = (enum io_sim_crash)prng_below(&trial->prng, IO_SIM_CRASHES);
	shard_lab_crash(&trial->lab, how);
	assert_int_equal(shard_lab_open(&trial->lab), 0);
	for (uint32_t key = 0; key < KEYS + FILLERS; key++) {
		/* what was lost with the crash is not coming any more */
		trial->event[key] = trial->floor[key];
		check_key(trial, key, true);
	}
}

static void run(enum haul_cache_policy policy)
{
	struct prng prng;
	test_prng(&prng);
	static struct trial trial;
	uint64_t reclaimed = 0;
	for (uint32_t i = 0; i < TRIALS; i++) {
		uint64_t seed = prng_next(&prng);
		open_trial(&trial, policy, seed);
		for (uint32_t n = 0; n < CRASHES; n++) {
			trial.lab.how = prng_below(&trial.prng, IO_SIM_CRASHES);
			if (prng_below(&trial.prng, 2))
				io_sim_stop_after(trial.lab.disk, prng_below(&trial.prng, 600));
			for (uint32_t j = 0; j < STEPS && !trial.lab.crashed; j++)
				one_step(&trial);
			crash(&trial);
		}
		reclaimed += trial.reclaimed;
		shard_lab_done(&trial.lab);
	}
	assert_true(reclaimed > TRIALS * CRASHES);
}

/* A value that was overwritten or deleted would come back after segments were emptied and the power
 * was cut: the newest row of its key left the disk before an older one. */
static void test_reclaim_crash__nothing_old_comes_back(void **state)
{
	(void)state;
	run(HAUL_CACHE_S3FIFO);
}

/* The same where entries leave one by one, and their rows stay. */
static void test_reclaim_crash__nothing_old_comes_back_with_lru(void **state)
{
	(void)state;
	run(HAUL_CACHE_LRU);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim_crash__nothing_old_comes_back),
		cmocka_unit_test(test_reclaim_crash__nothing_old_comes_back_with_lru),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
