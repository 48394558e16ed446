/* Commits: one operation each, against groups. */
#include <errno.h>
#include <stdio.h>

#include "base/assert.h"
#include "store_work.h"

enum { MANUAL = 1000 };

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
	return store_told(error, &commit);
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
