/* Workers for queries: each has a reader, and a page that the result is written to.
 *
 * A query may wait for the disk, or compare a hundred thousand vectors: that is not for the thread
 * that has the sockets. Those that may take long wait in a list of their own, and at least one
 * worker is always left for the others. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/store_server_state.h"
#include "store/reader_state.h"

enum { RECORD_MAX = sizeof(struct haul_node) };
static_assert(sizeof(struct haul_edge) <= RECORD_MAX && sizeof(struct haul_embedding) <= RECORD_MAX,
	      "room for records of any kind");

bool server_query_slow(const struct wire_query *query)
{
	return query->ask == WIRE_TRAVERSE || query->ask == WIRE_PATH || query->ask == WIRE_NEAR;
}

/* Under the lock. */
static struct server_task *next_task(struct store_server *server)
{
	if (server->slow_running < SERVER_SLOW && server->slow_asks.head != NULL)
		return task_pop(&server->slow_asks);
	return task_pop(&server->asks);
}

/* The server's thread has the result; wait until it needs the page no more. */
static void hand_over(struct server_worker *worker, struct server_task *task)
{
	struct store_server *server = worker->server;

	(void)pthread_mutex_lock(&server->ask_lock);
	server->slow_running -= task->slow;
	worker->task = NULL;
	(void)reader_stopped(worker->at); /* meant for what has just ended */
	worker->taken = false;
	(void)pthread_mutex_unlock(&server->ask_lock);
	server_task_done(task);
	(void)pthread_mutex_lock(&server->ask_lock);
	if (server->slow_asks.head != NULL)
		(void)pthread_cond_broadcast(&server->ask_cond);
	while (!worker->taken)
		(void)pthread_cond_wait(&server->ask_cond, &server->ask_lock);
}

static void *work(void *arg)
{
	struct server_worker *worker = arg;
	struct store_server *server = worker->server;

	(void)pthread_mutex_lock(&server->ask_lock);
	for (;;) {
		struct server_task *task = next_task(server);
		if (task == NULL) {
			if (server->ask_end)
				break;
			(void)pthread_cond_wait(&server->ask_cond, &server->ask_lock);
			continue;
		}
		const struct server_pin *pin = task->conn->pin;
		const struct wire_query *query =
			(const struct wire_query *)(const void *)wire_body(task->block);
		server->slow_running += task->slow;
		worker->task = task;
		worker->at = (query->flags & WIRE_PINNED) != 0 ? NULL : worker->reader;
		if (worker->at == NULL && pin != NULL)
			worker->at = pin->reader;
		(void)pthread_mutex_unlock(&server->ask_lock);
		server_query_answer(worker, worker->at, task, &task->reply_bytes);
		if (worker->at == NULL)
			worker->at = worker->reader;
		task->reply = worker->page;
		task->worker = worker;
		hand_over(worker, task);
	}
	(void)pthread_mutex_unlock(&server->ask_lock);
	return NULL;
}

static int worker_open(struct store_server *server, struct server_worker *worker)
{
	worker->server = server;
	worker->page = aligned_alloc(64, WIRE_RESULT_MAX);
	worker->keys = calloc(WIRE_ITEMS_MAX, sizeof *worker->keys);
	worker->records = calloc(WIRE_ITEMS_MAX, RECORD_MAX);
	worker->statuses = calloc(WIRE_ITEMS_MAX, sizeof *worker->statuses);
	if (worker->page == NULL || worker->keys == NULL || worker->records == NULL ||
	    worker->statuses == NULL)
		return -ENOMEM;
	int rc = haul_store_reader(server->store, SERVER_READER_BYTES, &worker->reader);
	if (rc < 0)
		return rc;
	rc = -pthread_create(&worker->thread, NULL, work, worker);
	worker->runs = rc == 0;
	return rc;
}

