/* Every crash point of a workload: stores of many sizes, overwrites, deletes, expiry, pinned
 * entries, purges, on a disk with room and on one that turns over. At each operation that a disk
 * finishes the power is cut, in each of the ways a simulated disk knows; then the shard is opened
 * again (and the power may be cut again meanwhile), compared with what was promised, used further,
 * and cut off again. What else a cache can do and suffer is drawn with the seed: see MIX_LIST. */
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
	STEPS_MIXED = 300,
	EVENTS_MAX = 8192,
	BASES = 256,
	WAITS_MAX = 128,
	POINTS_MOST = 150,
	POINTS_MIXED = 12,
	CUTS_MANY = 10, /* in a row, while it opens */
	TURNS_MOST = 200,
	SEGMENT_BYTES = 65536,
	ROOMY_BYTES = 4 << 20,
	TIGHT_BYTES = 10 * SEGMENT_BYTES + 65536,
	PINNED_KEY = KEYS, /* keys from here on are pinned */
	PINNED_KEYS = 2,
	ALL_KEYS = KEYS + PINNED_KEYS
};

/* X(name, help) */
#define MIX_LIST(X)                                                                                \
	X(TIGHT, "segments are reclaimed")                                                         \
	X(FAULTS, "writes and syncs fail now and then")                                            \
	X(LRU, "entries leave one by one; their rows stay, and may come back")                     \
	X(PACKED, "values are compressed")                                                         \
	X(CONDITIONS, "stores are conditional")                                                    \
	X(EMPTY, "values without bytes, client flags")                                             \
	X(SLICES, "slices of objects, and heads")                                                  \
	X(SMALL, "many small values at a time")                                                    \
	X(FEW, "the index is smaller than what is stored")                                         \
	X(BUDGET, "stores are refused")                                                            \
	X(WORN, "blocks that cannot be read or written")                                           \
	X(ROT, "blocks that change while the power is off")                                        \
	X(DEAD, "the device goes away and comes back")                                             \
	X(CUTS, "the power is cut again and again while it opens")                                 \
	X(TINY, "as few segments and buffers as can be")                                           \
	X(MANY, "segments enough for all lanes")

enum mix_bit {
#define X(name, help) MIX_BIT_##name,
	MIX_LIST(X)
#undef X
		MIX_BITS
};

enum mix {
#define X(name, help) MIX_##name = 1 << MIX_BIT_##name,
	MIX_LIST(X)
#undef X
};

enum kind { PUT, DELETE, PURGE };

struct event {
	enum kind kind;
	uint32_t key;
	uint64_t version;
	uint32_t expiry;
	uint64_t flush; /* it went with; 0 = not yet */
	bool unsure;    /* a flush failed that may have carried it */
	bool sure;      /* it is durable by itself */
};

/* What a key was when the power last came back. */
struct base {
	uint64_t seen;           /* 0 = not there */
	uint64_t version[BASES]; /* what it may be after the next time */
	uint32_t expiry[BASES];
	uint32_t count;
	bool hurt; /* what it is may be damaged */
};

