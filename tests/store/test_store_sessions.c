/* Sessions through a whole store on a simulated disk: what the log, checkpoints and a power cut
 * leave of them. */
#include <errno.h>
#include <string.h>

#include "lib/testlib.h"
#include "store/changes_state.h"
#include "store/store_lab.h"

struct answer {
	bool told;
	int error;
	struct exec_result result;
	int32_t status;
};

static struct store_lab *lab;
static _Alignas(8) uint8_t data[4096];

static int setup(void **state)
{
	(void)state;
	lab = test_malloc(sizeof *lab);
	store_lab_init(lab, 5);
	assert_int_equal(store_lab_open(lab), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	(void)store_lab_close(lab);
	store_lab_done(lab);
	test_free(lab);
	return 0;
}

static void answered(void *arg, const struct store_answer *from)
{
	struct answer *answer = arg;

	answer->told = true;
	answer->error = from->error;
	answer->result = from->result;
	if (from->error == 0 && from->result.count != 0)
		answer->status = from->statuses[0];
}

/* Frame seq of a session: it makes node `id`; 0: a fence. */
static struct answer send(uint64_t session, uint64_t born, uint64_t seq, uint64_t id)
{
	const struct changes_sender sender = {
		.session = { session, born },
		.seq = seq,
		.kind = id == 0 ? FRAME_FENCE : FRAME_CHANGES,
	};
	struct answer answer = { .told = false };
	struct frame frame;

	haul_changes_clear(lab->changes);
	if (id != 0)
		(void)lab_node(lab, id, 1, NULL, NULL);
	assert_int_equal(changes_seal(lab->changes, &sender, data, sizeof data), 0);
	assert_int_equal(frame_check(data, changes_frame_bytes(lab->changes), &frame), 0);
	while (store_submit_frame(lab->store, &frame, answered, &answer) == -EAGAIN)
		assert_int_equal(store_lab_settle(lab), 0);
	assert_int_equal(haul_store_flush(lab->store), 0);
	assert_true(answer.told);
	haul_changes_clear(lab->changes);
	return answer;
}

/* The log is replayed, and a session is not what it was. */
static void test_store_sessions__survive_a_power_cut(void **state)
{
	(void)state;
	const struct answer first = send(7, 0, 1, 100);
	assert_true(first.error == 0 && first.status == 0);
	assert_int_equal(send(7, 0, 2, 0).error, 0); /* fenced off */
	for (int round = 0; round < 3; round++) {
		struct answer again = send(7, 0, 1, 100);
		assert_true(again.error == 0 && again.status == 0 && again.result.repeated);
		assert_int_equal(again.result.op, first.result.op);
		assert_int_equal(send(7, 0, 2, 101).error, HAUL_ESTALE);
		again = send(7, 0, 2, 0);
		assert_true(again.error == 0 && again.result.repeated && again.result.fenced);
		assert_false(lab_has(lab, 101, NULL));
		if (round == 1)
			assert_int_equal(store_lab_settle(lab), 0);
		if (round == 0)
			store_lab_crash(lab, VFS_SIM_LOSE_ALL);
		assert_int_equal(round == 0 ? store_lab_open(lab) : 0, 0);
		if (round == 1)
			store_lab_reopen(lab);
	}
	assert_int_equal(send(7, 0, 3, 102).error, 0);
}

/* More clients than there may be sessions: one that was displaced is applied twice, or can never
 * write again. */
static void test_store_sessions__one_that_was_displaced_begins_anew(void **state)
{
	(void)state;
	const struct answer first = send(1, 0, 1, 1);
	for (uint64_t i = 2; i <= SESSIONS_MAX + 20; i++) {
		const struct answer answer = send(i, first.result.op + i - 2, 1, i);
		assert_int_equal(answer.error, 0);
	}
	for (int round = 0; round < 2; round++) {
		const struct answer late = send(1, 0, 1, 1);
		assert_int_equal(late.error, HAUL_ESTALE);
		assert_int_equal(send(9000 + (uint64_t)round, first.result.op, 1, 9000).error,
				 HAUL_ESTALE);
		/* The answer says with what another one may begin. */
		assert_int_equal(
			send(5000 + (uint64_t)round, late.result.op, 1, 5000 + (uint64_t)round)
				.error,
			0);
		store_lab_reopen(lab);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_store_sessions__survive_a_power_cut),
		T(test_store_sessions__one_that_was_displaced_begins_anew),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
