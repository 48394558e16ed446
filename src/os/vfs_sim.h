/* os/vfs_sim.h — a file system in memory that keeps apart what is durable and what only looks so.
 *
 * Model      Names, sizes and sectors each have a durable and a seen state. vfs_sim_crash leaves
 *            what a power cut could: each sector written and not synced is old, new or torn by
 *            choice; each name made, renamed or removed and not synced is as before or after. Every
 *            call that changes anything counts as one step; vfs_sim_stop_after cuts the power at a
 *            step, which may be kept or not. Absolute paths are names of the same disk.
 * Threads    calls of a vfs: any; all else: one, while nobody is in such a call.
 * Errors     -EIO for all calls once stopped; faults as set. */
#pragma once

#include "base/prng.h"
#include "os/vfs.h"

enum { VFS_SIM_SECTOR = 512 };

struct vfs_sim;

int vfs_sim_open(struct vfs_sim **ret_sim, uint64_t bytes_max, uint64_t seed); /* -ENOSPC over it */
void vfs_sim_close(struct vfs_sim *sim);
/* A vfs over what there is now; one at a time is written through. close_all ends it, not the disk.
 * */
struct vfs *vfs_sim_vfs(struct vfs_sim *sim);

/* X: what of the not durable a crash leaves */
enum vfs_sim_crash {
	VFS_SIM_LOSE_ALL,
	VFS_SIM_KEEP_ALL,
	VFS_SIM_PREFIX,  /* the first n steps, n from prng */
	VFS_SIM_REORDER, /* each sector and each name by a coin */
	VFS_SIM_TORN,    /* each write: a prefix or a suffix of its sectors; garbage in between */
	VFS_SIM_CRASHES
};
void vfs_sim_crash(struct vfs_sim *sim, enum vfs_sim_crash how, struct prng *prng);
void vfs_sim_stop_after(struct vfs_sim *sim, uint64_t steps); /* UINT64_MAX = never */
bool vfs_sim_stopped(const struct vfs_sim *sim);
uint64_t vfs_sim_steps(const struct vfs_sim *sim);

/* X: calls that can be made to fail */
enum vfs_sim_call { VFS_SIM_READ, VFS_SIM_WRITE, VFS_SIM_SYNC, VFS_SIM_NAME, VFS_SIM_RESIZE };
/* After `skip` more calls of that kind, `count` fail with error. A failed write may have written
 * any part; after a failed sync the pending is seen as clean and may be lost in the next crash. */
void vfs_sim_fail(struct vfs_sim *sim, enum vfs_sim_call call, uint64_t skip, uint64_t count,
		  int error);
/* The next write goes to another place of the same file (misdirected), or nowhere (lost). */
void vfs_sim_misdirect(struct vfs_sim *sim, uint64_t skip, uint64_t offset_delta);
void vfs_sim_lose(struct vfs_sim *sim, uint64_t skip);
/* Bytes of a file as reads see them, to damage; NULL if there is none of that name. */
uint8_t *vfs_sim_bytes(struct vfs_sim *sim, const char *name, uint64_t *ret_bytes);
