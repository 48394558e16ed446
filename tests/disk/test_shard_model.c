/* A long random run of a shard against a table of what each key should be, with simulated time:
 * both policies, every codec, a small RAM tier, disks with room and without, and faults. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shard_lab.h"

enum {
	KEYS = 150,
	PAST = 12,  /* events of a key that are remembered */
	BATCH = 48, /* keys asked for at a time */
	WAITS = 64,
	SEGMENT = 256 << 10,
	ROOMY = 64 << 20,
	TIGHT = 16 * SEGMENT + (256 << 10),
	STEPS = 3000,
	SIZE_MAX_BYTES = 40000
};

struct past {
	uint64_t version; /* 0 = deleted */
	uint64_t number;  /* of the event */
	uint32_t expiry;
};

struct model_key {
	struct past past[PAST]; /* newest first */
	uint32_t count;
	bool loose;     /* a flush failed: any of the past from `floor` on, or what was then */
	uint64_t floor; /* events up to it were durable */
};

struct plan {
	const char *name;
	enum haul_cache_policy policy;
	enum index_codec codec;
	uint64_t ram_bytes;
	bool tight, faults;
};

struct run {
	const struct plan *plan;
	struct shard_lab lab;
	struct prng prng;
	struct model_key keys[KEYS];
	uint64_t number, durable; /* events so far; those up to it were acknowledged */
	uint64_t version;
	struct shard_lab_wait waits[WAITS];
	uint64_t upto[WAITS];
	uint32_t wait_count;
	uint64_t failed; /* stat.failed when last looked at */
	uint64_t hits, misses, damaged, reclaimed;
};

static uint32_t now_s(const struct run *run)
{
	return (uint32_t)(run->lab.os.now_ns / NS_PER_S);
}

static uint64_t outcome(const struct run *run, const struct past *past)
{
	return past->expiry != 0 && past->expiry <= now_s(run) ? 0 : past->version;
}

/* ---- what is right ---- */

static void event(struct run *run, uint32_t key, uint64_t version, uint32_t expiry)
{
	struct model_key *model = &run->keys[key];
	memmove(model->past + 1, model->past, (PAST - 1) * sizeof *model->past);
	model->past[0] = (struct past){ version, run->number, expiry };
	model->count += model->count < PAST;
	model->loose = false;
}

/* What was not acknowledged when a flush failed may be there, or not. */
static void loosen(struct run *run)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		struct model_key *model = &run->keys[i];
		if (model->count == 0 || model->past[0].number <= run->durable)
			continue;
		if (!model->loose)
			model->floor = run->durable;
		model->loose = true;
	}
}

static bool right(const struct run *run, uint32_t key, uint64_t version)
{
	const struct model_key *model = &run->keys[key];
	if (version == 0 && (run->plan->tight || run->plan->faults || model->count == 0))
		return true;
	for (uint32_t i = 0; i < model->count; i++) {
		if (outcome(run, &model->past[i]) == version)
			return true;
		if (!model->loose || model->past[i].number <= model->floor)
			return false;
	}
	return model->count == PAST; /* it is too long ago */
}

static void blame(const struct run *run, uint32_t key, uint64_t version,
		  enum haul_cache_status status)
{
	const struct model_key *model = &run->keys[key];
	print_message("%s: key %u is %s, version %llu; durable up to %llu, loose %d\n",
		      run->plan->name, key, haul_cache_status_name(status),
		      (unsigned long long)version, (unsigned long long)run->durable, model->loose);
	for (uint32_t i = 0; i < model->count; i++)
		print_message("  event %llu version %llu expiry %u\n",
			      (unsigned long long)model->past[i].number,
			      (unsigned long long)model->past[i].version, model->past[i].expiry);
	fail_msg("a key is not what it should be");
}

static void see(struct run *run, uint32_t key, const struct shard_value *value)
{
	bool damage = value->status == HAUL_CACHE_CORRUPT || value->status == HAUL_CACHE_FAILED;
	uint64_t version = 0;
	if (value->status == HAUL_CACHE_HIT) {
		version = shard_lab_version(&run->lab, key, value->data, value->bytes);
		if (version == 0)
			blame(run, key, version, value->status);
	}
	run->hits += version != 0;
	run->misses += version == 0;
	run->damaged += damage;
	if ((damage && !run->plan->faults) || !right(run, key, version))
		blame(run, key, version, value->status);
}

/* ---- what is done ---- */

/* A delete that found nothing, and made sure that it stays so, has not failed. */
static bool failed_wait(const struct shard_lab_wait *wait)
{
	return wait->result < 0 && wait->result != -ENOENT;
}

