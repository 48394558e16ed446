/* disk/flush_fail.c: writes and syncs that failed.
 *
 * Promise    A failed flush loses its own entries and nothing else; everybody who waited for it is
 *            told, and what it left on the disk is never taken for good.
 * How        A batch whose write failed moves once, with all that lies behind it in its segment, to
 *            a fresh segment; the old one is quarantined up to what was durable, which the root
 *            says before the flush is durable. If that cannot be, or root or sync fail, all flushes
 *            under way fail as one, once none of their writes is under way: after a failed sync
 *            the kernel may have dropped what it could not write, so that a second sync would
 *            succeed and mean nothing. Their rows leave the index where it still points at them;
 *            what reclaim had copied is where it was. What was only gathered moves on to fresh
 *            segments, or fails as well: nothing is ever written behind what was lost. */
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
		if (slot && !(row->flags & ROW_TOMBSTONE) && index_is_at(slot, from, unit))
			shard_repoint(shard, slot, to, row->unit);
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

/* What was copied is where it was: its segment is not erased before the copy is durable. Damage may
 * have cut it off there meanwhile. */
static bool origin_is_there(const struct shard *shard, const struct origin *origin)
{
	const struct segment *segment = &shard->segments[origin->segment];
	if (origin->unit == 0)
		return false;
	if (segment->state != SEGMENT_BAD)
		return true;
	const struct format_bad *bad = root_bad(shard, origin->segment);
	return bad && (uint64_t)origin->unit * FORMAT_UNIT < bad->good_bytes;
}

/* The rows of a chunk leave the index, where it still points at them; what was copied goes back. */
static void chunk_lose(struct shard *shard, struct chunk *chunk)
{
	uint32_t back = 0;
	for (uint32_t i = 0; i < chunk->row_count; i++) {
		const struct format_row *row = &chunk->rows[i];
		struct index_slot *slot = index_find(&shard->index, row->hash);
		if (!slot || !index_is_at(slot, chunk->segment, row->unit))
			continue;
		const struct origin *origin = &chunk->origins[i];
		if (!origin_is_there(shard, origin)) {
			shard_forget(shard, slot);
			continue;
		}
		shard_repoint(shard, slot, origin->segment, origin->unit);
		back++;
	}
	struct chunk **link = &shard->segments[chunk->segment].chunks;
	while (*link != chunk)
		link = &(*link)->next_segment;
	*link = chunk->next_segment;
	shard->stat.failed += chunk->users;
	haul_stats_count(&shard->flush_stats, FLUSH_FAILED_ROWS, chunk->row_count - back);
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

/* Everything gathered and not under way fails. Returns who waited for it. */
static struct shard_wait *gathering_lose(struct shard *shard)
{
	struct gathering *gathering = &shard->gathering;
	for (enum lane_id id = 0; id < LANES; id++)
		lane_close_chunk(shard, id);
	struct chunk *chunk = gathering->full;
	while (chunk) {
		struct chunk *next = chunk->next;
		chunk_roll_back(shard, chunk);
		chunk = next;
	}
	struct shard_wait *waits = gathering->waits;
	*gathering = (struct gathering){ .first_seq = shard->next_seq };
	return waits;
}

/* Segments in which a lost chunk lay: what is behind it moves, the rest is not written again.
 * False: for some of it there is no fresh segment. */
static bool segments_leave(struct shard *shard, struct flush *const *lost, uint32_t count)
{
	bool moved = true;
	for (uint32_t i = 0; i < count; i++) {
		for (struct chunk *chunk = lost[i]->chunks; chunk; chunk = chunk->next) {
			struct segment *segment = &shard->segments[chunk->segment];
			if (segment->state != SEGMENT_OPEN && segment->state != SEGMENT_SEALED)
				continue; /* seen to already */
			if (!segment->chunks)
				segment_retire(shard, chunk->segment, segment->durable);
			else
				moved = segment_move(shard, chunk->segment) && moved;
		}
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

/* Those under way, in order. Returns how many; *ret_error: why. */
static uint32_t flushes_under_way(struct shard *shard, struct flush *out[FLUSHES], int *ret_error)
{
	uint32_t count = 0;
	*ret_error = 0;
	for (uint64_t n = shard->durable_flush + 1; n < shard->next_flush; n++) {
		struct flush *flush = &shard->flushes[n % FLUSHES];
		if (flush->state == FLUSH_FREE || flush->number != n)
			continue;
		HAUL_ASSERT(flush->pending == 0 && count < FLUSHES);
		*ret_error = *ret_error ? *ret_error : flush->error;
		out[count++] = flush;
	}
	HAUL_ASSERT(count > 0 && *ret_error < 0);
	return count;
}

void flush_fail(struct shard *shard)
{
	struct flush *lost[FLUSHES];
	struct shard_wait *waits[FLUSHES + 1] = { NULL };
	int error;
	uint32_t count = flushes_under_way(shard, lost, &error);
	for (uint32_t i = 0; i < count; i++)
		waits[i] = flush_lose(shard, lost[i], error);
	bool moved = segments_leave(shard, lost, count);
	bool offline = ++shard->failures >= FAILURES_MAX ||
		       shard->root.bad_count == FORMAT_BAD_MAX || error == -ENODEV;
	const struct gathering *gathering = &shard->gathering;
	bool unheard = (offline || !moved) && gathering->buffered > 0 && !gathering->flushed;
	if (offline || !moved)
		waits[count] = gathering_lose(shard);
	/* A batch that was lost may be there in part: nothing may come behind it. */
	moved = moved || segments_leave(shard, lost, count);
	HAUL_ASSERT(moved);
	for (uint32_t i = 0; i < count; i++) {
		chunks_free(shard, lost[i]->chunks);
		lost[i]->chunks = NULL;
	}
	segment_footers(shard);
	shard->hides = true;
	shard->failing = false;
	shard->settling = true;
	shard->lost++;
	if (offline) {
		shard->offline = true;
		shard->flushing_stopped = true;
	}
	for (uint32_t i = 0; i < count; i++)
		flush_tell(shard, waits[i], error);
	if (unheard) /* by those who were told just now: they came before it */
		shard->unreported = error;
	flush_tell(shard, waits[count], error);
}
