/* rpc/net_ledger.h — what callers of a simulated store put, what the log has, what they were told.
 *
 * Model      A naive model of sessions: all frames that were executed, in their order, and which of
 *            them a frame that comes repeats. A naive graph that they are applied to. Each submit
 *            knows as which op it was executed, and what its caller believes.
 * Threads    one. Errors: asserts. */
#pragma once

#include "store/frame.h"
#include "store/graph_model.h"

enum { LEDGER_OPS = 64, LEDGER_FRAMES = 2048, LEDGER_SUBMITS = 256 };

/* What a caller put. */
struct ledger_submit {
	void *sim;
	uint32_t client;
	struct model_frame frame;
	int32_t wanted[MODEL_FRAME];
	uint64_t op; /* executed; 0: not */
	bool told, never;
	int error;
	uint64_t seq, told_op;
};

/* What a frame of a session carries. */
struct ledger_sent {
	uint64_t session[2], seq;
	uint32_t count;
	struct ledger_submit *submits[LEDGER_OPS];
};

/* What the log has, by op. */
struct ledger_executed {
	uint64_t session[2], seq, check;
	bool fence;
	const struct ledger_sent *sent;
};

enum ledger_fate { FATE_NEXT, FATE_AGAIN, FATE_FENCED, FATE_STALE };

struct ledger {
	struct graph_model model; /* after all that was executed */
	struct ledger_submit *submits;
	uint32_t submit_count;
	struct ledger_sent *sent;
	uint32_t sent_count;
	struct ledger_executed *executed;
	uint64_t op, told; /* executed; the last that anybody was told */
};

void ledger_init(struct ledger *ledger);
void ledger_done(struct ledger *ledger);
/* What has to become of a frame; *ret_op: of what it repeats. */
enum ledger_fate ledger_fate_of(const struct ledger *ledger, const struct frame_head *head,
				uint64_t *ret_op);
const struct ledger_sent *ledger_sent_find(const struct ledger *ledger, const uint64_t session[2],
					   uint64_t seq);
void ledger_execute(struct ledger *ledger, const struct frame_head *head);
/* The log has the first so many: from the start, as a naive store would. */
void ledger_execute_again(struct ledger *ledger, uint64_t op_last);
/* Callers were told the truth. */
void ledger_expect(const struct ledger *ledger);
/* Statuses of the frame that was executed as op. */
void ledger_expect_statuses(const struct ledger *ledger, uint64_t op, const int32_t *statuses,
			    uint32_t count);
