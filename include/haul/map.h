/* haul/map.h — BPF maps in batches: any map of the kernel, many entries a system call.
 *
 * Model      A haul_map is one kernel map, opened or created, and an engine that carries operations
 *            to it. Keyed operations take rows (columns of keys, values, status); whole-map ones
 *            visit batches of entries. Three ways lead into the kernel:
 *              kernel  a BPF program of ours walks the map or the rows: one call for millions
 *              batch   BPF_MAP_*_BATCH: any map that has them; a walk under churn is exact
 *              single  one system call an entry: what is left for types that lack a batch call,
 *                      and what the others are measured against
 *            HAUL_MAP_AUTO picks by operation, type and size (haul_map_explain says which and why).
 *            An engine that cannot do an operation on this map hands it to the next one down; that
 *            is counted (result.fallbacks, statistics), never silent.
 * Promises   A batch-engine walk of a hash map sees each entry that is there all the time exactly
 *            once, whatever else is inserted and deleted meanwhile. The kernel engine's walk holds
 *            only RCU: on a preallocated map under churn it may miss or repeat an entry.
 *            single may also repeat and miss many. None is a snapshot of one moment.
 * Units      sizes in bytes, _ns nanoseconds of CLOCK_MONOTONIC. Keys and values are the map's raw
 *            bytes in host order, packed: key_size and slot_bytes apart.
 * Ownership  rows and options are the caller's. A batch passed to visit, or returned by
 *            haul_map_read, belongs to the map and holds until the next call on it.
 * Memory     taken at open and when an engine is first used; grows only when one bucket holds more
 *            than a whole batch.
 * Threads    one thread at a time a haul_map; a scan starts and joins threads of its own when asked
 *            to. Other processes and programs may use the kernel's map at any time.
 * Errors     0, or -errno of the first failure. What happened to how many is in the result, and to
 *            each row in its status: 0 done, -ENOENT not there, -EEXIST already there (compare-
 *            delete: with another value), -ECANCELED not reached because of a failure before it,
 *            other -errno refused. A missing key is not a failure; its value's slot stays
 *            as it was. LPM tries answer with the longest prefix that matches. -ENOTSUP: no
 *            engine can do this on this type of map. -EPERM: needs CAP_BPF (most types
 *            CAP_SYS_ADMIN).
 * Blocking   A call into the kernel does not yield the CPU; options.call_max_ns bounds its length
 *            by sizing the batch. A kernel-engine walk is one call whatever the size.
 * Limits     HAUL_MAP_KEY_MAX, HAUL_MAP_BATCH_MAX, HAUL_MAP_CONDITIONS, HAUL_MAP_TOP_MAX.
 * Source     bpf(2); Documentation/bpf/map_hash.rst and map_array.rst of the kernel. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <haul/api.h>
#include <haul/err.h>
#include <haul/stats.h>

enum {
	HAUL_MAP_KEY_MAX = 512,
	HAUL_MAP_NAME = 16,
	HAUL_MAP_BATCH_MIN = 16,
	HAUL_MAP_BATCH_MAX = 65536,
	HAUL_MAP_BATCH_START = 1024,
	HAUL_MAP_CALL_MAX_NS = 1000000, /* default of options.call_max_ns */
	HAUL_MAP_CONDITIONS = 8,
	HAUL_MAP_TOP_MAX = 256,
	HAUL_MAP_HIST = 65, /* 0, then one bucket a power of two */
	HAUL_MAP_THREADS_MAX = 64,
	HAUL_MAP_TEXT = 256
};

/* X(id, name) */
#define HAUL_MAP_ENGINE_LIST(X)                                                                    \
	X(HAUL_MAP_AUTO, "auto")                                                                   \
	X(HAUL_MAP_SINGLE, "single")                                                               \
	X(HAUL_MAP_BATCH, "batch")                                                                 \
	X(HAUL_MAP_KERNEL, "kernel")

enum haul_map_engine {
#define X(id, name) id,
	HAUL_MAP_ENGINE_LIST(X)
#undef X
		HAUL_MAP_ENGINES
};
HAUL_API const char *haul_map_engine_name(enum haul_map_engine engine);
HAUL_API int haul_map_engine_by_name(const char *name, enum haul_map_engine *ret_engine);

/* What can be done to a map; for haul_map_explain. X(id, name) */
#define HAUL_MAP_OP_LIST(X)                                                                        \
	X(HAUL_MAP_OP_GET, "get")                                                                  \
	X(HAUL_MAP_OP_UPDATE, "update")                                                            \
	X(HAUL_MAP_OP_UPSERT, "upsert")                                                            \
	X(HAUL_MAP_OP_DELETE, "delete")                                                            \
	X(HAUL_MAP_OP_COMPARE_DELETE, "compare-delete")                                            \
	X(HAUL_MAP_OP_SCAN, "scan")                                                                \
	X(HAUL_MAP_OP_TAKE, "take")                                                                \
	X(HAUL_MAP_OP_DELETE_IF, "delete-if")                                                      \
	X(HAUL_MAP_OP_AGGREGATE, "aggregate")                                                      \
	X(HAUL_MAP_OP_COUNT, "count")

