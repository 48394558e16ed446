#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/disk.h>
#include "lib/testlib.h"

enum {
	SPACE = 2048, /* of the small worlds that are checked byte by byte */
	REQUESTS = 40,
	ROOM = 4 * SPACE,
	WORLDS = 4000,
};

static const uint32_t NOBODY = UINT32_MAX;

/* One list of requests, its limits and its plan. */
struct world {
	struct haul_extent requests[REQUESTS];
	uint32_t count;
	struct haul_plan_limits limits;
	uint32_t order[REQUESTS];
	struct haul_transfer transfers[ROOM];
	struct haul_piece pieces[2 * REQUESTS];
	struct haul_plan plan;
	uint32_t owner[SPACE]; /* the last request that has the byte */
	bool wanted[SPACE];    /* rounded out to align */
};

static void world_plan_init(struct world *world)
{
	world->plan = (struct haul_plan){
		.order = world->order,
		.transfers = world->transfers,
		.pieces = world->pieces,
		.transfers_max = ROOM,
		.pieces_max = 2 * REQUESTS,
		.transfer_count = 99,
		.piece_count = 99,
	};
}

static uint64_t down(const struct world *world, uint64_t at)
{
	return at - at % world->limits.align;
}

static uint64_t up(const struct world *world, uint64_t at)
{
	return down(world, at + world->limits.align - 1);
}

static void world_random(struct world *world, struct prng *prng)
{
	world->count = prng_below(prng, REQUESTS + 1);
	uint32_t longest = 1 + prng_below(prng, prng_below(prng, 2) ? 24 : SPACE / 2);
	uint32_t unit = UINT32_C(1) << prng_below(prng, 7); /* all offsets and lengths */
	for (uint32_t i = 0; i < world->count; i++) {
		struct haul_extent *request = &world->requests[i];
		uint32_t bytes = prng_below(prng, longest + 1) / unit * unit;
		request->bytes = prng_below(prng, 10) ? bytes : 0;
		request->offset = prng_below(prng, SPACE - bytes + 1) / unit * unit;
		if (i > 0 && prng_below(prng, 8) == 0)
			*request = world->requests[prng_below(prng, i)];
		else if (i > 0 && prng_below(prng, 4) == 0 && /* touches another */
			 request[-1].offset + request[-1].bytes + bytes <= SPACE)
			request->offset = request[-1].offset + request[-1].bytes;
	}
	uint32_t align = UINT32_C(1) << prng_below(prng, 7);
	world->limits = (struct haul_plan_limits){
		.align = align,
		.bytes_max = align + prng_below(prng, prng_below(prng, 2) ? 128 : SPACE),
		.gap_max = prng_below(prng, 3) ? prng_below(prng, 200) : 0,
	};
	world_plan_init(world);
	for (uint32_t i = 0; i < SPACE; i++)
		world->owner[i] = NOBODY;
	memset(world->wanted, 0, sizeof world->wanted);
	for (uint32_t i = 0; i < world->count; i++) {
		const struct haul_extent *request = &world->requests[i];
		if (request->bytes == 0)
			continue;
		for (uint64_t at = 0; at < request->bytes; at++)
			world->owner[request->offset + at] = i;
		uint64_t end = up(world, request->offset + request->bytes);
		for (uint64_t at = down(world, request->offset); at < end; at++)
			world->wanted[at] = true;
	}
}

static bool span_in(const struct world *world, uint32_t index, uint64_t begin, uint64_t end)
{
	const struct haul_extent *request = &world->requests[index];
	return request->bytes > 0 && down(world, request->offset) < end &&
	       up(world, request->offset + request->bytes) > begin;
}

/* No request, rounded, has bytes on both sides. */
static bool clean(const struct world *world, uint64_t at)
{
	for (uint32_t i = 0; i < world->count; i++) {
		const struct haul_extent *request = &world->requests[i];
		if (request->bytes > 0 && down(world, request->offset) < at &&
		    up(world, request->offset + request->bytes) > at)
			return false;
	}
	return true;
}

