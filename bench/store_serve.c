/* A served store: the server in a thread of this process, its clients over a Unix socket, an
 * acknowledgement counted when its frame is durable. */
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <haul/client.h>
#include "base/assert.h"
#include "rpc/store_server.h"
#include "store_work.h"

enum { CALLERS = 64, IN_FLIGHT = 16, CLIENTS = 4, FRAMES = 4, FRAME = 2048, LEVELS = 4 };

struct store_served {
	struct store_server *server;
	pthread_t thread;
	char address[STORE_PATH + 8];
};

/* ---- the server ---- */

static void *serve(void *arg)
{
	return (void *)(intptr_t)store_server_run(arg);
}

static int served_start(struct store_bench *bench, struct haul_err *err)
{
	char path[STORE_PATH];
	const struct haul_store_options options = {
		.memory = bench->sizes.server_memory,
		.memtable_bytes = bench->sizes.server_memtable,
	};
	struct store_served *served = calloc(1, sizeof *served);
	if (served == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	snprintf(served->address, sizeof served->address, "unix:%s",
		 store_path(bench, "socket", path));
	/* Not the arm's before, whose memory is that of a store alone. */
	int error = store_store_close(bench);
	if (error == 0)
		error = store_store_open(bench, bench->sync_add_ns, &options, err);
	const struct store_server_options how = { .store = bench->store,
						  .addresses = { served->address },
						  .address_count = 1 };
	if (error == 0)
		error = store_server_open(&served->server, &how, err);
	if (error == 0 && pthread_create(&served->thread, NULL, serve, served->server) != 0) {
		store_server_close(served->server);
		error = haul_err_set(err, -EAGAIN, "cannot start a thread");
	}
	if (error < 0) {
		free(served);
		return error;
	}
	bench->served = served;
	return 0;
}

void store_serve_end(struct store_bench *bench)
{
	struct store_served *served = bench->served;
	if (served == NULL)
		return;
	store_server_stop(served->server);
	pthread_join(served->thread, NULL);
	store_server_close(served->server);
	(void)store_store_close(bench);
	free(served);
	bench->served = NULL;
}

/* ---- callers ---- */

struct caller {
	struct store_bench *bench;
	struct haul_client *client;
	struct haul_changes *changes;
	sem_t free;
	uint64_t next_id, told; /* told: of the client's thread, read when all has been told */
	uint32_t each;          /* nodes a submit */
	int64_t until_ns;
	int error; /* atomic */
	pthread_t thread;
};

static void caller_told(void *arg, const struct haul_client_result *result)
{
	struct caller *caller = arg;
	int error = result->error;
	for (uint32_t i = 0; i < result->count && error == 0; i++)
		error = result->statuses[i];
	if (error < 0)
		__atomic_store_n(&caller->error, error, __ATOMIC_RELAXED);
	caller->told += result->count;
	sem_post(&caller->free);
}

static void *call(void *arg)
{
	struct caller *caller = arg;
	int error = 0;
	while (error == 0 && store_now(caller->bench) < caller->until_ns) {
		haul_changes_clear(caller->changes);
		for (uint32_t i = 0; error >= 0 && i < caller->each; i++)
			error = store_node_add(caller->changes, store_id(caller->next_id++));
		while (sem_wait(&caller->free) < 0)
			;
		if (error >= 0)
			error = haul_client_submit(caller->client, caller->changes, caller_told,
						   caller);
		if (error < 0)
			sem_post(&caller->free);
		else
			error = __atomic_load_n(&caller->error, __ATOMIC_RELAXED);
	}
	if (error < 0)
		__atomic_store_n(&caller->error, error, __ATOMIC_RELAXED);
	return NULL;
}

struct crowd {
	struct caller callers[CALLERS];
	struct haul_client *clients[CLIENTS];
	uint32_t caller_count, client_count;
};

static int crowd_open(struct store_bench *bench, struct crowd *crowd, enum store_commit_case what,
		      struct haul_err *err)
{
	bool one = what == STORE_CLIENT;
	const struct haul_client_options options = { .policy = HAUL_CLIENT_SELFCLOCK,
						     .window = one ? 2 : FRAMES };
	crowd->client_count = one ? 1 : CLIENTS;
	crowd->caller_count = one ? CALLERS : CLIENTS;
	int error = 0;
	for (uint32_t i = 0; error == 0 && i < crowd->client_count; i++)
		error = haul_client_open(&crowd->clients[i], bench->served->address, &options, err);
	for (uint32_t i = 0; error == 0 && i < crowd->caller_count; i++) {
		struct caller *caller = &crowd->callers[i];
		caller->bench = bench;
		caller->client = crowd->clients[i % crowd->client_count];
		caller->each = one ? 1 : FRAME;
		caller->next_id = bench->next_id + ((uint64_t)i << 32);
		sem_init(&caller->free, 0, one ? IN_FLIGHT : FRAMES);
		error = haul_changes_new(&caller->changes, caller->each, caller->each * 256 + 4096,
					 0);
		if (error < 0)
			haul_err_set(err, error, "no memory");
	}
	return error;
}

static int crowd_run(struct store_bench *bench, struct crowd *crowd, double seconds,
		     uint64_t *ret_count)
{
	int64_t until_ns = store_now(bench) + (int64_t)(seconds * 1e9);
	uint32_t started = 0;
	uint64_t count = 0;
	int error = 0;
	for (; error == 0 && started < crowd->caller_count; started++) {
		crowd->callers[started].until_ns = until_ns;
		if (pthread_create(&crowd->callers[started].thread, NULL, call,
				   &crowd->callers[started]) != 0)
			error = -EAGAIN;
	}
	if (error < 0)
		started--;
	for (uint32_t i = 0; i < started; i++)
		pthread_join(crowd->callers[i].thread, NULL);
	for (uint32_t i = 0; i < crowd->client_count; i++) {
		int flushed = haul_client_flush(crowd->clients[i]);
		error = error < 0 ? error : flushed;
	}
	for (uint32_t i = 0; i < started; i++) {
		count += crowd->callers[i].told;
		error = error < 0 ? error : crowd->callers[i].error;
	}
	*ret_count = count;
	return error;
}

static void crowd_close(struct store_bench *bench, struct crowd *crowd)
{
	for (uint32_t i = 0; i < crowd->client_count; i++)
		if (crowd->clients[i] != NULL)
			haul_client_close(crowd->clients[i]);
	for (uint32_t i = 0; i < crowd->caller_count; i++) {
		haul_changes_free(crowd->callers[i].changes);
		if (crowd->callers[i].bench != NULL)
			sem_destroy(&crowd->callers[i].free);
	}
	bench->next_id += (uint64_t)CALLERS << 32; /* what the callers took */
}

int store_serve_run(struct store_bench *bench, enum store_commit_case what, double seconds,
		    struct bench_sample *sample, struct haul_err *err)
{
	struct haul_store_status status = { 0 };
	struct crowd *crowd = calloc(1, sizeof *crowd);
	uint64_t count = 0;
	if (crowd == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	/* For as long as it takes to write ten memory tables. */
	double length = what == STORE_SERVER ? seconds * 4 : seconds;
	int error = served_start(bench, err);
	if (error == 0)
		error = crowd_open(bench, crowd, what, err);
	int64_t start_ns = store_now(bench);
	if (error == 0) {
		error = crowd_run(bench, crowd, length, &count);
		if (error < 0)
			haul_err_set(err, error, "client: %s", haul_strerror(error));
	}
	double took = (double)(store_now(bench) - start_ns) * 1e-9;
	if (bench->store != NULL)
		haul_store_status(bench->store, &status);
	crowd_close(bench, crowd);
	store_serve_end(bench);
	free(crowd);
	sample->value = (double)count / took;
	snprintf(sample->note, sizeof sample->note,
		 "%llu flushes, %llu checkpoints, %llu merges; fsync %.0f us",
		 (unsigned long long)status.flushes, (unsigned long long)status.checkpoints,
		 (unsigned long long)status.merges, (double)status.sync_ns / 1e3);
	return error;
}

/* ---- the four load levels ---- */

struct level_op {
	struct store_bench *bench;
	int64_t began_ns;
	int *error;
};

static void level_told(void *arg, const struct haul_client_result *result)
{
	struct level_op *op = arg;
	int error = result->error < 0 ? result->error : result->statuses[0];
	if (error < 0)
		__atomic_store_n(op->error, error, __ATOMIC_RELAXED);
	store_times_add(&op->bench->times, op->began_ns, store_now(op->bench));
}

struct level {
	const char *name;
	uint32_t ops;
	int64_t pause_ns;
};

static int level_submit(struct store_bench *bench, struct haul_client *client, struct level_op *op,
			int *error)
{
	*op = (struct level_op){ bench, store_now(bench), error };
	haul_changes_clear(bench->changes);
	int code = store_node_add(bench->changes, store_id(bench->next_id++));
	return code < 0 ? code : haul_client_submit(client, bench->changes, level_told, op);
}

static int level_run(struct store_bench *bench, const struct level *level, json_t *rows,
		     struct haul_err *err)
{
	enum { ROUNDS = 100 };
	const struct timespec pause = { .tv_nsec = level->pause_ns };
	struct haul_client *client = NULL;
	struct level_op *ops = calloc((size_t)level->ops * ROUNDS, sizeof *ops);
	int failed = 0, error = ops != NULL ? 0 : -ENOMEM;
	if (error == 0)
		error = haul_client_open(&client, bench->served->address, NULL, err);
	int64_t start_ns = store_now(bench);
	if (error == 0)
		error = store_times_start(&bench->times, start_ns);
	for (uint32_t i = 0; error >= 0 && i < level->ops * ROUNDS; i++) {
		error = level_submit(bench, client, &ops[i], &failed);
		if (level->pause_ns > 0 && (i + 1) % level->ops == 0)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	if (client != NULL) {
		int flushed = haul_client_flush(client);
		error = error < 0 ? error : flushed < 0 ? flushed : failed;
		haul_client_close(client);
	}
	double took = (double)(store_now(bench) - start_ns) * 1e-9;
	free(ops);
	if (error < 0)
		return haul_err_set(err, error, "%s: %s", level->name, haul_strerror(error));
	store_times_sort(&bench->times);
	json_array_append_new(rows, json_pack("[s, i, f, f, f, f, f]", level->name, (int)level->ops,
					      (double)level->pause_ns * 1e-6,
					      (double)bench->times.count / took,
					      store_times_ms(&bench->times, .5),
					      store_times_ms(&bench->times, .99),
					      store_times_ms(&bench->times, 1)));
	return 0;
}

int store_serve_tables(void *ctx, json_t *tables, struct haul_err *err)
{
	static const struct level levels[LEVELS] = {
		{ "light", 50, 5 * NS_PER_MS },
		{ "medium", 200, 2 * NS_PER_MS },
		{ "heavy", 500, 1 * NS_PER_MS },
		{ "extreme", 1000, 0 },
	};
	struct store_bench *bench = ctx;
	json_t *rows = json_array();
	int error = store_bench_enter(bench, STORE_SERVE, err);
	bench->sync_add_ns = 0;
	if (error == 0)
		error = served_start(bench, err);
	for (uint32_t i = 0; error == 0 && i < LEVELS; i++)
		error = level_run(bench, &levels[i], rows, err);
	store_serve_end(bench);
	json_array_append_new(
		tables,
		json_pack("{s:s, s:s, s:[s, s, s, s, s, s, s], s:o}", "table", "load_levels",
			  "what",
			  "One node an operation, submitted in bursts with a pause behind each, "
			  "through one client; latency of each operation until it is durable",
			  "columns", "load", "burst", "pause ms", "ops/s", "p50 ms", "p99 ms",
			  "p100 ms", "rows", rows));
	return error;
}
