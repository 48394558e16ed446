/* Commits: one operation each, against groups and full frames. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "store_work.h"

enum { MANUAL = 1000, FRAME = 8192, WINDOW = 4 };

#define LIMIT_ASCENDING 800000.0
#define LIMIT_RANDOM    500000.0
#define LIMIT_P99_MS    100.0
#define LIMIT_GAP_MS    200.0

/* What a commit said, as one code. */
static int told(int error, const struct haul_commit *commit)
{
	return error < 0 ? error : commit->failed == 0 ? 0 : -EIO;
}

static int commit_some(struct store_bench *bench, uint32_t count)
{
	struct haul_commit commit = { 0 };
	haul_changes_clear(bench->changes);
	int error = haul_changes_begin(bench->changes);
	for (uint32_t i = 0; error >= 0 && i < count; i++)
		error = store_node_add(bench->changes, store_id(bench->next_id++));
	if (error >= 0)
		error = haul_changes_end(bench->changes);
	if (error >= 0)
		error = haul_store_commit(bench->store, bench->changes, NULL, &commit);
	return told(error, &commit);
}

static int commit_for(struct store_bench *bench, uint32_t count, double seconds,
		      struct bench_sample *sample, struct haul_err *err)
{
	struct haul_store_status status;
	int64_t start_ns = store_now(bench), now_ns = start_ns, before_ns;
	uint64_t done = 0;
	int error = store_times_start(&bench->times, now_ns);
	do {
		before_ns = now_ns;
		if (error == 0)
			error = commit_some(bench, count);
		now_ns = store_now(bench);
		store_times_add(&bench->times, before_ns, now_ns);
		done += count;
	} while (error == 0 && now_ns - start_ns < (int64_t)(seconds * 1e9));
	if (error < 0)
		return haul_err_set(err, error, "commit: %s", haul_strerror(error));
	haul_store_status(bench->store, &status);
	store_times_sort(&bench->times);
	sample->value = (double)done / ((double)(now_ns - start_ns) * 1e-9);
	sample->fill_mean = count;
	snprintf(sample->note, sizeof sample->note, "p50 %.3f p99 %.3f p100 %.1f ms; fsync %.0f us",
		 store_times_ms(&bench->times, .5), store_times_ms(&bench->times, .99),
		 store_times_ms(&bench->times, 1), (double)status.sync_ns / 1e3);
	return 0;
}

int store_individual(struct store_bench *bench, double seconds, struct bench_sample *sample,
		     struct haul_err *err)
{
	return commit_for(bench, 1, seconds, sample, err);
}

int store_commit_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		     struct bench_sample *ret_sample, struct haul_err *err)
{
	struct store_bench *bench = ctx;
	enum store_commit_case what = (enum store_commit_case)(self->parameter >> 1);
	int64_t sync_add_ns = self->parameter & 1 ? bench->slow_ns : 0;
	if (what == STORE_MANUAL || arm == BENCH_INDIVIDUAL) {
		int error = store_bench_enter(
			bench, what == STORE_MANUAL ? STORE_COMMIT : STORE_SERVE, err);
		if (error == 0)
			error = store_store_open(bench, sync_add_ns, NULL, err);
		if (error < 0)
			return error;
		return commit_for(bench, arm == BENCH_BATCHED ? MANUAL : 1, seconds, ret_sample,
				  err);
	}
	int error = store_bench_enter(bench, STORE_SERVE, err);
	bench->sync_add_ns = sync_add_ns;
	return error < 0 ? error : store_serve_run(bench, what, seconds, ret_sample, err);
}

/* ---- full frames, several in flight, for long ---- */

struct sustain {
	struct store_bench *bench;
	sem_t free;
	int error; /* atomic */
	struct frame_begun {
		struct sustain *sustain;
		int64_t began_ns;
	} begun[WINDOW];
};

static void frame_done(void *arg, int error, const struct haul_commit *commit,
		       const int32_t *statuses, uint32_t count)
{
	struct frame_begun *begun = arg;
	struct sustain *sustain = begun->sustain;
	(void)statuses;
	(void)count;
	int code = told(error, commit);
	if (code < 0)
		__atomic_store_n(&sustain->error, code, __ATOMIC_RELAXED);
	/* In the order of submits, so never two at a time. */
	store_times_add(&sustain->bench->times, begun->began_ns, store_now(sustain->bench));
	sem_post(&sustain->free);
}

