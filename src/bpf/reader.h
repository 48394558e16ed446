/* bpf/reader.h — one walk through a map, a batch a call: buffers, size of the batch, cursors.
 *
 * Model      A map_reader holds room for a batch and knows how large the next should be: as asked
 *            for, or tuned; never below the floor learnt from full buckets. A map_spot is where a
 *            walk stands, as the batch calls have it: the next bucket of a hash, or the last key of
 *            other types. map_reader_next makes calls until there are entries, the end or an error.
 *            A sparse hash can cost more than the budget in empty buckets alone (2 ns each): a call
 *            ends after so many entries, not buckets, and nothing can make it end earlier.
 * Ownership  the reader's buffers are its own; a batch read holds until the next call.
 * Memory     map_reader_alloc at first use; again only for a bucket larger than a whole batch.
 * Threads    one at a time a reader; several readers may read one map.
 * Errors     -errno; -EINVAL for a cursor that this map cannot have given. */
#pragma once

#include "bpf/map_state.h"

struct map_spot {
	uint32_t bytes; /* of key in use; 0 = at the start */
	bool ended;
	uint8_t key[HAUL_MAP_KEY_MAX];
};

/* What one map_reader_next is to do, and did. */
struct map_reading {
	bool take;      /* in: delete what is read */
	uint32_t limit; /* in: at most so many, or one bucket; 0 = the reader's size */
	uint32_t count;
	uint64_t calls, retries, grown;
	int64_t service_ns; /* of the call that gave the entries */
};

void map_reader_init(struct map_reader *reader, const struct haul_map *map);
void map_reader_done(struct map_reader *reader);
/* Room for at least count entries. Contents are lost. */
int map_reader_alloc(struct map_reader *reader, const struct haul_map *map, uint32_t count);
/* Entries to ask for, and room for them. */
int map_reader_size(struct map_reader *reader, const struct haul_map *map, uint32_t *ret_count);

/* The next entries behind spot, into the reader's columns; spot moves. When it fails spot stays,
 * and reading still says what it took. */
int map_reader_next(struct map_reader *reader, const struct haul_map *map, struct map_spot *spot,
		    struct map_reading *reading);
/* Enter it in the map's block. */
void map_reader_count(struct haul_map *map, const struct map_reading *reading, bool ended);

/* The batch engine's read; returns the count. */
int map_batch_read(struct haul_map *map, struct haul_map_cursor *cursor, bool take,
		   struct haul_map_batch *batch, struct haul_map_result *result);

/* Buckets of a hash: their numbers are below. */
uint32_t map_buckets(const struct haul_map_info *info);
