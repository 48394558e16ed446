/* fuzz/fuzz_log.c — any bytes as the log of a store.
 *
 * Promise: the replay ends, tells records in order, each whole inside the bytes, and what it says
 * is the end lies behind the last of them; the same bytes say the same again. Where it says that
 * one may go on, one can: cut, a record put, and then all that was told is told again, and that
 * record.
 * The first byte is not of the log. Bit 0: heads get right checksums, and this store and position.
 * Bit 1: they follow each other, too. Bit 2: replay begins at the second record. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/log_head.h"

enum { REPAIR = 1, FOLLOW = 2, SECOND = 4, BYTES = 128 << 10, SEGMENT = 32 << 10, ADDED = 1000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t uuid[16] = { 'f', 'u', 'z', 'z' };

struct bytes {
	struct media media; /* first */
	uint8_t *data;
};

struct told {
	const struct bytes *bytes;
	struct log_place last;
	uint64_t count, sum;
};

/* ---- a media of bytes ---- */

static uint8_t *data_of(struct media *media)
{
	return ((struct bytes *)(void *)media)->data;
}

static int64_t bytes_read(struct media *media, uint64_t position, void *data, size_t bytes)
{
	if (position >= BYTES)
		return 0;
	if (bytes > BYTES - position)
		bytes = BYTES - (size_t)position;
	memcpy(data, data_of(media) + position, bytes);
	return (int64_t)bytes;
}

static int bytes_append(struct media *media, uint64_t position, const void *data, size_t bytes)
{
	HAUL_ASSERT(position <= BYTES && bytes <= BYTES - position);
	memcpy(data_of(media) + position, data, bytes);
	return 0;
}

static int bytes_reserve(struct media *media, uint64_t position)
{
	(void)media;
	return position <= BYTES ? 0 : -ENOSPC;
}

static int bytes_cut(struct media *media, uint64_t position)
{
	if (position < BYTES)
		memset(data_of(media) + position, 0, BYTES - (size_t)position);
	return 0;
}

static const struct media_calls calls = {
	.log_append = bytes_append,
	.log_read = bytes_read,
	.log_reserve = bytes_reserve,
	.log_cut = bytes_cut,
};

/* ---- replay ---- */

static int told_one(const struct log_place *behind, const uint8_t *frame, uint32_t bytes, void *arg)
{
	struct told *told = arg;
	const uint64_t at = behind->position - log_record_bytes(bytes);

	HAUL_ASSERT(behind->op == told->last.op + 1 && at >= told->last.position);
	HAUL_ASSERT(behind->position <= BYTES && behind->position % LOG_UNIT == 0);
	HAUL_ASSERT(memcmp(frame, told->bytes->data + at + LOG_HEAD, bytes) == 0);
	told->last = *behind;
	told->count++;
	told->sum += XXH3_64bits(frame, bytes);
	return 0;
}

static void run(struct bytes *bytes, const struct log_place *place, struct told *told,
		struct log_report *report)
{
	const struct log_from from = { .uuid = uuid, .place = *place };

	*told = (struct told){ .bytes = bytes, .last = *place };
	HAUL_ASSERT(log_replay(&bytes->media, &from, told_one, told, report) == 0);
	HAUL_ASSERT(report->records == told->count && report->end.op == told->last.op);
	HAUL_ASSERT(report->end.position == told->last.position);
	HAUL_ASSERT(report->verdict > LOG_APPLY && report->verdict < LOG_VERDICTS);
	HAUL_ASSERT(report->verdict != LOG_UNREADABLE);
}

static void go_on(struct bytes *bytes, const struct log_place *place, const struct told *told,
		  const struct log_report *report)
{
	uint8_t frame[ADDED] = { 1 };
	const struct log_part part = { .data = frame, .bytes = sizeof frame };
	struct log_report after;
	struct told again;
	struct log *log;
	uint64_t durable = 0;

	if (report->verdict == LOG_TORN)
		HAUL_ASSERT(log_truncate(&bytes->media, report) == 0);
	HAUL_ASSERT(log_open(&log, &bytes->media, uuid, &report->end, SEGMENT) == 0);
	if (log_room(log, sizeof frame) == 0) {
		HAUL_ASSERT(log_put(log, report->end.op + 1, &part, 1) == 0);
		HAUL_ASSERT(log_write(log, &durable) == 0 && durable == report->end.op + 1);
		run(bytes, place, &again, &after);
		HAUL_ASSERT(again.count == told->count + 1);
		HAUL_ASSERT(again.sum == told->sum + XXH3_64bits(frame, sizeof frame));
		HAUL_ASSERT(report->verdict != LOG_TORN || after.verdict == LOG_END);
	}
	log_close(log);
}

/* ---- input ---- */

static void repair(struct bytes *bytes, bool follow, struct log_place *ret_second)
{
	struct log_place last = { 0 };
	struct log_head head;

	for (uint64_t at = 0; at < BYTES; at += LOG_UNIT) {
		memcpy(&head, bytes->data + at, sizeof head);
		if (head.magic != LOG_MAGIC)
			continue;
		head.store = log_store(uuid);
		head.position = at;
		if (follow) {
			head.op = last.op + 1;
			head.chain = last.chain;
		}
		if (head.bytes <= BYTES - at - LOG_HEAD)
			head.check_frame = XXH3_64bits(bytes->data + at + LOG_HEAD, head.bytes);
		head.check = log_head_check(&head);
		memcpy(bytes->data + at, &head, sizeof head);
		last.op = head.op;
		last.chain = log_head_link(&head);
		if (head.op == 1)
			*ret_second = (struct log_place){ .op = 1,
							  .position = at + LOG_UNIT,
							  .chain = last.chain };
		/* Heads inside a frame are its bytes. */
		if (follow && head.bytes <= BYTES - at - LOG_HEAD)
			at += log_record_bytes(head.bytes) - LOG_UNIT;
		if (head.op == 1 && follow)
			ret_second->position = at + LOG_UNIT;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { .media = { .calls = &calls, .segment_bytes = SEGMENT } };
	struct log_place place = { 0 }, second = { 0 };
	struct log_report report, same;
	struct told told, again;

	if (size < 1 || size > 1 + BYTES)
		return 0;
	bytes.data = calloc(1, BYTES);
	HAUL_ASSERT(bytes.data != NULL);
	memcpy(bytes.data, data + 1, size - 1);
	if (data[0] & REPAIR)
		repair(&bytes, (data[0] & FOLLOW) != 0, &second);
	if ((data[0] & SECOND) && second.position > 0 && second.position < BYTES)
		place = second;
	run(&bytes, &place, &told, &report);
	run(&bytes, &place, &again, &same);
	HAUL_ASSERT(told.sum == again.sum && memcmp(&report, &same, sizeof report) == 0);
	if (report.verdict == LOG_END || report.verdict == LOG_TORN)
		go_on(&bytes, &place, &told, &report);
	free(bytes.data);
	return 0;
}
