#include "store/keeper.h"

#include <errno.h>
#include <signal.h>

#include "os/park.h"
#include "store/store_parts.h"

enum {
	KEEPER_RETRY_NS = 100000000, /* after a step that failed, if nobody calls before */
	KEEPER_WAITED_NS = 1000000,  /* with nothing to do, while a commit waits for readers */
	KEEPER_MARK_NS = 5000000     /* without a write: then what is durable is marked as such */
};

/* Room is made before the log gets there; what is behind the checkpoint is given back. */
static int keeper_log(struct haul_store *store)
{
	struct keeper *keeper = &store->keeper;
	const uint64_t kept = lsm_checkpoint(store->lsm).position;

	if (kept > keeper->trimmed) {
		const int rc = MEDIA_CALL(store->media, log_trim, kept);
		if (rc < 0)
			return rc;
		keeper->trimmed = kept;
	}
	const int made = log_reserve_ahead(store->log);
	/* a full disk is told to the commit that finds no room */
	return made == -ENOSPC ? 0 : made;
}

int keeper_step(struct haul_store *store)
{
	struct keeper *keeper = &store->keeper;

	(void)pthread_mutex_lock(&keeper->step);
	int rc = keeper_log(store);
	if (rc == 0)
		rc = lsm_step(store->lsm, log_durable(store->log));
	/* also while there is a lot to merge, or who searches would wait for a quiet hour */
	if (rc >= 0) {
		const int more = vectors_step(store->vectors);
		rc = rc > 0 ? rc : more;
	}
	(void)pthread_mutex_unlock(&keeper->step);
	keeper->waited_for = commit_kept(&store->commit, rc);
	return rc;
}

void keeper_pause(struct keeper *keeper)
{
	(void)pthread_mutex_lock(&keeper->step);
}

void keeper_resume(struct keeper *keeper)
{
	(void)pthread_mutex_unlock(&keeper->step);
}

/* Sleep until called; while the log is not marked only until it has rested for a while. Then it is
 * marked, and the first write afterwards calls. */
static void keeper_sleep(struct haul_store *store, uint32_t seen, int rc)
{
	struct keeper *keeper = &store->keeper;
	const uint64_t durable = log_durable(store->log);
	int64_t timeout_ns = rc < 0 ? KEEPER_RETRY_NS : INT64_MAX;

	if (rc == 0 && keeper->waited_for) {
		timeout_ns = KEEPER_WAITED_NS;
	} else if (rc == 0 && durable != keeper->marked) {
		if (durable == keeper->seen && commit_mark(&store->commit))
			keeper->marked = durable;
		else
			timeout_ns = KEEPER_MARK_NS;
		keeper->seen = durable;
	}
	const int64_t rest_ns = rc == 0 ? lsm_rest_ns(store->lsm) : INT64_MAX;
	if (rest_ns < timeout_ns)
		timeout_ns = rest_ns;
	if (timeout_ns == INT64_MAX)
		atomic_store(&keeper->rests, 1);
	/* who calls after this finds it asleep; who called before has changed the word */
	atomic_store(&keeper->asleep, 1);
	if (!atomic_load(&keeper->stop) && log_durable(store->log) == durable)
		park_wait(&keeper->calls, seen, timeout_ns);
	atomic_store(&keeper->asleep, 0);
	atomic_store(&keeper->rests, 0);
}

static void *keeper_run(void *arg)
{
	struct haul_store *store = arg;
	struct keeper *keeper = &store->keeper;

	(void)pthread_setname_np(pthread_self(), "haul-keeper");
	while (!atomic_load(&keeper->stop)) {
		const uint32_t seen = atomic_load(&keeper->calls);
		const int rc = keeper_step(store);
		if (rc <= 0)
			keeper_sleep(store, seen, rc);
	}
	return NULL;
}

void keeper_written(struct keeper *keeper)
{
	if (atomic_load_explicit(&keeper->rests, memory_order_relaxed) != 0 &&
	    atomic_exchange(&keeper->rests, 0) != 0)
		keeper_call(keeper);
}

void keeper_call(struct keeper *keeper)
{
	(void)atomic_fetch_add(&keeper->calls, 1);
	if (atomic_exchange(&keeper->asleep, 0) != 0)
		park_wake(&keeper->calls, 1);
}

static void keeper_asked(void *keeper)
{
	keeper_call(keeper);
}

int keeper_open(struct haul_store *store)
{
	struct keeper *keeper = &store->keeper;

	(void)pthread_mutex_init(&keeper->step, NULL);
	if (!store->deep.threads || store->options.read_only)
		return 0;
	/* the program's signals are for the program's own threads */
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	const int rc = pthread_create(&keeper->thread, NULL, keeper_run, store);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	keeper->running = rc == 0;
	if (rc == 0)
		vectors_on_work(store->vectors, keeper_asked, keeper);
	else
		(void)pthread_mutex_destroy(&keeper->step);
	return -rc;
}

void keeper_stop(struct haul_store *store)
{
	struct keeper *keeper = &store->keeper;

	if (!keeper->running)
		return;
	atomic_store(&keeper->stop, true);
	keeper_call(keeper);
	(void)pthread_join(keeper->thread, NULL);
	keeper->running = false;
}

void keeper_close(struct haul_store *store)
{
	keeper_stop(store);
	(void)pthread_mutex_destroy(&store->keeper.step);
}
