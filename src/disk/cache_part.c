/* One partition and those who wait for it (cache_state.h has the model).
 *
 * Why nobody sleeps for good: a thread sleeps only while part.driven; whoever stops driving wakes
 *     the
 * first sleeper in part_unlock, and a sleeper that wakes with nobody driving drives. Why the driver
 * misses nothing: it waits in the disk only for what is under way, and while it does (`waiting`)
 * nobody else reaps, so each transfer that finishes ends its wait. Others who put something in push
 * it at once, and that too ends in a transfer that finishes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "disk/cache_state.h"

/* ---- the io that the shard sees ---- */

static struct part *part_of(struct io *io)
{
	return (struct part *)io; /* its first member */
}

static void part_io_mirror(struct part *part)
{
	part->io.in_flight = part->disk->in_flight;
	/* the driver counts its wait meanwhile */
	part->io.syscalls = __atomic_load_n(&part->disk->syscalls, __ATOMIC_RELAXED);
}

static void part_io_submit(struct io *io, struct io_op *op)
{
	io_submit(part_of(io)->disk, op);
	part_io_mirror(part_of(io));
}

static void part_io_push(struct io *io)
{
	io_push(part_of(io)->disk);
	part_io_mirror(part_of(io));
}

static uint32_t part_io_reap(struct io *io)
{
	struct part *part = part_of(io);
	if (part->waiting)
		return 0;
	uint32_t count = io_reap(part->disk);
	part_io_mirror(part);
	return count;
}

/* Only by shard_open, shard_close and shard_online: there is one thread then. */
static int part_io_wait(struct io *io, int64_t timeout_ns)
{
	struct part *part = part_of(io);
	HAUL_ASSERT(!part->waiting);
	int rc = io_wait(part->disk, timeout_ns);
	part_io_mirror(part);
	return rc;
}

static void part_io_close(struct io *io)
{
	(void)io; /* part_close closes the disk's */
}

static const struct io_calls part_io_calls = { part_io_submit, part_io_push, part_io_reap,
					       part_io_wait, part_io_close };

/* ---- sleeping and waking ---- */

static void part_list(struct part *part, struct waiter *waiter)
{
	waiter->listed = true;
	waiter->next = NULL;
	if (part->waiters == NULL)
		part->waiters = waiter;
	else
		part->waiters_last->next = waiter;
	part->waiters_last = waiter;
}

static void part_unlist(struct part *part, struct waiter *waiter)
{
	struct waiter *before = NULL;
	for (struct waiter *w = part->waiters; w != waiter; w = w->next)
		before = w;
	if (before == NULL)
		part->waiters = waiter->next;
	else
		before->next = waiter->next;
	if (part->waiters_last == waiter)
		part->waiters_last = before;
	waiter->listed = false;
}

static void part_wake(struct part *part, struct waiter *waiter)
{
	HAUL_ASSERT(waiter->listed);
	part_unlist(part, waiter);
	(void)pthread_cond_signal(&waiter->wake);
}

static void part_sleep(struct part *part, struct waiter *waiter)
{
	(void)pthread_cond_init(&waiter->wake, NULL);
	part_list(part, waiter);
	while (waiter->listed)
		(void)pthread_cond_wait(&waiter->wake, &part->lock);
	(void)pthread_cond_destroy(&waiter->wake);
}

static void part_wake_any(struct part *part)
{
	struct waiter *next = NULL;
	for (struct waiter *w = part->waiters; w != NULL; w = next) {
		next = w->next;
		if (w->any)
			part_wake(part, w);
	}
}

/* ---- driving ---- */

static int64_t part_now(const struct part *part)
{
	return part->cache->os->now_ns(part->cache->os);
}

