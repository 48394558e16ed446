/* The life of a store: made, opened, written, closed, opened again; what it says when it cannot. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "store_lab.h"

/* Frames of one node each, ids from `first` on. */
static void commit_nodes(struct store_lab *lab, uint64_t first, uint64_t count)
{
	for (uint64_t id = first; id < first + count; id++) {
		assert_int_equal(lab_node(lab, id, 1, NULL, "a text that takes its room"), 0);
		assert_int_equal(store_lab_commit(lab), 0);
	}
}

/* What was committed is there at once, after closing, and after a power cut. */
static void test_store__keeps_what_was_committed(void **state)
{
	struct store_lab *lab = *state;

	assert_int_equal(lab_node(lab, 1, 5, "one", "first"), 0);
	assert_int_equal(lab_node(lab, 2, 5, NULL, NULL), 1);
	assert_int_equal(lab_edge(lab, 1, 2, 3), 2);
	assert_int_equal(store_lab_commit(lab), 0);
	assert_int_equal(lab->commit.op, 1);
	assert_int_equal(lab->commit.failed, 0);
	assert_true(lab_has(lab, 1, "first"));
	store_lab_reopen(lab);
	assert_true(lab_has(lab, 1, "first"));
	assert_int_equal(lab_node(lab, 3, 0, NULL, "third"), 0);
	assert_int_equal(store_lab_commit(lab), 0);
	assert_int_equal(lab->commit.op, 2);
	store_lab_crash(lab, VFS_SIM_LOSE_ALL);
	assert_int_equal(store_lab_open(lab), 0);
	assert_true(lab_has(lab, 3, "third"));
	assert_int_equal(lab_count_nodes(lab), 3);
}

/* The first segment of the log is made with the store: who commits first does not wait for it. */
static void test_store__is_made_with_a_log(void **state)
{
	struct store_lab *lab = *state;
	uint64_t steps = vfs_sim_steps(lab->disk);

	assert_int_equal(lab_node(lab, 1, 1, NULL, NULL), 0);
	assert_int_equal(store_lab_commit(lab), 0);
	assert_int_equal(vfs_sim_steps(lab->disk) - steps, 1); /* one durable write */
}

/* A disk without room for the log says so when the store is made, which can be done again. */
static void test_store__is_not_made_without_room(void **state)
{
	struct store_lab *lab = *state;

	store_lab_done(lab);
	store_lab_init_empty(lab, 7);
	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 1, 1, -ENOSPC);
	assert_int_equal(store_lab_make(lab), -ENOSPC);
	assert_non_null(strstr(lab->err.text, "no room for a log of"));
	assert_int_not_equal(store_lab_open(lab), 0);
	assert_int_equal(store_lab_make(lab), 0);
	assert_int_equal(store_lab_open(lab), 0);
}

/* The original stopped at the first failure and undid nothing: here a group fails alone and whole,
 * and what came before and after it in the frame is done. */
static void test_store__a_group_fails_alone_and_whole(void **state)
{
	struct store_lab *lab = *state;

	(void)lab_node(lab, 1, 1, NULL, NULL);
	assert_int_equal(haul_changes_begin(lab->changes), 0);
	(void)lab_node(lab, 2, 1, NULL, NULL);
	(void)lab_node(lab, 1, 1, NULL, NULL);
	(void)lab_edge(lab, 1, 2, 1);
	assert_int_equal(haul_changes_end(lab->changes), 0);
	(void)lab_node(lab, 3, 1, NULL, NULL);
	assert_int_equal(store_lab_commit(lab), 0);
	const int32_t wanted[] = { 0, -ECANCELED, -EEXIST, -ECANCELED, 0 };
	assert_memory_equal(lab->statuses, wanted, sizeof wanted);
	assert_int_equal(lab->commit.failed, 3);
	assert_true(lab_has(lab, 1, NULL) && lab_has(lab, 3, NULL));
	assert_false(lab_has(lab, 2, NULL));
	store_lab_crash(lab, VFS_SIM_KEEP_ALL); /* replay comes to the same */
	assert_int_equal(store_lab_open(lab), 0);
	assert_true(lab_has(lab, 1, NULL) && lab_has(lab, 3, NULL));
	assert_false(lab_has(lab, 2, NULL));
}

