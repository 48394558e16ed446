/* bpf/progs/flow_count.h — add one packet to its connection.
 *
 * Model      A connection that is known costs two lookups and the additions. One that is not is
 *            inserted with its first packet already in it; who loses that race adds to the winner's.
 *            State, initiator and flags share one word that changes by compare-and-swap, TCP's
 *            sequence numbers likewise: two CPUs with packets of one connection lose nothing.
 * Threads    any CPU, packets of one connection included. */
#pragma once

#include "bpf/progs/flow_parse.h"

#ifdef __bpf__
/* clang-format off */
#include <linux/errno.h>
/* clang-format on */

#include "bpf/progs/flow_hash.h"
#include "bpf/progs/flow_maps.h"

enum { FLOW_LAST_STEP_NS = 1000000, FLOW_ATTEMPTS = 4, FLOW_WINDOW_MAX = 1 << 30 };
enum { FLOW_LIFE_MASK = 0xff };

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

/* ---- TCP ---- */

/* A SYN without ACK that begins a connection anew where there was one before: after its end, or (the
 * end was not seen) with a number that lies beyond all that were used. */
static __always_inline int flow_tcp_again(const struct haul_flow_value *value,
					  const struct flow_packet *packet,
					  union flow_status status)
{
	if (status.state != HAUL_FLOW_ESTABLISHED && status.state != HAUL_FLOW_CLOSING)
		return status.state == HAUL_FLOW_CLOSED || status.state == HAUL_FLOW_RESET ||
		       status.state == HAUL_FLOW_NEW || status.state == HAUL_FLOW_REPLIED;
	if (!flow_flags(status, packet->dir))
		return 0;
	return (__s32)(packet->seq + 1 - value->seq_next[packet->dir & 1]) > 0;
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
	if (before.state != HAUL_FLOW_SYN_SENT || !(packet->flags & FLOW_SYN))
		return;
	if (packet->dir == before.initiator || !(packet->flags & FLOW_ACK)) {
		value->syn_us = 0;
	} else if (value->syn_us) {
		__u32 rtt_us = now_us - value->syn_us;
		value->rtt_us = rtt_us ? rtt_us : 1;
	}
}

/* What of the segment is new, and up to where the stream is known now. */
static __always_inline void flow_tcp_seq(struct haul_flow_value *value,
					 const struct flow_packet *packet)
{
	__u32 dir = packet->dir & 1;
	__u32 begin = packet->seq + !!(packet->flags & FLOW_SYN);
	__u32 end = begin + packet->payload;
	__u32 next = end + !!(packet->flags & FLOW_FIN);
	for (int i = 0; i < FLOW_ATTEMPTS; i++) {
		__u32 seen = *(volatile __u32 *)&value->seq_next[dir];
		__s32 gain = end - seen;
		if (gain > FLOW_WINDOW_MAX || gain < -FLOW_WINDOW_MAX)
			gain = packet->payload; /* of no window: start from here */
		else if ((__s32)(next - seen) <= 0)
			break;
		if (__sync_val_compare_and_swap(&value->seq_next[dir], seen, next) != seen)
			continue;
		if (gain > 0)
			__sync_fetch_and_add(&value->payload[dir], gain);
		else if (packet->payload)
			__sync_fetch_and_add(&value->retransmits, packet->packets);
		return;
	}
	if (packet->payload)
		__sync_fetch_and_add(&value->retransmits, packet->packets);
}

/* The first segment of its direction; who loses the race goes the usual way. */
static __always_inline int flow_tcp_seq_first(struct haul_flow_value *value,
					      const struct flow_packet *packet)
{
	__u32 dir = packet->dir & 1;
	__u32 next = packet->seq + packet->payload + !!(packet->flags & FLOW_SYN) +
		     !!(packet->flags & FLOW_FIN);
	__u32 seen = *(volatile __u32 *)&value->seq_next[dir];
	if (__sync_val_compare_and_swap(&value->seq_next[dir], seen, next) != seen)
		return 0;
	if (packet->payload)
		__sync_fetch_and_add(&value->payload[dir], packet->payload);
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

/* All that changes state, and what comes before the first acknowledged one. */
static __noinline int flow_tcp_turn(struct haul_flow_value *value, const struct flow_packet *packet)
{
	__u32 dir = packet->dir & 1;
	union flow_status before, after;
	if (!value || !packet)
		return 0;
	int opens = (packet->flags & (FLOW_SYN | FLOW_ACK | FLOW_RST)) == FLOW_SYN;
	for (int i = 0; i < FLOW_ATTEMPTS; i++) {
		before.word = *(volatile __u32 *)&value->state;
		int again = opens && flow_tcp_again(value, packet, before);
		if (again) {
			after = flow_tcp_first(packet);
		} else {
			after = before;
			after.state = flow_tcp_next(packet, before);
			flow_flags_add(&after, dir, packet->flags);
		}
		__u32 *word = (__u32 *)(void *)&value->state;
		if (__sync_val_compare_and_swap(word, before.word, after.word) != before.word)
			continue;
		if (again) {
			flow_tcp_restart(value, packet);
			before.word = 0;
		} else {
			flow_tcp_rtt(value, packet, before);
		}
		break;
	}
	if (packet->flags & FLOW_RST)
		return 0;
	if (!flow_flags(before, dir) && flow_tcp_seq_first(value, packet))
		return 0;
	if (packet->payload || packet->flags & (FLOW_SYN | FLOW_FIN))
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
		if (packet->payload)
			flow_tcp_seq(value, packet);
		return;
	}
	flow_tcp_turn(value, packet);
}

