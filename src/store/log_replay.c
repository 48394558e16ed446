/* Reading the log from a place on. A record is good if its head verifies, names this store and this
 * position, has the next op and the last one's link, and its frame verifies. It stands right behind
 * the last one, or, where that was the last of its append, at the next block.
 *
 * At the first place without a good record, all that is reserved behind it is searched for heads,
 * since only what was written later can say what became of this one. Blocks that cannot be read are
 * skipped, and said. */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "store/log_head.h"

enum {
	WINDOW = 1 << 20,                     /* or a segment, where that is smaller */
	WINDOW_MAX = LOG_RECORD_MAX + WINDOW, /* a record from anywhere in a block, and some more */
	PIECE = 64 << 10,
};

/* A piece of the log in memory. */
struct window {
	struct media *media;
	uint8_t *data;
	uint64_t capacity;
	uint64_t start, bytes; /* bytes < capacity: the log ends there, or cannot be read */
	int error;             /* at start + bytes */
};

struct replay {
	struct window window;
	uint64_t store;
	struct log_place place;
	uint64_t seen_at; /* position of what is judged */
	struct log_report report;
	log_told *told;
	void *arg;
};

/* ---- the window ---- */

/* An error somewhere in a piece may hide what can be read of it: smaller pieces are tried, down to
 * one block. */
static void window_load(struct window *window, uint64_t start)
{
	uint64_t piece = window->capacity;

	window->start = start / MEDIA_ALIGN * MEDIA_ALIGN;
	window->bytes = 0;
	window->error = 0;
	while (window->bytes < window->capacity) {
		uint64_t left = window->capacity - window->bytes;
		int64_t got = MEDIA_CALL(window->media, log_read, window->start + window->bytes,
					 window->data + window->bytes, left < piece ? left : piece);

		if (got == 0)
			return;
		if (got > 0) {
			window->bytes += (uint64_t)got;
		} else if (piece > MEDIA_ALIGN) {
			piece = piece > PIECE ? PIECE : MEDIA_ALIGN;
		} else {
			window->error = (int)got;
			return;
		}
	}
}

/* Large enough for any record; few logs have one. */
static int window_alloc(struct window *window, uint64_t capacity)
{
	uint8_t *data = aligned_alloc(MEDIA_ALIGN, capacity);

	if (data == NULL)
		return -ENOMEM;
	free(window->data);
	window->data = data;
	window->capacity = capacity;
	window->bytes = 0;
	return 0;
}

/* Bytes at a position that follow each other; loads. *ret_error: what is behind the end. NULL if
 * there is not all of it. */
static const uint8_t *window_at(struct window *window, uint64_t position, uint64_t bytes)
{
	HAUL_ASSERT(bytes <= LOG_RECORD_MAX + LOG_UNIT);
	if (bytes > window->capacity - MEDIA_ALIGN && window_alloc(window, WINDOW_MAX) < 0) {
		window->error = -ENOMEM;
		return NULL;
	}
	if (position < window->start || position + bytes > window->start + window->bytes)
		window_load(window, position);
	if (position + bytes > window->start + window->bytes)
		return NULL;
	return window->data + (position - window->start);
}

