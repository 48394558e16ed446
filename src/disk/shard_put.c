/* disk/shard_put.c: what comes in: stores, deletes, flushes, purges. */
#include <errno.h>
#include <string.h>

#include <haul/cache.h>
#include "base/assert.h"
#include "disk/shard_parts.h"

enum {
	AHEAD_MAX =
		16384, /* a value of so many bytes stays in the CPU's cache until it is copied */
	CONDITIONS = HAUL_CACHE_ADD | HAUL_CACHE_REPLACE | HAUL_CACHE_COMPARE,
};

/* ---- index and segments together ---- */

void shard_let_go(struct shard *shard, const struct index_slot *slot)
{
	struct index_entry entry;
	index_unpack(slot, &entry);
	reclaim_gone(shard, slot);
	ram_delete(&shard->ram, entry.hash);
	segment_live(shard, entry.segment, -1, -(int64_t)entry.bytes);
}

void shard_forget(struct shard *shard, struct index_slot *slot)
{
	HAUL_ASSERT(slot != NULL);
	shard_let_go(shard, slot);
	index_delete(&shard->index, slot);
}

void shard_repoint(struct shard *shard, struct index_slot *slot, uint32_t segment, uint32_t unit)
{
	struct index_entry entry;
	index_unpack(slot, &entry);
	segment_live(shard, entry.segment, -1, -(int64_t)entry.bytes);
	entry.segment = segment;
	entry.unit = unit;
	int error = index_put_at(&shard->index, slot, &entry);
	HAUL_ASSERT(error == 0); /* it replaces */
	segment_live(shard, segment, 1, entry.bytes);
}

int shard_enter(struct shard *shard, const struct format_row *row, uint32_t segment, uint8_t freq)
{
	uint8_t codec = row->flags >> ROW_CODEC_SHIFT & 3;
	struct index_entry entry = {
		.hash = row->hash,
		.segment = segment,
		.unit = row->unit,
		.bytes = row->bytes,
		.expiry = row->expiry,
		.check = (uint32_t)row->checksum,
		.freq = freq,
		.codec = row->flags & ROW_HEAD ? INDEX_HEAD : codec,
		.has_flags = row->flags & ROW_FLAGS,
	};
	HAUL_ASSERT(!(row->flags & ROW_TOMBSTONE));
	struct index_slot *slot = index_place(&shard->index, row->hash);
	if (slot->hash)
		shard_let_go(shard, slot);
	int error = index_put_at(&shard->index, slot, &entry);
	if (error)
		return error;
	segment_live(shard, segment, 1, row->bytes);
	reclaim_used(shard, slot);
	return 0;
}

static bool expired(const struct index_entry *entry, uint32_t now_s)
{
	return entry->expiry != 0 && entry->expiry <= now_s;
}

uint64_t shard_version(const struct shard *shard, const struct cache_key *key)
{
	struct index_entry entry;
	const struct index_slot *slot = index_find(&shard->index, key->hash);
	if (!slot)
		return 0;
	index_unpack(slot, &entry);
	return expired(&entry, shard_now_s(shard))
		       ? 0
		       : shard_version_at(shard, entry.segment, entry.unit);
}

bool shard_is_head(const struct shard *shard, const struct cache_key *key)
{
	struct index_entry entry;
	if (shard->index.heads == 0)
		return false;
	const struct index_slot *slot = index_find(&shard->index, key->hash);
	if (!slot)
		return false;
	index_unpack(slot, &entry);
	return entry.codec == INDEX_HEAD && !expired(&entry, shard_now_s(shard));
}

/* ---- gathering ---- */

static void gather_wait(struct gathering *gathering, struct shard_wait *wait)
{
	wait->next = NULL;
	wait->all = false;
	wait->success = 0;
	if (gathering->waits)
		gathering->waits_last->next = wait;
	else
		gathering->waits = wait;
	gathering->waits_last = wait;
}

static void gather(struct shard *shard, uint32_t bytes, struct shard_wait *wait)
{
	struct gathering *gathering = &shard->gathering;
	gathering->ops++;
	gathering->bytes += bytes;
	if (wait)
		gather_wait(gathering, wait);
	else
		gathering->buffered++;
}

