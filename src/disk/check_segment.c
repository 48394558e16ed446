/* One segment, in memory: which of its entries live, and are they what was stored? */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "disk/check.h"

/* A footer is on the disk at the latest so many flushes after its segment's last. */
enum { FOOTER_FLUSHES = 8 };

void check_damage(struct check *check, const char *format, ...)
{
	va_list arguments;

	if (check->result.first[0] != 0)
		return;
	va_start(arguments, format);
	(void)vsnprintf(check->result.first, sizeof check->result.first, format, arguments);
	va_end(arguments);
}

static bool readable(const struct check *check, uint32_t offset, uint32_t bytes)
{
	if (bytes == 0)
		return true;
	for (uint32_t b = offset / FORMAT_BLOCK; b <= (offset + bytes - 1) / FORMAT_BLOCK; b++)
		if (check->blocks[b] & CHECK_UNREADABLE)
			return false;
	return true;
}

/* ---- entries ---- */

static int check_list(struct check *check, const struct haul_cache_listed *listed)
{
	const struct haul_cache_check *options = check->options;
	if (options->entry == NULL || (listed->status == HAUL_CACHE_HIT && !options->all))
		return 0;
	return options->entry(listed, options->arg);
}

static int check_damaged(struct check *check, const struct haul_cache_listed *listed,
			 const struct format_row *row, const uint8_t *stored_key)
{
	check->result.damaged++;
	check_damage(check, "partition %u, segment %u, offset %u: an entry of %llu bytes %s",
		     listed->partition, listed->segment, listed->offset,
		     (unsigned long long)listed->value_bytes,
		     listed->status == HAUL_CACHE_FAILED ? "cannot be read" : "does not verify");
	const int rc = check_bad_alloc(check, row, stored_key);
	return rc < 0 ? rc : check_list(check, listed);
}

/* A row that the index points to; key is as stored. */
static int check_live(struct check *check, uint32_t segment, const struct format_row *row,
		      const uint8_t *stored_key)
{
	const uint32_t offset = row->unit * FORMAT_UNIT;
	struct haul_cache_listed listed = {
		.value_bytes = row->bytes,
		.expiry = row->expiry,
		.slice = row->slice,
		.partition = check->partition,
		.segment = segment,
		.offset = offset,
		.status = HAUL_CACHE_HIT,
	};
	struct cache_key key;
	bool known = false;

	check->result.entries++;
	check->result.bytes += row->bytes;
	if (cache_key_load(stored_key, row->key_bytes, row->slice, check->super->secret, &key) ==
	    0) {
		listed.key = (const char *)key.data;
		listed.key_bytes = key.bytes;
		known = key.hash == row->hash;
	}
	if (!readable(check, offset, row->bytes))
		listed.status = HAUL_CACHE_FAILED;
	else if (!walk_value_good(check->super, row, stored_key, check->image + offset))
		listed.status = HAUL_CACHE_CORRUPT;
	return listed.status == HAUL_CACHE_HIT
		       ? check_list(check, &listed)
		       : check_damaged(check, &listed, row, known ? stored_key : NULL);
}

static int check_rows(struct check *check, uint32_t segment, struct walk_rows *rows, uint32_t *live)
{
	struct format_row row;
	const uint8_t *key = NULL;

	while (walk_row(rows, &row, &key) == 1) {
		const struct index_slot *slot =
			(row.flags & ROW_TOMBSTONE) != 0
				? NULL
				: index_find(&check->shard->index, row.hash);
		if (slot == NULL || !index_is_at(slot, segment, row.unit))
			continue;
		(*live)++;
		const int rc = check_live(check, segment, &row, key);
		if (rc != 0)
			return rc;
	}
	return 0; /* a row that cannot be is found by what it leaves untold */
}

/* ---- what no batch tells of ---- */

struct untold {
	struct check *check;
	uint32_t segment;
	int rc;
};

