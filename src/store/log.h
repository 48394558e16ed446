/* store/log.h — the log: frames in order, chained, durable before anyone is told.
 *
 * Model      log_put copies a frame, with a head of 64 bytes, behind what is staged; log_write
 *            carries all that is staged to the media in one append and says up to which op the log
 *            is durable now. Two buffers: one is staged into while the other is written. A head
 *            names op, position, store, the checksum of its frame, the checksum of the record
 *            before (chain), and durable_upto: the op known durable when it was written. Every
 *            append starts at a multiple of MEDIA_ALIGN; the rest of the last block is zeros.
 *            log_replay reads from a position and tells each record, then decides by the table of
 *            log_decide what the first thing is that is no good record.
 * Threads    log_put by one thread at a time (the executor), log_write by one at a time; both at
 *            the same time. log_durable by any.
 * Errors     log_room tells what can be told before anything happened. Any error of log_write is
 *            final: a sync that failed cannot be trusted when it is tried again.
 * Limits     one record LOG_RECORD_MAX bytes.
 * Source     docs/design/0016; the recovery table of TigerBeetle's journal was a model. */
#pragma once

#include <haul/err.h>
#include "store/media.h"

enum { LOG_RECORD_MAX = 8 << 20, LOG_HEAD = 64 };

struct log_place {         /* where the next record goes: kept in the root at a checkpoint */
	uint64_t op;       /* of the last record; 0 at first */
	uint64_t position; /* behind it */
	uint64_t chain;    /* its checksum */
};

struct log;
/* bytes: of each of the two buffers, a multiple of MEDIA_ALIGN; a record is no longer than one
 * (LOG_RECORD_MAX takes any). place: what log_replay ended with, cut if it has to be. media is
 * borrowed. Reads and writes nothing. */
int log_open(struct log **ret_log, struct media *media, const uint8_t uuid[16],
	     const struct log_place *place, uint64_t bytes);
void log_close(struct log *log);
/* Whether a frame of so many bytes can be put now: 0; HAUL_EFULL (write first); HAUL_ELIMIT
 * (never); -ENOSPC (no segment can be reserved: nothing was done, it may be tried again). Asked
 * before a frame is executed, so that what was executed can always be logged. */
int log_room(struct log *log, uint32_t bytes);
/* op is that of the record before plus one. parts are put one behind the other. */
struct log_part {
	const void *data;
	uint32_t bytes;
};
int log_put(struct log *log, uint64_t op, const struct log_part *parts, uint32_t count);
/* Place behind the last record put: for a checkpoint at it. */
struct log_place log_place(struct log *log);
bool log_staged(struct log *log);                      /* whether log_write has anything to do */
int log_write(struct log *log, uint64_t *ret_durable); /* 0 also if nothing was staged */
uint64_t log_durable(struct log *log);
uint64_t log_bytes(struct log *log); /* put since open, with heads and zeros */
/* For a background thread: have a segment's worth of room behind what was put, so that log_room
 * need not make it. 1: made some; 0: there is enough; -ENOSPC as log_room: it may be tried again.
 */
int log_reserve_ahead(struct log *log);
/* When nothing comes for a while, and before closing: write down behind the log that all of it was
 * durable, so that damage to the last append is told from a torn end. As log_write: one of the two
 * at a time. Writes nothing if it stands there. The next append goes over it. */
int log_mark(struct log *log);

/* ---- recovery ---- */

/* What stands at a place of the log. */
enum log_seen {
	LOG_SEEN_NOTHING,  /* zeros, not there, or a mark that fits */
	LOG_SEEN_STALE,    /* a good record of this store, of an earlier use of the segment */
	LOG_SEEN_FOREIGN,  /* a good head of another store */
	LOG_SEEN_BROKEN,   /* neither zeros nor a good record */
	LOG_SEEN_GOOD,     /* op, position and chain fit */
	LOG_SEEN_UNLINKED, /* a good record of this place whose op or chain does not fit */
	LOG_SEEN_UNREADABLE,
	LOG_SEEN_KINDS
};
struct log_evidence {
	enum log_seen seen;
	bool later_good;         /* behind it stands a good head of this store, in its own place */
	bool later_acknowledges; /* … whose durable_upto is at or over this op; or there is a
				  * head of this op or a later one in a place not its own */
	bool later_unreadable;   /* something behind it could not be read */
	bool newer_version;      /* its head says a version this program does not know */
};
/* X(id, text) */
#define LOG_VERDICT_LIST(X)                                                                        \
	X(LOG_APPLY, "apply")                                                                      \
	X(LOG_END, "end")               /* nothing is behind: go on from here */                   \
	X(LOG_TORN, "torn end")         /* never acknowledged: cut it, go on from here */          \
	X(LOG_DAMAGED, "damaged")       /* acknowledged data: refuse */                            \
	X(LOG_UNREADABLE, "unreadable") /* the disk may still give it: refuse, cut nothing */      \
	X(LOG_ALIEN, "of another store")                                                           \
	X(LOG_NEWER, "of a newer version")

enum log_verdict {
#define X(id, text) id,
	LOG_VERDICT_LIST(X)
#undef X
		LOG_VERDICTS
};
const char *log_verdict_text(enum log_verdict verdict);
/* Pure; docs/design/0016 has it as a table, and a test walks through all inputs. */
enum log_verdict log_decide(const struct log_evidence *evidence);

struct log_report {
	struct log_place end;     /* behind the last good record */
	enum log_verdict verdict; /* of what stands there: never LOG_APPLY */
	uint64_t records, bytes;
	uint64_t lost_records; /* good records found behind the break */
	uint64_t lost_upto;    /* highest op that something says was acknowledged; 0 = none */
};
/* Tell each good record behind place, in order, with the place behind it (behind->op is its op): a
 * memory table that fills up meanwhile is frozen there. Non-zero from told stops with that value.
 * Reads only. 0 and *ret_report: also when the verdict is bad; what to do is the caller's. */
typedef int log_told(const struct log_place *behind, const uint8_t *frame, uint32_t bytes,
		     void *arg);
struct log_from {
	const uint8_t *uuid;
	struct log_place place;
};
int log_replay(struct media *media, const struct log_from *from, log_told *told, void *arg,
	       struct log_report *ret_report);
/* Zeros behind report->end, durable: after LOG_TORN, before anything is appended; after others to
 * accept what is lost. If it is cut off it is done again by the next recovery. */
int log_truncate(struct media *media, const struct log_report *report);
