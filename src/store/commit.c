#include "store/commit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "os/park.h"
#include "store/changes_state.h"
#include "store/commit_roles.h"
#include "store/store_parts.h"

enum {
	COMMIT_OPS_START = 100, /* changes a turn executes before it lets them be written */
	COMMIT_OPS_MIN = 8,
	COMMIT_BYTES_MAX = 8 << 20,
	COMMIT_SERVICE_NS = 5000000
};

/* ---- opening ---- */

static const struct haul_counter commit_counters[] = {
	{ "queued", "changes handed in" },
	{ "flushed", "changes made durable" },
	{ "flushes", "writes of the log that made them so" },
	{ "failed", "changes that were not done, alone or with their group" },
	{ "repeated", "frames that had been executed before and were told again" },
	{ "batch_size_adjustments", "times the size of a turn was changed" },
	{ "ops_target", "changes a turn executes at most before they are written" },
	{ "wait_chosen_ns", "how long a commit is made to wait for others: never" },
	{ "arrivals_per_s", "changes a second, as the sizer has learnt" },
	{ "stalls", "times commits had to wait for the memory table to be flushed" },
	{ "throttle_ns", "commits were held back for so long, all in all" },
	{ "throttle_max_ns", "the longest of it" },
};
enum {
	AT_QUEUED,
	AT_FLUSHED,
	AT_FLUSHES,
	AT_FAILED,
	AT_REPEATED,
	AT_ADJUSTMENTS,
	AT_TARGET,
	AT_WAIT,
	AT_ARRIVALS,
	AT_STALLS,
	AT_THROTTLE,
	AT_THROTTLE_MAX,
	COMMIT_COUNTERS
};
static_assert(sizeof commit_counters / sizeof commit_counters[0] == COMMIT_COUNTERS,
	      "a place for each counter");

static void commit_refresh(struct haul_stats *stats)
{
	struct commit *commit =
		(struct commit *)((char *)stats - offsetof(struct commit, stats_commit));
	uint64_t *extra = stats->extra;

	commit_lock(commit);
	extra[AT_QUEUED] = commit->stats.queued;
	extra[AT_FLUSHED] = commit->stats.flushed;
	extra[AT_FLUSHES] = stats->batches;
	extra[AT_FAILED] = commit->stats.failed;
	extra[AT_REPEATED] = commit->stats.repeated;
	extra[AT_ADJUSTMENTS] = commit->sizer.adjustments;
	extra[AT_TARGET] = commit->sizer.target;
	extra[AT_WAIT] = 0;
	extra[AT_ARRIVALS] = (uint64_t)(commit->sizer.ops_per_ns * 1e9);
	extra[AT_STALLS] = commit->stats.stalls;
	extra[AT_THROTTLE] = commit->stats.throttle_ns;
	extra[AT_THROTTLE_MAX] = commit->stats.throttle_max_ns;
	(void)pthread_mutex_unlock(&commit->lock);
}

static const struct haul_counter log_counters[] = {
	{ "op", "number of the last frame that is durable" },
	{ "sync_ns", "a durable write takes so long, a moving average" },
	{ "log_bytes", "written since open, heads and padding included" },
};
enum { AT_OP, AT_SYNC, AT_LOG_BYTES, LOG_COUNTERS };
static_assert(sizeof log_counters / sizeof log_counters[0] == LOG_COUNTERS,
	      "a place for each counter");

static void log_refresh(struct haul_stats *stats)
{
	struct commit *commit =
		(struct commit *)((char *)stats - offsetof(struct commit, stats_log));

	commit_lock(commit);
	stats->extra[AT_OP] = commit->durable;
	stats->extra[AT_SYNC] = (uint64_t)commit->write_ns;
	stats->extra[AT_LOG_BYTES] = log_bytes(commit->log);
	(void)pthread_mutex_unlock(&commit->lock);
}

static int commit_sizes_init(struct commit *commit)
{
	const struct haul_sizer_options options = {
		.policy = HAUL_SIZER_MODEL,
		.ops_min = COMMIT_OPS_MIN,
		.ops_max = HAUL_BATCH_OPS_MAX,
		.ops_start = COMMIT_OPS_START,
		.service_target_ns = COMMIT_SERVICE_NS,
	};
	commit->limits = haul_limits_preset(HAUL_PRESET_STORE);
	commit->limits.ops_max = HAUL_BATCH_OPS_MAX;
	commit->limits.bytes_max = COMMIT_BYTES_MAX;
	commit->limits.wait_max_ns = 0;
	haul_stats_init(&commit->stats_commit, "store.commit", commit_counters, COMMIT_COUNTERS);
	commit->stats_commit.refresh = commit_refresh;
	haul_stats_init(&commit->stats_log, "store.log", log_counters, LOG_COUNTERS);
	commit->stats_log.refresh = log_refresh;
	return haul_sizer_init(&commit->sizer, &options, NULL);
}

