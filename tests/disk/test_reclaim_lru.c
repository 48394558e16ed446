#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/cache.h>
#include "disk/reclaim_state.h"
#include "lib/testlib.h"
#include "shard_lab.h"

enum { KIB = 1024, SEGMENT = 128 * KIB, DISK = 6 << 20, KEYS = 4000, STEPS = 20000 };

/* The naive twin: keys in the order of their last use, oldest first. */
struct model {
	uint32_t key[KEYS];
	uint32_t count;
	uint32_t version[KEYS]; /* of the last store */
};

static void model_drop(struct model *model, uint32_t key)
{
	for (uint32_t i = 0; i < model->count; i++) {
		if (model->key[i] != key)
			continue;
		memmove(model->key + i, model->key + i + 1,
			(model->count - i - 1) * sizeof model->key[0]);
		model->count--;
		return;
	}
}

static void model_use(struct model *model, uint32_t key)
{
	model_drop(model, key);
	model->key[model->count++] = key;
}

static const struct index_slot *slot_of(const struct shard_lab *lab, uint32_t key)
{
	char text[32];
	struct cache_key hashed = shard_lab_key(lab, key, text);
	return index_find(&lab->shard->index, hashed.hash);
}

/* What the shard has let go of since must be what the list says, from its old end. */
static uint32_t model_follow(struct model *model, const struct shard_lab *lab)
{
	uint32_t gone = 0;
	while (model->count > lab->shard->index.count) {
		assert_null(slot_of(lab, model->key[gone]));
		gone++;
		model->count--;
	}
	assert_int_equal(model->count, lab->shard->index.count);
	memmove(model->key, model->key + gone, model->count * sizeof model->key[0]);
	if (model->count > 0)
		assert_non_null(slot_of(lab, model->key[0]));
	return gone;
}

static void model_check(const struct model *model, const struct shard_lab *lab)
{
	for (uint32_t i = 0; i < model->count; i++)
		assert_non_null(slot_of(lab, model->key[i]));
}

static void lab_open(struct shard_lab *lab)
{
	struct prng prng;
	test_prng(&prng);
	lab->options.policy = HAUL_CACHE_LRU;
	lab->options.limits = haul_limits_preset(HAUL_PRESET_DISK);
	lab->options.buffer_bytes = 4 << 20;
	lab->options.read_bytes = 1 << 20;
	shard_lab_init(lab, DISK, SEGMENT, prng_next(&prng));
	assert_int_equal(shard_lab_open(lab), 0);
}

static void model_store(struct shard_lab *lab, struct model *model, uint32_t key, uint32_t bytes)
{
	struct shard_put put = { .wait = NULL };
	int rc;
	uint32_t tries = 0;
	while ((rc = shard_lab_put(lab, key, model->version[key] + 1, bytes, &put)) == -EAGAIN) {
		shard_lab_settle(lab);
		(void)model_follow(model, lab);
		os_sim_advance(&lab->os, NS_PER_MS);
		assert_true(tries++ < 2000);
	}
	assert_int_equal(rc, 0);
	model->version[key]++;
	model_use(model, key);
}

static void model_get(struct shard_lab *lab, struct model *model, uint32_t key)
{
	bool there = slot_of(lab, key) != NULL;
	uint64_t version;
	enum haul_cache_status status = shard_lab_get(lab, key, &version);
	assert_int_equal(status, there ? HAUL_CACHE_HIT : HAUL_CACHE_MISS);
	if (!there)
		return;
	assert_int_equal(version, model->version[key]);
	model_use(model, key);
}

static void model_delete(struct shard_lab *lab, struct model *model, uint32_t key)
{
	char text[32];
	struct cache_key hashed = shard_lab_key(lab, key, text);
	int rc;
	while ((rc = shard_delete(lab->shard, &hashed, NULL)) == -EAGAIN) {
		shard_lab_settle(lab);
		(void)model_follow(model, lab);
		os_sim_advance(&lab->os, NS_PER_MS);
	}
	assert_true(rc == 0 || rc == -ENOENT);
	model_drop(model, key);
}

/* What leaves would not be what was used least recently: stores, reads and deletes in random order,
 * several times the size of the disk, against a naive list. Reads go to the disk, so what is there
 * is also right. */
static void test_reclaim_lru__evicts_as_a_naive_list_does(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	static struct model model;
	memset(&model, 0, sizeof model);
	lab_open(&lab);
	uint64_t gone = 0, stored = 0;
	for (uint32_t i = 0; i < STEPS; i++) {
		uint32_t key = prng_below(&lab.prng, prng_below(&lab.prng, 3) ? KEYS : KEYS / 8);
		uint32_t what = prng_below(&lab.prng, 16);
		uint32_t bytes = 24 + prng_below(&lab.prng, 6000);
		if (what < 10)
			model_store(&lab, &model, key, bytes);
		else if (what < 15)
			model_get(&lab, &model, key);
		else
			model_delete(&lab, &model, key);
		stored += what < 10 ? bytes : 0;
		(void)shard_poll(lab.shard);
		gone += model_follow(&model, &lab);
		if (i % 500 == 0)
			model_check(&model, &lab);
	}
	model_check(&model, &lab);
	struct haul_cache_stat stat = shard_lab_stat(&lab);
	assert_int_equal(stat.evicted, gone);
	assert_true(gone > 2 * model.count);
	assert_true(stat.stored_bytes > DISK / 3);
	assert_true(stat.reclaimed_segments > 0);
	print_message("amplification %.2f, %llu of %u bytes live\n",
		      (double)stat.device_bytes / (double)stored,
		      (unsigned long long)stat.stored_bytes, DISK);
	shard_lab_done(&lab);
}

