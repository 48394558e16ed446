/* bpf/pair_lab.h — one map by two handles: one that has only the engine under test, and one that
 * has all. An engine that says it cannot do something lets the other do it, as a user would.
 *
 * Model      Keys are numbers below PAIR_LAB_KEYS; each CPU's value follows from the key. Rows of
 *            keys, values and status are the lab's.
 * Threads    one; pair_lab_see any.
 * Errors     asserts; without privilege the program is skipped (77). */
#pragma once

#include <stdint.h>

#include <haul/map.h>
#include "lib/testlib.h"

enum { PAIR_LAB_KEYS = 10000, PAIR_LAB_CPUS = 256 };

struct pair_entry {
	uint64_t value;
	uint64_t packets;
	uint64_t bytes;
	uint64_t last_seen_ms;
};

struct pair_lab {
	struct haul_map *any, *one;
	uint32_t cpus;
	uint32_t slot; /* bytes of an entry's value */
	uint32_t *keys;
	uint8_t *values;
	int *status;
	struct haul_map_result result;
};

/* room: entries of the map, and rows. */
void pair_lab_open(struct pair_lab *lab, uint32_t type, enum haul_map_engine engine, uint32_t room);
void pair_lab_open_batch(struct pair_lab *lab, uint32_t type, enum haul_map_engine engine,
			 uint32_t room, uint32_t batch);
void pair_lab_close(struct pair_lab *lab);

/* Row row's value on one CPU. */
struct pair_entry *pair_lab_at(const struct pair_lab *lab, uint32_t row, uint32_t cpu);
/* Row row is of this key, and each CPU's value follows from it. */
void pair_lab_set(struct pair_lab *lab, uint32_t row, uint32_t key);
struct haul_map_rows pair_lab_rows(struct pair_lab *lab, uint32_t first, uint32_t count);

/* An operation by the engine under test, or by any. */
#define PAIR_LAB_BY_ENGINE(lab, call, ...)                                                         \
	do {                                                                                       \
		int by_rc = call((lab)->one, __VA_ARGS__);                                         \
		if (by_rc == -ENOTSUP)                                                             \
			by_rc = call((lab)->any, __VA_ARGS__);                                     \
		assert_int_equal(by_rc, 0);                                                        \
	} while (0)

/* All of these rows; and of the rows 0 … count - 1, each of the key of its number. */
void pair_lab_put(struct pair_lab *lab, uint32_t first, uint32_t count);
void pair_lab_put_range(struct pair_lab *lab, uint32_t count);
void pair_lab_get(struct pair_lab *lab, uint32_t first, uint32_t count);
uint64_t pair_lab_count(struct pair_lab *lab);

/* Which keys a map has: each once, with the values that belong to it. */
struct pair_seen {
	const struct pair_lab *lab;
	uint32_t count;
	uint8_t times[PAIR_LAB_KEYS];
};
/* Takes a batch into a struct pair_seen. */
int pair_lab_see(const struct haul_map_batch *batch, void *seen);
/* The whole map, by a scan of so many threads. */
void pair_lab_see_all(struct pair_lab *lab, struct pair_seen *seen, uint32_t threads);
