/* disk/shard.c: a shard's life: open, turns, close. */
#include "disk/shard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "disk/shard_parts.h"

enum {
	CHUNKS_MIN = 4,
	CHUNK_BYTES_MIN = 1 << 21, /* the longest value, its table, and room to spare */
	QUEUE_BYTES_MAX = 64 << 20,
	GHOST_MIN = 1024,
};

static const struct haul_counter flush_counters[] = {
#define X(id, name, help) { name, help },
	FLUSH_COUNTER_LIST(X)
#undef X
};

/* ---- buffers ---- */

/* As large as a batch may be in segments of this size, and not so large that there are few. */
static void chunks_size(struct shard *shard)
{
	uint64_t bytes = shard->super->segment_bytes - FORMAT_BLOCK - format_footer_bytes(1);
	uint64_t buffers = shard->options.buffer_bytes;
	uint64_t share = buffers / CHUNKS_MIN / FORMAT_BLOCK * FORMAT_BLOCK;
	if (share < CHUNK_BYTES_MIN)
		share = CHUNK_BYTES_MIN;
	if (bytes > share)
		bytes = share;
	if (bytes > CHUNK_BYTES)
		bytes = CHUNK_BYTES;
	uint64_t count = buffers / bytes;
	shard->chunk_bytes = (uint32_t)bytes;
	shard->chunk_count = (uint32_t)(count < CHUNKS_MIN ? CHUNKS_MIN : count);
	shard->chunk_rows = shard->chunk_bytes / CHUNK_ROW_SHARE;
	shard->chunk_key_bytes = shard->chunk_bytes / CHUNK_KEY_SHARE;
	uint32_t ops = (shard->chunk_bytes + FORMAT_BLOCK - 1) / HAUL_DISK_SPLIT + 1;
	shard->flush_chunks = FLUSH_CHUNK_OPS / ops;
	shard->flush_bytes_max = (uint64_t)shard->chunk_bytes * shard->chunk_count / 2;
}

static int chunks_open(struct shard *shard)
{
	chunks_size(shard);
	uint64_t each = shard->chunk_bytes + FORMAT_BLOCK;
	uint64_t bytes = each * shard->chunk_count;
	void *arena = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED)
		return -ENOMEM;
	(void)madvise(arena, bytes, MADV_HUGEPAGE); /* it works without as well */
	shard->chunk_arena = arena;
	shard->chunk_arena_bytes = bytes;
	shard->chunks = calloc(shard->chunk_count, sizeof *shard->chunks);
	if (!shard->chunks)
		return -ENOMEM;
	for (uint32_t i = 0; i < shard->chunk_count; i++) {
		struct chunk *chunk = &shard->chunks[i];
		chunk->data = shard->chunk_arena + i * each + FORMAT_BLOCK;
		chunk->rows = malloc(shard->chunk_rows * sizeof *chunk->rows);
		chunk->origins = malloc(shard->chunk_rows * sizeof *chunk->origins);
		chunk->keys = malloc(shard->chunk_key_bytes);
		if (!chunk->rows || !chunk->origins || !chunk->keys)
			return -ENOMEM;
	}
	return 0;
}

static void chunks_close(struct shard *shard)
{
	for (uint32_t i = 0; shard->chunks && i < shard->chunk_count; i++) {
		free(shard->chunks[i].rows);
		free(shard->chunks[i].origins);
		free(shard->chunks[i].keys);
	}
	free(shard->chunks);
	if (shard->chunk_arena)
		munmap(shard->chunk_arena, shard->chunk_arena_bytes);
}

/* ---- opening ---- */

static int tables_open(struct shard *shard)
{
	const struct shard_options *options = &shard->options;
	uint64_t entries = shard->super->entries_max;
	uint64_t ghosts = entries / 2 < GHOST_MIN ? GHOST_MIN : entries / 2;
	int error = index_init(&shard->index, entries);
	if (!error)
		error = ram_init(&shard->ram, options->ram_bytes);
	if (!error)
		error = ghost_init(&shard->ghost, ghosts > 1U << 22 ? 1U << 22 : (uint32_t)ghosts);
	if (!error)
		error = codec_init(&shard->codec, options->codec, 0, HAUL_CACHE_SLICE_MAX);
	/* An hour's worth may come at once. */
	admit_init(&shard->admit, options->write_budget, options->write_budget * 3600,
		   shard->os->now_ns(shard->os));
	return error;
}

