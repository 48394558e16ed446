/* The disk is two images and a log. `now` is what reads see; `durable` what a power cut leaves for
 * certain; the log holds, in the order they finished, the writes that are in the first and not yet
 * in the second. A sync that finishes moves all that had finished when it was pushed from the log
 * into `durable`. A crash undoes in `now` what the log wrote, and then writes again those sectors
 * of it that chance has kept: its cost is that of the log, not of the disk.
 *
 * A sync that fails decides at once, sector by sector, what of the writes it covered has reached
 * the disk. The rest is lost even if a later sync succeeds, though reads go on seeing it: that is
 * what a failed fdatasync means. */
#include "os/io_sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "os/io_state.h"

enum { DEPTH = 256, KINDS = IO_DISCARD + 1 };

/* A write that finished and is not durable. */
struct pending {
	struct pending *next;
	uint64_t number;
	uint64_t offset;
	uint32_t bytes;
	bool decided; /* by a failed sync: nothing more of it reaches the disk */
	uint8_t data[];
};

struct fault {
	uint64_t skip;
	uint64_t count;
	int error;
};

/* One io over the disk; dead after a crash. */
struct session {
	struct io io; /* first: the engine is found by it */
	struct io_sim *sim;
	struct session *next;
	bool dead;
	struct io_list staged;  /* submitted, not pushed */
	struct io_list refused; /* more than depth */
	uint32_t count;         /* of flying */
	struct io_op *flying[DEPTH];
};

struct range {
	uint64_t offset;
	uint64_t bytes; /* 0 = nothing */
};

struct io_sim {
	uint64_t bytes;
	uint8_t *now;
	uint8_t *durable;
	struct pending *first;
	struct pending **last;
	uint64_t number; /* of the next write that finishes */
	struct prng prng;
	struct session *sessions;
	uint64_t counts[KINDS];
	struct fault faults[KINDS];
	struct range bad;  /* reads that touch it fail */
	struct range worn; /* … and writes */
	uint64_t left;     /* operations until it stops */
	bool dead;
};

static struct session *session_of(struct io *io)
{
	return (struct session *)(void *)io;
}

/* ---- the log ---- */

static void log_new(struct io_sim *sim, uint64_t offset, const uint8_t *data, uint32_t bytes)
{
	struct pending *pending = malloc(sizeof *pending + bytes);

	HAUL_ASSERT(pending != NULL);
	*pending = (struct pending){ .number = sim->number++, .offset = offset, .bytes = bytes };
	memcpy(pending->data, data, bytes);
	memcpy(sim->now + offset, data, bytes);
	*sim->last = pending;
	sim->last = &pending->next;
}

/* A write that is its own sync. */
static void durable_new(struct io_sim *sim, const struct io_op *op, uint32_t bytes)
{
	memcpy(sim->now + op->offset, op->data, bytes);
	memcpy(sim->durable + op->offset, op->data, bytes);
}

/* Bytes first … first + bytes - 1 of a write. */
static void keep(uint8_t *image, const struct pending *pending, uint32_t first, uint32_t bytes)
{
	memcpy(image + pending->offset + first, pending->data + first, bytes);
}

static void keep_by_coin(uint8_t *image, const struct pending *pending, struct prng *prng)
{
	for (uint32_t at = 0; at < pending->bytes; at += IO_SIM_SECTOR)
		if (prng_below(prng, 2) == 1)
			keep(image, pending, at, IO_SIM_SECTOR);
}

/* What finished before `number` is durable, or decided. */
static void log_sync(struct io_sim *sim, uint64_t number, bool good)
{
	struct pending **at = &sim->first;
	struct pending *pending;

	while ((pending = *at) != NULL && pending->number < number) {
		if (good && !pending->decided) {
			keep(sim->durable, pending, 0, pending->bytes);
			*at = pending->next;
			free(pending);
			continue;
		}
		if (!pending->decided)
			keep_by_coin(sim->durable, pending, &sim->prng);
		pending->decided = true;
		at = &pending->next;
	}
	if (*at == NULL)
		sim->last = at;
}

static void log_free(struct io_sim *sim)
{
	struct pending *pending;

	while ((pending = sim->first) != NULL) {
		sim->first = pending->next;
		free(pending);
	}
	sim->last = &sim->first;
}

