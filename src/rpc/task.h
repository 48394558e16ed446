/* rpc/task.h — one request, or one key of a get, from its line to its reply.
 *
 * Model      The worker that has the connection (home) takes a task from its pool, fills the
 *            request, and gives it to the worker that owns the key's partition (owner), which may
 *            be itself. The owner executes it against the shard and gives it back, with the window
 *            of a value that was found still held: home copies the value out at once and gives the
 *            window back. Both ways are hops: small messages in rings between two workers.
 *            A connection's tasks form a list in the order of their replies.
 * Ownership  one worker at a time writes to a task, but for the parts named below.
 * Memory     a pool a worker, at worker_open.
 * Threads    home: next, prev, state, applied. Owner, between two hops: read, wait, queue_next. */
#pragma once

#include "disk/object.h"
#include "disk/shard.h"
#include "rpc/mc.h"

enum { TASK_KEY_BYTES = 256, REPLY_MAX = 1400 };

enum task_kind {
	TASK_REPLY,  /* nothing to execute: the reply is known */
	TASK_GET,    /* a key; VALUE, or the answer of mg */
	TASK_SLICE,  /* part of an object that is being sent */
	TASK_PUT,    /* set add replace cas, ms; head or slice of an object */
	TASK_DELETE, /* delete, md */
	TASK_CHANGE, /* read, then write: incr append touch gat ma, mg and ms that change */
	TASK_TOUR    /* goes to all workers: flush_all, stats, online */
};

enum task_state {
	TASK_SENT, /* the owner has it */
	TASK_DONE,
	TASK_AGAIN,  /* its value found no room: it is looked up again when there is some */
	TASK_RETURNS /* out of the connection; the owner is giving a window back */
};

struct conn;
struct tour;

struct task {
	/* home's */
	struct task *next;
	struct task *held_next, *held_prev; /* of tasks that hold a window */
	struct conn *conn;
	enum task_state state;
	bool applied; /* later requests of the connection see it */
	bool in_list; /* of the connection's replies */
	bool borrows; /* value lies in the connection's input */
	bool ends;    /* last key of a get: END */
	bool gets;    /* VALUE with its version */
	bool noreply;
	bool slice; /* of those a connection has for objects */
	bool last_slice;
	bool releasing;  /* the owner has not yet taken its window back */
	uint8_t *staged; /* value, copied out of its window */

	/* the request: set by home before it is sent */
	enum task_kind kind;
	enum mc_command command;
	uint16_t home, owner;
	uint16_t partition;
	bool base64;
	bool durable; /* told when it is on the disk */
	bool put_head;
	bool put_slice;
	char mode;
	uint32_t how; /* of a put */
	struct cache_key key;
	uint8_t text[TASK_KEY_BYTES]; /* the key's bytes */
	const void *value;
	uint32_t bytes;
	uint32_t flags;
	uint32_t expiry;
	uint64_t cas, delta, initial;
	uint64_t have; /* meta flags, MC_FLAG */
	uint32_t vivify, recache;
	char letters[MC_FLAGS_MAX + 1]; /* meta flags in order */
	char opaque[MC_OPAQUE_MAX];
	uint8_t opaque_bytes;
	const char *reply; /* TASK_REPLY: the line */
	struct tour *tour;

	/* the owner's */
	struct shard_get get;
	struct shard_wait wait;
	struct task *queue_next;
	uint32_t step; /* of a put over an object, of a tour */
	bool waiting;  /* for its flush */

	/* the result: set by the owner */
	int result; /* of PUT, DELETE, CHANGE, TOUR: 0 or what the shard said; -EDOM: no number */
	struct shard_value read; /* GET, SLICE; CHANGE: what there was */
	bool holds;              /* read's window is held */
	bool hit;                /* CHANGE: there was one */
	bool won, stale, sent;   /* mg: W X Z */
	bool marked;             /* these have been told */
	uint64_t number;         /* incr decr ma: the new one */
	uint64_t version;        /* of what was stored */
	uint32_t stored_bytes;   /* of what was stored */
	struct object_head head; /* of an object that was read, or is replaced */
	uint8_t inline_value[OBJECT_HEAD_BYTES];
};
