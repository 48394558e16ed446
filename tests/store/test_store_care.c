/* Compact, backup, restore, check, repair. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_lab.h"

/* A graph of all there is: nodes with keys and kinds, a ring of edges, embeddings. */
static void commit_graph(struct store_lab *lab, uint64_t first, uint64_t count)
{
	const float vector[4] = { 1, 2, 3, 4 };
	char key[32];

	for (uint64_t id = first; id < first + count; id++) {
		(void)snprintf(key, sizeof key, "key %llu", (unsigned long long)id);
		(void)lab_node(lab, id, 1 + (uint32_t)(id % 3), key, "a text that takes its room");
		if (id > 1)
			(void)lab_edge(lab, id, id - 1, 2);
		if (id % 4 == 0)
			(void)lab_embedding(lab, id, 1, vector, 4);
		assert_int_equal(store_lab_commit(lab), 0);
		assert_int_equal(lab->commit.failed, 0);
	}
}

/* ---- findings ---- */

struct findings {
	uint32_t count, losses;
	char place[128], what[256]; /* of the first */
};

static void note(const struct haul_store_finding *finding, void *arg)
{
	struct findings *findings = arg;

	if (findings->count++ == 0) {
		(void)snprintf(findings->place, sizeof findings->place, "%s", finding->place);
		(void)snprintf(findings->what, sizeof findings->what, "%s", finding->what);
	}
	findings->losses += finding->loss;
}

static void lab_unlock(struct store_lab *lab)
{
	VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->vfs = vfs_sim_vfs(lab->disk);
	lab->deep.vfs = lab->vfs;
}

static int lab_check(struct store_lab *lab, struct findings *findings)
{
	const struct store_telling telling = { .told = note, .arg = findings };

	memset(findings, 0, sizeof *findings);
	const int rc = store_check_on(&lab->deep, &telling, &lab->err);
	lab_unlock(lab);
	if (rc >= 0)
		assert_int_equal(rc, findings->count);
	return rc;
}

static int lab_repair(struct store_lab *lab, bool accept, struct findings *findings)
{
	const struct store_telling telling = { .told = note, .arg = findings };

	memset(findings, 0, sizeof *findings);
	const int rc = store_repair_on(&lab->deep, accept, &telling, &lab->err);
	lab_unlock(lab);
	return rc;
}

/* A healthy store: nothing is found, closed by a checkpoint or left by a crash. */
static void test_store_care__check_finds_nothing_wrong(void **state)
{
	struct store_lab *lab = *state;
	struct findings findings;

	commit_graph(lab, 1, 300);
	store_lab_crash(lab, VFS_SIM_KEEP_ALL);
	assert_int_equal(lab_check(lab, &findings), 0);
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(store_lab_settle(lab), 0);
	assert_int_equal(store_lab_close(lab), 0);
	assert_int_equal(lab_check(lab, &findings), 0);
	assert_int_equal(lab_repair(lab, true, &findings), 0);
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(lab_count_nodes(lab), 300);
}

/* ---- compact ---- */

static int progressed(uint64_t done, uint64_t total, void *arg)
{
	uint32_t *calls = arg;

	assert_true(done <= total);
	(*calls)++;
	return 0;
}

static int stop(uint64_t done, uint64_t total, void *arg)
{
	(void)done;
	(void)total;
	(void)arg;
	return 1;
}

static uint64_t count_runs(struct store_lab *lab)
{
	struct haul_store_status status;
	uint64_t runs = 0;

	haul_store_status(lab->store, &status);
	for (uint32_t i = 0; i < status.level_count; i++)
		runs += status.level[i].runs;
	return runs;
}

/* One run a tree is left, and all that was there. */
static void test_store_care__compact_leaves_one_run_a_tree(void **state)
{
	enum { TREES_USED = 7 };
	struct store_lab *lab = *state;
	uint32_t calls = 0;

	commit_graph(lab, 1, 400);
	assert_true(count_runs(lab) > TREES_USED);
	assert_int_equal(haul_store_compact(lab->store, stop, NULL), -ECANCELED);
	assert_int_equal(haul_store_compact(lab->store, progressed, &calls), 0);
	assert_true(calls > 0);
	assert_int_equal(count_runs(lab), TREES_USED);
	assert_int_equal(lab_count_nodes(lab), 400);
	commit_graph(lab, 401, 10);
	store_lab_reopen(lab);
	assert_int_equal(lab_count_nodes(lab), 410);
}

/* ---- backup and restore ---- */

static void other_open(struct store_lab *other, const struct store_lab *lab)
{
	store_lab_init_empty(other, 77);
	other->options = lab->options;
}

