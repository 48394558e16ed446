/* rpc/exec.c — tasks at the owner of their key: from the hop to what the shard said.
 *
 * Nothing here waits. A put for which there is no buffer goes into its shard's queue, and all later
 * puts of that shard behind it, so that two stores of a key stay in order; so do those that come
 * while one reads the head of the object that it replaces. A change reads,
 * computes, and puts under the condition that the version is still the one it read; else it starts
 * again. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/worker.h"

enum { IDLE_TRIES = 256 }; /* of a put that found no room, each behind a poll */

enum step {
	STEP_PLAIN,
	STEP_HEAD,   /* reads the head of the object that is about to be replaced */
	STEP_REPLACE /* has it */
};

static struct task *task_of_get(struct shard_get *get)
{
	return (struct task *)((char *)get - offsetof(struct task, get));
}

static void finished_push(struct worker *worker, struct task *task)
{
	task->queue_next = NULL;
	if (worker->finished_last)
		worker->finished_last->queue_next = task;
	else
		worker->finished_first = task;
	worker->finished_last = task;
}

static void read_done(struct shard_get *get)
{
	struct task *task = task_of_get(get);
	HAUL_ASSERT(get->first + get->ready == 1);
	task->holds = true;
	finished_push(get->owner, task);
}

static void read_begin(struct worker *worker, struct task *task, bool peek)
{
	task->get = (struct shard_get){
		.keys = &task->key,
		.values = &task->read,
		.count = 1,
		.peek = peek,
		.done = read_done,
		.owner = worker,
	};
	shard_get(worker_shard(worker, task), &task->get);
}

static void window_back(struct worker *worker, struct task *task)
{
	HAUL_ASSERT(task->holds);
	task->holds = false;
	shard_get_next(worker_shard(worker, task), &task->get);
}

/* ---- what is told ---- */

void exec_done(struct worker *worker, struct task *task, int result)
{
	HAUL_ASSERT(!task->waiting);
	task->result = result;
	if (task->holds && (!task->read.buffer || task->read.head))
		window_back(worker, task);
	worker_send(worker, task->home, HOP_DONE, task);
}

static void flushed(struct shard_wait *wait, int result)
{
	struct task *task = (struct task *)((char *)wait - offsetof(struct task, wait));
	task->waiting = false;
	if (task->kind == TASK_TOUR) {
		if (result < 0)
			task->tour->error = result;
		tour_step(wait->owner, task);
		return;
	}
	exec_done(wait->owner, task, result);
}

struct shard_wait *exec_wait(struct worker *worker, struct task *task)
{
	if (!task->durable)
		return NULL;
	task->wait = (struct shard_wait){ .done = flushed, .owner = worker };
	return &task->wait;
}

/* Commands after which a key is as good as new. */
static bool renews(const struct task *task)
{
	if (task->put_slice)
		return false;
	return task->kind != TASK_CHANGE || (task->command != MC_md && task->command != MC_touch);
}

/* A write has been taken (wait tells later, if there is one). */
static void applied(struct worker *worker, struct task *task)
{
	if (worker->marks.count > 0 && renews(task))
		marks_clear(&worker->marks, task->key.hash);
	if (!task->durable) {
		exec_done(worker, task, 0);
		return;
	}
	task->waiting = true;
	worker_send(worker, task->home, HOP_APPLIED, task);
}

/* ---- waiting for room ---- */

static struct stalled *stalled_of(struct worker *worker, const struct task *task)
{
	return &worker->stalled[task->partition / worker->workers];
}

static void stall(struct worker *worker, struct task *task)
{
	struct stalled *stalled = stalled_of(worker, task);
	task->queue_next = NULL;
	if (stalled->last)
		stalled->last->queue_next = task;
	else
		stalled->first = task;
	stalled->last = task;
}

/* Those of a list go behind those that are there. */
static void stall_behind(struct stalled *stalled, const struct stalled *rest)
{
	if (!rest->first)
		return;
	if (stalled->last)
		stalled->last->queue_next = rest->first;
	else
		stalled->first = rest->first;
	stalled->last = rest->last;
}

/* ---- slices of an object that is replaced ---- */

static void delete_slices(struct worker *worker, const struct task *task)
{
	struct shard *shard = worker_shard(worker, task);
	struct cache_key key;
	/* Somebody may be reading them: they are garbage until their segments are reclaimed. */
	if (atomic_load_explicit(&worker->server->streams, memory_order_relaxed) > 0)
		return;
	for (uint32_t i = 1; i <= task->head.slices; i++) {
		object_slice_key(&task->key, &task->head, i, worker->server->volume.super.secret,
				 &key);
		/* What cannot be deleted now is garbage that nobody can reach. */
		if (shard_delete(shard, &key, NULL) == -EAGAIN)
			return;
	}
}

