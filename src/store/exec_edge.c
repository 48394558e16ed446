#include <errno.h>

#include "store/exec_state.h"

static struct tree_key out_of(const struct frame_event *event)
{
	return exec_edge_key(event->a, event->type, event->disc, event->b);
}

static struct tree_key in_of(const struct frame_event *event)
{
	return exec_edge_key(event->b, event->type, event->disc, event->a);
}

static int check_ends(struct exec *exec, uint32_t number)
{
	struct tree_row row;

	for (uint32_t i = 0; i < 2; i++) {
		const int found = exec_find(exec, LOOK_NODE, exec->other[number] + i, &row);
		if (found <= 0)
			return found < 0 ? found : -ENOENT;
	}
	return 0;
}

int exec_create_edge(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const struct tree_key out = out_of(event), in = in_of(event);
	struct tree_row old;

	int error = (event->flags & HAUL_LOOSE) == 0 ? check_ends(exec, number) : 0;
	if (error != 0)
		return error;
	const int found = exec_find(exec, LOOK_EDGE, exec->own[number], &old);
	if (found < 0)
		return found;
	if (found && (event->flags & HAUL_UPSERT) == 0)
		return -EEXIST;
	if (event->expected_version != 0 && (!found || old.op != event->expected_version))
		return HAUL_ESTALE;
	error = exec_take(exec, exec_cost(event->bytes) + (found ? 0 : exec_cost(0)));
	if (error != 0)
		return error;
	exec_put(exec, TREE_OUT, &out, exec->frame->data + event->heap, event->bytes);
	if (!found)
		exec_put(exec, TREE_IN, &in, NULL, 0);
	return 0;
}

/* What the record becomes when that of the event is a patch, in exec->record. */
static int patch(struct exec *exec, const struct tree_row *old, const struct frame_event *event,
		 uint32_t *ret_bytes)
{
	struct haul_edge before, after;
	struct haul_properties merged;

	if (record_check_edge(old->value, old->bytes, false) != 0)
		return exec->error = HAUL_ECORRUPT; /* what a table says need not be a record */
	record_get_edge(old->value, old->bytes, &before);
	record_get_edge(exec->frame->data + event->heap, event->bytes, &after);
	const int error =
		record_merge(&before.properties, &after.properties, exec->merged, &merged);
	if (error != 0)
		return error;
	after.properties = merged;
	*ret_bytes = record_put_edge(exec->record, &after);
	return 0;
}

int exec_update_edge(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const bool patches = (event->flags & HAUL_PATCH) != 0;
	const uint8_t *record = exec->frame->data + event->heap;
	const struct tree_key out = out_of(event);
	uint32_t bytes = event->bytes;
	struct tree_row old;
	int error = 0;

	const int found =
		exec_find(exec, patches ? LOOK_EDGE_VALUE : LOOK_EDGE, exec->own[number], &old);
	if (found <= 0)
		return found < 0 ? found : -ENOENT;
	if (event->expected_version != 0 && old.op != event->expected_version)
		return HAUL_ESTALE;
	if (patches) {
		error = patch(exec, &old, event, &bytes);
		record = exec->record;
	}
	if (error == 0)
		error = exec_take(exec, exec_cost(bytes));
	if (error != 0)
		return error;
	exec_put(exec, TREE_OUT, &out, record, bytes);
	return 0;
}

int exec_delete_edge(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const struct tree_key out = out_of(event), in = in_of(event);
	struct tree_row old;

	const int found = exec_find(exec, LOOK_EDGE, exec->own[number], &old);
	if (found <= 0)
		return found < 0 ? found : -ENOENT;
	if (event->expected_version != 0 && old.op != event->expected_version)
		return HAUL_ESTALE;
	const int error = exec_take(exec, 2 * exec_cost(0));
	if (error != 0)
		return error;
	exec_drop(exec, TREE_OUT, &out);
	exec_drop(exec, TREE_IN, &in);
	return 0;
}
