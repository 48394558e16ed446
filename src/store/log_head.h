/* store/log_head.h — the head of a record of the log, as it stands on the disk.
 *
 * Model      64 bytes, then the frame, then zeros up to a multiple of LOG_UNIT. All numbers are
 *            little-endian. A mark is a head without a frame: it stands where the next append will
 *            begin, says that everything before it is durable, and is written over by that append.
 *            The link of a record is what the next one has as its chain: a checksum over op,
 *            position, chain and the frame's checksum.
 * Threads    pure. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/checksum.h"
#include "store/log.h"

enum {
	LOG_VERSION = 1,
	LOG_UNIT = 64,
	LOG_MAGIC = 0x4c475548, /* "HUGL" */
};

enum log_kind { LOG_KIND_FRAME = 1, LOG_KIND_MARK = 2 };

struct log_head {
	uint64_t check; /* XXH3 of the 56 bytes behind it */
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	uint64_t store; /* log_store of its uuid */
	uint64_t op;    /* of a mark: that of the record before it */
	uint64_t position;
	uint64_t chain; /* link of the record before */
	uint64_t check_frame;
	uint32_t bytes;  /* of the frame */
	uint32_t behind; /* op - durable_upto; at most UINT32_MAX */
};
static_assert(sizeof(struct log_head) == LOG_HEAD, "the head has no holes");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "heads are written as they are");

static inline uint64_t log_store(const uint8_t uuid[16])
{
	return XXH3_64bits(uuid, 16);
}

static inline uint64_t log_head_check(const struct log_head *head)
{
	return XXH3_64bits((const uint8_t *)head + sizeof head->check,
			   sizeof *head - sizeof head->check);
}

static inline uint64_t log_head_link(const struct log_head *head)
{
	const uint64_t parts[4] = { head->op, head->position, head->chain, head->check_frame };

	return XXH3_64bits(parts, sizeof parts);
}

static inline uint64_t log_head_durable(const struct log_head *head)
{
	return head->op - head->behind;
}

/* Bytes that a record takes. */
static inline uint64_t log_record_bytes(uint32_t frame_bytes)
{
	return (LOG_HEAD + (uint64_t)frame_bytes + LOG_UNIT - 1) / LOG_UNIT * LOG_UNIT;
}

static inline uint64_t log_block_up(uint64_t position)
{
	return (position + MEDIA_ALIGN - 1) / MEDIA_ALIGN * MEDIA_ALIGN;
}

/* Whether a head stands here at all: of this or another store, this or a newer version. */
static inline bool log_head_load(const uint8_t *data, struct log_head *ret_head)
{
	memcpy(ret_head, data, sizeof *ret_head);
	return ret_head->magic == LOG_MAGIC && ret_head->check == log_head_check(ret_head);
}

/* … and makes sense, of this version. A record is never durable before it was written. */
static inline bool log_head_sane(const struct log_head *head)
{
	bool mark = head->kind == LOG_KIND_MARK && head->bytes == 0 && head->behind == 0;
	bool frame = head->kind == LOG_KIND_FRAME && head->behind > 0;

	return (mark || frame) && head->behind <= head->op &&
	       head->bytes <= LOG_RECORD_MAX - LOG_HEAD && head->position % LOG_UNIT == 0;
}
