/* Gets of a shard: batches of keys against what was stored; what is merged, and what happens when
 * the disk, or what is on it, is not good. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "disk/lookup_state.h"
#include "shard_lab.h"

enum {
	KEYS_MAX = 512,
	DISK = 32 << 20,
	SEGMENT = 1 << 20,
};

/* Keys of a batch, and what came back. */
struct batch {
	struct shard_lab *lab;
	char text[KEYS_MAX][32];
	uint64_t numbers[KEYS_MAX];
	struct cache_key keys[KEYS_MAX];
	struct shard_value values[KEYS_MAX];
	enum haul_cache_status status[KEYS_MAX];
	uint64_t version[KEYS_MAX]; /* of a hit; 0 = wrong bytes */
	uint32_t bytes[KEYS_MAX];
	uint32_t flags[KEYS_MAX];
	struct shard_get get;
	uint32_t windows;
	uint32_t next; /* key that comes next */
	bool done;
};

static struct shard_lab *lab_new(const struct shard_options *options)
{
	struct shard_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	if (options)
		lab->options = *options;
	shard_lab_init(lab, DISK, SEGMENT, 1);
	assert_int_equal(shard_lab_open(lab), 0);
	return lab;
}

static void lab_free(struct shard_lab *lab)
{
	shard_lab_done(lab);
	free(lab);
}

/* Each window once, in order, without gaps. */
static void batch_window(struct shard_get *get)
{
	struct batch *batch = get->owner;
	assert_false(batch->done);
	assert_int_equal(get->first, batch->next);
	assert_true(get->ready > 0 && get->first + get->ready <= get->count);
	for (uint32_t i = get->first; i < get->first + get->ready; i++) {
		const struct shard_value *value = &batch->values[i];
		batch->status[i] = value->status;
		batch->bytes[i] = value->bytes;
		batch->flags[i] = value->flags;
		batch->version[i] = 0;
		if (value->status == HAUL_CACHE_HIT)
			batch->version[i] = shard_lab_version(batch->lab, batch->numbers[i],
							      value->data, value->bytes);
	}
	batch->next += get->ready;
	batch->windows++;
	batch->done = batch->next == get->count;
	shard_get_next(batch->lab->shard, get);
}

static void batch_start(struct batch *batch, struct shard_lab *lab, const uint64_t *numbers,
			uint32_t count)
{
	assert_true(count <= KEYS_MAX);
	batch->lab = lab;
	batch->windows = batch->next = 0;
	batch->done = false;
	for (uint32_t i = 0; i < count; i++) {
		batch->numbers[i] = numbers[i];
		batch->keys[i] = shard_lab_key(lab, numbers[i], batch->text[i]);
	}
	batch->get = (struct shard_get){ .keys = batch->keys,
					 .values = batch->values,
					 .count = count,
					 .done = batch_window,
					 .owner = batch };
	shard_get(lab->shard, &batch->get);
}

static void batch_run(struct batch *batch, struct shard_lab *lab, const uint64_t *numbers,
		      uint32_t count)
{
	batch_start(batch, lab, numbers, count);
	shard_drive(lab->shard, &batch->done);
	assert_true(batch->done);
}

static struct batch *batch_new(void)
{
	struct batch *batch = calloc(1, sizeof *batch);
	assert_non_null(batch);
	return batch;
}

/* Store keys 1 … count, version = key, durable. */
static void store_all(struct shard_lab *lab, uint32_t count, uint32_t bytes)
{
	for (uint32_t i = 1; i <= count; i++) {
		struct shard_put put = { 0 };
		int rc;
		while ((rc = shard_lab_put(lab, i, i, bytes, &put)) == -EAGAIN) {
			shard_lab_settle(lab);
			os_sim_advance(&lab->os, NS_PER_MS);
		}
		assert_int_equal(rc, 0);
	}
	assert_int_equal(shard_lab_flush(lab), 0);
}

