/* rpc/marks.h — which keys somebody has been told to recache, and which are stale (meta protocol).
 *
 * Model      A small table by hash, in RAM: a mark says that a client has won the right to recache
 *            the key (W was sent, others see Z), or that the value is stale (X). A store of the key
 *            takes its mark away. A `won` mark may be displaced: it costs one more recache. A stale
 *            one is not: where there is no place, the key is deleted instead.
 * Memory     in the struct. Threads: one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { MARKS = 1024, MARK_TRIES = 8 };

struct mark {
	uint64_t hash; /* 0 = free */
	bool won, stale;
};

struct marks {
	struct mark marks[MARKS];
	uint32_t count;
};

/* NULL = none. */
struct mark *marks_find(struct marks *marks, uint64_t hash);
/* Find or make one; NULL: all places are taken by stale ones. */
struct mark *marks_set(struct marks *marks, uint64_t hash);
void marks_clear(struct marks *marks, uint64_t hash);
