/* bpf/scan_range.h — one walk by several threads, each its own ranges of buckets.
 *
 * Model      The buckets of a hash are cut into ranges; threads take the next range when they are
 *            done with one. Entries of a range that is read to its end are each handed on once, and
 *            no other range hands them on.
 * Ownership  threads, readers and sets live for one call.
 * Threads    as many as scan->threads, at most HAUL_MAP_THREADS_MAX; the caller's is one of them.
 * Errors     the first one of any thread ends all of them; so does a visit that returns not 0. */
#pragma once

#include "bpf/map_state.h"

int map_scan_threads(struct haul_map *map, const struct haul_map_scan *scan,
		     struct haul_map_report *report);
