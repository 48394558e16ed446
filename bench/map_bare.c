#include "map_bare.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the commands on one element have in common. */
enum { ATTR_BYTES = offsetof(union bpf_attr, flags) + sizeof(__u64) };

static inline int call(struct map_bare *one, int cmd)
{
	one->calls++;
	return syscall(SYS_bpf, cmd, &one->attr, ATTR_BYTES) < 0 ? -errno : 0;
}

void map_bare_init(struct map_bare *one, int fd)
{
	memset(one, 0, sizeof *one);
	one->attr.map_fd = (uint32_t)fd;
}

int map_bare_get(struct map_bare *one, const struct haul_flow_key *key,
		 struct haul_flow_value *ret_value)
{
	one->attr.key = (uintptr_t)key;
	one->attr.value = (uintptr_t)ret_value;
	return call(one, BPF_MAP_LOOKUP_ELEM);
}

int map_bare_put(struct map_bare *one, const struct haul_flow_key *key,
		 const struct haul_flow_value *value, uint64_t flags)
{
	one->attr.key = (uintptr_t)key;
	one->attr.value = (uintptr_t)value;
	one->attr.flags = flags;
	return call(one, BPF_MAP_UPDATE_ELEM);
}

int map_bare_delete(struct map_bare *one, const struct haul_flow_key *key)
{
	one->attr.key = (uintptr_t)key;
	return call(one, BPF_MAP_DELETE_ELEM);
}

void map_bare_walk_init(struct map_bare_walk *walk, int fd)
{
	map_bare_init(&walk->next, fd);
	map_bare_init(&walk->get, fd);
	walk->at = 1;
}

int map_bare_walk_next(struct map_bare_walk *walk, const struct haul_flow_key **ret_key)
{
	int rc;
	do {
		walk->at ^= 1;
		walk->next.attr.next_key = (uintptr_t)&walk->keys[walk->at];
		rc = call(&walk->next, BPF_MAP_GET_NEXT_KEY);
		walk->next.attr.key = (uintptr_t)&walk->keys[walk->at];
		if (rc >= 0)
			rc = map_bare_get(&walk->get, &walk->keys[walk->at], &walk->value);
		else if (rc == -ENOENT)
			return 0;
		else
			return rc;
	} while (rc == -ENOENT); /* deleted between the two calls */
	*ret_key = &walk->keys[walk->at];
	return rc < 0 ? rc : 1;
}
