/* bpf/map_state.h — inside a haul_map, and what an engine is. For src/bpf and its tests only.
 *
 * Model      haul/map.h's calls (ops.c) check their arguments, choose an engine (choose.c), call
 *            it, and enter what came of it into the statistics. An engine does one operation on
 *            all rows, or the whole map, and fills in the result. A NULL entry: cannot.
 * Ownership  everything hangs off the haul_map.
 * Threads    one at a time, but for what scan.c hands to its own threads: read-only fields and
 *            buffers of their own. */
#pragma once

#include <haul/batch.h>
#include <haul/map.h>
#include "bpf/sys.h"
#include "os/os.h"

struct map_kernel; /* kernel.h */

struct map_engine {
	enum haul_map_engine id;
	/* Whether it can do op on this map. When not, *ret_why is a constant text. */
	bool (*can)(const struct haul_map *map, enum haul_map_op op, const char **ret_why);
	int (*get)(struct haul_map *map, const struct haul_map_rows *rows,
		   struct haul_map_result *result);
	int (*update)(struct haul_map *map, const struct haul_map_rows *rows,
		      enum haul_map_mode mode, struct haul_map_result *result);
	int (*upsert)(struct haul_map *map, const struct haul_map_rows *rows,
		      struct haul_map_result *result);
	int (*delete)(struct haul_map *map, const struct haul_map_rows *rows,
		      struct haul_map_result *result);
	int (*compare_delete)(struct haul_map *map, const struct haul_map_rows *rows,
			      const struct haul_map_field *field, struct haul_map_result *result);
	/* Next batch of a walk; take: and delete it. The kernel engine has none. */
	int (*read)(struct haul_map *map, struct haul_map_cursor *cursor, bool take,
		    struct haul_map_batch *batch, struct haul_map_result *result);
	int (*scan)(struct haul_map *map, const struct haul_map_scan *scan,
		    struct haul_map_report *report);
	int (*delete_if)(struct haul_map *map, const struct haul_map_filter *filter,
			 struct haul_map_result *result);
	int (*aggregate)(struct haul_map *map, struct haul_map_aggregate *aggregate,
			 struct haul_map_result *result);
	int (*count)(struct haul_map *map, uint64_t *count, struct haul_map_result *result);
};

extern const struct map_engine map_engine_single, map_engine_batch, map_engine_kernel;

/* X(id, name, help): extra counters of the block "map.<name>". */
#define MAP_COUNTER_LIST(X)                                                                        \
	X(MAP_C_RETRIES, "retries", "calls repeated: full bucket, busy bucket lock")               \
	X(MAP_C_GROWN, "grown", "times a bucket held more than a whole batch")                     \
	X(MAP_C_FALLBACKS, "fallbacks", "operations an engine handed down to another")             \
	X(MAP_C_MISSING, "missing", "keys that were not there")                                    \
	X(MAP_C_FAILED, "failed", "operations that ended with an error")

enum map_counter {
#define X(id, name, help) id,
	MAP_COUNTER_LIST(X)
#undef X
		MAP_COUNTERS
};

/* What reads batches: its buffers, and how large a batch is. A haul_map has one; each thread of a
 * scan has another. reader.h. */
struct map_reader {
	uint8_t *keys, *values; /* room entries each; taken when first used */
	uint32_t room;
	uint32_t floor; /* a batch is at least so large: of the largest bucket met, rounded up */
	struct haul_sizer sizer; /* FIXED at options.batch, or SERVICE on call_max_ns / 2 */
};

struct haul_map {
	int fd;
	struct haul_map_info info;
	struct haul_map_options options; /* defaults filled in */
	struct bpf_sys *sys;
	struct os *os; /* clock of the tuning */
	struct map_reader reader;
	uint64_t entries; /* about so many, as last looked at by choose.c; at first max_entries */
	uint64_t walked;  /* entries of walks that batch calls carried, under AUTO */
	struct map_kernel *kernel; /* NULL until first used */
	int kernel_error;          /* why it could not be loaded; 0 = not tried, or loaded */
	char kernel_why[HAUL_MAP_TEXT];
	char stats_name[HAUL_MAP_NAME + 8];
	struct haul_stats stats;
};

/* How a type is walked and what it has; types.c. */
enum map_cursor_kind { MAP_CURSOR_BUCKET, MAP_CURSOR_KEY, MAP_CURSOR_NONE };
struct map_type {
	uint32_t type;
	const char *name;
	enum map_cursor_kind cursor;
	bool batch_lookup, batch_take, batch_update, batch_delete;
	bool can_delete; /* at all */
	bool per_cpu;
	bool counted;  /* bpf_map_sum_elem_count knows it */
	bool for_each; /* bpf_for_each_map_elem walks it */
	bool of_maps;
};
/* Never NULL; unknown types have name "unknown" and nothing else. */
const struct map_type *map_type_of(uint32_t type);

/* As haul_map_open_fd, with a system of the test's own. */
int map_open_with(struct haul_map **ret_map, int fd, const struct haul_map_options *options,
		  struct bpf_sys *sys, struct haul_err *err);

/* One value of a per-CPU slot, or the value: the field's number, summed over the CPUs. */
uint64_t map_field_get(const struct haul_map_info *info, const struct haul_map_field *field,
		       const void *key, const void *value);

/* Before map_choose: how many entries there are about, if that decides and one call can tell. */
void map_look(struct haul_map *map, enum haul_map_op op, uint64_t rows);
/* The engines to try for op on rows (0 = the whole map), best first; later ones take what earlier
 * ones cannot do. exact: under churn, too. Returns how many. */
enum { MAP_ENGINES_MAX = 3 };
uint32_t map_choose(const struct haul_map *map, enum haul_map_op op, uint64_t rows, bool exact,
		    const struct map_engine *ret_engines[MAP_ENGINES_MAX]);
