/* Maps with every kind of BTF that tests/cli/test_map.py looks at, and a program that does nothing
 * but name them, so that one load makes them all. */
#include "bpf/progs/prog.h"

enum state { NEW, OPEN = 5 };

struct typed_key {
	__u32 saddr;
	__be16 port;
	__u8 proto;
};

struct typed_value {
	__u64 packets, bytes;
	__s32 delta;
	enum state state;
	char comm[16];
	__u8 mac[6];
	__u8 low : 3, high : 5;
	union {
		__u32 word;
		__u8 part[4];
	};
};

struct typed_counts {
	__u32 packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1000);
	__type(key, struct typed_key);
	__type(value, struct typed_value);
} typed_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct typed_counts);
} typed_percpu SEC(".maps");

int threshold = 80;
double weight = 2.5;
_Bool on = 1;

SEC("socket")
int typed_maps(void *context)
{
	struct typed_key key = { 0 };
	__u32 index = 0;

	(void)context;
	if (!bpf_map_lookup_elem(&typed_flows, &key) && on)
		return threshold;
	return bpf_map_lookup_elem(&typed_percpu, &index) != 0 && *(__u64 *)&weight > 1;
}

char license_text[] SEC("license") = "Dual MIT/GPL";
