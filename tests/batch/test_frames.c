#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include <haul/frames.h>
#include "lib/testlib.h"

static struct haul_frame row_of(uint8_t *byte, uint32_t peer)
{
	return (struct haul_frame){ .data = byte, .len = 1, .peer = peer };
}

/* A capacity outside the limits is refused, and nothing is touched. */
static void test_frames_init__refuses_what_is_out_of_bounds(void **state)
{
	(void)state;
	struct haul_frames frames = { .capacity = 77 };
	assert_int_equal(haul_frames_init(&frames, 0), -EINVAL);
	assert_int_equal(haul_frames_init(&frames, HAUL_FRAMES_MAX + 1), -EINVAL);
	assert_int_equal(frames.capacity, 77);
	struct haul_send_batch batch;
	assert_int_equal(haul_send_batch_init(&batch, 0), -EINVAL);
	assert_int_equal(haul_send_batch_init(&batch, HAUL_FRAMES_MAX + 1), -EINVAL);
}

/* Either allocation fails: an error, the batch untouched, and what there was is freed. */
static void test_send_batch_init__survives_want_of_memory(void **state)
{
	(void)state;
	for (uint32_t successes = 0; successes < 2; successes++) {
		struct haul_send_batch batch = { .group_count = 77 };
		if (!test_malloc_fail(successes))
			skip();
		assert_int_equal(haul_send_batch_init(&batch, 8), -ENOMEM);
		assert_int_equal(batch.group_count, 77);
	}
}

/* Any row comes back from the columns as it went in; done may be called on anything. */
static void test_frames_push__fills_every_column(void **state)
{
	(void)state;
	struct haul_frames frames;
	uint8_t head[3] = { 1, 2, 3 }, tail[2] = { 4, 5 }, out[5];
	assert_int_equal(haul_frames_init(&frames, 2), 0);
	assert_int_equal(haul_frames_room(&frames), 2);
	const struct haul_frame row = { head, tail, 3,
					2,    9,    HAUL_FRAME_CSUM_PARTIAL | HAUL_FRAME_HEADROOM,
					34,   16 };
	frames.status[0] = -EIO; /* left from an earlier turn */
	frames.from[0] = 5;
	assert_int_equal(haul_frames_push(&frames, &row), 0);
	assert_int_equal(frames.count, 1);
	assert_int_equal(haul_frames_room(&frames), 1);
	assert_ptr_equal(frames.data[0], head);
	assert_ptr_equal(frames.tail[0], tail);
	assert_int_equal(frames.len[0], 3);
	assert_int_equal(frames.tail_len[0], 2);
	assert_int_equal(frames.peer[0], 9);
	assert_int_equal(frames.from[0], 0);
	assert_int_equal(frames.flags[0], HAUL_FRAME_CSUM_PARTIAL | HAUL_FRAME_HEADROOM);
	assert_int_equal(frames.csum_start[0], 34);
	assert_int_equal(frames.csum_offset[0], 16);
	assert_int_equal(frames.status[0], 0);
	assert_int_equal(haul_frame_bytes(&frames, 0), 5);
	assert_int_equal(haul_frame_copy(&frames, 0, out), 5);
	assert_memory_equal(out, "\1\2\3\4\5", 5);
	haul_frames_clear(&frames);
	assert_int_equal(frames.count, 0);
	haul_frames_done(&frames);
	haul_frames_done(&frames);
	haul_frames_done(NULL);
	haul_send_batch_done(NULL);
}

/* Defect 6 of the original: a full send batch dropped in silence, and a frame over 1500 bytes was
 * cut. Here full is an error that changes nothing, and the largest frame keeps its length. */
