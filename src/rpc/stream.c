/* rpc/stream.c — an object on its way out: its slices are tasks that follow its head in the list of
 * replies, SLICES_AHEAD of them at a time. That all are there was seen when the head was read; one
 * that is gone or does not verify by its turn closes the connection, since the length was told. */
#include <string.h>

#include "base/assert.h"
#include "rpc/worker.h"

void stream_begin(struct conn *conn, const struct task *head)
{
	struct conn_stream *stream = &conn->stream;
	HAUL_ASSERT(!stream->active && !head->in_list);
	*stream = (struct conn_stream){
		.active = true,
		.ends = head->ends,
		.head = head->head,
		.key = head->key,
		.partition = head->partition,
	};
	memcpy(stream->text, head->text, head->key.bytes);
	stream->key.data = stream->text;
	atomic_fetch_add_explicit(&conn->worker->server->streams, 1, memory_order_relaxed);
}

static void insert(struct conn *conn, struct task *task)
{
	struct task *before = conn->stream.last;
	task->next = before ? before->next : conn->first;
	if (before)
		before->next = task;
	else
		conn->first = task;
	if (!task->next)
		conn->last = task;
	task->in_list = true;
	conn->stream.last = task;
}

void stream_more(struct conn *conn)
{
	struct worker *worker = conn->worker;
	struct conn_stream *stream = &conn->stream;
	while (stream->active && stream->slice < stream->head.slices &&
	       stream->pending < SLICES_AHEAD) {
		struct task *task = task_take(worker, conn, true);
		if (!task)
			return;
		task->kind = TASK_SLICE;
		task->command = MC_get;
		task->partition = stream->partition;
		task->owner = (uint16_t)(task->partition % worker->workers);
		task->applied = true;
		object_slice_key(&stream->key, &stream->head, ++stream->slice,
				 worker->server->volume.super.secret, &task->key);
		task->last_slice = stream->slice == stream->head.slices;
		task->ends = task->last_slice && stream->ends;
		stream->pending++;
		insert(conn, task);
		conn_send_task(conn, task);
	}
}

void stream_sent(struct conn *conn, struct task *slice)
{
	struct conn_stream *stream = &conn->stream;
	HAUL_ASSERT(stream->active && stream->pending > 0);
	stream->pending--;
	if (stream->last == slice)
		stream->last = NULL;
	if (!slice->last_slice)
		return;
	stream_end(conn);
	HAUL_ASSERT(conn->phase_pending > 0);
	conn->phase_pending--;
	conn_wake(conn);
}

void stream_end(struct conn *conn)
{
	if (!conn->stream.active)
		return;
	conn->stream.active = false;
	atomic_fetch_sub_explicit(&conn->worker->server->streams, 1, memory_order_relaxed);
}
