/* Which engine it becomes, what is refused, and memory that is registered or cannot be. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/io_lab.h"

enum { DISK_BYTES = 1 << 20 };

static bool has_uring(void)
{
	struct lab_engine engines[LAB_ENGINES];

	return lab_engines(engines) == LAB_ENGINES;
}

/* Out of what cannot be, the text says what may be. */
static void test_io_open__refuses_what_cannot_be(void **state)
{
	static const struct io_options wrong[] = {
		{ .depth = IO_DEPTH_MAX + 1 },
		{ .engine = IO_THREADS, .threads = 257 },
		{ .sync_add_ns = -1 },
	};
	struct io *io = NULL;
	struct file file;

	(void)state;
	lab_file(&file, DISK_BYTES);
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct haul_err err = { 0 };

		assert_int_equal(io_open(&io, &file, &wrong[i], &err), -EINVAL);
		assert_true(strlen(err.text) > 10);
		assert_null(io);
	}
	file_close(&file);
	io_close(NULL);
}

/* The greatest depth can be had of every engine. */
static void test_io_open__takes_the_greatest_depth(void **state)
{
	const struct io_options options = { .depth = IO_DEPTH_MAX };
	struct lab_engine engines[LAB_ENGINES];
	uint32_t count = lab_engines(engines);
	static struct io_lab lab;

	(void)state;
	for (uint32_t i = 0; i < count; i++) {
		if (engines[i].sim)
			continue;
		lab_open(&lab, &engines[i], DISK_BYTES, &options);
		for (uint32_t at = 0; at < LAB_OPS; at++)
			io_submit(lab.io, lab_op(&lab, at, IO_READ, 0));
		io_push(lab.io);
		lab_finish(&lab, LAB_OPS);
		for (uint32_t at = 0; at < LAB_OPS; at++)
			assert_int_equal(lab.ops[at].result, LAB_BLOCK);
		lab_close(&lab);
	}
}

/* Engines have the names by which they are asked for. */
static void test_io_open__engines_have_names(void **state)
{
	(void)state;
	assert_string_equal(io_engine_name(IO_AUTO), "auto");
	assert_string_equal(io_engine_name(IO_URING), "io_uring");
	assert_string_equal(io_engine_name(IO_THREADS), "threads");
}

/* Without memory it says so, whichever allocation it is, and leaves nothing behind. */
static void test_io_open__without_memory(void **state)
{
	static const enum io_engine asked[] = { IO_THREADS, IO_URING };
	struct io *io = NULL;
	struct file file;

	(void)state;
	lab_file(&file, DISK_BYTES);
	for (size_t i = 0; i < 2; i++) {
		const struct io_options options = { .engine = asked[i] };
		struct haul_err err = { 0 };

		if (!test_malloc_fail(0))
			break;
		assert_int_equal(io_open(&io, &file, &options, &err), -ENOMEM);
		assert_int_equal(err.code, -ENOMEM);
		assert_null(io);
	}
	file_close(&file);
}

/* ---- where io_uring is forbidden ---- */

/* For the calling thread alone, and for good. */
static int forbid_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof code / sizeof code[0], .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0 ? -errno : 0;
}

struct forbidden {
	struct file *file;
	int forbid_rc;
	int uring_rc;
	int auto_rc;
	enum io_engine became;
	struct haul_err err;
	int32_t result;
};

static void result_done(struct io_op *op)
{
	*(int32_t *)op->owner = op->result;
}

static void *open_forbidden(void *arg)
{
	struct forbidden *forbidden = arg;
	const struct io_options uring = { .engine = IO_URING };
	const struct io_options any = { .engine = IO_AUTO };
	struct io_op sync = { .kind = IO_SYNC, .done = result_done, .owner = &forbidden->result };
	struct io *io = NULL;

	forbidden->forbid_rc = forbid_uring();
	if (forbidden->forbid_rc < 0)
		return NULL;
	forbidden->uring_rc = io_open(&io, forbidden->file, &uring, &forbidden->err);
	forbidden->auto_rc = io_open(&io, forbidden->file, &any, NULL);
	if (forbidden->auto_rc < 0)
		return NULL;
	forbidden->became = io->engine;
	io_submit(io, &sync);
	io_close(io);
	return NULL;
}

/* In a container that forbids io_uring it is threads by itself; who insists is told what to ask
 * for. */