static int64_t earlier(int64_t a_ns, int64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

void part_poll(struct part *part)
{
	part->due_ns = shard_poll(part->shard);
}

/* One turn: wait for the disk or the deadline, then take what there is. */
static void part_drive(struct part *part)
{
	HAUL_ASSERT(!part->driven);
	const bool idle = part->disk->in_flight == 0;
	const int64_t due = part->due_ns;
	/* who drives waits for something: it is under way, or has a deadline */
	HAUL_ASSERT(!idle || due != INT64_MAX);
	int64_t timeout = -1;
	if (due != INT64_MAX) {
		int64_t now = part_now(part);
		timeout = due > now ? due - now : 0;
	}
	part->driven = true;
	if (timeout != 0) {
		part->waiting = true;
		(void)pthread_mutex_unlock(&part->lock);
		(void)io_wait(part->disk, timeout);
		(void)pthread_mutex_lock(&part->lock);
		part->waiting = false;
	}
	part_poll(part);
	part_wake_any(part);
	part->driven = false;
}

void part_done(struct part *part, struct waiter *waiter)
{
	HAUL_ASSERT(waiter->pending > 0);
	waiter->pending--;
	if (waiter->listed)
		part_wake(part, waiter);
}

void part_wait(struct part *part, struct waiter *waiter, uint32_t pending)
{
	while (waiter->pending > pending)
		if (part->driven)
			part_sleep(part, waiter);
		else
			part_drive(part);
}

/* Nothing is under way, and nothing will be due. */
static bool part_quiet(const struct part *part)
{
	return part->disk->in_flight == 0 && part->due_ns == INT64_MAX;
}

bool part_turn(struct part *part)
{
	struct waiter waiter = { .any = true };
	const bool quiet = part_quiet(part);
	part_poll(part);
	if (part->driven)
		part_sleep(part, &waiter);
	else if (!part_quiet(part))
		part_drive(part);
	else if (quiet)
		return false;
	return true; /* also when the poll took what was under way: that may have made room */
}

void part_unlock(struct part *part)
{
	if (!part->driven && part->waiters != NULL) {
		part_wake(part, part->waiters);
	} else if (!part->driven && !part->kept &&
		   (part->due_ns != INT64_MAX || part->disk->in_flight > 0)) {
		int64_t at = part->due_ns;
		if (part->disk->in_flight > 0)
			at = earlier(at, part_now(part) + PART_KEEP_NS);
		part->kept = true;
		cache_keeper_call(&part->cache->keeper, at);
	}
	(void)pthread_mutex_unlock(&part->lock);
}

/* Callers who come all the time poll as they do: whoever waited in the disk beside them would only
 * keep them from it, and from the lock. */
int64_t part_keep(struct part *part)
{
	int64_t next = INT64_MAX;
	part_lock(part);
	part->kept = false;
	bool alone = part->visits == part->visits_kept + 1;
	if (!part->driven)
		part_poll(part);
	uint64_t visits = part->visits;
	while (alone && !part->driven && part->disk->in_flight > 0) {
		part_drive(part);
		alone = part->visits == visits;
	}
	if (!part->driven && (part->due_ns != INT64_MAX || part->disk->in_flight > 0)) {
		next = part->due_ns;
		if (part->disk->in_flight > 0)
			next = earlier(next, part_now(part) + PART_KEEP_NS);
		part->kept = true;
	}
	part->visits_kept = part->visits;
	part_unlock(part);
	return next;
}

void part_seize(struct part *part)
{
	while (part->driven)
		(void)part_turn(part);
	part->driven = true;
}

void part_release(struct part *part)
{
	HAUL_ASSERT(part->driven);
	part->driven = false;
	part_poll(part);
	part_wake_any(part);
}

/* ---- durable operations ---- */

static void told_done(struct shard_wait *wait, int result)
{
	struct told *told = wait->owner;
	HAUL_ASSERT(!told->done);
	told->result = result;
	told->done = true;
	part_done(told->part, told->waiter);
}

struct shard_wait *told_begin(struct told *told, struct part *part, struct waiter *waiter)
{
	*told = (struct told){
		.wait = { .done = told_done, .owner = told },
		.part = part,
		.waiter = waiter,
	};
	waiter->pending++;
	return &told->wait;
}

void told_cancel(struct told *told)
{
	HAUL_ASSERT(!told->done);
	HAUL_ASSERT(told->waiter->pending > 0);
	told->done = true;
	told->waiter->pending--;
}

/* ---- open and close ---- */

static int part_open_shard(struct part *part, const struct haul_cache_options *options,
			   uint32_t partition, struct haul_err *err)
{
	static const char *const codecs[] = { "none", "lz4", "zstd" };
	const struct haul_cache *cache = part->cache;
	char name[32];
	struct shard_options shard = {
		.volume = &cache->volume,
		.partition = partition,
		.io = &part->io,
		.limits = options->limits,
		.fixed = options->fixed,
		.buffer_bytes = options->buffer_bytes / cache->part_count,
		.read_bytes = options->read_bytes / cache->part_count,
		.ram_bytes = options->ram_bytes / cache->part_count,
		.policy = options->policy,
		.write_budget = options->write_budget / cache->part_count,
		.pinned_percent = options->pinned_percent,
		.read_only = options->read_only,
		.stats = options->stats,
		.name = name,
	};
	for (uint32_t i = 0; options->codec != NULL && i < sizeof codecs / sizeof codecs[0]; i++)
		if (!strcmp(options->codec, codecs[i]))
			shard.codec = (enum index_codec)i;
	(void)snprintf(name, sizeof name, "cache%u", partition);
	return shard_open(&part->shard, &shard, err);
}

int part_open(struct part *part, struct haul_cache *cache, const struct haul_cache_options *options,
	      uint32_t partition, struct haul_err *err)
{
	struct io_options io = {
		.shared = true,
		.sync_add_ns = options->sync_add_ns,
	};
	if (options->engine != NULL && !strcmp(options->engine, "io_uring"))
		io.engine = IO_URING;
	else if (options->engine != NULL && !strcmp(options->engine, "threads"))
		io.engine = IO_THREADS;
	*part = (struct part){ .cache = cache, .due_ns = INT64_MAX };
	int rc = io_open(&part->disk, &cache->volume.file, &io, err);
	if (rc < 0)
		return rc;
	part->io = *part->disk;
	part->io.calls = &part_io_calls;
	(void)pthread_mutex_init(&part->lock, NULL);
	rc = part_open_shard(part, options, partition, err);
	if (rc < 0) {
		(void)pthread_mutex_destroy(&part->lock);
		io_close(part->disk);
	}
	return rc;
}

int part_close(struct part *part)
{
	HAUL_ASSERT(!part->driven);
	HAUL_ASSERT(part->waiters == NULL);
	int rc = shard_close(part->shard);
	io_close(part->disk);
	(void)pthread_mutex_destroy(&part->lock);
	return rc;
}
