#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "store/exec_group.h"
#include "store/frame_sample.h"

/* Frame seq of a session: it makes node `id`, `count` times, so that all but the first fail. */
static int send(uint64_t session, uint64_t born, uint64_t seq, uint64_t id, uint32_t count)
{
	const struct changes_sender sender = { .session = { session, born },
					       .seq = seq,
					       .kind = FRAME_CHANGES };
	const struct haul_node node = { .id = id };

	haul_changes_clear(lab->changes);
	for (uint32_t i = 0; i < count; i++)
		assert_true(haul_changes_create_node(lab->changes, &node, NULL) >= 0);
	return lab_send(lab, lab->changes, &sender);
}

static int fence(uint64_t session, uint64_t born, uint64_t seq)
{
	const struct changes_sender sender = { .session = { session, born },
					       .seq = seq,
					       .kind = FRAME_FENCE };

	haul_changes_clear(lab->changes);
	return lab_send(lab, lab->changes, &sender);
}

/* A frame that is sent again is done again, or is told something else. */
static void test_session__a_repetition_is_applied_once(void **state)
{
	(void)state;
	for (uint64_t seq = 1; seq <= 3; seq++) {
		assert_int_equal(send(5, 0, seq, 100 + seq, 3), 0);
		assert_false(lab->result.repeated);
		assert_int_equal(lab->result.op, seq);
	}
	for (int round = 0; round < 3; round++) {
		const uint32_t rows = lab->lsm.count;
		for (uint64_t seq = 1; seq <= 3; seq++) {
			assert_int_equal(send(5, 0, seq, 100 + seq, 3), 1);
			assert_true(lab->result.repeated && !lab->result.fenced);
			assert_int_equal(lab->result.op, seq);
			assert_int_equal(lab->result.count, 3);
			assert_int_equal(lab->result.failed, 2);
			assert_int_equal(lab->statuses[0], 0);
			assert_int_equal(lab->statuses[1], -EEXIST);
			assert_int_equal(lab->statuses[2], -EEXIST);
		}
		assert_int_equal(lab->lsm.count, rows);
		assert_int_equal(lab->op, 3);
		lab_flush(lab);
		lab_reopen(lab);
	}
	assert_int_equal(send(5, 0, 4, 104, 1), 0);
}

/* What is older than the window, or comes too early, or was never there, is done. */
static void test_session__what_is_not_next_is_stale(void **state)
{
	(void)state;
	assert_int_equal(send(5, 0, 2, 1, 1), HAUL_ESTALE);
	for (uint64_t seq = 1; seq <= SESSION_WINDOW + 1; seq++)
		assert_int_equal(send(5, 0, seq, seq, 1), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(send(5, 0, SESSION_WINDOW + 3, 99, 1), HAUL_ESTALE);
		assert_int_equal(send(5, 0, 1, 1, 1), HAUL_ESTALE);
		assert_int_equal(send(5, 0, 2, 2, 1), 1);
		assert_int_equal(fence(5, 0, 1), HAUL_ESTALE);
		lab_flush(lab);
		lab_reopen(lab);
	}
	assert_int_equal(lab_rows(lab, TREE_SESSION), SESSION_WINDOW);
}

/* Another frame with the number of one before gets its statuses. */
static void test_session__the_same_number_with_other_changes(void **state)
{
	(void)state;
	assert_int_equal(send(5, 0, 1, 1, 2), 0);
	assert_int_equal(send(5, 0, 1, 2, 2), HAUL_ESTALE);
	assert_int_equal(send(5, 0, 1, 1, 3), HAUL_ESTALE);
	assert_int_equal(send(5, 0, 1, 1, 2), 1);
}

/* Sessions share numbers, or statuses; frames of nobody are taken for repetitions. */
static void test_session__sessions_are_apart(void **state)
{
	(void)state;
	const struct changes_sender nobody = { .kind = FRAME_CHANGES };

	assert_int_equal(send(5, 0, 1, 1, 1), 0);
	assert_int_equal(send(5, 1, 1, 1, 1), 0);
	assert_int_equal(send(6, 0, 1, 1, 1), 0);
	assert_int_equal(lab->statuses[0], -EEXIST);
	for (int i = 0; i < 3; i++)
		assert_int_equal(lab_send(lab, lab->changes, &nobody), 0);
	assert_int_equal(lab->op, 6);
	assert_int_equal(send(5, 0, 1, 1, 1), 1);
	assert_int_equal(lab->statuses[0], 0);
	assert_int_equal(lab_rows(lab, TREE_SESSION), 3);
}

