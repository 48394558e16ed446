/* bpf/progs/map_common.h — what the kernel engine's two objects share: their maps, and reading,
 * copying and testing entries. Not for user space.
 *
 * Sizes are read once from .rodata, whose contents the verifier knows: a copy is unrolled as far as
 * the largest size, and what lies behind this map's size is never checked and never kept. */
#pragma once

#include "bpf/progs/map_prog.h"
#include "bpf/progs/prog.h"

#ifdef __bpf__

struct bpf_map; /* the kernel's */

enum { EXISTS = -17, NOT_THERE = -2, AGAIN = -11 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(key_size, 8);
	__uint(value_size, 8);
	__uint(max_entries, 1);
} map_target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(key_size, 4);
	__uint(value_size, 16);
	__uint(max_entries, 1);
} map_io SEC(".maps");

const volatile struct map_config map_config;
struct map_work map_work;

/* ---- bytes ---- */

MAP_INLINE void copy_words(uint8_t *to, const uint8_t *from, uint32_t size, const uint32_t limit)
{
#pragma clang loop unroll(full)
	for (uint32_t i = 0; i < limit; i++) {
		if (size < 8 * (i + 1))
			break;
		*(uint64_t *)(to + 8 * i) = *(const uint64_t *)(from + 8 * i);
	}
	uint32_t at = size & ~7U;
	if (size & 4) {
		*(uint32_t *)(to + at) = *(const uint32_t *)(from + at);
		at += 4;
	}
	if (size & 2) {
		*(uint16_t *)(to + at) = *(const uint16_t *)(from + at);
		at += 2;
	}
	if (size & 1)
		to[at] = from[at];
}

MAP_INLINE void copy_key(uint8_t *to, const void *key)
{
	copy_words(to, key, map_config.key_size, MAP_KEY_WORDS);
}

MAP_INLINE void copy_value(uint8_t *to, const void *value)
{
	uint32_t size = map_config.value_size;
	if (size <= 8 * MAP_VALUE_WORDS)
		copy_words(to, value, size, MAP_VALUE_WORDS);
	else
		bpf_probe_read_kernel(to, size, value);
}

/* The last 1 … 7 bytes of something, as the low end of a word. */
MAP_INLINE uint64_t load_tail(const uint8_t *from, uint32_t size)
{
	uint64_t word = 0;
	uint32_t at = 0;
	if (size & 4) {
		word = *(const uint32_t *)from;
		at = 4;
	}
	if (size & 2) {
		word |= (uint64_t) * (const uint16_t *)(from + at) << (8 * at);
		at += 2;
	}
	if (size & 1)
		word |= (uint64_t)from[at] << (8 * at);
	return word;
}

/* The eight bytes at `at`, or all there are. */
MAP_INLINE uint64_t load_word(const uint8_t *from, uint32_t at, uint32_t size)
{
	if (size < 8)
		return load_tail(from, size);
	if (at > size - 8)
		return 0;
	return *(const uint64_t *)(from + at);
}

/* ---- filter ---- */

MAP_INLINE int passes(const void *key, const void *value)
{
	uint32_t i = 0;
	uint32_t value_tests = map_work.value_tests;
	for (; i < MAP_TESTS; i++) {
		if (i >= value_tests)
			break;
		const struct map_test *test = &map_work.tests[i];
		if (!map_test_holds(test, load_word(value, test->pick.at, map_config.value_size)))
			return 0;
	}
	uint32_t all_tests = map_work.all_tests;
	for (; i < MAP_TESTS; i++) {
		if (i >= all_tests)
			break;
		const struct map_test *test = &map_work.tests[i];
		if (!map_test_holds(test, load_word(key, test->pick.at, map_config.key_size)))
			return 0;
	}
	return 1;
}

/* One more entry for the aggregate. */
MAP_INLINE void sum_up(const void *key, const void *value)
{
	uint64_t word;
	if (map_work.in_key)
		word = load_word(key, map_work.pick.at, map_config.key_size);
	else
		word = load_word(value, map_work.pick.at, map_config.value_size);
	uint64_t number = map_pick_get(&map_work.pick, word);
	map_figures_add(&map_work.figures, number);
	if (!map_work.ranks.limit)
		return;
	int64_t place = map_ranks_add(&map_work.ranks, number ^ map_work.figures.turn);
	if (place < 0)
		return;
	uint32_t at = place;
	uint8_t *record = bpf_map_lookup_elem(&map_io, &at);
	if (!record)
		return;
	copy_key(record + MAP_RECORD_KEY, key);
	copy_value(record + map_config.value_at, value);
}

/* ---- rows ---- */

static long get_row(uint32_t i, void *none)
{
	uint8_t *record = bpf_map_lookup_elem(&map_io, &i);
	if (!record)
		return 1;
	void *value = bpf_map_lookup_elem(&map_target, record + MAP_RECORD_KEY);
	if (!value) {
		*(int32_t *)record = NOT_THERE;
		map_work.missing++;
		return 0;
	}
	*(int32_t *)record = 0;
	copy_value(record + map_config.value_at, value);
	return 0;
}

#endif
