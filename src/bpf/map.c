/* A map of the kernel becomes a haul_map: found by id, name or path, or made; what it is like; and
 * given back. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/kernel.h"
#include "bpf/map_state.h"
#include "bpf/reader.h"

enum {
	FD_MIN = 3, /* below are the standard ones, should one of them be closed */
	NAMED_MAX = 8,
	FDINFO_BYTES = 2048,
	INNER_VALUE_BYTES = 8
};

static const struct haul_counter counters[] = {
#define X(id, name, help) [id] = { name, help },
	MAP_COUNTER_LIST(X)
#undef X
};

/* ---- what the kernel says ---- */

static int fd_by_id(struct bpf_sys *sys, uint32_t id)
{
	union bpf_attr attr = { 0 };
	attr.map_id = id;
	return sys->call(sys, BPF_MAP_GET_FD_BY_ID, &attr);
}

/* The next id after id; -ENOENT after the last. */
static int next_id(struct bpf_sys *sys, uint32_t id, uint32_t *ret_id)
{
	union bpf_attr attr = { 0 };
	attr.start_id = id;
	int rc = sys->call(sys, BPF_MAP_GET_NEXT_ID, &attr);
	if (rc == 0)
		*ret_id = attr.next_id;
	return rc;
}

/* A descriptor of a program or link answers the same question with another struct. Where there is
 * no /proc to ask, believe the caller. */
static bool fd_is_map(int fd)
{
	char path[64], target[64];
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t bytes = readlink(path, target, sizeof target - 1);
	if (bytes < 0)
		return true;
	target[bytes] = '\0';
	return strcmp(target, "anon_inode:bpf-map") == 0;
}

