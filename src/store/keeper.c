#include "store/keeper.h"

#include <signal.h>

#include "os/park.h"
#include "store/store_parts.h"

enum {
	KEEPER_SEGMENTS_AHEAD = 2,
	KEEPER_RETRY_NS = 100000000 /* after a step that failed, if nobody calls before */
};

/* Segments are prepared before the log gets to them; what is behind the checkpoint is given back. */
static int keeper_log(struct haul_store *store)
{
	struct keeper *keeper = &store->keeper;
	struct media *media = store->media;
	const uint64_t segment = media->segment_bytes;
	const uint64_t kept = lsm_checkpoint(store->lsm).position;

	if (kept > keeper->trimmed) {
		const int rc = MEDIA_CALL(media, log_trim, kept);
		if (rc < 0)
			return rc;
		keeper->trimmed = kept;
	}
	const uint64_t written = keeper->start + log_bytes(store->log);
	if (written + segment > keeper->reserved) {
		const uint64_t to = written + KEEPER_SEGMENTS_AHEAD * segment;
		/* a full disk is told to the commit that finds no room */
		if (MEDIA_CALL(media, log_reserve, to) == 0)
			keeper->reserved = to;
	}
	return 0;
}

int keeper_step(struct haul_store *store)
{
	struct keeper *keeper = &store->keeper;

	(void)pthread_mutex_lock(&keeper->step);
	int rc = keeper_log(store);
	if (rc == 0)
		rc = lsm_step(store->lsm, log_durable(store->log));
	(void)pthread_mutex_unlock(&keeper->step);
	commit_kept(&store->commit, rc);
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

static void *keeper_run(void *arg)
{
	struct haul_store *store = arg;
	struct keeper *keeper = &store->keeper;

	while (!atomic_load(&keeper->stop)) {
		const uint32_t seen = atomic_load(&keeper->calls);
		const int rc = keeper_step(store);
		if (rc > 0)
			continue;
		/* who calls after this finds it asleep; who called before has changed the word */
		atomic_store(&keeper->asleep, 1);
		if (!atomic_load(&keeper->stop))
			park_wait(&keeper->calls, seen, rc == 0 ? INT64_MAX : KEEPER_RETRY_NS);
		atomic_store(&keeper->asleep, 0);
	}
	return NULL;
}

void keeper_call(struct keeper *keeper)
{
	(void)atomic_fetch_add(&keeper->calls, 1);
	if (atomic_exchange(&keeper->asleep, 0) != 0)
		park_wake(&keeper->calls, 1);
}

int keeper_open(struct haul_store *store)
{
	struct keeper *keeper = &store->keeper;

	keeper->start = log_place(store->log).position;
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
	if (rc != 0)
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
