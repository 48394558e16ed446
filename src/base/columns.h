/* base/columns.h — parallel arrays in one block: each on its own cache lines, one malloc, one free.
 *
 * Model      Sum up columns_bytes of all columns, columns_alloc the sum, then columns_take them in
 *            the same order. The first column taken is where the block starts: free() that one.
 * Memory     columns_alloc, zeroed; NULL when there is none. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_ALIGN_BYTES = 64 };

/* Bytes that a column of so many items takes in its block. One line more than the items: else the
 * columns of a batch of 2^n would begin in the same set of the cache and push each other out. */
static inline size_t columns_bytes(uint32_t count, size_t item_bytes)
{
	const size_t mask = COLUMNS_ALIGN_BYTES - 1;

	return ((count * item_bytes + mask) & ~mask) + COLUMNS_ALIGN_BYTES;
}

static inline uint8_t *columns_alloc(size_t bytes)
{
	uint8_t *block = aligned_alloc(COLUMNS_ALIGN_BYTES, bytes);

	if (block != NULL)
		memset(block, 0, bytes);
	return block;
}

/* The column at the cursor; the cursor moves behind it. */
static inline void *columns_take(uint8_t **cursor, uint32_t count, size_t item_bytes)
{
	void *column = *cursor;

	*cursor += columns_bytes(count, item_bytes);
	return column;
}
