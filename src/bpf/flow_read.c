/* What is in the table: scans, rows by key, totals.
 *
 * A scan reads each shard in batches (bucket by bucket, under the bucket's lock), so an entry that
 * is there all the time is seen exactly once however the table changes meanwhile. A program that
 * walks in the kernel would be faster by half, but loading it for each shard costs more than dozens
 * of scans (14 ms and 1 MB a shard), and under churn it may miss an entry.
 * What user space puts in or takes out is entered in the control map, so that for everybody
 * packets = entries + overflow + late + removed goes on to hold. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

enum { GATHER_ROWS = 1024, PUT_ROWS = 1024, ADDR_BITS = 128 };

/* ---- queries ---- */

struct gather {
	const struct haul_flow_query *query;
	int (*visit)(const struct haul_map_batch *batch, void *arg);
	void *arg;
	uint64_t matched;
	uint32_t count;
	struct haul_flow_key key[GATHER_ROWS];
	struct haul_flow_value value[GATHER_ROWS];
};

static bool addr_within(const uint8_t addr[16], const uint8_t net[16], uint8_t prefix)
{
	uint8_t bytes = prefix / 8;
	uint8_t mask = (uint8_t)(0xff00 >> prefix % 8);

	return memcmp(addr, net, bytes) == 0 &&
	       (mask == 0 || (addr[bytes] & mask) == (net[bytes] & mask));
}

static bool query_is_any(const struct haul_flow_query *query)
{
	return !query->proto && !query->port && !query->addr_prefix && !query->states &&
	       !query->bytes_min && !query->seen_since_ns && !query->idle_since_ns;
}

static bool query_holds(const struct haul_flow_query *query, const struct haul_flow_key *key,
			const struct haul_flow_value *value)
{
	if (query->proto && query->proto != key->proto)
		return false;
	if (query->seen_since_ns && value->last_ns < query->seen_since_ns)
		return false;
	if (query->idle_since_ns && value->last_ns >= query->idle_since_ns)
		return false;
	if (query->port && query->port != key->port_lo && query->port != key->port_hi)
		return false;
	if (query->addr_prefix && !addr_within(key->addr_lo, query->addr, query->addr_prefix) &&
	    !addr_within(key->addr_hi, query->addr, query->addr_prefix))
		return false;
	if (query->bytes_min && value->bytes[0] + value->bytes[1] < query->bytes_min)
		return false;
	return !query->states || (query->states & 1U << (value->state & 31));
}

static int gather_flush(struct gather *gather)
{
	const struct haul_map_batch batch = {
		.count = gather->count,
		.keys = (const uint8_t *)gather->key,
		.values = (const uint8_t *)gather->value,
		.key_stride = sizeof gather->key[0],
		.value_stride = sizeof gather->value[0],
	};
	gather->count = 0;
	gather->matched += batch.count;
	return batch.count ? gather->visit(&batch, gather->arg) : 0;
}

static int gather_visit(const struct haul_map_batch *batch, void *arg)
{
	struct gather *gather = arg;
	int stop = 0;

	for (uint32_t i = 0; i < batch->count && stop == 0; i++) {
		struct haul_flow_key *key = &gather->key[gather->count];
		struct haul_flow_value *value = &gather->value[gather->count];
		memcpy(key, haul_map_key(batch, i), sizeof *key);
		memcpy(value, haul_map_value(batch, i), sizeof *value);
		if (!query_holds(gather->query, key, value))
			continue;
		if (++gather->count == GATHER_ROWS)
			stop = gather_flush(gather);
	}
	return stop;
}

static struct gather *gather_new(const struct haul_flow_query *query)
{
	struct gather *gather = malloc(sizeof *gather);

	if (gather) {
		gather->query = query;
		gather->matched = 0;
		gather->count = 0;
	}
	return gather;
}

struct walk {
	int (*visit)(const struct haul_map_batch *batch, void *arg);
	void *arg;
	struct haul_map_report report;
};

static int shard_walk(struct haul_map *map, struct walk *walk)
{
	struct haul_map_report *report = &walk->report;
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_result result;
	struct haul_map_batch batch;
	int stop = 0, count;

	do {
		count = haul_map_read(map, &cursor, &batch, &result);
		report->calls += result.calls;
		report->retries += result.retries;
		report->fallbacks += result.fallbacks;
		if (count <= 0)
			return count;
		report->engine = result.engine;
		report->read += batch.count;
		stop = walk->visit(&batch, walk->arg);
	} while (stop == 0);
	return stop;
}

static int shards_walk(struct haul_flows *flows, struct walk *walk)
{
	int rc = 0;

	for (uint32_t shard = 0; shard < flows->saved.shards && rc == 0; shard++) {
		struct haul_map *map;
		rc = flow_shard_open(flows, shard, &map);
		rc = rc ? rc : shard_walk(map, walk);
	}
	return rc;
}

