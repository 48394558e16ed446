/* store/media_lab.h — a media over a simulated disk, and its set-up for cmocka.
 *
 * Model      media_lab_empty has a disk with nothing on it, media_lab_made an open store. `data` is
 *            a pattern to be written, `back` has room to read into.
 * Threads    one, but for the calls of the media. Errors: asserts. */
#pragma once

#include "lib/testlib.h"
#include "os/vfs_sim.h"
#include "store/media_state.h"

enum {
	MEDIA_LAB_DISK = 32 << 20,
	MEDIA_LAB_BLOCK = MEDIA_ALIGN,
	MEDIA_LAB_SEGMENT = 8 * MEDIA_LAB_BLOCK,
	MEDIA_LAB_DATA = 1 << 20,
};

struct media_lab {
	struct vfs_sim *disk;
	struct vfs *vfs;
	struct media *media;
	struct haul_err err;
	uint8_t *data, *back; /* MEDIA_LAB_DATA bytes each */
};

/* 0 or what media_file_open says: then err has a text, and nothing is open. */
int media_lab_open(struct media_lab *lab, enum media_mode mode);
void media_lab_close(struct media_lab *lab);
int media_lab_again(struct media_lab *lab, enum media_mode mode);
/* The power is cut, in one of the ways of enum vfs_sim_crash; closed. */
void media_lab_crash(struct media_lab *lab, int how, uint64_t seed);
/* For the vfs's list: counts names into a uint32_t. */
int media_lab_count_name(const char *name, void *arg);

/* For cmocka: *state is a lab. */
int media_lab_empty(void **state);
int media_lab_made(void **state);
int media_lab_teardown(void **state);
