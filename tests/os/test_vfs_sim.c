/* The simulated file system: what a power cut may leave, and what may go wrong before it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/vfs_lab.h"

enum { BLOCK = VFS_ALIGN, SECTOR = VFS_SIM_SECTOR, SEEDS = 64 };

static const struct vfs_lab_kind simulated = { .name = "simulated", .sim = true };

static int sim_setup(void **state)
{
	struct vfs_lab *lab = calloc(1, sizeof *lab);

	assert_non_null(lab);
	vfs_lab_open(lab, &simulated);
	*state = lab;
	return 0;
}

static int sim_teardown(void **state)
{
	vfs_lab_close(*state);
	free(*state);
	return 0;
}

/* A file whose name and first blocks are durable, full of `value`. */
static struct vfs_file *make(struct vfs_lab *lab, const char *name, uint32_t blocks, uint8_t value)
{
	struct vfs_file *file = NULL;

	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, name, VFS_CREATE, true, &file), 0);
	memset(lab->data, value, (size_t)blocks * BLOCK);
	if (blocks > 0)
		assert_int_equal(VFS_CALL(lab->vfs, write, file, lab->data, (size_t)blocks * BLOCK,
					  0, false),
				 0);
	assert_int_equal(VFS_CALL(lab->vfs, sync, file), 0);
	assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	return file;
}

static int put(struct vfs_lab *lab, struct vfs_file *file, uint64_t offset, uint8_t value,
	       bool durable)
{
	memset(lab->data, value, BLOCK);
	return VFS_CALL(lab->vfs, write, file, lab->data, BLOCK, offset, durable);
}

static uint8_t *bytes(struct vfs_lab *lab, const char *name)
{
	uint64_t count;

	return vfs_sim_bytes(lab->sim, name, &count);
}

/* What was open is closed by its owner, whose calls fail, and there is a new vfs. */
static void crash(struct vfs_lab *lab, enum vfs_sim_crash how, uint64_t seed)
{
	struct prng prng;

	prng_init(&prng, seed);
	vfs_sim_crash(lab->sim, how, &prng);
	VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->vfs = vfs_sim_vfs(lab->sim);
}

/* ---- crashes ---- */

/* Without a sync nothing has to be there, and all of it may be. */
static void test_vfs_sim_crash__loses_all_or_keeps_all(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs_file *file = make(lab, "a", 2, 1);

	assert_int_equal(put(lab, file, 0, 2, false), 0);
	assert_int_equal(put(lab, file, 2 * BLOCK, 3, false), 0);
	VFS_CALL(lab->vfs, close, file);
	crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_int_equal(bytes(lab, "a")[0], 1);
	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, "a", VFS_WRITE, true, &file), 0);
	assert_int_equal(VFS_CALL(lab->vfs, size, file), 2 * BLOCK);
	assert_int_equal(put(lab, file, 0, 4, false), 0);
	assert_int_equal(put(lab, file, 2 * BLOCK, 5, false), 0);
	VFS_CALL(lab->vfs, close, file);
	crash(lab, VFS_SIM_KEEP_ALL, 1);
	assert_int_equal(bytes(lab, "a")[0], 4);
	assert_int_equal(bytes(lab, "a")[2 * BLOCK], 5);
}

/* What was synced, or written durably, is there after every kind of crash. */
static void test_vfs_sim_crash__what_is_durable_stays(void **state)
{
	struct vfs_lab *lab = *state;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			struct vfs_file *file = make(lab, "a", 3, 1);

			assert_int_equal(put(lab, file, 0, 2, true), 0);
			assert_int_equal(put(lab, file, BLOCK, 3, false), 0);
			assert_int_equal(VFS_CALL(lab->vfs, sync, file), 0);
			assert_int_equal(put(lab, file, 2 * BLOCK, 4, false), 0);
			VFS_CALL(lab->vfs, close, file);
			crash(lab, (enum vfs_sim_crash)how, seed);
			for (uint32_t at = 0; at < BLOCK; at++) {
				assert_int_equal(bytes(lab, "a")[at], 2);
				assert_int_equal(bytes(lab, "a")[BLOCK + at], 3);
			}
			assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
			assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
		}
	}
}

