/* Making a cache. Until the very end there is no valid superblock: those of an older cache go
 * first, the new ones are written when all the rest is durable. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <haul/cache.h>
#include "base/assert.h"
#include "disk/cache_probe.h"
#include "disk/format.h"
#include "os/os.h"

enum { FORMAT_PARTITIONS_DEFAULT_MAX = 16 };
/* Partitions are not chosen smaller than it. */
#define FORMAT_PARTITION_BYTES (UINT64_C(128) << 20)
/* Smaller caches are not measured: it takes a second, and room to write to. */
#define FORMAT_MEASURE_BYTES (UINT64_C(128) << 20)
#define FORMAT_MEASURED_MAX  (UINT64_C(256) << 20)

struct formatting {
	const char *path;
	const struct haul_cache_format *options;
	struct file file;
	bool made; /* the file was not there */
	struct format_super super;
	struct haul_disk_model model;
	uint8_t *block;
};

/* Opened for writing, and nothing in it that may not be destroyed. */
static int formatting_open(struct formatting *f, struct haul_err *err)
{
	char what[PROBE_TEXT];
	int rc = file_open(&f->file, f->path, FILE_WRITE, NULL);
	if (rc == -ENOENT) {
		f->made = true;
		return file_open(&f->file, f->path, FILE_CREATE, err);
	}
	if (rc < 0)
		return file_open(&f->file, f->path, FILE_WRITE, err);
	if (f->options->force)
		return 0;
	rc = probe_file(&f->file, what);
	if (rc == 1)
		rc = haul_err_set(err, -EEXIST,
				  "%s holds %s: format would destroy it; say --force if that is "
				  "meant",
				  f->path, what);
	else if (rc < 0)
		(void)haul_err_set(err, rc, "%s: cannot see what it holds: %s", f->path,
				   haul_strerror(rc));
	if (rc < 0)
		file_close(&f->file);
	return rc;
}

static int formatting_layout(struct formatting *f, struct haul_err *err)
{
	const struct haul_cache_format *options = f->options;
	const uint64_t bytes = options->bytes != 0 ? options->bytes : f->file.bytes;
	uint32_t partitions = options->partitions;
	if (bytes == 0)
		return haul_err_set(err, -EINVAL,
				    "%s is empty: say how large the cache is to be (--size)",
				    f->path);
	if (f->file.block_device && bytes > f->file.bytes)
		return haul_err_set(err, -ENOSPC,
				    "%s has %" PRIu64 " MiB, and %" PRIu64 " MiB are wanted",
				    f->path, f->file.bytes >> 20, bytes >> 20);
	if (partitions == 0) {
		const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
		partitions = cpus < 1 ? 1 : (uint32_t)cpus;
		if (partitions > FORMAT_PARTITIONS_DEFAULT_MAX)
			partitions = FORMAT_PARTITIONS_DEFAULT_MAX;
		while (partitions > 1 && bytes / partitions < FORMAT_PARTITION_BYTES)
			partitions--;
	}
	if (partitions <= FORMAT_PARTITIONS_MAX) /* else format_layout says so */
		f->super.entries_max = (options->entries_max + partitions - 1) / partitions;
	int rc = format_layout(&f->super, bytes, partitions, options->segment_bytes, err);
	return rc < 0 ? haul_err_wrap(err, rc, "%s", f->path) : 0;
}