/* The transfer behind was not put into this one: it was too far, or no further whole group of
 * requests fitted, or this one is full. */
static void check_cut(const struct world *world, const struct haul_transfer *transfer)
{
	const struct haul_transfer *next = transfer + 1;
	uint64_t end = transfer->offset + transfer->bytes;
	assert_true(next->offset >= end);
	if (next->offset - end > world->limits.gap_max)
		return;
	uint64_t group = next->offset + 1;
	while (!clean(world, group))
		group++;
	if (clean(world, end))
		assert_true(group - transfer->offset > down(world, world->limits.bytes_max));
	else
		assert_int_equal(transfer->bytes, down(world, world->limits.bytes_max));
}

static void check_order(const struct world *world)
{
	bool seen[REQUESTS] = { false };
	for (uint32_t i = 0; i < world->count; i++) {
		uint32_t index = world->order[i];
		assert_true(index < world->count && !seen[index]);
		seen[index] = true;
		const struct haul_extent *now = &world->requests[index];
		if (i == 0)
			continue;
		const struct haul_extent *last = &world->requests[world->order[i - 1]];
		if (last->bytes == 0)
			assert_int_equal(now->bytes, 0);
		else if (now->bytes > 0)
			assert_true(last->offset < now->offset ||
				    (last->offset == now->offset && world->order[i - 1] < index));
	}
}

/* All requests with bytes in it are listed, and the list begins with one. */
static void check_listed(const struct world *world, const struct haul_transfer *transfer)
{
	uint64_t end = transfer->offset + transfer->bytes;
	assert_true(transfer->count >= 1);
	uint32_t last = transfer->first + transfer->count - 1;
	assert_true(last < world->count);
	assert_true(span_in(world, world->order[transfer->first], transfer->offset, end));
	for (uint32_t i = 0; i < world->count; i++) {
		if (span_in(world, world->order[i], transfer->offset, end))
			assert_true(i >= transfer->first && i <= last);
	}
}

static void check_bytes(const struct world *world, const struct haul_transfer *transfer,
			uint64_t *covered)
{
	uint64_t gap = 0, gaps = 0;
	for (uint64_t at = transfer->offset; at < transfer->offset + transfer->bytes; at++) {
		*covered += world->wanted[at];
		gap = world->wanted[at] ? 0 : gap + 1;
		gaps += !world->wanted[at];
		assert_true(gap <= world->limits.gap_max);
	}
	assert_true(world->wanted[transfer->offset]);
	assert_int_equal(gap, 0); /* none at the end */
	assert_int_equal(gaps, transfer->gap_bytes);
}

/* Where a request was split, it was too long or overlapped another. */
static void check_splits(const struct world *world)
{
	for (uint32_t i = 0; i < world->count; i++) {
		uint32_t parts = 0;
		const struct haul_extent *request = &world->requests[i];
		if (request->bytes == 0)
			continue;
		uint64_t begin = down(world, request->offset);
		uint64_t end = up(world, request->offset + request->bytes);
		for (uint32_t j = 0; j < world->plan.transfer_count; j++)
			parts += world->transfers[j].offset < end &&
				 world->transfers[j].offset + world->transfers[j].bytes > begin;
		bool overlaps = false;
		for (uint32_t j = 0; j < world->count; j++) {
			const struct haul_extent *other = &world->requests[j];
			overlaps = overlaps || (span_in(world, j, begin, end) &&
						(down(world, other->offset) != begin ||
						 up(world, other->offset + other->bytes) != end));
		}
		assert_true(parts >= 1);
		if (!overlaps && end - begin <= down(world, world->limits.bytes_max))
			assert_int_equal(parts, 1);
	}
}

/* Wrong if any byte asked for is not read, a gap over the limit is, a transfer is too long, split
 * without need, not merged though it could be, or a request is not where the plan lists it. */
