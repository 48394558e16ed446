/* The calls of a vfs over the simulated disk. Each that changes something is a step; the step in
 * which the power is cut is seen, and may be kept. */
#include <errno.h>

#include "os/vfs_sim_state.h"

/* ---- calls ---- */

/* 0, or what a call says that cannot even begin. */
static int call_begin(const struct vfs *vfs)
{
	const struct session *session = (const struct session *)(const void *)vfs;

	return session->dead || session->sim->stopped ? -EIO : 0;
}

/* One step. True: the power is cut in it. */
static bool step(struct vfs_sim *sim)
{
	sim->steps++;
	if (sim->left == 0)
		sim->stopped = true;
	else if (sim->left != UINT64_MAX)
		sim->left--;
	return sim->stopped;
}

static bool countdown(struct fault *fault)
{
	if (fault->count == 0)
		return false;
	if (fault->skip > 0) {
		fault->skip--;
		return false;
	}
	fault->count--;
	return true;
}

static int fault_due(struct vfs_sim *sim, enum vfs_sim_call call)
{
	return countdown(&sim->faults[call]) ? sim->faults[call].error : 0;
}

/* A step that changes names: 0, -EIO when it was cut in it (it is seen, and may be kept). */
static int name_step(struct vfs_sim *sim, const char *text, struct inode *inode, const char *other,
		     struct inode *other_inode)
{
	bool cut = step(sim);
	int rc = fault_due(sim, VFS_SIM_NAME);

	if (rc < 0)
		return rc;
	sim_change_name_new(sim, text, inode, other, other_inode);
	return cut ? -EIO : 0;
}

static int sim_open(struct vfs *vfs, const char *name, enum vfs_mode mode, bool direct,
		    struct vfs_file **ret_file)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	struct inode *inode = sim_name_find(sim, name);
	struct sim_file *file;
	int rc = call_begin(vfs);

	if (rc == 0 && inode != NULL && inode->folder)
		rc = -EISDIR;
	else if (rc == 0 && mode == VFS_CREATE && inode != NULL)
		rc = -EEXIST;
	else if (rc == 0 && (mode == VFS_CREATE ? !sim_name_has_home(sim, name) : inode == NULL))
		rc = -ENOENT;
	if (rc == 0 && mode == VFS_CREATE) {
		inode = sim_inode_new(sim, false);
		rc = name_step(sim, name, inode, NULL, NULL);
	}
	if (rc < 0)
		return rc;
	file = sim_alloc(sizeof *file);
	*file = (struct sim_file){ .file = { .vfs = vfs, .direct = direct },
				   .inode = inode,
				   .read_only = mode == VFS_READ };
	inode->users++;
	*ret_file = &file->file;
	return 0;
}

static void sim_close(struct vfs_file *file)
{
	if (file == NULL)
		return;
	HAUL_ASSERT(file_of(file)->inode->users > 0);
	file_of(file)->inode->users--;
	free(file);
}

static int64_t sim_read(struct vfs_file *base, void *data, size_t bytes, uint64_t offset)
{
	const struct sim_file *file = file_of(base);
	const struct inode *inode = file->inode;
	int rc = call_begin(base->vfs);

	HAUL_ASSERT(!base->direct || ((uintptr_t)data | bytes | offset) % VFS_ALIGN == 0);
	if (rc == 0)
		rc = fault_due(session_of(base->vfs)->sim, VFS_SIM_READ);
	if (rc < 0)
		return rc;
	if (offset >= inode->size)
		return 0;
	if (bytes > inode->size - offset)
		bytes = inode->size - offset;
	memcpy(data, inode->data + offset, bytes);
	return (int64_t)bytes;
}

/* Where a misdirected write ends up: in the same file. */
static uint64_t misdirected(const struct vfs_sim *sim, const struct inode *inode, uint64_t offset,
			    size_t bytes)
{
	offset += sim->misdirect_delta;
	return offset + bytes <= inode->size ? offset : 0;
}

static int write_now(struct vfs_sim *sim, struct inode *inode, const uint8_t *data, size_t bytes,
		     uint64_t offset)
{
	uint64_t end = offset + bytes;

	if (end > inode->size && end - inode->size > sim->bytes_max - sim->used)
		return -ENOSPC;
	sim_change_write_new(sim, inode, data, bytes, offset);
	return 0;
}

