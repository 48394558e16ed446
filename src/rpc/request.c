/* rpc/request.c — from what was received to tasks. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/worker.h"

bool conn_may_start(const struct conn *conn, enum conn_phase phase)
{
	if (conn->phase_pending == 0)
		return true;
	return conn->phase == phase && phase != PHASE_ALONE;
}

void request_key(struct worker *worker, struct task *task, struct mc_text text)
{
	const struct format_super *super = &worker->server->volume.super;
	uint32_t bytes = text.bytes;
	HAUL_ASSERT(bytes <= MC_KEY_MAX);
	if (task->base64)
		bytes = mc_base64(text, task->text, TASK_KEY_BYTES);
	else
		memcpy(task->text, text.data, bytes);
	task->key = (struct cache_key){ .data = task->text, .bytes = bytes };
	cache_key_hash(&task->key, super->secret);
	task->partition = (uint16_t)cache_key_partition(task->key.hash, super->partitions);
	task->owner = (uint16_t)(task->partition % worker->workers);
}

static void begin(struct conn *conn, struct task *task, enum conn_phase phase)
{
	HAUL_ASSERT(conn_may_start(conn, phase) || conn->keys_begun);
	conn->phase = phase;
	conn->phase_pending++;
	conn_append(conn, task);
	conn_send_task(conn, task);
}

/* A reply that is known now. */
static bool answer(struct conn *conn, const char *line)
{
	struct task *task = task_take(conn->worker, conn, false);
	if (!task)
		return false;
	task->kind = TASK_REPLY;
	task->command = MC_version;
	task->reply = line;
	task->state = TASK_DONE;
	task->applied = true;
	conn_append(conn, task);
	return true;
}

/* ---- gets ---- */

/* More keys of the get that is being taken; false: not now. */
static bool take_keys(struct conn *conn)
{
	struct mc_request *request = &conn->keys;
	bool touch = request->command == MC_gat || request->command == MC_gats;
	enum conn_phase phase = touch ? PHASE_ALONE : PHASE_READ;
	struct mc_text text;
	if (!conn->keys_begun && !conn_may_start(conn, phase))
		return false;
	while (request->key_count > 0) {
		struct task *task = task_take(conn->worker, conn, false);
		if (!task)
			return false;
		bool more = mc_key(&request->keys, &text);
		HAUL_ASSERT(more);
		task->kind = touch ? TASK_CHANGE : TASK_GET;
		task->command = request->command;
		task->gets = request->command == MC_gets || request->command == MC_gats;
		task->expiry = mc_expiry(request->exptime, conn->worker->now_s);
		task->ends = --request->key_count == 0;
		request_key(conn->worker, task, text);
		begin(conn, task, phase);
		conn->keys_begun = true;
	}
	conn->in_keys = conn->keys_begun = false;
	conn->in_borrowed--;
	return true;
}

/* ---- one key ---- */

static void take_meta(const struct mc_request *request, struct task *task)
{
	uint32_t now_s = task->conn->worker->now_s;
	for (uint32_t i = 0; i < request->meta_count; i++) {
		const struct mc_text *flag = &request->meta[i];
		task->letters[i] = flag->data[0];
		if (flag->data[0] != 'O')
			continue;
		task->opaque_bytes = (uint8_t)(flag->bytes - 1);
		memcpy(task->opaque, flag->data + 1, task->opaque_bytes);
	}
	task->letters[request->meta_count] = '\0';
	task->have = request->have;
	task->base64 = (request->have & MC_FLAG('b')) != 0;
	task->initial = request->initial;
	task->mode = request->mode;
	task->vivify = mc_expiry(request->vivify, now_s);
	task->recache = request->recache < 0 ? 0 : (uint32_t)request->recache;
}

