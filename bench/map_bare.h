/* bench/map_bare.h — maps of the connection table's sizes, one system call an operation: what all
 * batches are measured against, as quick as it can be made.
 *
 * Model      bpf(2) itself: the attribute is set up once, is as short as the kernel allows (it is
 *            copied at each call), and only what changes is stored into it.
 * Threads    one a struct. Errors: -errno, as they are. */
#pragma once

#include <linux/bpf.h>
#include <stdint.h>

#include <haul/flow_record.h>

struct map_bare {
	union bpf_attr attr;
	uint64_t calls;
};
void map_bare_init(struct map_bare *one, int fd);
int map_bare_get(struct map_bare *one, const struct haul_flow_key *key,
		 struct haul_flow_value *ret_value);
/* flags: BPF_ANY, BPF_NOEXIST, BPF_EXIST */
int map_bare_put(struct map_bare *one, const struct haul_flow_key *key,
		 const struct haul_flow_value *value, uint64_t flags);
int map_bare_delete(struct map_bare *one, const struct haul_flow_key *key);

/* All entries: next key, then its value. The entry before the current one may be deleted. */
struct map_bare_walk {
	struct map_bare next, get;
	struct haul_flow_key keys[2];
	struct haul_flow_value value;
	unsigned at;
};
void map_bare_walk_init(struct map_bare_walk *walk, int fd);
/* 1: there is one, *ret_key and walk->value until the next call; 0: the end. */
int map_bare_walk_next(struct map_bare_walk *walk, const struct haul_flow_key **ret_key);
