/* bpf/progs/flow_parse.h — from a packet to the ends of its connection.
 *
 * Model      Two ways that agree: flow_parse_fast reads what nearly every packet is (untagged, no
 *            IP options, not a fragment, TCP or UDP) straight from the linear part of the buffer;
 *            whatever else, flow_parse_slow (flow_slow.h) loads header by header, wherever it
 *            lies.
 * Units      offsets and bytes from the start of the frame, without a tag that goes beside it.
 * Errors     FLOW_NOT_IP, FLOW_MALFORMED. */
#pragma once

#include "bpf/progs/prog.h"

#ifdef __bpf__
/* clang-format off */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
/* clang-format on */

#include "bpf/progs/flow_maps.h"

enum { FLOW_OK, FLOW_SLOW, FLOW_NOT_IP, FLOW_MALFORMED };
enum { FLOW_HOOK_TC, FLOW_HOOK_XDP };
enum { FLOW_TAGS_MAX = 2, FLOW_EXTENSIONS_MAX = 8 };
enum { FLOW_FIN = 1, FLOW_SYN = 2, FLOW_RST = 4, FLOW_ACK = 16 };
enum { FLOW_TCP_BYTES = 20, FLOW_UDP_BYTES = 8, FLOW_SCTP_BYTES = 12, FLOW_ICMP_BYTES = 8 };
enum { FLOW_IPV4_MF = 0x2000, FLOW_IPV4_OFFSET = 0x1fff, FLOW_IPV6_OFFSET = 0xfff8 };

/* Addresses as they lie in the key, ports in host order. */
struct flow_headers {
	__u64 src[2];
	__u64 dst[2];
	__u16 sport;
	__u16 dport;
	__u16 vlan[FLOW_TAGS_MAX]; /* outer, inner */
	__u32 len;                 /* of the frame */
	__u32 end;                 /* of the IP packet */
	__u32 payload;             /* where it starts */
	__u32 seq;
	__u8 proto;
	__u8 tcp_flags;
	__u8 tcp;   /* there is a TCP header */
	__u8 later; /* a fragment but the first */
	__u8 tags;  /* in vlan */
	__u8 gso;
};

/* The first 14 bytes of a TCP header are all we need; UDP, SCTP and ICMP share the beginning. */
struct flow_ports {
	__u16 sport;
	__u16 dport;
	__u32 seq;
	__u32 ack;
	__u8 offset; /* upper half: header length in words */
	__u8 flags;
};

static __always_inline __u64 flow_mapped(__u32 address)
{
	return (__u64)address << 32 | 0xffff0000;
}

static __always_inline int flow_fast_l4(struct flow_headers *h, const struct flow_ports *l4,
					__u32 at)
{
	h->sport = bpf_ntohs(l4->sport);
	h->dport = bpf_ntohs(l4->dport);
	h->later = 0;
	if (h->proto == IPPROTO_UDP) {
		h->tcp = 0;
		h->payload = at + FLOW_UDP_BYTES;
		return h->payload <= h->end ? FLOW_OK : FLOW_SLOW;
	}
	__u32 bytes = (l4->offset >> 4) * 4;
	h->tcp = 1;
	h->tcp_flags = l4->flags;
	h->seq = bpf_ntohl(l4->seq);
	h->payload = at + bytes;
	return bytes >= FLOW_TCP_BYTES && h->payload <= h->end ? FLOW_OK : FLOW_SLOW;
}

static __always_inline int flow_fast_v4(struct flow_headers *h, const void *ip, const void *end,
					__u32 at)
{
	const struct iphdr *v4 = ip;
	const struct flow_ports *l4 = (const void *)(v4 + 1);
	if ((const void *)(l4 + 1) > end)
		return FLOW_SLOW;
	if (*(const __u8 *)ip != 0x45 || v4->frag_off & bpf_htons(FLOW_IPV4_MF | FLOW_IPV4_OFFSET))
		return FLOW_SLOW;
	h->proto = v4->protocol;
	h->end = at + bpf_ntohs(v4->tot_len);
	if (h->end > h->len || (h->proto != IPPROTO_TCP && h->proto != IPPROTO_UDP))
		return FLOW_SLOW;
	h->src[0] = 0;
	h->src[1] = flow_mapped(v4->saddr);
	h->dst[0] = 0;
	h->dst[1] = flow_mapped(v4->daddr);
	return flow_fast_l4(h, l4, at + sizeof *v4);
}

static __always_inline int flow_fast_v6(struct flow_headers *h, const void *ip, const void *end,
					__u32 at)
{
	const struct ipv6hdr *v6 = ip;
	const struct flow_ports *l4 = (const void *)(v6 + 1);
	if ((const void *)(l4 + 1) > end || *(const __u8 *)ip >> 4 != 6)
		return FLOW_SLOW;
	h->proto = v6->nexthdr;
	h->end = at + sizeof *v6 + bpf_ntohs(v6->payload_len);
	if (h->end > h->len || (h->proto != IPPROTO_TCP && h->proto != IPPROTO_UDP))
		return FLOW_SLOW;
	__builtin_memcpy(h->src, &v6->saddr, sizeof h->src);
	__builtin_memcpy(h->dst, &v6->daddr, sizeof h->dst);
	return flow_fast_l4(h, l4, at + sizeof *v6);
}

static __always_inline int flow_is_tag(__u16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD) ||
	       type == bpf_htons(ETH_P_QINQ1);
}

static __always_inline int flow_parse_fast(struct flow_headers *h, const void *data,
					   const void *end)
{
	const struct ethhdr *eth = data;
	const __u16 *tag = (const void *)(eth + 1); /* identifier, type behind it */
	__u32 at = ETH_HLEN;
	if (flow_config.l2_bytes == 0) {
		if (data + 1 > end)
			return FLOW_SLOW;
		return *(const __u8 *)data >> 4 == 4 ? flow_fast_v4(h, data, end, 0)
						     : flow_fast_v6(h, data, end, 0);
	}
	if ((const void *)tag > end)
		return FLOW_SLOW;
	__u16 type = eth->h_proto;
	/* One tag in the frame, with or without one beside it; two are rare. The slow way, if it
	 * comes to that, begins again. */
	if (flow_is_tag(type)) {
		if ((const void *)(tag + 2) > end || h->tags >= FLOW_TAGS_MAX)
			return FLOW_SLOW;
		__u16 id = bpf_ntohs(tag[0]) & 0xfff;
		type = tag[1];
		if (h->tags)
			h->vlan[1] = id;
		else
			h->vlan[0] = id;
		at += 4;
		tag += 2;
	}
	if (type == bpf_htons(ETH_P_IP))
		return flow_fast_v4(h, tag, end, at);
	return type == bpf_htons(ETH_P_IPV6) ? flow_fast_v6(h, tag, end, at) : FLOW_SLOW;
}

static __always_inline int flow_load(void *ctx, int hook, __u32 at, void *to, __u32 bytes)
{
	return hook == FLOW_HOOK_XDP ? bpf_xdp_load_bytes(ctx, at, to, bytes)
				     : bpf_skb_load_bytes(ctx, at, to, bytes);
}
#endif
