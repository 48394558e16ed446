/* bpf/map_lab.h — real maps of any type with entries known by number, and a bpf(2) that fails when
 * told to.
 *
 * Model      A lab_map is a map whose keys and values stand for small numbers: map_lab_key and
 *            map_lab_value make them, map_lab_number reads one back. What a type wants (prefix
 *            lengths, descriptors of inner maps, a value for each CPU) is hidden behind them.
 *            lab_sys is a twin of the kernel's door: faults are entered in a list and happen when
 *            their call comes.
 * Ownership  the lab's; closed by map_lab_close.
 * Errors     a call that cannot do what it should fails the test; without privilege the program is
 *            skipped (77). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/map.h>
#include "bpf/sys.h"

enum { MAP_LAB_INNERS = 8, MAP_LAB_FAULTS = 8 };

struct lab_fault {
	int cmd;        /* BPF_… */
	uint32_t after; /* calls of cmd that pass first */
	uint32_t times; /* that then fail */
	int rc;         /* with this */
	bool partial;   /* batch calls: made with at most part entries before they fail */
	uint32_t part;  /* … */
	bool count_set; /* batch calls: leave this in attr.batch.count */
	uint32_t count; /* … */
};

struct lab_sys {
	struct bpf_sys sys;
	struct lab_fault faults[MAP_LAB_FAULTS];
	uint64_t calls;
	uint32_t sizes[64]; /* counts asked for by the first batch calls */
	uint32_t size_count;
};
void lab_sys_init(struct lab_sys *twin);
/* Enter a fault; returns it, to be filled in further. */
struct lab_fault *lab_sys_fault(struct lab_sys *twin, int cmd, uint32_t after, uint32_t times,
				int rc);

struct lab_map {
	struct haul_map *map;
	const struct haul_map_info *info;
	int inner_fd[MAP_LAB_INNERS]; /* values of a map of maps: 8 of them go round */
	uint32_t inner_id[MAP_LAB_INNERS];
};

/* Skip the program where maps cannot be made. */
void map_lab_need(void);
/* Sizes of 0 are filled in: key 8 (4 where the type wants it), value 12 (4 for maps of maps). */
void map_lab_open(struct lab_map *lab, struct haul_map_spec spec,
		  const struct haul_map_options *options);
/* The same map again, with other options or the twin; NULL = the kernel. */
struct haul_map *map_lab_again(const struct lab_map *lab, const struct haul_map_options *options,
			       struct lab_sys *twin);
void map_lab_close(struct lab_map *lab);

void map_lab_key(const struct lab_map *lab, uint32_t number, void *key);
/* number of a key that map_lab_key made. */
uint32_t map_lab_key_number(const struct lab_map *lab, const void *key);
/* As update wants it. number < MAP_LAB_INNERS for maps of maps. */
void map_lab_value(const struct lab_map *lab, uint32_t number, void *value);
/* As get and walks give it: of a map of maps an id; all CPUs must agree. */
uint32_t map_lab_number(const struct lab_map *lab, const void *value);
/* Put entries number first … first + count - 1, each with the value value_of(number) =
 * number % MAP_LAB_INNERS, one call each, past the library. */
void map_lab_fill(const struct lab_map *lab, uint32_t first, uint32_t count);
bool map_lab_has(const struct lab_map *lab, uint32_t number);
bool map_lab_remove(const struct lab_map *lab, uint32_t number);

/* Rows of keys, values and status in one. */
struct lab_rows {
	struct haul_map_rows rows;
	uint8_t *keys, *values;
	int *status;
};
void lab_rows_open(struct lab_rows *rows, const struct lab_map *lab, uint32_t count);
void lab_rows_close(struct lab_rows *rows);
/* Row i becomes the key number with the value number. */
void lab_rows_set(struct lab_rows *rows, const struct lab_map *lab, uint32_t i, uint32_t key,
		  uint32_t value);
