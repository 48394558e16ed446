#include "cli/map_relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static int write_slot(const struct map_relay *relay, const struct map_relay_slot *slot)
{
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < slot->count; i++) {
		const uint8_t *entry = slot->entries + i * relay->entry_size;
		rc = map_out_entry(relay->out, entry, entry + relay->key_size);
	}
	return rc;
}

static void *writer(void *arg)
{
	struct map_relay *relay = arg;
	(void)pthread_mutex_lock(&relay->lock);
	for (;;) {
		struct map_relay_slot *slot = &relay->slot[relay->taken % 2];
		while (slot->count == 0 && !relay->ended)
			(void)pthread_cond_wait(&relay->changed, &relay->lock);
		if (slot->count == 0)
			break;
		int rc = relay->rc;
		if (rc == 0) {
			/* A full slot is ours alone. */
			(void)pthread_mutex_unlock(&relay->lock);
			rc = write_slot(relay, slot);
			(void)pthread_mutex_lock(&relay->lock);
		}
		relay->rc = rc;
		slot->count = 0;
		relay->taken++;
		(void)pthread_cond_broadcast(&relay->changed);
	}
	(void)pthread_mutex_unlock(&relay->lock);
	return NULL;
}

int map_relay_open(struct map_relay *relay, struct map_out *out)
{
	*relay = (struct map_relay){ .out = out,
				     .key_size = out->info->key_size,
				     .entry_size = out->info->key_size + out->info->slot_bytes };
	(void)pthread_mutex_init(&relay->lock, NULL);
	(void)pthread_cond_init(&relay->changed, NULL);
	int rc = -pthread_create(&relay->thread, NULL, writer, relay);
	if (rc < 0) {
		(void)pthread_cond_destroy(&relay->changed);
		(void)pthread_mutex_destroy(&relay->lock);
	}
	return rc;
}

static int slot_fill(const struct map_relay *relay, struct map_relay_slot *slot,
		     const struct haul_map_batch *batch)
{
	size_t bytes = batch->count * relay->entry_size;
	if (bytes > slot->bytes) {
		uint8_t *entries = realloc(slot->entries, bytes);
		if (entries == NULL)
			return -ENOMEM;
		slot->entries = entries;
		slot->bytes = bytes;
	}
	for (uint32_t i = 0; i < batch->count; i++) {
		uint8_t *entry = slot->entries + i * relay->entry_size;
		memcpy(entry, haul_map_key(batch, i), relay->key_size);
		memcpy(entry + relay->key_size, haul_map_value(batch, i),
		       relay->entry_size - relay->key_size);
	}
	slot->count = batch->count;
	return 0;
}

int map_relay_push(struct map_relay *relay, const struct haul_map_batch *batch)
{
	(void)pthread_mutex_lock(&relay->lock);
	struct map_relay_slot *slot = &relay->slot[relay->pushed % 2];
	while (slot->count > 0 && relay->rc == 0) {
		(void)pthread_cond_wait(&relay->changed, &relay->lock);
		slot = &relay->slot[relay->pushed % 2]; /* another reader was faster */
	}
	int rc = relay->rc;
	if (rc == 0 && batch->count > 0)
		rc = slot_fill(relay, slot, batch);
	if (rc == 0 && batch->count > 0) {
		relay->pushed++;
		(void)pthread_cond_broadcast(&relay->changed);
	}
	(void)pthread_mutex_unlock(&relay->lock);
	return rc;
}

int map_relay_close(struct map_relay *relay)
{
	(void)pthread_mutex_lock(&relay->lock);
	relay->ended = true;
	(void)pthread_cond_broadcast(&relay->changed);
	(void)pthread_mutex_unlock(&relay->lock);
	int joined = pthread_join(relay->thread, NULL);
	HAUL_ASSERT(joined == 0);
	for (int i = 0; i < 2; i++)
		free(relay->slot[i].entries);
	(void)pthread_cond_destroy(&relay->changed);
	(void)pthread_mutex_destroy(&relay->lock);
	return relay->rc;
}
