/* store/session.h — which frame of which client was executed last, and with what statuses.
 *
 * Model      A session is two words and a sequence of frames numbered from 1. A frame is taken when
 *            its number is the next. For each of the last SESSION_WINDOW frames there is a row of
 *            TREE_SESSION (session, slot seq % SESSION_WINDOW): u64 seq, u64 check of the body, u32
 *            statuses, u16 runs, u8 kind, u8 0, then runs of u16 how many, i32 status. A
 *            fence takes its number and all before it that were never seen.
 *            There are at most SESSIONS_MAX sessions; a new one displaces the one whose last frame
 *            is the oldest. So that a late repetition of a session that was displaced cannot pass
 *            for a new one, word 1 of a session is the op that the store had when the session was
 *            made, and a new one is taken only if that is not less than the last op of every
 *            session ever displaced (the horizon: row (0, 0, 0)).
 * Memory     at sessions_new: SESSIONS_MAX entries and what finds them. Statuses stay in the tree.
 * Threads    one.
 * Errors     HAUL_ESTALE: see sessions_admit.
 * Source     TigerBeetle's client sessions were a model. */
#pragma once

#include "store/frame.h"
#include "store/lsm.h"

enum {
	SESSION_WINDOW = 8,
	SESSIONS_MAX = 1024,
	SESSION_REPLY_HEAD = 24,
	SESSION_RUN = 6, /* bytes of a run of equal statuses */
	SESSION_REPLY_MAX = SESSION_REPLY_HEAD + HAUL_CHANGES_OPS * SESSION_RUN,
};

struct sessions;
/* Reads what the tree has. */
int sessions_new(struct sessions **ret_sessions, struct lsm *lsm);
void sessions_free(struct sessions *sessions);

struct session_answer {
	uint64_t op; /* when it was executed */
	uint32_t count, failed;
	bool fenced; /* by a fence */
};
/* 0: it is the next one. 1: executed before, or fenced off, see exec_admit. HAUL_ESTALE. -EIO. */
int sessions_admit(struct sessions *sessions, const struct frame_head *head, int32_t *statuses,
		   struct session_answer *ret_answer);
/* Bytes that sessions_note may write into the memory table (exec_cost). */
uint64_t sessions_cost(uint32_t events);
/* It has been executed; only after sessions_admit said 0. Writes its rows. */
int sessions_note(struct sessions *sessions, const struct frame_head *head, uint64_t op,
		  const int32_t *statuses);
uint32_t sessions_count(const struct sessions *sessions);
