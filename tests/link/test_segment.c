/* link/test_segment.c — cutting a superframe gives the frames a network card would send. */
#include <string.h>

#include <haul/err.h>
#include "base/bytes.h"
#include "lib/testlib.h"
#include "link/segment.h"
#include "link/superframe.h"

enum { ROUNDS = 3000, ARENA_BYTES = 64 * 1024 };

struct bed {
	struct prng prng;
	struct superframe sf;
	uint8_t whole[SUPERFRAME_BYTES_MAX];
	uint8_t got[SUPERFRAME_BYTES_MAX];
	uint8_t want[SUPERFRAME_BYTES_MAX];
	uint8_t arena[ARENA_BYTES];
};

static int bed_open(void **state)
{
	static struct bed bed;
	test_prng(&bed.prng);
	*state = &bed;
	return 0;
}

/* Finish the partial checksum of a copied row, and check that the columns say where it is. */
static void complete(struct bed *bed, const struct haul_frames *frames, uint32_t row,
		     uint32_t bytes)
{
	uint32_t field = (uint32_t)frames->csum_start[row] + frames->csum_offset[row];
	assert_int_equal(frames->csum_start[row], superframe_l4(&bed->sf));
	assert_int_equal(frames->csum_offset[row], bed->sf.tcp ? 16 : 6);
	/* A partial field is the pseudo-header sum: with the bytes behind it, it adds up. */
	uint32_t sum = 0;
	for (uint32_t i = frames->csum_start[row]; i < bytes; i++)
		sum += (i - frames->csum_start[row]) % 2 == 0 ? (uint32_t)bed->got[i] << 8
							      : bed->got[i];
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = 0xffff - sum;
	be16_store(bed->got + field, (uint16_t)(sum != 0 ? sum : 0xffff));
}

static void check_rows(struct bed *bed, const struct haul_frames *frames, uint32_t first)
{
	for (uint32_t row = 0; row < frames->count; row++) {
		uint32_t bytes = haul_frame_copy(frames, row, bed->got);
		uint32_t want = superframe_segment(&bed->sf, first + row, bed->want);
		assert_int_equal(bytes, want);
		assert_int_equal(frames->flags[row] & ~HAUL_FRAME_BROADCAST,
				 HAUL_FRAME_CSUM_PARTIAL | HAUL_FRAME_HEADROOM);
		assert_int_equal((frames->flags[row] & HAUL_FRAME_BROADCAST) != 0,
				 bed->sf.mac[0] & 1);
		assert_int_equal(frames->peer[row], HAUL_PEER_NONE);
		assert_int_equal(frames->status[row], 0);
		/* the payload is not copied */
		assert_true(frames->tail[row] >= bed->whole &&
			    frames->tail[row] < bed->whole + sizeof bed->whole);
		memset(frames->data[row] - HAUL_FRAME_HEADROOM_BYTES, 0xee,
		       HAUL_FRAME_HEADROOM_BYTES);
		complete(bed, frames, row, bytes);
		assert_memory_equal(bed->got, bed->want, want);
	}
}

/* Random superframes, batches too small for them: every segment comes once, in order, correct. */
static void test_segment__gives_what_a_card_would_send(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct haul_frames frames;
		struct segment segment;
		uint32_t done = 0, bytes = 0;
		superframe_random(&bed->sf, &bed->prng);
		struct virtio_net_hdr vnet = superframe_vnet(&bed->sf);
		vnet.hdr_len = (uint16_t)prng_next(&bed->prng); /* not to be trusted */
		uint32_t whole = superframe_whole(&bed->sf, bed->whole);
		assert_int_equal(haul_frames_init(&frames, 1 + prng_below(&bed->prng, 100)), 0);
		assert_int_equal(segment_open(&segment, bed->whole, whole, &vnet), 0);
		while (!segment_done(&segment)) {
			struct segment_arena arena = {
				.base = bed->arena,
				.bytes = 256 + prng_below(&bed->prng, ARENA_BYTES - 256),
			};
			haul_frames_clear(&frames);
			bytes += segment_fill(&segment, &arena, &frames);
			assert_true(frames.count > 0);
			check_rows(bed, &frames, done);
			done += frames.count;
		}
		uint32_t segments = superframe_segments(&bed->sf);
		assert_int_equal(done, segments);
		assert_int_equal(bytes, bed->sf.payload_bytes +
						segments * superframe_header_bytes(&bed->sf));
		haul_frames_done(&frames);
	}
}

/* A superframe whose vnet header and contents disagree is refused: nothing is cut from it. */
static void test_segment__refuses_contradictions(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct segment segment;
		superframe_random(&bed->sf, &bed->prng);
		const struct virtio_net_hdr good = superframe_vnet(&bed->sf);
		uint32_t whole = superframe_whole(&bed->sf, bed->whole);
		struct virtio_net_hdr bad[7];
		for (uint32_t i = 0; i < 7; i++)
			bad[i] = good;
		bad[0].gso_size = 0;
		bad[1].gso_size = UINT16_MAX;
		bad[2].flags = 0;
		bad[3].csum_start++;
		bad[4].csum_offset += 2;
		bad[5].gso_type = VIRTIO_NET_HDR_GSO_UDP; /* fragments: never asked for */
		bad[6].gso_type =
			bed->sf.tcp ? VIRTIO_NET_HDR_GSO_UDP_L4 : VIRTIO_NET_HDR_GSO_TCPV4;
		for (uint32_t i = 0; i < 7; i++)
			assert_int_equal(segment_open(&segment, bed->whole, whole, &bad[i]),
					 HAUL_ECORRUPT);
		uint32_t header = superframe_header_bytes(&bed->sf);
		uint32_t cut = prng_below(&bed->prng, header + 1);
		assert_int_equal(segment_open(&segment, bed->whole, cut, &good), HAUL_ECORRUPT);
	}
}

/* Whatever the bytes, no byte beyond the frame is read. */
static void test_segment__reads_no_further_than_the_frame(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct segment segment;
		superframe_random(&bed->sf, &bed->prng);
		struct virtio_net_hdr vnet = superframe_vnet(&bed->sf);
		uint32_t whole = superframe_whole(&bed->sf, bed->whole);
		uint32_t bytes = 1 + prng_below(&bed->prng, whole < 300 ? whole : 300);
		struct test_guard guard;
		test_guard_open(&guard, bytes);
		memcpy(guard.data, bed->whole, bytes);
		for (uint32_t flips = prng_below(&bed->prng, 8); flips > 0; flips--)
			guard.data[prng_below(&bed->prng, bytes)] ^=
				(uint8_t)(1 << prng_below(&bed->prng, 8));
		(void)segment_open(&segment, guard.data, bytes, &vnet);
		test_guard_close(&guard);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segment__gives_what_a_card_would_send),
		cmocka_unit_test(test_segment__refuses_contradictions),
		cmocka_unit_test(test_segment__reads_no_further_than_the_frame),
	};
	return cmocka_run_group_tests(tests, bed_open, NULL);
}
