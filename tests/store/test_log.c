/* The log: what is put comes back in order, and what is written is told. */
#include <errno.h>
#include <pthread.h>

#include "log_lab.h"
#include "store/log_head.h"

/* ---- putting and writing ---- */

/* Records of all sizes, alone and many in an append, come back in order and byte by byte, from the
 * beginning and from the middle of an append. */
static void test_log__what_is_put_comes_back(void **state)
{
	struct log_lab *lab = *state;
	struct prng prng;
	struct log_place middle = { 0 };

	test_prng(&prng);
	for (uint32_t round = 0; round < 60; round++) {
		uint32_t count = 1 + prng_below(&prng, 5);

		for (uint32_t i = 0; i < count && log_lab_put(lab) == 0; i++)
			if (prng_below(&prng, 20) == 0)
				middle = log_place(lab->log);
		assert_true(log_staged(lab->log));
		assert_int_equal(log_lab_write(lab), 0);
		assert_false(log_staged(lab->log));
		assert_int_equal(lab->durable, lab->next - 1);
		assert_int_equal(log_durable(lab->log), lab->durable);
	}
	assert_int_equal(log_lab_again(lab), LOG_END);
	assert_int_equal(lab->told, lab->durable);
	assert_int_equal(lab->report.records, lab->durable);
	assert_int_equal(lab->report.lost_records, 0);
	lab->place = middle;
	assert_int_equal(log_lab_again(lab), LOG_END);
	assert_int_equal(lab->told, lab->durable);
	assert_int_equal(lab->report.records, lab->durable - middle.op);
}

/* The log goes on behind what was replayed, again and again. */
static void test_log__goes_on_after_replay(void **state)
{
	struct log_lab *lab = *state;

	for (uint32_t round = 1; round < 20; round++) {
		log_lab_append(lab, 3);
		assert_int_equal(log_lab_again(lab), LOG_END);
		assert_int_equal(lab->told, 3 * round);
	}
}

/* Writing without anything staged says what is durable, and writes nothing. */
static void test_log_write__nothing_is_no_write(void **state)
{
	struct log_lab *lab = *state;
	uint64_t syncs;

	log_lab_append(lab, 2);
	syncs = lab->media->syncs;
	lab->durable = 0;
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(lab->durable, 2);
	assert_int_equal(lab->media->syncs, syncs);
}

/* However many records are staged, they are one append. */
static void test_log_write__is_one_append(void **state)
{
	struct log_lab *lab = *state;
	uint64_t syncs, steps;

	assert_true(log_reserve_ahead(lab->log) > 0);
	syncs = lab->media->syncs;
	steps = vfs_sim_steps(lab->disk);
	for (int i = 0; i < 3; i++)
		assert_int_equal(log_lab_put(lab), 0);
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(lab->media->syncs, syncs + 1);
	assert_int_equal(vfs_sim_steps(lab->disk), steps + 1);
}

/* A full buffer says so before a frame is executed, and has room again when it was written; what is
 * larger than a buffer never has. */
static void test_log_room__full_and_never(void **state)
{
	struct log_lab *lab = *state;
	int rc;

	assert_int_equal(log_room(lab->log, LOG_LAB_BUFFER), HAUL_ELIMIT);
	assert_int_equal(log_room(lab->log, LOG_RECORD_MAX), HAUL_ELIMIT);
	assert_int_equal(log_room(lab->log, LOG_LAB_BUFFER - LOG_HEAD), 0);
	while ((rc = log_lab_put(lab)) == 0)
		;
	assert_int_equal(rc, HAUL_EFULL);
	assert_int_equal(log_room(lab->log, LOG_LAB_BUFFER - LOG_HEAD), HAUL_EFULL);
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(log_lab_put(lab), 0);
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(log_lab_again(lab), LOG_END);
	assert_int_equal(lab->told, lab->durable);
}

/* Room made ahead: an append changes bytes, and neither names nor sizes. */
static void test_log_reserve_ahead__appends_only_write(void **state)
{
	struct log_lab *lab = *state;
	uint64_t until;

	assert_int_equal(log_reserve_ahead(lab->log), 1);
	assert_int_equal(log_reserve_ahead(lab->log), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_NAME, 0, UINT64_MAX, -EIO);
	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 0, UINT64_MAX, -EIO);
	until = log_place(lab->log).position + LOG_LAB_SEGMENT / 2;
	while (log_place(lab->log).position < until)
		log_lab_append(lab, 1);
}

