/* haul/flow.h — a live table of every connection that passes an interface.
 *
 * Model      A small program on the interface's tc hooks (TCX, else clsact; XDP for ingress as an
 *            option) counts each packet in a table of shards: an array of preallocated hash maps,
 *            the shard chosen by a salted hash. A timer inside the kernel removes what has been
 *            silent for longer than its state allows, so a pinned table needs no process of ours.
 *            It always returns "next": other programs on the hook go on to see every packet.
 *            A packet of the loopback interface passes both hooks, and counts twice.
 *            When the table is full nothing is evicted: the packet counts in totals as overflow.
 *            See flow_record.h for entries, totals and their invariant.
 * Units      _ns nanoseconds of CLOCK_MONOTONIC; bytes as on the wire.
 * Ownership  haul_flows is the caller's until haul_flows_close. Unpinned, everything in the kernel
 *            goes with it, even if the process is killed (but for clsact's filters, which need an
 *            orderly close); pinned, it stays until haul_flows_detach.
 * Memory     entries_max × about 230 bytes in the kernel, taken when it is made.
 * Threads    one thread at a time a haul_flows; several processes may open one pinned table.
 *            Interval mode is for one of them at a time (guarded by a lock: -EBUSY).
 * Errors     with one line of text: -EPERM no privilege, -ENOTSUP no BPF or no BTF in this kernel,
 *            -ENODEV no such interface, -EEXIST already attached, -ENOENT not attached.
 * Limits     HAUL_FLOWS_ENTRIES_MAX entries, HAUL_FLOWS_SHARDS_MAX shards, HAUL_FLOWS_NAME bytes.
 * Source     docs/design/0011. */
#pragma once

#include <haul/flow_record.h>
#include <haul/map.h>
#include <haul/map_file.h>

enum {
	HAUL_FLOWS_NAME = 32,
	HAUL_FLOWS_ENTRIES = 65536, /* default */
	HAUL_FLOWS_ENTRIES_MAX = 16777216,
	HAUL_FLOWS_SHARDS_MAX = 256,
	HAUL_FLOWS_SHARD_ENTRIES = 4096, /* aimed at: sweeping one is one stretch in softirq */
	HAUL_FLOWS_SWEEP_MS = 1000,      /* default: each shard is swept so often */
	HAUL_FLOWS_RING_BYTES = 1048576, /* default of the event ring */
	HAUL_FLOW_TEXT = 128
};
#define HAUL_FLOWS_PIN_FOLDER "/sys/fs/bpf/haul/flows"

enum haul_flows_hook {
	HAUL_FLOWS_TC, /* TCX, or clsact where the kernel has none; both directions */
	HAUL_FLOWS_XDP /* XDP for ingress (no GSO there), tc for egress */
};

struct haul_flows_options {
	const char *ifname; /* of the calling thread's network namespace */
	enum haul_flows_hook hook;
	uint32_t entries_max; /* 0 = HAUL_FLOWS_ENTRIES; rounded up to the shards' sizes */
	uint32_t shards;      /* power of two; 0 = by entries_max */
	uint32_t
		sweep_ms; /* 0 = default; UINT32_MAX = no timer: the caller runs haul_flows_clean */
	uint32_t ring_bytes;                  /* power of two, whole pages; 0 = default */
	uint32_t timeout_s[HAUL_FLOW_STATES]; /* 0 = the state's default */
};

struct haul_flows; /* opaque */

/* Load, attach, start sweeping. Nothing is left behind on failure. */
HAUL_API int haul_flows_create(struct haul_flows **ret_flows,
			       const struct haul_flows_options *options, struct haul_err *err);
/* Keep it beyond this process, as HAUL_FLOWS_PIN_FOLDER/name; mounts bpffs if need be. */
HAUL_API int haul_flows_pin(struct haul_flows *flows, const char *name, struct haul_err *err);
/* A pinned one. */
HAUL_API int haul_flows_open(struct haul_flows **ret_flows, const char *name, struct haul_err *err);
HAUL_API void haul_flows_close(struct haul_flows *flows);
/* Detach and unpin; also what a failed or half-done attach left. */
HAUL_API int haul_flows_detach(const char *name, struct haul_err *err);
/* Names of all pinned tables, in order; returns how many. */
HAUL_API int haul_flows_each(int (*visit)(const char *name, void *arg), void *arg,
			     struct haul_err *err);

struct haul_flows_info {
	char name[HAUL_FLOWS_NAME]; /* "" = not pinned */
	char ifname[16];            /* as it was when attached */
	uint32_t ifindex;
	uint64_t netns_cookie; /* of the namespace it is in */
	const char *hook;      /* "tcx", "clsact", "xdp+tcx", "xdp+clsact"; "xdpgeneric+…" where
				* the driver has no XDP */
	uint32_t entries_max;
	uint32_t shards;
	uint32_t sweep_ms;
	uint32_t timeout_s[HAUL_FLOW_STATES];
	uint64_t memory_bytes;
	int64_t attached_ns;
};
HAUL_API const struct haul_flows_info *haul_flows_info(const struct haul_flows *flows);
/* The block "flows.<name>": reads of the table, and the totals as counters. */
HAUL_API struct haul_stats *haul_flows_stats(struct haul_flows *flows);

/* ---- read ---- */