static bool all_zeros(const uint8_t *data, size_t bytes)
{
	return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

/* ---- what stands at a place ---- */

struct look {
	enum log_seen seen;
	bool newer;
	bool mark; /* one that fits: LOG_SEEN_NOTHING */
	struct log_head head;
	const uint8_t *frame;
};

/* The frame of a head that verifies, or why not. */
static enum log_seen look_frame(struct replay *replay, uint64_t position, struct look *look)
{
	const uint8_t *data =
		window_at(&replay->window, position, LOG_HEAD + (uint64_t)look->head.bytes);

	if (data == NULL)
		return replay->window.error < 0 ? LOG_SEEN_UNREADABLE : LOG_SEEN_BROKEN;
	look->frame = data + LOG_HEAD;
	return XXH3_64bits(look->frame, look->head.bytes) == look->head.check_frame
		       ? LOG_SEEN_GOOD
		       : LOG_SEEN_BROKEN;
}

/* A head that verifies. */
static enum log_seen look_head(struct replay *replay, uint64_t position, struct look *look)
{
	const struct log_head *head = &look->head;
	const struct log_place *place = &replay->place;
	enum log_seen seen;

	if (head->store != replay->store)
		return LOG_SEEN_FOREIGN;
	look->newer = head->version > LOG_VERSION;
	if (head->version != LOG_VERSION || !log_head_sane(head))
		return LOG_SEEN_BROKEN;
	if (head->position != position)
		return head->op <= place->op ? LOG_SEEN_STALE : LOG_SEEN_BROKEN;
	if (head->kind == LOG_KIND_MARK) {
		look->mark = head->op == place->op && head->chain == place->chain;
		return look->mark ? LOG_SEEN_NOTHING : LOG_SEEN_UNLINKED;
	}
	seen = look_frame(replay, position, look);
	if (seen == LOG_SEEN_GOOD && (head->op != place->op + 1 || head->chain != place->chain))
		return LOG_SEEN_UNLINKED;
	return seen;
}

static void look_at(struct replay *replay, uint64_t position, struct look *look)
{
	const uint8_t *data = window_at(&replay->window, position, LOG_HEAD);

	*look = (struct look){ .seen = LOG_SEEN_BROKEN };
	if (data == NULL)
		look->seen = replay->window.error < 0 ? LOG_SEEN_UNREADABLE : LOG_SEEN_NOTHING;
	else if (all_zeros(data, LOG_HEAD))
		look->seen = LOG_SEEN_NOTHING;
	else if (log_head_load(data, &look->head))
		look->seen = look_head(replay, position, look);
}

/* In the rest of a block only a record counts that is good: what else is there was left by an
 * append that was torn, and the log went on at the next block, where a record or a mark says so. */
static uint64_t look_next(struct replay *replay, struct look *look)
{
	const uint64_t position = replay->place.position;
	const uint64_t block = log_block_up(position);
	struct look next;

	look_at(replay, position, look);
	if (block == position || look->seen == LOG_SEEN_GOOD)
		return position;
	look_at(replay, block, &next);
	if (next.seen != LOG_SEEN_GOOD && !next.mark && look->seen != LOG_SEEN_NOTHING)
		return position;
	*look = next;
	return block;
}

static int replay_records(struct replay *replay, struct look *look)
{
	uint64_t position = look_next(replay, look);
	int rc = 0;

	while (rc == 0 && look->seen == LOG_SEEN_GOOD) {
		replay->place = (struct log_place){
			.op = look->head.op,
			.position = position + log_record_bytes(look->head.bytes),
			.chain = log_head_link(&look->head),
		};
		replay->report.records++;
		replay->report.bytes += look->head.bytes;
		rc = replay->told(&replay->place, look->frame, look->head.bytes, replay->arg);
		if (rc == 0)
			position = look_next(replay, look);
	}
	replay->seen_at = position;
	return rc;
}

/* ---- what is behind ---- */

/* A head that verifies, of this store. Returns how far to go on. */
static uint64_t scan_head(struct replay *replay, uint64_t position, const struct log_head *head,
			  struct log_evidence *evidence)
{
	const uint64_t missing_op = replay->place.op + 1;
	struct look look = { .head = *head };

	if (head->position != position) {
		/* Of an earlier use; or written where it does not belong, over what did. */
		if (head->op >= missing_op)
			evidence->later_acknowledges = true;
		return LOG_UNIT;
	}
	/* That is what is judged, or the rest of a block before it; or it is no later than the last
	 * good record. */
	if (position <= replay->seen_at || head->op < missing_op)
		return LOG_UNIT;
	evidence->later_good = true;
	if (log_head_durable(head) >= missing_op)
		evidence->later_acknowledges = true;
	if (log_head_durable(head) >= missing_op &&
	    log_head_durable(head) > replay->report.lost_upto)
		replay->report.lost_upto = log_head_durable(head);
	if (head->kind == LOG_KIND_MARK || look_frame(replay, position, &look) != LOG_SEEN_GOOD)
		return LOG_UNIT;
	replay->report.lost_records++;
	return log_record_bytes(head->bytes);
}

static uint64_t scan_window(struct replay *replay, uint64_t position, uint64_t end,
			    struct log_evidence *evidence)
{
	struct log_head head;
	uint32_t magic;

	while (position < end) {
		const uint8_t *data = window_at(&replay->window, position, LOG_HEAD);

		if (data == NULL)
			break;
		memcpy(&magic, data + offsetof(struct log_head, magic), sizeof magic);
		if (magic == LOG_MAGIC && log_head_load(data, &head) &&
		    head.store == replay->store && head.version == LOG_VERSION &&
		    log_head_sane(&head))
			position += scan_head(replay, position, &head, evidence);
		else
			position += LOG_UNIT;
	}
	return position;
}

static void scan_later(struct replay *replay, uint64_t position, struct log_evidence *evidence)
{
	struct window *window = &replay->window;

	for (;;) {
		if (window_at(window, position, LOG_HEAD) == NULL) {
			if (window->error == 0)
				return;
			evidence->later_unreadable = true;
			position = window->start + window->bytes + MEDIA_ALIGN;
			continue;
		}
		position = scan_window(replay, position, window->start + window->bytes, evidence);
	}
}

/* ---- all of it ---- */

static struct replay *replay_new(struct media *media)
{
	struct replay *replay = calloc(1, sizeof *replay);

	if (replay == NULL)
		return NULL;
	replay->window.media = media;
	if (window_alloc(&replay->window,
			 media->segment_bytes < WINDOW ? media->segment_bytes : WINDOW) == 0)
		return replay;
	free(replay);
	return NULL;
}

int log_replay(struct media *media, const struct log_from *from, log_told *told, void *arg,
	       struct log_report *ret_report)
{
	struct replay *replay = replay_new(media);
	struct log_evidence evidence = { .seen = LOG_SEEN_NOTHING };
	struct look look;
	int rc;

	if (replay == NULL)
		return -ENOMEM;
	replay->store = log_store(from->uuid);
	replay->place = from->place;
	replay->told = told;
	replay->arg = arg;
	rc = replay_records(replay, &look);
	if (rc == 0) {
		evidence.seen = look.seen;
		evidence.newer_version = look.newer;
		/* What stands at the place itself may be misplaced. */
		scan_later(replay, replay->place.position, &evidence);
		replay->report.end = replay->place;
		replay->report.verdict = log_decide(&evidence);
		HAUL_ASSERT(replay->report.verdict != LOG_APPLY);
		*ret_report = replay->report;
	}
	free(replay->window.data);
	free(replay);
	return rc;
}

int log_truncate(struct media *media, const struct log_report *report)
{
	return MEDIA_CALL(media, log_cut, log_block_up(report->end.position));
}
