/* Every crash point of a workload: stores of many sizes, overwrites, deletes, expiry, pinned
 * entries, purges, on a disk with room and on one that turns over. At each operation that a disk
 * finishes the power is cut, in each of the ways a simulated disk knows; then the shard is opened
 * again (and the power may be cut again meanwhile), compared with what was promised, used further,
 * and cut off again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard_lab.h"

enum {
	KEYS = 24,
	STEPS = 70,
	STEPS_TIGHT = 240,
	STEPS_AFTER = 12,
	EVENTS_MAX = 512,
	WAITS_MAX = 128,
	POINTS_MOST = 150,
	SEGMENT_BYTES = 65536,
	ROOMY_BYTES = 4 << 20,
	TIGHT_BYTES = 10 * SEGMENT_BYTES + 65536,
	PINNED_KEY = KEYS, /* keys from here on are pinned */
	PINNED_KEYS = 2,
	ALL_KEYS = KEYS + PINNED_KEYS
};

enum kind { PUT, DELETE, PURGE };

struct event {
	enum kind kind;
	uint32_t key;
	uint64_t version;
	uint32_t expiry;
	uint64_t flush; /* it went with; 0 = not yet */
	bool unsure;    /* a flush failed that may have carried it */
};

/* What a key was when the power last came back. */
struct base {
	uint64_t version; /* 0 = not there */
	uint32_t expiry;
};

struct trial {
	struct shard_lab lab;
	struct prng prng;
	uint64_t seed;
	bool tight;  /* entries may be evicted */
	bool faults; /* writes and syncs fail now and then */
	uint64_t failed;
	uint64_t purged; /* the root's purged_seq that the events account for */
	struct base base[ALL_KEYS];
	struct event events[EVENTS_MAX];
	uint32_t event_count, durable; /* events before it were acknowledged */
	struct shard_lab_wait waits[WAITS_MAX];
	uint32_t wait_upto[WAITS_MAX];
	uint32_t wait_count;
	uint64_t next_version;
	uint64_t point;
	enum io_sim_crash how;
};

/* ---- what was promised ---- */

static uint32_t now_s(const struct trial *trial)
{
	return (uint32_t)(trial->lab.os.now_ns / NS_PER_S);
}

static bool touches(const struct event *event, uint32_t key)
{
	return event->kind == PURGE || event->key == key;
}

/* What a key is by an event: a version, or 0. */
static uint64_t outcome(const struct trial *trial, const struct event *event)
{
	bool over = event->expiry != 0 && event->expiry <= now_s(trial);
	return event->kind == PUT && !over ? event->version : 0;
}

static uint64_t outcome_base(const struct trial *trial, uint32_t key)
{
	const struct base *base = &trial->base[key];
	bool over = base->expiry != 0 && base->expiry <= now_s(trial);
	return over ? 0 : base->version;
}

/* Whether a key may be at this version after a crash (0: not there). */
static bool allowed(const struct trial *trial, uint32_t key, uint64_t version)
{
	bool covered = false, unsure = false;
	if (version == 0 && trial->tight && key < PINNED_KEY)
		return true;
	for (uint32_t i = trial->event_count; i-- > 0 && !covered;) {
		const struct event *event = &trial->events[i];
		if (!touches(event, key))
			continue;
		unsure = unsure || event->unsure;
		if (outcome(trial, event) == version || (unsure && version == 0))
			return true;
		covered = i < trial->durable && !event->unsure;
	}
	return !covered && outcome_base(trial, key) == version;
}

/* Before any crash: the last event counts, unless its flush may have failed. */
static bool expected(const struct trial *trial, uint32_t key, uint64_t version)
{
	for (uint32_t i = trial->event_count; i-- > 0;) {
		const struct event *event = &trial->events[i];
		if (touches(event, key))
			return event->unsure ? allowed(trial, key, version)
					     : outcome(trial, event) == version;
	}
	return outcome_base(trial, key) == version;
}

