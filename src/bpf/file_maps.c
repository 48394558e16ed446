#include "bpf/file_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

enum {
	DEFAULT_BLOCK_BYTES_MAX = 16 << 20, /* large values: fewer of them in a block */
	BOOT_ID_TEXT_BYTES = 36
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_boot_id(uint8_t ret_id[FILE_BOOT_ID_BYTES], struct haul_err *err)
{
	static const char path[] = "/proc/sys/kernel/random/boot_id";
	char text[BOOT_ID_TEXT_BYTES + 1] = { 0 };
	uint8_t id[FILE_BOOT_ID_BYTES] = { 0 };
	uint32_t digits = 0;
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t bytes = fd < 0 ? -1 : read(fd, text, BOOT_ID_TEXT_BYTES);
	const int rc = bytes < 0 ? -errno : 0;

	if (fd >= 0)
		(void)close(fd);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s; a map file names the boot it was written in",
				    path, haul_strerror(rc));
	for (const char *c = text; *c != 0 && digits < 2 * FILE_BOOT_ID_BYTES; c++) {
		const int digit = hex_digit(*c);
		if (digit < 0)
			continue;
		id[digits / 2] = (uint8_t)(id[digits / 2] << 4 | digit);
		digits++;
	}
	if (digits < 2 * FILE_BOOT_ID_BYTES)
		return haul_err_set(err, -EINVAL, "%s: \"%s\" is not 32 hexadecimal digits", path,
				    text);
	memcpy(ret_id, id, sizeof id);
	return 0;
}

static uint32_t buckets_of(const struct haul_map_info *info)
{
	uint64_t buckets = 1;

	if (map_type_of(info->type)->cursor != MAP_CURSOR_BUCKET)
		return 0;
	while (buckets < info->max_entries)
		buckets *= 2;
	return (uint32_t)buckets;
}

static int check_type(const struct haul_map_info *info, struct haul_err *err)
{
	const struct map_type *type = map_type_of(info->type);

	if (type->of_maps)
		return haul_err_set(err, -ENOTSUP,
				    "map %s (id %u): its values are maps of this kernel, which a "
				    "file cannot hold; export the inner maps",
				    info->name, info->id);
	if (type->cursor == MAP_CURSOR_NONE || !type->batch_lookup)
		return haul_err_set(err, -ENOTSUP,
				    "map %s (id %u): a map of type %s cannot be read in batches",
				    info->name, info->id, haul_map_type_name(info->type));
	if (info->value_size == 0 || info->key_size == 0 || info->key_size > HAUL_MAP_KEY_MAX)
		return haul_err_set(err, -ENOTSUP,
				    "map %s (id %u): keys of %u and values of %u bytes; a file "
				    "holds keys of 1 to %d and values of at least 1",
				    info->name, info->id, info->key_size, info->value_size,
				    (int)HAUL_MAP_KEY_MAX);
	return 0;
}

static int check_maps(const struct file_maps *maps, struct haul_err *err)
{
	if (maps->count == 0 || maps->count > HAUL_MAP_FILE_MAPS)
		return haul_err_set(err, -EINVAL, "%u maps; a map file holds 1 to %d", maps->count,
				    (int)HAUL_MAP_FILE_MAPS);
	const struct haul_map_info *first = haul_map_info(maps->maps[0]);
	for (uint32_t i = 0; i < maps->count; i++) {
		const struct haul_map_info *info = haul_map_info(maps->maps[i]);
		int rc = check_type(info, err);
		if (rc < 0)
			return rc;
		if (info->type != first->type || info->key_size != first->key_size ||
		    info->value_size != first->value_size || info->cpus != first->cpus)
			return haul_err_set(err, -EINVAL,
					    "maps %s (id %u) and %s (id %u) differ in type or "
					    "sizes; the maps of one file are alike",
					    first->name, first->id, info->name, info->id);
	}
	return 0;
}

static uint32_t default_block(const struct haul_map_info *info)
{
	const uint32_t fit = DEFAULT_BLOCK_BYTES_MAX / (info->key_size + info->slot_bytes);

	if (fit >= HAUL_MAP_FILE_BLOCK)
		return HAUL_MAP_FILE_BLOCK;
	return fit > FILE_BLOCK_ENTRIES_MIN ? fit : FILE_BLOCK_ENTRIES_MIN;
}

