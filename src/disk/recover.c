/* Opening: what the partition's segments hold, found again without reading the values.
 *
 * Each segment's first block says whether it is in use, its last block whether it was sealed. A
 * footer is written only when all of its segment is durable, so one that is good is believed, and
 * proves every flush up to its last_flush. The few segments that were open are walked from batch to
 * batch. Flush n + FLUSHES is not begun before flush n is durable: what is older than the highest
 * number seen by FLUSHES is proven as well. What is in doubt after that is verified whole
 * (recover_walk.c), and then put beyond doubt on the disk (recover_seal.c).
 *
 * Nothing that is or is not on the disk makes it fail: a segment that cannot be read is quarantined
 * and counted, a root that is not there is a fresh one. Only want of memory, and a device that is
 * not there, do. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "disk/recover_state.h"

enum { ROWS_AHEAD = 16 };

/* ---- headers ---- */

static bool header_next(struct recovery *recovery, struct reading *reading)
{
	const struct shard *shard = recovery->shard;
	if (recovery->next == shard->super->segments)
		return false;
	reading->segment = recovery->next++;
	reading->offset = segment_offset(shard, reading->segment);
	reading->bytes = FORMAT_BLOCK;
	return true;
}

static void header_count(struct recovery *recovery, const struct found *found)
{
	if (found->header.generation > recovery->last_generation)
		recovery->last_generation = found->header.generation;
	if (found->header.born_seq > recovery->last_seq)
		recovery->last_seq = found->header.born_seq;
}

static int header_take(struct recovery *recovery, const struct reading *reading)
{
	const struct shard *shard = recovery->shard;
	struct found *found = &recovery->found[reading->segment];
	if (reading->error < 0) {
		found->unreadable = true;
		recovery->unreadable++;
		return 0;
	}
	int rc = walk_header(shard->super, shard->options.partition, reading->segment,
			     reading->data, &found->header);
	found->there = rc == 1 && found->end > FORMAT_BLOCK;
	if (rc == 1)
		header_count(recovery, found);
	else
		found->rotten = walk_header_rotten(shard->super, reading->data);
	return 0;
}

/* What its first batch and its footer say of a segment. 1; 0: nothing; or recovery->rc. */
static int header_elsewhere(struct recovery *recovery, uint32_t segment,
			    struct format_segment *ret_header)
{
	const struct shard *shard = recovery->shard;
	const struct format_segment place = { .partition = shard->options.partition,
					      .segment = segment };
	struct reading *window = &recovery->window;
	uint32_t last = shard->super->segment_bytes - FORMAT_BLOCK;
	uint8_t first[FORMAT_BATCH_HEADER];
	if (recover_read_one(recovery, window, segment, FORMAT_BLOCK, FORMAT_BLOCK) < 0)
		return recovery->rc;
	memcpy(first, window->data, sizeof first);
	if (recover_read_one(recovery, window, segment, last, FORMAT_BLOCK) < 0)
		return recovery->rc;
	return walk_header_restore(&place, shard->super, first, window->data, ret_header);
}

/* A header that rotted does not hide its segment: older copies of what is in it would count. One
 * that cannot be read may have been erased: what lies behind it does not count, but what is older
 * than that does not either. */
static int header_restore(struct recovery *recovery, uint32_t segment)
{
	struct found *found = &recovery->found[segment];
	uint32_t last = recovery->shard->super->segment_bytes - FORMAT_BLOCK;
	if ((!found->rotten && !found->unreadable) || found->end <= FORMAT_BLOCK)
		return 0;
	int rc = header_elsewhere(recovery, segment, &found->header);
	if (rc < 0)
		return rc;
	found->there = rc == 1;
	found->hides_only = found->unreadable;
	if (found->there)
		header_count(recovery, found);
	/* It is quarantined: nothing is written to it, a footer neither. */
	if (found->unreadable && (!found->there || found->end > last))
		found->end = found->there ? last : 0;
	return 0;
}

/* ---- footers ---- */

/* The next segment from recovery->next on that has a header and may have a footer. */
static bool footer_next(struct recovery *recovery, struct reading *reading)
{
	const struct shard *shard = recovery->shard;
	uint32_t segment_bytes = shard->super->segment_bytes;
	while (recovery->next < shard->super->segments) {
		uint32_t s = recovery->next++;
		const struct found *found = &recovery->found[s];
		if (!found->there || found->end < segment_bytes)
			continue;
		reading->segment = s;
		reading->offset = segment_offset(shard, s) + segment_bytes - FORMAT_BLOCK;
		reading->bytes = FORMAT_BLOCK;
		return true;
	}
	return false;
}