/* A durable write is durable over an older one that is not: that one does not come back. */
static void test_vfs_sim_crash__durable_over_what_is_not(void **state)
{
	struct vfs_lab *lab = *state;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			struct vfs_file *file = make(lab, "a", 2, 1);

			memset(lab->data, 2, 2 * BLOCK);
			assert_int_equal(
				VFS_CALL(lab->vfs, write, file, lab->data, 2 * BLOCK, 0, false), 0);
			assert_int_equal(put(lab, file, BLOCK, 3, true), 0);
			VFS_CALL(lab->vfs, close, file);
			crash(lab, (enum vfs_sim_crash)how, seed);
			for (uint32_t at = 0; at < BLOCK; at++)
				assert_int_equal(bytes(lab, "a")[BLOCK + at], 3);
			assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
			assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
		}
	}
}

/* A prefix is one: what is there of a later write means that all of an earlier one is. */
static void test_vfs_sim_crash__prefix(void **state)
{
	struct vfs_lab *lab = *state;
	uint32_t seen = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct vfs_file *file = make(lab, "a", 4, 1);
		uint32_t kept = 0;

		for (uint32_t i = 0; i < 4; i++)
			assert_int_equal(put(lab, file, (uint64_t)i * BLOCK, 2, false), 0);
		VFS_CALL(lab->vfs, close, file);
		crash(lab, VFS_SIM_PREFIX, seed);
		while (kept < 4 && bytes(lab, "a")[kept * BLOCK] == 2)
			kept++;
		for (uint32_t at = 0; at < 4 * BLOCK; at++)
			assert_int_equal(bytes(lab, "a")[at], at < kept * BLOCK ? 2 : 1);
		seen |= 1U << kept;
		assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
		assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	}
	assert_int_equal(seen, 0x1f);
}

/* Each sector is old or new, and later ones may be there without earlier ones. */
static void test_vfs_sim_crash__reorder_mixes(void **state)
{
	struct vfs_lab *lab = *state;
	uint32_t mixed = 0, later_alone = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct vfs_file *file = make(lab, "a", 2, 1);
		uint32_t old = 0;

		assert_int_equal(put(lab, file, 0, 2, false), 0);
		assert_int_equal(put(lab, file, BLOCK, 2, false), 0);
		VFS_CALL(lab->vfs, close, file);
		crash(lab, VFS_SIM_REORDER, seed);
		for (uint32_t at = 0; at < 2 * BLOCK; at++) {
			assert_int_equal(bytes(lab, "a")[at],
					 bytes(lab, "a")[at / SECTOR * SECTOR]);
			assert_in_range(bytes(lab, "a")[at], 1, 2);
			old += bytes(lab, "a")[at] == 1;
		}
		mixed += old > 0 && old < 2 * BLOCK;
		later_alone += bytes(lab, "a")[0] == 1 && bytes(lab, "a")[BLOCK] == 2;
		assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
		assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	}
	assert_true(mixed > 0 && later_alone > 0);
}

/* A torn write has a beginning or an end of itself, and may have garbage in one sector between. */
static void test_vfs_sim_crash__torn(void **state)
{
	struct vfs_lab *lab = *state;
	uint32_t prefixes = 0, suffixes = 0, garbage = 0;

	for (uint64_t seed = 0; seed < 4 * SEEDS; seed++) {
		struct vfs_file *file = make(lab, "a", 1, 1);
		uint32_t changes = 0, strange = 0;
		uint8_t last = 0;

		assert_int_equal(put(lab, file, 0, 2, false), 0);
		VFS_CALL(lab->vfs, close, file);
		crash(lab, VFS_SIM_TORN, seed);
		for (uint32_t at = 0; at < BLOCK; at += SECTOR) {
			const uint8_t *sector = bytes(lab, "a") + at;

			if (sector[0] == sector[1] && memcmp(sector, sector + 1, SECTOR - 1) == 0) {
				changes += at > 0 && sector[0] != last;
				last = sector[0];
			} else {
				strange++;
			}
		}
		assert_true(strange <= 1 && changes <= 1);
		prefixes += bytes(lab, "a")[0] == 2 && bytes(lab, "a")[BLOCK - 1] == 1;
		suffixes += bytes(lab, "a")[0] == 1 && bytes(lab, "a")[BLOCK - 1] == 2;
		garbage += strange;
		assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
		assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	}
	assert_true(prefixes > 0 && suffixes > 0 && garbage > 0);
}

