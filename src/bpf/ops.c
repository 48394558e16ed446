/* The calls of haul/map.h: check what was passed, start the result, try the engines from the best
 * one down, and enter what came of it in the map's block.
 *
 * An engine that says beforehand that it cannot, or finds out with nothing done yet, hands the
 * operation down; each such step is counted as a fallback. One that has done a part of the rows and
 * then fails has failed: nobody does a row twice. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/map_state.h"
#include "bpf/scan.h"

/* One operation, whatever it is. */
struct op_call {
	enum haul_map_op op;
	const struct haul_map_rows *rows;
	enum haul_map_mode mode;
	const struct haul_map_field *field;
	const struct haul_map_filter *filter;
	struct haul_map_aggregate *aggregate;
	uint64_t *count;
	const struct haul_map_scan *scan;
	struct haul_map_report *report;
	struct haul_map_result *result;
};

static void result_start(struct haul_map_result *result)
{
	*result = (struct haul_map_result){ .failed_index = -1 };
}

static void report_start(struct haul_map_report *report)
{
	*report = (struct haul_map_report){
		.expected = HAUL_MAP_UNKNOWN,
		.after = HAUL_MAP_UNKNOWN,
		.duplicates = HAUL_MAP_UNKNOWN,
	};
}

static int engine_run(const struct map_engine *e, struct haul_map *map, const struct op_call *c)
{
	switch (c->op) {
	case HAUL_MAP_OP_GET:
		return e->get ? e->get(map, c->rows, c->result) : -EOPNOTSUPP;
	case HAUL_MAP_OP_UPDATE:
		return e->update ? e->update(map, c->rows, c->mode, c->result) : -EOPNOTSUPP;
	case HAUL_MAP_OP_UPSERT:
		return e->upsert ? e->upsert(map, c->rows, c->result) : -EOPNOTSUPP;
	case HAUL_MAP_OP_DELETE:
		return e->delete ? e->delete (map, c->rows, c->result) : -EOPNOTSUPP;
	case HAUL_MAP_OP_COMPARE_DELETE:
		return e->compare_delete ? e->compare_delete(map, c->rows, c->field, c->result)
					 : -EOPNOTSUPP;
	case HAUL_MAP_OP_SCAN:
		/* Walks by read check as they go. */
		if (c->scan->check && e->scan && !e->read)
			return map_scan_checked(map, e, c->scan, c->report);
		return e->scan ? e->scan(map, c->scan, c->report) : -EOPNOTSUPP;
	case HAUL_MAP_OP_DELETE_IF:
		return e->delete_if ? e->delete_if(map, c->filter, c->result) : -EOPNOTSUPP;
	case HAUL_MAP_OP_AGGREGATE:
		return e->aggregate ? e->aggregate(map, c->aggregate, c->result) : -EOPNOTSUPP;
	case HAUL_MAP_OP_COUNT:
		return e->count ? e->count(map, c->count, c->result) : -EOPNOTSUPP;
	case HAUL_MAP_OP_TAKE: /* haul_map_take reads itself */
	case HAUL_MAP_OPS:
		break;
	}
	return -EOPNOTSUPP;
}

/* What an engine leaves behind that is still to be handed down, for the next one to start with. */
static void call_restart(const struct op_call *c, enum haul_map_engine engine)
{
	if (c->report) {
		struct haul_map_report old = *c->report;
		report_start(c->report);
		c->report->calls = old.calls;
		c->report->retries = old.retries;
		c->report->fallbacks = old.fallbacks;
		c->report->engine = engine;
		return;
	}
	struct haul_map_result old = *c->result;
	result_start(c->result);
	c->result->calls = old.calls;
	c->result->retries = old.retries;
	c->result->fallbacks = old.fallbacks;
	c->result->engine = engine;
}

static bool call_untouched(const struct op_call *c)
{
	if (c->report)
		return c->report->matched == 0;
	return c->result->done + c->result->missing + c->result->kept == 0;
}

static int call_run(struct haul_map *map, uint64_t rows, bool exact, const struct op_call *c)
{
	const struct map_engine *engines[MAP_ENGINES_MAX];
	if (!exact)
		map_look(map, c->op, rows);
	uint32_t count = map_choose(map, c->op, rows, exact, engines);
	uint64_t *fallbacks = c->report ? &c->report->fallbacks : &c->result->fallbacks;
	int rc = -EOPNOTSUPP;
	for (uint32_t i = 0; i < count; i++) {
		const struct map_engine *e = engines[i];
		const char *why = NULL;
		bool last = i + 1 == count;
		call_restart(c, e->id);
		rc = e->can(map, c->op, &why) ? engine_run(e, map, c) : -EOPNOTSUPP;
		bool refused = rc == -EOPNOTSUPP || (rc < 0 && !e->can(map, c->op, &why));
		if (!refused || !call_untouched(c)) {
			if (rows == 0 && e->id == HAUL_MAP_BATCH)
				map->walked += map->entries;
			return rc;
		}
		if (!last)
			++*fallbacks;
	}
	return rc;
}