static int footer_take(struct recovery *recovery, const struct reading *reading)
{
	struct found *found = &recovery->found[reading->segment];
	struct walk walk;
	if (reading->error < 0)
		return 0; /* its batches may still tell */
	walk_start(&walk, recovery->shard->super, &found->header, found->end);
	found->has_footer = walk_footer(&walk, reading->data, &found->footer) == 1;
	return 0;
}

/* ---- tables ---- */

static bool table_next(struct recovery *recovery, struct reading *reading)
{
	const struct shard *shard = recovery->shard;
	while (recovery->next < shard->super->segments) {
		uint32_t s = recovery->next++;
		const struct found *found = &recovery->found[s];
		if (!found->has_footer || found->footer.rows == 0)
			continue;
		uint64_t bytes = (uint64_t)found->footer.rows * FORMAT_ROW;
		bytes = (bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK * FORMAT_BLOCK;
		reading->segment = s;
		reading->offset = segment_offset(shard, s) + found->footer.table;
		reading->bytes = (uint32_t)bytes;
		return true;
	}
	return false;
}

/* Rows go in a few at a time, so that the places they go to are fetched side by side. */
static int table_rows(struct recovery *recovery, struct walk_rows *rows, uint32_t segment)
{
	struct format_row ahead[ROWS_AHEAD];
	int rc = 1;
	while (rc == 1) {
		uint32_t count = 0;
		while (count < ROWS_AHEAD && (rc = walk_row(rows, &ahead[count], NULL)) == 1)
			newest_prefetch(recovery, ahead[count++].hash);
		for (uint32_t i = 0; i < count; i++) {
			if (ahead[i].seq > recovery->last_seq)
				recovery->last_seq = ahead[i].seq;
			newest_add(recovery, &ahead[i], segment);
		}
	}
	return rc;
}

static int table_take(struct recovery *recovery, const struct reading *reading)
{
	struct found *found = &recovery->found[reading->segment];
	const struct format_footer *footer = &found->footer;
	struct walk walk;
	struct walk_rows rows;
	walk_start(&walk, recovery->shard->super, &found->header, found->end);
	if (reading->error < 0 || walk_footer_table(&walk, footer, reading->data, &rows) < 0) {
		found->has_footer = false;
		return 0;
	}
	int rc = newest_alloc(recovery, footer->rows);
	if (rc < 0)
		return rc;
	/* A row that makes no sense under a good checksum was written so; what else is there
	 * counts. */
	(void)table_rows(recovery, &rows, reading->segment);
	found->rows = footer->rows;
	found->append = footer->table;
	found->expiry_max = footer->expiry_max;
	found->last_flush = footer->last_flush;
	return 0;
}

/* ---- in order ---- */

static void recovery_prove(struct recovery *recovery)
{
	uint64_t proven = recovery->shard->root.flush_proven;
	uint64_t last = recovery->last_flush;
	for (uint32_t s = 0; s < recovery->shard->super->segments; s++) {
		const struct found *found = &recovery->found[s];
		if (found->has_footer && found->footer.last_flush > proven)
			proven = found->footer.last_flush;
	}
	if (proven > last)
		last = proven;
	recovery->last_flush = last;
	if (last > FLUSHES && last - FLUSHES > proven)
		proven = last - FLUSHES;
	recovery->proven_flush = proven;
}

static int recovery_look(struct recovery *recovery)
{
	static const struct reader headers = { header_next, header_take };
	static const struct reader footers = { footer_next, footer_take };
	static const struct reader tables = { table_next, table_take };
	int rc = recover_read(recovery, &headers);
	for (uint32_t s = 0; s < recovery->shard->super->segments && rc == 0; s++)
		rc = header_restore(recovery, s);
	if (rc < 0 || (rc = recover_read(recovery, &footers)) < 0)
		return rc;
	uint64_t rows = 0;
	for (uint32_t s = 0; s < recovery->shard->super->segments; s++)
		rows += recovery->found[s].has_footer ? recovery->found[s].footer.rows : 0;
	rc = newest_alloc(recovery, rows);
	if (rc < 0 || (rc = recover_read(recovery, &tables)) < 0)
		return rc;
	for (uint32_t s = 0; s < recovery->shard->super->segments; s++) {
		const struct found *found = &recovery->found[s];
		if (!found->there || found->has_footer)
			continue;
		rc = recover_walk(recovery, s);
		if (rc < 0)
			return rc;
	}
	recovery_prove(recovery);
	rc = recover_judge(recovery);
	return rc < 0 ? rc : recover_walked_rows(recovery);
}

/* All segments are free, but those the root knows to be bad. */
static void segments_reset(struct shard *shard)
{
	shard->free_count = shard->super->segments;
	for (uint32_t i = 0; i < shard->root.bad_count; i++) {
		struct segment *segment = &shard->segments[shard->root.bad[i].segment];
		HAUL_ASSERT(segment->state == SEGMENT_FREE);
		segment->state = SEGMENT_BAD;
		shard->bad_count++;
		shard->free_count--;
	}
	shard->hides = shard->bad_count > 0;
	shard->doubled_before = 0;
}

static void numbers_set(struct recovery *recovery)
{
	struct shard *shard = recovery->shard;
	const struct format_root *root = &shard->root;
	uint64_t generation = recovery->last_generation + 1, seq = recovery->last_seq + 1;
	if (generation < root->generation_bound)
		generation = root->generation_bound;
	if (seq <= root->purged_seq)
		seq = root->purged_seq + 1;
	shard->torn = recovery->torn;
	shard->next_generation = generation;
	shard->next_seq = seq;
	shard->next_flush = recovery->last_flush + 1;
	shard->durable_flush = recovery->last_flush;
	if (recovery->doubled)
		reclaim_doubled(shard);
}

static int recovery_run(struct recovery *recovery)
{
	struct shard *shard = recovery->shard;
	segments_reset(shard);
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		recovery->found[s].end = shard->super->segment_bytes;
		recovery->found[s].append = FORMAT_BLOCK;
	}
	for (uint32_t i = 0; i < shard->root.bad_count; i++)
		recovery->found[shard->root.bad[i].segment].end = shard->root.bad[i].good_bytes;
	int rc = recovery_look(recovery);
	if (rc < 0)
		return rc;
	if (recovery->unreadable == shard->super->segments)
		return -ENODEV;
	numbers_set(recovery);
	shard->torn = recovery->torn;
	rc = recover_seal(recovery);
	if (rc < 0 || (rc = recover_segments_alloc(recovery)) < 0)
		return rc;
	return newest_enter_alloc(recovery);
}

