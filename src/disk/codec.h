/* disk/codec.h — smaller where it saves a block.
 *
 * Model      codec_pack tries the first 16 KiB; unless that shrinks by an eighth, or the whole by
 *            a block (FORMAT_BLOCK) and an eighth, the value stays raw. Stored: 4 bytes of length
 *            (little-endian), then the compressed bytes.
 * Memory     contexts and one buffer of out_max at codec_init. Threads: one a codec.
 * Errors     codec_unpack: HAUL_ECORRUPT, HAUL_ELIMIT (longer than out_max), whatever comes in. */
#pragma once

#include <stdint.h>

#include "disk/index.h"

struct codec {
	enum index_codec codec; /* INDEX_RAW = never compress */
	int level;              /* zstd: 1 … 19, 0 = 1; lz4: ignored */
	uint8_t *out;
	uint32_t out_max;
	void *compress; /* the library's contexts */
	void *decompress;
	uint64_t tried, kept, bytes_in, bytes_out;
};

int codec_init(struct codec *codec, enum index_codec which, int level, uint32_t out_max);
void codec_done(struct codec *codec);
/* INDEX_RAW: store value as it is. Else *ret_out and *ret_bytes, good until the next call. */
enum index_codec codec_pack(struct codec *codec, const uint8_t *value, uint32_t bytes,
			    const uint8_t **ret_out, uint32_t *ret_bytes);
/* Uncompressed bytes that stored announces; 0 = not even that much can be read. */
uint32_t codec_bytes(const uint8_t *stored, uint32_t bytes);
int codec_unpack(struct codec *codec, enum index_codec which, const uint8_t *stored, uint32_t bytes,
		 uint8_t *out, uint32_t out_bytes);
