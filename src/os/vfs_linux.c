/* The system calls behind os/vfs.h, in a folder that is held open, so that it may be renamed.
 *
 * A durable write is one call, pwritev2 with RWF_DSYNC: over blocks that were written before, it
 * costs one write and one flush of the device, and no journal. Many reads go through a ring of a
 * small pool; where io_uring is forbidden they are done one by one. A ring is filled and emptied
 * under its lock, so what a thread submitted has ended before it returns. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/os.h"
#include "os/vfs.h"

enum {
	RINGS = 4,
	RING_DEPTH = 128,
	RING_WAIT = 32, /* at most: so many have to end before more are put in */
	LOCKS = 4,
	FILE_MODE = 0600,
	FOLDER_MODE = 0700,
	BUSY_WAIT_MS = 500,
	BUSY_STEP_MS = 10,
	TRANSFER_MAX = 1 << 30, /* one system call */
};

struct ring {
	pthread_mutex_t lock;
	struct io_uring ring;
	bool good;
};

struct linux_vfs {
	struct vfs vfs; /* first: it is found by it */
	int folder;
	int locks[LOCKS];
	uint32_t lock_count;
	bool no_dsync; /* the file system does not know RWF_DSYNC */
	uint32_t ring_count;
	uint32_t ring_next;
	struct ring rings[RINGS];
};

struct linux_file {
	struct vfs_file file; /* first */
	int fd;
};

static struct linux_vfs *linux_of(struct vfs *vfs)
{
	return (struct linux_vfs *)(void *)vfs;
}

static int fd_of(const struct vfs_file *file)
{
	return ((const struct linux_file *)(const void *)file)->fd;
}

static void count_syscall(struct vfs *vfs)
{
	__atomic_fetch_add(&vfs->syscalls, 1, __ATOMIC_RELAXED);
}

static const char *name_or_dot(const char *name)
{
	return name[0] == '\0' ? "." : name;
}

/* ---- files ---- */

static bool is_tmpfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static int open_fd(int folder, const char *name, enum vfs_mode mode, bool *direct)
{
	static const int flags[] = { [VFS_READ] = O_RDONLY,
				     [VFS_WRITE] = O_RDWR,
				     [VFS_CREATE] = O_RDWR | O_CREAT | O_EXCL };
	int fd = -1;

	if (*direct)
		fd = openat(folder, name, flags[mode] | O_CLOEXEC | O_NOCTTY | O_DIRECT, FILE_MODE);
	if (fd < 0 && (!*direct || errno == EINVAL)) {
		/* The name may have been made by the attempt. */
		int again = *direct ? flags[mode] & ~O_EXCL : flags[mode];

		*direct = false;
		fd = openat(folder, name, again | O_CLOEXEC | O_NOCTTY, FILE_MODE);
	}
	return fd < 0 ? -errno : fd;
}

static int linux_open(struct vfs *vfs, const char *name, enum vfs_mode mode, bool direct,
		      struct vfs_file **ret_file)
{
	struct linux_file *file;
	int fd = open_fd(linux_of(vfs)->folder, name, mode, &direct);

	count_syscall(vfs);
	if (fd < 0)
		return fd;
	file = malloc(sizeof *file);
	if (file == NULL) {
		close(fd);
		return -ENOMEM;
	}
	/* tmpfs takes O_DIRECT and goes through the page cache all the same. */
	*file = (struct linux_file){ .file = { .vfs = vfs, .direct = direct && !is_tmpfs(fd) },
				     .fd = fd };
	*ret_file = &file->file;
	return 0;
}

static void linux_close(struct vfs_file *file)
{
	if (file == NULL)
		return;
	count_syscall(file->vfs);
	close(fd_of(file));
	free(file);
}

static int64_t linux_read(struct vfs_file *file, void *data, size_t bytes, uint64_t offset)
{
	size_t done = 0;

	while (done < bytes) {
		size_t want = bytes - done < TRANSFER_MAX ? bytes - done : TRANSFER_MAX;
		ssize_t got =
			pread(fd_of(file), (uint8_t *)data + done, want, (off_t)(offset + done));

		count_syscall(file->vfs);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		done += (size_t)got;
		/* The end, or less than a block before it: direct I/O could not go on there. */
		if (got == 0 || (file->direct && got % VFS_ALIGN != 0))
			break;
	}
	return (int64_t)done;
}

