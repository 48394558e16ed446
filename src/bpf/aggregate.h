/* bpf/aggregate.h — sum, extremes, histogram and the N largest of one field, in user space.
 *
 * Model      What haul_map_aggregate returns, by reading every entry: for the engines that cannot
 *            add up in the kernel. The arithmetic is progs/map_figures.h, which the kernel engine's
 *            program compiles too, so both give the same figures.
 * Ownership  aggregate is the caller's, as in haul/map.h.
 * Memory     none kept.
 * Threads    as haul_map_scan.
 * Errors     of haul_map_scan. */
#pragma once

#include "bpf/map_state.h"
#include "bpf/progs/map_figures.h"

/* Fills in what aggregate gives out, and result's visited, calls, retries, fallbacks and engine. */
int map_aggregate_walk(struct haul_map *map, struct haul_map_aggregate *aggregate,
		       struct haul_map_result *result);

/* Figures and ranks into what the caller reads. */
void map_aggregate_figures(struct haul_map_aggregate *aggregate, const struct map_figures *figures,
			   const struct map_ranks *ranks);
/* Order of the places of ranks, largest number first. */
void map_ranks_sort(struct map_ranks *ranks);
