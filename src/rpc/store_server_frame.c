/* What a frame asks for, and what comes of it.
 *
 * Frames of changes of one connection reach the feeder in their order, and so the store. A query
 * waits until no change of its connection is under way, and until the query before it is answered:
 * so a client that writes and asks on one connection sees what it wrote. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/store_server_state.h"

int server_head(struct store_server *server, struct server_conn *conn,
		const struct frame_head *head)
{
	(void)server;
	if (!conn->greeted)
		return head->kind != WIRE_HELLO          ? -EPROTO
		       : head->bytes != WIRE_HELLO_BYTES ? HAUL_ECORRUPT
							 : 0;
	if (head->kind != FRAME_CHANGES && head->kind != FRAME_FENCE && head->kind != WIRE_QUERY)
		return -EPROTO;
	return head->bytes > WIRE_QUERY_MAX ? HAUL_ELIMIT : 0;
}

/* ---- hello ---- */

/* Takes the same time wherever they differ. */
static bool token_same(const struct store_server *server, const struct wire_hello *hello)
{
	uint32_t differ = server->token_bytes ^ hello->token_bytes;
	uint8_t token[WIRE_TOKEN_MAX] = { 0 };

	memcpy(token, server->token, server->token_bytes);
	for (uint32_t i = 0; i < WIRE_TOKEN_MAX; i++)
		differ |= (uint32_t)(token[i] ^ hello->token[i]);
	return differ == 0;
}

int server_hello(struct store_server *server, struct server_conn *conn, const uint8_t *data,
		 uint32_t bytes)
{
	struct haul_store_status status;
	struct frame_head head;
	struct wire_hello hello;

	int rc = wire_check(data, bytes, &head);
	if (rc == 0)
		rc = wire_get_hello(data, &hello);
	if (rc != 0)
		return rc;
	if (server->token_bytes > 0 && !token_same(server, &hello)) {
		server_count(server, S_TOKEN, 1);
		return -EACCES;
	}
	haul_store_status(server->store, &status);
	server->welcome.op = status.op_last;
	/* Not out of the arena: who comes is welcome also when others hold all of it. */
	HAUL_ASSERT(conn->last_bytes == 0);
	conn->last_bytes = wire_put_welcome(conn->last, &server->welcome);
	conn->greeted = true;
	conn->moved_ns = server->now_ns;
	server_conn_ready(server, conn);
	return 0;
}

/* ---- frames ---- */

/* The next query of a connection, when it may be asked. */
static void query_next(struct store_server *server, struct server_conn *conn)
{
	while (conn->changes == 0 && !conn->asking && conn->queries.head != NULL) {
		struct server_task *task = task_pop(&conn->queries);
		if (conn->fd < 0) {
			server_task_give(server, task);
			continue;
		}
		conn->asking = true;
		server_query_put(server, task);
	}
}

static int take_query(struct store_server *server, struct server_task *task,
		      const struct frame_head *head)
{
	const struct wire_query *query;
	struct frame_head checked;

	int rc = wire_check(task->block, task->bytes, &checked);
	if (rc == 0)
		rc = wire_get_query(task->block, &query);
	if (rc != 0)
		return rc;
	task->query = true;
	task->slow = server_query_slow(query);
	task->from.seq = head->seq;
	task_push(&task->conn->queries, task);
	query_next(server, task->conn);
	return 0;
}

int server_frame(struct store_server *server, struct server_task *task)
{
	struct frame_head head;

	int rc = frame_check_head(task->block, &head);
	if (rc < 0)
		return rc;
	task->began_ns = server->now_ns;
	if (head.kind == WIRE_QUERY)
		return take_query(server, task, &head);
	rc = frame_check(task->block, task->bytes, &task->frame);
	if (rc < 0)
		return rc;
	task->from = (struct wire_from){ { head.session[0], head.session[1] }, head.seq };
	task->conn->changes++;
	if (head.kind == FRAME_FENCE)
		server_count(server, S_FENCES, 1);
	server_feed_put(server, task);
	return 0;
}

/* ---- what is done ---- */

void server_wake(struct store_server *server)
{
	const uint64_t one = 1;
	const ssize_t put = write(server->wake_fd, &one, sizeof one);
	(void)put; /* it is not 0 then, which is all that is wanted */
}

void server_task_done(struct server_task *task)
{
	struct store_server *server = task->server;

	(void)pthread_mutex_lock(&server->done_lock);
	task_push(&server->done, task);
	const bool wake = !server->awake;
	server->awake = true;
	(void)pthread_mutex_unlock(&server->done_lock);
	if (wake)
		server_wake(server);
}

static void count_answer(struct store_server *server, const struct server_task *task)
{
	struct wire_answer answer;
	const uint64_t ns = (uint64_t)(server->now_ns - task->began_ns);

	if (task->query) {
		server_count(server, S_QUERIES, 1);
		server_count(server, S_QUERY_TIME, ns);
		return;
	}
	memcpy(&answer, task->reply + FRAME_HEAD, sizeof answer);
	server_count(server, S_BATCHES, 1);
	server_count(server, S_OPERATIONS, task->events);
	server_count(server, S_PROCESSING, ns);
	server_count(server, S_FAILED, answer.failed);
	server_count(server, S_REPEATED, answer.repeated);
	server_count(server, S_ERRORS, answer.error < 0);
	const struct haul_stats_batch batch = {
		.ops = task->events > 0 ? task->events : 1,
		.bytes = task->bytes,
		.reason = HAUL_CLOSE_IDLE,
		.wait_ns = -1,
		.service_ns = (int64_t)ns,
	};
	haul_stats_batch(&server->stats, &batch);
}

void server_done(struct store_server *server)
{
	(void)pthread_mutex_lock(&server->done_lock);
	struct task_list done = server->done;
	server->done.head = NULL;
	(void)pthread_mutex_unlock(&server->done_lock);
	for (struct server_task *task; (task = task_pop(&done)) != NULL;) {
		struct server_conn *conn = task->conn;
		count_answer(server, task);
		if (task->query) {
			HAUL_ASSERT(conn->asking);
			conn->asking = false;
			if (conn->fd < 0)
				server_unpin(server, conn);
		} else {
			HAUL_ASSERT(conn->changes > 0);
			conn->changes--;
		}
		conn->held++;
		server_conn_reply(server, task);
		query_next(server, conn);
		server_conn_let_go(server, conn);
	}
}
