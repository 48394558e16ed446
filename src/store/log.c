/* Two buffers, one staged into while the other is written. Where a record will stand is known when
 * it is put: behind what is staged, or, when that has just been taken away to be written, at the
 * block behind its end. All but two fields of a head are filled in then; durable_upto, and the
 * checksum that covers it, only when the append begins, so that it is as new as can be.
 *
 * An append begins when the one before has ended, so all of a log before the last append is
 * durable, and only that one can be torn. */
#include "store/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/assert.h"
#include "store/log_head.h"

struct buffer {
	uint8_t *data;
	uint64_t used;
	uint64_t start; /* position */
	uint64_t op;    /* of its last record */
};

struct log {
	struct media *media;
	uint64_t store;
	uint64_t bytes;       /* of a buffer */
	pthread_mutex_t lock; /* for what follows */
	struct buffer buffers[2];
	uint32_t staged;        /* which one is put into */
	struct log_place place; /* behind the last record put */
	int broken;
	/* read by any thread */
	_Atomic uint64_t durable;
	_Atomic uint64_t reserved; /* segments are there up to this position */
	uint64_t first;            /* position at open */
	/* the writer's */
	uint64_t marked;  /* position of the last mark */
	uint64_t written; /* position where the next append begins */
	uint64_t link;    /* of the last record written */
	uint8_t *mark;    /* a block */
};

int log_open(struct log **ret_log, struct media *media, const uint8_t uuid[16],
	     const struct log_place *place, uint64_t bytes)
{
	struct log *log;

	HAUL_ASSERT(bytes >= MEDIA_ALIGN && bytes % MEDIA_ALIGN == 0);
	HAUL_ASSERT(place->position % LOG_UNIT == 0);
	log = calloc(1, sizeof *log);
	if (log == NULL)
		return -ENOMEM;
	*log = (struct log){ .media = media,
			     .store = log_store(uuid),
			     .bytes = bytes,
			     .place = *place,
			     .durable = place->op,
			     .marked = UINT64_MAX,
			     .written = log_block_up(place->position),
			     .first = log_block_up(place->position),
			     .link = place->chain };
	log->buffers[0].data = aligned_alloc(MEDIA_ALIGN, bytes);
	log->buffers[1].data = aligned_alloc(MEDIA_ALIGN, bytes);
	log->mark = aligned_alloc(MEDIA_ALIGN, MEDIA_ALIGN);
	if (log->buffers[0].data == NULL || log->buffers[1].data == NULL || log->mark == NULL) {
		free(log->buffers[0].data);
		free(log->buffers[1].data);
		free(log->mark);
		free(log);
		return -ENOMEM;
	}
	log->buffers[0].start = log->written;
	log->reserved = log->written;
	pthread_mutex_init(&log->lock, NULL);
	*ret_log = log;
	return 0;
}

void log_close(struct log *log)
{
	if (log == NULL)
		return;
	pthread_mutex_destroy(&log->lock);
	free(log->buffers[0].data);
	free(log->buffers[1].data);
	free(log->mark);
	free(log);
}

/* ---- room ---- */

/* Segments are made whole. */
static int log_reserve(struct log *log, uint64_t position)
{
	const uint64_t segment_bytes = log->media->segment_bytes;
	uint64_t reserved = log->reserved;
	int rc;

	position = (position + segment_bytes - 1) / segment_bytes * segment_bytes;
	rc = MEDIA_CALL(log->media, log_reserve, position);
	if (rc < 0)
		return rc;
	while (reserved < position &&
	       !atomic_compare_exchange_weak(&log->reserved, &reserved, position))
		;
	return 0;
}

int log_room(struct log *log, uint32_t bytes)
{
	const uint64_t record = log_record_bytes(bytes);
	const struct buffer *buffer;
	uint64_t used, end;
	int rc;

	if (bytes > LOG_RECORD_MAX - LOG_HEAD || record > log->bytes)
		return HAUL_ELIMIT;
	pthread_mutex_lock(&log->lock);
	buffer = &log->buffers[log->staged];
	used = buffer->used;
	/* Were this buffer taken away now, the record would begin at the next block. */
	end = log_block_up(buffer->start + used) + log_block_up(record);
	rc = log->broken;
	pthread_mutex_unlock(&log->lock);
	if (rc == 0 && used + record > log->bytes)
		return HAUL_EFULL;
	return rc == 0 && end > log->reserved ? log_reserve(log, end) : rc;
}

int log_reserve_ahead(struct log *log)
{
	uint64_t want;
	int rc;

	pthread_mutex_lock(&log->lock);
	want = log_block_up(log->place.position) + log->media->segment_bytes;
	pthread_mutex_unlock(&log->lock);
	if (want <= log->reserved)
		return 0;
	rc = log_reserve(log, want);
	return rc < 0 ? rc : 1;
}

/* ---- putting ---- */

