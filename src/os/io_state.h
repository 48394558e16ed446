/* os/io_state.h — what the engines behind os/io.h share. */
#pragma once

#include <stddef.h>

#include "os/io.h"

/* Operations linked by `next`, first in first out. */
struct io_list {
	struct io_op *first;
	struct io_op *last;
};

static inline void io_list_put(struct io_list *list, struct io_op *op)
{
	op->next = NULL;
	if (list->first == NULL)
		list->first = op;
	else
		list->last->next = op;
	list->last = op;
}

static inline struct io_op *io_list_take(struct io_list *list)
{
	struct io_op *op = list->first;

	if (op != NULL)
		list->first = op->next;
	return op;
}

/* All of `from` behind `to`; from is empty after it. */
static inline void io_list_move(struct io_list *to, struct io_list *from)
{
	if (from->first == NULL)
		return;
	if (to->first == NULL)
		to->first = from->first;
	else
		to->last->next = from->first;
	to->last = from->last;
	from->first = NULL;
}

/* A system call of push, reap or wait; wait may run beside the others. */
static inline void io_count_syscall(struct io *io)
{
	__atomic_fetch_add(&io->syscalls, 1, __ATOMIC_RELAXED);
}

/* options are complete: no zeros that stand for a default. */
int io_open_uring(struct io **ret_io, const struct file *file, const struct io_options *options);
int io_open_threads(struct io **ret_io, const struct file *file, const struct io_options *options);
