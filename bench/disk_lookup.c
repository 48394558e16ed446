/* Lookups: one at a time, against many in one call, and against what fio reads. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk_work.h"

enum { BATCH = 256, BATCH_FIO = 4096 };

/* Keys in the order stored, which is their order on the disk. */
int disk_lookup_fill(struct disk_bench *bench, struct haul_err *err)
{
	uint32_t count = bench->sizes.lookup_entries;
	bench->keys = calloc(count, sizeof *bench->keys);
	bench->asked = calloc(BATCH_FIO, sizeof *bench->asked);
	if (bench->keys == NULL || bench->asked == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for %u keys", count);
	int error = 0;
	for (uint32_t i = 0; i < count && error == 0; i++) {
		uint64_t number = i;
		memcpy(bench->value, &number, sizeof number);
		const struct haul_cache_item item = { .key = disk_key(bench->keys[i], i),
						      .value = bench->value,
						      .bytes = DISK_LOOKUP };
		error = haul_cache_store_buffered(bench->cache, &item);
	}
	if (error == 0)
		error = haul_cache_flush(bench->cache);
	return error < 0 ? haul_err_set(err, error, "fill: %s", haul_strerror(error)) : 0;
}

struct looking {
	struct disk_bench *bench;
	enum disk_order order;
	uint32_t place;    /* where the sequence goes on */
	uint32_t *numbers; /* asked for, BATCH_FIO */
	uint32_t wrong;
};

static void ask(struct looking *looking, uint32_t count)
{
	struct disk_bench *bench = looking->bench;
	uint32_t entries = bench->sizes.lookup_entries;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = looking->order == DISK_RANDOM ? prng_below(&bench->prng, entries)
								: looking->place++ % entries;
		looking->numbers[i] = number;
		bench->asked[i] =
			(struct haul_cache_key){ .data = bench->keys[number],
						 .bytes = (uint32_t)strlen(bench->keys[number]) };
	}
}

static bool is_right(const void *data, uint64_t bytes, uint32_t number)
{
	uint64_t found = 0;
	if (bytes != DISK_LOOKUP)
		return false;
	memcpy(&found, data, sizeof found);
	return found == number;
}

static int look_at(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	struct looking *looking = arg;
	if (value->status != HAUL_CACHE_HIT ||
	    !is_right(value->data, value->bytes, looking->numbers[index]))
		looking->wrong++;
	return 0;
}

static int look_one(struct looking *looking)
{
	struct disk_bench *bench = looking->bench;
	struct haul_cache_value value = { 0 };
	ask(looking, 1);
	int error = haul_cache_get(bench->cache, bench->asked, bench->value, DISK_LOOKUP, &value);
	if (error == 0 && !is_right(bench->value, value.bytes, looking->numbers[0]))
		looking->wrong++;
	return error;
}

/* count keys a call, until the time is over. */
static int look(struct looking *looking, uint32_t count, double seconds,
		struct bench_sample *sample, struct haul_err *err)
{
	struct disk_bench *bench = looking->bench;
	struct haul_cache_stat before, after;
	uint64_t looked = 0;
	int error = 0;
	haul_cache_stat(bench->cache, &before);
	int64_t start_ns = disk_now(bench), now_ns = start_ns;
	int64_t until_ns = start_ns + (int64_t)(seconds * 1e9);
	do {
		if (count == 1) {
			error = look_one(looking);
		} else {
			ask(looking, count);
			error = haul_cache_lookup_batch(bench->cache, bench->asked, count, look_at,
							looking);
		}
		looked += count;
		now_ns = disk_now(bench);
	} while (error >= 0 && looking->wrong == 0 && now_ns < until_ns);
	if (error < 0 || looking->wrong > 0)
		return haul_err_set(err, error < 0 ? error : -EIO,
				    "%u of %llu lookups are wrong: %s", looking->wrong,
				    (unsigned long long)looked,
				    haul_strerror(error < 0 ? error : -EIO));
	haul_cache_stat(bench->cache, &after);
	sample->value = (double)looked / ((double)(now_ns - start_ns) * 1e-9);
	if (count > 1)
		sample->fill_mean = count;
	double reads = (double)(after.read_ops - before.read_ops);
	if (reads > 0)
		snprintf(sample->note, sizeof sample->note, "%.1f keys a read of the disk",
			 (double)(after.read_keys - before.read_keys) / reads);
	return 0;
}

