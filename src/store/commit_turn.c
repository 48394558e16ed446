/* The two roles of a commit: executing what waits, writing what is staged (commit.h).
 *
 * Order: a frame is asked for room in the log and in the memory table before it is executed, so
 * that what was executed can always be logged; its number is that of the log record. Whoever
 * executes is alone, so numbers, executions and records have one order. What a write made durable
 * is published to readers before anybody is told.
 * Why nobody sleeps for good: a thread sleeps only while both roles are taken or have no work for
 * it; who lets go of a role, or makes work for a free one, calls commit_handover under the lock.
 * `full` is taken back by the end of the write it waits for, `stalled` by the next step of the
 * keeper, which is called whenever it is set. */
#include <errno.h>

#include "base/assert.h"
#include "base/counter.h"
#include "os/park.h"
#include "store/changes_state.h"
#include "store/commit_roles.h"
#include "store/store_parts.h"

enum { PACE_MAX_NS = 20000000 };
enum flow { FLOW_FULL = 1, FLOW_KEEPER }; /* not now */

/* ---- waking ---- */

void wakes_send(struct commit *commit, struct wakes *wakes)
{
	for (uint32_t i = 0; i < wakes->count; i++)
		park_wake(wakes->word[i], 1);
	wakes->count = 0;
	if (wakes->progress)
		park_wake(&commit->progress, UINT32_MAX);
	wakes->progress = false;
}

void wakes_add(struct wakes *wakes, _Atomic uint32_t *word)
{
	if (wakes->count == WAKES) { /* rare: under the lock */
		for (uint32_t i = 0; i < wakes->count; i++)
			park_wake(wakes->word[i], 1);
		wakes->count = 0;
	}
	wakes->word[wakes->count++] = word;
}

void commit_lock(struct commit *commit)
{
	(void)pthread_mutex_lock(&commit->lock);
}

void commit_unlock(struct commit *commit, struct wakes *wakes)
{
	(void)pthread_mutex_unlock(&commit->lock);
	wakes_send(commit, wakes);
}

void commit_progress(struct commit *commit, struct wakes *wakes)
{
	if (commit->progress_waits == 0)
		return;
	atomic_fetch_add_explicit(&commit->progress, 1, memory_order_release);
	wakes->progress = true;
}

void commit_progress_wait(struct commit *commit, struct wakes *wakes)
{
	const uint32_t seen = atomic_load_explicit(&commit->progress, memory_order_relaxed);
	commit->progress_waits++;
	commit_unlock(commit, wakes);
	park_wait(&commit->progress, seen, INT64_MAX);
	commit_lock(commit);
	commit->progress_waits--;
}

void commit_thread_wake(struct commit *commit, struct wakes *wakes)
{
	if (!commit->thread_asleep)
		return;
	commit->thread_asleep = false;
	atomic_fetch_add_explicit(&commit->thread_word, 1, memory_order_release);
	wakes_add(wakes, &commit->thread_word);
}

static void waiter_look(struct commit_waiter *waiter, struct wakes *wakes)
{
	waiter->asleep = false;
	atomic_fetch_add_explicit(&waiter->word, COMMIT_LOOK, memory_order_release);
	wakes_add(wakes, &waiter->word);
}

/* The last touch of the waiter: once its stage is known its thread goes on without the lock. */
static void item_reach(struct commit_item *item, enum commit_stage stage, struct wakes *wakes)
{
	struct commit_waiter *waiter = item->waiter;
	if (waiter == NULL || (stage == COMMIT_STAGED && !item->submitted))
		return;
	item->waiter = NULL;
	const bool asleep = waiter->asleep;
	waiter->asleep = false;
	const uint32_t word = atomic_load_explicit(&waiter->word, memory_order_relaxed);
	atomic_store_explicit(&waiter->word, (word & ~(uint32_t)COMMIT_STAGE_MASK) | stage,
			      memory_order_release);
	if (asleep)
		wakes_add(wakes, &waiter->word);
}

void commit_push(struct commit_list *list, struct commit_item *item)
{
	item->next = NULL;
	if (list->head == NULL)
		list->head = item;
	else
		list->tail->next = item;
	list->tail = item;
}

