/* bpf/key_set.h — a set of keys of one size: what an import keeps, when it deletes the rest.
 *
 * Model      Keys lie in a column; a table of their indices finds them. Exact: keys are compared
 *            whole.
 * Memory     key_size + 8 to 16 bytes a key; doubles as it grows.
 * Threads    one at a time a set.
 * Errors     -ENOMEM.
 * Limits     2^31 keys. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct key_set {
	uint32_t key_size;
	uint32_t count;
	uint64_t secret; /* keys of a stranger's file may be chosen to collide */
	uint8_t *keys;
	uint32_t room;   /* of keys */
	uint32_t *slots; /* index + 1, 0 = empty; twice the room */
};

void key_set_init(struct key_set *set, uint32_t key_size, uint64_t secret);
void key_set_done(struct key_set *set);
/* Takes count keys back to back; those that are there already are dropped. */
int key_set_load(struct key_set *set, const uint8_t *keys, uint32_t count);
bool key_set_has(const struct key_set *set, const void *key);
