/* rpc/tour.c — tasks that visit all partitions, one after the other: flush_all, stats, online. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/reply.h"
#include "rpc/worker.h"

static void counts_add(struct worker_counts *to, const struct worker_counts *from)
{
#define X(name) to->name += from->name;
	WORKER_COUNT_LIST(X)
#undef X
}

static bool is_reset(const struct task *task)
{
	return task->key.bytes == 5 && memcmp(task->text, "reset", 5) == 0;
}

static void counts_collect(struct worker *worker, struct task *task)
{
	counts_add(&task->tour->counts, &worker->counts);
	if (is_reset(task))
		worker->counts = (struct worker_counts){ 0 };
}

/* One shard; true: it has to be waited for. */
static bool visit(struct worker *worker, struct task *task, struct shard *shard)
{
	struct tour *tour = task->tour;
	int rc = 0;
	if (task->command == MC_stats) {
		shard_stat(shard, &tour->stat);
	} else if (task->command == MC_online) {
		if (shard_offline(shard))
			rc = shard_online(shard, NULL);
		tour->online_failed += rc < 0;
	} else {
		worker->asked = true;
		rc = shard_purge(shard, exec_wait(worker, task));
		task->waiting = rc == 0 && task->durable;
	}
	if (rc < 0)
		tour->error = rc;
	return task->waiting;
}

void tour_step(struct worker *worker, struct task *task)
{
	HAUL_ASSERT(task->kind == TASK_TOUR && task->tour->busy);
	while (task->step < worker->shard_count) {
		if (visit(worker, task, worker->shards[task->step++]))
			return;
	}
	if (task->command == MC_stats)
		counts_collect(worker, task);
	if (task->command == MC_flush_all)
		memset(&worker->marks, 0, sizeof worker->marks);
	if (worker->id + 1 == worker->workers) {
		exec_done(worker, task, task->tour->error);
		return;
	}
	task->owner++;
	worker_send(worker, task->owner, HOP_EXECUTE, task);
}

/* ---- the text of stats ---- */

struct text {
	char *data;
	uint32_t bytes, max;
};

__attribute__((format(printf, 3, 4))) static void line(struct text *text, const char *name,
						       const char *format, ...)
{
	char value[64];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(value, sizeof value, format, args);
	va_end(args);
	int bytes = snprintf(text->data + text->bytes, text->max - text->bytes, "STAT %s %s\r\n",
			     name, value);
	if (bytes > 0 && text->bytes + (uint32_t)bytes < text->max)
		text->bytes += (uint32_t)bytes;
}

static void number(struct text *text, const char *name, uint64_t value)
{
	line(text, name, "%llu", (unsigned long long)value);
}

static void stats_process(const struct worker *worker, struct text *text)
{
	const struct server *server = worker->server;
	struct rusage usage;
	number(text, "pid", (uint64_t)getpid());
	number(text, "uptime", (uint64_t)(worker->now_s - server->started_s));
	number(text, "time", worker->now_s);
	line(text, "version", "%s", server->options.version);
	number(text, "pointer_size", sizeof(void *) * 8);
	if (getrusage(RUSAGE_SELF, &usage) == 0) {
		line(text, "rusage_user", "%lld.%06ld", (long long)usage.ru_utime.tv_sec,
		     (long)usage.ru_utime.tv_usec);
		line(text, "rusage_system", "%lld.%06ld", (long long)usage.ru_stime.tv_sec,
		     (long)usage.ru_stime.tv_usec);
	}
	number(text, "max_connections", server->options.connections);
	number(text, "curr_connections",
	       atomic_load_explicit(&server->connections, memory_order_relaxed));
	number(text, "threads", server->worker_count);
}

