/* rpc/net_machine.h — a machine of the simulation: a disk, a store on it that a real server serves,
 * and its power.
 *
 * Model      One thread opens store and server, lets it run, and does so again when the power has
 *            been cut or the server was stopped. A power cut stops disk and network at once; what
 *            the server still does is heard by nobody. Each frame that the server puts into the
 *            store is looked at on its way: what becomes of it has to be what the ledger says.
 *            A write of the log takes a while, in which others go on.
 * Ownership  ledger, net, peers and prng are borrowed. One machine at a time.
 * Threads    those of sim_threads. Errors: asserts. */
#pragma once

#include <pthread.h>

#include "net_ledger.h"
#include "net_peer.h"
#include "net_sim.h"
#include "rpc/store_server.h"
#include "store/store_lab.h"

enum {
	MACHINE_CONNS = 16, /* the server's limit */
	MACHINE_FRAMES = MACHINE_CONNS * 8,
};

/* A frame that the server has put into the store. */
struct machine_frame {
	bool used;
	struct machine *machine;
	struct frame_head head;
	enum ledger_fate fate;
	uint64_t op;
	bool executed;
	store_answered *answered;
	void *arg;
};

struct machine {
	struct store_lab lab;
	struct net *net;
	struct ledger *ledger;
	struct net_peers *peers;
	struct prng *prng;
	struct store_server *server; /* while it runs */
	pthread_t thread;
	bool cut, end;
	uint32_t log_ms; /* a write of the log takes so long at most */
	struct machine_frame frames[MACHINE_FRAMES];
	struct machine_frame *under; /* is being put into the store */
	/* what happened */
	uint64_t power, stops, again, fenced, stale, full, late, twice;
};

/* lab, net, ledger, peers and prng are set. */
void machine_open(struct machine *machine);
/* Stops the server as it is meant to be, and the machine. */
void machine_close(struct machine *machine);
bool machine_is_broken(const struct machine *machine);
/* Nothing is under way in it. */
bool machine_rests(const struct machine *machine);
void machine_power_cut(struct machine *machine);
/* The server is stopped as by a signal, and started again. */
void machine_stop(struct machine *machine);
void machine_heal(struct machine *machine);
void machine_expect(struct machine *machine);
