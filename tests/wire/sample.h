/* wire/sample.h — good messages of every kind, and a second opinion on bad ones.
 *
 * Model      sample_make writes one whole message, of random values; sample_status judges a message
 *            by reading wire/format.h byte by byte and rule by rule, slowly, with nothing in common
 *            with src/wire but that text.
 * Threads    pure. */
#pragma once

#include <stdint.h>

#include <haul/message.h>
#include "base/prng.h"

enum sample {
	SAMPLE_HEARTBEAT,
	SAMPLE_REPLY,
	SAMPLE_DATA_UP,
	SAMPLE_DATA_DOWN,
	SAMPLE_PARTIAL,   /* data up, csum_start 34, csum_offset 16 */
	SAMPLE_AGGREGATE, /* entries of 60, 14 and 100 bytes, the last one partial like that */
	SAMPLES
};

enum {
	SAMPLE_DATA_BYTES = 60, /* of the frame in a data message */
	SAMPLE_CSUM_START = 34,
	SAMPLE_CSUM_OFFSET = 16,
	SAMPLE_BYTES_MAX = 256
};

/* Where the parts of the aggregate lie in its message. */
enum {
	SAMPLE_ENTRIES = 3,
	SAMPLE_ENTRY_0 = 32,
	SAMPLE_ENTRY_1 = SAMPLE_ENTRY_0 + 4 + 60,
	SAMPLE_ENTRY_2 = SAMPLE_ENTRY_1 + 4 + 14,
	SAMPLE_AGGREGATE_BYTES = SAMPLE_ENTRY_2 + 4 + 100
};

/* Writes at most SAMPLE_BYTES_MAX bytes to out; returns how many. */
uint32_t sample_make(enum sample which, struct prng *prng, uint8_t *out);

/* What haul_messages_decode must say of a frame in one piece. */
int32_t sample_status(const uint8_t *message, uint32_t len);
