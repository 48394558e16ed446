/* bpf/progs/flow_count.h — add one packet to its connection.
 *
 * Model      A connection that is known costs two lookups and the additions. One that is not is
 *            inserted with its first packet already in it; who loses that race adds to the
 *            winner's.
 * Threads    any CPU, packets of one connection included. */
#pragma once

#include "bpf/progs/flow_tcp.h"

#ifdef __bpf__
#include "bpf/progs/flow_hash.h"
#include "bpf/progs/flow_maps.h"

enum { FLOW_LAST_STEP_NS = 1000000, FLOW_LIFE_MASK = 0xff };

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
	__u64 payload = packet->tcp ? flow_stream(packet) : packet->payload;
	__u32 next = packet->tcp && packet->flags ? flow_next(packet) : 0;
	if (packet->dir) {
		value.packets[1] = packet->packets;
		value.bytes[1] = packet->bytes;
		value.payload[1] = payload;
		value.seq_next[1] = next;
	} else {
		value.packets[0] = packet->packets;
		value.bytes[0] = packet->bytes;
		value.payload[0] = payload;
		value.seq_next[0] = next;
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
