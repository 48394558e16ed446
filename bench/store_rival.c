/* The same records, in batches of the same size, each batch durable: haul's store embedded, and the
 * engines that people would embed instead. All as they come, but for what makes a batch durable. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "store_work.h"

/* As src/store/record.h lays it out, so that all engines are given the same bytes: u32 kind, u16
 * properties, two bytes; then u8 type, u8 bytes of the name, u16, u32 bytes, name, data. */
void store_value(uint64_t id, uint8_t value[STORE_VALUE])
{
	static const uint8_t head[STORE_VALUE - STORE_PAYLOAD] = {
		1, 0, 0, 0,   1,   0,   0,  0, HAUL_BYTES, 4, 0, 0, STORE_PAYLOAD,
		0, 0, 0, 'd', 'a', 't', 'a'
	};
	memcpy(value, head, sizeof head);
	/* Half of it repeats: about what names and small numbers do. */
	for (uint32_t at = sizeof head; at < STORE_VALUE; at += 4) {
		uint32_t word = at % 8 == 0 ? (uint32_t)hash_u64(id + at) : 0;
		memcpy(value + at, &word, sizeof word);
	}
}

/* ---- haul ---- */

struct haul_engine {
	struct store_engine engine;
	struct haul_store *store;
	struct haul_reader *reader;
	struct haul_changes *changes;
	struct haul_node *nodes;
	int32_t *statuses;
};

static void haul_close(struct store_engine *engine)
{
	struct haul_engine *own = (struct haul_engine *)engine;
	haul_reader_close(own->reader);
	if (own->store != NULL)
		(void)haul_store_close(own->store);
	haul_changes_free(own->changes);
	free(own->nodes);
	free(own->statuses);
	free(own);
}

