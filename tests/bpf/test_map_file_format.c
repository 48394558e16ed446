/* The bytes of a map file, without a map. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "bpf/file_write.h"
#include "bpf/map_file_sample.h"
#include "lib/testlib.h"

struct outcome {
	int rc;
	uint64_t blocks, entries;
	char text[HAUL_ERR_TEXT];
};

static struct outcome read_all(const uint8_t *data, size_t bytes)
{
	struct map_file_memory memory;
	struct file_reader reader;
	struct haul_map_batch batch;
	struct haul_err err = { 0 };
	struct outcome outcome = { 0 };
	map_file_memory_init(&memory, data, bytes);
	outcome.rc = file_reader_open(&reader, &memory.source, &err);
	if (outcome.rc == 0) {
		do {
			outcome.rc = file_reader_load_next(&reader, &batch, &err);
		} while (outcome.rc > 0);
		outcome.blocks = reader.totals.blocks;
		outcome.entries = reader.totals.entries;
		assert_int_equal(reader.complete, outcome.rc == 0);
		file_reader_close(&reader);
	}
	assert_int_equal(err.code, outcome.rc);
	memcpy(outcome.text, err.text, sizeof outcome.text);
	return outcome;
}

/* The file at hand, in memory that ends with it. */
static struct map_file_sample sample;
static struct test_guard guard;

static uint8_t *sample_new(uint32_t maps, uint64_t seed)
{
	struct prng prng;
	prng_init(&prng, seed);
	map_file_sample_make(&sample, maps, &prng);
	test_guard_open(&guard, sample.bytes);
	memcpy(guard.data, sample.data, sample.bytes);
	return guard.data;
}

