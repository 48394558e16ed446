#include "cli/flows_best.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { ROOM_START = 256 };

const char *flows_sort_name(enum flows_sort sort)
{
	static const char *const names[] = {
#define X(id, name) name,
		FLOWS_SORT_LIST(X)
#undef X
	};

	HAUL_ASSERT(sort < FLOWS_SORTS);
	return names[sort];
}

enum flows_sort flows_sort_by_name(const char *name)
{
	for (unsigned i = 0; i < FLOWS_SORTS; i++)
		if (!strcmp(name, flows_sort_name((enum flows_sort)i)))
			return (enum flows_sort)i;
	return FLOWS_SORTS;
}

/* A larger rank comes first. */
static uint64_t rank_of(const struct flows_best *best, const struct flows_item *item)
{
	const struct haul_flow_value *value = &item->value;
	uint64_t rank = 0;

	switch (best->sort) {
	case FLOWS_SORT_BYTES:
		rank = value->bytes[0] + value->bytes[1];
		break;
	case FLOWS_SORT_PACKETS:
		rank = value->packets[0] + value->packets[1];
		break;
	case FLOWS_SORT_AGE:
		rank = ~value->first_ns;
		break;
	case FLOWS_SORT_IDLE:
		rank = ~value->last_ns;
		break;
	case FLOWS_SORT_RTT:
		if (value->rtt_us == 0)
			return 0; /* not known: last in either order */
		rank = value->rtt_us;
		break;
	case FLOWS_SORT_RATE:
		rank = item->delta.bytes[0] + item->delta.bytes[1];
		break;
	case FLOWS_SORT_PRATE:
		rank = item->delta.packets[0] + item->delta.packets[1];
		break;
	case FLOWS_SORT_NONE:
	case FLOWS_SORTS:
		break;
	}
	return best->reverse ? ~rank : rank;
}

/* Below 0: a stands before b. Equal ranks: by key, so that the order does not jump about. */
static int compare(const void *left, const void *right)
{
	const struct flows_item *a = left, *b = right;
	int by_key;

	if (a->rank != b->rank)
		return a->rank > b->rank ? -1 : 1;
	by_key = memcmp(&a->key, &b->key, sizeof a->key);
	return by_key != 0 ? by_key : (int)a->table - (int)b->table;
}

static int grow(struct flows_best *best)
{
	size_t room = best->room == 0 ? ROOM_START : best->room * 2;
	struct flows_item *items;

	if (best->limit > 0 && room > best->limit)
		room = best->limit;
	items = reallocarray(best->items, room, sizeof *items);
	if (items == NULL)
		return -ENOMEM;
	best->items = items;
	best->room = room;
	return 0;
}

static void swap(struct flows_item *a, struct flows_item *b)
{
	struct flows_item kept = *a;

	*a = *b;
	*b = kept;
}

/* The heap has the last of the best at its root. */
static void sift_up(struct flows_item *items, size_t at)
{
	while (at > 0 && compare(&items[at], &items[(at - 1) / 2]) > 0) {
		swap(&items[at], &items[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
}

static void sift_down(struct flows_item *items, size_t count)
{
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= count)
			return;
		if (child + 1 < count && compare(&items[child + 1], &items[child]) > 0)
			child++;
		if (compare(&items[child], &items[at]) <= 0)
			return;
		swap(&items[at], &items[child]);
		at = child;
	}
}

int flows_best_add(struct flows_best *best, const struct flows_item *item)
{
	struct flows_item added = *item;
	int rc;

	added.rank = rank_of(best, item);
	if (best->limit > 0 && best->count == best->limit) {
		if (compare(&added, &best->items[0]) < 0) {
			best->items[0] = added;
			sift_down(best->items, best->count);
		}
		return 0;
	}
	if (best->count == best->room) {
		rc = grow(best);
		if (rc < 0)
			return rc;
	}
	HAUL_ASSERT(best->count < best->room);
	best->items[best->count++] = added;
	if (best->limit > 0)
		sift_up(best->items, best->count - 1);
	return 0;
}

void flows_best_order(struct flows_best *best)
{
	for (size_t i = 0; i < best->count; i++)
		best->items[i].rank = rank_of(best, &best->items[i]);
	if (best->count > 1)
		qsort(best->items, best->count, sizeof *best->items, compare);
}

void flows_best_clear(struct flows_best *best)
{
	best->count = 0;
}

void flows_best_done(struct flows_best *best)
{
	free(best->items);
	best->items = NULL;
	best->count = best->room = 0;
}
