/* The maps behind the shards, and rows on their way to them.
 *
 * A slot of the outer map gives the id of the map that is in it. An interval, perhaps of another
 * process, puts another one there, so each use asks for the id first (one system call) and opens
 * anew when it has changed. Rows are put in order by shard (a counting sort), so that each shard is
 * asked once for each FLOW_WORK_ROWS rows. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

enum {
	FLOW_WORK_ROWS = 4096,
	SHARD_BATCH = 512 /* entries a read: 256 shards have 256 buffers */
};

struct flow_work {
	struct haul_flow_key key[FLOW_WORK_ROWS];
	struct haul_flow_value value[FLOW_WORK_ROWS];
	int status[FLOW_WORK_ROWS];
	uint16_t shard[FLOW_WORK_ROWS]; /* of the caller's rows */
	uint32_t order[FLOW_WORK_ROWS]; /* caller's index of each of ours */
	uint32_t end[HAUL_FLOWS_SHARDS_MAX];
};

/* ---- slots ---- */

int flow_slot_get(const struct haul_flows *flows, uint32_t index, uint32_t *ret_id)
{
	uint32_t id = 0;

	if (bpf_map_lookup_elem(flows->fd[FLOW_SHARDS], &index, &id) < 0)
		return -errno;
	*ret_id = id;
	return 0;
}

int flow_slot_put(const struct haul_flows *flows, uint32_t index, int map_fd)
{
	HAUL_ASSERT(map_fd >= 0);
	HAUL_ASSERT(index < flows->saved.shards);
	return bpf_map_update_elem(flows->fd[FLOW_SHARDS], &index, &map_fd, BPF_ANY) < 0 ? -errno
											 : 0;
}

/* Retried: between the two calls an interval may replace the map, and it is gone. */
static int slot_open(struct haul_flows *flows, uint32_t index, uint32_t *ret_id)
{
	uint32_t id = 0;
	int rc, fd;

	do {
		rc = flow_slot_get(flows, index, &id);
		if (rc < 0)
			return rc;
		fd = bpf_map_get_fd_by_id(id);
	} while (fd < 0 && errno == ENOENT);
	if (fd < 0)
		return -errno;
	*ret_id = id;
	return fd;
}

int flow_shard_open(struct haul_flows *flows, uint32_t index, struct haul_map **ret_map)
{
	struct flow_shard_map *shard = &flows->shards[index];
	const struct haul_map_options options = { .batch = SHARD_BATCH };
	struct haul_map *map = NULL;
	uint32_t id = 0;
	int rc, fd;

	HAUL_ASSERT(index < flows->saved.shards);
	rc = flow_slot_get(flows, index, &id);
	if (rc < 0)
		return rc;
	if (shard->map && shard->id == id) {
		*ret_map = shard->map;
		return 0;
	}
	fd = slot_open(flows, index, &id);
	if (fd < 0)
		return fd;
	rc = haul_map_open_fd(&map, fd, &options, NULL);
	close(fd);
	if (rc < 0)
		return rc;
	haul_map_close(shard->map);
	shard->map = map;
	shard->id = id;
	*ret_map = map;
	return 0;
}

void flow_shards_close(struct haul_flows *flows)
{
	if (!flows->shards)
		return;
	for (uint32_t index = 0; index < flows->saved.shards; index++)
		haul_map_close(flows->shards[index].map);
}

/* ---- grace ---- */

/* An update of an array of maps returns when no program can still use the map that was there: the
 * kernel waits for all programs that run. This one is nobody's, so nothing else happens. */
static int grace_open(struct haul_flows *flows)
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	int inner =
		bpf_map_create(BPF_MAP_TYPE_ARRAY, "flow_grace_in", sizeof(uint32_t), 8, 1, NULL);
	int outer;

	if (inner < 0)
		return -errno;
	options.inner_map_fd = (uint32_t)inner;
	outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "flow_grace", sizeof(uint32_t),
			       sizeof(uint32_t), 1, &options);
	if (outer < 0) {
		int rc = -errno;
		close(inner);
		return rc;
	}
	flows->grace_fd = outer;
	return inner;
}

int flow_grace(struct haul_flows *flows)
{
	uint32_t zero = 0;
	int inner, rc;

	if (flows->grace_fd >= 0)
		close(flows->grace_fd);
	flows->grace_fd = -1;
	inner = grace_open(flows);
	if (inner < 0)
		return inner;
	rc = bpf_map_update_elem(flows->grace_fd, &zero, &inner, BPF_ANY) < 0 ? -errno : 0;
	close(inner);
	return rc;
}

/* ---- rows ---- */

static int work_open(struct haul_flows *flows)
{
	if (!flows->work)
		flows->work = malloc(sizeof *flows->work);
	return flows->work ? 0 : -ENOMEM;
}

void flow_work_close(struct haul_flows *flows)
{
	free(flows->work);
	flows->work = NULL;
}