enum haul_map_op {
#define X(id, name) id,
	HAUL_MAP_OP_LIST(X)
#undef X
		HAUL_MAP_OPS
};

/* ---- open ---- */

struct haul_map; /* opaque */

struct haul_map_info {
	uint32_t id;
	uint32_t type;  /* enum bpf_map_type */
	uint32_t flags; /* BPF_F_… of its creation */
	uint32_t key_size;
	uint32_t value_size; /* as the map was created */
	uint32_t cpus;       /* values an entry: possible CPUs of per-CPU types, else 1 */
	uint32_t slot_bytes; /* of one entry's value in user space: value_size, or for per-CPU types
			      * cpus values, each rounded up to 8 */
	uint32_t max_entries;
	uint32_t btf_id; /* 0 = the map has no BTF */
	uint32_t btf_key_id, btf_value_id;
	uint64_t memory_bytes; /* as the kernel accounts it; 0 = unknown */
	bool frozen;           /* read-only to system calls */
	char name[HAUL_MAP_NAME];
};
/* "hash", "lru_hash", … as bpftool names them; "type 99" never: unknown ones give "unknown". */
HAUL_API const char *haul_map_type_name(uint32_t type);
HAUL_API int haul_map_type_by_name(const char *name, uint32_t *ret_type);

struct haul_map_options {
	enum haul_map_engine engine; /* AUTO, or the only one to be used: no falling back */
	uint32_t batch;              /* entries a call; 0 = tuned while it runs */
	int64_t call_max_ns;         /* latency budget of a call for the tuning; 0 = default */
};

/* By "id 12" or "12", "pinned /sys/fs/bpf/x" or any text with a slash, "name flows" or "flows".
 * -ENOENT, -EPERM; -EINVAL when a name stands for several maps (the text lists their ids). options
 * may be NULL. */
HAUL_API int haul_map_open(struct haul_map **ret_map, const char *what,
			   const struct haul_map_options *options, struct haul_err *err);
/* The fd is duplicated. */
HAUL_API int haul_map_open_fd(struct haul_map **ret_map, int fd,
			      const struct haul_map_options *options, struct haul_err *err);

struct haul_map_spec {
	const char *name;
	uint32_t type;
	uint32_t flags;
	uint32_t key_size;
	uint32_t value_size;
	uint32_t max_entries;
	uint32_t inner_max_entries; /* HASH_OF_MAPS, ARRAY_OF_MAPS: of an inner ARRAY of u64 … */
	int inner_fd;               /* … or like this map (> 0) */
};
HAUL_API int haul_map_create(struct haul_map **ret_map, const struct haul_map_spec *spec,
			     const struct haul_map_options *options, struct haul_err *err);
HAUL_API int haul_map_pin(struct haul_map *map, const char *path, struct haul_err *err);
HAUL_API void haul_map_close(struct haul_map *map);

HAUL_API const struct haul_map_info *haul_map_info(const struct haul_map *map);
HAUL_API int haul_map_fd(const struct haul_map *map);
/* Block "map.<name>": calls, batches, retries, fallbacks. Lives as long as the map. */
HAUL_API struct haul_stats *haul_map_stats(struct haul_map *map);
/* Every map of this kernel that we may see, by id. Stops when visit returns other than 0. */
HAUL_API int haul_map_each(int (*visit)(const struct haul_map_info *info, void *arg), void *arg,
			   struct haul_err *err);

/* Which engine an operation on so many rows (0: the whole map) will take, and why, in one line.
 * HAUL_MAP_AUTO: none can do it. May load the kernel engine to find out. */
HAUL_API enum haul_map_engine haul_map_explain(struct haul_map *map, enum haul_map_op op,
					       uint64_t rows, char ret_text[HAUL_MAP_TEXT]);

/* ---- rows ---- */

#define HAUL_MAP_UNKNOWN UINT64_MAX /* a count that the engine used cannot tell */

struct haul_map_result {
	uint64_t done;     /* operations that did what was asked */
	uint64_t missing;  /* keys that were not there */
	uint64_t inserted; /* of done: new entries, or HAUL_MAP_UNKNOWN (update) */
	uint64_t updated;  /* of done: entries that were there, or HAUL_MAP_UNKNOWN */
	uint64_t kept;     /* compare-delete: there, but not as expected; update modes: refused by
			       * the mode */
	uint64_t visited;  /* entries looked at by a walk */
	int64_t failed_index;        /* of the first row that failed; -1 = none */
	int reason;                  /* its -errno, 0 = none */
	uint64_t calls;              /* system calls made */
	uint64_t retries;            /* calls repeated: full bucket, busy bucket lock */
	uint64_t fallbacks;          /* operations an engine handed down to another */
	enum haul_map_engine engine; /* that did (most of) it */
};