static int formatting_write(struct formatting *f, uint64_t offset, struct haul_err *err)
{
	uint32_t done = 0;
	while (done < FORMAT_BLOCK) {
		ssize_t n = pwrite(f->file.fd, f->block + done, FORMAT_BLOCK - done,
				   (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int rc = n < 0 ? -errno : -EIO;
			return haul_err_set(err, rc, "%s: write at %" PRIu64 ": %s", f->path,
					    offset, haul_strerror(rc));
		}
		done += (uint32_t)n;
	}
	return 0;
}

static int formatting_sync(struct formatting *f, struct haul_err *err)
{
	if (fsync(f->file.fd) == 0)
		return 0;
	return haul_err_set(err, -errno, "%s: sync: %s", f->path, haul_strerror(-errno));
}

/* Both blocks that an open would look at become zeros, durable. */
static int formatting_erase(struct formatting *f, struct haul_err *err)
{
	int rc = 0;
	memset(f->block, 0, FORMAT_BLOCK);
	for (uint32_t copy = 0; copy < 2 && rc == 0; copy++)
		rc = formatting_write(f, format_super_offset(&f->super, copy), err);
	/* a larger cache that was here before has its second one at the device's end */
	if (rc == 0 && f->file.bytes != f->super.bytes)
		rc = formatting_write(f, f->file.bytes / FORMAT_BLOCK * FORMAT_BLOCK - FORMAT_BLOCK,
				      err);
	return rc == 0 ? formatting_sync(f, err) : rc;
}

static int formatting_roots(struct formatting *f, struct haul_err *err)
{
	int rc = 0;
	for (uint32_t p = 0; p < f->super.partitions; p++)
		for (uint32_t copy = 0; copy < 2 && rc == 0; copy++) {
			struct format_root root = {
				.generation = copy,
				.partition = p,
				.model = f->model,
			};
			format_root_encode(&root, f->super.uuid, f->block);
			rc = formatting_write(f, format_root_offset(&f->super, p, copy), err);
		}
	return rc == 0 ? formatting_sync(f, err) : rc;
}

static int formatting_supers(struct formatting *f, struct haul_err *err)
{
	int rc = 0;
	format_super_encode(&f->super, f->block);
	for (uint32_t copy = 2; copy > 0 && rc == 0; copy--)
		rc = formatting_write(f, format_super_offset(&f->super, copy - 1), err);
	return rc == 0 ? formatting_sync(f, err) : rc;
}

/* A guess, until the disk was measured: shards refine it while they run. */
static const struct haul_disk_model guess = {
	.sync_ns = 1e6,
	.write_bandwidth = 500e6,
	.read_bandwidth = 500e6,
	.read_iops = 50e3,
	.read_ns = 100e3,
};

/* The disk's own figures; for that the file is closed, and opened again. What is measured is lost,
 * which are bytes that nothing refers to yet. */
static int formatting_measure(struct formatting *f, struct haul_err *err)
{
	const uint64_t area =
		(uint64_t)f->super.partitions * f->super.segments * f->super.segment_bytes;
	const struct haul_disk_options options = { .write = true };
	struct haul_disk *disk = NULL;
	if (area < FORMAT_MEASURE_BYTES)
		return 0;
	file_close(&f->file);
	int rc = haul_disk_open(&disk, f->path, &options, err);
	if (rc < 0)
		return rc;
	rc = haul_disk_calibrate(disk, f->super.segments_offset,
				 area < FORMAT_MEASURED_MAX ? area : FORMAT_MEASURED_MAX, &f->model,
				 err);
	haul_disk_close(disk);
	return rc < 0 ? rc : file_open(&f->file, f->path, FILE_WRITE, err);
}

static int formatting_run(struct formatting *f, struct haul_err *err)
{
	struct os *os = os_linux();
	int rc = formatting_layout(f, err);
	if (rc < 0)
		return rc;
	f->super.created = (uint32_t)os->real_time_s(os);
	os->random(os, f->super.uuid, sizeof f->super.uuid);
	os->random(os, &f->super.secret, sizeof f->super.secret);
	f->model = guess;
	rc = file_allocate(&f->file, f->super.bytes, f->options->progress, f->options->arg, err);
	if (rc != 0)
		return rc < 0 ? haul_err_wrap(err, rc, "%s", f->path) : rc;
	rc = formatting_erase(f, err);
	if (rc == 0)
		rc = formatting_measure(f, err);
	if (rc == 0)
		rc = formatting_roots(f, err);
	return rc == 0 ? formatting_supers(f, err) : rc;
}

static int block_new(struct formatting *f, struct haul_err *err)
{
	if (posix_memalign((void **)&f->block, FORMAT_BLOCK, FORMAT_BLOCK) != 0)
		return haul_err_set(err, -ENOMEM, "no memory for a block");
	return 0;
}

int haul_cache_format(const char *path, const struct haul_cache_format *options,
		      struct haul_err *err)
{
	const struct haul_cache_format none = { 0 };
	struct formatting f = { .path = path, .options = options != NULL ? options : &none };
	int rc = formatting_open(&f, err);
	if (rc < 0)
		return rc;
	rc = block_new(&f, err);
	if (rc == 0)
		rc = formatting_run(&f, err);
	free(f.block);
	file_close(&f.file);
	if (rc != 0 && f.made)
		(void)unlink(path); /* nobody needs half a file */
	return rc;
}
