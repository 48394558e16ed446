/* One frame at a time: everything it will look for is asked for at once (exec_look.c), then its
 * groups are done one after the other.
 *
 * A change that is a group of its own cannot fail behind its first row: it checks everything first,
 * its share of the budget included. Only a group of several is undone, by the memory table's mark,
 * and by the notes on embeddings. If a table cannot be read the whole frame is undone, as if it had
 * never come: it is not in the log yet, or it is replayed when the table can be read.
 *
 * The budget is what the rows written cost, those of groups that failed too, as they stay where
 * they are. So what a frame does is a matter of the frame and the store before it alone. */
#include "store/exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/exec_state.h"

int exec_new(struct exec **ret_exec, struct lsm *lsm, struct vectors *vectors, uint64_t budget)
{
	if (budget == 0)
		budget = LSM_FRAME_BUDGET;
	if (budget < EXEC_BUDGET_MIN || budget > LSM_FRAME_BUDGET)
		return HAUL_ELIMIT;
	struct exec *exec = calloc(1, sizeof *exec);
	if (exec == NULL)
		return -ENOMEM;
	exec->lsm = lsm;
	exec->vectors = vectors;
	exec->budget = budget;
	exec->staged = malloc(EXEC_STAGED_MAX * sizeof *exec->staged);
	exec->edges = malloc(EXEC_DETACH_MAX * sizeof *exec->edges);
	int error = exec_look_alloc(exec);
	if (exec->staged == NULL || exec->edges == NULL)
		error = -ENOMEM;
	if (error == 0)
		error = sessions_new(&exec->sessions, lsm);
	if (error == 0)
		error = exec_index_load(exec);
	if (error != 0) {
		exec_free(exec);
		return error;
	}
	*ret_exec = exec;
	return 0;
}

void exec_free(struct exec *exec)
{
	if (exec == NULL)
		return;
	sessions_free(exec->sessions);
	exec_look_free(exec);
	free(exec->staged);
	free(exec->edges);
	free(exec);
}

/* ---- rows ---- */

static void put(struct exec *exec, enum tree tree, const struct tree_key *key,
		const struct tree_row *row)
{
	const int error = lsm_put(exec->lsm, tree, key, exec->op, row);
	const uint64_t bit = exec_bit(exec, tree, key);

	if (error != 0)
		exec->error = error;
	exec->written[bit / 64] |= UINT64_C(1) << bit % 64;
}

void exec_put(struct exec *exec, enum tree tree, const struct tree_key *key, const uint8_t *value,
	      uint32_t bytes)
{
	const struct tree_row row = { .value = value, .bytes = bytes };

	put(exec, tree, key, &row);
}

void exec_drop(struct exec *exec, enum tree tree, const struct tree_key *key)
{
	const struct tree_row row = { .deleted = true };

	put(exec, tree, key, &row);
}

/* ---- groups ---- */

static int run_one(struct exec *exec, enum haul_change change, const struct frame_event *event,
		   uint32_t number)
{
	switch (change) {
	case HAUL_CREATE_NODE:
		return exec_create_node(exec, event, number);
	case HAUL_UPDATE_NODE:
		return exec_update_node(exec, event, number);
	case HAUL_DELETE_NODE:
		return exec_delete_node(exec, event, number);
	case HAUL_CREATE_EDGE:
		return exec_create_edge(exec, event, number);
	case HAUL_UPDATE_EDGE:
		return exec_update_edge(exec, event, number);
	case HAUL_DELETE_EDGE:
		return exec_delete_edge(exec, event, number);
	case HAUL_SET_EMBEDDING:
		return exec_set_embedding(exec, event, number);
	case HAUL_DELETE_EMBEDDING:
		return exec_delete_embedding(exec, event, number);
	case HAUL_CHANGES:
	default:
		HAUL_ASSERT(false && "a frame that was checked");
		return HAUL_ETYPE;
	}
}

/* Every event is a group of its own. */
static void run_each(struct exec *exec, const struct frame_section *section, int32_t *statuses)
{
	const struct frame_event *events = frame_events(exec->frame, section);
	const enum haul_change change = section->change;

	for (uint32_t i = 0; i < section->count && exec->error == 0; i++) {
		const uint32_t number = section->first + i;
		if (i + EXEC_AHEAD < section->count)
			exec_look_ahead(exec, change, &events[i + EXEC_AHEAD], number + EXEC_AHEAD);
		statuses[events[i].status_at] = run_one(exec, change, &events[i], number);
	}
}

