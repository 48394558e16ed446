/* bpf/flow_net.h — two namespaces with a veth pair between them, and a BPF file system of our own:
 * what tests of attached connection tables stand on.
 *
 * The interface is "veth0" on both sides, 10.9.0.1 and 10.9.0.2, fd09::1 and fd09::2. Nobody else
 * sends anything there but ARP and neighbour discovery. All calls fail the test when they cannot do
 * it; flow_net_open skips it (77) without root, namespaces or BPF. The mount namespace is the
 * test's own from then on, so that nothing stays mounted whatever happens. */
#pragma once

#include <haul/flow.h>
#include "bpf/flow_state.h"

enum { FLOW_NET_SIDES = 2, FLOW_NET_PATH = 64 };

struct flow_net {
	int netns_fd[FLOW_NET_SIDES];
	struct flow_env env;
	char folder[FLOW_NET_PATH];
};

struct flow_net_counters {
	uint64_t rx_bytes, rx_packets, tx_bytes, tx_packets;
};

void flow_net_open(struct flow_net *net);
void flow_net_close(struct flow_net *net);

/* flows_create_in on that side; its code. */
int flow_net_try(struct flow_net *net, int side, const struct haul_flows_options *options,
		 struct haul_flows **ret_flows, struct haul_err *err);
/* The same for veth0 and without a timer, unless options (may be NULL) say otherwise. */
struct haul_flows *flow_net_flows(struct flow_net *net, int side,
				  const struct haul_flows_options *options);
/* haul_flows_close there. */
void flow_net_done(const struct flow_net *net, int side, struct haul_flows *flows);
/* flows_detach_in on that side; its code. */
int flow_net_detach(struct flow_net *net, int side, const char *name, struct haul_err *err);
/* Call inside(arg) there. */
int flow_net_call(const struct flow_net *net, int side, int (*inside)(void *arg), void *arg);
/* Run a program there; its output into text (may be NULL). Its exit status. */
int flow_net_run(const struct flow_net *net, int side, const char *const argv[], char *text,
		 size_t bytes);
/* What the interface has counted. */
void flow_net_count(const struct flow_net *net, int side, const char *ifname,
		    struct flow_net_counters *ret_counters);
/* Segmentation and coalescing, on veth0 of both sides. */
void flow_net_offloads(const struct flow_net *net, bool on);
/* Ask again and again, for at most ten seconds, until holds(arg) is not 0. */
void flow_net_wait(int (*holds)(void *arg), void *arg);

/* ---- traffic ---- */

/* A socket there, non-blocking, bound to the side's address (v6: IPv6) and port (0 = any). */
int flow_net_socket(const struct flow_net *net, int side, int type, bool v6, uint16_t port);
uint16_t flow_net_port(int fd);
/* count datagrams of so many bytes to the other side; nobody needs to listen. IPv4. */
void flow_net_udp(int fd, int to_side, uint16_t port, uint32_t count, uint32_t payload_bytes);
/* Connect, send so many bytes from side to the other, close both ends in order; returns the port
 * of the listener and, if asked, of the other end. */
uint16_t flow_net_tcp(const struct flow_net *net, int side, bool v6, uint64_t bytes,
		      uint16_t *ret_from_port);

/* ---- tables ---- */

/* All entries; returns how many there are (at most max are stored). */
uint32_t flow_net_entries(struct haul_flows *flows, struct haul_flow_key *keys,
			  struct haul_flow_value *values, uint32_t max);
uint64_t flow_net_total(struct haul_flows *flows, enum haul_flow_total total);
/* packets = entries + overflow + late + removed, the same for bytes. Traffic must rest. */
void flow_net_balance(struct haul_flows *flows);
/* A key between the two sides' IPv4 addresses; ports by side. */
struct haul_flow_key flow_net_key(uint8_t proto, uint16_t port0, uint16_t port1);

/* ---- objects of the kernel ---- */

enum { FLOW_NET_IDS = 128 };
/* All maps, programs and links of one table. */
struct flow_net_ids {
	uint32_t count;
	char kind[FLOW_NET_IDS]; /* 'm', 'p', 'l' */
	uint32_t id[FLOW_NET_IDS];
};
void flow_net_ids(struct haul_flows *flows, struct flow_net_ids *ret_ids);
/* Wait until none of them is there any more: the kernel takes its time. */
void flow_net_gone(struct flow_net_ids *ids);
/* How many programs are on veth0's TCX hook. */
int flow_net_tcx(const struct flow_net *net, int side, bool egress);
