/* The public ways of a frame into the store. */
#include <errno.h>

#include "base/assert.h"
#include "store/changes_state.h"
#include "store/store_parts.h"

static int may_write(const struct haul_store *store, const struct haul_changes *changes)
{
	if (store->options.read_only)
		return -EROFS;
	return changes != NULL && changes_open(changes) ? -EINVAL : 0;
}

int haul_store_commit(struct haul_store *store, const struct haul_changes *changes,
		      int32_t *statuses, struct haul_commit *ret_commit)
{
	struct commit_item item = { .changes = changes, .statuses = statuses };

	HAUL_ASSERT(store != NULL && changes != NULL);
	const int rc = may_write(store, changes);
	if (rc < 0)
		return rc;
	item.count = haul_changes_count(changes);
	if (item.count == 0) { /* no frame */
		if (ret_commit != NULL)
			*ret_commit = (struct haul_commit){ .op = log_durable(store->log) };
		return commit_error(&store->commit);
	}
	commit_pace(&store->commit);
	commit_run(&store->commit, &item);
	if (item.error == 0 && ret_commit != NULL)
		*ret_commit = (struct haul_commit){ item.result.op, item.result.failed };
	return item.error;
}

int haul_store_submit(struct haul_store *store, const struct haul_changes *changes,
		      haul_store_done *done, void *arg)
{
	struct commit_item *item;

	HAUL_ASSERT(store != NULL && changes != NULL && done != NULL);
	int rc = may_write(store, changes);
	if (rc < 0)
		return rc;
	commit_pace(&store->commit);
	rc = commit_slot(&store->commit, &item);
	if (rc < 0)
		return rc;
	item->changes = changes;
	item->count = haul_changes_count(changes);
	item->done = done;
	item->arg = arg;
	commit_submit(&store->commit, item);
	return 0;
}

int store_submit_frame(struct haul_store *store, const struct frame *frame,
		       store_answered *answered, void *arg)
{
	struct commit_item *item;

	HAUL_ASSERT(frame->head->events <= HAUL_CHANGES_OPS);
	int rc = may_write(store, NULL);
	if (rc < 0)
		return rc;
	commit_pace(&store->commit);
	rc = commit_slot(&store->commit, &item);
	if (rc < 0)
		return rc;
	item->frame = frame;
	item->count = frame->head->events;
	item->answered = answered;
	item->arg = arg;
	commit_submit(&store->commit, item);
	return 0;
}

uint32_t store_in_flight(struct haul_store *store)
{
	struct commit *commit = &store->commit;

	(void)pthread_mutex_lock(&commit->lock);
	const uint32_t in_flight = commit->in_flight;
	(void)pthread_mutex_unlock(&commit->lock);
	return in_flight;
}

int haul_store_flush(struct haul_store *store)
{
	HAUL_ASSERT(store != NULL);
	return commit_flush(&store->commit);
}