static int commit_memory_alloc(struct commit *commit)
{
	const uint32_t slots = HAUL_STORE_IN_FLIGHT + 1;

	commit->frame = aligned_alloc(64, (FRAME_BYTES_MAX + 63) & ~63);
	commit->spare_statuses = calloc(HAUL_CHANGES_OPS, sizeof(int32_t));
	commit->slots = calloc(slots, sizeof *commit->slots);
	commit->slot_statuses = calloc((size_t)slots * HAUL_CHANGES_OPS, sizeof(int32_t));
	if (commit->frame == NULL || commit->spare_statuses == NULL || commit->slots == NULL ||
	    commit->slot_statuses == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < slots; i++) {
		struct commit_item *slot = &commit->slots[i];
		slot->statuses = &commit->slot_statuses[(size_t)i * HAUL_CHANGES_OPS];
		slot->next = commit->slots_free;
		commit->slots_free = slot;
	}
	return 0;
}

int commit_open(struct haul_store *store, uint64_t op)
{
	struct commit *commit = &store->commit;

	commit->store = store;
	commit->lsm = store->lsm;
	commit->log = store->log;
	commit->exec = store->exec;
	commit->os = store->deep.os;
	commit->threads = store->deep.threads && !store->options.read_only;
	commit->op = op;
	commit->durable = op;
	(void)pthread_mutex_init(&commit->lock, NULL);
	int rc = commit_sizes_init(commit);
	if (rc == 0)
		rc = commit_memory_alloc(commit);
	if (rc == 0 && commit->threads)
		rc = commit_thread_open(commit);
	if (rc < 0)
		commit_close(commit);
	return rc;
}

void commit_stop(struct commit *commit)
{
	if (commit->thread_runs)
		commit_thread_close(commit);
	else
		commit_pump(commit);
}

void commit_close(struct commit *commit)
{
	HAUL_ASSERT(!commit->thread_runs);
	free(commit->frame);
	free(commit->spare_statuses);
	free(commit->slots);
	free(commit->slot_statuses);
	commit->frame = NULL;
	(void)pthread_mutex_destroy(&commit->lock);
}

/* ---- driving ---- */

static enum commit_stage waiter_stage(struct commit_waiter *waiter)
{
	return (enum commit_stage)(atomic_load_explicit(&waiter->word, memory_order_acquire) &
				   COMMIT_STAGE_MASK);
}

/* Without threads nobody else takes the step that a stalled commit waits for. */
static void drive_keeper(struct commit *commit, struct wakes *wakes)
{
	commit_unlock(commit, wakes);
	(void)keeper_step(commit->store);
	commit_lock(commit);
}

/* One piece of work that nobody else does; unlocks meanwhile. What was submitted is written by the
 * log thread; by who submits only if nobody else can, and without it he could not go on. */
static bool drive_once(struct commit *commit, bool submits, struct wakes *wakes)
{
	const bool writes = commit_can_write(commit) &&
			    (!submits || !commit->threads || commit_is_teller(commit));

	if (commit_can_execute(commit) && !(writes && commit_turn_is_over(commit))) {
		commit_execute_turn(commit, wakes);
		return true;
	}
	if (writes) {
		commit_write_turn(commit, wakes);
		return true;
	}
	if (commit->stalled && !commit->threads) {
		drive_keeper(commit, wakes);
		return true;
	}
	return false;
}

/* The item may be told and gone from here on, the waiter is the caller's own. */
static void drive(struct commit *commit, struct commit_waiter *waiter, bool submits,
		  enum commit_stage stage)
{
	struct wakes wakes;

	wakes.count = 0;
	wakes.progress = false;
	while (waiter_stage(waiter) < stage) {
		if (drive_once(commit, submits, &wakes))
			continue;
		const uint32_t seen = atomic_load_explicit(&waiter->word, memory_order_relaxed);
		waiter->asleep = true;
		commit_handover(commit, &wakes);
		commit_unlock(commit, &wakes);
		park_wait(&waiter->word, seen, INT64_MAX);
		if (waiter_stage(waiter) >= stage)
			return;
		commit_lock(commit);
		waiter->asleep = false;
	}
	commit_handover(commit, &wakes);
	commit_unlock(commit, &wakes);
}

static uint32_t item_bytes(const struct commit_item *item)
{
	return item->frame != NULL ? item->frame->head->bytes : changes_frame_bytes(item->changes);
}

