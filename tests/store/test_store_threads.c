/* Many threads on one store: committers, submitters and readers at once, on a real folder. For the
 * thread sanitizer; what is there afterwards is asserted. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <haul/store.h>
#include "folder_lab.h"
#include "lib/testlib.h"
#include "store/store_parts.h"

enum {
	COMMITTERS = 6,
	SUBMITTERS = 2,
	READERS = 2,
	COMMITS = 150, /* of each committer */
	SUBMITS = 120, /* of each submitter */
	GROUP = 3,     /* nodes of a commit: all or none */
	BULK = 64      /* nodes of a submit */
};
static const uint64_t stride = 1 << 20; /* ids of a thread */

struct crowd {
	struct haul_store *store;
	_Atomic uint64_t acknowledged[COMMITTERS]; /* commits of each */
	_Atomic uint32_t told[SUBMITTERS];
	_Atomic bool over;
};

struct member {
	struct crowd *crowd;
	uint32_t number;
	uint32_t next_told;
};

static void add(struct haul_changes *changes, uint64_t id, uint32_t kind)
{
	const struct haul_node node = { .id = id, .kind = kind };

	assert_true(haul_changes_create_node(changes, &node, NULL) >= 0);
}

static void *commit_many(void *arg)
{
	struct member *member = arg;
	struct haul_changes *changes;
	struct haul_commit commit;
	int32_t statuses[GROUP + 1];
	uint64_t op = 0;

	assert_int_equal(haul_changes_new(&changes, 64, 1 << 16, 0), 0);
	for (uint64_t i = 0; i < COMMITS; i++) {
		const uint64_t id = (member->number + 1) * stride + i * GROUP;
		haul_changes_clear(changes);
		assert_int_equal(haul_changes_begin(changes), 0);
		for (uint32_t k = 0; k < GROUP; k++)
			add(changes, id + k, 1);
		if (i % 10 == 9) /* this one fails, and its whole group with it */
			add(changes, id, 1);
		assert_int_equal(haul_changes_end(changes), 0);
		assert_int_equal(
			haul_store_commit(member->crowd->store, changes, statuses, &commit), 0);
		assert_true(commit.op > op);
		op = commit.op;
		assert_int_equal(commit.failed, i % 10 == 9 ? GROUP + 1 : 0);
		assert_int_equal(statuses[0], i % 10 == 9 ? -ECANCELED : 0);
		atomic_store(&member->crowd->acknowledged[member->number], i + 1);
	}
	haul_changes_free(changes);
	return NULL;
}

struct ticket {
	struct member *member;
	uint32_t number;
};

/* In order of submits: of each submitter at least. */
static void told(void *arg, int error, const struct haul_commit *commit, const int32_t *statuses,
		 uint32_t count)
{
	struct ticket *ticket = arg;

	assert_int_equal(error, 0);
	assert_int_equal(count, BULK);
	assert_int_equal(commit->failed, 0);
	assert_int_equal(statuses[BULK - 1], 0);
	assert_int_equal(ticket->number, ticket->member->next_told);
	ticket->member->next_told++;
	atomic_fetch_add(&ticket->member->crowd->told[ticket->member->number], 1);
}

static void *submit_many(void *arg)
{
	struct member *member = arg;
	struct ticket *tickets = calloc(SUBMITS, sizeof *tickets);
	struct haul_changes *changes;

	assert_non_null(tickets);
	assert_int_equal(haul_changes_new(&changes, 0, 0, 0), 0);
	for (uint32_t i = 0; i < SUBMITS; i++) {
		const uint64_t id = (COMMITTERS + member->number + 1) * stride + (uint64_t)i * BULK;
		haul_changes_clear(changes);
		for (uint32_t k = 0; k < BULK; k++)
			add(changes, id + k, 2);
		tickets[i] = (struct ticket){ member, i };
		assert_int_equal(
			haul_store_submit(member->crowd->store, changes, told, &tickets[i]), 0);
	}
	assert_int_equal(haul_store_flush(member->crowd->store), 0);
	assert_int_equal(atomic_load(&member->crowd->told[member->number]), SUBMITS);
	haul_changes_free(changes);
	free(tickets);
	return NULL;
}

