/* disk/reclaim_copy.c: values that stay, from the victim's segment to the end of a lane.
 *
 * Values of a batch are gathered up to a window, read as the planner says (merged, at depth), and
 * each is verified before it is appended: damage is not copied, it is dropped and counted. When the
 * read has finished the index may point elsewhere: then there is nothing to copy any more. */
#include <errno.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "disk/reclaim_state.h"

enum { READS_AGAIN = 8 };

/* ---- reading ---- */

static void copy_read_done(struct io_op *op)
{
	struct reclaim *reclaim = op->owner;
	HAUL_ASSERT(reclaim->reads > 0);
	/* Rows that are not seen leave without a tombstone: one error does not settle that. */
	if (op->result < 0 && op->result != -ENODEV && reclaim->reads_again < READS_AGAIN) {
		reclaim->reads_again++;
		queue_put(&reclaim->shard->queue, op, QUEUE_BACKGROUND);
		return;
	}
	reclaim->reads--;
	if (op->result < 0 && reclaim->read_error == 0)
		reclaim->read_error = op->result;
}

static void read_start(struct reclaim *reclaim, uint32_t slot, uint64_t offset, uint8_t *to)
{
	struct io_op *op = &reclaim->ops[slot];
	op->kind = IO_READ;
	op->offset = offset;
	op->data = to;
	op->done = copy_read_done;
	op->owner = reclaim;
	op->result = 0;
	reclaim->reads++;
	queue_put(&reclaim->shard->queue, op, QUEUE_BACKGROUND);
}

void copy_read(struct reclaim *reclaim, uint32_t at, uint8_t *to, uint32_t bytes)
{
	HAUL_ASSERT(reclaim->reads == 0 && at % FORMAT_BLOCK == 0 && bytes % FORMAT_BLOCK == 0);
	uint64_t offset = segment_offset(reclaim->shard, reclaim->scan.victim->segment) + at;
	reclaim->read_error = 0;
	reclaim->reads_again = 0;
	for (uint32_t slot = 0; bytes > 0; slot++) {
		uint32_t part = bytes < HAUL_DISK_SPLIT ? bytes : HAUL_DISK_SPLIT;
		HAUL_ASSERT(slot < READS);
		reclaim->ops[slot].bytes = part;
		read_start(reclaim, slot, offset, to);
		offset += part;
		to += part;
		bytes -= part;
	}
}

/* ---- the window ---- */

/* The most that reading it can take of the window. */
static uint64_t cost_of(const struct reclaim *reclaim, const struct format_row *row)
{
	return row->bytes + 2 * (uint64_t)FORMAT_BLOCK + reclaim->scan.gap;
}

bool copy_fits(const struct reclaim *reclaim, const struct format_row *row)
{
	const struct scan *scan = &reclaim->scan;
	uint64_t cost = cost_of(reclaim, row);
	for (uint32_t i = 0; i < scan->want_count; i++)
		cost += cost_of(reclaim, &reclaim->wants[i].row);
	/* Each transfer that the planner splits off takes one of READS as well. */
	return scan->want_count < READS - WINDOW_BYTES / HAUL_DISK_SPLIT &&
	       cost <= reclaim->window_bytes;
}

void copy_want(struct reclaim *reclaim, const struct format_row *row, const uint8_t *key)
{
	struct scan *scan = &reclaim->scan;
	HAUL_ASSERT(scan->want_count < WINDOW_ROWS);
	reclaim->wants[scan->want_count++] = (struct want){ .row = *row, .key = key };
}

/* Where in the window each value will be. Transfers lie there one behind the other, so a value that
 * was split is whole again. */
static void window_places(struct reclaim *reclaim, const struct haul_plan *plan)
{
	uint32_t at = 0;
	for (uint32_t t = 0; t < plan->transfer_count; t++) {
		const struct haul_transfer *transfer = &plan->transfers[t];
		for (uint32_t i = 0; i < transfer->count; i++) {
			uint32_t n = plan->order[transfer->first + i];
			uint64_t offset = reclaim->extents[n].offset;
			if (offset >= transfer->offset &&
			    offset < transfer->offset + transfer->bytes)
				reclaim->wants[n].at = at + (uint32_t)(offset - transfer->offset);
		}
		at += (uint32_t)transfer->bytes;
		HAUL_ASSERT(at <= reclaim->window_bytes);
	}
}

void copy_fetch(struct reclaim *reclaim)
{
	struct shard *shard = reclaim->shard;
	struct scan *scan = &reclaim->scan;
	uint64_t base = segment_offset(shard, scan->victim->segment);
	HAUL_ASSERT(reclaim->reads == 0 && scan->want_count > 0);
	for (uint32_t i = 0; i < scan->want_count; i++) {
		const struct format_row *row = &reclaim->wants[i].row;
		reclaim->extents[i] = (struct haul_extent){
			.offset = base + (uint64_t)row->unit * FORMAT_UNIT,
			.bytes = row->bytes,
		};
	}
	struct haul_plan_limits limits = {
		.gap_max = scan->gap,
		.bytes_max = HAUL_DISK_SPLIT,
		.align = FORMAT_BLOCK,
	};
	struct haul_plan plan = {
		.order = reclaim->order,
		.transfers = reclaim->transfers,
		.transfers_max = READS,
	};
	int rc = haul_plan_reads(reclaim->extents, scan->want_count, &limits, &plan);
	HAUL_ASSERT(rc >= 0);
	window_places(reclaim, &plan);
	reclaim->read_error = 0;
	reclaim->reads_again = 0;
	uint8_t *to = reclaim->window;
	for (uint32_t t = 0; t < plan.transfer_count; t++) {
		reclaim->ops[t].bytes = (uint32_t)plan.transfers[t].bytes;
		read_start(reclaim, t, plan.transfers[t].offset, to);
		to += plan.transfers[t].bytes;
	}
	scan->copied = 0;
}