static void test_frames_push__says_full_and_never_cuts(void **state)
{
	(void)state;
	struct haul_send_batch batch;
	uint8_t *large = calloc(1, HAUL_FRAME_BYTES_MAX);
	assert_non_null(large);
	assert_int_equal(haul_send_batch_init(&batch, 3), 0);
	struct haul_frame row = { .data = large, .len = HAUL_FRAME_BYTES_MAX, .peer = 1 };
	for (int i = 0; i < 3; i++)
		assert_int_equal(haul_send_batch_push(&batch, &row), 0);
	struct haul_frames before = batch.frames;
	struct haul_frame other = { .data = large, .len = 1, .peer = 2 };
	assert_int_equal(haul_send_batch_push(&batch, &other), HAUL_EFULL);
	assert_memory_equal(&before, &batch.frames, sizeof before);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(batch.frames.peer[i], 1);
		assert_int_equal(haul_frame_bytes(&batch.frames, i), HAUL_FRAME_BYTES_MAX);
	}
	haul_send_batch_done(&batch);
	free(large);
}

/* Columns end where their neighbours begin: writing all of each disturbs none. */
static void test_frames__columns_do_not_overlap(void **state)
{
	(void)state;
	const uint32_t capacities[] = { 1, 2, 31, 64, 1000, HAUL_FRAMES_MAX };
	for (unsigned c = 0; c < sizeof capacities / sizeof *capacities; c++) {
		uint32_t n = capacities[c];
		struct haul_frames f;
		assert_int_equal(haul_frames_init(&f, n), 0);
		const struct {
			void *at;
			size_t bytes;
		} column[] = {
			{ f.data, n * sizeof *f.data },
			{ f.tail, n * sizeof *f.tail },
			{ f.len, n * sizeof *f.len },
			{ f.tail_len, n * sizeof *f.tail_len },
			{ f.peer, n * sizeof *f.peer },
			{ f.from, n * sizeof *f.from },
			{ f.flags, n * sizeof *f.flags },
			{ f.csum_start, n * sizeof *f.csum_start },
			{ f.csum_offset, n * sizeof *f.csum_offset },
			{ f.status, n * sizeof *f.status },
			{ f.addr, n * sizeof *f.addr },
		};
		enum { COLUMNS = sizeof column / sizeof *column };
		for (int i = 0; i < COLUMNS; i++) {
			assert_int_equal((uintptr_t)column[i].at % 64, 0);
			memset(column[i].at, i + 1, column[i].bytes);
		}
		for (int i = 0; i < COLUMNS; i++) {
			const uint8_t *bytes = column[i].at;
			for (size_t b = 0; b < column[i].bytes; b++)
				assert_int_equal(bytes[b], i + 1);
		}
		haul_frames_done(&f);
	}
}

/* The two smallest batches. */
static void test_send_batch_group__handles_none_and_one(void **state)
{
	(void)state;
	struct haul_send_batch batch;
	uint8_t byte = 0;
	assert_int_equal(haul_send_batch_init(&batch, 1), 0);
	haul_send_batch_group(&batch);
	assert_int_equal(batch.group_count, 0);
	struct haul_frame row = row_of(&byte, HAUL_PEER_NONE);
	assert_int_equal(haul_send_batch_push(&batch, &row), 0);
	haul_send_batch_group(&batch);
	assert_int_equal(batch.group_count, 1);
	assert_true(batch.group[0].peer == HAUL_PEER_NONE);
	assert_int_equal(batch.group[0].first, 0);
	assert_int_equal(batch.group[0].count, 1);
	assert_int_equal(batch.order[0], 0);
	haul_send_batch_done(&batch);
}

/* The model: for each peer in order of first appearance, its frames in order. */
static void assert_grouped(const struct haul_send_batch *batch)
{
	const struct haul_frames *f = &batch->frames;
	uint32_t place = 0, groups = 0;
	for (uint32_t i = 0; i < f->count; i++) {
		bool seen = false;
		for (uint32_t k = 0; k < i && !seen; k++)
			seen = f->peer[k] == f->peer[i];
		if (seen)
			continue;
		assert_true(groups < batch->group_count);
		const struct haul_group *group = &batch->group[groups++];
		assert_int_equal(group->peer, f->peer[i]);
		assert_int_equal(group->first, place);
		for (uint32_t k = i; k < f->count; k++)
			if (f->peer[k] == f->peer[i])
				assert_int_equal(batch->order[place++], k);
		assert_int_equal(group->count, place - group->first);
	}
	assert_int_equal(groups, batch->group_count);
	assert_int_equal(place, f->count);
}

