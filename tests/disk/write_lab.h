/* disk/write_lab.h — a shard on a simulated disk, for tests of the write path.
 *
 * Model      A volume without a file: a superblock made up, a simulated disk behind it, simulated
 *            time. Stores with waiters that note when, in which order and with what they were
 *            told.
 * Threads    one. Errors: asserts. */
#pragma once

#include "disk/shard.h"
#include "disk/shard_parts.h"
#include "os/io_sim.h"

enum { WRITE_LAB_WAITS = 4096, WRITE_LAB_WRITES = 65536 };

/* Hands everything on to the simulated disk, and keeps a list of what was written. */
struct write_lab_spy {
	struct io io;
	struct io *inner;
	struct {
		uint64_t offset;
		uint32_t bytes;
	} writes[WRITE_LAB_WRITES];
	uint32_t write_count;
	uint32_t sync_count;
};

struct write_lab_wait {
	struct shard_wait wait;
	struct write_lab *lab;
	int result;
	uint32_t told;  /* how often */
	uint32_t order; /* 1 … of all that were told */
};

struct write_lab {
	struct volume volume;
	struct os_sim os;
	struct io_sim *disk;
	struct write_lab_spy spy;
	struct shard *shard;
	struct shard_options options;
	struct write_lab_wait waits[WRITE_LAB_WAITS];
	uint32_t wait_count;
	uint32_t told;
	uint32_t writes, syncs; /* at the last mark */
};

/* An empty cache on a disk of so many bytes, opened. Set lab->options before, or leave it all 0. */
void write_lab_open(struct write_lab *lab, uint64_t bytes, uint32_t segment_bytes);
/* Open a shard on what the disk holds. */
void write_lab_shard(struct write_lab *lab);
void write_lab_reopen(struct write_lab *lab);
/* Returns what shard_close said. */
int write_lab_close(struct write_lab *lab);
/* Hash a key made of a number. The text is the caller's. */
struct cache_key write_lab_key(const struct write_lab *lab, uint32_t number, char text[32]);
/* Store a value of so many bytes made of number; the rest is in put. */
int write_lab_put_how(struct write_lab *lab, struct shard_put *put, uint32_t number,
		      uint32_t bytes);
/* Durable: with a waiter. */
int write_lab_put(struct write_lab *lab, uint32_t number, uint32_t bytes, bool durable);
int write_lab_delete(struct write_lab *lab, uint32_t number, bool durable);
/* A waiter that is in the list. */
struct shard_wait *write_lab_wait(struct write_lab *lab);
/* Turn until nothing is under way. */
void write_lab_settle(struct write_lab *lab);
/* Operations of a kind since write_lab_mark, or open. */
void write_lab_mark(struct write_lab *lab);
uint32_t write_lab_writes(const struct write_lab *lab);
uint32_t write_lab_syncs(const struct write_lab *lab);
/* How many bytes were written more than once since the mark; roots apart. */
uint64_t write_lab_rewritten(const struct write_lab *lab);
/* Look a key up: the status; *ret_good says whether the value is what write_lab_put made. */
enum haul_cache_status write_lab_get(struct write_lab *lab, uint32_t number, bool *ret_good);
