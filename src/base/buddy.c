/* A binary buddy allocator over one arena.
 *
 * One byte a block says what begins there: 0 nothing, order + 1 a used buffer of 2^order blocks,
 * the same with MARK_FREE a free one. Free buffers of an order form a doubly linked list; the links
 * lie in the free memory itself. A buffer's buddy is at its number with the order's bit flipped;
 * two free buddies of one order are always joined at once, so at most one of each pair is free. */
#include "base/buddy.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"

enum { MARK_FREE = 0x80, ALIGN_MAX = 2 << 20 };

#define NONE UINT32_MAX

struct links {
	uint32_t next, prev;
};

static struct links *links_of(const struct buddy *buddy, uint32_t block)
{
	return (struct links *)(void *)(buddy->arena + (uint64_t)block * BUDDY_MIN);
}

static void push(struct buddy *buddy, uint32_t block, uint32_t order)
{
	struct links *links = links_of(buddy, block);
	*links = (struct links){ .next = buddy->free_first[order], .prev = NONE };
	if (links->next != NONE)
		links_of(buddy, links->next)->prev = block;
	buddy->free_first[order] = block;
	buddy->order[block] = (uint8_t)(MARK_FREE | (order + 1));
}

static void unlink_free(struct buddy *buddy, uint32_t block, uint32_t order)
{
	HAUL_ASSERT(buddy->order[block] == (MARK_FREE | (order + 1)));
	struct links links = *links_of(buddy, block);
	if (links.prev != NONE)
		links_of(buddy, links.prev)->next = links.next;
	else
		buddy->free_first[order] = links.next;
	if (links.next != NONE)
		links_of(buddy, links.next)->prev = links.prev;
	buddy->order[block] = 0;
}

/* The order that holds so many bytes; BUDDY_ORDERS if none does. */
static uint32_t order_of(uint64_t bytes)
{
	uint32_t order = 0;
	while (order < BUDDY_ORDERS && (uint64_t)BUDDY_MIN << order < bytes)
		order++;
	return order;
}

int buddy_init(struct buddy *buddy, uint64_t bytes)
{
	uint32_t top = order_of(bytes);
	if (top >= BUDDY_ORDERS)
		return -ENOMEM;
	uint64_t rounded = (uint64_t)BUDDY_MIN << top;
	uint8_t *arena = aligned_alloc(rounded < ALIGN_MAX ? rounded : ALIGN_MAX, rounded);
	if (!arena)
		return -ENOMEM;
	uint8_t *order = calloc(rounded / BUDDY_MIN, 1);
	if (!order) {
		free(arena);
		return -ENOMEM;
	}
	(void)madvise(arena, rounded, MADV_HUGEPAGE); /* a wish; small pages do too */
	*buddy = (struct buddy){ .arena = arena, .bytes = rounded, .order = order };
	buddy->orders = top + 1;
	for (uint32_t i = 0; i < BUDDY_ORDERS; i++)
		buddy->free_first[i] = NONE;
	push(buddy, 0, top);
	return 0;
}

void buddy_done(struct buddy *buddy)
{
	free(buddy->arena);
	free(buddy->order);
	*buddy = (struct buddy){ 0 };
}

uint8_t *buddy_get(struct buddy *buddy, uint64_t bytes)
{
	uint32_t wanted = order_of(bytes);
	uint32_t order = wanted;
	while (order < buddy->orders && buddy->free_first[order] == NONE)
		order++;
	if (order >= buddy->orders)
		return NULL;
	uint32_t block = buddy->free_first[order];
	unlink_free(buddy, block, order);
	while (order > wanted) {
		order--;
		push(buddy, block + (UINT32_C(1) << order), order);
	}
	buddy->order[block] = (uint8_t)(wanted + 1);
	buddy->used += (uint64_t)BUDDY_MIN << wanted;
	HAUL_ASSERT(buddy->used <= buddy->bytes);
	return buddy->arena + (uint64_t)block * BUDDY_MIN;
}

void buddy_put(struct buddy *buddy, uint8_t *data)
{
	if (!data)
		return;
	uint64_t at = (uint64_t)(data - buddy->arena);
	HAUL_ASSERT(at < buddy->bytes && at % BUDDY_MIN == 0);
	uint32_t block = (uint32_t)(at / BUDDY_MIN);
	uint32_t mark = buddy->order[block];
	HAUL_ASSERT(mark != 0 && !(mark & MARK_FREE)); /* given back twice, or never given */
	uint32_t order = mark - 1;
	HAUL_ASSERT(buddy->used >= (uint64_t)BUDDY_MIN << order);
	buddy->used -= (uint64_t)BUDDY_MIN << order;
	buddy->order[block] = 0;
	while (order + 1 < buddy->orders) {
		uint32_t other = block ^ (UINT32_C(1) << order);
		if (buddy->order[other] != (MARK_FREE | (order + 1)))
			break;
		unlink_free(buddy, other, order);
		block = block < other ? block : other;
		order++;
	}
	push(buddy, block, order);
}
