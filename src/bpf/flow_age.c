/* Taking entries out, in two ways that lose no packet.
 *
 * clean: mark, wait, harvest, as the timer in the kernel does: a marked entry that a packet meets
 * is alive again; after the grace period no program that saw it unmarked is still running, so one
 * that is still marked has had no packet. One grace period serves all shards.
 *
 * interval: shards are replaced by empty maps, SWAP_SHARDS at a time; the kernel's update returns
 * when no program can still be writing to the old ones, which then are read and emptied at leisure,
 * and serve as the empty maps of the next group. What was in them is entered as removed.
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

enum { SWAP_SHARDS = 16 }; /* in one update, which takes as long as one for one shard */

struct swap {
	uint32_t first, count;
	struct haul_map *map[SWAP_SHARDS];
	int spare_fd[SWAP_SHARDS]; /* empty; -1 = none */
};

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
		retired->report->calls += result.calls;
		retired->report->retries += result.retries;
		retired->report->fallbacks += result.fallbacks;
		retired->report->engine = result.engine;
		stop = retired->visit(&batch, retired->arg);
		if (retired->stop == 0)
			retired->stop = stop;
	}
	return count;
}

/* What is in these slots now is opened, and replaced by the spares in one update. */
static int group_swap(struct haul_flows *flows, struct swap *swap)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	uint32_t keys[SWAP_SHARDS];
	uint32_t count = swap->count;

	for (uint32_t i = 0; i < swap->count; i++) {
		int rc = flow_shard_open(flows, swap->first + i, &swap->map[i]);
		if (rc < 0)
			return rc;
		keys[i] = swap->first + i;
		if (swap->spare_fd[i] < 0)
			swap->spare_fd[i] = flow_inner_create(flows, keys[i], -1, NULL);
		if (swap->spare_fd[i] < 0)
			return swap->spare_fd[i];
	}
	return bpf_map_update_batch(flows->fd[FLOW_SHARDS], keys, swap->spare_fd, &count,
				    &options) < 0
		       ? -errno
		       : 0;
}

/* All of them to the end, also behind a failure: nobody else can. */
static int group_empty(struct haul_flows *flows, struct swap *swap, struct retired *retired)
{
	int rc = 0;

	for (uint32_t i = 0; i < swap->count; i++) {
		int one = map_empty(retired, swap->map[i]);
		close(swap->spare_fd[i]);
		swap->spare_fd[i] = one < 0 ? -1 : dup(haul_map_fd(swap->map[i]));
		haul_map_close(swap->map[i]);
		flows->shards[swap->first + i] = (struct flow_shard_map){ 0 };
		rc = rc ? rc : one;
	}
	return rc;
}

static int shards_swap(struct haul_flows *flows, struct retired *retired)
{
	struct swap swap;
	int rc = 0;

	memset(swap.spare_fd, -1, sizeof swap.spare_fd);
	for (swap.first = 0; swap.first < flows->saved.shards; swap.first += swap.count) {
		uint32_t left = flows->saved.shards - swap.first;
		swap.count = left < SWAP_SHARDS ? left : SWAP_SHARDS;
		rc = group_swap(flows, &swap);
		rc = rc ? rc : group_empty(flows, &swap, retired);
		if (rc < 0 || retired->stop != 0)
			break;
	}
	for (uint32_t i = 0; i < SWAP_SHARDS; i++)
		if (swap.spare_fd[i] >= 0)
			close(swap.spare_fd[i]);
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
	rc = shards_swap(flows, &retired);
	table_unlock(flows);
	if (ret_report)
		*ret_report = report;
	return rc ? rc : retired.stop;
}