/* Whether one more may join; a batch that is full goes first, if it can. */
static int gather_fits(struct shard *shard, uint32_t bytes)
{
	struct gathering *gathering = &shard->gathering;
	if (haul_limits_fit(&shard->limits, gathering->ops, gathering->bytes, bytes))
		return 0;
	enum haul_close reason =
		gathering->ops >= shard->limits.ops_max ? HAUL_CLOSE_OPS : HAUL_CLOSE_BYTES;
	if (flush_begin(shard, reason))
		return 0;
	/* Two are on their way. Batches may grow meanwhile, as far as buffers go. */
	return shard->options.fixed ? -EAGAIN : 0;
}

static int refuse(struct shard *shard, int error)
{
	if (error == -EAGAIN)
		haul_stats_count(&shard->flush_stats, FLUSH_PRESSED, 1);
	else
		shard->stat.refused++;
	return error;
}

static int writable(const struct shard *shard)
{
	if (shard->options.read_only)
		return -EROFS;
	return shard->offline ? -ENODEV : 0;
}

/* ---- stores ---- */

static int put_condition(const struct shard *shard, const struct shard_put *put,
			 const struct index_slot *slot)
{
	struct index_entry entry;
	if (!(put->how & CONDITIONS))
		return 0;
	bool there = false;
	if (slot) {
		index_unpack(slot, &entry);
		there = !expired(&entry, shard_now_s(shard));
	}
	if (put->how & HAUL_CACHE_ADD)
		return there ? -EEXIST : 0;
	if (!there)
		return -ENOENT;
	if ((put->how & HAUL_CACHE_COMPARE) &&
	    shard_version_at(shard, entry.segment, entry.unit) != put->version)
		return HAUL_ESTALE;
	return 0;
}

/* The row, and what is stored of the value. */
static void put_row(struct shard *shard, const struct shard_put *put, bool supersedes,
		    struct append *append)
{
	const uint8_t *stored = put->value;
	uint32_t bytes = put->bytes;
	uint32_t flags = 0;
	if (supersedes)
		flags |= ROW_SUPERSEDES;
	if (put->how & HAUL_CACHE_PINNED)
		flags |= ROW_PINNED;
	if (put->head)
		flags |= ROW_HEAD;
	else if (shard->codec.codec != INDEX_RAW)
		flags |=
			(uint32_t)codec_pack(&shard->codec, put->value, put->bytes, &stored, &bytes)
			<< ROW_CODEC_SHIFT;
	if (put->flags != 0) {
		flags |= ROW_FLAGS;
		bytes += 4;
	}
	*append = (struct append){
		.row = { .hash = put->key.hash,
			 .bytes = bytes,
			 .expiry = put->expiry,
			 .flags = (uint8_t)flags,
			 .slice = put->key.slice },
		.key = &put->key,
		.stored = stored,
		.client_flags = put->flags,
	};
}

/* The checksum of a value that is stored as it is. It is taken while what the tables say of the key
 * comes from memory, which takes about as long. */
static bool put_check(struct shard *shard, const struct shard_put *put, uint64_t *ret_checksum)
{
	ghost_prefetch(&shard->ghost, put->key.hash);
	index_prefetch(&shard->index, put->key.hash);
	if (put->bytes > AHEAD_MAX || put->flags != 0 || (put->how & CONDITIONS) ||
	    (!put->head && shard->codec.codec != INDEX_RAW))
		return false;
	*ret_checksum = cache_key_checksum(&put->key, put->value, put->bytes);
	return true;
}

/* It is gone before it comes: only what was there before has to go. */
static int put_expired(struct shard *shard, const struct shard_put *put)
{
	int error = shard_delete(shard, &put->key, put->wait);
	if (error == -ENOENT && put->wait)
		gather_wait(&shard->gathering, put->wait);
	else if (!error && put->wait)
		put->wait->success = 0; /* nothing there is no failure of a store */
	if (error && error != -ENOENT)
		return error;
	shard->stat.stores++;
	return 0;
}

