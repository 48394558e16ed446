/* disk/reclaim_scan.c: one segment's rows, and what becomes of each.
 *
 * The footer is read first: often nothing in it stays, and then no batch is read at all. It also
 * says how hot the segment is, so that the copy budget goes to what was read most. What stays needs
 * its key, which only the batches have: then they are walked, one block each, and their tables.
 * Without a good footer they are walked at once, first come, first kept.
 *
 * A batch that cannot be read, or whose table is damaged, is passed over block by block until all
 * rows of the segment were seen; entries whose rows were not found leave the index when the segment
 * is erased. What those rows hid, the footer still says, if it is good: tombstones are carried by
 * hash. If it is not either, the next open would not have found the rows, whether or not the
 * segment is erased. */
#include "base/assert.h"
#include "disk/reclaim_state.h"

/* For each segment that is emptied, a fifth of its bytes may be copied, so write amplification
 * stays below 1 / (1 - 1/5); what one does not use, others may, up to half of theirs. */
enum { COPY_SHARE = 5, COPY_MOST = 2 };

enum { ROWS_AHEAD = 8 };

static uint32_t blocks_up(uint32_t bytes)
{
	return (bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK * FORMAT_BLOCK;
}

static struct segment *segment_of(const struct reclaim *reclaim)
{
	return &reclaim->shard->segments[reclaim->scan.victim->segment];
}

/* ---- starting ---- */

uint64_t scan_horizon(const struct shard *shard, uint32_t except)
{
	uint64_t horizon = UINT64_MAX;
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		const struct segment *segment = &shard->segments[s];
		if (s != except && segment->born_seq < horizon && reclaim_hides(shard, s))
			horizon = segment->born_seq;
	}
	return horizon;
}

/* Of a row that is there twice the one in the segment with the higher generation counts. */
bool scan_doubled(const struct shard *shard, uint32_t segment)
{
	uint64_t before = shard->doubled_before;
	if (segment != SEGMENT_NONE && shard->segments[segment].generation < before)
		before = shard->segments[segment].generation;
	for (uint32_t s = 0; s < shard->super->segments && before > 0; s++) {
		if (shard->segments[s].generation < before && reclaim_hides(shard, s))
			return true;
	}
	return false;
}

/* Rows were not found: the footer has them, if there is one. */
static bool rest_start(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	const struct segment *segment = segment_of(reclaim);
	uint32_t bytes = segment->rows <= reclaim->shard->footer_rows_max
				 ? format_footer_bytes(segment->rows)
				 : UINT32_MAX;
	if (scan->rest || !segment->sealed_footer || bytes > reclaim->window_bytes)
		return false;
	scan->rest = true;
	scan->step = SCAN_FOOTER_AGAIN;
	copy_read(reclaim, reclaim->shard->super->segment_bytes - bytes, reclaim->window, bytes);
	return true;
}

static void batch_next(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	if (scan->rows_left == 0 || scan->walk.at >= scan->walk.end) {
		struct victim *victim = scan->victim;
		if (scan->rows_left > 0 && rest_start(reclaim))
			return;
		if (scan->carried_rows > segment_of(reclaim)->rows / 2)
			reclaim->barren = scan->carried_max;
		scan->step = SCAN_NONE;
		scan->victim = NULL;
		victim_scanned(reclaim, victim);
		return;
	}
	scan->step = SCAN_BATCH;
	copy_read(reclaim, scan->walk.at, reclaim->table, FORMAT_BLOCK);
}

