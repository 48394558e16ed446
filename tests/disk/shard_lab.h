/* disk/shard_lab.h — a shard on a simulated disk that can be switched off.
 *
 * Model      shard_lab_init formats a volume in memory; shard_lab_open opens its shard, simulated
 *            clock and all. Keys are numbers. A value is made of key, version and length, so that
 *            from bytes that were read one can tell whose they are, and that all of them are right.
 *            shard_lab_crash cuts the power; when the disk stops by itself (io_sim_stop_after), the
 *            power is cut at that moment, in the way set in lab->how.
 * Threads    one. Errors: asserts, but where it says otherwise. */
#pragma once

#include "disk/shard_parts.h"
#include "lib/testlib.h"
#include "os/io_sim.h"

enum { SHARD_LAB_START_S = 1700000000, SHARD_LAB_VALUE_MIN = 24 };

struct shard_lab {
	struct volume volume;
	struct os_sim os;
	struct io_sim *disk;
	struct io *io;
	struct io_calls calls; /* the simulated disk's, but wait */
	const struct io_calls *own_calls;
	struct shard *shard;
	struct shard_options options;
	struct prng prng;
	enum io_sim_crash how;
	bool crashed;           /* the power is cut; open again */
	bool squeezing;         /* values can be compressed */
	bool slicing;           /* every fourth key is a slice of an object */
	uint8_t *value;         /* HAUL_CACHE_SLICE_MAX */
	struct shard_value got; /* what the last get said; its data is not there any more */
};

void shard_lab_init(struct shard_lab *lab, uint64_t bytes, uint32_t segment_bytes, uint64_t seed);
void shard_lab_done(struct shard_lab *lab);
/* 0, or what shard_open says; -ENODEV when the power was cut meanwhile (lab->crashed). */
int shard_lab_open(struct shard_lab *lab);
/* What shard_close says. */
int shard_lab_close(struct shard_lab *lab);
void shard_lab_reopen(struct shard_lab *lab);
/* Power cut; the shard is gone. */
void shard_lab_crash(struct shard_lab *lab, enum io_sim_crash how);
/* Give up the shard without a word to the disk. */
void shard_lab_abandon(struct shard_lab *lab);

/* A waiter that notes what it was told. */
struct shard_lab_wait {
	struct shard_wait wait;
	uint32_t told;
	int result;
};
struct shard_wait *shard_lab_wait(struct shard_lab_wait *wait);

struct cache_key shard_lab_key(const struct shard_lab *lab, uint64_t number, char text[32]);
/* bytes >= SHARD_LAB_VALUE_MIN, or 0. */
void shard_lab_value(const struct shard_lab *lab, uint64_t number, uint64_t version, uint8_t *out,
		     uint32_t bytes);
/* The version of a value of that key; 0 = no value of it, or not whole. */
uint64_t shard_lab_version(const struct shard_lab *lab, uint64_t number, const uint8_t *data,
			   uint32_t bytes);

/* As shard_put; key and value of the put are made from number and version. */
int shard_lab_put(struct shard_lab *lab, uint64_t number, uint64_t version, uint32_t bytes,
		  struct shard_put *put);
/* Durable; tries again while there is no room. 0, or why not. */
int shard_lab_store(struct shard_lab *lab, uint64_t number, uint64_t version, uint32_t bytes);
int shard_lab_delete(struct shard_lab *lab, uint64_t number);
int shard_lab_flush(struct shard_lab *lab);
/* Status of one key; *ret_version as shard_lab_version says, when it is a hit; of an empty value
 * the client flags. */
enum haul_cache_status shard_lab_get(struct shard_lab *lab, uint64_t number, uint64_t *ret_version);
/* Until nothing is under way. */
void shard_lab_settle(struct shard_lab *lab);
struct haul_cache_stat shard_lab_stat(const struct shard_lab *lab);
/* Where the value of a key lies on the disk: bytes that may be changed. */
uint8_t *shard_lab_bytes(struct shard_lab *lab, uint64_t number, uint64_t *ret_offset);