static enum task_kind kind_of(const struct mc_request *request)
{
	switch ((uint32_t)request->command) {
	case MC_set:
	case MC_add:
	case MC_replace:
	case MC_cas:
		return TASK_PUT;
	case MC_delete:
		return TASK_DELETE;
	case MC_mg:
		return request->have & (MC_FLAG('N') | MC_FLAG('T')) ? TASK_CHANGE : TASK_GET;
	case MC_me:
		return TASK_GET;
	case MC_ms:
		return request->mode == 'A' || request->mode == 'P' ? TASK_CHANGE : TASK_PUT;
	case MC_md:
		return request->have & (MC_FLAG('I') | MC_FLAG('x')) ? TASK_CHANGE : TASK_DELETE;
	default:
		return TASK_CHANGE;
	}
}

static uint32_t how_of(const struct mc_request *request)
{
	if (request->command == MC_cas || (request->have & MC_FLAG('C')))
		return HAUL_CACHE_COMPARE;
	if (request->command == MC_add || request->mode == 'E')
		return HAUL_CACHE_ADD;
	return request->command == MC_replace || request->mode == 'R' ? HAUL_CACHE_REPLACE : 0;
}

static enum conn_phase phase_of(enum task_kind kind)
{
	if (kind == TASK_GET)
		return PHASE_READ;
	return kind == TASK_CHANGE ? PHASE_ALONE : PHASE_WRITE;
}

static void count_command(struct worker *worker, const struct task *task)
{
	bool meta = task->letters[0] != '\0' || task->command >= MC_mg;
	worker->counts.cmd_meta += meta;
	worker->counts.cmd_touch += task->command == MC_touch;
	worker->counts.cmd_set += task->kind == TASK_PUT || task->command == MC_append ||
				  task->command == MC_prepend || task->command == MC_ms;
}

/* noreply leaves out errors, too; q of the meta commands does not. */
static bool hides_errors(const struct mc_request *request)
{
	return request->noreply && request->command < MC_mg;
}

/* Append of a value that is over a slice: what is there would have to be an object. */
static bool refuse_long(struct conn *conn, const struct mc_request *request)
{
	conn->worker->counts.store_too_large++;
	if (hides_errors(request))
		return true;
	return answer(conn, "SERVER_ERROR object too large for cache\r\n");
}

static bool take_one(struct conn *conn, const struct mc_request *request)
{
	struct worker *worker = conn->worker;
	enum task_kind kind = kind_of(request);
	bool stores = request->value_bytes > 0 || request->value;
	bool object = stores && !request->value;
	enum conn_phase phase = object ? PHASE_ALONE : phase_of(kind);
	if (!conn_may_start(conn, phase))
		return false;
	if (object && kind == TASK_CHANGE)
		return refuse_long(conn, request);
	struct task *task = task_take(worker, conn, false);
	if (!task)
		return false;
	task->kind = kind;
	task->command = request->command;
	take_meta(request, task);
	task->noreply = request->noreply;
	task->durable = !worker->server->options.ack_buffered && !request->noreply;
	task->flags = request->flags;
	task->expiry = mc_expiry(request->exptime, worker->now_s);
	task->cas = request->cas;
	task->delta = request->delta;
	task->how = how_of(request);
	request_key(worker, task, request->key);
	count_command(worker, task);
	if (object) {
		conn->phase = PHASE_ALONE;
		conn->phase_pending++;
		conn_append(conn, task);
		receive_begin(conn, task, request->value_bytes);
		return true;
	}
	if (stores) {
		task->value = request->value;
		task->bytes = (uint32_t)request->value_bytes;
		task->borrows = true;
		conn->in_borrowed++;
	}
	begin(conn, task, phase);
	return true;
}

/* ---- tours ---- */