/* ---- submitting ---- */

struct tell {
	struct store_lab *lab;
	uint32_t next, count;
	int again; /* what a submit in done() said */
	bool resubmit;
};
struct told {
	struct tell *tell;
	uint32_t number;
	int error;
};

static void told(void *arg, int error, const struct haul_commit *commit, const int32_t *statuses,
		 uint32_t count)
{
	struct told *told = arg;
	struct tell *tell = told->tell;

	assert_int_equal(told->number, tell->next);
	tell->next++;
	told->error = error;
	if (error == 0) {
		assert_int_equal(commit->op, told->number + 1);
		assert_int_equal(count, 1);
		assert_int_equal(statuses[0], 0);
	}
}

/* A group that is still open cannot be committed, and a list without changes is no frame. */
static void test_store__wants_groups_that_are_closed(void **state)
{
	struct store_lab *lab = *state;

	assert_int_equal(haul_changes_begin(lab->changes), 0);
	(void)lab_node(lab, 1, 1, NULL, NULL);
	assert_int_equal(haul_store_commit(lab->store, lab->changes, NULL, NULL), -EINVAL);
	assert_int_equal(haul_store_submit(lab->store, lab->changes, told, NULL), -EINVAL);
	haul_changes_clear(lab->changes);
	assert_int_equal(store_lab_commit(lab), 0);
	assert_int_equal(lab->commit.op, 0);
	assert_int_equal(lab->commit.failed, 0);
	commit_nodes(lab, 1, 1);
	assert_int_equal(lab->commit.op, 1);
}

/* What was submitted is told once, in order; readers see nothing of it before it is durable. */
static void test_store__tells_what_was_submitted_in_order(void **state)
{
	enum { SUBMITS = 3 * HAUL_STORE_IN_FLIGHT };
	struct store_lab *lab = *state;
	struct tell tell = { .lab = lab };
	struct told tolds[SUBMITS];

	for (uint32_t i = 0; i < SUBMITS; i++) {
		tolds[i] = (struct told){ &tell, i, 1 };
		(void)lab_node(lab, i + 1, 1, NULL, NULL);
		assert_int_equal(haul_store_submit(lab->store, lab->changes, told, &tolds[i]), 0);
		haul_changes_clear(lab->changes); /* may be used again */
		if (i == 0) {
			assert_int_equal(tell.next, 0);
			assert_int_equal(store_in_flight(lab->store), 1);
			assert_false(lab_has(lab, 1, NULL));
		}
		assert_true(store_in_flight(lab->store) <= HAUL_STORE_IN_FLIGHT);
	}
	assert_int_equal(haul_store_flush(lab->store), 0);
	assert_int_equal(tell.next, SUBMITS);
	assert_int_equal(store_in_flight(lab->store), 0);
	assert_int_equal(lab_count_nodes(lab), SUBMITS);
}

static void told_again(void *arg, int error, const struct haul_commit *commit,
		       const int32_t *statuses, uint32_t count)
{
	struct tell *tell = arg;

	(void)commit;
	(void)statuses;
	(void)count;
	assert_int_equal(error, 0);
	tell->next++;
	if (!tell->resubmit)
		return;
	/* one more than there is room for: the second is refused, nobody waits for himself */
	tell->resubmit = false;
	haul_changes_clear(tell->lab->changes);
	(void)lab_node(tell->lab, 1000, 1, NULL, NULL);
	assert_int_equal(haul_store_submit(tell->lab->store, tell->lab->changes, told_again, tell),
			 0);
	haul_changes_clear(tell->lab->changes);
	(void)lab_node(tell->lab, 1001, 1, NULL, NULL);
	tell->again = haul_store_submit(tell->lab->store, tell->lab->changes, told_again, tell);
	assert_int_equal(haul_store_flush(tell->lab->store), -EDEADLK);
}

