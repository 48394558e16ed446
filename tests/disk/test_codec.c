#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "base/bytes.h"
#include "disk/codec.h"
#include "disk/format.h"
#include "lib/testlib.h"

enum { LONG = 1 << 20, FUZZ_ROUNDS = 4000 };

static uint8_t value[FORMAT_VALUE_MAX];
static uint8_t out[FORMAT_VALUE_MAX];

/* noise of 256: how many bytes of 256 are random. */
static void fill(struct prng *prng, uint32_t bytes, uint32_t noise)
{
	for (uint32_t i = 0; i < bytes; i++)
		value[i] = prng_below(prng, 256) < noise ? (uint8_t)prng_next(prng)
							 : (uint8_t)(i % 23);
}

static uint32_t blocks(uint32_t bytes)
{
	return (bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK;
}

static void round_trip(struct codec *codec, uint32_t bytes)
{
	const uint8_t *stored = NULL;
	uint32_t stored_bytes = 0;
	enum index_codec which = codec_pack(codec, value, bytes, &stored, &stored_bytes);
	if (which == INDEX_RAW) {
		assert_null(stored);
		return;
	}
	assert_int_equal(which, codec->codec);
	assert_true(blocks(stored_bytes) < blocks(bytes));
	assert_true(stored_bytes <= bytes - bytes / 8);
	assert_int_equal(codec_bytes(stored, stored_bytes), bytes);
	memset(out, 0xee, bytes + 1 < sizeof out ? bytes + 1 : bytes);
	struct test_guard guard;
	test_guard_open(&guard, bytes);
	assert_int_equal(codec_unpack(codec, which, stored, stored_bytes, guard.data), 0);
	assert_memory_equal(guard.data, value, bytes);
	test_guard_close(&guard);
}

/* A value would come back changed, or be stored compressed without saving a block; and packing
 * would take memory on the way. */
static void test_codec__gives_back_what_was_packed(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	const enum index_codec codecs[] = { INDEX_LZ4, INDEX_ZSTD };
	for (uint32_t c = 0; c < 2; c++) {
		for (int level = 0; level <= 5; level += 5) {
			struct codec codec;
			assert_int_equal(codec_init(&codec, codecs[c], level, FORMAT_VALUE_MAX), 0);
			uint64_t before = test_mallocs();
			for (uint32_t round = 0; round < 60; round++) {
				uint32_t bytes = prng_below(&prng, 8192U << prng_below(&prng, 8));
				fill(&prng, bytes, round % 2 ? prng_below(&prng, 50) : 256);
				round_trip(&codec, bytes);
			}
			fill(&prng, FORMAT_VALUE_MAX, 0);
			round_trip(&codec, FORMAT_VALUE_MAX);
			assert_int_equal(test_mallocs(), before);
			assert_true(codec.kept > 10);
			assert_true(codec.tried > codec.kept);
			assert_true(codec.bytes_out < codec.bytes_in);
			codec_done(&codec);
		}
	}
}

/* What is compressed already would be compressed again; so would a value that is one block
 * anyway, and one whose start is noise (tried on 16 KiB). */
static void test_codec__stores_raw_what_does_not_shrink(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct codec codec;
	const uint8_t *stored = NULL;
	uint32_t bytes = 5;
	assert_int_equal(codec_init(&codec, INDEX_LZ4, 0, LONG), 0);
	fill(&prng, LONG, 256);
	assert_int_equal(codec_pack(&codec, value, LONG, &stored, &bytes), INDEX_RAW);
	fill(&prng, 4096, 0);
	assert_int_equal(codec_pack(&codec, value, 4096, &stored, &bytes), INDEX_RAW);
	assert_int_equal(codec_pack(&codec, value, 0, &stored, &bytes), INDEX_RAW);
	fill(&prng, LONG, 0);
	assert_int_equal(codec_pack(&codec, value, LONG + 1, &stored, &bytes), INDEX_RAW);
	fill(&prng, 16384, 256);
	assert_int_equal(codec_pack(&codec, value, LONG, &stored, &bytes), INDEX_RAW);
	assert_null(stored);
	assert_int_equal(bytes, 5);
	fill(&prng, 4097, 0);
	assert_int_equal(codec_pack(&codec, value, 4097, &stored, &bytes), INDEX_LZ4);
	codec_done(&codec);
	assert_int_equal(codec_init(&codec, INDEX_RAW, 0, LONG), 0);
	assert_int_equal(codec_pack(&codec, value, 4097, &stored, &bytes), INDEX_RAW);
	codec_done(&codec);
}

/* What was written with one codec would not be readable after choosing another, or none. */
static void test_codec__unpacks_what_others_packed(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct codec lz4, zstd, none;
	assert_int_equal(codec_init(&lz4, INDEX_LZ4, 0, LONG), 0);
	assert_int_equal(codec_init(&zstd, INDEX_ZSTD, 0, LONG), 0);
	assert_int_equal(codec_init(&none, INDEX_RAW, 0, LONG), 0);
	fill(&prng, 50000, 20);
	const uint8_t *stored = NULL;
	uint32_t bytes = 0;
	assert_int_equal(codec_pack(&lz4, value, 50000, &stored, &bytes), INDEX_LZ4);
	assert_int_equal(codec_unpack(&none, INDEX_LZ4, stored, bytes, out), 0);
	assert_memory_equal(out, value, 50000);
	assert_int_equal(codec_pack(&zstd, value, 50000, &stored, &bytes), INDEX_ZSTD);
	memset(out, 0, 50000);
	assert_int_equal(codec_unpack(&lz4, INDEX_ZSTD, stored, bytes, out), 0);
	assert_memory_equal(out, value, 50000);
	codec_done(&lz4);
	codec_done(&zstd);
	codec_done(&none);
}

static void check_hostile(struct codec *codec, enum index_codec which, const uint8_t *in,
			  uint32_t bytes)
{
	uint32_t announced = codec_bytes(in, bytes);
	uint32_t room = announced < LONG ? announced : LONG;
	struct test_guard guard;
	test_guard_open(&guard, room + 1);
	int rc = codec_unpack(codec, which, in, bytes, guard.data + 1);
	assert_true(rc == 0 || rc == HAUL_ECORRUPT || rc == HAUL_ELIMIT);
	test_guard_close(&guard);
}

/* Damage, or malice, would make the reader write or read outside of what it was given: packed
 * values with bytes changed, cut short, with other lengths announced, and plain noise; behind the
 * input and behind the output begin pages that cannot be touched. */
static void test_codec__survives_whatever_comes_in(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct codec codec[2];
	assert_int_equal(codec_init(&codec[0], INDEX_LZ4, 0, LONG), 0);
	assert_int_equal(codec_init(&codec[1], INDEX_ZSTD, 0, LONG), 0);
	for (uint32_t round = 0; round < FUZZ_ROUNDS; round++) {
		struct codec *one = &codec[prng_below(&prng, 2)];
		const uint8_t *stored = NULL;
		uint32_t bytes = 0;
		fill(&prng, 6000, prng_below(&prng, 100));
		if (codec_pack(one, value, 6000, &stored, &bytes) == INDEX_RAW)
			continue;
		uint32_t cut = prng_below(&prng, 4) == 0 ? prng_below(&prng, bytes + 1) : bytes;
		struct test_guard in;
		test_guard_open(&in, cut);
		memcpy(in.data, stored, cut);
		for (uint32_t i = prng_below(&prng, 6); i > 0 && cut > 0; i--)
			in.data[prng_below(&prng, cut)] = (uint8_t)prng_next(&prng);
		if (prng_below(&prng, 8) == 0 && cut >= 4)
			le32_store(in.data, (uint32_t)prng_next(&prng));
		if (prng_below(&prng, 8) == 0) {
			for (uint32_t i = 4; i < cut; i++)
				in.data[i] = (uint8_t)prng_next(&prng);
		}
		check_hostile(one, INDEX_LZ4, in.data, cut);
		check_hostile(one, INDEX_ZSTD, in.data, cut);
		test_guard_close(&in);
	}
	codec_done(&codec[0]);
	codec_done(&codec[1]);
}

/* An announced length over the limit would be believed; one of nothing too. */
static void test_codec__refuses_lengths_it_cannot_hold(void **state)
{
	(void)state;
	struct codec codec;
	assert_int_equal(codec_init(&codec, INDEX_LZ4, 0, 10000), 0);
	uint8_t in[8] = { 0 };
	le32_store(in, 10001);
	assert_int_equal(codec_unpack(&codec, INDEX_LZ4, in, 8, out), HAUL_ELIMIT);
	le32_store(in, 0);
	assert_int_equal(codec_unpack(&codec, INDEX_LZ4, in, 8, out), HAUL_ECORRUPT);
	assert_int_equal(codec_bytes(in, 3), 0);
	assert_int_equal(codec_unpack(&codec, INDEX_ZSTD, in, 3, out), HAUL_ECORRUPT);
	codec_done(&codec);
}

/* Set-up would leak, or take a level or size that does not exist. */
static void test_codec__says_what_it_cannot_do(void **state)
{
	(void)state;
	struct codec codec = { .tried = 7 };
	assert_int_equal(codec_init(&codec, (enum index_codec)3, 0, LONG), -EINVAL);
	assert_int_equal(codec_init(&codec, INDEX_ZSTD, 20, LONG), -EINVAL);
	assert_int_equal(codec_init(&codec, INDEX_ZSTD, -1, LONG), -EINVAL);
	assert_int_equal(codec_init(&codec, INDEX_ZSTD, 0, FORMAT_VALUE_MAX + 1), -EINVAL);
	assert_int_equal(codec_init(&codec, INDEX_ZSTD, 0, 1), -EINVAL);
	for (uint32_t i = 0; i < 3 && test_malloc_fail(i); i++)
		assert_int_equal(codec_init(&codec, INDEX_ZSTD, 0, LONG), -ENOMEM);
	assert_int_equal(codec.tried, 7);
	codec = (struct codec){ 0 };
	codec_done(&codec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codec__gives_back_what_was_packed),
		cmocka_unit_test(test_codec__stores_raw_what_does_not_shrink),
		cmocka_unit_test(test_codec__unpacks_what_others_packed),
		cmocka_unit_test(test_codec__survives_whatever_comes_in),
		cmocka_unit_test(test_codec__refuses_lengths_it_cannot_hold),
		cmocka_unit_test(test_codec__says_what_it_cannot_do),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
