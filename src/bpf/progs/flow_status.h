/* bpf/progs/flow_status.h — the states of a connection, and how TCP's flags lead from one to the
 * other. Nothing here writes to an entry but flow_tcp_rtt. */
#pragma once

#include "bpf/progs/flow_parse.h"

#ifdef __bpf__

enum { FLOW_ATTEMPTS = 4, FLOW_SYN_DATA_MAX = 0xffff };

/* One packet, or what a GSO packet will become. */
struct flow_packet {
	struct haul_flow_key key;
	__u64 now;
	__u64 bytes;
	__u32 packets;
	__u32 payload;
	__u32 seq;
	__u32 ifindex;
	__u32 dir;
	__u8 tcp;
	__u8 flags;
};

/* The word that begins with haul_flow_value.state. */
union flow_status {
	struct {
		__u8 state;
		__u8 initiator;
		__u8 tcp_flags[2];
	};
	__u32 word;
};

/* By arithmetic: the verifier has no variable indices into a stack slot. */
static __always_inline __u8 flow_flags(union flow_status status, __u32 dir)
{
	return status.word >> (16 + 8 * (dir & 1));
}

static __always_inline void flow_flags_add(union flow_status *status, __u32 dir, __u8 flags)
{
	status->word |= (__u32)flags << (16 + 8 * (dir & 1));
}

/* Bytes of a stream in the packet. */
static __always_inline __u32 flow_stream(const struct flow_packet *packet)
{
	return packet->flags && !(packet->flags & FLOW_RST) ? packet->payload : 0;
}

/* The number after the packet's last. */
static __always_inline __u32 flow_next(const struct flow_packet *packet)
{
	return packet->seq + flow_stream(packet) + !!(packet->flags & FLOW_SYN) +
	       !!(packet->flags & FLOW_FIN);
}

/* Whether a SYN without ACK begins a connection anew where there was one before: after its end, or
 * (the end was not seen) with a number beyond all that were used. While it is still being opened
 * any number but the one sent before. */
static __always_inline int flow_tcp_again(const struct haul_flow_value *value,
					  const struct flow_packet *packet,
					  union flow_status status)
{
	__s32 beyond = packet->seq + 1 - value->seq_next[packet->dir & 1];
	__u8 state = status.state;
	if (state == HAUL_FLOW_CLOSED || state == HAUL_FLOW_RESET || state == HAUL_FLOW_NEW ||
	    state == HAUL_FLOW_REPLIED)
		return 1;
	if (!flow_flags(status, packet->dir))
		return 0;
	if (state == HAUL_FLOW_ESTABLISHED || state == HAUL_FLOW_CLOSING)
		return beyond > 0;
	return beyond > 0 || beyond < -FLOW_SYN_DATA_MAX;
}

/* State after a SYN with ACK. */
static __always_inline __u8 flow_tcp_answered(union flow_status status)
{
	return status.state == HAUL_FLOW_SYN_SENT ? HAUL_FLOW_SYN_RECV : status.state;
}

static __always_inline __u8 flow_tcp_next(const struct flow_packet *packet,
					  union flow_status status)
{
	__u8 other = flow_flags(status, !packet->dir);
	int sender = packet->dir == status.initiator;
	if (packet->flags & FLOW_RST)
		return HAUL_FLOW_RESET;
	if (status.state == HAUL_FLOW_CLOSED || status.state == HAUL_FLOW_RESET)
		return status.state;
	if (packet->flags & FLOW_SYN) {
		if (packet->flags & FLOW_ACK)
			return flow_tcp_answered(status);
		/* Both ends at once. */
		return status.state == HAUL_FLOW_SYN_SENT && !sender ? HAUL_FLOW_SYN_RECV
								     : status.state;
	}
	if (packet->flags & FLOW_FIN)
		return other & FLOW_FIN ? HAUL_FLOW_CLOSED : HAUL_FLOW_CLOSING;
	if (status.state == HAUL_FLOW_CLOSING)
		return HAUL_FLOW_CLOSING;
	if (status.state == HAUL_FLOW_SYN_SENT && !sender)
		return HAUL_FLOW_SYN_SENT;
	return packet->flags & FLOW_ACK ? HAUL_FLOW_ESTABLISHED : status.state;
}

/* First packet of a connection. */
static __always_inline union flow_status flow_tcp_first(const struct flow_packet *packet)
{
	union flow_status status = { .word = 0 };
	__u8 flags = packet->flags;
	status.initiator = packet->dir;
	status.state = HAUL_FLOW_ESTABLISHED;
	if (flags & FLOW_RST) {
		status.state = HAUL_FLOW_RESET;
	} else if ((flags & FLOW_SYN) && (flags & FLOW_ACK)) {
		status.state = HAUL_FLOW_SYN_RECV;
		status.initiator = !packet->dir;
	} else if (flags & FLOW_SYN) {
		status.state = HAUL_FLOW_SYN_SENT;
	} else if (flags & FLOW_FIN) {
		status.state = HAUL_FLOW_CLOSING;
	}
	flow_flags_add(&status, packet->dir, flags);
	return status;
}

/* Time from SYN to SYN-ACK, unless one of them was sent twice. */
static __always_inline void flow_tcp_rtt(struct haul_flow_value *value,
					 const struct flow_packet *packet, union flow_status before)
{
	__u32 now_us = packet->now / 1000;
	if (before.state != HAUL_FLOW_SYN_SENT || !(packet->flags & FLOW_SYN) ||
	    packet->flags & FLOW_RST)
		return;
	if (packet->dir == before.initiator || !(packet->flags & FLOW_ACK)) {
		value->syn_us = 0;
	} else if (value->syn_us) {
		__u32 rtt_us = now_us - value->syn_us;
		value->rtt_us = rtt_us ? rtt_us : 1;
	}
}
#endif
