/* A file is opened as what it was when looked at: the kind decides the flags (O_EXCL claims a block
 * device, and would mean something else for a file), and the descriptor is looked at again, so that
 * a path that changes in between is found out. */
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"

enum {
	ALIGN_MIN = 512,
	ALIGN_UNKNOWN = 4096, /* where the kernel does not say: no device wants more */
	ALIGN_MAX = 1 << 20,
	ZEROS_BYTES = 4 << 20,
	NEW_FILE_MODE = 0600,
	BUSY_WAIT_MS = 500,
	BUSY_STEP_MS = 10,
};

/* statx(2) as of Linux 6.1; older headers end before the alignment. */
enum {
	DIOALIGN_MASK = 0x2000,
	STATX_BYTES = 256,
	DIOALIGN_MEMORY_AT = 152,
	DIOALIGN_OFFSET_AT = 156
};

/* ---- opening ---- */

static int open_error(const char *path, enum file_mode mode, int rc, struct haul_err *err)
{
	const char *fix = "";

	if (rc == -EBUSY)
		fix = ": it is mounted, or another program has claimed it";
	else if (rc == -ENOENT && mode != FILE_CREATE)
		fix = ": make it first (haul cache format)";
	else if (rc == -ENOENT)
		fix = ": the folder it is to be in is not there";
	else if (rc == -EACCES || rc == -EPERM)
		fix = mode == FILE_READ ? ": needs the right to read it"
					: ": needs the right to read and write it";
	else if (rc == -EROFS)
		fix = ": it can only be read";
	return haul_err_set(err, rc, "open %s: %s%s", path, haul_strerror(rc), fix);
}

static int wrong_kind(const char *path, mode_t mode, struct haul_err *err)
{
	const char *kind = S_ISDIR(mode)    ? "a directory"
			   : S_ISCHR(mode)  ? "a character device"
			   : S_ISFIFO(mode) ? "a pipe"
			   : S_ISSOCK(mode) ? "a socket"
					    : "of another kind";

	return haul_err_set(err, -EINVAL, "%s is %s: want a file or a block device", path, kind);
}

/* Returns whether the kernel said anything. 0 means that there is no direct I/O. */
static bool ask_alignment(int fd, uint32_t *ret_memory, uint32_t *ret_offset)
{
	uint8_t answer[STATX_BYTES] = { 0 };
	uint32_t mask;

	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, DIOALIGN_MASK, answer) != 0)
		return false;
	memcpy(&mask, answer, sizeof mask);
	if ((mask & DIOALIGN_MASK) == 0)
		return false;
	memcpy(ret_memory, answer + DIOALIGN_MEMORY_AT, sizeof *ret_memory);
	memcpy(ret_offset, answer + DIOALIGN_OFFSET_AT, sizeof *ret_offset);
	return true;
}

static uint32_t sane_alignment(uint32_t align)
{
	if (align < ALIGN_MIN)
		return ALIGN_MIN;
	return align > ALIGN_MAX || (align & (align - 1)) != 0 ? ALIGN_UNKNOWN : align;
}

static void find_alignment(struct file *file)
{
	struct statfs fs;
	uint32_t memory = ALIGN_UNKNOWN;
	uint32_t offset = ALIGN_UNKNOWN;
	int block_bytes = 0;

	if (!ask_alignment(file->fd, &memory, &offset)) {
		/* tmpfs takes O_DIRECT and goes through the page cache all the same. */
		if (fstatfs(file->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
			offset = 0;
		else if (file->block_device && ioctl(file->fd, BLKSSZGET, &block_bytes) == 0)
			memory = offset = (uint32_t)block_bytes;
	}
	if (offset == 0 || memory == 0)
		file->direct = false;
	file->align_memory = file->direct ? sane_alignment(memory) : ALIGN_MIN;
	file->align_offset = file->direct ? sane_alignment(offset) : ALIGN_MIN;
	if (!file->direct)
		fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) & ~O_DIRECT);
}