/* ---- the block ---- */

static void count_common(struct haul_map *map, int rc, uint64_t retries, uint64_t fallbacks)
{
	haul_stats_count(&map->stats, MAP_C_RETRIES, retries);
	haul_stats_count(&map->stats, MAP_C_FALLBACKS, fallbacks);
	haul_stats_count(&map->stats, MAP_C_FAILED, rc < 0);
}

/* ops entries in one go. Walks by read enter each of their calls themselves. */
static void count_batch(struct haul_map *map, uint64_t ops, uint64_t calls, int64_t begin_ns)
{
	int64_t service_ns = map->os->now_ns(map->os) - begin_ns;
	size_t entry = (size_t)map->info.key_size + map->info.slot_bytes;
	const struct haul_stats_batch batch = {
		.ops = ops < UINT32_MAX ? (uint32_t)ops : UINT32_MAX,
		.syscalls = calls < UINT32_MAX ? (uint32_t)calls : UINT32_MAX,
		.bytes = ops * entry,
		.reason = HAUL_CLOSE_MANUAL,
		.wait_ns = -1,
		.service_ns = service_ns > 0 ? service_ns : 0,
	};
	haul_stats_batch(&map->stats, &batch);
}

/* ---- rows ---- */

static int rows_check(const struct haul_map *map, const struct haul_map_rows *rows, bool values)
{
	if (!rows || (rows->count > 0 && (!rows->keys || (values && !rows->values))))
		return -EINVAL;
	if (map->info.key_size == 0 || map->info.key_size > HAUL_MAP_KEY_MAX)
		return -EOPNOTSUPP;
	return 0;
}

static int result_refuse(struct haul_map *map, struct haul_map_result *result, int rc)
{
	result_start(result);
	result->engine = map->options.engine;
	result->reason = rc;
	count_common(map, rc, 0, 0);
	return rc;
}

static int rows_run(struct haul_map *map, bool values, struct op_call *c)
{
	HAUL_ASSERT(map != NULL && c->result != NULL);
	int rc = rows_check(map, c->rows, values);
	if (rc < 0)
		return result_refuse(map, c->result, rc);
	result_start(c->result);
	int64_t begin_ns = map->os->now_ns(map->os);
	if (c->rows->count > 0)
		rc = call_run(map, c->rows->count, false, c);
	struct haul_map_result *r = c->result;
	if (rc < 0 && r->reason == 0)
		r->reason = rc;
	if (rc == -EOPNOTSUPP && call_untouched(c)) {
		r->failed_index = 0;
		for (uint32_t i = 0; c->rows->status && i < c->rows->count; i++)
			c->rows->status[i] = i == 0 ? rc : -ECANCELED;
	}
	HAUL_ASSERT(r->done + r->missing + r->kept <= c->rows->count);
	count_batch(map, c->rows->count, r->calls, begin_ns);
	count_common(map, rc, r->retries, r->fallbacks);
	haul_stats_count(&map->stats, MAP_C_MISSING, r->missing);
	return rc;
}

int haul_map_get(struct haul_map *map, const struct haul_map_rows *rows,
		 struct haul_map_result *ret_result)
{
	struct op_call c = { .op = HAUL_MAP_OP_GET, .rows = rows, .result = ret_result };
	return rows_run(map, true, &c);
}

int haul_map_update(struct haul_map *map, const struct haul_map_rows *rows, enum haul_map_mode mode,
		    struct haul_map_result *ret_result)
{
	struct op_call c = {
		.op = HAUL_MAP_OP_UPDATE,
		.rows = rows,
		.mode = mode,
		.result = ret_result,
	};
	if ((unsigned)mode > HAUL_MAP_ONLY_EXISTING)
		return result_refuse(map, ret_result, -EINVAL);
	return rows_run(map, true, &c);
}

int haul_map_upsert(struct haul_map *map, const struct haul_map_rows *rows,
		    struct haul_map_result *ret_result)
{
	struct op_call c = { .op = HAUL_MAP_OP_UPSERT, .rows = rows, .result = ret_result };
	return rows_run(map, true, &c);
}

