#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "disk/format_sample.h"
#include "disk/walk.h"
#include "lib/testlib.h"

enum { GENERATION = 7, SEGMENT = 3 };

struct lab {
	struct format_super super;
	struct sample sample;
	struct prng prng;
	uint8_t image[SAMPLE_SEGMENT];
};

static struct lab *lab_open(bool footer)
{
	struct lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	prng_init(&lab->prng, 11);
	sample_super(&lab->prng, 1, &lab->super);
	lab->sample = (struct sample){
		.super = &lab->super,
		.header = { .generation = GENERATION, .born_seq = 100, .segment = SEGMENT },
		.batches = 4,
		.rows_max = 12,
		.value_max = 700,
		.footer = footer,
	};
	sample_segment(&lab->sample, &lab->prng, lab->image);
	assert_int_equal(lab->sample.batches, 4);
	return lab;
}

static struct walk start(const struct lab *lab, uint32_t end)
{
	struct format_segment header;
	struct walk walk;
	assert_int_equal(walk_header(&lab->super, 0, SEGMENT, lab->image, &header), 1);
	walk_start(&walk, &lab->super, &header, end);
	return walk;
}

/* Batches until the first that is none; *ret_rc says why it is none. */
static uint32_t batches(const struct lab *lab, uint32_t end, int *ret_rc)
{
	struct walk walk = start(lab, end);
	struct format_batch batch;
	uint32_t count = 0;

	while ((*ret_rc = walk_batch(&walk, lab->image + walk.at, &batch)) == 1)
		assert_memory_equal(&batch, &lab->sample.batch[count++], sizeof batch);
	return count;
}

/* A batch or an entry is passed over, or one is seen that is not there. */
static void test_walk__finds_all_that_was_written(void **state)
{
	(void)state;
	struct lab *lab = lab_open(true);
	struct walk walk = start(lab, SAMPLE_SEGMENT);
	struct format_batch batch;
	uint32_t row_at = 0;

	for (uint32_t i = 0; i < lab->sample.batches; i++) {
		struct walk_rows rows;
		struct format_row row;
		const uint8_t *key;
		int rc;
		assert_int_equal(walk_batch(&walk, lab->image + walk.at, &batch), 1);
		assert_memory_equal(&batch, &lab->sample.batch[i], sizeof batch);
		assert_int_equal(walk_verify(&walk, &batch, lab->image + batch.offset), 0);
		assert_int_equal(
			walk_table(&walk, &batch, lab->image + batch.offset + batch.table, &rows),
			0);
		while ((rc = walk_row(&rows, &row, &key)) == 1) {
			const struct format_row *want = &lab->sample.row[row_at];
			assert_true(row.hash == want->hash && row.seq == want->seq &&
				    row.unit == want->unit && row.bytes == want->bytes &&
				    row.checksum == want->checksum && row.slice == want->slice);
			assert_int_equal(lab->sample.row_batch[row_at++], i);
			assert_true(walk_value_good(&lab->super, &row, key,
						    lab->image + row.unit * FORMAT_UNIT));
		}
		assert_int_equal(rc, 0);
	}
	assert_int_equal(row_at, lab->sample.row_count);
	assert_int_equal(walk_batch(&walk, lab->image + walk.at, &batch), 0);
	free(lab);
}

