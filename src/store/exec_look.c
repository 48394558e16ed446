/* What the events of a frame will look for is known from the frame alone. So all keys are gathered
 * before the first event, and each tree is asked once, which lets it ask filters in one sweep and
 * read all blocks at the same time. An answer is what the store had before the frame. What the
 * frame itself writes is marked in a small filter, and only keys found there are asked for again,
 * in memory.
 *
 * Values go into one arena. Those that do not fit get HAUL_EFULL and are asked for again when it is
 * their turn, with some of those behind them, into an arena of their look: so what a change has
 * found of one tree stays while it looks into another. Those asked for again before, and not used
 * yet, lose their values then and have to be asked for once more. Keys that the frame has written
 * by then are left out: what is found for them now may belong to a group that is going to fail. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "store/exec_state.h"

static int look_alloc(struct exec_look *look, enum look which)
{
	static const struct {
		enum tree tree;
		bool values;
	} kinds[LOOKS] = {
		[LOOK_NODE] = { TREE_NODE, false },
		[LOOK_NODE_VALUE] = { TREE_NODE, true },
		[LOOK_NAME] = { TREE_NAME, true },
		[LOOK_EDGE] = { TREE_OUT, false },
		[LOOK_EDGE_VALUE] = { TREE_OUT, true },
		[LOOK_EMBEDDING] = { TREE_EMBEDDING, false },
	};

	look->tree = kinds[which].tree;
	look->values = kinds[which].values;
	look->max = which == LOOK_NODE ? 2 * HAUL_CHANGES_OPS : HAUL_CHANGES_OPS;
	look->asks = malloc((size_t)look->max * sizeof *look->asks);
	if (look->asks == NULL)
		return -ENOMEM;
	if (!look->values)
		return 0;
	look->refill.bytes = EXEC_REFILL;
	look->refill.data = malloc(EXEC_REFILL);
	return look->refill.data == NULL ? -ENOMEM : 0;
}

int exec_look_alloc(struct exec *exec)
{
	int error = 0;

	for (int i = 0; i < LOOKS && error == 0; i++)
		error = look_alloc(&exec->look[i], (enum look)i);
	exec->arena.bytes = EXEC_ARENA;
	exec->arena.data = error == 0 ? malloc(EXEC_ARENA) : NULL;
	return exec->arena.data == NULL ? -ENOMEM : 0;
}

void exec_look_free(struct exec *exec)
{
	for (int i = 0; i < LOOKS; i++) {
		free(exec->look[i].asks);
		free(exec->look[i].refill.data);
	}
	free(exec->arena.data);
}

static uint32_t ask(struct exec *exec, enum look look, struct tree_key key)
{
	struct exec_look *of = &exec->look[look];

	HAUL_ASSERT(of->count < of->max);
	of->asks[of->count] = (struct table_ask){ .key = key, .op_max = TREE_DELETED - 1 };
	return of->count++;
}

static uint32_t ask_node(struct exec *exec, uint64_t id)
{
	return ask(exec, LOOK_NODE, (struct tree_key){ { id } });
}

static void ask_name(struct exec *exec, const struct frame_event *event, uint32_t number)
{
	const uint8_t *record = exec->frame->data + event->heap;

	if (record[6] != 0)
		exec->other[number] =
			ask(exec, LOOK_NAME,
			    record_name((const char *)record + RECORD_NODE_HEAD, record[6]));
}

static void gather_nodes(struct exec *exec, const struct frame_section *section)
{
	const struct frame_event *events = frame_events(exec->frame, section);

	for (uint32_t i = 0; i < section->count; i++) {
		const uint32_t number = section->first + i;
		const bool value =
			section->change != HAUL_CREATE_NODE || (events[i].flags & HAUL_UPSERT) != 0;
		exec->own[number] = ask(exec, value ? LOOK_NODE_VALUE : LOOK_NODE,
					(struct tree_key){ { events[i].a } });
		if (section->change != HAUL_DELETE_NODE)
			ask_name(exec, &events[i], number);
	}
}

static void gather_edges(struct exec *exec, const struct frame_section *section)
{
	const struct frame_event *events = frame_events(exec->frame, section);

	for (uint32_t i = 0; i < section->count; i++) {
		const struct frame_event *event = &events[i];
		const uint32_t number = section->first + i;
		const bool value = (event->flags & HAUL_PATCH) != 0;
		exec->own[number] =
			ask(exec, value ? LOOK_EDGE_VALUE : LOOK_EDGE,
			    exec_edge_key(event->a, event->type, event->disc, event->b));
		if (section->change == HAUL_CREATE_EDGE && (event->flags & HAUL_LOOSE) == 0) {
			exec->other[number] = ask_node(exec, event->a);
			(void)ask_node(exec, event->b);
		}
	}
}

static void gather_embeddings(struct exec *exec, const struct frame_section *section)
{
	const struct frame_event *events = frame_events(exec->frame, section);

	for (uint32_t i = 0; i < section->count; i++) {
		const uint32_t number = section->first + i;
		exec->own[number] = ask(exec, LOOK_EMBEDDING,
					(struct tree_key){ { events[i].b, events[i].a } });
		if (section->change == HAUL_SET_EMBEDDING)
			exec->other[number] = ask_node(exec, events[i].a);
	}
}

static void gather(struct exec *exec)
{
	for (uint32_t i = 0; i < exec->frame->head->sections; i++) {
		const struct frame_section *section = &exec->frame->sections[i];
		switch ((enum haul_change)section->change) {
		case HAUL_CREATE_NODE:
		case HAUL_UPDATE_NODE:
		case HAUL_DELETE_NODE:
			gather_nodes(exec, section);
			break;
		case HAUL_CREATE_EDGE:
		case HAUL_UPDATE_EDGE:
		case HAUL_DELETE_EDGE:
			gather_edges(exec, section);
			break;
		case HAUL_SET_EMBEDDING:
		case HAUL_DELETE_EMBEDDING:
			gather_embeddings(exec, section);
			break;
		case HAUL_CHANGES:
		default:
			HAUL_ASSERT(false && "a frame that was checked");
		}
	}
}

/* 32 bits for each change, and nothing to wipe when there are few. */
static void written_clear(struct exec *exec, uint32_t events)
{
	uint32_t shift = 54; /* 1024 bits */

	while (shift > EXEC_WRITTEN_SHIFT && UINT64_C(1) << (64 - shift) < (uint64_t)events * 32)
		shift--;
	exec->written_shift = shift;
	memset(exec->written, 0, (size_t)1 << (64 - shift) >> 3);
}

