/* rpc/net_sim.h — a network, a clock and threads that are simulated, under the real client.
 *
 * Model      Programs that link net_sim_lib have sockets, poll, threads, conditions and the clock
 *            of the client taken over by the linker (--wrap). A thread of a client is a coroutine
 *            that runs until it would sleep; everything happens in one thread of the machine, and
 *            net->prng decides what is next. Who waits in the test's own thread has net->turn
 *            called until it may go on.
 *            A connection is two pipes. What was put in has not arrived: net_move lets some bytes
 *            of one pipe arrive, so a frame comes in pieces of any length, connections overtake
 *            each other, and what was sent on one that its client has given up may come late, or
 *            never.
 * Ownership  one net at a time: net_open to net_close.
 * Threads    one. Errors: asserts. */
#pragma once

#include "lib/testlib.h"
#include "os/os.h"

enum {
	NET_CONNS = 96,
	NET_THREADS = 8,
	NET_FD = 1 << 20,           /* the client's end of connection 0 */
	NET_FD_WAKE = NET_FD + 1024 /* its first eventfd */
};

struct net_pipe {
	uint8_t *data;
	uint32_t from, arrived, to; /* read, may be read, was put */
	uint32_t room;              /* bytes it takes before it blocks */
	uint32_t bytes;             /* of data */
};

enum net_cut {
	NET_LOSE_BOTH, /* both know at once; what is under way is gone */
	NET_LOSE_DOWN, /* the client knows; what it sent still comes */
	NET_LOSE_UP,   /* the server knows; what it said still comes */
	NET_LOSE_END,  /* … but not all of it: as if it had hung up in the middle */
	NET_CUTS
};

struct net_conn {
	bool client, server; /* their ends are open */
	bool reset;          /* the client is told so */
	bool connecting;     /* not there yet */
	struct net_pipe up, down;
	int64_t lag_ns;  /* what is under way to the server does not come before */
	uint64_t number; /* of all so far */
	/* the server's */
	bool greeted;
	uint32_t tasks;
};

struct net {
	struct prng prng;
	struct os_sim *os;
	bool listening;
	uint32_t lag_ms; /* how late, at most, comes what was given up */
	void (*turn)(void *arg);
	/* What a client sends, before it is under way. */
	void (*sent)(void *arg, int fd, const uint8_t *data, size_t bytes);
	void *arg;
	struct net_conn conns[NET_CONNS];
	uint64_t conns_made;
	uint64_t trace; /* a hash of all that happened */
};

struct net *net_open(struct os_sim *os, uint64_t seed);
void net_close(void);
void net_trace(struct net *net, uint64_t value);

/* One thread that may run does; false: none may. */
bool net_run_thread(struct net *net);
/* When the next thread wakes by itself. */
int64_t net_wake_ns(const struct net *net);
/* Some bytes arrive; false: none are under way. */
bool net_move(struct net *net);
void net_cut(struct net *net, struct net_conn *conn, enum net_cut how);

/* The server's end: what has arrived; take some; say something; hang up. */
const uint8_t *net_peek(const struct net_conn *conn, uint32_t *ret_bytes);
void net_take(struct net_conn *conn, uint32_t bytes);
void net_say(struct net_conn *conn, const uint8_t *data, uint32_t bytes);
void net_hang_up(struct net_conn *conn);
