/* disk/shard_parts.h — the functions that the files of a shard offer each other.
 *
 * Model      shard.c (open, put, delete, poll), segment.c (the segments' table), lane.c (batches
 *            being filled), flush.c (carrying them across), root.c (the partition's root), lookup.c
 *            (gets), recover.c (open after a crash), reclaim.c (making room). See shard_state.h.
 * Threads    the shard's.
 * Errors     stated at each call. */
#pragma once

#include "disk/shard_state.h"

static inline uint32_t shard_now_s(const struct shard *shard)
{
	return (uint32_t)shard->os->real_time_s(shard->os);
}

/* ---- segment.c ---- */
int segments_open(struct shard *shard);
void segments_close(struct shard *shard);
/* A FREE segment becomes OPEN in the lane (header fields set, born_seq = next_seq); SEGMENT_NONE if
 * none is to be had. background may take the last FREE_MIN. */
uint32_t segment_take(struct shard *shard, enum lane_id lane, bool background);
/* OPEN -> SEALED: queues the footer (written with background class, no sync of its own). A lane's
 * segment without rows becomes FREE. */
void segment_seal(struct shard *shard, enum lane_id id);
/* Never write to it again; only its first good_bytes count. Marks the root dirty; all entries at or
 * behind good_bytes leave the index. */
void segment_quarantine(struct shard *shard, uint32_t segment, uint32_t good_bytes);
void segment_unlink(struct shard *shard, uint32_t segment); /* out of its lane's list */
/* RECLAIM -> ERASE: the next flush overwrites its header, then it is FREE. What lies in it can be
 * read all the same until then. */
void segment_erase(struct shard *shard, uint32_t segment);
/* An OPEN segment that is no lane's yet; counted in the lane. */
uint32_t segment_take_apart(struct shard *shard, enum lane_id lane, bool background);
/* BAD, and in the root; what is behind good_bytes is the caller's to take out of the index. */
void segment_retire(struct shard *shard, uint32_t segment, uint32_t good_bytes);
/* One to empty with this flush (SEGMENT_NONE: there is none); that failed; that is durable: FREE,
 * or back to reclaim while entries still point there, or somebody reads there. */
uint32_t segment_erase_next(struct shard *shard);
void segment_erase_again(struct shard *shard, uint32_t segment);
void segment_erased(struct shard *shard, uint32_t segment);
void segment_emptied(struct shard *shard, uint32_t segment); /* then RECLAIM -> FREE */
void segments_recovered(struct shard *shard); /* their states were set from the disk */
/* Start footers of segments whose last batch is durable. */
void segment_footers(struct shard *shard);
bool segment_footers_idle(const struct shard *shard);
struct footer *segment_footer_spare(struct shard *shard); /* NULL = all are on their way */
void segment_footer_fill(struct footer *footer, uint32_t segment, const struct format_row *rows,
			 uint32_t row_count);
/* A footer that waits is for the chunks of another segment now; returns its rows. */
uint32_t segment_footer_move(struct footer *footer, uint32_t to);
void segment_link(struct shard *shard, uint32_t segment); /* into its lane's list, last */
/* The index let go of an entry there, or took one up. */
void segment_live(struct shard *shard, uint32_t segment, int32_t entries, int64_t bytes);
static inline uint64_t segment_offset(const struct shard *shard, uint32_t segment)
{
	return format_segment_offset(shard->super, shard->options.partition, segment);
}

/* ---- lane.c ---- */
struct append {
	struct format_row row; /* unit and key_bytes are set by the call; seq 0 = the next; checksum
				* too, unless background or checked */
	const struct cache_key *key;
	const void *stored;    /* row.bytes, less the client flags */
	uint32_t client_flags; /* with ROW_FLAGS: stored behind */
	struct origin from;
	bool background; /* reclaim's */
	bool checked;    /* row.checksum is set: of all that is stored */
};
/* Copy into the lane's open batch, opening chunk and segment as needed. 0, with row.unit and
 * *ret_segment set; -EAGAIN: no chunk or no segment now; -ENODEV. Does not touch the index. */
int lane_append(struct shard *shard, enum lane_id id, struct append *append, uint32_t *ret_segment);
/* Close the lane's open chunk: to gathering.full. */
void lane_close_chunk(struct shard *shard, enum lane_id id);
/* Whether a store of so many bytes would find room in the lane now; opens what it needs. 0,
 * -EAGAIN, -ENODEV, or HAUL_ELIMIT: longer than any batch of these segments. */
int lane_ready(struct shard *shard, enum lane_id id, uint32_t bytes, uint32_t key_bytes,
	       bool background);
/* Finish a closed chunk's bytes for the disk: rows, keys, header. */
void chunk_encode(struct shard *shard, struct chunk *chunk);
void chunk_free(struct shard *shard, struct chunk *chunk);
/* The bytes of a value that is in a chunk: NULL = it is on the disk. */
const uint8_t *chunk_value(const struct shard *shard, uint32_t segment, uint32_t unit);

