/* bpf/progs/map_prog.h — what the kernel engine's programs and the library agree on.
 *
 * Model      progs/map.bpf.c holds
 *   maps      map_target  stands for the map worked on; replaced by its fd before load
 *             map_io      ARRAY, BPF_F_MMAPABLE; one element a record
 *             .rodata     struct map_config, set before load, frozen: sizes are constants to the
 *                         verifier, and what does not apply is cut out of the program
 *             .bss        struct map_work: one command and what came of it, memory-mapped
 *   programs  map_get, map_put, map_upsert, map_drop, map_compare   rows 0 … count-1 of map_io
 *             map_scan    entries that pass the tests to map_io
 *             map_sum     figures of those entries; the top ones to map_io
 *             map_clean   deletes those entries
 *
 *   progs/map_hash.bpf.c has the same maps, and walks large hash maps faster, by their buckets:
 *             hash_scan, hash_sum   as map_scan and map_sum, from work.bucket on, some of the way
 *             hash_get              as map_get, the memory of rows fetched side by side
 *             hash_warm             only fetches, for the program that comes after it
 *
 *   record    int32_t status, 4 bytes unused, key rounded up to 8, value rounded up to 8
 *
 * Limits     Both sides compile this file; only <stdint.h> here. */
#pragma once

#include <stdint.h>

#include "bpf/progs/map_figures.h"
#include "bpf/progs/map_test.h"

enum {
	MAP_TESTS = 8,
	MAP_ROWS = 4096,       /* rows a call */
	MAP_KEY_WORDS = 64,    /* 512 bytes */
	MAP_VALUE_WORDS = 128, /* 1024 bytes, copied word by word; larger ones by a helper */
	MAP_BUCKET_BYTES = 16,
	MAP_GROUP = 16,    /* buckets fetched side by side */
	MAP_GROUPS = 1024, /* a call of map_hash */
	MAP_WARM_KEY = 64, /* bytes of a key whose rows are fetched ahead */
	MAP_UPSERT_TRIES = 16,
	MAP_RECORD_KEY = 8 /* where the key begins in a record */
};

struct map_config {
	uint32_t key_size;
	uint32_t value_size;
	uint32_t value_at; /* where the value begins in a record */
	/* map_hash: the kernel's struct bpf_htab, struct bucket and struct htab_elem */
	uint32_t buckets_at;
	uint32_t bucket_count_at;
	uint32_t key_at;
	uint32_t seed_at;
	uint32_t entry_bytes; /* of an entry, its head included */
	uint32_t look_first;  /* upsert: a failing update would cost an entry (LRU types) */
};

struct map_work {
	/* in: rows */
	uint32_t count;
	uint32_t inserting; /* map_upsert: what the row before turned out to be */
	uint64_t flags;     /* map_put: BPF_ANY, BPF_NOEXIST, BPF_EXIST */
	/* in: walks */
	uint32_t value_tests; /* tests[0 … value_tests-1] are on the value … */
	uint32_t all_tests;   /* … and those up to all_tests-1 on the key */
	uint32_t classes;     /* map_scan: 0, or only keys of class of so many */
	uint32_t class;
	uint32_t in_key; /* map_sum: pick is of the key */
	uint32_t reserved;
	struct map_pick pick;
	struct map_test tests[MAP_TESTS];
	/* out */
	uint64_t visited;
	uint64_t matched; /* map_scan: may exceed the records there is room for */
	uint64_t done;
	uint64_t missing;
	uint64_t inserted;
	uint64_t kept;
	uint32_t reached; /* rows handled */
	int32_t failed;   /* the errno that ended it, negative; 0 = none */
	struct map_figures figures;
	struct map_ranks ranks;
	/* map_hash: where the walk stands, in and out; and its own notes */
	uint64_t bucket;
	uint64_t bucket_count; /* out */
	uint64_t hops;         /* out: buckets read again */
	uint64_t full;         /* out: 1 = no room for the group of bucket */
	uint32_t seed;         /* of the map's hash */
	uint32_t reserved_too;
	uint64_t map;
	uint64_t buckets;
	uint64_t node;
	uint64_t mark;
	uint64_t mark_visited;
	uint32_t slot;
	uint32_t tries;
	uint64_t heads[MAP_GROUP];
	uint64_t compare[MAP_VALUE_WORDS]; /* in: map_compare: bits of the value that count */
};