static void test_io_open__falls_back_where_uring_is_forbidden(void **state)
{
	struct forbidden forbidden = { .result = 1 };
	struct file file;
	pthread_t thread;

	(void)state;
	lab_file(&file, DISK_BYTES);
	forbidden.file = &file;
	assert_int_equal(pthread_create(&thread, NULL, open_forbidden, &forbidden), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	file_close(&file);
	if (forbidden.forbid_rc < 0) {
		printf("without seccomp\n");
		return;
	}
	assert_true(forbidden.uring_rc == -EPERM || forbidden.uring_rc == -ENOSYS);
	assert_non_null(strstr(forbidden.err.text, "threads"));
	assert_int_equal(forbidden.auto_rc, 0);
	assert_int_equal(forbidden.became, IO_THREADS);
	assert_int_equal(forbidden.result, 0);
}

/* Where it is allowed, io_uring is what it becomes. */
static void test_io_open__prefers_uring(void **state)
{
	const struct io_options options = { .engine = IO_AUTO };
	struct io *io = NULL;
	struct file file;

	(void)state;
	lab_file(&file, DISK_BYTES);
	assert_int_equal(io_open(&io, &file, &options, NULL), 0);
	assert_int_equal(io->engine, has_uring() ? IO_URING : IO_THREADS);
	io_close(io);
	file_close(&file);
}

/* ---- registered memory ---- */

/* Data in the arena, outside of it, and over its end. */
static bool arena_works(const struct lab_engine *engine, uint8_t *arena, uint64_t arena_bytes)
{
	const struct io_options options = { .arena = arena, .arena_bytes = arena_bytes };
	static struct io_lab lab;
	uint8_t *places[4];
	bool good = true;

	lab_open(&lab, engine, DISK_BYTES, &options);
	places[0] = arena;
	places[1] = arena + arena_bytes - LAB_BLOCK;
	places[2] = arena + arena_bytes - LAB_BLOCK / 2; /* its second half is not in the arena */
	places[3] = lab.memory;
	for (uint64_t i = 0; i < 4; i++) {
		struct io_op *op = lab_op(&lab, 1, IO_WRITE, i * LAB_BLOCK);

		memset(places[i], (int)(i + 1), LAB_BLOCK);
		op->data = places[i];
		good = good && lab_run(&lab, op) == LAB_BLOCK;
		memset(places[i], 0, LAB_BLOCK);
		op = lab_op(&lab, 1, IO_READ, i * LAB_BLOCK);
		op->data = places[i];
		good = good && lab_run(&lab, op) == LAB_BLOCK;
		for (uint32_t at = 0; at < LAB_BLOCK; at++)
			good = good && places[i][at] == i + 1;
	}
	lab_close(&lab);
	return good;
}

/* Operations on the arena's memory and on any other give the same. */
static void test_io_open__arena_and_other_memory(void **state)
{
	struct lab_engine engines[LAB_ENGINES];
	uint32_t count = lab_engines(engines);
	uint8_t *memory;

	(void)state;
	assert_int_equal(posix_memalign((void **)&memory, LAB_BLOCK, 17 * LAB_BLOCK), 0);
	for (uint32_t i = 0; i < count; i++)
		if (!engines[i].sim)
			assert_true(arena_works(&engines[i], memory, 16 * LAB_BLOCK));
	free(memory);
}

/* Where so much memory may not be locked (the rings themselves may), the arena is memory like any
 * other. */
static void test_io_open__arena_that_cannot_be_locked(void **state)
{
	enum { ARENA_BYTES = 4 << 20 };
	const struct rlimit little = { .rlim_cur = 1 << 20, .rlim_max = 1 << 20 };
	struct lab_engine engines[LAB_ENGINES];
	uint32_t count = lab_engines(engines);
	uint8_t *memory;
	int status = 1;
	pid_t pid;

	(void)state;
	assert_int_equal(posix_memalign((void **)&memory, LAB_BLOCK, ARENA_BYTES + LAB_BLOCK), 0);
	pid = fork();
	if (pid == 0) {
		if (setrlimit(RLIMIT_MEMLOCK, &little) != 0 ||
		    (geteuid() == 0 && setuid(65534) != 0))
			_exit(2);
		for (uint32_t i = 0; i < count; i++)
			if (!engines[i].sim && !arena_works(&engines[i], memory, ARENA_BYTES))
				_exit(3);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_io_open__refuses_what_cannot_be),
		cmocka_unit_test(test_io_open__takes_the_greatest_depth),
		cmocka_unit_test(test_io_open__engines_have_names),
		cmocka_unit_test(test_io_open__without_memory),
		cmocka_unit_test(test_io_open__falls_back_where_uring_is_forbidden),
		cmocka_unit_test(test_io_open__prefers_uring),
		cmocka_unit_test(test_io_open__arena_and_other_memory),
		cmocka_unit_test(test_io_open__arena_that_cannot_be_locked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
