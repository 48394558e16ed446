/* What the power leaves, and what goes wrong. A crash undoes all changes that are not durable, the
 * last first, and then does again, the first first, those that chance has kept. */
#include <errno.h>

#include "os/vfs_sim_state.h"

/* ---- crashes ---- */

static void crash_keep(struct change *change, uint64_t at, uint64_t bytes)
{
	struct inode *inode = change->inode;

	if (bytes == 0)
		return;
	memcpy(inode->data + change->offset + at, change->after + at, bytes);
	if (change->offset + at + bytes > inode->size)
		inode->size = change->offset + at + bytes;
}

static void crash_whole(struct vfs_sim *sim, struct change *change)
{
	if (change->kind == CHANGE_WRITE) {
		crash_keep(change, 0, change->bytes);
	} else if (change->kind == CHANGE_RESIZE) {
		if (change->size < change->inode->size)
			memset(change->inode->data + change->size, 0,
			       change->inode->size - change->size);
		change->inode->size = change->size;
	} else {
		for (uint32_t i = 0; i < 2; i++)
			if (change->names[i] != UINT32_MAX)
				sim->names[change->names[i]].seen = change->inodes[i];
	}
}

static void crash_coins(struct change *change, struct prng *prng)
{
	for (uint64_t at = 0; at < change->bytes; at += VFS_SIM_SECTOR)
		if (prng_below(prng, 2) == 1)
			crash_keep(change, at,
				   change->bytes - at < VFS_SIM_SECTOR ? change->bytes - at
								       : VFS_SIM_SECTOR);
}

/* Sectors up to one, or from one on, and in that one bytes of nobody. */
static void crash_torn(struct change *change, struct prng *prng)
{
	uint64_t sectors = (change->bytes + VFS_SIM_SECTOR - 1) / VFS_SIM_SECTOR;
	uint64_t at = prng_below(prng, (uint32_t)sectors + 1) * (uint64_t)VFS_SIM_SECTOR;
	bool garbage = prng_below(prng, 2) == 1 && at < change->bytes && !change->covered;
	uint64_t torn = change->bytes - at < VFS_SIM_SECTOR ? change->bytes - at : VFS_SIM_SECTOR;

	if (at > change->bytes)
		at = change->bytes;
	if (prng_below(prng, 2) == 1)
		crash_keep(change, 0, at);
	else
		crash_keep(change, at, change->bytes - at);
	if (!garbage)
		return;
	crash_keep(change, at, torn);
	for (uint64_t i = 0; i < torn; i++)
		change->inode->data[change->offset + at + i] = (uint8_t)prng_next(prng);
}

/* As it is on the disk for certain. */
static uint32_t crash_undo(struct vfs_sim *sim)
{
	struct change *last = NULL;
	uint32_t undecided = 0;

	for (struct change *change = sim->first; change != NULL; change = change->next) {
		change->back = last;
		last = change;
		undecided += !change->decided;
	}
	for (; last != NULL; last = last->back)
		if (last->kind != CHANGE_NAME && last->bytes > 0)
			memcpy(last->inode->data + last->offset, last->before, last->bytes);
	for (struct inode *inode = sim->inodes; inode != NULL; inode = inode->next)
		inode->size = inode->size_durable;
	for (uint32_t i = 0; i < sim->name_count; i++)
		sim->names[i].seen = sim->names[i].durable;
	return undecided;
}

/* What came out of it is what there is, durable, and nobody has anything open. */
static void crash_settle(struct vfs_sim *sim)
{
	while (sim->first != NULL)
		sim_changes_cut(sim, &sim->first);
	sim->used = 0;
	for (struct inode *inode = sim->inodes; inode != NULL; inode = inode->next) {
		if (inode->size < inode->capacity)
			memset(inode->data + inode->size, 0, inode->capacity - inode->size);
		inode->size_durable = inode->size;
		inode->shared = inode->exclusive = 0;
		sim->used += inode->size;
	}
	for (uint32_t i = 0; i < sim->name_count; i++)
		sim->names[i].durable = sim->names[i].seen;
	for (struct session *session = sim->sessions; session != NULL; session = session->next) {
		session->dead = true;
		session->lock_count = 0;
	}
	sim_inodes_free(sim);
}

