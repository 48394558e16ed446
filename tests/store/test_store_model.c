/* The simulation: random changes, queries, faults, power cuts and reopenings of a whole store in
 * simulated time on a simulated disk, all from one seed, against a naive model and against SQLite.
 *
 * Frames that were handed in and not told may or may not have become durable when the power is cut;
 * the store says which by the number of its last frame, and then has to be exactly what the oracles
 * are after that frame. What was told has to be there. HAUL_TEST_SEED repeats a run that failed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph_expect.h"
#include "graph_sql.h"
#include "store/changes_state.h"
#include "store_lab.h"

/* Under a sanitizer, which is slow at taking memory, fewer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RUNS = 4, LIE_RUNS = 12 };
#else
enum { RUNS = 24, LIE_RUNS = 60 };
#endif

enum {
	STEPS = 500,
	PENDING = 6, /* submitted and not told */
	SESSIONS = 2
};

struct pending {
	struct model_frame frame;
	int32_t wanted[MODEL_FRAME];
	uint64_t op;
	bool told;
	struct run *run;
};

struct session {
	uint64_t id[2]; /* 0: none yet */
	uint64_t seq;   /* of the last frame executed */
	struct model_frame frame;
	int32_t wanted[MODEL_FRAME]; /* of the last frame */
	uint64_t op;
};

struct run {
	struct store_lab lab;
	struct prng prng;
	struct graph_model durable, executed;
	struct graph_sql *sql;
	struct pending pending[PENDING];
	uint32_t pending_count;
	uint64_t told;   /* op of the last frame that was acknowledged */
	uint64_t handed; /* op of the last frame handed in */
	struct session session[SESSIONS];
	/* a reader that is pinned, and what it has to see */
	struct haul_reader *pinned;
	struct graph_model pinned_model;
	bool healed; /* no fault is set */
	bool lost;   /* a frame was not taken: the disk has failed for good */
	/* what happened */
	uint64_t frames, crashes, full, broken;
	uint8_t *frame_bytes;
};

static uint64_t run_seed; /* of the run under way, for the message when it fails */

/* ---- frames that become durable ---- */

/* The first `count` of the pending are durable: both oracles follow. */
static void pending_keep(struct run *run, uint32_t count)
{
	int32_t statuses[MODEL_FRAME];

	for (uint32_t i = 0; i < count; i++) {
		struct pending *pending = &run->pending[i];
		model_apply(&run->durable, &pending->frame, pending->op, statuses);
		model_expect_statuses(&pending->frame, pending->wanted, statuses);
		graph_sql_apply(run->sql, &pending->frame, pending->op, statuses);
		model_expect_statuses(&pending->frame, pending->wanted, statuses);
		graph_sql_keep(run->sql);
		run->told = pending->op;
	}
	run->pending_count -= count;
	memmove(run->pending, run->pending + count, run->pending_count * sizeof run->pending[0]);
}

/* The next frame, and what has to become of it. */
static struct pending *pending_next(struct run *run)
{
	struct pending *pending = &run->pending[run->pending_count];

	assert_true(run->pending_count < PENDING);
	memset(pending, 0, sizeof *pending);
	pending->run = run;
	model_frame_random(&pending->frame, &run->executed, &run->prng);
	return pending;
}

static void pending_execute(struct run *run, struct pending *pending)
{
	pending->op = run->executed.op + 1;
	model_apply(&run->executed, &pending->frame, pending->op, pending->wanted);
	run->handed = pending->op;
	run->pending_count++;
	run->frames++;
}

static uint32_t count_failed(const struct pending *pending)
{
	uint32_t failed = 0;

	for (uint32_t i = 0; i < pending->frame.count; i++)
		failed += pending->wanted[i] != 0;
	return failed;
}

static void told(void *arg, int error, const struct haul_commit *commit, const int32_t *statuses,
		 uint32_t count)
{
	struct pending *pending = arg;

	if (error != 0) { /* of the disk: what became of it the next opening says */
		pending->run->lost = true;
		return;
	}
	assert_false(pending->run->lost);
	assert_int_equal(commit->op, pending->op);
	assert_int_equal(count, pending->frame.count);
	assert_int_equal(commit->failed, count_failed(pending));
	model_expect_statuses(&pending->frame, pending->wanted, statuses);
	pending->told = true;
	pending->run->told = pending->op;
}

/* ---- power cuts ---- */

static void run_forget(struct run *run)
{
	if (run->pinned != NULL)
		haul_reader_close(run->pinned);
	run->pinned = NULL;
}

