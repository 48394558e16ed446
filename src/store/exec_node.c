#include <errno.h>

#include "base/bytes.h"
#include "store/exec_state.h"

static struct tree_key name_of(const struct haul_node *node)
{
	return record_name(node->key, node->key_bytes);
}

static struct tree_key kind_of(const struct haul_node *node, uint64_t id)
{
	return (struct tree_key){ { node->kind, id } };
}

/* Whether the key that an event gives belongs to no other node. */
static int check_name(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	struct tree_row row;
	const int found = exec_find(exec, LOOK_NAME, exec->other[number], &row);

	if (found <= 0)
		return found;
	if (row.bytes != 8)
		return exec->error = HAUL_ECORRUPT;
	return le64_load(row.value) == event->a ? 0 : -EEXIST;
}

static void put_name(struct exec *exec, const struct tree_key *name, uint64_t id)
{
	uint8_t value[8];

	le64_store(value, id);
	exec_put(exec, TREE_NAME, name, value, sizeof value);
}

static void put_kind(struct exec *exec, const struct haul_node *node, uint64_t id)
{
	const struct tree_key key = kind_of(node, id);

	exec_put(exec, TREE_KIND, &key, NULL, 0);
}

static void drop_name(struct exec *exec, const struct haul_node *node)
{
	const struct tree_key key = name_of(node);

	exec_drop(exec, TREE_NAME, &key);
}

static void drop_kind(struct exec *exec, const struct haul_node *node, uint64_t id)
{
	const struct tree_key key = kind_of(node, id);

	exec_drop(exec, TREE_KIND, &key);
}

static bool same_key(const struct haul_node *a, const struct haul_node *b)
{
	return a->key_bytes == b->key_bytes &&
	       (a->key_bytes == 0 || memcmp(a->key, b->key, a->key_bytes) == 0);
}

/* The node of an event, with its record: what a table says need not be one. */
static int find_node(struct exec *exec, uint32_t number, struct tree_row *ret_row)
{
	const int found = exec_find(exec, LOOK_NODE_VALUE, exec->own[number], ret_row);

	if (found > 0 && record_check_node(ret_row->value, ret_row->bytes, false) != 0)
		return exec->error = HAUL_ECORRUPT;
	return found;
}

/* A record in the place of another: names and kinds follow. */
static int replace(struct exec *exec, uint64_t id, const struct tree_row *old,
		   const uint8_t *record, uint32_t bytes)
{
	const struct tree_key key = { { id } };
	struct haul_node before, after;

	record_get_node(old->value, old->bytes, &before);
	record_get_node(record, bytes, &after);
	const bool name = !same_key(&before, &after);
	const bool kind = before.kind != after.kind;
	const uint32_t cost = exec_cost(bytes) +
			      (name && before.key_bytes != 0 ? exec_cost(0) : 0) +
			      (name && after.key_bytes != 0 ? exec_cost(8) : 0) +
			      (kind && before.kind != 0 ? exec_cost(0) : 0) +
			      (kind && after.kind != 0 ? exec_cost(0) : 0);
	const int error = exec_take(exec, cost);
	if (error != 0)
		return error;
	exec_put(exec, TREE_NODE, &key, record, bytes);
	if (name && before.key_bytes != 0)
		drop_name(exec, &before);
	if (name && after.key_bytes != 0) {
		const struct tree_key to = name_of(&after);
		put_name(exec, &to, id);
	}
	if (kind && before.kind != 0)
		drop_kind(exec, &before, id);
	if (kind && after.kind != 0)
		put_kind(exec, &after, id);
	return 0;
}

int exec_create_node(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const bool upsert = (event->flags & HAUL_UPSERT) != 0;
	const uint8_t *record = exec->frame->data + event->heap;
	const struct tree_key key = { { event->a } };
	struct tree_row old;
	struct haul_node node;

	const int found = upsert ? find_node(exec, number, &old)
				 : exec_find(exec, LOOK_NODE, exec->own[number], &old);
	if (found < 0)
		return found;
	if (found && !upsert)
		return -EEXIST;
	if (event->expected_version != 0 && (!found || old.op != event->expected_version))
		return HAUL_ESTALE;
	record_get_node(record, event->bytes, &node);
	int error = node.key_bytes != 0 ? check_name(exec, event, number) : 0;
	if (error != 0)
		return error;
	if (found)
		return replace(exec, event->a, &old, record, event->bytes);
	error = exec_take(exec, exec_cost(event->bytes) + (node.key_bytes != 0 ? exec_cost(8) : 0) +
					(node.kind != 0 ? exec_cost(0) : 0));
	if (error != 0)
		return error;
	exec_put(exec, TREE_NODE, &key, record, event->bytes);
	if (node.key_bytes != 0)
		put_name(exec, &exec->look[LOOK_NAME].asks[exec->other[number]].key, event->a);
	if (node.kind != 0)
		put_kind(exec, &node, event->a);
	return 0;
}

