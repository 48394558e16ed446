/* rpc/worker.c — one thread's turns, its tasks, and what it says to the others.
 *
 * Hops wait in an outbox until the end of the turn and go into the peer's ring together; the peer
 * is woken once, and only if it sleeps: it says so before it looks at its rings a last time, and
 * the sender takes that back after it has pushed. Both exchange the same word: whoever comes second
 * sees what the first did before. */
#include "rpc/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"

enum {
	EVENTS_MAX = 256,
	ROUNDS = 4,             /* of a turn, before sockets are looked at again */
	TURN_BYTES = 128 << 10, /* of replies, before they are as well */
	ACCEPTS_MAX = 64
};

#define STUCK_NS (10 * NS_PER_MS) /* until a put that found no room is tried again */
#define GRACE_NS (5 * NS_PER_S)   /* for replies, once it is to stop */
#define SLEEP_NS (600 * NS_PER_S) /* nothing is to be done */

/* ---- tasks ---- */

void worker_starve(struct worker *worker, struct conn *conn)
{
	if (conn->starved)
		return;
	conn->starved = true;
	conn->starved_next = worker->starved;
	worker->starved = conn;
}

void worker_feed(struct worker *worker)
{
	while (worker->starved) {
		struct conn *conn = worker->starved;
		worker->starved = conn->starved_next;
		conn->starved = false;
		if (conn->open)
			conn_wake(conn);
		else
			conn_recycle(conn);
	}
}

/* Whether there is one for it; keeps the books. */
static bool task_share(struct worker *worker, struct conn *conn, bool slice)
{
	uint32_t count = slice ? conn->slice_count : conn->task_count;
	if (slice && count >= TASKS_SLICES)
		return false;
	if (slice || count < TASKS_RESERVED) {
		HAUL_ASSERT(worker->reserved > 0);
		worker->reserved--;
		return true;
	}
	HAUL_ASSERT(worker->task_free_count >= worker->reserved);
	return count - TASKS_RESERVED < worker->task_free_count - worker->reserved;
}

struct task *task_take(struct worker *worker, struct conn *conn, bool slice)
{
	if (!task_share(worker, conn, slice)) {
		if (!slice)
			worker_starve(worker, conn);
		return NULL;
	}
	struct task *task = worker->task_free;
	HAUL_ASSERT(task && worker->task_free_count > 0);
	worker->task_free = task->next;
	worker->task_free_count--;
	memset(task, 0, sizeof *task);
	task->conn = conn;
	task->slice = slice;
	task->home = (uint16_t)worker->id;
	if (slice)
		conn->slice_count++;
	else
		conn->task_count++;
	return task;
}

static void task_free(struct worker *worker, struct task *task)
{
	struct conn *conn = task->conn;
	task->next = worker->task_free;
	worker->task_free = task;
	worker->task_free_count++;
	if (!conn)
		return;
	uint32_t count = task->slice ? conn->slice_count : conn->task_count;
	if (task->slice || count <= TASKS_RESERVED)
		worker->reserved++;
	conn_freed(conn, task->slice);
	worker_feed(worker);
}

static void unhold(struct worker *worker, struct task *task)
{
	if (task->held_prev)
		task->held_prev->held_next = task->held_next;
	else
		worker->held = task->held_next;
	if (task->held_next)
		task->held_next->held_prev = task->held_prev;
	task->held_next = task->held_prev = NULL;
}

void task_release(struct worker *worker, struct task *task)
{
	if (task->staged)
		buddy_put(&worker->stage, task->staged);
	task->staged = NULL;
	if (!task->holds)
		return;
	unhold(worker, task);
	task->holds = false;
	if (task->owner == worker->id) {
		shard_get_next(worker_shard(worker, task), &task->get);
		return;
	}
	task->releasing = true;
	worker_send(worker, task->owner, HOP_RELEASE, task);
}

void task_drop(struct worker *worker, struct task *task)
{
	HAUL_ASSERT(!task->in_list && task->home == worker->id);
	task_release(worker, task);
	if (task->kind == TASK_TOUR) {
		task->tour->busy = false;
		worker_feed(worker);
	}
	if (task->releasing)
		task->state = TASK_RETURNS;
	else
		task_free(worker, task);
}

