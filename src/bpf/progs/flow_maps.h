/* bpf/progs/flow_maps.h — the maps and the configuration of the connection table's programs; see
 * flow_prog.h. */
#pragma once

#include "bpf/progs/flow_prog.h"
#include "bpf/progs/prog.h"

#ifdef __bpf__

const volatile struct flow_config flow_config;

/* Sizes are placeholders: the library sets them before load. */
struct flow_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(key_size, sizeof(struct haul_flow_key));
	__uint(value_size, sizeof(struct haul_flow_value));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 16);
	__type(key, __u32);
	__array(values, struct flow_table);
} shards SEC(".maps");

struct flow_totals {
	__u64 count[HAUL_FLOW_TOTALS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_totals);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1048576);
} events SEC(".maps");

struct flow_sweeper {
	struct bpf_timer timer;
	__u64 pause_until_ns; /* the timer does nothing before */
	__u32 generation;     /* of the timer's round, FLOW_GENERATION_MASK */
	__u32 shard;          /* next */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_sweeper);
} sweeper SEC(".maps");

static __always_inline struct flow_totals *flow_totals(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&totals, &zero);
}

static __always_inline struct flow_control *flow_control(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&control, &zero);
}

/* For programs that a packet may interrupt; the packet path itself adds without a lock. */
static __always_inline void flow_add(struct flow_totals *totals, enum haul_flow_total index,
				     __u64 n)
{
	__sync_fetch_and_add(&totals->count[index], n);
}

#endif