/* A disk that is slower than this one. */
static void slow_down(const struct vfs *vfs)
{
	struct timespec left = { .tv_sec = vfs->sync_add_ns / NS_PER_S,
				 .tv_nsec = vfs->sync_add_ns % NS_PER_S };

	if (vfs->sync_add_ns <= 0)
		return;
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

static int sync_fd(struct vfs_file *file)
{
	int rc;

	do {
		count_syscall(file->vfs);
		rc = fdatasync(fd_of(file)) < 0 ? -errno : 0;
	} while (rc == -EINTR);
	return rc;
}

static int linux_sync(struct vfs_file *file)
{
	int rc = sync_fd(file);

	slow_down(file->vfs);
	return rc;
}

/* A write that was cut short was cut by what the next one will tell: no room, a limit, an error. */
static int write_all(struct vfs_file *file, const uint8_t *data, size_t bytes, uint64_t offset,
		     int flags)
{
	size_t done = 0;

	while (done < bytes) {
		size_t want = bytes - done < TRANSFER_MAX ? bytes - done : TRANSFER_MAX;
		const struct iovec part = { .iov_base = (void *)(uintptr_t)(data + done),
					    .iov_len = want };
		ssize_t put = pwritev2(fd_of(file), &part, 1, (off_t)(offset + done), flags);

		count_syscall(file->vfs);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		/* Less than a block of a direct write: there is no room for the rest of it. */
		if (put == 0 || (file->direct && put % VFS_ALIGN != 0 && (size_t)put < want))
			return -ENOSPC;
		done += (size_t)put;
	}
	return 0;
}

static int linux_write(struct vfs_file *file, const void *data, size_t bytes, uint64_t offset,
		       bool durable)
{
	struct linux_vfs *vfs = linux_of(file->vfs);
	int rc = -EOPNOTSUPP;

	HAUL_ASSERT(!file->direct || ((uintptr_t)data | bytes | offset) % VFS_ALIGN == 0);
	if (!durable)
		return write_all(file, data, bytes, offset, 0);
	if (!__atomic_load_n(&vfs->no_dsync, __ATOMIC_RELAXED))
		rc = write_all(file, data, bytes, offset, RWF_DSYNC);
	if (rc == -EOPNOTSUPP) {
		__atomic_store_n(&vfs->no_dsync, true, __ATOMIC_RELAXED);
		rc = write_all(file, data, bytes, offset, 0);
		if (rc == 0)
			rc = sync_fd(file);
	}
	slow_down(file->vfs);
	return rc;
}

static int64_t linux_size(struct vfs_file *file)
{
	struct stat st;

	count_syscall(file->vfs);
	return fstat(fd_of(file), &st) < 0 ? -errno : (int64_t)st.st_size;
}

/* fallocate takes all there is before it says that there is too little, and meanwhile nobody else
 * has any: so it is not asked for more than there is. */
static int check_room(struct vfs_file *file, uint64_t bytes)
{
	struct statvfs vfs;

	if (fstatvfs(fd_of(file), &vfs) < 0)
		return -errno;
	return bytes / vfs.f_frsize > vfs.f_bavail ? -ENOSPC : 0;
}

/* A file system that cannot reserve blocks gets them when they are written. */
static int linux_resize(struct vfs_file *file, uint64_t bytes)
{
	struct stat st;
	int rc = fstat(fd_of(file), &st) < 0 ? -errno : 0;

	if (rc == 0 && bytes > (uint64_t)st.st_size)
		rc = check_room(file, bytes - (uint64_t)st.st_size);
	if (rc == 0 && bytes > (uint64_t)st.st_size) {
		do {
			count_syscall(file->vfs);
			rc = fallocate(fd_of(file), 0, st.st_size, (off_t)bytes - st.st_size) < 0
				     ? -errno
				     : 0;
		} while (rc == -EINTR);
		/* What it got before there was no more is given back. */
		if (rc < 0 && rc != -EOPNOTSUPP && ftruncate(fd_of(file), st.st_size) < 0)
			return rc;
		if (rc != -EOPNOTSUPP)
			return rc;
		rc = 0;
	}
	count_syscall(file->vfs);
	if (rc == 0 && ftruncate(fd_of(file), (off_t)bytes) < 0)
		rc = -errno;
	return rc;
}

/* ---- many reads ---- */

static int ring_open(struct ring *ring)
{
	static const unsigned int flags[] = { IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL |
						      IORING_SETUP_COOP_TASKRUN,
					      IORING_SETUP_CLAMP };
	struct io_uring_params params;
	int rc = -EINVAL;

	for (size_t i = 0; rc == -EINVAL && i < sizeof flags / sizeof flags[0]; i++) {
		memset(&params, 0, sizeof params);
		params.flags = flags[i];
		rc = io_uring_queue_init_params(RING_DEPTH, &ring->ring, &params);
	}
	if (rc < 0)
		return rc;
	pthread_mutex_init(&ring->lock, NULL);
	ring->good = true;
	return 0;
}

/* One that nobody has just now, or else the next in turn. Comes locked. */
static struct ring *ring_take(struct linux_vfs *vfs)
{
	uint32_t first = __atomic_fetch_add(&vfs->ring_next, 1, __ATOMIC_RELAXED);
	struct ring *ring;

	HAUL_ASSERT(vfs->ring_count > 0);
	for (uint32_t i = 0; i < vfs->ring_count; i++) {
		ring = &vfs->rings[(first + i) % vfs->ring_count];
		if (pthread_mutex_trylock(&ring->lock) == 0)
			return ring;
	}
	ring = &vfs->rings[first % vfs->ring_count];
	pthread_mutex_lock(&ring->lock);
	return ring;
}

static void read_put(struct io_uring *ring, const struct vfs_read *read, uint32_t index)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	HAUL_ASSERT(sqe != NULL);
	io_uring_prep_read(sqe, fd_of(read->file), read->data, read->bytes, read->offset);
	io_uring_sqe_set_data64(sqe, index);
}