void scan_start(struct reclaim *reclaim, struct victim *victim)
{
	struct shard *shard = reclaim->shard;
	struct scan *scan = &reclaim->scan;
	const struct segment *segment = &shard->segments[victim->segment];
	HAUL_ASSERT(scan->step == SCAN_NONE && !segment->chunks);
	HAUL_ASSERT(victim->bad == (segment->state == SEGMENT_BAD));
	victim->state = VICTIM_SCAN;
	victim->lost = shard->lost;
	victim->hash_count = 0;
	uint64_t most = shard->super->segment_bytes / COPY_MOST;
	reclaim->budget += shard->super->segment_bytes / COPY_SHARE;
	if (reclaim->budget > 2 * most)
		reclaim->budget = 2 * most;
	*scan = (struct scan){
		.victim = victim,
		.rows_left = segment->rows,
		.gap = haul_disk_model_gap(&shard->model),
		.now_s = shard_now_s(shard),
		.horizon = scan_horizon(shard, victim->segment),
		.doubled = scan_doubled(shard, victim->segment),
		.copy_left = reclaim->budget < most ? reclaim->budget : most,
		.freq_min = 1,
		.freq_left = UINT64_MAX,
		.pinned = victim->keep_all && segment->lane == LANE_PINNED,
	};
	if ((victim->attempts > 0 || reclaim->stuck > 0) && !scan->pinned)
		scan->freq_min = FREQS; /* what left once does not come back */
	struct format_segment header = {
		.generation = segment->generation,
		.born_seq = segment->born_seq,
		.partition = shard->options.partition,
		.segment = victim->segment,
		.lane = segment->lane,
	};
	uint32_t end = victim->bad ? root_bad(shard, victim->segment)->good_bytes
				   : shard->super->segment_bytes;
	walk_start(&scan->walk, shard->super, &header, end);
	if (scan->walk.at < FORMAT_BLOCK || end <= FORMAT_BLOCK)
		scan->walk.at = scan->walk.end;
	uint32_t bytes = segment->rows <= shard->footer_rows_max
				 ? format_footer_bytes(segment->rows)
				 : UINT32_MAX;
	if (segment->sealed_footer && !victim->keep_all && bytes <= reclaim->window_bytes) {
		scan->step = SCAN_FOOTER;
		copy_read(reclaim, shard->super->segment_bytes - bytes, reclaim->window, bytes);
		return;
	}
	batch_next(reclaim);
}

/* ---- deciding ---- */

enum verdict {
	ROW_DEAD,  /* the index does not point at it, and it hides nothing */
	ROW_HIDES, /* … but what is older must go on being hidden */
	ROW_LEAVES,
	ROW_STAYS
};

static struct index_slot *slot_at(const struct reclaim *reclaim, const struct format_row *row)
{
	struct index_slot *slot = index_find(&reclaim->shard->index, row->hash);
	if (!slot || (row->flags & ROW_TOMBSTONE) ||
	    !index_is_at(slot, reclaim->scan.victim->segment, row->unit))
		return NULL;
	return slot;
}

uint8_t scan_freq(const struct index_slot *slot)
{
	struct index_entry entry;
	index_unpack(slot, &entry);
	return entry.freq;
}

static bool over(uint32_t expiry, uint32_t now_s)
{
	return expiry != 0 && expiry <= now_s;
}

/* A row that the index does not point at: see reclaim.c for why. */
bool scan_hides(const struct reclaim *reclaim, const struct format_row *row)
{
	if (row->flags & ROW_TOMBSTONE)
		return true;
	if (!(row->flags & ROW_SUPERSEDES))
		return false;
	bool newer = index_find(&reclaim->shard->index, row->hash) != NULL;
	return !newer || over(row->expiry, reclaim->scan.now_s);
}

bool scan_guards(const struct reclaim *reclaim, const struct format_row *row)
{
	if (row->seq <= reclaim->shard->root.purged_seq)
		return false;
	if ((row->flags & (ROW_TOMBSTONE | ROW_SUPERSEDES)) && row->seq >= reclaim->scan.horizon)
		return true;
	bool moved = (row->flags & ROW_TOMBSTONE) || row->seq < segment_of(reclaim)->born_seq;
	return moved && reclaim->scan.doubled;
}

/* Whether what was read so often stays; takes it from the budget. */
static bool budget_takes(struct reclaim *reclaim, const struct format_row *row, uint8_t freq)
{
	struct scan *scan = &reclaim->scan;
	struct shard *shard = reclaim->shard;
	if (freq < scan->freq_min || row->bytes > scan->copy_left)
		return false;
	if (freq == scan->freq_min && row->bytes > scan->freq_left)
		return false;
	if (!admit_ask(&shard->admit, row->bytes, true, shard->os->now_ns(shard->os)))
		return false;
	scan->copy_left -= row->bytes;
	reclaim->budget -= row->bytes;
	if (freq == scan->freq_min)
		scan->freq_left -= row->bytes;
	return true;
}

static enum verdict decide(struct reclaim *reclaim, const struct format_row *row)
{
	struct scan *scan = &reclaim->scan;
	const struct index_slot *slot = slot_at(reclaim, row);
	if (!slot)
		return scan_hides(reclaim, row) ? ROW_HIDES : ROW_DEAD;
	if (over(slot->expiry, scan->now_s))
		return ROW_LEAVES;
	if (scan->pinned || (scan->victim->keep_all && scan->freq_min < FREQS))
		return ROW_STAYS;
	return budget_takes(reclaim, row, scan_freq(slot)) ? ROW_STAYS : ROW_LEAVES;
}

