/* tests/bpf/map_file_lab.h — a folder, maps with contents, and their comparison. */
#pragma once

#include <haul/map_file.h>
#include "base/prng.h"

enum { MAP_FILE_LAB_PATH = 128 };

struct map_file_lab {
	char folder[64]; /* on a tmpfs of this process's own, gone with it */
};
/* size as mount(2) takes it, "8m"; ends the test program as skipped without privilege. */
void map_file_lab_open(struct map_file_lab *lab, const char *size);
void map_file_lab_close(struct map_file_lab *lab);
const char *map_file_lab_path(const struct map_file_lab *lab, const char *name,
			      char ret_path[MAP_FILE_LAB_PATH]);

/* Fails the test when it cannot be made. LPM tries get the flag they need. */
struct haul_map *map_file_lab_map(uint32_t type, uint32_t key_size, uint32_t value_size,
				  uint32_t max_entries);
/* count entries with keys and values from the sequence (arrays: the first count indices). */
void map_file_lab_fill(struct haul_map *map, uint32_t count, struct prng *prng);

/* A hash map with count entries in one bucket of 256, and as many in the others. */
struct haul_map *map_file_lab_lopsided(uint32_t count);

struct map_file_contents {
	uint8_t *entries; /* key, value; sorted */
	uint32_t count, entry_bytes;
};
void map_file_contents_load(struct map_file_contents *contents, struct haul_map *map);
void map_file_contents_free(struct map_file_contents *contents);
/* Fails the test unless the map holds just these. */
void assert_map_holds(struct haul_map *map, const struct map_file_contents *contents);

struct file_bytes {
	uint8_t *data;
	size_t bytes;
};
void file_bytes_load(struct file_bytes *file, const char *path);
void file_bytes_store(const struct file_bytes *file, const char *path);
void file_bytes_free(struct file_bytes *file);
void assert_file_is(const char *path, const struct file_bytes *file);
