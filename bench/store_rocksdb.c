/* RocksDB: a WriteBatch with sync, everything else as it comes. */
#include <errno.h>
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "store_work.h"

struct rocks {
	struct store_engine engine;
	rocksdb_t *db;
	rocksdb_options_t *options;
	rocksdb_writeoptions_t *durable, *loose;
	rocksdb_readoptions_t *read;
	rocksdb_writebatch_t *batch;
};

static void rocks_close(struct store_engine *engine)
{
	struct rocks *own = (struct rocks *)engine;
	if (own->db != NULL)
		rocksdb_close(own->db);
	rocksdb_writebatch_destroy(own->batch);
	rocksdb_readoptions_destroy(own->read);
	rocksdb_writeoptions_destroy(own->durable);
	rocksdb_writeoptions_destroy(own->loose);
	rocksdb_options_destroy(own->options);
	free(own);
}

/* The text is the library's to free. */
static int rocks_error(char *text, struct haul_err *err)
{
	if (text == NULL)
		return 0;
	haul_err_set(err, -EIO, "rocksdb: %s", text);
	free(text);
	return -EIO;
}

static int rocks_open(struct store_engine **ret_engine, const char *path, struct haul_err *err)
{
	extern const struct store_engine_calls store_rocksdb;
	char *text = NULL;
	struct rocks *own = calloc(1, sizeof *own);
	if (own == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	own->engine.calls = &store_rocksdb;
	own->options = rocksdb_options_create();
	own->durable = rocksdb_writeoptions_create();
	own->loose = rocksdb_writeoptions_create();
	own->read = rocksdb_readoptions_create();
	own->batch = rocksdb_writebatch_create();
	rocksdb_options_set_create_if_missing(own->options, 1);
	rocksdb_writeoptions_set_sync(own->durable, 1);
	own->db = rocksdb_open(own->options, path, &text);
	if (text != NULL) {
		own->db = NULL;
		int error = rocks_error(text, err);
		rocks_close(&own->engine);
		return error;
	}
	*ret_engine = &own->engine;
	return 0;
}

static int rocks_put(struct store_engine *engine, const uint64_t *ids, uint32_t count, bool bulk)
{
	struct rocks *own = (struct rocks *)engine;
	uint8_t key[8], value[STORE_VALUE];
	char *text = NULL;
	rocksdb_writebatch_clear(own->batch);
	for (uint32_t i = 0; i < count; i++) {
		be64_store(key, ids[i]);
		store_value(ids[i], value);
		rocksdb_writebatch_put(own->batch, (const char *)key, sizeof key,
				       (const char *)value, sizeof value);
	}
	rocksdb_write(own->db, bulk ? own->loose : own->durable, own->batch, &text);
	return rocks_error(text, NULL);
}

static int rocks_settle(struct store_engine *engine)
{
	struct rocks *own = (struct rocks *)engine;
	rocksdb_compact_range(own->db, NULL, 0, NULL, 0);
	return 0;
}

static int rocks_get(struct store_engine *engine, const uint64_t *ids, uint32_t count,
		     uint64_t *ret_sum)
{
	struct rocks *own = (struct rocks *)engine;
	uint64_t sum = 0, word;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t key[8];
		char *text = NULL;
		size_t bytes = 0;
		be64_store(key, ids[i]);
		char *value = rocksdb_get(own->db, own->read, (const char *)key, sizeof key, &bytes,
					  &text);
		if (text != NULL || value == NULL || bytes != STORE_VALUE) {
			free(text);
			free(value);
			return -EIO;
		}
		memcpy(&word, value + STORE_VALUE - STORE_PAYLOAD, sizeof word);
		sum += word;
		free(value);
	}
	*ret_sum = sum;
	return 0;
}

const struct store_engine_calls store_rocksdb = {
	.name = "rocksdb",
	.open = rocks_open,
	.put = rocks_put,
	.settle = rocks_settle,
	.get = rocks_get,
	.close = rocks_close,
};
