#include "rpc/marks.h"

#include <stddef.h>

#include "base/assert.h"

struct mark *marks_find(struct marks *marks, uint64_t hash)
{
	HAUL_ASSERT(hash != 0);
	if (marks->count == 0)
		return NULL;
	for (uint32_t i = 0; i < MARK_TRIES; i++) {
		struct mark *mark = &marks->marks[(hash + i) % MARKS];
		if (mark->hash == hash)
			return mark;
	}
	return NULL;
}

struct mark *marks_set(struct marks *marks, uint64_t hash)
{
	struct mark *mark = marks_find(marks, hash);
	struct mark *place = NULL;
	if (mark)
		return mark;
	for (uint32_t i = 0; i < MARK_TRIES; i++) {
		mark = &marks->marks[(hash + i) % MARKS];
		if (mark->hash == 0) {
			place = mark;
			break;
		}
		if (!mark->stale && !place)
			place = mark;
	}
	if (!place)
		return NULL;
	marks->count += place->hash == 0;
	*place = (struct mark){ .hash = hash };
	return place;
}

void marks_clear(struct marks *marks, uint64_t hash)
{
	struct mark *mark = marks_find(marks, hash);
	if (!mark)
		return;
	*mark = (struct mark){ 0 };
	marks->count--;
}