/* ---- operations ---- */

static bool fault_due(struct io_sim *sim, enum io_kind kind, int *ret_error)
{
	struct fault *fault = &sim->faults[kind];

	if (fault->count == 0)
		return false;
	if (fault->skip > 0) {
		fault->skip--;
		return false;
	}
	fault->count--;
	*ret_error = fault->error;
	return true;
}

static uint32_t whole_sectors(uint64_t bytes)
{
	return (uint32_t)(bytes & ~(uint64_t)(IO_SIM_SECTOR - 1));
}

static bool touches(const struct io_op *op, uint32_t bytes, const struct range *range)
{
	return range->bytes > 0 && op->offset < range->offset + range->bytes &&
	       range->offset < op->offset + bytes;
}

static int32_t sim_read(struct io_sim *sim, const struct io_op *op, uint32_t bytes)
{
	if (touches(op, bytes, &sim->bad))
		return -EIO;
	memcpy(op->data, sim->now + op->offset, bytes);
	return (int32_t)bytes;
}

/* Blocks that are not needed any more read as zeros, or as they were. */
static int32_t sim_discard(struct io_sim *sim, const struct io_op *op, uint32_t bytes)
{
	static const uint8_t zeros[IO_SIM_SECTOR];

	for (uint32_t at = 0; at < bytes; at += IO_SIM_SECTOR)
		if (prng_below(&sim->prng, 2) == 1)
			log_new(sim, op->offset + at, zeros, IO_SIM_SECTOR);
	return 0;
}

/* A write that fails may have been done in part. */
static int32_t sim_fail(struct io_sim *sim, const struct io_op *op, uint32_t bytes, int error)
{
	uint32_t part = whole_sectors(bytes / 2);

	if (error == 0 && op->kind == IO_READ)
		return sim_read(sim, op, part);
	if (op->kind == IO_WRITE && error != 0)
		part = IO_SIM_SECTOR * prng_below(&sim->prng, bytes / IO_SIM_SECTOR + 1);
	if (op->kind == IO_WRITE && part > 0)
		log_new(sim, op->offset, op->data, part);
	if (op->kind == IO_SYNC)
		log_sync(sim, (uint64_t)op->due_ns, error == 0);
	return error != 0 ? error : op->kind == IO_WRITE ? (int32_t)part : 0;
}

static int32_t sim_result(struct io_sim *sim, const struct io_op *op)
{
	uint64_t left = op->offset < sim->bytes ? sim->bytes - op->offset : 0;
	uint32_t bytes = op->bytes < left ? op->bytes : (uint32_t)left;
	int error = 0;

	if (sim->dead)
		return -ENODEV;
	if (op->kind != IO_SYNC &&
	    (op->offset % IO_SIM_SECTOR != 0 || op->bytes % IO_SIM_SECTOR != 0))
		return -EINVAL;
	if ((op->kind == IO_READ || op->kind == IO_WRITE) &&
	    (uintptr_t)op->data % IO_SIM_SECTOR != 0)
		return -EINVAL;
	if (op->kind == IO_WRITE && touches(op, bytes, &sim->worn))
		return -EIO;
	if (fault_due(sim, op->kind, &error))
		return sim_fail(sim, op, bytes, error);
	if (op->kind == IO_WRITE && op->durable && fault_due(sim, IO_SYNC, &error) && error != 0) {
		log_new(sim, op->offset, op->data, bytes);
		return error;
	}
	if (op->kind == IO_READ)
		return sim_read(sim, op, bytes);
	if (op->kind == IO_DISCARD)
		return sim_discard(sim, op, bytes);
	if (op->kind == IO_SYNC)
		log_sync(sim, (uint64_t)op->due_ns, true);
	else if (bytes == 0 && op->bytes > 0)
		return -ENOSPC;
	else if (bytes > 0 && op->durable)
		durable_new(sim, op, bytes);
	else if (bytes > 0)
		log_new(sim, op->offset, op->data, bytes);
	return op->kind == IO_SYNC ? 0 : (int32_t)bytes;
}

/* ---- the calls ---- */