void vfs_sim_crash(struct vfs_sim *sim, enum vfs_sim_crash how, struct prng *prng)
{
	uint32_t prefix = crash_undo(sim);

	HAUL_ASSERT(how < VFS_SIM_CRASHES);
	if (how == VFS_SIM_PREFIX)
		prefix = prng_below(prng, prefix + 1);
	for (struct change *change = sim->first; change != NULL; change = change->next) {
		bool whole = how == VFS_SIM_KEEP_ALL || (how == VFS_SIM_PREFIX && prefix > 0);
		bool chance = how == VFS_SIM_REORDER || how == VFS_SIM_TORN;

		if (change->decided)
			continue;
		prefix -= prefix > 0;
		if (chance && change->kind == CHANGE_WRITE)
			(how == VFS_SIM_REORDER ? crash_coins : crash_torn)(change, prng);
		else if (whole || (chance && prng_below(prng, 2) == 1))
			crash_whole(sim, change);
	}
	crash_settle(sim);
	sim->stopped = false;
	sim->left = UINT64_MAX;
}

/* ---- the disk ---- */

int vfs_sim_open(struct vfs_sim **ret_sim, uint64_t bytes_max, uint64_t seed)
{
	struct vfs_sim *sim = calloc(1, sizeof *sim);

	if (sim == NULL)
		return -ENOMEM;
	sim->bytes_max = bytes_max;
	sim->last = &sim->first;
	sim->left = UINT64_MAX;
	prng_init(&sim->prng, seed);
	*ret_sim = sim;
	return 0;
}

void vfs_sim_close(struct vfs_sim *sim)
{
	struct inode *inode;

	if (sim == NULL)
		return;
	HAUL_ASSERT(sim->sessions == NULL);
	while (sim->first != NULL)
		sim_changes_cut(sim, &sim->first);
	while ((inode = sim->inodes) != NULL) {
		sim->inodes = inode->next;
		free(inode->data);
		free(inode);
	}
	free(sim->names);
	free(sim);
}

struct vfs *vfs_sim_vfs(struct vfs_sim *sim)
{
	struct session *session = sim_alloc(sizeof *session);

	session->vfs.calls = &sim_calls_locked;
	session->sim = sim;
	session->next = sim->sessions;
	sim->sessions = session;
	return &session->vfs;
}

void vfs_sim_stop_after(struct vfs_sim *sim, uint64_t steps)
{
	sim->left = steps;
}

bool vfs_sim_stopped(const struct vfs_sim *sim)
{
	return sim->stopped;
}

uint64_t vfs_sim_steps(const struct vfs_sim *sim)
{
	return sim->steps;
}

void vfs_sim_fail(struct vfs_sim *sim, enum vfs_sim_call call, uint64_t skip, uint64_t count,
		  int error)
{
	HAUL_ASSERT(error < 0);
	sim->faults[call] = (struct fault){ .skip = skip, .count = count, .error = error };
}

void vfs_sim_misdirect(struct vfs_sim *sim, uint64_t skip, uint64_t offset_delta)
{
	sim->misdirect = (struct fault){ .skip = skip, .count = 1 };
	sim->misdirect_delta = offset_delta;
}

void vfs_sim_lose(struct vfs_sim *sim, uint64_t skip)
{
	sim->lose = (struct fault){ .skip = skip, .count = 1 };
}

uint8_t *vfs_sim_bytes(struct vfs_sim *sim, const char *name, uint64_t *ret_bytes)
{
	struct inode *inode = sim_name_find(sim, name);

	if (inode == NULL || inode->folder)
		return NULL;
	*ret_bytes = inode->size;
	return inode->data;
}
