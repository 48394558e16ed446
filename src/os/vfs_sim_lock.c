/* One call at a time: threads may use the vfs of a simulated disk side by side.
 *
 * The lock is a flag that is waited for by yielding, as no call waits for anything: so a simulation
 * that plays the threads of a program has nothing to play here. `visit` of list is called under
 * it, and calls nothing of the vfs. */
#include <sched.h>

#include "os/vfs_sim_state.h"

static struct vfs_sim *take(struct vfs *vfs)
{
	struct vfs_sim *sim = session_of(vfs)->sim;

	while (__atomic_test_and_set(&sim->busy, __ATOMIC_ACQUIRE))
		(void)sched_yield();
	return sim;
}

static void give(struct vfs_sim *sim)
{
	__atomic_clear(&sim->busy, __ATOMIC_RELEASE);
}

static int locked_open(struct vfs *vfs, const char *name, enum vfs_mode mode, bool direct,
		       struct vfs_file **ret_file)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.open(vfs, name, mode, direct, ret_file);

	give(sim);
	return rc;
}

static void locked_close(struct vfs_file *file)
{
	if (file == NULL)
		return;
	struct vfs_sim *sim = take(file->vfs);
	sim_calls.close(file);
	give(sim);
}

static int64_t locked_read(struct vfs_file *file, void *data, size_t bytes, uint64_t offset)
{
	struct vfs_sim *sim = take(file->vfs);
	const int64_t rc = sim_calls.read(file, data, bytes, offset);

	give(sim);
	return rc;
}

static int locked_write(struct vfs_file *file, const void *data, size_t bytes, uint64_t offset,
			bool durable)
{
	struct vfs_sim *sim = take(file->vfs);
	const int rc = sim_calls.write(file, data, bytes, offset, durable);

	give(sim);
	return rc;
}

static int locked_sync(struct vfs_file *file)
{
	struct vfs_sim *sim = take(file->vfs);
	const int rc = sim_calls.sync(file);

	give(sim);
	return rc;
}

static int64_t locked_size(struct vfs_file *file)
{
	struct vfs_sim *sim = take(file->vfs);
	const int64_t rc = sim_calls.size(file);

	give(sim);
	return rc;
}

static int locked_resize(struct vfs_file *file, uint64_t bytes)
{
	struct vfs_sim *sim = take(file->vfs);
	const int rc = sim_calls.resize(file, bytes);

	give(sim);
	return rc;
}

static void locked_read_many(struct vfs *vfs, struct vfs_read *reads, uint32_t count)
{
	struct vfs_sim *sim = take(vfs);

	sim_calls.read_many(vfs, reads, count);
	give(sim);
}

static int locked_rename(struct vfs *vfs, const char *from, const char *to)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.rename(vfs, from, to);

	give(sim);
	return rc;
}

static int locked_link(struct vfs *vfs, const char *name, const char *absolute_path)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.link(vfs, name, absolute_path);

	give(sim);
	return rc;
}

static int locked_unlink(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.unlink(vfs, name);

	give(sim);
	return rc;
}

static int locked_make_folder(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.make_folder(vfs, name);

	give(sim);
	return rc;
}

static int locked_sync_folder(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.sync_folder(vfs, name);

	give(sim);
	return rc;
}

static int locked_list(struct vfs *vfs, const char *name, int (*visit)(const char *name, void *arg),
		       void *arg)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.list(vfs, name, visit, arg);

	give(sim);
	return rc;
}

static int locked_lock(struct vfs *vfs, const char *name, bool exclusive)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.lock(vfs, name, exclusive);

	give(sim);
	return rc;
}

static int locked_space(struct vfs *vfs, uint64_t *ret_bytes)
{
	struct vfs_sim *sim = take(vfs);
	const int rc = sim_calls.space(vfs, ret_bytes);

	give(sim);
	return rc;
}

static void locked_close_all(struct vfs *vfs)
{
	struct vfs_sim *sim = take(vfs);

	sim_calls.close_all(vfs);
	give(sim);
}

const struct vfs_calls sim_calls_locked = {
	.open = locked_open,
	.close = locked_close,
	.read = locked_read,
	.write = locked_write,
	.sync = locked_sync,
	.size = locked_size,
	.resize = locked_resize,
	.read_many = locked_read_many,
	.rename = locked_rename,
	.link = locked_link,
	.unlink = locked_unlink,
	.make_folder = locked_make_folder,
	.sync_folder = locked_sync_folder,
	.list = locked_list,
	.lock = locked_lock,
	.space = locked_space,
	.close_all = locked_close_all,
};
