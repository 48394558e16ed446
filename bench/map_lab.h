/* bench/map_lab.h — the tables of the lab on batch operations that this grew from, on real maps.
 *
 * Model      Lookups and updates one by one and in batches of 256 and 1000, batch sizes 16 to 2048,
 *            a connection table of 1000 with its times, and walks by one thread and by two: what
 *            the lab prints. "keyed" looks up given keys in one call (a program in the
 *            kernel does; no system call does), "walk" reads on through the map (the batch call).
 *            Each figure is the median of several runs.
 * Threads: one. Errors: with text. Blocking: about a second. */
#pragma once

#include <haul/err.h>
#include "map_table.h"

struct json_t;

/* table: of 10 000 entries. Appends objects as bench.h describes them. */
int map_lab_tables(struct map_table *table, struct json_t *tables, struct haul_err *err);