int shard_put(struct shard *shard, const struct shard_put *put)
{
	uint32_t key_bytes = put->key.bytes;
	int error = writable(shard);
	if (error)
		return error;
	if (key_bytes < 1 || key_bytes > HAUL_CACHE_KEY_MAX || put->bytes > HAUL_CACHE_SLICE_MAX)
		return refuse(shard, HAUL_ELIMIT);
	uint64_t checksum = 0;
	bool checked = put_check(shard, put, &checksum);
	const struct index_slot *slot = index_find(&shard->index, put->key.hash);
	error = put_condition(shard, put, slot);
	if (error)
		return error;
	/* With no free slot something has to leave before something new comes. */
	if (!slot && shard->index.count >= shard->index.entries_max) {
		shard->gathering.pressed = true;
		return refuse(shard, -EAGAIN);
	}
	if (put->expiry != 0 && put->expiry <= shard_now_s(shard))
		return put_expired(shard, put);
	enum lane_id lane = reclaim_lane(shard, put);
	error = gather_fits(shard, put->bytes);
	if (!error)
		error = lane_ready(shard, lane, put->bytes + 4, cache_key_stored_bytes(&put->key),
				   false);
	if (error)
		return refuse(shard, error);

	struct append append;
	uint32_t segment;
	put_row(shard, put, slot || shard->hides, &append);
	append.row.checksum = checksum;
	append.checked = checked;
	error = reclaim_admit(shard, put, lane, append.row.bytes);
	if (error)
		return refuse(shard, error);
	error = lane_append(shard, lane, &append, &segment);
	if (error)
		return refuse(shard, error); /* compressed, it may need a place of its own */
	ram_delete(&shard->ram, put->key.hash);
	error = shard_enter(shard, &append.row, segment, 0);
	HAUL_ASSERT(error == 0);
	gather(shard, append.row.bytes, put->wait);
	shard->stat.stores++;
	return 0;
}

static int put_tombstone(struct shard *shard, const struct cache_key *key)
{
	struct append append = {
		.row = { .hash = key->hash,
			 .flags = ROW_TOMBSTONE | ROW_SUPERSEDES,
			 .slice = key->slice },
		.key = key,
	};
	uint32_t segment;
	int error = gather_fits(shard, 0);
	if (!error)
		error = lane_append(shard, LANE_NEW, &append, &segment);
	return error ? refuse(shard, error) : 0;
}

int shard_delete(struct shard *shard, const struct cache_key *key, struct shard_wait *wait)
{
	int error = writable(shard);
	if (error)
		return error;
	if (key->bytes < 1 || key->bytes > HAUL_CACHE_KEY_MAX)
		return -ENOENT;
	struct index_slot *slot = index_find(&shard->index, key->hash);
	struct index_entry entry = { 0 };
	if (slot)
		index_unpack(slot, &entry);
	bool there = slot && !expired(&entry, shard_now_s(shard));
	bool row = there || shard->hides; /* one may be on the disk */
	if (row) {
		error = put_tombstone(shard, key);
		if (error)
			return error;
		gather(shard, 0, wait);
		if (wait)
			wait->success = there ? 0 : -ENOENT;
	}
	slot = index_find(&shard->index, key->hash);
	if (slot)
		shard_forget(shard, slot);
	shard->stat.deletes += there;
	return there || (row && wait) ? 0 : -ENOENT;
}

void shard_flush(struct shard *shard, struct shard_wait *wait)
{
	struct gathering *gathering = &shard->gathering;
	gathering->manual = true;
	if (!wait)
		return;
	gathering->flushed = true;
	gather_wait(gathering, wait);
	wait->all = true;
}

static bool everything(const struct index_slot *slot, void *arg)
{
	shard_let_go(arg, slot);
	return true;
}

int shard_purge(struct shard *shard, struct shard_wait *wait)
{
	int error = writable(shard);
	if (error)
		return error;
	shard->root.purged_seq = shard->next_seq - 1;
	root_change(shard);
	index_delete_if(&shard->index, everything, shard);
	ram_clear(&shard->ram);
	HAUL_ASSERT(shard->index.count == 0);
	shard_flush(shard, wait);
	return 0;
}

bool shard_room(const struct shard *shard)
{
	return shard->chunk_free_count > 0 && shard->free_count > FREE_MIN &&
	       (!shard->options.fixed ||
		haul_limits_fit(&shard->limits, shard->gathering.ops, shard->gathering.bytes, 0));
}

bool shard_offline(const struct shard *shard)
{
	return shard->offline;
}
