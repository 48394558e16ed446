/* One body over the real file systems and the simulated one: what holds here holds in tests of the
 * store, that run on the latter. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"
#include "os/vfs_lab.h"

enum { BLOCK = VFS_ALIGN };

typedef void body(struct vfs_lab *lab);

static void over_all(body *run)
{
	struct vfs_lab_kind kinds[VFS_LAB_KINDS];
	uint32_t count = vfs_lab_kinds(kinds);

	for (uint32_t i = 0; i < count; i++) {
		struct vfs_lab lab;

		print_message("on: %s\n", kinds[i].name);
		vfs_lab_open(&lab, &kinds[i]);
		run(&lab);
		vfs_lab_close(&lab);
	}
}

static struct vfs_file *make(struct vfs_lab *lab, const char *name, bool direct)
{
	struct vfs_file *file = NULL;

	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, name, VFS_CREATE, direct, &file), 0);
	assert_ptr_equal(file->vfs, lab->vfs);
	return file;
}

static int open_again(struct vfs_lab *lab, const char *name, enum vfs_mode mode)
{
	struct vfs_file *file = NULL;
	int rc = VFS_CALL(lab->vfs, open, lab->vfs, name, mode, true, &file);

	if (rc == 0)
		VFS_CALL(lab->vfs, close, file);
	else
		assert_null(file);
	return rc;
}

static void fill(uint8_t *data, size_t bytes, uint64_t seed)
{
	struct prng prng;

	prng_init(&prng, seed);
	for (size_t at = 0; at + 8 <= bytes; at += 8) {
		uint64_t word = prng_next(&prng);
		memcpy(data + at, &word, sizeof word);
	}
}

/* ---- bytes ---- */

static void bytes_come_back(struct vfs_lab *lab)
{
	for (int direct = 0; direct < 2; direct++) {
		struct vfs_file *file = make(lab, direct ? "a" : "b", direct);

		fill(lab->data, 64 * BLOCK, 1);
		assert_int_equal(VFS_CALL(lab->vfs, write, file, lab->data, 16 * BLOCK, 0, false),
				 0);
		assert_int_equal(VFS_CALL(lab->vfs, write, file, lab->data + 16 * BLOCK, 48 * BLOCK,
					  16 * BLOCK, true),
				 0);
		assert_int_equal(VFS_CALL(lab->vfs, size, file), 64 * BLOCK);
		assert_int_equal(VFS_CALL(lab->vfs, read, file, lab->back, 64 * BLOCK, 0),
				 64 * BLOCK);
		assert_memory_equal(lab->back, lab->data, 64 * BLOCK);
		assert_int_equal(VFS_CALL(lab->vfs, sync, file), 0);
		VFS_CALL(lab->vfs, close, file);
	}
	VFS_CALL(lab->vfs, close, NULL);
}

/* What was written is read again, past the page cache and through it. */
static void test_vfs__bytes_come_back(void **state)
{
	(void)state;
	over_all(bytes_come_back);
}

static void end_of_file(struct vfs_lab *lab)
{
	struct vfs_file *file = make(lab, "a", true);

	fill(lab->data, 4 * BLOCK, 2);
	assert_int_equal(VFS_CALL(lab->vfs, write, file, lab->data, 4 * BLOCK, 0, false), 0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, 3 * BLOCK + 100), 0);
	assert_int_equal(VFS_CALL(lab->vfs, size, file), 3 * BLOCK + 100);
	assert_int_equal(VFS_CALL(lab->vfs, read, file, lab->back, 8 * BLOCK, 0), 3 * BLOCK + 100);
	assert_memory_equal(lab->back, lab->data, 3 * BLOCK + 100);
	assert_int_equal(VFS_CALL(lab->vfs, read, file, lab->back, BLOCK, 3 * BLOCK), 100);
	assert_int_equal(VFS_CALL(lab->vfs, read, file, lab->back, BLOCK, 4 * BLOCK), 0);
	assert_int_equal(VFS_CALL(lab->vfs, read, file, lab->back, BLOCK, 400 * BLOCK), 0);
	VFS_CALL(lab->vfs, close, file);
}