struct meanwhile {
	struct store_lab *lab;
	uint64_t id;
};

static int commit_meanwhile(uint64_t done, uint64_t total, void *arg)
{
	struct meanwhile *meanwhile = arg;

	(void)done;
	(void)total;
	/* merges delete tables that the copy still needs */
	commit_graph(meanwhile->lab, meanwhile->id, 20);
	meanwhile->id += 20;
	while (store_step(meanwhile->lab->store) > 0)
		continue;
	return 0;
}

/* A copy of a live store, which is written to while it is made; its own store afterwards. */
static void test_store_care__backup_of_a_live_store(void **state)
{
	struct store_lab *lab = *state;
	struct store_lab *backup = malloc(sizeof *backup), *other = malloc(sizeof *other);
	struct haul_store_status mine, theirs;
	struct findings findings;

	assert_true(backup != NULL && other != NULL);
	commit_graph(lab, 1, 500);
	other_open(backup, lab);
	other_open(other, lab);
	struct meanwhile meanwhile = { lab, 501 };
	const struct store_copying copying = { commit_meanwhile, &meanwhile };
	if (store_backup_to(lab->store, backup->vfs, &copying, &lab->err) < 0)
		fail_msg("backup: %s", lab->err.text);
	assert_true(meanwhile.id > 501);
	lab_unlock(backup);
	assert_int_equal(lab_check(backup, &findings), 0);
	const struct store_copying quiet = { NULL, NULL };
	if (store_restore_on(backup->vfs, &other->deep, &quiet, &other->err) < 0)
		fail_msg("restore: %s", other->err.text);
	lab_unlock(other);
	assert_int_equal(lab_check(other, &findings), 0);
	assert_int_equal(store_lab_open(other), 0);
	assert_int_equal(lab_count_nodes(other), 500);
	haul_store_status(lab->store, &mine);
	haul_store_status(other->store, &theirs);
	assert_memory_not_equal(mine.uuid, theirs.uuid, sizeof mine.uuid);
	/* each goes on by itself */
	commit_graph(other, 501, 5);
	store_lab_crash(other, VFS_SIM_LOSE_ALL);
	assert_int_equal(store_lab_open(other), 0);
	assert_int_equal(lab_count_nodes(other), 505);
	assert_int_equal(lab_count_nodes(lab), meanwhile.id - 1);
	store_lab_done(backup);
	store_lab_done(other);
	free(backup);
	free(other);
}

/* A backup goes where nothing is; what has a log is not one; a damaged one is refused. */
static void test_store_care__restore_refuses_what_is_no_backup(void **state)
{
	struct store_lab *lab = *state;
	struct store_lab *other = malloc(sizeof *other), *third = malloc(sizeof *third);
	const struct store_copying quiet = { NULL, NULL };
	struct vfs *vfs;

	assert_true(other != NULL && third != NULL);
	commit_graph(lab, 1, 50);
	other_open(other, lab);
	other_open(third, lab);
	assert_int_equal(store_backup_to(lab->store, other->vfs, &quiet, &lab->err), 0);
	lab_unlock(other);
	assert_int_equal(store_backup_to(lab->store, other->vfs, &quiet, &lab->err), -EEXIST);
	lab_unlock(other);
	commit_graph(lab, 51, 1);
	store_lab_crash(lab, VFS_SIM_KEEP_ALL);
	vfs = lab->vfs;
	assert_int_equal(store_restore_on(vfs, &third->deep, &quiet, &third->err), -EINVAL);
	assert_non_null(strstr(third->err.text, "not a backup"));
	lab_unlock(third);
	uint64_t bytes;
	uint8_t *blob = vfs_sim_bytes(other->disk, "blob/0000000000000001", &bytes);
	assert_non_null(blob);
	blob[bytes / 2] ^= 1;
	assert_true(store_restore_on(other->vfs, &third->deep, &quiet, &third->err) < 0);
	lab_unlock(third);
	assert_int_equal(store_lab_open(third), -ENOENT); /* it has no root */
	store_lab_done(other);
	store_lab_done(third);
	free(other);
	free(third);
	lab_unlock(lab);
}

/* ---- damage ---- */

