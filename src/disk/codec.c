/* lz4 and zstd over whole values.
 *
 * A value is compressed only if that pays twice: it must become an eighth smaller, and take fewer
 * blocks. Long values are tried on their first 16 KiB, so that what is compressed already (maps,
 * images, updates) costs little. The compressor is given only as much room as would still pay, so
 * it gives up by itself as soon as it cannot win.
 *
 * All memory is taken at codec_init: zstd works in static contexts of the size that it states for
 * the level, lz4 in its state. Both formats can always be unpacked, whatever is chosen for packing:
 * the cache may have been written with another choice. */
#define ZSTD_STATIC_LINKING_ONLY
#include "disk/codec.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <zstd.h>

#include <haul/err.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "disk/format.h"

enum { PROBE_BYTES = 16384, PREFIX_BYTES = 4, LEVEL_MAX = 19 };

/* zstd chooses its tables by level and by size: the largest need of all. */
static size_t zstd_need(int level, uint32_t bytes_max)
{
	const unsigned long long sizes[] = { 1, PROBE_BYTES, 128 << 10, 256 << 10, bytes_max };
	size_t need = 0;
	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		ZSTD_compressionParameters params = ZSTD_getCParams(level, sizes[i], 0);
		size_t one = ZSTD_estimateCCtxSize_usingCParams(params);
		need = one > need ? one : need;
	}
	return need;
}

static int compress_init(struct codec *codec)
{
	size_t need = 0;
	if (codec->codec == INDEX_ZSTD)
		need = zstd_need(codec->level, codec->out_max);
	else
		need = (size_t)LZ4_sizeofState();
	codec->out = malloc(codec->out_max);
	codec->compress = aligned_alloc(64, (need + 63) / 64 * 64);
	if (!codec->out || !codec->compress)
		return -ENOMEM;
	if (codec->codec == INDEX_ZSTD && !ZSTD_initStaticCCtx(codec->compress, need))
		return -ENOMEM;
	return 0;
}

static int decompress_init(struct codec *codec)
{
	size_t need = ZSTD_estimateDCtxSize();
	codec->decompress = aligned_alloc(64, (need + 63) / 64 * 64);
	if (!codec->decompress)
		return -ENOMEM;
	return ZSTD_initStaticDCtx(codec->decompress, need) ? 0 : -ENOMEM;
}

int codec_init(struct codec *codec, enum index_codec which, int level, uint32_t out_max)
{
	if (which > INDEX_ZSTD || level < 0 || level > LEVEL_MAX || out_max < PREFIX_BYTES ||
	    out_max > FORMAT_VALUE_MAX)
		return -EINVAL;
	struct codec made = { .codec = which, .level = level ? level : 1, .out_max = out_max };
	int rc = decompress_init(&made);
	if (rc == 0 && which != INDEX_RAW)
		rc = compress_init(&made);
	if (rc < 0) {
		codec_done(&made);
		return rc;
	}
	*codec = made;
	return 0;
}

void codec_done(struct codec *codec)
{
	free(codec->out);
	free(codec->compress);
	free(codec->decompress);
	*codec = (struct codec){ 0 };
}

/* Compressed bytes behind the prefix, 0 when they do not fit in `room`. */
static uint32_t compress_to(struct codec *codec, const uint8_t *value, uint32_t bytes,
			    uint32_t room)
{
	uint8_t *out = codec->out + PREFIX_BYTES;
	HAUL_ASSERT(room <= codec->out_max - PREFIX_BYTES);
	if (codec->codec == INDEX_LZ4) {
		int n = LZ4_compress_fast_extState(codec->compress, (const char *)value,
						   (char *)out, (int)bytes, (int)room, 1);
		return n > 0 ? (uint32_t)n : 0;
	}
	size_t n = ZSTD_compressCCtx(codec->compress, out, room, value, bytes, codec->level);
	return ZSTD_isError(n) ? 0 : (uint32_t)n;
}

/* Blocks that a value takes at best. */
static uint32_t blocks_of(uint32_t bytes)
{
	return (bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK;
}

/* The most that the stored form may have to be worth it; 0 = nothing would be. */
static uint32_t worth_bytes(uint32_t bytes)
{
	uint32_t eighth = bytes - bytes / 8;
	uint32_t block = (blocks_of(bytes) - 1) * FORMAT_BLOCK;
	uint32_t most = eighth < block ? eighth : block;
	return most > PREFIX_BYTES ? most : 0;
}

enum index_codec codec_pack(struct codec *codec, const uint8_t *value, uint32_t bytes,
			    const uint8_t **ret_out, uint32_t *ret_bytes)
{
	if (codec->codec == INDEX_RAW || bytes > codec->out_max)
		return INDEX_RAW;
	uint32_t most = worth_bytes(bytes);
	if (most == 0)
		return INDEX_RAW;
	codec->tried++;
	if (bytes > PROBE_BYTES &&
	    compress_to(codec, value, PROBE_BYTES, PROBE_BYTES - PROBE_BYTES / 8) == 0)
		return INDEX_RAW;
	uint32_t packed = compress_to(codec, value, bytes, most - PREFIX_BYTES);
	if (packed == 0)
		return INDEX_RAW;
	le32_store(codec->out, bytes);
	codec->kept++;
	codec->bytes_in += bytes;
	codec->bytes_out += packed + PREFIX_BYTES;
	*ret_out = codec->out;
	*ret_bytes = packed + PREFIX_BYTES;
	return codec->codec;
}

uint32_t codec_bytes(const uint8_t *stored, uint32_t bytes)
{
	return bytes > PREFIX_BYTES ? le32_load(stored) : 0;
}

int codec_unpack(struct codec *codec, enum index_codec which, const uint8_t *stored, uint32_t bytes,
		 uint8_t *out)
{
	HAUL_ASSERT(which == INDEX_LZ4 || which == INDEX_ZSTD);
	HAUL_ASSERT(codec->decompress != NULL);
	uint32_t announced = codec_bytes(stored, bytes);
	if (announced == 0)
		return HAUL_ECORRUPT;
	if (announced > codec->out_max)
		return HAUL_ELIMIT;
	const uint8_t *in = stored + PREFIX_BYTES;
	uint32_t in_bytes = bytes - PREFIX_BYTES;
	if (which == INDEX_LZ4) {
		int n = LZ4_decompress_safe((const char *)in, (char *)out, (int)in_bytes,
					    (int)announced);
		return n >= 0 && (uint32_t)n == announced ? 0 : HAUL_ECORRUPT;
	}
	size_t n = ZSTD_decompressDCtx(codec->decompress, out, announced, in, in_bytes);
	return !ZSTD_isError(n) && n == announced ? 0 : HAUL_ECORRUPT;
}
