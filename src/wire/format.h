/* wire/format.h — the bytes on the wire. Normative: code follows this file.
 *
 * All integers are big-endian. A message is a header, a body by type, and when SEALED a trailer.
 *
 *   header, 32 bytes                        heartbeat body, 16 bytes
 *    0  u8  version = 1                      0  u32 id
 *    1  u8  type                             4  u8  hops
 *    2  u8  flags                            5  u8  reserved, zero
 *    3  u8  ttl, >= 1                        6  u16 period_ms
 *    4  u16 length: header + body + trailer  8  u64 time_ns
 *    6  u8  csum_start
 *    7  u8  csum_offset (0: complete)       reply body, 28 bytes
 *    8  u64 sequence                         0      heartbeat body
 *   16  mac origin                          16  u32 hold_us
 *   22  mac destination                     20  mac client
 *   28  u32 key_id (0: not sealed)          26  u16 reserved, zero
 *
 *   flags: 1 SEALED (any type), 2 DOWN (aggregate), 4 ATTACHED (reply); the rest are zero.
 *   data up, data down: the body is one Ethernet frame of at least 14 bytes.
 *   aggregate: the body is one or more entries, back to back:
 *    0  u16 length of the frame, >= 14
 *    2  u8  csum_start
 *    3  u8  csum_offset (0: complete)
 *    4      the frame
 *
 * sequence doubles as the 64-bit counter of the AEAD nonce: its high half is the boot time in
 * seconds, its low half counts messages, so it never repeats for one origin while clocks go on.
 * The trailer is a 16-byte authentication tag; this version rejects SEALED (HAUL_ETYPE), a later
 * one turns it on without moving a byte.
 *
 * A message is rejected, with the reason counted, when it is shorter than its header or its length
 * (ESHORT), longer than its length (ELONG), of another version (EVERSION), of an unknown type, with
 * a flag that is unknown or not its type's (ETYPE), has ttl 0 (ETTL), or contradicts itself
 * (ECORRUPT): a body size that is not its type's, a reserved byte that is not zero, a csum_start
 * without csum_offset, a checksum field outside the frame or in a header that has no frame behind
 * it, an entry that does not fit, a key without SEALED, a broadcast origin, bytes in two pieces
 * (no link receives such). When several hold the first of this order is told: pieces, ESHORT of
 * the header, EVERSION, ETYPE, ESHORT, ELONG, ETTL, ECORRUPT.
 *
 * To add a message: a type in haul/message.h, its layout here with asserts, one row in the table
 * of src/wire/decode.c, a corpus file in fuzz/. */
#pragma once

#include <assert.h>

enum {
	WIRE_VERSION = 1,

	WIRE_OFF_VERSION = 0,
	WIRE_OFF_TYPE = 1,
	WIRE_OFF_FLAGS = 2,
	WIRE_OFF_TTL = 3,
	WIRE_OFF_LENGTH = 4,
	WIRE_OFF_CSUM_START = 6,
	WIRE_OFF_CSUM_OFFSET = 7,
	WIRE_OFF_SEQUENCE = 8,
	WIRE_OFF_ORIGIN = 16,
	WIRE_OFF_DESTINATION = 22,
	WIRE_OFF_KEY_ID = 28,
	WIRE_HEADER_BYTES = 32,

	WIRE_HEARTBEAT_OFF_ID = 0,
	WIRE_HEARTBEAT_OFF_HOPS = 4,
	WIRE_HEARTBEAT_OFF_RESERVED = 5,
	WIRE_HEARTBEAT_OFF_PERIOD = 6,
	WIRE_HEARTBEAT_OFF_TIME = 8,
	WIRE_HEARTBEAT_BYTES = 16,

	WIRE_REPLY_OFF_HOLD = 16,
	WIRE_REPLY_OFF_CLIENT = 20,
	WIRE_REPLY_OFF_RESERVED = 26,
	WIRE_REPLY_BYTES = 28,

