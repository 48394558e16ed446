/* A cache as the library's users see it: opening, closing and watching. cache_state.h has the
 * model. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/cache_state.h"

enum {
	CACHE_BUFFER_BYTES = 24 << 20, /* defaults, a partition */
	CACHE_READ_BYTES = 16 << 20,
	CACHE_SLICE_BYTES = 256 << 10,
	CACHE_PINNED_PERCENT = 25,
	CACHE_PERCENT_MAX = 100
};

static int cache_check_name(const char *name, const char *const *names, const char *what,
			    struct haul_err *err)
{
	for (uint32_t i = 0; name != NULL && names[i] != NULL; i++)
		if (!strcmp(name, names[i]))
			return 0;
	return name == NULL ? 0
			    : haul_err_set(err, -EINVAL, "%s '%s': there are %s, %s and %s", what,
					   name, names[0], names[1], names[2]);
}

static int cache_check_options(const struct haul_cache_options *options, struct haul_err *err)
{
	static const char *const engines[] = { "auto", "io_uring", "threads", NULL };
	static const char *const codecs[] = { "none", "lz4", "zstd", NULL };
	int rc = cache_check_name(options->engine, engines, "engine", err);
	if (rc == 0)
		rc = cache_check_name(options->codec, codecs, "codec", err);
	if (rc < 0)
		return rc;
	if (options->slice_bytes > HAUL_CACHE_SLICE_MAX)
		return haul_err_set(err, HAUL_ELIMIT, "slices of %u bytes: at most %d are possible",
				    options->slice_bytes, HAUL_CACHE_SLICE_MAX);
	if (options->pinned_percent > CACHE_PERCENT_MAX)
		return haul_err_set(err, -EINVAL, "%u %% of the segments pinned: at most %d",
				    options->pinned_percent, CACHE_PERCENT_MAX);
	if ((unsigned)options->policy > HAUL_CACHE_LRU)
		return haul_err_set(err, -EINVAL, "policy %d: there are %d (S3-FIFO) and %d (LRU)",
				    (int)options->policy, HAUL_CACHE_S3FIFO, HAUL_CACHE_LRU);
	return 0;
}

/* What 0 stands for. */
static int cache_defaults(struct haul_cache *cache, struct haul_cache_options *options,
			  struct haul_err *err)
{
	const uint64_t parts = cache->part_count;
	/* a slice lies in one segment, beside header and table */
	const uint32_t slice_max = cache->volume.super.segment_bytes / 2 - 2 * FORMAT_BLOCK;
	if (options->limits.ops_max == 0 && options->limits.bytes_max == 0 &&
	    options->limits.wait_max_ns == 0 && options->limits.ops_start == 0)
		options->limits = haul_limits_preset(HAUL_PRESET_DISK);
	if (options->buffer_bytes == 0)
		options->buffer_bytes = parts * CACHE_BUFFER_BYTES;
	if (options->read_bytes == 0)
		options->read_bytes = parts * CACHE_READ_BYTES;
	if (options->pinned_percent == 0)
		options->pinned_percent = CACHE_PINNED_PERCENT;
	if (options->slice_bytes == 0)
		options->slice_bytes = CACHE_SLICE_BYTES;
	cache->slice_bytes = options->slice_bytes < slice_max ? options->slice_bytes : slice_max;
	cache->read_only = options->read_only;
	return haul_limits_check(&options->limits, err);
}

static int cache_close_parts(struct haul_cache *cache)
{
	int result = 0;
	for (uint32_t i = 0; i < cache->parts_open; i++) {
		int rc = part_close(&cache->parts[i]);
		result = result < 0 ? result : rc;
	}
	cache->parts_open = 0;
	return result;
}

static int cache_open_parts(struct haul_cache *cache, const struct haul_cache_options *options,
			    struct haul_err *err)
{
	int rc = 0;
	cache->parts = calloc(cache->part_count, sizeof *cache->parts);
	if (cache->parts == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for %u partitions", cache->part_count);
	for (uint32_t i = 0; rc == 0 && i < cache->part_count; i++) {
		rc = part_open(&cache->parts[i], cache, options, i, err);
		cache->parts_open += rc == 0;
	}
	return rc;
}

/* The volume is open. */
static int cache_open_rest(struct haul_cache *cache, struct haul_cache_options *options,
			   struct haul_err *err)
{
	cache->part_count = cache->volume.super.partitions;
	int rc = cache_defaults(cache, options, err);
	if (rc < 0)
		return rc;
	rc = waves_open(cache);
	if (rc < 0) {
		(void)haul_err_set(err, rc, "no memory for lookups of many keys");
		goto close_waves;
	}
	rc = cache_open_parts(cache, options, err);
	if (rc < 0)
		goto close_parts;
	rc = cache_keeper_open(cache);
	if (rc == 0)
		return 0;
	(void)haul_err_set(err, rc, "cannot start a thread: %s", haul_strerror(rc));
	cache_keeper_close(cache);
close_parts:
	(void)cache_close_parts(cache);
	free(cache->parts);
close_waves:
	waves_close(cache);
	return rc;
}

int haul_cache_open(struct haul_cache **ret_cache, const char *path,
		    const struct haul_cache_options *options, struct haul_err *err)
{
	struct haul_cache_options filled = { 0 };
	if (options != NULL)
		filled = *options;
	int rc = cache_check_options(&filled, err);
	if (rc < 0)
		return rc;
	struct haul_cache *cache = calloc(1, sizeof *cache);
	if (cache == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for a cache");
	cache->os = os_linux();
	rc = volume_open(&cache->volume, path, filled.read_only, cache->os, err);
	if (rc < 0)
		goto free_cache;
	rc = cache_open_rest(cache, &filled, err);
	if (rc < 0)
		goto close_volume;
	*ret_cache = cache;
	return 0;

close_volume:
	volume_close(&cache->volume);
free_cache:
	free(cache);
	return rc;
}

int haul_cache_close(struct haul_cache *cache)
{
	if (cache == NULL)
		return 0;
	cache_keeper_close(cache);
	int rc = cache_close_parts(cache);
	free(cache->parts);
	waves_close(cache);
	volume_close(&cache->volume);
	free(cache);
	return rc;
}

void haul_cache_stat(struct haul_cache *cache, struct haul_cache_stat *ret_stat)
{
	*ret_stat = (struct haul_cache_stat){ .incomplete = atomic_load(&cache->incomplete) };
	for (uint32_t i = 0; i < cache->part_count; i++) {
		struct part *part = &cache->parts[i];
		part_lock(part);
		shard_stat(part->shard, ret_stat);
		part_unlock(part);
	}
}

int haul_cache_online(struct haul_cache *cache, struct haul_err *err)
{
	int result = 0;
	for (uint32_t i = 0; i < cache->part_count; i++) {
		struct part *part = &cache->parts[i];
		part_lock(part);
		part_seize(part);
		int rc = shard_offline(part->shard)
				 ? shard_online(part->shard, result == 0 ? err : NULL)
				 : 0;
		part_release(part);
		part_unlock(part);
		result = result < 0 ? result : rc;
	}
	return result;
}