/* A read that goes beyond the end is short, and one behind it has nothing. */
static void test_vfs__reads_end_where_the_file_ends(void **state)
{
	(void)state;
	over_all(end_of_file);
}

static void zeros_in_new_room(struct vfs_lab *lab)
{
	static const uint8_t zeros[2 * BLOCK];
	struct vfs_file *file = make(lab, "a", true);

	fill(lab->data, 4 * BLOCK, 3);
	assert_int_equal(VFS_CALL(lab->vfs, write, file, lab->data, 4 * BLOCK, 0, false), 0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, 2 * BLOCK), 0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, 6 * BLOCK), 0);
	assert_int_equal(VFS_CALL(lab->vfs, size, file), 6 * BLOCK);
	assert_int_equal(VFS_CALL(lab->vfs, read, file, lab->back, 6 * BLOCK, 0), 6 * BLOCK);
	assert_memory_equal(lab->back, lab->data, 2 * BLOCK);
	assert_memory_equal(lab->back + 2 * BLOCK, zeros, sizeof zeros);
	assert_memory_equal(lab->back + 4 * BLOCK, zeros, sizeof zeros);
	VFS_CALL(lab->vfs, close, file);
}

/* A file that grows has zeros there, also where it had something before. */
static void test_vfs__new_room_is_zeros(void **state)
{
	(void)state;
	over_all(zeros_in_new_room);
}

enum { READS = 700, FILE_BLOCKS = 200 };

static void many_reads(struct vfs_lab *lab)
{
	static struct vfs_read reads[READS];
	struct vfs_file *files[2] = { make(lab, "a", true), make(lab, "b", false) };
	uint8_t *whole[2] = { lab->data, lab->back };
	uint8_t *memory = NULL;
	struct prng prng;

	assert_int_equal(posix_memalign((void **)&memory, BLOCK, (size_t)READS * 2 * BLOCK), 0);
	test_prng(&prng);
	for (uint32_t i = 0; i < 2; i++) {
		fill(whole[i], FILE_BLOCKS * BLOCK, i);
		assert_int_equal(VFS_CALL(lab->vfs, write, files[i], whole[i], FILE_BLOCKS * BLOCK,
					  0, false),
				 0);
	}
	for (uint32_t count = 0; count <= READS; count = 3 * count + 1) {
		for (uint32_t i = 0; i < count; i++)
			reads[i] = (struct vfs_read){
				.file = files[prng_below(&prng, 2)],
				.offset = (uint64_t)BLOCK * prng_below(&prng, FILE_BLOCKS + 2),
				.data = memory + (size_t)BLOCK * i * 2,
				.bytes = BLOCK * (1 + prng_below(&prng, 2)),
				.result = -1,
			};
		VFS_CALL(lab->vfs, read_many, lab->vfs, reads, count);
		for (uint32_t i = 0; i < count; i++) {
			int64_t left = (int64_t)FILE_BLOCKS * BLOCK - (int64_t)reads[i].offset;
			int64_t want = left < 0 ? 0 : left < reads[i].bytes ? left : reads[i].bytes;

			assert_int_equal(reads[i].result, want);
			if (want > 0)
				assert_memory_equal(reads[i].data,
						    whole[reads[i].file == files[1]] +
							    reads[i].offset,
						    (size_t)want);
		}
	}
	VFS_CALL(lab->vfs, close, files[0]);
	VFS_CALL(lab->vfs, close, files[1]);
	free(memory);
}

/* However many reads at once, of whichever files: each has its own bytes and its own result. */
static void test_vfs__many_reads(void **state)
{
	(void)state;
	over_all(many_reads);
}

enum { THREADS = 6, ROUNDS = 60, BATCH = 40 };