/* An outcome is told and then turns out otherwise. */
static void test_session__a_fence_settles_an_outcome(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		const uint64_t of = 5 + (uint64_t)round;
		assert_int_equal(send(of, 0, 1, 1, 1), 0);
		const uint64_t op = lab->op;
		/* It was executed. */
		assert_int_equal(fence(of, 0, 1), 1);
		assert_true(lab->result.repeated && !lab->result.fenced);
		assert_int_equal(lab->result.op, op);
		assert_int_equal(lab->result.count, 0);
		/* It never came, and never will be done. */
		assert_int_equal(fence(of, 0, 2), 0);
		assert_int_equal(lab->result.op, op + 1);
		if (round == 1) {
			lab_flush(lab);
			lab_reopen(lab);
		}
		assert_int_equal(send(of, 0, 2, 2, 1), HAUL_ESTALE);
		/* Asked again. */
		assert_int_equal(fence(of, 0, 2), 1);
		assert_true(lab->result.fenced);
		assert_int_equal(lab->result.op, op + 1); /* to be durable before it is told */
		assert_int_equal(send(of, 0, 3, 3 + of, 1), 0);
	}
	assert_int_equal(lab_rows(lab, TREE_NODE), 3);
}

/* With several frames in flight a fence of a later one lets the earlier through. */
static void test_session__a_fence_takes_what_is_before_it(void **state)
{
	(void)state;
	assert_int_equal(send(5, 0, 1, 1, 1), 0);
	assert_int_equal(fence(5, 0, 4), 0);
	for (int round = 0; round < 2; round++) {
		for (uint64_t seq = 2; seq <= 4; seq++) {
			assert_int_equal(send(5, 0, seq, seq, 1), HAUL_ESTALE);
			assert_int_equal(fence(5, 0, seq), 1);
			assert_true(lab->result.fenced);
			assert_int_equal(lab->result.op, 2);
		}
		assert_int_equal(send(5, 0, 1, 1, 1), 1);
		lab_flush(lab);
		lab_reopen(lab);
	}
	assert_int_equal(send(5, 0, 5, 5, 1), 0);
	assert_int_equal(fence(5, 0, 100), 0);
	assert_int_equal(fence(5, 0, 5), HAUL_ESTALE); /* too long ago to be known */
	assert_int_equal(send(5, 0, 101, 6, 1), 0);
}

/* A fence of a session that nobody knows says that a frame was never there. */
static void test_session__a_fence_of_an_unknown_session(void **state)
{
	(void)state;
	assert_int_equal(fence(5, 0, 2), HAUL_ESTALE);
	assert_int_equal(fence(5, 0, 1), 0);
	assert_int_equal(send(5, 0, 1, 1, 1), HAUL_ESTALE);
	assert_int_equal(send(5, 0, 2, 1, 1), 0);
}

/* The oldest session does not leave, its rows stay, or a repetition of it is done again. */
static void test_session__the_oldest_is_displaced(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= SESSIONS_MAX; i++)
		assert_int_equal(send(i, 0, 1, i, 1), 0);
	assert_int_equal(send(1, 0, 2, 5000, 1), 0); /* now the second is the oldest */
	assert_int_equal(send(9999, lab->op, 1, 5001, 1), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(send(2, 0, 1, 2, 1), HAUL_ESTALE);
		assert_int_equal(send(2, 0, 2, 5002, 1), HAUL_ESTALE);
		assert_int_equal(fence(2, 0, 1), HAUL_ESTALE);
		assert_int_equal(send(1, 0, 1, 1, 1), 1);
		/* one row a session, one more of the first, the horizon */
		assert_int_equal(lab_rows(lab, TREE_SESSION), SESSIONS_MAX + 2);
		lab_flush(lab);
		lab_reopen(lab);
	}
	/* The third leaves for one that is made now, but not for one made before the second
	 * left. */
	assert_int_equal(send(10000, 1, 1, 5003, 1), HAUL_ESTALE);
	assert_int_equal(send(10000, 2, 1, 5003, 1), 0);
	assert_int_equal(send(3, 0, 1, 3, 1), HAUL_ESTALE);
	assert_int_equal(send(10001, 2, 1, 5004, 1), HAUL_ESTALE);
}

/* Which session leaves is not the same when the log is replayed. */
static void test_session__displacing_is_the_same_again(void **state)
{
	(void)state;
	struct lab *other = test_malloc(sizeof *other);
	struct prng prng;

	test_prng(&prng);
	lab_open(other);
	for (int i = 0; i < 4000; i++) {
		const uint64_t session = 1 + prng_below(&prng, SESSIONS_MAX + 50);
		uint64_t seq = 0;
		int rc = HAUL_ESTALE;
		while (rc == HAUL_ESTALE && seq < 20)
			rc = send(session, UINT64_MAX, ++seq, 1 + prng_below(&prng, 500), 2);
		struct frame frame;
		struct exec_result result;
		static int32_t statuses[2];
		frame_trust(lab->frame, &frame);
		assert_int_equal(exec_admit(other->exec, &frame, statuses, &result), rc);
		if (rc == 0)
			assert_int_equal(
				exec_frame(other->exec, &frame, ++other->op, statuses, &result), 0);
		if (i % 500 == 0)
			lab_reopen(other);
	}
	assert_true(lab_hash(lab, true) == lab_hash(other, true));
	lab_close(other);
	test_free(other);
}