/* What a ring left: cut short, or put off by the kernel. */
static void read_rest(struct vfs_read *read, int32_t result)
{
	uint32_t done = result > 0 ? (uint32_t)result : 0;
	int64_t rest = 0;

	if (result < 0 && result != -EAGAIN && result != -EINTR && result != -ECANCELED) {
		read->result = result;
		return;
	}
	if (done < read->bytes && (!read->file->direct || done % VFS_ALIGN == 0))
		rest = linux_read(read->file, read->data + done, read->bytes - done,
				  read->offset + done);
	read->result = rest < 0 ? (int32_t)rest : (int32_t)done + (int32_t)rest;
}

/* Takes what has ended; returns how many. */
static uint32_t ring_reap(struct io_uring *ring, struct vfs_read *reads)
{
	struct io_uring_cqe *cqes[RING_DEPTH];
	uint32_t count = io_uring_peek_batch_cqe(ring, cqes, RING_DEPTH);

	for (uint32_t i = 0; i < count; i++)
		reads[io_uring_cqe_get_data64(cqes[i])].result = cqes[i]->res;
	io_uring_cq_advance(ring, count);
	return count;
}

/* Returns how many were put into the ring: less than count when it would not take more. All of
 * those have ended. */
static uint32_t ring_read(struct vfs *vfs, struct ring *ring, struct vfs_read *reads,
			  uint32_t count)
{
	uint32_t put = 0, flying = 0;

	while (put < count || flying > 0) {
		while (put < count && flying < RING_DEPTH) {
			read_put(&ring->ring, &reads[put], put);
			put++;
			flying++;
		}
		uint32_t wait = put == count && flying <= RING_WAIT ? flying
				: flying < RING_WAIT                ? flying
								    : RING_WAIT;
		int rc = io_uring_submit_and_wait(&ring->ring, wait);

		count_syscall(vfs);
		/* Interrupted, or short of memory: what was taken goes on, the rest stays put. */
		HAUL_ASSERT(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY ||
			    rc == -ENOMEM);
		flying -= ring_reap(&ring->ring, reads);
	}
	return put;
}

static void linux_read_many(struct vfs *base, struct vfs_read *reads, uint32_t count)
{
	struct linux_vfs *vfs = linux_of(base);
	struct ring *ring;

	if (count <= 1 || vfs->ring_count == 0) {
		for (uint32_t i = 0; i < count; i++)
			reads[i].result = (int32_t)linux_read(reads[i].file, reads[i].data,
							      reads[i].bytes, reads[i].offset);
		return;
	}
	ring = ring_take(vfs);
	ring_read(base, ring, reads, count);
	pthread_mutex_unlock(&ring->lock);
	for (uint32_t i = 0; i < count; i++)
		if (reads[i].result != (int32_t)reads[i].bytes)
			read_rest(&reads[i], reads[i].result);
}

/* ---- names ---- */

static int linux_rename(struct vfs *vfs, const char *from, const char *to)
{
	int folder = linux_of(vfs)->folder;

	count_syscall(vfs);
	return renameat(folder, from, folder, to) < 0 ? -errno : 0;
}

static int linux_link(struct vfs *vfs, const char *name, const char *absolute_path)
{
	count_syscall(vfs);
	return linkat(linux_of(vfs)->folder, name, AT_FDCWD, absolute_path, 0) < 0 ? -errno : 0;
}