/* ---- the original's defects ---- */

/* Defect 3: answers came in the order of the disk and were taken for those of the order asked, so
 * every batch that was not asked in the order stored was a row of mismatches. */
static void test_lookup__answers_in_the_order_asked(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	struct batch *batch = batch_new();
	uint64_t numbers[100];
	store_all(lab, 100, 4096);
	for (uint32_t i = 0; i < 100; i++)
		numbers[i] = 1 + (i * 37 + 11) % 100;
	batch_run(batch, lab, numbers, 100);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(batch->status[i], HAUL_CACHE_HIT);
		assert_int_equal(batch->version[i], numbers[i]);
	}
	free(batch);
	lab_free(lab);
}

/* Defect 4: a batch handed out compressed bytes as they were, and values whose time was over. */
static void test_lookup__unpacks_and_minds_expiry(void **state)
{
	(void)state;
	for (enum index_codec codec = INDEX_RAW; codec <= INDEX_ZSTD; codec++) {
		struct shard_options options = { .codec = codec };
		struct shard_lab *lab = lab_new(&options);
		struct batch *batch = batch_new();
		lab->squeezing = true;
		uint64_t numbers[] = { 3, 1, 2 };
		store_all(lab, 2, 50000);
		struct shard_put put = { .expiry = SHARD_LAB_START_S + 10, .flags = 0xfeedbeef };
		assert_int_equal(shard_lab_put(lab, 3, 3, 50000, &put), 0);
		assert_int_equal(shard_lab_flush(lab), 0);
		batch_run(batch, lab, numbers, 3);
		for (uint32_t i = 0; i < 3; i++) {
			assert_int_equal(batch->status[i], HAUL_CACHE_HIT);
			assert_int_equal(batch->version[i], numbers[i]);
			assert_int_equal(batch->bytes[i], 50000);
		}
		assert_int_equal(batch->flags[0], 0xfeedbeef);
		assert_int_equal(batch->flags[1], 0);
		os_sim_advance(&lab->os, 10 * NS_PER_S);
		batch_run(batch, lab, numbers, 3);
		assert_int_equal(batch->status[0], HAUL_CACHE_EXPIRED);
		assert_int_equal(batch->version[1], 1);
		batch_run(batch, lab, numbers, 3);
		assert_int_equal(batch->status[0], HAUL_CACHE_MISS); /* it has left the index */
		assert_int_equal(shard_lab_stat(lab).expired, 1);
		free(batch);
		lab_free(lab);
	}
}

/* Defect 5: what was buffered was looked for on the disk, where it was not yet. */
static void test_lookup__sees_what_is_buffered(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	struct batch *batch = batch_new();
	uint64_t numbers[] = { 1, 2, 1 };
	store_all(lab, 2, 5000);
	struct shard_put put = { 0 };
	assert_int_equal(shard_lab_put(lab, 1, 100, 3000, &put), 0);
	batch_run(batch, lab, numbers, 3);
	assert_int_equal(batch->version[0], 100);
	assert_int_equal(batch->version[1], 2);
	assert_int_equal(batch->version[2], 100);
	assert_int_equal(lab->shard->gathering.ops, 1); /* it is still buffered */
	free(batch);
	lab_free(lab);
}

/* What has expired is not there to be deleted, also when nobody has looked it up since. */
static void test_lookup__expired_is_not_there_to_delete(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	struct shard_put put = { .expiry = SHARD_LAB_START_S + 10 };
	assert_int_equal(shard_lab_put(lab, 1, 1, 100, &put), 0);
	assert_int_equal(shard_lab_flush(lab), 0);
	os_sim_advance(&lab->os, 11 * NS_PER_S);
	assert_int_equal(shard_lab_delete(lab, 1), -ENOENT);
	assert_int_equal(shard_lab_stat(lab).deletes, 0);
	assert_int_equal(shard_lab_stat(lab).entries, 0);
	lab_free(lab);
}