static _Noreturn void blame(const struct trial *trial, uint32_t key, uint64_t version,
			    const char *what)
{
	print_message("seed %llu tight %d point %llu how %d: key %u is %llu: %s\n",
		      (unsigned long long)trial->seed, trial->tight,
		      (unsigned long long)trial->point, trial->how, key,
		      (unsigned long long)version, what);
	print_message("base %llu\n", (unsigned long long)trial->base[key].version);
	for (uint32_t i = 0; i < trial->event_count; i++) {
		const struct event *event = &trial->events[i];
		if (touches(event, key))
			print_message("  %u%s: kind %d version %llu expiry %u flush %llu\n", i,
				      i < trial->durable ? " durable" : "", event->kind,
				      (unsigned long long)event->version, event->expiry,
				      (unsigned long long)event->flush);
	}
	fail_msg("%s", what);
	abort();
}

/* ---- the workload ---- */

static void event_add(struct trial *trial, const struct event *event)
{
	assert_true(trial->event_count < EVENTS_MAX);
	trial->events[trial->event_count++] = *event;
}

static void note_flushes(struct trial *trial, uint64_t before)
{
	const struct shard *shard = trial->lab.shard;
	if (!shard || shard->next_flush == before)
		return;
	uint32_t left = shard->gathering.ops > 0;
	for (uint32_t i = 0; i + left < trial->event_count; i++) {
		if (trial->events[i].flush == 0)
			trial->events[i].flush = shard->next_flush - 1;
	}
}

/* A flush failed: what was not acknowledged may be there, or what was before it, or nothing. */
static void note_failure(struct trial *trial)
{
	if (!trial->faults && !trial->lab.crashed)
		blame(trial, 0, 0, "a flush failed without a fault");
	for (uint32_t i = trial->durable; i < trial->event_count; i++)
		trial->events[i].unsure = true;
}

static void note_waits(struct trial *trial)
{
	uint64_t failed = shard_lab_stat(&trial->lab).failed;
	if (failed != trial->failed)
		note_failure(trial);
	trial->failed = failed;
	for (uint32_t i = 0; i < trial->wait_count; i++)
		if (trial->waits[i].told > 0 && trial->waits[i].result < 0)
			note_failure(trial);
	for (uint32_t i = 0; i < trial->wait_count; i++) {
		const struct shard_lab_wait *wait = &trial->waits[i];
		assert_true(wait->told <= 1);
		if (wait->told == 0)
			continue;
		if (wait->result == 0 && trial->wait_upto[i] > trial->durable)
			trial->durable = trial->wait_upto[i];
	}
}

/* A disk with next to nothing left of it gives everything up, rather than stop. */
static void note_purge(struct trial *trial)
{
	const struct shard *shard = trial->lab.shard;
	if (!shard || shard->root.purged_seq <= trial->purged)
		return;
	assert_true(trial->tight && trial->faults);
	event_add(trial, &(struct event){ .kind = PURGE });
	trial->purged = shard->root.purged_seq;
}

static struct shard_wait *wait_new(struct trial *trial, uint32_t upto)
{
	if (trial->wait_count == WAITS_MAX)
		return NULL;
	trial->wait_upto[trial->wait_count] = upto;
	return shard_lab_wait(&trial->waits[trial->wait_count++]);
}

/* Turn until nothing is under way, or the power is gone. */
static void turn(struct trial *trial)
{
	uint64_t before = trial->lab.shard->next_flush;
	shard_drive(trial->lab.shard, NULL);
	note_purge(trial);
	note_flushes(trial, before);
	note_waits(trial);
}

static uint32_t size_of(struct prng *prng)
{
	static const uint32_t sizes[] = { 24, 100, 700, 4096, 4000, 5000, 9000, 20000 };
	return sizes[prng_below(prng, sizeof sizes / sizeof *sizes)];
}

