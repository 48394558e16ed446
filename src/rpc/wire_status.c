#include "rpc/wire_status.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

enum {
	LEVELS_MAX = sizeof((struct haul_store_status *)0)->level /
		     sizeof((struct haul_store_status *)0)->level[0],
	LEVEL_BYTES = sizeof((struct haul_store_status *)0)->level[0],
	HEAD_MIN = offsetof(struct wire_status, sync_ns),
#define X(name) +1
	FIGURES = 0 WIRE_STATUS_LIST(X),
#undef X
	OTHERS = 16 /* uuid */ + 8 /* level_count */ + 8 /* sync_ns */ + 8 /* arrivals_per_s */,
};
static_assert(sizeof(struct haul_store_status) ==
		      OTHERS + FIGURES * 8 + (int)LEVELS_MAX * LEVEL_BYTES,
	      "all figures are in WIRE_STATUS_LIST");
static_assert((int)LEVEL_BYTES == 32, "levels are sent as they are");
static_assert((int)WIRE_BLOCK_MAX % 8 == 0, "room for what blocks are filled up with");
static_assert(WIRE_RESULT_HEAD + sizeof(struct wire_status) + (int)LEVELS_MAX * LEVEL_BYTES +
			      (uint64_t)HAUL_STATS_BLOCKS * WIRE_BLOCK_MAX <=
		      WIRE_RESULT_MAX,
	      "all that a table can hold fits");

/* ---- put ---- */

static void put(struct wire_page *page, const void *data, uint64_t bytes)
{
	HAUL_ASSERT(bytes <= page->bytes - page->at);
	memcpy(page->data + page->at, data, bytes);
	page->at += (uint32_t)bytes;
}

void wire_status_put(struct wire_page *page, const struct haul_store_status *status)
{
	struct wire_status head = { .bytes = sizeof head,
				    .level_count = (uint16_t)status->level_count,
				    .level_bytes = LEVEL_BYTES,
				    .sync_ns = status->sync_ns,
				    .arrivals_per_s = status->arrivals_per_s,
#define X(name) .name = status->name,
				    WIRE_STATUS_LIST(X)
#undef X
	};

	HAUL_ASSERT(status->level_count <= LEVELS_MAX);
	memcpy(head.uuid, status->uuid, sizeof head.uuid);
	put(page, &head, sizeof head);
	put(page, status->level, (uint64_t)status->level_count * LEVEL_BYTES);
}

static void put_hist(struct wire_page *page, const struct haul_hist *hist)
{
	struct wire_hist head = { .count = hist->count, .sum = hist->sum, .max = hist->max };
	const uint32_t head_at = page->at;

	put(page, &head, sizeof head);
	for (uint32_t i = 0; i < HAUL_HIST_BUCKETS; i++) {
		const struct wire_bucket bucket = { .index = i, .count = hist->bucket[i] };
		if (bucket.count == 0)
			continue;
		put(page, &bucket, sizeof bucket);
		head.buckets++;
	}
	memcpy(page->data + head_at, &head, sizeof head);
}

static void put_name(struct wire_page *page, const char *name)
{
	put(page, name, strnlen(name, WIRE_NAME_MAX));
	put(page, "", 1);
}

void wire_status_put_block(struct wire_page *page, const struct haul_stats *stats)
{
	struct wire_block head = {
		.closed = HAUL_CLOSE_REASONS,
		.counters = (uint16_t)stats->counter_count,
		.ops = stats->ops,
		.batches = stats->batches,
		.carried = stats->bytes,
		.syscalls = stats->syscalls,
	};
	static const uint8_t zeros[8];
	const uint32_t head_at = page->at;

	HAUL_ASSERT(stats->counter_count <= HAUL_STATS_COUNTERS);
	put(page, &head, sizeof head);
	put(page, stats->closed, sizeof stats->closed);
	put(page, stats->extra, stats->counter_count * sizeof *stats->extra);
	put_hist(page, &stats->fill);
	put_hist(page, &stats->wait_ns);
	put_hist(page, &stats->service_ns);
	put_name(page, stats->name);
	for (uint32_t i = 0; i < stats->counter_count; i++)
		put_name(page, stats->counters[i].name);
	put(page, zeros, (head_at - page->at) % 8);
	head.bytes = page->at - head_at;
	HAUL_ASSERT(head.bytes <= WIRE_BLOCK_MAX);
	memcpy(page->data + head_at, &head, sizeof head);
}

/* ---- get ---- */