static bool slices_there(struct worker *worker, struct task *task)
{
	struct cache_key key;
	for (uint32_t i = 1; i <= task->head.slices; i++) {
		object_slice_key(&task->key, &task->head, i, worker->server->volume.super.secret,
				 &key);
		if (shard_version(worker_shard(worker, task), &key) == 0)
			return false;
	}
	return true;
}

/* ---- put and delete ---- */

static int put_now(struct worker *worker, struct task *task)
{
	const struct shard_put put = {
		.key = task->key,
		.value = task->value,
		.bytes = task->bytes,
		.expiry = task->expiry,
		.flags = task->flags,
		.how = task->how,
		.version = task->cas,
		.head = task->put_head,
		.wait = exec_wait(worker, task),
	};
	return shard_put(worker_shard(worker, task), &put);
}

static int delete_now(struct worker *worker, struct task *task)
{
	struct shard *shard = worker_shard(worker, task);
	if (task->have & MC_FLAG('C')) {
		uint64_t version = shard_version(shard, &task->key);
		if (version != task->cas)
			return version == 0 ? -ENOENT : HAUL_ESTALE;
	}
	return shard_delete(shard, &task->key, exec_wait(worker, task));
}

static void write_now(struct worker *worker, struct task *task)
{
	if (task->step == STEP_PLAIN && !task->put_slice &&
	    shard_is_head(worker_shard(worker, task), &task->key)) {
		task->step = STEP_HEAD;
		stalled_of(worker, task)->replacing = task;
		read_begin(worker, task, true);
		return;
	}
	int rc = task->kind == TASK_PUT ? put_now(worker, task) : delete_now(worker, task);
	if (rc == -EAGAIN) {
		stall(worker, task);
		return;
	}
	if (rc < 0) {
		exec_done(worker, task, rc);
		return;
	}
	if (task->step == STEP_REPLACE)
		delete_slices(worker, task);
	task->version = shard_version(worker_shard(worker, task), &task->key);
	task->stored_bytes = task->bytes;
	applied(worker, task);
}

static void replace_read(struct worker *worker, struct task *task)
{
	task->head.slices = 0;
	if (task->read.status == HAUL_CACHE_HIT && task->read.head &&
	    object_head_decode(task->read.data, task->read.bytes, &task->head) < 0)
		task->head.slices = 0;
	window_back(worker, task);
	task->step = STEP_REPLACE;
	/* What came meanwhile stays behind it, also if it has to wait again. */
	struct stalled *stalled = stalled_of(worker, task);
	HAUL_ASSERT(stalled->replacing == task);
	const struct stalled rest = *stalled;
	*stalled = (struct stalled){ 0 };
	write_now(worker, task);
	stall_behind(stalled, &rest);
}

/* ---- reads ---- */

/* W, X and Z of an item that was found. */
static void read_marks(struct worker *worker, struct task *task)
{
	struct mark *mark = marks_find(&worker->marks, task->key.hash);
	if (task->marked)
		return;
	task->marked = true;
	bool recache = (task->have & MC_FLAG('R')) && task->read.expiry != 0 &&
		       task->read.expiry < worker->now_s + task->recache;
	if (!mark && !recache)
		return;
	if (!mark)
		mark = marks_set(&worker->marks, task->key.hash);
	task->sent = mark && mark->won;
	task->stale = mark && mark->stale;
	task->won = !task->sent && (recache || task->stale);
	if (mark && task->won)
		mark->won = true;
}

/* The head of an object: an object of which a slice is gone is a miss. */
static void object_read(struct worker *worker, struct task *task)
{
	struct shard_value *read = &task->read;
	if (read->status != HAUL_CACHE_HIT || !read->head)
		return;
	if (object_head_decode(read->data, read->bytes, &task->head) == 0 &&
	    slices_there(worker, task))
		return;
	worker->counts.broken_objects++;
	read->status = HAUL_CACHE_MISS;
}

static void get_read(struct worker *worker, struct task *task)
{
	object_read(worker, task);
	if (task->command == MC_mg && task->read.status == HAUL_CACHE_HIT)
		read_marks(worker, task);
	exec_done(worker, task, 0);
}

/* ---- change ---- */

/* What answers with the value promises nothing about the new time: it does not wait. */
static bool answers_value(const struct task *task)
{
	return task->command == MC_gat || task->command == MC_gats || task->command == MC_mg;
}

