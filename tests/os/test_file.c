/* Opening, claiming and allocating files. Block devices: test_io_loop.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "os/file.h"

enum { MIB = 1 << 20 };

struct place {
	char folder[128];
	char path[160];
};

static int place_setup(void **state)
{
	const char *folder = getenv("TMPDIR");
	struct place *place = calloc(1, sizeof *place);

	assert_non_null(place);
	snprintf(place->folder, sizeof place->folder, "%s/haul-file-XXXXXX",
		 folder != NULL ? folder : "/var/tmp");
	assert_non_null(mkdtemp(place->folder));
	snprintf(place->path, sizeof place->path, "%s/disk", place->folder);
	*state = place;
	return 0;
}

static int place_teardown(void **state)
{
	struct place *place = *state;

	unlink(place->path);
	rmdir(place->folder);
	free(place);
	return 0;
}

static void refused(const char *path, enum file_mode mode, int code, const char *says)
{
	struct file file = { .fd = 12345 };
	struct haul_err err = { 0 };

	assert_int_equal(file_open(&file, path, mode, &err), code);
	assert_int_equal(err.code, code);
	if (strstr(err.text, path) == NULL || strstr(err.text, says) == NULL)
		fail_msg("\"%s\" names not %s, or not \"%s\"", err.text, path, says);
	assert_int_equal(file.fd, 12345);
}

/* A new file is made; one that is there keeps what it holds; the alignment is one to work with. */
static void test_file__create_makes_and_never_truncates(void **state)
{
	struct place *place = *state;
	struct file file;
	struct stat st;

	assert_int_equal(file_open(&file, place->path, FILE_CREATE, NULL), 0);
	assert_int_equal(file.bytes, 0);
	assert_false(file.read_only || file.block_device);
	assert_true(file.align_memory >= 512 && file.align_offset >= 512);
	assert_int_equal(file.align_memory & (file.align_memory - 1), 0);
	assert_int_equal(ftruncate(file.fd, 8192), 0);
	assert_int_equal(fstat(file.fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	file_close(&file);
	assert_int_equal(file.fd, -1);
	file_close(&file);
	file_close(NULL);

	assert_int_equal(file_open(&file, place->path, FILE_CREATE, NULL), 0);
	assert_int_equal(file.bytes, 8192);
	file_close(&file);
}

/* Direct I/O is on where the file system has it: without it all figures are the page cache's. */
static void test_file__is_direct_where_that_exists(void **state)
{
	struct place *place = *state;
	struct file file;
	int fd = open(place->path, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0600);

	assert_int_equal(file_open(&file, place->path, FILE_CREATE, NULL), 0);
	assert_int_equal((fcntl(file.fd, F_GETFL) & O_DIRECT) != 0, file.direct);
	if (fd >= 0)
		close(fd);
	else
		assert_false(file.direct);
	file_close(&file);
}

/* tmpfs says yes to O_DIRECT and goes through the page cache: that is found out and said. */
static void test_file__tmpfs_is_not_direct(void **state)
{
	char path[] = "/dev/shm/haul-file-XXXXXX";
	int fd = mkstemp(path);
	struct file file;

	(void)state;
	if (fd < 0) {
		printf("without tmpfs\n");
		return;
	}
	close(fd);
	assert_int_equal(file_open(&file, path, FILE_WRITE, NULL), 0);
	unlink(path);
	assert_false(file.direct);
	assert_int_equal(fcntl(file.fd, F_GETFL) & O_DIRECT, 0);
	assert_int_equal(file.align_offset, 512);
	assert_int_equal(file_allocate(&file, MIB, NULL, NULL, NULL), 0);
	assert_int_equal(file.bytes, MIB);
	file_close(&file);
}

/* Two writers would destroy each other's log: the second is refused, readers share. */
static void test_file__is_claimed_by_one_writer(void **state)
{
	struct place *place = *state;
	struct file first, second, third;

	assert_int_equal(file_open(&first, place->path, FILE_CREATE, NULL), 0);
	refused(place->path, FILE_WRITE, -EBUSY, "in use");
	refused(place->path, FILE_CREATE, -EBUSY, "in use");
	refused(place->path, FILE_READ, -EBUSY, "in use");
	file_close(&first);
	assert_int_equal(file_open(&second, place->path, FILE_READ, NULL), 0);
	assert_true(second.read_only);
	assert_int_equal(file_open(&third, place->path, FILE_READ, NULL), 0);
	refused(place->path, FILE_WRITE, -EBUSY, "in use");
	file_close(&second);
	file_close(&third);
	assert_int_equal(file_open(&first, place->path, FILE_WRITE, NULL), 0);
	file_close(&first);
}

/* What is no file, not there or not allowed is refused with its name and what to do. */
static void test_file__refuses_with_a_reason(void **state)
{
	struct place *place = *state;
	char below[200];

	refused(place->path, FILE_WRITE, -ENOENT, "format");
	refused(place->path, FILE_READ, -ENOENT, "format");
	snprintf(below, sizeof below, "%s/none/disk", place->folder);
	refused(below, FILE_CREATE, -ENOENT, "folder");
	refused(place->folder, FILE_WRITE, -EINVAL, "a directory");
	refused("/dev/null", FILE_WRITE, -EINVAL, "a character device");
	assert_int_equal(mkfifo(place->path, 0600), 0);
	refused(place->path, FILE_WRITE, -EINVAL, "a pipe");
}

/* A user without the right is told which right it is. (root has them all: a child gives it up.) */
static void test_file__needs_the_right(void **state)
{
	struct place *place = *state;
	struct haul_err err = { 0 };
	struct file file;
	int status = 0;
	pid_t pid;

	assert_int_equal(file_open(&file, place->path, FILE_CREATE, NULL), 0);
	file_close(&file);
	assert_int_equal(chmod(place->path, 0400), 0);
	assert_int_equal(chmod(place->folder, 0711), 0);
	pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && setuid(65534) != 0)
			_exit(2);
		if (file_open(&file, place->path, FILE_WRITE, &err) != -EACCES)
			_exit(3);
		_exit(strstr(err.text, "right to read and write") != NULL ? 0 : 4);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

struct steps {
	uint64_t last;
	uint32_t calls;
	uint32_t stop_at;
};

static int step(uint64_t bytes_done, uint64_t bytes_total, void *arg)
{
	struct steps *steps = arg;

	assert_true(bytes_done > steps->last && bytes_done <= bytes_total);
	steps->last = bytes_done;
	return ++steps->calls == steps->stop_at ? 42 : 0;
}

/* All blocks of an allocated file are there and written: later writes allocate nothing (the
 * original's file was sparse, and ran out of space in use). */
static void test_file__allocate_writes_every_block(void **state)
{
	struct place *place = *state;
	struct steps steps = { 0 };
	uint8_t sector[4096];
	struct file file;
	struct stat st;

	assert_int_equal(file_open(&file, place->path, FILE_CREATE, NULL), 0);
	assert_int_equal(ftruncate(file.fd, 64 * MIB), 0);
	assert_int_equal(file_allocate(&file, 9 * MIB, step, &steps, NULL), 0);
	assert_int_equal(file.bytes, 9 * MIB);
	assert_int_equal(steps.last, 9 * MIB);
	assert_true(steps.calls >= 2);
	assert_int_equal(fstat(file.fd, &st), 0);
	assert_int_equal(st.st_size, 9 * MIB);
	assert_true(st.st_blocks * 512 >= 9 * MIB);
	file_close(&file);
	{
		int fd = open(place->path, O_RDONLY | O_CLOEXEC);

		/* No hole and nothing old in it. */
		assert_int_equal(lseek(fd, 0, SEEK_HOLE), 9 * MIB);
		assert_int_equal(pread(fd, sector, sizeof sector, 9 * MIB - 4096), 4096);
		for (size_t i = 0; i < sizeof sector; i++)
			assert_int_equal(sector[i], 0);
		close(fd);
	}
}

/* Whoever watches the progress may stop it; the room is given back. */
static void test_file__allocate_can_be_stopped(void **state)
{
	struct place *place = *state;
	struct steps steps = { .stop_at = 2 };
	struct file file;
	struct stat st;

	assert_int_equal(file_open(&file, place->path, FILE_CREATE, NULL), 0);
	assert_int_equal(file_allocate(&file, 32 * MIB, step, &steps, NULL), 42);
	assert_int_equal(fstat(file.fd, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	file_close(&file);
}

/* More than there is room for is refused before the first byte, with both figures. */
static void test_file__allocate_says_what_is_free(void **state)
{
	struct place *place = *state;
	struct haul_err err = { 0 };
	struct file file;
	struct stat st;
	uint64_t space = 0;
	char wanted[32];

	assert_int_equal(file_space(place->path, &space, &err), 0);
	assert_true(space > 0);
	assert_int_equal(file_open(&file, place->path, FILE_CREATE, NULL), 0);
	assert_int_equal(ftruncate(file.fd, 4096), 0);
	space = (space / MIB + 1000000) * MIB;
	assert_int_equal(file_allocate(&file, space, NULL, NULL, &err), -ENOSPC);
	snprintf(wanted, sizeof wanted, "%llu MiB", (unsigned long long)(space / MIB));
	assert_non_null(strstr(err.text, wanted));
	assert_non_null(strstr(err.text, "free"));
	assert_int_equal(fstat(file.fd, &st), 0);
	assert_int_equal(st.st_size, 4096);
	assert_int_equal(file_allocate(&file, 1000, NULL, NULL, &err), -EINVAL);
	assert_int_equal(file_allocate(&file, 0, NULL, NULL, &err), -EINVAL);
	file_close(&file);
}

/* A limit on the size of files is an error and not a signal that ends the program. */
static void test_file__allocate_over_the_file_limit(void **state)
{
	struct place *place = *state;
	struct haul_err err = { 0 };
	struct rlimit before, low;
	struct file file;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	low = before;
	low.rlim_cur = 2 * MIB;
	assert_int_equal(file_open(&file, place->path, FILE_CREATE, NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(file_allocate(&file, 4 * MIB, NULL, NULL, &err), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_non_null(strstr(err.text, "ulimit"));
	file_close(&file);
}

/* The space is that of the folder when the file is not there yet; nowhere is an error. */
static void test_file__space_of_what_is_not_there(void **state)
{
	struct place *place = *state;
	struct haul_err err = { 0 };
	struct statvfs fs;
	uint64_t space = 0;
	char below[200];

	assert_int_equal(file_space(place->path, &space, &err), 0);
	assert_int_equal(statvfs(place->folder, &fs), 0);
	assert_true(space > 0 && space <= (uint64_t)fs.f_blocks * fs.f_frsize);
	snprintf(below, sizeof below, "%s/none/disk", place->folder);
	space = 7;
	assert_int_equal(file_space(below, &space, &err), -ENOENT);
	assert_non_null(strstr(err.text, below));
	assert_int_equal(space, 7);
}

#define PLACE_TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLACE_TEST(test_file__create_makes_and_never_truncates),
		PLACE_TEST(test_file__is_direct_where_that_exists),
		PLACE_TEST(test_file__tmpfs_is_not_direct),
		PLACE_TEST(test_file__is_claimed_by_one_writer),
		PLACE_TEST(test_file__refuses_with_a_reason),
		PLACE_TEST(test_file__needs_the_right),
		PLACE_TEST(test_file__allocate_writes_every_block),
		PLACE_TEST(test_file__allocate_can_be_stopped),
		PLACE_TEST(test_file__allocate_says_what_is_free),
		PLACE_TEST(test_file__allocate_over_the_file_limit),
		PLACE_TEST(test_file__space_of_what_is_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