/* Without room nothing happens, and with room again it goes on. */
static void test_log_room__no_space_is_told_before(void **state)
{
	struct log_lab *lab = *state;
	struct vfs_file *filler = NULL;
	uint64_t space = 0, op;
	int rc;

	log_lab_append(lab, 1);
	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, "filler", VFS_CREATE, true, &filler),
			 0);
	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &space), 0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, filler, space), 0);
	while ((rc = log_lab_put(lab)) == 0)
		assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(log_reserve_ahead(lab->log), -ENOSPC);
	assert_false(log_staged(lab->log));
	op = lab->durable;
	assert_int_equal(VFS_CALL(lab->vfs, resize, filler, 0), 0);
	VFS_CALL(lab->vfs, close, filler);
	log_lab_append(lab, 20);
	assert_int_equal(log_lab_again(lab), LOG_END);
	assert_int_equal(lab->told, op + 20);
}

/* Room holds also when what was staged is written meanwhile, and the record begins a block later
 * than it would have: into a segment that is not there. */
static void test_log_room__holds_when_the_buffer_is_taken(void **state)
{
	struct log_lab *lab = *state;
	const struct log_part part = { .data = lab->frame, .bytes = 1 };
	const uint32_t rest = LOG_LAB_SEGMENT - LOG_UNIT * 2 - LOG_HEAD;

	assert_int_equal(log_room(lab->log, 1), 0);
	assert_int_equal(log_put(lab->log, 1, &part, 1), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 0, UINT64_MAX, -ENOSPC);
	assert_int_equal(log_room(lab->log, rest), -ENOSPC);
	assert_int_equal(log_room(lab->log, rest - MEDIA_ALIGN), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 0, 0, -ENOSPC);
	assert_int_equal(log_room(lab->log, rest), 0);
}

/* An append that failed is the last: nothing is put or written any more. What was acknowledged is
 * there. */
static void test_log_write__errors_are_final(void **state)
{
	static const enum vfs_sim_call calls[] = { VFS_SIM_WRITE, VFS_SIM_SYNC };
	struct log_lab *lab = *state;

	for (size_t i = 0; i < 2; i++) {
		uint64_t durable;

		log_lab_append(lab, 3);
		durable = lab->durable;
		vfs_sim_fail(lab->disk, calls[i], 0, 1, -EIO);
		assert_int_equal(log_lab_put(lab), 0);
		assert_int_equal(log_lab_write(lab), -EIO);
		assert_int_equal(log_lab_put(lab), -EIO);
		assert_int_equal(log_lab_write(lab), -EIO);
		assert_int_equal(log_durable(lab->log), durable);
		assert_true(log_lab_again(lab) == LOG_END || lab->report.verdict == LOG_TORN);
		assert_true(lab->told >= durable);
		lab->history[lab->told + 1]++;
	}
}

struct writer {
	struct log *log;
	_Atomic bool stop;
	uint64_t writes;
	int rc;
};

static void *writer_run(void *arg)
{
	struct writer *writer = arg;
	uint64_t last = 0, durable = 0;

	while (!writer->stop && writer->rc == 0) {
		writer->rc = log_write(writer->log, &durable);
		if (durable < last)
			writer->rc = -EINVAL;
		writer->writes += durable > last;
		last = durable;
	}
	return NULL;
}

/* One thread puts while another writes, and all of it is there in the end. */
static void test_log__puts_while_another_writes(void **state)
{
	struct log_lab *lab = *state;
	struct writer writer = { .log = lab->log };
	pthread_t thread;

	/* The simulated disk is for one thread: all the room that is needed is made before. */
	for (uint64_t at = 1; at < 64; at++)
		assert_int_equal(MEDIA_CALL(lab->media, log_reserve, at * LOG_LAB_SEGMENT), 0);
	assert_int_equal(log_room(lab->log, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, writer_run, &writer), 0);
	while (lab->next <= 300) {
		const struct log_part part = { .data = &lab->next, .bytes = sizeof lab->next };
		int rc = log_put(lab->log, lab->next, &part, 1);

		assert_true(rc == 0 || rc == HAUL_EFULL);
		lab->next += rc == 0;
	}
	writer.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(writer.rc, 0);
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(lab->durable, 300);
	log_lab_abandon(lab);
	assert_int_equal(log_lab_media(lab, MEDIA_WRITE), 0);
	(void)log_lab_replay(lab);
	assert_int_equal(lab->report.records, 300);
	assert_int_equal(lab->report.verdict, LOG_END);
}

/* Segments before a checkpoint are used again: their number stays as it is, and what they held
 * before is not taken for records. The log may end in the middle of an old one, which looks like a
 * torn end, if there is no mark. */
