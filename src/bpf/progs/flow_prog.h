/* bpf/progs/flow_prog.h — what the connection table's programs and the library agree on.
 *
 * Model      progs/flow.bpf.c holds these maps and programs; flow_*.c loads, pins and reads them.
 *
 *   maps      shards   ARRAY_OF_MAPS of HASH (haul_flow_key -> haul_flow_value), preallocated
 *             totals   PERCPU_ARRAY, one entry: uint64_t[HAUL_FLOW_TOTALS]
 *             control  ARRAY, one entry, BPF_F_MMAPABLE: struct flow_control
 *             events   RINGBUF of struct haul_flow_event
 *             sweeper  ARRAY, one entry: struct flow_sweeper (a bpf_timer inside)
 *             .rodata  struct flow_config, set before load, frozen
 *   programs  flow_ingress, flow_egress   tc; they do the same: one is loaded for both sides, or
 *                                         the latter alone beside flow_xdp
 *             flow_xdp                    xdp (ingress)
 *             flow_start                  tc; run once by PROG_TEST_RUN: starts the timer
 *             flow_sweep                  syscall; ctx is struct flow_sweep_args
 *
 * Both sides compile this file; only <stdint.h> here. */
#pragma once

#include <stdint.h>

#include <haul/flow_record.h>

_Static_assert(sizeof(struct haul_flow_key) == 40, "the key is 40 bytes");
_Static_assert(sizeof(struct haul_flow_value) == 96, "the value is 96 bytes");
_Static_assert(sizeof(struct haul_flow_event) == 144, "events have no padding");

struct flow_config {
	uint64_t salt;
	uint64_t tick_ns; /* from one shard to the next: sweep period / shards */
	uint64_t hold_ns; /* longest that an entry waits for room in the ring */
	uint64_t timeout_ns[HAUL_FLOW_STATES];
	uint32_t shard_mask; /* shards - 1 */
	uint32_t l2_bytes;   /* 14, or 0 on interfaces without Ethernet headers (TUN) */
	/* 1: the interface's own counters leave out a VLAN tag that goes beside the frame (veth);
	 * 0: they count it (TAP, hardware). Only for the total skb_bytes. */
	uint32_t tag_uncounted;
	uint32_t reserved;
};

struct flow_control {
	uint32_t listener; /* pid of who polls the ring; 0 = nobody */
	uint32_t reserved;
	/* What user space did to the table, so that the totals stay exact: added to totals of the
	 * same index when they are read. */
	uint64_t extra[HAUL_FLOW_TOTALS];
};

/* One sweep of one shard by system call: the same code as the timer's. Between marking and
 * harvesting the caller waits until no program that ran while it marked can still run (an RCU
 * grace period). The timer holds still for FLOW_PAUSE_NS after each such call, so that it does not
 * harvest what the caller has just marked. */
enum { FLOW_PAUSE_NS = 1000000000 };
struct flow_sweep_args {
	/* in */
	uint64_t now_ns;    /* 0 = bpf_ktime_get_ns() */
	uint64_t cutoff_ns; /* besides timeouts: expired when last_ns is before; 0 = none */
	uint32_t shard;
	uint32_t mark;    /* 1: LIVE and expired -> MARKED */
	uint32_t harvest; /* 1: MARKED by an earlier generation -> DEAD, reported, deleted */
	uint32_t generation;
	/* out */
	uint64_t visited;
	uint64_t marked;
	uint64_t removed;
	uint64_t held; /* MARKED, but the ring was full */
};