/* ---- reading little ---- */

/* Keys that lie side by side come with few reads, the same key twice with one. */
static void test_lookup__merges_neighbours_and_reads_duplicates_once(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	struct batch *batch = batch_new();
	uint64_t numbers[200];
	store_all(lab, 100, 4096);
	uint64_t before = io_sim_count(lab->disk, IO_READ);
	for (uint32_t i = 0; i < 200; i++)
		numbers[i] = 7;
	batch_run(batch, lab, numbers, 200);
	assert_int_equal(io_sim_count(lab->disk, IO_READ) - before, 1);
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(batch->version[i], 7);

	before = io_sim_count(lab->disk, IO_READ);
	for (uint32_t i = 0; i < 100; i++)
		numbers[i] = 100 - i;
	batch_run(batch, lab, numbers, 100);
	assert_true(io_sim_count(lab->disk, IO_READ) - before <= 8);
	assert_int_equal(batch->version[99], 1);
	/* Somebody waits for them: before flushes, and these before what nobody waits for. */
	const struct queue *queue = &lab->shard->queue;
	assert_int_equal(counter_get(&queue->ops[QUEUE_READ]), io_sim_count(lab->disk, IO_READ));
	assert_true(counter_get(&queue->ops[QUEUE_FLUSH]) >= 2);
	assert_int_equal(counter_get(&queue->ops[QUEUE_BACKGROUND]), 0);
	free(batch);
	lab_free(lab);
}

/* What lies side by side for long is read in transfers of at most 1 MiB, each of whole values. */
static void test_lookup__transfers_are_cut_between_values(void **state)
{
	(void)state;
	enum { VALUES = 12, BYTES = 300000 };
	struct shard_lab *lab = calloc(1, sizeof *lab);
	struct batch *batch = batch_new();
	uint64_t numbers[VALUES];
	assert_non_null(lab);
	lab->options.read_bytes = 64 << 20;
	shard_lab_init(lab, 4 * DISK, 8 * SEGMENT, 1);
	assert_int_equal(shard_lab_open(lab), 0);
	store_all(lab, VALUES, BYTES);
	lab->shard->model = (struct haul_disk_model){ .read_bandwidth = 1e9, .read_iops = 1e4 };
	for (uint32_t i = 0; i < VALUES; i++)
		numbers[i] = i + 1;
	const uint64_t before = io_sim_count(lab->disk, IO_READ);
	batch_run(batch, lab, numbers, VALUES);
	for (uint32_t i = 0; i < VALUES; i++)
		assert_int_equal(batch->version[i], numbers[i]);
	/* Three go into 1 MiB. */
	assert_int_equal(io_sim_count(lab->disk, IO_READ) - before, VALUES / 3);
	assert_int_equal(lab->shard->read_stats.extra[LOOKUP_MERGED], VALUES - VALUES / 3);
	free(batch);
	lab_free(lab);
}

/* Gaps are bridged as far as the disk's model says that they cost less than a read. */
static void test_lookup__bridges_gaps_that_pay(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	struct batch *batch = batch_new();
	uint64_t numbers[10];
	store_all(lab, 30, 4096);
	for (uint32_t i = 0; i < 10; i++)
		numbers[i] = 2 * i + 1;
	lab->shard->model.read_bandwidth = 1e9;
	lab->shard->model.read_iops = 1e9 / 512;
	uint64_t before = io_sim_count(lab->disk, IO_READ);
	batch_run(batch, lab, numbers, 10);
	assert_int_equal(io_sim_count(lab->disk, IO_READ) - before, 10);
	lab->shard->model.read_bandwidth = 1e9;
	lab->shard->model.read_iops = 1e9 / 16384;
	before = io_sim_count(lab->disk, IO_READ);
	batch_run(batch, lab, numbers, 10);
	assert_true(io_sim_count(lab->disk, IO_READ) - before <= 3);
	assert_true(shard_lab_stat(lab).read_gap_bytes > 0);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(batch->version[i], numbers[i]);
	free(batch);
	lab_free(lab);
}

