/* bpf/progs/flow_slow.h — every packet that flow_parse_fast leaves: tags, options, extension
 * headers, fragments, other protocols, headers outside the linear part, and what is broken. */
#pragma once

#include "bpf/progs/flow_parse.h"

#ifdef __bpf__

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
		__u8 type, code;
		__u16 checksum, id, sequence;
	} icmp;
	if (at + FLOW_ICMP_BYTES > h->end || flow_load(ctx, hook, at, &icmp, sizeof icmp))
		return FLOW_MALFORMED;
	h->payload = at + FLOW_ICMP_BYTES;
	int echo = h->proto == IPPROTO_ICMP ? icmp.type == ECHO || icmp.type == ECHO_REPLY
					    : icmp.type == ECHO6 || icmp.type == ECHO6_REPLY;
	h->sport = echo ? bpf_ntohs(icmp.id) : 0;
	h->dport = h->sport;
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
		__u8 next, words;
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
	for (int i = 0; i <= FLOW_EXTENSIONS_MAX && !h->later; i++) {
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
		if (!flow_is_tag(type))
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
