/* Rows that are on the disk twice, as a power cut leaves them in the middle of a reclaim: a copy
 * and its original, or an original and the tombstone that was carried when its entry left. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/cache.h>
#include "disk/reclaim_state.h"
#include "lib/testlib.h"
#include "shard_lab.h"

enum {
	SEGMENT = 65536,
	VALUE = 3000,
	KEY = 7,        /* the one that is there twice */
	FILLER = 1000,  /* keys from here on make others leave */
	FILLERS = 3000, /* at most */
	POLLS = 1000,   /* at most */
	CUT_EVERY = 5,  /* stores between two power cuts */
};

static void lab_open(struct shard_lab *lab, uint32_t segments)
{
	struct prng prng;
	test_prng(&prng);
	lab->options.limits = (struct haul_limits){ 8, 40000, 2 * NS_PER_MS, 8 };
	lab->options.buffer_bytes = 1 << 20;
	lab->options.read_bytes = 1 << 20;
	shard_lab_init(lab, (uint64_t)segments * SEGMENT + (1 << 18), SEGMENT, prng_next(&prng));
	assert_int_equal(shard_lab_open(lab), 0);
}

static struct index_slot *slot_of(const struct shard_lab *lab, uint64_t number)
{
	char text[32];
	struct cache_key key = shard_lab_key(lab, number, text);
	return index_find(&lab->shard->index, key.hash);
}

static uint32_t segment_at(const struct shard_lab *lab, uint64_t number)
{
	struct index_entry entry;
	const struct index_slot *slot = slot_of(lab, number);
	assert_non_null(slot);
	index_unpack(slot, &entry);
	return entry.segment;
}

/* Write a row as reclaim does, with the seq that it has elsewhere. Returns its segment. */
static uint32_t append_row(struct shard_lab *lab, enum lane_id lane, uint64_t number, uint64_t seq,
			   uint32_t flags)
{
	char text[32];
	struct cache_key key = shard_lab_key(lab, number, text);
	uint32_t bytes = flags & ROW_TOMBSTONE ? 0 : VALUE;
	shard_lab_value(lab, number, 1, lab->value, bytes);
	struct append append = {
		.row = { .hash = key.hash, .seq = seq, .bytes = bytes, .flags = (uint8_t)flags },
		.key = &key,
		.stored = lab->value,
		.background = true,
	};
	append.row.checksum = cache_key_checksum(&key, lab->value, bytes);
	uint32_t segment;
	int rc;
	while ((rc = lane_append(lab->shard, lane, &append, &segment)) == -EAGAIN)
		shard_lab_settle(lab);
	assert_int_equal(rc, 0);
	return segment;
}

static void cut(struct shard_lab *lab)
{
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	assert_int_equal(shard_lab_open(lab), 0);
}

/* Whether the segment is still what it was. */
static bool is_there(const struct shard_lab *lab, uint32_t segment, uint64_t generation)
{
	const struct segment *seg = &lab->shard->segments[segment];
	return seg->state != SEGMENT_FREE && seg->generation == generation;
}

/* Stores, and power cuts between, until both segments went; once KEY was missed, it stays so. */
static void turn_over(struct shard_lab *lab, uint32_t a, uint32_t b)
{
	const struct segment *segments = lab->shard->segments;
	uint64_t generation_a = segments[a].generation, generation_b = segments[b].generation;
	bool missed = slot_of(lab, KEY) == NULL;
	uint32_t i = 0;
	while (is_there(lab, a, generation_a) || is_there(lab, b, generation_b)) {
		if (i++ == FILLERS)
			fail_msg("segments %u and %u were never given up", a, b);
		assert_int_equal(shard_lab_store(lab, FILLER + i, 1, VALUE), 0);
		if (i % CUT_EVERY == 0)
			cut(lab);
		if (missed && slot_of(lab, KEY))
			fail_msg("after %u stores it is there again", i);
		missed = !slot_of(lab, KEY);
	}
	cut(lab);
	assert_null(slot_of(lab, KEY));
}

/* An entry that was evicted comes back: its tombstone, with nothing live beside it, is given up
 * before the segment that it was to leave with, for that was born after the row. */
static void test_reclaim_twice__tombstone_stays_for_its_original(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, 14);
	uint64_t seq = lab.shard->next_seq++;
	uint32_t original = append_row(&lab, LANE_MAIN, KEY, seq, ROW_SUPERSEDES);
	(void)append_row(&lab, LANE_MAIN, KEY + 1, lab.shard->next_seq++,
			 0); /* keeps the segment */
	segment_seal(lab.shard, LANE_MAIN);
	uint32_t tombstone = append_row(&lab, LANE_MAIN, KEY, seq, ROW_TOMBSTONE | ROW_SUPERSEDES);
	assert_true(lab.shard->segments[original].born_seq > seq);
	assert_int_equal(shard_lab_flush(&lab), 0);
	cut(&lab);
	assert_null(slot_of(&lab, KEY));
	turn_over(&lab, original, tombstone);
	shard_lab_done(&lab);
}