/* Events of a section of a group until one fails, which gets its status. */
static int run_section(struct exec *exec, const struct frame_section *section, int32_t *statuses)
{
	const struct frame_event *events = frame_events(exec->frame, section);
	const enum haul_change change = section->change;
	int status = 0;

	for (uint32_t i = 0; i < section->count && status == 0; i++) {
		const uint32_t number = section->first + i;
		if (i + EXEC_AHEAD < section->count)
			exec_look_ahead(exec, change, &events[i + EXEC_AHEAD], number + EXEC_AHEAD);
		status = run_one(exec, change, &events[i], number);
		statuses[events[i].status_at] = status;
		if (exec->error != 0)
			status = exec->error;
	}
	return status;
}

static void cancel(const struct frame *frame, const struct frame_section *section,
		   int32_t *statuses)
{
	const struct frame_event *events = frame_events(frame, section);

	for (uint32_t i = 0; i < section->count; i++)
		statuses[events[i].status_at] = -ECANCELED;
}

/* Sections [from, to) are one group: whole, or not at all. */
static void run_group(struct exec *exec, uint32_t from, uint32_t to, int32_t *statuses)
{
	const struct frame *frame = exec->frame;
	const uint32_t staged = exec->staged_count;
	struct memtable_mark mark;
	int status = 0;

	lsm_mark(exec->lsm, &mark);
	for (uint32_t i = from; i < to; i++)
		cancel(frame, &frame->sections[i], statuses);
	for (uint32_t i = from; i < to && status == 0; i++)
		status = run_section(exec, &frame->sections[i], statuses);
	if (status == 0)
		return;
	lsm_abort(exec->lsm, &mark);
	exec_unstage(exec, staged);
	for (uint32_t i = from; i < to; i++) {
		const struct frame_event *events = frame_events(frame, &frame->sections[i]);
		for (uint32_t j = 0; j < frame->sections[i].count; j++) {
			int32_t *at = &statuses[events[j].status_at];
			*at = *at == 0 ? -ECANCELED : *at;
		}
	}
}

static void run_frame(struct exec *exec, int32_t *statuses)
{
	const struct frame *frame = exec->frame;
	const uint32_t sections = frame->head->sections;

	for (uint32_t i = 0; i < sections && exec->error == 0;) {
		const struct frame_section *section = &frame->sections[i];
		uint32_t to = i + 1;
		if (section->flags & SECTION_EACH) {
			run_each(exec, section, statuses);
		} else {
			while (to < sections && frame->sections[to].group == section->group)
				to++;
			run_group(exec, i, to, statuses);
		}
		i = to;
	}
}

/* ---- frames ---- */

int exec_admit(struct exec *exec, const struct frame *frame, int32_t *statuses,
	       struct exec_result *ret_result)
{
	struct session_answer answer;
	const int rc = sessions_admit(exec->sessions, frame->head, statuses, &answer);

	if (rc == 1)
		*ret_result = (struct exec_result){
			.count = answer.count,
			.failed = answer.failed,
			.repeated = true,
			.fenced = answer.fenced,
			.op = answer.op,
		};
	return rc;
}

static void tell_vectors(struct exec *exec)
{
	if (exec->vectors == NULL)
		return;
	for (uint32_t i = 0; i < exec->staged_count; i++)
		vectors_stage(exec->vectors, exec->op, exec->staged[i].index, exec->staged[i].node);
}

/* What every frame may need for itself. */
static uint64_t own_cost(const struct frame_head *head)
{
	return sessions_cost(head->events) +
	       (uint64_t)HAUL_EMBEDDING_INDEXES * exec_cost(sizeof(struct exec_index));
}

int exec_frame(struct exec *exec, const struct frame *frame, uint64_t op, int32_t *statuses,
	       struct exec_result *ret_result)
{
	struct session_answer answer;
	struct memtable_mark mark;
	uint32_t failed = 0;

	const int rc = sessions_admit(exec->sessions, frame->head, statuses, &answer);
	if (rc != 0)
		return rc == 1 ? HAUL_ESTALE : rc;
	HAUL_ASSERT(op != 0 && own_cost(frame->head) < exec->budget);
	exec->frame = frame;
	exec->op = op;
	exec->left = exec->budget - own_cost(frame->head);
	exec->staged_count = 0;
	memset(exec->index_touched, 0, sizeof exec->index_touched);
	lsm_mark(exec->lsm, &mark);
	exec->error = exec_look_frame(exec);
	run_frame(exec, statuses);
	if (exec->error == 0)
		exec_index_put(exec);
	if (exec->error == 0)
		exec->error = sessions_note(exec->sessions, frame->head, op, statuses);
	if (exec->error != 0) {
		lsm_abort(exec->lsm, &mark);
		exec_unstage(exec, 0);
		return exec->error;
	}
	tell_vectors(exec);
	for (uint32_t i = 0; i < frame->head->events; i++)
		failed += statuses[i] != 0;
	*ret_result =
		(struct exec_result){ .count = frame->head->events, .failed = failed, .op = op };
	return 0;
}
