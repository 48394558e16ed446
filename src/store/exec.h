/* store/exec.h — executes frames, one after the other, on the merge tree.
 *
 * Model      Sections are executed in order, events in order, groups whole or not at all: a group
 *            that fails is aborted in the memory table and its other changes get -ECANCELED. What a
 *            section will look for is looked for in the tables for all of its events at once,
 *            before its first event; then each event asks the memory table only. Execution depends
 *            on nothing but the frames before: replaying them gives the same rows and the same
 *            statuses. A frame with a session is executed once: its sequence number has to be the
 *            next; one that was executed gives its statuses again (those of the last SESSION_WINDOW
 *            frames are kept).
 * Memory     at exec_new.
 * Threads    one.
 * Errors     exec_frame: 0 and a status for each change; HAUL_ESTALE: the session is not known or
 *            has moved on, nothing was done; -EIO, HAUL_ECORRUPT: a table could not be read,
 *            nothing of the frame was done. */
#pragma once

#include "store/frame.h"
#include "store/lsm.h"

enum { SESSION_WINDOW = 8, SESSIONS_MAX = 1024 };

struct vectors; /* vectors.h */
struct exec;
int exec_new(struct exec **ret_exec, struct lsm *lsm, struct vectors *vectors);
void exec_free(struct exec *exec);

struct exec_result {
	uint32_t count; /* statuses */
	uint32_t failed;
	bool repeated; /* it had been executed before: nothing to log */
	uint64_t op;   /* of the frame, or of the time it was executed */
};
/* Before the frame is put into the log: whether it is to be executed at all. 0; 1: repeated,
 * statuses and *ret_result are filled in; HAUL_ESTALE; -EIO. */
int exec_admit(struct exec *exec, const struct frame *frame, int32_t *statuses,
	       struct exec_result *ret_result);
/* statuses: frame.head->events of them, placed as frame_event.status_at says. */
int exec_frame(struct exec *exec, const struct frame *frame, uint64_t op, int32_t *statuses,
	       struct exec_result *ret_result);
