/* disk/flush.c: carrying what was gathered across to the disk.
 *
 * Promise    All of a flush is durable after it, or none of it is found by a later open; waiters
 *            are told once, in the order in which they came, and not before.
 * How        Its batches are written side by side. When the last write has finished and the flush
 *            before it is durable, its sync is pushed: one, whatever it carries. The root, if it
 *            changed, is written in between, so that at most one copy of it is under way. A lone
 *            write with nothing else under way is made durable by itself: one trip to the disk.
 *            Each batch says how many there are; an open drops a last flush of which one is not
 *            whole.
 * Errors     see flush_fail.c. */
#include <errno.h>

#include "base/assert.h"
#include "disk/shard_parts.h"

enum {
	BATCH_BYTES_MIN = 1 << 18,
	DURABLE_BYTES_MAX = 1 << 17, /* a write that is its own sync; not much of it is the write */
	CLOCK_OPS = 16,
};

static const double SYNC_SHARE = 0.05; /* of the time a flush takes */

static void flush_op_done(struct io_op *op);

void flush_tell(struct shard *shard, struct shard_wait *waits, int result)
{
	while (waits) {
		struct shard_wait *wait = waits;
		int told = result ? result : wait->success;
		waits = wait->next; /* the waiter may be gone once it was told */
		wait->next = NULL;
		if (wait->all) {
			told = result ? result : shard->unreported;
			shard->unreported = 0;
		}
		wait->done(wait, told);
	}
}

bool flush_idle(const struct shard *shard)
{
	for (uint32_t i = 0; i < FLUSHES; i++) {
		if (shard->flushes[i].state != FLUSH_FREE)
			return false;
	}
	return true;
}

static bool gathered_rows(const struct shard *shard)
{
	const struct gathering *gathering = &shard->gathering;
	return gathering->ops > 0 || gathering->background > 0 || gathering->full;
}

bool flush_empty(const struct shard *shard)
{
	return flush_idle(shard) && !gathered_rows(shard) && !shard->gathering.waits;
}

/* ---- beginning ---- */

static void flush_write(struct flush *flush, uint64_t offset, uint8_t *data, uint32_t bytes)
{
	struct shard *shard = flush->shard;
	HAUL_ASSERT(flush->op_count < FLUSH_OPS);
	struct io_op *op = &flush->ops[flush->op_count++];
	*op = (struct io_op){
		.kind = IO_WRITE,
		.bytes = bytes,
		.offset = offset,
		.data = data,
		.done = flush_op_done,
		.owner = flush,
	};
	flush->pending++;
	flush->device_bytes += bytes;
	queue_put(&shard->queue, op, QUEUE_FLUSH);
}

void flush_write_chunk(struct flush *flush, struct chunk *chunk)
{
	uint64_t offset = segment_offset(flush->shard, chunk->segment) + chunk->base - chunk->head;
	uint8_t *data = chunk->data - chunk->head;
	uint32_t left = chunk->bytes + chunk->head;
	while (left > 0) {
		uint32_t bytes = left < HAUL_DISK_SPLIT ? left : HAUL_DISK_SPLIT;
		flush_write(flush, offset, data, bytes);
		offset += bytes;
		data += bytes;
		left -= bytes;
	}
}

/* Empty segments whose contents are not needed: their header becomes zeros. */
static void flush_erase(struct flush *flush)
{
	struct shard *shard = flush->shard;
	while (flush->erased_count < FLUSH_ERASES) {
		uint32_t segment = segment_erase_next(shard);
		if (segment == SEGMENT_NONE)
			return;
		flush->erased[flush->erased_count++] = segment;
		flush_write(flush, segment_offset(shard, segment), shard->erase_block,
			    FORMAT_BLOCK);
		haul_stats_count(&shard->flush_stats, FLUSH_ERASED, 1);
	}
}

static void flush_take(struct flush *flush, enum haul_close reason)
{
	struct shard *shard = flush->shard;
	struct gathering *gathering = &shard->gathering;
	flush->state = FLUSH_WRITE;
	flush->number = shard->next_flush++;
	flush->chunks = gathering->full;
	flush->waits = gathering->waits;
	flush->pending = 0;
	flush->error = 0;
	flush->user_ops = gathering->ops;
	flush->buffered_ops = gathering->buffered;
	flush->user_bytes = gathering->bytes;
	flush->device_bytes = 0;
	flush->closed_ns = shard->os->now_ns(shard->os);
	flush->first_ns = gathering->timed ? gathering->first_ns : flush->closed_ns;
	flush->reason = reason;
	flush->op_count = 0;
	flush->erased_count = 0;
	flush->has_root = false;
	flush->flushed = gathering->flushed;
}

