#include <math.h>

#include <haul/disk.h>
#include "lib/testlib.h"

static struct haul_disk_model model_of(double bandwidth, double iops)
{
	return (struct haul_disk_model){
		.sync_ns = 600e3,
		.write_bandwidth = 1e9,
		.read_bandwidth = bandwidth,
		.read_iops = iops,
		.read_ns = 100e3,
	};
}

/* The gap that pays is bandwidth / IOPS in whole sectors: small on a fast disk, and never over the
 * cap on a slow one. */
static void test_model_gap__is_bandwidth_over_iops(void **state)
{
	(void)state;
	const struct {
		double bandwidth, iops;
		uint64_t gap;
	} rows[] = {
		{ 3e9, 500e3, 5632 },         /* 6000 */
		{ 500e6, 90e3, 5120 },        /* 5555 */
		{ 125e6, 3e3, 41472 },        /* 41666 */
		{ 150e6, 120, 65536 },        /* 1.2 MB: the cap */
		{ 65536e3, 1e3, 65536 },      /* just the cap */
		{ 1e6, 1e4, 0 },              /* below a sector */
		{ 0, 1e4, 0 },                /* unknown */
		{ 1e9, 0, 0 },                /* unknown */
		{ (double)NAN, 1e4, 0 },      /* unknown */
		{ 1e9, (double)INFINITY, 0 }, /* nonsense */
		{ 1e9, -1, 0 },               /* nonsense */
	};
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct haul_disk_model model = model_of(rows[i].bandwidth, rows[i].iops);
		assert_int_equal(haul_disk_model_gap(&model), rows[i].gap);
	}
}

/* A sync of 0.6 ms on 1 GB/s takes a fifth of the time of 2.4 MB; all of no batch, none of any. */
static void test_model_batch__gives_the_sync_its_share(void **state)
{
	(void)state;
	struct haul_disk_model model = model_of(1e9, 1e5);
	assert_in_range(haul_disk_model_batch(&model, 0.2), 2399999, 2400001);
	assert_in_range(haul_disk_model_batch(&model, 0.5), 599999, 600001);
	assert_int_equal(haul_disk_model_batch(&model, 1.0), 0);
	assert_int_equal(haul_disk_model_batch(&model, 0.0), UINT64_MAX);
	assert_int_equal(haul_disk_model_batch(&model, (double)NAN), UINT64_MAX);
	assert_int_equal(haul_disk_model_batch(&model, 1e-300), UINT64_MAX);
	model.sync_ns = 0;
	assert_int_equal(haul_disk_model_batch(&model, 0.2), 0);
}

static double ratio_of(double now, double before)
{
	return now / before;
}

/* One stall of a second must not make of a fast disk a slow one, nor one lucky sample a fast one;
 * nonsense changes nothing. */
static void test_model_saw__bounds_outliers(void **state)
{
	(void)state;
	const struct haul_disk_model before = model_of(1e9, 1e5);
	const struct {
		double ns;
		double most;
	} rows[] = { { 1e18, 1.2 }, { 1e-9, 1.2 } };
	for (unsigned i = 0; i < 2; i++) {
		struct haul_disk_model model = before;
		haul_disk_model_saw_sync(&model, rows[i].ns);
		haul_disk_model_saw_write(&model, 1 << 20, rows[i].ns);
		haul_disk_model_saw_reads(&model, 32, 32 * 8192, rows[i].ns);
		const double ratios[] = {
			ratio_of(model.sync_ns, before.sync_ns),
			ratio_of(model.write_bandwidth, before.write_bandwidth),
			ratio_of(model.read_iops, before.read_iops),
			ratio_of(model.read_bandwidth, before.read_bandwidth),
		};
		for (unsigned j = 0; j < 4; j++) {
			assert_true(ratios[j] != 1.0);
			assert_true(ratios[j] < rows[i].most && ratios[j] > 1 / rows[i].most);
		}
	}
	struct haul_disk_model model = before;
	const double nonsense[] = { 0, -5, (double)NAN, (double)INFINITY };
	for (unsigned i = 0; i < 4; i++) {
		haul_disk_model_saw_sync(&model, nonsense[i]);
		haul_disk_model_saw_write(&model, 1 << 20, nonsense[i]);
		haul_disk_model_saw_reads(&model, 32, 1 << 20, nonsense[i]);
	}
	haul_disk_model_saw_write(&model, 0, 100);
	haul_disk_model_saw_reads(&model, 0, 0, 100);
	assert_memory_equal(&model, &before, sizeof model);
}

/* A disk that has become different is known after some dozens of samples. */
static void test_model_saw__follows_a_disk_that_changes(void **state)
{
	(void)state;
	struct haul_disk_model model = model_of(1e9, 1e5);
	for (uint32_t i = 0; i < 300; i++) {
		haul_disk_model_saw_sync(&model, 4e6);
		haul_disk_model_saw_write(&model, 1 << 20, (1 << 20) * 10.0); /* 100 MB/s */
		haul_disk_model_saw_reads(&model, 32, 32 * 4096, 3.2e6);      /* 10 k/s */
	}
	assert_true(fabs(model.sync_ns / 4e6 - 1) < 0.01);
	assert_true(fabs(model.write_bandwidth / 100e6 - 1) < 0.01);
	assert_true(fabs(model.read_iops / 10e3 - 1) < 0.01);
	assert_true(model.read_bandwidth == 1e9); /* 4 KiB reads tell nothing of it */
	for (uint32_t i = 0; i < 600; i++)        /* 100 MB/s in 1 MiB reads */
		haul_disk_model_saw_reads(&model, 32, 32 << 20, 32 * (1e5 + 10.0 * (1 << 20)));
	assert_true(fabs(model.read_bandwidth / 100e6 - 1) < 0.02);
}

/* A model that knows nothing yet takes the first sample as it is. */
static void test_model_saw__begins_with_the_first_sample(void **state)
{
	(void)state;
	struct haul_disk_model model = { 0 };
	haul_disk_model_saw_sync(&model, 5e5);
	haul_disk_model_saw_write(&model, 1000, 1e3);
	assert_true(model.sync_ns == 5e5);
	assert_true(fabs(model.write_bandwidth / 1e9 - 1) < 1e-9);
	haul_disk_model_saw_reads(&model, 32, 1 << 20, 1e6); /* one sum for two unknowns */
	assert_true(model.read_iops == 0.0 && model.read_bandwidth == 0.0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model_gap__is_bandwidth_over_iops),
		cmocka_unit_test(test_model_batch__gives_the_sync_its_share),
		cmocka_unit_test(test_model_saw__bounds_outliers),
		cmocka_unit_test(test_model_saw__follows_a_disk_that_changes),
		cmocka_unit_test(test_model_saw__begins_with_the_first_sample),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
