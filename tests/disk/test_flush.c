#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "write_lab.h"

enum { MIB = 1 << 20, DISK = 32 * MIB, SEGMENT = MIB };

static struct write_lab *lab_new(void)
{
	struct write_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	lab->options.fixed = true;
	lab->options.buffer_bytes = 8 * MIB;
	return lab;
}

static void lab_free(struct write_lab *lab)
{
	assert_int_equal(write_lab_close(lab), 0);
	free(lab);
}

static void expect(struct write_lab *lab, uint32_t number, enum haul_cache_status status)
{
	bool good;
	assert_int_equal(write_lab_get(lab, number, &good), status);
	assert_int_equal(good, status == HAUL_CACHE_HIT);
}

static struct haul_cache_stat stat_of(struct write_lab *lab)
{
	struct haul_cache_stat stat = { 0 };
	shard_stat(lab->shard, &stat);
	return stat;
}

/* A buffered store is seen at once, and nothing goes to the disk before the flush. */
static void test_flush__buffered_store_is_seen_before_the_flush(void **state)
{
	(void)state;
	struct write_lab *lab = lab_new();
	write_lab_open(lab, DISK, SEGMENT);
	assert_int_equal(write_lab_put(lab, 1, 4096, false), 0);
	write_lab_settle(lab);
	expect(lab, 1, HAUL_CACHE_HIT);
	assert_int_equal(write_lab_writes(lab), 0);
	assert_int_equal(stat_of(lab).pending_writes, 1);
	assert_int_equal(stat_of(lab).buffered_bytes, 4096);

	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[0].told, 1);
	assert_int_equal(lab->waits[0].result, 0);
	assert_int_equal(write_lab_syncs(lab), 1);
	expect(lab, 1, HAUL_CACHE_HIT);
	assert_int_equal(stat_of(lab).pending_writes, 0);
	assert_int_equal(stat_of(lab).closed[HAUL_CLOSE_MANUAL], 1);
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flush__buffered_store_is_seen_before_the_flush),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