/* The list of keys would be one key long, or the oldest not the first to go. */
static void test_reclaim_lru__a_key_that_is_read_stays(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	static struct model model;
	memset(&model, 0, sizeof model);
	lab_open(&lab);
	for (uint32_t i = 0; i < KEYS; i++) {
		model_store(&lab, &model, i, 4096);
		if (i % 10 == 0)
			model_get(&lab, &model, 0);
		(void)shard_poll(lab.shard);
		(void)model_follow(&model, &lab);
	}
	assert_non_null(slot_of(&lab, 0));
	assert_null(slot_of(&lab, 1));
	shard_lab_done(&lab);
}

/* After an open the order begins as that of the stores; deletes of what was evicted before it must
 * hold, too: the row of an evicted entry may still lie on the disk. */
static void test_reclaim_lru__deletes_hold_after_a_crash(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	static struct model model;
	memset(&model, 0, sizeof model);
	lab_open(&lab);
	for (uint32_t i = 0; i < KEYS; i++) {
		model_store(&lab, &model, i, 4096);
		(void)shard_poll(lab.shard);
		(void)model_follow(&model, &lab);
	}
	/* the newest of the evicted: their rows are the likeliest to be there still */
	uint32_t first = model.key[0];
	assert_true(first > 100);
	for (uint32_t i = 1; i <= 100; i++)
		assert_int_equal(shard_lab_delete(&lab, first - i), -ENOENT);
	shard_lab_crash(&lab, IO_SIM_LOSE_ALL);
	assert_int_equal(shard_lab_open(&lab), 0);
	for (uint32_t i = 1; i <= 100; i++) {
		uint64_t version;
		assert_int_equal(shard_lab_get(&lab, first - i, &version), HAUL_CACHE_MISS);
	}
	for (uint32_t i = first + 1; i < KEYS; i++)
		assert_non_null(slot_of(&lab, i));
	struct index_slot *oldest = index_order_oldest(&lab.shard->index);
	assert_non_null(oldest);
	shard_lab_done(&lab);
}

/* What is pinned would be evicted like anything else once it was read. */
static void test_reclaim_lru__what_is_pinned_stays_when_it_is_read(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED };
	uint64_t version;
	lab_open(&lab);
	assert_int_equal(shard_lab_put(&lab, 0, 1, 1000, &pinned), 0);
	assert_int_equal(shard_lab_get(&lab, 0, &version), HAUL_CACHE_HIT);
	for (uint32_t i = 1; i < KEYS; i++)
		assert_int_equal(shard_lab_store(&lab, i, 1, 3000), 0);
	assert_null(slot_of(&lab, 1));
	assert_int_equal(shard_lab_get(&lab, 0, &version), HAUL_CACHE_HIT);
	shard_lab_done(&lab);
}

/* More is on the disk than the index takes, and what is pinned is not among what it took when the
 * cache is opened again. */
static void test_reclaim_lru__what_is_pinned_is_there_after_an_open(void **state)
{
	(void)state;
	enum { ENTRIES = 64, PINNED = 16, OTHERS = 400 };
	struct shard_lab lab = { .shard = NULL };
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED };
	uint64_t version;
	lab_open(&lab);
	assert_int_equal(shard_lab_close(&lab), 0);
	lab.volume.super.entries_max = ENTRIES;
	assert_int_equal(shard_lab_open(&lab), 0);
	for (uint32_t i = 0; i < PINNED; i++)
		assert_int_equal(shard_lab_put(&lab, i, 1, 1000, &pinned), 0);
	for (uint32_t i = PINNED; i < OTHERS; i++)
		assert_int_equal(shard_lab_store(&lab, i, 1, 1000), 0);
	shard_lab_crash(&lab, IO_SIM_LOSE_ALL);
	assert_int_equal(shard_lab_open(&lab), 0);
	assert_int_equal(lab.shard->index.count, ENTRIES);
	for (uint32_t i = 0; i < PINNED; i++)
		assert_int_equal(shard_lab_get(&lab, i, &version), HAUL_CACHE_HIT);
	shard_lab_done(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim_lru__evicts_as_a_naive_list_does),
		cmocka_unit_test(test_reclaim_lru__a_key_that_is_read_stays),
		cmocka_unit_test(test_reclaim_lru__deletes_hold_after_a_crash),
		cmocka_unit_test(test_reclaim_lru__what_is_pinned_stays_when_it_is_read),
		cmocka_unit_test(test_reclaim_lru__what_is_pinned_is_there_after_an_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
