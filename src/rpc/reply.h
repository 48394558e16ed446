/* rpc/reply.h — what a client is told, as text.
 *
 * Model      by command and result of a task; the value itself is copied by emit.c.
 * Threads    home of the task. Limits: REPLY_MAX bytes a line. */
#pragma once

#include "rpc/task.h"

struct worker;

/* All of a reply that carries no value, or the line before a value; at most REPLY_MAX bytes. */
uint32_t reply_line(const struct task *task, uint32_t now_s, char *out);
/* Whether the reply carries the value that was read. */
bool reply_has_value(const struct task *task);
/* Nothing is sent for it. */
bool reply_silent(const struct task *task);

/* ---- tour.c ---- */
/* The lines of `stats`, with END; at most max bytes. */
uint32_t tour_stats(const struct worker *worker, const struct task *task, char *out, uint32_t max);