/* What memcached has no word for. */
static void stats_cache(const struct haul_cache_stat *stat, struct text *text)
{
	number(text, "disk_bytes", stat->disk_bytes);
	number(text, "index_bytes", stat->index_bytes);
	number(text, "ram_bytes", stat->ram_bytes);
	number(text, "buffer_bytes", stat->buffer_bytes);
	number(text, "entries_max", stat->entries_max);
	number(text, "pending_writes", stat->pending_writes);
	number(text, "buffered_bytes", stat->buffered_bytes);
	number(text, "segments", stat->segments);
	number(text, "segments_free", stat->segments_free);
	number(text, "segments_bad", stat->segments_bad);
	number(text, "segments_pinned", stat->segments_pinned);
	number(text, "ram_hits", stat->ram_hits);
	number(text, "corrupt", stat->corrupt);
	number(text, "unreadable", stat->unreadable);
	number(text, "read_ops", stat->read_ops);
	number(text, "read_bytes", stat->read_bytes);
	number(text, "read_gap_bytes", stat->read_gap_bytes);
	number(text, "read_keys", stat->read_keys);
	number(text, "refused", stat->refused);
	number(text, "failed", stat->failed);
	number(text, "flushes", stat->flushes);
	number(text, "flush_ops", stat->flush_ops);
	number(text, "flush_bytes", stat->flush_bytes);
	number(text, "device_bytes", stat->device_bytes);
	number(text, "syncs", stat->syncs);
	number(text, "reinserted", stat->reinserted);
	number(text, "reclaimed_segments", stat->reclaimed_segments);
	for (uint32_t i = 0; i < HAUL_CLOSE_REASONS; i++) {
		char name[48];
		(void)snprintf(name, sizeof name, "flushed_by_%s",
			       haul_close_name((enum haul_close)i));
		if (stat->closed[i] > 0)
			number(text, name, stat->closed[i]);
	}
	number(text, "batch_bytes_target", stat->batch_bytes_target);
	number(text, "gap_target", stat->gap_target);
	number(text, "partitions", stat->partitions);
	number(text, "partitions_offline", stat->offline);
	line(text, "engine", "%s", stat->engine ? stat->engine : "none");
}

static void stats_settings(const struct worker *worker, struct text *text)
{
	const struct server_options *options = &worker->server->options;
	number(text, "maxbytes", options->cache.ram_bytes);
	number(text, "maxconns", options->connections);
	line(text, "evictions", "on");
	number(text, "num_threads", worker->server->worker_count);
	line(text, "cas_enabled", "yes");
	line(text, "flush_enabled", "yes");
	line(text, "binding_protocol", "ascii");
	number(text, "item_size_max", options->item_bytes);
	line(text, "maxconns_fast", "yes");
	line(text, "ack", "%s", options->ack_buffered ? "buffered" : "durable");
	number(text, "slice_bytes", worker->server->slice_bytes);
}

uint32_t tour_stats(const struct worker *worker, const struct task *task, char *out, uint32_t max)
{
	static const char end[] = "END\r\n";
	struct text text = { .data = out, .max = max - (uint32_t)sizeof end };
	const struct tour *tour = task->tour;
	const struct mc_text what = { (const char *)task->text, task->key.bytes };
	if (is_reset(task)) {
		static const char reset[] = "RESET\r\n";
		memcpy(out, reset, sizeof reset);
		return sizeof reset - 1;
	}
	bool settings = what.bytes == 8 && memcmp(what.data, "settings", 8) == 0;
	if (settings) {
		stats_settings(worker, &text);
	} else if (what.bytes == 0) {
		stats_process(worker, &text);
		number(&text, "curr_items", tour->stat.entries);
		number(&text, "total_items", tour->stat.stores);
		number(&text, "bytes", tour->stat.stored_bytes);
		number(&text, "limit_maxbytes", tour->stat.disk_bytes);
		number(&text, "evictions", tour->stat.evicted);
#define X(name) number(&text, #name, tour->counts.name);
		WORKER_COUNT_LIST(X)
#undef X
		stats_cache(&tour->stat, &text);
	}
	memcpy(out + text.bytes, end, sizeof end - 1);
	return text.bytes + (uint32_t)sizeof end - 1;
}
