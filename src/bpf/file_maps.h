/* bpf/file_maps.h — what a map file says of the maps it is of, and whether it fits given ones.
 *
 * Model      A header is made of maps; a header that was read is compared with maps. A resumed
 *            export wants the very same maps of the very same boot, an import only the same sizes.
 * Ownership  a header made here owns its maps: file_header_free.
 * Threads    any, on maps nobody else uses.
 * Errors     with text. file_maps_same: HAUL_ESTALE. file_maps_fit: -EINVAL. */
#pragma once

#include "bpf/file_format.h"
#include "bpf/map_state.h"

struct file_maps {
	struct haul_map *const *maps;
	uint32_t count;
};

/* -ENOTSUP: types that cannot be in a file. block_entries 0: the default. */
int file_header_new(struct file_header *ret_header, const struct file_maps *maps,
		    uint32_t block_entries, struct haul_err *err);
void file_header_free(struct file_header *header);

int file_maps_same(const struct file_header *theirs, const struct file_header *ours,
		   const char *name, struct haul_err *err);
int file_maps_fit(const struct file_header *header, const struct file_maps *maps, const char *name,
		  struct haul_err *err);
