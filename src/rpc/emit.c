/* rpc/emit.c — replies, in order, into a connection's output.
 *
 * A value goes from the shard's window straight into the output when its turn has come. Until then
 * it is staged: copied into the worker's own memory, so that windows never wait for a client. When
 * the output is full and the socket takes no more, all values of the connection are dropped, and
 * are looked up again when there is room. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "rpc/reply.h"
#include "rpc/worker.h"

enum {
	TAIL_BYTES = 8,      /* "\r\n" and "END\r\n" */
	STATS_BYTES = 16384, /* all lines of stats */
	AGAIN_BYTES = CONN_OUT / 2
};

static const uint8_t *value_of(const struct task *task)
{
	return task->staged ? task->staged : task->read.data;
}

static bool carries_value(const struct task *task)
{
	if (task->state != TASK_DONE)
		return false;
	if (task->kind == TASK_SLICE)
		return true;
	return !task->read.head && reply_has_value(task);
}

static uint64_t need_of(const struct task *task)
{
	if (task->kind == TASK_TOUR && task->command == MC_stats)
		return STATS_BYTES;
	return REPLY_MAX + TAIL_BYTES + (carries_value(task) ? task->read.bytes : 0);
}

static void high_water(struct conn *conn)
{
	if (conn->out_end > conn->high)
		conn->high = conn->out_end;
	conn->worker->sweep = conn->worker->sweep || conn->high > CONN_KEEP;
}

