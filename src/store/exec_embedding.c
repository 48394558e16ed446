/* How many embeddings an index has, and of how many dimensions, is kept in memory and, at the end
 * of each frame that changed it, in a row. What a frame changes is noted in order, with what was
 * before: so a group that fails is undone from the back. */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "store/exec_state.h"

bool exec_stage_room(const struct exec *exec, uint32_t count)
{
	return count <= EXEC_STAGED_MAX - exec->staged_count;
}

void exec_stage(struct exec *exec, uint32_t index, uint64_t node)
{
	const struct exec_index *of = &exec->index[index];

	HAUL_ASSERT(index < HAUL_EMBEDDING_INDEXES && exec->staged_count < EXEC_STAGED_MAX);
	if ((exec->index_touched[index / 64] >> index % 64 & 1) == 0) {
		exec->index_touched[index / 64] |= UINT64_C(1) << index % 64;
		exec->index_before[index] = *of;
	}
	exec->staged[exec->staged_count++] = (struct exec_staged){
		.node = node,
		.count = of->count,
		.dimensions = of->dimensions,
		.index = index,
	};
}

/* The count is what a table said: one that was repaired may say less than there is. */
void exec_stage_drop(struct exec *exec, uint32_t index, uint64_t node)
{
	struct exec_index *of = &exec->index[index];

	exec_stage(exec, index, node);
	of->count -= of->count != 0;
	if (of->count == 0)
		of->dimensions = 0;
}

void exec_unstage(struct exec *exec, uint32_t count)
{
	HAUL_ASSERT(count <= exec->staged_count);
	while (exec->staged_count > count) {
		const struct exec_staged *staged = &exec->staged[--exec->staged_count];
		struct exec_index *of = &exec->index[staged->index];
		of->count = staged->count;
		of->dimensions = staged->dimensions;
	}
}

int exec_set_embedding(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const uint8_t *record = exec->frame->data + event->heap;
	const struct tree_key key = { { event->b, event->a } }, back = { { event->a, event->b } };
	struct exec_index *of = &exec->index[event->b];
	const uint32_t dimensions = le32_load(record);
	struct tree_row row;

	int found = exec_find(exec, LOOK_NODE, exec->other[number], &row);
	if (found <= 0)
		return found < 0 ? found : -ENOENT;
	found = exec_find(exec, LOOK_EMBEDDING, exec->own[number], &row);
	if (found < 0)
		return found;
	if (of->count > (uint64_t)found && of->dimensions != dimensions)
		return -EINVAL;
	if (!exec_stage_room(exec, 1))
		return HAUL_ELIMIT;
	const int error = exec_take(exec, exec_cost(event->bytes) + (found ? 0 : exec_cost(0)));
	if (error != 0)
		return error;
	exec_put(exec, TREE_EMBEDDING, &key, record, event->bytes);
	if (!found)
		exec_put(exec, TREE_OF_NODE, &back, NULL, 0);
	exec_stage(exec, (uint32_t)event->b, event->a);
	of->dimensions = dimensions;
	of->count += !found;
	return 0;
}

int exec_delete_embedding(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const struct tree_key key = { { event->b, event->a } }, back = { { event->a, event->b } };
	struct tree_row row;

	const int found = exec_find(exec, LOOK_EMBEDDING, exec->own[number], &row);
	if (found <= 0)
		return found < 0 ? found : -ENOENT;
	if (!exec_stage_room(exec, 1))
		return HAUL_ELIMIT;
	const int error = exec_take(exec, 2 * exec_cost(0));
	if (error != 0)
		return error;
	exec_drop(exec, TREE_EMBEDDING, &key);
	exec_drop(exec, TREE_OF_NODE, &back);
	exec_stage_drop(exec, (uint32_t)event->b, event->a);
	return 0;
}

/* ---- rows of whole indexes ---- */

int exec_index_load(struct exec *exec)
{
	struct exec_look *look = &exec->look[LOOK_EMBEDDING];

	for (uint32_t i = 0; i < HAUL_EMBEDDING_INDEXES; i++)
		look->asks[i] =
			(struct table_ask){ .key = { { 0, i } }, .op_max = TREE_DELETED - 1 };
	exec->arena.used = 0;
	const int error =
		lsm_find(exec->lsm, TREE_OF_NODE, look->asks, HAUL_EMBEDDING_INDEXES, &exec->arena);
	if (error < 0)
		return error;
	for (uint32_t i = 0; i < HAUL_EMBEDDING_INDEXES; i++) {
		const struct tree_row *row = &look->asks[i].row;
		if (look->asks[i].status != 0)
			return look->asks[i].status;
		if (row->op == 0 || row->deleted)
			continue;
		if (row->bytes != sizeof exec->index[i])
			return HAUL_ECORRUPT;
		memcpy(&exec->index[i], row->value, sizeof exec->index[i]);
	}
	return 0;
}

void exec_index_put(struct exec *exec)
{
	if (exec->staged_count == 0)
		return;
	for (uint32_t i = 0; i < HAUL_EMBEDDING_INDEXES; i++) {
		const struct exec_index *of = &exec->index[i], *before = &exec->index_before[i];
		const struct tree_key key = { { 0, i } };
		if ((exec->index_touched[i / 64] >> i % 64 & 1) == 0)
			continue;
		if (of->count == before->count && of->dimensions == before->dimensions)
			continue;
		if (of->count == 0)
			exec_drop(exec, TREE_OF_NODE, &key);
		else
			exec_put(exec, TREE_OF_NODE, &key, (const uint8_t *)of, sizeof *of);
	}
}