static void session_submit(struct io *io, struct io_op *op)
{
	struct session *session = session_of(io);

	if (io->in_flight++ < io->depth)
		io_list_put(&session->staged, op);
	else
		io_list_put(&session->refused, op);
}

static void session_push(struct io *io)
{
	struct session *session = session_of(io);
	struct io_op *op;

	io->syscalls += session->staged.first != NULL;
	while ((op = io_list_take(&session->staged)) != NULL) {
		HAUL_ASSERT(session->count < DEPTH);
		/* A sync covers what had finished by now. */
		op->due_ns = (int64_t)session->sim->number;
		session->flying[session->count++] = op;
	}
}

static void session_finish(struct session *session, struct io_op *op, int32_t result)
{
	HAUL_ASSERT(session->io.in_flight > 0);
	session->io.in_flight--;
	op->result = result;
	op->done(op);
}

/* Any of what is under way. */
static struct io_op *session_take(struct session *session)
{
	uint32_t index = prng_below(&session->sim->prng, session->count);
	struct io_op *op = session->flying[index];

	session->flying[index] = session->flying[--session->count];
	return op;
}

static uint32_t session_reap(struct io *io)
{
	struct session *session = session_of(io);
	struct io_sim *sim = session->sim;
	uint32_t finished = 0;
	uint32_t wanted;
	struct io_op *op;

	if (session->dead)
		return 0;
	for (; (op = io_list_take(&session->refused)) != NULL; finished++)
		session_finish(session, op, -EAGAIN);
	wanted = session->count > 0 ? 1 + prng_below(&sim->prng, session->count) : 0;
	for (; wanted > 0 && session->count > 0 && !io_sim_stopped(sim); wanted--, finished++) {
		op = session_take(session);
		if (op->kind != IO_READ && sim->left != UINT64_MAX)
			sim->left--;
		sim->counts[op->kind]++;
		sim->counts[IO_SYNC] += op->kind == IO_WRITE && op->durable;
		session_finish(session, op, sim_result(sim, op));
	}
	return finished;
}

static int session_wait(struct io *io, int64_t timeout_ns)
{
	struct session *session = session_of(io);

	(void)timeout_ns;
	io->syscalls++;
	if (session->dead || io_sim_stopped(session->sim))
		return -ETIME;
	return session->count > 0 || session->refused.first != NULL ? 0 : -ETIME;
}

static void session_free(struct session *session)
{
	struct session **at = &session->sim->sessions;

	while (*at != session)
		at = &(*at)->next;
	*at = session->next;
	free(session);
}

static void session_close(struct io *io)
{
	session_push(io);
	while (io->in_flight > 0 && session_wait(io, -1) == 0) {
		session_reap(io);
		session_push(io);
	}
	session_free(session_of(io));
}

static const struct io_calls session_calls = {
	.submit = session_submit,
	.push = session_push,
	.reap = session_reap,
	.wait = session_wait,
	.close = session_close,
};

/* ---- the disk ---- */

int io_sim_open(struct io_sim **ret_sim, uint64_t bytes, uint64_t seed)
{
	struct io_sim *sim = calloc(1, sizeof *sim);

	HAUL_ASSERT(bytes > 0 && bytes % IO_SIM_SECTOR == 0);
	if (sim == NULL)
		return -ENOMEM;
	sim->bytes = bytes;
	sim->now = calloc(1, bytes);
	sim->durable = calloc(1, bytes);
	sim->last = &sim->first;
	sim->left = UINT64_MAX;
	prng_init(&sim->prng, seed);
	if (sim->now == NULL || sim->durable == NULL) {
		io_sim_close(sim);
		return -ENOMEM;
	}
	*ret_sim = sim;
	return 0;
}

void io_sim_close(struct io_sim *sim)
{
	if (sim == NULL)
		return;
	while (sim->sessions != NULL)
		session_free(sim->sessions);
	log_free(sim);
	free(sim->durable);
	free(sim->now);
	free(sim);
}

static struct session *session_new(struct io_sim *sim)
{
	struct session *session = calloc(1, sizeof *session);

	HAUL_ASSERT(session != NULL);
	session->io =
		(struct io){ .calls = &session_calls, .engine = IO_AUTO, .fd = -1, .depth = DEPTH };
	session->sim = sim;
	session->next = sim->sessions;
	sim->sessions = session;
	return session;
}