struct haul_map_rows {
	uint32_t count;
	const void *keys; /* count × key_size */
	void *values;     /* count × slot_bytes; written by get, only read by the others */
	int *status;      /* count, or NULL */
};

/* All take any number of rows; a result is always filled in. Duplicate keys are allowed: rows count
 * in order. */
HAUL_API int haul_map_get(struct haul_map *map, const struct haul_map_rows *rows,
			  struct haul_map_result *ret_result);

enum haul_map_mode { HAUL_MAP_ANY, HAUL_MAP_ONLY_NEW, HAUL_MAP_ONLY_EXISTING };
/* Put values. Counts inserted and updated only where that is free. */
HAUL_API int haul_map_update(struct haul_map *map, const struct haul_map_rows *rows,
			     enum haul_map_mode mode, struct haul_map_result *ret_result);
/* The same as update with HAUL_MAP_ANY, and inserted and updated are exact. */
HAUL_API int haul_map_upsert(struct haul_map *map, const struct haul_map_rows *rows,
			     struct haul_map_result *ret_result);
HAUL_API int haul_map_delete(struct haul_map *map, const struct haul_map_rows *rows,
			     struct haul_map_result *ret_result);

struct haul_map_field {
	bool in_key;     /* of the key instead of the value */
	uint32_t offset; /* bytes from its start; for per-CPU types within one CPU's value */
	uint32_t width;  /* 1, 2, 4 or 8; compare-delete: any */
	bool big_endian; /* network order */
	bool is_signed;
};
/* Delete each entry whose value still has the bytes of values at field (NULL: all of it). Between
 * comparing and deleting another CPU may write: for some hundred nanoseconds in the kernel engine,
 * for a system call in the others. */
HAUL_API int haul_map_compare_delete(struct haul_map *map, const struct haul_map_rows *rows,
				     const struct haul_map_field *field,
				     struct haul_map_result *ret_result);

/* ---- filter ---- */

/* X(id, text) */
#define HAUL_MAP_TEST_LIST(X)                                                                      \
	X(HAUL_MAP_EQ, "==")                                                                       \
	X(HAUL_MAP_NE, "!=")                                                                       \
	X(HAUL_MAP_LT, "<")                                                                        \
	X(HAUL_MAP_LE, "<=")                                                                       \
	X(HAUL_MAP_GT, ">")                                                                        \
	X(HAUL_MAP_GE, ">=")                                                                       \
	X(HAUL_MAP_ALL, "&=")   /* all bits of operand are set */                                  \
	X(HAUL_MAP_ANYBIT, "&") /* any bit of operand is set */

enum haul_map_test {
#define X(id, text) id,
	HAUL_MAP_TEST_LIST(X)
#undef X
		HAUL_MAP_TESTS
};

struct haul_map_condition {
	struct haul_map_field field; /* width 1, 2, 4 or 8; per-CPU types: the sum over CPUs */
	enum haul_map_test test;
	uint64_t operand; /* in host order; as int64_t when the field is signed */
};
/* All must hold; none = every entry. */
struct haul_map_filter {
	uint32_t count;
	struct haul_map_condition conditions[HAUL_MAP_CONDITIONS];
};
HAUL_API int haul_map_filter_check(const struct haul_map_info *info,
				   const struct haul_map_filter *filter, struct haul_err *err);
/* The same answer as in the kernel. */
HAUL_API bool haul_map_filter_match(const struct haul_map_info *info,
				    const struct haul_map_filter *filter, const void *key,
				    const void *value);

/* ---- the whole map ---- */

struct haul_map_batch {
	uint32_t count;
	uint32_t thread; /* of the scan that visits, from 0 */
	const uint8_t *keys;
	const uint8_t *values;
	size_t key_stride; /* bytes from one key to the next */
	size_t value_stride;
};
static inline const void *haul_map_key(const struct haul_map_batch *batch, uint32_t i)
{
	return batch->keys + i * batch->key_stride;
}
static inline const void *haul_map_value(const struct haul_map_batch *batch, uint32_t i)
{
	return batch->values + i * batch->value_stride;
}

/* Where a walk stands; plain bytes that may be stored and used again while the map lives. Bound to
 * one map: another one's gives -EINVAL. All zero = the start. */
struct haul_map_cursor {
	uint32_t map_id;
	uint32_t bytes; /* of data in use; 0 = at the start */
	uint32_t ended;
	uint8_t data[HAUL_MAP_KEY_MAX];
};