static void test_plan_reads__agrees_with_a_map_of_bytes(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct world *world = calloc(1, sizeof *world);
	assert_non_null(world);
	for (uint32_t n = 0; n < WORLDS; n++) {
		world_random(world, &prng);
		assert_int_equal(haul_plan_reads(world->requests, world->count, &world->limits,
						 &world->plan),
				 0);
		uint64_t covered = 0, wanted = 0;
		for (uint32_t i = 0; i < world->plan.transfer_count; i++) {
			const struct haul_transfer *transfer = &world->transfers[i];
			assert_true(transfer->bytes > 0);
			assert_true(transfer->bytes <= world->limits.bytes_max);
			assert_int_equal(transfer->offset % world->limits.align, 0);
			assert_int_equal(transfer->bytes % world->limits.align, 0);
			check_bytes(world, transfer, &covered);
			check_listed(world, transfer);
			if (i + 1 < world->plan.transfer_count)
				check_cut(world, transfer);
		}
		for (uint32_t at = 0; at < SPACE; at++)
			wanted += world->wanted[at];
		assert_int_equal(covered, wanted);
		check_order(world);
		check_splits(world);
	}
	free(world);
}

static void check_pieces(const struct world *world)
{
	uint64_t covered = 0, owned = 0;
	assert_true(world->plan.piece_count + 1 <= 2 * world->count || world->count == 0);
	for (uint32_t i = 0; i < world->plan.piece_count; i++) {
		const struct haul_piece *piece = &world->pieces[i];
		assert_true(piece->bytes > 0);
		assert_int_equal(piece->request_skip,
				 piece->offset - world->requests[piece->request].offset);
		if (i > 0) {
			uint64_t end = piece[-1].offset + piece[-1].bytes;
			assert_true(end <= piece->offset);
			assert_true(end < piece->offset || piece[-1].request != piece->request);
		}
		for (uint64_t at = 0; at < piece->bytes; at++)
			assert_int_equal(world->owner[piece->offset + at], piece->request);
		covered += piece->bytes;
	}
	for (uint32_t at = 0; at < SPACE; at++)
		owned += world->owner[at] != NOBODY;
	assert_int_equal(covered, owned);
}

/* The transfer at `index` of a plan of writes, given the end of the one before it. */
static void check_write(const struct world *world, uint32_t index)
{
	const struct haul_transfer *transfer = &world->transfers[index];
	uint64_t end = transfer->offset + transfer->bytes;
	assert_true(transfer->bytes > 0 && transfer->bytes <= world->limits.bytes_max);
	assert_int_equal(transfer->gap_bytes, 0);
	for (uint64_t at = transfer->offset; at < end; at++)
		assert_int_not_equal(world->owner[at], NOBODY);
	for (uint32_t i = 0; i < world->plan.piece_count; i++) {
		const struct haul_piece *piece = &world->pieces[i];
		bool in = piece->offset < end && piece->offset + piece->bytes > transfer->offset;
		assert_int_equal(in, i >= transfer->first && i - transfer->first < transfer->count);
	}
	if (index + 1 == world->plan.transfer_count)
		return;
	assert_true(transfer[1].offset >= end);
	if (transfer[1].offset > end)
		return;
	/* They touch: it was split, at a multiple of align, and not before it had to be. */
	assert_int_equal(end % world->limits.align, 0);
	const struct haul_piece *piece = &world->pieces[transfer[1].first];
	if (piece->offset < end) {
		uint64_t full = transfer->offset + world->limits.bytes_max;
		assert_int_equal(end, down(world, full));
		return;
	}
	/* The next cut between pieces would have been too far. */
	uint64_t cut = piece->offset + piece->bytes;
	const struct haul_piece *last = &world->pieces[world->plan.piece_count - 1];
	for (; piece < last && piece[1].offset == cut && cut % world->limits.align != 0; piece++)
		cut = piece[1].offset + piece[1].bytes;
	assert_true(cut - transfer->offset > world->limits.bytes_max);
}

