/* Reads a map by BPF_MAP_LOOKUP_BATCH and BPF_MAP_LOOKUP_AND_DELETE_BATCH.
 *
 * A hash is walked bucket by bucket, each under its lock, and its buckets never move: so an entry
 * that is there all the time is returned exactly once. The kernel never splits a bucket. It stops
 * before one that no longer fits, and says ENOSPC when not even the first one fits; then the same
 * bucket is asked for again with twice the room, and the floor remembers. ENOENT means that the end
 * was reached, and the entries that came with it are good. A lock that could not be had (EBUSY, and
 * EDEADLK or ETIMEDOUT since 6.15) ends a call early: what came before is good, and the rest is
 * asked for again.
 *
 * The count is good only after the returns listed in is_partial: EINVAL, EPERM and 524 leave what
 * was put in, and after EFAULT it is unspecified. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/map_state.h"
#include "bpf/reader.h"

enum {
	RETRIES_MAX = 1000,       /* in a row, of one call */
	ROOM_BYTES_MAX = 64 << 20 /* taken at first; address space, until it is used */
};

uint32_t map_buckets(const struct haul_map_info *info)
{
	HAUL_ASSERT(info->max_entries > 0 && info->max_entries <= UINT32_C(1) << 31);
	uint32_t n = 1;
	while (n < info->max_entries)
		n <<= 1;
	return n;
}

void map_reader_init(struct map_reader *reader, const struct haul_map *map)
{
	const struct haul_map_options *o = &map->options;
	bool fixed = o->batch > 0;
	const struct haul_sizer_options sizer = {
		.policy = fixed ? HAUL_SIZER_FIXED : HAUL_SIZER_SERVICE,
		.ops_min = fixed ? o->batch : HAUL_MAP_BATCH_MIN,
		.ops_max = fixed ? o->batch : HAUL_MAP_BATCH_MAX,
		.ops_start = fixed ? o->batch : HAUL_MAP_BATCH_START,
		/* The sizer lets the mean drift to twice its target: half keeps to the budget. */
		.service_target_ns = o->call_max_ns > 1 ? o->call_max_ns / 2 : 1,
	};
	*reader = (struct map_reader){ .floor = 1 };
	int rc = haul_sizer_init(&reader->sizer, &sizer, NULL);
	HAUL_ASSERT(rc == 0);
}

void map_reader_done(struct map_reader *reader)
{
	free(reader->keys);
	free(reader->values);
	reader->keys = reader->values = NULL;
	reader->room = 0;
}

int map_reader_alloc(struct map_reader *reader, const struct haul_map *map, uint32_t count)
{
	HAUL_ASSERT(count > 0);
	if (count <= reader->room)
		return 0;
	uint8_t *keys = malloc((size_t)count * map->info.key_size);
	uint8_t *values = malloc((size_t)count * map->info.slot_bytes);
	if (!keys || !values) {
		free(keys);
		free(values);
		return -ENOMEM;
	}
	map_reader_done(reader);
	reader->keys = keys;
	reader->values = values;
	reader->room = count;
	return 0;
}

/* All the tuning may ask for, as far as that is reasonable: so that buffers need not grow. */
static uint32_t room_at_first(const struct haul_map *map)
{
	size_t entry = (size_t)map->info.key_size + map->info.slot_bytes;
	size_t count = ROOM_BYTES_MAX / entry;
	if (count > HAUL_MAP_BATCH_MAX)
		count = HAUL_MAP_BATCH_MAX;
	if (count > map->info.max_entries)
		count = map->info.max_entries;
	return count > HAUL_MAP_BATCH_MIN ? (uint32_t)count : HAUL_MAP_BATCH_MIN;
}

int map_reader_size(struct map_reader *reader, const struct haul_map *map, uint32_t *ret_count)
{
	uint32_t first = room_at_first(map);
	uint32_t wanted = reader->sizer.target;
	if (map->options.batch == 0 && wanted > first)
		wanted = first;
	if (wanted < reader->floor)
		wanted = reader->floor;
	int rc = map_reader_alloc(reader, map, wanted > first ? wanted : first);
	if (rc == 0)
		*ret_count = wanted;
	return rc;
}