struct reader {
	struct vfs *vfs;
	struct vfs_file *file;
	uint64_t seed;
	uint32_t wrong;
};

static void *reader_run(void *arg)
{
	struct reader *reader = arg;
	struct vfs_read reads[BATCH];
	uint8_t *memory = NULL;
	struct prng prng;

	prng_init(&prng, reader->seed);
	if (posix_memalign((void **)&memory, BLOCK, BATCH * BLOCK) != 0)
		return NULL;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < BATCH; i++)
			reads[i] = (struct vfs_read){
				.file = reader->file,
				.offset = (uint64_t)BLOCK * prng_below(&prng, FILE_BLOCKS),
				.data = memory + (size_t)i * BLOCK,
				.bytes = BLOCK,
			};
		VFS_CALL(reader->vfs, read_many, reader->vfs, reads, BATCH);
		for (uint32_t i = 0; i < BATCH; i++) {
			uint64_t word;

			memcpy(&word, reads[i].data + 8, sizeof word);
			reader->wrong += reads[i].result != BLOCK || word != reads[i].offset;
		}
	}
	free(memory);
	return reader;
}

/* More threads than rings read at the same time, and none gets another's bytes. */
static void test_vfs__threads_read_at_once(void **state)
{
	static const struct vfs_lab_kind disk = { .name = "disk" };
	struct reader readers[THREADS];
	pthread_t threads[THREADS];
	struct vfs_lab lab;

	(void)state;
	vfs_lab_open(&lab, &disk);
	struct vfs_file *file = make(&lab, "a", true);
	for (uint64_t i = 0; i < FILE_BLOCKS; i++) {
		uint64_t word = i * BLOCK;
		memcpy(lab.data + i * BLOCK + 8, &word, sizeof word);
	}
	assert_int_equal(VFS_CALL(lab.vfs, write, file, lab.data, FILE_BLOCKS * BLOCK, 0, false),
			 0);
	for (uint32_t i = 0; i < THREADS; i++) {
		readers[i] = (struct reader){ .vfs = lab.vfs, .file = file, .seed = i };
		assert_int_equal(pthread_create(&threads[i], NULL, reader_run, &readers[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		void *ended = NULL;

		assert_int_equal(pthread_join(threads[i], &ended), 0);
		assert_non_null(ended);
		assert_int_equal(readers[i].wrong, 0);
	}
	VFS_CALL(lab.vfs, close, file);
	vfs_lab_close(&lab);
}

/* ---- names ---- */

struct names {
	char text[16][VFS_NAME_MAX];
	uint32_t count, stop_at;
};

static int name_seen(const char *name, void *arg)
{
	struct names *names = arg;

	assert_true(names->count < 16);
	snprintf(names->text[names->count++], VFS_NAME_MAX, "%s", name);
	return names->count == names->stop_at ? 7 : 0;
}

static bool has(const struct names *names, const char *text)
{
	for (uint32_t i = 0; i < names->count; i++)
		if (strcmp(names->text[i], text) == 0)
			return true;
	return false;
}

static void names_are_listed(struct vfs_lab *lab)
{
	struct vfs *vfs = lab->vfs;
	struct names names = { .count = 0 };

	assert_int_equal(VFS_CALL(vfs, make_folder, vfs, "f"), 0);
	assert_int_equal(VFS_CALL(vfs, make_folder, vfs, "f"), -EEXIST);
	assert_int_equal(VFS_CALL(vfs, make_folder, vfs, "none/g"), -ENOENT);
	VFS_CALL(vfs, close, make(lab, "f/one", true));
	VFS_CALL(vfs, close, make(lab, "f/two", true));
	VFS_CALL(vfs, close, make(lab, "three", true));
	assert_int_equal(VFS_CALL(vfs, list, vfs, "f", name_seen, &names), 0);
	assert_int_equal(names.count, 2);
	assert_true(has(&names, "one") && has(&names, "two"));
	names = (struct names){ .count = 0 };
	assert_int_equal(VFS_CALL(vfs, list, vfs, "", name_seen, &names), 0);
	assert_int_equal(names.count, 2);
	assert_true(has(&names, "f") && has(&names, "three"));
	names = (struct names){ .stop_at = 1 };
	assert_int_equal(VFS_CALL(vfs, list, vfs, "f", name_seen, &names), 7);
	assert_int_equal(VFS_CALL(vfs, list, vfs, "none", name_seen, &names), -ENOENT);
	assert_int_equal(VFS_CALL(vfs, list, vfs, "three", name_seen, &names), -ENOTDIR);
	assert_int_equal(VFS_CALL(vfs, sync_folder, vfs, "f"), 0);
	assert_int_equal(VFS_CALL(vfs, sync_folder, vfs, ""), 0);
	assert_int_equal(VFS_CALL(vfs, sync_folder, vfs, "none"), -ENOENT);
}

/* Names are found in the folder they were made in, and in no other. */
static void test_vfs__names_are_listed(void **state)
{
	(void)state;
	over_all(names_are_listed);
}

static void names_change(struct vfs_lab *lab)
{
	struct vfs *vfs = lab->vfs;
	struct vfs_file *file = make(lab, "a", true);
	struct vfs_file *other = make(lab, "b", true);

	lab->data[0] = 1;
	assert_int_equal(VFS_CALL(vfs, write, file, lab->data, BLOCK, 0, false), 0);
	lab->data[0] = 2;
	assert_int_equal(VFS_CALL(vfs, write, other, lab->data, BLOCK, 0, false), 0);
	assert_int_equal(open_again(lab, "a", VFS_CREATE), -EEXIST);
	assert_int_equal(open_again(lab, "none", VFS_READ), -ENOENT);
	assert_int_equal(open_again(lab, "none", VFS_WRITE), -ENOENT);
	assert_int_equal(open_again(lab, "none/a", VFS_CREATE), -ENOENT);
	/* Over a name that is there: that file goes on without one. */
	assert_int_equal(VFS_CALL(vfs, rename, vfs, "a", "b"), 0);
	assert_int_equal(VFS_CALL(vfs, rename, vfs, "a", "c"), -ENOENT);
	assert_int_equal(open_again(lab, "a", VFS_READ), -ENOENT);
	assert_int_equal(VFS_CALL(vfs, read, other, lab->back, BLOCK, 0), BLOCK);
	assert_int_equal(lab->back[0], 2);
	VFS_CALL(vfs, close, file);
	VFS_CALL(vfs, close, other);
	assert_int_equal(VFS_CALL(vfs, open, vfs, "b", VFS_READ, true, &file), 0);
	assert_int_equal(VFS_CALL(vfs, unlink, vfs, "b"), 0);
	assert_int_equal(VFS_CALL(vfs, unlink, vfs, "b"), -ENOENT);
	assert_int_equal(VFS_CALL(vfs, read, file, lab->back, BLOCK, 0), BLOCK);
	assert_int_equal(lab->back[0], 1);
	VFS_CALL(vfs, close, file);
	assert_int_equal(VFS_CALL(vfs, make_folder, vfs, "f"), 0);
	assert_int_equal(VFS_CALL(vfs, unlink, vfs, "f"), -EISDIR);
	assert_int_equal(open_again(lab, "f", VFS_WRITE), -EISDIR);
}

/* Renamed over another and removed while open: files outlive their names. */
static void test_vfs__names_change(void **state)
{
	(void)state;
	over_all(names_change);
}

static void links(struct vfs_lab *lab)
{
	struct vfs *vfs = lab->vfs;
	struct vfs_file *file = make(lab, "a", true);
	char path[256];

	snprintf(path, sizeof path, "%s/b", lab->folder);
	lab->data[0] = 9;
	assert_int_equal(VFS_CALL(vfs, write, file, lab->data, BLOCK, 0, false), 0);
	VFS_CALL(vfs, close, file);
	assert_int_equal(VFS_CALL(vfs, link, vfs, "a", path), 0);
	assert_int_equal(VFS_CALL(vfs, link, vfs, "a", path), -EEXIST);
	assert_int_equal(VFS_CALL(vfs, link, vfs, "none", path), -ENOENT);
	assert_int_equal(VFS_CALL(vfs, unlink, vfs, "a"), 0);
	assert_int_equal(VFS_CALL(vfs, open, vfs, "b", VFS_READ, true, &file), 0);
	assert_int_equal(VFS_CALL(vfs, read, file, lab->back, BLOCK, 0), BLOCK);
	assert_int_equal(lab->back[0], 9);
	VFS_CALL(vfs, close, file);
}

/* A second name is as good as the first. */
static void test_vfs__links(void **state)
{
	(void)state;
	over_all(links);
}

static void locks(struct vfs_lab *lab)
{
	struct vfs *one = lab->vfs;
	struct vfs *two = vfs_lab_another(lab);
	struct vfs *three;

	assert_int_equal(VFS_CALL(one, lock, one, "lock", false), 0);
	assert_int_equal(VFS_CALL(two, lock, two, "lock", false), 0);
	three = vfs_lab_another(lab);
	assert_int_equal(VFS_CALL(three, lock, three, "lock", true), -EBUSY);
	VFS_CALL(two, close_all, two);
	two = vfs_lab_another(lab);
	assert_int_equal(VFS_CALL(two, lock, two, "other", true), 0);
	assert_int_equal(VFS_CALL(three, lock, three, "other", true), -EBUSY);
	assert_int_equal(VFS_CALL(three, lock, three, "other", false), -EBUSY);
	VFS_CALL(two, close_all, two);
	assert_int_equal(VFS_CALL(three, lock, three, "other", true), 0);
	VFS_CALL(three, close_all, three);
}

/* One writer or many readers have a lock, until they close. */
static void test_vfs__locks(void **state)
{
	(void)state;
	over_all(locks);
}

static void space(struct vfs_lab *lab)
{
	struct vfs_file *file = make(lab, "a", true);
	uint64_t before = 0, after = 0;

	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &before), 0);
	assert_true(before > 8 << 20);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, 1 << 20), 0);
	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &after), 0);
	if (lab->sim != NULL) {
		assert_int_equal(after, before - (1 << 20));
		assert_int_equal(VFS_CALL(lab->vfs, resize, file, before + 1), -ENOSPC);
		assert_int_equal(VFS_CALL(lab->vfs, size, file), 1 << 20);
	}
	VFS_CALL(lab->vfs, close, file);
}