static void scan_enter(struct haul_flows *flows, const struct haul_map_report *report,
		       int64_t started_ns)
{
	struct haul_stats_batch batch = {
		.ops = report->read > UINT32_MAX ? UINT32_MAX : (uint32_t)report->read,
		.syscalls = (uint32_t)report->calls,
		.bytes = report->read *
			 (sizeof(struct haul_flow_key) + sizeof(struct haul_flow_value)),
		.reason = HAUL_CLOSE_MANUAL,
		.wait_ns = -1,
		.service_ns = flows->env.os->now_ns(flows->env.os) - started_ns,
	};
	haul_stats_batch(&flows->stats, &batch);
}

int haul_flows_scan(struct haul_flows *flows, const struct haul_flow_query *query,
		    int (*visit)(const struct haul_map_batch *batch, void *arg), void *arg,
		    struct haul_map_report *ret_report)
{
	struct walk walk = { .visit = visit, .arg = arg };
	struct haul_map_report *report = &walk.report;
	struct gather *gather = NULL;
	int64_t started_ns = flows->env.os->now_ns(flows->env.os);
	int rc = 0;

	HAUL_ASSERT(visit != NULL);
	report->duplicates = HAUL_MAP_UNKNOWN;
	if (query && query->addr_prefix > ADDR_BITS)
		rc = -EINVAL;
	if (haul_flows_count(flows, &report->expected) < 0)
		report->expected = HAUL_MAP_UNKNOWN;
	if (rc == 0 && query && !query_is_any(query)) {
		gather = gather_new(query);
		if (!gather)
			rc = -ENOMEM;
	}
	if (gather) {
		gather->visit = visit;
		gather->arg = arg;
		walk.visit = gather_visit;
		walk.arg = gather;
	}
	rc = rc ? rc : shards_walk(flows, &walk);
	if (gather)
		rc = rc ? rc : gather_flush(gather);
	report->matched = gather ? gather->matched : report->read;
	free(gather);
	if (haul_flows_count(flows, &report->after) < 0)
		report->after = HAUL_MAP_UNKNOWN;
	scan_enter(flows, report, started_ns);
	if (ret_report)
		*ret_report = *report;
	return rc;
}

/* ---- rows ---- */

int haul_flows_get(struct haul_flows *flows, const struct haul_map_rows *rows,
		   struct haul_map_result *ret_result)
{
	return flow_rows_do(flows, rows, haul_map_get, ret_result);
}

static int update_new(struct haul_map *map, const struct haul_map_rows *rows,
		      struct haul_map_result *ret_result)
{
	return haul_map_update(map, rows, HAUL_MAP_ONLY_NEW, ret_result);
}

static int update_any(struct haul_map *map, const struct haul_map_rows *rows,
		      struct haul_map_result *ret_result)
{
	return haul_map_update(map, rows, HAUL_MAP_ANY, ret_result);
}

void flow_extra_add(struct haul_flows *flows, enum haul_flow_total total, uint64_t n)
{
	(void)__atomic_fetch_add(&flows->control->extra[total], n, __ATOMIC_RELAXED);
}

struct put {
	struct haul_flow_key key[PUT_ROWS];
	struct haul_flow_value value[PUT_ROWS];
	struct haul_flow_value old[PUT_ROWS];
	int status[PUT_ROWS];
	uint32_t again[PUT_ROWS]; /* rows that were there already */
	bool there[PUT_ROWS];     /* … and still were when their old values were read */
};

static struct put *put_new(void)
{
	return malloc(sizeof(struct put));
}

/* Of another boot, or made up: times must not lie ahead, or the entry would never age. */
static void put_prepare(struct put *put, const struct haul_map_rows *rows, uint64_t now_ns)
{
	memcpy(put->key, rows->keys, rows->count * sizeof put->key[0]);
	memcpy(put->value, rows->values, rows->count * sizeof put->value[0]);
	for (uint32_t i = 0; i < rows->count; i++) {
		struct haul_flow_value *value = &put->value[i];
		value->life = HAUL_FLOW_LIVE;
		if (value->last_ns > now_ns)
			value->last_ns = now_ns;
		if (value->first_ns > value->last_ns)
			value->first_ns = value->last_ns;
		if (value->state >= HAUL_FLOW_STATES)
			value->state = HAUL_FLOW_NEW;
	}
}

static void count_put(struct haul_flows *flows, const struct haul_flow_value *value,
		      const struct haul_flow_value *old)
{
	uint64_t packets = value->packets[0] + value->packets[1];
	uint64_t bytes = value->bytes[0] + value->bytes[1];

	if (old) {
		packets -= old->packets[0] + old->packets[1];
		bytes -= old->bytes[0] + old->bytes[1];
	} else {
		flow_extra_add(flows, HAUL_FLOW_T_OPENED, 1);
	}
	flow_extra_add(flows, HAUL_FLOW_T_PACKETS, packets);
	flow_extra_add(flows, HAUL_FLOW_T_BYTES, bytes);
}

/* Entries that are there get the new values. */
static int put_again(struct haul_flows *flows, struct put *put, uint32_t count,
		     struct haul_map_result *result)
{
	struct haul_map_result got = { 0 }, done = { 0 };
	struct haul_map_rows rows = { .count = count, .keys = put->key, .values = put->old };
	int rc;

