/* bpf/one.h — one entry, one system call.
 *
 * Model      BPF_MAP_*_ELEM and GET_NEXT_KEY on a map's descriptor. Calls that a busy bucket lock
 *            turned away are made again, a bounded number of times.
 * Threads    any.
 * Errors     -errno of the call. -ENOENT: the key is not there. */
#pragma once

#include "bpf/map_state.h"

int map_one_get(const struct haul_map *map, const void *key, void *value,
		struct haul_map_result *result);
/* flags: BPF_ANY, BPF_NOEXIST, BPF_EXIST. */
int map_one_put(const struct haul_map *map, const void *key, const void *value, uint64_t flags,
		struct haul_map_result *result);
int map_one_delete(const struct haul_map *map, const void *key, struct haul_map_result *result);
int map_one_take(const struct haul_map *map, const void *key, void *value,
		 struct haul_map_result *result);
/* key NULL: the first. -ENOENT behind the last. The first again when key is not there. */
int map_one_next(const struct haul_map *map, const void *key, void *next,
		 struct haul_map_result *result);