/* Sets fd and direct. */
static int open_fd(struct file *file, const char *path, enum file_mode mode)
{
	int flags = O_CLOEXEC | O_NOCTTY | (mode == FILE_READ ? O_RDONLY : O_RDWR);

	if (file->block_device && mode != FILE_READ)
		flags |= O_EXCL;
	else if (mode == FILE_CREATE)
		flags |= O_CREAT;
	file->direct = true;
	file->fd = open(path, flags | O_DIRECT, NEW_FILE_MODE);
	if (file->fd >= 0 || errno != EINVAL)
		return file->fd >= 0 ? 0 : -errno;
	file->direct = false;
	file->fd = open(path, flags, NEW_FILE_MODE);
	return file->fd >= 0 ? 0 : -errno;
}

/* Linux lets root open a device for writing that cannot be written. */
static bool device_is_read_only(int fd)
{
	int read_only = 0;

	return ioctl(fd, BLKROGET, &read_only) == 0 && read_only != 0;
}

/* The lock, the size and the alignment of what was opened. */
static int file_take(struct file *file, const char *path, enum file_mode mode, struct haul_err *err)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return open_error(path, mode, -errno, err);
	if (file->block_device ? !S_ISBLK(st.st_mode) : !S_ISREG(st.st_mode))
		return wrong_kind(path, st.st_mode, err);
	if (file->block_device && mode != FILE_READ && device_is_read_only(file->fd))
		return open_error(path, mode, -EROFS, err);
	if (flock(file->fd, (mode == FILE_READ ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0)
		return haul_err_set(err, errno == EWOULDBLOCK ? -EBUSY : -errno,
				    "%s is in use by another haul: stop that one first", path);
	file->bytes = (uint64_t)st.st_size;
	if (file->block_device && ioctl(file->fd, BLKGETSIZE64, &file->bytes) < 0)
		return open_error(path, mode, -errno, err);
	find_alignment(file);
	return 0;
}

static int open_once(struct file *file, const char *path, enum file_mode mode, struct haul_err *err)
{
	struct stat st;
	int rc = stat(path, &st) < 0 ? -errno : 0;

	if (rc < 0 && !(rc == -ENOENT && mode == FILE_CREATE))
		return open_error(path, mode, rc, err);
	if (rc == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return wrong_kind(path, st.st_mode, err);
	file->block_device = rc == 0 && S_ISBLK(st.st_mode);
	rc = open_fd(file, path, mode);
	if (rc < 0)
		return open_error(path, mode, rc, err);
	rc = file_take(file, path, mode, err);
	if (rc < 0)
		close(file->fd);
	return rc;
}

/* The kernel lets go of a file some moments after a process with an io_uring was killed: when what
 * that had under way has ended. Until then the file has to be left alone, so we wait for it. */
int file_open(struct file *file, const char *path, enum file_mode mode, struct haul_err *err)
{
	struct file made = { .fd = -1, .read_only = mode == FILE_READ };
	int rc = open_once(&made, path, mode, err);

	for (int waited_ms = 0; rc == -EBUSY && waited_ms < BUSY_WAIT_MS;
	     waited_ms += BUSY_STEP_MS) {
		poll(NULL, 0, BUSY_STEP_MS);
		rc = open_once(&made, path, mode, err);
	}
	if (rc < 0)
		return rc;
	HAUL_ASSERT((made.align_memory & (made.align_memory - 1)) == 0);
	HAUL_ASSERT((made.align_offset & (made.align_offset - 1)) == 0);
	*file = made;
	return 0;
}

void file_close(struct file *file)
{
	if (file == NULL || file->fd < 0)
		return;
	/* A ring that had it keeps it open for some moments after its own close. */
	(void)flock(file->fd, LOCK_UN);
	close(file->fd);
	file->fd = -1;
}

/* ---- room ---- */

static int no_room(uint64_t wanted, uint64_t there, const char *where, struct haul_err *err)
{
	return haul_err_set(err, -ENOSPC,
			    "%llu MiB are wanted, and %llu MiB are %s: ask for less, or make room",
			    (unsigned long long)(wanted >> 20), (unsigned long long)(there >> 20),
			    where);
}

/* All that can be known before the first byte is written. */
static int room_check(const struct file *file, uint64_t bytes, struct haul_err *err)
{
	struct statvfs fs;
	struct rlimit limit;
	struct stat st;
	uint64_t there;

	if (bytes == 0 || bytes % file->align_offset != 0 || bytes > INT64_MAX)
		return haul_err_set(err, -EINVAL, "%llu bytes: want a multiple of %u",
				    (unsigned long long)bytes, file->align_offset);
	if (file->block_device)
		return bytes <= file->bytes ? 0 : no_room(bytes, file->bytes, "on the device", err);
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    bytes > limit.rlim_cur)
		return haul_err_set(err, -EFBIG,
				    "%llu MiB are wanted, and the limit for a file is %llu MiB: "
				    "raise it (ulimit -f)",
				    (unsigned long long)(bytes >> 20),
				    (unsigned long long)(limit.rlim_cur >> 20));
	if (fstatvfs(file->fd, &fs) < 0 || fstat(file->fd, &st) < 0)
		return haul_err_set(err, -errno, "find out how much room there is: %s",
				    haul_strerror(-errno));
	there = (uint64_t)fs.f_bavail * fs.f_frsize + (uint64_t)st.st_blocks * 512;
	return bytes <= there ? 0 : no_room(bytes, there, "free", err);
}

/* A file system that cannot reserve blocks gets them by the zeros. */
static int reserve(int fd, uint64_t bytes)
{
	int rc;

	do {
		rc = fallocate(fd, 0, 0, (off_t)bytes) < 0 ? -errno : 0;
	} while (rc == -EINTR);
	return rc == -EOPNOTSUPP ? 0 : rc;
}

static int write_zeros(const struct file *file, uint64_t bytes, const uint8_t *zeros,
		       file_progress *progress, void *arg)
{
	uint64_t at = 0;

	while (at < bytes) {
		uint64_t want = bytes - at < ZEROS_BYTES ? bytes - at : ZEROS_BYTES;
		ssize_t put = pwrite(file->fd, zeros, want, (off_t)at);
		int rc;

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		/* Less than a block: no room for the rest of it. */
		if ((uint64_t)put < file->align_offset && (uint64_t)put < want)
			return -ENOSPC;
		at += want == (uint64_t)put ? want
					    : (uint64_t)put & ~(uint64_t)(file->align_offset - 1);
		rc = progress == NULL ? 0 : progress(at, bytes, arg);
		if (rc != 0)
			return rc;
	}
	return fdatasync(file->fd) < 0 ? -errno : 0;
}

int file_allocate(struct file *file, uint64_t bytes, file_progress *progress, void *arg,
		  struct haul_err *err)
{
	uint8_t *zeros;
	int rc = room_check(file, bytes, err);

	HAUL_ASSERT(!file->read_only);
	if (rc < 0 || file->block_device)
		return rc;
	zeros = mmap(NULL, ZEROS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (zeros == MAP_FAILED)
		return haul_err_set(err, -errno, "memory for zeros: %s", haul_strerror(-errno));
	if (ftruncate(file->fd, 0) < 0)
		rc = -errno;
	file->bytes = 0;
	if (rc == 0)
		rc = reserve(file->fd, bytes);
	if (rc == 0)
		rc = write_zeros(file, bytes, zeros, progress, arg);
	munmap(zeros, ZEROS_BYTES);
	if (rc == 0) {
		file->bytes = bytes;
		return 0;
	}
	/* What was taken is given back: nobody needs half a file. */
	if (ftruncate(file->fd, 0) < 0 && rc > 0)
		rc = -errno;
	if (rc > 0)
		return rc; /* stopped: whoever did it knows why */
	return haul_err_set(err, rc, "write %llu MiB of zeros: %s",
			    (unsigned long long)(bytes >> 20), haul_strerror(rc));
}

int file_space(const char *path, uint64_t *ret_bytes, struct haul_err *err)
{
	struct statvfs fs;
	char folder[PATH_MAX];
	size_t bytes = strlen(path) + 1;
	int rc = statvfs(path, &fs) < 0 ? -errno : 0;

	if (rc == -ENOENT && bytes <= sizeof folder) {
		memcpy(folder, path, bytes);
		rc = statvfs(dirname(folder), &fs) < 0 ? -errno : 0;
	}
	if (rc < 0)
		return haul_err_set(err, rc, "free space at %s: %s", path, haul_strerror(rc));
	*ret_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	return 0;
}