/* What faults are left do not come any more. */
static void run_heal(struct run *run)
{
	for (enum vfs_sim_call call = VFS_SIM_READ; call <= VFS_SIM_RESIZE; call++)
		vfs_sim_fail(run->lab.disk, call, 0, 0, -EIO);
	run->healed = true;
}

/* Opens until it goes; now and then the power is cut again while it opens. */
static void run_open(struct run *run)
{
	struct store_lab *lab = &run->lab;
	struct haul_store_status status;

	for (uint32_t tries = 0;; tries++) {
		const bool again = tries < 4 && prng_below(&run->prng, 3) == 0;
		if (again)
			vfs_sim_stop_after(lab->disk, prng_below(&run->prng, 24));
		const int rc = store_lab_open(lab);
		if (rc == 0 && !vfs_sim_stopped(lab->disk))
			break;
		if (rc < 0 && !vfs_sim_stopped(lab->disk) && run->healed)
			fail_msg("open: %d, %s", rc, lab->err.text);
		if (rc < 0) /* a fault that was set may have met the opening: it is over */
			run_heal(run);
		run->crashes++;
		store_lab_crash(lab, (enum vfs_sim_crash)prng_below(&run->prng, VFS_SIM_CRASHES));
	}
	vfs_sim_stop_after(lab->disk, UINT64_MAX);
	run_heal(run);
	run->lost = false;
	haul_store_status(lab->store, &status);
	if (status.op_last < run->told || status.op_last > run->handed)
		fail_msg("frames up to %llu are there; acknowledged were %llu, handed in %llu",
			 (unsigned long long)status.op_last, (unsigned long long)run->told,
			 (unsigned long long)run->handed);
	uint32_t kept = 0;
	while (kept < run->pending_count && run->pending[kept].op <= status.op_last)
		kept++;
	pending_keep(run, kept);
	run->pending_count = 0;
	run->executed = run->durable;
	run->told = run->handed = status.op_last;
	assert_int_equal(run->durable.op, status.op_last);
}

/* A session's last frame may be gone with the power. */
static void run_sessions_forget(struct run *run)
{
	memset(run->session, 0, sizeof run->session);
}

static void run_crash(struct run *run)
{
	run_forget(run);
	run->crashes++;
	store_lab_crash(&run->lab, (enum vfs_sim_crash)prng_below(&run->prng, VFS_SIM_CRASHES));
	run_open(run);
	run_sessions_forget(run);
}

/* ---- steps ---- */

/* Whether the store has given up, as it does when the disk stops or a sync fails. */
static bool run_is_broken(struct run *run)
{
	return haul_store_flush(run->lab.store) < 0 || run->lost;
}

static void told_all(struct run *run)
{
	uint32_t count = 0;

	while (count < run->pending_count && run->pending[count].told)
		count++;
	pending_keep(run, count);
}

static void step_flush(struct run *run)
{
	if (run_is_broken(run) || vfs_sim_stopped(run->lab.disk)) {
		run->broken++;
		run_crash(run);
		return;
	}
	told_all(run);
	assert_int_equal(run->pending_count, 0);
}

static void step_commit(struct run *run)
{
	struct store_lab *lab = &run->lab;

	step_flush(run);
	struct pending *pending = pending_next(run);
	model_frame_put(&pending->frame, lab->changes);
	const int rc = store_lab_commit(lab);
	if (rc == -ENOSPC) { /* nothing of it is kept */
		run->full++;
		return;
	}
	if (rc < 0 && !run_is_broken(run)) { /* a table could not be read: not done */
		assert_true(rc == -EIO);
		return;
	}
	pending_execute(run, pending);
	if (rc < 0) {
		run->broken++;
		run_crash(run);
		return;
	}
	assert_int_equal(lab->commit.op, pending->op);
	assert_int_equal(lab->commit.failed, count_failed(pending));
	model_expect_statuses(&pending->frame, pending->wanted, lab->statuses);
	pending_keep(run, 1);
}

static void step_submit(struct run *run)
{
	struct store_lab *lab = &run->lab;

	/* with a fault to come: one that was not taken would be expected to have been executed */
	if (!run->healed) {
		step_commit(run);
		return;
	}
	told_all(run);
	if (run->pending_count == PENDING)
		step_flush(run);
	struct pending *pending = pending_next(run);
	model_frame_put(&pending->frame, lab->changes);
	/* in place before it may be told */
	pending_execute(run, pending);
	const int rc = haul_store_submit(lab->store, lab->changes, told, pending);
	haul_changes_clear(lab->changes);
	if (rc < 0) {
		run->broken++;
		run_crash(run);
	}
}

