/* bpf/kernel_state.h — inside the kernel engine: its loaded programs and how they are run.
 *
 * Model      A part is one load of progs/map.bpf.c with some of its programs, and its own
 *            memory-mapped records. Each is loaded when first needed, so that what cannot be
 *            verified for a map takes nothing else with it, and nobody pays for what is not used.
 * Ownership  parts belong to map->kernel; work and records are the kernel's memory, mapped.
 * Memory     records of a walk: as many as the map has entries, up to walk_bytes_max.
 * Threads    one at a time.
 * Errors     a part that failed stays failed, with its text; -ENOTSUP from then on.
 * Limits     KERNEL_VALUE_MAX, KERNEL_WALK_BYTES_MAX. */
#pragma once

#include "bpf/kernel.h"
#include "bpf/progs/map_prog.h"

enum {
	KERNEL_VALUE_MAX = 65536,
	KERNEL_BUSY_TRIES = 8,
	KERNEL_ROOM_MIN = 8, /* records, however large */
	KERNEL_ROWS_BYTES_MAX = 4 << 20,
	KERNEL_WALK_BYTES_MAX = 256 << 20, /* default of walk_bytes_max */
	KERNEL_FILTERED_START = 65536,     /* records that a filtered walk first makes room for */
	KERNEL_HASH_WALK_FROM = 65536,     /* default of hash_walk_from */
	KERNEL_FETCH_FROM = 32768,         /* default of fetch_from */
	KERNEL_SUM_PAYS_LATER = 8,         /* times hash_walk_from, for sums */
	KERNEL_HASH_RECORDS = 8192         /* of a walk by buckets, if they take few bytes */
};

/* X(id) */
enum kernel_part_id {
	KERNEL_READ,    /* get */
	KERNEL_WRITE,   /* update, upsert */
	KERNEL_REMOVE,  /* delete */
	KERNEL_COMPARE, /* compare-delete */
	KERNEL_SCAN,
	KERNEL_SUM,
	KERNEL_CLEAN,
	KERNEL_HASH_SCAN,
	KERNEL_HASH_SUM,
	KERNEL_HASH_READ, /* get, of large maps */
	KERNEL_HASH_WARM, /* before WRITE, REMOVE, COMPARE */
	KERNEL_PARTS
};

/* X(id, name of the program, part) */
#define KERNEL_PROGRAM_LIST(X)                                                                     \
	X(KERNEL_P_GET, map_get, KERNEL_READ)                                                      \
	X(KERNEL_P_PUT, map_put, KERNEL_WRITE)                                                     \
	X(KERNEL_P_UPSERT, map_upsert, KERNEL_WRITE)                                               \
	X(KERNEL_P_DROP, map_drop, KERNEL_REMOVE)                                                  \
	X(KERNEL_P_COMPARE, map_compare, KERNEL_COMPARE)                                           \
	X(KERNEL_P_SCAN, map_scan, KERNEL_SCAN)                                                    \
	X(KERNEL_P_SUM, map_sum, KERNEL_SUM)                                                       \
	X(KERNEL_P_CLEAN, map_clean, KERNEL_CLEAN)                                                 \
	X(KERNEL_P_HASH_SCAN, hash_scan, KERNEL_HASH_SCAN)                                         \
	X(KERNEL_P_HASH_SUM, hash_sum, KERNEL_HASH_SUM)                                            \
	X(KERNEL_P_HASH_GET, hash_get, KERNEL_HASH_READ)                                           \
	X(KERNEL_P_HASH_WARM, hash_warm, KERNEL_HASH_WARM)

enum kernel_program {
#define X(id, name, part) id,
	KERNEL_PROGRAM_LIST(X)
#undef X
		KERNEL_PROGRAMS
};

struct kernel_part {
	struct bpf_object *object; /* NULL = not loaded */
	struct map_work *work;
	uint8_t *records;
	size_t bytes;
	uint32_t room; /* records */
	int error;
	char why[HAUL_MAP_TEXT];
};

/* What the running kernel's BTF says; see kernel_btf.c. */
struct kernel_layout {
	bool known;
	int error;           /* there is no BTF: -ENOTSUP */
	int count_id;        /* of bpf_map_sum_elem_count; 0 = there is none */
	bool walkable;       /* hash maps are as progs/map_hash.bpf.c needs them … */
	uint32_t buckets_at; /* … and these are where */
	uint32_t bucket_count_at;
	uint32_t key_at;
	uint32_t seed_at;
};

struct map_kernel {
	struct kernel_layout layout;
	struct kernel_part parts[KERNEL_PARTS];
	int program_fds[KERNEL_PROGRAMS]; /* of loaded parts */
	struct haul_sizer rows;           /* rows a call */
	uint32_t busy;                    /* tries in a row of one row */
	size_t walk_bytes_max;
	uint32_t hash_walk_from; /* entries from which loading progs/map_hash.bpf.c pays … */
	uint32_t fetch_from;     /* … and rows, all together, from which it pays for them */
	uint64_t rows_seen;
	uint32_t record_bytes;
	uint32_t value_at; /* in a record */
	int count_fd;      /* program that counts; 0 = not loaded */
	int count_error;
};

/* Have part loaded with room for so many records at least (never more than its bound allows). */
int kernel_part_load(struct haul_map *map, enum kernel_part_id id, uint64_t wanted);
/* One call: the program runs to its end. */
int kernel_run(struct haul_map *map, enum kernel_program program, uint64_t *calls);

/* The layout, from BTF the first time. */
const struct kernel_layout *kernel_layout_load(struct map_kernel *kernel);

static inline uint8_t *kernel_record(const struct haul_map *map, const struct kernel_part *part,
				     uint32_t i)
{
	return part->records + (size_t)i * map->kernel->record_bytes;
}

/* ---- kernel_filter.c ---- */

/* field must lie within the key or value. */
void kernel_pick_init(struct map_pick *pick, const struct haul_map_info *info,
		      const struct haul_map_field *field);
void kernel_test_init(struct map_test *test, const struct haul_map_info *info,
		      const struct haul_map_condition *condition);
/* NULL = all pass. -EINVAL as haul_map_filter_check. */
int kernel_filter_set(struct map_work *work, const struct haul_map_info *info,
		      const struct haul_map_filter *filter);
/* The eight bytes that the program would read for pick. */
uint64_t kernel_word(const struct map_pick *pick, const void *data, uint32_t size);

/* ---- the engine's operations: kernel_rows.c, kernel_walk.c, kernel_count.c ---- */

int kernel_get(struct haul_map *map, const struct haul_map_rows *rows,
	       struct haul_map_result *result);
int kernel_update(struct haul_map *map, const struct haul_map_rows *rows, enum haul_map_mode mode,
		  struct haul_map_result *result);
int kernel_upsert(struct haul_map *map, const struct haul_map_rows *rows,
		  struct haul_map_result *result);
int kernel_delete(struct haul_map *map, const struct haul_map_rows *rows,
		  struct haul_map_result *result);
int kernel_compare_delete(struct haul_map *map, const struct haul_map_rows *rows,
			  const struct haul_map_field *field, struct haul_map_result *result);
int kernel_scan(struct haul_map *map, const struct haul_map_scan *scan,
		struct haul_map_report *report);
int kernel_delete_if(struct haul_map *map, const struct haul_map_filter *filter,
		     struct haul_map_result *result);
int kernel_aggregate(struct haul_map *map, struct haul_map_aggregate *aggregate,
		     struct haul_map_result *result);
int kernel_count(struct haul_map *map, uint64_t *count, struct haul_map_result *result);
void kernel_count_close(struct map_kernel *kernel);
