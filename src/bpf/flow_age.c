/* Taking entries out, in two ways that lose no packet.
 *
 * clean: mark, wait, harvest, as the timer in the kernel does: a marked entry that a packet meets
 * is alive again; after the grace period no program that saw it unmarked is still running, so one
 * that is still marked has had no packet. One grace period serves all shards.
 *
 * interval: each shard is replaced by an empty map; the kernel's update returns when no program can
 * still be writing to the old one, which then is read and emptied at leisure, and serves as the
 * empty map of the next shard. What was in it is entered as removed.
 *
 * Two at once on one table would count an entry twice, or harvest what the other has just marked,
 * hence the lock on the folder of the pins. The timer needs none: it runs where the update
 * waits for it. */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

/* Harvested is what another generation has marked: ours, or what a clean before us had to leave. */
enum { GENERATION_MARK = 1, GENERATION_HARVEST = 2 };

/* An unpinned table is nobody else's. */
static int table_lock(struct haul_flows *flows)
{
	if (flows->folder_fd < 0)
		return 0;
	if (flock(flows->folder_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

static void table_unlock(struct haul_flows *flows)
{
	if (flows->folder_fd >= 0)
		(void)flock(flows->folder_fd, LOCK_UN);
}

/* ---- clean ---- */

static int sweep(struct haul_flows *flows, struct flow_sweep_args *args,
		 struct haul_map_result *result)
{
	/* A program of this type writes its answer to where it was asked from. */
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = args, .ctx_size_in = sizeof *args);

	for (uint32_t shard = 0; shard < flows->saved.shards; shard++) {
		int rc;
		args->shard = shard;
		rc = bpf_prog_test_run_opts(flows->fd[FLOW_SWEEP], &options);
		if (rc == 0 && options.retval != 0)
			rc = -EIO;
		result->calls++;
		if (rc < 0)
			return rc;
		result->visited += args->visited;
		result->done += args->removed;
		result->kept += args->held;
	}
	return 0;
}

int haul_flows_clean(struct haul_flows *flows, uint64_t cutoff_ns,
		     struct haul_map_result *ret_result)
{
	struct flow_sweep_args args = { .cutoff_ns = cutoff_ns, .mark = 1 };
	struct haul_map_result marked = { 0 };
	int rc;

	memset(ret_result, 0, sizeof *ret_result);
	ret_result->failed_index = -1;
	ret_result->engine = HAUL_MAP_KERNEL;
	rc = table_lock(flows);
	if (rc == 0) {
		args.generation = GENERATION_MARK;
		rc = sweep(flows, &args, &marked);
		rc = rc ? rc : flow_grace(flows);
		args.mark = 0;
		args.harvest = 1;
		args.generation = GENERATION_HARVEST;
		rc = rc ? rc : sweep(flows, &args, ret_result);
		ret_result->calls += marked.calls;
		table_unlock(flows);
	}
	ret_result->reason = rc;
	return rc;
}

/* ---- interval ---- */

struct retired {
	struct haul_flows *flows;
	int (*visit)(const struct haul_map_batch *batch, void *arg);
	void *arg;
	struct haul_map_report *report;
	int stop; /* what visit said first, other than 0 */
};

static void batch_count(struct haul_flows *flows, const struct haul_map_batch *batch)
{
	uint64_t packets = 0, bytes = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		struct haul_flow_value value;
		memcpy(&value, haul_map_value(batch, i), sizeof value);
		packets += value.packets[0] + value.packets[1];
		bytes += value.bytes[0] + value.bytes[1];
	}
	flow_extra_add(flows, HAUL_FLOW_T_REMOVED, packets);
	flow_extra_add(flows, HAUL_FLOW_T_REMOVED_BYTES, bytes);
	flow_extra_add(flows, HAUL_FLOW_T_CLOSED, batch->count);
}

/* All of it, also when visit wants to stop: nobody else will ever see these entries. */
static int map_empty(struct retired *retired, struct haul_map *map)
{
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_result result = { 0 };
	struct haul_map_batch batch;
	int count;

	while ((count = haul_map_take(map, &cursor, &batch, &result)) > 0) {
		int stop;
		batch_count(retired->flows, &batch);
		retired->report->read += batch.count;
		retired->report->matched += batch.count;
		stop = retired->visit(&batch, retired->arg);
		if (retired->stop == 0)
			retired->stop = stop;
	}
	retired->report->calls += result.calls;
	retired->report->retries += result.retries;
	retired->report->fallbacks += result.fallbacks;
	retired->report->engine = result.engine;
	return count;
}

/* An empty map like the one in the slot: the one that was emptied last, or a new one. */
static int spare_take(struct haul_flows *flows, uint32_t shard)
{
	int fd = flows->spare_fd;

	flows->spare_fd = -1;
	return fd >= 0 ? fd : flow_inner_create(flows, shard, -1, NULL);
}

static int shard_swap(struct haul_flows *flows, uint32_t shard, struct retired *retired)
{
	struct haul_map *map;
	int fresh, old;
	int rc = flow_shard_open(flows, shard, &map);

	if (rc < 0)
		return rc;
	fresh = spare_take(flows, shard);
	if (fresh < 0)
		return fresh;
	rc = flow_slot_put(flows, shard, fresh);
	if (rc < 0) {
		flows->spare_fd = fresh;
		return rc;
	}
	close(fresh);
	rc = map_empty(retired, map);
	old = rc < 0 ? -1 : dup(haul_map_fd(map));
	haul_map_close(map);
	flows->shards[shard] = (struct flow_shard_map){ 0 };
	flows->spare_fd = old;
	return rc;
}

int haul_flows_interval(struct haul_flows *flows,
			int (*visit)(const struct haul_map_batch *batch, void *arg), void *arg,
			struct haul_map_report *ret_report)
{
	struct haul_map_report report = { .expected = HAUL_MAP_UNKNOWN,
					  .after = HAUL_MAP_UNKNOWN,
					  .duplicates = HAUL_MAP_UNKNOWN };
	struct retired retired = { .flows = flows, .visit = visit, .arg = arg, .report = &report };
	int rc = table_lock(flows);

	HAUL_ASSERT(visit != NULL);
	if (rc < 0)
		return rc;
	for (uint32_t shard = 0; shard < flows->saved.shards && rc == 0 && retired.stop == 0;
	     shard++)
		rc = shard_swap(flows, shard, &retired);
	table_unlock(flows);
	if (ret_report)
		*ret_report = report;
	return rc ? rc : retired.stop;
}