/* The owner has its window back. */
static void task_returned(struct worker *worker, struct task *task)
{
	task->releasing = false;
	if (task->state == TASK_RETURNS)
		task_free(worker, task);
	else
		conn_wake(task->conn);
}

/* ---- hops ---- */

static void hop_take(struct worker *worker, const struct hop *hop)
{
	switch ((enum hop_what)hop->what) {
	case HOP_EXECUTE:
		exec_task(worker, hop->task);
		return;
	case HOP_RELEASE:
		shard_get_next(worker_shard(worker, hop->task), &hop->task->get);
		worker_send(worker, hop->task->home, HOP_FREE, hop->task);
		return;
	case HOP_APPLIED:
		conn_applied(hop->task);
		return;
	case HOP_DONE:
		conn_done(worker, hop->task);
		return;
	case HOP_FREE:
		task_returned(worker, hop->task);
		return;
	case HOP_CONN:
		worker_adopt(worker, hop->fd);
		return;
	}
}

static void hop_put(struct worker *worker, uint32_t to, const struct hop *hop)
{
	struct outbox *out = &worker->out[to];
	HAUL_ASSERT(to != worker->id && out->count < worker->hops_max);
	out->hops[out->count++] = *hop;
	worker->counts.hops++;
}

void worker_send(struct worker *worker, uint32_t to, enum hop_what what, struct task *task)
{
	const struct hop hop = { .task = task, .what = what, .fd = -1 };
	if (to == worker->id)
		hop_take(worker, &hop);
	else
		hop_put(worker, to, &hop);
}

void worker_wake(struct worker *worker)
{
	const uint64_t one = 1;
	ssize_t written = write(worker->wake_fd, &one, sizeof one);
	(void)written; /* full: it is awake */
}

/* Whether all went out. */
static bool hops_push(struct worker *worker)
{
	bool all = true;
	for (uint32_t to = 0; to < worker->workers; to++) {
		struct outbox *out = &worker->out[to];
		if (out->count == 0)
			continue;
		struct worker *peer = &worker->server->workers[to];
		struct ring *ring = &worker->server->rings[worker->id * worker->workers + to];
		uint32_t pushed = ring_push(ring, out->hops, out->count);
		out->count -= pushed;
		if (out->count > 0)
			memmove(out->hops, out->hops + pushed, out->count * sizeof *out->hops);
		all = all && out->count == 0;
		if (atomic_exchange_explicit(&peer->asleep, false, memory_order_acq_rel))
			worker_wake(peer);
	}
	return all;
}

static bool hops_pop(struct worker *worker)
{
	bool any = false;
	for (uint32_t from = 0; from < worker->workers; from++) {
		if (from == worker->id)
			continue;
		struct ring *ring = &worker->server->rings[from * worker->workers + worker->id];
		uint32_t count = ring_pop(ring, worker->taken, HOPS_TAKEN);
		for (uint32_t i = 0; i < count; i++)
			hop_take(worker, &worker->taken[i]);
		any = any || count > 0;
	}
	return any;
}

/* ---- connections ---- */

static void let_go(struct worker *worker, int fd)
{
	(void)close(fd);
	atomic_fetch_sub_explicit(&worker->server->connections, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&worker->server->worker_connections[worker->id], 1,
				  memory_order_relaxed);
}

void worker_adopt(struct worker *worker, int fd)
{
	if (worker->stopping || conn_open(worker, fd) < 0)
		let_go(worker, fd);
}

static uint32_t least_loaded(const struct server *server)
{
	uint32_t best = 0;
	uint32_t best_count = UINT32_MAX;
	for (uint32_t i = 0; i < server->worker_count; i++) {
		uint32_t count =
			atomic_load_explicit(&server->worker_connections[i], memory_order_relaxed);
		if (count < best_count) {
			best = i;
			best_count = count;
		}
	}
	return best;
}