/* Keys, values and order are filled in, end[s] is where shard s ends. */
static void rows_sort(struct haul_flows *flows, const struct haul_map_rows *rows)
{
	struct flow_work *work = flows->work;
	const struct haul_flow_key *keys = rows->keys;
	const struct haul_flow_value *values = rows->values;
	uint32_t next = 0;

	memset(work->end, 0, sizeof work->end);
	for (uint32_t i = 0; i < rows->count; i++) {
		_Alignas(8) struct haul_flow_key key = keys[i];
		work->shard[i] =
			(uint16_t)flow_shard(&key, flows->config.salt, flows->config.shard_mask);
		work->end[work->shard[i]]++;
	}
	for (uint32_t shard = 0; shard < flows->saved.shards; shard++) {
		uint32_t count = work->end[shard];
		work->end[shard] = next;
		next += count;
	}
	HAUL_ASSERT(next == rows->count);
	for (uint32_t i = 0; i < rows->count; i++) {
		uint32_t at = work->end[work->shard[i]]++;
		work->order[at] = i;
		work->key[at] = keys[i];
		work->value[at] = values[i];
		work->status[at] = -ECANCELED;
	}
}

static void result_add(struct haul_map_result *sum, const struct haul_map_result *one)
{
	sum->done += one->done;
	sum->missing += one->missing;
	sum->inserted = sum->inserted == HAUL_MAP_UNKNOWN || one->inserted == HAUL_MAP_UNKNOWN
				? HAUL_MAP_UNKNOWN
				: sum->inserted + one->inserted;
	sum->updated = sum->updated == HAUL_MAP_UNKNOWN || one->updated == HAUL_MAP_UNKNOWN
			       ? HAUL_MAP_UNKNOWN
			       : sum->updated + one->updated;
	sum->kept += one->kept;
	sum->visited += one->visited;
	sum->calls += one->calls;
	sum->retries += one->retries;
	sum->fallbacks += one->fallbacks;
	sum->engine = one->engine;
}

/* Rows of one shard, which lie from first to last in work. */
static int shard_do(struct haul_flows *flows, uint32_t shard, uint32_t first, flow_rows_op *op,
		    struct haul_map_result *result)
{
	struct flow_work *work = flows->work;
	struct haul_map_result one = { .failed_index = -1 };
	const struct haul_map_rows rows = { .count = work->end[shard] - first,
					    .keys = work->key + first,
					    .values = work->value + first,
					    .status = work->status + first };
	struct haul_map *map;
	int rc = flow_shard_open(flows, shard, &map);

	if (rc == 0) {
		rc = op(map, &rows, &one);
	} else {
		one.failed_index = 0;
		one.reason = rc;
		work->status[first] = rc;
	}
	result_add(result, &one);
	if (one.failed_index >= 0 && result->failed_index < 0) {
		HAUL_ASSERT(one.failed_index < rows.count);
		result->failed_index = work->order[first + (uint32_t)one.failed_index];
		result->reason = one.reason;
	}
	return rc;
}

static int chunk_do(struct haul_flows *flows, const struct haul_map_rows *rows, flow_rows_op *op,
		    struct haul_map_result *result)
{
	struct flow_work *work = flows->work;
	struct haul_flow_value *values = rows->values;
	uint32_t first = 0;
	int rc = 0;

	rows_sort(flows, rows);
	for (uint32_t shard = 0; shard < flows->saved.shards && rc == 0; shard++) {
		if (work->end[shard] > first)
			rc = shard_do(flows, shard, first, op, result);
		first = work->end[shard];
	}
	for (uint32_t at = 0; at < rows->count; at++) {
		if (op == haul_map_get && work->status[at] == 0)
			values[work->order[at]] = work->value[at];
		if (rows->status)
			rows->status[work->order[at]] = work->status[at];
	}
	return rc;
}

int flow_rows_do(struct haul_flows *flows, const struct haul_map_rows *rows, flow_rows_op *op,
		 struct haul_map_result *result)
{
	int rc = work_open(flows);
	uint32_t base = 0;

	memset(result, 0, sizeof *result);
	result->failed_index = -1;
	for (; base < rows->count && rc == 0; base += FLOW_WORK_ROWS) {
		uint32_t left = rows->count - base;
		const struct haul_map_rows chunk = {
			.count = left < FLOW_WORK_ROWS ? left : FLOW_WORK_ROWS,
			.keys = (const struct haul_flow_key *)rows->keys + base,
			.values = (struct haul_flow_value *)rows->values + base,
			.status = rows->status ? rows->status + base : NULL,
		};
		rc = chunk_do(flows, &chunk, op, result);
		if (result->failed_index >= 0 && rc < 0)
			result->failed_index += base;
	}
	for (; rows->status && base < rows->count; base++)
		rows->status[base] = -ECANCELED;
	return rc;
}