struct io *io_sim_io(struct io_sim *sim)
{
	for (const struct session *s = sim->sessions; s != NULL; s = s->next)
		HAUL_ASSERT(s->dead);
	return &session_new(sim)->io;
}

uint64_t io_sim_count(const struct io_sim *sim, enum io_kind kind)
{
	return sim->counts[kind];
}

uint8_t *io_sim_bytes(struct io_sim *sim)
{
	return sim->now;
}

uint64_t io_sim_size(const struct io_sim *sim)
{
	return sim->bytes;
}

/* ---- crashes ---- */

/* What is under way may reach the disk as well as not: it becomes the end of the log. */
static void crash_flying(struct io_sim *sim)
{
	struct session *session = sim->sessions;

	while (session != NULL && session->dead)
		session = session->next;
	if (session == NULL)
		return;
	while (session->count > 0) {
		struct io_op *op = session_take(session);
		uint64_t left = op->offset < sim->bytes ? sim->bytes - op->offset : 0;

		if (op->kind == IO_WRITE && op->bytes <= left && !sim->dead)
			log_new(sim, op->offset, op->data, whole_sectors(op->bytes));
	}
	session->dead = true;
}

static void crash_torn(struct io_sim *sim, const struct pending *pending, struct prng *prng)
{
	uint32_t sectors = pending->bytes / IO_SIM_SECTOR;
	uint32_t bytes = IO_SIM_SECTOR * prng_below(prng, sectors + 1);

	if (prng_below(prng, 2) == 1)
		keep(sim->now, pending, 0, bytes);
	else
		keep(sim->now, pending, pending->bytes - bytes, bytes);
}

static uint64_t crash_undo(struct io_sim *sim)
{
	uint64_t sectors = 0;

	for (const struct pending *p = sim->first; p != NULL; p = p->next) {
		memcpy(sim->now + p->offset, sim->durable + p->offset, p->bytes);
		sectors += p->decided ? 0 : p->bytes / IO_SIM_SECTOR;
	}
	return sectors;
}

void io_sim_crash(struct io_sim *sim, enum io_sim_crash how, struct prng *prng)
{
	uint64_t prefix;

	crash_flying(sim);
	prefix = crash_undo(sim);
	if (how == IO_SIM_PREFIX)
		prefix = prng_below(prng, (uint32_t)prefix + 1);
	for (const struct pending *p = sim->first; p != NULL; p = p->next) {
		uint64_t bytes = prefix * IO_SIM_SECTOR;

		bytes = bytes < p->bytes ? bytes : p->bytes;
		if (p->decided)
			continue;
		if (how == IO_SIM_KEEP_ALL || how == IO_SIM_PREFIX)
			keep(sim->now, p, 0, (uint32_t)bytes);
		else if (how == IO_SIM_REORDER)
			keep_by_coin(sim->now, p, prng);
		else if (how == IO_SIM_TORN)
			crash_torn(sim, p, prng);
		prefix -= bytes / IO_SIM_SECTOR;
	}
	for (const struct pending *p = sim->first; p != NULL; p = p->next)
		memcpy(sim->durable + p->offset, sim->now + p->offset, p->bytes);
	log_free(sim);
	sim->left = UINT64_MAX;
}

void io_sim_stop_after(struct io_sim *sim, uint64_t operations)
{
	sim->left = operations;
}

bool io_sim_stopped(const struct io_sim *sim)
{
	return sim->left == 0;
}

/* ---- faults ---- */

void io_sim_fail(struct io_sim *sim, enum io_kind kind, uint64_t skip, uint64_t count, int error)
{
	HAUL_ASSERT(error <= 0);
	sim->faults[kind] = (struct fault){ .skip = skip, .count = count, .error = error };
}

void io_sim_bad(struct io_sim *sim, uint64_t offset, uint64_t bytes)
{
	sim->bad = (struct range){ offset, bytes };
}

void io_sim_worn(struct io_sim *sim, uint64_t offset, uint64_t bytes)
{
	sim->worn = (struct range){ offset, bytes };
}

void io_sim_dead(struct io_sim *sim, bool dead)
{
	sim->dead = dead;
}
