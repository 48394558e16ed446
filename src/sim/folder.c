#include "sim/folder.h"

#include <errno.h>
#include <ftw.h>
#include <paths.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

enum { DEPTH_FDS = 8, NAME_BYTES = 256, ATTEMPTS_MAX = 8 };

static const char prefix[] = "haul-sim-";

static const char *parent(void)
{
	const char *dir = getenv("TMPDIR");

	return dir != NULL && *dir == '/' ? dir : _PATH_TMP;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	/* What cannot be removed stays; the rest still goes. */
	(void)remove(path);
	return 0;
}

static void remove_tree(const char *path)
{
	(void)nftw(path, remove_entry, DEPTH_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* The lock, if nobody has it and the folder is ours. */
static DIR *lock_folder(const char *path)
{
	struct stat st;
	DIR *dir;

	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return NULL;
	dir = opendir(path);
	if (dir == NULL)
		return NULL;
	if (fstat(dirfd(dir), &st) == 0 && st.st_uid == geteuid() &&
	    flock(dirfd(dir), LOCK_EX | LOCK_NB) == 0)
		return dir;
	(void)closedir(dir);
	return NULL;
}

static void remove_left_behind(void)
{
	DIR *all = opendir(parent());
	const struct dirent *entry;
	char path[NAME_BYTES + NAME_BYTES];

	if (all == NULL)
		return;
	while ((entry = readdir(all)) != NULL) {
		if (strncmp(entry->d_name, prefix, sizeof prefix - 1) != 0)
			continue;
		(void)snprintf(path, sizeof path, "%.255s/%.255s", parent(), entry->d_name);
		folder_close(path, lock_folder(path));
	}
	(void)closedir(all);
}

int folder_open(char *path, size_t path_bytes, DIR **ret_lock, struct haul_err *err)
{
	remove_left_behind();
	for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
		DIR *dir;

		if ((size_t)snprintf(path, path_bytes, "%s/%sXXXXXX", parent(), prefix) >=
		    path_bytes)
			return haul_err_set(err, -ENAMETOOLONG, "TMPDIR: %s: name is too long",
					    parent());
		if (mkdtemp(path) == NULL)
			return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
		/* Somebody who tidies up just now may have taken it for left behind. */
		dir = lock_folder(path);
		if (dir != NULL) {
			*ret_lock = dir;
			return 0;
		}
		(void)rmdir(path);
	}
	return haul_err_set(err, -EBUSY, "%s: cannot be locked", path);
}

void folder_close(const char *path, DIR *lock)
{
	if (lock == NULL)
		return;
	HAUL_ASSERT(strstr(path, prefix) != NULL);
	remove_tree(path);
	(void)closedir(lock);
}
