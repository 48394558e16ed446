/* bpf/kernel.h — the kernel engine: a BPF program that does a whole batch of work in one call.
 *
 * Model      The programs of progs/map.bpf.c are loaded for each map they are used on, the map's fd
 *            and sizes fixed at load (so the verifier knows them), and each group of them when
 *            first needed (kernel_state.h). Rows, commands and results go through memory-mapped
 *            arrays. Loading takes a millisecond (aggregates and large hash maps: some 30), so
 *            choose.c prefers plain calls for few rows until it is loaded. Large hash maps are
 *            walked by progs/map_hash.bpf.c, a few thousand entries a call; smaller ones, and other
 *            types, in one call.
 *            Compare-delete: between the comparison and the deletion of one row lie some 100 ns, in
 *            which another CPU may still write; what it wrote before the call began is seen.
 *            LRU maps: get and compare-delete are refused, as a program's lookup counts as use. A
 *            walk does not.
 * Ownership  map->kernel.
 * Threads    one at a time.
 * Errors     map_kernel_open: -ENOTSUP with text (values too large), -ENOMEM. */
#pragma once

#include "bpf/map_state.h"

/* Make ready for this map: sets map->kernel, or map->kernel_error and kernel_why. Idempotent. Loads
 * nothing yet: what then fails to load makes its operation return -ENOTSUP (or -EPERM, which also
 * sets kernel_error), with the reason in can()'s text from then on. */
int map_kernel_open(struct haul_map *map);
void map_kernel_close(struct haul_map *map);
/* Whether op can run at once, without anything to be loaded. */
bool map_kernel_ready(const struct haul_map *map, enum haul_map_op op);
