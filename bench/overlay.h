/* bench/overlay.h — two real nodes, an RSU and an OBU, in two namespaces joined by a veth pair:
 * what the tap bench sends its traffic through.
 * Ownership: overlay_close stops the processes and lets the namespaces go.
 * Threads: one. Errors: -EPERM without root. Blocking: yes. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <haul/err.h>

#define OVERLAY_RSU_ADDRESS "10.51.0.1"
#define OVERLAY_OBU_ADDRESS "10.51.0.2"

struct overlay {
	int rsu_netns;
	int obu_netns;
	pid_t rsu; /* 0 = not running */
	pid_t obu;
	const char *program; /* path of the haul program */
	char directory[32];  /* holds configurations and control sockets */
};

/* How the nodes of a start differ. */
struct overlay_nodes {
	bool rsu_individual; /* one frame a call, no offloads, no aggregates */
	bool obu_individual;
	uint32_t tap_mtu_bytes; /* 0 = 1400 */
};

/* Namespaces and veth only. program: path of the haul program, lives as long as the overlay. */
int overlay_open(struct overlay *overlay, const char *program, uint32_t wire_mtu_bytes,
		 struct haul_err *err);
void overlay_close(struct overlay *overlay);

/* Cut superframes to the MTU on the wire (with GRO at the receiver), or let them cross whole. */
int overlay_split(const struct overlay *overlay, bool split, struct haul_err *err);

/* Start both nodes and wait until a ping has crossed. */
int overlay_start(struct overlay *overlay, const struct overlay_nodes *nodes, struct haul_err *err);
void overlay_stop(struct overlay *overlay);

/* What a node's control socket answers (a new reference), NULL when it does not. role: "rsu",
 * "obu". */
json_t *overlay_status(const struct overlay *overlay, const char *role);

/* Sums over the data links (TAP and radio) of both nodes since their start. */
struct overlay_figures {
	double frames;
	double batches;
	double syscalls;
};
int overlay_figures(const struct overlay *overlay, struct overlay_figures *ret_figures,
		    struct haul_err *err);
