/* Segments without a footer, and the last flushes.
 *
 * A segment is walked from batch to batch: header, table, on to the next. Headers that are close
 * together come with one read. Batches of flushes up to proven_flush are known to be durable. Of
 * the later ones (at most FLUSHES) each batch is read and verified whole; a flush counts if for
 * each of its parts there is one whole batch (a part whose write failed may be there twice: where
 * it was meant to go, and where it went), and if no earlier one was dropped. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "disk/recover_state.h"

enum { ROWS_MIN = 4096, WALKED_MIN = 256 };

/* ---- what is found is kept ---- */

static int walked_alloc(struct recovery *recovery)
{
	if (recovery->walked_count < recovery->walked_max)
		return 0;
	uint32_t max = recovery->walked_max > 0 ? recovery->walked_max * 2 : WALKED_MIN;
	struct walked *walked = realloc(recovery->walked, (size_t)max * sizeof *walked);
	if (walked == NULL)
		return -ENOMEM;
	recovery->walked = walked;
	recovery->walked_max = max;
	return 0;
}

static int rows_alloc(struct recovery *recovery, uint32_t more)
{
	uint32_t max = recovery->row_max > 0 ? recovery->row_max : ROWS_MIN;
	while (max - recovery->row_count < more)
		max *= 2;
	if (max == recovery->row_max)
		return 0;
	struct format_row *rows = realloc(recovery->rows, (size_t)max * sizeof *rows);
	if (rows == NULL)
		return -ENOMEM;
	recovery->rows = rows;
	recovery->row_max = max;
	return 0;
}

static int walked_take(struct recovery *recovery, struct walked *walked, const struct walk *walk,
		       const uint8_t *table)
{
	struct walk_rows rows;
	struct format_row row;
	if (walk_table(walk, &walked->batch, table, &rows) < 0)
		return 0;
	int rc = rows_alloc(recovery, walked->batch.rows);
	if (rc < 0)
		return rc;
	walked->first_row = recovery->row_count;
	while ((rc = walk_row(&rows, &row, NULL)) > 0)
		recovery->rows[recovery->row_count++] = row;
	if (rc < 0)
		recovery->row_count = walked->first_row;
	walked->row_count = recovery->row_count - walked->first_row;
	walked->good = rc == 0;
	return 0;
}

/* ---- walking ---- */

/* Bytes `at` … `at + bytes - 1` of the segment: in the window, or read into it. NULL: error. */
static const uint8_t *window_at(struct recovery *recovery, uint32_t segment, uint32_t at,
				uint32_t bytes, int *ret_error)
{
	struct reading *window = &recovery->window;
	const struct shard *shard = recovery->shard;
	uint64_t offset = segment_offset(shard, segment) + at;
	bool inside = window->recovery != NULL && window->error == 0 && offset >= window->offset &&
		      offset + bytes <= window->offset + window->bytes;
	if (!inside) {
		uint32_t first = at / FORMAT_BLOCK * FORMAT_BLOCK;
		uint32_t left = shard->super->segment_bytes - first;
		uint32_t want = at + bytes - first;
		want = (want + FORMAT_BLOCK - 1) / FORMAT_BLOCK * FORMAT_BLOCK;
		want = want > WINDOW_BYTES ? want : WINDOW_BYTES;
		HAUL_ASSERT(at + bytes <= shard->super->segment_bytes);
		*ret_error = recover_read_one(recovery, window, segment, first,
					      want < left ? want : left);
		if (*ret_error < 0)
			return NULL;
	}
	return window->data + (offset - window->offset);
}

static int walk_one(struct recovery *recovery, struct walk *walk, const struct format_batch *batch)
{
	int rc = walked_alloc(recovery);
	if (rc < 0)
		return rc;
	struct walked *walked = &recovery->walked[recovery->walked_count++];
	*walked = (struct walked){ .batch = *batch };
	uint32_t segment = walk->segment.segment;
	const uint8_t *table =
		window_at(recovery, segment, batch->offset + batch->table, batch->table_bytes, &rc);
	if (table != NULL)
		return walked_take(recovery, walked, walk, table);
	recovery->found[segment].unreadable = recovery->rc == 0;
	return recovery->rc;
}

/* Reading a header failed: what is behind it is lost, what is before is not. */
static int walk_blocked(struct recovery *recovery, const struct walk *walk)
{
	struct found *found = &recovery->found[walk->segment.segment];
	if (recovery->rc < 0)
		return recovery->rc;
	found->unreadable = true;
	found->end = walk->at;
	return 0;
}

int recover_walk(struct recovery *recovery, uint32_t segment)
{
	struct found *found = &recovery->found[segment];
	struct walk walk;
	bool damaged = false;
	walk_start(&walk, recovery->shard->super, &found->header, found->end);
	while (walk.at < walk.end) {
		struct format_batch batch;
		int error;
		const uint8_t *header =
			window_at(recovery, segment, walk.at, FORMAT_BATCH_HEADER, &error);
		if (header == NULL)
			return walk_blocked(recovery, &walk);
		int rc = walk_batch(&walk, header, &batch);
		if (rc == 0 && !damaged)
			break;
		damaged = rc < 0 || (rc == 0 && damaged);
		if (rc != 1) {
			if (!walk_skip(&walk))
				break;
			continue;
		}
		rc = walk_one(recovery, &walk, &batch);
		if (rc < 0)
			return rc;
		if (batch.flush > recovery->last_flush)
			recovery->last_flush = batch.flush;
	}
	return 0;
}

