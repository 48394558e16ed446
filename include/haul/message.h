/* haul/message.h — overlay messages, decoded and encoded a batch at a time.
 *
 * Model      Every message starts with one 32-byte header (src/wire/format.h is normative).
 *            Decoding fills columns that point into the received frames; encoding writes a header
 *            into the headroom in front of a frame. Flat, in place, nothing is allocated or copied.
 *            Types: heartbeat, heartbeat reply, data up, data down, aggregate (many small frames
 *            with explicit lengths, one header).
 * Units      bytes; node ids are MAC addresses in the low 48 bits, first byte most significant.
 * Ownership  columns belong to struct haul_messages; bodies point into the frames decoded.
 * Memory     haul_messages_init only.
 * Threads    pure, or one thread at a time a struct.
 * Errors     status[i]: 0, HAUL_ESHORT, HAUL_ELONG, HAUL_EVERSION, HAUL_ETYPE, HAUL_ECORRUPT,
 *            HAUL_ETTL. A message with a status is never looked at further.
 * Limits     HAUL_MESSAGE_BYTES_MAX. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <haul/api.h>
#include <haul/frames.h>
#include <haul/stats.h>

enum {
	HAUL_MESSAGE_HEADER_BYTES = 32,
	HAUL_MESSAGE_TAG_BYTES = 16, /* trailer of a sealed message; room kept in every MTU */
	HAUL_MESSAGE_BYTES_MAX = 65507,
	HAUL_AGGREGATE_ENTRY_BYTES = 4 /* before each frame of an aggregate */
};

enum haul_message_type {
	HAUL_MESSAGE_HEARTBEAT = 1,
	HAUL_MESSAGE_REPLY = 2,
	HAUL_MESSAGE_DATA_UP = 3,
	HAUL_MESSAGE_DATA_DOWN = 4,
	HAUL_MESSAGE_AGGREGATE = 5
};

enum {
	HAUL_MESSAGE_SEALED = 1,  /* key_id names a key and a tag follows; not accepted yet */
	HAUL_MESSAGE_DOWN = 2,    /* aggregate: frames travel down (RSU to OBU), else up */
	HAUL_MESSAGE_ATTACHED = 4 /* reply: the RSU answered is the one its OBU has chosen */
};

#define HAUL_NODE_BROADCAST UINT64_C(0xffffffffffff)

struct haul_message_header {
	uint8_t type;
	uint8_t flags;
	uint8_t ttl;
	uint16_t csum_start;  /* data: see HAUL_FRAME_CSUM_PARTIAL; at most 255, else complete it */
	uint16_t csum_offset; /* 0 = the frame's checksums are complete */
	uint32_t key_id;      /* 0 = not sealed */
	uint64_t sequence;    /* rises with every message of origin: boot time in s << 32 | count */
	uint64_t origin;      /* node id that made it */
	uint64_t destination; /* node id that consumes it, or HAUL_NODE_BROADCAST */
};

struct haul_heartbeat {
	uint32_t id;        /* rises by one a heartbeat of its RSU */
	uint8_t hops;       /* radio hops behind it: 0 as the RSU sends it */
	uint16_t period_ms; /* the RSU's own period, so that a hearer knows when one is missing */
	uint64_t time_ns;   /* the RSU's clock when it was sent first */
};

struct haul_heartbeat_reply {
	struct haul_heartbeat heartbeat; /* of the heartbeat answered; hops counts the way back */
	uint32_t hold_us;                /* between hearing and answering */
	uint64_t client;                 /* MAC of the OBU's TAP */
};

/* Columns of a decoded batch; row i belongs to row i of the frames. */
struct haul_messages {
	uint32_t count;
	uint32_t capacity;
	int32_t *status;
	uint8_t *type;
	uint8_t *flags;
	uint8_t *ttl;
	uint8_t *csum_start;
	uint8_t *csum_offset;
	uint64_t *sequence;
	uint64_t *origin;
	uint64_t *destination;
	uint8_t **body;     /* after the header */
	uint32_t *body_len; /* without header and trailer */
};

HAUL_API int haul_messages_init(struct haul_messages *messages, uint32_t capacity);
HAUL_API void haul_messages_done(struct haul_messages *messages);

