/* bench/map_table.h — a map of the kernel that holds so many known connections.
 *
 * Model      Entry i has a key and a value that follow from i alone, so whoever has read entries
 *            can tell from three sums whether they were the right ones, each once. Keys and values
 *            are those of the connection table: 40 and 96 bytes. The map is a preallocated hash
 *            with room for a third more than it holds: it is three quarters full.
 * Ownership  map_table_done lets map and handles go.
 * Memory     184 bytes an entry of room and 16 a bucket in the kernel, 4 bytes an entry here.
 * Threads    one.
 * Errors     -EPERM without root, -ENOTSUP where the kernel has no BPF; with text. */
#pragma once

#include <stdint.h>

#include <haul/err.h>
#include <haul/flow_record.h>
#include <haul/map.h>
#include "base/bytes.h"

enum {
	MAP_TABLE_BYTES_BASE = 64,  /* entry i carried so many bytes, and i more; last seen at i */
	MAP_TABLE_ROWS_MAX = 100000 /* keys that a keyed case works on at a time */
};

struct map_table {
	uint32_t entries;
	uint32_t rows; /* of a keyed case: a quarter of the entries, at most MAP_TABLE_ROWS_MAX */
	int fd;
	struct haul_map *any;   /* picks its engine by itself */
	struct haul_map *batch; /* the batch calls only */
	struct haul_map *empty; /* as large, without entries; NULL until it is wanted */
	int empty_fd;
	uint32_t *order; /* all entries, shuffled */
	uint32_t next;   /* of order, for the next rows */
};

int map_table_init(struct map_table *table, uint32_t entries, struct haul_err *err);
void map_table_done(struct map_table *table);

/* Entries of the connection table's sizes; the fd, or -errno. */
int map_table_create(const char *name, uint32_t max_entries, struct haul_err *err);

/* Entry index is 10.x.y.z to a service in 192.168.0.0/16: the index is the last 24 bits. */
static inline uint32_t map_table_index(const struct haul_flow_key *key)
{
	return be32_load(key->addr_lo + 12) & 0xffffff;
}
void map_table_key(uint32_t index, struct haul_flow_key *ret_key);
void map_table_value(uint32_t index, struct haul_flow_value *ret_value);

/* Put entries from index on, by batch calls; remove them (those that are not there, too). */
int map_table_put(const struct map_table *table, uint32_t from, uint32_t count);
int map_table_remove(const struct map_table *table, uint32_t from, uint32_t count);

/* What was read. */
struct map_sum {
	uint64_t count;
	uint64_t indexes;  /* from the keys */
	uint64_t bytes;    /* from the values */
	uint8_t apart[40]; /* each thread has one, in a cache line of its own */
};
static inline void map_sum_add(struct map_sum *sum, const struct haul_flow_key *key,
			       const struct haul_flow_value *value)
{
	sum->count++;
	sum->indexes += map_table_index(key);
	sum->bytes += value->bytes[0];
}
