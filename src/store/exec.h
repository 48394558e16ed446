/* store/exec.h — executes frames, one after the other, on the merge tree.
 *
 * Model      Sections are executed in order, events in order, groups whole or not at all: a group
 *            that fails is aborted in the memory table and its other changes get -ECANCELED. What a
 *            frame will look for is looked for in the tables for all of its events at once, before
 *            its first event; then an event asks the memory table, and only for a key that this
 *            frame has written. Execution depends on nothing but the frames before: replaying them
 *            gives the same rows and the same statuses. A frame with a session is executed once:
 *            its sequence number has to be the next; one that was executed gives its statuses again
 *            (those of the last SESSION_WINDOW frames are kept; session.h).
 *            A row of TREE_OF_NODE with node 0 keeps what is true of a whole index of embeddings
 *            (struct exec_index).
 * Memory     at exec_new.
 * Threads    one.
 * Errors     exec_frame: 0 and a status for each change; HAUL_ESTALE: the session is not known or
 *            has moved on, nothing was done; -EIO, HAUL_ECORRUPT: a table could not be read,
 *            nothing of the frame was done.
 * Limits     a frame writes at most `budget` bytes (exec_cost); groups over it get HAUL_ELIMIT.
 * Source     docs/design/0015. */
#pragma once

#include "store/frame.h"
#include "store/lsm.h"
#include "store/session.h"

enum {
	EXEC_ROW = 48,           /* what a row costs beside its value */
	EXEC_DETACH_MAX = 65536, /* edges of a node that are deleted with it */
	EXEC_STAGED_MAX = 65536, /* embeddings that a frame changes */
	EXEC_BUDGET_MIN = 256 << 10,
};

/* At least memtable_cost, for any tree; a constant of the format, so that the same frames fail the
 * same way for ever. */
static inline uint32_t exec_cost(uint32_t value_bytes)
{
	return EXEC_ROW + ((value_bytes + 7) & ~7U);
}

/* Value of the row (0, index) of TREE_OF_NODE: all embeddings of an index have the same dimensions;
 * when there are none left the next may have others. */
struct exec_index {
	uint32_t dimensions;
	uint32_t reserved;
	uint64_t count;
};

struct vectors; /* vectors.h; may be NULL */
struct exec;
/* budget: 0 = LSM_FRAME_BUDGET, at most the lsm's frame_budget. Reads sessions and indexes. */
int exec_new(struct exec **ret_exec, struct lsm *lsm, struct vectors *vectors, uint64_t budget);
void exec_free(struct exec *exec);

struct exec_result {
	uint32_t count; /* statuses */
	uint32_t failed;
	bool repeated; /* it had been executed before: nothing to log */
	bool fenced;   /* a fence took the number */
	uint64_t op;   /* of the frame, or of the time it was executed */
};
/* Before the frame is put into the log: whether it is to be executed at all. 0; 1: repeated,
 * statuses and *ret_result are filled in; HAUL_ESTALE; -EIO.
 * Of a fence: 0: nobody has used its number, and once it is executed nobody can; 1: a frame of
 * changes with this number was executed (count is 0, no statuses are told), or it was fenced off
 * before (ret_result->fenced); HAUL_ESTALE: not known (any more).
 * An answer that is repeated is told when ret_result->op is durable, as the first was. */
int exec_admit(struct exec *exec, const struct frame *frame, int32_t *statuses,
	       struct exec_result *ret_result);
/* statuses: frame.head->events of them, placed as frame_event.status_at says. */
int exec_frame(struct exec *exec, const struct frame *frame, uint64_t op, int32_t *statuses,
	       struct exec_result *ret_result);
