/* disk/flush_fail.c: writes and syncs that failed.
 *
 * Promise    A failed flush loses its own entries and nothing else; everybody who waited for it is
 *            told, and what it left on the disk is never taken for good.
 * How        A batch whose write failed moves once, with all that lies behind it in its segment, to
 *            a fresh segment; the old one is quarantined up to what was durable, which the root
 *            says before the flush is durable. If that cannot be, or root or sync fail, all flushes
 *            under way fail as one, once none of their writes is under way: after a failed sync
 *            the kernel may have dropped what it could not write, so that a second sync would
 *            succeed and mean nothing. Their rows leave the index where it still points at them.
 *            What was only gathered moves on to fresh segments. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "disk/shard_parts.h"

/* ---- moving ---- */

/* The rows of a chunk lie elsewhere now. */
static void chunk_repoint(struct shard *shard, struct chunk *chunk, uint32_t to, uint32_t units)
{
	uint32_t from = chunk->segment;
	for (uint32_t i = 0; i < chunk->row_count; i++) {
		struct format_row *row = &chunk->rows[i];
		struct index_slot *slot = index_find(&shard->index, row->hash);
		uint32_t unit = row->unit;
		row->unit -= units;
		if (!slot || (row->flags & ROW_TOMBSTONE) || !index_is_at(slot, from, unit))
			continue;
		struct index_entry entry;
		index_unpack(slot, &entry);
		reclaim_gone(shard, slot);
		entry.segment = to;
		entry.unit = row->unit;
		int error = index_put(&shard->index, &entry);
		HAUL_ASSERT(error == 0); /* it replaces */
		segment_live(shard, from, -1, -(int64_t)entry.bytes);
		segment_live(shard, to, 1, entry.bytes);
		reclaim_moved(shard, slot);
	}
}

static void chunk_move(struct shard *shard, struct chunk *chunk, uint32_t to, uint32_t by)
{
	HAUL_ASSERT(chunk->base >= by + FORMAT_BLOCK && by % FORMAT_BLOCK == 0);
	chunk_repoint(shard, chunk, to, by / FORMAT_UNIT);
	chunk->segment = to;
	chunk->base -= by;
	chunk->head = chunk->base == FORMAT_BLOCK ? FORMAT_BLOCK : 0;
	chunk->failed = false;
	if (chunk->flush != 0) {
		chunk_encode(shard, chunk);
		chunk->moved = true;
		chunk->rewrite = true;
	}
	haul_stats_count(&shard->flush_stats, FLUSH_MOVED, 1);
}

static struct footer *footer_of(struct shard *shard, uint32_t segment)
{
	for (uint32_t i = 0; i < FOOTERS; i++) {
		struct footer *footer = &shard->footers[i];
		if (footer->busy && footer->segment == segment)
			return footer;
	}
	return NULL;
}

/* Rows of all closed chunks of a segment that nothing else is in. Returns how many. */
static uint32_t chunk_rows_of(const struct segment *segment, struct format_row *out)
{
	uint32_t count = 0;
	for (const struct chunk *chunk = segment->chunks; chunk; chunk = chunk->next_segment) {
		if (chunk->bytes == 0)
			continue; /* still open */
		memcpy(out + count, chunk->rows, chunk->row_count * sizeof *out);
		count += chunk->row_count;
	}
	return count;
}

/* All that is not durable of a segment goes to a fresh one; nothing of it is being written. */
static bool segment_move(struct shard *shard, uint32_t from)
{
	struct segment *old = &shard->segments[from];
	struct lane *lane = &shard->lanes[old->lane];
	HAUL_ASSERT(old->state == SEGMENT_OPEN || old->state == SEGMENT_SEALED);
	HAUL_ASSERT(old->chunks != NULL);
	uint32_t to = segment_take_apart(shard, old->lane, true);
	if (to == SEGMENT_NONE)
		return false;
	struct segment *new = &shard->segments[to];
	bool sealed = old->state == SEGMENT_SEALED;
	uint32_t by = old->chunks->base - FORMAT_BLOCK;
	new->born_seq = old->born_seq; /* its rows may be that old */
	new->expiry_max = old->expiry_max;
	new->append = old->append - by;
	new->chunks = old->chunks;
	old->chunks = NULL;
	for (struct chunk *chunk = new->chunks; chunk; chunk = chunk->next_segment)
		chunk_move(shard, chunk, to, by);

	struct footer *footer = footer_of(shard, from);
	segment_retire(shard, from, old->durable);
	if (!sealed) {
		lane->segment = to;
		new->rows = lane->footer_rows = chunk_rows_of(new, lane->footer);
		return true;
	}
	new->state = SEGMENT_SEALED;
	segment_link(shard, to);
	new->sealed_footer = footer != NULL;
	if (footer) /* the same rows, less those that were durable */
		new->rows = segment_footer_move(footer, to);
	return true;
}

bool flush_move_failed(struct shard *shard, struct flush *flush)
{
	for (struct chunk *chunk = flush->chunks; chunk; chunk = chunk->next) {
		if (chunk->failed && (chunk->moved || !segment_move(shard, chunk->segment)))
			return false;
	}
	for (uint32_t i = 0; i < FLUSHES; i++) {
		struct flush *other = &shard->flushes[i];
		if (other->state == FLUSH_FREE)
			continue;
		HAUL_ASSERT(other->pending == 0 && other->state == FLUSH_WRITE);
		other->op_count = 0;
	}
	for (uint32_t i = 0; i < FLUSHES; i++) {
		struct flush *other = &shard->flushes[i];
		struct chunk *chunk = other->state == FLUSH_FREE ? NULL : other->chunks;
		for (; chunk; chunk = chunk->next) {
			if (chunk->rewrite)
				flush_write_chunk(other, chunk);
			chunk->rewrite = false;
		}
	}
	return true;
}

