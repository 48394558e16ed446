/* rpc/receive.c — a value over a slice, stored while it comes: slices first, the head last.
 *
 * The connection holds no more of it than its input buffer, and SLICES_AHEAD slices are on their
 * way to the disk at a time, so a fast client is slowed to the disk. The head is put when all
 * slices have been stored (durable, if the client is to be told so): an object is all there or not
 * there. Slices of an object that came to nothing are garbage that no key leads to. */
#include <errno.h>

#include "base/assert.h"
#include "rpc/worker.h"

enum { DATA_END = 2 };

void receive_begin(struct conn *conn, struct task *head, uint64_t bytes)
{
	struct worker *worker = conn->worker;
	uint32_t slice_bytes = worker->server->slice_bytes;
	HAUL_ASSERT(bytes > slice_bytes && !conn->receive.active);
	conn->receive = (struct conn_receive){
		.active = true,
		.task = head,
		.left = bytes,
		.head = { .bytes = bytes,
			  .slice_bytes = slice_bytes,
			  .slices = (uint32_t)((bytes + slice_bytes - 1) / slice_bytes),
			  .flags = head->flags },
	};
	worker->os->random(worker->os, &conn->receive.head.version,
			   sizeof conn->receive.head.version);
}

static bool send_slice(struct conn *conn, uint32_t bytes)
{
	struct worker *worker = conn->worker;
	struct conn_receive *receive = &conn->receive;
	struct task *task = task_take(worker, conn, true);
	if (!task)
		return false;
	task->kind = TASK_PUT;
	task->command = MC_set;
	task->put_slice = true;
	task->durable = receive->task->durable;
	task->expiry = receive->task->expiry;
	task->partition = receive->task->partition;
	task->owner = receive->task->owner;
	object_slice_key(&receive->task->key, &receive->head, ++receive->slice,
			 worker->server->volume.super.secret, &task->key);
	task->value = conn->in + conn->in_start;
	task->bytes = bytes;
	task->borrows = true;
	conn->in_borrowed++;
	conn->in_start += bytes;
	conn->phase_pending++;
	receive->left -= bytes;
	receive->pending++;
	conn_send_task(conn, task);
	return true;
}

/* All of it has come, or it failed: the head, or the error. */
static void finish(struct conn *conn)
{
	struct conn_receive *receive = &conn->receive;
	struct task *task = receive->task;
	receive->active = false;
	if (receive->failed) {
		conn->swallow = receive->left > 0 ? receive->left + DATA_END : 0;
		task->result = receive->error;
		conn_applied(task);
		task->state = TASK_DONE;
		return;
	}
	object_head_encode(&receive->head, task->inline_value);
	task->value = task->inline_value;
	task->bytes = OBJECT_HEAD_BYTES;
	task->put_head = true;
	conn_send_task(conn, task);
}

/* "\r\n" behind the value; false: not there yet. */
static bool take_end(struct conn *conn)
{
	const uint8_t *at = conn->in + conn->in_start;
	if (conn->in_end - conn->in_start < DATA_END)
		return false;
	if (at[0] != '\r' || at[1] != '\n') {
		conn->receive.failed = true;
		conn->receive.error = -EBADMSG;
	}
	conn->in_start += DATA_END;
	return true;
}

void receive_more(struct conn *conn)
{
	struct conn_receive *receive = &conn->receive;
	HAUL_ASSERT(receive->active);
	while (receive->left > 0 && !receive->failed && receive->pending < SLICES_AHEAD) {
		uint64_t want = receive->head.slice_bytes;
		if (want > receive->left)
			want = receive->left;
		if (conn->in_end - conn->in_start < want || !send_slice(conn, (uint32_t)want))
			return;
	}
	if (receive->pending > 0)
		return;
	if (receive->failed || (receive->left == 0 && take_end(conn)))
		finish(conn);
}

void receive_stored(struct conn *conn, const struct task *slice)
{
	struct conn_receive *receive = &conn->receive;
	if (!receive->active)
		return;
	HAUL_ASSERT(receive->pending > 0);
	receive->pending--;
	if (slice->result < 0) {
		receive->failed = true;
		receive->error = slice->result;
	}
}