static bool take_tour(struct conn *conn, const struct mc_request *request)
{
	struct worker *worker = conn->worker;
	if (!conn_may_start(conn, PHASE_ALONE))
		return false;
	if (worker->tour.busy) {
		worker_starve(worker, conn);
		return false;
	}
	struct task *task = task_take(worker, conn, false);
	if (!task)
		return false;
	worker->tour = (struct tour){ .busy = true };
	task->kind = TASK_TOUR;
	task->command = request->command;
	task->noreply = request->noreply;
	task->durable = !worker->server->options.ack_buffered && !request->noreply;
	task->tour = &worker->tour;
	if (request->key.bytes > 0 && request->key.bytes <= MC_KEY_MAX)
		memcpy(task->text, request->key.data, request->key.bytes);
	task->key.bytes = request->key.bytes <= MC_KEY_MAX ? request->key.bytes : 0;
	begin(conn, task, PHASE_ALONE);
	return true;
}

static bool take_flush_all(struct conn *conn, const struct mc_request *request)
{
	struct worker *worker = conn->worker;
	if (request->exptime <= 0) {
		if (!take_tour(conn, request))
			return false;
		atomic_store(&worker->server->purge_s, 0);
	} else {
		if (!request->noreply && !answer(conn, "OK\r\n"))
			return false;
		/* As with items: over 30 days it is a time of its own. */
		atomic_store(&worker->server->purge_s, mc_expiry(request->exptime, worker->now_s));
		worker_wake(&worker->server->workers[0]);
	}
	worker->counts.cmd_flush++;
	return true;
}

/* ---- all requests ---- */

static bool take_request(struct conn *conn, const struct mc_request *request)
{
	switch ((uint32_t)request->command) {
	case MC_get:
	case MC_gets:
	case MC_gat:
	case MC_gats:
		conn->keys = *request;
		conn->in_keys = true;
		conn->in_borrowed++;
		return true;
	case MC_version:
		return answer(conn, conn->worker->server->version_line);
	case MC_verbosity:
		return request->noreply || answer(conn, "OK\r\n");
	case MC_mn:
		return answer(conn, "MN\r\n");
	case MC_quit:
		conn_finish(conn);
		return true;
	case MC_stats:
	case MC_online:
		return take_tour(conn, request);
	case MC_flush_all:
		return take_flush_all(conn, request);
	default:
		return take_one(conn, request);
	}
}

static void consume(struct conn *conn, uint64_t bytes)
{
	uint32_t there = conn->in_end - conn->in_start;
	uint32_t take = bytes < there ? (uint32_t)bytes : there;
	conn->in_start += take;
	conn->swallow = bytes - take;
}

/* One request; false: no more for now. */
static bool parse_one(struct conn *conn)
{
	const struct server *server = conn->worker->server;
	struct mc_request request;
	enum mc_parsed parsed =
		mc_parse((const char *)conn->in + conn->in_start, conn->in_end - conn->in_start,
			 server->slice_bytes, server->options.item_bytes, &request);
	if (parsed == MC_MORE)
		return false;
	if (parsed == MC_REQUEST) {
		bool object = request.value_bytes > 0 && !request.value;
		if (!take_request(conn, &request))
			return false;
		/* What follows the line of an object is taken by receive. */
		consume(conn, object && conn->receive.active ? request.head : request.consumed);
		return true;
	}
	bool silent = request.error == NULL || (parsed == MC_ERROR && hides_errors(&request));
	if (!silent && !answer(conn, request.error))
		return false;
	conn->worker->counts.bad_requests++;
	consume(conn, request.consumed);
	if (parsed == MC_FATAL)
		conn_finish(conn);
	return true;
}

void conn_parse(struct conn *conn)
{
	while (conn->open && !conn->full && !conn->close_after) {
		if (conn->swallow > 0) {
			consume(conn, conn->swallow);
			if (conn->swallow > 0)
				return;
		}
		if (conn->receive.active) {
			receive_more(conn);
			if (conn->receive.active)
				return;
		}
		if (conn->in_keys && !take_keys(conn))
			return;
		if (!conn->in_keys && !parse_one(conn))
			return;
	}
}