static void waits_look(struct run *run)
{
	uint32_t left = 0;
	uint64_t failed = shard_lab_stat(&run->lab).failed;
	if (failed != run->failed)
		loosen(run);
	run->failed = failed;
	for (uint32_t i = 0; i < run->wait_count; i++)
		if (run->waits[i].told > 0 && failed_wait(&run->waits[i]))
			loosen(run);
	for (uint32_t i = 0; i < run->wait_count; i++) {
		const struct shard_lab_wait *wait = &run->waits[i];
		assert_true(wait->told <= 1);
		if (wait->told == 0)
			left++;
		else if (failed_wait(wait))
			assert_true(run->plan->faults);
		else if (run->upto[i] > run->durable)
			run->durable = run->upto[i];
	}
	if (left == 0)
		run->wait_count = 0;
}

static void turn(struct run *run)
{
	shard_drive(run->lab.shard, NULL);
	waits_look(run);
	if (shard_offline(run->lab.shard)) {
		struct haul_err err;
		assert_true(run->plan->faults);
		loosen(run);
		assert_int_equal(shard_online(run->lab.shard, &err), 0);
	}
}

static struct shard_wait *wait_new(struct run *run)
{
	if (run->wait_count == WAITS)
		turn(run);
	if (run->wait_count == WAITS)
		return NULL;
	run->upto[run->wait_count] = run->number + 1;
	return shard_lab_wait(&run->waits[run->wait_count++]);
}

static void do_put(struct run *run)
{
	uint32_t key = prng_below(&run->prng, KEYS);
	uint32_t bytes =
		24 + prng_below(&run->prng, prng_below(&run->prng, 4) ? 3000 : SIZE_MAX_BYTES);
	struct shard_put put = { .flags = prng_below(&run->prng, 2) ? key : 0 };
	if (prng_below(&run->prng, 5) == 0)
		put.expiry = now_s(run) + 1 + prng_below(&run->prng, 20);
	put.how = key < 3 ? HAUL_CACHE_PINNED : 0;
	int rc = -EAGAIN;
	for (uint32_t i = 0; rc == -EAGAIN && i < 50; i++) {
		put.wait = prng_below(&run->prng, 8) == 0 ? wait_new(run) : NULL;
		rc = shard_lab_put(&run->lab, key, run->version + 1, bytes, &put);
		if (rc != 0 && put.wait)
			run->wait_count--;
		if (rc == -EAGAIN) {
			turn(run);
			os_sim_advance(&run->lab.os, NS_PER_MS);
		}
	}
	if (rc != 0) {
		assert_true(rc == -EAGAIN || run->plan->faults || run->plan->tight);
		return;
	}
	run->number++;
	event(run, key, ++run->version, put.expiry);
}

static void do_delete(struct run *run)
{
	char text[32];
	uint32_t number = prng_below(&run->prng, KEYS);
	struct cache_key key = shard_lab_key(&run->lab, number, text);
	struct shard_wait *wait = prng_below(&run->prng, 3) == 0 ? wait_new(run) : NULL;
	int rc = shard_delete(run->lab.shard, &key, wait);
	if (rc != 0 && wait)
		run->wait_count--;
	if (rc != 0)
		return;
	run->number++;
	event(run, number, 0, 0);
}

static void do_purge(struct run *run)
{
	struct shard_wait *wait = wait_new(run);
	if (!wait || shard_purge(run->lab.shard, wait) != 0) {
		run->wait_count -= wait != NULL;
		return;
	}
	run->number++;
	for (uint32_t i = 0; i < KEYS; i++)
		event(run, i, 0, 0);
}

struct asked {
	struct run *run;
	uint32_t numbers[BATCH];
	bool done;
};

static void asked_window(struct shard_get *get)
{
	struct asked *asked = get->owner;
	for (uint32_t i = get->first; i < get->first + get->ready; i++)
		see(asked->run, asked->numbers[i], &get->values[i]);
	asked->done = get->first + get->ready == get->count;
	shard_get_next(asked->run->lab.shard, get);
}

static void do_get(struct run *run)
{
	char text[BATCH][32];
	struct cache_key keys[BATCH];
	struct shard_value values[BATCH];
	struct asked asked = { .run = run };
	uint32_t count = 1 + prng_below(&run->prng, BATCH);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t far = prng_below(&run->prng, 2) ? KEYS : KEYS / 8; /* some are hot */
		asked.numbers[i] = prng_below(&run->prng, far);
		keys[i] = shard_lab_key(&run->lab, asked.numbers[i], text[i]);
	}
	struct shard_get get = { .keys = keys,
				 .values = values,
				 .count = count,
				 .done = asked_window,
				 .owner = &asked };
	shard_get(run->lab.shard, &get);
	shard_drive(run->lab.shard, &asked.done);
	assert_true(asked.done);
	waits_look(run);
}

static void do_reopen(struct run *run)
{
	turn(run);
	run->reclaimed += shard_lab_stat(&run->lab).reclaimed_segments;
	int rc = shard_lab_close(&run->lab);
	assert_true(rc == 0 || run->plan->faults);
	if (rc != 0)
		loosen(run);
	else
		run->durable = run->number;
	run->wait_count = 0;
	run->failed = 0;
	assert_int_equal(shard_lab_open(&run->lab), 0);
}