/* The footer tells of other rows than the batches. */
static void test_walk_footer__has_the_same_rows(void **state)
{
	(void)state;
	struct lab *lab = lab_open(true);
	struct walk walk = start(lab, SAMPLE_SEGMENT);
	const uint8_t *block = lab->image + SAMPLE_SEGMENT - FORMAT_BLOCK;
	struct format_footer footer;
	struct walk_rows rows;
	struct format_row row;
	uint32_t count = 0;

	assert_int_equal(walk_footer(&walk, block, &footer), 1);
	assert_int_equal(walk_footer_table(&walk, &footer, lab->image + footer.table, &rows), 0);
	while (walk_row(&rows, &row, NULL) == 1)
		assert_true(row.seq == lab->sample.row[count++].seq);
	assert_int_equal(count, lab->sample.row_count);
	/* Of a quarantined segment it does not count. */
	walk.end -= FORMAT_BLOCK;
	assert_int_equal(walk_footer(&walk, block, &footer), 0);
	walk.end += FORMAT_BLOCK;
	lab->image[footer.table] ^= 1;
	assert_int_equal(walk_footer_table(&walk, &footer, lab->image + footer.table, &rows),
			 HAUL_ECORRUPT);
	/* One that an earlier use left is none, one of another place is damage. */
	walk.segment.generation++;
	assert_int_equal(walk_footer(&walk, block, &footer), 0);
	walk.segment.generation--;
	walk.segment.segment++;
	assert_int_equal(walk_footer(&walk, block, &footer), HAUL_ECORRUPT);
	walk.segment.segment--;
	lab->image[SAMPLE_SEGMENT - 1] ^= 1;
	assert_int_equal(walk_footer(&walk, block, &footer), HAUL_ECORRUPT);
	memset(lab->image + SAMPLE_SEGMENT - FORMAT_BLOCK, 0, FORMAT_BLOCK);
	assert_int_equal(walk_footer(&walk, block, &footer), 0);
	free(lab);
}

/* What the device held before, or another place's header, becomes contents. */
static void test_walk_header__of_here_only(void **state)
{
	(void)state;
	struct lab *lab = lab_open(false);
	struct format_segment header;
	struct format_super other = lab->super;

	assert_int_equal(walk_header(&lab->super, 0, SEGMENT, lab->image, &header), 1);
	assert_int_equal(header.generation, GENERATION);
	assert_int_equal(walk_header(&lab->super, 0, SEGMENT + 1, lab->image, &header),
			 HAUL_ECORRUPT);
	other.uuid[3] ^= 1;
	assert_int_equal(walk_header(&other, 0, SEGMENT, lab->image, &header), 0);
	lab->image[33] ^= 1;
	assert_int_equal(walk_header(&lab->super, 0, SEGMENT, lab->image, &header), HAUL_ECORRUPT);
	memset(lab->image, 0, FORMAT_BLOCK);
	assert_int_equal(walk_header(&lab->super, 0, SEGMENT, lab->image, &header), 0);
	memset(lab->image, 0xa5, FORMAT_BLOCK);
	assert_int_equal(walk_header(&lab->super, 0, SEGMENT, lab->image, &header), 0);
	free(lab);
}

/* A header is made up from what an earlier use left, or where none was lost. */
static void test_walk_header_restore__of_this_use_only(void **state)
{
	(void)state;
	struct lab *lab = lab_open(true);
	const struct format_segment place = { .segment = SEGMENT };
	const struct format_segment elsewhere = { .segment = SEGMENT + 1 };
	const uint8_t *first = lab->image + FORMAT_BLOCK;
	uint8_t *footer = lab->image + SAMPLE_SEGMENT - FORMAT_BLOCK;
	struct format_segment header = { 0 };
	struct format_footer end;
	struct format_super other = lab->super;

	assert_false(walk_header_rotten(&lab->super, lab->image));
	other.uuid[3] ^= 1;
	assert_false(walk_header_rotten(&other, lab->image));
	lab->image[60] ^= 1;
	assert_true(walk_header_rotten(&lab->super, lab->image));
	memset(lab->image, 0, FORMAT_BLOCK);
	assert_false(walk_header_rotten(&lab->super, lab->image));
	lab->image[60] ^= 1; /* it was emptied, and then a few bits rotted */
	lab->image[9] ^= 128;
	assert_false(walk_header_rotten(&lab->super, lab->image));

	assert_int_equal(walk_header_restore(&place, &lab->super, first, footer, &header), 1);
	assert_true(header.generation == GENERATION && header.born_seq == 100);
	assert_int_equal(walk_header_restore(&elsewhere, &lab->super, first, footer, &header), 0);
	assert_int_equal(walk_header_restore(&place, &other, first, footer, &header), 0);
	assert_int_equal(format_footer_decode(footer, lab->super.uuid, SAMPLE_SEGMENT, &end), 0);
	end.generation--;
	format_footer_encode(&end, lab->super.uuid, footer);
	assert_int_equal(walk_header_restore(&place, &lab->super, first, footer, &header), 1);
	assert_true(header.generation == GENERATION && header.born_seq == 0);
	lab->image[FORMAT_BLOCK + 40] ^= 1;
	assert_int_equal(walk_header_restore(&place, &lab->super, first, footer, &header), 0);
	free(lab);
}

