/* wire/messages.c — the columns of a decoded batch, and the count of what was rejected. */
#include <errno.h>
#include <stdlib.h>

#include <haul/err.h>
#include <haul/message.h>
#include "base/assert.h"
#include "base/columns.h"

int haul_messages_init(struct haul_messages *messages, uint32_t capacity)
{
	HAUL_ASSERT(messages != NULL);
	if (capacity == 0 || capacity > HAUL_FRAMES_MAX)
		return -EINVAL;
	const uint32_t n = capacity;
	const size_t bytes =
		columns_bytes(n, sizeof(uint8_t *)) + 3 * columns_bytes(n, sizeof(uint64_t)) +
		2 * columns_bytes(n, sizeof(uint32_t)) + 5 * columns_bytes(n, sizeof(uint8_t));
	uint8_t *block = columns_alloc(bytes);
	if (block == NULL)
		return -ENOMEM;

	uint8_t *at = block;
	*messages = (struct haul_messages){ .capacity = capacity };
	messages->body = columns_take(&at, n, sizeof *messages->body);
	messages->sequence = columns_take(&at, n, sizeof *messages->sequence);
	messages->origin = columns_take(&at, n, sizeof *messages->origin);
	messages->destination = columns_take(&at, n, sizeof *messages->destination);
	messages->body_len = columns_take(&at, n, sizeof *messages->body_len);
	messages->status = columns_take(&at, n, sizeof *messages->status);
	messages->type = columns_take(&at, n, sizeof *messages->type);
	messages->flags = columns_take(&at, n, sizeof *messages->flags);
	messages->ttl = columns_take(&at, n, sizeof *messages->ttl);
	messages->csum_start = columns_take(&at, n, sizeof *messages->csum_start);
	messages->csum_offset = columns_take(&at, n, sizeof *messages->csum_offset);
	HAUL_ASSERT(at == block + bytes);
	return 0;
}

void haul_messages_done(struct haul_messages *messages)
{
	if (messages == NULL)
		return;
	free(messages->body); /* the first column is where the block starts */
	*messages = (struct haul_messages){ 0 };
}

static enum haul_reject reject_of(int32_t status)
{
	switch (status) {
	case HAUL_ESHORT:
		return HAUL_REJECT_SHORT;
	case HAUL_ELONG:
		return HAUL_REJECT_LONG;
	case HAUL_EVERSION:
		return HAUL_REJECT_VERSION;
	case HAUL_ETYPE:
		return HAUL_REJECT_TYPE;
	case HAUL_ETTL:
		return HAUL_REJECT_TTL;
	default:
		HAUL_ASSERT(status == HAUL_ECORRUPT);
		return HAUL_REJECT_CORRUPT;
	}
}

uint32_t haul_messages_count_rejects(const struct haul_messages *messages, struct haul_stats *stats,
				     uint32_t first_counter)
{
	uint32_t by_reason[HAUL_REJECTS] = { 0 };
	uint32_t total = 0;

	HAUL_ASSERT(messages->count <= messages->capacity);
	HAUL_ASSERT(first_counter + HAUL_REJECTS <= stats->counter_count);
	for (uint32_t i = 0; i < messages->count; i++) {
		if (messages->status[i] == 0)
			continue;
		by_reason[reject_of(messages->status[i])]++;
		total++;
	}
	for (uint32_t r = 0; r < HAUL_REJECTS && total > 0; r++)
		haul_stats_count(stats, first_counter + r, by_reason[r]);
	return total;
}