/* A bucket holds more than count entries. */
static void floor_learn(struct map_reader *reader, uint32_t count)
{
	uint32_t floor = HAUL_MAP_BATCH_MIN;
	while (floor <= count && floor < UINT32_C(1) << 31)
		floor <<= 1;
	if (floor > reader->floor)
		reader->floor = floor;
}

/* What one call gave. */
struct batch_call {
	uint32_t count; /* in: asked for; out: entries */
	bool ended;
	bool retry; /* nothing came, but may when asked again */
};

static bool is_busy(int rc)
{
	return rc == -EBUSY || rc == -EDEADLK || rc == -ETIMEDOUT || rc == -EAGAIN || rc == -EINTR;
}

/* Cut short, with the entries before that and the cursor valid. ENOMEM: of the kernel's own buffer,
 * taken bucket by bucket. */
static bool is_partial(int rc)
{
	return rc == 0 || rc == -ENOENT || rc == -ENOMEM || is_busy(rc);
}

/* One call. Moves spot when entries came. Some of an entry's types take their last key as cursor
 * and write none when nothing came, so spot moves only with entries. */
static int call_once(struct map_reader *reader, const struct haul_map *map, int cmd,
		     struct map_spot *spot, struct batch_call *call)
{
	uint8_t out[HAUL_MAP_KEY_MAX] = { 0 };
	uint32_t asked = call->count;
	union bpf_attr attr = { 0 };
	attr.batch.in_batch = spot->bytes ? (uint64_t)(uintptr_t)spot->key : 0;
	attr.batch.out_batch = (uint64_t)(uintptr_t)out;
	attr.batch.keys = (uint64_t)(uintptr_t)reader->keys;
	attr.batch.values = (uint64_t)(uintptr_t)reader->values;
	attr.batch.count = asked;
	attr.batch.map_fd = (uint32_t)map->fd;
	int rc = map->sys->call(map->sys, cmd, &attr);
	call->count = is_partial(rc) && attr.batch.count <= asked ? attr.batch.count : 0;
	call->ended = rc == -ENOENT;
	call->retry = call->count == 0 && (rc == -ENOSPC || is_busy(rc));
	if (rc == -ENOSPC)
		floor_learn(reader, asked);
	if (call->count > 0 || rc == 0) {
		bool bucket = map_type_of(map->info.type)->cursor == MAP_CURSOR_BUCKET;
		spot->bytes = bucket ? (uint32_t)sizeof(uint32_t) : map->info.key_size;
		memcpy(spot->key, out, spot->bytes);
	}
	if (rc < 0 && call->count == 0 && !call->ended)
		return rc;
	spot->ended = call->ended;
	return 0;
}

/* A bucket holds no more than the map, so this much must do; more would hide a kernel's mistake. */
static bool is_hopeless(const struct haul_map *map, uint32_t asked)
{
	return asked > HAUL_MAP_BATCH_MAX && asked / 2 > map->info.max_entries;
}

static int reader_try(struct map_reader *reader, const struct haul_map *map, struct map_spot *spot,
		      struct map_reading *reading)
{
	int cmd = reading->take ? BPF_MAP_LOOKUP_AND_DELETE_BATCH : BPF_MAP_LOOKUP_BATCH;
	uint32_t in_a_row = 0;
	for (;;) {
		struct batch_call call = { 0 };
		uint32_t floor = reader->floor;
		int rc = map_reader_size(reader, map, &call.count);
		if (rc < 0)
			return rc;
		/* A limit is not raised to the floor: its caller looks for the end of a range. */
		if (reading->limit > 0 && reading->limit < call.count)
			call.count = reading->limit;
		uint32_t asked = call.count;
		int64_t begin_ns = map->os->now_ns(map->os);
		rc = call_once(reader, map, cmd, spot, &call);
		int64_t service_ns = map->os->now_ns(map->os) - begin_ns;
		reading->calls++;
		reading->grown += reader->floor > floor;
		if (call.count > 0 || call.ended) {
			reading->count = call.count;
			reading->service_ns = service_ns > 0 ? service_ns : 0;
			return 0;
		}
		if (rc == -ENOSPC && !is_hopeless(map, asked))
			reading->limit *= 2;
		else if (rc == -ENOSPC || (rc < 0 && !call.retry) || ++in_a_row > RETRIES_MAX)
			return rc < 0 ? rc : -EAGAIN;
		reading->retries++;
	}
}

