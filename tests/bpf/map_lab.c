/* bpf/map_lab.c — see map_lab.h. */
#include "bpf/map_lab.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/map_state.h"
#include "lib/testlib.h"

/* ---- the twin ---- */

static bool is_batch(int cmd)
{
	return cmd == BPF_MAP_LOOKUP_BATCH || cmd == BPF_MAP_LOOKUP_AND_DELETE_BATCH ||
	       cmd == BPF_MAP_UPDATE_BATCH || cmd == BPF_MAP_DELETE_BATCH;
}

static int fault_happen(const struct lab_fault *fault, int cmd, union bpf_attr *attr)
{
	if (fault->partial) {
		if (attr->batch.count > fault->part)
			attr->batch.count = fault->part;
		int rc = bpf_sys_linux()->call(bpf_sys_linux(), cmd, attr);
		assert_true(rc == 0 || rc == -ENOENT);
	}
	if (fault->count_set)
		attr->batch.count = fault->count;
	return fault->rc;
}

static int twin_call(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	struct lab_sys *twin = (struct lab_sys *)sys;
	twin->calls++;
	if (is_batch(cmd) && twin->size_count < 64)
		twin->sizes[twin->size_count++] = attr->batch.count;
	for (uint32_t i = 0; i < MAP_LAB_FAULTS; i++) {
		struct lab_fault *fault = &twin->faults[i];
		if (fault->cmd != cmd || fault->times == 0)
			continue;
		if (fault->after > 0) {
			fault->after--;
			continue;
		}
		fault->times--;
		return fault_happen(fault, cmd, attr);
	}
	return bpf_sys_linux()->call(bpf_sys_linux(), cmd, attr);
}

void lab_sys_init(struct lab_sys *twin)
{
	*twin = (struct lab_sys){ .sys = { .call = twin_call } };
	for (uint32_t i = 0; i < MAP_LAB_FAULTS; i++)
		twin->faults[i].cmd = -1;
}

struct lab_fault *lab_sys_fault(struct lab_sys *twin, int cmd, uint32_t after, uint32_t times,
				int rc)
{
	for (uint32_t i = 0; i < MAP_LAB_FAULTS; i++) {
		struct lab_fault *fault = &twin->faults[i];
		if (fault->times > 0)
			continue;
		*fault = (struct lab_fault){ .cmd = cmd, .after = after, .times = times, .rc = rc };
		return fault;
	}
	fail_msg("more than %d faults", MAP_LAB_FAULTS);
	return NULL;
}

/* ---- maps ---- */

void map_lab_need(void)
{
	struct haul_map *map;
	struct haul_err err = { 0 };
	const struct haul_map_spec spec = {
		.name = "lab_need",
		.type = BPF_MAP_TYPE_HASH,
		.key_size = 4,
		.value_size = 4,
		.max_entries = 1,
	};
	int rc = haul_map_create(&map, &spec, NULL, &err);
	if (rc == -EPERM || rc == -ENOSYS)
		test_skip(err.text);
	if (rc < 0)
		fail_msg("%s", err.text);
	haul_map_close(map);
}

static bool of_maps(const struct lab_map *lab)
{
	return map_type_of(lab->info->type)->of_maps;
}

static void inners_open(struct lab_map *lab)
{
	for (uint32_t i = 0; i < MAP_LAB_INNERS; i++) {
		struct bpf_map_info info = { 0 };
		uint32_t bytes = sizeof info;
		lab->inner_fd[i] = bpf_map_create(BPF_MAP_TYPE_ARRAY, "lab_inner", 4, 8, 1, NULL);
		assert_true(lab->inner_fd[i] > 0);
		assert_int_equal(bpf_obj_get_info_by_fd(lab->inner_fd[i], &info, &bytes), 0);
		lab->inner_id[i] = info.id;
	}
}

void map_lab_open(struct lab_map *lab, struct haul_map_spec spec,
		  const struct haul_map_options *options)
{
	struct haul_err err = { 0 };
	const struct map_type *type = map_type_of(spec.type);
	bool array = type->cursor == MAP_CURSOR_KEY && spec.type != BPF_MAP_TYPE_LPM_TRIE;
	memset(lab, 0, sizeof *lab);
	if (spec.key_size == 0)
		spec.key_size = array ? 4 : 8;
	if (spec.value_size == 0)
		spec.value_size = type->of_maps ? 4 : 12;
	if (spec.type == BPF_MAP_TYPE_LPM_TRIE)
		spec.flags |= BPF_F_NO_PREALLOC;
	if (spec.name == NULL)
		spec.name = "lab";
	spec.inner_max_entries = 1;
	if (haul_map_create(&lab->map, &spec, options, &err) < 0)
		fail_msg("%s", err.text);
	lab->info = haul_map_info(lab->map);
	if (type->of_maps)
		inners_open(lab);
}

