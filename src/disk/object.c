#include "disk/object.h"

#include <assert.h>
#include <stdbool.h>

#include <haul/cache.h>
#include "base/assert.h"
#include "base/bytes.h"

/* Offsets in the head. */
enum {
	OBJECT_OFF_MAGIC = 0,
	OBJECT_OFF_SLICE_BYTES = 4,
	OBJECT_OFF_VERSION = 8,
	OBJECT_OFF_BYTES = 16,
	OBJECT_OFF_SLICES = 24,
	OBJECT_OFF_FLAGS = 28,
	OBJECT_OFF_RESERVED = 32, /* zero */
	OBJECT_MAGIC = 0x424f4348 /* "HCOB" */
};

static_assert(OBJECT_OFF_RESERVED + 8 == OBJECT_HEAD_BYTES, "the head is filled");

static bool head_good(const struct object_head *head)
{
	if (head->slice_bytes < 1 || head->slice_bytes > HAUL_CACHE_SLICE_MAX || head->bytes < 1 ||
	    head->bytes > HAUL_CACHE_OBJECT_MAX)
		return false;
	return head->slices == (head->bytes + head->slice_bytes - 1) / head->slice_bytes;
}

void object_head_encode(const struct object_head *head, uint8_t out[OBJECT_HEAD_BYTES])
{
	HAUL_ASSERT(head_good(head));
	le32_store(out + OBJECT_OFF_MAGIC, OBJECT_MAGIC);
	le32_store(out + OBJECT_OFF_SLICE_BYTES, head->slice_bytes);
	le64_store(out + OBJECT_OFF_VERSION, head->version);
	le64_store(out + OBJECT_OFF_BYTES, head->bytes);
	le32_store(out + OBJECT_OFF_SLICES, head->slices);
	le32_store(out + OBJECT_OFF_FLAGS, head->flags);
	le64_store(out + OBJECT_OFF_RESERVED, 0);
}

int object_head_decode(const uint8_t *in, uint32_t bytes, struct object_head *ret_head)
{
	if (bytes != OBJECT_HEAD_BYTES || le32_load(in + OBJECT_OFF_MAGIC) != OBJECT_MAGIC ||
	    le64_load(in + OBJECT_OFF_RESERVED) != 0)
		return HAUL_ECORRUPT;
	const struct object_head head = {
		.version = le64_load(in + OBJECT_OFF_VERSION),
		.bytes = le64_load(in + OBJECT_OFF_BYTES),
		.slice_bytes = le32_load(in + OBJECT_OFF_SLICE_BYTES),
		.slices = le32_load(in + OBJECT_OFF_SLICES),
		.flags = le32_load(in + OBJECT_OFF_FLAGS),
	};
	if (!head_good(&head))
		return HAUL_ECORRUPT;
	*ret_head = head;
	return 0;
}

void object_slice_key(const struct cache_key *key, const struct object_head *head, uint32_t slice,
		      uint64_t secret, struct cache_key *ret_key)
{
	HAUL_ASSERT(key->slice == 0);
	HAUL_ASSERT(slice >= 1 && slice <= head->slices);
	const struct cache_key part = {
		.data = key->data,
		.bytes = key->bytes,
		.slice = slice,
		.version = head->version,
	};

	*ret_key = part;
	cache_key_hash(ret_key, secret);
}