/* ---- appending ---- */

/* Where what stays goes: slices to their like, pinned ones to theirs. */
static enum lane_id lane_for(const struct reclaim *reclaim, const struct format_row *row)
{
	const struct segment *from = &reclaim->shard->segments[reclaim->scan.victim->segment];
	if (from->lane == LANE_PINNED)
		return LANE_PINNED;
	return from->lane == LANE_BULK && row->slice > 0 ? LANE_BULK : LANE_MAIN;
}

/* With nothing free and nothing about to be, waiting would be for ever. */
bool copy_stuck(const struct reclaim *reclaim)
{
	return reclaim->shard->free_count == 0 && reclaim_coming(reclaim) <= 1;
}

/* The index points at the copy. */
static void repoint(struct reclaim *reclaim, struct index_slot *slot, uint32_t segment,
		    uint32_t unit)
{
	uint8_t freq = scan_freq(slot);
	shard_repoint(reclaim->shard, slot, segment, unit);
	if (!reclaim->scan.victim->keep_all && freq > 0)
		index_set_freq(slot, freq - 1);
	reclaim->shard->stat.reinserted++;
}

static void drop_damaged(struct reclaim *reclaim, struct index_slot *slot)
{
	shard_forget(reclaim->shard, slot);
	reclaim->shard->hides = true; /* its row is there until the segment is erased */
	if (reclaim->read_error != 0)
		reclaim->shard->stat.unreadable++;
	else
		reclaim->shard->stat.corrupt++;
}

/* 0, or -EAGAIN. */
static int append_one(struct reclaim *reclaim, const struct want *want)
{
	struct shard *shard = reclaim->shard;
	struct scan *scan = &reclaim->scan;
	const struct format_row *row = &want->row;
	const uint8_t *stored = reclaim->window + want->at;
	struct index_slot *slot = index_find(&shard->index, row->hash);
	if (!slot || !index_is_at(slot, scan->victim->segment, row->unit)) {
		/* Gone, or stored anew, while it was read. */
		bool done = !scan_hides(reclaim, row) || copy_carry(reclaim, row, want->key);
		return done ? 0 : -EAGAIN;
	}
	/* What could not be read does not verify either: the window holds something else there. */
	if (!walk_value_good(shard->super, row, want->key, stored)) {
		if (!copy_carry(reclaim, row, want->key))
			return -EAGAIN;
		drop_damaged(reclaim, slot);
		return 0;
	}
	struct cache_key key;
	int rc = cache_key_load(want->key, row->key_bytes, row->slice, shard->super->secret, &key);
	HAUL_ASSERT(rc == 0); /* its hash was compared */
	struct append append = {
		.row = *row,
		.key = &key,
		.stored = stored,
		.from = { scan->victim->segment, row->unit },
		.background = true,
	};
	append.row.expiry = slot->expiry;
	if (row->flags & ROW_FLAGS)
		append.client_flags = le32_load(stored + row->bytes - 4);
	uint32_t segment;
	rc = lane_append(shard, lane_for(reclaim, row), &append, &segment);
	if (rc == 0)
		repoint(reclaim, slot, segment, append.row.unit);
	return rc;
}

bool copy_append(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	HAUL_ASSERT(reclaim->reads == 0 && scan->copied <= scan->want_count);
	while (scan->copied < scan->want_count) {
		const struct want *want = &reclaim->wants[scan->copied];
		if (append_one(reclaim, want) != 0) {
			if (!copy_stuck(reclaim) || scan->pinned ||
			    !copy_carry(reclaim, &want->row, want->key))
				return false;
			scan_leave(reclaim, &want->row);
		}
		scan->copied++;
	}
	scan->want_count = scan->copied = 0;
	return true;
}

bool copy_carry(struct reclaim *reclaim, const struct format_row *row, const uint8_t *stored_key)
{
	static const uint8_t unknown[1] = { '?' };
	struct shard *shard = reclaim->shard;
	struct cache_key key = { .data = unknown, .bytes = 1, .hash = row->hash };
	if (!scan_guards(reclaim, row))
		return true;
	if (stored_key &&
	    cache_key_load(stored_key, row->key_bytes, row->slice, shard->super->secret, &key) < 0)
		return true; /* no key of ours: damage that has a good checksum does not happen */
	struct append append = {
		.row = { .hash = row->hash,
			 .seq = row->seq,
			 .flags = ROW_TOMBSTONE | ROW_SUPERSEDES,
			 .slice = stored_key ? row->slice : 0 },
		.key = &key,
		.background = true,
	};
	uint32_t segment;
	int rc = lane_append(shard, LANE_MAIN, &append, &segment);
	/* When all else is full, wherever there is room. */
	for (enum lane_id id = 0; rc != 0 && copy_stuck(reclaim) && id < LANES; id++)
		rc = lane_append(shard, id, &append, &segment);
	if (rc != 0)
		return false;
	uint32_t bytes = FORMAT_ROW * 2 + row->key_bytes;
	admit_charge(&shard->admit, bytes, shard->os->now_ns(shard->os));
	reclaim->carried += bytes;
	reclaim->scan.carried_rows++;
	if (row->seq > reclaim->scan.carried_max)
		reclaim->scan.carried_max = row->seq;
	return true;
}
