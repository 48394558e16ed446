/* bpf/scan.h — walks over whole maps in user space, for the engines that read entries.
 *
 * Model      map_scan_walk reads with engine->read, filters, and hands on; with threads, ranges of
 *            buckets (scan_range.h). The others are made of the same walk.
 * Threads    as haul_map_scan.
 * Errors     -errno of the read that failed; what visit returned when it ended the walk. */
#pragma once

#include "bpf/map_state.h"

int map_scan_walk(struct haul_map *map, const struct map_engine *engine,
		  const struct haul_map_scan *scan, struct haul_map_report *report);
/* For engines with a walk of their own: as engine->scan, and keys that come twice are counted. */
int map_scan_checked(struct haul_map *map, const struct map_engine *engine,
		     const struct haul_map_scan *scan, struct haul_map_report *report);
int map_delete_if_walk(struct haul_map *map, const struct map_engine *engine,
		       const struct haul_map_filter *filter, struct haul_map_result *result);
int map_count_walk(struct haul_map *map, const struct map_engine *engine, uint64_t *ret_count,
		   struct haul_map_result *result);
/* What passes the filter moves to the front of batch's columns, which must be writable. */
void map_scan_filter(const struct haul_map *map, const struct haul_map_filter *filter,
		     struct haul_map_batch *batch);