static void do_fault(struct run *run)
{
	uint32_t what = prng_below(&run->prng, 6);
	uint32_t skip = prng_below(&run->prng, 10);
	uint32_t key = prng_below(&run->prng, KEYS);
	char text[32];
	struct cache_key cache_key = shard_lab_key(&run->lab, key, text);
	if (!run->plan->faults)
		return;
	if (what == 0)
		io_sim_fail(run->lab.disk, IO_READ, skip, 1, -EIO);
	else if (what == 1)
		io_sim_fail(run->lab.disk, IO_WRITE, skip, 1, prng_below(&run->prng, 2) ? -EIO : 0);
	else if (what == 2 && prng_below(&run->prng, 4) == 0)
		io_sim_fail(run->lab.disk, IO_SYNC, skip, 1, -EIO);
	else if (what == 3)
		io_sim_fail(run->lab.disk, IO_READ, skip, 3,
			    prng_below(&run->prng, 2) ? -EAGAIN : 0);
	else if (index_find(&run->lab.shard->index, cache_key.hash) && what == 4)
		shard_lab_bytes(&run->lab, key, NULL)[5] ^= 16; /* of nothing, while buffered */
}

static void step(struct run *run)
{
	uint32_t what = prng_below(&run->prng, 1000);
	if (what < 550)
		do_put(run);
	else if (what < 620)
		do_delete(run);
	else if (what < 860)
		do_get(run);
	else if (what < 862)
		do_purge(run);
	else if (what < 865)
		do_reopen(run);
	else if (what < 880)
		do_fault(run);
	else if (what < 930)
		os_sim_advance(&run->lab.os, NS_PER_MS * prng_below(&run->prng, 1500));
	else
		turn(run);
}

static void run_plan(const struct plan *plan)
{
	struct run *run = calloc(1, sizeof *run);
	assert_non_null(run);
	run->plan = plan;
	test_prng(&run->prng);
	run->lab.options.policy = plan->policy;
	run->lab.options.codec = plan->codec;
	run->lab.options.ram_bytes = plan->ram_bytes;
	run->lab.options.buffer_bytes = 4 << 20;
	uint64_t seed = prng_next(&run->prng);
	shard_lab_init(&run->lab, plan->tight ? TIGHT : ROOMY, SEGMENT, seed);
	run->lab.squeezing = plan->codec != INDEX_RAW;
	assert_int_equal(shard_lab_open(&run->lab), 0);
	const char *longer = getenv("HAUL_TEST_MODEL_STEPS");
	uint32_t steps = longer ? (uint32_t)strtoul(longer, NULL, 10) : STEPS;
	for (uint32_t i = 0; i < steps; i++)
		step(run);
	turn(run);
	assert_true(run->hits > steps / 10);
	if (plan->tight && !plan->faults && plan->codec == INDEX_RAW)
		assert_true(run->reclaimed + shard_lab_stat(&run->lab).reclaimed_segments > 0);
	unsigned long long reclaimed =
		run->reclaimed + shard_lab_stat(&run->lab).reclaimed_segments;
	if (getenv("HAUL_TEST_SHOW"))
		print_message("%s: hits %llu misses %llu damaged %llu reclaimed %llu\n", plan->name,
			      (unsigned long long)run->hits, (unsigned long long)run->misses,
			      (unsigned long long)run->damaged, reclaimed);
	shard_lab_done(&run->lab);
	free(run);
}

/* X(name, policy, codec, RAM, tight, faults) */
#define PLAN_LIST(X)                                                                               \
	X(fifo_with_room, HAUL_CACHE_S3FIFO, INDEX_RAW, 0, false, false)                           \
	X(fifo_full, HAUL_CACHE_S3FIFO, INDEX_RAW, 1 << 18, true, false)                           \
	X(fifo_lz4, HAUL_CACHE_S3FIFO, INDEX_LZ4, 1 << 18, true, false)                            \
	X(fifo_zstd, HAUL_CACHE_S3FIFO, INDEX_ZSTD, 0, false, false)                               \
	X(lru_with_room, HAUL_CACHE_LRU, INDEX_RAW, 1 << 18, false, false)                         \
	X(lru_full, HAUL_CACHE_LRU, INDEX_LZ4, 0, true, false)                                     \
	X(fifo_faults, HAUL_CACHE_S3FIFO, INDEX_RAW, 1 << 18, true, true)                          \
	X(lru_faults, HAUL_CACHE_LRU, INDEX_LZ4, 0, true, true)

/* Each run: a key is its last store, or not there where it may be gone; no wrong byte. */
#define X(id, policy, codec, ram, tight, faults)                                                   \
	static void test_shard_model__##id(void **state)                                           \
	{                                                                                          \
		static const struct plan plan = { #id, policy, codec, ram, tight, faults };        \
		(void)state;                                                                       \
		run_plan(&plan);                                                                   \
	}
PLAN_LIST(X)
#undef X

int main(void)
{
	const struct CMUnitTest tests[] = {
#define X(id, policy, codec, ram, tight, faults) cmocka_unit_test(test_shard_model__##id),
		PLAN_LIST(X)
#undef X
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