/* Wrong if a byte is written that nobody gave, by other than the last who gave it, or not at all;
 * if gaps are bridged (a neighbour wiped out), or touching writes are not merged. */
static void test_plan_writes__agrees_with_a_map_of_bytes(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct world *world = calloc(1, sizeof *world);
	assert_non_null(world);
	for (uint32_t n = 0; n < WORLDS; n++) {
		world_random(world, &prng);
		assert_int_equal(haul_plan_writes(world->requests, world->count, &world->limits,
						  &world->plan),
				 0);
		check_pieces(world);
		uint64_t bytes = 0, owned = 0;
		for (uint32_t i = 0; i < world->plan.transfer_count; i++) {
			check_write(world, i);
			bytes += world->transfers[i].bytes;
		}
		for (uint32_t at = 0; at < SPACE; at++)
			owned += world->owner[at] != NOBODY;
		assert_int_equal(bytes, owned);
	}
	free(world);
}

static struct world *world_of(const struct haul_extent *requests, uint32_t count)
{
	struct world *world = calloc(1, sizeof *world);
	assert_non_null(world);
	assert_true(count <= REQUESTS);
	memcpy(world->requests, requests, count * sizeof *requests);
	world->count = count;
	world->limits = (struct haul_plan_limits){ .gap_max = HAUL_DISK_GAP_MAX,
						   .bytes_max = HAUL_DISK_SPLIT,
						   .align = 4096 };
	world_plan_init(world);
	return world;
}

static void expect_transfer(const struct world *world, uint32_t index, uint64_t offset,
			    uint64_t bytes)
{
	assert_true(index < world->plan.transfer_count);
	assert_int_equal(world->transfers[index].offset, offset);
	assert_int_equal(world->transfers[index].bytes, bytes);
}

/* A buffered write must not fill the hole to its neighbour: the original wrote zeros over gaps of
 * up to 4096 bytes, and wiped live blocks. */