/* ---- losing ---- */

/* The rows of a chunk leave the index, where it still points at them. */
static void chunk_lose(struct shard *shard, struct chunk *chunk)
{
	for (uint32_t i = 0; i < chunk->row_count; i++) {
		const struct format_row *row = &chunk->rows[i];
		struct index_slot *slot = index_find(&shard->index, row->hash);
		if (slot && index_is_at(slot, chunk->segment, row->unit))
			shard_forget(shard, slot);
	}
	struct chunk **link = &shard->segments[chunk->segment].chunks;
	while (*link != chunk)
		link = &(*link)->next_segment;
	*link = chunk->next_segment;
	shard->stat.failed += chunk->users;
	haul_stats_count(&shard->flush_stats, FLUSH_FAILED_ROWS, chunk->row_count);
}

/* What an entry of the flush was is not there any more; its chunks and waiters are given up. */
static struct shard_wait *flush_lose(struct shard *shard, struct flush *flush, int error)
{
	struct shard_wait *waits = flush->waits;
	for (struct chunk *chunk = flush->chunks; chunk; chunk = chunk->next)
		chunk_lose(shard, chunk);
	for (uint32_t i = 0; i < flush->erased_count; i++)
		segment_erase_again(shard, flush->erased[i]);
	if (flush->has_root) {
		shard->root_dirty = true;
		/* Which of the two copies is good is not known: write the same one again. */
		shard->root.generation++;
	}
	if (flush->buffered_ops > 0 && !flush->flushed)
		shard->unreported = error;
	haul_stats_count(&shard->flush_stats, FLUSH_FAILED, 1);
	flush->waits = NULL;
	flush->state = FLUSH_FREE;
	flush->pending = 0;
	return waits;
}

/* Give up what was gathered: nothing of it was written, the next batch takes its place. */
static void chunk_roll_back(struct shard *shard, struct chunk *chunk)
{
	struct segment *segment = &shard->segments[chunk->segment];
	struct lane *lane = &shard->lanes[chunk->lane];
	chunk_lose(shard, chunk);
	if (segment->state == SEGMENT_OPEN && lane->segment == chunk->segment) {
		if (chunk->base < segment->append)
			segment->append = chunk->base;
		segment->rows -= chunk->row_count;
		lane->footer_rows -= chunk->row_count;
	} else if (segment->state == SEGMENT_SEALED) {
		segment->sealed_footer = false; /* it lists them: walk the segment instead */
	}
	chunk_free(shard, chunk);
}

void flush_fail_all(struct shard *shard, int error)
{
	struct gathering *gathering = &shard->gathering;
	shard->lost++;
	for (enum lane_id id = 0; id < LANES; id++)
		lane_close_chunk(shard, id);
	struct chunk *chunk = gathering->full;
	while (chunk) {
		struct chunk *next = chunk->next;
		chunk_roll_back(shard, chunk);
		chunk = next;
	}
	if (gathering->buffered > 0 && !gathering->flushed)
		shard->unreported = error;
	shard->hides = true;
	struct shard_wait *waits = gathering->waits;
	*gathering = (struct gathering){ .first_seq = shard->next_seq };
	segment_footers(shard);
	flush_tell(shard, waits, error);
}

/* Segments in which a lost chunk lay: what is behind it moves, the rest is not written again. */
static bool segments_leave(struct shard *shard, struct chunk *chunks)
{
	bool moved = true;
	for (struct chunk *chunk = chunks; chunk; chunk = chunk->next) {
		struct segment *segment = &shard->segments[chunk->segment];
		if (segment->state != SEGMENT_OPEN && segment->state != SEGMENT_SEALED)
			continue; /* seen to already */
		if (segment->chunks && segment_move(shard, chunk->segment))
			continue;
		moved = moved && !segment->chunks;
		if (!segment->chunks)
			segment_retire(shard, chunk->segment, segment->durable);
	}
	return moved;
}

static void chunks_free(struct shard *shard, struct chunk *chunk)
{
	while (chunk) {
		struct chunk *next = chunk->next;
		chunk_free(shard, chunk);
		chunk = next;
	}
}

void flush_fail(struct shard *shard)
{
	struct flush *lost[FLUSHES];
	struct shard_wait *waits[FLUSHES];
	uint32_t count = 0;
	int error = 0;
	for (uint64_t n = shard->durable_flush + 1; n < shard->next_flush; n++) {
		struct flush *flush = &shard->flushes[n % FLUSHES];
		if (flush->state == FLUSH_FREE || flush->number != n)
			continue;
		HAUL_ASSERT(flush->pending == 0 && count < FLUSHES);
		error = error ? error : flush->error;
		lost[count++] = flush;
	}
	HAUL_ASSERT(count > 0 && error < 0);
	for (uint32_t i = 0; i < count; i++)
		waits[i] = flush_lose(shard, lost[i], error);
	bool moved = true;
	for (uint32_t i = 0; i < count; i++)
		moved = segments_leave(shard, lost[i]->chunks) && moved;
	for (uint32_t i = 0; i < count; i++) {
		chunks_free(shard, lost[i]->chunks);
		lost[i]->chunks = NULL;
	}
	shard->hides = true;
	shard->failing = false;
	shard->settling = true;
	shard->failures++;
	shard->lost++;
	bool offline = shard->failures >= FAILURES_MAX || shard->root.bad_count == FORMAT_BAD_MAX ||
		       error == -ENODEV;
	if (offline) {
		shard->offline = true;
		shard->flushing_stopped = true;
	}
	for (uint32_t i = 0; i < count; i++)
		flush_tell(shard, waits[i], error);
	if (offline || !moved)
		flush_fail_all(shard, error);
}