/* ---- everything ---- */

static __always_inline void flow_plain(struct haul_flow_value *value,
				       const struct flow_packet *packet)
{
	union flow_status before = { .word = *(volatile __u32 *)&value->state };
	union flow_status after = before;
	if (packet->payload)
		__sync_fetch_and_add(&value->payload[packet->dir & 1], packet->payload);
	if (before.state != HAUL_FLOW_NEW || before.initiator == packet->dir)
		return;
	after.state = HAUL_FLOW_REPLIED;
	/* Who comes second finds what it wanted. */
	__sync_val_compare_and_swap((__u32 *)(void *)&value->state, before.word, after.word);
}

/* An entry that is about to be removed stays for this packet; 0: too late. */
static __always_inline int flow_alive(struct haul_flow_value *value)
{
	for (int i = 0; i < FLOW_ATTEMPTS; i++) {
		__u32 life = *(volatile __u32 *)&value->life;
		if ((life & FLOW_LIFE_MASK) == HAUL_FLOW_LIVE)
			return 1;
		if ((life & FLOW_LIFE_MASK) == HAUL_FLOW_DEAD)
			return 0;
		if (__sync_val_compare_and_swap(&value->life, life, HAUL_FLOW_LIVE) == life)
			return 1;
	}
	return 0;
}

/* To an entry that is there; 0: it is being removed. */
static __always_inline int flow_known(struct haul_flow_value *value,
				      const struct flow_packet *packet)
{
	__u32 dir = packet->dir & 1;
	if (*(volatile __u32 *)&value->life != HAUL_FLOW_LIVE && !flow_alive(value))
		return 0;
	__sync_fetch_and_add(&value->packets[dir], packet->packets);
	__sync_fetch_and_add(&value->bytes[dir], packet->bytes);
	if ((__s64)(packet->now - value->last_ns) >= FLOW_LAST_STEP_NS)
		value->last_ns = packet->now;
	if (packet->tcp)
		flow_tcp(value, packet);
	else
		flow_plain(value, packet);
	return 1;
}

static __always_inline void flow_announce(const struct flow_packet *packet,
					  const struct haul_flow_value *value,
					  struct flow_totals *totals)
{
	struct flow_control *control = flow_control();
	if (!control || !control->listener)
		return;
	struct haul_flow_event *event = bpf_ringbuf_reserve(&events, sizeof *event, 0);
	if (!event) {
		totals->count[HAUL_FLOW_T_UNANNOUNCED]++;
		return;
	}
	event->kind = HAUL_FLOW_EVENT_OPENED;
	event->reserved = 0;
	event->key = packet->key;
	event->value = *value;
	bpf_ringbuf_submit(event, 0);
}

/* 1 inserted, 0 not: somebody else was first, or there is no room. */
static __noinline int flow_insert(void *table, const struct flow_packet *packet)
{
	struct haul_flow_value value = { .first_ns = packet->now, .last_ns = packet->now };
	union flow_status status = { .word = 0 };
	if (packet->tcp) {
		status = flow_tcp_first(packet);
		if (status.state == HAUL_FLOW_SYN_SENT)
			value.syn_us = packet->now / 1000;
	} else {
		status.initiator = packet->dir;
	}
	__u32 next = packet->seq + packet->payload + !!(packet->flags & FLOW_SYN) +
		     !!(packet->flags & FLOW_FIN);
	int counts = packet->tcp && !(packet->flags & FLOW_RST);
	if (packet->dir) {
		value.packets[1] = packet->packets;
		value.bytes[1] = packet->bytes;
		value.payload[1] = packet->tcp && !counts ? 0 : packet->payload;
		value.seq_next[1] = counts ? next : 0;
	} else {
		value.packets[0] = packet->packets;
		value.bytes[0] = packet->bytes;
		value.payload[0] = packet->tcp && !counts ? 0 : packet->payload;
		value.seq_next[0] = counts ? next : 0;
	}
	value.state = status.state;
	value.initiator = status.initiator;
	value.tcp_flags[0] = status.tcp_flags[0];
	value.tcp_flags[1] = status.tcp_flags[1];
	value.ifindex = packet->ifindex;
	if (bpf_map_update_elem(table, &packet->key, &value, BPF_NOEXIST))
		return 0;
	struct flow_totals *totals = flow_totals();
	if (!totals)
		return 1;
	totals->count[HAUL_FLOW_T_OPENED]++;
	flow_announce(packet, &value, totals);
	return 1;
}

static __always_inline void flow_count(const struct flow_packet *packet, struct flow_totals *totals)
{
	enum haul_flow_total lost = HAUL_FLOW_T_OVERFLOW;
	__u32 shard = flow_shard(&packet->key, flow_config.salt, flow_config.shard_mask);
	void *table = bpf_map_lookup_elem(&shards, &shard);
	if (table) {
		struct haul_flow_value *value = bpf_map_lookup_elem(table, &packet->key);
		if (!value) {
			if (flow_insert(table, packet))
				return;
			value = bpf_map_lookup_elem(table, &packet->key);
		}
		if (value) {
			if (flow_known(value, packet))
				return;
			lost = HAUL_FLOW_T_LATE;
		}
	}
	if (lost == HAUL_FLOW_T_LATE) {
		totals->count[HAUL_FLOW_T_LATE] += packet->packets;
		totals->count[HAUL_FLOW_T_LATE_BYTES] += packet->bytes;
	} else {
		totals->count[HAUL_FLOW_T_OVERFLOW] += packet->packets;
		totals->count[HAUL_FLOW_T_OVERFLOW_BYTES] += packet->bytes;
	}
}
#endif