void scan_leave(struct reclaim *reclaim, const struct format_row *row)
{
	struct victim *victim = reclaim->scan.victim;
	if (victim->hash_count < reclaim->hashes_max)
		victim->hashes[victim->hash_count++] = row->hash;
}

/* A footer's rows lie in a line, what the index says of them does not: fetch it in time. */
static void fetch_ahead(const struct reclaim *reclaim)
{
	const struct walk_rows *rows = &reclaim->scan.rows;
	if (rows->left > ROWS_AHEAD)
		index_prefetch(&reclaim->shard->index,
			       format_row_hash(rows->row + ROWS_AHEAD * FORMAT_ROW));
}

/* ---- by the footer ---- */

/* What was read more often than freq_min fits into the budget; of what was read just so often, as
 * much as is left. */
static void thresholds(struct scan *scan)
{
	uint64_t left = scan->copy_left;
	uint8_t freq = FREQS - 1;
	while (freq > 1 && scan->hot_bytes[freq] <= left) {
		left -= scan->hot_bytes[freq];
		freq--;
	}
	if (scan->freq_min < FREQS) {
		scan->freq_min = freq;
		scan->freq_left = left;
	}
}

/* then: what is to be done with its rows. */
static void footer_take(struct reclaim *reclaim, enum scan_step then)
{
	struct scan *scan = &reclaim->scan;
	struct format_footer footer;
	uint32_t bytes = format_footer_bytes(segment_of(reclaim)->rows);
	const uint8_t *block = reclaim->window + bytes - FORMAT_BLOCK;
	if (reclaim->read_error == 0 && walk_footer(&scan->walk, block, &footer) == 1 &&
	    footer.rows == segment_of(reclaim)->rows &&
	    walk_footer_table(&scan->walk, &footer, reclaim->window, &scan->rows) == 0) {
		scan->step = then;
		return;
	}
	batch_next(reclaim);
}

static void footer_counted(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	struct format_footer footer;
	uint32_t bytes = format_footer_bytes(segment_of(reclaim)->rows);
	thresholds(scan);
	if (scan->stays || scan->freq_min == FREQS) {
		batch_next(reclaim);
		return;
	}
	/* again from the first row */
	int rc = walk_footer(&scan->walk, reclaim->window + bytes - FORMAT_BLOCK, &footer);
	HAUL_ASSERT(rc == 1);
	rc = walk_footer_table(&scan->walk, &footer, reclaim->window, &scan->rows);
	HAUL_ASSERT(rc == 0);
	scan->step = SCAN_DROP;
}

/* Returns false at the end of the rows. */
static bool count_one(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	struct format_row row;
	fetch_ahead(reclaim);
	int rc = walk_row(&scan->rows, &row, NULL);
	if (rc < 0)
		scan->stays = true; /* the batches may say more */
	if (rc != 1)
		return false;
	const struct index_slot *slot = slot_at(reclaim, &row);
	bool lives = slot && !over(slot->expiry, scan->now_s);
	if (lives) {
		scan->hot_bytes[scan_freq(slot)] += row.bytes;
		scan->stays = scan->stays || scan_freq(slot) > 0;
	}
	if (!scan->stays && scan_guards(reclaim, &row))
		scan->stays = slot || scan_hides(reclaim, &row);
	return true;
}

static bool drop_one(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	struct format_row row;
	fetch_ahead(reclaim);
	if (walk_row(&scan->rows, &row, NULL) != 1)
		return false;
	if (slot_at(reclaim, &row))
		scan_leave(reclaim, &row);
	return true;
}

/* ---- by the batches ---- */

/* What stands at walk.at is no batch of this segment: the next block may be. */
static void batch_skip(struct reclaim *reclaim)
{
	if (!walk_skip(&reclaim->scan.walk))
		reclaim->scan.walk.at = reclaim->scan.walk.end;
	batch_next(reclaim);
}

static void table_take(struct reclaim *reclaim, const uint8_t *table)
{
	struct scan *scan = &reclaim->scan;
	if (reclaim->read_error != 0 ||
	    walk_table(&scan->walk, &scan->batch, table, &scan->rows) < 0) {
		batch_next(reclaim);
		return;
	}
	scan->step = SCAN_ROWS;
}