/* Whether the next flush may be begun: a batch of it says that the one FLUSHES before it is proven,
 * so that one has to be durable, or the root of a later one says that it does not count. */
static bool flush_may_begin(const struct shard *shard)
{
	return shard->flushes[shard->next_flush % FLUSHES].state == FLUSH_FREE && !shard->failing &&
	       !shard->settling && !shard->flushing_stopped;
}

/* After a failure: the root alone. */
static void flush_settle(struct shard *shard)
{
	struct flush *flush = &shard->flushes[shard->next_flush % FLUSHES];
	if (!flush_idle(shard))
		return;
	*flush = (struct flush){ .shard = shard,
				 .state = FLUSH_WRITE,
				 .number = shard->next_flush++,
				 .reason = HAUL_CLOSE_BARRIER };
	flush->first_ns = flush->closed_ns = shard->os->now_ns(shard->os);
	shard->root_dirty = true;
	flush_advance(shard);
}

bool flush_begin(struct shard *shard, enum haul_close reason)
{
	struct gathering *gathering = &shard->gathering;
	struct flush *flush = &shard->flushes[shard->next_flush % FLUSHES];
	if (!flush_may_begin(shard))
		return false;
	HAUL_ASSERT(shard->next_flush <= shard->durable_flush + FLUSHES);
	bool alone = flush_idle(shard);
	for (enum lane_id id = 0; id < LANES; id++)
		lane_close_chunk(shard, id);
	flush->shard = shard;
	flush_take(flush, reason);
	uint32_t part = 0;
	for (struct chunk *chunk = flush->chunks; chunk; chunk = chunk->next) {
		chunk->flush = flush->number;
		chunk->first_seq = gathering->first_seq;
		chunk->part = part++;
		chunk->parts = gathering->chunks;
		chunk_encode(shard, chunk);
		flush_write_chunk(flush, chunk);
	}
	HAUL_ASSERT(part == gathering->chunks);
	haul_stats_count(&shard->flush_stats, FLUSH_BATCHES, part);
	*gathering = (struct gathering){ .first_seq = shard->next_seq };
	flush_erase(flush);
	if (alone && flush->pending == 1 && !shard->root_dirty)
		flush->ops[0].durable = flush->ops[0].bytes <= DURABLE_BYTES_MAX;
	if (flush->pending == 0)
		flush_advance(shard);
	queue_pump(&shard->queue);
	return true;
}

/* ---- going on ---- */

/* How large the next may grow: so that its sync is a small part of it. */
void flush_limits(struct shard *shard)
{
	if (shard->options.fixed)
		return;
	uint64_t bytes = haul_disk_model_batch(&shard->model, SYNC_SHARE);
	if (bytes == 0)
		bytes = CHUNK_BYTES; /* nothing is known */
	if (bytes < BATCH_BYTES_MIN)
		bytes = BATCH_BYTES_MIN;
	if (bytes > shard->flush_bytes_max)
		bytes = shard->flush_bytes_max;
	shard->limits.bytes_max = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
	shard->limits.ops_max = HAUL_BATCH_OPS_MAX;
}

static void flush_publish(struct flush *flush)
{
	struct shard *shard = flush->shard;
	struct chunk *chunk = flush->chunks;
	while (chunk) {
		struct chunk *next = chunk->next;
		struct segment *segment = &shard->segments[chunk->segment];
		HAUL_ASSERT(segment->chunks == chunk); /* in the order of their offsets */
		segment->chunks = chunk->next_segment;
		segment->durable = chunk->base + chunk->bytes;
		segment->last_flush = flush->number;
		chunk_free(shard, chunk);
		chunk = next;
	}
	for (uint32_t i = 0; i < flush->erased_count; i++)
		segment_erased(shard, flush->erased[i]);
}