/* done() may submit one frame for the one it was told, and never waits. */
static void test_store__done_never_waits_for_itself(void **state)
{
	struct store_lab *lab = *state;
	struct tell tell = { .lab = lab, .resubmit = true };

	for (uint32_t i = 0; i < HAUL_STORE_IN_FLIGHT; i++) {
		haul_changes_clear(lab->changes);
		(void)lab_node(lab, i + 1, 1, NULL, NULL);
		assert_int_equal(haul_store_submit(lab->store, lab->changes, told_again, &tell), 0);
	}
	assert_int_equal(haul_store_flush(lab->store), 0);
	assert_int_equal(tell.again, -EBUSY);
	assert_int_equal(haul_store_flush(lab->store), 0);
	assert_int_equal(tell.next, HAUL_STORE_IN_FLIGHT + 1);
	assert_true(lab_has(lab, 1000, NULL));
	assert_false(lab_has(lab, 1001, NULL));
	haul_changes_clear(lab->changes);
}

/* ---- when the disk fails ---- */

/* A sync that failed is never trusted again: all who wait and all who come are told. */
static void test_store__a_failed_sync_is_final(void **state)
{
	struct store_lab *lab = *state;
	struct tell tell = { .lab = lab };
	struct told one = { &tell, 0, 0 };

	commit_nodes(lab, 100, 3);
	(void)lab_node(lab, 1, 1, NULL, NULL);
	assert_int_equal(haul_store_submit(lab->store, lab->changes, told, &one), 0);
	haul_changes_clear(lab->changes);
	vfs_sim_fail(lab->disk, VFS_SIM_SYNC, 0, 1, -EIO);
	(void)lab_node(lab, 2, 1, NULL, NULL);
	assert_int_equal(store_lab_commit(lab), -EIO);
	assert_int_equal(haul_store_flush(lab->store), -EIO);
	assert_int_equal(one.error, -EIO);
	(void)lab_node(lab, 3, 1, NULL, NULL);
	assert_int_equal(store_lab_commit(lab), -EIO);
	assert_int_equal(haul_store_submit(lab->store, lab->changes, told, &one), -EIO);
	assert_int_equal(store_lab_close(lab), -EIO);
	store_lab_crash(lab, VFS_SIM_LOSE_ALL);
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(lab_count_nodes(lab), 3);
	commit_nodes(lab, 1, 2);
}

/* A full disk: nothing of the frame is kept, what was acknowledged stays, and when there is room
 * again it goes on. */
static void test_store__a_full_disk_keeps_nothing_of_a_frame(void **state)
{
	struct store_lab *lab = *state;
	uint64_t id = 1;
	int rc = 0;

	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 0, UINT64_MAX, -ENOSPC);
	while (rc == 0 && id < 5000) {
		(void)lab_node(lab, id, 1, NULL, "a text that takes its room");
		rc = store_lab_commit(lab);
		id += rc == 0;
	}
	assert_int_equal(rc, -ENOSPC);
	assert_false(lab_has(lab, id, NULL));
	assert_int_equal(lab_count_nodes(lab), id - 1);
	(void)lab_node(lab, id, 1, NULL, NULL);
	assert_int_equal(store_lab_commit(lab), -ENOSPC);
	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 0, 0, -EIO);
	commit_nodes(lab, id, 300);
	store_lab_crash(lab, VFS_SIM_LOSE_ALL);
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(lab_count_nodes(lab), id + 299);
}

/* A table that cannot be written costs only time: frames go on, and the next try succeeds. */
static void test_store__a_flush_that_fails_is_tried_again(void **state)
{
	struct store_lab *lab = *state;
	struct haul_store_status before, status;

	assert_int_equal(store_lab_settle(lab), 0); /* the log is made ready */
	commit_nodes(lab, 1, 800);                  /* one memory table and a half */
	haul_store_status(lab->store, &before);
	vfs_sim_fail(lab->disk, VFS_SIM_WRITE, 0, 1, -EIO);
	assert_int_equal(store_lab_settle(lab), -EIO);
	haul_store_status(lab->store, &status);
	assert_int_equal(status.op_checkpoint, before.op_checkpoint);
	commit_nodes(lab, 801, 10);
	assert_int_equal(store_lab_settle(lab), 0);
	haul_store_status(lab->store, &status);
	assert_true(status.op_checkpoint > before.op_checkpoint);
	store_lab_crash(lab, VFS_SIM_LOSE_ALL);
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(lab_count_nodes(lab), 810);
}