/* Memory and frozen stand nowhere but in /proc. Without it they stay unknown. */
static void info_proc(struct haul_map_info *info, int fd)
{
	char path[64], text[FDINFO_BYTES];
	(void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	int proc = open(path, O_RDONLY | O_CLOEXEC);
	if (proc < 0)
		return;
	ssize_t bytes = read(proc, text, sizeof text - 1);
	(void)close(proc);
	text[bytes > 0 ? bytes : 0] = '\0';
	const char *at = strstr(text, "memlock:");
	if (at)
		info->memory_bytes = strtoull(at + strlen("memlock:"), NULL, 10);
	at = strstr(text, "frozen:");
	if (at)
		info->frozen = strtoul(at + strlen("frozen:"), NULL, 10) != 0;
}

static int info_get(struct bpf_sys *sys, int fd, struct haul_map_info *ret_info)
{
	struct bpf_map_info raw = { 0 };
	union bpf_attr attr = { 0 };
	attr.info.bpf_fd = (uint32_t)fd;
	attr.info.info_len = sizeof raw;
	attr.info.info = (uint64_t)(uintptr_t)&raw;
	int rc = sys->call(sys, BPF_OBJ_GET_INFO_BY_FD, &attr);
	if (rc < 0)
		return rc;
	struct haul_map_info info = {
		.id = raw.id,
		.type = raw.type,
		.flags = raw.map_flags,
		.key_size = raw.key_size,
		.value_size = raw.value_size,
		.max_entries = raw.max_entries,
		.btf_id = raw.btf_id,
		.btf_key_id = raw.btf_key_type_id,
		.btf_value_id = raw.btf_value_type_id,
		.cpus = 1,
		.slot_bytes = raw.value_size,
	};
	if (map_type_of(raw.type)->per_cpu) {
		int cpus = libbpf_num_possible_cpus();
		if (cpus < 1)
			return cpus < 0 ? cpus : -EIO;
		info.cpus = (uint32_t)cpus;
		info.slot_bytes = info.cpus * ((raw.value_size + 7) & ~UINT32_C(7));
	}
	memcpy(info.name, raw.name, sizeof info.name - 1);
	info_proc(&info, fd);
	*ret_info = info;
	return 0;
}

/* ---- open ---- */

static int options_fill(struct haul_map_options *o, const struct haul_map_options *options,
			struct haul_err *err)
{
	*o = options ? *options : (struct haul_map_options){ 0 };
	if ((unsigned)o->engine >= HAUL_MAP_ENGINES)
		return haul_err_set(err, -EINVAL, "engine %d: unknown", (int)o->engine);
	if (o->batch > HAUL_MAP_BATCH_MAX)
		return haul_err_set(err, -EINVAL, "batch of %u entries: at most %d", o->batch,
				    HAUL_MAP_BATCH_MAX);
	if (o->call_max_ns < 0)
		return haul_err_set(err, -EINVAL,
				    "latency budget of %" PRId64 " ns: must not be negative",
				    o->call_max_ns);
	if (o->call_max_ns == 0)
		o->call_max_ns = HAUL_MAP_CALL_MAX_NS;
	return 0;
}

static int map_new(struct haul_map **ret_map, int fd, const struct haul_map_options *options,
		   struct bpf_sys *sys, struct haul_err *err)
{
	HAUL_ASSERT(fd >= 0 && sys != NULL);
	const char *name;
	struct haul_map *map = calloc(1, sizeof *map);
	if (!map)
		return haul_err_set(err, -ENOMEM, "no memory to open a map");
	map->fd = fd;
	map->sys = sys;
	map->os = os_linux();
	int rc = options_fill(&map->options, options, err);
	if (rc < 0)
		goto free_map;
	rc = fd_is_map(fd) ? info_get(sys, fd, &map->info) : -EINVAL;
	if (rc < 0) {
		(void)haul_err_set(err, rc, "descriptor %d: %s", fd,
				   rc == -EINVAL ? "not a BPF map" : haul_strerror(rc));
		goto free_map;
	}
	map_reader_init(&map->reader, map);
	map->entries = map->info.max_entries;
	name = map->info.name;
	(void)snprintf(map->stats_name, sizeof map->stats_name, name[0] ? "map.%s" : "map.%s%u",
		       name, map->info.id);
	haul_stats_init(&map->stats, map->stats_name, counters, MAP_COUNTERS);
	*ret_map = map;
	return 0;

free_map:
	free(map);
	return rc;
}

/* Takes fd over, also when it fails. */
static int map_own(struct haul_map **ret_map, int fd, const struct haul_map_options *options,
		   struct haul_err *err)
{
	int rc = map_new(ret_map, fd, options, bpf_sys_linux(), err);
	if (rc < 0)
		(void)close(fd);
	return rc;
}

int map_open_with(struct haul_map **ret_map, int fd, const struct haul_map_options *options,
		  struct bpf_sys *sys, struct haul_err *err)
{
	HAUL_ASSERT(ret_map != NULL);
	int own = fcntl(fd, F_DUPFD_CLOEXEC, FD_MIN);
	if (own < 0)
		return haul_err_set(err, -errno, "descriptor %d: %s", fd, haul_strerror(-errno));
	int rc = map_new(ret_map, own, options, sys, err);
	if (rc < 0)
		(void)close(own);
	return rc;
}

int haul_map_open_fd(struct haul_map **ret_map, int fd, const struct haul_map_options *options,
		     struct haul_err *err)
{
	return map_open_with(ret_map, fd, options, bpf_sys_linux(), err);
}

static const char *why(int rc)
{
	if (rc == -EPERM)
		return "not permitted: needs CAP_BPF, and CAP_SYS_ADMIN to find maps by id or name";
	return haul_strerror(rc);
}

static int fd_of_id(const char *text, struct haul_err *err)
{
	char *end;
	errno = 0;
	unsigned long id = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end != '\0' || errno != 0 || id > UINT32_MAX)
		return haul_err_set(err, -EINVAL, "map id '%s': a number is needed", text);
	int fd = fd_by_id(bpf_sys_linux(), (uint32_t)id);
	if (fd < 0)
		return haul_err_set(err, fd, "map id %lu: %s", id,
				    fd == -ENOENT ? "no such map; see haul map list" : why(fd));
	return fd;
}

static int fd_of_pin(const char *path, struct haul_err *err)
{
	union bpf_attr attr = { 0 };
	attr.pathname = (uint64_t)(uintptr_t)path;
	struct bpf_sys *sys = bpf_sys_linux();
	int fd = sys->call(sys, BPF_OBJ_GET, &attr);
	if (fd < 0)
		return haul_err_set(err, fd, "pinned map %s: %s", path,
				    fd == -EACCES ? "its file does not permit it" : why(fd));
	if (!fd_is_map(fd)) {
		(void)close(fd);
		return haul_err_set(err, -EINVAL, "%s: pinned, but not a map", path);
	}
	return fd;
}

