/* Reads: nodes by id against LMDB, and nearest neighbours of many queries at once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store_work.h"

enum { KNN_QUERIES = 64, KNN_K = 10 };

/* ---- by id ---- */

static int compare_id(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* All ids; sorted for LMDB, which takes minutes less to load then, and has a fuller tree. */
static uint64_t *all_ids(const struct store_bench *bench, bool sorted)
{
	uint32_t count = bench->sizes.get_nodes;
	uint64_t *ids = malloc(count * sizeof *ids);
	if (ids == NULL)
		return NULL;
	for (uint32_t n = 0; n < count; n++)
		ids[n] = store_id(n + 1);
	if (sorted)
		qsort(ids, count, sizeof *ids, compare_id);
	return ids;
}

static int get_fill(struct store_bench *bench, enum store_rival which, struct haul_err *err)
{
	char path[STORE_PATH];
	struct store_engine **engine = &bench->engines[which];
	uint32_t left = bench->sizes.get_nodes;
	if (*engine != NULL)
		return 0;
	if (store_rivals[which] == NULL)
		return haul_err_set(err, -ENOTSUP,
				    "built without lmdb: install it and build again");
	uint64_t *ids = all_ids(bench, which == STORE_LMDB), *next = ids;
	if (ids == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	store_path(bench, store_rivals[which]->name, path);
	int error = store_rivals[which]->open(engine, path, err);
	while (error == 0 && left > 0) {
		uint32_t count = left < STORE_BATCH_MAX ? left : STORE_BATCH_MAX;
		error = (*engine)->calls->put(*engine, next, count, true);
		next += count;
		left -= count;
	}
	if (error == 0)
		error = (*engine)->calls->settle(*engine);
	/* What is compared is memory, not who has the disk's contents there already. */
	qsort(ids, bench->sizes.get_nodes, sizeof *ids, compare_id);
	for (left = bench->sizes.get_nodes, next = ids; error == 0 && left > 0;) {
		uint32_t count = left < STORE_BATCH_MAX ? left : STORE_BATCH_MAX;
		uint64_t sum;
		error = (*engine)->calls->get(*engine, next, count, &sum);
		next += count;
		left -= count;
	}
	free(ids);
	return error < 0 ? haul_err_set(err, error, "fill %s: %s", store_rivals[which]->name,
					haul_strerror(error))
			 : 0;
}

int store_get_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		  struct bench_sample *ret_sample, struct haul_err *err)
{
	struct store_bench *bench = ctx;
	enum store_rival which = arm == BENCH_BATCHED ? STORE_HAUL : STORE_LMDB;
	uint8_t value[STORE_VALUE];
	int error = store_bench_enter(bench, STORE_GET, err);
	HAUL_ASSERT(self->parameter >= 1 && self->parameter <= STORE_BATCH_MAX);
	if (error == 0)
		error = get_fill(bench, STORE_LMDB, err);
	if (error == 0)
		error = get_fill(bench, STORE_HAUL, err);
	if (error < 0)
		return error;
	uint64_t count = 0, sum = 0;
	int64_t start_ns = store_now(bench), now_ns = start_ns;
	while (now_ns - start_ns < (int64_t)(seconds * 1e9)) {
		uint64_t wanted = 0, word;
		for (uint32_t i = 0; i < self->parameter; i++) {
			bench->ids[i] =
				store_id(1 + prng_below(&bench->prng, bench->sizes.get_nodes));
			store_value(bench->ids[i], value);
			memcpy(&word, value + STORE_VALUE - STORE_PAYLOAD, sizeof word);
			wanted += word;
		}
		error = bench->engines[which]->calls->get(bench->engines[which], bench->ids,
							  (uint32_t)self->parameter, &sum);
		if (error == 0 && sum != wanted)
			error = -EIO;
		if (error < 0)
			return haul_err_set(err, error, "%s gave other values: %s",
					    store_rivals[which]->name, haul_strerror(error));
		count += self->parameter;
		now_ns = store_now(bench);
	}
	ret_sample->value = (double)count / ((double)(now_ns - start_ns) * 1e-9);
	ret_sample->fill_mean = (double)self->parameter;
	return 0;
}

/* ---- by likeness ---- */

static int knn_fill(struct store_bench *bench, struct haul_err *err)
{
	uint32_t dimensions = bench->sizes.knn_dimensions;
	const struct haul_store_options options = { .memory = UINT64_C(1) << 30 };
	if (bench->reader != NULL)
		return 0;
	int error = store_store_open(bench, 0, &options, err);
	bench->vectors = calloc((size_t)KNN_QUERIES * dimensions, sizeof *bench->vectors);
	if (error == 0 && bench->vectors == NULL)
		error = -ENOMEM;
	for (uint64_t node = 1; error >= 0 && node <= bench->sizes.knn_vectors; node++) {
		struct haul_commit commit;
		const struct haul_embedding embedding = { .node = node,
							  .dimensions = dimensions,
							  .vector = bench->vectors };
		const struct haul_node bare = { .id = node };
		for (uint32_t i = 0; i < dimensions; i++)
			bench->vectors[i] = (float)prng_unit(&bench->prng) - 0.5f;
		error = haul_changes_create_node(bench->changes, &bare, NULL);
		if (error >= 0)
			error = haul_changes_set_embedding(bench->changes, &embedding);
		if (error >= 0 && node % 1000 != 0 && node < bench->sizes.knn_vectors)
			continue;
		if (error >= 0)
			error = haul_store_commit(bench->store, bench->changes, NULL, &commit);
		haul_changes_clear(bench->changes);
	}
	for (uint32_t i = 0; i < KNN_QUERIES * dimensions; i++)
		bench->vectors[i] = (float)prng_unit(&bench->prng) - 0.5f;
	if (error >= 0)
		error = haul_store_reader(bench->store, 0, &bench->reader);
	return error < 0 ? haul_err_set(err, error, "fill: %s", haul_strerror(error)) : 0;
}

int store_knn_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		  struct bench_sample *ret_sample, struct haul_err *err)
{
	struct store_bench *bench = ctx;
	struct haul_near_hit hits[KNN_QUERIES * KNN_K];
	uint32_t each = arm == BENCH_BATCHED ? KNN_QUERIES : 1;
	(void)self;
	int error = store_bench_enter(bench, STORE_KNN, err);
	if (error == 0)
		haul_changes_clear(bench->changes);
	if (error == 0)
		error = knn_fill(bench, err);
	if (error < 0)
		return error;
	uint64_t count = 0;
	int64_t start_ns = store_now(bench), now_ns = start_ns;
	while (error >= 0 && now_ns - start_ns < (int64_t)(seconds * 1e9)) {
		const struct haul_near query = {
			.dimensions = bench->sizes.knn_dimensions,
			.exact = true,
			.k = KNN_K,
			.count = each,
			.vectors =
				bench->vectors + count % KNN_QUERIES * bench->sizes.knn_dimensions,
		};
		error = haul_reader_near(bench->reader, &query, hits);
		if (error >= 0 && hits[0].node == 0)
			error = -EIO;
		count += each;
		now_ns = store_now(bench);
	}
	if (error < 0)
		return haul_err_set(err, error, "near: %s", haul_strerror(error));
	ret_sample->value = (double)count / ((double)(now_ns - start_ns) * 1e-9);
	ret_sample->fill_mean = each;
	return 0;
}