/* How much room there is; what is more is refused when it is asked for, not when it is written to.
 * (Of a real disk: test_media_loop.c, on one of its own.) */
static void test_vfs__space(void **state)
{
	(void)state;
	over_all(space);
}

/* ---- the real one alone ---- */

/* A durable write of what was written before is one system call, and so is a single read. */
static void test_vfs_linux__one_call_each(void **state)
{
	static const struct vfs_lab_kind disk = { .name = "disk" };
	struct vfs_lab lab;
	uint64_t before;

	(void)state;
	vfs_lab_open(&lab, &disk);
	struct vfs_file *file = make(&lab, "a", true);
	struct vfs_read read = { .file = file, .data = lab.back, .bytes = BLOCK };
	assert_int_equal(VFS_CALL(lab.vfs, write, file, lab.data, 8 * BLOCK, 0, true), 0);
	before = lab.vfs->syscalls;
	assert_int_equal(VFS_CALL(lab.vfs, write, file, lab.data, BLOCK, BLOCK, true), 0);
	assert_int_equal(lab.vfs->syscalls, before + 1);
	VFS_CALL(lab.vfs, read_many, lab.vfs, &read, 1);
	assert_int_equal(read.result, BLOCK);
	assert_int_equal(lab.vfs->syscalls, before + 2);
	VFS_CALL(lab.vfs, close, file);
	vfs_lab_close(&lab);
}