/* Change one header, with a right checksum. */
static void rewrite(struct lab *lab, uint32_t index, void (*change)(struct format_batch *batch))
{
	struct format_batch batch = lab->sample.batch[index];
	uint8_t *at = lab->image + batch.offset;
	change(&batch);
	format_batch_encode(&batch, lab->super.uuid, at);
}

static void older_generation(struct format_batch *batch)
{
	batch->generation--;
}

static void older_flush(struct format_batch *batch)
{
	batch->flush = 1;
}

static void other_segment(struct format_batch *batch)
{
	batch->segment++;
}

static void other_offset(struct format_batch *batch)
{
	batch->offset += FORMAT_BLOCK;
}

/* Batches of an earlier use of the segment, or such as the device wrote to a wrong place, come
 * back (the original had no generation in anything). */
static void test_walk_batch__of_here_and_now_only(void **state)
{
	(void)state;
	static const struct {
		void (*change)(struct format_batch *batch);
		int rc;
	} cases[] = {
		{ older_generation, 0 },
		{ older_flush, HAUL_ECORRUPT },
		{ other_segment, HAUL_ECORRUPT },
		{ other_offset, HAUL_ECORRUPT },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct lab *lab = lab_open(false);
		int rc;
		rewrite(lab, 2, cases[i].change);
		assert_int_equal(batches(lab, SAMPLE_SEGMENT, &rc), 2);
		assert_int_equal(rc, cases[i].rc);
		free(lab);
	}
}

/* A quarantined segment's bad part is read, or a batch that reaches into it. */
static void test_walk_batch__ends_where_the_good_part_ends(void **state)
{
	(void)state;
	struct lab *lab = lab_open(false);
	const struct format_batch *third = &lab->sample.batch[2];
	int rc;

	assert_int_equal(batches(lab, third->offset, &rc), 2);
	assert_int_equal(rc, 0);
	assert_int_equal(batches(lab, third->offset + third->bytes - 1, &rc), 2);
	assert_int_equal(batches(lab, third->offset + third->bytes, &rc), 3);
	assert_int_equal(batches(lab, 0, &rc), 0);
	free(lab);
}

/* Behind a damaged header everything is lost. */
static void test_walk_skip__finds_what_is_behind_damage(void **state)
{
	(void)state;
	struct lab *lab = lab_open(false);
	struct walk walk = start(lab, SAMPLE_SEGMENT);
	struct format_batch batch;
	uint32_t found = 0, damaged = 0, steps = 0;

	lab->image[lab->sample.batch[1].offset + 60] ^= 1;
	while (walk.at < walk.end) {
		const int rc = walk_batch(&walk, lab->image + walk.at, &batch);
		found += rc == 1;
		damaged += rc == HAUL_ECORRUPT;
		if (rc != 1)
			(void)walk_skip(&walk);
		assert_true(++steps <= SAMPLE_SEGMENT / FORMAT_BLOCK);
	}
	assert_int_equal(found, 3);
	assert_int_equal(damaged, 1);
	assert_false(walk_skip(&walk));
	free(lab);
}