static void untold_slot(const struct index_slot *slot, void *arg)
{
	struct untold *untold = arg;
	struct check *check = untold->check;
	struct index_entry entry;

	index_unpack(slot, &entry);
	const uint32_t offset = entry.unit * FORMAT_UNIT;
	if (untold->rc != 0 || entry.segment != untold->segment ||
	    (check->blocks[offset / FORMAT_BLOCK] & CHECK_TOLD) != 0)
		return;
	const struct haul_cache_listed listed = {
		.value_bytes = entry.bytes,
		.expiry = entry.expiry,
		.partition = check->partition,
		.segment = entry.segment,
		.offset = offset,
		.status = readable(check, offset, entry.bytes) ? HAUL_CACHE_CORRUPT
							       : HAUL_CACHE_FAILED,
	};
	check->result.entries++;
	check->result.bytes += entry.bytes;
	const struct format_row row = { .hash = entry.hash };
	untold->rc = check_damaged(check, &listed, &row, NULL);
}

/* ---- batches ---- */

static int check_batch(struct check *check, const struct walk *walk,
		       const struct format_batch *batch, uint32_t *live)
{
	const uint8_t *bytes = check->image + batch->offset;
	struct walk_rows rows;

	if (walk_table(walk, batch, bytes + batch->table, &rows) < 0)
		return 0;
	for (uint32_t at = 0; at < batch->bytes; at += FORMAT_BLOCK)
		check->blocks[(batch->offset + at) / FORMAT_BLOCK] |= CHECK_TOLD;
	return check_rows(check, walk->segment.segment, &rows, live);
}

/* To the footer's table, or the segment's end: behind a damaged header others may be good. */
static int check_batches(struct check *check, struct walk *walk, uint32_t *live)
{
	struct format_batch batch;

	while (walk->at < walk->end) {
		int rc = walk_batch(walk, check->image + walk->at, &batch);
		if (rc == 1) {
			rc = check_batch(check, walk, &batch, live);
			if (rc != 0)
				return rc;
		} else {
			(void)walk_skip(walk);
		}
	}
	return 0;
}

/* The footer, if the segment was sealed; narrows the walk to what is before it. False: damaged. */
static bool check_footer(const struct check *check, uint32_t segment, struct walk *walk)
{
	const uint8_t *block = check->image + check->super->segment_bytes - FORMAT_BLOCK;
	struct format_footer footer;
	struct walk_rows rows;
	int rc = walk_footer(walk, block, &footer);

	if (rc == 1)
		rc = walk_footer_table(walk, &footer, check->image + footer.table, &rows);
	else if (rc == 0) /* a crash came before it was written, or it was lost */
		return !check->shard->segments[segment].sealed_footer;
	if (rc == 0)
		walk->end = footer.table;
	return rc == 0;
}

/* Footers are not waited for: one that was written last may be cut in two by a crash. Nothing is
 * lost with it; the batches tell the same. */
static void check_footer_bad(struct check *check, uint32_t segment, uint64_t flush)
{
	if (flush + FOOTER_FLUSHES >= check->shard->next_flush) {
		check->result.torn++;
		return;
	}
	check->result.structures++;
	check_damage(check, "partition %u, segment %u: the footer is damaged", check->partition,
		     segment);
}

int check_segment(struct check *check, uint32_t segment)
{
	const struct segment *state = &check->shard->segments[segment];
	const struct format_segment place = { .partition = check->partition, .segment = segment };
	struct format_segment header;
	struct walk walk;
	uint32_t live = 0; /* the index points to, and a batch tells of */

	int rc = walk_header(check->super, check->partition, segment, check->image, &header);
	if (rc != 1) /* counted already; its entries live all the same */
		rc = walk_header_restore(&place, check->super, check->image + FORMAT_BLOCK,
					 check->image + check->super->segment_bytes - FORMAT_BLOCK,
					 &header);
	if (rc == 1) {
		const uint32_t end =
			state->state == SEGMENT_BAD ? state->append : check->super->segment_bytes;
		walk_start(&walk, check->super, &header, end);
		const bool footer_good = check_footer(check, segment, &walk);
		rc = check_batches(check, &walk, &live);
		if (rc != 0)
			return rc;
		if (!footer_good)
			check_footer_bad(check, segment, walk.flush);
	}
	if (live >= state->live_entries)
		return 0;
	struct untold untold = { .check = check, .segment = segment };
	check->result.structures++;
	check_damage(check,
		     "partition %u, segment %u: a batch is damaged, %u entries lost their "
		     "keys",
		     check->partition, segment, state->live_entries - live);
	index_each(&check->shard->index, untold_slot, &untold);
	return untold.rc;
}
