#include <stdio.h>
#include <string.h>

#include <haul/err.h>
#include <haul/frames.h>
#include <haul/message.h>
#include "lib/testlib.h"
#include "wire/sample.h"

enum { BATCH = 64, ROUNDS = 4000, POKES_MAX = 3 };

/* Values that sit on the edges of rules; a poke takes one of them or any byte. */
static const uint8_t edges[] = { 0, 1, 2, 3, 4, 5, 6, 13, 14, 15, 0x80, 0xff };

static void poke(struct prng *prng, uint8_t *message, uint32_t len)
{
	/* Half of them into the first bytes, where most rules look. */
	const uint32_t bound = prng_below(prng, 2) && len > 8 ? 8 : len;
	uint8_t value = (uint8_t)prng_next(prng);
	if (prng_below(prng, 2))
		value = edges[prng_below(prng, sizeof edges)];
	message[prng_below(prng, bound)] = value;
}

static uint32_t spoiled_message(struct prng *prng, uint8_t *out)
{
	uint32_t len = sample_make(prng_below(prng, SAMPLES), prng, out);
	if (prng_below(prng, 8) == 0)
		len = 1 + prng_below(prng, SAMPLE_BYTES_MAX - 1);
	if (len >= 32 && prng_below(prng, 2)) {
		out[4] = (uint8_t)(len >> 8);
		out[5] = (uint8_t)len;
	}
	for (uint32_t n = prng_below(prng, POKES_MAX + 1); n > 0; n--)
		poke(prng, out, len);
	return len;
}

/* Bursts of messages spoiled at random: decode and the plain reading of wire/format.h give every
 * one the same status, and each status turns up. */
static void test_decode__agrees_with_a_plain_reading_of_the_format(void **state)
{
	(void)state;
	static uint8_t slab[BATCH][SAMPLE_BYTES_MAX];
	struct prng prng;
	struct haul_frames frames;
	struct haul_messages messages;
	struct haul_counter counters[HAUL_REJECTS] = { 0 };
	struct haul_stats stats;
	uint64_t good_total = 0;
	test_prng(&prng);
	assert_int_equal(haul_frames_init(&frames, BATCH), 0);
	assert_int_equal(haul_messages_init(&messages, BATCH), 0);
	haul_stats_init(&stats, "test", counters, HAUL_REJECTS);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		haul_frames_clear(&frames);
		int expected = 0;
		for (uint32_t i = 0; i < BATCH; i++) {
			struct haul_frame row = { .data = slab[i] };
			row.len = spoiled_message(&prng, slab[i]);
			expected += sample_status(slab[i], row.len) == 0;
			assert_int_equal(haul_frames_push(&frames, &row), 0);
		}
		const int good = haul_messages_decode(&frames, &messages);
		for (uint32_t i = 0; i < BATCH; i++)
			if (messages.status[i] != sample_status(slab[i], frames.len[i]))
				fail_msg("round %u, message %u: decode %d, plain reading %d", round,
					 i, messages.status[i],
					 sample_status(slab[i], frames.len[i]));
		assert_int_equal(good, expected);
		good_total += (uint64_t)good;
		assert_int_equal(haul_messages_count_rejects(&messages, &stats, 0), BATCH - good);
	}
	assert_true(good_total > 0);
	for (uint32_t r = 0; r < HAUL_REJECTS; r++)
		assert_true(stats.extra[r] > 0);
	haul_messages_done(&messages);
	haul_frames_done(&frames);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode__agrees_with_a_plain_reading_of_the_format),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