int file_header_new(struct file_header *ret_header, const struct file_maps *maps,
		    uint32_t block_entries, struct haul_err *err)
{
	int rc = check_maps(maps, err);

	if (rc < 0)
		return rc;
	if (block_entries != 0 &&
	    (block_entries < FILE_BLOCK_ENTRIES_MIN || block_entries > HAUL_MAP_FILE_BLOCK_MAX))
		return haul_err_set(err, -EINVAL, "%u entries a block; right is %d to %d",
				    block_entries, (int)FILE_BLOCK_ENTRIES_MIN,
				    (int)HAUL_MAP_FILE_BLOCK_MAX);
	const struct haul_map_info *info = haul_map_info(maps->maps[0]);
	struct file_header header = {
		.flags = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? FILE_BIG_ENDIAN : 0,
		.map_type = info->type,
		.key_size = info->key_size,
		.value_size = info->value_size,
		.slot_bytes = info->slot_bytes,
		.cpus = info->cpus,
		.block_entries = block_entries != 0 ? block_entries : default_block(info),
		.map_count = maps->count,
	};
	rc = read_boot_id(header.boot_id, err);
	if (rc < 0)
		return rc;
	header.maps = calloc(maps->count, sizeof *header.maps);
	if (header.maps == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for %u maps", maps->count);
	for (uint32_t i = 0; i < maps->count; i++) {
		struct file_map *map = &header.maps[i];
		info = haul_map_info(maps->maps[i]);
		map->id = info->id;
		map->max_entries = info->max_entries;
		map->flags = info->flags;
		map->buckets = buckets_of(info);
		memcpy(map->name, info->name, HAUL_MAP_NAME - 1);
	}
	*ret_header = header;
	return 0;
}

void file_header_free(struct file_header *header)
{
	free(header->maps);
	header->maps = NULL;
}

int file_maps_same(const struct file_header *theirs, const struct file_header *ours,
		   const char *name, struct haul_err *err)
{
	if (memcmp(theirs->boot_id, ours->boot_id, FILE_BOOT_ID_BYTES) != 0)
		return haul_err_set(err, HAUL_ESTALE,
				    "%s: begun before this machine was booted; its maps are gone, "
				    "so it cannot be gone on with: start anew (overwrite)",
				    name);
	if (theirs->map_count != ours->map_count)
		return haul_err_set(err, HAUL_ESTALE,
				    "%s: an export of %u maps, not of %u; resume wants the same",
				    name, theirs->map_count, ours->map_count);
	for (uint32_t i = 0; i < ours->map_count; i++) {
		const struct file_map *their = &theirs->maps[i], *our = &ours->maps[i];
		if (their->id != our->id)
			return haul_err_set(err, HAUL_ESTALE,
					    "%s: an export of map %s (id %u), not of %s (id %u); "
					    "resume wants the same",
					    name, their->name, their->id, our->name, our->id);
		if (memcmp(their, our, sizeof *our) != 0)
			return haul_err_set(err, HAUL_ESTALE,
					    "%s: map %s (id %u) had other limits or flags", name,
					    our->name, our->id);
	}
	if (theirs->map_type != ours->map_type || theirs->key_size != ours->key_size ||
	    theirs->value_size != ours->value_size || theirs->slot_bytes != ours->slot_bytes ||
	    theirs->cpus != ours->cpus || theirs->flags != ours->flags)
		return haul_err_set(err, HAUL_ESTALE,
				    "%s: the maps had another type or other sizes", name);
	return 0;
}

/* Types whose entries mean the same, so that one's file goes into the other. */
static uint32_t family_of(uint32_t type)
{
	switch (type) {
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return BPF_MAP_TYPE_HASH;
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return BPF_MAP_TYPE_ARRAY;
	default:
		return type;
	}
}

int file_maps_fit(const struct file_header *header, const struct file_maps *maps, const char *name,
		  struct haul_err *err)
{
	struct file_header ours = { 0 };
	int rc = file_header_new(&ours, maps, 0, err);

	if (rc < 0)
		return rc;
	file_header_free(&ours);
	if (header->map_count != ours.map_count)
		return haul_err_set(err, -EINVAL, "%s: holds %u maps, not %u", name,
				    header->map_count, ours.map_count);
	if (header->flags != ours.flags)
		return haul_err_set(err, -EINVAL,
				    "%s: written on a machine of the other byte order", name);
	if (family_of(header->map_type) != family_of(ours.map_type))
		return haul_err_set(err, -EINVAL,
				    "%s: holds a map of type %s, which does not go into one of "
				    "type %s",
				    name, haul_map_type_name(header->map_type),
				    haul_map_type_name(ours.map_type));
	if (header->key_size != ours.key_size || header->value_size != ours.value_size)
		return haul_err_set(err, -EINVAL,
				    "%s: keys of %u and values of %u bytes; the map has keys of "
				    "%u and values of %u",
				    name, header->key_size, header->value_size, ours.key_size,
				    ours.value_size);
	if (header->cpus != ours.cpus || header->slot_bytes != ours.slot_bytes)
		return haul_err_set(err, -EINVAL,
				    "%s: %u values an entry (one a CPU), the map has %u here", name,
				    header->cpus, ours.cpus);
	return 0;
}