/* ---- who may open what ---- */

static const char segment_name[] = "log/0000000000000000";

/* Who only reads changes nothing, and is not let write. */
static void test_store__read_only_changes_nothing(void **state)
{
	struct store_lab *lab = *state;

	commit_nodes(lab, 1, 20);
	store_lab_crash(lab, VFS_SIM_KEEP_ALL);
	/* a torn end, which a writer would cut */
	uint64_t bytes;
	uint8_t *log = vfs_sim_bytes(lab->disk, segment_name, &bytes);
	assert_non_null(log);
	memset(log + 20 * 4096 + 100, 0x5a, 300);
	lab->options.read_only = true;
	const uint64_t steps = vfs_sim_steps(lab->disk);
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(lab_count_nodes(lab), 20);
	(void)lab_node(lab, 50, 1, NULL, NULL);
	assert_int_equal(store_lab_commit(lab), -EROFS);
	assert_int_equal(haul_store_submit(lab->store, lab->changes, told, NULL), -EROFS);
	assert_int_equal(haul_store_compact(lab->store, NULL, NULL), -EROFS);
	assert_int_equal(haul_store_flush(lab->store), 0);
	assert_int_equal(store_lab_close(lab), 0);
	assert_int_equal(vfs_sim_steps(lab->disk), steps);
	lab->options.read_only = false;
	assert_int_equal(store_lab_open(lab), 0);
	assert_int_equal(lab_count_nodes(lab), 20);
	assert_true(vfs_sim_steps(lab->disk) > steps);
}

/* There is a store already; there is none. */
static void test_store__init_and_open_say_what_is_there(void **state)
{
	struct store_lab *lab = *state;

	commit_nodes(lab, 1, 1);
	assert_int_equal(store_lab_close(lab), 0);
	assert_int_equal(store_lab_make(lab), -EEXIST);
	assert_non_null(strstr(lab->err.text, "store"));
	assert_int_equal(store_lab_open(lab), 0);
	assert_true(lab_has(lab, 1, NULL));

	struct store_lab *none = malloc(sizeof *none);
	assert_non_null(none);
	store_lab_init_empty(none, 3);
	assert_int_equal(store_lab_open(none), -ENOENT);
	assert_non_null(strstr(none->err.text, "haul store init"));
	store_lab_done(none);
	free(none);
}

/* Too little memory is said with the number that would do. */
static void test_store__memory_has_a_least(void **state)
{
	struct store_lab *lab = *state;

	assert_int_equal(store_lab_close(lab), 0);
	lab->deep.frame_budget = 0;
	lab->options = (struct haul_store_options){ .memory = 1 << 20 };
	assert_int_equal(store_lab_open(lab), -EINVAL);
	assert_non_null(strstr(lab->err.text, "128 MiB"));
	lab->options =
		(struct haul_store_options){ .memory = 128 << 20, .memtable_bytes = 1 << 28 };
	assert_int_equal(store_lab_open(lab), -EINVAL);
	assert_non_null(strstr(lab->err.text, "memtable_bytes"));
	lab->options = (struct haul_store_options){ .memory = 128 << 20 };
	assert_int_equal(store_lab_open(lab), 0);
	struct haul_store_status status;
	haul_store_status(lab->store, &status);
	assert_in_range(status.memory_bytes, 64 << 20, 128 << 20);
}

/* The root of a later version of haul: refused, not read as if it were known. */
static void test_store__refuses_a_newer_version(void **state)
{
	enum { COPIES = 4, BLOCK = 4096, FORMAT_AT = 12 };
	struct store_lab *lab = *state;
	uint64_t bytes;

	commit_nodes(lab, 1, 1);
	assert_int_equal(store_lab_close(lab), 0);
	uint8_t *root = vfs_sim_bytes(lab->disk, "root", &bytes);
	assert_non_null(root);
	for (uint32_t i = 0; i < COPIES; i++) {
		uint8_t *block = root + (size_t)i * BLOCK;
		block[FORMAT_AT]++;
		const uint64_t check = XXH3_64bits(block + 8, BLOCK - 8);
		memcpy(block, &check, sizeof check);
	}
	assert_int_equal(store_lab_open(lab), HAUL_EVERSION);
	assert_true(strlen(lab->err.text) > 0);
}

