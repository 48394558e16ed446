/* The feeder puts frames of changes into the store, in the order in which they were complete.
 *
 * store_submit_frame executes, and waits when the memory tables are full or merges are behind: that
 * must not hold up who reads sockets. The answer is written in the thread that tells, over the
 * frame, which nobody needs any more; its own length and the statuses fit where the events were. */
#include <signal.h>

#include "base/assert.h"
#include "rpc/store_server_state.h"

static_assert(sizeof(struct wire_run) <= FRAME_EVENT, "statuses fit where their events were");
static_assert((int)WIRE_ANSWER_HEAD <= (int)BUDDY_MIN, "and the head in any buffer");

static void answer(struct server_task *task, int error, const struct exec_result *result,
		   const int32_t *statuses)
{
	const bool fence = task->frame.head->kind == FRAME_FENCE;
	const struct wire_told told = {
		.error = error,
		.result = result,
		.statuses = fence ? NULL : statuses,
		.credits = WIRE_CREDITS,
	};
	task->events = task->frame.head->events;
	task->reply_bytes = wire_put_answer(task->block, &task->from, &told);
	task->reply = task->block;
	server_task_done(task);
}

static void answered(void *arg, const struct store_answer *told)
{
	answer(arg, told->error, &told->result, told->statuses);
}

static void *feed(void *arg)
{
	struct store_server *server = arg;

	(void)pthread_mutex_lock(&server->feed_lock);
	for (;;) {
		struct server_task *task = task_pop(&server->feed);
		if (task == NULL) {
			if (server->feed_end)
				break;
			(void)pthread_cond_wait(&server->feed_cond, &server->feed_lock);
			continue;
		}
		(void)pthread_mutex_unlock(&server->feed_lock);
		const int rc = store_submit_frame(server->store, &task->frame, answered, task);
		if (rc < 0)
			answer(task, rc, NULL, NULL);
		(void)pthread_mutex_lock(&server->feed_lock);
	}
	(void)pthread_mutex_unlock(&server->feed_lock);
	return NULL;
}

int server_feed_open(struct store_server *server)
{
	sigset_t all, before;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	const int rc = pthread_create(&server->feeder, NULL, feed, server);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	server->feeder_runs = rc == 0;
	return -rc;
}

void server_feed_close(struct store_server *server)
{
	if (!server->feeder_runs)
		return;
	(void)pthread_mutex_lock(&server->feed_lock);
	server->feed_end = true;
	(void)pthread_cond_signal(&server->feed_cond);
	(void)pthread_mutex_unlock(&server->feed_lock);
	(void)pthread_join(server->feeder, NULL);
	server->feeder_runs = false;
}

void server_feed_put(struct store_server *server, struct server_task *task)
{
	(void)pthread_mutex_lock(&server->feed_lock);
	const bool idle = server->feed.head == NULL;
	task_push(&server->feed, task);
	(void)pthread_mutex_unlock(&server->feed_lock);
	if (idle)
		(void)pthread_cond_signal(&server->feed_cond);
}