/* The last change, alone. */
static void sync_last(struct vfs_sim *sim)
{
	struct change **at = &sim->first;

	while ((*at)->next != NULL)
		at = &(*at)->next;
	sim_change_sync(sim, at);
}

static int sim_write(struct vfs_file *base, const void *data, size_t bytes, uint64_t offset,
		     bool durable)
{
	struct vfs_sim *sim = session_of(base->vfs)->sim;
	struct inode *inode = file_of(base)->inode;
	int rc = call_begin(base->vfs);
	bool cut;

	HAUL_ASSERT(!base->direct || ((uintptr_t)data | bytes | offset) % VFS_ALIGN == 0);
	HAUL_ASSERT(!file_of(base)->read_only && bytes > 0);
	if (rc < 0)
		return rc;
	cut = step(sim);
	if (countdown(&sim->lose))
		return cut ? -EIO : 0;
	if (countdown(&sim->misdirect))
		offset = misdirected(sim, inode, offset, bytes);
	rc = fault_due(sim, VFS_SIM_WRITE);
	if (rc < 0) {
		size_t part = prng_below(&sim->prng, (uint32_t)(bytes / VFS_SIM_SECTOR) + 1);

		if (part > 0)
			(void)write_now(sim, inode, data, part * VFS_SIM_SECTOR, offset);
		return rc;
	}
	rc = write_now(sim, inode, data, bytes, offset);
	if (rc == 0 && cut)
		return -EIO;
	if (rc == 0 && durable) {
		rc = fault_due(sim, VFS_SIM_SYNC);
		if (rc < 0)
			sim_changes_sync(sim, inode, false);
		else
			sync_last(sim);
	}
	return rc;
}

static int sim_sync(struct vfs_file *base)
{
	struct vfs_sim *sim = session_of(base->vfs)->sim;
	int rc = call_begin(base->vfs);

	if (rc < 0)
		return rc;
	if (step(sim))
		return -EIO;
	rc = fault_due(sim, VFS_SIM_SYNC);
	sim_changes_sync(sim, file_of(base)->inode, rc == 0);
	return rc;
}

static int64_t sim_size(struct vfs_file *base)
{
	int rc = call_begin(base->vfs);

	return rc < 0 ? rc : (int64_t)file_of(base)->inode->size;
}

static int sim_resize(struct vfs_file *base, uint64_t bytes)
{
	struct vfs_sim *sim = session_of(base->vfs)->sim;
	struct inode *inode = file_of(base)->inode;
	int rc = call_begin(base->vfs);
	bool cut;

	HAUL_ASSERT(!file_of(base)->read_only);
	if (rc < 0)
		return rc;
	cut = step(sim);
	rc = fault_due(sim, VFS_SIM_RESIZE);
	if (rc == 0 && bytes > inode->size && bytes - inode->size > sim->bytes_max - sim->used)
		rc = -ENOSPC;
	if (rc < 0)
		return rc;
	sim_change_resize_new(sim, inode, bytes);
	return cut ? -EIO : 0;
}

static void sim_read_many(struct vfs *vfs, struct vfs_read *reads, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		HAUL_ASSERT(reads[i].file->vfs == vfs);
		reads[i].result = (int32_t)sim_read(reads[i].file, reads[i].data, reads[i].bytes,
						    reads[i].offset);
	}
}

static int sim_rename(struct vfs *vfs, const char *from, const char *to)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	struct inode *inode = sim_name_find(sim, from);
	int rc = call_begin(vfs);

	if (rc == 0 && (inode == NULL || !sim_name_has_home(sim, to)))
		rc = -ENOENT;
	if (rc < 0 || strcmp(from, to) == 0)
		return rc;
	return name_step(sim, from, NULL, to, inode);
}

/* There is one tree of names here: an absolute path is one without its slash. */
static int sim_link(struct vfs *vfs, const char *name, const char *absolute_path)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	struct inode *inode = sim_name_find(sim, name);
	int rc = call_begin(vfs);

	absolute_path += absolute_path[0] == '/';
	if (rc == 0 && (inode == NULL || !sim_name_has_home(sim, absolute_path)))
		rc = -ENOENT;
	else if (rc == 0 && sim_name_find(sim, absolute_path) != NULL)
		rc = -EEXIST;
	return rc < 0 ? rc : name_step(sim, absolute_path, inode, NULL, NULL);
}