/* What is no folder cannot be opened as one. */
static void test_vfs_linux__wants_a_folder(void **state)
{
	struct vfs *vfs = NULL;

	(void)state;
	assert_int_equal(vfs_linux_open(&vfs, "/dev/null"), -ENOTDIR);
	assert_int_equal(vfs_linux_open(&vfs, "/none/of/it"), -ENOENT);
	assert_null(vfs);
}

/* A disk that is made slower is so by that much at each sync and durable write. */
static void test_vfs_linux__slowed_down(void **state)
{
	static const struct vfs_lab_kind disk = { .name = "disk" };
	struct os *os = os_linux();
	struct vfs_lab lab;
	int64_t start_ns;

	(void)state;
	vfs_lab_open(&lab, &disk);
	struct vfs_file *file = make(&lab, "a", true);
	lab.vfs->sync_add_ns = 5 * NS_PER_MS;
	start_ns = os->now_ns(os);
	assert_int_equal(VFS_CALL(lab.vfs, write, file, lab.data, BLOCK, 0, true), 0);
	assert_int_equal(VFS_CALL(lab.vfs, sync, file), 0);
	assert_int_equal(VFS_CALL(lab.vfs, sync_folder, lab.vfs, ""), 0);
	/* Sleeps end late, never early. */
	assert_true(os->now_ns(os) - start_ns >= 15 * NS_PER_MS);
	VFS_CALL(lab.vfs, close, file);
	vfs_lab_close(&lab);
}

