#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "disk/lookup_state.h"

static uint32_t *users_of(struct lookups *lookups, const uint8_t *buffer)
{
	uint64_t at = (uint64_t)(buffer - lookups->shard->buffers.arena);
	HAUL_ASSERT(at < lookups->shard->buffers.bytes && at % BUDDY_MIN == 0);
	return &lookups->users[at / BUDDY_MIN];
}

uint8_t *buffer_take(struct lookups *lookups, uint64_t bytes)
{
	uint8_t *buffer = buddy_get(&lookups->shard->buffers, bytes);
	if (buffer == NULL)
		return NULL;
	uint32_t *users = users_of(lookups, buffer);
	HAUL_ASSERT(*users == 0);
	*users = 1;
	return buffer;
}

void buffer_share(struct lookups *lookups, const uint8_t *buffer)
{
	uint32_t *users = users_of(lookups, buffer);
	HAUL_ASSERT(*users > 0);
	++*users;
}

void buffer_release(struct lookups *lookups, uint8_t *buffer)
{
	uint32_t *users = users_of(lookups, buffer);
	HAUL_ASSERT(*users > 0);
	if (--*users == 0)
		buddy_put(&lookups->shard->buffers, buffer);
}

/* A fresh buffer for small values, or the old one from its start if nobody uses it any more. */
static bool pack_renew(struct lookups *lookups)
{
	if (lookups->pack != NULL && *users_of(lookups, lookups->pack) == 1) {
		lookups->pack_used = 0;
		return true;
	}
	uint8_t *pack = buffer_take(lookups, PACK_BYTES);
	if (pack == NULL)
		return false;
	if (lookups->pack != NULL)
		buffer_release(lookups, lookups->pack);
	lookups->pack = pack;
	lookups->pack_used = 0;
	return true;
}

uint8_t *buffer_place(struct lookups *lookups, uint32_t bytes, uint8_t **ret_buffer)
{
	uint32_t rounded = (bytes + FORMAT_UNIT - 1) / FORMAT_UNIT * FORMAT_UNIT;
	if (rounded > PACK_BYTES / 4) {
		*ret_buffer = buffer_take(lookups, bytes);
		return *ret_buffer;
	}
	if (lookups->pack == NULL || PACK_BYTES - lookups->pack_used < rounded) {
		if (!pack_renew(lookups))
			return NULL;
	}
	uint8_t *data = lookups->pack + lookups->pack_used;
	lookups->pack_used += rounded;
	buffer_share(lookups, lookups->pack);
	*ret_buffer = lookups->pack;
	return data;
}

static int value_unpack(struct lookups *lookups, const struct index_entry *entry,
			const uint8_t *stored, uint32_t bytes, struct shard_value *ret_value)
{
	uint32_t whole = codec_bytes(stored, bytes);
	if (whole == 0 || whole > HAUL_CACHE_SLICE_MAX)
		return HAUL_ECORRUPT;
	uint8_t *buffer;
	uint8_t *data = buffer_place(lookups, whole, &buffer);
	if (data == NULL)
		return -EAGAIN;
	int rc = codec_unpack(&lookups->shard->codec, entry->codec, stored, bytes, data);
	if (rc < 0) {
		buffer_release(lookups, buffer);
		return HAUL_ECORRUPT;
	}
	ret_value->data = data;
	ret_value->bytes = whole;
	ret_value->buffer = buffer;
	return 0;
}

static int value_copy(struct lookups *lookups, const uint8_t *stored, uint32_t bytes,
		      struct shard_value *ret_value)
{
	uint8_t *buffer;
	uint8_t *data = buffer_place(lookups, bytes, &buffer);
	if (data == NULL)
		return -EAGAIN;
	if (bytes > 0)
		memcpy(data, stored, bytes);
	ret_value->data = data;
	ret_value->bytes = bytes;
	ret_value->buffer = buffer;
	return 0;
}

int buffer_value(struct lookups *lookups, const struct index_entry *entry, const uint8_t *stored,
		 uint8_t *buffer, struct shard_value *ret_value)
{
	uint32_t bytes = entry->bytes, flags = 0;
	if (entry->has_flags) {
		if (bytes < sizeof flags)
			return HAUL_ECORRUPT;
		bytes -= (uint32_t)sizeof flags;
		flags = le32_load(stored + bytes);
	}
	ret_value->flags = flags;
	if (entry->codec == INDEX_LZ4 || entry->codec == INDEX_ZSTD)
		return value_unpack(lookups, entry, stored, bytes, ret_value);
	if (buffer == NULL)
		return value_copy(lookups, stored, bytes, ret_value);
	buffer_share(lookups, buffer);
	ret_value->data = stored;
	ret_value->bytes = bytes;
	ret_value->buffer = buffer;
	return 0;
}
