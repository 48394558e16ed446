#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "write_lab.h"

enum { MIB = 1 << 20, DISK = 48 * MIB, SEGMENT = 4 * MIB };

static struct write_lab *lab_open(uint32_t segment_bytes)
{
	struct write_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	lab->options.buffer_bytes = 16 * MIB;
	write_lab_open(lab, DISK, segment_bytes);
	return lab;
}

static void lab_free(struct write_lab *lab)
{
	assert_int_equal(write_lab_close(lab), 0);
	free(lab);
}

static void put(struct write_lab *lab, uint32_t number, uint32_t bytes)
{
	assert_int_equal(write_lab_put(lab, number, bytes, false), 0);
}

static struct index_entry entry_of(const struct write_lab *lab, uint32_t number)
{
	char text[32];
	struct cache_key key = write_lab_key(lab, number, text);
	struct index_entry entry;
	const struct index_slot *slot = index_find(&lab->shard->index, key.hash);
	assert_non_null(slot);
	index_unpack(slot, &entry);
	return entry;
}

static void expect_hit(struct write_lab *lab, uint32_t number)
{
	bool good;
	assert_int_equal(write_lab_get(lab, number, &good), HAUL_CACHE_HIT);
	assert_true(good);
}

/* The batch an entry is in, as it lies on the disk. */
static const uint8_t *batch_of(const struct write_lab *lab, uint32_t number, uint32_t offset,
			       struct format_batch *ret_batch)
{
	struct index_entry entry = entry_of(lab, number);
	const uint8_t *bytes =
		io_sim_bytes(lab->disk) + segment_offset(lab->shard, entry.segment) + offset;
	assert_int_equal(format_batch_decode(bytes, lab->volume.super.uuid,
					     lab->volume.super.segment_bytes, ret_batch),
			 0);
	return bytes;
}

/* Values of whole blocks start at blocks, so that one block is read for one block. */
static void test_lane__blocks_start_at_blocks(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	for (uint32_t i = 0; i < 20; i++)
		put(lab, i, 4096);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(entry_of(lab, i).unit * FORMAT_UNIT % FORMAT_BLOCK, 0);
	lab_free(lab);
}

/* Small values lie side by side: a hundred of 100 bytes and their rows take few blocks, in one
 * write. */
static void test_lane__small_values_are_packed(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	for (uint32_t i = 0; i < 100; i++)
		put(lab, i, 100);
	shard_flush(lab->shard, NULL);
	write_lab_settle(lab);
	struct format_batch batch;
	batch_of(lab, 0, FORMAT_BLOCK, &batch);
	assert_int_equal(batch.rows, 100);
	assert_true(batch.bytes <= 5 * FORMAT_BLOCK);
	assert_int_equal(write_lab_writes(lab), 1);
	lab_free(lab);
}

/* What lies in a batch between values, rows and its end is zeros: buffers are used again, and what
 * an earlier batch held must not get out. */
static void test_lane__no_old_bytes_get_out(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	/* Fill every buffer with bytes that are easy to know again. */
	memset(lab->shard->chunk_arena, 0xee, lab->shard->chunk_arena_bytes);
	static const uint32_t sizes[] = { 1, 4096, 63, 65, 5000, 0, 12000, 4097, 300 };
	uint32_t number = 0;
	for (uint32_t round = 0; round < 9; round++) {
		for (uint32_t i = 0; i <= round; i++)
			put(lab, number++, sizes[(i + round) % 9]);
		shard_flush(lab->shard, NULL);
		write_lab_settle(lab);
	}
	uint32_t run = 0, longest = 0;
	const uint8_t *disk = io_sim_bytes(lab->disk);
	for (uint64_t i = 0; i < io_sim_size(lab->disk); i++) {
		run = disk[i] == 0xee ? run + 1 : 0;
		longest = run > longest ? run : longest;
	}
	assert_true(longest < 8); /* values are random: a few in a row are theirs */
	lab_free(lab);
}

/* Each store takes a place of its own, an empty value too: place is what tells versions apart. */
static void test_lane__empty_values_have_places(void **state)
{
	(void)state;
	char text[32];
	struct write_lab *lab = lab_open(SEGMENT);
	struct cache_key key = write_lab_key(lab, 1, text);
	uint64_t before = 0;
	for (uint32_t i = 0; i < 10; i++) {
		put(lab, 1, 0);
		uint64_t version = shard_version(lab->shard, &key);
		assert_true(version != 0 && version != before);
		before = version;
	}
	expect_hit(lab, 1);
	lab_free(lab);
}