/* A name is there after a crash only if its folder was synced, whatever was synced of the file. */
static void test_vfs_sim_crash__names_want_their_folder_synced(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs_file *file = make(lab, "a", 1, 1);

	VFS_CALL(lab->vfs, close, file);
	assert_int_equal(VFS_CALL(lab->vfs, make_folder, lab->vfs, "f"), 0);
	assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, "f/b", VFS_CREATE, true, &file), 0);
	assert_int_equal(put(lab, file, 0, 7, true), 0);
	VFS_CALL(lab->vfs, close, file);
	assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
	assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, "f"), 0);
	crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_non_null(bytes(lab, "f/b"));
	assert_int_equal(bytes(lab, "f/b")[0], 7);
	assert_non_null(bytes(lab, "a"));
	assert_int_equal(VFS_CALL(lab->vfs, rename, lab->vfs, "f/b", "c"), 0);
	crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_null(bytes(lab, "c"));
	assert_non_null(bytes(lab, "f/b"));
}

/* A rename is as before or as after: never under no name, and never under both. */
static void test_vfs_sim_crash__renames_are_whole(void **state)
{
	struct vfs_lab *lab = *state;
	uint32_t before = 0, after = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		VFS_CALL(lab->vfs, close, make(lab, "a", 1, 1));
		assert_int_equal(VFS_CALL(lab->vfs, rename, lab->vfs, "a", "b"), 0);
		crash(lab, VFS_SIM_REORDER, seed);
		assert_true((bytes(lab, "a") == NULL) != (bytes(lab, "b") == NULL));
		before += bytes(lab, "a") != NULL;
		after += bytes(lab, "b") != NULL;
		assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, bytes(lab, "a") ? "a" : "b"),
				 0);
		assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	}
	assert_true(before > 0 && after > 0);
}

/* A file that was made smaller and not synced may have all its bytes again. */
static void test_vfs_sim_crash__sizes_come_back(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs_file *file = make(lab, "a", 3, 1);

	assert_int_equal(VFS_CALL(lab->vfs, resize, file, BLOCK), 0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, 5 * BLOCK), 0);
	VFS_CALL(lab->vfs, close, file);
	crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, "a", VFS_WRITE, true, &file), 0);
	assert_int_equal(VFS_CALL(lab->vfs, size, file), 3 * BLOCK);
	for (uint32_t at = 0; at < 3 * BLOCK; at++)
		assert_int_equal(bytes(lab, "a")[at], 1);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, BLOCK), 0);
	assert_int_equal(VFS_CALL(lab->vfs, sync, file), 0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, 2 * BLOCK), 0);
	VFS_CALL(lab->vfs, close, file);
	crash(lab, VFS_SIM_KEEP_ALL, 1);
	for (uint32_t at = 0; at < 2 * BLOCK; at++)
		assert_int_equal(bytes(lab, "a")[at], at < BLOCK);
}

/* A second crash starts from what the first one left: what it kept is durable. */
static void test_vfs_sim_crash__what_it_kept_is_durable(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs_file *file = make(lab, "a", 1, 1);

	assert_int_equal(put(lab, file, 0, 2, false), 0);
	VFS_CALL(lab->vfs, close, file);
	crash(lab, VFS_SIM_KEEP_ALL, 1);
	crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_int_equal(bytes(lab, "a")[0], 2);
}

