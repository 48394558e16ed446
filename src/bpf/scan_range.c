#include "bpf/scan_range.h"

#include <errno.h>

int map_scan_threads(struct haul_map *map, const struct haul_map_scan *scan,
		     struct haul_map_report *report)
{
	(void)map;
	(void)scan;
	(void)report;
	return -EOPNOTSUPP;
}