struct haul_map *map_lab_again(const struct lab_map *lab, const struct haul_map_options *options,
			       struct lab_sys *twin)
{
	struct haul_map *map = NULL;
	struct haul_err err = { 0 };
	struct bpf_sys *sys = twin ? &twin->sys : bpf_sys_linux();
	if (map_open_with(&map, haul_map_fd(lab->map), options, sys, &err) < 0)
		fail_msg("%s", err.text);
	return map;
}

void map_lab_close(struct lab_map *lab)
{
	for (uint32_t i = 0; i < MAP_LAB_INNERS; i++) {
		if (lab->inner_fd[i] > 0)
			assert_int_equal(close(lab->inner_fd[i]), 0);
	}
	haul_map_close(lab->map);
	memset(lab, 0, sizeof *lab);
}

/* ---- entries ---- */

void map_lab_key(const struct lab_map *lab, uint32_t number, void *key)
{
	uint32_t words[2] = { number, number * UINT32_C(2654435761) };
	if (lab->info->type == BPF_MAP_TYPE_LPM_TRIE) {
		words[0] = 32; /* length of the prefix */
		words[1] = number;
	}
	memset(key, 0x5a, lab->info->key_size);
	memcpy(key, words, lab->info->key_size < sizeof words ? 4 : sizeof words);
}

uint32_t map_lab_key_number(const struct lab_map *lab, const void *key)
{
	uint32_t words[2] = { 0 };
	memcpy(words, key, lab->info->key_size < sizeof words ? 4 : sizeof words);
	return lab->info->type == BPF_MAP_TYPE_LPM_TRIE ? words[1] : words[0];
}

void map_lab_value(const struct lab_map *lab, uint32_t number, void *value)
{
	const struct haul_map_info *info = lab->info;
	uint32_t word = number;
	if (of_maps(lab)) {
		assert_true(number < MAP_LAB_INNERS);
		word = (uint32_t)lab->inner_fd[number];
	}
	memset(value, 0, info->slot_bytes);
	for (uint32_t cpu = 0; cpu < info->cpus; cpu++)
		memcpy((uint8_t *)value + cpu * (info->slot_bytes / info->cpus), &word, 4);
}

uint32_t map_lab_number(const struct lab_map *lab, const void *value)
{
	const struct haul_map_info *info = lab->info;
	uint32_t word;
	memcpy(&word, value, 4);
	for (uint32_t cpu = 1; cpu < info->cpus; cpu++)
		assert_memory_equal((const uint8_t *)value + cpu * (info->slot_bytes / info->cpus),
				    &word, 4);
	if (!of_maps(lab))
		return word;
	for (uint32_t i = 0; i < MAP_LAB_INNERS; i++) {
		if (lab->inner_id[i] == word)
			return i;
	}
	fail_msg("id %u is not one of the inner maps", word);
	return 0;
}

void map_lab_fill(const struct lab_map *lab, uint32_t first, uint32_t count)
{
	uint8_t *key = malloc(lab->info->key_size);
	uint8_t *value = malloc(lab->info->slot_bytes);
	assert_true(key && value);
	for (uint32_t i = first; i < first + count; i++) {
		map_lab_key(lab, i, key);
		map_lab_value(lab, i % MAP_LAB_INNERS, value);
		assert_int_equal(bpf_map_update_elem(haul_map_fd(lab->map), key, value, BPF_ANY),
				 0);
	}
	free(key);
	free(value);
}

bool map_lab_has(const struct lab_map *lab, uint32_t number)
{
	uint8_t key[HAUL_MAP_KEY_MAX];
	uint8_t *value = malloc(lab->info->slot_bytes);
	assert_non_null(value);
	map_lab_key(lab, number, key);
	bool has = bpf_map_lookup_elem(haul_map_fd(lab->map), key, value) == 0;
	free(value);
	return has;
}

bool map_lab_remove(const struct lab_map *lab, uint32_t number)
{
	uint8_t key[HAUL_MAP_KEY_MAX];
	map_lab_key(lab, number, key);
	return bpf_map_delete_elem(haul_map_fd(lab->map), key) == 0;
}

/* ---- rows ---- */

void lab_rows_open(struct lab_rows *rows, const struct lab_map *lab, uint32_t count)
{
	rows->keys = calloc(count, lab->info->key_size);
	rows->values = calloc(count, lab->info->slot_bytes);
	rows->status = calloc(count, sizeof *rows->status);
	assert_true(rows->keys && rows->values && rows->status);
	rows->rows = (struct haul_map_rows){ count, rows->keys, rows->values, rows->status };
}

void lab_rows_close(struct lab_rows *rows)
{
	free(rows->keys);
	free(rows->values);
	free(rows->status);
	memset(rows, 0, sizeof *rows);
}

void lab_rows_set(struct lab_rows *rows, const struct lab_map *lab, uint32_t i, uint32_t key,
		  uint32_t value)
{
	map_lab_key(lab, key, rows->keys + (size_t)i * lab->info->key_size);
	map_lab_value(lab, value, rows->values + (size_t)i * lab->info->slot_bytes);
}