	WIRE_ENTRY_OFF_LENGTH = 0,
	WIRE_ENTRY_OFF_CSUM_START = 2,
	WIRE_ENTRY_OFF_CSUM_OFFSET = 3,
	WIRE_ENTRY_BYTES = 4,

	WIRE_FRAME_BYTES_MIN = 14,
	WIRE_TAG_BYTES = 16
};

/* A field begins where the one before it ends, and every layout ends at its stated size. */
#define WIRE_FOLLOWS(field, before, bytes)                                                         \
	static_assert((field) == (before) + (bytes), #field " has a gap or an overlap before it")

static_assert(WIRE_OFF_VERSION == 0, "the version is the first byte, of every version");
WIRE_FOLLOWS(WIRE_OFF_TYPE, WIRE_OFF_VERSION, 1);
WIRE_FOLLOWS(WIRE_OFF_FLAGS, WIRE_OFF_TYPE, 1);
WIRE_FOLLOWS(WIRE_OFF_TTL, WIRE_OFF_FLAGS, 1);
WIRE_FOLLOWS(WIRE_OFF_LENGTH, WIRE_OFF_TTL, 1);
WIRE_FOLLOWS(WIRE_OFF_CSUM_START, WIRE_OFF_LENGTH, 2);
WIRE_FOLLOWS(WIRE_OFF_CSUM_OFFSET, WIRE_OFF_CSUM_START, 1);
WIRE_FOLLOWS(WIRE_OFF_SEQUENCE, WIRE_OFF_CSUM_OFFSET, 1);
WIRE_FOLLOWS(WIRE_OFF_ORIGIN, WIRE_OFF_SEQUENCE, 8);
WIRE_FOLLOWS(WIRE_OFF_DESTINATION, WIRE_OFF_ORIGIN, 6);
WIRE_FOLLOWS(WIRE_OFF_KEY_ID, WIRE_OFF_DESTINATION, 6);
WIRE_FOLLOWS(WIRE_HEADER_BYTES, WIRE_OFF_KEY_ID, 4);

static_assert(WIRE_HEARTBEAT_OFF_ID == 0, "a body begins with its first field");
WIRE_FOLLOWS(WIRE_HEARTBEAT_OFF_HOPS, WIRE_HEARTBEAT_OFF_ID, 4);
WIRE_FOLLOWS(WIRE_HEARTBEAT_OFF_RESERVED, WIRE_HEARTBEAT_OFF_HOPS, 1);
WIRE_FOLLOWS(WIRE_HEARTBEAT_OFF_PERIOD, WIRE_HEARTBEAT_OFF_RESERVED, 1);
WIRE_FOLLOWS(WIRE_HEARTBEAT_OFF_TIME, WIRE_HEARTBEAT_OFF_PERIOD, 2);
WIRE_FOLLOWS(WIRE_HEARTBEAT_BYTES, WIRE_HEARTBEAT_OFF_TIME, 8);

WIRE_FOLLOWS(WIRE_REPLY_OFF_HOLD, WIRE_HEARTBEAT_BYTES, 0);
WIRE_FOLLOWS(WIRE_REPLY_OFF_CLIENT, WIRE_REPLY_OFF_HOLD, 4);
WIRE_FOLLOWS(WIRE_REPLY_OFF_RESERVED, WIRE_REPLY_OFF_CLIENT, 6);
WIRE_FOLLOWS(WIRE_REPLY_BYTES, WIRE_REPLY_OFF_RESERVED, 2);

static_assert(WIRE_ENTRY_OFF_LENGTH == 0, "an entry begins with its length");
WIRE_FOLLOWS(WIRE_ENTRY_OFF_CSUM_START, WIRE_ENTRY_OFF_LENGTH, 2);
WIRE_FOLLOWS(WIRE_ENTRY_OFF_CSUM_OFFSET, WIRE_ENTRY_OFF_CSUM_START, 1);
WIRE_FOLLOWS(WIRE_ENTRY_BYTES, WIRE_ENTRY_OFF_CSUM_OFFSET, 1);
