/* Rows through the kernel engine: a slice is copied into the records, one call works through them,
 * and what came of each is copied out. A slice stays small enough for the cache and for the
 * latency budget; the system call costs less than one row in a thousand of it. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/kernel_state.h"
#include "bpf/rows.h"

/* What differs between the operations. */
struct rows_op {
	enum kernel_program program;
	enum kernel_part_id part;
	bool values_in;
	bool values_out;
};

static void slice_in(struct haul_map *map, const struct rows_op *op,
		     const struct haul_map_rows *rows, uint32_t first, uint32_t count)
{
	const struct kernel_part *part = &map->kernel->parts[op->part];
	size_t key_size = map->info.key_size;
	size_t value_size = map->info.value_size;
	const uint8_t *keys = (const uint8_t *)rows->keys + first * key_size;
	const uint8_t *values = op->values_in ? rows->values : keys; /* there may be none */
	if (op->values_in)
		values += first * value_size;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *record = kernel_record(map, part, i);
		memcpy(record + MAP_RECORD_KEY, keys + i * key_size, key_size);
		if (op->values_in)
			memcpy(record + map->kernel->value_at, values + i * value_size, value_size);
	}
}

static void slice_out(struct haul_map *map, const struct rows_op *op,
		      const struct haul_map_rows *rows, uint32_t first, uint32_t count)
{
	const struct kernel_part *part = &map->kernel->parts[op->part];
	size_t value_size = map->info.value_size;
	uint8_t *values = op->values_out ? (uint8_t *)rows->values + first * value_size : NULL;
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *record = kernel_record(map, part, i);
		int32_t status;
		memcpy(&status, record, sizeof status);
		if (rows->status)
			rows->status[first + i] = status;
		if (op->values_out && status == 0)
			memcpy(values + i * value_size, record + map->kernel->value_at, value_size);
	}
}

static void slice_learn(struct haul_map *map, uint32_t count, int64_t begun_ns)
{
	int64_t now_ns = map->os->now_ns(map->os);
	struct haul_sizer_sample sample = { count, now_ns - begun_ns, now_ns };
	(void)haul_sizer_update(&map->kernel->rows, &sample);
}

/* Whether the rows' memory is worth fetching ahead: what is in the caches anyway is not, nor are a
 * few rows worth loading the program for. */
static bool rows_are_far(const struct haul_map *map)
{
	return map->info.type == BPF_MAP_TYPE_HASH && map->info.key_size % 4 == 0 &&
	       map->info.key_size <= MAP_WARM_KEY &&
	       map->info.max_entries >= map->kernel->hash_walk_from &&
	       map->kernel->rows_seen >= map->kernel->fetch_from;
}

/* Rows of a large map are fetched ahead. Where that cannot be done nothing is lost but time. */
static void slice_warm(struct haul_map *map, const struct haul_map_rows *rows, uint32_t first,
		       uint32_t count, struct haul_map_result *result)
{
	struct kernel_part *part = &map->kernel->parts[KERNEL_HASH_WARM];
	size_t key_size = map->info.key_size;
	if (count < MAP_GROUP || !rows_are_far(map) ||
	    kernel_part_load(map, KERNEL_HASH_WARM, MAP_ROWS) < 0)
		return;
	if (count > part->room)
		count = part->room;
	for (uint32_t i = 0; i < count; i++)
		memcpy(part->records + (size_t)i * map->kernel->value_at + MAP_RECORD_KEY,
		       (const uint8_t *)rows->keys + (first + i) * key_size, key_size);
	part->work->count = count;
	(void)kernel_run(map, KERNEL_P_HASH_WARM, &result->calls);
}

static int slice_run(struct haul_map *map, const struct rows_op *op,
		     const struct haul_map_rows *rows, uint32_t first,
		     struct haul_map_result *result)
{
	struct kernel_part *part = &map->kernel->parts[op->part];
	struct map_work *work = part->work;
	uint32_t count = rows->count - first;
	if (count > map->kernel->rows.target)
		count = map->kernel->rows.target;
	if (count > part->room)
		count = part->room;
	HAUL_ASSERT(count > 0);
	slice_in(map, op, rows, first, count);
	if (op->part != KERNEL_READ && op->part != KERNEL_HASH_READ) {
		map->kernel->rows_seen += count;
		slice_warm(map, rows, first, count, result);
	}
	work->count = count;
	work->reached = 0;
	work->done = work->missing = work->inserted = work->kept = 0;
	work->failed = 0;
	int64_t begun_ns = map->os->now_ns(map->os);
	int rc = kernel_run(map, op->program, &result->calls);
	if (rc < 0)
		return rows_failed(rows, first, rc, result);
	slice_learn(map, count, begun_ns);
	HAUL_ASSERT(work->reached <= count);
	slice_out(map, op, rows, first, work->reached);
	result->done += work->done;
	result->missing += work->missing;
	result->kept += work->kept;
	result->inserted += work->inserted;
	if (work->reached > 0)
		map->kernel->busy = 0;
	/* Somebody held the bucket all the while: from this row on once more. */
	if (rows_busy(work->failed) && map->kernel->busy++ < KERNEL_BUSY_TRIES) {
		result->retries++;
		return (int)work->reached;
	}
	if (work->failed != 0)
		return rows_failed(rows, first + work->reached, work->failed, result);
	HAUL_ASSERT(work->reached == count);
	return (int)count;
}