/* Empty: nothing is taken, gathered, or under way. */
static void shard_reset(struct shard *shard)
{
	shard->chunk_free = NULL;
	shard->chunk_free_count = 0;
	for (uint32_t i = 0; i < shard->chunk_count; i++)
		chunk_free(shard, &shard->chunks[i]);
	for (uint32_t i = 0; i < LANES; i++) {
		struct lane *lane = &shard->lanes[i];
		lane->chunk = NULL;
		lane->segment = lane->first = lane->last = SEGMENT_NONE;
		lane->count = lane->footer_rows = 0;
	}
	for (uint32_t i = 0; i < FOOTERS; i++)
		shard->footers[i].busy = false;
	for (uint32_t i = 0; i < FLUSHES; i++) {
		shard->flushes[i].state = FLUSH_FREE;
		shard->flushes[i].shard = shard;
	}
	memset(shard->segments, 0, shard->super->segments * sizeof *shard->segments);
	for (uint32_t s = 0; s < shard->super->segments; s++)
		shard->segments[s].next = SEGMENT_NONE;
	shard->gathering = (struct gathering){ 0 };
	shard->erase_first = SEGMENT_NONE;
	shard->free_count = shard->erase_count = shard->bad_count = shard->free_hint = 0;
	shard->root_dirty = false;
	shard->root_copies = 0;
	shard->settling = false;
	shard->failing = shard->offline = shard->hides = false;
	shard->failures = 0;
	index_clear(&shard->index);
	ram_clear(&shard->ram);
}

static int shard_recover(struct shard *shard, struct haul_err *err)
{
	int error = recover(shard, err);
	if (error)
		return error;
	segments_recovered(shard);
	flush_limits(shard);
	shard->gathering.first_seq = shard->next_seq;
	shard->durable_flush = shard->next_flush - 1;
	shard->flushing_stopped = shard->options.read_only || shard->offline;
	return 0;
}

static int stats_open(struct shard *shard)
{
	const struct shard_options *options = &shard->options;
	(void)snprintf(shard->flush_name, sizeof shard->flush_name, "%s.flush",
		       options->name ? options->name : "cache");
	haul_stats_init(&shard->flush_stats, shard->flush_name, flush_counters, FLUSH_COUNTERS);
	return options->stats ? haul_stats_enter(options->stats, &shard->flush_stats) : 0;
}

static void limits_set(struct shard *shard)
{
	shard->limits = shard->options.limits;
	if (shard->limits.ops_max == 0)
		shard->limits = haul_limits_preset(HAUL_PRESET_DISK);
}

static void shard_free(struct shard *shard)
{
	if (shard->options.stats)
		haul_stats_remove(shard->options.stats, &shard->flush_stats);
	lookups_close(shard);
	reclaim_close(shard);
	segments_close(shard);
	chunks_close(shard);
	codec_done(&shard->codec);
	ghost_done(&shard->ghost);
	ram_done(&shard->ram);
	index_done(&shard->index);
	free(shard->root_block);
	free(shard);
}

static int parts_open(struct shard *shard)
{
	shard->root_block = aligned_alloc(FORMAT_BLOCK, FORMAT_BLOCK);
	if (!shard->root_block)
		return -ENOMEM;
	int error = chunks_open(shard);
	if (!error)
		error = segments_open(shard);
	if (!error)
		error = tables_open(shard);
	if (!error)
		error = reclaim_open(shard);
	if (!error)
		error = lookups_open(shard);
	if (!error)
		error = stats_open(shard);
	return error;
}

int shard_open(struct shard **ret_shard, const struct shard_options *options, struct haul_err *err)
{
	HAUL_ASSERT(options->volume && options->io);
	HAUL_ASSERT(options->partition < options->volume->super.partitions);
	struct shard *shard = calloc(1, sizeof *shard);
	if (!shard)
		return haul_err_set(err, -ENOMEM, "cache: no memory for a partition");
	shard->options = *options;
	shard->volume = options->volume;
	shard->super = &options->volume->super;
	shard->os = options->volume->os;
	limits_set(shard);
	queue_init(&shard->queue, options->io, shard->os, 0, QUEUE_BYTES_MAX);
	shard->queue.model = &shard->model;
	int error = parts_open(shard);
	if (error) {
		haul_err_set(err, error,
			     "cache: no memory for partition %u (index of %llu entries, %llu bytes "
			     "of buffers): give it less of either",
			     options->partition, (unsigned long long)shard->super->entries_max,
			     (unsigned long long)options->buffer_bytes);
		goto fail;
	}
	shard_reset(shard);
	error = root_load(shard);
	if (!error)
		error = shard_recover(shard, err);
	if (error)
		goto fail;
	*ret_shard = shard;
	return 0;
fail:
	shard_free(shard);
	return error;
}

/* ---- turns ---- */

int64_t shard_poll(struct shard *shard)
{
	(void)queue_reap(&shard->queue);
	bool more = lookups_poll(shard);
	more = reclaim_poll(shard) || more;
	int64_t deadline_ns = flush_poll(shard);
	queue_pump(&shard->queue);
	return more ? 0 : deadline_ns;
}

static bool shard_idle(const struct shard *shard)
{
	return flush_idle(shard) && !shard->gathering.waits && lookups_idle(shard) &&
	       reclaim_idle(shard) && segment_footers_idle(shard) && queue_idle(&shard->queue);
}

