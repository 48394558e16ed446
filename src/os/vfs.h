/* os/vfs.h — files of a folder: the few calls a log and tables need, with a simulated twin.
 *
 * Model      As the system calls of the same names, whole transfers only: a short read is the end
 *            of the file, a short write is tried on. A file opened `direct` goes past the page
 *            cache: memory, offsets and lengths are multiples of VFS_ALIGN; where direct I/O does
 *            not exist it falls back to the page cache by itself. What was written is durable after
 *            vfs_sync, or at once with `durable`; a name made, renamed or removed is durable after
 *            vfs_sync_folder. Paths are relative to the folder the vfs was opened on.
 * Ownership  vfs and files are the caller's to close.
 * Threads    any thread, any file; one at a time a file for vfs_close.
 * Errors     -errno. vfs_open with VFS_CREATE: -EEXIST. vfs_lock: -EBUSY. -EROFS.
 * Blocking   all.
 * Source     open(2), pwritev2(2), fdatasync(2), flock(2); io_uring for vfs_read_many. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VFS_ALIGN = 4096, VFS_NAME_MAX = 64 };

enum vfs_mode { VFS_READ, VFS_WRITE, VFS_CREATE };

struct vfs;
/* First member of every implementation's own. */
struct vfs_file {
	struct vfs *vfs;
	bool direct;
};

struct vfs_read {
	struct vfs_file *file;
	uint64_t offset;
	uint8_t *data;
	uint32_t bytes;
	int32_t result; /* bytes read, or -errno */
};

struct vfs_calls {
	int (*open)(struct vfs *vfs, const char *name, enum vfs_mode mode, bool direct,
		    struct vfs_file **ret_file);
	void (*close)(struct vfs_file *file);
	int64_t (*read)(struct vfs_file *file, void *data, size_t bytes, uint64_t offset);
	int (*write)(struct vfs_file *file, const void *data, size_t bytes, uint64_t offset,
		     bool durable);
	int (*sync)(struct vfs_file *file);
	int64_t (*size)(struct vfs_file *file);
	int (*resize)(struct vfs_file *file,
		      uint64_t bytes); /* with blocks: -ENOSPC now, not later */
	/* All of them at once, at depth; each has its own result. */
	void (*read_many)(struct vfs *vfs, struct vfs_read *reads, uint32_t count);
	int (*rename)(struct vfs *vfs, const char *from, const char *to);
	int (*link)(struct vfs *vfs, const char *name, const char *absolute_path);
	int (*unlink)(struct vfs *vfs, const char *name);
	int (*make_folder)(struct vfs *vfs, const char *name);
	int (*sync_folder)(struct vfs *vfs, const char *name); /* "" = the folder itself */
	/* Names in a folder, in no order; non-zero from visit stops. */
	int (*list)(struct vfs *vfs, const char *name, int (*visit)(const char *name, void *arg),
		    void *arg);
	int (*lock)(struct vfs *vfs, const char *name,
		    bool exclusive); /* held until vfs_close_all */
	int (*space)(struct vfs *vfs, uint64_t *ret_bytes);
	void (*close_all)(struct vfs *vfs); /* ends the vfs itself */
};

struct vfs {
	const struct vfs_calls *calls;
	int64_t sync_add_ns; /* every sync and durable write takes so much longer: for benches */
	uint64_t syscalls;
};

/* path: an existing folder. -ENOENT, -ENOTDIR, -EACCES. */
int vfs_linux_open(struct vfs **ret_vfs, const char *path);

#define VFS_CALL(vfs, name, ...) ((vfs)->calls->name(__VA_ARGS__))