/* Statuses that differ from one to the next do not fit into a row, or come back as others. */
static void test_session__all_statuses_come_back(void **state)
{
	(void)state;
	const struct changes_sender sender = { .session = { 5, 0 },
					       .seq = 1,
					       .kind = FRAME_CHANGES };
	static int32_t want[HAUL_CHANGES_OPS];
	const struct haul_node one = { .id = 1 };

	for (uint32_t i = 0; i < HAUL_CHANGES_OPS; i++) {
		const struct haul_node node = { .id = 1 + i / 2 };
		assert_true(haul_changes_create_node(lab->changes, i % 2 == 0 ? &node : &one,
						     NULL) >= 0);
	}
	assert_int_equal(lab_send(lab, lab->changes, &sender), 0);
	assert_int_equal(lab->result.failed, HAUL_CHANGES_OPS / 2);
	memcpy(want, lab->statuses, sizeof want);
	assert_int_equal(lab_send(lab, lab->changes, &sender), 1);
	assert_int_equal(lab->result.failed, HAUL_CHANGES_OPS / 2);
	assert_memory_equal(want, lab->statuses, sizeof want);
	const struct lab_row *row = lab_find(lab, TREE_SESSION, (struct tree_key){ { 5, 0, 1 } });
	assert_true(row->bytes > 40000 && row->bytes <= SESSION_REPLY_MAX);
	assert_in_range(SESSION_REPLY_MAX, 1, TREE_VALUE_MAX);
}

/* A row that is no reply is taken for one. */
static void test_session__rows_that_are_none(void **state)
{
	(void)state;
	struct exec *exec = NULL;
	const struct tree_key key = { { 7, 0, 1 } };
	uint8_t value[SESSION_REPLY_HEAD] = { 0 };

	for (int bad = 0; bad < 5; bad++) {
		struct tree_row row = { .value = value, .bytes = sizeof value };
		le64_store(value, bad == 0 ? 0 : bad == 1 ? 2 : 1); /* none; of another slot */
		value[22] = bad == 2 ? 0 : FRAME_CHANGES;
		value[20] = bad == 3; /* a run that is not there */
		row.bytes -= bad == 4;
		assert_int_equal(lsm_put(&lab->lsm, TREE_SESSION, &key, 1, &row), 0);
		assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), HAUL_ECORRUPT);
	}
	struct tree_row row = { .deleted = true };
	assert_int_equal(lsm_put(&lab->lsm, TREE_SESSION, &key, 1, &row), 0);
	lab_reopen(lab);
}

/* A reply cannot be read, or is not what it was: the frame is done again. */
static void test_session__a_reply_that_cannot_be_read(void **state)
{
	(void)state;
	assert_int_equal(send(5, 0, 1, 1, 1), 0);
	lab->lsm.fail_find = 1;
	assert_int_equal(send(5, 0, 1, 1, 1), -EIO);
	assert_int_equal(send(5, 0, 1, 1, 1), 1);
	struct lab_row *row = &lab->lsm.rows[lab->lsm.count - 1];
	assert_int_equal(row->tree, TREE_SESSION);
	le16_store(row->value + SESSION_REPLY_HEAD, UINT16_MAX); /* more than there were */
	assert_int_equal(send(5, 0, 1, 1, 1), HAUL_ECORRUPT);
	le16_store(row->value + SESSION_REPLY_HEAD, 0);
	assert_int_equal(send(5, 0, 1, 1, 1), HAUL_ECORRUPT);
	row->value[22] = 0;
	assert_int_equal(send(5, 0, 1, 1, 1), HAUL_ECORRUPT);
}

/* A session that could not be written down is remembered. */
static void test_session__a_frame_that_was_undone_was_not_executed(void **state)
{
	(void)state;
	lab->lsm.fail_put = 2; /* the node, then the reply */
	assert_int_equal(send(5, 0, 1, 1, 1), HAUL_EFULL);
	assert_int_equal(lab_rows(lab, TREE_NODE), 0);
	assert_int_equal(send(5, 0, 2, 1, 1), HAUL_ESTALE);
	assert_int_equal(send(5, 0, 1, 1, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_session__a_repetition_is_applied_once),
		T(test_session__what_is_not_next_is_stale),
		T(test_session__the_same_number_with_other_changes),
		T(test_session__sessions_are_apart),
		T(test_session__a_fence_settles_an_outcome),
		T(test_session__a_fence_takes_what_is_before_it),
		T(test_session__a_fence_of_an_unknown_session),
		T(test_session__the_oldest_is_displaced),
		T(test_session__displacing_is_the_same_again),
		T(test_session__all_statuses_come_back),
		T(test_session__rows_that_are_none),
		T(test_session__a_reply_that_cannot_be_read),
		T(test_session__a_frame_that_was_undone_was_not_executed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
