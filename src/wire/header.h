/* wire/header.h — a message header as four big-endian words.
 *
 * Model      32 bytes are moved by four loads or stores and taken apart with shifts. The shifts
 *            follow from the offsets of wire/format.h, so that the layout is stated once.
 * Threads    pure. */
#pragma once

#include <stdint.h>

#include <haul/message.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "wire/format.h"

/* How far a field of so many bytes at this offset stands from the low end of its 8-byte word. */
#define WIRE_SHIFT(offset, bytes) (64 - 8 * ((offset) % 8 + (bytes)))
/* A value put in its place in its word; value must fit the field. */
#define WIRE_PLACE(value, offset, bytes) ((uint64_t)(value) << WIRE_SHIFT(offset, bytes))

static_assert((int)HAUL_MESSAGE_HEADER_BYTES == WIRE_HEADER_BYTES, "public and wire header differ");
static_assert((int)HAUL_MESSAGE_TAG_BYTES == WIRE_TAG_BYTES, "public and wire tag differ");
static_assert((int)HAUL_AGGREGATE_ENTRY_BYTES == WIRE_ENTRY_BYTES, "public and wire entry differ");
static_assert(HAUL_MESSAGE_BYTES_MAX <= UINT16_MAX, "length is a u16");
static_assert((int)HAUL_FRAME_HEADROOM_BYTES >= WIRE_HEADER_BYTES, "headroom must hold a header");
static_assert(WIRE_OFF_SEQUENCE == 8 && WIRE_OFF_ORIGIN == 16, "words 1 and 2 begin there");
static_assert(WIRE_OFF_DESTINATION == 22 && WIRE_OFF_KEY_ID == 28, "destination spans words 2, 3");

enum {
	WIRE_CSUM_MAX = UINT8_MAX, /* largest csum_start and csum_offset a header can tell */
	WIRE_CSUM_FIELD_BYTES = 2
};

struct wire_header {
	uint64_t word[4];
};

static inline struct wire_header wire_header_load(const uint8_t *p)
{
	return (struct wire_header){ { be64_load(p), be64_load(p + 8), be64_load(p + 16),
				       be64_load(p + 24) } };
}

static inline void wire_header_store(uint8_t *p, const struct wire_header *header)
{
	be64_store(p, header->word[0]);
	be64_store(p + 8, header->word[1]);
	be64_store(p + 16, header->word[2]);
	be64_store(p + 24, header->word[3]);
}

/* length counts header and body. csum_* of the public header are left out: prepend has its own. */
static inline struct wire_header wire_header_pack(const struct haul_message_header *header,
						  uint32_t length)
{
	HAUL_ASSERT(length >= WIRE_HEADER_BYTES && length <= HAUL_MESSAGE_BYTES_MAX);
	HAUL_ASSERT(header->ttl >= 1);
	HAUL_ASSERT((header->flags & HAUL_MESSAGE_SEALED) == 0 && header->key_id == 0);
	HAUL_ASSERT(header->origin < HAUL_NODE_BROADCAST);
	HAUL_ASSERT(header->destination <= HAUL_NODE_BROADCAST);
	return (struct wire_header){ {
		WIRE_PLACE(WIRE_VERSION, WIRE_OFF_VERSION, 1) |
			WIRE_PLACE(header->type, WIRE_OFF_TYPE, 1) |
			WIRE_PLACE(header->flags, WIRE_OFF_FLAGS, 1) |
			WIRE_PLACE(header->ttl, WIRE_OFF_TTL, 1) |
			WIRE_PLACE(length, WIRE_OFF_LENGTH, 2),
		header->sequence,
		header->origin << 16 | header->destination >> 32,
		header->destination << 32 | header->key_id,
	} };
}

/* The two checksum fields of word 0. */
static inline uint64_t wire_csum_pack(uint32_t start, uint32_t offset)
{
	HAUL_ASSERT(start <= WIRE_CSUM_MAX);
	HAUL_ASSERT(offset <= WIRE_CSUM_MAX);
	return WIRE_PLACE(start, WIRE_OFF_CSUM_START, 1) |
	       WIRE_PLACE(offset, WIRE_OFF_CSUM_OFFSET, 1);
}
