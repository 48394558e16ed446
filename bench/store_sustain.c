/* Full frames, several in flight, for long: how many, and how long any of them waited. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "store_work.h"

enum {
	FRAME = 8192,
	WINDOW = 4,
	BLOCK = 4096,
	/* what the log has of a full frame, and how many of them the file alone goes round in */
	FRAME_LOGGED = FRAME * (STORE_VALUE + 40) / BLOCK * BLOCK,
	FRAMES_ROUND = 64,
	/* tables as a flush and a merge write them beside it */
	BESIDE_CHUNK = 1 << 20,
	BESIDE_FILE = 8 << 20,
	BESIDE_FILES = 64,
	BESIDE_RATE = 160 << 20, /* a second */
};
#define NS_PER_SEC INT64_C(1000000000)

#define LIMIT_ASCENDING 800000.0
#define LIMIT_RANDOM    500000.0
#define LIMIT_P99_MS    100.0
#define LIMIT_GAP_MS    200.0
#define LIMIT_WAIT_MS   50.0

struct sustain {
	struct store_bench *bench;
	bool random;
	int64_t every_ns, due_ns; /* a frame in so long, 0 = as fast as they go; the next one */
	sem_t free;
	int error; /* atomic */
	struct frame_begun {
		struct sustain *sustain;
		int64_t began_ns;
	} begun[WINDOW];
};

static void frame_done(void *arg, int error, const struct haul_commit *commit,
		       const int32_t *statuses, uint32_t count)
{
	struct frame_begun *begun = arg;
	struct sustain *sustain = begun->sustain;
	(void)statuses;
	(void)count;
	int code = store_told(error, commit);
	if (code < 0)
		__atomic_store_n(&sustain->error, code, __ATOMIC_RELAXED);
	/* In the order of submits, so never two at a time. */
	store_times_add(&sustain->bench->times, begun->began_ns, store_now(sustain->bench));
	sem_post(&sustain->free);
}

static void sleep_until(const struct store_bench *bench, int64_t due_ns)
{
	int64_t left_ns = due_ns - store_now(bench);
	while (left_ns > 0) {
		struct timespec left = { .tv_sec = left_ns / NS_PER_SEC,
					 .tv_nsec = left_ns % NS_PER_SEC };
		(void)nanosleep(&left, NULL);
		left_ns = due_ns - store_now(bench);
	}
}

static int submit_one(struct sustain *sustain, uint64_t number)
{
	struct store_bench *bench = sustain->bench;
	struct frame_begun *begun = &sustain->begun[number % WINDOW];
	int error = 0;
	haul_changes_clear(bench->changes);
	for (uint32_t i = 0; error >= 0 && i < FRAME; i++) {
		uint64_t n = bench->next_id++;
		error = store_node_add(bench->changes, sustain->random ? store_id(n) : n);
	}
	sleep_until(bench, sustain->due_ns);
	while (sem_wait(&sustain->free) < 0)
		;
	/* one that was due counts from then on, though those before it kept it from beginning */
	*begun = (struct frame_begun){ sustain,
				       sustain->every_ns ? sustain->due_ns : store_now(bench) };
	sustain->due_ns += sustain->every_ns;
	if (error >= 0)
		error = haul_store_submit(bench->store, bench->changes, frame_done, begun);
	if (error < 0)
		sem_post(&sustain->free);
	return error < 0 ? error : __atomic_load_n(&sustain->error, __ATOMIC_RELAXED);
}

static int64_t every_ns(enum store_sustain_case what)
{
	return what == STORE_RANDOM_WAIT ? (int64_t)(FRAME / LIMIT_RANDOM * 1e9) : 0;
}