/* Random batches, few peers and many, used again and again; grouping twice changes nothing, and
 * more may be pushed after it. */
static void test_send_batch_group__equals_a_stable_sort(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	uint8_t byte = 0;
	for (int round = 0; round < 60; round++) {
		struct haul_send_batch batch;
		uint32_t capacity = 1 + prng_below(&prng, 300);
		assert_int_equal(haul_send_batch_init(&batch, capacity), 0);
		for (int turn = 0; turn < 10; turn++) {
			uint32_t peers = 1 + prng_below(&prng, turn % 2 ? 400 : 4);
			uint32_t stride = prng_below(&prng, 2) ? 1 : 0x10000;
			uint32_t count = prng_below(&prng, capacity + 1);
			for (uint32_t i = 0; i < count; i++) {
				struct haul_frame row =
					row_of(&byte, prng_below(&prng, peers) * stride);
				assert_int_equal(haul_send_batch_push(&batch, &row), 0);
				if (prng_below(&prng, 50) > 0)
					continue;
				haul_send_batch_group(&batch);
				assert_grouped(&batch);
			}
			haul_send_batch_group(&batch);
			haul_send_batch_group(&batch);
			assert_grouped(&batch);
			haul_send_batch_clear(&batch);
		}
		haul_send_batch_done(&batch);
	}
}

/* The largest batch with a peer for each frame. */
static void test_send_batch_group__holds_as_many_peers_as_frames(void **state)
{
	(void)state;
	struct haul_send_batch batch;
	uint8_t byte = 0;
	assert_int_equal(haul_send_batch_init(&batch, HAUL_FRAMES_MAX), 0);
	for (uint32_t i = 0; i < HAUL_FRAMES_MAX; i++) {
		struct haul_frame row = row_of(&byte, i * 0x9e3779b1u);
		assert_int_equal(haul_send_batch_push(&batch, &row), 0);
	}
	haul_send_batch_group(&batch);
	assert_int_equal(batch.group_count, HAUL_FRAMES_MAX);
	for (uint32_t i = 0; i < HAUL_FRAMES_MAX; i++) {
		assert_int_equal(batch.group[i].peer, i * 0x9e3779b1u);
		assert_int_equal(batch.order[i], i);
	}
	haul_send_batch_done(&batch);
}

/* After init no call allocates. */
static void test_send_batch__allocates_only_at_init(void **state)
{
	(void)state;
	struct haul_send_batch batch;
	uint8_t byte = 0;
	uint64_t before = test_mallocs();
	void *volatile probe = malloc(1);
	free(probe);
	assert_true(test_mallocs() > before); /* or the count itself does not work */

	assert_int_equal(haul_send_batch_init(&batch, 64), 0);
	before = test_mallocs();
	for (uint32_t turn = 0; turn < 100; turn++) {
		for (uint32_t i = 0; i < 64; i++) {
			struct haul_frame row = row_of(&byte, i * turn % 7);
			(void)haul_send_batch_push(&batch, &row);
		}
		haul_send_batch_group(&batch);
		haul_send_batch_clear(&batch);
	}
	assert_int_equal(test_mallocs(), before);
	haul_send_batch_done(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_init__refuses_what_is_out_of_bounds),
		cmocka_unit_test(test_send_batch_init__survives_want_of_memory),
		cmocka_unit_test(test_frames_push__fills_every_column),
		cmocka_unit_test(test_frames_push__says_full_and_never_cuts),
		cmocka_unit_test(test_frames__columns_do_not_overlap),
		cmocka_unit_test(test_send_batch_group__handles_none_and_one),
		cmocka_unit_test(test_send_batch_group__equals_a_stable_sort),
		cmocka_unit_test(test_send_batch_group__holds_as_many_peers_as_frames),
		cmocka_unit_test(test_send_batch__allocates_only_at_init),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