static void test_log__segments_are_used_again(void **state)
{
	struct log_lab *lab = *state;
	uint64_t space = 0, least = UINT64_MAX;

	for (uint32_t round = 0; round < 40; round++) {
		while (log_place(lab->log).position <
		       lab->place.position + 3 * (uint64_t)LOG_LAB_SEGMENT)
			log_lab_append(lab, 1);
		lab->place = log_place(lab->log);
		assert_int_equal(MEDIA_CALL(lab->media, log_trim, lab->place.position), 0);
		log_lab_append(lab, 2);
		assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &space), 0);
		if (round == 4)
			least = space;
		assert_true(round < 4 || space + 3 * (uint64_t)LOG_LAB_SEGMENT >= least);
		if (round % 2 == 0) {
			assert_int_equal(log_mark(lab->log), 0);
			assert_int_equal(log_lab_again(lab), LOG_END);
		}
		assert_true(log_lab_again(lab) == LOG_END || lab->report.verdict == LOG_TORN);
		assert_int_equal(lab->told, lab->durable);
	}
}

/* ---- marks ---- */

/* A mark is written once, gone over by the next append, and no record. */
static void test_log_mark__is_gone_over(void **state)
{
	struct log_lab *lab = *state;
	uint64_t syncs;

	assert_int_equal(log_mark(lab->log), 0);
	for (uint32_t round = 1; round < 10; round++) {
		log_lab_append(lab, 2);
		assert_int_equal(log_mark(lab->log), 0);
		syncs = lab->media->syncs;
		assert_int_equal(log_mark(lab->log), 0);
		assert_int_equal(lab->media->syncs, syncs);
		if (round % 3 == 0) {
			assert_int_equal(log_lab_again(lab), LOG_END);
			assert_int_equal(lab->told, 2 * round);
		}
	}
}

/* What an append that was torn left in the rest of a block is no torn end again, once a mark says
 * that the log goes on behind it. Marks can be written after a recovery, before anything else. */
static void test_log_mark__after_recovery(void **state)
{
	struct log_lab *lab = *state;
	uint64_t position;

	while (log_lab_bytes(lab, 2) > 500)
		lab->history[2]++;
	while (log_lab_bytes(lab, 1) > 500)
		lab->history[1]++;
	assert_int_equal(log_lab_put(lab), 0);
	position = log_place(lab->log).position;
	assert_int_equal(log_lab_put(lab), 0);
	assert_int_equal(log_lab_write(lab), 0);
	log_lab_at(lab, position)[LOG_HEAD] ^= 1;
	assert_int_equal(log_lab_again(lab), LOG_TORN);
	assert_int_equal(log_lab_again(lab), LOG_TORN);
	assert_int_equal(lab->told, 1);
	assert_true(log_reserve_ahead(lab->log) >= 0);
	assert_int_equal(log_mark(lab->log), 0);
	assert_int_equal(log_lab_again(lab), LOG_END);
	assert_int_equal(lab->told, 1);
	/* And now it is known that the first was durable. */
	log_lab_at(lab, 0)[LOG_HEAD] ^= 1;
	assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
	assert_int_equal(lab->report.lost_upto, 1);
}

/* A failed mark is a failed write. */
static void test_log_mark__errors_are_final(void **state)
{
	struct log_lab *lab = *state;

	log_lab_append(lab, 2);
	vfs_sim_fail(lab->disk, VFS_SIM_SYNC, 0, 1, -EIO);
	assert_int_equal(log_mark(lab->log), -EIO);
	assert_int_equal(log_lab_put(lab), -EIO);
}

#define LAB_TEST(name) cmocka_unit_test_setup_teardown(name, log_lab_setup, log_lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAB_TEST(test_log__what_is_put_comes_back),
		LAB_TEST(test_log__goes_on_after_replay),
		LAB_TEST(test_log_write__nothing_is_no_write),
		LAB_TEST(test_log_write__is_one_append),
		LAB_TEST(test_log_room__full_and_never),
		LAB_TEST(test_log_reserve_ahead__appends_only_write),
		LAB_TEST(test_log_room__no_space_is_told_before),
		LAB_TEST(test_log_room__holds_when_the_buffer_is_taken),
		LAB_TEST(test_log_write__errors_are_final),
		LAB_TEST(test_log__puts_while_another_writes),
		LAB_TEST(test_log__segments_are_used_again),
		LAB_TEST(test_log_mark__is_gone_over),
		LAB_TEST(test_log_mark__after_recovery),
		LAB_TEST(test_log_mark__errors_are_final),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