struct trial {
	struct shard_lab lab;
	struct prng prng;
	uint64_t seed;
	uint32_t mix;
	bool leaves;     /* entries may be evicted */
	bool comes_back; /* … and be there again after an open */
	bool fails;      /* flushes do */
	bool rotten;     /* something rotted already */
	bool dead;       /* the device is */
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

static bool base_over(const struct trial *trial, const struct base *base, uint32_t i)
{
	return base->expiry[i] != 0 && base->expiry[i] <= now_s(trial);
}

static bool base_allows(const struct trial *trial, uint32_t key, uint64_t version)
{
	const struct base *base = &trial->base[key];
	bool found = base->seen == 0 && version == 0;
	for (uint32_t i = 0; i < base->count && !found; i++) {
		bool over = base_over(trial, base, i);
		found = version == 0 ? over : base->version[i] == version && !over;
	}
	return found;
}

static bool base_expects(const struct trial *trial, uint32_t key, uint64_t version)
{
	const struct base *base = &trial->base[key];
	bool over = base->count == 1 && base_over(trial, base, 0);
	return version == (over ? 0 : base->seen);
}

static bool may_miss(const struct trial *trial, uint32_t key)
{
	return (trial->leaves && key < PINNED_KEY) || trial->base[key].hurt;
}

/* Whether a key may be at this version after a crash (0: not there). */
static bool allowed(const struct trial *trial, uint32_t key, uint64_t version)
{
	bool covered = false, unsure = false;
	if (version == 0 && may_miss(trial, key))
		return true;
	for (uint32_t i = trial->event_count; i-- > 0 && !covered;) {
		const struct event *event = &trial->events[i];
		if (!touches(event, key))
			continue;
		unsure = unsure || event->unsure;
		if (outcome(trial, event) == version || (unsure && version == 0))
			return true;
		covered = (i < trial->durable || event->sure) && !event->unsure;
	}
	return !covered && base_allows(trial, key, version);
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
	return base_expects(trial, key, version);
}

static _Noreturn void blame(const struct trial *trial, uint32_t key, uint64_t version,
			    const char *what)
{
	print_message("seed %llu mix %u point %llu how %d: key %u is %llu: %s\n",
		      (unsigned long long)trial->seed, trial->mix, (unsigned long long)trial->point,
		      trial->how, key, (unsigned long long)version, what);
	for (uint32_t i = 0; i < trial->base[key].count; i++)
		print_message("base %llu\n", (unsigned long long)trial->base[key].version[i]);
	for (uint32_t i = 0; i < trial->event_count; i++) {
		const struct event *event = &trial->events[i];
		if (touches(event, key))
			print_message("  %u%s%s: kind %d version %llu expiry %u flush %llu\n", i,
				      i < trial->durable || event->sure ? " durable" : "",
				      event->unsure ? " unsure" : "", event->kind,
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
	if (!trial->fails && !trial->lab.crashed)
		blame(trial, 0, 0, "a flush failed without a fault");
	for (uint32_t i = trial->durable; i < trial->event_count; i++)
		trial->events[i].unsure = true;
}

/* A delete that found nothing, and made sure that it stays so, has not failed. */
static bool failed_wait(const struct shard_lab_wait *wait)
{
	return wait->result < 0 && wait->result != -ENOENT;
}

static void note_waits(struct trial *trial)
{
	uint64_t failed = shard_lab_stat(&trial->lab).failed;
	if (failed != trial->failed)
		note_failure(trial);
	trial->failed = failed;
	for (uint32_t i = 0; i < trial->wait_count; i++)
		if (trial->waits[i].told > 0 && failed_wait(&trial->waits[i]))
			note_failure(trial);
	for (uint32_t i = 0; i < trial->wait_count; i++) {
		const struct shard_lab_wait *wait = &trial->waits[i];
		assert_true(wait->told <= 1);
		if (wait->told == 0)
			continue;
		if (!failed_wait(wait) && trial->wait_upto[i] > trial->durable)
			trial->durable = trial->wait_upto[i];
	}
}

/* A disk with next to nothing left of it gives everything up, rather than stop. */
static void note_purge(struct trial *trial)
{
	const struct shard *shard = trial->lab.shard;
	if (!shard || shard->root.purged_seq <= trial->purged)
		return;
	assert_true(trial->leaves && trial->fails);
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

static uint32_t size_of(struct trial *trial)
{
	static const uint32_t sizes[] = { 24, 100, 700, 4096, 4000, 5000, 9000, 20000 };
	if (trial->mix & MIX_EMPTY && prng_below(&trial->prng, 3) == 0)
		return 0;
	if (trial->mix & MIX_SMALL)
		return 24 + prng_below(&trial->prng, 60);
	return sizes[prng_below(&trial->prng, sizeof sizes / sizeof *sizes)];
}

/* Made of the version; an empty value is told by them. */
static uint32_t flags_of(const struct trial *trial, uint64_t version, uint32_t bytes)
{
	if (bytes == 0)
		return (uint32_t)version;
	return trial->mix & MIX_EMPTY && version % 3 == 0 ? (uint32_t)version * 2654435761U : 0;
}

static uint32_t conditions(struct trial *trial, uint32_t key, struct shard_put *put)
{
	static const uint32_t how[] = { HAUL_CACHE_ADD, HAUL_CACHE_REPLACE, HAUL_CACHE_COMPARE };
	if (!(trial->mix & MIX_CONDITIONS) || prng_below(&trial->prng, 2))
		return 0;
	char text[32];
	struct cache_key shard_key = shard_lab_key(&trial->lab, key, text);
	put->version = shard_version(trial->lab.shard, &shard_key);
	return how[prng_below(&trial->prng, 3)];
}

/* Returns what shard_put says; tries again while there is no room. */
static int put_event(struct trial *trial, struct event *event, struct shard_put *put, bool durable)
{
	struct shard_lab *lab = &trial->lab;
	uint32_t bytes = event->key >= PINNED_KEY ? 3000 : size_of(trial);
	put->flags = flags_of(trial, event->version, bytes);
	int rc = -EAGAIN;
	for (uint32_t tries = 0; rc == -EAGAIN && tries < 20 && !lab->crashed; tries++) {
		put->wait = durable ? wait_new(trial, trial->event_count + 1) : NULL;
		uint64_t before = lab->shard->next_flush;
		rc = shard_lab_put(lab, event->key, event->version, bytes, put);
		if (rc == 0)
			event_add(trial, event);
		else if (put->wait)
			trial->wait_count--;
		note_flushes(trial, before);
		if (rc == -EAGAIN) {
			turn(trial);
			os_sim_advance(&lab->os, NS_PER_MS);
		}
	}
	return rc;
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
	put.how |= conditions(trial, event.key, &put);
	put.head = trial->mix & MIX_SLICES && event.key % 4 == 2 && !pinned;
	(void)put_event(trial, &event, &put, durable);
}

static void step_puts(struct trial *trial, bool pinned, bool durable)
{
	uint32_t count = trial->mix & MIX_SMALL && !pinned ? 1 + prng_below(&trial->prng, 20) : 1;
	for (uint32_t i = 0; i < count && !trial->lab.crashed; i++)
		step_put(trial, pinned, durable);
}

/* Whether all that was done to the key is durable. */
static bool settled(const struct trial *trial, uint32_t key)
{
	uint32_t i = trial->event_count;
	while (i > 0 && !touches(&trial->events[i - 1], key))
		i--;
	return i <= trial->durable || trial->events[i - 1].sure;
}

/* It was told that the key is not there: so it stays. Where entries may be on the disk that the
 * index does not know, not before what was written for it is durable. */
static void note_absent(struct trial *trial, uint32_t key, bool tombstone)
{
	struct event event = { .kind = DELETE, .key = key };
	event.sure = !trial->comes_back && !trial->fails && settled(trial, key);
	if (event.sure || tombstone)
		event_add(trial, &event);
}

static void step_delete(struct trial *trial)
{
	char text[32];
	struct event event = { .kind = DELETE, .key = prng_below(&trial->prng, ALL_KEYS) };
	struct cache_key key = shard_lab_key(&trial->lab, event.key, text);
	bool durable = prng_below(&trial->prng, 2) == 0;
	struct shard_wait *wait = durable ? wait_new(trial, trial->event_count + 1) : NULL;
	uint64_t before = trial->lab.shard->next_flush;
	bool hides = trial->lab.shard->hides;
	int rc = shard_delete(trial->lab.shard, &key, wait);
	if (rc == 0)
		event_add(trial, &event);
	else if (wait)
		trial->wait_count--;
	if (rc == -ENOENT)
		note_absent(trial, event.key, hides);
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
		assert_true(rc == 0 || trial->fails);
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

/* Whether what the last get said is possible at all; returns whether the key is missing. */
static bool got_nothing(const struct trial *trial, uint32_t key, uint64_t version)
{
	const struct shard_value *got = &trial->lab.got;
	bool missing = got->status == HAUL_CACHE_MISS || got->status == HAUL_CACHE_EXPIRED;
	if (trial->mix & (MIX_WORN | MIX_ROT | MIX_DEAD))
		missing = got->status != HAUL_CACHE_HIT;
	if (got->status == HAUL_CACHE_HIT ? version == 0 : !missing)
		blame(trial, key, got->status, "not whole");
	if (got->status == HAUL_CACHE_HIT && got->flags != flags_of(trial, version, got->bytes))
		blame(trial, key, got->flags, "not the flags it was stored with");
	return missing;
}

static void step_get(struct trial *trial)
{
	uint64_t version;
	uint32_t key = prng_below(&trial->prng, ALL_KEYS);
	uint64_t before = trial->lab.shard->next_flush;
	(void)shard_lab_get(&trial->lab, key, &version);
	if (trial->lab.crashed)
		return;
	note_purge(trial);
	note_flushes(trial, before);
	note_waits(trial);
	bool missing = got_nothing(trial, key, version);
	if (missing && (trial->dead || trial->lab.shard->offline))
		return;
	if (!(missing && may_miss(trial, key)) && !expected(trial, key, version))
		blame(trial, key, version, "not what was stored last");
	if (missing)
		note_absent(trial, key, false);
}

/* ---- faults ---- */

/* Pinned entries of the segment that the block is in may be lost. */
static void note_hurt(struct trial *trial, uint64_t at)
{
	const struct shard *shard = trial->lab.shard;
	for (uint32_t key = PINNED_KEY; key < ALL_KEYS; key++) {
		char text[32];
		struct cache_key shard_key = shard_lab_key(&trial->lab, key, text);
		const struct index_slot *slot = index_find(&shard->index, shard_key.hash);
		struct index_entry entry;
		if (!slot)
			continue;
		index_unpack(slot, &entry);
		uint64_t from = segment_offset(shard, entry.segment);
		if (at >= from && at < from + SEGMENT_BYTES)
			trial->base[key].hurt = true;
	}
}

static uint64_t block_at(struct trial *trial)
{
	const struct format_super *super = &trial->lab.volume.super;
	uint32_t segment = prng_below(&trial->prng, super->segments);
	uint32_t blocks = SEGMENT_BYTES / FORMAT_BLOCK;
	uint32_t block = prng_below(&trial->prng, blocks);
	if (prng_below(&trial->prng, 3) == 0)
		block = prng_below(&trial->prng, 2) * (blocks - 1); /* header or footer */
	return segment_offset(trial->lab.shard, segment) + block * FORMAT_BLOCK;
}

/* One block at a time: what is there twice is there once. */
static void step_worn(struct trial *trial)
{
	struct shard_lab *lab = &trial->lab;
	io_sim_bad(lab->disk, 0, 0);
	io_sim_worn(lab->disk, 0, 0);
	if (!(trial->mix & MIX_WORN) || prng_below(&trial->prng, 3) == 0)
		return;
	uint64_t at = block_at(trial);
	if (prng_below(&trial->prng, 2)) {
		io_sim_bad(lab->disk, at, FORMAT_BLOCK);
		note_hurt(trial, at);
	} else {
		io_sim_worn(lab->disk, at, FORMAT_BLOCK);
	}
}

static void faults_end(struct trial *trial)
{
	struct shard_lab *lab = &trial->lab;
	io_sim_fail(lab->disk, IO_WRITE, 0, 0, 0);
	io_sim_fail(lab->disk, IO_SYNC, 0, 0, 0);
	io_sim_bad(lab->disk, 0, 0);
	io_sim_worn(lab->disk, 0, 0);
	io_sim_dead(lab->disk, trial->dead = false);
}

static void check(struct trial *trial);

/* Syncs fail until it is offline; or one does, and the root cannot be written that says so. */
static void step_offline(struct trial *trial)
{
	struct shard_lab *lab = &trial->lab;
	const struct format_super *super = &lab->volume.super;
	if (prng_below(&trial->prng, 2)) {
		io_sim_fail(lab->disk, IO_SYNC, 0, FAILURES_MAX, -EIO);
		return;
	}
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	io_sim_worn(lab->disk, format_root_offset(super, 0, prng_below(&trial->prng, 2)),
		    FORMAT_BLOCK);
}

/* The device goes away, or comes back. */
static void step_dead(struct trial *trial)
{
	struct haul_err err;
	struct shard_lab *lab = &trial->lab;
	if (!lab->shard->offline) {
		if (prng_below(&trial->prng, 3) == 0)
			io_sim_dead(lab->disk, trial->dead = true);
		else
			step_offline(trial);
		return;
	}
	faults_end(trial);
	int rc = shard_online(lab->shard, &err);
	if (lab->crashed || io_sim_stopped(lab->disk))
		return;
	if (rc != 0)
		blame(trial, 0, 0, "it does not come back");
	note_waits(trial);
	check(trial);
}

static void step_fault(struct trial *trial, uint32_t what)
{
	if (trial->lab.shard->offline || (what == 0 && trial->mix & MIX_DEAD))
		step_dead(trial);
	else if (what < 2 && trial->mix & (MIX_WORN | MIX_DEAD))
		step_worn(trial);
	else if (trial->mix & MIX_FAULTS)
		io_sim_fail(trial->lab.disk, what < 3 ? IO_WRITE : IO_SYNC,
			    prng_below(&trial->prng, 4), 1, -EIO);
}

/* ---- steps ---- */

static void step(struct trial *trial)
{
	uint32_t what = prng_below(&trial->prng, 100);
	if (what < 50)
		step_puts(trial, false, false);
	else if (what < 62)
		step_puts(trial, false, true);
	else if (what < 66)
		step_puts(trial, true, false);
	else if (what < 78)
		step_delete(trial);
	else if (what < 80)
		step_flush(trial, what == 79 && prng_below(&trial->prng, 3) == 0);
	else if (what < 90)
		step_get(trial);
	else if (what < 96 || !trial->fails)
		os_sim_advance(&trial->lab.os, NS_PER_MS * prng_below(&trial->prng, 1000));
	else
		step_fault(trial, what - 96);
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

static void base_add(struct base *base, uint64_t version, uint32_t expiry)
{
	for (uint32_t i = 0; i < base->count; i++)
		if (base->version[i] == version)
			return;
	assert_true(base->count < BASES);
	base->version[base->count] = version;
	base->expiry[base->count++] = expiry;
}

/* What a key may be from now on: what it is; or, if that is nothing and entries come back, what it
 * might have been. */
static void base_note(struct trial *trial, uint32_t key, uint64_t seen)
{
	const struct base *old = &trial->base[key];
	struct base base = { .seen = seen, .hurt = seen == 0 && old->hurt };
	bool any = seen == 0 && trial->comes_back;
	if (seen == 0 && !any) {
		trial->base[key] = base;
		return;
	}
	for (uint32_t i = 0; i < old->count; i++)
		if (any ? allowed(trial, key, old->version[i]) : old->version[i] == seen)
			base_add(&base, old->version[i], old->expiry[i]);
	for (uint32_t i = 0; i < trial->event_count; i++) {
		const struct event *event = &trial->events[i];
		if (event->kind != PUT || event->key != key)
			continue;
		if (any ? allowed(trial, key, event->version) : event->version == seen)
			base_add(&base, event->version, event->expiry);
	}
	trial->base[key] = base;
}

/* Everything is what it may be; from now on it is what it is. */
static void check(struct trial *trial)
{
	uint64_t seen[ALL_KEYS];
	note_purge(trial); /* right before the cut */
	trial->purged = trial->lab.shard->root.purged_seq;
	for (uint32_t key = 0; key < ALL_KEYS; key++) {
		(void)shard_lab_get(&trial->lab, key, &seen[key]);
		if (trial->lab.crashed)
			return;
		(void)got_nothing(trial, key, seen[key]);
		note_purge(trial);
		if (!allowed(trial, key, seen[key]))
			blame(trial, key, seen[key], "not what was promised");
	}
	if (!trial->leaves && !trial->fails && !trial->comes_back)
		check_whole(trial, seen);
	for (uint32_t key = 0; key < ALL_KEYS; key++)
		base_note(trial, key, seen[key]);
	trial->event_count = trial->durable = trial->wait_count = 0;
	note_purge(trial);
	trial->failed = shard_lab_stat(&trial->lab).failed;
}

/* A bit of something that is told elsewhere, too. Once: then it is there once. */
static void rot(struct trial *trial)
{
	const struct format_super *super = &trial->lab.volume.super;
	if (!(trial->mix & MIX_ROT) || trial->rotten || prng_below(&trial->prng, 3) == 0)
		return;
	uint32_t segment = prng_below(&trial->prng, super->segments);
	uint64_t at = format_segment_offset(super, 0, segment) + prng_below(&trial->prng, 128);
	if (prng_below(&trial->prng, 2))
		at += SEGMENT_BYTES - FORMAT_BLOCK;
	io_sim_bytes(trial->lab.disk)[at] ^= (uint8_t)(1U << prng_below(&trial->prng, 8));
	trial->rotten = true;
}

static void open_again(struct trial *trial)
{
	struct shard_lab *lab = &trial->lab;
	struct haul_err err;
	if (trial->mix & MIX_DEAD && prng_below(&trial->prng, 2))
		io_sim_fail(lab->disk, prng_below(&trial->prng, 2) ? IO_WRITE : IO_SYNC,
			    prng_below(&trial->prng, 3), 1, -EIO);
	if (shard_lab_open(lab) != 0)
		blame(trial, 0, 0, "it does not open");
	faults_end(trial);
	if (lab->shard->offline && shard_online(lab->shard, &err) != 0)
		blame(trial, 0, 0, "it does not come back");
	if (lab->shard->offline)
		blame(trial, 0, 0, "it stays away");
	check(trial);
}

/* Open after the power was cut; it may be cut again while that goes on. */
static void come_back(struct trial *trial)
{
	struct shard_lab *lab = &trial->lab;
	faults_end(trial);
	shard_lab_crash(lab, trial->how);
	rot(trial);
	uint32_t most = trial->mix & MIX_CUTS ? CUTS_MANY : 2;
	for (uint32_t cuts = prng_below(&trial->prng, most + 1); cuts > 0; cuts--) {
		io_sim_stop_after(lab->disk, 1 + prng_below(&trial->prng, 5));
		lab->how = (enum io_sim_crash)prng_below(&trial->prng, IO_SIM_CRASHES);
		int rc = shard_lab_open(lab);
		if (rc != 0 && !lab->crashed)
			blame(trial, 0, 0, "it does not open");
		shard_lab_crash(lab, lab->how);
	}
	open_again(trial);
}

static uint32_t segments_of(const struct trial *trial)
{
	if (trial->mix & MIX_TINY)
		return 8 + (uint32_t)trial->seed % 2;
	if (trial->mix & MIX_MANY)
		return 26;
	return trial->mix & MIX_TIGHT ? 10 : 63;
}

/* Returns the steps it takes. */
static uint32_t trial_open(struct trial *trial)
{
	struct shard_lab *lab = &trial->lab;
	uint32_t mix = trial->mix;
	trial->leaves = mix & (MIX_TIGHT | MIX_FEW | MIX_TINY | MIX_MANY | MIX_WORN | MIX_ROT);
	trial->comes_back = mix & (MIX_LRU | MIX_FEW | MIX_WORN | MIX_ROT | MIX_DEAD);
	trial->fails = mix & (MIX_FAULTS | MIX_WORN | MIX_DEAD | MIX_ROT);
	lab->options.buffer_bytes = mix & MIX_TINY ? 1 << 18 : 1 << 20;
	lab->options.limits = (struct haul_limits){ 12, 40000, 2 * NS_PER_MS, 12 };
	if (mix & MIX_SMALL)
		lab->options.limits.ops_max = lab->options.limits.ops_start = 100;
	lab->options.fixed = true;
	lab->options.policy = mix & MIX_LRU ? HAUL_CACHE_LRU : HAUL_CACHE_S3FIFO;
	lab->options.write_budget = mix & MIX_BUDGET ? 1200 : 0;
	if (mix & MIX_PACKED)
		lab->options.codec = trial->seed % 2 ? INDEX_LZ4 : INDEX_ZSTD;
	shard_lab_init(lab, segments_of(trial) * SEGMENT_BYTES + 73728, SEGMENT_BYTES, trial->seed);
	lab->squeezing = mix & MIX_PACKED;
	lab->slicing = mix & MIX_SLICES;
	lab->volume.super.secret = trial->seed; /* and with it the order of the hashes */
	if (mix & MIX_FEW)
		lab->volume.super.entries_max = 16;
	assert_int_equal(shard_lab_open(lab), 0);
	uint32_t usual = mix & MIX_TIGHT ? STEPS_TIGHT : STEPS;
	return mix & ~(uint32_t)(MIX_TIGHT | MIX_FAULTS) ? STEPS_MIXED : usual;
}

/* Returns how many operations the disk finished. */
static uint64_t trial_run(struct trial *trial, uint64_t seed, uint64_t point, enum io_sim_crash how)
{
	uint32_t mix = trial->mix;
	*trial = (struct trial){ .seed = seed, .point = point, .how = how, .mix = mix };
	struct shard_lab *lab = &trial->lab;
	trial->next_version = 1;
	prng_init(&trial->prng, seed);
	uint32_t steps = trial_open(trial);
	uint64_t before = io_sim_count(lab->disk, IO_WRITE) + io_sim_count(lab->disk, IO_SYNC);
	lab->how = how;
	io_sim_stop_after(lab->disk, point);
	for (uint32_t i = 0; i < steps && lab->shard && !lab->crashed; i++)
		step(trial);
	/* The disk that turns over does; of the other some segments may be dead as a whole. */
	if (lab->shard && !lab->crashed && (mix & ~(uint32_t)MIX_FAULTS) == MIX_TIGHT)
		assert_true(shard_lab_stat(lab).reclaimed_segments > 0);
	uint64_t after = io_sim_count(lab->disk, IO_WRITE) + io_sim_count(lab->disk, IO_SYNC);
	prng_init(&trial->prng, seed + point);
	prng_init(&lab->prng, seed ^ point);
	come_back(trial);
	for (uint32_t i = 0; i < STEPS_AFTER; i++)
		step(trial);
	trial->how = (enum io_sim_crash)prng_below(&trial->prng, IO_SIM_CRASHES);
	come_back(trial);
	if (shard_lab_close(lab) != 0 && !trial->fails)
		blame(trial, 0, 0, "close says that something failed");
	open_again(trial);
	shard_lab_done(lab);
	return after - before;
}

static void trials(uint32_t mix, uint32_t seeds)
{
	struct trial *trial = calloc(1, sizeof *trial);
	struct prng prng;
	assert_non_null(trial);
	test_prng(&prng);
	trial->mix = mix;
	for (uint32_t i = 0; i < seeds; i++) {
		uint64_t seed = prng_next(&prng) >> 16;
		uint64_t points = trial_run(trial, seed, UINT64_MAX, IO_SIM_LOSE_ALL);
		/* With nearly all segments bad, each step takes many operations. */
		uint64_t stride = mix == (MIX_TIGHT | MIX_FAULTS) ? points / POINTS_MOST + 1 : 1;
		uint64_t first = 1 + (stride > 1 ? prng_below(&prng, (uint32_t)stride) : 0);
		for (uint64_t point = first; point <= points; point += stride)
			for (int how = 0; how < IO_SIM_CRASHES; how++)
				(void)trial_run(trial, seed, point, (enum io_sim_crash)how);
	}
	free(trial);
}

/* What is combined is drawn with the seed, and so is where it is cut off. */
static void trials_mixed(uint32_t seeds)
{
	struct trial *trial = calloc(1, sizeof *trial);
	struct prng prng;
	assert_non_null(trial);
	test_prng(&prng);
	for (uint32_t i = 0; i < seeds; i++) {
		uint64_t seed = prng_next(&prng) >> 16;
		uint64_t some = prng_next(&prng);
		trial->mix = (uint32_t)(some & prng_next(&prng)) % (1U << MIX_BITS);
		uint64_t points = trial_run(trial, seed, UINT64_MAX, IO_SIM_LOSE_ALL);
		for (uint32_t j = 0; j < POINTS_MIXED && points > 0; j++) {
			uint64_t point = 1 + prng_below(&prng, (uint32_t)points);
			(void)trial_run(trial, seed, point,
					(enum io_sim_crash)prng_below(&prng, IO_SIM_CRASHES));
		}
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
	trials(0, seeds_wanted(1));
}

/* The same while segments are reclaimed, emptied and used again. */
static void test_crash__keeps_every_promise_while_turning_over(void **state)
{
	(void)state;
	trials(MIX_TIGHT, seeds_wanted(1));
}

/* The same when writes and syncs fail as well: what a failed flush left on the disk is taken for
 * good by nobody, and what was acknowledged before and after is there. */
static void test_crash__keeps_every_promise_when_flushes_fail(void **state)
{
	(void)state;
	trials(MIX_FAULTS, seeds_wanted(1));
}

/* All of it at once: what was evicted, or lost with a flush, comes back neither. */
static void test_crash__keeps_every_promise_when_all_goes_wrong(void **state)
{
	(void)state;
	trials(MIX_TIGHT | MIX_FAULTS, seeds_wanted(1));
}

/* The same with anything else that a cache can do, or suffer, at the same time. */
static void test_crash__keeps_every_promise_whatever_comes_together(void **state)
{
	(void)state;
	trials_mixed(seeds_wanted(20));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash__keeps_every_promise_with_room),
		cmocka_unit_test(test_crash__keeps_every_promise_while_turning_over),
		cmocka_unit_test(test_crash__keeps_every_promise_when_flushes_fail),
		cmocka_unit_test(test_crash__keeps_every_promise_when_all_goes_wrong),
		cmocka_unit_test(test_crash__keeps_every_promise_whatever_comes_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
