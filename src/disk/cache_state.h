/* disk/cache_state.h — what the files of a cache share: its partitions, and who drives them.
 *
 * Model      A partition is a shard behind a lock. Callers put their operation in under the lock
 *            and poll the shard, so that what can start starts. Then whoever finds nobody driving
 *            becomes the driver: it waits for the disk with the lock released, takes what has
 *            finished under the lock, wakes those whose operations are done, and hands the driving
 *            to one who still waits when its own is done. So a lone caller never switches threads,
 *            and the operations of all who come while the disk works go into the next flush.
 *            While the driver waits in the disk nobody else reaps: what another thread reaped would
 *            be missed by the wait.
 *            What nobody waits for is left to the keeper: a thread of the cache that sleeps until
 *            a partition is left with buffered operations or with transfers under way, and drives
 *            it when its deadline has come. A caller who leaves nothing behind never wakes it.
 * Files      cache.c (open, close, watching), cache_part.c (driving), cache_keeper.c,
 *            cache_store.c, cache_read.c, cache_wave.c (batches of lookups), cache_object.c. Nobody
 *            else includes it.
 * Threads    fields of a part: under its lock, but `disk` in io_wait.
 * Errors     as haul/cache.h.
 * Limits     WAVES lookups of many keys read at a time; more take turns. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <haul/cache.h>
#include "base/assert.h"
#include "disk/object.h"
#include "disk/shard.h"

enum {
	PART_KEEP_NS = 1000000, /* transfers that nobody waits for are looked at after it */
	STORE_GROUP = 64,       /* items of a batch that are put in at a time */
	OBJECT_GROUP = 16,      /* slices of an object that are under way at a time */
	WAVES = 4,
	WAVE_KEYS = 1024,
	WAVE_BYTES = 4 << 20,       /* of values that are copied out before anybody is called */
	OBJECT_WHOLE_MAX = 64 << 20 /* larger ones are told by lookup_batch without their data */
};

/* A caller, on its own stack, and the operations that it waits for. */
struct waiter {
	uint32_t pending;    /* operations not done */
	bool listed;         /* asleep: in part.waiters */
	bool any;            /* asleep until the driver has taken a turn, whatever it brought */
	struct waiter *next; /* part.waiters */
	pthread_cond_t wake; /* set up in part_sleep */
};

/* One durable operation. */
struct told {
	struct shard_wait wait;
	struct part *part;
	struct waiter *waiter;
	int result;
	bool done;
};

struct part {
	struct io io; /* what the shard sees: `disk`, that does not reap while `waiting` */
	struct io *disk;
	struct shard *shard;
	struct haul_cache *cache;
	pthread_mutex_t lock;
	bool driven;          /* somebody drives */
	bool waiting;         /* and waits for the disk, without the lock */
	bool kept;            /* the keeper knows that there is something to do */
	int64_t due_ns;       /* as the last poll said */
	uint64_t visits;      /* who took the lock, the keeper too */
	uint64_t visits_kept; /* when the keeper left it */
	struct waiter *waiters, *waiters_last;
};

struct keeper {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int64_t at_ns; /* INT64_MAX: nothing to do */
	bool running, stop;
};

struct wave; /* cache_wave.c's */

struct haul_cache {
	struct volume volume;
	struct os *os;
	struct part *parts;
	uint32_t part_count;
	uint32_t parts_open;
	uint32_t slice_bytes;
	bool read_only;
	struct keeper keeper;
	struct wave *waves;
	struct wave *wave_free;
	pthread_mutex_t wave_lock; /* of wave_free */
	pthread_cond_t wave_wake;
	pthread_mutex_t spread; /* held while windows of several partitions are waited for */
	_Atomic uint32_t wave_keys;
	_Atomic uint64_t incomplete;
};

/* ---- cache_part.c ---- */
int part_open(struct part *part, struct haul_cache *cache, const struct haul_cache_options *options,
	      uint32_t partition, struct haul_err *err);
/* Flushes; what the flush said. NULL-safe on a part that is not open. */
int part_close(struct part *part);
static inline void part_lock(struct part *part)
{
	(void)pthread_mutex_lock(&part->lock);
	part->visits++;
}
/* Unlock; first hand the driving over, or leave what is not finished to the keeper. */
void part_unlock(struct part *part);
/* Start what can be started. Under the lock, as all below. */
void part_poll(struct part *part);
/* Until at most `pending` operations of the waiter are not done. The lock is released meanwhile. */
void part_wait(struct part *part, struct waiter *waiter, uint32_t pending);
/* For who found no room: until something has happened. false: nothing has since the last poll, and
 * nothing will, as nothing is under way or due. */
bool part_turn(struct part *part);
/* One operation of the waiter is done. */
void part_done(struct part *part, struct waiter *waiter);
/* As the only driver, for whole-partition work; the lock stays held. */
void part_seize(struct part *part);
void part_release(struct part *part);
/* The keeper's turn: drive what is due. Returns when to come again. */
int64_t part_keep(struct part *part);
/* Make `told` ready to be waited for: counts it in the waiter. */
struct shard_wait *told_begin(struct told *told, struct part *part, struct waiter *waiter);
/* It was refused: nobody will tell. */
void told_cancel(struct told *told);

/* ---- cache_keeper.c ---- */
int cache_keeper_open(struct haul_cache *cache);
void cache_keeper_close(struct haul_cache *cache);
/* Come at that time at the latest. Any thread. */
void cache_keeper_call(struct keeper *keeper, int64_t at_ns);

/* ---- keys: cache_store.c ---- */
/* Hash the key, find its partition. -EINVAL for an empty key, HAUL_ELIMIT for one too long. */
int cache_key_find(struct haul_cache *cache, const struct haul_cache_key *key,
		   struct cache_key *ret_key, struct part **ret_part);

/* ---- cache_read.c ---- */
/* Keys of one partition that are read, on the caller's stack. take() is called once a key, in
 * order, without the lock; what it is given is good until it returns. */
struct reading {
	struct part *part;
	struct shard_get get; /* keys, values, count, peek: set by the caller */
	void (*take)(uint32_t index, const struct shard_value *value, void *arg);
	void *arg;
	struct waiter waiter;
};
/* Under the lock, which reading_finish releases meanwhile. */
void reading_begin(struct reading *reading);
void reading_finish(struct reading *reading);

/* Where a value, or a range of it, goes, and what became of it. */
struct wanted {
	uint64_t offset;
	uint8_t *data;
	uint64_t max;
	struct haul_cache_value value; /* result */
};
/* Read one key: a plain value or an object. Takes and releases the lock. */
void wanted_read(struct part *part, const struct cache_key *key, struct wanted *wanted);

/* ---- cache_wave.c ---- */
int waves_open(struct haul_cache *cache);
void waves_close(struct haul_cache *cache);

/* ---- cache_object.c: under the lock, which they release while they wait ---- */
/* A value over slice_bytes. */
int object_store(struct part *part, const struct haul_cache_item *item, const struct cache_key *key,
		 bool durable);
/* As shard_put and shard_delete, waiting for room; where the key holds an object, its slices go. */
int object_put(struct part *part, const struct shard_put *put);
int object_delete(struct part *part, const struct cache_key *key, struct shard_wait *wait);
/* Read data[0 … bytes - 1] from offset on; all of it lies within the object, and only the slices it
 * touches are read. HIT, or what was wrong with a slice. */
enum haul_cache_status object_read(struct part *part, const struct cache_key *key,
				   const struct object_head *head, const struct wanted *wanted);