/* A group is seen whole or not at all; what was acknowledged is seen. */
static void look_at(struct crowd *crowd, struct haul_reader *reader, uint32_t committer, uint64_t i)
{
	const uint64_t acknowledged = atomic_load(&crowd->acknowledged[committer]);
	struct haul_node nodes[GROUP];
	int32_t statuses[GROUP];
	uint64_t ids[GROUP];

	for (uint32_t k = 0; k < GROUP; k++)
		ids[k] = (committer + 1) * stride + i * GROUP + k;
	assert_int_equal(haul_reader_get(reader, ids, GROUP, nodes, statuses), GROUP);
	for (uint32_t k = 1; k < GROUP; k++)
		assert_int_equal(statuses[k], statuses[0]);
	if (i % 10 == 9)
		assert_int_equal(statuses[0], -ENOENT);
	else if (i < acknowledged)
		assert_int_equal(statuses[0], 0);
}

static void *read_many(void *arg)
{
	struct member *member = arg;
	struct haul_reader *reader;
	struct prng prng;

	prng_init(&prng, member->number);
	assert_int_equal(haul_store_reader(member->crowd->store, 0, &reader), 0);
	while (!atomic_load(&member->crowd->over))
		look_at(member->crowd, reader, prng_below(&prng, COMMITTERS),
			prng_below(&prng, COMMITS));
	haul_reader_close(reader);
	return NULL;
}

static uint64_t count_kind(struct haul_store *store, uint32_t kind)
{
	enum { PAGE = 256 };
	struct haul_node nodes[PAGE];
	struct haul_scan scan = { .kind = kind };
	struct haul_reader *reader;
	uint64_t count = 0;
	int rc;

	assert_int_equal(haul_store_reader(store, 0, &reader), 0);
	while ((rc = haul_reader_scan(reader, &scan, nodes, PAGE)) > 0)
		count += (uint64_t)rc;
	assert_int_equal(rc, 0);
	haul_reader_close(reader);
	return count;
}

static void expect_all(struct haul_store *store)
{
	assert_int_equal(count_kind(store, 1), COMMITTERS * (COMMITS - COMMITS / 10) * GROUP);
	assert_int_equal(count_kind(store, 2), SUBMITTERS * SUBMITS * BULK);
}

static void crowd_run(struct crowd *crowd)
{
	struct member committers[COMMITTERS], submitters[SUBMITTERS], readers[READERS];
	pthread_t writing[COMMITTERS + SUBMITTERS], reading[READERS];
	uint32_t count = 0;

	for (uint32_t i = 0; i < READERS; i++) {
		readers[i] = (struct member){ crowd, i, 0 };
		assert_int_equal(pthread_create(&reading[i], NULL, read_many, &readers[i]), 0);
	}
	for (uint32_t i = 0; i < COMMITTERS; i++, count++) {
		committers[i] = (struct member){ crowd, i, 0 };
		assert_int_equal(pthread_create(&writing[count], NULL, commit_many, &committers[i]),
				 0);
	}
	for (uint32_t i = 0; i < SUBMITTERS; i++, count++) {
		submitters[i] = (struct member){ crowd, i, 0 };
		assert_int_equal(pthread_create(&writing[count], NULL, submit_many, &submitters[i]),
				 0);
	}
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(pthread_join(writing[i], NULL), 0);
	atomic_store(&crowd->over, true);
	for (uint32_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_join(reading[i], NULL), 0);
}

