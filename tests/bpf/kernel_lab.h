/* bpf/kernel_lab.h — a real map, the kernel engine on it, and a model to compare it with.
 *
 * Model      One haul_map, filled in by hand so that only the engine is under test. The model is a
 *            column of keys and values and knows nothing of the kernel. kernel_lab_check reads the
 *            map one system call an entry and compares it with the model.
 * Ownership  the lab's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/kernel_state.h"
#include "lib/testlib.h"

struct kernel_lab {
	struct haul_map map;
	/* model */
	uint32_t count, room;
	uint8_t *keys, *values;
	/* rows of the test's */
	uint8_t *row_keys, *row_values;
	int *status;
};

enum { KERNEL_LAB_ROWS = 3000 };

/* Skips the test program without privilege. */
void kernel_lab_open(struct kernel_lab *lab, const struct haul_map_spec *spec);
void kernel_lab_close(struct kernel_lab *lab);

/* Index in the model, or -1. */
int64_t kernel_lab_find(const struct kernel_lab *lab, const void *key);
void kernel_lab_set(struct kernel_lab *lab, const void *key, const void *value);
void kernel_lab_remove(struct kernel_lab *lab, uint32_t at);
/* Into the map and the model, past the engine. */
void kernel_lab_put(struct kernel_lab *lab, const void *key, const void *value);
/* The map holds what the model holds. */
void kernel_lab_check(struct kernel_lab *lab);