int haul_map_delete(struct haul_map *map, const struct haul_map_rows *rows,
		    struct haul_map_result *ret_result)
{
	struct op_call c = { .op = HAUL_MAP_OP_DELETE, .rows = rows, .result = ret_result };
	return rows_run(map, false, &c);
}

int haul_map_compare_delete(struct haul_map *map, const struct haul_map_rows *rows,
			    const struct haul_map_field *field, struct haul_map_result *ret_result)
{
	struct op_call c = {
		.op = HAUL_MAP_OP_COMPARE_DELETE,
		.rows = rows,
		.field = field,
		.result = ret_result,
	};
	uint32_t size = map->info.value_size;
	if (field && (field->in_key || field->width == 0 || field->offset > size ||
		      field->width > size - field->offset))
		return result_refuse(map, ret_result, -EINVAL);
	return rows_run(map, true, &c);
}

/* ---- walks ---- */

/* The engine that the cursor came from goes on; at the start the best one that can. */
static int read_run(struct haul_map *map, struct haul_map_cursor *cursor, bool take,
		    struct haul_map_batch *batch, struct haul_map_result *result)
{
	enum haul_map_op op = take ? HAUL_MAP_OP_TAKE : HAUL_MAP_OP_SCAN;
	const struct map_engine *engines[MAP_ENGINES_MAX];
	uint32_t count = map_choose(map, op, 0, true, engines);
	int rc = -EOPNOTSUPP;
	for (uint32_t i = 0; i < count; i++) {
		const struct map_engine *e = engines[i];
		const char *why = NULL;
		bool last = i + 1 == count;
		bool can = e->read && e->can(map, op, &why);
		result->engine = e->id;
		rc = can ? e->read(map, cursor, take, batch, result) : -EOPNOTSUPP;
		bool foreign = can && rc == -EINVAL && cursor->bytes > 0;
		if (last || (rc != -EOPNOTSUPP && !foreign))
			return rc;
		result->fallbacks++;
	}
	return rc;
}

static int cursor_next(struct haul_map *map, struct haul_map_cursor *cursor, bool take,
		       struct haul_map_batch *batch, struct haul_map_result *result)
{
	HAUL_ASSERT(map != NULL && cursor != NULL && batch != NULL && result != NULL);
	result_start(result);
	bool started = cursor->bytes > 0 || cursor->ended != 0;
	int rc = 0;
	if (map->info.key_size == 0 || map->info.key_size > HAUL_MAP_KEY_MAX)
		rc = -EOPNOTSUPP;
	else if ((started || cursor->map_id != 0) && cursor->map_id != map->info.id)
		rc = -EINVAL;
	struct haul_map_cursor next = *cursor;
	if (rc == 0 && !cursor->ended)
		rc = read_run(map, &next, take, batch, result);
	count_common(map, rc, 0, result->fallbacks);
	if (rc < 0) {
		result->reason = rc;
		return rc;
	}
	if (rc == 0)
		*batch = (struct haul_map_batch){ 0 };
	next.map_id = map->info.id;
	*cursor = next;
	result->visited = (uint64_t)rc;
	result->done = take ? (uint64_t)rc : 0;
	return rc;
}

int haul_map_read(struct haul_map *map, struct haul_map_cursor *cursor,
		  struct haul_map_batch *ret_batch, struct haul_map_result *ret_result)
{
	return cursor_next(map, cursor, false, ret_batch, ret_result);
}

int haul_map_take(struct haul_map *map, struct haul_map_cursor *cursor,
		  struct haul_map_batch *ret_batch, struct haul_map_result *ret_result)
{
	return cursor_next(map, cursor, true, ret_batch, ret_result);
}

static int scan_check(const struct haul_map *map, const struct haul_map_scan *scan)
{
	if (!scan || !scan->visit || scan->threads > HAUL_MAP_THREADS_MAX)
		return -EINVAL;
	if (map->info.key_size == 0 || map->info.key_size > HAUL_MAP_KEY_MAX)
		return -EOPNOTSUPP;
	return scan->filter ? haul_map_filter_check(&map->info, scan->filter, NULL) : 0;
}

/* Not a part of the scan: when it fails the scan is none the worse. */
static uint64_t count_aside(struct haul_map *map, struct haul_map_report *report)
{
	uint64_t count = HAUL_MAP_UNKNOWN;
	struct haul_map_result result;
	(void)haul_map_count(map, &count, &result);
	report->calls += result.calls;
	return count;
}