/* Groups stay whole, results come in order, and nothing is lost, also not when opened again. */
static void test_store_threads__share_a_store(void **state)
{
	/* a memory table that fills up in between */
	const struct haul_store_options options = { .memory = 160 << 20,
						    .memtable_bytes = 1 << 20 };
	struct crowd crowd = { .over = false };
	struct haul_store_status status;
	struct folder_lab folder;

	(void)state;
	folder_lab_open(&folder);
	assert_int_equal(haul_store_init(folder.store, &folder.err), 0);
	assert_int_equal(haul_store_open(&crowd.store, folder.store, &options, &folder.err), 0);
	crowd_run(&crowd);
	expect_all(crowd.store);
	haul_store_status(crowd.store, &status);
	assert_int_equal(status.op_last, COMMITTERS * COMMITS + SUBMITTERS * SUBMITS);
	assert_int_equal(haul_store_close(crowd.store), 0);
	assert_int_equal(haul_store_open(&crowd.store, folder.store, NULL, &folder.err), 0);
	expect_all(crowd.store);
	haul_store_status(crowd.store, &status);
	assert_int_equal(status.op_checkpoint, status.op_last);
	assert_int_equal(haul_store_close(crowd.store), 0);
	folder_lab_close(&folder);
}

/* done() may submit: a chain of frames goes on by itself. */
enum { CHAIN = 200 };
struct chain {
	struct haul_store *store;
	struct haul_changes *changes;
	uint32_t count;
};

static void chain_told(void *arg, int error, const struct haul_commit *commit,
		       const int32_t *statuses, uint32_t count)
{
	struct chain *chain = arg;

	(void)commit;
	(void)statuses;
	assert_int_equal(error, 0);
	assert_int_equal(count, 1);
	if (++chain->count == CHAIN)
		return;
	haul_changes_clear(chain->changes);
	add(chain->changes, chain->count + 1, 1);
	assert_int_equal(haul_store_submit(chain->store, chain->changes, chain_told, chain), 0);
}

/* A frame submitted by done() of the one before, from the thread that tells. */
static void test_store_threads__done_submits_the_next(void **state)
{
	struct chain chain = { .count = 0 };
	struct folder_lab folder;

	(void)state;
	folder_lab_open(&folder);
	assert_int_equal(haul_store_init(folder.store, &folder.err), 0);
	assert_int_equal(haul_store_open(&chain.store, folder.store, NULL, &folder.err), 0);
	assert_int_equal(haul_changes_new(&chain.changes, 0, 0, 0), 0);
	add(chain.changes, 1, 1);
	assert_int_equal(haul_store_submit(chain.store, chain.changes, chain_told, &chain), 0);
	assert_int_equal(haul_store_close(chain.store), 0); /* tells what is under way */
	assert_int_equal(chain.count, CHAIN);
	haul_changes_free(chain.changes);
	folder_lab_close(&folder);
}

/* One writer, or readers: the second is told, and nothing happens to the first. */
static void test_store_threads__a_second_opener_is_told(void **state)
{
	const struct haul_store_options reading = { .memory = 160 << 20, .read_only = true };
	struct haul_store *store, *second, *third;
	struct haul_changes *changes;
	struct folder_lab folder;

	(void)state;
	folder_lab_open(&folder);
	assert_int_equal(haul_store_init(folder.store, &folder.err), 0);
	assert_int_equal(haul_store_init(folder.store, &folder.err), -EEXIST);
	assert_int_equal(haul_store_open(&store, folder.store, NULL, &folder.err), 0);
	assert_int_equal(haul_store_open(&second, folder.store, NULL, &folder.err), -EBUSY);
	assert_non_null(strstr(folder.err.text, folder.store));
	assert_int_equal(haul_store_open(&second, folder.store, &reading, &folder.err), -EBUSY);
	assert_int_equal(haul_store_check(folder.store, NULL, NULL, NULL, &folder.err), -EBUSY);
	assert_int_equal(haul_store_repair(folder.store, true, NULL, NULL, &folder.err), -EBUSY);
	assert_int_equal(haul_changes_new(&changes, 0, 0, 0), 0);
	add(changes, 1, 1);
	assert_int_equal(haul_store_commit(store, changes, NULL, NULL), 0);
	assert_int_equal(haul_store_close(store), 0);
	assert_int_equal(haul_store_open(&second, folder.store, &reading, &folder.err), 0);
	assert_int_equal(haul_store_open(&third, folder.store, &reading, &folder.err), 0);
	assert_int_equal(count_kind(second, 1), 1);
	assert_int_equal(count_kind(third, 1), 1);
	assert_int_equal(haul_store_commit(second, changes, NULL, NULL), -EROFS);
	assert_int_equal(haul_store_open(&store, folder.store, NULL, &folder.err), -EBUSY);
	assert_int_equal(haul_store_close(second), 0);
	assert_int_equal(haul_store_close(third), 0);
	assert_int_equal(haul_store_open(&store, folder.other, NULL, &folder.err), -ENOENT);
	haul_changes_free(changes);
	folder_lab_close(&folder);
}