struct commit_item *commit_pop(struct commit_list *list)
{
	struct commit_item *item = list->head;
	if (item != NULL)
		list->head = item->next;
	return item;
}

static void push_front(struct commit_list *list, struct commit_item *item)
{
	item->next = list->head;
	if (list->head == NULL)
		list->tail = item;
	list->head = item;
}

void commit_handover(struct commit *commit, struct wakes *wakes)
{
	if (commit_can_execute(commit)) {
		struct commit_waiter *waiter = commit->waiting.head->waiter;
		if (waiter != NULL && waiter->asleep)
			waiter_look(waiter, wakes);
	}
	if (!commit_can_write(commit))
		return;
	if (commit->staged.head->submitted) {
		commit_thread_wake(commit, wakes);
		return;
	}
	for (struct commit_item *item = commit->staged.head; item != NULL; item = item->next) {
		if (item->waiter != NULL && item->waiter->asleep) {
			waiter_look(item->waiter, wakes);
			return;
		}
	}
}

/* ---- telling ---- */

static void item_tell(struct commit *commit, struct commit_item *item, struct wakes *wakes)
{
	if (item->submitted) {
		item_reach(item, COMMIT_STAGED, wakes);
		commit_push(&commit->told, item);
		commit_thread_wake(commit, wakes);
	} else {
		item_reach(item, COMMIT_TOLD, wakes);
	}
}

void commit_tell(struct commit *commit, struct wakes *wakes)
{
	struct commit_item *item;
	while ((item = commit->staged.head) != NULL &&
	       (item->op <= commit->durable || commit->broken != 0)) {
		(void)commit_pop(&commit->staged);
		if (item->op > commit->durable) {
			item->error = item->error == 0 ? commit->broken : item->error;
			item->result.op = 0;
		}
		item_tell(commit, item, wakes);
	}
	while (commit->broken != 0 && (item = commit_pop(&commit->waiting)) != NULL) {
		item->error = commit->broken;
		item_tell(commit, item, wakes);
	}
}

/* ---- executing ---- */

bool commit_can_execute(const struct commit *commit)
{
	return commit->waiting.head != NULL && !commit->executing && !commit->full &&
	       !commit->stalled && commit->holds == 0;
}

/* How long what comes next is held back, so that merges keep up. */
static void execute_pace(struct commit *commit)
{
	const int64_t hold_ns = lsm_throttle_ns(commit->lsm);
	if (hold_ns <= 0)
		return;
	const int64_t now_ns = commit->os->now_ns(commit->os);
	int64_t at_ns = atomic_load_explicit(&commit->pace_ns, memory_order_relaxed);
	at_ns = (at_ns > now_ns ? at_ns : now_ns) + hold_ns;
	if (at_ns > now_ns + PACE_MAX_NS)
		at_ns = now_ns + PACE_MAX_NS;
	atomic_store_explicit(&commit->pace_ns, at_ns, memory_order_relaxed);
}

/* There was room, but a write failed meanwhile. What was executed is never logged, and nobody may
 * be told of it, not by a retry either: nothing is executed behind it. */
static int execute_lost(struct commit *commit, int rc)
{
	const int broken = rc == -ENOSPC ? -EIO : rc;

	HAUL_ASSERT(rc != HAUL_EFULL);
	commit_lock(commit);
	commit->broken = broken;
	(void)pthread_mutex_unlock(&commit->lock);
	return broken;
}

static int execute_frame(struct commit *commit, const struct frame *frame, struct commit_item *item)
{
	int32_t *statuses = item->statuses != NULL ? item->statuses : commit->spare_statuses;
	const uint64_t op = commit->op + 1;
	const struct log_part part = { frame->data, item->bytes };

	const int rc = exec_frame(commit->exec, frame, op, statuses, &item->result);
	if (rc < 0)
		return rc;
	const int put = log_put(commit->log, op, &part, 1);
	if (put < 0)
		return execute_lost(commit, put);
	item->op = op;
	item->result.op = op;
	execute_pace(commit);
	return 0;
}