/* Without memory it says so, and leaves nothing open. */
static void test_vfs_linux__without_memory(void **state)
{
	static const struct vfs_lab_kind disk = { .name = "disk" };
	struct vfs_file *file = NULL;
	struct vfs *vfs = NULL;
	struct vfs_lab lab;

	(void)state;
	vfs_lab_open(&lab, &disk);
	VFS_CALL(lab.vfs, close, make(&lab, "a", true));
	if (test_malloc_fail(0)) {
		assert_int_equal(VFS_CALL(lab.vfs, open, lab.vfs, "a", VFS_READ, true, &file),
				 -ENOMEM);
		assert_null(file);
		assert_true(test_malloc_fail(0));
		assert_int_equal(vfs_linux_open(&vfs, lab.folder), -ENOMEM);
		assert_null(vfs);
	}
	vfs_lab_close(&lab);
}

/* A kernel that does not have io_uring, RWF_DSYNC or fallocate. */
static void be_an_old_kernel(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev2, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RWF_DSYNC, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof filter / sizeof filter[0], .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(2);
}

/* Where io_uring is forbidden, many reads are done one by one, and give the same; a durable write
 * is a write and a sync; and room comes with the bytes. */
static void test_vfs_linux__old_kernels(void **state)
{
	int status = 0;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		be_an_old_kernel();
		over_all(many_reads);
		over_all(bytes_come_back);
		over_all(zeros_in_new_room);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vfs__bytes_come_back),
		cmocka_unit_test(test_vfs__reads_end_where_the_file_ends),
		cmocka_unit_test(test_vfs__new_room_is_zeros),
		cmocka_unit_test(test_vfs__many_reads),
		cmocka_unit_test(test_vfs__threads_read_at_once),
		cmocka_unit_test(test_vfs__names_are_listed),
		cmocka_unit_test(test_vfs__names_change),
		cmocka_unit_test(test_vfs__links),
		cmocka_unit_test(test_vfs__locks),
		cmocka_unit_test(test_vfs__space),
		cmocka_unit_test(test_vfs_linux__one_call_each),
		cmocka_unit_test(test_vfs_linux__wants_a_folder),
		cmocka_unit_test(test_vfs_linux__slowed_down),
		cmocka_unit_test(test_vfs_linux__without_memory),
		cmocka_unit_test(test_vfs_linux__old_kernels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
