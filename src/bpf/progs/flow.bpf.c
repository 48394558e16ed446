/* bpf/progs/flow.bpf.c — the programs of the connection table; see flow_prog.h.
 *
 * A packet goes through flow_parse.h (whose is it), flow_gso below (how many is it) and
 * flow_count.h (add it). None is ever held back or changed: what comes after on the hook sees all
 * of them. */
#include "bpf/progs/flow_count.h"
#include "bpf/progs/flow_maps.h"
#include "bpf/progs/flow_parse.h"
#include "bpf/progs/flow_prog.h"
#include "bpf/progs/flow_slow.h"
#include "bpf/progs/flow_sweep.h"
#include "bpf/progs/prog.h"

enum { FLOW_NEXT = -1, FLOW_TAG_BYTES = 4, FLOW_CLOCK_MONOTONIC = 1 };
enum { FLOW_EBUSY = 16 };

/* What the hook knows of a packet. */
struct flow_meta {
	__u32 gso_segs;
	__u32 gso_size;
	__u32 wire_len;
	__u32 tag_bytes; /* of a tag beside the frame */
	__u32 ifindex;
};

/* How many packets a GSO packet will be on the wire, and how long they are together. */
static __always_inline void flow_gso(struct flow_packet *packet, const struct flow_headers *h,
				     const struct flow_meta *meta)
{
	__u32 segs = meta->gso_segs;
	packet->packets = 1;
	packet->bytes = h->len + meta->tag_bytes;
	if (!meta->gso_size)
		return;
	/* From a virtual machine: not counted yet. */
	if (segs == 0 && h->len > h->payload)
		segs = (h->len - h->payload + meta->gso_size - 1) / meta->gso_size;
	if (segs <= 1)
		return;
	packet->packets = segs;
	packet->bytes += (__u64)(segs - 1) * (h->payload + meta->tag_bytes);
	/* In a tunnel the headers inside are repeated as well; the egress hook knows. */
	__u64 wire = meta->wire_len + (__u64)segs * meta->tag_bytes;
	if (wire > packet->bytes)
		packet->bytes = wire;
}

/* Numbers in the order of their bytes. */
static __always_inline __s32 flow_compare(const struct flow_headers *h)
{
	for (int i = 0; i < 2; i++) {
		__u64 src = bpf_be64_to_cpu(h->src[i]);
		__u64 dst = bpf_be64_to_cpu(h->dst[i]);
		if (src != dst)
			return src < dst ? -1 : 1;
	}
	return (__s32)h->sport - (__s32)h->dport;
}

static __always_inline void flow_key(struct flow_packet *packet, const struct flow_headers *h)
{
	packet->dir = flow_compare(h) > 0;
	__builtin_memcpy(packet->key.addr_lo, packet->dir ? h->dst : h->src, 16);
	__builtin_memcpy(packet->key.addr_hi, packet->dir ? h->src : h->dst, 16);
	packet->key.port_lo = packet->dir ? h->dport : h->sport;
	packet->key.port_hi = packet->dir ? h->sport : h->dport;
	packet->key.proto = h->proto;
	packet->key.vlan_outer = h->vlan[0];
	packet->key.vlan_inner = h->vlan[1];
}

static __always_inline void flow_enter(const struct flow_headers *h, const struct flow_meta *meta,
				       struct flow_totals *totals)
{
	struct flow_packet packet;
	__builtin_memset(&packet, 0, sizeof packet);
	flow_gso(&packet, h, meta);
	totals->count[HAUL_FLOW_T_PACKETS] += packet.packets;
	totals->count[HAUL_FLOW_T_BYTES] += packet.bytes;
	if (h->later)
		totals->count[HAUL_FLOW_T_FRAGMENTS] += packet.packets;
	flow_key(&packet, h);
	packet.payload = h->end - h->payload;
	packet.tcp = h->tcp;
	packet.flags = h->tcp ? h->tcp_flags : 0;
	packet.seq = h->tcp ? h->seq : 0;
	packet.ifindex = meta->ifindex;
	packet.now = bpf_ktime_get_ns();
	flow_count(&packet, totals);
}

static __always_inline void flow_bad(int why, struct flow_totals *totals)
{
	if (why == FLOW_NOT_IP)
		totals->count[HAUL_FLOW_T_NOT_IP]++;
	else
		totals->count[HAUL_FLOW_T_MALFORMED]++;
}