/* Without the lock; the role is ours. 0: staged; a flow; negative: not executed. */
static int execute(struct commit *commit, struct commit_item *item)
{
	struct frame frame;
	int rc;

	if (item->frame != NULL) {
		rc = exec_admit(commit->exec, item->frame, item->statuses, &item->result);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	rc = log_room(commit->log, item->bytes);
	if (rc != 0)
		return rc == HAUL_EFULL ? (int)FLOW_FULL : rc;
	const struct log_place place = log_place(commit->log);
	HAUL_ASSERT(place.op == commit->op);
	rc = lsm_ready(commit->lsm, &place);
	if (rc != 0)
		return rc == -EAGAIN ? (int)FLOW_KEEPER : rc;
	if (item->frame != NULL)
		return execute_frame(commit, item->frame, item);

	static const struct changes_sender nobody = { .kind = FRAME_CHANGES };
	rc = changes_seal(item->changes, &nobody, commit->frame, item->bytes);
	if (rc < 0)
		return rc;
	frame_trust(commit->frame, &frame);
	return execute_frame(commit, &frame, item);
}

static void item_staged(struct commit *commit, struct commit_item *item, int rc,
			struct wakes *wakes)
{
	item->error = rc;
	if (rc == 0 && !item->result.repeated) {
		HAUL_ASSERT(item->op == commit->op + 1);
		if (commit->staged_ops == 0)
			commit->staged_ns = item->queued_ns;
		commit->op = item->op;
		commit->staged_ops += item->count > 0 ? item->count : 1;
		commit->staged_bytes += item->bytes;
		commit->stats.failed += item->result.failed;
	} else {
		item->op = commit->op; /* in its turn, after what was executed before */
		if (rc < 0) /* durable when it is told: a new session may begin with it */
			item->result = (struct exec_result){ .op = item->op };
		commit->stats.repeated += rc == 0;
	}
	if (rc < 0 && !item->submitted) {
		item_tell(commit, item, wakes);
		return;
	}
	commit_push(&commit->staged, item);
	item_reach(item, COMMIT_STAGED, wakes);
	commit_tell(commit, wakes);
}

/* Not now: the item is the first again, or has to fail. steps: the keeper's, before it was asked.
 * Returns whether it may be tried at once. */
static bool item_blocked(struct commit *commit, struct commit_item *item, int flow, uint64_t steps,
			 struct wakes *wakes)
{
	if (flow == FLOW_FULL) {
		push_front(&commit->waiting, item);
		commit->full = commit->writing || commit->staged.head != NULL;
		return !commit->full;
	}
	if (!item->met_keeper) {
		item->met_keeper = true;
		item->keeper_steps = steps;
	}
	if (commit->keeper_rc < 0 && commit->keeper_steps != item->keeper_steps) {
		item_staged(commit, item, commit->keeper_rc, wakes);
		return true;
	}
	push_front(&commit->waiting, item);
	if (commit->keeper_steps != steps)
		return true;
	commit->stalled = true;
	commit->rested = false;
	commit->stalled_ns = commit->os->now_ns(commit->os);
	commit->stats.stalls++;
	keeper_call(&commit->store->keeper);
	return false;
}

/* A write that is under way does not end a turn: it is another's. */
bool commit_turn_is_over(const struct commit *commit)
{
	const struct haul_gate_input input = {
		.ops_queued = commit->staged_ops,
		.ops_target = commit->sizer.target,
		.bytes_queued = commit->staged_bytes,
		.in_flight = 1,
		.now_ns = INT64_MIN,
	};
	int64_t deadline_ns;
	return haul_gate(&commit->limits, &input, &deadline_ns) != HAUL_CLOSE_NONE;
}

void commit_execute_turn(struct commit *commit, struct wakes *wakes)
{
	bool again;

	commit->executing = true;
	do {
		struct commit_item *item = commit_pop(&commit->waiting);
		const uint64_t steps = commit->keeper_steps;
		commit_unlock(commit, wakes);
		const int rc = execute(commit, item);
		commit_lock(commit);
		again = true;
		if (rc > 0)
			again = item_blocked(commit, item, rc, steps, wakes);
		else
			item_staged(commit, item, commit->broken != 0 ? commit->broken : rc, wakes);
	} while (again && commit->waiting.head != NULL && commit->holds == 0 &&
		 commit->broken == 0 && !commit_turn_is_over(commit));
	commit->executing = false;
	if (commit->holds > 0)
		commit_progress(commit, wakes);
	if (lsm_busy(commit->lsm))
		keeper_call(&commit->store->keeper);
}

/* ---- writing ---- */

bool commit_can_write(const struct commit *commit)
{
	return commit->staged.head != NULL && !commit->writing && commit->broken == 0;
}

static void write_count(struct commit *commit, const struct haul_stats_batch *batch, int64_t now_ns)
{
	enum { WEIGHT = 16 }; /* of the moving average */
	const struct haul_sizer_sample sample = { batch->ops, batch->service_ns, now_ns };

	haul_stats_batch(&commit->stats_commit, batch);
	(void)haul_sizer_update(&commit->sizer, &sample);
	commit->stats.flushed += batch->ops;
	commit->write_ns += ((double)batch->service_ns - commit->write_ns) /
			    (commit->write_ns > 0 ? WEIGHT : 1);
	struct haul_stats_batch write = *batch;
	write.syscalls = 1;
	haul_stats_batch(&commit->stats_log, &write);
}

void commit_write_turn(struct commit *commit, struct wakes *wakes)
{
	struct haul_gate_input input = {
		.ops_queued = commit->staged_ops,
		.ops_target = commit->sizer.target,
		.bytes_queued = commit->staged_bytes,
		.first_ns = commit->staged_ns,
		.barrier = commit->thread_stop || commit->holds > 0,
	};
	uint64_t durable = 0;
	int64_t deadline_ns;

	commit->writing = true;
	commit->staged_ops = 0;
	commit->staged_bytes = 0;
	commit_unlock(commit, wakes);
	const int64_t from_ns = commit->os->now_ns(commit->os);
	input.now_ns = from_ns;
	const enum haul_close reason = haul_gate(&commit->limits, &input, &deadline_ns);
	const int rc = log_write(commit->log, &durable);
	if (rc == 0)
		lsm_publish(commit->lsm, durable);
	const int64_t now_ns = commit->os->now_ns(commit->os);
	commit_lock(commit);
	commit->writing = false;
	commit->full = false;
	if (rc < 0) {
		commit->broken = rc == -ENOSPC ? -EIO : rc; /* what was executed cannot be undone */
		commit->stalled = false;
	} else {
		commit->durable = durable;
	}
	if (reason != HAUL_CLOSE_NONE && rc == 0) {
		const struct haul_stats_batch batch = {
			.ops = input.ops_queued,
			.bytes = input.bytes_queued,
			.reason = reason,
			.wait_ns = from_ns - input.first_ns,
			.service_ns = now_ns - from_ns,
		};
		write_count(commit, &batch, now_ns);
	}
	commit_tell(commit, wakes);
	commit_progress(commit, wakes);
	keeper_written(&commit->store->keeper);
	if (commit->stalled)
		keeper_call(&commit->store->keeper);
}

bool commit_kept(struct commit *commit, int rc)
{
	struct wakes wakes = { 0 };

	commit_lock(commit);
	commit->keeper_steps++;
	commit->keeper_rc = rc;
	/* With nothing to do and a write to come it waits for what that makes durable; with none
	 * it waits for readers to leave a memory table, and looks again after a while. */
	const bool durable = commit->writing || commit->staged.head != NULL;
	const bool waits = rc == 0 && commit->stalled && (durable || !commit->rested);
	commit->rested = rc == 0 && commit->stalled && !durable;
	if (commit->stalled && !waits) {
		commit->rested = false;
		const int64_t ns = commit->os->now_ns(commit->os) - commit->stalled_ns;
		commit->stalled = false;
		commit->stats.throttle_ns += (uint64_t)ns;
		if ((uint64_t)ns > commit->stats.throttle_max_ns)
			commit->stats.throttle_max_ns = (uint64_t)ns;
		commit_handover(commit, &wakes);
	}
	const bool stalled = commit->stalled;
	commit_progress(commit, &wakes);
	commit_unlock(commit, &wakes);
	return stalled;
}
