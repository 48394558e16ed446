#include "sql/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { FIRST_ROOM = 64 };

/* Texts and properties of a record, behind each other in memory of its own. */
static uint8_t *keep(uint8_t **at, const void *data, size_t bytes)
{
	uint8_t *kept = *at;
	if (bytes > 0)
		memcpy(kept, data, bytes);
	*at += bytes;
	return kept;
}

static int copy_data(struct pending_change *to, const struct pending_change *from)
{
	size_t bytes = 0;
	bool node = from->change == HAUL_CREATE_NODE || from->change == HAUL_UPDATE_NODE;
	bool edge = from->change == HAUL_CREATE_EDGE || from->change == HAUL_UPDATE_EDGE;
	if (node)
		bytes = from->of.node.key_bytes + from->of.node.properties.bytes;
	if (edge)
		bytes = from->of.edge.properties.bytes;
	if (from->change == HAUL_SET_EMBEDDING)
		bytes = from->of.embedding.dimensions * sizeof(float);
	*to = *from;
	uint8_t *at = malloc(bytes + 1);
	to->data = at;
	if (at == NULL)
		return -ENOMEM;
	if (node) {
		to->of.node.key =
			(const char *)keep(&at, from->of.node.key, from->of.node.key_bytes);
		to->of.node.properties.data =
			keep(&at, from->of.node.properties.data, from->of.node.properties.bytes);
	}
	if (edge)
		to->of.edge.properties.data = keep(&at, from->of.edge.properties.data, bytes);
	if (from->change == HAUL_SET_EMBEDDING)
		to->of.embedding.vector =
			(const float *)(void *)keep(&at, from->of.embedding.vector, bytes);
	return 0;
}

int pending_add(struct pending *pending, const struct pending_change *change)
{
	if (pending->count == HAUL_CHANGES_OPS)
		return HAUL_EFULL;
	if (pending->count == pending->room) {
		uint32_t room = pending->room > 0 ? pending->room * 2 : FIRST_ROOM;
		void *larger = realloc(pending->changes, room * sizeof *pending->changes);
		if (larger == NULL)
			return -ENOMEM;
		pending->changes = larger;
		pending->room = room;
	}
	int error = copy_data(&pending->changes[pending->count], change);
	if (error == 0)
		pending->count++;
	return error;
}

void pending_cut(struct pending *pending, uint32_t count)
{
	while (pending->count > count)
		free(pending->changes[--pending->count].data);
}

void pending_free(struct pending *pending)
{
	pending_cut(pending, 0);
	free(pending->changes);
	*pending = (struct pending){ 0 };
}

static int build_one(const struct pending_change *change, struct haul_changes *changes)
{
	const struct haul_change_options *options = &change->options;
	switch (change->change) {
	case HAUL_CREATE_NODE:
		return haul_changes_create_node(changes, &change->of.node, options);
	case HAUL_UPDATE_NODE:
		return haul_changes_update_node(changes, &change->of.node, options);
	case HAUL_DELETE_NODE:
		return haul_changes_delete_node(changes, change->of.node.id, options);
	case HAUL_CREATE_EDGE:
		return haul_changes_create_edge(changes, &change->of.edge, options);
	case HAUL_UPDATE_EDGE:
		return haul_changes_update_edge(changes, &change->of.edge, options);
	case HAUL_DELETE_EDGE:
		return haul_changes_delete_edge(changes, &change->of.edge.id, options);
	case HAUL_SET_EMBEDDING:
		return haul_changes_set_embedding(changes, &change->of.embedding);
	case HAUL_DELETE_EMBEDDING:
		return haul_changes_delete_embedding(changes, change->of.embedding.node,
						     change->of.embedding.index);
	case HAUL_CHANGES:
		break;
	}
	HAUL_ASSERT(false);
	return -EINVAL;
}

int pending_build(const struct pending *pending, struct haul_changes *changes)
{
	haul_changes_clear(changes);
	int error = haul_changes_begin(changes);
	for (uint32_t i = 0; error >= 0 && i < pending->count; i++)
		error = build_one(&pending->changes[i], changes);
	if (error >= 0)
		error = haul_changes_end(changes);
	else
		haul_changes_cancel(changes);
	return error < 0 ? error : 0;
}
