#include "bpf/kernel.h"

#include <errno.h>
#include <stdio.h>

#include "base/assert.h"

int map_kernel_open(struct haul_map *map)
{
	HAUL_ASSERT(map);
	if (map->kernel_error == 0) {
		map->kernel_error = -ENOTSUP;
		(void)snprintf(map->kernel_why, sizeof map->kernel_why,
			       "the kernel engine's program is not built yet");
	}
	return map->kernel_error;
}

void map_kernel_close(struct haul_map *map)
{
	HAUL_ASSERT(map);
}

static bool kernel_can(const struct haul_map *map, enum haul_map_op op, const char **ret_why)
{
	(void)map;
	(void)op;
	*ret_why = "the kernel engine's program is not built yet";
	return false;
}

const struct map_engine map_engine_kernel = { .id = HAUL_MAP_KERNEL, .can = kernel_can };
