/* Tables that outlive their process: a folder of pins in bpffs, one a table.
 *
 * Promise: a folder under its own name is complete. How: it is made under "~name" and renamed, and
 * renamed back before it is emptied; "~name" is what somebody did not finish, and goes with the
 * next pin or detach. Both are done under a lock on the folder above (flock works on folders of
 * bpffs, and ends with the process).
 * bpffs takes no dots in names, interfaces do ("eth0.100"): '.' and '%' are written as %2e, %25. */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

enum { PATH_BYTES = 512, CODED_BYTES = 3 * HAUL_FLOWS_NAME + 2, NAMES_MAX = 65536 };

const char *const flow_pin_names[FLOW_PINS] = {
#define X(id, name) [id] = name,
	FLOW_PIN_LIST(X)
#undef X
};

/* ---- names ---- */

static int name_check(const char *name, struct haul_err *err)
{
	size_t bytes = strlen(name);

	if (bytes == 0 || bytes >= HAUL_FLOWS_NAME)
		return haul_err_set(err, -EINVAL, "the name \"%.40s\" must have 1 to %d bytes",
				    name, HAUL_FLOWS_NAME - 1);
	if (name[0] == '~')
		return haul_err_set(err, -EINVAL, "the name \"%s\" must not begin with '~'", name);
	for (size_t i = 0; i < bytes; i++)
		if (name[i] == '/' || (unsigned char)name[i] <= ' ' || name[i] == 127)
			return haul_err_set(err, -EINVAL,
					    "the name \"%s\" must not have slashes, spaces or "
					    "control characters",
					    name);
	return 0;
}

static void name_encode(const char *name, char coded[CODED_BYTES])
{
	size_t used = 0;

	HAUL_ASSERT(strlen(name) < HAUL_FLOWS_NAME);
	for (; *name; name++) {
		if (*name == '.' || *name == '%') {
			memcpy(coded + used, *name == '.' ? "%2e" : "%25", 3);
			used += 3;
		} else {
			coded[used++] = *name;
		}
	}
	coded[used] = 0;
}

/* What is longer than any name of ours is cut, and opening it will say so. */
static void name_decode(const char *coded, char name[HAUL_FLOWS_NAME])
{
	size_t used = 0;

	while (*coded && used + 1 < HAUL_FLOWS_NAME) {
		if (strncmp(coded, "%2e", 3) == 0 || strncmp(coded, "%25", 3) == 0) {
			name[used++] = coded[2] == 'e' ? '.' : '%';
			coded += 3;
		} else {
			name[used++] = *coded++;
		}
	}
	name[used] = 0;
}

struct paths {
	char root[PATH_BYTES];
	char done[PATH_BYTES];
	char half[PATH_BYTES];
};

static void root_path(const struct flow_env *env, char path[PATH_BYTES])
{
	(void)snprintf(path, PATH_BYTES, "%.300s/haul/flows", env->bpffs);
}

static int paths_of(const struct flow_env *env, const char *name, struct paths *paths,
		    struct haul_err *err)
{
	char coded[CODED_BYTES];
	int rc = name_check(name, err);

	if (rc < 0)
		return rc;
	name_encode(name, coded);
	root_path(env, paths->root);
	(void)snprintf(paths->done, PATH_BYTES, "%.320s/%s", paths->root, coded);
	(void)snprintf(paths->half, PATH_BYTES, "%.320s/~%s", paths->root, coded);
	return 0;
}

/* ---- bpffs ---- */

static int path_failed(struct haul_err *err, const char *path, int rc)
{
	if (rc == -EPERM || rc == -EACCES)
		return haul_err_set(err, -EPERM, "%s: needs root", path);
	return haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc));
}

/* 1: it is one; 0: it is not. */
static int is_bpffs(const char *path)
{
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return -errno;
	return (uint32_t)fs.f_type == BPF_FS_MAGIC;
}

