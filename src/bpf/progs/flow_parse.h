/* bpf/progs/flow_parse.h — from a packet to the ends of its connection.
 *
 * Model      Two ways that agree: flow_parse_fast reads what nearly every packet is (untagged, no IP
 *            options, not a fragment, TCP or UDP) straight from the linear part of the buffer;
 *            whatever else, flow_parse_slow loads header by header, wherever it lies.
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
	h->vlan[0] = 0;
	h->vlan[1] = 0;
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

static __always_inline int flow_fast_v4(struct flow_headers *h, const void *ip, const void *end)
{
	const struct iphdr *v4 = ip;
	const struct flow_ports *l4 = (const void *)(v4 + 1);
	if ((const void *)(l4 + 1) > end)
		return FLOW_SLOW;
	if (*(const __u8 *)ip != 0x45 || v4->frag_off & bpf_htons(FLOW_IPV4_MF | FLOW_IPV4_OFFSET))
		return FLOW_SLOW;
	h->proto = v4->protocol;
	h->end = flow_config.l2_bytes + bpf_ntohs(v4->tot_len);
	if (h->end > h->len || (h->proto != IPPROTO_TCP && h->proto != IPPROTO_UDP))
		return FLOW_SLOW;
	h->src[0] = 0;
	h->src[1] = flow_mapped(v4->saddr);
	h->dst[0] = 0;
	h->dst[1] = flow_mapped(v4->daddr);
	return flow_fast_l4(h, l4, flow_config.l2_bytes + sizeof *v4);
}

static __always_inline int flow_fast_v6(struct flow_headers *h, const void *ip, const void *end)
{
	const struct ipv6hdr *v6 = ip;
	const struct flow_ports *l4 = (const void *)(v6 + 1);
	if ((const void *)(l4 + 1) > end || *(const __u8 *)ip >> 4 != 6)
		return FLOW_SLOW;
	h->proto = v6->nexthdr;
	h->end = flow_config.l2_bytes + sizeof *v6 + bpf_ntohs(v6->payload_len);
	if (h->end > h->len || (h->proto != IPPROTO_TCP && h->proto != IPPROTO_UDP))
		return FLOW_SLOW;
	__builtin_memcpy(h->src, &v6->saddr, sizeof h->src);
	__builtin_memcpy(h->dst, &v6->daddr, sizeof h->dst);
	return flow_fast_l4(h, l4, flow_config.l2_bytes + sizeof *v6);
}

static __always_inline int flow_parse_fast(struct flow_headers *h, const void *data,
					   const void *end)
{
	const struct ethhdr *eth = data;
	if (flow_config.l2_bytes == 0) {
		if (data + 1 > end)
			return FLOW_SLOW;
		return *(const __u8 *)data >> 4 == 4 ? flow_fast_v4(h, data, end)
						     : flow_fast_v6(h, data, end);
	}
	if ((const void *)(eth + 1) > end || h->tags)
		return FLOW_SLOW;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return flow_fast_v4(h, eth + 1, end);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return flow_fast_v6(h, eth + 1, end);
	return FLOW_SLOW;
}

static __always_inline int flow_load(void *ctx, int hook, __u32 at, void *to, __u32 bytes)
{
	return hook == FLOW_HOOK_XDP ? bpf_xdp_load_bytes(ctx, at, to, bytes)
				     : bpf_skb_load_bytes(ctx, at, to, bytes);
}

static __always_inline int flow_slow_tcp(void *ctx, int hook, struct flow_headers *h, __u32 at)
{
	struct flow_ports l4;
	if (at + FLOW_TCP_BYTES > h->end || flow_load(ctx, hook, at, &l4, sizeof l4))
		return FLOW_MALFORMED;
	__u32 bytes = (l4.offset >> 4) * 4;
	if (bytes < FLOW_TCP_BYTES || at + bytes > h->end)
		return FLOW_MALFORMED;
	h->sport = bpf_ntohs(l4.sport);
	h->dport = bpf_ntohs(l4.dport);
	h->seq = bpf_ntohl(l4.seq);
	h->tcp_flags = l4.flags;
	h->tcp = 1;
	h->payload = at + bytes;
	return FLOW_OK;
}

static __always_inline int flow_slow_ports(void *ctx, int hook, struct flow_headers *h, __u32 at)
{
	__u32 bytes = h->proto == IPPROTO_SCTP ? FLOW_SCTP_BYTES : FLOW_UDP_BYTES;
	__u16 ports[2];
	if (at + bytes > h->end || flow_load(ctx, hook, at, ports, sizeof ports))
		return FLOW_MALFORMED;
	h->sport = bpf_ntohs(ports[0]);
	h->dport = bpf_ntohs(ports[1]);
	h->payload = at + bytes;
	return FLOW_OK;
}

static __always_inline int flow_slow_icmp(void *ctx, int hook, struct flow_headers *h, __u32 at)
{
	enum { ECHO_REPLY = 0, ECHO = 8, ECHO6 = 128, ECHO6_REPLY = 129 };
	struct {
		__u8 type;
		__u8 code;
		__u16 checksum;
		__u16 id;
		__u16 sequence;
	} icmp;
	if (at + FLOW_ICMP_BYTES > h->end || flow_load(ctx, hook, at, &icmp, sizeof icmp))
		return FLOW_MALFORMED;
	h->payload = at + FLOW_ICMP_BYTES;
	int echo = h->proto == IPPROTO_ICMP ? icmp.type == ECHO || icmp.type == ECHO_REPLY
					    : icmp.type == ECHO6 || icmp.type == ECHO6_REPLY;
	if (echo) {
		h->sport = bpf_ntohs(icmp.id);
		h->dport = h->sport;
	}
	return FLOW_OK;
}

static __always_inline int flow_slow_l4(void *ctx, int hook, struct flow_headers *h, __u32 at)
{
	h->payload = at;
	if (h->later)
		return FLOW_OK;
	if (h->proto == IPPROTO_TCP)
		return flow_slow_tcp(ctx, hook, h, at);
	if (h->proto == IPPROTO_UDP || h->proto == IPPROTO_SCTP)
		return flow_slow_ports(ctx, hook, h, at);
	if (h->proto == IPPROTO_ICMP || h->proto == IPPROTO_ICMPV6)
		return flow_slow_icmp(ctx, hook, h, at);
	return FLOW_OK;
}

/* Over one extension header: its bytes, 0 when h->proto is none, -1 when it is broken. */
static __always_inline int flow_slow_extension(void *ctx, int hook, struct flow_headers *h,
					       __u32 at, int v6)
{
	struct {
		__u8 next;
		__u8 words;
		__u16 offset; /* fragment headers */
		__u32 id;
	} extension;
	__u8 proto = h->proto;
	int options = proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING ||
		      proto == IPPROTO_DSTOPTS || proto == IPPROTO_FRAGMENT;
	if (proto != IPPROTO_AH && !(v6 && options))
		return 0;
	if (at + sizeof extension > h->end ||
	    flow_load(ctx, hook, at, &extension, sizeof extension))
		return -1;
	__u32 bytes = (extension.words + 1) * 8;
	if (proto == IPPROTO_AH)
		bytes = (extension.words + 2) * 4;
	if (proto == IPPROTO_FRAGMENT) {
		bytes = sizeof extension;
		h->later = !!(extension.offset & bpf_htons(FLOW_IPV6_OFFSET));
	}
	h->proto = extension.next;
	return at + bytes <= h->end ? (int)bytes : -1;
}