	for (uint32_t i = 0; i < count; i++) {
		put->key[i] = put->key[put->again[i]];
		put->value[i] = put->value[put->again[i]];
	}
	memset(put->old, 0, count * sizeof put->old[0]);
	rows.status = put->status;
	rc = flow_rows_do(flows, &rows, haul_map_get, &got);
	for (uint32_t i = 0; i < count; i++)
		put->there[i] = put->status[i] == 0;
	rows.values = put->value;
	rc = rc ? rc : flow_rows_do(flows, &rows, update_any, &done);
	result->calls += got.calls;
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < count; i++)
		count_put(flows, &put->value[i], put->there[i] ? &put->old[i] : NULL);
	result->calls += done.calls;
	result->kept -= count;
	result->done += count;
	result->updated += count;
	return 0;
}

static int put_chunk(struct haul_flows *flows, struct put *put, const struct haul_map_rows *rows,
		     bool again, struct haul_map_result *result)
{
	struct haul_map_result one = { 0 };
	const struct haul_map_rows prepared = {
		.count = rows->count, .keys = put->key, .values = put->value, .status = put->status
	};
	uint32_t there = 0, fresh = 0;
	int rc;

	put_prepare(put, rows, (uint64_t)flows->env.os->now_ns(flows->env.os));
	rc = flow_rows_do(flows, &prepared, update_new, &one);
	for (uint32_t i = 0; i < rows->count; i++) {
		if (put->status[i] == 0) {
			count_put(flows, &put->value[i], NULL);
			fresh++;
		} else if (put->status[i] == -EEXIST) {
			put->again[there++] = i;
		}
		if (rows->status)
			rows->status[i] = put->status[i] == -EEXIST && again ? 0 : put->status[i];
	}
	result->done += fresh;
	result->inserted += fresh;
	result->kept += there;
	result->calls += one.calls;
	result->retries += one.retries;
	result->fallbacks += one.fallbacks;
	result->engine = one.engine;
	result->failed_index = one.failed_index;
	result->reason = one.reason;
	if (rc == 0 && again && there > 0)
		rc = put_again(flows, put, there, result);
	return rc;
}

int flow_put(struct haul_flows *flows, const struct haul_map_rows *rows, enum haul_map_mode mode,
	     struct haul_map_result *ret_result)
{
	struct put *put = put_new();
	uint32_t base = 0;
	int rc = put ? 0 : -ENOMEM;

	HAUL_ASSERT(mode != HAUL_MAP_ONLY_EXISTING);
	memset(ret_result, 0, sizeof *ret_result);
	ret_result->failed_index = -1;
	while (base < rows->count && rc == 0) {
		uint32_t left = rows->count - base;
		const struct haul_map_rows chunk = {
			.count = left < PUT_ROWS ? left : PUT_ROWS,
			.keys = (const struct haul_flow_key *)rows->keys + base,
			.values = (struct haul_flow_value *)rows->values + base,
			.status = rows->status ? rows->status + base : NULL,
		};
		rc = put_chunk(flows, put, &chunk, mode == HAUL_MAP_ANY, ret_result);
		if (rc < 0 && ret_result->failed_index >= 0)
			ret_result->failed_index += base;
		base += chunk.count;
	}
	for (; rows->status && base < rows->count; base++)
		rows->status[base] = -ECANCELED;
	free(put);
	return rc;
}

int haul_flows_put(struct haul_flows *flows, const struct haul_map_rows *rows,
		   struct haul_map_result *ret_result)
{
	return flow_put(flows, rows, HAUL_MAP_ANY, ret_result);
}

/* ---- totals ---- */

int haul_flows_totals(struct haul_flows *flows, uint64_t ret_totals[HAUL_FLOW_TOTALS])
{
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(flows->fd[FLOW_TOTALS], &zero, flows->cpu_totals) < 0)
		return -errno;
	for (uint32_t total = 0; total < HAUL_FLOW_TOTALS; total++) {
		uint64_t sum = __atomic_load_n(&flows->control->extra[total], __ATOMIC_RELAXED);
		for (uint32_t cpu = 0; cpu < flows->cpus; cpu++)
			sum += flows->cpu_totals[cpu * HAUL_FLOW_TOTALS + total];
		ret_totals[total] = sum;
	}
	return 0;
}

/* Every entry is counted when it is made and when it is removed. */
int haul_flows_count(struct haul_flows *flows, uint64_t *ret_count)
{
	uint64_t totals[HAUL_FLOW_TOTALS] = { 0 };
	int rc = haul_flows_totals(flows, totals);

	if (rc < 0)
		return rc;
	/* The CPUs are read one after the other: an entry's end may be seen without its start. */
	*ret_count = totals[HAUL_FLOW_T_OPENED] < totals[HAUL_FLOW_T_CLOSED]
			     ? 0
			     : totals[HAUL_FLOW_T_OPENED] - totals[HAUL_FLOW_T_CLOSED];
	return 0;
}
