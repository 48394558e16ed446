/* rpc/net_sim.h — a network that is simulated, under real clients and the real server.
 *
 * Model      Beside sim_threads the linker takes sockets, eventfds, poll and epoll of the program
 *            over: clients connect to the one listener there is. A connection is two pipes. What
 *            was put in has not arrived: net_move lets some bytes of one pipe arrive, so a frame
 *            comes in pieces of any length, connections overtake each other, and what was sent on
 *            one that its client has given up may come late, or never.
 *            A peer is a client's end that the test itself holds: net_dial, net_send, net_receive.
 * Ownership  one net at a time: net_open to net_close.
 * Threads    those of sim_threads. Errors: asserts. */
#pragma once

#include "sim_threads.h"

enum {
	NET_CONNS = 96,
	NET_WAKES = 16,
	NET_FD = 1 << 20,            /* first of both ends of connections; even: a client's */
	NET_FD_WAKE = NET_FD + 1024, /* the first eventfd */
	NET_FD_LISTEN = NET_FD + 2048,
	NET_FD_EPOLL,
};

struct net_pipe {
	uint8_t *data;
	uint32_t from, arrived, to; /* read, may be read, was put */
	uint32_t room;              /* bytes it takes before it blocks */
	uint32_t bytes;             /* of data */
	bool ended;                 /* nothing more is put */
	int64_t lag_ns;             /* what is under way is not seen before */
};

struct net_end {
	bool open;
	bool reset;          /* it is told so */
	struct net_pipe out; /* what it puts */
	uint32_t events;     /* asked of epoll */
	bool watched;
	void *data; /* epoll's */
};

enum net_side { NET_CLIENT, NET_SERVER, NET_SIDES };

struct net_conn {
	struct net_end ends[NET_SIDES];
	bool connecting; /* not there yet */
	bool accepted;
	bool peer;       /* the client's end is the test's */
	uint64_t number; /* of all so far */
};

enum net_cut {
	NET_LOSE_BOTH, /* both know at once; what is under way is gone */
	NET_LOSE_DOWN, /* the client knows; what it sent still comes */
	NET_LOSE_UP,   /* the server knows; what it said still comes */
	NET_LOSE_END,  /* … but not all of it: as if it had hung up in the middle */
	NET_CUTS
};

struct net {
	struct sim_threads *threads;
	struct prng prng;
	bool listening, listens_asked; /* of epoll */
	void *listener;                /* epoll's data */
	bool polls_wake;               /* epoll asks for the server's eventfd */
	int server_wake;
	uint32_t lag_ms;     /* how late, at most, comes what was given up */
	uint32_t one_refuse; /* accepts of which one finds no descriptor; 0 = none */
	/* What a client sends, before it is under way. */
	void (*sent)(void *arg, const uint8_t *data, size_t bytes);
	void *arg;
	struct net_conn conns[NET_CONNS];
	uint64_t conns_made;
};

struct net *net_open(struct sim_threads *threads, uint64_t seed);
void net_close(void);

/* Some bytes arrive; false: none are under way. */
bool net_move(struct net *net);
void net_cut(struct net *net, struct net_conn *conn, enum net_cut how);
/* The server's end of this descriptor. */
struct net_conn *net_conn_of(int fd);
/* Whether there is anything for the server to do: bytes to read, or an end to see. */
bool net_server_has_work(const struct net *net);

/* A peer. NULL: nobody listens. */
struct net_conn *net_dial(struct net *net);
/* Bytes that it took. */
uint32_t net_send(struct net_conn *conn, const uint8_t *data, uint32_t bytes);
/* Bytes that came, 0: none yet; negative: there will be none any more. */
int net_receive(struct net_conn *conn, uint8_t *data, uint32_t bytes);
void net_hang_up(struct net_conn *conn);

/* ---- what net_poll.c needs ---- */

bool net_may_read(const struct net_conn *conn, enum net_side side);
bool net_may_write(const struct net_conn *conn, enum net_side side);
struct net_socket {
	struct net_conn *conn; /* NULL: the descriptor is none of these */
	enum net_side side;
};
struct net_socket net_socket_of(int fd);
bool net_has_caller(const struct net *net);