int haul_map_scan(struct haul_map *map, const struct haul_map_scan *scan,
		  struct haul_map_report *ret_report)
{
	HAUL_ASSERT(map != NULL && ret_report != NULL);
	report_start(ret_report);
	ret_report->engine = map->options.engine;
	int rc = scan_check(map, scan);
	if (rc < 0) {
		count_common(map, rc, 0, 0);
		return rc;
	}
	uint64_t before = HAUL_MAP_UNKNOWN;
	if (scan->check)
		before = count_aside(map, ret_report);
	struct op_call c = { .op = HAUL_MAP_OP_SCAN, .scan = scan, .report = ret_report };
	int64_t begin_ns = map->os->now_ns(map->os);
	rc = call_run(map, 0, scan->check || scan->threads > 1, &c);
	struct haul_map_report *r = ret_report;
	if (r->engine == HAUL_MAP_KERNEL)
		count_batch(map, r->read, r->calls, begin_ns);
	count_common(map, rc, 0, r->fallbacks);
	if (scan->check) {
		r->expected = before;
		r->after = count_aside(map, r);
	}
	bool lru = map->info.type == BPF_MAP_TYPE_LRU_HASH ||
		   map->info.type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
	if (lru && rc == 0 && r->expected != HAUL_MAP_UNKNOWN && r->expected > r->read)
		r->evicted = r->expected - r->read;
	return rc;
}

int haul_map_delete_if(struct haul_map *map, const struct haul_map_filter *filter,
		       struct haul_map_result *ret_result)
{
	HAUL_ASSERT(map != NULL && ret_result != NULL);
	static const struct haul_map_filter none = { 0 };
	struct op_call c = {
		.op = HAUL_MAP_OP_DELETE_IF,
		.filter = filter ? filter : &none,
		.result = ret_result,
	};
	int rc = haul_map_filter_check(&map->info, c.filter, NULL);
	if (rc < 0)
		return result_refuse(map, ret_result, rc);
	result_start(ret_result);
	int64_t begin_ns = map->os->now_ns(map->os);
	rc = call_run(map, 0, false, &c);
	ret_result->reason = rc < 0 ? rc : 0;
	count_batch(map, ret_result->done + ret_result->missing, ret_result->calls, begin_ns);
	count_common(map, rc, ret_result->retries, ret_result->fallbacks);
	return rc;
}

int haul_map_count(struct haul_map *map, uint64_t *ret_count, struct haul_map_result *ret_result)
{
	HAUL_ASSERT(map != NULL && ret_count != NULL && ret_result != NULL);
	uint64_t count = map->info.max_entries;
	struct op_call c = { .op = HAUL_MAP_OP_COUNT, .count = &count, .result = ret_result };
	bool array =
		map->info.type == BPF_MAP_TYPE_ARRAY || map->info.type == BPF_MAP_TYPE_PERCPU_ARRAY;
	result_start(ret_result);
	ret_result->engine = map->options.engine;
	int rc = array ? 0 : call_run(map, 0, false, &c);
	ret_result->reason = rc < 0 ? rc : 0;
	count_common(map, rc, 0, ret_result->fallbacks);
	if (rc == 0)
		*ret_count = count;
	return rc;
}

static int aggregate_check(const struct haul_map *map, const struct haul_map_aggregate *a)
{
	if (!a || a->top > HAUL_MAP_TOP_MAX || (a->top > 0 && (!a->top_keys || !a->top_values)))
		return -EINVAL;
	/* A field that a condition may have is one that can be added up. */
	const struct haul_map_filter field = { .count = 1,
					       .conditions = { { .field = a->field } } };
	int rc = haul_map_filter_check(&map->info, &field, NULL);
	if (rc < 0 || !a->filter)
		return rc;
	return haul_map_filter_check(&map->info, a->filter, NULL);
}

int haul_map_aggregate(struct haul_map *map, struct haul_map_aggregate *aggregate,
		       struct haul_map_result *ret_result)
{
	HAUL_ASSERT(map != NULL && ret_result != NULL);
	struct op_call c = {
		.op = HAUL_MAP_OP_AGGREGATE,
		.aggregate = aggregate,
		.result = ret_result,
	};
	int rc = aggregate_check(map, aggregate);
	if (rc < 0)
		return result_refuse(map, ret_result, rc);
	result_start(ret_result);
	int64_t begin_ns = map->os->now_ns(map->os);
	rc = call_run(map, 0, false, &c);
	struct haul_map_result *r = ret_result;
	r->reason = rc < 0 ? rc : 0;
	if (r->engine == HAUL_MAP_KERNEL)
		count_batch(map, r->visited, r->calls, begin_ns);
	count_common(map, rc, 0, r->fallbacks);
	return rc;
}