int server_query_open(struct store_server *server)
{
	sigset_t all, before;
	int rc = 0;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	for (uint32_t i = 0; rc == 0 && i < SERVER_READERS; i++)
		rc = worker_open(server, &server->workers[i]);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

void server_query_close(struct store_server *server)
{
	(void)pthread_mutex_lock(&server->ask_lock);
	server->ask_end = true;
	for (uint32_t i = 0; i < SERVER_READERS; i++)
		server->workers[i].taken = true;
	(void)pthread_cond_broadcast(&server->ask_cond);
	(void)pthread_mutex_unlock(&server->ask_lock);
	for (uint32_t i = 0; i < SERVER_READERS; i++) {
		struct server_worker *worker = &server->workers[i];
		if (worker->runs)
			(void)pthread_join(worker->thread, NULL);
		haul_reader_close(worker->reader);
		free(worker->page);
		free(worker->keys);
		free(worker->records);
		free(worker->statuses);
		*worker = (struct server_worker){ 0 };
	}
}

/* A pin is no work for a worker: it waits for a short lock of the store at most. */
static void answer_pin(struct store_server *server, struct server_task *task, enum wire_ask ask)
{
	struct wire_result result = { .complete = 1 };

	if (ask == WIRE_PIN)
		result.result = server_pin(server, task->conn);
	else
		server_unpin(server, task->conn);
	HAUL_ASSERT(task->bytes >= WIRE_RESULT_HEAD);
	memcpy(task->block + FRAME_HEAD, &result, sizeof result);
	wire_seal(task->block, WIRE_RESULT, WIRE_RESULT_HEAD, &task->from);
	task->reply = task->block;
	task->reply_bytes = WIRE_RESULT_HEAD;
	server_task_done(task);
}

void server_query_put(struct store_server *server, struct server_task *task)
{
	const struct wire_query *query =
		(const struct wire_query *)(const void *)wire_body(task->block);

	if (query->ask == WIRE_PIN || query->ask == WIRE_UNPIN) {
		answer_pin(server, task, query->ask);
		return;
	}
	if (task->conn->pin != NULL)
		task->conn->pin->used_ns = server->now_ns;
	(void)pthread_mutex_lock(&server->ask_lock);
	task_push(task->slow ? &server->slow_asks : &server->asks, task);
	(void)pthread_cond_broadcast(&server->ask_cond);
	(void)pthread_mutex_unlock(&server->ask_lock);
}

void server_query_taken(struct store_server *server, struct server_worker *worker)
{
	(void)pthread_mutex_lock(&server->ask_lock);
	worker->taken = true;
	(void)pthread_cond_broadcast(&server->ask_cond);
	(void)pthread_mutex_unlock(&server->ask_lock);
}

void server_query_cancel(struct store_server *server, const struct server_conn *conn)
{
	if (!conn->asking)
		return;
	(void)pthread_mutex_lock(&server->ask_lock);
	for (uint32_t i = 0; i < SERVER_READERS; i++) {
		const struct server_worker *worker = &server->workers[i];
		if (worker->task != NULL && worker->task->conn == conn && worker->at != NULL)
			haul_reader_interrupt(worker->at);
	}
	(void)pthread_mutex_unlock(&server->ask_lock);
}

/* ---- pins ---- */

int server_pin(struct store_server *server, struct server_conn *conn)
{
	struct server_pin *free_pin = NULL;

	if (conn->pin != NULL)
		return -EINVAL;
	for (uint32_t i = 0; i < SERVER_PINS; i++) {
		if (server->pins[i].conn == NULL)
			free_pin = &server->pins[i];
	}
	if (free_pin == NULL)
		return -EBUSY;
	const int rc = haul_reader_pin(free_pin->reader);
	if (rc < 0)
		return rc;
	free_pin->conn = conn;
	free_pin->used_ns = server->now_ns;
	conn->pin = free_pin;
	server_count(server, S_PINS, 1);
	return 0;
}

void server_unpin(struct store_server *server, struct server_conn *conn)
{
	struct server_pin *pin = conn->pin;

	if (pin == NULL)
		return;
	haul_reader_unpin(pin->reader);
	pin->conn = NULL;
	conn->pin = NULL;
	server_count(server, S_PINS, UINT64_MAX);
}