/* A batch on the disk lists its rows, in the order stored, with keys behind them and checksums that
 * verify. */
static void test_lane__batch_describes_itself(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	for (uint32_t i = 0; i < 12; i++)
		put(lab, i, 700 * i);
	assert_int_equal(write_lab_delete(lab, 3, false), 0);
	shard_flush(lab->shard, NULL);
	write_lab_settle(lab);
	struct format_batch batch;
	const uint8_t *bytes = batch_of(lab, 0, FORMAT_BLOCK, &batch);
	assert_int_equal(batch.rows, 13);
	assert_int_equal(batch.part, 0);
	assert_int_equal(batch.parts, 1);
	assert_int_equal(batch.table_checksum,
			 format_checksum(bytes + batch.table, batch.table_bytes));
	const uint8_t *keys = bytes + batch.table + (size_t)batch.rows * FORMAT_ROW;
	for (uint32_t i = 0; i < 13; i++) {
		char text[32];
		struct cache_key key = write_lab_key(lab, i < 12 ? i : 3, text);
		struct format_row row;
		assert_int_equal(
			format_row_decode(bytes + batch.table + i * FORMAT_ROW, SEGMENT, &row), 0);
		assert_int_equal(row.hash, key.hash);
		assert_int_equal(row.seq, i + 1);
		assert_int_equal(row.key_bytes, key.bytes);
		assert_memory_equal(keys, key.data, key.bytes);
		keys += row.key_bytes;
		if (i == 12) {
			assert_true(row.flags & ROW_TOMBSTONE);
			continue;
		}
		const uint8_t *value = bytes - FORMAT_BLOCK + (size_t)row.unit * FORMAT_UNIT;
		assert_int_equal(row.bytes, 700 * i);
		assert_int_equal(row.checksum, cache_key_checksum(&key, value, row.bytes));
	}
	lab_free(lab);
}

/* A row says that it supersedes when there was an older copy, also one that has expired. */
static void test_lane__supersedes_what_was_there(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	struct shard_put brief = { .expiry = (uint32_t)(lab->os.now_ns / NS_PER_S) + 5 };
	assert_int_equal(write_lab_put_how(lab, &brief, 1, 10), 0);
	os_sim_advance(&lab->os, NS_PER_S * 10);
	put(lab, 1, 20);
	put(lab, 2, 20);
	const struct chunk *chunk = lab->shard->lanes[LANE_NEW].chunk;
	assert_non_null(chunk);
	const struct format_row *rows = chunk->rows + chunk->row_count - 2;
	assert_int_equal(rows[0].flags, ROW_SUPERSEDES);
	assert_int_equal(rows[1].flags, 0);
	lab_free(lab);
}

/* A value that no batch of these segments could hold is refused by size, not tried for ever; the
 * longest that one can is stored. */
static void test_lane__refuses_what_never_fits(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(65536);
	assert_int_equal(write_lab_put(lab, 1, 65536, false), HAUL_ELIMIT);
	assert_int_equal(write_lab_put(lab, 1, 60000, false), HAUL_ELIMIT);
	put(lab, 2, 50000);
	expect_hit(lab, 2);
	char text[32];
	struct cache_key key = write_lab_key(lab, 3, text);
	key.bytes = HAUL_CACHE_KEY_MAX + 1;
	struct shard_put put = { .key = key, .value = text, .bytes = 1 };
	assert_int_equal(shard_put(lab->shard, &put), HAUL_ELIMIT);
	struct haul_cache_stat stat = { 0 };
	shard_stat(lab->shard, &stat);
	assert_int_equal(stat.refused, 3);
	assert_int_equal(stat.entries, 1);
	lab_free(lab);
}

/* The longest value and the longest key fit a batch of ordinary segments, and a short one behind
 * them. */
static void test_lane__longest_value_fits(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	put(lab, 1, HAUL_CACHE_SLICE_MAX);
	put(lab, 2, HAUL_CACHE_SLICE_MAX);
	put(lab, 3, 1);
	shard_flush(lab->shard, NULL);
	write_lab_settle(lab);
	for (uint32_t i = 1; i <= 3; i++)
		expect_hit(lab, i);
	lab_free(lab);
}

/* Without a free buffer a store says -EAGAIN, changes nothing, and is counted; once one is free it
 * is taken. */