static __always_inline int flow_slow_extensions(void *ctx, int hook, struct flow_headers *h,
						__u32 at, int v6)
{
	for (int i = 0; i < FLOW_EXTENSIONS_MAX && !h->later; i++) {
		int bytes = flow_slow_extension(ctx, hook, h, at, v6);
		if (bytes < 0)
			return FLOW_MALFORMED;
		if (bytes == 0)
			return flow_slow_l4(ctx, hook, h, at);
		at += bytes;
	}
	return h->later ? flow_slow_l4(ctx, hook, h, at) : FLOW_MALFORMED;
}

static __always_inline int flow_slow_v4(void *ctx, int hook, struct flow_headers *h, __u32 at)
{
	struct iphdr v4;
	if (flow_load(ctx, hook, at, &v4, sizeof v4))
		return FLOW_MALFORMED;
	__u32 bytes = v4.ihl * 4;
	__u32 total = bpf_ntohs(v4.tot_len);
	if (total == 0 && h->gso) /* longer than the field can say (BIG TCP) */
		total = h->len - at;
	if (v4.version != 4 || bytes < sizeof v4 || total < bytes || at + total > h->len)
		return FLOW_MALFORMED;
	h->end = at + total;
	h->proto = v4.protocol;
	h->src[1] = flow_mapped(v4.saddr);
	h->dst[1] = flow_mapped(v4.daddr);
	h->later = !!(v4.frag_off & bpf_htons(FLOW_IPV4_OFFSET));
	return flow_slow_extensions(ctx, hook, h, at + bytes, 0);
}

