/* disk/codec.h — smaller where it saves a block.
 *
 * Model      codec_pack tries the first 16 KiB; unless that shrinks by an eighth, and the whole by
 *            an eighth and to fewer blocks (FORMAT_BLOCK), the value stays raw. Stored: 4 bytes of
 *            length (little-endian), then the compressed bytes.
 *            Both formats can be unpacked, whichever is chosen for packing.
 * Memory     contexts and one buffer of out_max at codec_init (zstd: 0.6 MiB at level 1, tens of
 *            MiB from level 16 on). Threads: one a codec.
 * Errors     codec_init: -ENOMEM, -EINVAL. codec_unpack: HAUL_ECORRUPT, HAUL_ELIMIT (announces more
 *            than out_max), whatever comes in; out may then hold anything. */
#pragma once

#include <stdint.h>

#include "disk/index.h"

struct codec {
	enum index_codec codec; /* INDEX_RAW = never compress */
	int level;              /* zstd: 1 … 19, 0 = 1; lz4: ignored */
	uint8_t *out;
	uint32_t out_max; /* longer values stay raw; at most FORMAT_VALUE_MAX */
	void *compress;   /* the library's contexts */
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
/* which: INDEX_LZ4 or INDEX_ZSTD. out has room for codec_bytes(stored, bytes), and holds as many
 * when 0 is returned. */
int codec_unpack(struct codec *codec, enum index_codec which, const uint8_t *stored, uint32_t bytes,
		 uint8_t *out);