static int sim_unlink(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	const struct inode *inode = sim_name_find(sim, name);
	int rc = call_begin(vfs);

	if (rc == 0 && inode == NULL)
		rc = -ENOENT;
	else if (rc == 0 && inode->folder)
		rc = -EISDIR;
	return rc < 0 ? rc : name_step(sim, name, NULL, NULL, NULL);
}

static int sim_make_folder(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	int rc = call_begin(vfs);

	if (rc == 0 && sim_name_find(sim, name) != NULL)
		rc = -EEXIST;
	else if (rc == 0 && !sim_name_has_home(sim, name))
		rc = -ENOENT;
	return rc < 0 ? rc : name_step(sim, name, sim_inode_new(sim, true), NULL, NULL);
}

static int folder_check(const struct vfs_sim *sim, const char *name)
{
	const struct inode *inode = sim_name_find(sim, name);

	if (name[0] == '\0')
		return 0;
	return inode == NULL ? -ENOENT : inode->folder ? 0 : -ENOTDIR;
}

static int sim_sync_folder(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	int rc = call_begin(vfs);

	if (rc == 0)
		rc = folder_check(sim, name);
	if (rc < 0)
		return rc;
	if (step(sim))
		return -EIO;
	rc = fault_due(sim, VFS_SIM_SYNC);
	if (rc == 0) {
		sim_names_sync(sim, name);
		sim_inodes_free(sim);
	}
	return rc;
}

static int sim_list(struct vfs *vfs, const char *name, int (*visit)(const char *name, void *arg),
		    void *arg)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	char text[VFS_NAME_MAX];
	const char *rest;
	int rc = call_begin(vfs);

	if (rc == 0)
		rc = folder_check(sim, name);
	/* What is visited may change names. */
	for (uint32_t i = 0; rc == 0 && i < sim->name_count; i++) {
		memcpy(text, sim->names[i].text, sizeof text);
		if (sim->names[i].seen != NULL && sim_name_is_in(text, name, &rest))
			rc = visit(rest, arg);
	}
	return rc;
}

static int sim_lock(struct vfs *vfs, const char *name, bool exclusive)
{
	struct session *session = session_of(vfs);
	struct inode *inode = sim_name_find(session->sim, name);
	int rc = call_begin(vfs);

	if (rc == 0 && inode == NULL) {
		inode = sim_inode_new(session->sim, false);
		rc = name_step(session->sim, name, inode, NULL, NULL);
	}
	if (rc < 0)
		return rc;
	if (inode->exclusive > 0 || (exclusive && inode->shared > 0))
		return -EBUSY;
	HAUL_ASSERT(session->lock_count < sizeof session->locks / sizeof session->locks[0]);
	*(exclusive ? &inode->exclusive : &inode->shared) += 1;
	session->locks[session->lock_count].inode = inode;
	session->locks[session->lock_count++].exclusive = exclusive;
	return 0;
}

static int sim_space(struct vfs *vfs, uint64_t *ret_bytes)
{
	const struct vfs_sim *sim = session_of(vfs)->sim;
	int rc = call_begin(vfs);

	if (rc == 0)
		*ret_bytes = sim->bytes_max - sim->used;
	return rc;
}

static void sim_close_all(struct vfs *vfs)
{
	struct session *session = session_of(vfs);
	struct session **at = &session->sim->sessions;

	for (uint32_t i = 0; i < session->lock_count; i++)
		*(session->locks[i].exclusive ? &session->locks[i].inode->exclusive
					      : &session->locks[i].inode->shared) -= 1;
	while (*at != session)
		at = &(*at)->next;
	*at = session->next;
	free(session);
}

const struct vfs_calls sim_calls = {
	.open = sim_open,
	.close = sim_close,
	.read = sim_read,
	.write = sim_write,
	.sync = sim_sync,
	.size = sim_size,
	.resize = sim_resize,
	.read_many = sim_read_many,
	.rename = sim_rename,
	.link = sim_link,
	.unlink = sim_unlink,
	.make_folder = sim_make_folder,
	.sync_folder = sim_sync_folder,
	.list = sim_list,
	.lock = sim_lock,
	.space = sim_space,
	.close_all = sim_close_all,
};
