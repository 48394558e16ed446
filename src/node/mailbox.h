/* node/mailbox.h — all that the control thread and the datapath thread share.
 *
 * Model      Events go from the datapath to control, commands the other way, each through a ring
 *            and an eventfd that wakes the other side. Routes travel as a pointer to an immutable
 *            snapshot: control exchanges it, the datapath reads it at the top of each turn and
 *            announces its generation before it uses it.
 * Why a snapshot may be freed: the generation in use is that of a snapshot the datapath still may
 *            look at; it announces a later one only when it will not look at earlier ones again. So
 *            every snapshot older than the announced generation is free to go.
 * Ownership  snapshots remain control's.
 * Memory     all at open.
 * Threads    each call names its side.
 * Errors     mailbox_open: -errno. Full rings: the sender counts what was lost.
 * Limits     MAILBOX_EVENTS, MAILBOX_COMMANDS. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/ring.h"
#include "node/control.h"
#include "node/snapshot.h"

enum { MAILBOX_EVENTS = 1024, MAILBOX_COMMANDS = CONTROL_TX_MAX };

enum command_kind { COMMAND_SEND, COMMAND_PEER_REMOVE };

struct command {
	enum command_kind kind;
	struct control_tx tx; /* PEER_REMOVE: only tx.to */
};

struct mailbox {
	struct ring events;
	struct ring commands;
	int event_fd;                        /* readable: control has something to do */
	int command_fd;                      /* readable: the datapath has something to do */
	_Atomic(struct snapshot *) snapshot; /* NULL before the first */
	_Atomic uint64_t generation;         /* in use by the datapath, 0 before the first */
	_Atomic bool stop;                   /* control: end after the turn in hand */
	_Atomic int failed;                  /* datapath: negative code it ended with, 0 = none */
};

int mailbox_open(struct mailbox *mailbox);
/* Both sides have ended. */
void mailbox_close(struct mailbox *mailbox);

/* Either side: wake the other. */
void mailbox_wake(int fd);
/* Take the signal before looking at the ring: then none is lost. */
void mailbox_woken(int fd);

/* Control. */
void mailbox_publish(struct mailbox *mailbox, struct snapshot *snapshot);
uint64_t mailbox_in_use(struct mailbox *mailbox);

/* Datapath: the newest snapshot, announced. NULL before the first. */
struct snapshot *mailbox_snapshot(struct mailbox *mailbox);