static void batch_take(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	if (reclaim->read_error != 0 ||
	    walk_batch(&scan->walk, reclaim->table, &scan->batch) != 1) {
		batch_skip(reclaim);
		return;
	}
	const struct format_batch *batch = &scan->batch;
	uint32_t end = batch->table + batch->table_bytes;
	if (end <= FORMAT_BLOCK) {
		table_take(reclaim, reclaim->table + batch->table);
		return;
	}
	uint32_t first = batch->table / FORMAT_BLOCK * FORMAT_BLOCK;
	if (blocks_up(end) - first > reclaim->table_bytes) {
		batch_next(reclaim); /* longer than any that is written here */
		return;
	}
	scan->step = SCAN_TABLE;
	copy_read(reclaim, batch->offset + first, reclaim->table, blocks_up(end) - first);
}

/* Returns false at the end of the rows, or when something has to be waited for. */
static bool row_one(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	if (!scan->held) {
		if (walk_row(&scan->rows, &scan->row, &scan->key) != 1)
			return false;
		scan->rows_left -= scan->rows_left > 0;
		scan->verdict = (uint8_t)decide(reclaim, &scan->row);
		scan->held = true;
	}
	if (scan->verdict == ROW_STAYS) {
		if (!copy_fits(reclaim, &scan->row))
			return false;
		copy_want(reclaim, &scan->row, scan->key);
	} else if (scan->verdict != ROW_DEAD) {
		if (!copy_carry(reclaim, &scan->row, scan->key))
			return false;
		if (scan->verdict == ROW_LEAVES)
			scan_leave(reclaim, &scan->row);
	}
	scan->held = false;
	return true;
}

/* As row_one, of a footer: without keys nothing can stay. */
static bool rest_one(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	if (!scan->held && walk_row(&scan->rows, &scan->row, NULL) != 1)
		return false;
	scan->held = true;
	bool leaves = slot_at(reclaim, &scan->row) != NULL;
	if ((leaves || scan_hides(reclaim, &scan->row)) && !copy_carry(reclaim, &scan->row, NULL))
		return false;
	if (leaves)
		scan_leave(reclaim, &scan->row);
	scan->held = false;
	return true;
}

static void rows_ended(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	if (scan->want_count > 0) {
		scan->step = SCAN_VALUES;
		copy_fetch(reclaim);
	} else if (!scan->held) {
		batch_next(reclaim);
	}
}

/* ---- turns ---- */

/* Rows, up to the bound. Returns true when it was reached. */
static bool rows_run(struct reclaim *reclaim, bool (*one)(struct reclaim *reclaim))
{
	for (uint32_t i = 0; i < ROWS_A_POLL; i++) {
		if (!one(reclaim))
			return false;
	}
	return true;
}

/* What was read has come. Returns false when nothing was. */
static bool fetched(struct reclaim *reclaim)
{
	struct scan *scan = &reclaim->scan;
	if (scan->step == SCAN_FOOTER)
		footer_take(reclaim, SCAN_COUNT);
	else if (scan->step == SCAN_FOOTER_AGAIN)
		footer_take(reclaim, SCAN_REST);
	else if (scan->step == SCAN_BATCH)
		batch_take(reclaim);
	else if (scan->step == SCAN_TABLE)
		table_take(reclaim, reclaim->table + scan->batch.table % FORMAT_BLOCK);
	else if (scan->step == SCAN_VALUES)
		scan->step = SCAN_COPY;
	else
		return false;
	return true;
}

/* One step that needs nothing to be waited for. Returns false when there is none. */
static bool step(struct reclaim *reclaim, bool *bounded)
{
	struct scan *scan = &reclaim->scan;
	enum scan_step before = scan->step;
	if (before == SCAN_NONE || reclaim->reads > 0)
		return false;
	if (fetched(reclaim))
		return true;
	if (before == SCAN_COPY) {
		if (!copy_append(reclaim)) {
			if (copy_stuck(reclaim))
				victim_abort(reclaim, scan->victim);
			return false;
		}
		scan->step = SCAN_ROWS;
	} else if (before == SCAN_COUNT) {
		*bounded = rows_run(reclaim, count_one);
		if (!*bounded)
			footer_counted(reclaim);
	} else if (before == SCAN_DROP) {
		*bounded = rows_run(reclaim, drop_one);
		scan->rows_left = 0;
		if (!*bounded)
			batch_next(reclaim); /* which sees that it is the end */
	} else {
		*bounded = rows_run(reclaim, before == SCAN_REST ? rest_one : row_one);
		if (!*bounded)
			rows_ended(reclaim);
		if (scan->held && scan->step == before && !*bounded && copy_stuck(reclaim))
			victim_abort(reclaim, scan->victim);
		return !scan->held || scan->step != before;
	}
	return true;
}

bool scan_run(struct reclaim *reclaim)
{
	bool bounded = false;
	while (!bounded && step(reclaim, &bounded))
		;
	return bounded;
}