static int bpffs_mount(const char *path, struct haul_err *err)
{
	int rc = is_bpffs(path);

	if (rc == 1)
		return 0;
	if (rc == 0 && mount("bpf", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		rc = -errno;
	if (rc < 0)
		return haul_err_set(err, rc == -EACCES ? -EPERM : rc,
				    "%s is no BPF file system, and none can be mounted there: %s",
				    path, haul_strerror(rc));
	return 0;
}

static int folders_make(const struct flow_env *env, struct haul_err *err)
{
	char path[PATH_BYTES];
	int rc = bpffs_mount(env->bpffs, err);

	if (rc < 0)
		return rc;
	(void)snprintf(path, sizeof path, "%.300s/haul", env->bpffs);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return path_failed(err, path, -errno);
	root_path(env, path);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return path_failed(err, path, -errno);
	return 0;
}

/* The folder of all tables, locked; -ENOENT when there is none. */
static int root_lock(const struct flow_env *env)
{
	char path[PATH_BYTES];
	int fd, rc;

	root_path(env, path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do
		rc = flock(fd, LOCK_EX) < 0 ? -errno : 0;
	while (rc == -EINTR);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* Only while they are empty; the lock ends with the descriptor. */
static void root_unlock(const struct flow_env *env, int fd, bool remove_empty)
{
	char path[PATH_BYTES];

	if (remove_empty) {
		root_path(env, path);
		if (rmdir(path) == 0) {
			(void)snprintf(path, sizeof path, "%.300s/haul", env->bpffs);
			(void)rmdir(path);
		}
	}
	close(fd);
}

static int folder_remove(const char *path)
{
	char file[PATH_BYTES];
	int rc = 0;

	for (int pin = 0; pin < FLOW_PINS; pin++) {
		(void)snprintf(file, sizeof file, "%.480s/%s", path, flow_pin_names[pin]);
		if (unlink(file) < 0 && errno != ENOENT)
			rc = -errno;
	}
	if (rmdir(path) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}

/* A pin's descriptor, or -errno. */
static int pin_open(const char *folder, int pin)
{
	char file[PATH_BYTES];
	int fd;

	(void)snprintf(file, sizeof file, "%.480s/%s", folder, flow_pin_names[pin]);
	fd = bpf_obj_get(file);
	return fd < 0 ? -errno : fd;
}

/* ---- pin ---- */

static int pins_make(const struct haul_flows *flows, const char *folder)
{
	char file[PATH_BYTES];

	if (mkdir(folder, 0700) < 0)
		return -errno;
	for (int pin = 0; pin < FLOW_PINS; pin++) {
		if (flows->fd[pin] < 0)
			continue;
		(void)snprintf(file, sizeof file, "%.480s/%s", folder, flow_pin_names[pin]);
		if (bpf_obj_pin(flows->fd[pin], file) < 0)
			return -errno;
	}
	return 0;
}

/* Who has that name; the text depends on whether it is the same interface. */
static int taken_by(const struct haul_flows *flows, const char *name, const char *folder,
		    struct haul_err *err)
{
	struct flow_saved saved = { 0 };
	uint32_t zero = 0;
	int fd = pin_open(folder, FLOW_INFO);

	if (fd >= 0) {
		(void)bpf_map_lookup_elem(fd, &zero, &saved);
		close(fd);
	}
	if (saved.netns_cookie != flows->saved.netns_cookie && saved.netns_cookie != 0)
		return haul_err_set(err, -EEXIST,
				    "the name \"%s\" is taken by a table on \"%.15s\" of another "
				    "network namespace: choose another name",
				    name, saved.ifname);
	return haul_err_set(err, -EEXIST,
			    "\"%s\" is attached already, to \"%.15s\": detach it first", name,
			    saved.ifname);
}

int haul_flows_pin(struct haul_flows *flows, const char *name, struct haul_err *err)
{
	struct paths paths;
	struct stat there;
	int root, rc;

	HAUL_ASSERT(flows->saved.version == FLOW_VERSION);
	if (flows->folder_fd >= 0)
		return haul_err_set(err, -EEXIST, "it is kept already, as \"%s\"",
				    flows->info.name);
	rc = paths_of(&flows->env, name, &paths, err);
	rc = rc ? rc : folders_make(&flows->env, err);
	if (rc < 0)
		return rc;
	root = root_lock(&flows->env);
	if (root < 0)
		return path_failed(err, paths.root, root);
	if (stat(paths.done, &there) == 0) {
		rc = taken_by(flows, name, paths.done, err);
		goto out;
	}
	rc = folder_remove(paths.half);
	rc = rc ? rc : pins_make(flows, paths.half);
	if (rc == 0 && rename(paths.half, paths.done) < 0)
		rc = -errno;
	if (rc == 0) {
		flows->folder_fd = open(paths.done, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = flows->folder_fd < 0 ? -errno : 0;
	}
	if (rc < 0) {
		(void)folder_remove(paths.half);
		(void)folder_remove(paths.done);
		rc = path_failed(err, paths.done, rc);
		goto out;
	}
	flows_name(flows, name);
out:
	root_unlock(&flows->env, root, rc < 0);
	return rc;
}

/* ---- open ---- */

static int map_is(int fd, uint32_t key_size, uint32_t value_size)
{
	struct bpf_map_info info = { 0 };
	uint32_t bytes = sizeof info;

	if (bpf_obj_get_info_by_fd(fd, &info, &bytes) < 0)
		return -errno;
	return info.key_size == key_size && info.value_size == value_size ? 0 : HAUL_EVERSION;
}

static int pins_check(struct haul_flows *flows)
{
	uint32_t zero = 0, id = 0;
	int rc = map_is(flows->fd[FLOW_INFO], sizeof zero, sizeof flows->saved);
	int fd;

	if (rc == 0 && bpf_map_lookup_elem(flows->fd[FLOW_INFO], &zero, &flows->saved) < 0)
		rc = -errno;
	if (rc == 0 &&
	    (flows->saved.version != FLOW_VERSION || flows->saved.bytes != sizeof flows->saved ||
	     flows->saved.hook >= FLOW_HOOKS || flows->saved.shards == 0 ||
	     flows->saved.shards > HAUL_FLOWS_SHARDS_MAX))
		rc = HAUL_EVERSION;
	rc = rc ? rc : map_is(flows->fd[FLOW_CONFIG], sizeof zero, sizeof flows->config);
	rc = rc ? rc : map_is(flows->fd[FLOW_CONTROL], sizeof zero, sizeof *flows->control);
	rc = rc ? rc
		: map_is(flows->fd[FLOW_TOTALS], sizeof zero, sizeof(uint64_t[HAUL_FLOW_TOTALS]));
	if (rc == 0 && bpf_map_lookup_elem(flows->fd[FLOW_CONFIG], &zero, &flows->config) < 0)
		rc = -errno;
	if (rc == 0 && flows->config.shard_mask != flows->saved.shards - 1)
		rc = HAUL_EVERSION;
	rc = rc ? rc : flow_slot_get(flows, 0, &id);
	if (rc < 0)
		return rc;
	fd = bpf_map_get_fd_by_id(id);
	if (fd < 0)
		return -errno;
	rc = map_is(fd, sizeof(struct haul_flow_key), sizeof(struct haul_flow_value));
	close(fd);
	return rc;
}

/* "; attached are: a, b" */
static int list_add(const char *name, void *arg)
{
	struct haul_err *list = arg;
	size_t used = strlen(list->text);

	(void)snprintf(list->text + used, sizeof list->text - used, "%s%s", used ? ", " : "", name);
	return 0;
}

static int not_attached(const struct flow_env *env, const char *name, struct haul_err *err)
{
	struct haul_err list = { 0 };

	(void)flows_each_in(env, list_add, &list, NULL);
	if (list.text[0] == 0)
		return haul_err_set(err, -ENOENT, "\"%s\" is not attached: no connection table is",
				    name);
	return haul_err_set(err, -ENOENT, "\"%s\" is not attached; attached: %.180s", name,
			    list.text);
}

static int pins_open(struct haul_flows *flows, const char *name, const char *folder,
		     struct haul_err *err)
{
	int rc = 0;

	flows->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (flows->folder_fd < 0)
		return errno == ENOENT ? not_attached(&flows->env, name, err)
				       : path_failed(err, folder, -errno);
	for (int pin = 0; pin <= FLOW_SWEEP && rc == 0; pin++) {
		/* Its timer ends with the last user of the map; we need not be one. */
		if (pin == FLOW_SWEEPER)
			continue;
		flows->fd[pin] = pin_open(folder, pin);
		rc = flows->fd[pin] < 0 ? flows->fd[pin] : 0;
	}
	rc = rc ? rc : pins_check(flows);
	if (rc == -EPERM || rc == -EACCES)
		return path_failed(err, folder, rc);
	if (rc == -ENOENT)
		return haul_err_set(err, rc,
				    "\"%s\" is not complete: somebody is detaching it, or was "
				    "interrupted; detach it",
				    name);
	if (rc < 0)
		return haul_err_set(err, HAUL_EVERSION,
				    "\"%s\" was attached by another version of haul: detach it, "
				    "and attach it again",
				    name);
	return 0;
}

int flows_open_in(struct haul_flows **ret_flows, const struct flow_env *env, const char *name,
		  struct haul_err *err)
{
	struct paths paths;
	struct haul_flows *flows;
	int rc = paths_of(env, name, &paths, err);

	if (rc < 0)
		return rc;
	flows = flows_new(env);
	if (!flows)
		return haul_err_set(err, -ENOMEM, "no memory");
	rc = pins_open(flows, name, paths.done, err);
	rc = rc ? rc : flows_init(flows, err);
	if (rc < 0) {
		haul_flows_close(flows);
		return rc;
	}
	flows_name(flows, name);
	*ret_flows = flows;
	return 0;
}

int haul_flows_open(struct haul_flows **ret_flows, const char *name, struct haul_err *err)
{
	struct flow_env env = flow_env_linux();
	return flows_open_in(ret_flows, &env, name, err);
}

/* ---- detach ---- */

/* Off the interface first, then the pins. */
static int folder_detach(const struct flow_env *env, const struct paths *paths, bool half,
			 struct haul_err *err)
{
	const char *folder = half ? paths->half : paths->done;
	struct flow_saved saved = { 0 };
	uint32_t zero = 0;
	int link[FLOW_SIDES], info, rc;

	for (int side = 0; side < FLOW_SIDES; side++)
		link[side] = pin_open(folder, FLOW_LINK_INGRESS + side);
	info = pin_open(folder, FLOW_INFO);
	if (info >= 0) {
		/* Another version's has no filters that we could tell. */
		if (map_is(info, sizeof zero, sizeof saved) == 0)
			(void)bpf_map_lookup_elem(info, &zero, &saved);
		if (saved.version != FLOW_VERSION)
			memset(&saved, 0, sizeof saved);
		close(info);
	}
	rc = flow_detach(env, link, &saved, err);
	for (int side = 0; side < FLOW_SIDES; side++)
		if (link[side] >= 0)
			close(link[side]);
	if (rc < 0)
		return rc;
	if (!half && rename(paths->done, paths->half) < 0)
		rc = -errno;
	rc = rc ? rc : folder_remove(paths->half);
	return rc < 0 ? path_failed(err, folder, rc) : 0;
}

int flows_detach_in(const struct flow_env *env, const char *name, struct haul_err *err)
{
	struct paths paths;
	struct stat there;
	bool half, done;
	int root;
	int rc = paths_of(env, name, &paths, err);

	if (rc < 0)
		return rc;
	root = root_lock(env);
	if (root == -ENOENT)
		return not_attached(env, name, err);
	if (root < 0)
		return path_failed(err, paths.root, root);
	half = stat(paths.half, &there) == 0;
	done = stat(paths.done, &there) == 0;
	if (!half && !done)
		rc = not_attached(env, name, err);
	if (half)
		rc = folder_detach(env, &paths, true, err);
	if (rc == 0 && done)
		rc = folder_detach(env, &paths, false, err);
	root_unlock(env, root, true);
	return rc;
}

int haul_flows_detach(const char *name, struct haul_err *err)
{
	struct flow_env env = flow_env_linux();
	return flows_detach_in(&env, name, err);
}

/* ---- all ---- */

static int entry_wanted(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && entry->d_name[0] != '~';
}

int flows_each_in(const struct flow_env *env, int (*visit)(const char *name, void *arg), void *arg,
		  struct haul_err *err)
{
	char path[PATH_BYTES], name[HAUL_FLOWS_NAME];
	struct dirent **entries;
	int visited = 0, stop = 0;
	int count;

	root_path(env, path);
	count = scandir(path, &entries, entry_wanted, alphasort);
	if (count < 0)
		return errno == ENOENT ? 0 : path_failed(err, path, -errno);
	for (int i = 0; i < count; i++) {
		if (!stop) {
			name_decode(entries[i]->d_name, name);
			stop = visit(name, arg);
			visited++;
		}
		free(entries[i]);
	}
	free(entries);
	return visited;
}

int haul_flows_each(int (*visit)(const char *name, void *arg), void *arg, struct haul_err *err)
{
	struct flow_env env = flow_env_linux();
	return flows_each_in(&env, visit, arg, err);
}

/* ---- who is on an interface ---- */

struct taken {
	const struct flow_env *env;
	const struct flow_interface *interface;
	char name[HAUL_FLOWS_NAME];
};

static int taken_look(const char *name, void *arg)
{
	struct taken *taken = arg;
	struct flow_saved saved = { 0 };
	struct paths paths;
	uint32_t zero = 0;
	int fd;

	if (paths_of(taken->env, name, &paths, NULL) < 0)
		return 0;
	fd = pin_open(paths.done, FLOW_INFO);
	if (fd < 0)
		return 0;
	if (map_is(fd, sizeof zero, sizeof saved) == 0)
		(void)bpf_map_lookup_elem(fd, &zero, &saved);
	close(fd);
	if (saved.ifindex != taken->interface->ifindex ||
	    saved.netns_cookie != taken->interface->netns_cookie)
		return 0;
	memcpy(taken->name, name, strlen(name) + 1);
	return 1;
}

int flow_pin_taken(const struct flow_env *env, const char *ifname,
		   const struct flow_interface *interface, struct haul_err *err)
{
	struct taken taken = { .env = env, .interface = interface };

	/* Without the right to look, loading will fail with the better text. */
	(void)flows_each_in(env, taken_look, &taken, NULL);
	if (taken.name[0] != 0)
		return haul_err_set(err, -EEXIST,
				    "\"%s\" has a connection table already, \"%s\": detach it "
				    "first",
				    ifname, taken.name);
	return 0;
}