static void accept_all(struct worker *worker, int listener)
{
	static const char refused[] = "ERROR Too many open connections\r\n";
	struct server *server = worker->server;
	for (uint32_t i = 0; i < ACCEPTS_MAX; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		if (atomic_load_explicit(&server->connections, memory_order_relaxed) >=
		    server->options.connections) {
			worker->counts.rejected_connections++;
			ssize_t sent =
				send(fd, refused, sizeof refused - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
			(void)sent;
			(void)close(fd);
			continue;
		}
		uint32_t to = least_loaded(server);
		atomic_fetch_add_explicit(&server->connections, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&server->worker_connections[to], 1, memory_order_relaxed);
		const struct hop hop = { .what = HOP_CONN, .fd = fd };
		if (to == worker->id)
			hop_take(worker, &hop);
		else
			hop_put(worker, to, &hop);
	}
}

/* In order; false: the turn has written enough, the others have to wait. */
static bool run_conns(struct worker *worker, uint64_t written)
{
	struct conn *conn = worker->run_first;
	worker->run_first = worker->run_last = NULL;
	while (conn && worker->counts.bytes_written < written) {
		struct conn *next = conn->next;
		HAUL_ASSERT(!conn->fresh);
		conn->running = false;
		conn_run(conn);
		conn = next;
	}
	if (!conn)
		return true;
	/* Before those that were woken meanwhile. */
	struct conn *last = conn;
	while (last->next)
		last = last->next;
	last->next = worker->run_first;
	if (!worker->run_first)
		worker->run_last = last;
	worker->run_first = conn;
	return false;
}

/* Those that have received something: what they ask for is under way before others are answered. */
static void run_fresh(struct worker *worker)
{
	while (worker->run_first && worker->run_first->fresh) {
		struct conn *conn = worker->run_first;
		worker->run_first = conn->next;
		if (!worker->run_first)
			worker->run_last = NULL;
		conn->running = conn->fresh = false;
		conn_run(conn);
	}
}

/* ---- a turn ---- */

static void take_event(struct worker *worker, const struct epoll_event *event)
{
	uint64_t ignored;
	if (event->data.ptr == worker) {
		ssize_t got = read(worker->wake_fd, &ignored, sizeof ignored);
		(void)got;
		return;
	}
	if (event->data.ptr == worker->io)
		return;
	for (uint32_t i = 0; i < worker->server->listener_count; i++) {
		if (event->data.ptr == &worker->server->listeners[i]) {
			accept_all(worker, worker->server->listeners[i]);
			return;
		}
	}
	struct conn *conn = event->data.ptr;
	if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		conn_readable(conn);
	if (event->events & EPOLLOUT)
		conn_wake(conn);
	/* It is gone, and nothing of it is wanted any more. */
	if ((event->events & (EPOLLHUP | EPOLLERR)) && !(event->events & EPOLLIN))
		conn_close(conn);
}

/* How long to sleep at most. */
static int64_t sleep_ns(struct worker *worker, int64_t due_ns)
{
	bool ticks = worker->stopping || worker->sweep ||
		     (worker->id == 0 &&
		      atomic_load_explicit(&worker->server->purge_s, memory_order_relaxed) != 0);
	int64_t most_ns = ticks ? NS_PER_S : SLEEP_NS;
	int64_t wait_ns = due_ns == INT64_MAX ? most_ns : due_ns - worker->os->now_ns(worker->os);
	return wait_ns < most_ns ? wait_ns : most_ns;
}

/* Connections that have been idle for a second or two. */
static void sweep(struct worker *worker)
{
	if (!worker->sweep || worker->now_ns - worker->swept_ns < NS_PER_S)
		return;
	worker->swept_ns = worker->now_ns;
	worker->sweep = false;
	for (uint32_t i = 0; i < worker->conn_max; i++)
		if (worker->conns[i].open && conn_sweep(&worker->conns[i]))
			worker->sweep = true;
}

static void wait_events(struct worker *worker, int64_t due_ns)
{
	struct epoll_event events[EVENTS_MAX];
	int64_t wait_ns = sleep_ns(worker, due_ns);
	bool sleep = wait_ns > 0;
	if (sleep) {
		(void)atomic_exchange_explicit(&worker->asleep, true, memory_order_acq_rel);
		if (hops_pop(worker))
			sleep = false;
	}
	const struct timespec timeout = { .tv_nsec = sleep ? wait_ns % NS_PER_S : 0,
					  .tv_sec = sleep ? wait_ns / NS_PER_S : 0 };
	int count = epoll_pwait2(worker->epoll_fd, events, EVENTS_MAX, &timeout, NULL);
	if (count < 0 && errno != EINTR) /* a kernel or a filter without it */
		count = epoll_wait(worker->epoll_fd, events, EVENTS_MAX,
				   sleep ? (int)(wait_ns / NS_PER_MS) + 1 : 0);
	atomic_store_explicit(&worker->asleep, false, memory_order_relaxed);
	worker->now_ns = worker->os->now_ns(worker->os);
	worker->now_s = (uint32_t)worker->os->real_time_s(worker->os);
	for (int i = 0; i < count; i++)
		take_event(worker, &events[i]);
}

/* Returns when the shards want to be asked again. */
static int64_t poll_shards(struct worker *worker)
{
	int64_t due_ns = INT64_MAX;
	uint64_t reaped = worker->io->reaped;
	worker->asked = false;
	for (uint32_t i = 0; i < worker->shard_count; i++) {
		int64_t at = shard_poll(worker->shards[i]);
		if (at < due_ns)
			due_ns = at;
	}
	if (exec_finished(worker))
		due_ns = 0; /* windows given back let more be read */
	bool stuck = exec_stalled(worker);
	if (stuck && due_ns > worker->now_ns + STUCK_NS)
		due_ns = worker->now_ns + STUCK_NS;
	/* One shard's turn may have taken what another waited for: they share the io. */
	bool others = worker->shard_count > 1 && worker->io->reaped != reaped;
	return worker->asked || others ? 0 : due_ns;
}

/* flush_all with a delay: when its time has come. */
static void purge_when_due(struct worker *worker)
{
	struct server *server = worker->server;
	int64_t at = atomic_load_explicit(&server->purge_s, memory_order_relaxed);
	if (worker->id != 0 || at == 0 || at > worker->now_s || worker->tour.busy)
		return;
	if (!atomic_compare_exchange_strong(&server->purge_s, &at, 0))
		return;
	struct task *task = &worker->purge;
	*task = (struct task){ .kind = TASK_TOUR, .command = MC_flush_all, .tour = &worker->tour };
	worker->tour = (struct tour){ .busy = true };
	worker_send(worker, 0, HOP_EXECUTE, task);
}

static int64_t turn(struct worker *worker)
{
	int64_t due_ns = INT64_MAX;
	uint64_t written = worker->counts.bytes_written + TURN_BYTES;
	bool all = true;
	worker->counts.turns++;
	for (uint32_t i = 0; i < ROUNDS && all; i++) {
		(void)hops_pop(worker);
		run_fresh(worker);
		(void)hops_push(worker);
		due_ns = poll_shards(worker);
		all = run_conns(worker, written);
		if (!worker->run_first && due_ns > 0)
			break;
	}
	emit_stage(worker);
	purge_when_due(worker);
	sweep(worker);
	/* Connections and tasks that ran behind the last poll may have asked shards for more. */
	if (!hops_push(worker) || worker->run_first || worker->asked)
		due_ns = 0;
	return due_ns;
}

/* ---- the end ---- */

static void stop_begin(struct worker *worker, int64_t *ret_until_ns)
{
	worker->stopping = true;
	*ret_until_ns = worker->now_ns + GRACE_NS;
	if (worker->id == 0)
		server_unlisten(worker->server, worker->epoll_fd);
	for (uint32_t i = 0; i < worker->conn_max; i++)
		conn_wake(&worker->conns[i]);
}

static void stop_hard(struct worker *worker)
{
	for (uint32_t i = 0; i < worker->conn_max; i++)
		conn_close(&worker->conns[i]);
}

static bool stop_over(struct worker *worker)
{
	struct server *server = worker->server;
	if (!worker->drained && worker->conn_count == 0 && !worker->purge.tour) {
		worker->drained = true;
		if (atomic_fetch_add(&server->drained, 1) + 1 == worker->workers)
			for (uint32_t i = 0; i < worker->workers; i++)
				worker_wake(&server->workers[i]);
	}
	return atomic_load(&server->drained) == worker->workers;
}

void worker_run(struct worker *worker)
{
	int64_t due_ns = 0;
	int64_t until_ns = 0;
	for (;;) {
		wait_events(worker, due_ns);
		due_ns = turn(worker);
		if (!atomic_load_explicit(&worker->server->stop, memory_order_relaxed))
			continue;
		if (!worker->stopping) {
			stop_begin(worker, &until_ns);
			due_ns = 0;
		} else if (worker->now_ns > until_ns) {
			stop_hard(worker);
		}
		if (stop_over(worker))
			return;
	}
}