static void item_enqueue(struct commit *commit, struct commit_item *item)
{
	if (commit->broken != 0) {
		commit_push(&commit->waiting, item);
		struct wakes wakes = { 0 };
		commit_tell(commit, &wakes);
		wakes_send(commit, &wakes);
		return;
	}
	commit->stats.queued += item->count;
	commit_push(&commit->waiting, item);
}

void commit_run(struct commit *commit, struct commit_item *item)
{
	struct commit_waiter waiter = { .asleep = false };

	item->waiter = &waiter;
	item->bytes = item_bytes(item);
	item->queued_ns = commit->os->now_ns(commit->os);
	commit_lock(commit);
	item_enqueue(commit, item);
	drive(commit, &waiter, false, COMMIT_TOLD);
}

void commit_submit(struct commit *commit, struct commit_item *item)
{
	struct commit_waiter waiter = { .asleep = false };

	item->waiter = &waiter;
	item->bytes = item_bytes(item);
	item->queued_ns = commit->os->now_ns(commit->os);
	commit_lock(commit);
	item_enqueue(commit, item);
	drive(commit, &waiter, true, COMMIT_STAGED);
}

void commit_pace(struct commit *commit)
{
	const int64_t at_ns = atomic_load_explicit(&commit->pace_ns, memory_order_relaxed);
	if (at_ns == 0)
		return;
	const int64_t ns = at_ns - commit->os->now_ns(commit->os);
	if (ns <= 0)
		return;
	/* Without threads the time is somebody else's to move: it is counted all the same. */
	_Atomic uint32_t nobody = 0;
	if (commit->threads)
		park_wait(&nobody, 0, ns);

	commit_lock(commit);
	commit->stats.throttle_ns += (uint64_t)ns;
	if ((uint64_t)ns > commit->stats.throttle_max_ns)
		commit->stats.throttle_max_ns = (uint64_t)ns;
	(void)pthread_mutex_unlock(&commit->lock);
}

/* ---- the executor for oneself ---- */

void commit_hold(struct commit *commit)
{
	struct wakes wakes = { 0 };

	commit_lock(commit);
	commit->holds++;
	while (commit->executing)
		commit_progress_wait(commit, &wakes);
	commit->executing = true;
	commit_unlock(commit, &wakes);
}

void commit_release(struct commit *commit)
{
	struct wakes wakes = { 0 };

	commit_lock(commit);
	HAUL_ASSERT(commit->executing && commit->holds > 0);
	commit->executing = false;
	commit->holds--;
	commit_progress(commit, &wakes);
	commit_handover(commit, &wakes);
	commit_unlock(commit, &wakes);
}

int commit_durable(struct commit *commit, uint64_t op)
{
	struct wakes wakes = { 0 };

	commit_lock(commit);
	HAUL_ASSERT(op <= commit->op);
	while (commit->durable < op && commit->broken == 0) {
		if (commit_can_write(commit))
			commit_write_turn(commit, &wakes);
		else
			commit_progress_wait(commit, &wakes);
	}
	const int rc = commit->durable < op ? commit->broken : 0;
	commit_handover(commit, &wakes);
	commit_unlock(commit, &wakes);
	return rc;
}

int commit_keeper(struct commit *commit, uint64_t *steps)
{
	struct wakes wakes = { 0 };

	if (!commit->store->keeper.running)
		return keeper_step(commit->store);
	commit_lock(commit);
	*steps = *steps > 0 ? *steps : commit->keeper_steps;
	while (commit->keeper_steps == *steps) {
		keeper_call(&commit->store->keeper);
		commit_progress_wait(commit, &wakes);
	}
	*steps = commit->keeper_steps;
	const int rc = commit->keeper_rc;
	commit_unlock(commit, &wakes);
	return rc;
}

bool commit_mark(struct commit *commit)
{
	struct wakes wakes = { 0 };

	commit_lock(commit);
	const bool free = !commit->writing && commit->staged.head == NULL &&
			  commit->waiting.head == NULL && !commit->executing && commit->broken == 0;
	if (free) {
		commit->writing = true;
		commit_unlock(commit, &wakes);
		const int rc = log_mark(commit->log);
		commit_lock(commit);
		commit->writing = false;
		commit->full = false;
		if (rc < 0)
			commit->broken = rc;
		commit_tell(commit, &wakes);
		commit_progress(commit, &wakes);
		commit_handover(commit, &wakes);
	}
	commit_unlock(commit, &wakes);
	return free;
}

int commit_error(struct commit *commit)
{
	commit_lock(commit);
	const int broken = commit->broken;
	(void)pthread_mutex_unlock(&commit->lock);
	return broken;
}