static void change_put(struct worker *worker, struct task *task, struct shard_put *put)
{
	bool answers = answers_value(task);
	task->durable = task->durable && !answers;
	put->how = task->hit ? HAUL_CACHE_COMPARE : HAUL_CACHE_ADD;
	put->wait = exec_wait(worker, task);
	int rc = shard_put(worker_shard(worker, task), put);
	bool again = rc == HAUL_ESTALE || rc == -EEXIST || rc == -ENOENT;
	if (!answers || again || rc == -EAGAIN)
		window_back(worker, task);
	if (rc == -EAGAIN) {
		stall(worker, task);
	} else if (again) {
		read_begin(worker, task, true);
	} else if (rc < 0 && !answers) {
		exec_done(worker, task, rc);
	} else {
		task->version = shard_version(worker_shard(worker, task), &task->key);
		task->stored_bytes = put->bytes;
		task->read.expiry = put->expiry;
		task->read.status = HAUL_CACHE_HIT; /* also of what was made just now */
		if (answers)
			exec_done(worker, task, 0);
		else
			applied(worker, task);
	}
}

static void change_read(struct worker *worker, struct task *task)
{
	struct shard_put put = { .key = task->key, .version = task->read.version };
	bool answers = answers_value(task);
	if (answers)
		object_read(worker, task);
	task->hit = task->read.status == HAUL_CACHE_HIT;
	task->version = task->read.version;
	if (task->hit && task->command == MC_mg)
		read_marks(worker, task);
	if (change_compute(worker, task, &put) == CHANGE_PUT) {
		change_put(worker, task, &put);
		return;
	}
	if (!answers)
		window_back(worker, task);
	exec_done(worker, task, task->result);
}

bool exec_finished(struct worker *worker)
{
	bool any = worker->finished_first != NULL;
	while (worker->finished_first) {
		struct task *task = worker->finished_first;
		worker->finished_first = task->queue_next;
		if (!worker->finished_first)
			worker->finished_last = NULL;
		if (task->kind == TASK_CHANGE)
			change_read(worker, task);
		else if (task->kind == TASK_GET)
			get_read(worker, task);
		else if (task->kind == TASK_SLICE)
			exec_done(worker, task, 0);
		else
			replace_read(worker, task);
	}
	return any;
}

void exec_task(struct worker *worker, struct task *task)
{
	HAUL_ASSERT(task->owner == worker->id);
	task->step = STEP_PLAIN;
	switch (task->kind) {
	case TASK_GET:
	case TASK_SLICE:
		read_begin(worker, task, false);
		return;
	case TASK_CHANGE:
		read_begin(worker, task, task->command != MC_mg);
		return;
	case TASK_PUT:
	case TASK_DELETE:
		if (stalled_of(worker, task)->first || stalled_of(worker, task)->replacing)
			stall(worker, task);
		else
			write_now(worker, task);
		return;
	case TASK_TOUR:
		tour_step(worker, task);
		return;
	case TASK_REPLY:
		break;
	}
	HAUL_ASSERT(false);
}

/* Polls made no room, and nothing is under way that could: none will come for the first. */
static void stalled_refuse(struct worker *worker, struct stalled *stalled)
{
	struct task *task = stalled->first;
	*stalled = (struct stalled){ .first = task->queue_next, .last = stalled->last };
	if (!stalled->first)
		stalled->last = NULL;
	exec_done(worker, task, HAUL_EFULL);
}

static void stalled_retry(struct worker *worker, struct stalled *stalled, struct shard *shard)
{
	bool idle = worker->io->in_flight == 0 && !stalled->replacing;
	uint32_t tries = idle ? stalled->idle_tries + 1 : 0;
	if (stalled->first && tries > IDLE_TRIES)
		stalled_refuse(worker, stalled);
	stalled->idle_tries = tries <= IDLE_TRIES ? tries : 0;
	bool back = false;
	/* An offline shard refuses at once, and says so. */
	while (stalled->first && !stalled->replacing && !back &&
	       (shard_room(shard) || shard_offline(shard))) {
		struct task *task = stalled->first;
		const struct stalled rest = { .first = task->queue_next, .last = stalled->last };
		*stalled = (struct stalled){ 0 };
		if (task->kind == TASK_CHANGE)
			read_begin(worker, task, true);
		else
			write_now(worker, task);
		/* Those behind stay behind what was put back. */
		back = stalled->first != NULL;
		stalled->idle_tries = back ? tries : 0;
		stall_behind(stalled, &rest);
	}
}

bool exec_stalled(struct worker *worker)
{
	bool any = false;
	for (uint32_t i = 0; i < worker->shard_count; i++) {
		struct stalled *stalled = &worker->stalled[i];
		if (stalled->first)
			stalled_retry(worker, stalled, worker->shards[i]);
		any = any || stalled->first;
	}
	return any && worker->io->in_flight == 0;
}