static bool is_stalled(struct haul_store *store)
{
	(void)pthread_mutex_lock(&store->commit.lock);
	const bool stalled = store->commit.stalled;
	(void)pthread_mutex_unlock(&store->commit.lock);
	return stalled;
}

/* A reader that stays in its memory tables holds commits up at most until it leaves. */
static void test_store_threads__commits_go_on_when_a_reader_leaves(void **state)
{
	const struct haul_store_options options = { .memory = 160 << 20,
						    .memtable_bytes = 8 << 10 };
	struct crowd crowd = { .over = false };
	struct member member = { &crowd, 0, 0 };
	struct folder_lab folder;
	pthread_t writer;
	uint64_t op;

	(void)state;
	folder_lab_open(&folder);
	assert_int_equal(haul_store_init(folder.store, &folder.err), 0);
	assert_int_equal(haul_store_open(&crowd.store, folder.store, &options, &folder.err), 0);
	struct lsm_view *view = lsm_view_take(crowd.store->lsm, &op);
	assert_int_equal(pthread_create(&writer, NULL, commit_many, &member), 0);
	while (atomic_load(&crowd.acknowledged[0]) < COMMITS && !is_stalled(crowd.store))
		(void)sched_yield();
	lsm_view_drop(crowd.store->lsm, view);
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_int_equal(count_kind(crowd.store, 1), (COMMITS - COMMITS / 10) * GROUP);
	assert_int_equal(haul_store_close(crowd.store), 0);
	folder_lab_close(&folder);
}

/* A live backup and a restore through the public calls, with writers beside it. */
static void test_store_threads__backup_beside_writers(void **state)
{
	struct crowd crowd = { .over = false };
	struct member member = { &crowd, 0, 0 };
	struct folder_lab folder;
	struct haul_store *copy;
	pthread_t writer;
	char third[sizeof folder.other + 8];

	(void)state;
	folder_lab_open(&folder);
	(void)snprintf(third, sizeof third, "%s-3", folder.other);
	assert_int_equal(haul_store_init(folder.store, &folder.err), 0);
	assert_int_equal(haul_store_open(&crowd.store, folder.store, NULL, &folder.err), 0);
	assert_int_equal(pthread_create(&writer, NULL, commit_many, &member), 0);
	while (atomic_load(&crowd.acknowledged[0]) < 5)
		continue;
	const uint64_t before = atomic_load(&crowd.acknowledged[0]);
	if (haul_store_backup(crowd.store, folder.other, NULL, NULL, &folder.err) < 0)
		fail_msg("backup: %s", folder.err.text);
	if (haul_store_restore(folder.other, third, NULL, NULL, &folder.err) < 0)
		fail_msg("restore: %s", folder.err.text);
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_int_equal(haul_store_compact(crowd.store, NULL, NULL), 0);
	assert_int_equal(haul_store_close(crowd.store), 0);
	assert_int_equal(haul_store_check(third, NULL, NULL, NULL, &folder.err), 0);
	assert_int_equal(haul_store_check(folder.store, NULL, NULL, NULL, &folder.err), 0);
	assert_int_equal(haul_store_open(&copy, third, NULL, &folder.err), 0);
	assert_true(count_kind(copy, 1) >= (before - before / 10) * GROUP);
	assert_int_equal(count_kind(copy, 1) % GROUP, 0);
	assert_int_equal(haul_store_close(copy), 0);
	folder_lab_close(&folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_threads__a_second_opener_is_told),
		cmocka_unit_test(test_store_threads__commits_go_on_when_a_reader_leaves),
		cmocka_unit_test(test_store_threads__backup_beside_writers),
		cmocka_unit_test(test_store_threads__share_a_store),
		cmocka_unit_test(test_store_threads__done_submits_the_next),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
