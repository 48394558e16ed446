/* Batched output equals one-at-a-time output, over the link that can be told to fail. */
#include <string.h>

#include "lib/testlib.h"
#include "link/prop.h"

enum { CASES = 2500, QUEUE = 64 };

/* A fault of every kind now and then: by countdown, or at random within the call. */
static void disturb(struct haul_link *from, struct prng *prng)
{
	struct haul_mem_faults faults = { 0 };
	uint32_t *countdown[] = { &faults.eagain_in, &faults.eio_in, &faults.enobufs_in,
				  &faults.partial_in };
	for (uint32_t i = 0; i < 4; i++)
		if (prng_below(prng, 4) == 0)
			*countdown[i] = 1 + prng_below(prng, 4);
	faults.partial_frames = prng_below(prng, 10);
	if (prng_below(prng, 3) == 0) {
		faults.seed = 1 + prng_below(prng, 1 << 30);
		faults.percent = prng_below(prng, 70);
	}
	haul_link_mem_faults(from, &faults);
}

static void path_open(struct prop_path *path, const char *name, uint32_t queue)
{
	struct haul_link *from, *to;
	assert_int_equal(haul_link_mem_pair(name, queue, &from, &to), 0);
	*path = (struct prop_path){
		.from = from,
		.to = { to },
		.to_count = 1,
		.lanes = 2,
		.peer = { 0, 1 },
	};
}

static void path_close(struct prop_path *path)
{
	haul_link_close(path->from);
	haul_link_close(path->to[0]);
}

/* Random bursts, splits, peers, sizes and faults of all kinds. */
static void test_mem__bursts_equal_single_frames(void **state)
{
	struct prop_path bursts, singles;
	struct prop_case prop = {
		.bursts = &bursts, .singles = &singles, .bytes_min = 1, .bytes_max = 65535
	};
	struct prop_totals totals;
	(void)state;
	path_open(&bursts, "bursts", QUEUE);
	bursts.burst_max = 2 * QUEUE;
	bursts.disturb = disturb;
	path_open(&singles, "singles", HAUL_FRAMES_MAX);
	singles.burst_max = 1;
	prop_run(&prop, CASES, &totals);
	print_message("%lu frames, %lu sent again, %lu refused\n", (unsigned long)totals.frames,
		      (unsigned long)totals.again, (unsigned long)totals.refused);
	assert_true(totals.again > CASES);
	assert_true(totals.refused > CASES / 10);
	path_close(&bursts);
	path_close(&singles);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mem__bursts_equal_single_frames),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