static void assert_outcome(int rc, const char *text)
{
	const struct outcome outcome = read_all(guard.data, sample.bytes);
	assert_int_equal(outcome.rc, rc);
	if (strstr(outcome.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", outcome.text, text);
}

/* Where a field of a block lies; its file is put right again after the change. */
static void assert_block_flaw(uint32_t block, uint32_t field, uint32_t value, const char *text)
{
	uint8_t *data = guard.data;
	memcpy(data, sample.data, sample.bytes);
	le32_store(data + sample.starts[1 + block] + field, value);
	map_file_repair(data, sample.bytes);
	assert_outcome(HAUL_ECORRUPT, text);
}

/* What the writer puts together the reader takes apart, for any number of maps and blocks. */
static void test_map_file__reads_what_was_written(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (int i = 0; i < 200; i++) {
		sample_new(1 + prng_below(&prng, MAP_FILE_SAMPLE_MAPS), prng_next(&prng));
		const struct outcome outcome = read_all(guard.data, sample.bytes);
		assert_int_equal(outcome.rc, 0);
		assert_int_equal(outcome.blocks, sample.pieces - 2);
		assert_int_equal(outcome.entries, sample.entries);
		test_guard_close(&guard);
	}
}

/* A file cut at any byte is told to be short, never good, and never read past its end. */
static void test_map_file__cut_at_every_byte_is_short(void **state)
{
	(void)state;
	sample_new(2, 3);
	test_guard_close(&guard);
	for (uint32_t bytes = 0; bytes < sample.bytes; bytes++) {
		test_guard_open(&guard, bytes);
		memcpy(guard.data, sample.data, bytes);
		const struct outcome outcome = read_all(guard.data, bytes);
		uint32_t whole = 0;
		while (sample.starts[whole + 1] <= bytes)
			whole++;
		assert_int_equal(outcome.rc, HAUL_ESHORT);
		assert_int_equal(outcome.blocks, whole > 0 ? whole - 1 : 0);
		char offset[64];
		(void)snprintf(offset, sizeof offset, "ends at offset %u,", bytes);
		assert_non_null(strstr(outcome.text, offset));
		test_guard_close(&guard);
	}
}

/* Any single flipped bit is found; what lies before it stays good. */
static void test_map_file__finds_every_flipped_bit(void **state)
{
	(void)state;
	uint8_t *data = sample_new(2, 4);
	for (uint32_t bit = 0; bit < 8 * sample.bytes; bit++) {
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		const struct outcome outcome = read_all(data, sample.bytes);
		uint32_t whole = 0;
		while (sample.starts[whole + 1] <= bit / 8)
			whole++;
		assert_true(outcome.rc < 0);
		assert_int_equal(outcome.blocks, whole > 0 ? whole - 1 : 0);
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_outcome(0, "");
	test_guard_close(&guard);
}

/* Something that is no map file is called so; a later version is called that, whatever else it
 * holds. */
static void test_map_file__tells_magic_and_version(void **state)
{
	(void)state;
	uint8_t *data = sample_new(1, 5);
	data[FILE_OFF_MAGIC + 3] ^= 1;
	assert_outcome(HAUL_ECORRUPT, "memory: not a map file");
	data[FILE_OFF_MAGIC + 3] ^= 1;
	le32_store(data + FILE_OFF_VERSION, 2);
	assert_outcome(HAUL_EVERSION,
		       "version 2 of the map file format; this haul reads version 1");
	test_guard_close(&guard);
	assert_int_equal(read_all((const uint8_t *)"x", 1).rc, HAUL_ECORRUPT);
}

/* Each checksum that is wrong is told with its place. */
static void test_map_file__tells_which_checksum(void **state)
{
	(void)state;
	uint8_t *data = sample_new(1, 6);
	char text[64];
	data[FILE_OFF_BOOT_ID] ^= 1;
	assert_outcome(HAUL_ECORRUPT, "at offset 96: the header's checksum is ");
	data[FILE_OFF_BOOT_ID] ^= 1;
	data[sample.starts[1] + FILE_BLOCK_OFF_COUNT] ^= 1;
	assert_outcome(HAUL_ECORRUPT, "at offset 100: the checksum of the block's head is wrong");
	data[sample.starts[1] + FILE_BLOCK_OFF_COUNT] ^= 1;
	data[sample.starts[2] - 1] ^= 1;
	assert_outcome(HAUL_ECORRUPT, "at offset 100: the block's checksum is wrong");
	data[sample.starts[2] - 1] ^= 1;
	data[sample.bytes - 1] ^= 1;
	(void)snprintf(text, sizeof text, "at offset %u: the end mark's checksum is wrong",
		       sample.starts[sample.pieces - 1]);
	assert_outcome(HAUL_ECORRUPT, text);
	test_guard_close(&guard);
}

/* A header whose checksum is right may still be nonsense. */
static void test_map_file__checks_the_header_s_fields(void **state)
{
	(void)state;
	static const struct {
		uint32_t offset, value;
		const char *text;
	} cases[] = {
		{ FILE_OFF_FLAGS, 2, "flags that are not known" },
		{ FILE_OFF_KEY_SIZE, 0, "a key size that no map has" },
		{ FILE_OFF_KEY_SIZE, 513, "a key size that no map has" },
		{ FILE_OFF_VALUE_SIZE, 0, "do not agree" },
		{ FILE_OFF_SLOT_BYTES, 5, "do not agree" },
		{ FILE_OFF_CPUS, 0, "do not agree" },
		{ FILE_OFF_CPUS, 3, "do not agree" },
		{ FILE_OFF_BLOCK_ENTRIES, 15, "outside 16 to 65536" },
		{ FILE_OFF_BLOCK_ENTRIES, 65537, "outside 16 to 65536" },
		{ FILE_OFF_BYTES, 99, "1 maps and a header of 99 bytes" },
		{ FILE_OFF_MAPS, 0, "0 maps and a header of" },
		{ FILE_OFF_MAPS, 1025, "1025 maps and a header of" },
		{ FILE_HEAD_BYTES + FILE_MAP_OFF_NAME + 12, 0x41414141, "without an end" },
	};
	uint8_t *data = sample_new(1, 7);
	memset(data + FILE_HEAD_BYTES + FILE_MAP_OFF_NAME, 'A', 12);
	memcpy(sample.data, data, sample.bytes);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		memcpy(data, sample.data, sample.bytes);
		le32_store(data + cases[i].offset, cases[i].value);
		map_file_repair(data, sample.bytes);
		assert_outcome(HAUL_ECORRUPT, cases[i].text);
	}
	test_guard_close(&guard);
}

/* Blocks with right checksums in a wrong order, of a wrong map or with impossible contents. */
static void test_map_file__checks_the_fields_of_blocks(void **state)
{
	(void)state;
	uint64_t seed = 0;
	do { /* a file whose first map has at least two blocks, the first not its last */
		if (seed > 0)
			test_guard_close(&guard);
		sample_new(2, ++seed);
	} while (le32_load(sample.data + sample.starts[1] + FILE_BLOCK_OFF_FLAGS) != 0);
	assert_block_flaw(0, FILE_BLOCK_OFF_MAGIC, 1, "neither a block nor the end mark");
	assert_block_flaw(0, FILE_BLOCK_OFF_MAP, 1, "a block of another map");
	assert_block_flaw(0, FILE_BLOCK_OFF_SEQUENCE, 1, "a block that is not the next one");
	assert_block_flaw(0, FILE_BLOCK_OFF_FLAGS, 2, "flags that are not known");
	assert_block_flaw(0, FILE_BLOCK_OFF_FLAGS, FILE_LAST, "an impossible cursor");
	assert_block_flaw(0, FILE_BLOCK_OFF_CURSOR_BYTES, 0, "an impossible cursor");
	assert_block_flaw(0, FILE_BLOCK_OFF_CURSOR_BYTES, 513, "an impossible cursor");
	assert_block_flaw(0, FILE_BLOCK_OFF_COUNT, 0, "an empty block that is not the last");
	assert_block_flaw(0, FILE_BLOCK_OFF_MAGIC, FILE_END_MAGIC, "before the last block");
	memcpy(guard.data, sample.data, sample.bytes);
	le32_store(guard.data + sample.starts[1] + FILE_BLOCK_OFF_COUNT, UINT32_MAX);
	map_file_repair(guard.data, sample.bytes);
	assert_outcome(HAUL_ESHORT, "inside the block that begins at 132");
	test_guard_close(&guard);
}

/* The end mark is believed only when it counts what was there, and when nothing follows it. */
static void test_map_file__checks_the_end_mark(void **state)
{
	(void)state;
	static const uint32_t fields[] = { FILE_END_OFF_RESERVED, FILE_END_OFF_BLOCKS,
					   FILE_END_OFF_ENTRIES, FILE_END_OFF_FILE_BYTES,
					   FILE_END_OFF_DIGEST };
	uint8_t *data = sample_new(1, 8);
	uint8_t *end = data + sample.starts[sample.pieces - 1];
	const uint32_t header_crc = crc32c(0, data, 96);
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		end[fields[i]] ^= 1;
		le32_store(end + FILE_END_OFF_CRC, crc32c(header_crc, end, FILE_END_OFF_CRC));
		assert_outcome(HAUL_ECORRUPT, "totals are not those of the blocks");
		end[fields[i]] ^= 1;
	}
	test_guard_close(&guard);
	sample_new(1, 8);
	sample.data[sample.bytes++] = 0;
	const struct outcome outcome = read_all(sample.data, sample.bytes);
	assert_int_equal(outcome.rc, HAUL_ELONG);
	assert_non_null(strstr(outcome.text, "1 bytes behind the end mark"));
	test_guard_close(&guard);
}

/* A block of another file, right in itself and with the right number, is not taken. */
static void test_map_file__refuses_a_block_of_another_file(void **state)
{
	(void)state;
	uint8_t *data = sample_new(1, 9);
	le32_store(data + FILE_HEAD_BYTES + FILE_MAP_OFF_ID, 1234);
	le32_store(data + 96, crc32c(0, data, 96));
	assert_outcome(HAUL_ECORRUPT, "at offset 100: the checksum of the block's head is wrong");
	test_guard_close(&guard);
}

/* A failing disk is told as such, at each of the reads it takes, and leaks nothing. */
static void test_map_file__tells_a_failing_disk(void **state)
{
	(void)state;
	sample_new(2, 10);
	uint64_t failures = 0;
	for (int rc = -EIO; rc == -EIO; failures++) {
		struct map_file_memory memory;
		struct file_reader reader;
		struct haul_map_batch batch;
		struct haul_err err = { 0 };
		map_file_memory_init(&memory, sample.data, sample.bytes);
		memory.reads_until_failure = failures + 1;
		rc = file_reader_open(&reader, &memory.source, &err);
		while (rc == 0 && (rc = file_reader_load_next(&reader, &batch, &err)) > 0)
			rc = 0;
		if (rc == 0 || failures > 1)
			file_reader_close(&reader);
		assert_true(rc == 0 || strstr(err.text, "memory: at offset ") == err.text);
		if (reader.complete)
			break;
	}
	/* twice the header, three times each block (magic, head, all), twice the end mark */
	assert_int_equal(failures, 2 + 3 * (sample.pieces - 2) + 2);
	test_guard_close(&guard);
}

/* Want of memory at each allocation of reader and writer is told and leaves nothing behind. */
static void test_map_file__survives_want_of_memory(void **state)
{
	(void)state;
	sample_new(1, 11);
	for (uint32_t i = 0; i < 2; i++) {
		struct map_file_memory memory;
		struct file_reader reader;
		struct haul_err err = { 0 };
		map_file_memory_init(&memory, sample.data, sample.bytes);
		if (!test_malloc_fail(i))
			skip();
		assert_int_equal(file_reader_open(&reader, &memory.source, &err), -ENOMEM);
		assert_non_null(strstr(err.text, "memory: no memory for"));
	}
	struct file_map map = { .id = 1 };
	const struct file_header header = {
		.map_count = 1, .maps = &map, .key_size = 1, .slot_bytes = 1
	};
	struct file_writer writer;
	test_malloc_fail(0);
	assert_int_equal(file_writer_init(&writer, &header), -ENOMEM);
	file_writer_done(&writer);
	test_guard_close(&guard);
}

/* A file that gets shorter while it is read gives an error, not old bytes; what is no regular file
 * is refused. */
static void test_map_file__reads_descriptors(void **state)
{
	(void)state;
	struct file_source_fd source;
	struct file_reader reader;
	struct haul_map_batch batch;
	struct haul_err err = { 0 };
	int ends[2];
	sample_new(1, 12);
	const int fd = memfd_create("map file", MFD_CLOEXEC);
	assert_int_equal(write(fd, sample.data, sample.bytes), sample.bytes);
	assert_int_equal(file_source_fd_init(&source, fd, "x.map", &err), 0);
	assert_int_equal(file_reader_open(&reader, &source.source, &err), 0);
	assert_int_equal(ftruncate(fd, sample.starts[1]), 0);
	assert_int_equal(file_reader_load_next(&reader, &batch, &err), HAUL_ESHORT);
	file_reader_close(&reader);
	assert_int_equal(close(fd), 0);
	assert_int_equal(file_source_fd_init(&source, fd, "x.map", &err), -EBADF);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(file_source_fd_init(&source, ends[0], "x.map", &err), -EINVAL);
	assert_string_equal(err.text, "x.map: not a regular file");
	assert_int_equal(close(ends[0]), 0);
	assert_int_equal(close(ends[1]), 0);
	test_guard_close(&guard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_file__reads_what_was_written),
		cmocka_unit_test(test_map_file__cut_at_every_byte_is_short),
		cmocka_unit_test(test_map_file__finds_every_flipped_bit),
		cmocka_unit_test(test_map_file__tells_magic_and_version),
		cmocka_unit_test(test_map_file__tells_which_checksum),
		cmocka_unit_test(test_map_file__checks_the_header_s_fields),
		cmocka_unit_test(test_map_file__checks_the_fields_of_blocks),
		cmocka_unit_test(test_map_file__checks_the_end_mark),
		cmocka_unit_test(test_map_file__refuses_a_block_of_another_file),
		cmocka_unit_test(test_map_file__tells_a_failing_disk),
		cmocka_unit_test(test_map_file__survives_want_of_memory),
		cmocka_unit_test(test_map_file__reads_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
