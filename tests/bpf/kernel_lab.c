#include "bpf/kernel_lab.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void info_fill(struct haul_map_info *info, const struct haul_map_spec *spec)
{
	bool per_cpu = spec->type == BPF_MAP_TYPE_PERCPU_HASH ||
		       spec->type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
		       spec->type == BPF_MAP_TYPE_PERCPU_ARRAY;
	*info = (struct haul_map_info){
		.type = spec->type,
		.flags = spec->flags,
		.key_size = spec->key_size,
		.value_size = spec->value_size,
		.max_entries = spec->max_entries,
		.cpus = per_cpu ? (uint32_t)libbpf_num_possible_cpus() : 1,
	};
	info->slot_bytes = per_cpu ? info->cpus * ((spec->value_size + 7) & ~7U) : spec->value_size;
}

void kernel_lab_open(struct kernel_lab *lab, const struct haul_map_spec *spec)
{
	memset(lab, 0, sizeof *lab);
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = spec->flags,
		    .inner_map_fd = (uint32_t)spec->inner_fd);
	lab->map.fd = bpf_map_create((enum bpf_map_type)spec->type, "kernel_lab", spec->key_size,
				     spec->value_size, spec->max_entries, &options);
	if (lab->map.fd == -EPERM)
		test_skip("creating a BPF map needs CAP_BPF, or root");
	assert_true(lab->map.fd >= 0);
	info_fill(&lab->map.info, spec);
	lab->map.options.call_max_ns = HAUL_MAP_CALL_MAX_NS;
	lab->map.sys = bpf_sys_linux();
	lab->map.os = os_linux();
	lab->room = spec->max_entries + KERNEL_LAB_ROWS;
	lab->keys = calloc(lab->room, spec->key_size);
	lab->values = calloc(lab->room, spec->value_size);
	lab->row_keys = calloc(KERNEL_LAB_ROWS, spec->key_size);
	lab->row_values = calloc(KERNEL_LAB_ROWS, spec->value_size);
	lab->status = calloc(KERNEL_LAB_ROWS, sizeof *lab->status);
	assert_true(lab->keys && lab->values && lab->row_keys && lab->row_values && lab->status);
}

void kernel_lab_close(struct kernel_lab *lab)
{
	map_kernel_close(&lab->map);
	(void)close(lab->map.fd);
	free(lab->keys);
	free(lab->values);
	free(lab->row_keys);
	free(lab->row_values);
	free(lab->status);
}

int64_t kernel_lab_find(const struct kernel_lab *lab, const void *key)
{
	size_t key_size = lab->map.info.key_size;
	for (uint32_t i = 0; i < lab->count; i++) {
		if (memcmp(lab->keys + i * key_size, key, key_size) == 0)
			return i;
	}
	return -1;
}

void kernel_lab_set(struct kernel_lab *lab, const void *key, const void *value)
{
	size_t key_size = lab->map.info.key_size;
	size_t value_size = lab->map.info.value_size;
	int64_t at = kernel_lab_find(lab, key);
	if (at < 0) {
		assert_true(lab->count < lab->room);
		at = lab->count++;
	}
	memcpy(lab->keys + (size_t)at * key_size, key, key_size);
	memcpy(lab->values + (size_t)at * value_size, value, value_size);
}

void kernel_lab_remove(struct kernel_lab *lab, uint32_t at)
{
	size_t key_size = lab->map.info.key_size;
	size_t value_size = lab->map.info.value_size;
	assert_true(at < lab->count);
	lab->count--;
	memmove(lab->keys + at * key_size, lab->keys + lab->count * key_size, key_size);
	memmove(lab->values + at * value_size, lab->values + lab->count * value_size, value_size);
}

void kernel_lab_put(struct kernel_lab *lab, const void *key, const void *value)
{
	assert_int_equal(bpf_map_update_elem(lab->map.fd, key, value, BPF_ANY), 0);
	kernel_lab_set(lab, key, value);
}

static uint32_t entries(const struct kernel_lab *lab)
{
	uint8_t at[HAUL_MAP_KEY_MAX], next[HAUL_MAP_KEY_MAX];
	uint32_t count = 0;
	int rc = bpf_map_get_next_key(lab->map.fd, NULL, next);
	while (rc == 0) {
		count++;
		memcpy(at, next, lab->map.info.key_size);
		rc = bpf_map_get_next_key(lab->map.fd, at, next);
	}
	return count;
}

void kernel_lab_check(struct kernel_lab *lab)
{
	const struct haul_map_info *info = &lab->map.info;
	uint8_t *value = malloc(info->slot_bytes);
	assert_non_null(value);
	for (uint32_t i = 0; i < lab->count; i++) {
		const uint8_t *key = lab->keys + (size_t)i * info->key_size;
		assert_int_equal(bpf_map_lookup_elem(lab->map.fd, key, value), 0);
		assert_memory_equal(value, lab->values + (size_t)i * info->value_size,
				    info->value_size);
	}
	free(value);
	if (info->type != BPF_MAP_TYPE_ARRAY)
		assert_int_equal(entries(lab), lab->count);
}