int conn_send(struct conn *conn)
{
	while (conn->out_start < conn->out_end) {
		ssize_t sent = send(conn->fd, conn->out + conn->out_start,
				    conn->out_end - conn->out_start, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN ? 0 : -errno;
		conn->worker->counts.bytes_written += (uint64_t)sent;
		conn->out_start += (uint32_t)sent;
	}
	conn->out_start = conn->out_end = 0;
	return 0;
}

/* 0; -ENOSPC: not before the client reads; or what the socket said. */
static int room(struct conn *conn, uint64_t need)
{
	HAUL_ASSERT(need <= CONN_OUT);
	if (CONN_OUT - conn->out_end >= need)
		return 0;
	int rc = conn_send(conn);
	if (rc < 0)
		return rc;
	uint32_t bytes = conn->out_end - conn->out_start;
	if (CONN_OUT - bytes < need)
		return -ENOSPC;
	if (CONN_OUT - conn->out_end >= need)
		return 0;
	memmove(conn->out, conn->out + conn->out_start, bytes);
	conn->out_start = 0;
	conn->out_end = bytes;
	return 0;
}

static void append(struct conn *conn, const void *data, uint32_t bytes)
{
	HAUL_ASSERT(conn->out_end + bytes <= CONN_OUT);
	if (bytes > 0)
		memcpy(conn->out + conn->out_end, data, bytes);
	conn->out_end += bytes;
}

void conn_read_over(struct task *task)
{
	if (task->applied)
		return;
	task->applied = true;
	struct conn *conn = task->conn;
	HAUL_ASSERT(conn->phase_pending > 0);
	if (--conn->phase_pending == 0 && (conn->in_keys || conn->in_start < conn->in_end))
		conn_wake(conn);
}

bool conn_reads(const struct task *task)
{
	return task->kind == TASK_GET || task->kind == TASK_SLICE || task->command == MC_gat ||
	       task->command == MC_gats || task->command == MC_mg;
}

/* The client does not read: nothing of the shards' or the worker's memory waits for it. */
static void drop_values(struct conn *conn)
{
	conn->full = true;
	conn->worker->counts.stalled_outputs++;
	for (struct task *task = conn->first; task; task = task->next) {
		if (!carries_value(task))
			continue;
		task_release(conn->worker, task);
		task->state = TASK_AGAIN;
	}
}

/* There is room again: look up what was dropped, as much as will fit. */
static void look_again(struct conn *conn)
{
	uint64_t bytes = 0;
	for (struct task *task = conn->first; task && bytes < AGAIN_BYTES; task = task->next) {
		bytes += task->read.bytes + REPLY_MAX;
		if (task->state != TASK_AGAIN)
			continue;
		/* A window that its owner has not taken back yet. */
		if (task->releasing)
			continue;
		if (task->kind == TASK_CHANGE)
			task->kind = TASK_GET;
		conn->worker->counts.looked_up_again++;
		conn_send_task(conn, task);
	}
}

static void count_read(struct worker *worker, const struct task *task)
{
	struct worker_counts *counts = &worker->counts;
	if (task->kind == TASK_GET && task->command != MC_me) {
		counts->cmd_get++;
		counts->get_hits += task->read.status == HAUL_CACHE_HIT;
		counts->get_misses += task->read.status != HAUL_CACHE_HIT;
		counts->get_expired += task->read.status == HAUL_CACHE_EXPIRED;
	}
	if (task->command == MC_touch || task->command == MC_gat || task->command == MC_gats) {
		counts->touch_hits += task->result == 0;
		counts->touch_misses += task->result == -ENOENT;
	}
}

static void count_write(struct worker *worker, const struct task *task)
{
	struct worker_counts *counts = &worker->counts;
	bool good = task->result == 0;
	bool missing = task->result == -ENOENT;
	counts->store_too_large += task->result == HAUL_ELIMIT;
	if (task->kind == TASK_DELETE) {
		counts->delete_hits += good;
		counts->delete_misses += missing;
	} else if (task->command == MC_incr) {
		counts->incr_hits += good;
		counts->incr_misses += missing;
	} else if (task->command == MC_decr) {
		counts->decr_hits += good;
		counts->decr_misses += missing;
	} else if (task->command == MC_cas) {
		counts->cas_hits += good;
		counts->cas_misses += missing;
		counts->cas_badval += task->result == HAUL_ESTALE;
	}
}

static void pop(struct conn *conn, struct task *task)
{
	HAUL_ASSERT(conn->first == task && task->in_list);
	conn->first = task->next;
	if (!conn->first)
		conn->last = NULL;
	task->in_list = false;
}

/* One complete reply; there is room. -EIO: an object broke off. */
static int emit_one(struct conn *conn, struct task *task)
{
	struct worker *worker = conn->worker;
	char line[REPLY_MAX];
	bool value = carries_value(task);
	bool object = task->kind != TASK_SLICE && reply_has_value(task) && task->read.head;
	if (task->kind == TASK_SLICE && task->read.status != HAUL_CACHE_HIT)
		return -EIO;
	if (task->kind == TASK_TOUR && task->command == MC_stats && task->result == 0)
		conn->out_end +=
			tour_stats(worker, task, (char *)conn->out + conn->out_end, STATS_BYTES);
	else if (task->kind != TASK_SLICE && !reply_silent(task))
		append(conn, line, reply_line(task, worker->now_s, line));
	if (value)
		append(conn, value_of(task), task->read.bytes);
	if ((value && task->kind != TASK_SLICE) || task->last_slice)
		append(conn, "\r\n", 2);
	if (task->ends && !object)
		append(conn, "END\r\n", 5);
	high_water(conn);
	pop(conn, task);
	count_read(worker, task);
	count_write(worker, task);
	if (object)
		stream_begin(conn, task); /* what it holds back goes on until the last slice */
	else if (task->kind == TASK_SLICE)
		stream_sent(conn, task);
	else if (conn_reads(task))
		conn_read_over(task);
	return 0;
}

bool conn_emit(struct conn *conn)
{
	while (conn->open) {
		stream_more(conn);
		struct task *task = conn->first;
		if (!task || task->state == TASK_SENT)
			return true;
		if (conn->stream.active && task->kind != TASK_SLICE)
			return true; /* its next slice finds no task yet */
		if (task->state == TASK_AGAIN) {
			if (!conn->full)
				look_again(conn);
			return true;
		}
		int rc = room(conn, need_of(task));
		if (rc == -ENOSPC) {
			drop_values(conn);
			return false;
		}
		if (rc == 0)
			rc = emit_one(conn, task);
		if (rc < 0) {
			conn_close(conn);
			return false;
		}
		task_drop(conn->worker, task);
	}
	return false;
}

void emit_stage(struct worker *worker)
{
	struct task *next;
	for (struct task *task = worker->held; task; task = next) {
		next = task->held_next;
		HAUL_ASSERT(task->holds);
		/* Whose connection has not run yet: it may be its turn. */
		if (task->conn->running || !carries_value(task))
			continue;
		uint8_t *copy = NULL;
		if (!task->conn->full)
			copy = buddy_get(&worker->stage, task->read.bytes);
		if (copy) {
			memcpy(copy, task->read.data, task->read.bytes);
			worker->counts.values_staged++;
		}
		task_release(worker, task);
		task->staged = copy;
		if (!copy)
			task->state = TASK_AGAIN;
		else if (task->kind != TASK_SLICE)
			conn_read_over(task);
	}
}
