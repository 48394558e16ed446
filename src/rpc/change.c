/* rpc/change.c — values that follow from what is there: incr and decr, append and prepend, new
 * times, and the meta commands that do so. Pure but for the worker's scratch memory and marks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/worker.h"

enum { DIGITS_MAX = 20 };

static enum change over(struct task *task, int result)
{
	task->result = result;
	return CHANGE_OVER;
}

static void keep(const struct shard_value *read, struct shard_put *put)
{
	put->value = read->data;
	put->bytes = read->bytes;
	put->flags = read->flags;
	put->expiry = read->expiry;
}

/* A decimal number; blanks behind it are memcached's padding. */
static bool number_of(const struct shard_value *read, uint64_t *ret_number)
{
	struct mc_text text = { (const char *)read->data, read->bytes };
	while (text.bytes > 0 && text.data[text.bytes - 1] == ' ')
		text.bytes--;
	return text.bytes <= DIGITS_MAX && mc_number(text, ret_number);
}

static uint64_t add(const struct task *task, uint64_t number)
{
	bool down = task->command == MC_decr || (task->command == MC_ma && task->mode == 'D');
	if (!down)
		return number + task->delta; /* wraps, as it should */
	return number < task->delta ? 0 : number - task->delta;
}

static void put_number(struct worker *worker, struct task *task, struct shard_put *put)
{
	char *text = (char *)worker->scratch;
	put->value = text;
	put->bytes =
		(uint32_t)snprintf(text, DIGITS_MAX + 1, "%llu", (unsigned long long)task->number);
}

static enum change change_number(struct worker *worker, struct task *task, struct shard_put *put)
{
	uint64_t number;
	if (!task->hit && !(task->have & MC_FLAG('N')))
		return over(task, -ENOENT);
	if (!task->hit) {
		task->number = task->initial;
		put->expiry = task->vivify;
		put_number(worker, task, put);
		return CHANGE_PUT;
	}
	if (task->read.head || !number_of(&task->read, &number))
		return over(task, -EDOM);
	keep(&task->read, put);
	task->number = add(task, number);
	if (task->have & MC_FLAG('T'))
		put->expiry = task->expiry;
	put_number(worker, task, put);
	return CHANGE_PUT;
}

static enum change change_join(struct worker *worker, struct task *task, struct shard_put *put)
{
	const struct shard_value *read = &task->read;
	if (!task->hit && !(task->have & MC_FLAG('N')))
		return over(task, -ENOENT);
	if (!task->hit) {
		put->value = task->value;
		put->bytes = task->bytes;
		put->flags = task->flags;
		put->expiry = task->vivify;
		return CHANGE_PUT;
	}
	if (read->head || (uint64_t)read->bytes + task->bytes > HAUL_CACHE_SLICE_MAX)
		return over(task, HAUL_ELIMIT);
	bool front = task->command == MC_prepend || (task->command == MC_ms && task->mode == 'P');
	keep(read, put);
	uint8_t *old = worker->scratch + (front ? task->bytes : 0);
	uint8_t *added = worker->scratch + (front ? 0 : read->bytes);
	if (read->bytes > 0)
		memcpy(old, read->data, read->bytes);
	if (task->bytes > 0)
		memcpy(added, task->value, task->bytes);
	put->value = worker->scratch;
	put->bytes = read->bytes + task->bytes;
	return CHANGE_PUT;
}

/* touch, gat; mg with T or N */
static enum change change_time(struct worker *worker, struct task *task, struct shard_put *put)
{
	if (!task->hit && !(task->have & MC_FLAG('N')))
		return over(task, -ENOENT);
	if (!task->hit) {
		put->expiry = task->vivify;
		struct mark *mark = marks_set(&worker->marks, task->key.hash);
		if (mark)
			*mark = (struct mark){ .hash = task->key.hash, .won = true };
		task->won = true;
		return CHANGE_PUT;
	}
	if (task->command == MC_mg && !(task->have & MC_FLAG('T')))
		return over(task, 0);
	/* The slices of an object keep the time they were stored with. */
	if (task->read.head && task->read.expiry != 0 &&
	    (task->expiry == 0 || task->expiry > task->read.expiry))
		return over(task, HAUL_ELIMIT);
	keep(&task->read, put);
	put->head = task->read.head;
	put->expiry = task->expiry;
	return CHANGE_PUT;
}

/* md with I or x */
static enum change change_invalidate(struct worker *worker, struct task *task,
				     struct shard_put *put)
{
	if (!task->hit)
		return over(task, -ENOENT);
	if (task->have & MC_FLAG('I')) {
		struct mark *mark = marks_set(&worker->marks, task->key.hash);
		if (mark)
			*mark = (struct mark){ .hash = task->key.hash, .stale = true };
		else
			put->expiry = 1; /* no place to remember it: it is gone */
	}
	uint32_t gone = put->expiry;
	keep(&task->read, put);
	put->head = task->read.head;
	if (task->have & MC_FLAG('T'))
		put->expiry = task->expiry;
	if (gone)
		put->expiry = gone;
	if (task->have & MC_FLAG('x')) {
		put->head = false;
		put->bytes = 0;
		put->flags = 0;
	}
	return CHANGE_PUT;
}

enum change change_compute(struct worker *worker, struct task *task, struct shard_put *put)
{
	HAUL_ASSERT(task->kind == TASK_CHANGE);
	if (task->hit && (task->have & MC_FLAG('C')) && task->command != MC_mg &&
	    task->read.version != task->cas)
		return over(task, HAUL_ESTALE);
	switch ((uint32_t)task->command) {
	case MC_incr:
	case MC_decr:
	case MC_ma:
		return change_number(worker, task, put);
	case MC_append:
	case MC_prepend:
	case MC_ms:
		return change_join(worker, task, put);
	case MC_md:
		return change_invalidate(worker, task, put);
	default:
		HAUL_ASSERT(task->command == MC_touch || task->command == MC_gat ||
			    task->command == MC_gats || task->command == MC_mg);
		return change_time(worker, task, put);
	}
}
