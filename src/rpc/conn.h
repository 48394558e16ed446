/* rpc/conn.h — a client's connection: its buffers, and the requests it waits for.
 *
 * Model      Input is parsed into tasks as long as they may start: reads go together, and so do
 *            writes, but a read waits until the writes before it have been applied, and a write
 *            until the reads before it have their values; what reads and writes goes alone. So a
 *            pipeline means what it says, and one of equal requests is one batch. Replies leave in
 *            order. A value that is there before its turn is copied aside (staged); what finds no
 *            room, because the client does not read, is dropped and looked up again later. So a
 *            client that stalls holds its own buffers and nothing else.
 * Memory     CONN_IN + CONN_OUT of address space each.
 * Threads    its worker's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "disk/object.h"
#include "rpc/mc.h"

enum {
	CONN_IN = (1 << 20) + (1 << 17),
	CONN_OUT = 2 << 20,
	CONN_KEEP = 65536, /* pages that an idle one may keep */
	SLICES_AHEAD = 4   /* of an object, in flight */
};

enum conn_phase { PHASE_NONE, PHASE_READ, PHASE_WRITE, PHASE_ALONE };

struct worker;
struct task;

/* An object that is being received. */
struct conn_receive {
	bool active;
	bool failed; /* what comes is swallowed */
	int error;
	struct task *task; /* the head's, not sent yet */
	struct object_head head;
	uint64_t left;    /* bytes of the value that have not come */
	uint32_t slice;   /* the last one sent */
	uint32_t pending; /* slices not done */
};

/* An object that is being sent. */
struct conn_stream {
	bool active;
	bool ends;
	struct task *last; /* after it the next slice is put in; NULL = first of all */
	struct object_head head;
	struct cache_key key; /* data: text */
	uint32_t slice;       /* the last one asked for */
	uint32_t pending;     /* asked for and not sent */
	uint8_t text[MC_KEY_MAX];
	uint16_t partition;
};

struct conn {
	struct worker *worker;
	struct conn *next; /* free, or in the run list */
	struct conn *starved_next;
	int fd;
	bool open, running, starved;
	bool fresh;       /* runs because it has received something */
	bool close_after; /* the replies */
	bool full;        /* the client does not read */
	bool eof;
	uint32_t events; /* epoll is asked for */
	uint8_t *in, *out;
	uint32_t in_start, in_end, in_borrowed;
	uint32_t out_start, out_end;
	uint32_t high; /* most bytes in either since pages were given back */
	bool used;     /* since the last sweep */
	uint64_t swallow;
	struct task *first, *last;
	uint32_t task_count; /* but slices; also those that are on their way back to the pool */
	uint32_t slice_count;
	enum conn_phase phase;
	uint32_t phase_pending;
	/* a get whose keys are being taken */
	struct mc_request keys;
	bool in_keys, keys_begun;
	struct conn_receive receive;
	struct conn_stream stream;
};

int conn_open(struct worker *worker, int fd);
void conn_readable(struct conn *conn);
/* Do what can be done: emit, parse, emit, send. */
void conn_run(struct conn *conn);
/* Put it into the run list. */
void conn_wake(struct conn *conn);
void conn_close(struct conn *conn);
/* If it is closed and nothing of it is anywhere: its place is free. */
void conn_recycle(struct conn *conn);
/* No more input is taken; closes when all replies are sent. */
void conn_finish(struct conn *conn);
/* Append to the replies. */
void conn_append(struct conn *conn, struct task *task);
/* Hand to the owner. */
void conn_send_task(struct conn *conn, struct task *task);
/* A task is the pool's again. */
void conn_freed(struct conn *conn, bool slice);
/* Idle since the last sweep: its pages go back. True: it has some to give at the next one. */
bool conn_sweep(struct conn *conn);
/* The owner says. */
void conn_applied(struct task *task);
void conn_done(struct worker *worker, struct task *task);

/* ---- request.c ---- */
/* Parse and start what may start. */
void conn_parse(struct conn *conn);
/* Fill the key of a task, and who owns it. */
void request_key(struct worker *worker, struct task *task, struct mc_text text);
bool conn_may_start(const struct conn *conn, enum conn_phase phase);

/* ---- receive.c ---- */
/* A value over a slice: its line has come; head is its task. */
void receive_begin(struct conn *conn, struct task *head, uint64_t bytes);
/* Go on with what has come. */
void receive_more(struct conn *conn);
void receive_stored(struct conn *conn, const struct task *slice);

/* ---- stream.c ---- */
/* The head of an object has been answered: its slices follow. */
void stream_begin(struct conn *conn, const struct task *head);
/* Ask for slices ahead. */
void stream_more(struct conn *conn);
/* A slice has been sent. */
void stream_sent(struct conn *conn, struct task *slice);
void stream_end(struct conn *conn);

/* ---- emit.c ---- */
/* Replies at the front that are complete; false: the output is full. */
bool conn_emit(struct conn *conn);
int conn_send(struct conn *conn);
/* Values that wait for those before them move out of their windows. */
void emit_stage(struct worker *worker);
/* Whether it is answered with a value. */
bool conn_reads(const struct task *task);
/* The value of a read is where later requests cannot change it. */
void conn_read_over(struct task *task);