/* What the record becomes when that of the event is a patch, in exec->record. */
static int patch(struct exec *exec, const struct tree_row *old, const struct frame_event *event,
		 uint32_t *ret_bytes)
{
	struct haul_node before, after;

	record_get_node(old->value, old->bytes, &before);
	record_get_node(exec->frame->data + event->heap, event->bytes, &after);
	if (after.kind == 0)
		after.kind = before.kind;
	if (after.key_bytes == 0) {
		after.key = before.key;
		after.key_bytes = before.key_bytes;
	}
	struct haul_properties merged;
	const int error =
		record_merge(&before.properties, &after.properties, exec->merged, &merged);
	if (error != 0)
		return error;
	after.properties = merged;
	*ret_bytes = record_put_node(exec->record, &after);
	return 0;
}

int exec_update_node(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const uint8_t *record = exec->frame->data + event->heap;
	uint32_t bytes = event->bytes;
	struct tree_row old;

	const int found = find_node(exec, number, &old);
	if (found <= 0)
		return found < 0 ? found : -ENOENT;
	if (event->expected_version != 0 && old.op != event->expected_version)
		return HAUL_ESTALE;
	int error = record[6] != 0 ? check_name(exec, event, number) : 0;
	if (error == 0 && (event->flags & HAUL_PATCH) != 0) {
		error = patch(exec, &old, event, &bytes);
		record = exec->record;
	}
	if (error != 0)
		return error;
	return replace(exec, event->a, &old, record, bytes);
}

/* ---- deleting ---- */

/* Told for each edge and embedding of a node that is to go. */
static int gather_edge(const struct tree_key *key, const struct tree_row *row, void *arg)
{
	struct exec *exec = arg;

	(void)row;
	if (exec->edge_count == EXEC_DETACH_MAX)
		return 1;
	exec->edges[exec->edge_count++] = *key;
	return 0;
}

static int stop_at_first(const struct tree_key *key, const struct tree_row *row, void *arg)
{
	(void)key;
	(void)row;
	(void)arg;
	return 1;
}

/* Keys of all edges out, edges in and embeddings of a node; where in `edges` each kind ends. */
struct around {
	uint32_t out, in, embeddings;
};

static int look_around(struct exec *exec, uint64_t id, bool detach, struct around *ret_around)
{
	static const enum tree trees[] = { TREE_OUT, TREE_IN, TREE_OF_NODE };
	uint32_t ends[3];

	exec->edge_count = 0;
	for (int i = 0; i < 3; i++) {
		const int rc = lsm_prefix(exec->lsm, trees[i], id,
					  detach ? gather_edge : stop_at_first, exec);
		if (rc < 0)
			return exec->error = rc;
		if (rc > 0)
			return detach ? HAUL_ELIMIT : -ENOTEMPTY;
		ends[i] = exec->edge_count;
	}
	*ret_around = (struct around){ ends[0], ends[1], ends[2] };
	return 0;
}

/* Rows of all that is around a node; an edge to itself is out and in. */
static void drop_around(struct exec *exec, uint64_t id, const struct around *around)
{
	for (uint32_t i = 0; i < around->in; i++) {
		const struct tree_key *key = &exec->edges[i];
		const struct tree_key back = { { key->word[2], key->word[1], key->word[0] } };
		if (i >= around->out && key->word[2] == id)
			continue;
		exec_drop(exec, i < around->out ? TREE_OUT : TREE_IN, key);
		exec_drop(exec, i < around->out ? TREE_IN : TREE_OUT, &back);
	}
	for (uint32_t i = around->in; i < around->embeddings; i++) {
		const struct tree_key *key = &exec->edges[i];
		const struct tree_key back = { { key->word[1], key->word[0] } };
		exec_drop(exec, TREE_OF_NODE, key);
		exec_drop(exec, TREE_EMBEDDING, &back);
		exec_stage_drop(exec, (uint32_t)key->word[1], id);
	}
}

int exec_delete_node(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const struct tree_key key = { { event->a } };
	struct around around;
	struct tree_row old;
	struct haul_node node;

	const int found = find_node(exec, number, &old);
	if (found <= 0)
		return found < 0 ? found : -ENOENT;
	if (event->expected_version != 0 && old.op != event->expected_version)
		return HAUL_ESTALE;
	record_get_node(old.value, old.bytes, &node);
	int error = look_around(exec, event->a, (event->flags & HAUL_DETACH) != 0, &around);
	if (error != 0)
		return error;
	if (!exec_stage_room(exec, around.embeddings - around.in))
		return HAUL_ELIMIT;
	const uint64_t rows =
		2 * (uint64_t)around.embeddings + 1 + (node.key_bytes != 0) + (node.kind != 0);
	error = exec_take(exec, rows * exec_cost(0));
	if (error != 0)
		return error;
	drop_around(exec, event->a, &around);
	exec_drop(exec, TREE_NODE, &key);
	if (node.key_bytes != 0)
		drop_name(exec, &node);
	if (node.kind != 0)
		drop_kind(exec, &node, event->a);
	return 0;
}
