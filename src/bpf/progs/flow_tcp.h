/* bpf/progs/flow_tcp.h — what a TCP segment does to its connection.
 *
 * Model      State, initiator and flags share one word that changes by compare-and-swap, and so do
 *            the sequence numbers: two CPUs with segments of one connection lose nothing. A segment
 *            that changes no state costs a comparison.
 *            Stream bytes are counted where they go beyond the highest number seen. Segments with
 *            RST or without any flag are of no stream. */
#pragma once

#include "bpf/progs/flow_status.h"

#ifdef __bpf__

enum { FLOW_WINDOW_MAX = 1 << 30 };

/* What of the segment is new, and up to where the stream is known now. */
static __always_inline void flow_tcp_seq(struct haul_flow_value *value,
					 const struct flow_packet *packet)
{
	__u32 dir = packet->dir & 1;
	__u32 bytes = flow_stream(packet);
	__u32 next = flow_next(packet);
	__u32 end = next - !!(packet->flags & FLOW_FIN);
	__s32 limit = packet->flags & FLOW_SYN ? FLOW_SYN_DATA_MAX : FLOW_WINDOW_MAX;
	for (int i = 0; i < FLOW_ATTEMPTS; i++) {
		__u32 seen = *(volatile __u32 *)&value->seq_next[dir];
		__s32 gain = end - seen;
		if (gain > limit || gain < -limit)
			gain = bytes; /* within no window: begin here */
		else if ((__s32)(next - seen) <= 0)
			break;
		if (__sync_val_compare_and_swap(&value->seq_next[dir], seen, next) != seen)
			continue;
		if (gain <= 0)
			break;
		__sync_fetch_and_add(&value->payload[dir], gain);
		return;
	}
	if (bytes)
		__sync_fetch_and_add(&value->retransmits, packet->packets);
}

/* The first segment of its direction. 0: another CPU had it. */
static __always_inline int flow_tcp_seq_first(struct haul_flow_value *value,
					      const struct flow_packet *packet)
{
	__u32 dir = packet->dir & 1;
	__u32 bytes = flow_stream(packet);
	__u32 seen = *(volatile __u32 *)&value->seq_next[dir];
	if (__sync_val_compare_and_swap(&value->seq_next[dir], seen, flow_next(packet)) != seen)
		return 0;
	if (bytes)
		__sync_fetch_and_add(&value->payload[dir], bytes);
	return 1;
}

static __always_inline void flow_tcp_restart(struct haul_flow_value *value,
					     const struct flow_packet *packet)
{
	value->seq_next[0] = 0;
	value->seq_next[1] = 0;
	value->rtt_us = 0;
	value->syn_us = packet->now / 1000;
}

/* The segment in the status word: what it was before (0 for a connection begun anew). */
static __always_inline union flow_status flow_tcp_status(struct haul_flow_value *value,
							 const struct flow_packet *packet)
{
	union flow_status before = { .word = 0 }, after;
	__u32 *word = (__u32 *)(void *)&value->state;
	int opens = (packet->flags & (FLOW_SYN | FLOW_ACK | FLOW_RST)) == FLOW_SYN;
	for (int i = 0; i < FLOW_ATTEMPTS; i++) {
		before.word = *(volatile __u32 *)word;
		int again = opens && flow_tcp_again(value, packet, before);
		after = before;
		if (again) {
			after = flow_tcp_first(packet);
		} else {
			after.state = flow_tcp_next(packet, before);
			flow_flags_add(&after, packet->dir, packet->flags);
		}
		if (after.word != before.word &&
		    __sync_val_compare_and_swap(word, before.word, after.word) != before.word)
			continue;
		if (!again)
			break;
		flow_tcp_restart(value, packet);
		before.word = 0;
		break;
	}
	return before;
}

/* Segments that may change the state, and the first of each direction. */
static __noinline int flow_tcp_turn(struct haul_flow_value *value, const struct flow_packet *packet)
{
	if (!value || !packet)
		return 0;
	union flow_status before = flow_tcp_status(value, packet);
	int opening = before.state == HAUL_FLOW_SYN_SENT || before.state == HAUL_FLOW_SYN_RECV;
	flow_tcp_rtt(value, packet, before);
	if (!packet->flags)
		return 0;
	if (!flow_flags(before, packet->dir) && flow_tcp_seq_first(value, packet))
		return 0;
	/* A SYN from long ago moves nothing, nor does what may be anybody's. */
	if ((packet->flags & FLOW_SYN && !opening) || packet->flags & FLOW_RST)
		return 0;
	if (flow_stream(packet) || packet->flags & (FLOW_SYN | FLOW_FIN))
		flow_tcp_seq(value, packet);
	return 0;
}

static __always_inline void flow_tcp(struct haul_flow_value *value,
				     const struct flow_packet *packet)
{
	union flow_status status = { .word = *(volatile __u32 *)&value->state };
	__u8 seen = flow_flags(status, packet->dir);
	/* Nothing to change: by far the most. */
	if (status.state == HAUL_FLOW_ESTABLISHED &&
	    !(packet->flags & (FLOW_SYN | FLOW_FIN | FLOW_RST)) && !(packet->flags & ~seen)) {
		if (flow_stream(packet))
			flow_tcp_seq(value, packet);
		return;
	}
	flow_tcp_turn(value, packet);
}
#endif