static void step_put(struct trial *trial, bool pinned, bool durable)
{
	struct shard_put put = { .how = pinned ? HAUL_CACHE_PINNED : 0 };
	struct event event = { .kind = PUT, .version = trial->next_version++ };
	event.key = pinned ? PINNED_KEY + prng_below(&trial->prng, PINNED_KEYS)
			   : prng_below(&trial->prng, KEYS);
	if (!pinned && prng_below(&trial->prng, 6) == 0)
		event.expiry = now_s(trial) + 1 + prng_below(&trial->prng, 5);
	put.expiry = event.expiry;
	uint32_t bytes = pinned ? 3000 : size_of(&trial->prng);
	int rc = -EAGAIN;
	for (uint32_t tries = 0; rc == -EAGAIN && tries < 20 && !trial->lab.crashed; tries++) {
		put.wait = durable ? wait_new(trial, trial->event_count + 1) : NULL;
		uint64_t before = trial->lab.shard->next_flush;
		rc = shard_lab_put(&trial->lab, event.key, event.version, bytes, &put);
		if (rc == 0)
			event_add(trial, &event);
		else if (put.wait)
			trial->wait_count--;
		note_flushes(trial, before);
		if (rc == -EAGAIN) {
			turn(trial);
			os_sim_advance(&trial->lab.os, NS_PER_MS);
		}
	}
}

static void step_delete(struct trial *trial)
{
	char text[32];
	struct event event = { .kind = DELETE, .key = prng_below(&trial->prng, ALL_KEYS) };
	struct cache_key key = shard_lab_key(&trial->lab, event.key, text);
	bool durable = prng_below(&trial->prng, 2) == 0;
	struct shard_wait *wait = durable ? wait_new(trial, trial->event_count + 1) : NULL;
	uint64_t before = trial->lab.shard->next_flush;
	int rc = shard_delete(trial->lab.shard, &key, wait);
	if (rc == 0)
		event_add(trial, &event);
	else if (wait)
		trial->wait_count--;
	note_flushes(trial, before);
}

static void step_flush(struct trial *trial, bool purge)
{
	struct event event = { .kind = PURGE };
	uint32_t upto = trial->event_count + (purge ? 1 : 0);
	struct shard_wait *wait = wait_new(trial, upto);
	if (!wait)
		return;
	if (purge) {
		int rc = shard_purge(trial->lab.shard, wait);
		assert_true(rc == 0 || trial->faults);
		if (rc == 0) {
			event_add(trial, &event);
			trial->purged = trial->lab.shard->root.purged_seq;
		} else {
			trial->wait_count--;
		}
	} else {
		shard_flush(trial->lab.shard, wait);
	}
}

static void step_get(struct trial *trial)
{
	uint64_t version;
	uint32_t key = prng_below(&trial->prng, ALL_KEYS);
	uint64_t before = trial->lab.shard->next_flush;
	enum haul_cache_status status = shard_lab_get(&trial->lab, key, &version);
	if (trial->lab.crashed)
		return;
	note_purge(trial);
	note_flushes(trial, before);
	note_waits(trial);
	bool missing = status == HAUL_CACHE_MISS || status == HAUL_CACHE_EXPIRED;
	if (status == HAUL_CACHE_HIT ? version == 0 : !missing)
		blame(trial, key, status, "not whole");
	if (missing && trial->tight && key < PINNED_KEY)
		return;
	if (!expected(trial, key, version))
		blame(trial, key, version, "not what was stored last");
}

static void step(struct trial *trial)
{
	uint32_t what = prng_below(&trial->prng, 100);
	if (what < 50)
		step_put(trial, false, false);
	else if (what < 62)
		step_put(trial, false, true);
	else if (what < 66)
		step_put(trial, true, false);
	else if (what < 78)
		step_delete(trial);
	else if (what < 80)
		step_flush(trial, what == 79 && prng_below(&trial->prng, 3) == 0);
	else if (what < 90)
		step_get(trial);
	else if (what < 96 || !trial->faults)
		os_sim_advance(&trial->lab.os, NS_PER_MS * prng_below(&trial->prng, 1000));
	else
		io_sim_fail(trial->lab.disk, what < 99 ? IO_WRITE : IO_SYNC,
			    prng_below(&trial->prng, 4), 1, -EIO);
	/* Often, not always: so that a flush carries much, and two are under way. */
	if (trial->lab.shard && !trial->lab.crashed && prng_below(&trial->prng, 3) == 0)
		turn(trial);
	else if (trial->lab.shard && !trial->lab.crashed) {
		uint64_t before = trial->lab.shard->next_flush;
		(void)shard_poll(trial->lab.shard);
		note_purge(trial);
		note_flushes(trial, before);
		note_waits(trial);
	}
	if (io_sim_stopped(trial->lab.disk) && trial->lab.shard && !trial->lab.crashed)
		(void)io_wait(trial->lab.io, -1); /* notices, and cuts the power */
}

