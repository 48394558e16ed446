/* A partition that has hardly a segment left, and a disk that is done with everything just when it
 * is looked at. */
#include "cache_lab.h"
#include "disk/cache_state.h"
#include "disk/shard_parts.h"

enum { FILE_BYTES = 9 << 20, VALUE_BYTES = 60000, STORES = 300 };

/* ---- the disk ---- */

struct prompt_disk {
	struct io io; /* what the partition sees */
	struct io *disk;
};

static struct prompt_disk *prompt_of(struct io *io)
{
	return (struct prompt_disk *)io; /* its first member */
}

static void prompt_submit(struct io *io, struct io_op *op)
{
	io_submit(prompt_of(io)->disk, op);
	io->in_flight = prompt_of(io)->disk->in_flight;
}

static void prompt_push(struct io *io)
{
	io_push(prompt_of(io)->disk);
}

/* All that is under way, and what follows from it: nothing is, afterwards. */
static uint32_t prompt_reap(struct io *io)
{
	struct io *disk = prompt_of(io)->disk;
	uint32_t count = 0;
	while (disk->in_flight > 0) {
		(void)io_wait(disk, -1);
		count += io_reap(disk);
		io->in_flight = disk->in_flight;
	}
	return count;
}

static int prompt_wait(struct io *io, int64_t timeout_ns)
{
	return io_wait(prompt_of(io)->disk, timeout_ns);
}

static void prompt_close(struct io *io)
{
	io_close(prompt_of(io)->disk);
}

static const struct io_calls prompt_calls = { prompt_submit, prompt_push, prompt_reap, prompt_wait,
					      prompt_close };

/* A new cache of one partition on such a disk, with all segments quarantined but `left`. */
static struct part *part_with(struct cache_lab *lab, struct prompt_disk *prompt, uint32_t left)
{
	cache_lab_format(lab, FILE_BYTES, 1);
	cache_lab_open(lab);
	struct part *part = &lab->cache->parts[0];
	part_lock(part);
	*prompt = (struct prompt_disk){ .io = *part->disk, .disk = part->disk };
	prompt->io.calls = &prompt_calls;
	part->disk = &prompt->io;
	for (uint32_t s = left; s < part->shard->super->segments; s++)
		segment_retire(part->shard, s, 0);
	part_unlock(part);
	return part;
}

/* Every third store is waited for, which empties the batch and hurries what makes room. */
static int store_one(struct cache_lab *lab, uint32_t number)
{
	static uint8_t value[VALUE_BYTES];
	char name[32];
	struct haul_cache_item item = { .key = cache_lab_key_of(name, "entry ", number),
					.value = value,
					.bytes = VALUE_BYTES };
	cache_lab_fill(value, VALUE_BYTES, number);
	return number % 3 == 0 ? haul_cache_store(lab->cache, &item)
			       : haul_cache_store_buffered(lab->cache, &item);
}

/* ---- tests ---- */

/* The poll in which the last transfer finishes may make the room that a store waits for. If it
 * failed, the store would hear that the cache is full although a segment had just become free. */
static void test_cache_part__room_made_by_the_last_poll_is_taken(void **state)
{
	struct prompt_disk prompt;
	struct cache_lab lab;
	(void)state;
	struct part *part = part_with(&lab, &prompt, FREE_MIN + 1);
	for (uint32_t i = 0; i < STORES; i++)
		assert_int_equal(store_one(&lab, i), 0);
	struct haul_cache_stat stat = { 0 };
	haul_cache_stat(lab.cache, &stat);
	assert_int_equal(stat.stores, STORES);
	assert_true(part->shard->stat.reclaimed_segments > STORES / 10);
	cache_lab_close(&lab);
}

/* Where no segment can become free, a store says so. If it failed, it would wait for ever. */
static void test_cache_part__no_segment_left_is_full(void **state)
{
	struct prompt_disk prompt;
	struct cache_lab lab;
	(void)state;
	(void)part_with(&lab, &prompt, FREE_MIN);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(store_one(&lab, i), HAUL_EFULL);
	cache_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache_part__room_made_by_the_last_poll_is_taken),
		cmocka_unit_test(test_cache_part__no_segment_left_is_full),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
