/* store/lend.h — memory that is taken once and lent to one walk after the other.
 *
 * Model      What is asked for is cut from the front of it; when there is no more, or no lender at
 *            all (NULL), it is from malloc. lend_all_back makes all of it free again.
 * Ownership  data is the lender's owner's.
 * Memory     none of its own.
 * Threads    one. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { LEND_ALIGN = 64 };

struct lend {
	uint8_t *data; /* at a multiple of LEND_ALIGN */
	size_t bytes, used;
};

static inline void *lend_alloc(struct lend *lend, size_t bytes)
{
	if (!lend || bytes > lend->bytes - lend->used)
		return malloc(bytes);
	void *memory = lend->data + lend->used;
	size_t room = (bytes + LEND_ALIGN - 1) / LEND_ALIGN * LEND_ALIGN;
	lend->used += room < lend->bytes - lend->used ? room : lend->bytes - lend->used;
	return memory;
}

/* What lend_alloc gave. */
static inline void lend_free(const struct lend *lend, void *memory)
{
	uintptr_t at = (uintptr_t)memory;
	if (lend && at >= (uintptr_t)lend->data && at < (uintptr_t)lend->data + lend->bytes)
		return;
	free(memory);
}

/* Nobody uses what was lent any more. */
static inline void lend_all_back(struct lend *lend)
{
	lend->used = 0;
}
