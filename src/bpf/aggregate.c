#include "bpf/aggregate.h"

#include <string.h>

#include "base/assert.h"

_Static_assert((int)MAP_HIST == (int)HAUL_MAP_HIST, "one histogram on both sides");
_Static_assert((int)MAP_RANKS == (int)HAUL_MAP_TOP_MAX, "one limit on both sides");

struct walk {
	const struct haul_map_info *info;
	struct haul_map_aggregate *aggregate;
	struct map_figures figures;
	struct map_ranks ranks;
};

static int walk_visit(const struct haul_map_batch *batch, void *arg)
{
	struct walk *walk = arg;
	struct haul_map_aggregate *out = walk->aggregate;
	const struct haul_map_info *info = walk->info;
	for (uint32_t i = 0; i < batch->count; i++) {
		const void *key = haul_map_key(batch, i);
		const void *value = haul_map_value(batch, i);
		uint64_t number = map_field_get(info, &out->field, key, value);
		map_figures_add(&walk->figures, number);
		int64_t place = map_ranks_add(&walk->ranks, number ^ walk->figures.turn);
		if (place < 0)
			continue;
		memcpy(out->top_keys + (size_t)place * info->key_size, key, info->key_size);
		memcpy(out->top_values + (size_t)place * info->slot_bytes, value, info->slot_bytes);
	}
	return 0;
}

void map_aggregate_figures(struct haul_map_aggregate *aggregate, const struct map_figures *figures,
			   const struct map_ranks *ranks)
{
	bool any = figures->count > 0;
	aggregate->count = figures->count;
	aggregate->sum = figures->sum;
	aggregate->sum_high = figures->sum_high;
	aggregate->min = any ? figures->low ^ figures->turn : 0;
	aggregate->max = any ? figures->high ^ figures->turn : 0;
	memcpy(aggregate->hist, figures->hist, sizeof aggregate->hist);
	aggregate->top_count = ranks->count;
}

/* Few and once a call: by insertion. */
void map_ranks_sort(struct map_ranks *ranks)
{
	HAUL_ASSERT(ranks->count <= MAP_RANKS);
	for (uint32_t i = 1; i < ranks->count; i++) {
		for (uint32_t j = i; j > 0 && ranks->number[j - 1] < ranks->number[j]; j--)
			map_ranks_swap(ranks, j - 1, j);
	}
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		uint8_t keep = a[i];
		a[i] = b[i];
		b[i] = keep;
	}
}

/* The entries lie at their places: put them in order of rank without another copy of them. */
static void order_entries(struct walk *walk)
{
	struct haul_map_aggregate *out = walk->aggregate;
	struct map_ranks *ranks = &walk->ranks;
	size_t key_size = walk->info->key_size;
	size_t slot = walk->info->slot_bytes;
	for (uint32_t i = 0; i < ranks->count; i++) {
		uint32_t from = ranks->place[i];
		if (from == i)
			continue;
		HAUL_ASSERT(from < ranks->count);
		swap_bytes(out->top_keys + i * key_size, out->top_keys + from * key_size, key_size);
		swap_bytes(out->top_values + i * slot, out->top_values + from * slot, slot);
		for (uint32_t j = i + 1; j < ranks->count; j++) {
			if (ranks->place[j] == i)
				ranks->place[j] = from;
		}
	}
}

int map_aggregate_walk(struct haul_map *map, struct haul_map_aggregate *aggregate,
		       struct haul_map_result *result)
{
	HAUL_ASSERT(map && aggregate && result);
	HAUL_ASSERT(aggregate->top <= HAUL_MAP_TOP_MAX);
	struct walk walk = { .info = &map->info, .aggregate = aggregate };
	map_figures_init(&walk.figures, aggregate->field.is_signed);
	walk.ranks.limit = aggregate->top;
	struct haul_map_report report;
	struct haul_map_scan scan = { .filter = aggregate->filter,
				      .visit = walk_visit,
				      .arg = &walk };
	int rc = haul_map_scan(map, &scan, &report);
	map_ranks_sort(&walk.ranks);
	order_entries(&walk);
	map_aggregate_figures(aggregate, &walk.figures, &walk.ranks);
	result->visited = report.read;
	result->done = report.matched;
	result->calls += report.calls;
	result->retries += report.retries;
	result->fallbacks += report.fallbacks;
	result->engine = report.engine;
	return rc;
}