static void step_work(struct run *run)
{
	/* pending frames are told here: they stay where they are until then */
	if (store_step(run->lab.store) < 0 && run_is_broken(run)) {
		run->broken++;
		run_crash(run);
	}
	told_all(run);
}

static void step_compare(struct run *run)
{
	struct haul_reader *reader;

	step_flush(run);
	assert_int_equal(haul_store_reader(run->lab.store, 0, &reader), 0);
	model_expect(&run->durable, reader, &run->prng);
	graph_sql_expect(run->sql, reader, &run->prng);
	haul_reader_close(reader);
}

static void step_pin(struct run *run)
{
	step_flush(run);
	if (run->pinned != NULL) {
		model_expect(&run->pinned_model, run->pinned, &run->prng);
		haul_reader_unpin(run->pinned);
		run_forget(run);
		return;
	}
	assert_int_equal(haul_store_reader(run->lab.store, 0, &run->pinned), 0);
	assert_int_equal(haul_reader_pin(run->pinned), 0);
	run->pinned_model = run->durable;
}

static void finding(const struct haul_store_finding *finding, void *arg)
{
	(void)arg;
	/* where the log ends with its segment, what the next one held in its earlier use may look
	 * like a torn end: nothing is lost by that */
	if (finding->loss)
		fail_msg("check: %s: %s", finding->place, finding->what);
}

static void step_reopen(struct run *run)
{
	const struct store_telling telling = { .told = finding };
	struct store_lab *lab = &run->lab;

	step_flush(run);
	run_forget(run);
	if (store_lab_close(lab) < 0) {
		run->broken++;
		store_lab_crash(lab, VFS_SIM_REORDER);
	} else if (run->healed && prng_below(&run->prng, 2) == 0) {
		if (store_check_on(&lab->deep, &telling, &lab->err) < 0)
			fail_msg("check: %s", lab->err.text);
		VFS_CALL(lab->vfs, close_all, lab->vfs);
		lab->vfs = vfs_sim_vfs(lab->disk);
		lab->deep.vfs = lab->vfs;
	}
	run_open(run);
	run_sessions_forget(run);
}

static void step_compact(struct run *run)
{
	step_flush(run);
	if (haul_store_compact(run->lab.store, NULL, NULL) < 0 && run_is_broken(run))
		run_crash(run);
}

/* ---- sessions ---- */

static int seal(struct run *run, const struct session *session, uint64_t seq, struct frame *frame)
{
	struct haul_changes *changes = run->lab.changes;
	const struct changes_sender sender = { .session = { session->id[0], session->id[1] },
					       .seq = seq,
					       .kind = FRAME_CHANGES };
	const uint32_t bytes = changes_frame_bytes(changes);

	assert_int_equal(changes_seal(changes, &sender, run->frame_bytes, bytes), 0);
	haul_changes_clear(changes);
	return frame_check(run->frame_bytes, bytes, frame);
}

struct answer {
	int error;
	bool told;
	struct exec_result result;
	int32_t statuses[MODEL_FRAME];
};

static void answered(void *arg, const struct store_answer *from)
{
	struct answer *answer = arg;

	answer->told = true;
	answer->error = from->error;
	answer->result = from->result;
	if (from->error == 0)
		memcpy(answer->statuses, from->statuses, from->result.count * sizeof(int32_t));
}

/* A frame of a session, sent again, out of turn, or anew. */
static void step_session(struct run *run)
{
	struct session *session = &run->session[prng_below(&run->prng, SESSIONS)];
	struct answer answer = { .told = false };
	struct frame frame;

	step_flush(run);
	if (!run->healed) /* as in step_submit */
		return;
	if (session->id[0] == 0) {
		session->id[0] = prng_next(&run->prng) | 1;
		session->id[1] = run->durable.op;
		session->seq = 0;
	}
	const uint32_t what = session->seq > 0 ? prng_below(&run->prng, 4) : 3;
	struct pending *pending = pending_next(run);
	const bool again = what == 0, gap = what == 1;
	model_frame_put(again ? &session->frame : &pending->frame, run->lab.changes);
	assert_int_equal(seal(run, session, session->seq + (again ? 0 : gap ? 2 : 1), &frame), 0);
	if (!again && !gap)
		pending_execute(run, pending);
	assert_int_equal(store_submit_frame(run->lab.store, &frame, answered, &answer), 0);
	const bool broken = run_is_broken(run);
	assert_true(answer.told);
	if (broken || answer.error == -EIO) {
		run_crash(run);
		return;
	}
	if (gap) {
		assert_int_equal(answer.error, HAUL_ESTALE);
		return;
	}
	if (again) {
		assert_int_equal(answer.error, 0);
		assert_true(answer.result.repeated);
		assert_int_equal(answer.result.op, session->op);
		model_expect_statuses(&session->frame, session->wanted, answer.statuses);
		return;
	}
	assert_int_equal(answer.error, 0);
	assert_int_equal(answer.result.op, pending->op);
	model_expect_statuses(&pending->frame, pending->wanted, answer.statuses);
	session->seq++;
	session->frame = pending->frame;
	memcpy(session->wanted, pending->wanted, sizeof session->wanted);
	session->op = pending->op;
	pending_keep(run, 1);
}