/* ---- after the crash ---- */

/* Entries of a flush that nothing came after: all are there, or none. */
static void check_whole(struct trial *trial, const uint64_t *seen)
{
	for (uint32_t i = trial->durable; i < trial->event_count; i++)
		if (trial->events[i].kind == PURGE)
			return;
	for (uint32_t i = trial->durable; i < trial->event_count; i++) {
		const struct event *first = &trial->events[i];
		for (uint32_t j = i + 1; first->kind == PUT && j < trial->event_count; j++) {
			const struct event *other = &trial->events[j];
			bool last = other->kind == PUT && first->flush == other->flush &&
				    first->flush != 0;
			for (uint32_t k = i + 1; k < trial->event_count && last; k++)
				last = trial->events[k].key != first->key &&
				       (k <= j || trial->events[k].key != other->key);
			bool over = first->expiry != 0 || other->expiry != 0;
			if (!last || over)
				continue;
			bool there = seen[first->key] == first->version;
			if (there != (seen[other->key] == other->version))
				blame(trial, first->key, seen[first->key],
				      "a flush is there in part");
		}
	}
}

/* Everything is what it may be; from now on it is what it is. */
static void check(struct trial *trial)
{
	uint64_t seen[ALL_KEYS];
	note_purge(trial); /* right before the cut */
	trial->purged = trial->lab.shard->root.purged_seq;
	for (uint32_t key = 0; key < ALL_KEYS; key++) {
		enum haul_cache_status status = shard_lab_get(&trial->lab, key, &seen[key]);
		bool missing = status == HAUL_CACHE_MISS || status == HAUL_CACHE_EXPIRED;
		if (status == HAUL_CACHE_HIT ? seen[key] == 0 : !missing)
			blame(trial, key, status, "not whole");
		if (!allowed(trial, key, seen[key]))
			blame(trial, key, seen[key], "not what was promised");
	}
	if (!trial->tight && !trial->faults)
		check_whole(trial, seen);
	for (uint32_t key = 0; key < ALL_KEYS; key++) {
		struct base base = { .version = seen[key] };
		if (seen[key] != 0 && seen[key] == trial->base[key].version)
			base.expiry = trial->base[key].expiry;
		for (uint32_t i = 0; i < trial->event_count; i++)
			if (seen[key] != 0 && trial->events[i].version == seen[key])
				base.expiry = trial->events[i].expiry;
		trial->base[key] = base;
	}
	trial->event_count = trial->durable = trial->wait_count = 0;
	note_purge(trial);
	trial->failed = shard_lab_stat(&trial->lab).failed;
}

/* Open after the power was cut; it may be cut again while that goes on. */
static void come_back(struct trial *trial)
{
	struct shard_lab *lab = &trial->lab;
	io_sim_fail(lab->disk, IO_WRITE, 0, 0, 0);
	io_sim_fail(lab->disk, IO_SYNC, 0, 0, 0);
	shard_lab_crash(lab, trial->how);
	for (uint32_t cuts = prng_below(&trial->prng, 3); cuts > 0; cuts--) {
		io_sim_stop_after(lab->disk, 1 + prng_below(&trial->prng, 5));
		lab->how = (enum io_sim_crash)prng_below(&trial->prng, IO_SIM_CRASHES);
		int rc = shard_lab_open(lab);
		if (rc != 0 && !lab->crashed)
			blame(trial, 0, 0, "it does not open");
		shard_lab_crash(lab, lab->how);
	}
	if (shard_lab_open(lab) != 0)
		blame(trial, 0, 0, "it does not open");
	check(trial);
}