/* Why messages were rejected, as counters of a stats block. X(id, name, help) */
#define HAUL_REJECT_LIST(X)                                                                        \
	X(HAUL_REJECT_SHORT, "reject_short", "messages that end before their header or length")    \
	X(HAUL_REJECT_LONG, "reject_long", "messages that go on after their length")               \
	X(HAUL_REJECT_VERSION, "reject_version", "messages of an unknown version")                 \
	X(HAUL_REJECT_TYPE, "reject_type", "messages of an unknown type, or with an unknown flag") \
	X(HAUL_REJECT_TTL, "reject_ttl", "messages whose time to live is used up")                 \
	X(HAUL_REJECT_CORRUPT, "reject_corrupt", "messages that contradict themselves")

enum haul_reject {
#define X(id, name, help) id,
	HAUL_REJECT_LIST(X)
#undef X
		HAUL_REJECTS
};

/* Decode all frames (at most capacity, each in one piece). Returns how many are good. Reads no byte
 * past any frame. A rejected row has its status and is zero otherwise. Bodies of heartbeats and
 * replies have their exact size; an aggregate's entries have been walked and fit exactly. */
HAUL_API int haul_messages_decode(const struct haul_frames *frames, struct haul_messages *messages);
/* Add what the status column says to the counters first_counter … first_counter+HAUL_REJECTS-1 of
 * the block, in the order of HAUL_REJECT_LIST. Returns how many messages were rejected. */
HAUL_API uint32_t haul_messages_count_rejects(const struct haul_messages *messages,
					      struct haul_stats *stats, uint32_t first_counter);

/* Write one header; out has room for HAUL_MESSAGE_HEADER_BYTES. length counts header and body. The
 * fields must be what decode accepts: ttl >= 1, csum_* <= 255, flags without SEALED, key_id 0. */
HAUL_API void haul_message_put(uint8_t *out, const struct haul_message_header *header,
			       uint32_t length);
/* Put a header in front of frames first … first+count-1 of the batch, in their headroom:
 * data, len and flags are adjusted, partial checksums move into the header (csum_* of header are
 * not looked at), sequence rises by one each. Each frame has HAUL_FRAME_HEADROOM, the flag is gone
 * afterwards, and HAUL_MESSAGE_BYTES_MAX holds with the header. Returns the next sequence. */
HAUL_API uint64_t haul_messages_prepend(struct haul_frames *frames, uint32_t first, uint32_t count,
					const struct haul_message_header *header);

/* Whole messages, header included. in[] and out are the caller's; rows of out lie stride bytes
 * apart. Returns bytes of each message. sequence of message i is header->sequence + i. */
HAUL_API uint32_t haul_heartbeats_encode(const struct haul_message_header *header,
					 const struct haul_heartbeat *in, uint32_t count,
					 uint8_t *out, size_t stride);
HAUL_API uint32_t haul_replies_encode(const struct haul_message_header *header,
				      const struct haul_heartbeat_reply *in, uint32_t count,
				      uint8_t *out, size_t stride);
/* Body of a message that decode found good. */
HAUL_API void haul_heartbeat_get(const uint8_t *body, struct haul_heartbeat *ret_heartbeat);
HAUL_API void haul_reply_get(const uint8_t *body, struct haul_heartbeat_reply *ret_reply);

/* In place, on a received message that is passed on: TTL one less, and for heartbeats and replies
 * hops one more. A message with ttl <= 1 must not be passed on. */
HAUL_API void haul_message_relay(uint8_t *message);

/* Append frame i to an aggregate's body: writes entry and bytes at out, returns bytes written
 * (HAUL_AGGREGATE_ENTRY_BYTES more than the frame, which has at least 14). csum_start over 255 is
 * the caller's to complete first. */
HAUL_API uint32_t haul_aggregate_put(uint8_t *out, const struct haul_frames *frames, uint32_t i);
/* Split an aggregate's body (decode found it good) into rows of out that point into the body;
 * returns frames appended, or HAUL_EFULL when out has not room for all (then nothing is appended).
 * Rows have no headroom: the bytes before a frame belong to its neighbour. */
HAUL_API int haul_aggregate_split(uint8_t *body, uint32_t body_len, uint32_t peer,
				  struct haul_frames *out);
/* Frames in an aggregate's body that decode found good. */
HAUL_API uint32_t haul_aggregate_count(const uint8_t *body, uint32_t body_len);
