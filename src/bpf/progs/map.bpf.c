/* bpf/progs/map.bpf.c — the kernel engine's programs for every type they can work on; see
 * map_prog.h. */
#include "bpf/progs/map_common.h"

/* One of `classes` groups of about the same size; group c of n is groups 2c and 2c+1 of 2n. */
MAP_INLINE uint32_t class_of(const uint8_t *key, uint32_t classes)
{
	uint32_t size = map_config.key_size;
	uint64_t hash = load_tail(key + (size & ~7U), size & 7);
	for (uint32_t i = 0; i < MAP_KEY_WORDS; i++) {
		if (size < 8 * (i + 1))
			break;
		hash = (hash ^ *(const uint64_t *)(key + 8 * i)) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 32;
	}
	hash *= 0xd6e8feb86659fd93ULL;
	return ((hash >> 32) * classes) >> 32;
}

/* ---- walks ---- */

static long scan_entry(struct bpf_map *map, const void *key, void *value, void *none)
{
	if (!passes(key, value))
		return 0;
	uint32_t classes = map_work.classes;
	if (classes && class_of(key, classes) != map_work.class)
		return 0;
	uint32_t at = map_work.matched++;
	uint8_t *record = bpf_map_lookup_elem(&map_io, &at);
	if (!record)
		return 0; /* counted all the same: there is another pass */
	copy_key(record + MAP_RECORD_KEY, key);
	copy_value(record + map_config.value_at, value);
	return 0;
}

SEC("syscall")
int map_scan(void *ctx)
{
	map_work.visited = bpf_for_each_map_elem(&map_target, scan_entry, 0, 0);
	return 0;
}

static long sum_entry(struct bpf_map *map, const void *key, void *value, void *none)
{
	if (passes(key, value))
		sum_up(key, value);
	return 0;
}

SEC("syscall")
int map_sum(void *ctx)
{
	map_work.visited = bpf_for_each_map_elem(&map_target, sum_entry, 0, 0);
	return 0;
}

static long clean_entry(struct bpf_map *map, const void *key, void *value, void *none)
{
	if (!passes(key, value))
		return 0;
	long rc = bpf_map_delete_elem(map, key);
	if (!rc)
		map_work.done++;
	else if (rc == NOT_THERE)
		map_work.missing++;
	else {
		map_work.kept++;
		map_work.failed = rc;
	}
	return 0;
}

SEC("syscall")
int map_clean(void *ctx)
{
	map_work.visited = bpf_for_each_map_elem(&map_target, clean_entry, 0, 0);
	return 0;
}

/* ---- rows ---- */

SEC("syscall")
int map_get(void *ctx)
{
	map_work.reached = bpf_loop(map_work.count, get_row, 0, 0);
	map_work.done = map_work.reached - map_work.missing;
	return 0;
}

/* What ends the rows. */
MAP_INLINE long row_failed(uint32_t i, long rc)
{
	map_work.failed = rc;
	map_work.reached = i;
	return 1;
}

static long put_row(uint32_t i, void *none)
{
	uint8_t *record = bpf_map_lookup_elem(&map_io, &i);
	if (!record)
		return 1;
	long rc = bpf_map_update_elem(&map_target, record + MAP_RECORD_KEY,
				      record + map_config.value_at, map_work.flags);
	*(int32_t *)record = rc;
	if (!rc)
		map_work.done++;
	else if (rc == EXISTS && map_work.flags == BPF_NOEXIST)
		map_work.kept++;
	else if (rc == NOT_THERE && map_work.flags == BPF_EXIST)
		map_work.missing++;
	else
		return row_failed(i, rc);
	return 0;
}

SEC("syscall")
int map_put(void *ctx)
{
	map_work.reached = map_work.count;
	bpf_loop(map_work.count, put_row, 0, 0);
	return 0;
}

/* One call a row as long as rows are what the one before was; another CPU may add or take the key
 * in between, hence the tries. */
static long upsert_row(uint32_t i, void *none)
{
	uint8_t *record = bpf_map_lookup_elem(&map_io, &i);
	if (!record)
		return 1;
	uint32_t inserting = map_work.inserting;
	if (map_config.look_first)
		inserting = !bpf_map_lookup_elem(&map_target, record + MAP_RECORD_KEY);
	long rc = AGAIN;
	for (uint32_t try = 0; try < MAP_UPSERT_TRIES; try++) {
		rc = bpf_map_update_elem(&map_target, record + MAP_RECORD_KEY,
					 record + map_config.value_at,
					 inserting ? BPF_NOEXIST : BPF_EXIST);
		if (rc != (inserting ? EXISTS : NOT_THERE))
			break;
		inserting = !inserting;
		rc = AGAIN;
	}
	map_work.inserting = inserting;
	*(int32_t *)record = rc;
	if (rc)
		return row_failed(i, rc);
	map_work.done++;
	map_work.inserted += inserting;
	return 0;
}

SEC("syscall")
int map_upsert(void *ctx)
{
	map_work.reached = map_work.count;
	bpf_loop(map_work.count, upsert_row, 0, 0);
	return 0;
}

MAP_INLINE long drop(uint32_t i, uint8_t *record)
{
	long rc = bpf_map_delete_elem(&map_target, record + MAP_RECORD_KEY);
	*(int32_t *)record = rc;
	if (!rc)
		map_work.done++;
	else if (rc == NOT_THERE)
		map_work.missing++;
	else
		return row_failed(i, rc);
	return 0;
}

static long drop_row(uint32_t i, void *none)
{
	uint8_t *record = bpf_map_lookup_elem(&map_io, &i);
	return record ? drop(i, record) : 1;
}

SEC("syscall")
int map_drop(void *ctx)
{
	map_work.reached = map_work.count;
	bpf_loop(map_work.count, drop_row, 0, 0);
	return 0;
}

MAP_INLINE uint64_t differs(const uint8_t *one, const uint8_t *other)
{
	uint32_t size = map_config.value_size;
	uint64_t diff = 0;
#pragma clang loop unroll(full)
	for (uint32_t i = 0; i < MAP_VALUE_WORDS; i++) {
		if (size < 8 * (i + 1))
			break;
		diff |= (*(const uint64_t *)(one + 8 * i) ^ *(const uint64_t *)(other + 8 * i)) &
			map_work.compare[i];
	}
	uint32_t at = size & ~7U;
	if (size & 7 && at < 8 * MAP_VALUE_WORDS)
		diff |= (load_tail(one + at, size & 7) ^ load_tail(other + at, size & 7)) &
			map_work.compare[at / 8];
	return diff;
}

static long compare_row(uint32_t i, void *none)
{
	uint8_t *record = bpf_map_lookup_elem(&map_io, &i);
	if (!record)
		return 1;
	uint8_t *value = bpf_map_lookup_elem(&map_target, record + MAP_RECORD_KEY);
	if (!value) {
		*(int32_t *)record = NOT_THERE;
		map_work.missing++;
		return 0;
	}
	if (differs(value, record + map_config.value_at)) {
		*(int32_t *)record = EXISTS;
		map_work.kept++;
		return 0;
	}
	return drop(i, record);
}

SEC("syscall")
int map_compare(void *ctx)
{
	map_work.reached = map_work.count;
	bpf_loop(map_work.count, compare_row, 0, 0);
	return 0;
}

char map_license[] SEC("license") = "Dual MIT/GPL";
