#include "log_lab.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void log_lab_init(struct log_lab *lab, uint64_t seed)
{
	memset(lab, 0, sizeof *lab);
	assert_int_equal(vfs_sim_open(&lab->disk, LOG_LAB_DISK, seed), 0);
	memset(lab->uuid, 0xa5, sizeof lab->uuid);
	lab->next = 1;
	assert_int_equal(log_lab_media(lab, MEDIA_MAKE), 0);
	assert_int_equal(log_lab_open(lab), LOG_END);
}

void log_lab_done(struct log_lab *lab)
{
	log_lab_abandon(lab);
	vfs_sim_close(lab->disk);
}

int log_lab_media(struct log_lab *lab, enum media_mode mode)
{
	const struct media_options options = { .mode = mode, .segment_bytes = LOG_LAB_SEGMENT };
	int rc;

	lab->vfs = vfs_sim_vfs(lab->disk);
	rc = media_file_open(&lab->media, lab->vfs, &options, NULL);
	if (rc < 0) {
		VFS_CALL(lab->vfs, close_all, lab->vfs);
		lab->vfs = NULL;
	}
	return rc;
}

void log_lab_abandon(struct log_lab *lab)
{
	log_close(lab->log);
	if (lab->media != NULL)
		lab->media->calls->close(lab->media);
	if (lab->vfs != NULL)
		VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->log = NULL;
	lab->media = NULL;
	lab->vfs = NULL;
}

/* ---- records ---- */

static void record_prng(const struct log_lab *lab, uint64_t op, struct prng *prng)
{
	assert_true(op < LOG_LAB_OPS);
	prng_init(prng, op << 32 | lab->history[op]);
}

uint32_t log_lab_bytes(const struct log_lab *lab, uint64_t op)
{
	static const uint32_t most[] = { 100, 100, 1000, 5000, 12000 };
	struct prng prng;

	record_prng(lab, op, &prng);
	return 1 + prng_below(&prng, most[prng_below(&prng, 5)]);
}

static void record_fill(const struct log_lab *lab, uint64_t op, uint8_t *frame)
{
	uint32_t bytes = log_lab_bytes(lab, op);
	struct prng prng;

	record_prng(lab, op, &prng);
	for (uint32_t i = 0; i < bytes; i++)
		frame[i] = (uint8_t)(prng_next(&prng) >> 17);
}

int log_lab_put(struct log_lab *lab)
{
	const uint32_t bytes = log_lab_bytes(lab, lab->next);
	const struct log_part parts[2] = {
		{ .data = lab->frame, .bytes = bytes / 3 },
		{ .data = lab->frame + bytes / 3, .bytes = bytes - bytes / 3 },
	};
	int rc = log_room(lab->log, bytes);

	if (rc < 0)
		return rc;
	record_fill(lab, lab->next, lab->frame);
	rc = log_put(lab->log, lab->next, parts, 2);
	if (rc == 0)
		lab->next++;
	return rc;
}

int log_lab_write(struct log_lab *lab)
{
	return log_write(lab->log, &lab->durable);
}

void log_lab_append(struct log_lab *lab, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(log_lab_put(lab), 0);
		assert_int_equal(log_lab_write(lab), 0);
		assert_int_equal(lab->durable, lab->next - 1);
	}
}

/* ---- replay ---- */

static int record_told(const struct log_place *behind, const uint8_t *frame, uint32_t bytes,
		       void *arg)
{
	static uint8_t want[LOG_LAB_BUFFER];
	struct log_lab *lab = arg;

	if (behind->op != lab->told + 1 || behind->op >= LOG_LAB_OPS ||
	    bytes != log_lab_bytes(lab, behind->op)) {
		lab->wrong = true;
		return 0;
	}
	record_fill(lab, behind->op, want);
	lab->wrong |= memcmp(frame, want, bytes) != 0 || (uintptr_t)frame % 8 != 0;
	lab->told = behind->op;
	return 0;
}

int log_lab_replay(struct log_lab *lab)
{
	const struct log_from from = { .uuid = lab->uuid, .place = lab->place };

	lab->told = lab->place.op;
	lab->wrong = false;
	return log_replay(lab->media, &from, record_told, lab, &lab->report);
}

int log_lab_open(struct log_lab *lab)
{
	int rc;

	if (lab->media == NULL) {
		rc = log_lab_media(lab, MEDIA_WRITE);
		if (rc < 0)
			return rc;
	}
	/* As the store does: what lies before the checkpoint is for the next use. */
	rc = MEDIA_CALL(lab->media, log_trim, lab->place.position);
	if (rc == 0)
		rc = log_lab_replay(lab);
	if (rc == 0 && lab->report.verdict == LOG_TORN)
		rc = log_truncate(lab->media, &lab->report);
	if (rc == 0 && (lab->report.verdict == LOG_TORN || lab->report.verdict == LOG_END)) {
		rc = log_open(&lab->log, lab->media, lab->uuid, &lab->report.end, LOG_LAB_BUFFER);
		lab->next = lab->report.end.op + 1;
	}
	return rc < 0 ? rc : (int)lab->report.verdict;
}

uint8_t *log_lab_at(struct log_lab *lab, uint64_t position)
{
	char name[VFS_NAME_MAX];
	uint64_t bytes = 0;
	uint8_t *data;

	snprintf(name, sizeof name, "log/%016" PRIx64, position / LOG_LAB_SEGMENT);
	data = vfs_sim_bytes(lab->disk, name, &bytes);
	assert_non_null(data);
	assert_int_equal(bytes, LOG_LAB_SEGMENT);
	return data + position % LOG_LAB_SEGMENT;
}

enum log_verdict log_lab_again(struct log_lab *lab)
{
	int verdict;

	log_lab_abandon(lab);
	verdict = log_lab_open(lab);
	assert_true(verdict >= 0);
	assert_false(lab->wrong);
	assert_int_equal(lab->told, lab->report.end.op);
	return (enum log_verdict)verdict;
}

int log_lab_setup(void **state)
{
	struct log_lab *lab = malloc(sizeof *lab);

	assert_non_null(lab);
	log_lab_init(lab, 1);
	*state = lab;
	return 0;
}

int log_lab_teardown(void **state)
{
	log_lab_done(*state);
	free(*state);
	return 0;
}
