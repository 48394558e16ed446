/* Work on all of a map: dump, filter, aggregate, age. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "map_bare.h"
#include "map_work.h"

static int failed(struct haul_err *err, int rc, const char *what)
{
	return haul_err_set(err, rc, "%s: %s", what, haul_strerror(rc));
}

/* ---- one by one ---- */

static int walk_failed(struct map_run *run, const struct map_bare_walk *walk, int rc,
		       struct haul_err *err)
{
	run->calls += walk->next.calls + walk->get.calls;
	run->engine = HAUL_MAP_SINGLE;
	run->cut = run->walk_max < run->table->entries;
	return rc < 0 ? failed(err, rc, "walk one by one") : 0;
}

static int dump_one(struct map_run *run, struct haul_err *err)
{
	struct map_bare_walk walk;
	const struct haul_flow_key *key;
	int rc = 1;
	map_bare_walk_init(&walk, run->table->fd);
	while (run->sum[0].count < run->walk_max && (rc = map_bare_walk_next(&walk, &key)) > 0)
		map_sum_add(&run->sum[0], key, &walk.value);
	run->ops = run->sum[0].count;
	return walk_failed(run, &walk, rc, err);
}

/* Few hits: the last MAP_WORK_RARE entries that were seen. */
static bool is_rare(const struct map_run *run, const struct haul_flow_value *value)
{
	return value->last_ns >= run->table->entries - MAP_WORK_RARE;
}

static int filter_one(struct map_run *run, struct haul_err *err)
{
	struct map_bare_walk walk;
	const struct haul_flow_key *key;
	int rc = 1;
	map_bare_walk_init(&walk, run->table->fd);
	while (run->ops < run->walk_max && (rc = map_bare_walk_next(&walk, &key)) > 0) {
		run->ops++;
		if (is_rare(run, &walk.value))
			map_sum_add(&run->sum[0], key, &walk.value);
	}
	return walk_failed(run, &walk, rc, err);
}

static void aggregate_add(struct haul_map_aggregate *aggregate, uint64_t value)
{
	aggregate->count++;
	aggregate->sum += value;
	aggregate->sum_high += aggregate->sum < value;
	if (value < aggregate->min || aggregate->count == 1)
		aggregate->min = value;
	if (value > aggregate->max)
		aggregate->max = value;
	aggregate->hist[value ? 64 - __builtin_clzll(value) : 0]++;
}

static int aggregate_one(struct map_run *run, struct haul_err *err)
{
	struct map_bare_walk walk;
	const struct haul_flow_key *key;
	int rc = 1;
	map_bare_walk_init(&walk, run->table->fd);
	while (run->ops < run->walk_max && (rc = map_bare_walk_next(&walk, &key)) > 0) {
		run->ops++;
		aggregate_add(&run->aggregate, walk.value.bytes[0]);
	}
	return walk_failed(run, &walk, rc, err);
}

/* Seen last in the older half. */
static uint64_t cutoff(const struct map_run *run)
{
	return run->table->entries / 2;
}

/* An entry is deleted when the walk has gone on behind it: from a key that is gone it would begin
 * again. */
static int age_one(struct map_run *run, struct haul_err *err)
{
	struct map_bare_walk walk;
	struct map_bare remove;
	const struct haul_flow_key *key;
	struct haul_flow_key old;
	bool is_old = false;
	int rc = 1, gone = 0;
	map_bare_walk_init(&walk, run->table->fd);
	map_bare_init(&remove, run->table->fd);
	while (run->ops < run->walk_max && (rc = map_bare_walk_next(&walk, &key)) > 0) {
		run->ops++;
		if (is_old && (gone = map_bare_delete(&remove, &old)) < 0)
			return failed(err, gone, "delete one by one");
		is_old = walk.value.last_ns < cutoff(run);
		if (is_old)
			old = *key;
		run->done += is_old;
	}
	if (is_old && (gone = map_bare_delete(&remove, &old)) < 0)
		return failed(err, gone, "delete one by one");
	run->calls = remove.calls;
	return walk_failed(run, &walk, rc, err);
}

