/* store/commit_roles.h — what the files of the commit share: its two roles, and waking.
 *
 * Model      All but wakes_send and commit_execute are called with the lock held. Whom to wake is
 *            gathered under the lock and woken after it: a thread woken finds the lock free.
 * Files      commit.c (open, driving), commit_turn.c (the roles), commit_submit.c (slots, the log
 *            thread). */
#pragma once

#include "store/commit.h"

enum { WAKES = 64 };

struct wakes {
	uint32_t count;
	bool progress;
	_Atomic uint32_t *word[WAKES];
};
void wakes_add(struct wakes *wakes, _Atomic uint32_t *word);
void wakes_send(struct commit *commit, struct wakes *wakes);
void commit_unlock(struct commit *commit, struct wakes *wakes); /* and send */
void commit_lock(struct commit *commit);
/* Who waits for progress shall look. */
void commit_progress(struct commit *commit, struct wakes *wakes);
void commit_progress_wait(struct commit *commit, struct wakes *wakes); /* unlocks meanwhile */

void commit_push(struct commit_list *list, struct commit_item *item);
struct commit_item *commit_pop(struct commit_list *list);

bool commit_can_execute(const struct commit *commit);
bool commit_can_write(const struct commit *commit);
/* Whether enough is staged to be written before more is executed. */
bool commit_turn_is_over(const struct commit *commit);
void commit_execute_turn(struct commit *commit, struct wakes *wakes);
void commit_write_turn(struct commit *commit, struct wakes *wakes);
/* Tell what is durable, or all when broken. */
void commit_tell(struct commit *commit, struct wakes *wakes);
/* Wake one who can take what role is free. */
void commit_handover(struct commit *commit, struct wakes *wakes);
void commit_thread_wake(struct commit *commit, struct wakes *wakes);
bool commit_is_teller(const struct commit *commit);

int commit_thread_open(struct commit *commit);
void commit_thread_close(struct commit *commit);