static void test_plan_writes__never_bridges_a_gap(void **state)
{
	(void)state;
	const struct haul_extent requests[] = { { 8192, 4096 }, { 0, 4096 }, { 12289, 1 } };
	struct world *world = world_of(requests, 3);
	assert_int_equal(haul_plan_writes(world->requests, 3, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 3);
	expect_transfer(world, 0, 0, 4096);
	expect_transfer(world, 1, 8192, 4096);
	expect_transfer(world, 2, 12289, 1);
	free(world);
}

/* Overlapping writes overlay; the original appended one behind the other. */
static void test_plan_writes__last_of_overlapping_wins(void **state)
{
	(void)state;
	const struct haul_extent requests[] = { { 100, 100 }, { 0, 300 }, { 50, 100 } };
	struct world *world = world_of(requests, 3);
	assert_int_equal(haul_plan_writes(world->requests, 3, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.piece_count, 3);
	assert_int_equal(world->pieces[0].request, 1);
	assert_int_equal(world->pieces[1].request, 2);
	assert_int_equal(world->pieces[1].offset, 50);
	assert_int_equal(world->pieces[2].request, 1);
	assert_int_equal(world->pieces[2].request_skip, 150);
	assert_int_equal(world->plan.transfer_count, 1);
	expect_transfer(world, 0, 0, 300);
	free(world);
}

/* The cap holds whatever the caller asks: a gap over 64 KiB is never read. */
static void test_plan_reads__bridges_at_most_the_cap(void **state)
{
	(void)state;
	const struct haul_extent requests[] = { { 0, 4096 },
						{ 4096 + 65536, 4096 },
						{ 8192 + 65536 + 65536 + 4096, 4096 } };
	struct world *world = world_of(requests, 3);
	world->limits.gap_max = UINT64_MAX;
	assert_int_equal(haul_plan_reads(world->requests, 3, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 2);
	expect_transfer(world, 0, 0, 8192 + 65536);
	assert_int_equal(world->transfers[0].gap_bytes, 65536);
	world->limits.gap_max = 4096; /* a calibrated gap below the cap */
	assert_int_equal(haul_plan_reads(world->requests, 3, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 3);
	free(world);
}

/* A request asked for twice is read once, and both are listed. */
static void test_plan_reads__reads_duplicates_once(void **state)
{
	(void)state;
	const struct haul_extent requests[] = { { 4096, 10 }, { 4096, 10 }, { 4100, 5 } };
	struct world *world = world_of(requests, 3);
	assert_int_equal(haul_plan_reads(world->requests, 3, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 1);
	expect_transfer(world, 0, 4096, 4096);
	assert_int_equal(world->transfers[0].count, 3);
	free(world);
}

/* Requests without bytes, and no requests at all, are no transfers. */
static void test_plan__leaves_out_what_is_empty(void **state)
{
	(void)state;
	const struct haul_extent requests[] = { { 5, 0 }, { UINT64_C(1) << 63, 0 }, { 4096, 1 } };
	struct world *world = world_of(requests, 3);
	assert_int_equal(haul_plan_reads(world->requests, 3, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 1);
	assert_int_equal(world->order[0], 2);
	assert_int_equal(haul_plan_writes(world->requests, 2, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 0);
	assert_int_equal(world->plan.piece_count, 0);
	assert_int_equal(haul_plan_reads(world->requests, 0, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 0);
	free(world);
}

/* Offsets up to 2^63 work, and beyond they are refused before anything wraps. */
static void test_plan__ends_at_2_to_63(void **state)
{
	(void)state;
	const uint64_t end = UINT64_C(1) << 63;
	const struct haul_extent good[] = { { end - 5000, 5000 }, { end - 9000, 100 } };
	struct world *world = world_of(good, 2);
	assert_int_equal(haul_plan_reads(world->requests, 2, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 1);
	expect_transfer(world, 0, end - 12288, 12288);
	assert_int_equal(haul_plan_writes(world->requests, 2, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 2);
	const struct haul_extent bad[] = {
		{ end - 5000, 5001 }, { end + 1, 0 }, { UINT64_MAX, 2 }, { 1, UINT64_MAX }
	};
	for (uint32_t i = 0; i < 4; i++) {
		world->requests[1] = bad[i];
		assert_int_equal(haul_plan_reads(world->requests, 2, &world->limits, &world->plan),
				 -EINVAL);
		assert_int_equal(haul_plan_writes(world->requests, 2, &world->limits, &world->plan),
				 -EINVAL);
		assert_int_equal(world->plan.transfer_count, 2);
	}
	free(world);
}

/* With too little room the plan says so, whichever array is short, and leaves the counts alone;
 * what is promised to be enough is. */
static void test_plan__says_when_room_is_too_small(void **state)
{
	(void)state;
	const struct haul_extent requests[] = { { 0, 4096 },
						{ 1 << 20, 3 << 20 },
						{ 2 << 20, 512 } };
	struct world *world = world_of(requests, 3);
	world->plan.transfers_max = 3;
	assert_int_equal(haul_plan_reads(world->requests, 3, &world->limits, &world->plan),
			 HAUL_EFULL);
	assert_int_equal(haul_plan_writes(world->requests, 3, &world->limits, &world->plan),
			 HAUL_EFULL);
	world->plan.transfers_max = 4;
	world->plan.pieces_max = 3;
	assert_int_equal(haul_plan_writes(world->requests, 3, &world->limits, &world->plan),
			 HAUL_EFULL);
	assert_int_equal(world->plan.transfer_count, 99);
	assert_int_equal(world->plan.piece_count, 99);
	world->plan.pieces_max = 4;
	assert_int_equal(haul_plan_writes(world->requests, 3, &world->limits, &world->plan), 0);
	assert_int_equal(haul_plan_reads(world->requests, 3, &world->limits, &world->plan), 0);
	/* One request of 2 bytes that lies in two blocks, split between them. */
	world->requests[0] = (struct haul_extent){ 4095, 2 };
	world->limits.bytes_max = 4096;
	world->plan.transfers_max = 1 + 2;
	assert_int_equal(haul_plan_reads(world->requests, 1, &world->limits, &world->plan), 0);
	assert_int_equal(world->plan.transfer_count, 2);
	free(world);
}

struct large {
	struct haul_extent *requests;
	struct haul_transfer *transfers;
	struct haul_piece *pieces;
	uint32_t *order;
	uint32_t count;
};

/* Orders that make a simple quicksort quadratic. */
static uint64_t place_of(uint32_t shape, uint32_t i, uint32_t count)
{
	uint32_t half = count / 2;
	switch (shape) {
	case 0:
		return i; /* sorted */
	case 1:
		return count - i; /* reversed */
	case 2:
		return 7; /* all the same */
	case 3:
		return i < half ? i : count - i; /* an organ pipe */
	case 4:                                  /* against the median of first, middle and last */
		if (i >= half)
			return 2 * (uint64_t)(i - half + 1);
		return i % 2 == 0 ? i + 1 : half + i;
	default:
		return i % 2; /* two values */
	}
}

/* Both planners stay far below quadratic for any order (the test would run for hours), and
 * allocate nothing. */
static void test_plan__is_fast_for_every_order_and_allocates_nothing(void **state)
{
	(void)state;
	struct large large = { .count = 1 << 18 };
	large.requests = calloc(large.count, sizeof *large.requests);
	large.transfers = calloc(2 * (size_t)large.count, sizeof *large.transfers);
	large.pieces = calloc(2 * (size_t)large.count, sizeof *large.pieces);
	large.order = calloc(large.count, sizeof *large.order);
	assert_true(large.requests && large.transfers && large.pieces && large.order);
	struct haul_plan plan = {
		.order = large.order,
		.transfers = large.transfers,
		.pieces = large.pieces,
		.transfers_max = 2 * large.count,
		.pieces_max = 2 * large.count,
	};
	const struct haul_plan_limits limits = { .bytes_max = 1 << 20, .align = 512 };
	for (uint32_t shape = 0; shape < 6; shape++) {
		for (uint32_t i = 0; i < large.count; i++)
			large.requests[i] =
				(struct haul_extent){ 4096 * place_of(shape, i, large.count),
						      shape % 2 ? 6000 : 512 };
		uint64_t mallocs = test_mallocs();
		assert_int_equal(haul_plan_reads(large.requests, large.count, &limits, &plan), 0);
		assert_true(plan.transfer_count >= 1);
		for (uint32_t i = 1; i < large.count; i++)
			assert_true(large.requests[large.order[i - 1]].offset <=
				    large.requests[large.order[i]].offset);
		assert_int_equal(haul_plan_writes(large.requests, large.count, &limits, &plan), 0);
		assert_true(plan.piece_count >= 1);
		assert_int_equal(test_mallocs(), mallocs);
	}
	free(large.requests);
	free(large.transfers);
	free(large.pieces);
	free(large.order);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan_reads__agrees_with_a_map_of_bytes),
		cmocka_unit_test(test_plan_writes__agrees_with_a_map_of_bytes),
		cmocka_unit_test(test_plan_writes__never_bridges_a_gap),
		cmocka_unit_test(test_plan_writes__last_of_overlapping_wins),
		cmocka_unit_test(test_plan_reads__bridges_at_most_the_cap),
		cmocka_unit_test(test_plan_reads__reads_duplicates_once),
		cmocka_unit_test(test_plan__leaves_out_what_is_empty),
		cmocka_unit_test(test_plan__ends_at_2_to_63),
		cmocka_unit_test(test_plan__says_when_room_is_too_small),
		cmocka_unit_test(test_plan__is_fast_for_every_order_and_allocates_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