int log_put(struct log *log, uint64_t op, const struct log_part *parts, uint32_t count)
{
	struct log_head head = { .magic = LOG_MAGIC,
				 .version = LOG_VERSION,
				 .kind = LOG_KIND_FRAME,
				 .store = log->store,
				 .op = op };
	struct buffer *buffer;
	uint8_t *frame;
	uint64_t record;
	int rc;

	for (uint32_t i = 0; i < count; i++)
		head.bytes += parts[i].bytes;
	record = log_record_bytes(head.bytes);
	pthread_mutex_lock(&log->lock);
	buffer = &log->buffers[log->staged];
	rc = log->broken;
	if (rc == 0 && (buffer->used + record > log->bytes || head.bytes > LOG_RECORD_MAX))
		rc = HAUL_EFULL;
	if (rc == 0) {
		HAUL_ASSERT(op == log->place.op + 1);
		frame = buffer->data + buffer->used + LOG_HEAD;
		for (uint32_t i = 0; i < count; i++) {
			memcpy(frame, parts[i].data, parts[i].bytes);
			frame += parts[i].bytes;
		}
		memset(frame, 0, record - LOG_HEAD - head.bytes);
		head.position = buffer->start + buffer->used;
		head.chain = log->place.chain;
		head.check_frame = XXH3_64bits(frame - head.bytes, head.bytes);
		memcpy(buffer->data + buffer->used, &head, sizeof head);
		buffer->used += record;
		buffer->op = op;
		log->place = (struct log_place){ .op = op,
						 .position = head.position + record,
						 .chain = log_head_link(&head) };
	}
	pthread_mutex_unlock(&log->lock);
	return rc;
}

struct log_place log_place(struct log *log)
{
	struct log_place place;

	pthread_mutex_lock(&log->lock);
	place = log->place;
	pthread_mutex_unlock(&log->lock);
	return place;
}

bool log_staged(struct log *log)
{
	bool staged;

	pthread_mutex_lock(&log->lock);
	staged = log->buffers[log->staged].used > 0;
	pthread_mutex_unlock(&log->lock);
	return staged;
}

/* ---- writing ---- */

/* The last fields of all heads. */
static void buffer_seal(struct log *log, struct buffer *buffer)
{
	const uint64_t durable = log->durable;
	struct log_head head;
	uint64_t end = log_block_up(buffer->used);

	memset(buffer->data + buffer->used, 0, end - buffer->used);
	for (uint64_t at = 0; at < buffer->used; at += log_record_bytes(head.bytes)) {
		memcpy(&head, buffer->data + at, sizeof head);
		HAUL_ASSERT(head.op > durable && head.position == buffer->start + at);
		head.behind =
			head.op - durable < UINT32_MAX ? (uint32_t)(head.op - durable) : UINT32_MAX;
		head.check = log_head_check(&head);
		memcpy(buffer->data + at, &head, sizeof head);
		log->link = log_head_link(&head);
	}
}

/* What is staged, taken away; the other buffer takes what comes. NULL: nothing is staged. */
static struct buffer *buffer_take(struct log *log)
{
	struct buffer *buffer;

	pthread_mutex_lock(&log->lock);
	buffer = &log->buffers[log->staged];
	if (log->broken < 0 || buffer->used == 0) {
		pthread_mutex_unlock(&log->lock);
		return NULL;
	}
	log->staged ^= 1;
	HAUL_ASSERT(log->buffers[log->staged].used == 0);
	log->buffers[log->staged].start = log_block_up(buffer->start + buffer->used);
	pthread_mutex_unlock(&log->lock);
	return buffer;
}

static void log_broke(struct log *log, int rc)
{
	pthread_mutex_lock(&log->lock);
	log->broken = rc;
	pthread_mutex_unlock(&log->lock);
}

int log_write(struct log *log, uint64_t *ret_durable)
{
	struct buffer *buffer = buffer_take(log);
	int rc;

	if (buffer == NULL) {
		pthread_mutex_lock(&log->lock);
		rc = log->broken;
		pthread_mutex_unlock(&log->lock);
		if (rc == 0)
			*ret_durable = log->durable;
		return rc;
	}
	buffer_seal(log, buffer);
	HAUL_ASSERT(buffer->start == log->written);
	rc = MEDIA_CALL(log->media, log_append, buffer->start, buffer->data,
			log_block_up(buffer->used));
	if (rc < 0) {
		log_broke(log, rc);
		return rc;
	}
	log->written = log_block_up(buffer->start + buffer->used);
	log->durable = buffer->op;
	*ret_durable = buffer->op;
	pthread_mutex_lock(&log->lock);
	buffer->used = 0;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

int log_mark(struct log *log)
{
	const uint64_t durable = log->durable;
	struct log_head head = { .magic = LOG_MAGIC,
				 .version = LOG_VERSION,
				 .kind = LOG_KIND_MARK,
				 .store = log->store,
				 .op = durable,
				 .position = log->written,
				 .chain = log->link };
	int rc = 0;

	/* Without room for it there is no mark: it is no reason to make a segment. */
	if (durable == 0 || log->marked == log->written ||
	    log->written + MEDIA_ALIGN > log->reserved)
		return 0;
	head.check = log_head_check(&head);
	memset(log->mark, 0, MEDIA_ALIGN);
	memcpy(log->mark, &head, sizeof head);
	rc = MEDIA_CALL(log->media, log_append, log->written, log->mark, MEDIA_ALIGN);
	if (rc < 0)
		log_broke(log, rc);
	else
		log->marked = log->written;
	return rc;
}

uint64_t log_durable(struct log *log)
{
	return log->durable;
}

uint64_t log_bytes(struct log *log)
{
	return log_block_up(log_place(log).position) - log->first;
}