static void flush_count(const struct flush *flush)
{
	struct shard *shard = flush->shard;
	struct haul_cache_stat *stat = &shard->stat;
	int64_t now_ns = shard->os->now_ns(shard->os);
	stat->flushes++;
	stat->flush_ops += flush->user_ops;
	stat->flush_bytes += flush->user_bytes;
	stat->device_bytes += flush->device_bytes;
	stat->syncs++;
	stat->closed[flush->reason]++;
	struct haul_stats_batch batch = {
		.ops = flush->user_ops,
		.bytes = flush->user_bytes,
		.reason = flush->reason,
		.wait_ns = flush->closed_ns - flush->first_ns,
		.service_ns = now_ns - flush->closed_ns,
	};
	haul_stats_batch(&shard->flush_stats, &batch);
	haul_stats_count(&shard->flush_stats, FLUSH_DEVICE_BYTES, flush->device_bytes);
	haul_stats_count(&shard->flush_stats, FLUSH_WRITES,
			 flush->op_count - (flush->state == FLUSH_SYNC));
	haul_stats_count(&shard->flush_stats, FLUSH_SYNCS, 1);
}

static void flush_durable(struct flush *flush)
{
	struct shard *shard = flush->shard;
	flush_publish(flush);
	flush_count(flush);
	shard->durable_flush = flush->number;
	if (flush->has_root)
		root_written(shard);
	shard->failures = 0;
	shard->settling = false;
	flush_limits(shard);
	flush->state = FLUSH_FREE;
	flush->chunks = NULL;
	struct shard_wait *waits = flush->waits;
	flush->waits = NULL;
	segment_footers(shard);
	flush_tell(shard, waits, 0);
}

/* The flush whose turn it is: the lowest number under way. */
static struct flush *flush_oldest(struct shard *shard)
{
	struct flush *oldest = NULL;
	for (uint32_t i = 0; i < FLUSHES; i++) {
		struct flush *flush = &shard->flushes[i];
		if (flush->state != FLUSH_FREE && (!oldest || flush->number < oldest->number))
			oldest = flush;
	}
	return oldest;
}

static bool writes_pending(const struct shard *shard)
{
	for (uint32_t i = 0; i < FLUSHES; i++) {
		if (shard->flushes[i].state != FLUSH_FREE && shard->flushes[i].pending > 0)
			return true;
	}
	return false;
}

static bool flush_has_failed(const struct flush *flush)
{
	for (const struct chunk *chunk = flush->chunks; chunk; chunk = chunk->next) {
		if (chunk->failed)
			return true;
	}
	return false;
}

static void flush_sync(struct flush *flush)
{
	struct shard *shard = flush->shard;
	HAUL_ASSERT(flush->op_count < FLUSH_OPS);
	struct io_op *op = &flush->ops[flush->op_count++];
	*op = (struct io_op){ .kind = IO_SYNC, .done = flush_op_done, .owner = flush };
	flush->state = FLUSH_SYNC;
	flush->pending = 1;
	queue_put(&shard->queue, op, QUEUE_FLUSH);
	queue_pump(&shard->queue); /* another shard's turn may have brought us here */
}

static void flush_root(struct flush *flush)
{
	struct shard *shard = flush->shard;
	/* What is older is durable, or lies where the root says that nothing counts. */
	shard->root.flush_proven = flush->number - 1;
	uint64_t offset = root_encode(shard);
	shard->root_dirty = false;
	flush->has_root = true;
	flush_write(flush, offset, shard->root_block, FORMAT_BLOCK);
	haul_stats_count(&shard->flush_stats, FLUSH_ROOTS, 1);
	queue_pump(&shard->queue);
}

void flush_advance(struct shard *shard)
{
	struct flush *flush = flush_oldest(shard);
	if (shard->failing) {
		if (!writes_pending(shard))
			flush_fail(shard);
		return;
	}
	if (!flush || flush->pending > 0)
		return;
	if (flush->error == 0 && flush_has_failed(flush)) {
		/* What lies behind it in its segment has to move too: not while it is written. */
		if (writes_pending(shard))
			return;
		if (!flush_move_failed(shard, flush))
			flush->error = flush->error ? flush->error : -EIO;
		else if (flush->pending > 0)
			return;
	}
	if (flush->error) {
		shard->failing = true;
		flush_advance(shard);
		return;
	}
	if (shard->root_dirty && !flush->has_root)
		flush_root(flush);
	else
		flush_sync(flush);
}

static bool writes_under_way(const struct shard *shard, const struct flush *except)
{
	for (uint32_t i = 0; i < FLUSHES; i++) {
		if (shard->flushes[i].state != FLUSH_FREE && &shard->flushes[i] != except)
			return true;
	}
	return false;
}