/* More keys than the buffers hold: windows, in order, none fails, and nothing leaks. */
static void test_lookup__any_number_of_keys_with_few_buffers(void **state)
{
	(void)state;
	for (enum index_codec codec = INDEX_RAW; codec <= INDEX_LZ4; codec++) {
		struct shard_options options = { .codec = codec, .ram_bytes = 4 << 20 };
		struct shard_lab *lab = lab_new(&options);
		struct batch *batches[3] = { batch_new(), batch_new(), batch_new() };
		uint64_t numbers[60];
		lab->squeezing = true;
		store_all(lab, 20, 700000);
		for (uint32_t i = 0; i < 60; i++)
			numbers[i] = 1 + i * 7 % 20;
		for (uint32_t i = 0; i < 3; i++)
			batch_start(batches[i], lab, numbers, 60);
		for (uint32_t i = 0; i < 3; i++) {
			shard_drive(lab->shard, &batches[i]->done);
			assert_true(batches[i]->done);
		}
		for (uint32_t i = 0; i < 60; i++)
			for (uint32_t j = 0; j < 3; j++)
				assert_int_equal(batches[j]->version[i], numbers[i]);
		assert_true(batches[0]->windows > 1);
		shard_lab_settle(lab);
		assert_true(lab->shard->buffers.used <= 65536); /* small values' own */
		for (uint32_t i = 0; i < 3; i++)
			free(batches[i]);
		lab_free(lab);
	}
}

/* Values of all kinds of lengths: nothing, one unit, over a block, the longest. */
static void test_lookup__values_of_any_length(void **state)
{
	(void)state;
	static const uint32_t sizes[] = { 0,    24,   63,    64,     65,     4095,
					  4096, 4097, 65536, 999999, 1 << 20 };
	enum { SIZES = sizeof sizes / sizeof *sizes };
	struct shard_lab *lab = calloc(1, sizeof *lab);
	struct batch *batch = batch_new();
	uint64_t numbers[SIZES];
	assert_non_null(lab);
	shard_lab_init(lab, 64 << 20, 4 << 20, 1);
	assert_int_equal(shard_lab_open(lab), 0);
	for (uint32_t i = 0; i < SIZES; i++) {
		numbers[i] = i + 1;
		assert_int_equal(shard_lab_store(lab, i + 1, 9, sizes[i]), 0);
	}
	batch_run(batch, lab, numbers, SIZES);
	for (uint32_t i = 0; i < SIZES; i++) {
		assert_int_equal(batch->status[i], HAUL_CACHE_HIT);
		assert_int_equal(batch->bytes[i], sizes[i]);
		assert_int_equal(batch->version[i], sizes[i] ? 9 : 0);
	}
	free(batch);
	lab_free(lab);
}

/* ---- what is kept ---- */

/* A value read twice from the disk is kept in RAM, one read once is not; a peek keeps nothing; an
 * overwritten one is never taken from RAM. */
static void test_lookup__keeps_in_ram_what_is_read_again(void **state)
{
	(void)state;
	struct shard_options options = { .ram_bytes = 1 << 20 };
	struct shard_lab *lab = lab_new(&options);
	struct batch *batch = batch_new();
	uint64_t one = 1;
	uint64_t version;
	store_all(lab, 3, 4096);
	for (uint32_t i = 0; i < 5; i++) {
		batch_start(batch, lab, &one, 1);
		batch->get.peek = true;
		shard_drive(lab->shard, &batch->done);
	}
	assert_int_equal(shard_lab_stat(lab).ram_hits, 0);
	(void)shard_lab_get(lab, 1, &version);
	(void)shard_lab_get(lab, 1, &version);
	assert_int_equal(shard_lab_stat(lab).ram_hits, 0);
	uint64_t reads = io_sim_count(lab->disk, IO_READ);
	assert_int_equal(shard_lab_get(lab, 1, &version), HAUL_CACHE_HIT);
	assert_int_equal(version, 1);
	assert_int_equal(shard_lab_stat(lab).ram_hits, 1);
	assert_int_equal(io_sim_count(lab->disk, IO_READ), reads);
	assert_int_equal(shard_lab_store(lab, 1, 50, 4096), 0);
	assert_int_equal(shard_lab_get(lab, 1, &version), HAUL_CACHE_HIT);
	assert_int_equal(version, 50);
	free(batch);
	lab_free(lab);
}

