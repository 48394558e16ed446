/* link/test_coalesce_fields.c — frames that differ in one field only, with all their sums right:
 * what a superframe cannot say of each segment keeps them apart. */
#include <string.h>

#include <haul/link.h>
#include "base/bytes.h"
#include "lib/testlib.h"
#include "link/checksum.h"
#include "link/coalesce.h"
#include "link/segment.h"
#include "link/superframe.h"

enum { ROUNDS = 1000, ROWS_MAX = 1024, ARENA_BYTES = 512 * 1024 };
enum { CWR = 0x80, IPV4_TOS = 1, IPV4_ID = 4, IPV4_FLAGS = 6, IPV4_TTL = 8, IPV6_HOPS = 7 };

struct bed {
	struct prng prng;
	struct superframe sf;
	struct haul_frames frames;
	uint32_t order[ROWS_MAX];
	uint8_t whole[SUPERFRAME_BYTES_MAX];
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

/* Rows of a random superframe of three segments and more. */
static void cut_random(struct bed *bed, bool ipv6)
{
	struct segment_arena arena = { .base = bed->arena, .bytes = ARENA_BYTES };
	struct segment segment;
	do
		superframe_random(&bed->sf, &bed->prng);
	while (superframe_segments(&bed->sf) < 3 || bed->sf.ipv6 != ipv6);
	struct virtio_net_hdr vnet = superframe_vnet(&bed->sf);
	uint32_t whole = superframe_whole(&bed->sf, bed->whole);
	assert_int_equal(segment_open(&segment, bed->whole, whole, &vnet), 0);
	haul_frames_clear(&bed->frames);
	(void)segment_fill(&segment, &arena, &bed->frames);
	assert_true(segment_done(&segment));
}

static uint8_t *ip_of(struct bed *bed, uint32_t row)
{
	return bed->frames.data[row] + superframe_l3(&bed->sf);
}

/* Make the sum of an IPv4 header right again. */
static void fix_sum(struct bed *bed, uint32_t row)
{
	uint8_t *ip = ip_of(bed, row);
	uint32_t bytes = superframe_l4(&bed->sf) - superframe_l3(&bed->sf);
	be16_store(ip + 10, 0);
	checksum_store(ip + 10, (uint16_t)~checksum_fold(checksum_add(ip, bytes, 0)));
}

static uint32_t merged(struct bed *bed)
{
	const struct coalesce in = {
		.frames = &bed->frames,
		.order = bed->order,
		.left = bed->frames.count,
		.rows_max = ROWS_MAX,
		.uso_rows_max = ROWS_MAX,
		.offloads = HAUL_OFFLOAD_ALL,
	};
	return coalesce_find(&in).count;
}

/* Congestion marks, priority, TTL and "don't fragment" of one IPv4 frame: it does not join. */
static void test_coalesce__keeps_differing_ipv4_frames_apart(void **state)
{
	static const struct {
		uint8_t at, bits;
	} fields[] = {
		{ IPV4_TOS, 0x01 },   { IPV4_TOS, 0x03 },   /* ECN */
		{ IPV4_TOS, 0x20 },                         /* DSCP */
		{ IPV4_TTL, 0x01 },   { IPV4_FLAGS, 0x40 }, /* "don't fragment" */
		{ IPV4_FLAGS, 0x80 },                       /* reserved */
	};
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t row = prng_below(&bed->prng, 3);
		uint32_t field = round % (sizeof fields / sizeof fields[0]);
		cut_random(bed, false);
		ip_of(bed, row)[fields[field].at] ^= fields[field].bits;
		fix_sum(bed, row);
		assert_int_equal(merged(bed), row == 0 ? 1 : row);
	}
}

/* The same fields of IPv6, which has no sum over them. */
static void test_coalesce__keeps_differing_ipv6_frames_apart(void **state)
{
	static const struct {
		uint8_t at, bits;
	} fields[] = {
		{ 1, 0x10 },         { 1, 0x30 }, /* ECN */
		{ 0, 0x04 },                      /* DSCP */
		{ 3, 0x01 },                      /* flow label */
		{ IPV6_HOPS, 0x01 },
	};
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t row = prng_below(&bed->prng, 3);
		uint32_t field = round % (sizeof fields / sizeof fields[0]);
		cut_random(bed, true);
		ip_of(bed, row)[fields[field].at] ^= fields[field].bits;
		assert_int_equal(merged(bed), row == 0 ? 1 : row);
	}
}

/* IPv4 ids that count up are what cutting gives. Ids that stand still are merged only where "don't
 * fragment" makes them meaningless; others never. */
static void test_coalesce__follows_ipv4_ids(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		cut_random(bed, false);
		uint32_t count = bed->frames.count;
		assert_int_equal(merged(bed), count);
		for (uint32_t row = 0; row < count; row++) {
			be16_store(ip_of(bed, row) + IPV4_ID, bed->sf.ip_id);
			fix_sum(bed, row);
		}
		assert_int_equal(merged(bed), bed->sf.dont_fragment ? count : 1);
		for (uint32_t row = 0; row < count; row++) {
			be16_store(ip_of(bed, row) + IPV4_ID, (uint16_t)(bed->sf.ip_id + 2 * row));
			fix_sum(bed, row);
		}
		assert_int_equal(merged(bed), 1);
	}
}

/* "Congestion window reduced" belongs to the first segment alone, there and back; it is told to the
 * kernel as a mark on the kind of the superframe, which cutting must not mistake for another
 * kind. */
static void test_coalesce__keeps_cwr_on_the_first(void **state)
{
	struct bed *bed = *state;
	uint32_t marked = 0;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		cut_random(bed, round % 2 == 0);
		if (!bed->sf.tcp)
			continue;
		uint32_t flags = superframe_l4(&bed->sf) + 13;
		bool first = (bed->sf.tcp_flags & CWR) != 0;
		uint8_t type = superframe_vnet(&bed->sf).gso_type;
		assert_int_equal((type & VIRTIO_NET_HDR_GSO_ECN) != 0, first);
		for (uint32_t row = 0; row < bed->frames.count; row++)
			assert_int_equal((bed->frames.data[row][flags] & CWR) != 0,
					 row == 0 && first);
		assert_int_equal(merged(bed), bed->frames.count);
		bed->frames.data[1][flags] |= CWR;
		assert_int_equal(merged(bed), 1);
		marked += first;
	}
	assert_true(marked > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_coalesce__keeps_differing_ipv4_frames_apart),
		cmocka_unit_test(test_coalesce__keeps_differing_ipv6_frames_apart),
		cmocka_unit_test(test_coalesce__follows_ipv4_ids),
		cmocka_unit_test(test_coalesce__keeps_cwr_on_the_first),
	};
	return cmocka_run_group_tests(tests, bed_open, bed_close);
}