/* All given conditions must hold. Zero = any. */
struct haul_flow_query {
	uint8_t proto;
	uint16_t port;       /* of either end */
	uint8_t addr[16];    /* of either end … */
	uint8_t addr_prefix; /* … compared in so many bits, 1 … 128 (IPv4: 96 more than usual) */
	uint32_t states;     /* bit 1 << state */
	uint64_t bytes_min;  /* both directions */
	uint64_t seen_since_ns; /* last_ns at or after */
	uint64_t idle_since_ns; /* last_ns before */
};
/* columns: keys are struct haul_flow_key, values struct haul_flow_value. What is in the table all
 * the time is visited exactly once, also while other connections come and go. */
HAUL_API int haul_flows_scan(struct haul_flows *flows, const struct haul_flow_query *query,
			     int (*visit)(const struct haul_map_batch *batch, void *arg), void *arg,
			     struct haul_map_report *ret_report);
/* rows as in map.h; a batch of keys in one call a shard. */
HAUL_API int haul_flows_get(struct haul_flows *flows, const struct haul_map_rows *rows,
			    struct haul_map_result *ret_result);
/* Put entries (a restored table, a simulated one): counted as opened, with what they have in
 * packets and bytes. Entries that are there get the new values: what passes meanwhile is lost from
 * them. Times ahead of now become now. -E2BIG in a row's status: its shard is full. */
HAUL_API int haul_flows_put(struct haul_flows *flows, const struct haul_map_rows *rows,
			    struct haul_map_result *ret_result);
HAUL_API int haul_flows_count(struct haul_flows *flows, uint64_t *ret_count);
HAUL_API int haul_flows_totals(struct haul_flows *flows, uint64_t ret_totals[HAUL_FLOW_TOTALS]);

struct haul_flow_group {
	uint64_t connections;
	uint64_t packets;
	uint64_t bytes;
};
enum { HAUL_FLOW_SUMMARY_PORTS = 4096 };
struct haul_flows_summary {
	struct haul_flow_group all;
	double packets_mean, bytes_mean; /* a connection; 0 when there is none */
	struct haul_flow_group by_proto[256];
	struct haul_flow_group by_state[HAUL_FLOW_STATES];
	uint32_t port_count; /* in by_port, most bytes first */
	struct {
		uint16_t port; /* of the end that did not begin it: the service */
		uint8_t proto;
		struct haul_flow_group group;
	} by_port[HAUL_FLOW_SUMMARY_PORTS];
	struct haul_flow_group other_ports; /* beyond HAUL_FLOW_SUMMARY_PORTS */
	uint64_t totals[HAUL_FLOW_TOTALS];
	struct haul_map_report report;
};
HAUL_API int haul_flows_summary(struct haul_flows *flows, const struct haul_flow_query *query,
				struct haul_flows_summary *ret_summary);

/* ---- age ---- */

/* Remove what has had no packet since cutoff_ns (and what its state's timeout says), in the kernel,
 * losing no packet; each is reported in the event ring first. 0 = only timeouts. done = removed. */
HAUL_API int haul_flows_clean(struct haul_flows *flows, uint64_t cutoff_ns,
			      struct haul_map_result *ret_result);
/* Exact deltas: shards are replaced by empty ones, a few at a time; when no program can still be
 * writing to them visit gets all their entries, once each, and then they are gone. Long connections
 * come back as new entries. The totals stay exact: nothing is lost and nothing counted twice.
 * Removed entries count in "removed", and are not reported as events. A visit that returns other
 * than 0 gets the rest of those few shards nonetheless (nobody else could), but no others. */
HAUL_API int haul_flows_interval(struct haul_flows *flows,
				 int (*visit)(const struct haul_map_batch *batch, void *arg),
				 void *arg, struct haul_map_report *ret_report);

/* ---- events ---- */

/* Ask the program to report opened and closed connections to us; one listener a table (-EBUSY). The
 * listener must go on polling: a closed entry stays in the table until the ring has room, for at
 * most HAUL_FLOWS_HOLD_S. Ends with unlisten, close, or the death of the process. */
enum { HAUL_FLOWS_HOLD_S = 60 };
HAUL_API int haul_flows_listen(struct haul_flows *flows, struct haul_err *err);
HAUL_API void haul_flows_unlisten(struct haul_flows *flows);
/* Wait at most timeout_ms (-1 = for ever, 0 = not at all) and hand over what is there, in batches.
 * Returns the number of events; -EINTR on a signal. */
HAUL_API int haul_flows_poll(struct haul_flows *flows, int timeout_ms,
			     void (*visit)(const struct haul_flow_event *events, uint32_t count,
					   void *arg),
			     void *arg);

/* ---- files, text ---- */

HAUL_API int haul_flows_export(struct haul_flows *flows, const char *path,
			       const struct haul_map_export *options,
			       struct haul_map_file_report *ret_report, struct haul_err *err);
HAUL_API int haul_flows_import(struct haul_flows *flows, const char *path,
			       const struct haul_map_import *options,
			       struct haul_map_file_report *ret_report, struct haul_err *err);

HAUL_API const char *haul_flow_state_name(uint8_t state);
/* "tcp", "icmp6" …, or the number. */
HAUL_API const char *haul_flow_proto_name(uint8_t proto, char buffer[8]);
/* "192.0.2.1:443", "[2001:db8::1]:443"; the port only if with_port. end: 0 lo, 1 hi. */
HAUL_API void haul_flow_end_text(const struct haul_flow_key *key, int end, int with_port,
				 char ret_text[HAUL_FLOW_TEXT]);
