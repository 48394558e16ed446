/* What is broken is dropped: by a tombstone, as every other delete. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "disk/check.h"

enum { BAD_ROOM = 64, KEY_ROOM = 4096 };

int check_bad_alloc(struct check *check, const struct format_row *row, const uint8_t *key)
{
	const uint32_t key_bytes = key != NULL ? row->key_bytes : 0;

	if (!check->options->repair)
		return 0;
	if (check->bad_count == check->bad_room) {
		const uint64_t room = check->bad_room > 0 ? check->bad_room * 2 : BAD_ROOM;
		struct check_bad *bad = realloc(check->bad, room * sizeof *bad);
		if (bad == NULL)
			return -ENOMEM;
		check->bad = bad;
		check->bad_room = room;
	}
	if (check->key_room - check->key_bytes < key_bytes) {
		const uint64_t room = check->key_room * 2 + KEY_ROOM;
		uint8_t *keys = realloc(check->keys, room);
		if (keys == NULL)
			return -ENOMEM;
		check->keys = keys;
		check->key_room = room;
	}
	if (key_bytes > 0)
		memcpy(check->keys + check->key_bytes, key, key_bytes);
	check->bad[check->bad_count++] = (struct check_bad){
		.hash = row->hash,
		.slice = row->slice,
		.key_bytes = key_bytes,
		.key_at = check->key_bytes,
	};
	check->key_bytes += key_bytes;
	return 0;
}

struct repair_wait {
	struct shard_wait wait;
	bool told;
	int result;
};

static void repair_told(struct shard_wait *wait, int result)
{
	struct repair_wait *told = wait->owner;
	told->told = true;
	told->result = result;
}

/* All before is durable. */
static int repair_flush(struct check *check)
{
	struct repair_wait flushed = { .wait = { .done = repair_told } };

	flushed.wait.owner = &flushed;
	shard_flush(check->shard, &flushed.wait);
	shard_drive(check->shard, &flushed.told);
	return flushed.told ? flushed.result : -ENODEV;
}

static int repair_delete(struct check *check, const struct check_bad *bad)
{
	/* A tombstone deletes by hash: where the key is not known, any will do. */
	static const uint8_t unknown[1] = { '?' };
	struct cache_key key = { .data = unknown, .bytes = 1, .hash = bad->hash };

	if (bad->key_bytes > 0 && cache_key_load(check->keys + bad->key_at, bad->key_bytes,
						 bad->slice, check->super->secret, &key) < 0)
		return HAUL_ECORRUPT;
	HAUL_ASSERT(key.hash == bad->hash);
	int rc = shard_delete(check->shard, &key, NULL);
	if (rc == -EAGAIN) {
		/* Buffers are full: what is in them goes first. */
		rc = repair_flush(check);
		if (rc == 0)
			rc = shard_delete(check->shard, &key, NULL);
	}
	return rc == -ENOENT ? 0 : rc;
}

int check_repair(struct check *check)
{
	int rc = 0;

	for (uint64_t i = 0; i < check->bad_count && rc == 0; i++)
		rc = repair_delete(check, &check->bad[i]);
	if (rc == 0 && check->bad_count > 0)
		rc = repair_flush(check);
	if (rc == 0)
		check->result.repaired += check->bad_count;
	check->bad_count = 0;
	check->key_bytes = 0;
	return rc;
}