/* ---- a disk that is not good ---- */

/* One bit: the key is corrupt, is counted, and is gone; its neighbours in the same read are not. */
static void test_lookup__corrupt_value_is_never_given(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	struct batch *batch = batch_new();
	uint64_t numbers[] = { 4, 5, 6, 5 };
	store_all(lab, 10, 4096);
	shard_lab_bytes(lab, 5, NULL)[1000] ^= 4;
	batch_run(batch, lab, numbers, 4);
	assert_int_equal(batch->version[0], 4);
	assert_int_equal(batch->status[1], HAUL_CACHE_CORRUPT);
	assert_int_equal(batch->version[2], 6);
	assert_int_equal(batch->status[3], HAUL_CACHE_CORRUPT);
	batch_run(batch, lab, numbers, 2);
	assert_int_equal(batch->status[1], HAUL_CACHE_MISS);
	assert_int_equal(shard_lab_stat(lab).corrupt, 2);
	assert_true(lab->shard->hides);
	free(batch);
	lab_free(lab);
}

/* A sector that cannot be read under a merged read fails its own key only. */
static void test_lookup__unreadable_sector_fails_one_key(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	struct batch *batch = batch_new();
	uint64_t numbers[] = { 9, 8, 7, 6, 5, 4, 3, 2 };
	uint64_t offset;
	store_all(lab, 10, 4096);
	(void)shard_lab_bytes(lab, 6, &offset);
	io_sim_bad(lab->disk, offset + 512, 512);
	batch_run(batch, lab, numbers, 8);
	for (uint32_t i = 0; i < 8; i++) {
		bool bad = numbers[i] == 6;
		assert_int_equal(batch->status[i], bad ? HAUL_CACHE_FAILED : HAUL_CACHE_HIT);
		assert_int_equal(batch->version[i], bad ? 0 : numbers[i]);
	}
	assert_int_equal(shard_lab_stat(lab).unreadable, 1);
	assert_int_equal(shard_lab_stat(lab).segments_bad, 0);
	free(batch);
	lab_free(lab);
}

/* A segment that is damaged time and again is never written again; what is good in it stays. */
static void test_lookup__damaged_segment_is_quarantined(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	uint64_t version;
	store_all(lab, 100, 20000); /* over more than one segment */
	for (uint32_t i = 1; i <= SEGMENT_ERRORS_MAX; i++) {
		assert_int_equal(shard_lab_stat(lab).segments_bad, 0);
		shard_lab_bytes(lab, i, NULL)[100] ^= 1;
		assert_int_equal(shard_lab_get(lab, i, &version), HAUL_CACHE_CORRUPT);
	}
	assert_int_equal(shard_lab_stat(lab).segments_bad, 1);
	assert_int_equal(shard_lab_get(lab, 10, &version), HAUL_CACHE_HIT);
	assert_int_equal(version, 10);
	assert_int_equal(shard_lab_flush(lab), 0);
	shard_lab_reopen(lab);
	assert_int_equal(shard_lab_stat(lab).segments_bad, 1);
	assert_int_equal(shard_lab_get(lab, 10, &version), HAUL_CACHE_HIT);
	assert_int_equal(version, 10);
	lab_free(lab);
}

