#include "pair_lab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void pair_lab_open_batch(struct pair_lab *lab, uint32_t type, enum haul_map_engine engine,
			 uint32_t room, uint32_t batch)
{
	const struct haul_map_spec spec = { .name = "test_lab",
					    .type = type,
					    .key_size = sizeof(uint32_t),
					    .value_size = sizeof(struct pair_entry),
					    .max_entries = room };
	const struct haul_map_options options = { .engine = engine, .batch = batch };
	struct haul_err err = { 0 };
	int rc = haul_map_create(&lab->any, &spec, NULL, &err);
	if (rc == -EPERM)
		test_skip(err.text);
	if (rc < 0)
		fail_msg("%s", err.text);
	assert_int_equal(haul_map_open_fd(&lab->one, haul_map_fd(lab->any), &options, &err), 0);
	const struct haul_map_info *info = haul_map_info(lab->any);
	lab->cpus = info->cpus;
	lab->slot = info->slot_bytes;
	assert_int_equal(lab->slot, lab->cpus * sizeof(struct pair_entry));
	lab->keys = calloc(room, sizeof *lab->keys);
	lab->values = calloc(room, lab->slot);
	lab->status = calloc(room, sizeof *lab->status);
	assert_non_null(lab->keys);
	assert_non_null(lab->values);
	assert_non_null(lab->status);
}

void pair_lab_open(struct pair_lab *lab, uint32_t type, enum haul_map_engine engine, uint32_t room)
{
	pair_lab_open_batch(lab, type, engine, room, 0);
}

void pair_lab_close(struct pair_lab *lab)
{
	haul_map_close(lab->one);
	haul_map_close(lab->any);
	free(lab->keys);
	free(lab->values);
	free(lab->status);
}

struct pair_entry *pair_lab_at(const struct pair_lab *lab, uint32_t row, uint32_t cpu)
{
	return (struct pair_entry *)(void *)(lab->values + (size_t)row * lab->slot) + cpu;
}

void pair_lab_set(struct pair_lab *lab, uint32_t row, uint32_t key)
{
	lab->keys[row] = key;
	for (uint32_t cpu = 0; cpu < lab->cpus; cpu++)
		*pair_lab_at(lab, row, cpu) = (struct pair_entry){ .value = UINT64_C(3) * key + cpu,
								   .packets = key + 1,
								   .bytes = UINT64_C(100) * key,
								   .last_seen_ms = key };
}

struct haul_map_rows pair_lab_rows(struct pair_lab *lab, uint32_t first, uint32_t count)
{
	return (struct haul_map_rows){ .count = count,
				       .keys = lab->keys + first,
				       .values = lab->values + (size_t)first * lab->slot,
				       .status = lab->status + first };
}

void pair_lab_put(struct pair_lab *lab, uint32_t first, uint32_t count)
{
	const struct haul_map_rows of = pair_lab_rows(lab, first, count);
	PAIR_LAB_BY_ENGINE(lab, haul_map_update, &of, HAUL_MAP_ANY, &lab->result);
	assert_int_equal(lab->result.done, count);
	assert_int_equal(lab->result.failed_index, -1);
}

void pair_lab_get(struct pair_lab *lab, uint32_t first, uint32_t count)
{
	const struct haul_map_rows of = pair_lab_rows(lab, first, count);
	PAIR_LAB_BY_ENGINE(lab, haul_map_get, &of, &lab->result);
}

void pair_lab_put_range(struct pair_lab *lab, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		pair_lab_set(lab, i, i);
	pair_lab_put(lab, 0, count);
}

uint64_t pair_lab_count(struct pair_lab *lab)
{
	uint64_t count = 0;
	PAIR_LAB_BY_ENGINE(lab, haul_map_count, &count, &lab->result);
	return count;
}

int pair_lab_see(const struct haul_map_batch *batch, void *arg)
{
	struct pair_seen *seen = arg;
	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t key;
		struct pair_entry value[PAIR_LAB_CPUS];
		memcpy(&key, haul_map_key(batch, i), sizeof key);
		memcpy(value, haul_map_value(batch, i), seen->lab->slot);
		assert_true(key < PAIR_LAB_KEYS);
		for (uint32_t cpu = 0; cpu < seen->lab->cpus; cpu++)
			assert_int_equal(value[cpu].value, UINT64_C(3) * key + cpu);
		__atomic_fetch_add(&seen->times[key], 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&seen->count, 1, __ATOMIC_RELAXED);
	}
	return 0;
}

void pair_lab_see_all(struct pair_lab *lab, struct pair_seen *seen, uint32_t threads)
{
	const struct haul_map_scan scan = { .threads = threads,
					    .visit = pair_lab_see,
					    .arg = seen };
	struct haul_map_report report;
	memset(seen, 0, sizeof *seen);
	seen->lab = lab;
	PAIR_LAB_BY_ENGINE(lab, haul_map_scan, &scan, &report);
	assert_int_equal(report.read, seen->count);
}