/* ---- flush.c ---- */
/* Ask the gate; begin a flush if it says so. Returns the gate's deadline. */
int64_t flush_poll(struct shard *shard);
void flush_limits(struct shard *shard);
bool flush_idle(const struct shard *shard);
/* Nothing is gathered and none is under way. */
bool flush_empty(const struct shard *shard);
/* What is due next, of the flush whose turn it is. */
void flush_advance(struct shard *shard);
void flush_write_chunk(struct flush *flush, struct chunk *chunk);
/* Tell all of a list, in order. */
void flush_tell(struct shard *shard, struct shard_wait *waits, int result);
/* Begin one now, if there is anything to carry and a place for it. */
bool flush_begin(struct shard *shard, enum haul_close reason);
/* ---- flush_fail.c ---- */
/* Move what failed to fresh segments and write it again. False: that cannot be. */
bool flush_move_failed(struct shard *shard, struct flush *flush);
/* All flushes under way fail; none has writes under way. */
void flush_fail(struct shard *shard);

/* ---- root.c ---- */
/* Where generations begin when no root says which were used: beyond any that can have been. */
#define ROOT_GENERATION_UNKNOWN (UINT64_C(1) << 40)
int root_load(struct shard *shard); /* the newer of the two; a fresh one if neither is good */
/* Encode into root_block and return where it goes; generation rises. */
uint64_t root_encode(struct shard *shard);
/* What it says of a quarantined segment; NULL: nothing. */
const struct format_bad *root_bad(const struct shard *shard, uint32_t segment);
/* Quarantine it, or say how much of it counts now. False: no more can be remembered. */
bool root_set_bad(struct shard *shard, uint32_t segment, uint32_t good_bytes);
/* It says something that may not be lost: both copies are written, one flush after the other. */
void root_change(struct shard *shard);
/* What was encoded last is durable. */
void root_written(struct shard *shard);

/* ---- index and segments together: shard.c ---- */
/* Enter a row that was appended; what was there is let go. */
int shard_enter(struct shard *shard, const struct format_row *row, uint32_t segment, uint8_t freq);
/* The entry lies elsewhere now; RAM tier and LRU order stay as they are. */
void shard_repoint(struct shard *shard, struct index_slot *slot, uint32_t segment, uint32_t unit);
/* Take it out of index, RAM tier, LRU order and the segment's figures. Where its row stays on the
 * disk and is not expired (damage), set shard->hides as well. */
void shard_forget(struct shard *shard, struct index_slot *slot);
/* The same but for the index, for index_delete_if. */
void shard_let_go(struct shard *shard, const struct index_slot *slot);
/* What shard_version and shard_value.version say of an entry that lies there; never 0. */
static inline uint64_t shard_version_at(const struct shard *shard, uint32_t segment, uint32_t unit)
{
	return shard->segments[segment].generation << 20 | unit;
}

/* ---- lookup.c ---- */
int lookups_open(struct shard *shard);
void lookups_close(struct shard *shard);
/* Start what is queued. Returns whether more can be done at once: poll again without waiting. */
bool lookups_poll(struct shard *shard);
bool lookups_idle(const struct shard *shard);

/* ---- recover.c ---- */
/* Fill segments, index, lanes and the next_… numbers from the disk. Waits. */
int recover(struct shard *shard, struct haul_err *err);

/* ---- reclaim.c ---- */
int reclaim_open(struct shard *shard);
void reclaim_close(struct shard *shard);
/* Free what expired; make room when FREE segments are few; bounded work a call. Returns whether
 * more can be done at once: poll again without waiting. */
bool reclaim_poll(struct shard *shard);
/* The header of a segment was overwritten, durably. True: reclaim calls segment_emptied later. */
bool reclaim_erased(struct shard *shard, uint32_t segment);
bool reclaim_idle(const struct shard *shard);
/* Rows are there twice in the segments there are now: copied, or a tombstone carried for them, and
 * the segment they came from was not erased. */
void reclaim_doubled(struct shard *shard);
/* LRU order, when that is the policy; else nothing. */
void reclaim_used(struct shard *shard, const struct index_slot *slot); /* read, or entered */
void reclaim_gone(struct shard *shard, const struct index_slot *slot); /* before its delete */
/* Which lane a store goes to: pinned, short-lived, slice, seen before, new. */
enum lane_id reclaim_lane(struct shard *shard, const struct shard_put *put);
/* Whether a store of so many stored bytes may go to the lane: 0, HAUL_EFULL (pinned quota) or
 * HAUL_EADMIT (write budget). Asked last, right before lane_append: what is admitted is taken from
 * the budget, what is refused is remembered (asked again, it counts as seen before). */
int reclaim_admit(struct shard *shard, const struct shard_put *put, enum lane_id lane,
		  uint32_t bytes);