/* A device that is gone: every get finishes, nothing is forgotten. */
static void test_lookup__finishes_on_a_dead_device(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new(NULL);
	struct batch *batch = batch_new();
	uint64_t numbers[] = { 1, 2, 3, 99 };
	store_all(lab, 3, 9000);
	io_sim_dead(lab->disk, true);
	batch_run(batch, lab, numbers, 4);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(batch->status[i], HAUL_CACHE_FAILED);
	assert_int_equal(batch->status[3], HAUL_CACHE_MISS);
	io_sim_dead(lab->disk, false);
	batch_run(batch, lab, numbers, 4);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(batch->version[i], numbers[i]);
	lab->shard->offline = true;
	batch_run(batch, lab, numbers, 4);
	assert_int_equal(batch->status[0], HAUL_CACHE_MISS);
	lab->shard->offline = false;
	free(batch);
	lab_free(lab);
}

/* A value that is overwritten while it is read: the answer is whole, and RAM keeps nothing old. */
static void test_lookup__overwritten_while_it_is_read(void **state)
{
	(void)state;
	struct shard_options options = { .ram_bytes = 1 << 20 };
	struct shard_lab *lab = lab_new(&options);
	struct batch *batch = batch_new();
	uint64_t one = 1;
	uint64_t version;
	store_all(lab, 1, 4096);
	(void)shard_lab_get(lab, 1, &version);
	batch_start(batch, lab, &one, 1);
	(void)lookups_poll(lab->shard); /* the read is under way */
	struct shard_put put = { 0 };
	assert_int_equal(shard_lab_put(lab, 1, 2, 4096, &put), 0);
	shard_drive(lab->shard, &batch->done);
	assert_int_equal(batch->version[0], 1);
	assert_int_equal(shard_lab_flush(lab), 0);
	assert_int_equal(shard_lab_get(lab, 1, &version), HAUL_CACHE_HIT);
	assert_int_equal(version, 2);
	free(batch);
	lab_free(lab);
}

/* Gets take no memory of the heap. */
static void test_lookup__allocates_nothing(void **state)
{
	(void)state;
	struct shard_options options = { .ram_bytes = 1 << 20 };
	struct shard_lab *lab = lab_new(&options);
	struct batch *batch = batch_new();
	uint64_t numbers[64];
	store_all(lab, 64, 5000);
	for (uint32_t i = 0; i < 64; i++)
		numbers[i] = 64 - i;
	uint64_t before = test_mallocs();
	for (uint32_t i = 0; i < 4; i++)
		batch_run(batch, lab, numbers, 64);
	assert_int_equal(test_mallocs(), before);
	free(batch);
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookup__answers_in_the_order_asked),
		cmocka_unit_test(test_lookup__unpacks_and_minds_expiry),
		cmocka_unit_test(test_lookup__expired_is_not_there_to_delete),
		cmocka_unit_test(test_lookup__sees_what_is_buffered),
		cmocka_unit_test(test_lookup__merges_neighbours_and_reads_duplicates_once),
		cmocka_unit_test(test_lookup__transfers_are_cut_between_values),
		cmocka_unit_test(test_lookup__bridges_gaps_that_pay),
		cmocka_unit_test(test_lookup__any_number_of_keys_with_few_buffers),
		cmocka_unit_test(test_lookup__values_of_any_length),
		cmocka_unit_test(test_lookup__keeps_in_ram_what_is_read_again),
		cmocka_unit_test(test_lookup__corrupt_value_is_never_given),
		cmocka_unit_test(test_lookup__unreadable_sector_fails_one_key),
		cmocka_unit_test(test_lookup__damaged_segment_is_quarantined),
		cmocka_unit_test(test_lookup__finishes_on_a_dead_device),
		cmocka_unit_test(test_lookup__overwritten_while_it_is_read),
		cmocka_unit_test(test_lookup__allocates_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