/* A segment of another store's log in the place of one's own is told from damage. */
static void test_store__knows_a_log_of_another_store(void **state)
{
	struct store_lab *lab = *state;
	struct store_lab *other = malloc(sizeof *other);
	uint64_t bytes, other_bytes;

	assert_non_null(other);
	store_lab_init(other, 99);
	assert_int_equal(store_lab_open(other), 0);
	commit_nodes(other, 1, 5);
	commit_nodes(lab, 1, 5);
	store_lab_crash(lab, VFS_SIM_KEEP_ALL);
	uint8_t *mine = vfs_sim_bytes(lab->disk, segment_name, &bytes);
	const uint8_t *theirs = vfs_sim_bytes(other->disk, segment_name, &other_bytes);
	assert_true(mine != NULL && theirs != NULL && bytes == other_bytes);
	memcpy(mine, theirs, bytes);
	assert_int_equal(store_lab_open(lab), HAUL_ECORRUPT);
	assert_non_null(strstr(lab->err.text, "another store"));
	store_lab_done(other);
	free(other);
}

/* ---- figures ---- */

static void see_block(const struct haul_stats *stats, void *arg)
{
	uint32_t *seen = arg;

	for (uint32_t i = 0; i < stats->counter_count; i++) {
		const char *name = stats->counters[i].name;
		if (strcmp(stats->name, "store.commit") == 0 && strcmp(name, "flushed") == 0)
			assert_int_equal(stats->extra[i], 40);
		if (strcmp(stats->name, "store.commit") == 0 && strcmp(name, "queued") == 0)
			assert_int_equal(stats->extra[i], 40);
		if (strcmp(stats->name, "store.log") == 0 && strcmp(name, "op") == 0)
			assert_int_equal(stats->extra[i], 40);
		if (strcmp(stats->name, "store.lsm") == 0 && strcmp(name, "memtable_bytes") == 0)
			assert_true(stats->extra[i] > 0);
	}
	if (strcmp(stats->name, "store.commit") == 0) {
		assert_int_equal(stats->ops, 40);
		assert_int_equal(stats->closed[HAUL_CLOSE_IDLE], stats->batches);
	}
	(*seen)++;
}

/* The seed's names, and those added, stand in the one table. */
static void test_store__enters_its_figures(void **state)
{
	struct store_lab *lab = *state;
	struct haul_stats_table *table;
	uint32_t seen = 0;

	assert_int_equal(store_lab_close(lab), 0);
	assert_int_equal(haul_stats_table_open(&table), 0);
	lab->options.stats = table;
	assert_int_equal(store_lab_open(lab), 0);
	commit_nodes(lab, 1, 40);
	assert_int_equal(haul_stats_visit(table, see_block, &seen), 3);
	assert_int_equal(seen, 3);
	assert_int_equal(store_lab_close(lab), 0);
	assert_int_equal(haul_stats_visit(table, see_block, &seen), 0);
	lab->options.stats = NULL;
	haul_stats_table_close(table);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, store_lab_setup, store_lab_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_store__keeps_what_was_committed),
		TEST(test_store__is_made_with_a_log),
		TEST(test_store__is_not_made_without_room),
		TEST(test_store__a_group_fails_alone_and_whole),
		TEST(test_store__wants_groups_that_are_closed),
		TEST(test_store__tells_what_was_submitted_in_order),
		TEST(test_store__done_never_waits_for_itself),
		TEST(test_store__a_failed_sync_is_final),
		TEST(test_store__a_full_disk_keeps_nothing_of_a_frame),
		TEST(test_store__a_flush_that_fails_is_tried_again),
		TEST(test_store__read_only_changes_nothing),
		TEST(test_store__init_and_open_say_what_is_there),
		TEST(test_store__memory_has_a_least),
		TEST(test_store__refuses_a_newer_version),
		TEST(test_store__knows_a_log_of_another_store),
		TEST(test_store__enters_its_figures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