static void test_lane__no_buffer_is_told(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	uint32_t taken = 0;
	int rc;
	while ((rc = write_lab_put(lab, taken, 200000, false)) == 0)
		taken++;
	assert_int_equal(rc, -EAGAIN);
	assert_true((uint64_t)taken * 200000 > lab->options.buffer_bytes / 2);
	assert_true(lab->shard->flush_stats.extra[FLUSH_PRESSED] == 1);
	char text[32];
	struct cache_key key = write_lab_key(lab, taken, text);
	assert_int_equal(shard_version(lab->shard, &key), 0);
	write_lab_settle(lab);
	put(lab, taken, 200000);
	for (uint32_t i = 0; i <= taken; i++)
		expect_hit(lab, i);
	lab_free(lab);
}

/* A value is read where it lies, in the buffer, until it is durable, and then from the disk. */
static void test_lane__values_are_found_in_buffers(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	put(lab, 1, 3000);
	struct index_entry entry = entry_of(lab, 1);
	assert_non_null(chunk_value(lab->shard, entry.segment, entry.unit));
	shard_flush(lab->shard, NULL);
	write_lab_settle(lab);
	assert_null(chunk_value(lab->shard, entry.segment, entry.unit));
	expect_hit(lab, 1);
	lab_free(lab);
}

/* Many tiny entries: the table's limits close a batch, and a segment, before its bytes do. */
static void test_lane__rows_are_bounded(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(65536);
	uint32_t rows_max = lab->shard->footer_rows_max;
	for (uint32_t i = 0; i < 3 * rows_max; i++) {
		while (write_lab_put(lab, i, 0, false) == -EAGAIN)
			write_lab_settle(lab);
	}
	for (uint32_t s = 0; s < lab->volume.super.segments; s++)
		assert_true(lab->shard->segments[s].rows <= rows_max);
	write_lab_reopen(lab);
	for (uint32_t i = 0; i < 3 * rows_max; i += 7)
		expect_hit(lab, i);
	lab_free(lab);
}

/* Conditions see what is there: add, replace and compare, with what has expired not there. */
static void test_lane__conditions(void **state)
{
	(void)state;
	char text[32];
	struct write_lab *lab = lab_open(SEGMENT);
	struct cache_key key = write_lab_key(lab, 1, text);
	uint32_t soon = (uint32_t)(lab->os.now_ns / NS_PER_S) + 5;
	struct shard_put add = { .how = HAUL_CACHE_ADD, .expiry = soon };
	struct shard_put replace = { .how = HAUL_CACHE_REPLACE };
	struct shard_put compare = { .how = HAUL_CACHE_COMPARE };
	assert_int_equal(write_lab_put_how(lab, &replace, 1, 10), -ENOENT);
	assert_int_equal(write_lab_put_how(lab, &compare, 1, 10), -ENOENT);
	assert_int_equal(write_lab_put_how(lab, &add, 1, 10), 0);
	assert_int_equal(write_lab_put_how(lab, &add, 1, 10), -EEXIST);
	compare.version = shard_version(lab->shard, &key);
	compare.expiry = soon;
	assert_int_equal(write_lab_put_how(lab, &compare, 1, 11), 0);
	assert_int_equal(write_lab_put_how(lab, &compare, 1, 12), HAUL_ESTALE);
	os_sim_advance(&lab->os, NS_PER_S * 5);
	assert_int_equal(shard_version(lab->shard, &key), 0);
	assert_int_equal(write_lab_put_how(lab, &replace, 1, 10), -ENOENT);
	assert_int_equal(write_lab_delete(lab, 1, false), -ENOENT);
	add.expiry = 0;
	assert_int_equal(write_lab_put_how(lab, &add, 1, 10), 0);
	expect_hit(lab, 1);
	/* What has expired before it comes is not written, and takes the old one with it. */
	struct shard_put late = { .expiry = soon, .wait = write_lab_wait(lab) };
	assert_int_equal(write_lab_put_how(lab, &late, 1, 10), 0);
	assert_int_equal(shard_version(lab->shard, &key), 0);
	write_lab_settle(lab);
	assert_int_equal(lab->waits[0].told, 1);
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lane__blocks_start_at_blocks),
		cmocka_unit_test(test_lane__small_values_are_packed),
		cmocka_unit_test(test_lane__no_old_bytes_get_out),
		cmocka_unit_test(test_lane__empty_values_have_places),
		cmocka_unit_test(test_lane__batch_describes_itself),
		cmocka_unit_test(test_lane__supersedes_what_was_there),
		cmocka_unit_test(test_lane__refuses_what_never_fits),
		cmocka_unit_test(test_lane__longest_value_fits),
		cmocka_unit_test(test_lane__no_buffer_is_told),
		cmocka_unit_test(test_lane__values_are_found_in_buffers),
		cmocka_unit_test(test_lane__rows_are_bounded),
		cmocka_unit_test(test_lane__conditions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