static void flush_write_failed(struct flush *flush, const struct io_op *op)
{
	struct shard *shard = flush->shard;
	if (op->data == shard->erase_block) {
		uint32_t segment = (uint32_t)((op->offset - segment_offset(shard, 0)) /
					      shard->super->segment_bytes);
		for (uint32_t i = 0; i < flush->erased_count; i++) {
			if (flush->erased[i] == segment)
				flush->erased[i] = flush->erased[--flush->erased_count];
		}
		segment_retire(shard, segment, 0);
		return;
	}
	for (struct chunk *chunk = flush->chunks; chunk; chunk = chunk->next) {
		if (op->data >= chunk->data - chunk->head &&
		    op->data < chunk->data + chunk->bytes) {
			chunk->failed = true;
			/* A sync in it may have lost what the next flush wrote meanwhile. */
			if (chunk->moved || (op->durable && writes_under_way(shard, flush)))
				flush->error = op->result;
			return;
		}
	}
	flush->error = op->result;
}

static void flush_op_done(struct io_op *op)
{
	struct flush *flush = op->owner;
	struct shard *shard = flush->shard;
	HAUL_ASSERT(flush->pending > 0);
	flush->pending--;
	if (op->kind == IO_SYNC) {
		if (op->result < 0) {
			flush->error = op->result;
		} else {
			flush_durable(flush);
			flush_advance(shard); /* the place may be taken by a new flush already */
			return;
		}
	} else if (op->result < 0) {
		flush_write_failed(flush, op);
	} else if (op->durable) {
		flush_durable(flush);
		flush_advance(shard);
		return;
	}
	if (flush->pending == 0)
		flush_advance(shard);
}

/* ---- when ---- */

/* Tell those who wait for what is durable already; of what failed unheard, the first hears. */
static void flush_tell_done(struct shard *shard)
{
	struct shard_wait *waits = shard->gathering.waits;
	int result = shard->offline ? -ENODEV : 0;
	shard->gathering.waits = shard->gathering.waits_last = NULL;
	shard->gathering.flushed = shard->gathering.manual = false;
	flush_tell(shard, waits, result);
}

static bool erase_urgent(const struct shard *shard)
{
	return shard->erase_count > 0 && shard->free_count <= FREE_MIN + LANES;
}

/* Whether the clock need not be read: in a stream of buffered stores once in CLOCK_OPS is enough.
 * Nobody waits for them, and who polls without having stored is told the time. */
static bool clock_spared(const struct shard *shard)
{
	const struct gathering *gathering = &shard->gathering;
	return gathering->clock_ops > 0 && gathering->ops > gathering->polled_ops &&
	       gathering->ops < gathering->clock_ops + CLOCK_OPS &&
	       gathering->ops < shard->limits.ops_max &&
	       gathering->bytes < shard->limits.bytes_max && !gathering->waits &&
	       !gathering->manual && !gathering->pressed;
}

int64_t flush_poll(struct shard *shard)
{
	struct gathering *gathering = &shard->gathering;
	bool own = gathering->background > 0 || shard->root_dirty || shard->settling ||
		   erase_urgent(shard);
	if ((gathering->ops == 0 && !own) || shard->flushing_stopped) {
		if (gathering->waits && flush_idle(shard))
			flush_tell_done(shard);
		return INT64_MAX;
	}
	if (shard->settling && !shard->failing)
		flush_settle(shard);
	if (!flush_may_begin(shard))
		return INT64_MAX;
	bool spared = clock_spared(shard);
	gathering->polled_ops = gathering->ops;
	if (spared)
		return gathering->deadline_ns;
	int64_t now_ns = shard->os->now_ns(shard->os);
	gathering->clock_ops = gathering->ops;
	if (!gathering->timed) {
		gathering->first_ns = now_ns;
		gathering->timed = true;
	}
	struct haul_gate_input input = {
		.ops_queued = gathering->ops > 0 ? gathering->ops : 1,
		.bytes_queued = gathering->bytes,
		/* Who does not wait may be kept: only a waiter makes an idle disk close. */
		.in_flight = flush_idle(shard) && gathering->waits ? 0 : 1,
		.first_ns = gathering->first_ns,
		.now_ns = now_ns,
		.barrier = gathering->pressed,
		.manual = gathering->manual,
	};
	int64_t deadline_ns = INT64_MAX;
	enum haul_close reason = haul_gate(&shard->limits, &input, &deadline_ns);
	gathering->deadline_ns = deadline_ns;
	if (reason == HAUL_CLOSE_NONE)
		return deadline_ns;
	flush_begin(shard, reason);
	return INT64_MAX;
}
