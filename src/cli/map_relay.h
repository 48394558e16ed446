/* cli/map_relay.h — entries on their way from who reads a map to the thread that writes them.
 *
 * Model      Reading waits for memory in the kernel, writing formats text: each can have a CPU. A
 *            batch is copied into one of two slots, and formatted while the next is read. Order is
 *            that of the pushes.
 * Ownership  map_out belongs to the relay's thread from open to close.
 * Memory     two batches; a slot grows to the largest that came.
 * Threads    map_relay_push from any.
 * Errors     of map_out_entry, told by the push after it and by close; -ENOMEM. */
#pragma once

#include <pthread.h>

#include "cli/map_out.h"

struct map_relay_slot {
	uint8_t *entries; /* key, then value, one after the other */
	size_t bytes;
	uint32_t count; /* 0 = free */
};

struct map_relay {
	struct map_out *out;
	size_t key_size, entry_size;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct map_relay_slot slot[2];
	uint64_t pushed, taken; /* batches; slot[n % 2] is the next of each */
	bool ended;
	int rc; /* why the writing ended */
};

int map_relay_open(struct map_relay *relay, struct map_out *out);
/* 0, or why nothing is written any more. */
int map_relay_push(struct map_relay *relay, const struct haul_map_batch *batch);
/* Wait until all is written. Returns what a push would. */
int map_relay_close(struct map_relay *relay);