/* ---- batches ---- */

static int sum_visit(const struct haul_map_batch *batch, void *arg)
{
	struct map_run *run = arg;
	HAUL_ASSERT(batch->thread < MAP_WORK_THREADS);
	struct map_sum *sum = &run->sum[batch->thread];
	for (uint32_t i = 0; i < batch->count; i++)
		map_sum_add(sum, haul_map_key(batch, i), haul_map_value(batch, i));
	return 0;
}

static int scan(struct map_run *run, struct haul_map *map, const struct haul_map_scan *how,
		struct haul_err *err)
{
	struct haul_map_report report;
	int rc = haul_map_scan(map, how, &report);
	if (rc < 0)
		return failed(err, rc, "scan");
	run->ops = report.read;
	run->calls = report.calls;
	run->engine = report.engine;
	return 0;
}

static int dump_any(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_scan how = { .visit = sum_visit, .arg = run };
	return scan(run, run->table->any, &how, err);
}

static int dump_batches(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_scan how = { .visit = sum_visit, .arg = run };
	return scan(run, run->table->batch, &how, err);
}

static int dump_threads(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_scan how = { .threads = MAP_WORK_THREADS,
					   .visit = sum_visit,
					   .arg = run };
	return scan(run, run->table->batch, &how, err);
}

static int filter_any(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_filter filter = {
		.count = 1,
		.conditions = { { .field = { .offset = offsetof(struct haul_flow_value, last_ns),
					     .width = 8 },
				  .test = HAUL_MAP_GE,
				  .operand = run->table->entries - MAP_WORK_RARE } },
	};
	const struct haul_map_scan how = { .filter = &filter, .visit = sum_visit, .arg = run };
	return scan(run, run->table->any, &how, err);
}

static int aggregate_any(struct map_run *run, struct haul_err *err)
{
	struct haul_map_result result;
	run->aggregate.field = (struct haul_map_field){
		.offset = offsetof(struct haul_flow_value, bytes),
		.width = 8,
	};
	int rc = haul_map_aggregate(run->table->any, &run->aggregate, &result);
	if (rc < 0)
		return failed(err, rc, "aggregate");
	run->ops = result.visited;
	run->calls = result.calls;
	run->engine = result.engine;
	return 0;
}

static int age_any(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_filter filter = {
		.count = 1,
		.conditions = { { .field = { .offset = offsetof(struct haul_flow_value, last_ns),
					     .width = 8 },
				  .test = HAUL_MAP_LT,
				  .operand = cutoff(run) } },
	};
	struct haul_map_result result;
	int rc = haul_map_delete_if(run->table->any, &filter, &result);
	if (rc < 0)
		return failed(err, rc, "delete by filter");
	run->ops = result.visited;
	run->calls = result.calls;
	run->done = result.done;
	run->engine = result.engine;
	return 0;
}

/* ---- what is right ---- */

static int wrong(struct haul_err *err, const char *what, uint64_t is, uint64_t should)
{
	return haul_err_set(err, -EIO, "%s: %llu, right is %llu", what, (unsigned long long)is,
			    (unsigned long long)should);
}

/* The sum of so many consecutive numbers from first on. */
static uint64_t sum_from(uint64_t first, uint64_t count)
{
	return first * count + count * (count - 1) / 2;
}

int map_work_check_all(const struct map_run *run, struct haul_err *err)
{
	struct map_sum all = { 0 };
	uint64_t entries = run->table->entries;
	for (unsigned i = 0; i < MAP_WORK_THREADS; i++) {
		all.count += run->sum[i].count;
		all.indexes += run->sum[i].indexes;
		all.bytes += run->sum[i].bytes;
	}
	uint64_t count = !run->cut ? entries : run->walk_max;
	if (all.count != count || run->ops != count)
		return wrong(err, "entries read", all.count, count);
	if (!run->cut && all.indexes != sum_from(0, count))
		return wrong(err, "sum of the keys read", all.indexes, sum_from(0, count));
	uint64_t bytes = all.indexes + count * MAP_TABLE_BYTES_BASE;
	if (all.bytes != bytes)
		return wrong(err, "sum of the values read", all.bytes, bytes);
	return 0;
}