static int rows_run(struct haul_map *map, const struct rows_op *op,
		    const struct haul_map_rows *rows, struct haul_map_result *result)
{
	result->engine = HAUL_MAP_KERNEL;
	map->kernel->busy = 0;
	for (uint32_t first = 0; first < rows->count;) {
		int rc = slice_run(map, op, rows, first, result);
		if (rc < 0)
			return rc;
		first += (uint32_t)rc;
	}
	return 0;
}

static int rows_open(struct haul_map *map, const struct rows_op *op)
{
	int rc = map_kernel_open(map);
	return rc < 0 ? rc : kernel_part_load(map, op->part, MAP_ROWS);
}

int kernel_get(struct haul_map *map, const struct haul_map_rows *rows,
	       struct haul_map_result *result)
{
	static const struct rows_op op = { KERNEL_P_GET, KERNEL_READ, false, true };
	static const struct rows_op far = { KERNEL_P_HASH_GET, KERNEL_HASH_READ, false, true };
	int rc = map_kernel_open(map);
	if (rc < 0)
		return rc;
	map->kernel->rows_seen += rows->count;
	if (rows_are_far(map) && rows_open(map, &far) == 0)
		return rows_run(map, &far, rows, result);
	rc = rows_open(map, &op);
	return rc < 0 ? rc : rows_run(map, &op, rows, result);
}

int kernel_update(struct haul_map *map, const struct haul_map_rows *rows, enum haul_map_mode mode,
		  struct haul_map_result *result)
{
	static const struct rows_op op = { KERNEL_P_PUT, KERNEL_WRITE, true, false };
	static const uint64_t flags[] = {
		[HAUL_MAP_ANY] = BPF_ANY,
		[HAUL_MAP_ONLY_NEW] = BPF_NOEXIST,
		[HAUL_MAP_ONLY_EXISTING] = BPF_EXIST,
	};
	HAUL_ASSERT(mode <= HAUL_MAP_ONLY_EXISTING);
	int rc = rows_open(map, &op);
	if (rc < 0)
		return rc;
	map->kernel->parts[KERNEL_WRITE].work->flags = flags[mode];
	rc = rows_run(map, &op, rows, result);
	result->inserted = result->updated = HAUL_MAP_UNKNOWN;
	if (mode != HAUL_MAP_ANY) {
		result->inserted = mode == HAUL_MAP_ONLY_NEW ? result->done : 0;
		result->updated = mode == HAUL_MAP_ONLY_NEW ? 0 : result->done;
	}
	return rc;
}

int kernel_upsert(struct haul_map *map, const struct haul_map_rows *rows,
		  struct haul_map_result *result)
{
	static const struct rows_op op = { KERNEL_P_UPSERT, KERNEL_WRITE, true, false };
	int rc = rows_open(map, &op);
	if (rc < 0)
		return rc;
	rc = rows_run(map, &op, rows, result);
	HAUL_ASSERT(result->inserted <= result->done);
	result->updated = result->done - result->inserted;
	return rc;
}

int kernel_delete(struct haul_map *map, const struct haul_map_rows *rows,
		  struct haul_map_result *result)
{
	static const struct rows_op op = { KERNEL_P_DROP, KERNEL_REMOVE, false, false };
	int rc = rows_open(map, &op);
	return rc < 0 ? rc : rows_run(map, &op, rows, result);
}

int kernel_compare_delete(struct haul_map *map, const struct haul_map_rows *rows,
			  const struct haul_map_field *field, struct haul_map_result *result)
{
	static const struct rows_op op = { KERNEL_P_COMPARE, KERNEL_COMPARE, true, false };
	uint32_t size = map->info.value_size;
	if (field && (field->in_key || field->offset > size || field->width > size - field->offset))
		return -EINVAL;
	if (size > 8 * MAP_VALUE_WORDS)
		return -ENOTSUP;
	int rc = rows_open(map, &op);
	if (rc < 0)
		return rc;
	/* Bits that count, in the order of the value's bytes. */
	uint8_t *compare = (uint8_t *)map->kernel->parts[KERNEL_COMPARE].work->compare;
	memset(compare, 0, sizeof(uint64_t) * MAP_VALUE_WORDS);
	memset(compare + (field ? field->offset : 0), 0xff, field ? field->width : size);
	return rows_run(map, &op, rows, result);
}