static int haul_open(struct store_engine **ret_engine, const char *path, struct haul_err *err)
{
	extern const struct store_engine_calls store_haul;
	/* The others have the page cache, as much as they want: haul's own holds the data, too. */
	const struct haul_store_options options = { .memory = UINT64_C(4) << 30,
						    .memtable_bytes = 64 << 20 };
	struct haul_engine *own = calloc(1, sizeof *own);
	if (own == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	own->engine.calls = &store_haul;
	own->nodes = calloc(STORE_BATCH_MAX, sizeof *own->nodes);
	own->statuses = calloc(STORE_BATCH_MAX, sizeof *own->statuses);
	int error = own->nodes != NULL && own->statuses != NULL
			    ? haul_changes_new(&own->changes, 0, 0, 0)
			    : -ENOMEM;
	if (error == 0)
		error = haul_store_init(path, err);
	if (error == 0)
		error = haul_store_open(&own->store, path, &options, err);
	if (error == 0)
		error = haul_store_reader(own->store, 0, &own->reader);
	if (error < 0) {
		haul_close(&own->engine);
		return error;
	}
	*ret_engine = &own->engine;
	return 0;
}

static int haul_put(struct store_engine *engine, const uint64_t *ids, uint32_t count, bool bulk)
{
	struct haul_engine *own = (struct haul_engine *)engine;
	struct haul_commit commit;
	(void)bulk;
	haul_changes_clear(own->changes);
	int error = haul_changes_begin(own->changes);
	for (uint32_t i = 0; error >= 0 && i < count; i++)
		error = store_node_add(own->changes, ids[i]);
	if (error >= 0)
		error = haul_changes_end(own->changes);
	if (error >= 0)
		error = haul_store_commit(own->store, own->changes, NULL, &commit);
	return error < 0 ? error : commit.failed == 0 ? 0 : -EIO;
}

/* The load is at rest: no merge is left to do. */
static int haul_settle(struct store_engine *engine)
{
	struct haul_engine *own = (struct haul_engine *)engine;
	return haul_store_compact(own->store, NULL, NULL);
}

static int haul_get(struct store_engine *engine, const uint64_t *ids, uint32_t count,
		    uint64_t *ret_sum)
{
	struct haul_engine *own = (struct haul_engine *)engine;
	uint64_t sum = 0, word;
	for (uint32_t done = 0; done < count;) {
		int got = haul_reader_get(own->reader, ids + done, count - done, own->nodes,
					  own->statuses);
		if (got <= 0)
			return got < 0 ? got : -EIO;
		for (int i = 0; i < got; i++) {
			if (own->statuses[i] < 0)
				return own->statuses[i];
			memcpy(&word, own->nodes[i].properties.data + 12, sizeof word);
			sum += word;
		}
		done += (uint32_t)got;
	}
	*ret_sum = sum;
	return 0;
}

const struct store_engine_calls store_haul = {
	.name = "haul",
	.open = haul_open,
	.put = haul_put,
	.settle = haul_settle,
	.get = haul_get,
	.close = haul_close,
};

/* ---- all of them ---- */

extern const struct store_engine_calls store_rocksdb, store_lmdb, store_sqlite;

const struct store_engine_calls *const store_rivals[STORE_ENGINES] = {
	[STORE_HAUL] = &store_haul,
#ifdef HAUL_ROCKSDB
	[STORE_ROCKSDB] = &store_rocksdb,
#endif
#ifdef HAUL_LMDB
	[STORE_LMDB] = &store_lmdb,
#endif
	[STORE_SQLITE] = &store_sqlite,
};

static int engine_open(struct store_bench *bench, enum store_rival which, struct haul_err *err)
{
	char path[STORE_PATH];
	if (bench->engines[which] != NULL)
		return 0;
	if (store_rivals[which] == NULL)
		return haul_err_set(err, -ENOTSUP, "built without %s: install it and build again",
				    which == STORE_ROCKSDB ? "rocksdb" : "lmdb");
	store_path(bench, store_rivals[which]->name, path);
	return store_rivals[which]->open(&bench->engines[which], path, err);
}

static int put_for(struct store_bench *bench, enum store_rival which, uint32_t batch,
		   double seconds, double *ret_per_s)
{
	struct store_engine *engine = bench->engines[which];
	int64_t start_ns = store_now(bench), until_ns = start_ns + (int64_t)(seconds * 1e9), now_ns;
	uint64_t count = 0;
	int error;
	do {
		for (uint32_t i = 0; i < batch; i++)
			bench->ids[i] = store_id(bench->next_id++);
		error = engine->calls->put(engine, bench->ids, batch, false);
		count += batch;
		now_ns = store_now(bench);
	} while (error == 0 && now_ns < until_ns);
	*ret_per_s = (double)count / ((double)(now_ns - start_ns) * 1e-9);
	return error;
}

int store_rival_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		    struct bench_sample *ret_sample, struct haul_err *err)
{
	struct store_bench *bench = ctx;
	uint32_t batch = (uint32_t)self->parameter;
	double per_s[STORE_ENGINES] = { 0 };
	int error = store_bench_enter(bench, STORE_RIVALS, err);
	HAUL_ASSERT(batch >= 1 && batch <= STORE_BATCH_MAX);
	enum store_rival first = arm == BENCH_BATCHED ? STORE_HAUL : STORE_ROCKSDB;
	enum store_rival last = arm == BENCH_BATCHED ? STORE_HAUL : STORE_SQLITE;
	for (enum store_rival which = first; error == 0 && which <= last; which++) {
		error = engine_open(bench, which, err);
		if (error < 0)
			return error;
		error = put_for(bench, which, batch, seconds, &per_s[which]);
		if (error < 0)
			return haul_err_set(err, error, "%s: %s", store_rivals[which]->name,
					    haul_strerror(error));
		ret_sample->value =
			per_s[which] > ret_sample->value ? per_s[which] : ret_sample->value;
	}
	ret_sample->fill_mean = batch;
	if (error == 0 && arm == BENCH_INDIVIDUAL)
		snprintf(ret_sample->note, sizeof ret_sample->note,
			 "rocksdb %.0f, lmdb %.0f, sqlite %.0f a second", per_s[STORE_ROCKSDB],
			 per_s[STORE_LMDB], per_s[STORE_SQLITE]);
	return error;
}