/* ---- judging ---- */

static bool in_doubt(const struct recovery *recovery, const struct walked *walked)
{
	return walked->batch.flush > recovery->proven_flush;
}

static int walked_verify(struct recovery *recovery, struct walked *walked)
{
	const struct format_batch *batch = &walked->batch;
	struct found *found = &recovery->found[batch->segment];
	struct walk walk;
	int error;
	if (!walked->good)
		return 0;
	walk_start(&walk, recovery->shard->super, &found->header, found->end);
	const uint8_t *bytes =
		window_at(recovery, batch->segment, batch->offset, batch->bytes, &error);
	if (bytes == NULL) {
		found->unreadable = recovery->rc == 0;
		return recovery->rc;
	}
	walked->whole = walk_verify(&walk, batch, bytes) == 0;
	return 0;
}

/* Whether each part of the flush is there, whole. */
static bool flush_whole(const struct recovery *recovery, uint64_t flush)
{
	uint32_t parts = 0, seen = 0;
	for (uint32_t i = 0; i < recovery->walked_count; i++) {
		const struct walked *walked = &recovery->walked[i];
		if (walked->batch.flush != flush)
			continue;
		parts = walked->batch.parts;
		bool again = !walked->whole;
		for (uint32_t j = 0; j < i && !again; j++) {
			const struct walked *other = &recovery->walked[j];
			again = other->whole && other->batch.flush == flush &&
				other->batch.part == walked->batch.part;
		}
		seen += !again;
	}
	return seen == parts;
}

/* From the first flush that is not whole on, all are dropped; of those that are, the parts that are
 * not whole (they were written again elsewhere). */
static void flushes_judge(struct recovery *recovery)
{
	bool lost = false;
	for (uint64_t flush = recovery->proven_flush + 1; flush <= recovery->last_flush; flush++) {
		lost = lost || !flush_whole(recovery, flush);
		for (uint32_t i = 0; i < recovery->walked_count; i++) {
			struct walked *walked = &recovery->walked[i];
			if (walked->batch.flush != flush || (!lost && walked->whole))
				continue;
			walked->dropped = true;
			recovery->torn++;
			if (!lost)
				recovery->found[walked->batch.segment].twice = flush;
		}
	}
}

int recover_judge(struct recovery *recovery)
{
	HAUL_ASSERT(recovery->last_flush <= recovery->proven_flush ||
		    recovery->last_flush - recovery->proven_flush <= FLUSHES);
	for (uint32_t i = 0; i < recovery->walked_count; i++) {
		struct walked *walked = &recovery->walked[i];
		int rc = in_doubt(recovery, walked) ? walked_verify(recovery, walked) : 0;
		if (rc < 0)
			return rc;
	}
	flushes_judge(recovery);
	return 0;
}

/* ---- what counts ---- */

static void walked_count(struct found *found, const struct walked *walked)
{
	const struct format_batch *batch = &walked->batch;
	found->append = batch->offset + batch->bytes;
	found->last_flush = batch->flush;
	found->rows += walked->row_count;
}

static void row_count(struct recovery *recovery, struct found *found, const struct format_row *row)
{
	if (row->seq > recovery->last_seq)
		recovery->last_seq = row->seq;
	if (row->flags & ROW_TOMBSTONE)
		return;
	if (row->flags & ROW_PINNED)
		found->header.lane = LANE_PINNED; /* the header may have been made anew */
	uint32_t expiry = row->expiry != 0 ? row->expiry : UINT32_MAX;
	if (expiry > found->expiry_max)
		found->expiry_max = expiry;
}

int recover_walked_rows(struct recovery *recovery)
{
	int rc = newest_alloc(recovery, recovery->row_count);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < recovery->walked_count; i++) {
		struct walked *walked = &recovery->walked[i];
		struct found *found = &recovery->found[walked->batch.segment];
		if (walked->batch.first_seq > recovery->last_seq + 1)
			recovery->last_seq = walked->batch.first_seq - 1;
		const struct format_row *rows = recovery->rows + walked->first_row;
		if (walked->dropped || !walked->good) {
			/* seqs of what is dropped are not given out again */
			for (uint32_t j = 0; j < walked->row_count; j++) {
				if (rows[j].seq > recovery->last_seq)
					recovery->last_seq = rows[j].seq;
			}
			continue;
		}
		walked_count(found, walked);
		for (uint32_t j = 0; j < walked->row_count; j++) {
			row_count(recovery, found, &rows[j]);
			newest_add(recovery, &rows[j], walked->batch.segment);
		}
	}
	return 0;
}
