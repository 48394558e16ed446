/* bpf/progs/flow.bpf.c — see flow_prog.h. */
#include "bpf/progs/flow_prog.h"
#include "bpf/progs/prog.h"

const volatile struct flow_config flow_config;

SEC("tc")
int flow_ingress(struct __sk_buff *skb)
{
	(void)skb;
	return flow_config.salt ? -1 : -1;
}

char flow_license[] SEC("license") = "Dual MIT/GPL";
