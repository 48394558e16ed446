#include "media_lab.h"

#include <stdlib.h>
#include <string.h>

int media_lab_open(struct media_lab *lab, enum media_mode mode)
{
	const struct media_options options = { .mode = mode, .segment_bytes = MEDIA_LAB_SEGMENT };
	int rc;

	lab->vfs = vfs_sim_vfs(lab->disk);
	lab->err = (struct haul_err){ 0 };
	rc = media_file_open(&lab->media, lab->vfs, &options, &lab->err);
	if (rc < 0) {
		assert_int_equal(lab->err.code, rc);
		assert_true(strlen(lab->err.text) > 10);
		VFS_CALL(lab->vfs, close_all, lab->vfs);
		lab->vfs = NULL;
	}
	return rc;
}

void media_lab_close(struct media_lab *lab)
{
	if (lab->media != NULL)
		lab->media->calls->close(lab->media);
	if (lab->vfs != NULL)
		VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->media = NULL;
	lab->vfs = NULL;
}

int media_lab_again(struct media_lab *lab, enum media_mode mode)
{
	media_lab_close(lab);
	return media_lab_open(lab, mode);
}

int media_lab_empty(void **state)
{
	struct media_lab *lab = calloc(1, sizeof *lab);

	assert_non_null(lab);
	assert_int_equal(vfs_sim_open(&lab->disk, MEDIA_LAB_DISK, 1), 0);
	assert_int_equal(posix_memalign((void **)&lab->data, MEDIA_LAB_BLOCK, MEDIA_LAB_DATA), 0);
	assert_int_equal(posix_memalign((void **)&lab->back, MEDIA_LAB_BLOCK, MEDIA_LAB_DATA), 0);
	for (uint32_t i = 0; i < MEDIA_LAB_DATA; i++)
		lab->data[i] = (uint8_t)(i / 7 + i / MEDIA_LAB_BLOCK);
	*state = lab;
	return 0;
}

int media_lab_made(void **state)
{
	int rc = media_lab_empty(state);

	return rc == 0 ? media_lab_open(*state, MEDIA_MAKE) : rc;
}

int media_lab_teardown(void **state)
{
	struct media_lab *lab = *state;

	media_lab_close(lab);
	vfs_sim_close(lab->disk);
	free(lab->data);
	free(lab->back);
	free(lab);
	return 0;
}

void media_lab_crash(struct media_lab *lab, int how, uint64_t seed)
{
	struct prng prng;

	prng_init(&prng, seed);
	vfs_sim_crash(lab->disk, (enum vfs_sim_crash)how, &prng);
	media_lab_close(lab);
}

int media_lab_count_name(const char *name, void *arg)
{
	(void)name;
	++*(uint32_t *)arg;
	return 0;
}