/* A batch that is not whole counts: any one byte that something stands for. */
static void test_walk_verify__sees_every_byte(void **state)
{
	(void)state;
	struct lab *lab = lab_open(false);
	struct walk walk = start(lab, SAMPLE_SEGMENT);
	const struct format_batch *batch = &lab->sample.batch[1];
	uint8_t *bytes = lab->image + batch->offset;

	assert_int_equal(walk_verify(&walk, batch, bytes), 0);
	for (uint32_t at = batch->table; at < batch->table + batch->table_bytes; at++) {
		bytes[at] ^= 0x10;
		assert_int_equal(walk_verify(&walk, batch, bytes), HAUL_ECORRUPT);
		bytes[at] ^= 0x10;
	}
	for (uint32_t i = 0; i < lab->sample.row_count; i++) {
		const struct format_row *row = &lab->sample.row[i];
		if (lab->sample.row_batch[i] != 1)
			continue;
		for (uint32_t b = 0; b < row->bytes; b++) {
			uint8_t *byte = lab->image + row->unit * FORMAT_UNIT + b;
			*byte ^= 1;
			assert_int_equal(walk_verify(&walk, batch, bytes), HAUL_ECORRUPT);
			*byte ^= 1;
		}
	}
	assert_int_equal(walk_verify(&walk, batch, bytes), 0);
	free(lab);
}

/* A row, behind a right checksum, leads out of its batch or its key out of the table. */
static void test_walk_row__keeps_to_its_batch(void **state)
{
	(void)state;
	static const struct {
		uint32_t at;
		uint32_t value;
	} wrong[] = {
		{ 24, 0 },                     /* in the segment's header */
		{ 24, FORMAT_BLOCK / 64 },     /* in the batch's */
		{ 24, 3 * FORMAT_BLOCK / 64 }, /* in another batch */
		{ 28, 60000 },                 /* longer than the batch */
		{ 40, 500 },                   /* key behind the table */
	};

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct lab *lab = lab_open(false);
		struct walk walk = start(lab, SAMPLE_SEGMENT);
		struct walk_rows rows;
		struct format_row row;
		int rc;
		/* One batch of one value. */
		lab->sample.batches = 1;
		lab->sample.rows_max = 1;
		do {
			sample_segment(&lab->sample, &lab->prng, lab->image);
		} while (lab->sample.row[0].flags & ROW_TOMBSTONE);
		const struct format_batch *batch = &lab->sample.batch[0];
		uint8_t *table = lab->image + batch->offset + batch->table;
		assert_int_equal(walk_verify(&walk, batch, lab->image + batch->offset), 0);
		if (wrong[i].at == 40)
			le16_store(table + 40, (uint16_t)wrong[i].value);
		else
			le32_store(table + wrong[i].at, wrong[i].value);
		struct format_batch sealed = *batch;
		sealed.table_checksum = format_checksum(table, sealed.table_bytes);
		assert_int_equal(walk_table(&walk, &sealed, table, &rows), 0);
		while ((rc = walk_row(&rows, &row, NULL)) == 1)
			;
		assert_int_equal(rc, HAUL_ECORRUPT);
		assert_int_equal(walk_verify(&walk, &sealed, lab->image + batch->offset),
				 HAUL_ECORRUPT);
		free(lab);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk__finds_all_that_was_written),
		cmocka_unit_test(test_walk_footer__has_the_same_rows),
		cmocka_unit_test(test_walk_header__of_here_only),
		cmocka_unit_test(test_walk_header_restore__of_this_use_only),
		cmocka_unit_test(test_walk_batch__of_here_and_now_only),
		cmocka_unit_test(test_walk_batch__ends_where_the_good_part_ends),
		cmocka_unit_test(test_walk_skip__finds_what_is_behind_damage),
		cmocka_unit_test(test_walk_verify__sees_every_byte),
		cmocka_unit_test(test_walk_row__keeps_to_its_batch),
	};

	return cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}
