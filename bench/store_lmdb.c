/* LMDB: a transaction a batch, committed durable. */
#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store_work.h"

#define MAP_BYTES (UINT64_C(16) << 30)

struct lmdb {
	struct store_engine engine;
	MDB_env *env;
	MDB_dbi dbi;
};

static void lmdb_close(struct store_engine *engine)
{
	struct lmdb *own = (struct lmdb *)engine;
	if (own->env != NULL)
		mdb_env_close(own->env);
	free(own);
}

static int lmdb_error(int rc, struct haul_err *err)
{
	return rc == 0 ? 0 : haul_err_set(err, -EIO, "lmdb: %s", mdb_strerror(rc));
}

static int lmdb_open(struct store_engine **ret_engine, const char *path, struct haul_err *err)
{
	extern const struct store_engine_calls store_lmdb;
	MDB_txn *txn = NULL;
	struct lmdb *own = calloc(1, sizeof *own);
	if (own == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	own->engine.calls = &store_lmdb;
	int rc = mkdir(path, 0700) < 0 ? errno : mdb_env_create(&own->env);
	if (rc == 0)
		rc = mdb_env_set_mapsize(own->env, MAP_BYTES);
	if (rc == 0)
		rc = mdb_env_open(own->env, path, 0, 0600);
	if (rc == 0)
		rc = mdb_txn_begin(own->env, NULL, 0, &txn);
	if (rc == 0)
		rc = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &own->dbi);
	if (rc == 0)
		rc = mdb_txn_commit(txn);
	if (rc != 0) {
		lmdb_close(&own->engine);
		return lmdb_error(rc, err);
	}
	*ret_engine = &own->engine;
	return 0;
}

static int lmdb_put(struct store_engine *engine, const uint64_t *ids, uint32_t count, bool bulk)
{
	struct lmdb *own = (struct lmdb *)engine;
	uint8_t bytes[STORE_VALUE];
	MDB_txn *txn = NULL;
	int rc = mdb_txn_begin(own->env, NULL, bulk ? MDB_NOSYNC : 0, &txn);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		uint64_t id = ids[i];
		MDB_val key = { sizeof id, &id }, value = { sizeof bytes, bytes };
		store_value(id, bytes);
		rc = mdb_put(txn, own->dbi, &key, &value, MDB_NOOVERWRITE);
	}
	if (rc == 0)
		return lmdb_error(mdb_txn_commit(txn), NULL);
	mdb_txn_abort(txn);
	return lmdb_error(rc, NULL);
}

static int lmdb_settle(struct store_engine *engine)
{
	struct lmdb *own = (struct lmdb *)engine;
	return lmdb_error(mdb_env_sync(own->env, 1), NULL);
}

static int lmdb_get(struct store_engine *engine, const uint64_t *ids, uint32_t count,
		    uint64_t *ret_sum)
{
	struct lmdb *own = (struct lmdb *)engine;
	uint64_t sum = 0, word;
	MDB_txn *txn = NULL;
	int rc = mdb_txn_begin(own->env, NULL, MDB_RDONLY, &txn);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		uint64_t id = ids[i];
		MDB_val key = { sizeof id, &id }, value;
		rc = mdb_get(txn, own->dbi, &key, &value);
		if (rc == 0) {
			memcpy(&word, (uint8_t *)value.mv_data + STORE_VALUE - STORE_PAYLOAD,
			       sizeof word);
			sum += word;
		}
	}
	if (txn != NULL)
		mdb_txn_abort(txn);
	*ret_sum = sum;
	return lmdb_error(rc, NULL);
}

const struct store_engine_calls store_lmdb = {
	.name = "lmdb",
	.open = lmdb_open,
	.put = lmdb_put,
	.settle = lmdb_settle,
	.get = lmdb_get,
	.close = lmdb_close,
};
