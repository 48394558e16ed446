/* haul_disk_calibrate: what the device costs, in about a second.
 *
 * Order      Large writes first, so that everything read later lies on the disk (blocks never
 *            written are answered without it), then syncs behind a small write each, large reads,
 *            small reads at depth, and one at a time. Random data, since some devices compress. */
#include <errno.h>

#include "base/assert.h"
#include "base/prng.h"
#include "disk/disk_state.h"

enum {
	SPACE_MIN = 32 << 20,
	UNIT = 4096,
	LARGE = 1 << 20,
	LARGE_DEPTH = 8,
	SYNCS = 64,
	SYNCS_MIN = 3,
	LOOK_EVERY = 8, /* operations between two looks at the clock */
};

struct storm {
	struct haul_disk *disk;
	enum io_kind kind;
	uint32_t bytes; /* an operation */
	uint32_t depth;
	bool random;
	uint64_t offset, space;
	uint64_t ops_min, ops_max;
	int64_t ns_max;
	struct prng *prng;

	uint32_t under_way;
	uint64_t ops; /* results */
	double seconds;
	int error;
};

static void storm_done(struct io_op *op)
{
	struct slot *slot = op->owner;
	struct storm *storm = slot->storm;
	HAUL_ASSERT(storm->under_way > 0);
	storm->under_way--;
	if (op->result < 0)
		storm->error = op->result;
	slot_free(slot);
}

static int storm_run(struct storm *storm)
{
	struct haul_disk *disk = storm->disk;
	uint64_t places = storm->space / storm->bytes, place = 0;
	int64_t start_ns = disk->os->now_ns(disk->os);
	HAUL_ASSERT(places > 0 && storm->bytes <= disk->split);
	for (; storm->ops < storm->ops_max && storm->error == 0; storm->ops++) {
		if (storm->ops >= storm->ops_min && storm->ops % LOOK_EVERY == 0 &&
		    disk->os->now_ns(disk->os) - start_ns >= storm->ns_max)
			break;
		disk_wait_below(disk, &storm->under_way, storm->depth);
		struct slot *slot = slot_take(disk, true);
		place = storm->random ? prng_next(storm->prng) % places : storm->ops % places;
		slot->storm = storm;
		slot->op.done = storm_done;
		storm->under_way++;
		slot_start(slot, storm->kind, storm->offset + place * storm->bytes, slot->bounce,
			   storm->bytes);
	}
	disk_drain(disk);
	storm->seconds = (double)(disk->os->now_ns(disk->os) - start_ns) * 1e-9;
	if (storm->seconds <= 0)
		storm->seconds = 1e-9;
	return storm->error;
}

static void fill_random(struct haul_disk *disk, struct prng *prng)
{
	for (uint64_t i = 0; i + 8 <= disk->bounce_bytes; i += 8)
		*(uint64_t *)(void *)(disk->bounce + i) = prng_next(prng);
}

static void sort(double *values, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++) {
		double value = values[i];
		uint32_t at = i;
		for (; at > 0 && values[at - 1] > value; at--)
			values[at] = values[at - 1];
		values[at] = value;
	}
}

/* The median of syncs with one small write each before them. */
static int measure_sync(struct storm *write, double *ret_ns)
{
	struct haul_disk *disk = write->disk;
	double took[SYNCS];
	uint32_t count = 0;
	int64_t start_ns = disk->os->now_ns(disk->os);
	for (; count < SYNCS; count++) {
		if (count >= SYNCS_MIN && disk->os->now_ns(disk->os) - start_ns >= write->ns_max)
			break;
		write->ops = 0;
		int error = storm_run(write);
		int64_t before_ns = disk->os->now_ns(disk->os);
		if (error == 0)
			error = disk_sync(disk);
		if (error < 0)
			return error;
		took[count] = (double)(disk->os->now_ns(disk->os) - before_ns);
	}
	sort(took, count);
	*ret_ns = took[count / 2] > 0 ? took[count / 2] : 1;
	return 0;
}

static int measure(struct storm *base, struct haul_disk_model *model)
{
	uint32_t large = LARGE < base->disk->split ? LARGE : (uint32_t)base->disk->split;
	uint32_t unit = base->disk->block > UNIT ? base->disk->block : UNIT;
	struct storm storm = *base;
	storm.kind = IO_WRITE;
	storm.bytes = large;
	storm.depth = LARGE_DEPTH;
	storm.ns_max = 300 * NS_PER_MS;
	storm.ops_min = SPACE_MIN / large;
	storm.ops_max = storm.space / large;
	int error = storm_run(&storm);
	if (error < 0)
		return error;
	model->write_bandwidth = (double)storm.ops * large / storm.seconds;
	uint64_t written = storm.ops * large;
	error = disk_sync(base->disk);

	storm = *base;
	storm.kind = IO_WRITE;
	storm.bytes = unit;
	storm.depth = 1;
	storm.random = true;
	storm.space = written;
	storm.ns_max = 150 * NS_PER_MS;
	storm.ops_min = storm.ops_max = 1;
	if (error == 0)
		error = measure_sync(&storm, &model->sync_ns);
	if (error < 0)
		return error;

	const struct {
		uint32_t bytes, depth;
		double *per_second;
		double unit;
	} rows[] = {
		{ large, LARGE_DEPTH, &model->read_bandwidth, large },
		{ unit, DISK_DEPTH, &model->read_iops, 1 },
		{ unit, 1, &model->read_ns, 1 },
	};
	for (uint32_t i = 0; i < 3 && error == 0; i++) {
		storm = *base;
		storm.kind = IO_READ;
		storm.bytes = rows[i].bytes;
		storm.depth = rows[i].depth;
		storm.random = i > 0;
		storm.space = written;
		storm.ns_max = 150 * NS_PER_MS;
		storm.ops_min = 4;
		storm.ops_max = UINT64_MAX;
		error = storm_run(&storm);
		*rows[i].per_second = (double)storm.ops * rows[i].unit / storm.seconds;
	}
	model->read_ns = 1e9 / model->read_ns;
	return error;
}

int haul_disk_calibrate(struct haul_disk *disk, uint64_t offset, uint64_t bytes,
			struct haul_disk_model *ret_model, struct haul_err *err)
{
	uint64_t end;
	if (!disk->write)
		return haul_err_set(err, -EROFS, "to measure a disk it is written to: open it so");
	if (bytes < SPACE_MIN)
		return haul_err_set(err, -EINVAL, "measure in %llu bytes: at least %u are needed",
				    (unsigned long long)bytes, (uint32_t)SPACE_MIN);
	if (__builtin_add_overflow(offset, bytes, &end) || end > disk->file.bytes)
		return haul_err_set(err, -EINVAL,
				    "measure at %llu, %llu bytes: the file ends at %llu",
				    (unsigned long long)offset, (unsigned long long)bytes,
				    (unsigned long long)disk->file.bytes);
	struct prng prng;
	uint64_t seed;
	disk->os->random(disk->os, &seed, sizeof seed);
	prng_init(&prng, seed);
	fill_random(disk, &prng);
	uint64_t first = (offset + UNIT - 1) / UNIT * UNIT;
	struct storm base = {
		.disk = disk,
		.offset = first,
		.space = (end - first) / UNIT * UNIT,
		.prng = &prng,
	};
	struct haul_disk_model model = { 0 };
	int error = measure(&base, &model);
	if (error < 0)
		return haul_err_set(err, error, "measure the disk: %s", haul_strerror(error));
	*ret_model = model;
	return 0;
}
