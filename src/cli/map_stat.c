/* haul map stat: what a field adds up to. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/map.h"
#include "cli/map_out.h"
#include "cli/map_where.h"

enum { BAR = 40, DECIMAL = 48 };

__extension__ typedef unsigned __int128 uint128;

/* A sum of 128 bits; of signed fields as 64 bits, which is what wraps. */
static const char *sum_text(const struct haul_map_aggregate *aggregate, char text[DECIMAL])
{
	uint128 sum = (uint128)aggregate->sum_high << 64 | aggregate->sum;
	char *p = text + DECIMAL - 1;
	if (aggregate->field.is_signed) {
		snprintf(text, DECIMAL, "%" PRId64, (int64_t)aggregate->sum);
		return text;
	}
	*p = '\0';
	do {
		*--p = (char)('0' + (int)(sum % 10));
		sum /= 10;
	} while (sum > 0);
	return p;
}

static const char *number_text(const struct haul_map_aggregate *aggregate, uint64_t number,
			       char text[DECIMAL])
{
	if (aggregate->field.is_signed)
		snprintf(text, DECIMAL, "%" PRId64, (int64_t)number);
	else
		snprintf(text, DECIMAL, "%" PRIu64, number);
	return text;
}

static double mean(const struct haul_map_aggregate *aggregate)
{
	double sum = aggregate->field.is_signed
			     ? (double)(int64_t)aggregate->sum
			     : (double)aggregate->sum_high * 0x1p64 + (double)aggregate->sum;
	return aggregate->count > 0 ? sum / (double)aggregate->count : 0;
}

static void print_hist(const struct haul_map_aggregate *aggregate)
{
	uint64_t most = 1;
	uint32_t first = HAUL_MAP_HIST, last = 0;
	for (uint32_t i = 0; i < HAUL_MAP_HIST; i++) {
		if (aggregate->hist[i] == 0)
			continue;
		first = first < i ? first : i;
		last = i;
		most = most > aggregate->hist[i] ? most : aggregate->hist[i];
	}
	for (uint32_t i = first; i <= last && first < HAUL_MAP_HIST; i++) {
		uint64_t from = i == 0 ? 0 : UINT64_C(1) << (i - 1);
		uint32_t bar = (uint32_t)((double)aggregate->hist[i] * BAR / (double)most + 0.5);
		printf("%21" PRIu64 "%c %12" PRIu64 "  ", from, i > 1 ? '+' : ' ',
		       aggregate->hist[i]);
		for (uint32_t k = 0; k < bar; k++)
			printf("█");
		printf("%s\n", bar == 0 && aggregate->hist[i] > 0 ? "▏" : "");
	}
}

static int print_top(struct map_request *request, const struct haul_map_aggregate *aggregate)
{
	struct map_out out;
	int rc = map_out_begin(&out, request, stdout);
	for (uint32_t i = 0; rc == 0 && i < aggregate->top_count; i++)
		rc = map_out_entry(&out, aggregate->top_keys + (size_t)i * request->info->key_size,
				   aggregate->top_values + (size_t)i * request->info->slot_bytes);
	int written = rc == 0 ? map_out_end(&out) : rc;
	return written == 0 || written == -EPIPE ? CLI_OK
						 : cli_fail_code("map", "standard output", written);
}

static int print_text(struct map_request *request, const struct haul_map_aggregate *aggregate)
{
	char sum[DECIMAL], min[DECIMAL], max[DECIMAL];
	printf("%s of %" PRIu64 " entries\n", request->field, aggregate->count);
	if (aggregate->count == 0)
		return CLI_OK;
	printf("sum %s   mean %.6g   smallest %s   largest %s\n\n", sum_text(aggregate, sum),
	       mean(aggregate), number_text(aggregate, aggregate->min, min),
	       number_text(aggregate, aggregate->max, max));
	print_hist(aggregate);
	if (aggregate->top_count == 0)
		return CLI_OK;
	printf("\nlargest %u:\n", aggregate->top_count);
	return print_top(request, aggregate);
}

static int print_json(struct map_request *request, const struct haul_map_aggregate *aggregate)
{
	char sum[DECIMAL], min[DECIMAL], max[DECIMAL];
	const char *comma = "";
	printf("{\"count\": %" PRIu64 ", \"sum\": %s, \"mean\": %.17g", aggregate->count,
	       sum_text(aggregate, sum), mean(aggregate));
	if (aggregate->count > 0)
		printf(", \"min\": %s, \"max\": %s", number_text(aggregate, aggregate->min, min),
		       number_text(aggregate, aggregate->max, max));
	printf(",\n \"histogram\": [");
	for (uint32_t i = 0; i < HAUL_MAP_HIST; i++) {
		if (aggregate->hist[i] == 0)
			continue;
		printf("%s{\"from\": %" PRIu64 ", \"count\": %" PRIu64 "}", comma,
		       i == 0 ? 0 : UINT64_C(1) << (i - 1), aggregate->hist[i]);
		comma = ", ";
	}
	printf("],\n \"top\": ");
	int code = print_top(request, aggregate);
	printf("}\n");
	return code;
}

static int aggregate_new(struct map_request *request, struct haul_map_aggregate *aggregate)
{
	struct haul_err err = { 0 };
	int rc = map_where_field(request->field, request->info, &request->typed, &aggregate->field,
				 &err);
	if (rc < 0)
		return cli_fail("map", &err);
	aggregate->filter = &request->filter;
	aggregate->top = request->top;
	aggregate->top_keys = calloc(request->top + 1, request->info->key_size);
	aggregate->top_values = calloc(request->top + 1, request->info->slot_bytes);
	return aggregate->top_keys == NULL || aggregate->top_values == NULL
		       ? cli_fail_code("map", "stat", -ENOMEM)
		       : CLI_OK;
}

int map_stat(struct map_request *request)
{
	struct haul_map_aggregate aggregate = { 0 };
	struct haul_map_result result;
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	int code = aggregate_new(request, &aggregate);
	if (code == CLI_OK) {
		map_explain(request, HAUL_MAP_OP_AGGREGATE, 0);
		int rc = haul_map_aggregate(request->map, &aggregate, &result);
		code = rc < 0                        ? map_op_fail(request, rc)
		       : request->format == MAP_JSON ? print_json(request, &aggregate)
						     : print_text(request, &aggregate);
	}
	free(aggregate.top_keys);
	free(aggregate.top_values);
	map_end(request);
	return code;
}