/* Files open at a crash are dead, and so is their vfs; locks are gone. */
static void test_vfs_sim_crash__ends_what_was_open(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs *dead = lab->vfs;
	struct vfs_file *file = make(lab, "a", 1, 1);
	struct prng prng;

	assert_int_equal(VFS_CALL(dead, lock, dead, "lock", true), 0);
	prng_init(&prng, 1);
	vfs_sim_crash(lab->sim, VFS_SIM_KEEP_ALL, &prng);
	lab->vfs = vfs_sim_vfs(lab->sim);
	assert_int_equal(VFS_CALL(dead, read, file, lab->back, BLOCK, 0), -EIO);
	assert_int_equal(put(lab, file, 0, 2, true), -EIO);
	assert_int_equal(VFS_CALL(dead, unlink, dead, "a"), -EIO);
	assert_int_equal(VFS_CALL(lab->vfs, lock, lab->vfs, "lock", true), 0);
	VFS_CALL(dead, close, file);
	VFS_CALL(dead, close_all, dead);
	assert_int_equal(bytes(lab, "a")[0], 1);
}

/* ---- the power is cut ---- */

/* The step in which it is cut may be kept or not; after it nothing works, until the crash. */
static void test_vfs_sim_stop__in_the_step(void **state)
{
	struct vfs_lab *lab = *state;
	uint32_t kept = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct vfs_file *file = make(lab, "a", 3, 1);
		uint64_t steps = vfs_sim_steps(lab->sim);

		vfs_sim_stop_after(lab->sim, 1);
		assert_int_equal(put(lab, file, 0, 2, true), 0);
		assert_false(vfs_sim_stopped(lab->sim));
		assert_int_equal(put(lab, file, BLOCK, 2, true), -EIO);
		assert_true(vfs_sim_stopped(lab->sim));
		assert_int_equal(vfs_sim_steps(lab->sim), steps + 2);
		assert_int_equal(put(lab, file, 2 * BLOCK, 2, true), -EIO);
		assert_int_equal(VFS_CALL(lab->vfs, sync, file), -EIO);
		assert_int_equal(VFS_CALL(lab->vfs, read, file, lab->back, BLOCK, 0), -EIO);
		VFS_CALL(lab->vfs, close, file);
		crash(lab, VFS_SIM_PREFIX, seed);
		assert_int_equal(bytes(lab, "a")[0], 2);
		kept += bytes(lab, "a")[BLOCK] == 2;
		assert_int_equal(bytes(lab, "a")[2 * BLOCK], 1);
		assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
		assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	}
	assert_true(kept > 0 && kept < SEEDS);
}

/* ---- faults ---- */

/* A call fails when it is its turn, as often as was said, and others do not. */
static void test_vfs_sim_fail__counts(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs *vfs = lab->vfs;
	struct vfs_file *file = make(lab, "a", 1, 1);

	vfs_sim_fail(lab->sim, VFS_SIM_READ, 1, 2, -EIO);
	assert_int_equal(VFS_CALL(vfs, read, file, lab->back, BLOCK, 0), BLOCK);
	assert_int_equal(VFS_CALL(vfs, read, file, lab->back, BLOCK, 0), -EIO);
	assert_int_equal(VFS_CALL(vfs, size, file), BLOCK);
	assert_int_equal(VFS_CALL(vfs, read, file, lab->back, BLOCK, 0), -EIO);
	assert_int_equal(VFS_CALL(vfs, read, file, lab->back, BLOCK, 0), BLOCK);
	vfs_sim_fail(lab->sim, VFS_SIM_RESIZE, 0, 1, -ENOSPC);
	assert_int_equal(VFS_CALL(vfs, resize, file, 2 * BLOCK), -ENOSPC);
	assert_int_equal(VFS_CALL(vfs, resize, file, 2 * BLOCK), 0);
	vfs_sim_fail(lab->sim, VFS_SIM_NAME, 0, 1, -EROFS);
	assert_int_equal(VFS_CALL(vfs, rename, vfs, "a", "b"), -EROFS);
	assert_non_null(bytes(lab, "a"));
	assert_int_equal(VFS_CALL(vfs, rename, vfs, "a", "b"), 0);
	VFS_CALL(vfs, close, file);
}

