/* What is submitted: slots, and the log thread that writes and tells (commit.h).
 *
 * A slot is taken before its frame is executed and free once done() has returned. While done() runs
 * its slot still counts, and it may submit again: for that there is one slot more than
 * HAUL_STORE_IN_FLIGHT, which only the teller may take, and which is free again with the slot it
 * tells. So a chain in which each done() submits one frame never waits for itself. */
#include <errno.h>
#include <signal.h>

#include "base/assert.h"
#include "os/park.h"
#include "store/commit_roles.h"
#include "store/store_parts.h"

bool commit_is_teller(const struct commit *commit)
{
	return commit->telling && pthread_equal(commit->teller, pthread_self());
}

int commit_slot(struct commit *commit, struct commit_item **ret_item)
{
	struct wakes wakes = { 0 };
	int rc = 0;

	commit_lock(commit);
	const bool teller = commit_is_teller(commit);
	const uint32_t limit = HAUL_STORE_IN_FLIGHT + (teller ? 1 : 0);
	while (rc == 0 && commit->in_flight >= limit) {
		rc = teller ? -EBUSY : commit->broken;
		if (rc == 0 && !commit->threads) {
			commit_unlock(commit, &wakes);
			commit_pump(commit);
			commit_lock(commit);
		} else if (rc == 0) {
			commit_progress_wait(commit, &wakes);
		}
	}
	if (rc == 0 && commit->broken != 0)
		rc = commit->broken;
	if (rc == 0) {
		struct commit_item *item = commit->slots_free;
		HAUL_ASSERT(item != NULL);
		commit->slots_free = item->next;
		int32_t *statuses = item->statuses;
		*item = (struct commit_item){ .statuses = statuses, .submitted = true };
		commit->in_flight++;
		commit->submits++;
		*ret_item = item;
	}
	commit_unlock(commit, &wakes);
	return rc;
}

/* Unlocks while it is told. */
static void tell_one(struct commit *commit, struct wakes *wakes)
{
	struct commit_item *item = commit_pop(&commit->told);

	HAUL_ASSERT(item->submitted && !commit->telling);
	commit->telling = true;
	commit->teller = pthread_self();
	commit_unlock(commit, wakes);
	if (item->answered != NULL) {
		const struct store_answer answer = { item->error, item->result, item->statuses };
		item->answered(item->arg, &answer);
	} else {
		const struct haul_commit done = { item->result.op, item->result.failed };
		item->done(item->arg, item->error, &done, item->statuses, item->count);
	}
	commit_lock(commit);
	commit->telling = false;
	item->next = commit->slots_free;
	commit->slots_free = item;
	commit->in_flight--;
	commit->tells++;
	commit_progress(commit, wakes);
}

static void *thread_run(void *arg)
{
	struct commit *commit = arg;
	struct wakes wakes = { 0 };

	(void)pthread_setname_np(pthread_self(), "haul-log");
	commit_lock(commit);
	for (;;) {
		if (commit->told.head != NULL) {
			tell_one(commit, &wakes);
			continue;
		}
		if (commit_can_write(commit)) {
			commit_write_turn(commit, &wakes);
			commit_handover(commit, &wakes);
			continue;
		}
		if (commit->thread_stop && commit->in_flight == 0)
			break;
		const uint32_t seen =
			atomic_load_explicit(&commit->thread_word, memory_order_relaxed);
		commit->thread_asleep = true;
		commit_handover(commit, &wakes);
		commit_unlock(commit, &wakes);
		park_wait(&commit->thread_word, seen, INT64_MAX);
		commit_lock(commit);
		commit->thread_asleep = false;
	}
	commit_unlock(commit, &wakes);
	return NULL;
}

int commit_thread_open(struct commit *commit)
{
	/* the program's signals are for the program's own threads */
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	const int rc = pthread_create(&commit->thread, NULL, thread_run, commit);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	commit->thread_runs = rc == 0;
	return -rc;
}

void commit_thread_close(struct commit *commit)
{
	struct wakes wakes = { 0 };

	commit_lock(commit);
	commit->thread_stop = true;
	commit_thread_wake(commit, &wakes);
	commit_unlock(commit, &wakes);
	(void)pthread_join(commit->thread, NULL);
	commit->thread_runs = false;
}

void commit_pump(struct commit *commit)
{
	struct wakes wakes = { 0 };

	HAUL_ASSERT(!commit->threads || !commit->thread_runs);
	commit_lock(commit);
	while (!commit->telling && (commit->told.head != NULL || commit_can_write(commit))) {
		if (commit_can_write(commit))
			commit_write_turn(commit, &wakes);
		else
			tell_one(commit, &wakes);
	}
	commit_unlock(commit, &wakes);
}

int commit_flush(struct commit *commit)
{
	struct wakes wakes = { 0 };

	commit_lock(commit);
	if (commit_is_teller(commit)) {
		(void)pthread_mutex_unlock(&commit->lock);
		return -EDEADLK;
	}
	const uint64_t upto = commit->submits;
	while (commit->tells < upto) {
		if (commit->threads) {
			commit_progress_wait(commit, &wakes);
			continue;
		}
		commit_unlock(commit, &wakes);
		commit_pump(commit);
		commit_lock(commit);
	}
	const int rc = commit->broken;
	commit_unlock(commit, &wakes);
	return rc;
}
