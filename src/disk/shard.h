/* disk/shard.h — one partition of a cache: everything about it is done by one thread, and nothing
 * in it waits.
 *
 * Model      Stores are copied into the open batch of a lane; lookups are queued. shard_poll does
 *            what is due: it asks the gate whether to flush, plans and starts all lookups that were
 *            queued since the last turn as one batch, reclaims segments, and takes what the disk
 *            has finished. Callers learn by callback, from inside shard_poll.
 * Ownership  volume is borrowed. Keys and values of a put are copied. A shard_get and its arrays
 *            are the caller's until its last window was given back.
 * Memory     all at shard_open.
 * Threads    one at a time; the cache's facade locks, the server gives each shard to one thread.
 * Errors     stated at each call. */
#pragma once

#include <haul/cache.h>
#include "disk/format.h"
#include "disk/index.h"
#include "disk/key.h"
#include "os/io.h"
#include "os/os.h"

struct shard;

/* The file, opened and understood; shared by its partitions, and not changed by them. */
struct volume {
	struct file file;
	struct format_super super;
	struct os *os;
};

int volume_open(struct volume *volume, const char *path, bool read_only, struct os *os,
		struct haul_err *err);
void volume_close(struct volume *volume);

struct shard_options {
	const struct volume *volume;
	uint32_t partition;
	struct io *io; /* may carry several shards of one thread; borrowed */
	struct haul_limits limits;
	bool fixed;
	uint64_t buffer_bytes, read_bytes, ram_bytes; /* of this shard */
	enum haul_cache_policy policy;
	uint64_t write_budget;
	uint32_t pinned_percent;
	enum index_codec codec;
	bool read_only;
	const char *name; /* prefix of its stats blocks: "cache0" */
	struct haul_stats_table *stats;
};

/* Recovers; waits for the disk. The only errors are those of set-up (-ENOMEM, HAUL_ELIMIT) and
 * -ENODEV: no contents make it fail. */
int shard_open(struct shard **ret_shard, const struct shard_options *options, struct haul_err *err);
/* Flushes and waits; returns the flush's result. No get may be under way. */
int shard_close(struct shard *shard);

/* Told once, when the operations before it are durable (0) or are not (-EIO …). */
struct shard_wait {
	void (*done)(struct shard_wait *wait, int result);
	void *owner;
	struct shard_wait *next; /* the shard's, as is the next */
	bool all;                /* hears of earlier stores that failed, too: shard_flush */
	int success;             /* what is told when it went well: 0, or -ENOENT */
};

struct shard_put {
	struct cache_key key;
	const void *value;
	uint32_t bytes; /* <= HAUL_CACHE_SLICE_MAX */
	uint32_t expiry;
	uint32_t flags;
	uint32_t how; /* HAUL_CACHE_PINNED … */
	uint64_t version;
	bool head;               /* value is an object's head */
	struct shard_wait *wait; /* NULL = buffered */
};
/* 0: taken, lookups see it; wait is told later (never from inside this call). -EAGAIN: no buffer
 * is free, poll and try again. Else refused: -EEXIST, -ENOENT, HAUL_ESTALE, HAUL_ELIMIT, HAUL_EFULL
 * (pinned quota), HAUL_EADMIT, -ENODEV, -EROFS; nothing changed, wait is not told. */
int shard_put(struct shard *shard, const struct shard_put *put);
/* 0 or -ENOENT, and as shard_put. An expired entry is -ENOENT, and gone. Where a row of it may
 * still be on the disk, it is wait that is told -ENOENT, when that row cannot come back. */
int shard_delete(struct shard *shard, const struct cache_key *key, struct shard_wait *wait);
/* Close the batch now; wait is told when all before is durable. wait may be NULL. */
void shard_flush(struct shard *shard, struct shard_wait *wait);
/* Everything is gone, at once; wait is told when that is durable. 0 or -ENODEV. */
int shard_purge(struct shard *shard, struct shard_wait *wait);

struct shard_value {
	enum haul_cache_status status;
	bool head; /* data is an object's head */
	const uint8_t
		*data; /* HIT; uncompressed, without the client flags; until the window is given
			      * back */
	uint32_t bytes;
	uint32_t flags;
	uint32_t expiry;
	uint64_t version;
	void *buffer; /* the shard's: holds data */
};

struct shard_get {
	const struct cache_key *keys;        /* hashed */
	struct shard_value *values;          /* receives */
	uint32_t count;                      /* >= 1 */
	bool peek;                           /* count no read, keep nothing in RAM */
	void (*done)(struct shard_get *get); /* values[first … first + ready - 1] are there */
	void *owner;
	uint32_t first, ready; /* the window; first + ready == count: it is the last */
	/* the shard's */
	uint32_t window;  /* keys asked for, of which ready could be served */
	uint32_t pending; /* keys of the window that wait for the disk */
	bool narrow;      /* buffers were short: one key a window */
	struct shard_get *next;
};
/* Queue it. done() is called from shard_poll, once a window; windows are in order, and one at a
 * time. Every get finishes, whatever the disk does. */
void shard_get(struct shard *shard, struct shard_get *get);
/* Give the window back; queues the rest, if there is any. May be called from done(). */
void shard_get_next(struct shard *shard, struct shard_get *get);

/* Do what is due. Returns when to call again at the latest (INT64_MAX = when something happens: a
 * call here, or the io's descriptor is readable). The caller reaps the io through it. */
int64_t shard_poll(struct shard *shard);
/* Whether shard_put would find a buffer. */
bool shard_room(const struct shard *shard);
bool shard_offline(const struct shard *shard);
/* After the device came back: recover anew; waits for the disk. */
int shard_online(struct shard *shard, struct haul_err *err);
/* Add this shard's figures. */
void shard_stat(struct shard *shard, struct haul_cache_stat *stat);
/* "cas": from where the entry is, so it changes with every store. 0 = not there. */
uint64_t shard_version(const struct shard *shard, const struct cache_key *key);
/* Whether the key is there and its value is an object's head; from the index, no I/O. */
bool shard_is_head(const struct shard *shard, const struct cache_key *key);

/* Poll until *flag, or (flag NULL) until nothing is under way: for single-threaded callers. */
void shard_drive(struct shard *shard, const bool *flag);
