/* os/vfs_lab.h — every kind of vfs on an empty folder of its own, for tests that run over all. */
#pragma once

#include "lib/testlib.h"
#include "os/vfs_sim.h"

struct vfs_lab_kind {
	const char *name;
	bool sim;
	const char *folder; /* under which the real one has its own; NULL = TMPDIR or /var/tmp */
};

/* A file system with direct I/O, one without, the simulated one. Returns how many are here. */
enum { VFS_LAB_KINDS = 3 };
uint32_t vfs_lab_kinds(struct vfs_lab_kind kinds[VFS_LAB_KINDS]);

struct vfs_lab {
	struct vfs_sim *sim; /* NULL with the real ones */
	struct vfs *vfs;
	char folder[192];
	uint8_t *data; /* 1 MiB, aligned */
	uint8_t *back;
};
enum { VFS_LAB_DATA = 1 << 20, VFS_LAB_DISK = 64 << 20 };

void vfs_lab_open(struct vfs_lab *lab, const struct vfs_lab_kind *kind);
void vfs_lab_close(struct vfs_lab *lab);
/* One more vfs over the same folder. */
struct vfs *vfs_lab_another(struct vfs_lab *lab);
/* Remove a folder and what is in it, two levels deep. */
void vfs_lab_remove(const char *folder);