/* A write that fails may have been done in part. */
static void test_vfs_sim_fail__writes_in_part(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs_file *file = make(lab, "a", 1, 1);
	uint32_t parts = 0;

	for (uint32_t i = 0; i < SEEDS; i++) {
		assert_int_equal(put(lab, file, 0, 1, true), 0);
		vfs_sim_fail(lab->sim, VFS_SIM_WRITE, 0, 1, -EIO);
		assert_int_equal(put(lab, file, 0, 2, false), -EIO);
		parts += bytes(lab, "a")[0] == 2 && bytes(lab, "a")[BLOCK - 1] == 1;
	}
	assert_true(parts > 0);
	VFS_CALL(lab->vfs, close, file);
}

/* After a sync that failed the bytes can still be read, and a later sync says yes, and they are
 * gone all the same. */
static void test_vfs_sim_fail__sync_cannot_be_repeated(void **state)
{
	struct vfs_lab *lab = *state;
	uint32_t lost = 0, kept = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		bool durable = seed % 2 == 0;
		struct vfs_file *file = make(lab, "a", 1, 1);

		vfs_sim_fail(lab->sim, VFS_SIM_SYNC, 0, 1, -EIO);
		assert_int_equal(put(lab, file, 0, 2, durable), durable ? -EIO : 0);
		if (!durable)
			assert_int_equal(VFS_CALL(lab->vfs, sync, file), -EIO);
		assert_int_equal(VFS_CALL(lab->vfs, sync, file), 0);
		assert_int_equal(bytes(lab, "a")[0], 2);
		VFS_CALL(lab->vfs, close, file);
		crash(lab, VFS_SIM_KEEP_ALL, seed);
		for (uint32_t at = 0; at < BLOCK; at += SECTOR) {
			lost += bytes(lab, "a")[at] == 1;
			kept += bytes(lab, "a")[at] == 2;
		}
		assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
		assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	}
	assert_true(lost > 0 && kept > 0);
	assert_int_equal(lost + kept, SEEDS * BLOCK / SECTOR);
}

/* Writes that go to another place, or nowhere, say that all is well. */
static void test_vfs_sim__misdirected_and_lost(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs_file *file = make(lab, "a", 4, 1);

	vfs_sim_misdirect(lab->sim, 1, 2 * BLOCK);
	assert_int_equal(put(lab, file, 0, 2, true), 0);
	assert_int_equal(put(lab, file, BLOCK, 3, true), 0);
	assert_int_equal(bytes(lab, "a")[0], 2);
	assert_int_equal(bytes(lab, "a")[BLOCK], 1);
	assert_int_equal(bytes(lab, "a")[3 * BLOCK], 3);
	vfs_sim_lose(lab->sim, 0);
	assert_int_equal(put(lab, file, 0, 4, true), 0);
	assert_int_equal(bytes(lab, "a")[0], 2);
	VFS_CALL(lab->vfs, close, file);
}

/* Damage done from outside is damage for good. */
static void test_vfs_sim__damage_stays(void **state)
{
	struct vfs_lab *lab = *state;
	uint64_t count = 0;

	VFS_CALL(lab->vfs, close, make(lab, "a", 2, 1));
	vfs_sim_bytes(lab->sim, "a", &count)[100] = 77;
	assert_int_equal(count, 2 * BLOCK);
	crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_int_equal(bytes(lab, "a")[100], 77);
	assert_null(vfs_sim_bytes(lab->sim, "none", &count));
}

/* What is removed gives its room back once nothing can bring it back. */
static void test_vfs_sim__room_comes_back(void **state)
{
	struct vfs_lab *lab = *state;
	struct vfs_file *file = make(lab, "a", 0, 0);
	uint64_t space = 0;

	assert_int_equal(VFS_CALL(lab->vfs, resize, file, VFS_LAB_DISK), 0);
	assert_int_equal(VFS_CALL(lab->vfs, sync, file), 0);
	assert_int_equal(put(lab, file, VFS_LAB_DISK, 1, false), -ENOSPC);
	VFS_CALL(lab->vfs, close, file);
	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &space), 0);
	assert_int_equal(space, 0);
	assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
	assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &space), 0);
	assert_int_equal(space, VFS_LAB_DISK);
}

/* ---- at random ---- */

enum { STEPS = 200, BLOCKS = 6, VALUES = 8, SECTORS = BLOCKS * BLOCK / SECTOR };

