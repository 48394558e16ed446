/* os/vfs_sim_state.h — what the parts of the simulated file system share.
 *
 * Model      vfs_sim_disk.c has files, names, and what of them is not durable; vfs_sim_calls.c the
 *            calls of a vfs over them, and vfs_sim_lock.c the same one at a time; vfs_sim.c crashes
 *            and faults.
 * Threads    one, but for the calls of vfs_sim_lock.c. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "os/vfs_sim.h"

enum { VFS_SIM_CALLS = VFS_SIM_RESIZE + 1, VFS_SIM_LOCKS = 4 };

struct inode {
	struct inode *next; /* all of the disk's */
	uint8_t *data;      /* zeros behind size */
	uint64_t size, capacity;
	uint64_t size_durable;
	uint32_t users; /* open files */
	uint32_t shared, exclusive;
	bool folder;
	bool marked;
};

struct name {
	char text[VFS_NAME_MAX];
	struct inode *seen, *durable; /* NULL = not there */
};

enum change_kind { CHANGE_WRITE, CHANGE_RESIZE, CHANGE_NAME };

/* Something that is seen and not durable. */
struct change {
	struct change *next, *back; /* back: during a crash */
	enum change_kind kind;
	bool decided; /* by a failed sync: nothing more of it reaches the disk */
	bool covered; /* some of its bytes have become durable otherwise */
	struct inode *inode;
	uint64_t offset, bytes; /* CHANGE_WRITE; CHANGE_RESIZE: what was cut off */
	uint64_t size;          /* of the file, after it */
	uint8_t *before, *after;
	/* CHANGE_NAME: one change or two, together */
	uint32_t names[2]; /* index; UINT32_MAX = none */
	struct inode *inodes[2];
};

struct fault {
	uint64_t skip, count;
	int error;
};

struct session;
struct vfs_sim {
	uint64_t bytes_max, used;
	struct inode *inodes;
	struct name *names;
	uint32_t name_count, name_capacity;
	struct change *first, **last;
	struct prng prng;
	struct session *sessions;
	uint64_t steps, left; /* until the power is cut */
	struct fault faults[VFS_SIM_CALLS];
	struct fault misdirect, lose; /* count 1 = set */
	uint64_t misdirect_delta;
	bool stopped;
	bool busy; /* atomic: in a call */
};

/* One vfs over the disk; dead after a crash. */
struct session {
	struct vfs vfs; /* first */
	struct vfs_sim *sim;
	struct session *next;
	struct {
		struct inode *inode;
		bool exclusive;
	} locks[VFS_SIM_LOCKS];
	uint32_t lock_count;
	bool dead;
};

struct sim_file {
	struct vfs_file file; /* first */
	struct inode *inode;
	bool read_only;
};

extern const struct vfs_calls sim_calls, sim_calls_locked;

static inline struct session *session_of(struct vfs *vfs)
{
	return (struct session *)(void *)vfs;
}

static inline struct sim_file *file_of(struct vfs_file *file)
{
	return (struct sim_file *)(void *)file;
}

/* What else could be done without memory, in a test? */
static inline void *sim_alloc(size_t bytes)
{
	void *memory = calloc(1, bytes > 0 ? bytes : 1);

	HAUL_ASSERT(memory != NULL);
	return memory;
}

/* ---- files and names ---- */
struct inode *sim_inode_new(struct vfs_sim *sim, bool folder);
/* Free the files that nothing leads to and no crash can bring back. */
void sim_inodes_free(struct vfs_sim *sim);
struct inode *sim_name_find(const struct vfs_sim *sim, const char *text);
/* Whether a name is directly in a folder; *ret_rest: its last part. */
bool sim_name_is_in(const char *text, const char *folder, const char **ret_rest);
/* Whether the folder a name is in is there. */
bool sim_name_has_home(const struct vfs_sim *sim, const char *text);

/* ---- changes: done, and put on the list ---- */
void sim_change_write_new(struct vfs_sim *sim, struct inode *inode, const uint8_t *data,
			  uint64_t bytes, uint64_t offset);
void sim_change_resize_new(struct vfs_sim *sim, struct inode *inode, uint64_t size);
/* One name or two, together; inode NULL: it is no more. */
void sim_change_name_new(struct vfs_sim *sim, const char *text, struct inode *inode,
			 const char *other, struct inode *other_inode);
/* All of one change is durable; it is off the list. */
void sim_change_sync(struct vfs_sim *sim, struct change **at);
/* All of a file, or, of a sync that failed, what chance says. */
void sim_changes_sync(struct vfs_sim *sim, const struct inode *inode, bool good);
void sim_names_sync(struct vfs_sim *sim, const char *folder);
/* Off the list, whatever became of it. */
void sim_changes_cut(struct vfs_sim *sim, struct change **at);
