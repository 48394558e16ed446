/* haul/haul.h — all of the public API.
 *
 * haul moves things in bulk: packets, kernel map entries, disk blocks and database records in
 * batches instead of one at a time. Each header states its own contract (model, units, ownership,
 * memory, threads, errors, limits); start with batch.h, which holds the one idea. */
#pragma once

#include <haul/api.h>
#include <haul/batch.h>
#include <haul/cache.h>
#include <haul/client.h>
#include <haul/disk.h>
#include <haul/err.h>
#include <haul/flow.h>
#include <haul/frames.h>
#include <haul/graph.h>
#include <haul/link.h>
#include <haul/map.h>
#include <haul/map_file.h>
#include <haul/message.h>
#include <haul/pool.h>
#include <haul/reader.h>
#include <haul/stats.h>
#include <haul/store.h>
