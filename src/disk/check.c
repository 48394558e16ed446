#include "disk/check.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

/* Of each partition that is opened. */
enum { CHECK_BUFFER_BYTES = 12 << 20, CHECK_READ_BYTES = 4 << 20 };

static int check_progress(struct check *check)
{
	const struct haul_cache_check *options = check->options;

	check->bytes_done += check->super->segment_bytes;
	if (options->progress == NULL)
		return 0;
	return options->progress(check->bytes_done, check->bytes_total, options->arg);
}

static int check_segments(struct check *check)
{
	int rc = 0;

	for (uint32_t s = 0; s < check->super->segments && rc == 0; s++) {
		const struct segment *segment = &check->shard->segments[s];
		if (segment->state != SEGMENT_FREE) {
			rc = check_read_segment(check, s);
			if (rc == 0)
				rc = check_segment(check, s);
		}
		if (rc == 0)
			rc = check_progress(check);
	}
	return rc;
}

static int partition_open(struct check *check, bool read_only, struct haul_err *err)
{
	const struct shard_options options = {
		.volume = check->volume,
		.partition = check->partition,
		.io = check->queue.io,
		.buffer_bytes = CHECK_BUFFER_BYTES,
		.read_bytes = CHECK_READ_BYTES,
		.read_only = read_only,
		.name = "check",
	};
	return shard_open(&check->shard, &options, err);
}

static int partition_close(struct check *check)
{
	const int rc = shard_close(check->shard);
	check->shard = NULL;
	return rc;
}

/* Looked at as it is; nothing is written. */
static int partition_look(struct check *check, struct haul_err *err)
{
	int rc = partition_open(check, true, err);

	if (rc < 0)
		return rc;
	check->result.torn += check->shard->torn;
	rc = check_segments(check);
	(void)partition_close(check);
	return rc;
}

/* Opening for writing seals anew what has no good footer; entries are deleted one by one. */
static int partition_repair(struct check *check, uint64_t structures, struct haul_err *err)
{
	int rc = partition_open(check, false, err);

	if (rc < 0)
		return rc;
	rc = check_repair(check);
	const int closed = partition_close(check);
	rc = rc != 0 ? rc : closed;
	if (rc == 0)
		check->result.repaired += structures;
	return rc;
}

static int check_partition(struct check *check, struct haul_err *err)
{
	int rc = check_headers(check);
	const uint64_t structures = check->result.structures;

	if (rc == 0)
		rc = partition_look(check, err);
	if (rc != 0 || !check->options->repair)
		return rc;
	const uint64_t more = check->result.structures - structures;
	return more > 0 || check->bad_count > 0 ? partition_repair(check, more, err) : 0;
}

static int check_run(struct check *check, struct haul_err *err)
{
	int rc = check_supers(check);

	if (rc == 0)
		rc = check_roots(check);
	for (uint32_t p = 0; p < check->super->partitions && rc == 0; p++) {
		check->partition = p;
		rc = check_partition(check, err);
	}
	return rc;
}

static int check_tell(int rc, const struct haul_err *told, struct haul_err *err)
{
	if (rc >= 0) /* done, or a callback's */
		return rc;
	if (told->code == rc)
		return haul_err_set(err, rc, "%s", told->text);
	return haul_err_set(err, rc, "check: %s", haul_strerror(rc));
}

static void check_free(struct check *check)
{
	free(check->keys);
	free(check->bad);
	free(check->blocks);
	free(check->image);
	free(check);
}

static struct check *check_new(const struct volume *volume)
{
	const uint32_t segment_bytes = volume->super.segment_bytes;
	struct check *check = calloc(1, sizeof *check);

	if (check == NULL)
		return NULL;
	check->volume = volume;
	check->super = &volume->super;
	check->bytes_total =
		(uint64_t)volume->super.partitions * volume->super.segments * segment_bytes;
	check->image = aligned_alloc(FORMAT_BLOCK, segment_bytes);
	check->blocks = malloc(segment_bytes / FORMAT_BLOCK);
	if (check->image != NULL && check->blocks != NULL)
		return check;
	check_free(check);
	return NULL;
}

int check_volume(const struct volume *volume, struct io *io, const struct haul_cache_check *options,
		 struct haul_cache_checked *ret_checked, struct haul_err *err)
{
	struct check *check = check_new(volume);
	struct haul_err told = { 0 };

	if (check == NULL)
		return haul_err_set(err, -ENOMEM, "no memory to check a cache");
	check->options = options;
	queue_init(&check->queue, io, volume->os, 0, 0);
	const int rc = check_tell(check_run(check, &told), &told, err);
	if (rc == 0)
		*ret_checked = check->result;
	check_free(check);
	return rc;
}

int haul_cache_check(const char *path, const struct haul_cache_check *options,
		     struct haul_cache_checked *ret_checked, struct haul_err *err)
{
	static const struct haul_cache_check look = { 0 };
	const struct io_options io_options = { 0 };
	struct volume volume;
	struct io *io;

	HAUL_ASSERT(path != NULL && ret_checked != NULL);
	if (options == NULL)
		options = &look;
	int rc = volume_open(&volume, path, !options->repair, os_linux(), err);
	if (rc < 0)
		return rc;
	rc = io_open(&io, &volume.file, &io_options, err);
	if (rc == 0) {
		rc = check_volume(&volume, io, options, ret_checked, err);
		io_close(io);
	}
	volume_close(&volume);
	return rc;
}
