#include "net_ledger.h"

#include <string.h>

#include "store/session.h"

static bool same(const uint64_t a[2], const uint64_t b[2])
{
	return a[0] == b[0] && a[1] == b[1];
}

enum ledger_fate ledger_fate_of(const struct ledger *ledger, const struct frame_head *head,
				uint64_t *ret_op)
{
	const bool fence = head->kind == FRAME_FENCE;
	uint64_t last = 0, last_op = 0, found = 0;

	for (uint64_t op = 1; op <= ledger->op; op++) {
		const struct ledger_executed *executed = &ledger->executed[op];
		if (!same(executed->session, head->session))
			continue;
		assert_true(executed->seq > last);
		last = executed->seq;
		last_op = op;
		if (executed->seq == head->seq)
			found = op;
	}
	*ret_op = found > 0 ? found : last_op;
	if (last == 0)
		return head->seq == 1 ? FATE_NEXT : FATE_STALE;
	if (head->seq == last + 1 || (fence && head->seq > last))
		return FATE_NEXT;
	if (head->seq > last || last - head->seq >= SESSION_WINDOW)
		return FATE_STALE;
	if (found == 0 || ledger->executed[found].fence)
		return fence ? FATE_FENCED : FATE_STALE;
	if (!fence && ledger->executed[found].check != head->check_body[0])
		fail_msg("another frame with the number of one that was sent");
	return FATE_AGAIN;
}

static void submit_apply(struct ledger *ledger, struct ledger_submit *submit, uint64_t op,
			 bool first)
{
	int32_t statuses[MODEL_FRAME];

	if (submit->op != 0)
		fail_msg("executed twice: as %llu and as %llu", (unsigned long long)submit->op,
			 (unsigned long long)op);
	if (submit->never)
		fail_msg("its caller was told that it is not done: %d", submit->error);
	submit->op = op;
	model_apply(&ledger->model, &submit->frame, op, statuses);
	if (!first)
		model_expect_statuses(&submit->frame, submit->wanted, statuses);
	memcpy(submit->wanted, statuses, sizeof statuses);
}

const struct ledger_sent *ledger_sent_find(const struct ledger *ledger, const uint64_t session[2],
					   uint64_t seq)
{
	for (uint32_t i = 0; i < ledger->sent_count; i++) {
		const struct ledger_sent *sent = &ledger->sent[i];
		if (same(sent->session, session) && sent->seq == seq)
			return sent;
	}
	return NULL;
}

void ledger_execute(struct ledger *ledger, const struct frame_head *head)
{
	const uint64_t op = ++ledger->op;
	struct ledger_executed *executed = &ledger->executed[op];

	assert_true(op < LEDGER_FRAMES);
	*executed = (struct ledger_executed){
		.session = { head->session[0], head->session[1] },
		.seq = head->seq,
		.check = head->check_body[0],
		.fence = head->kind == FRAME_FENCE,
	};
	if (executed->fence)
		return;
	executed->sent = ledger_sent_find(ledger, head->session, head->seq);
	assert_non_null(executed->sent);
	for (uint32_t i = 0; i < executed->sent->count; i++)
		submit_apply(ledger, executed->sent->submits[i], op, true);
}

void ledger_execute_again(struct ledger *ledger, uint64_t op_last)
{
	for (uint64_t op = 1; op <= ledger->op; op++) {
		const struct ledger_sent *sent = ledger->executed[op].sent;
		for (uint32_t i = 0; sent != NULL && i < sent->count; i++)
			sent->submits[i]->op = 0;
	}
	memset(&ledger->model, 0, sizeof ledger->model);
	ledger->op = op_last;
	for (uint64_t op = 1; op <= op_last; op++) {
		const struct ledger_sent *sent = ledger->executed[op].sent;
		for (uint32_t i = 0; sent != NULL && i < sent->count; i++)
			submit_apply(ledger, sent->submits[i], op, false);
	}
}

void ledger_expect(const struct ledger *ledger)
{
	for (uint32_t i = 0; i < ledger->submit_count; i++) {
		const struct ledger_submit *submit = &ledger->submits[i];
		if (submit->told && submit->error == 0 && submit->op != submit->told_op)
			fail_msg("told as done as %llu, and it is %llu",
				 (unsigned long long)submit->told_op,
				 (unsigned long long)submit->op);
		assert_false(submit->never && submit->op != 0);
	}
}

void ledger_expect_statuses(const struct ledger *ledger, uint64_t op, const int32_t *statuses,
			    uint32_t count)
{
	const struct ledger_sent *sent = ledger->executed[op].sent;
	uint32_t at = 0;

	for (uint32_t i = 0; i < sent->count; i++) {
		const struct ledger_submit *submit = sent->submits[i];
		model_expect_statuses(&submit->frame, submit->wanted, statuses + at);
		at += submit->frame.count;
	}
	assert_int_equal(at, count);
}

void ledger_init(struct ledger *ledger)
{
	memset(ledger, 0, sizeof *ledger);
	ledger->submits = test_malloc(LEDGER_SUBMITS * sizeof *ledger->submits);
	ledger->sent = test_malloc(LEDGER_FRAMES * sizeof *ledger->sent);
	ledger->executed = test_malloc(LEDGER_FRAMES * sizeof *ledger->executed);
}

void ledger_done(struct ledger *ledger)
{
	test_free(ledger->submits);
	test_free(ledger->sent);
	test_free(ledger->executed);
}