/* ---- faults ---- */

static void step_fault(struct run *run)
{
	struct vfs_sim *disk = run->lab.disk;

	step_flush(run);
	if (!run->healed) {
		run_heal(run);
		vfs_sim_stop_after(disk, UINT64_MAX);
		return;
	}
	run->healed = false;
	switch (prng_below(&run->prng, 6)) {
	case 0:
		vfs_sim_stop_after(disk, prng_below(&run->prng, 60));
		return;
	case 1: /* the disk is full for a while */
		vfs_sim_fail(disk, VFS_SIM_RESIZE, prng_below(&run->prng, 3),
			     1 + prng_below(&run->prng, 60), -ENOSPC);
		return;
	case 2:
		vfs_sim_fail(disk, VFS_SIM_SYNC, prng_below(&run->prng, 8), 1, -EIO);
		return;
	case 3:
		vfs_sim_fail(disk, VFS_SIM_WRITE, prng_below(&run->prng, 8), 1, -EIO);
		return;
	case 4:
		vfs_sim_fail(disk, VFS_SIM_NAME, prng_below(&run->prng, 4), 1, -EIO);
		return;
	default:
		run_crash(run);
		return;
	}
}

static void run_step(struct run *run)
{
	const uint32_t dice = prng_below(&run->prng, 100);

	if (dice < 30)
		step_commit(run);
	else if (dice < 55)
		step_submit(run);
	else if (dice < 75)
		step_work(run);
	else if (dice < 82)
		step_compare(run);
	else if (dice < 87)
		step_session(run);
	else if (dice < 91)
		step_pin(run);
	else if (dice < 94)
		step_fault(run);
	else if (dice < 97)
		step_reopen(run);
	else if (dice < 98)
		step_compact(run);
	else
		step_flush(run);
}

static void run_print(const struct run *run)
{
	struct haul_store_status status;

	haul_store_status(run->lab.store, &status);
	if (getenv("HAUL_TEST_VERBOSE") != NULL)
		print_message("frames %llu, cuts %llu, full %llu, broken %llu; since the last "
			      "opening: flushes %llu, merges %llu\n",
			      (unsigned long long)run->frames, (unsigned long long)run->crashes,
			      (unsigned long long)run->full, (unsigned long long)run->broken,
			      (unsigned long long)status.flushes,
			      (unsigned long long)status.merges);
}

static void run_one(uint64_t seed)
{
	struct run *run = calloc(1, sizeof *run);

	assert_non_null(run);
	run_seed = seed;
	prng_init(&run->prng, seed);
	store_lab_init_empty(&run->lab, seed);
	run->lab.options.memtable_bytes = 2048u << prng_below(&run->prng, 5);
	run->lab.options.level_factor = 2 + prng_below(&run->prng, 3);
	run->lab.options.levels = 2 + prng_below(&run->prng, 3);
	run->lab.deep.segment_bytes = 16384u << prng_below(&run->prng, 4);
	assert_int_equal(store_lab_make(&run->lab), 0);
	run->frame_bytes = aligned_alloc(64, 1 << 20);
	run->healed = true;
	run->sql = graph_sql_open();
	run_open(run);
	for (uint32_t i = 0; i < STEPS; i++)
		run_step(run);
	run_heal(run);
	vfs_sim_stop_after(run->lab.disk, UINT64_MAX);
	step_compare(run);
	run_print(run);
	run_forget(run);
	(void)store_lab_close(&run->lab);
	graph_sql_close(run->sql);
	free(run->frame_bytes);
	store_lab_done(&run->lab);
	free(run);
	run_seed = 0;
}

/* Everything at random, with faults and power cuts: each answer is that of both oracles. */
static void test_store_model__answers_as_the_oracles(void **state)
{
	struct prng prng;

	(void)state;
	test_prng(&prng);
	run_one(prng.state);
	for (uint32_t i = 1; i < RUNS; i++)
		run_one(prng_next(&prng));
}