/* `sent` bytes, of which `known` are of use; what was not sent is 0. false: they are not there. */
static bool take(struct wire_reading *page, void *out, uint64_t known, uint64_t sent)
{
	const uint64_t both = known < sent ? known : sent;

	if (sent > page->bytes - page->at)
		return false;
	memset(out, 0, known);
	memcpy(out, page->data + page->at, both);
	page->at += (uint32_t)sent;
	return true;
}

int wire_status_get(struct wire_reading *page, struct haul_store_status *ret_status)
{
	struct wire_status head;
	struct wire_reading at = *page;

	if (at.bytes - at.at < HEAD_MIN)
		return HAUL_ECORRUPT;
	memcpy(&head, at.data + at.at, HEAD_MIN);
	if (head.bytes < HEAD_MIN || !take(&at, &head, sizeof head, head.bytes))
		return HAUL_ECORRUPT;
	if (head.level_count > LEVELS_MAX || head.sync_ns < 0 || !isfinite(head.arrivals_per_s))
		return HAUL_ECORRUPT;
	struct haul_store_status status = { .level_count = head.level_count,
					    .sync_ns = head.sync_ns,
					    .arrivals_per_s = head.arrivals_per_s,
#define X(name) .name = head.name,
					    WIRE_STATUS_LIST(X)
#undef X
	};
	memcpy(status.uuid, head.uuid, sizeof status.uuid);
	for (uint32_t i = 0; i < head.level_count; i++) {
		if (!take(&at, &status.level[i], LEVEL_BYTES, head.level_bytes))
			return HAUL_ECORRUPT;
	}
	*page = at;
	*ret_status = status;
	return 0;
}

static bool take_hist(struct wire_reading *page, struct haul_hist *hist)
{
	struct wire_hist head;

	if (!take(page, &head, sizeof head, sizeof head) || head.buckets > HAUL_HIST_BUCKETS)
		return false;
	*hist = (struct haul_hist){ .count = head.count, .sum = head.sum, .max = head.max };
	for (uint32_t i = 0; i < head.buckets; i++) {
		struct wire_bucket bucket;
		if (!take(page, &bucket, sizeof bucket, sizeof bucket) ||
		    bucket.index >= HAUL_HIST_BUCKETS)
			return false;
		hist->bucket[bucket.index] = bucket.count;
	}
	return true;
}

/* NULL: there is none, or it has what no name has. */
static const char *take_name(struct wire_reading *page)
{
	const char *name = (const char *)page->data + page->at;
	const uint32_t left = page->bytes - page->at;
	const size_t bytes = strnlen(name, left < WIRE_NAME_MAX + 1 ? left : WIRE_NAME_MAX + 1);

	if (bytes == 0 || bytes == left || bytes > WIRE_NAME_MAX)
		return NULL;
	for (size_t i = 0; i < bytes; i++) {
		if (name[i] <= ' ' || name[i] > '~')
			return NULL;
	}
	page->at += (uint32_t)bytes + 1;
	return name;
}

static bool take_block(struct wire_reading *page, const struct wire_block *head,
		       struct wire_status_block *block)
{
	struct haul_stats *stats = &block->stats;
	uint32_t counters = head->counters;

	if (!take(page, stats->closed, sizeof stats->closed, head->closed * sizeof(uint64_t)) ||
	    !take(page, stats->extra, sizeof stats->extra, counters * sizeof(uint64_t)) ||
	    !take_hist(page, &stats->fill) || !take_hist(page, &stats->wait_ns) ||
	    !take_hist(page, &stats->service_ns))
		return false;
	stats->name = take_name(page);
	if (stats->name == NULL)
		return false;
	counters = counters < HAUL_STATS_COUNTERS ? counters : HAUL_STATS_COUNTERS;
	for (uint32_t i = 0; i < counters; i++) {
		block->counters[i] = (struct haul_counter){ take_name(page), "" };
		if (block->counters[i].name == NULL)
			return false;
	}
	stats->counters = block->counters;
	stats->counter_count = counters;
	return true;
}

int wire_status_get_block(struct wire_reading *page, struct wire_status_block *block)
{
	struct wire_reading at = *page;
	struct wire_block head;

	if (!take(&at, &head, sizeof head, sizeof head) || head.bytes < sizeof head ||
	    head.bytes % 8 != 0 || head.bytes > page->bytes - page->at)
		return HAUL_ECORRUPT;
	at.bytes = page->at + head.bytes; /* of this one alone */
	block->stats = (struct haul_stats){
		.ops = head.ops,
		.batches = head.batches,
		.bytes = head.carried,
		.syscalls = head.syscalls,
	};
	if (!take_block(&at, &head, block))
		return HAUL_ECORRUPT;
	page->at = at.bytes;
	return 0;
}