int map_reader_next(struct map_reader *reader, const struct haul_map *map, struct map_spot *spot,
		    struct map_reading *reading)
{
	*reading = (struct map_reading){ .take = reading->take, .limit = reading->limit };
	if (spot->ended)
		return 0;
	/* A short call says nothing about a full one. */
	bool teaches = reading->limit == 0;
	int rc = reader_try(reader, map, spot, reading);
	if (rc == 0 && reading->count > 0 && teaches && !spot->ended) {
		const struct haul_sizer_sample sample = {
			.ops = reading->count,
			.service_ns = reading->service_ns,
		};
		(void)haul_sizer_update(&reader->sizer, &sample);
	}
	return rc;
}

void map_reader_count(struct haul_map *map, const struct map_reading *reading, bool ended)
{
	size_t entry = (size_t)map->info.key_size + map->info.slot_bytes;
	const struct haul_stats_batch batch = {
		.ops = reading->count,
		.syscalls = (uint32_t)reading->calls,
		.bytes = reading->count * entry,
		.reason = ended ? HAUL_CLOSE_IDLE : HAUL_CLOSE_OPS,
		.wait_ns = -1,
		.service_ns = reading->service_ns,
	};
	haul_stats_batch(&map->stats, &batch);
	haul_stats_count(&map->stats, MAP_C_RETRIES, reading->retries);
	haul_stats_count(&map->stats, MAP_C_GROWN, reading->grown);
}

/* ---- cursors ---- */

/* -EINVAL when this map cannot have given it to a batch walk. */
static int spot_of(const struct haul_map *map, const struct haul_map_cursor *cursor,
		   struct map_spot *ret_spot)
{
	bool bucket = map_type_of(map->info.type)->cursor == MAP_CURSOR_BUCKET;
	uint32_t bytes = bucket ? (uint32_t)sizeof(uint32_t) : map->info.key_size;
	if (cursor->bytes != 0 && cursor->bytes != bytes)
		return -EINVAL;
	struct map_spot spot = { .bytes = cursor->bytes, .ended = cursor->ended != 0 };
	memcpy(spot.key, cursor->data, spot.bytes);
	uint32_t at = 0;
	memcpy(&at, spot.key, sizeof at);
	/* The kernel would take one behind the end for the end, and nobody would notice. */
	if (bucket && spot.bytes > 0 && at >= map_buckets(&map->info))
		return -EINVAL;
	*ret_spot = spot;
	return 0;
}

int map_batch_read(struct haul_map *map, struct haul_map_cursor *cursor, bool take,
		   struct haul_map_batch *batch, struct haul_map_result *result)
{
	HAUL_ASSERT(map != NULL && cursor != NULL && batch != NULL);
	struct map_spot spot;
	struct map_reading reading = { .take = take };
	int rc = spot_of(map, cursor, &spot);
	if (rc < 0)
		return rc;
	rc = map_reader_next(&map->reader, map, &spot, &reading);
	result->calls += reading.calls;
	result->retries += reading.retries;
	if (rc < 0)
		return rc;
	map_reader_count(map, &reading, spot.ended);
	cursor->ended = spot.ended;
	cursor->bytes = spot.bytes;
	memcpy(cursor->data, spot.key, spot.bytes);
	*batch = (struct haul_map_batch){
		.count = reading.count,
		.keys = map->reader.keys,
		.values = map->reader.values,
		.key_stride = map->info.key_size,
		.value_stride = map->info.slot_bytes,
	};
	return (int)reading.count;
}