static struct recovery *recovery_new(struct shard *shard)
{
	struct recovery *recovery = calloc(1, sizeof *recovery);
	if (recovery == NULL)
		return NULL;
	recovery->shard = shard;
	recovery->now_s = shard_now_s(shard);
	recovery->found = calloc(shard->super->segments, sizeof *recovery->found);
	if (recovery->found == NULL) {
		free(recovery);
		return NULL;
	}
	for (uint32_t i = 0; i < READINGS; i++)
		recovery->readings[i].recovery = recovery;
	return recovery;
}

static void recovery_free(struct recovery *recovery)
{
	for (uint32_t i = 0; i < READINGS; i++)
		reading_free(&recovery->readings[i]);
	reading_free(&recovery->window);
	if (recovery->newest != NULL)
		(void)munmap(recovery->newest, recovery->newest_slots * sizeof *recovery->newest);
	free(recovery->walked);
	free(recovery->rows);
	free(recovery->found);
	free(recovery);
}

int recover(struct shard *shard, struct haul_err *err)
{
	HAUL_ASSERT(shard->segments != NULL && queue_idle(&shard->queue));
	struct recovery *recovery = recovery_new(shard);
	if (recovery == NULL)
		return haul_err_set(err, -ENOMEM, "no memory to recover partition %u",
				    shard->options.partition);
	int rc = recovery_run(recovery);
	recovery_free(recovery);
	if (rc == -ENODEV)
		return haul_err_set(err, rc, "partition %u: none of its segments can be read",
				    shard->options.partition);
	return rc < 0 ? haul_err_set(err, rc, "no memory to recover partition %u",
				     shard->options.partition)
		      : 0;
}
