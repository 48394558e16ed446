/* Opening: what the partition's segments hold, found again. */
#include "base/assert.h"
#include "disk/shard_parts.h"

/* As if nothing had ever been written. */
static void recover_fresh(struct shard *shard)
{
	shard->free_count = 0;
	shard->erase_count = 0;
	shard->bad_count = 0;
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		shard->segments[s] =
			(struct segment){ .state = SEGMENT_FREE, .next = SEGMENT_NONE };
		shard->free_count++;
	}
	for (uint32_t i = 0; i < LANES; i++) {
		shard->lanes[i].segment = SEGMENT_NONE;
		shard->lanes[i].first = SEGMENT_NONE;
		shard->lanes[i].last = SEGMENT_NONE;
		shard->lanes[i].count = 0;
	}
	shard->next_seq = 1;
	shard->next_generation = 1;
	shard->next_flush = 1;
}

int recover(struct shard *shard, struct haul_err *err)
{
	(void)err;
	HAUL_ASSERT(shard->segments != NULL);
	recover_fresh(shard);
	return 0;
}