/* Damage to what was acknowledged: refused, told with what would be lost, cut when accepted. */
static void test_store_care__repair_of_a_broken_log(void **state)
{
	static const char name[] = "log/0000000000000000";
	struct store_lab *lab = *state;
	struct findings findings;
	uint64_t bytes;

	commit_graph(lab, 1, 10); /* a block of the log each */
	store_lab_crash(lab, VFS_SIM_KEEP_ALL);
	uint8_t *log = vfs_sim_bytes(lab->disk, name, &bytes);
	assert_non_null(log);
	log[6 * 4096 + 200] ^= 1;
	assert_int_equal(store_lab_open(lab), HAUL_ECORRUPT);
	assert_non_null(strstr(lab->err.text, "frame 7"));
	assert_non_null(strstr(lab->err.text, "haul store repair"));
	assert_true(lab_check(lab, &findings) > 0);
	assert_true(findings.losses > 0);
	const uint64_t steps = vfs_sim_steps(lab->disk);
	assert_true(lab_repair(lab, false, &findings) > 0);
	assert_non_null(strstr(findings.what, "would be lost"));
	assert_int_equal(vfs_sim_steps(lab->disk), steps);
	assert_int_equal(store_lab_open(lab), HAUL_ECORRUPT);
	assert_true(lab_repair(lab, true, &findings) > 0);
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(lab_count_nodes(lab), 6);
	commit_graph(lab, 7, 3);
	store_lab_crash(lab, VFS_SIM_LOSE_ALL);
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(lab_count_nodes(lab), 9);
}

struct names {
	char name[64][VFS_NAME_MAX];
	uint32_t count;
};

static int note_name(const char *name, void *arg)
{
	struct names *names = arg;

	if (names->count < 64)
		(void)snprintf(names->name[names->count++], VFS_NAME_MAX, "blob/%s", name);
	return 0;
}

/* Damage to any table is found by check, and repair says whose rows it would drop. */
static void test_store_care__repair_of_broken_tables(void **state)
{
	struct store_lab *lab = *state;
	struct names *names = calloc(1, sizeof *names);
	struct findings findings;
	uint64_t bytes;

	assert_non_null(names);
	commit_graph(lab, 1, 40);
	assert_int_equal(store_lab_close(lab), 0);
	assert_int_equal(VFS_CALL(lab->vfs, list, lab->vfs, "blob", note_name, names), 0);
	assert_true(names->count > 5);
	for (uint32_t i = 0; i < names->count; i++) {
		uint8_t *blob = vfs_sim_bytes(lab->disk, names->name[i], &bytes);
		blob[100] ^= 1;
		assert_true(lab_check(lab, &findings) > 0);
		assert_true(findings.losses > 0);
		blob[100] ^= 1;
	}
	assert_int_equal(lab_check(lab, &findings), 0);
	/* one of them is the manifest, which is beyond repair; the others are tables */
	uint32_t i = 0;
	for (; i < names->count; i++) {
		uint8_t *blob = vfs_sim_bytes(lab->disk, names->name[i], &bytes);
		blob[100] ^= 1;
		if (lab_repair(lab, false, &findings) > 0)
			break;
		blob[100] ^= 1;
	}
	assert_true(i < names->count);
	assert_non_null(strstr(findings.place, "blob"));
	assert_non_null(strstr(findings.what, "would be lost"));
	assert_true(lab_repair(lab, true, &findings) > 0);
	assert_non_null(strstr(findings.what, "lost"));
	assert_int_equal(store_lab_open(lab), 0);
	(void)lab_node(lab, 1000, 1, NULL, "goes on");
	assert_int_equal(store_lab_commit(lab), 0);
	assert_int_equal(store_lab_close(lab), 0);
	/* rows of the other trees have nothing on their other side any more */
	assert_true(lab_check(lab, &findings) > 0);
	assert_true(findings.losses > 0);
	free(names);
}

/* Without a good root nothing says which tables belong to the store: a backup is what helps. */
static void test_store_care__no_root_is_beyond_repair(void **state)
{
	struct store_lab *lab = *state;
	struct findings findings;
	uint64_t bytes;

	commit_graph(lab, 1, 5);
	assert_int_equal(store_lab_close(lab), 0);
	uint8_t *root = vfs_sim_bytes(lab->disk, "root", &bytes);
	for (uint64_t at = 100; at < bytes; at += 4096)
		root[at] ^= 1;
	assert_int_equal(store_lab_open(lab), HAUL_ECORRUPT);
	assert_true(lab_check(lab, &findings) > 0);
	assert_int_equal(lab_repair(lab, true, &findings), HAUL_ECORRUPT);
	assert_non_null(strstr(lab->err.text, "backup"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, store_lab_setup, store_lab_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_store_care__check_finds_nothing_wrong),
		TEST(test_store_care__compact_leaves_one_run_a_tree),
		TEST(test_store_care__backup_of_a_live_store),
		TEST(test_store_care__restore_refuses_what_is_no_backup),
		TEST(test_store_care__repair_of_a_broken_log),
		TEST(test_store_care__repair_of_broken_tables),
		TEST(test_store_care__no_root_is_beyond_repair),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