/* All the ids of a name, as far as they fit; the text of an error. */
struct named {
	const char *name;
	uint32_t count;
	uint32_t id[NAMED_MAX];
};

static int named_visit(const struct haul_map_info *info, void *arg)
{
	struct named *named = arg;
	if (strcmp(info->name, named->name) != 0)
		return 0;
	if (named->count < NAMED_MAX)
		named->id[named->count] = info->id;
	named->count++;
	return 0;
}

static int fd_of_name(const char *text, struct haul_err *err)
{
	char name[HAUL_MAP_NAME];
	(void)snprintf(name, sizeof name, "%s", text); /* the kernel cuts it so, too */
	struct named named = { .name = name };
	if (name[0] == '\0')
		return haul_err_set(err, -EINVAL, "a map's name is empty");
	int rc = haul_map_each(named_visit, &named, err);
	if (rc < 0)
		return haul_err_wrap(err, rc, "map '%s'", name);
	if (named.count == 0)
		return haul_err_set(err, -ENOENT, "map '%s': no such map; see haul map list", name);
	if (named.count == 1) {
		int fd = fd_by_id(bpf_sys_linux(), named.id[0]);
		if (fd < 0)
			return haul_err_set(err, fd, "map '%s': %s", name, why(fd));
		return fd;
	}
	char ids[NAMED_MAX * 12] = "";
	size_t at = 0;
	for (uint32_t i = 0; i < named.count && i < NAMED_MAX; i++)
		at += (size_t)snprintf(ids + at, sizeof ids - at, "%s%u", i ? ", " : "",
				       named.id[i]);
	return haul_err_set(err, -EINVAL,
			    "map '%s': %u maps have this name, ids %s%s: say which id", name,
			    named.count, ids, named.count > NAMED_MAX ? " …" : "");
}

/* What follows the word and a space, or NULL. */
static const char *after_word(const char *text, const char *word)
{
	size_t bytes = strlen(word);
	if (strncmp(text, word, bytes) != 0 || text[bytes] != ' ')
		return NULL;
	text += bytes;
	return text + strspn(text, " ");
}

static int fd_of(const char *what, struct haul_err *err)
{
	const char *text = after_word(what, "id");
	if (text)
		return fd_of_id(text, err);
	text = after_word(what, "pinned");
	if (text)
		return fd_of_pin(text, err);
	text = after_word(what, "name");
	if (text)
		return fd_of_name(text, err);
	if (strchr(what, '/'))
		return fd_of_pin(what, err);
	if (what[0] != '\0' && what[strspn(what, "0123456789")] == '\0')
		return fd_of_id(what, err);
	return fd_of_name(what, err);
}

int haul_map_open(struct haul_map **ret_map, const char *what,
		  const struct haul_map_options *options, struct haul_err *err)
{
	HAUL_ASSERT(ret_map != NULL && what != NULL);
	int fd = fd_of(what, err);
	return fd < 0 ? fd : map_own(ret_map, fd, options, err);
}

/* ---- make, pin, close ---- */

static int create_fd(const struct haul_map_spec *spec, int inner_fd)
{
	struct bpf_sys *sys = bpf_sys_linux();
	union bpf_attr attr = { 0 };
	attr.map_type = spec->type;
	attr.key_size = spec->key_size;
	attr.value_size = spec->value_size;
	attr.max_entries = spec->max_entries;
	attr.map_flags = spec->flags;
	attr.inner_map_fd = inner_fd > 0 ? (uint32_t)inner_fd : 0;
	(void)snprintf(attr.map_name, sizeof attr.map_name, "%s", spec->name ? spec->name : "");
	return sys->call(sys, BPF_MAP_CREATE, &attr);
}