/* Returns how many operations the disk finished. */
static uint64_t trial_run(struct trial *trial, uint64_t seed, uint64_t point, enum io_sim_crash how)
{
	bool tight = trial->tight, faults = trial->faults;
	*trial = (struct trial){ .seed = seed, .point = point, .how = how };
	trial->tight = tight;
	trial->faults = faults;
	struct shard_lab *lab = &trial->lab;
	trial->next_version = 1;
	prng_init(&trial->prng, seed);
	lab->options.buffer_bytes = 1 << 20;
	lab->options.limits = (struct haul_limits){ 12, 40000, 2 * NS_PER_MS, 12 };
	lab->options.fixed = true;
	shard_lab_init(lab, tight ? TIGHT_BYTES : ROOMY_BYTES, SEGMENT_BYTES, seed);
	assert_int_equal(shard_lab_open(lab), 0);
	uint64_t before = io_sim_count(lab->disk, IO_WRITE) + io_sim_count(lab->disk, IO_SYNC);
	uint32_t steps = tight ? STEPS_TIGHT : STEPS;
	lab->how = how;
	io_sim_stop_after(lab->disk, point);
	for (uint32_t i = 0; i < steps && lab->shard && !lab->crashed; i++)
		step(trial);
	/* The disk that turns over does; of the other some segments may be dead as a whole. */
	if (lab->shard && !lab->crashed && tight)
		assert_true(shard_lab_stat(lab).reclaimed_segments > 0);
	uint64_t after = io_sim_count(lab->disk, IO_WRITE) + io_sim_count(lab->disk, IO_SYNC);
	prng_init(&trial->prng, seed + point);
	prng_init(&lab->prng, seed ^ point);
	come_back(trial);
	for (uint32_t i = 0; i < STEPS_AFTER; i++)
		step(trial);
	trial->how = (enum io_sim_crash)prng_below(&trial->prng, IO_SIM_CRASHES);
	come_back(trial);
	if (shard_lab_close(lab) != 0 && !faults)
		blame(trial, 0, 0, "close says that something failed");
	assert_int_equal(shard_lab_open(lab), 0);
	check(trial);
	shard_lab_done(lab);
	return after - before;
}

static void trials(bool tight, bool faults, uint32_t seeds)
{
	struct trial *trial = calloc(1, sizeof *trial);
	struct prng prng;
	assert_non_null(trial);
	test_prng(&prng);
	trial->tight = tight;
	trial->faults = faults;
	for (uint32_t i = 0; i < seeds; i++) {
		uint64_t seed = prng_next(&prng) >> 16;
		uint64_t points = trial_run(trial, seed, UINT64_MAX, IO_SIM_LOSE_ALL);
		/* With nearly all segments bad, each step takes many operations. */
		uint64_t stride = tight && faults ? points / POINTS_MOST + 1 : 1;
		uint64_t first = 1 + (stride > 1 ? prng_below(&prng, (uint32_t)stride) : 0);
		for (uint64_t point = first; point <= points; point += stride)
			for (int how = 0; how < IO_SIM_CRASHES; how++)
				(void)trial_run(trial, seed, point, (enum io_sim_crash)how);
	}
	free(trial);
}

static uint32_t seeds_wanted(uint32_t usual)
{
	const char *more = getenv("HAUL_TEST_CRASH_SEEDS");
	return more ? (uint32_t)strtoul(more, NULL, 10) : usual;
}

/* Something durable is lost, something deleted or replaced comes back, a flush is there in part, or
 * opening fails, after a power cut at one of the operations; nothing is evicted here. */
static void test_crash__keeps_every_promise_with_room(void **state)
{
	(void)state;
	trials(false, false, seeds_wanted(1));
}

/* The same while segments are reclaimed, emptied and used again. */
static void test_crash__keeps_every_promise_while_turning_over(void **state)
{
	(void)state;
	trials(true, false, seeds_wanted(1));
}

/* The same when writes and syncs fail as well: what a failed flush left on the disk is taken for
 * good by nobody, and what was acknowledged before and after is there. */
static void test_crash__keeps_every_promise_when_flushes_fail(void **state)
{
	(void)state;
	trials(false, true, seeds_wanted(1));
}

/* All of it at once: what was evicted, or lost with a flush, comes back neither. */
static void test_crash__keeps_every_promise_when_all_goes_wrong(void **state)
{
	(void)state;
	trials(true, true, seeds_wanted(1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash__keeps_every_promise_with_room),
		cmocka_unit_test(test_crash__keeps_every_promise_while_turning_over),
		cmocka_unit_test(test_crash__keeps_every_promise_when_flushes_fail),
		cmocka_unit_test(test_crash__keeps_every_promise_when_all_goes_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
