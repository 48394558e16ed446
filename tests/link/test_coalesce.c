/* link/test_coalesce.c — merging is the inverse of cutting, and never more. */
#include <string.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/coalesce.h"
#include "link/segment.h"
#include "link/superframe.h"

enum { ROUNDS = 2000, ROWS_MAX = 1024, ARENA_BYTES = 512 * 1024, KINDS = HAUL_OFFLOAD_ALL };
enum { FIN = 0x01, PUSH = 0x08, CWR = 0x80 };

struct bed {
	struct prng prng;
	struct superframe sf;
	struct haul_frames frames;
	uint32_t order[ROWS_MAX];
	uint8_t whole[SUPERFRAME_BYTES_MAX];
	uint8_t merged[SUPERFRAME_BYTES_MAX];
	uint8_t arena[ARENA_BYTES];
};

static int bed_open(void **state)
{
	static struct bed bed;
	test_prng(&bed.prng);
	for (uint32_t i = 0; i < ROWS_MAX; i++)
		bed.order[i] = i;
	*state = &bed;
	return haul_frames_init(&bed.frames, ROWS_MAX);
}

static int bed_close(void **state)
{
	struct bed *bed = *state;
	haul_frames_done(&bed->frames);
	return 0;
}

/* Rows of a random superframe of at least rows_min segments; returns its bytes. */
static uint32_t cut_random(struct bed *bed, uint32_t rows_min)
{
	struct segment_arena arena = { .base = bed->arena, .bytes = ARENA_BYTES };
	struct segment segment;
	do
		superframe_random(&bed->sf, &bed->prng);
	while (superframe_segments(&bed->sf) < rows_min);
	struct virtio_net_hdr vnet = superframe_vnet(&bed->sf);
	uint32_t whole = superframe_whole(&bed->sf, bed->whole);
	assert_int_equal(segment_open(&segment, bed->whole, whole, &vnet), 0);
	haul_frames_clear(&bed->frames);
	(void)segment_fill(&segment, &arena, &bed->frames);
	assert_true(segment_done(&segment));
	return whole;
}

static struct coalesce all_rows(struct bed *bed)
{
	return (struct coalesce){
		.frames = &bed->frames,
		.order = bed->order,
		.left = bed->frames.count,
		.rows_max = ROWS_MAX,
		.uso_rows_max = ROWS_MAX,
		.offloads = KINDS,
	};
}

/* Cut, then merge: the same superframe again, byte for byte, and the same vnet header. */
static void test_coalesce__undoes_segment(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t whole = cut_random(bed, 2);
		struct coalesce in = all_rows(bed);
		struct coalesce_run run = coalesce_find(&in);
		assert_int_equal(run.count, superframe_segments(&bed->sf));
		assert_int_equal(run.bytes, whole);
		struct virtio_net_hdr vnet, want = superframe_vnet(&bed->sf);
		coalesce_header(&in, &run, bed->merged, &vnet);
		assert_memory_equal(&vnet, &want, sizeof vnet);
		uint32_t at = run.headers.payload;
		for (uint32_t i = 0; i < run.count; i++) {
			memcpy(bed->merged + at, bed->frames.tail[i], bed->frames.tail_len[i]);
			at += bed->frames.tail_len[i];
		}
		assert_int_equal(at, whole);
		assert_memory_equal(bed->merged, bed->whole, whole);
	}
}

static bool is_flag(const struct bed *bed, uint32_t byte, uint32_t flag)
{
	return bed->sf.tcp && byte == superframe_l4(&bed->sf) + 13u && flag != 0;
}

/* Any one bit of any header turned over: that row does not join the ones before it, so no fresh
 * checksum ever hides damage. Only PSH and FIN may differ, and then end the run, and CWR of the
 * first. */
static void test_coalesce__never_masks_corruption(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS * 4; round++) {
		(void)cut_random(bed, 3);
		uint32_t row = prng_below(&bed->prng, 3);
		uint32_t byte = prng_below(&bed->prng, bed->frames.len[row]);
		uint32_t bit = prng_below(&bed->prng, 8);
		bed->frames.data[row][byte] ^= (uint8_t)(1u << bit);
		struct coalesce in = all_rows(bed);
		uint32_t count = coalesce_find(&in).count;
		uint32_t most = row == 0 ? 1 : row;
		if (row > 0 && is_flag(bed, byte, (1u << bit) & (PUSH | FIN)))
			most = row + 1;
		if (row == 0 && is_flag(bed, byte, (1u << bit) & CWR))
			continue;
		if (count > most)
			print_message("row %u byte %u bit %u ipv6 %d tcp %d\n", row, byte, bit,
				      bed->sf.ipv6, bed->sf.tcp);
		assert_true(count <= most);
	}
}

/* A complete checksum, wrong columns, or a kind that is off: every frame on its own. */
static void test_coalesce__leaves_alone_what_it_may_not_merge(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		(void)cut_random(bed, 2);
		struct coalesce in = all_rows(bed);
		in.offloads &= ~(uint32_t)(bed->sf.tcp ? HAUL_OFFLOAD_TSO : HAUL_OFFLOAD_USO);
		assert_int_equal(coalesce_find(&in).count, 1);
		in = all_rows(bed);
		bed->frames.flags[1] &= (uint16_t)~HAUL_FRAME_CSUM_PARTIAL;
		assert_int_equal(coalesce_find(&in).count, 1);
		bed->frames.flags[1] |= HAUL_FRAME_CSUM_PARTIAL;
		bed->frames.csum_start[1]++;
		assert_int_equal(coalesce_find(&in).count, 1);
		bed->frames.csum_start[1]--;
		in.rows_max = in.uso_rows_max = 1 + prng_below(&bed->prng, 8);
		in.left = 1 + prng_below(&bed->prng, bed->frames.count);
		uint32_t most = in.rows_max < in.left ? in.rows_max : in.left;
		assert_true(coalesce_find(&in).count <= most);
	}
}

/* Rows that are not whole TCP or UDP packets — cut short, random — are carried one by one and never
 * read beyond their end. */
static void test_coalesce__reads_no_further_than_the_row(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		(void)cut_random(bed, 2);
		struct test_guard guard;
		uint32_t bytes = 1 + prng_below(&bed->prng, bed->frames.len[0]);
		uint32_t row = prng_below(&bed->prng, 2);
		test_guard_open(&guard, bytes);
		memcpy(guard.data, bed->frames.data[row], bytes);
		bed->frames.data[row] = guard.data;
		bed->frames.len[row] = bytes;
		struct coalesce in = all_rows(bed);
		uint32_t count = coalesce_find(&in).count;
		if (bytes < superframe_header_bytes(&bed->sf))
			assert_int_equal(count, 1);
		test_guard_close(&guard);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_coalesce__undoes_segment),
		cmocka_unit_test(test_coalesce__never_masks_corruption),
		cmocka_unit_test(test_coalesce__leaves_alone_what_it_may_not_merge),
		cmocka_unit_test(test_coalesce__reads_no_further_than_the_row),
	};
	return cmocka_run_group_tests(tests, bed_open, bed_close);
}
