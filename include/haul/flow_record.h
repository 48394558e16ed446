/* haul/flow_record.h — what one connection looks like, in the kernel's table and outside.
 *
 * Model      Plain structs without padding, shared with the counting program, so the layout is
 *            fixed: 40 bytes of key, 96 of value (asserted where the program is built).
 *            A connection has one entry for both directions: its two ends stand in canonical order,
 *            the smaller (address, then port; compared as big-endian numbers) first, called lo; the
 *            other is hi. Direction 0 is from lo to hi, 1 the other way.
 * Units      _ns nanoseconds of CLOCK_MONOTONIC, _us microseconds, bytes. Ports in host order,
 *            addresses in network order; IPv4 as ::ffff:a.b.c.d.
 * Threads    the kernel's programs write values while they are read: packets, bytes and last_ns of
 *            one value may be a packet apart. No single number is ever torn.
 * Source     RFC 4291 (mapped addresses); timeouts after nf_conntrack-sysctl.rst of the kernel. */
#pragma once

#include <stdint.h>

/* TCP, UDP, SCTP: ports. ICMP and ICMPv6 echo: the identifier as both ports; other ICMP: 0. Other
 * protocols: 0. Fragments but the first have no ports: they count in an entry of their own with
 * ports 0 (and in the total "fragments"). vlan_outer is the tag nearest to the Ethernet header;
 * untagged and priority-tagged frames have 0. */
struct haul_flow_key {
	uint8_t addr_lo[16];
	uint8_t addr_hi[16];
	uint16_t port_lo;
	uint16_t port_hi;
	uint32_t proto : 8; /* IPPROTO_… */
	uint32_t vlan_outer : 12;
	uint32_t vlan_inner : 12;
};

/* X(id, name, timeout in seconds): after so long without a packet an entry is removed. */
#define HAUL_FLOW_STATE_LIST(X)                                                                    \
	X(HAUL_FLOW_NEW, "new", 30)          /* one direction only: UDP, ICMP, SCTP, others */     \
	X(HAUL_FLOW_REPLIED, "replied", 120) /* both directions */                                 \
	X(HAUL_FLOW_SYN_SENT, "syn-sent", 120)                                                     \
	X(HAUL_FLOW_SYN_RECV, "syn-recv", 60)                                                      \
	X(HAUL_FLOW_ESTABLISHED, "established", 432000) /* also TCP met in mid-stream */           \
	X(HAUL_FLOW_CLOSING, "closing", 120)            /* one FIN */                              \
	X(HAUL_FLOW_CLOSED, "closed", 10)               /* both FINs */                            \
	X(HAUL_FLOW_RESET, "reset", 10)

enum haul_flow_state {
#define X(id, name, timeout) id,
	HAUL_FLOW_STATE_LIST(X)
#undef X
		HAUL_FLOW_STATES
};

/* How an entry is removed without losing a packet: the sweep turns LIVE to MARKED when its timeout
 * has passed; a packet turns it back. At least one sweep later (no program that found it LIVE can
 * still be running) the next turns MARKED to DEAD, reports the entry and deletes it. A packet that
 * finds DEAD counts in the total "late". */
enum haul_flow_life { HAUL_FLOW_LIVE = 0, HAUL_FLOW_MARKED = 1, HAUL_FLOW_DEAD = 2 };

enum { HAUL_FLOW_INITIATOR_LO = 0, HAUL_FLOW_INITIATOR_HI = 1 };

struct haul_flow_value {
	/* Each by direction. On the wire: a GSO packet counts as the segments it will become. */
	uint64_t packets[2];
	uint64_t bytes[2];   /* the whole frame, padding included, without FCS */
	uint64_t payload[2]; /* TCP: bytes of the stream, each once, however often sent; others:
			      * behind the L4 (else the IP) header */
	uint64_t first_ns;
	uint64_t last_ns;     /* may lag behind by up to 1 ms */
	uint32_t seq_next[2]; /* TCP: highest sequence number seen, plus one */
	uint32_t life;        /* enum haul_flow_life; low 8 bits. Upper 24: sweep that marked it */
	uint32_t rtt_us;      /* TCP: SYN to SYN-ACK as seen here; 0 = not seen */
	uint32_t syn_us;      /* when the SYN passed (truncated) */
	uint32_t retransmits; /* TCP segments with data, all of which had been seen before */
	uint8_t state;        /* enum haul_flow_state */
	uint8_t initiator;    /* the end that sent the SYN, else the first packet seen */
	uint8_t tcp_flags[2]; /* all flags seen, by direction */
	uint32_t ifindex;     /* where it was first seen */
};

/* Counted on every CPU and added up; X(id, name, help). What passed the hook is exactly
 * packets = (packets of all entries) + overflow + late + removed. The same for bytes. */
#define HAUL_FLOW_TOTAL_LIST(X)                                                                    \
	X(HAUL_FLOW_T_SKBS, "skbs", "packets as the interface counts them (GSO: one)")             \
	X(HAUL_FLOW_T_SKB_BYTES, "skb_bytes", "their bytes as the interface counts them")          \
	X(HAUL_FLOW_T_PACKETS, "packets", "IP packets on the wire (GSO: each segment)")            \
	X(HAUL_FLOW_T_BYTES, "bytes", "their bytes on the wire")                                   \
	X(HAUL_FLOW_T_OVERFLOW, "overflow_packets", "not in the table: it was full")               \
	X(HAUL_FLOW_T_OVERFLOW_BYTES, "overflow_bytes", "their bytes")                             \
	X(HAUL_FLOW_T_LATE, "late_packets", "not in the table: the entry was being removed")       \
	X(HAUL_FLOW_T_LATE_BYTES, "late_bytes", "their bytes")                                     \
	X(HAUL_FLOW_T_REMOVED, "removed_packets", "of entries removed since")                      \
	X(HAUL_FLOW_T_REMOVED_BYTES, "removed_bytes", "their bytes")                               \
	X(HAUL_FLOW_T_NOT_IP, "not_ip", "frames that are neither IPv4 nor IPv6")                   \
	X(HAUL_FLOW_T_MALFORMED, "malformed", "IP packets with headers cut short or wrong")        \
	X(HAUL_FLOW_T_FRAGMENTS, "fragments", "packets of later fragments")                        \
	X(HAUL_FLOW_T_OPENED, "opened", "entries made")                                            \
	X(HAUL_FLOW_T_CLOSED, "closed", "entries removed")                                         \
	X(HAUL_FLOW_T_REPORTED, "reported", "of them given to the event ring")                     \
	X(HAUL_FLOW_T_UNREPORTED, "unreported",                                                    \
	  "of them not: nobody listened, or the ring was full")                                    \
	X(HAUL_FLOW_T_HELD, "held", "times an entry stayed because the event ring was full")       \
	X(HAUL_FLOW_T_SWEEPS, "sweeps", "shards swept for timeouts")                               \
	X(HAUL_FLOW_T_UNANNOUNCED, "unannounced", "opened events that found the ring full")

enum haul_flow_total {
#define X(id, name, help) id,
	HAUL_FLOW_TOTAL_LIST(X)
#undef X
		HAUL_FLOW_TOTALS
};

enum haul_flow_event_kind { HAUL_FLOW_EVENT_OPENED = 1, HAUL_FLOW_EVENT_CLOSED = 2 };

/* What the event ring carries. */
struct haul_flow_event {
	uint32_t kind; /* enum haul_flow_event_kind */
	uint32_t reserved;
	struct haul_flow_key key;
	struct haul_flow_value value; /* as it was; final when closed */
};