void shard_drive(struct shard *shard, const bool *flag)
{
	for (;;) {
		int64_t deadline_ns = shard_poll(shard);
		if (flag ? *flag : shard_idle(shard))
			return;
		int64_t timeout_ns = -1;
		int64_t before_ns = 0;
		if (deadline_ns != INT64_MAX) {
			before_ns = shard->os->now_ns(shard->os);
			timeout_ns = deadline_ns - before_ns;
			timeout_ns = timeout_ns > 0 ? timeout_ns : 0;
		} else if (shard->options.io->in_flight == 0) {
			return; /* nothing will ever happen */
		}
		int rc = io_wait(shard->options.io, timeout_ns);
		if (rc == -ETIME && timeout_ns < 0)
			return; /* the disk has stopped */
		if (rc == -ETIME && timeout_ns > 0 && shard->os->now_ns(shard->os) == before_ns)
			return; /* time has: it is moved by hand */
	}
}

struct close_wait {
	struct shard_wait wait;
	bool told;
	int result;
};

static void close_told(struct shard_wait *wait, int result)
{
	struct close_wait *told = wait->owner;
	told->told = true;
	told->result = result;
}

int shard_close(struct shard *shard)
{
	struct close_wait flushed = { .wait = { .done = close_told } };
	if (!shard)
		return 0;
	flushed.wait.owner = &flushed;
	if (!shard->flushing_stopped) {
		shard->root_dirty |= shard->stat.flushes > 0; /* what was learnt of the disk */
		shard_flush(shard, &flushed.wait);
		shard_drive(shard, &flushed.told);
		for (enum lane_id id = 0; id < LANES; id++)
			segment_seal(shard, id); /* opening again need not walk them */
	}
	shard_drive(shard, NULL);
	int result = flushed.result ? flushed.result : shard->unreported;
	shard_free(shard);
	return result;
}

int shard_online(struct shard *shard, struct haul_err *err)
{
	if (!shard->offline)
		return 0;
	shard_drive(shard, NULL);
	HAUL_ASSERT(queue_idle(&shard->queue));
	shard_reset(shard);
	/* What failed can be read, perhaps, and is not on the disk: the root knows where it lies,
	 * also if it could not be written any more. */
	root_change(shard);
	int error = shard_recover(shard, err);
	if (error) {
		shard_reset(shard);
		shard->offline = shard->flushing_stopped = true;
	}
	return error;
}

/* ---- figures ---- */

void shard_stat(struct shard *shard, struct haul_cache_stat *stat)
{
	const struct haul_cache_stat *own = &shard->stat;
	stat->entries += shard->index.count;
	stat->entries_max += shard->index.entries_max;
	stat->stored_bytes += shard->index.bytes;
	stat->disk_bytes += (uint64_t)shard->super->segments * shard->super->segment_bytes;
	stat->index_bytes += shard->index.memory;
	stat->ram_bytes += shard->ram.bytes_max;
	stat->buffer_bytes += shard->chunk_arena_bytes + shard->buffers.bytes;
	stat->pending_writes += shard->gathering.ops;
	stat->buffered_bytes += shard->gathering.bytes;
	stat->segments += shard->super->segments;
	stat->segments_free += shard->free_count;
	stat->segments_bad += shard->bad_count;
	stat->segments_pinned += shard->lanes[LANE_PINNED].count;
	stat->lookups += own->lookups;
	stat->hits += own->hits;
	stat->ram_hits += own->ram_hits;
	stat->misses += own->misses;
	stat->expired += own->expired;
	stat->corrupt += own->corrupt;
	stat->unreadable += own->unreadable;
	stat->read_ops += own->read_ops;
	stat->read_bytes += own->read_bytes;
	stat->read_gap_bytes += own->read_gap_bytes;
	stat->read_keys += own->read_keys;
	stat->stores += own->stores;
	stat->deletes += own->deletes;
	stat->refused += own->refused;
	stat->failed += own->failed;
	stat->flushes += own->flushes;
	stat->flush_ops += own->flush_ops;
	stat->flush_bytes += own->flush_bytes;
	stat->device_bytes += own->device_bytes;
	stat->syncs += own->syncs;
	stat->evicted += own->evicted;
	stat->reinserted += own->reinserted;
	stat->reclaimed_segments += own->reclaimed_segments;
	for (uint32_t i = 0; i < HAUL_CLOSE_REASONS; i++)
		stat->closed[i] += own->closed[i];
	stat->model = shard->model;
	stat->batch_bytes_target = shard->limits.bytes_max;
	stat->gap_target = haul_disk_model_gap(&shard->model);
	stat->partitions++;
	stat->offline += shard->offline;
	stat->engine = io_engine_name(shard->options.io->engine);
}