static __always_inline int flow_tc(struct __sk_buff *skb)
{
	struct flow_headers h;
	struct flow_meta meta = { .gso_segs = skb->gso_segs,
				  .gso_size = skb->gso_size,
				  .wire_len = skb->wire_len,
				  .ifindex = skb->ifindex };
	struct flow_totals *totals = flow_totals();
	if (!totals)
		return FLOW_NEXT;
	h.len = skb->len;
	h.gso = !!meta.gso_size;
	h.tags = 0;
	h.vlan[0] = 0;
	h.vlan[1] = 0;
	if (skb->vlan_present) {
		h.tags = 1;
		h.vlan[0] = skb->vlan_tci & 0xfff;
		meta.tag_bytes = FLOW_TAG_BYTES;
	}
	totals->count[HAUL_FLOW_T_SKBS]++;
	totals->count[HAUL_FLOW_T_SKB_BYTES] +=
		h.len + (flow_config.tag_uncounted ? 0 : meta.tag_bytes);
	const void *data = (const void *)(long)skb->data;
	const void *data_end = (const void *)(long)skb->data_end;
	int got = flow_parse_fast(&h, data, data_end);
	if (got == FLOW_SLOW)
		got = flow_parse_slow(skb, FLOW_HOOK_TC, &h);
	if (got == FLOW_OK)
		flow_enter(&h, &meta, totals);
	else
		flow_bad(got, totals);
	return FLOW_NEXT;
}

SEC("tc")
int flow_ingress(struct __sk_buff *skb)
{
	return flow_tc(skb);
}

SEC("tc")
int flow_egress(struct __sk_buff *skb)
{
	return flow_tc(skb);
}

/* Here a frame is as the driver has it: a tag that the hardware took out is not seen (switch
 * rx-vlan-offload off), and nothing has been merged yet. */
SEC("xdp.frags")
int flow_xdp(struct xdp_md *xdp)
{
	struct flow_headers h;
	struct flow_meta meta = { .ifindex = xdp->ingress_ifindex };
	struct flow_totals *totals = flow_totals();
	if (!totals)
		return XDP_PASS;
	h.len = bpf_xdp_get_buff_len(xdp);
	h.gso = 0;
	h.tags = 0;
	h.vlan[0] = 0;
	h.vlan[1] = 0;
	totals->count[HAUL_FLOW_T_SKBS]++;
	totals->count[HAUL_FLOW_T_SKB_BYTES] += h.len;
	const void *data = (const void *)(long)xdp->data;
	const void *data_end = (const void *)(long)xdp->data_end;
	int got = flow_parse_fast(&h, data, data_end);
	if (got == FLOW_SLOW)
		got = flow_parse_slow(xdp, FLOW_HOOK_XDP, &h);
	if (got == FLOW_OK)
		flow_enter(&h, &meta, totals);
	else
		flow_bad(got, totals);
	return XDP_PASS;
}

/* 0: the timer runs, for as long as the map "sweeper" has a descriptor or a pin. */
SEC("tc")
int flow_start(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct flow_sweeper *own = bpf_map_lookup_elem(&sweeper, &zero);
	if (!own || flow_config.tick_ns == 0)
		return 1;
	int code = bpf_timer_init(&own->timer, &sweeper, FLOW_CLOCK_MONOTONIC);
	if (code == -FLOW_EBUSY)
		return 0; /* it runs already */
	if (code || bpf_timer_set_callback(&own->timer, flow_tick))
		return 2;
	return bpf_timer_start(&own->timer, flow_config.tick_ns, 0) ? 3 : 0;
}

SEC("syscall")
int flow_sweep(struct flow_sweep_args *args)
{
	__u32 zero = 0;
	struct flow_sweeper *own = bpf_map_lookup_elem(&sweeper, &zero);
	struct flow_visit visit = { .now = args->now_ns,
				    .cutoff = args->cutoff_ns,
				    .mark = args->mark,
				    .harvest = args->harvest };
	__u64 now = bpf_ktime_get_ns();
	if (!own)
		return 1;
	if (!visit.now)
		visit.now = now;
	visit.generation = (args->generation & FLOW_GENERATION_MASK) | FLOW_GENERATION_CALL;
	__sync_lock_test_and_set(&own->pause_until_ns, now + FLOW_PAUSE_NS);
	flow_visit_shard(args->shard, &visit);
	args->visited = visit.visited;
	args->marked = visit.marked;
	args->removed = visit.removed;
	args->held = visit.held;
	return 0;
}

char flow_license[] SEC("license") = "Dual MIT/GPL";
