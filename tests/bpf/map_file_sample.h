/* tests/bpf/map_file_sample.h — map files in memory, for tests and the fuzz target. */
#pragma once

#include "base/prng.h"
#include "bpf/file_read.h"

enum {
	MAP_FILE_SAMPLE_MAPS = 3,
	MAP_FILE_SAMPLE_BYTES_MAX = 64 << 10,
	MAP_FILE_SAMPLE_PIECES_MAX = 32
};

/* Bytes as a source; the data stays the caller's. */
struct map_file_memory {
	struct file_source source;
	const uint8_t *data;
	uint64_t reads_until_failure; /* 0: none fails; n: the n-th gives -EIO */
};
void map_file_memory_init(struct map_file_memory *memory, const uint8_t *data, size_t bytes);

struct map_file_sample {
	uint8_t data[MAP_FILE_SAMPLE_BYTES_MAX];
	uint32_t bytes;
	/* where the header, each block and the end mark begin; [pieces] = bytes */
	uint32_t starts[MAP_FILE_SAMPLE_PIECES_MAX + 1];
	uint32_t pieces;
	uint64_t entries;
};
/* maps 1 … 3; keys, values and block sizes from the sequence. Complete and right. */
void map_file_sample_make(struct map_file_sample *sample, uint32_t maps, struct prng *prng);

/* Put right every checksum that structure leads to, as far as it goes; totals too. */
void map_file_repair(uint8_t *data, size_t bytes);
