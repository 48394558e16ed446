#include "os/vfs_lab.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

uint32_t vfs_lab_kinds(struct vfs_lab_kind kinds[VFS_LAB_KINDS])
{
	uint32_t count = 0;

	kinds[count++] = (struct vfs_lab_kind){ .name = "disk" };
	if (access("/dev/shm", W_OK) == 0)
		kinds[count++] = (struct vfs_lab_kind){ .name = "tmpfs", .folder = "/dev/shm" };
	kinds[count++] = (struct vfs_lab_kind){ .name = "simulated", .sim = true };
	return count;
}

void vfs_lab_open(struct vfs_lab *lab, const struct vfs_lab_kind *kind)
{
	const char *folder = kind->folder != NULL ? kind->folder : getenv("TMPDIR");

	memset(lab, 0, sizeof *lab);
	assert_int_equal(posix_memalign((void **)&lab->data, VFS_ALIGN, VFS_LAB_DATA), 0);
	assert_int_equal(posix_memalign((void **)&lab->back, VFS_ALIGN, VFS_LAB_DATA), 0);
	memset(lab->data, 0, VFS_LAB_DATA);
	if (kind->sim) {
		assert_int_equal(vfs_sim_open(&lab->sim, VFS_LAB_DISK, 1), 0);
	} else {
		snprintf(lab->folder, sizeof lab->folder, "%s/haul-vfs-XXXXXX",
			 folder != NULL ? folder : "/var/tmp");
		assert_non_null(mkdtemp(lab->folder));
	}
	lab->vfs = vfs_lab_another(lab);
}

struct vfs *vfs_lab_another(struct vfs_lab *lab)
{
	struct vfs *vfs = NULL;

	if (lab->sim != NULL)
		return vfs_sim_vfs(lab->sim);
	assert_int_equal(vfs_linux_open(&vfs, lab->folder), 0);
	return vfs;
}

static void remove_level(const char *folder, int depth)
{
	char path[512];
	const struct dirent *entry;
	DIR *dir = opendir(folder);

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		if (unlink(path) != 0 && depth > 0)
			remove_level(path, depth - 1);
	}
	if (dir != NULL)
		closedir(dir);
	rmdir(folder);
}

void vfs_lab_remove(const char *folder)
{
	remove_level(folder, 1);
}

void vfs_lab_close(struct vfs_lab *lab)
{
	VFS_CALL(lab->vfs, close_all, lab->vfs);
	vfs_sim_close(lab->sim);
	if (lab->sim == NULL)
		vfs_lab_remove(lab->folder);
	free(lab->data);
	free(lab->back);
}