/* What a sector may hold after a crash: the values it had since it was last durable. */
struct may {
	uint8_t values[STEPS + 1];
	uint32_t count;
};

static void may_set(struct may *may, uint32_t block, uint8_t value, bool durable)
{
	for (uint32_t i = block * (BLOCK / SECTOR); i < (block + 1) * (BLOCK / SECTOR); i++) {
		if (durable)
			may[i].count = 0;
		may[i].values[may[i].count++] = value;
	}
}

static void may_sync(struct may *may)
{
	for (uint32_t i = 0; i < SECTORS; i++) {
		may[i].values[0] = may[i].values[may[i].count - 1];
		may[i].count = 1;
	}
}

/* Any writes, durable writes and syncs, and then a crash: each sector has a value that it had since
 * it was last durable, and reads before it saw the newest. */
static void test_vfs_sim__random_programs(void **state)
{
	struct vfs_lab *lab = *state;
	static struct may may[SECTORS];
	struct prng prng;

	test_prng(&prng);
	for (uint32_t round = 0; round < 200; round++) {
		enum vfs_sim_crash how = (enum vfs_sim_crash)prng_below(&prng, VFS_SIM_TORN);
		struct vfs_file *file = make(lab, "a", BLOCKS, 0);
		uint32_t steps = prng_below(&prng, STEPS);

		memset(may, 0, sizeof may);
		for (uint32_t i = 0; i < BLOCKS; i++)
			may_set(may, i, 0, true);
		for (uint32_t i = 0; i < steps; i++) {
			uint32_t block = prng_below(&prng, BLOCKS);
			uint8_t value = (uint8_t)(1 + prng_below(&prng, 255));
			bool durable = prng_below(&prng, 4) == 0;

			if (prng_below(&prng, 8) == 0) {
				assert_int_equal(VFS_CALL(lab->vfs, sync, file), 0);
				may_sync(may);
				continue;
			}
			assert_int_equal(put(lab, file, (uint64_t)block * BLOCK, value, durable),
					 0);
			may_set(may, block, value, durable);
			assert_int_equal(bytes(lab, "a")[block * BLOCK], value);
		}
		VFS_CALL(lab->vfs, close, file);
		crash(lab, how, prng_next(&prng));
		for (uint32_t i = 0; i < SECTORS; i++)
			assert_non_null(
				memchr(may[i].values, bytes(lab, "a")[i * SECTOR], may[i].count));
		assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "a"), 0);
		assert_int_equal(VFS_CALL(lab->vfs, sync_folder, lab->vfs, ""), 0);
	}
}

#define SIM_TEST(name) cmocka_unit_test_setup_teardown(name, sim_setup, sim_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SIM_TEST(test_vfs_sim_crash__loses_all_or_keeps_all),
		SIM_TEST(test_vfs_sim_crash__what_is_durable_stays),
		SIM_TEST(test_vfs_sim_crash__durable_over_what_is_not),
		SIM_TEST(test_vfs_sim_crash__prefix),
		SIM_TEST(test_vfs_sim_crash__reorder_mixes),
		SIM_TEST(test_vfs_sim_crash__torn),
		SIM_TEST(test_vfs_sim_crash__names_want_their_folder_synced),
		SIM_TEST(test_vfs_sim_crash__renames_are_whole),
		SIM_TEST(test_vfs_sim_crash__sizes_come_back),
		SIM_TEST(test_vfs_sim_crash__what_it_kept_is_durable),
		SIM_TEST(test_vfs_sim_crash__ends_what_was_open),
		SIM_TEST(test_vfs_sim_stop__in_the_step),
		SIM_TEST(test_vfs_sim_fail__counts),
		SIM_TEST(test_vfs_sim_fail__writes_in_part),
		SIM_TEST(test_vfs_sim_fail__sync_cannot_be_repeated),
		SIM_TEST(test_vfs_sim__misdirected_and_lost),
		SIM_TEST(test_vfs_sim__damage_stays),
		SIM_TEST(test_vfs_sim__room_comes_back),
		SIM_TEST(test_vfs_sim__random_programs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