/* ---- a disk that lies ---- */

enum { LIE_FRAMES = 60 };

struct lie {
	struct store_lab lab;
	struct prng prng;
	struct graph_model model;
	struct model_frame frame[LIE_FRAMES];
	uint64_t handed, before; /* frames; those that were durable before the lie */
};

static void lie_tell(struct lie *lie)
{
	struct vfs_sim *disk = lie->lab.disk;
	const uint64_t skip = prng_below(&lie->prng, 12);

	lie->before = lie->handed;
	if (prng_below(&lie->prng, 2) == 0)
		vfs_sim_lose(disk, skip);
	else
		vfs_sim_misdirect(disk, skip, (uint64_t)4096 * (1 + prng_below(&lie->prng, 9)));
}

/* Frames, and work in between; some write in it goes nowhere, or elsewhere. */
static void lie_write(struct lie *lie)
{
	const uint32_t when = prng_below(&lie->prng, LIE_FRAMES - 10);
	int32_t statuses[MODEL_FRAME];

	for (uint32_t i = 0; i < LIE_FRAMES; i++) {
		struct model_frame *frame = &lie->frame[lie->handed];
		if (i == when)
			lie_tell(lie);
		model_frame_random(frame, &lie->model, &lie->prng);
		model_frame_put(frame, lie->lab.changes);
		const int rc = store_lab_commit(&lie->lab);
		if (rc < 0) /* it was found out */
			return;
		lie->handed++;
		model_apply(&lie->model, frame, lie->handed, statuses);
		model_expect_statuses(frame, statuses, lie->lab.statuses);
		if (prng_below(&lie->prng, 3) == 0 && store_step(lie->lab.store) < 0)
			return;
	}
}

static void note_nothing(const struct haul_store_finding *finding, void *arg)
{
	(void)finding;
	(void)arg;
}

/* Whether check finds it. */
static bool lie_is_found(struct lie *lie)
{
	const struct store_telling telling = { .told = note_nothing };
	struct store_lab *lab = &lie->lab;

	const int rc = store_check_on(&lab->deep, &telling, &lab->err);
	VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->vfs = vfs_sim_vfs(lab->disk);
	lab->deep.vfs = lab->vfs;
	return rc != 0;
}

static void lie_expect_whole(struct lie *lie)
{
	int32_t statuses[MODEL_FRAME];
	struct haul_store_status status;
	struct haul_reader *reader;

	haul_store_status(lie->lab.store, &status);
	assert_in_range(status.op_last, lie->before, lie->handed + 1);
	memset(&lie->model, 0, sizeof lie->model);
	for (uint64_t op = 1; op <= status.op_last; op++)
		model_apply(&lie->model, &lie->frame[op - 1], op, statuses);
	assert_int_equal(haul_store_reader(lie->lab.store, 0, &reader), 0);
	model_expect(&lie->model, reader, &lie->prng);
	haul_reader_close(reader);
}

/* A write that was said to be done and was not, or not there. Only the very end of the log can be
 * lost without a trace: nothing stands behind it. Everything else is found, and until it is, no
 * answer is wrong. */
static void test_store_model__finds_out_a_disk_that_lies(void **state)
{
	struct prng prng;
	uint32_t found = 0;

	(void)state;
	test_prng(&prng);
	for (uint32_t i = 0; i < LIE_RUNS; i++) {
		struct lie *lie = calloc(1, sizeof *lie);
		assert_non_null(lie);
		run_seed = i == 0 ? prng.state : prng_next(&prng);
		prng_init(&lie->prng, run_seed);
		store_lab_init(&lie->lab, run_seed);
		assert_int_equal(store_lab_open(&lie->lab), 0);
		lie_write(lie);
		if (prng_below(&lie->prng, 2) == 0)
			store_lab_crash(&lie->lab, VFS_SIM_LOSE_ALL);
		else
			(void)store_lab_close(&lie->lab);
		if (lie_is_found(lie))
			found++;
		else if (store_lab_open(&lie->lab) == 0)
			lie_expect_whole(lie);
		else
			fail_msg("check found nothing, and: %s", lie->lab.err.text);
		store_lab_done(&lie->lab);
		free(lie);
	}
	run_seed = 0;
	assert_true(found > 0);
}

static int teardown(void **state)
{
	(void)state;
	if (run_seed != 0)
		print_message("HAUL_TEST_SEED=%llu repeats it\n", (unsigned long long)run_seed);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_store_model__answers_as_the_oracles, teardown),
		cmocka_unit_test_teardown(test_store_model__finds_out_a_disk_that_lies, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
