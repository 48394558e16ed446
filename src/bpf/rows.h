/* bpf/rows.h — what the engines that take rows share: reaching a row, and settling what became of
 * it. Each row is settled exactly once, so that the result adds up to the rows.
 *
 * Model      rows_done, _missing, _kept, _failed settle one row, or a run of them.
 * Threads    one at a time a result. */
#pragma once

#include <errno.h>

#include "base/assert.h"
#include "bpf/map_state.h"

static inline const uint8_t *rows_key(const struct haul_map *map, const struct haul_map_rows *rows,
				      uint32_t i)
{
	return (const uint8_t *)rows->keys + (size_t)i * map->info.key_size;
}
static inline uint8_t *rows_value(const struct haul_map *map, const struct haul_map_rows *rows,
				  uint32_t i)
{
	return (uint8_t *)rows->values + (size_t)i * map->info.slot_bytes;
}

static inline void rows_status(const struct haul_map_rows *rows, uint32_t i, uint32_t count,
			       int status)
{
	HAUL_ASSERT(i <= rows->count && count <= rows->count - i);
	for (uint32_t k = i; rows->status && k < i + count; k++)
		rows->status[k] = status;
}

/* Row i failed for good: the rows behind it are not reached. Returns the code. */
static inline int rows_failed(const struct haul_map_rows *rows, uint32_t i, int rc,
			      struct haul_map_result *result)
{
	HAUL_ASSERT(rc < 0 && i < rows->count);
	rows_status(rows, i, 1, rc);
	rows_status(rows, i + 1, rows->count - i - 1, -ECANCELED);
	result->failed_index = i;
	result->reason = rc;
	return rc;
}

/* The call may do better when it is made again. */
static inline bool rows_busy(int rc)
{
	return rc == -EBUSY || rc == -EDEADLK || rc == -ETIMEDOUT || rc == -EAGAIN || rc == -EINTR;
}