static int looking_open(struct looking *looking, struct disk_bench *bench, enum disk_order order,
			struct haul_err *err)
{
	int error = disk_bench_enter(bench, DISK_LOOKUPS, err);
	if (error < 0)
		return error;
	*looking = (struct looking){ .bench = bench, .order = order };
	looking->place = prng_below(&bench->prng, bench->sizes.lookup_entries);
	looking->numbers = calloc(BATCH_FIO, sizeof *looking->numbers);
	return looking->numbers != NULL ? 0 : haul_err_set(err, -ENOMEM, "no memory");
}

int disk_lookup_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		    struct bench_sample *ret_sample, struct haul_err *err)
{
	struct looking looking;
	int error = looking_open(&looking, ctx, (enum disk_order)self->parameter, err);
	if (error < 0)
		return error;
	error = look(&looking, arm == BENCH_BATCHED ? BATCH : 1, seconds, ret_sample, err);
	free(looking.numbers);
	return error;
}

int disk_lookup_fio_run(void *ctx, const struct bench_case *self, enum bench_arm arm,
			double seconds, struct bench_sample *ret_sample, struct haul_err *err)
{
	struct disk_bench *bench = ctx;
	struct looking looking;
	(void)self;
	int error = looking_open(&looking, bench, DISK_RANDOM, err);
	if (error < 0)
		return error;
	if (arm == BENCH_BATCHED) {
		error = look(&looking, BATCH_FIO, seconds, ret_sample, err);
	} else {
		const struct disk_fio fio = {
			.path = bench->cache_file.path, /* the same blocks */
			.rw = "randread",
			.bytes = DISK_LOOKUP,
			.depth = DISK_CACHE_DEPTH,
			.size = (uint64_t)bench->sizes.lookup_entries * DISK_LOOKUP,
			.seconds = seconds,
		};
		error = disk_fio_run(&fio, &ret_sample->value, err);
		snprintf(ret_sample->note, sizeof ret_sample->note, "depth %u", fio.depth);
	}
	free(looking.numbers);
	return error;
}

/* What a batch of one costs over reading the block. */
int disk_lookup_one_run(void *ctx, const struct bench_case *self, enum bench_arm arm,
			double seconds, struct bench_sample *ret_sample, struct haul_err *err)
{
	struct disk_bench *bench = ctx;
	struct looking looking;
	(void)self;
	int error = looking_open(&looking, bench, DISK_RANDOM, err);
	if (error < 0)
		return error;
	if (arm == BENCH_BATCHED) {
		error = look(&looking, 1, seconds, ret_sample, err);
		ret_sample->value = 1e6 / ret_sample->value;
		free(looking.numbers);
		return error;
	}
	free(looking.numbers);
	int fd = open(bench->cache_file.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return haul_err_set(err, -errno, "open for direct I/O: %s", haul_strerror(-errno));
	uint64_t ops = 0;
	int64_t start_ns = disk_now(bench), now_ns = start_ns;
	do {
		uint64_t block = prng_below(&bench->prng, bench->sizes.lookup_entries);
		if (pread(fd, bench->value, DISK_LOOKUP, (off_t)(block * DISK_LOOKUP)) !=
		    DISK_LOOKUP)
			error = -EIO;
		ops++;
		now_ns = disk_now(bench);
	} while (error == 0 && (double)(now_ns - start_ns) < seconds * 1e9);
	close(fd);
	ret_sample->value = (double)(now_ns - start_ns) / 1e3 / (double)ops;
	return error < 0 ? haul_err_set(err, error, "read a block") : 0;
}