static int create_inner(const struct haul_map_spec *spec)
{
	const struct haul_map_spec inner = {
		.name = spec->name,
		.type = BPF_MAP_TYPE_ARRAY,
		.key_size = sizeof(uint32_t),
		.value_size = INNER_VALUE_BYTES,
		.max_entries = spec->inner_max_entries,
	};
	return create_fd(&inner, 0);
}

static int create_explain(const struct haul_map_spec *spec, int rc, struct haul_err *err)
{
	const char *name = spec->name ? spec->name : "";
	const char *type = haul_map_type_name(spec->type);
	if (rc == -EPERM)
		return haul_err_set(err, rc, "map '%s' of type %s: %s", name, type,
				    "not permitted: needs CAP_BPF");
	return haul_err_set(
		err, rc, "map '%s' of type %s, key %u, value %u bytes, %u entries, flags %#x: %s",
		name, type, spec->key_size, spec->value_size, spec->max_entries, spec->flags,
		haul_strerror(rc));
}

int haul_map_create(struct haul_map **ret_map, const struct haul_map_spec *spec,
		    const struct haul_map_options *options, struct haul_err *err)
{
	HAUL_ASSERT(ret_map != NULL && spec != NULL);
	if (spec->name && strlen(spec->name) >= HAUL_MAP_NAME)
		return haul_err_set(err, -EINVAL, "map name '%s': at most %d characters",
				    spec->name, HAUL_MAP_NAME - 1);
	int made = -1;
	int inner = spec->inner_fd;
	if (map_type_of(spec->type)->of_maps && inner <= 0) {
		inner = made = create_inner(spec);
		if (made < 0)
			return create_explain(spec, made, err);
	}
	int fd = create_fd(spec, inner);
	if (made >= 0)
		(void)close(made);
	return fd < 0 ? create_explain(spec, fd, err) : map_own(ret_map, fd, options, err);
}

int haul_map_pin(struct haul_map *map, const char *path, struct haul_err *err)
{
	HAUL_ASSERT(map != NULL && path != NULL);
	union bpf_attr attr = { 0 };
	attr.pathname = (uint64_t)(uintptr_t)path;
	attr.bpf_fd = (uint32_t)map->fd;
	int rc = map->sys->call(map->sys, BPF_OBJ_PIN, &attr);
	if (rc == 0)
		return 0;
	return haul_err_set(err, rc, "pin %s: %s", path,
			    rc == -EEXIST  ? "something is there already"
			    : rc == -EPERM ? "needs CAP_BPF, and a folder on a bpf filesystem "
					     "(mount -t bpf bpf /sys/fs/bpf)"
					   : haul_strerror(rc));
}

void haul_map_close(struct haul_map *map)
{
	if (!map)
		return;
	map_kernel_close(map);
	map_reader_done(&map->reader);
	HAUL_ASSERT(map->fd >= 0);
	(void)close(map->fd);
	free(map);
}

/* ---- what it is like ---- */

const struct haul_map_info *haul_map_info(const struct haul_map *map)
{
	HAUL_ASSERT(map != NULL);
	return &map->info;
}

int haul_map_fd(const struct haul_map *map)
{
	HAUL_ASSERT(map != NULL);
	return map->fd;
}

struct haul_stats *haul_map_stats(struct haul_map *map)
{
	HAUL_ASSERT(map != NULL);
	return &map->stats;
}

int haul_map_each(int (*visit)(const struct haul_map_info *info, void *arg), void *arg,
		  struct haul_err *err)
{
	HAUL_ASSERT(visit != NULL);
	struct bpf_sys *sys = bpf_sys_linux();
	uint32_t id = 0;
	int rc;
	while ((rc = next_id(sys, id, &id)) == 0) {
		struct haul_map_info info;
		int fd = fd_by_id(sys, id);
		if (fd == -ENOENT)
			continue; /* gone since */
		if (fd < 0)
			return haul_err_set(err, fd, "map id %u: %s", id, why(fd));
		rc = info_get(sys, fd, &info);
		(void)close(fd);
		if (rc < 0)
			return haul_err_set(err, rc, "map id %u: %s", id, why(rc));
		rc = visit(&info, arg);
		if (rc != 0)
			return rc;
	}
	return rc == -ENOENT ? 0 : haul_err_set(err, rc, "list of maps: %s", why(rc));
}