/* A walk that was cut short has found some of the rare ones. */
static int filter_check(const struct map_run *run, struct haul_err *err)
{
	uint64_t entries = run->table->entries;
	const struct map_sum *sum = &run->sum[0];
	if (run->cut)
		return sum->count > MAP_WORK_RARE ? wrong(err, "hits", sum->count, MAP_WORK_RARE)
						  : 0;
	if (run->ops != entries)
		return wrong(err, "entries filtered", run->ops, entries);
	if (sum->count != MAP_WORK_RARE)
		return wrong(err, "hits", sum->count, MAP_WORK_RARE);
	uint64_t indexes = sum_from(entries - MAP_WORK_RARE, MAP_WORK_RARE);
	return sum->indexes != indexes ? wrong(err, "sum of the hits", sum->indexes, indexes) : 0;
}

static int aggregate_check(const struct map_run *run, struct haul_err *err)
{
	const struct haul_map_aggregate *got = &run->aggregate;
	struct haul_map_aggregate right = { 0 };
	if (run->cut)
		return got->count != run->walk_max
			       ? wrong(err, "entries added up", got->count, run->walk_max)
			       : 0;
	for (uint32_t i = 0; i < run->table->entries; i++)
		aggregate_add(&right, MAP_TABLE_BYTES_BASE + i);
	if (got->count != right.count)
		return wrong(err, "entries added up", got->count, right.count);
	if (got->sum != right.sum)
		return wrong(err, "sum", got->sum, right.sum);
	if (got->min != right.min || got->max != right.max)
		return wrong(err, "largest", got->max, right.max);
	if (memcmp(got->hist, right.hist, sizeof right.hist) != 0)
		return haul_err_set(err, -EIO, "the histogram is wrong");
	return 0;
}

/* What is left is counted by reading it. */
static int age_check(const struct map_run *run, struct haul_err *err)
{
	struct map_run left = { .table = run->table, .walk_max = UINT32_MAX };
	uint64_t entries = run->table->entries;
	if (!run->cut && run->done != cutoff(run))
		return wrong(err, "entries deleted", run->done, cutoff(run));
	int rc = dump_batches(&left, err);
	if (rc < 0)
		return rc;
	if (left.sum[0].count != entries - run->done)
		return wrong(err, "entries left", left.sum[0].count, entries - run->done);
	uint64_t young = sum_from(cutoff(run), entries - cutoff(run));
	return !run->cut && left.sum[0].indexes != young
		       ? wrong(err, "sum of what is left", left.sum[0].indexes, young)
		       : 0;
}

static int age_restore(struct map_run *run, struct haul_err *err)
{
	int rc = map_table_put(run->table, 0, (uint32_t)cutoff(run));
	return rc < 0 ? failed(err, rc, "put back") : 0;
}

const struct map_work map_work_dump = { .arm = { dump_one, dump_any },
					.check = map_work_check_all };
const struct map_work map_work_dump_batch = { .arm = { dump_one, dump_batches },
					      .check = map_work_check_all };
const struct map_work map_work_parallel = { .arm = { dump_batches, dump_threads },
					    .check = map_work_check_all };
const struct map_work map_work_filter = { .arm = { filter_one, filter_any },
					  .check = filter_check };
const struct map_work map_work_aggregate = { .arm = { aggregate_one, aggregate_any },
					     .check = aggregate_check };
const struct map_work map_work_age = { .arm = { age_one, age_any },
				       .check = age_check,
				       .restore = age_restore };