static int submit_one(struct sustain *sustain, uint64_t number, bool random)
{
	struct store_bench *bench = sustain->bench;
	struct frame_begun *begun = &sustain->begun[number % WINDOW];
	int error = 0;
	haul_changes_clear(bench->changes);
	for (uint32_t i = 0; error >= 0 && i < FRAME; i++) {
		uint64_t n = bench->next_id++;
		error = store_node_add(bench->changes, random ? store_id(n) : n);
	}
	while (sem_wait(&sustain->free) < 0)
		;
	*begun = (struct frame_begun){ sustain, store_now(bench) };
	if (error >= 0)
		error = haul_store_submit(bench->store, bench->changes, frame_done, begun);
	if (error < 0)
		sem_post(&sustain->free);
	return error < 0 ? error : __atomic_load_n(&sustain->error, __ATOMIC_RELAXED);
}

static int sustain_for(struct store_bench *bench, bool random, double seconds,
		       struct bench_sample *sample, struct haul_err *err)
{
	struct sustain sustain = { .bench = bench };
	struct haul_store_status status;
	int64_t start_ns = store_now(bench);
	uint64_t frames = 0;
	int error = store_times_start(&bench->times, start_ns);
	sem_init(&sustain.free, 0, WINDOW);
	while (error == 0 && store_now(bench) - start_ns < (int64_t)(seconds * 1e9))
		error = submit_one(&sustain, frames++, random);
	int flushed = haul_store_flush(bench->store);
	int64_t took_ns = store_now(bench) - start_ns;
	sem_destroy(&sustain.free);
	error = error < 0 ? error : flushed < 0 ? flushed : sustain.error;
	if (error < 0)
		return haul_err_set(err, error, "submit: %s", haul_strerror(error));
	haul_store_status(bench->store, &status);
	store_times_sort(&bench->times);
	sample->value = (double)(frames * FRAME) / ((double)took_ns * 1e-9);
	sample->fill_mean = FRAME;
	double p99_ms = store_times_ms(&bench->times, .99);
	double gap_ms = (double)bench->times.gap_ns * 1e-6;
	if (random && bench->sustained_count < STORE_SUSTAINED) {
		bench->sustained[bench->sustained_count].p99_ms = p99_ms;
		bench->sustained[bench->sustained_count++].gap_ms = gap_ms;
	}
	snprintf(sample->note, sizeof sample->note,
		 "%.0f s; frame p50 %.1f p99 %.1f p100 %.1f ms; gap %.0f ms; %.1f B written a byte",
		 (double)took_ns * 1e-9, store_times_ms(&bench->times, .5), p99_ms,
		 store_times_ms(&bench->times, 1), gap_ms,
		 (double)(status.bytes_logged + status.bytes_flushed + status.bytes_merged) /
			 (double)(frames * FRAME * (STORE_VALUE + 8)));
	return 0;
}

/* An empty store each time: what was merged for another run is not paid for here. */
static int sustain_anew(struct store_bench *bench, enum store_sustain_case what, double seconds,
			struct bench_sample *sample, struct haul_err *err)
{
	int error = store_bench_enter(bench, STORE_NONE, err);
	if (error == 0)
		error = store_bench_enter(bench, STORE_COMMIT, err);
	if (error == 0)
		error = store_store_open(bench, 0, NULL, err);
	return error < 0 ? error
			 : sustain_for(bench, what != STORE_ASCENDING,
				       seconds * bench->sizes.sustain, sample, err);
}

int store_sustain_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		      struct bench_sample *ret_sample, struct haul_err *err)
{
	static const double limits[] = {
		[STORE_ASCENDING] = LIMIT_ASCENDING,
		[STORE_RANDOM] = LIMIT_RANDOM,
		[STORE_RANDOM_P99] = LIMIT_P99_MS,
		[STORE_RANDOM_GAP] = LIMIT_GAP_MS,
	};
	struct store_bench *bench = ctx;
	enum store_sustain_case what = (enum store_sustain_case)self->parameter;
	if (arm == BENCH_INDIVIDUAL) {
		ret_sample->value = limits[what];
		snprintf(ret_sample->note, sizeof ret_sample->note, "the limit");
		return 0;
	}
	uint32_t *told = what == STORE_RANDOM_P99 ? &bench->told_p99 : &bench->told_gap;
	bool again = what == STORE_ASCENDING || what == STORE_RANDOM;
	int error = 0;
	if (again || *told == bench->sustained_count)
		error = sustain_anew(bench, what, seconds, ret_sample, err);
	if (error < 0 || again)
		return error;
	/* A run is told of once; beyond those remembered the last one is told again. */
	uint32_t at = *told < bench->sustained_count ? (*told)++ : bench->sustained_count - 1;
	ret_sample->value = what == STORE_RANDOM_P99 ? bench->sustained[at].p99_ms
						     : bench->sustained[at].gap_ms;
	return 0;
}
