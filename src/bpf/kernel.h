/* bpf/kernel.h — the kernel engine: a BPF program that does a whole batch of work in one call.
 *
 * Model      progs/map.bpf.c is loaded once for each map it is used on, the map's fd and sizes
 *            fixed at load (so the verifier knows them). Rows, commands and results go through one
 *            memory-mapped array. Loading takes milliseconds: choose.c prefers plain calls for
 *            few rows until it is loaded.
 * Ownership  map->kernel.
 * Threads    one at a time.
 * Errors     map_kernel_open: -ENOTSUP with text (no BTF, a type it cannot walk, sizes too large),
 *            -EPERM. */
#pragma once

#include "bpf/map_state.h"

/* Load for this map; sets map->kernel, or map->kernel_error and kernel_why. Idempotent. */
int map_kernel_open(struct haul_map *map);
void map_kernel_close(struct haul_map *map);
/* Whether op can run at once, without anything to be loaded. */
bool map_kernel_ready(const struct haul_map *map, enum haul_map_op op);