/* An entry that was evicted comes back: it was there twice, and only the newer of the two left.
 * Nothing in it says that it hides anything, for it was the first of its key. */
static void test_reclaim_twice__copy_leaves_with_its_original(void **state)
{
	(void)state;
	enum { SEGMENTS = 40, MAIN = 36 };
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, SEGMENTS);
	uint64_t seq = lab.shard->next_seq;
	assert_int_equal(shard_lab_store(&lab, KEY, 1, VALUE), 0);
	assert_int_equal(shard_lab_store(&lab, KEY + 1, 1, VALUE), 0); /* keeps the segment */
	uint32_t original = segment_at(&lab, KEY);
	segment_seal(lab.shard, LANE_NEW);
	uint32_t copy = append_row(&lab, LANE_MAIN, KEY, seq, 0);
	assert_true(lab.shard->segments[original].born_seq <= seq);
	assert_true(lab.shard->segments[copy].born_seq > seq);
	for (uint32_t i = 0; lab.shard->lanes[LANE_MAIN].count < MAIN; i++)
		(void)append_row(&lab, LANE_MAIN, 100 + i, lab.shard->next_seq++, 0);
	assert_int_equal(shard_lab_flush(&lab), 0);
	cut(&lab);
	assert_int_equal(segment_at(&lab, KEY), copy);
	turn_over(&lab, original, copy);
	shard_lab_done(&lab);
}

/* One look at what the disk has done. */
static void poll(struct shard_lab *lab)
{
	(void)shard_poll(lab->shard);
	(void)io_wait(lab->io, 0);
	os_sim_advance(&lab->os, NS_PER_MS);
}

/* Store until the segment that KEY lies in is being given up. */
static uint32_t until_reclaimed(struct shard_lab *lab)
{
	for (uint32_t i = 0; i < FILLERS; i++) {
		uint32_t segment = segment_at(lab, KEY);
		if (lab->shard->segments[segment].state == SEGMENT_RECLAIM)
			return segment;
		struct shard_put put = { .wait = NULL };
		(void)shard_lab_put(lab, FILLER + i, 1, VALUE, &put);
		poll(lab);
	}
	fail_msg("the segment was never given up");
	return 0;
}

/* A segment whose header cannot be overwritten would give back what was evicted with it, when the
 * power is cut before the root says that nothing in it counts. */
static void test_reclaim_twice__leaves_when_the_root_says_so(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, 14);
	assert_int_equal(shard_lab_store(&lab, KEY, 1, VALUE), 0);
	uint32_t victim = until_reclaimed(&lab);
	io_sim_worn(lab.disk, segment_offset(lab.shard, victim), FORMAT_BLOCK);
	for (uint32_t i = 0; i < POLLS && slot_of(&lab, KEY); i++)
		poll(&lab);
	assert_int_equal(lab.shard->segments[victim].state, SEGMENT_BAD);
	cut(&lab);
	assert_null(slot_of(&lab, KEY));
	shard_lab_done(&lab);
}

/* An entry that was durable is lost because the flush that carried its copy failed. */
static void test_reclaim_twice__copies_go_back_when_a_flush_fails(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED };
	uint64_t version;
	lab_open(&lab, 14);
	assert_int_equal(shard_lab_put(&lab, KEY, 1, VALUE, &pinned), 0);
	assert_int_equal(shard_lab_put(&lab, KEY + 1, 1, VALUE, &pinned), 0);
	segment_seal(lab.shard, LANE_PINNED);
	assert_int_equal(shard_lab_flush(&lab), 0);
	uint32_t victim = until_reclaimed(&lab);
	for (uint32_t i = 0; i < POLLS && segment_at(&lab, KEY) == victim; i++)
		poll(&lab);
	assert_int_not_equal(segment_at(&lab, KEY), victim);
	assert_non_null(lab.shard->segments[segment_at(&lab, KEY)].chunks);
	/* A lone write is its own sync, and has a second try. */
	io_sim_fail(lab.disk, IO_SYNC, 0, 2, -EIO);
	shard_flush(lab.shard, NULL);
	uint64_t lost = lab.shard->lost;
	for (uint32_t i = 0; i < POLLS && lab.shard->lost == lost; i++)
		poll(&lab);
	assert_true(lab.shard->lost > lost);
	for (uint32_t cuts = 0; cuts < 2; cuts++) {
		for (uint64_t key = KEY; key <= KEY + 1; key++) {
			assert_int_equal(shard_lab_get(&lab, key, &version), HAUL_CACHE_HIT);
			assert_int_equal(version, 1);
		}
		cut(&lab);
	}
	shard_lab_done(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim_twice__tombstone_stays_for_its_original),
		cmocka_unit_test(test_reclaim_twice__copy_leaves_with_its_original),
		cmocka_unit_test(test_reclaim_twice__leaves_when_the_root_says_so),
		cmocka_unit_test(test_reclaim_twice__copies_go_back_when_a_flush_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
