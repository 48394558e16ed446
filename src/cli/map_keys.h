/* cli/map_keys.h — a growing column of keys or of whole entries.
 *
 * Ownership  map_keys_free frees what the others took. Threads: one at a time. */
#pragma once

#include "cli/map.h"

struct map_keys {
	uint8_t *data; /* count × bytes */
	uint32_t bytes;
	uint32_t count, room;
};

/* All of args[1…], and a key a line of stdin for "-". CLI_OK, or CLI_FAILED after saying why. */
int map_keys_read(struct map_keys *keys, const struct map_request *request);
static inline uint8_t *map_keys_at(const struct map_keys *keys, uint32_t i)
{
	return keys->data + (size_t)i * keys->bytes;
}
void map_keys_free(struct map_keys *keys);
