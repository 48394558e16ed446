/* Opening: the log behind the checkpoint is executed again, and its end decided about.
 *
 * Execution depends on nothing but the frames before, so what was acknowledged comes out the same;
 * statuses are not asked for. A memory table that fills up is frozen at the place of the frame
 * before, and flushed right here. Who only reads changes nothing: two memory tables hold what two
 * held when the log was written, if there is as much memory as there was then. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/store_parts.h"

struct replay {
	struct haul_store *store;
	struct log_place place; /* of the last frame executed */
	int32_t *statuses;
	uint64_t frame_op; /* that did not go */
	const char *why;
};

static int replay_ready(struct replay *replay)
{
	struct haul_store *store = replay->store;
	int rc;

	while ((rc = lsm_ready(store->lsm, &replay->place)) == -EAGAIN) {
		if (store->options.read_only) {
			replay->why = "the log is longer than memory holds: more memory, or open "
				      "it for writing once";
			return -ENOMEM;
		}
		/* what is replayed is durable */
		rc = lsm_step(store->lsm, replay->place.op);
		if (rc < 0) {
			replay->why = "a table could not be written";
			return rc;
		}
	}
	return rc;
}

static int replay_told(const struct log_place *behind, const uint8_t *data, uint32_t bytes,
		       void *arg)
{
	struct replay *replay = arg;
	struct exec_result result;
	struct frame frame;

	replay->frame_op = behind->op;
	int rc = frame_check(data, bytes, &frame);
	if (rc < 0) {
		replay->why = "its checksums are good and its contents are not";
		return rc;
	}
	HAUL_ASSERT(frame.head->events <= HAUL_CHANGES_OPS);
	rc = replay_ready(replay);
	if (rc < 0)
		return rc;
	rc = exec_frame(replay->store->exec, &frame, behind->op, replay->statuses, &result);
	if (rc < 0) {
		replay->why = "it could not be executed again";
		return rc;
	}
	replay->place = *behind;
	return 0;
}

void store_verdict_text(const struct log_report *report, uint64_t segment_bytes, char *text,
			size_t bytes)
{
	const uint64_t op = report->end.op + 1;
	char more[96] = "";

	if (report->lost_records > 0 || report->lost_upto > report->end.op)
		(void)snprintf(more, sizeof more,
			       ", %llu good frames behind it, acknowledged up to %llu",
			       (unsigned long long)report->lost_records,
			       (unsigned long long)report->lost_upto);
	(void)snprintf(text, bytes, "log segment %llu at offset %llu: frame %llu is %s%s",
		       (unsigned long long)(report->end.position / segment_bytes),
		       (unsigned long long)(report->end.position % segment_bytes),
		       (unsigned long long)op, log_verdict_text(report->verdict), more);
}

static int replay_end(struct haul_store *store, const struct log_report *report,
		      struct haul_err *err)
{
	char text[200];
	int rc;

	store_verdict_text(report, store->media->segment_bytes, text, sizeof text);
	switch (report->verdict) {
	case LOG_END:
		return 0;
	case LOG_TORN:
		if (store->options.read_only)
			return 0;
		rc = log_truncate(store->media, report);
		return rc < 0 ? haul_err_set(err, rc, "%s, and cutting it failed: %s", text,
					     haul_strerror(rc))
			      : 0;
	case LOG_UNREADABLE:
		return haul_err_set(err, -EIO, "%s: the disk may still give it; nothing was cut",
				    text);
	case LOG_NEWER:
		return haul_err_set(err, HAUL_EVERSION, "%s of haul", text);
	case LOG_ALIEN:
	case LOG_DAMAGED:
		return haul_err_set(err, HAUL_ECORRUPT, "%s; haul store repair says what is lost",
				    text);
	case LOG_APPLY:
	case LOG_VERDICTS:
	default:
		HAUL_ASSERT(false);
		return -EINVAL;
	}
}

static int replay_failed(const struct replay *replay, int rc, struct haul_err *err)
{
	return haul_err_set(err, rc, "log: frame %llu: %s: %s",
			    (unsigned long long)replay->frame_op,
			    replay->why != NULL ? replay->why : "reading", haul_strerror(rc));
}

static int replay_run(struct replay *replay, struct log_report *report, struct haul_err *err)
{
	struct haul_store *store = replay->store;
	const struct log_place from = replay->place;
	const int rc = log_replay(store->media, &(struct log_from){ store->uuid, from },
				  replay_told, replay, report);

	if (rc < 0)
		return replay_failed(replay, rc, err);
	HAUL_ASSERT(report->end.op == replay->place.op);
	return replay_end(store, report, err);
}

static int replay_statuses_new(struct replay *replay, struct haul_err *err)
{
	replay->statuses = calloc(HAUL_CHANGES_OPS, sizeof(int32_t));
	return replay->statuses != NULL ? 0 : haul_err_set(err, -ENOMEM, "no memory to replay");
}

int store_replay(struct haul_store *store, const struct log_place *place,
		 struct log_place *ret_place, struct haul_err *err)
{
	struct replay replay = { .store = store, .place = *place };
	struct log_report report = { .end = *place };

	int rc = replay_statuses_new(&replay, err);
	if (rc < 0)
		return rc;
	rc = replay_run(&replay, &report, err);
	free(replay.statuses);
	if (rc == 0)
		*ret_place = report.end;
	return rc;
}