int exec_look_frame(struct exec *exec)
{
	/* Names first: theirs are the small values. */
	static const enum look order[LOOKS] = {
		LOOK_NAME, LOOK_NODE_VALUE, LOOK_EDGE_VALUE, LOOK_NODE, LOOK_EDGE, LOOK_EMBEDDING,
	};

	for (int i = 0; i < LOOKS; i++)
		exec->look[i].count = exec->look[i].refilled_count = 0;
	exec->arena.used = 0;
	written_clear(exec, exec->frame->head->events);
	gather(exec);
	for (int i = 0; i < LOOKS; i++) {
		const struct exec_look *look = &exec->look[order[i]];
		if (look->count == 0)
			continue;
		const int error = lsm_find(exec->lsm, look->tree, look->asks, look->count,
					   look->values ? &exec->arena : NULL);
		if (error < 0 && error != HAUL_EFULL)
			return error;
	}
	return 0;
}

/* Which asks are asked for again at the turn of one, in look->refilled. */
static void choose(struct exec *exec, struct exec_look *look, uint32_t at)
{
	for (uint32_t i = 0; i < look->refilled_count; i++)
		look->asks[look->refilled[i]].status = HAUL_EFULL;
	look->refilled_count = 0;
	for (uint32_t i = at; i < look->count && look->refilled_count < EXEC_REFILL_ASKS; i++) {
		const struct table_ask *of = &look->asks[i];
		if (i == at ||
		    (of->status == HAUL_EFULL && !exec_wrote(exec, look->tree, &of->key)))
			look->refilled[look->refilled_count++] = i;
	}
}

int exec_look_again(struct exec *exec, enum look which, uint32_t at)
{
	struct exec_look *look = &exec->look[which];
	struct table_ask asks[EXEC_REFILL_ASKS];

	if (look->asks[at].status != HAUL_EFULL)
		return exec->error = look->asks[at].status;
	HAUL_ASSERT(look->values);
	choose(exec, look, at);
	for (uint32_t i = 0; i < look->refilled_count; i++)
		asks[i] = (struct table_ask){ .key = look->asks[look->refilled[i]].key,
					      .op_max = TREE_DELETED - 1 };
	look->refill.used = 0;
	const int error =
		lsm_find(exec->lsm, look->tree, asks, look->refilled_count, &look->refill);
	if (error < 0 && error != HAUL_EFULL)
		return exec->error = error;
	for (uint32_t i = 0; i < look->refilled_count; i++)
		look->asks[look->refilled[i]] = asks[i];
	return exec->error = look->asks[at].status;
}

/* Slots of the memory table were fetched to be asked, but filters of many runs have driven them out
 * since. */
void exec_look_ahead(struct exec *exec, enum haul_change change, const struct frame_event *event,
		     uint32_t number)
{
	const struct exec_look *look = exec->look;
	const uint32_t own = exec->own[number];

	if (change == HAUL_CREATE_NODE) {
		const struct tree_key key = { { event->a } };
		lsm_prefetch(exec->lsm, TREE_NODE, &key);
		if (exec->frame->data[event->heap + 6] != 0)
			lsm_prefetch(exec->lsm, TREE_NAME,
				     &look[LOOK_NAME].asks[exec->other[number]].key);
	} else if (change == HAUL_CREATE_EDGE) {
		const struct tree_key in =
			exec_edge_key(event->b, event->type, event->disc, event->a);
		lsm_prefetch(exec->lsm, TREE_OUT, &look[LOOK_EDGE].asks[own].key);
		lsm_prefetch(exec->lsm, TREE_IN, &in);
	} else if (change == HAUL_SET_EMBEDDING) {
		lsm_prefetch(exec->lsm, TREE_EMBEDDING, &look[LOOK_EMBEDDING].asks[own].key);
	}
}