static __always_inline int flow_slow_v6(void *ctx, int hook, struct flow_headers *h, __u32 at)
{
	struct ipv6hdr v6;
	if (flow_load(ctx, hook, at, &v6, sizeof v6))
		return FLOW_MALFORMED;
	h->end = at + sizeof v6 + bpf_ntohs(v6.payload_len);
	if (v6.payload_len == 0 && h->gso)
		h->end = h->len;
	if (v6.version != 6 || h->end > h->len)
		return FLOW_MALFORMED;
	h->proto = v6.nexthdr;
	__builtin_memcpy(h->src, &v6.saddr, sizeof h->src);
	__builtin_memcpy(h->dst, &v6.daddr, sizeof h->dst);
	return flow_slow_extensions(ctx, hook, h, at + sizeof v6, 1);
}

/* The tags in the frame; sets where the IP header starts and returns the type in network order, 0
 * when there are more tags than we can tell apart or the frame ends. */
static __always_inline __u16 flow_slow_tags(void *ctx, int hook, struct flow_headers *h, __u32 *at)
{
	__u16 type;
	if (flow_load(ctx, hook, ETH_HLEN - sizeof type, &type, sizeof type))
		return 0;
	*at = ETH_HLEN;
	for (int i = 0; i <= FLOW_TAGS_MAX; i++) {
		__u16 tag[2]; /* identifier, type */
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD) &&
		    type != bpf_htons(ETH_P_QINQ1))
			return type;
		if (h->tags >= FLOW_TAGS_MAX || flow_load(ctx, hook, *at, tag, sizeof tag))
			return 0;
		if (h->tags == 0)
			h->vlan[0] = bpf_ntohs(tag[0]) & 0xfff;
		else
			h->vlan[1] = bpf_ntohs(tag[0]) & 0xfff;
		h->tags++;
		type = tag[1];
		*at += sizeof tag;
	}
	return 0;
}

/* len, gso, tags and vlan[0] (of a tag beside the frame) are filled in. */
static __noinline int flow_parse_slow(void *ctx, int hook, struct flow_headers *h)
{
	__u32 at = 0;
	__u16 type;
	h->src[0] = 0;
	h->dst[0] = 0;
	h->sport = 0;
	h->dport = 0;
	h->tcp = 0;
	h->later = 0;
	h->vlan[1] = 0;
	if (h->tags == 0)
		h->vlan[0] = 0;
	if (flow_config.l2_bytes) {
		type = flow_slow_tags(ctx, hook, h, &at);
	} else {
		__u8 first;
		if (flow_load(ctx, hook, 0, &first, sizeof first))
			return FLOW_NOT_IP;
		type = first >> 4 == 4 ? bpf_htons(ETH_P_IP) : 0;
		if (first >> 4 == 6)
			type = bpf_htons(ETH_P_IPV6);
	}
	if (type == bpf_htons(ETH_P_IP))
		return flow_slow_v4(ctx, hook, h, at);
	return type == bpf_htons(ETH_P_IPV6) ? flow_slow_v6(ctx, hook, h, at) : FLOW_NOT_IP;
}
#endif