static int sustain_for(struct store_bench *bench, enum store_sustain_case what, double seconds,
		       struct bench_sample *sample, struct haul_err *err)
{
	struct haul_store_status status;
	int64_t start_ns = store_now(bench);
	struct sustain sustain = { .bench = bench,
				   .random = what != STORE_ASCENDING,
				   .every_ns = every_ns(what),
				   .due_ns = start_ns };
	uint64_t frames = 0;
	int error = store_times_start(&bench->times, start_ns);
	sem_init(&sustain.free, 0, WINDOW);
	while (error == 0 && store_now(bench) - start_ns < (int64_t)(seconds * 1e9))
		error = submit_one(&sustain, frames++);
	int flushed = haul_store_flush(bench->store);
	int64_t took_ns = store_now(bench) - start_ns;
	sem_destroy(&sustain.free);
	error = error < 0 ? error : flushed < 0 ? flushed : sustain.error;
	if (error < 0)
		return haul_err_set(err, error, "submit: %s", haul_strerror(error));
	haul_store_status(bench->store, &status);
	store_times_sort(&bench->times);
	sample->value = (double)(frames * FRAME) / ((double)took_ns * 1e-9);
	sample->fill_mean = FRAME;
	double p99_ms = store_times_ms(&bench->times, .99);
	double gap_ms = (double)bench->times.gap_ns * 1e-6;
	if (what >= STORE_RANDOM && what < STORE_RANDOM_WAIT &&
	    bench->sustained_count < STORE_SUSTAINED) {
		bench->sustained[bench->sustained_count].p99_ms = p99_ms;
		bench->sustained[bench->sustained_count++].gap_ms = gap_ms;
	}
	snprintf(sample->note, sizeof sample->note,
		 "%.0f s; frame p50 %.1f p99 %.1f p100 %.1f ms; gap %.0f ms; %.1f B written a byte",
		 (double)took_ns * 1e-9, store_times_ms(&bench->times, .5), p99_ms,
		 store_times_ms(&bench->times, 1), gap_ms,
		 (double)(status.bytes_logged + status.bytes_flushed + status.bytes_merged) /
			 (double)(frames * FRAME * (STORE_VALUE + 8)));
	return 0;
}

/* An empty store each time: what was merged for another run is not paid for here. */
static int sustain_anew(struct store_bench *bench, enum store_sustain_case what, double seconds,
			struct bench_sample *sample, struct haul_err *err)
{
	int error = store_bench_enter(bench, STORE_NONE, err);
	if (error == 0)
		error = store_bench_enter(bench, STORE_COMMIT, err);
	if (error == 0)
		error = store_store_open(bench, 0, NULL, err);
	return error < 0 ? error
			 : sustain_for(bench, what, seconds * bench->sizes.sustain, sample, err);
}

/* ---- the disk without a store ----
 *
 * What the log and the tables of such a run are on the disk, and nothing else: frames appended to a
 * file, each durable, at the same rate, and beside them files written, synced and deleted. So it is
 * seen what this disk and this machine make anybody wait for. */

struct beside {
	const struct store_bench *bench;
	uint8_t *data; /* BESIDE_CHUNK */
	bool stop;     /* atomic */
	int error;
};

static int beside_file(struct beside *beside, const char *path, int64_t *due_ns)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int error = -posix_fallocate(fd, 0, BESIDE_FILE);
	for (int at = 0; error == 0 && at < BESIDE_FILE; at += BESIDE_CHUNK) {
		sleep_until(beside->bench, *due_ns);
		if (pwrite(fd, beside->data, BESIDE_CHUNK, at) != BESIDE_CHUNK)
			error = errno ? -errno : -ENOSPC;
		*due_ns += BESIDE_CHUNK * NS_PER_SEC / BESIDE_RATE;
	}
	if (error == 0 && fdatasync(fd) < 0)
		error = -errno;
	(void)close(fd);
	return error;
}

static void *beside_run(void *arg)
{
	struct beside *beside = arg;
	char name[32], path[STORE_PATH];
	int64_t due_ns = store_now(beside->bench);
	for (int i = 0; beside->error == 0 && !__atomic_load_n(&beside->stop, __ATOMIC_RELAXED);
	     i++) {
		(void)snprintf(name, sizeof name, "beside.%d", i % BESIDE_FILES);
		(void)unlink(store_path(beside->bench, name, path));
		beside->error = beside_file(beside, path, &due_ns);
	}
	for (int i = 0; i < BESIDE_FILES; i++) {
		(void)snprintf(name, sizeof name, "beside.%d", i);
		(void)unlink(store_path(beside->bench, name, path));
	}
	return NULL;
}