/* The next batch (batch engine, else single), at most as many as options.batch or the tuning says.
 * Returns the count, 0 when the walk has ended, negative on failure (cursor unchanged). */
HAUL_API int haul_map_read(struct haul_map *map, struct haul_map_cursor *cursor,
			   struct haul_map_batch *ret_batch, struct haul_map_result *ret_result);
/* The same, and the entries are deleted. A program that holds a pointer to one may still write to
 * it afterwards, and that is lost: for exact figures swap maps (haul/flow.h does). */
HAUL_API int haul_map_take(struct haul_map *map, struct haul_map_cursor *cursor,
			   struct haul_map_batch *ret_batch, struct haul_map_result *ret_result);

struct haul_map_scan {
	const struct haul_map_filter *filter; /* NULL = all entries */
	uint32_t threads; /* 0, 1: the caller's; more: ranges of buckets, hash maps only, and then
			   * visit is called from these threads at once (batch->thread) */
	bool check;       /* find keys seen twice (16 to 32 bytes an entry), and count before and
			   * after */
	/* 0 = go on; other values end the scan, which then returns that value. */
	int (*visit)(const struct haul_map_batch *batch, void *arg);
	void *arg;
};

struct haul_map_report {
	uint64_t read;       /* entries the walk returned */
	uint64_t matched;    /* of them passed to visit */
	uint64_t expected;   /* entries before the scan; HAUL_MAP_UNKNOWN = not counted */
	uint64_t after;      /* entries after it; HAUL_MAP_UNKNOWN = not counted */
	uint64_t duplicates; /* keys seen again; HAUL_MAP_UNKNOWN without check */
	uint64_t overrun;    /* entries read beyond the end of a range, and dropped */
	uint64_t retries;    /* calls repeated */
	uint64_t evicted;    /* LRU types: entries that seem to have vanished during the scan */
	uint64_t calls;
	uint64_t fallbacks;
	enum haul_map_engine engine;
};
HAUL_API int haul_map_scan(struct haul_map *map, const struct haul_map_scan *scan,
			   struct haul_map_report *ret_report);

/* Delete what matches; done = deleted, missing = vanished meanwhile, visited = looked at. */
HAUL_API int haul_map_delete_if(struct haul_map *map, const struct haul_map_filter *filter,
				struct haul_map_result *ret_result);

/* How many entries, without a walk where the kernel counts them (any hash type, 6.6); arrays have
 * max_entries. result.visited > 0 says that a walk was needed. */
HAUL_API int haul_map_count(struct haul_map *map, uint64_t *ret_count,
			    struct haul_map_result *ret_result);

struct haul_map_aggregate {
	/* in */
	const struct haul_map_filter *filter; /* NULL = all */
	struct haul_map_field field;          /* per-CPU types: the sum over CPUs */
	uint32_t top;                         /* keep the N largest, <= HAUL_MAP_TOP_MAX */
	uint8_t *top_keys;                    /* top × key_size, the caller's; largest first */
	uint8_t *top_values;                  /* top × slot_bytes */
	/* out */
	uint64_t count; /* entries that match */
	uint64_t sum;   /* modulo 2^64; sum_high counts the carries */
	uint64_t sum_high;
	uint64_t min, max;            /* host order; as int64_t when the field is signed */
	uint64_t hist[HAUL_MAP_HIST]; /* [0]: zero (and below), [i]: 2^(i-1) … 2^i - 1 */
	uint32_t top_count;
};
HAUL_API int haul_map_aggregate(struct haul_map *map, struct haul_map_aggregate *aggregate,
				struct haul_map_result *ret_result);

/* ---- how large a batch ---- */

enum { HAUL_MAP_TUNE_POINTS = 13 }; /* 16, 32 … 65536 */

struct haul_map_tune_point {
	uint32_t batch;
	uint32_t runs;
	double ns_per_entry; /* median of runs */
	double call_ns_max;  /* 99 % of a run's calls take at most this, median of runs: for so long
			      * the CPU is not yielded (the longest of all is the machine's) */
	bool too_small;      /* a bucket did not fit: ENOSPC */
};
struct haul_map_tune {
	struct haul_map_tune_point points[HAUL_MAP_TUNE_POINTS];
	uint32_t count;
	uint32_t floor;      /* largest bucket met, rounded up; 0 = never too small */
	uint32_t preferred;  /* fastest within the latency budget; smaller when it costs <= 3 % */
	uint32_t throughput; /* fastest of all */
	uint32_t latency;    /* shortest call that costs at most twice the fastest an entry */
};
/* Read the map (only read) at each size, runs (1 to 64) times, in turns. progress may be NULL. An
 * empty map teaches nothing: all recommendations are 0. -ENOTSUP: a type without batch reads. */
HAUL_API int haul_map_tune(struct haul_map *map, uint32_t runs, struct haul_map_tune *ret_tune,
			   void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg);
