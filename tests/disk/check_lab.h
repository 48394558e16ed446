/* disk/check_lab.h — a cache with a past on a simulated disk, closed, and what check says of it.
 *
 * Model      The first CHECK_LAB_DELETED of CHECK_LAB_KEYS keys were deleted, some stored anew.
 *            Damage is made in the bytes of the disk, behind the back of the cache.
 * Threads    one. Errors: asserts. */
#pragma once

#include "disk/check.h"
#include "disk/write_lab.h"
#include "lib/testlib.h"

enum {
	CHECK_LAB_SEGMENT = 65536,
	CHECK_LAB_KEYS = 200,
	CHECK_LAB_DELETED = 10,
	CHECK_LAB_NEW_FROM = 20,
	CHECK_LAB_NEW_TO = 40,
};

struct write_lab *check_lab_open(void);
void check_lab_close(struct write_lab *lab);
/* Bytes of a key's value. */
uint32_t check_lab_bytes(uint32_t number, bool new);
/* Store, and flush when that is needed for it. */
void check_lab_put(struct write_lab *lab, uint32_t number, uint32_t bytes);

/* What check said. */
struct check_seen {
	const struct write_lab *lab;
	uint32_t entries[CHECK_LAB_KEYS]; /* how often */
	enum haul_cache_status status[CHECK_LAB_KEYS];
	uint32_t unknown;                   /* without a key */
	struct haul_cache_listed last_seen; /* its key is gone */
	uint32_t calls, stop_at;
	uint64_t done, total;
};
/* Callbacks of check; arg is a struct check_seen. 77 and 78 at the call stop_at. */
int check_seen_entry(const struct haul_cache_listed *entry, void *arg);
int check_seen_progress(uint64_t done, uint64_t total, void *arg);
struct haul_cache_checked check_lab_run(struct write_lab *lab, bool repair, bool all,
					struct check_seen *seen);
/* All entries, without repairing; and repairing, the damaged ones. */
struct haul_cache_checked check_lab_look(struct write_lab *lab, struct check_seen *seen);
struct haul_cache_checked check_lab_repair(struct write_lab *lab, struct check_seen *seen);
/* Looking finds so many entries and no damage. */
void check_lab_clean(struct write_lab *lab, uint64_t entries);
/* What is served after it: everything but `lost`, and nothing that was deleted. */
void check_lab_served(struct write_lab *lab, const uint32_t *lost, uint32_t lost_count);

/* Where the live value of a key is. */
struct haul_cache_listed check_lab_place(struct write_lab *lab, uint32_t number);
/* Its bytes on the disk, and those of a segment. */
uint8_t *check_lab_value(struct write_lab *lab, uint32_t number);
uint8_t *check_lab_segment(struct write_lab *lab, uint32_t segment);