static int linux_unlink(struct vfs *vfs, const char *name)
{
	count_syscall(vfs);
	return unlinkat(linux_of(vfs)->folder, name, 0) < 0 ? -errno : 0;
}

static int linux_make_folder(struct vfs *vfs, const char *name)
{
	count_syscall(vfs);
	return mkdirat(linux_of(vfs)->folder, name, FOLDER_MODE) < 0 ? -errno : 0;
}

static int linux_sync_folder(struct vfs *vfs, const char *name)
{
	int fd = openat(linux_of(vfs)->folder, name_or_dot(name),
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;

	count_syscall(vfs);
	if (fd >= 0)
		close(fd);
	slow_down(vfs);
	return rc;
}

static int linux_list(struct vfs *vfs, const char *name, int (*visit)(const char *name, void *arg),
		      void *arg)
{
	int fd = openat(linux_of(vfs)->folder, name_or_dot(name),
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	if (folder == NULL) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == 0) {
		errno = 0;
		entry = readdir(folder);
		if (entry == NULL) {
			rc = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = visit(entry->d_name, arg);
	}
	closedir(folder);
	return rc;
}

/* ---- the whole ---- */

/* A process that was killed has its files until the kernel has ended what it had under way. */
static int lock_fd(int fd, int how)
{
	int rc = flock(fd, how | LOCK_NB) < 0 ? -errno : 0;

	for (int waited = 0; rc == -EWOULDBLOCK && waited < BUSY_WAIT_MS; waited += BUSY_STEP_MS) {
		poll(NULL, 0, BUSY_STEP_MS);
		rc = flock(fd, how | LOCK_NB) < 0 ? -errno : 0;
	}
	return rc == -EWOULDBLOCK ? -EBUSY : rc;
}

static int linux_lock(struct vfs *base, const char *name, bool exclusive)
{
	struct linux_vfs *vfs = linux_of(base);
	int fd = openat(vfs->folder, name, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, FILE_MODE);
	int rc;

	count_syscall(base);
	/* A lock needs no right to write. */
	if (fd < 0 && (errno == EROFS || errno == EACCES))
		fd = openat(vfs->folder, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	rc = vfs->lock_count == LOCKS ? -EMFILE : lock_fd(fd, exclusive ? LOCK_EX : LOCK_SH);
	if (rc < 0)
		close(fd);
	else
		vfs->locks[vfs->lock_count++] = fd;
	return rc;
}

static int linux_space(struct vfs *vfs, uint64_t *ret_bytes)
{
	struct statvfs fs;

	count_syscall(vfs);
	if (fstatvfs(linux_of(vfs)->folder, &fs) < 0)
		return -errno;
	*ret_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	return 0;
}

static void linux_close_all(struct vfs *base)
{
	struct linux_vfs *vfs = linux_of(base);

	for (uint32_t i = 0; i < vfs->ring_count; i++) {
		io_uring_queue_exit(&vfs->rings[i].ring);
		pthread_mutex_destroy(&vfs->rings[i].lock);
	}
	for (uint32_t i = 0; i < vfs->lock_count; i++) {
		(void)flock(vfs->locks[i], LOCK_UN);
		close(vfs->locks[i]);
	}
	close(vfs->folder);
	free(vfs);
}

static const struct vfs_calls linux_calls = {
	.open = linux_open,
	.close = linux_close,
	.read = linux_read,
	.write = linux_write,
	.sync = linux_sync,
	.size = linux_size,
	.resize = linux_resize,
	.read_many = linux_read_many,
	.rename = linux_rename,
	.link = linux_link,
	.unlink = linux_unlink,
	.make_folder = linux_make_folder,
	.sync_folder = linux_sync_folder,
	.list = linux_list,
	.lock = linux_lock,
	.space = linux_space,
	.close_all = linux_close_all,
};

int vfs_linux_open(struct vfs **ret_vfs, const char *path)
{
	struct linux_vfs *vfs = calloc(1, sizeof *vfs);

	if (vfs == NULL)
		return -ENOMEM;
	vfs->vfs.calls = &linux_calls;
	vfs->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (vfs->folder < 0) {
		int rc = -errno;

		free(vfs);
		return rc;
	}
	/* Fewer rings than wanted, or none: then reads take turns, or go one by one. */
	while (vfs->ring_count < RINGS && ring_open(&vfs->rings[vfs->ring_count]) == 0)
		vfs->ring_count++;
	*ret_vfs = &vfs->vfs;
	return 0;
}