static int append_for(struct store_bench *bench, int fd, void *data, double seconds)
{
	struct iovec part = { .iov_base = data, .iov_len = FRAME_LOGGED };
	ssize_t wrote = FRAME_LOGGED;
	for (int i = 0; i < FRAMES_ROUND && wrote == FRAME_LOGGED; i++)
		wrote = pwritev2(fd, &part, 1, (off_t)i * FRAME_LOGGED, 0);
	if (wrote == FRAME_LOGGED && fsync(fd) < 0)
		wrote = -1;
	int64_t start_ns = store_now(bench), due_ns = start_ns, now_ns = start_ns;
	for (int i = 0; wrote == FRAME_LOGGED && now_ns - start_ns < (int64_t)(seconds * 1e9);
	     i++) {
		sleep_until(bench, due_ns);
		wrote = pwritev2(fd, &part, 1, (off_t)(i % FRAMES_ROUND) * FRAME_LOGGED, RWF_DSYNC);
		now_ns = store_now(bench);
		store_times_add(&bench->times, due_ns, now_ns);
		due_ns += every_ns(STORE_RANDOM_WAIT);
	}
	return wrote == FRAME_LOGGED ? 0 : wrote < 0 ? -errno : -ENOSPC;
}

static int append_beside(struct store_bench *bench, int fd, void *data, double seconds)
{
	struct beside beside = { .bench = bench, .data = data };
	pthread_t thread;
	int error = -pthread_create(&thread, NULL, beside_run, &beside);
	if (error < 0)
		return error;
	error = append_for(bench, fd, data, seconds);
	__atomic_store_n(&beside.stop, true, __ATOMIC_RELAXED);
	(void)pthread_join(thread, NULL);
	return error < 0 ? error : beside.error;
}

static int disk_run(struct store_bench *bench, double seconds, struct bench_sample *sample,
		    struct haul_err *err)
{
	char path[STORE_PATH];
	void *data = aligned_alloc(BLOCK, FRAME_LOGGED);
	int error = data ? store_times_start(&bench->times, store_now(bench)) : -ENOMEM;
	int fd = open(store_path(bench, "append", path), O_CREAT | O_WRONLY | O_DIRECT | O_CLOEXEC,
		      0600);
	if (error == 0 && fd < 0)
		error = -errno;
	if (error == 0) {
		memset(data, 1, FRAME_LOGGED);
		error = append_beside(bench, fd, data, seconds);
	}
	if (fd >= 0) {
		(void)close(fd);
		(void)unlink(path);
	}
	free(data);
	if (error < 0)
		return haul_err_set(err, error, "%s: %s", path, haul_strerror(error));
	store_times_sort(&bench->times);
	snprintf(sample->note, sizeof sample->note,
		 "the limit; the same writes without a store: p99 %.1f p100 %.1f ms",
		 store_times_ms(&bench->times, .99), store_times_ms(&bench->times, 1));
	return 0;
}

/* ---- the cases ---- */

static int wait_run(struct store_bench *bench, enum bench_arm arm, double seconds,
		    struct bench_sample *sample, struct haul_err *err)
{
	if (arm == BENCH_INDIVIDUAL) {
		sample->value = LIMIT_WAIT_MS;
		return disk_run(bench, seconds * bench->sizes.sustain, sample, err);
	}
	int error = sustain_anew(bench, STORE_RANDOM_WAIT, seconds, sample, err);
	sample->value = store_times_ms(&bench->times, 1);
	return error;
}

int store_sustain_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		      struct bench_sample *ret_sample, struct haul_err *err)
{
	static const double limits[] = {
		[STORE_ASCENDING] = LIMIT_ASCENDING,
		[STORE_RANDOM] = LIMIT_RANDOM,
		[STORE_RANDOM_P99] = LIMIT_P99_MS,
		[STORE_RANDOM_GAP] = LIMIT_GAP_MS,
	};
	struct store_bench *bench = ctx;
	enum store_sustain_case what = (enum store_sustain_case)self->parameter;
	if (what == STORE_RANDOM_WAIT)
		return wait_run(bench, arm, seconds, ret_sample, err);
	if (arm == BENCH_INDIVIDUAL) {
		ret_sample->value = limits[what];
		snprintf(ret_sample->note, sizeof ret_sample->note, "the limit");
		return 0;
	}
	uint32_t *told = what == STORE_RANDOM_P99 ? &bench->told_p99 : &bench->told_gap;
	bool again = what == STORE_ASCENDING || what == STORE_RANDOM;
	int error = 0;
	if (again || *told == bench->sustained_count)
		error = sustain_anew(bench, what, seconds, ret_sample, err);
	if (error < 0 || again)
		return error;
	/* A run is told of once; beyond those remembered the last one is told again. */
	uint32_t at = *told < bench->sustained_count ? (*told)++ : bench->sustained_count - 1;
	ret_sample->value = what == STORE_RANDOM_P99 ? bench->sustained[at].p99_ms
						     : bench->sustained[at].gap_ms;
	return 0;
}
