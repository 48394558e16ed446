/* kill -9 of a program that has a store open and commits, with a ledger: what it was told is
 * durable it writes into a pipe, and after the kill the store has to know at least that, and each
 * group whole or not at all. Now and then the next one is killed while it recovers. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <haul/store.h>
#include "folder_lab.h"
#include "lib/testlib.h"

enum { ROUNDS = 8, GROUP = 4, BULK = 300, ACKS_MIN = 20 };

static const struct haul_store_options options = { .memory = 160 << 20, .memtable_bytes = 1 << 20 };

struct entry {
	uint64_t first, count; /* ids of a group that is durable */
};

static void child_fail(const char *what, int rc)
{
	(void)fprintf(stderr, "child: %s: %s\n", what, haul_strerror(rc));
	_exit(1);
}

static void add(struct haul_changes *changes, uint64_t first, uint64_t count)
{
	const uint8_t filler[200] = { 1, 2, 3 };
	const struct haul_property property = { .name = "filler",
						.name_bytes = 6,
						.type = HAUL_BYTES,
						.data = filler,
						.data_bytes = sizeof filler };
	uint8_t buffer[512];
	struct haul_node node = { .kind = 1 };

	if (haul_properties_encode(&property, 1, buffer, sizeof buffer, &node.properties) < 0)
		child_fail("encode", -EINVAL);
	(void)haul_changes_begin(changes);
	for (uint64_t i = 0; i < count; i++) {
		node.id = first + i;
		const int rc = haul_changes_create_node(changes, &node, NULL);
		if (rc < 0)
			child_fail("create", rc);
	}
	(void)haul_changes_end(changes);
}

struct ledger {
	int pipe;
	struct entry entry;
};

static void told(void *arg, int error, const struct haul_commit *commit, const int32_t *statuses,
		 uint32_t count)
{
	struct ledger *ledger = arg;

	(void)commit;
	(void)statuses;
	(void)count;
	if (error == 0)
		(void)!write(ledger->pipe, &ledger->entry, sizeof ledger->entry);
}

/* Commits and submits until it is killed. */
_Noreturn static void child_run(const char *path, int pipe, uint64_t id)
{
	enum { LEDGERS = HAUL_STORE_IN_FLIGHT + 2 };
	static struct ledger ledgers[LEDGERS];
	struct haul_changes *changes;
	struct haul_store *store;
	struct haul_err err = { 0 };

	int rc = haul_store_open(&store, path, &options, &err);
	if (rc < 0)
		child_fail(err.text, rc);
	if (haul_changes_new(&changes, 0, 0, 0) < 0)
		child_fail("changes", -ENOMEM);
	for (uint32_t i = 0;; i++) {
		const uint64_t count = i % 3 == 0 ? BULK : GROUP;
		struct ledger *ledger = &ledgers[i % LEDGERS];
		*ledger = (struct ledger){ pipe, { id, count } };
		haul_changes_clear(changes);
		add(changes, id, count);
		rc = i % 2 == 0 ? haul_store_submit(store, changes, told, ledger)
				: haul_store_commit(store, changes, NULL, NULL);
		if (rc < 0)
			child_fail("commit", rc);
		if (i % 2 != 0)
			told(ledger, 0, NULL, NULL, 0);
		id += count;
	}
}

static pid_t child_start(const char *path, uint64_t id, int *ret_pipe)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	const pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)close(ends[0]);
		child_run(path, ends[1], id);
	}
	(void)close(ends[1]);
	*ret_pipe = ends[0];
	return child;
}

static void child_kill(pid_t child)
{
	int status;

	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

struct book {
	struct entry *entries;
	uint32_t count, room;
};

static void book_add(struct book *book, const struct entry *entry)
{
	if (book->count == book->room) {
		book->room = book->room > 0 ? 2 * book->room : 1024;
		book->entries = realloc(book->entries, book->room * sizeof *book->entries);
		assert_non_null(book->entries);
	}
	book->entries[book->count++] = *entry;
}

/* Reads what was told: `wanted` entries, or (UINT32_MAX) until the other end is gone. */
static void book_read(struct book *book, int pipe, uint32_t wanted)
{
	struct entry entry;
	ssize_t got = 1;

	while (wanted-- > 0 && (got = read(pipe, &entry, sizeof entry)) > 0) {
		assert_int_equal(got, sizeof entry); /* a pipe takes so few bytes whole */
		book_add(book, &entry);
	}
	assert_true(got >= 0);
}

/* How many of the ids from `first` on are there, up to the first that is not. */
static uint64_t count_there(struct haul_reader *reader, uint64_t first, uint64_t count)
{
	static struct haul_node nodes[BULK];
	static int32_t statuses[BULK];
	uint64_t ids[BULK], there = 0;

	assert_true(count <= BULK);
	for (uint64_t i = 0; i < count; i++)
		ids[i] = first + i;
	assert_int_equal(haul_reader_get(reader, ids, (uint32_t)count, nodes, statuses), count);
	while (there < count && statuses[there] == 0)
		there++;
	if (there < count)
		assert_int_equal(statuses[there], -ENOENT);
	return there;
}

static void expect_ledger(struct haul_reader *reader, const struct book *book)
{
	for (uint32_t i = 0; i < book->count; i++) {
		const struct entry *entry = &book->entries[i];
		const uint64_t there = count_there(reader, entry->first, entry->count);
		if (there < entry->count)
			fail_msg("node %llu was acknowledged",
				 (unsigned long long)(entry->first + there));
	}
}

/* All groups there are are whole: ids without a gap, and the last is the end of its group. */
static uint64_t expect_whole(struct haul_reader *reader, uint64_t from)
{
	enum { PAGE = 1000 };
	static struct haul_node nodes[PAGE];
	struct haul_scan scan = { .first_id = from, .last_id = UINT64_MAX - 1 };
	uint64_t next = from;
	int rc;

	while ((rc = haul_reader_scan(reader, &scan, nodes, PAGE)) > 0) {
		for (int i = 0; i < rc; i++)
			assert_int_equal(nodes[i].id, next++);
	}
	assert_int_equal(rc, 0);
	/* groups of a child: BULK, GROUP, GROUP, again and again */
	const uint64_t left = (next - from) % (BULK + 2 * GROUP);
	assert_true(left == 0 || left == BULK || left == BULK + GROUP);
	return next;
}

static uint64_t look(const char *path, const struct book *book, uint64_t from)
{
	struct haul_store *store;
	struct haul_reader *reader;
	struct haul_err err = { 0 };

	if (haul_store_open(&store, path, &options, &err) < 0)
		fail_msg("open after a kill: %s", err.text);
	assert_int_equal(haul_store_reader(store, 0, &reader), 0);
	expect_ledger(reader, book);
	const uint64_t next = expect_whole(reader, from);
	haul_reader_close(reader);
	assert_int_equal(haul_store_close(store), 0);
	return next;
}

/* Killed while it opens: as soon as it has begun, or a moment later; nothing is told. */
static void kill_recovery(const char *path, uint64_t id, struct prng *prng)
{
	int pipe;
	const pid_t child = child_start(path, id, &pipe);
	struct pollfd ready = { .fd = pipe, .events = POLLIN };

	(void)poll(&ready, 1, (int)prng_below(prng, 12));
	child_kill(child);
	(void)close(pipe);
}

/* A child is killed after so many groups were acknowledged; the book has all it was told. */
static void write_and_die(const char *path, struct book *book, uint64_t id, uint32_t acks)
{
	int pipe;
	const pid_t child = child_start(path, id, &pipe);

	book_read(book, pipe, acks);
	child_kill(child);
	book_read(book, pipe, UINT32_MAX);
	(void)close(pipe);
}

/* Every acknowledged group is there, every other whole or absent, round after round. */
static void test_store_kill__loses_nothing_acknowledged(void **state)
{
	struct folder_lab folder;
	struct book book = { .count = 0 };
	struct prng prng;
	uint64_t id = 1;

	(void)state;
	test_prng(&prng);
	folder_lab_open(&folder);
	assert_int_equal(haul_store_init(folder.store, &folder.err), 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		const uint64_t from = id;
		write_and_die(folder.store, &book, id, ACKS_MIN + prng_below(&prng, 200));
		id = look(folder.store, &book, from);
	}
	free(book.entries);
	folder_lab_close(&folder);
}

/* The same, and the one who recovers is killed too, with what it had begun to write. */
static void test_store_kill__also_during_recovery(void **state)
{
	struct folder_lab folder;
	struct book book = { .count = 0 };
	struct prng prng;
	uint64_t id = 1;

	(void)state;
	test_prng(&prng);
	folder_lab_open(&folder);
	assert_int_equal(haul_store_init(folder.store, &folder.err), 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		const uint64_t from = id;
		write_and_die(folder.store, &book, id, ACKS_MIN + prng_below(&prng, 100));
		/* what this one writes has ids that nobody counts */
		kill_recovery(folder.store, (round + 1) * (UINT64_C(1) << 40), &prng);
		kill_recovery(folder.store, (round + 100) * (UINT64_C(1) << 40), &prng);
		struct haul_store *store;
		struct haul_reader *reader;
		if (haul_store_open(&store, folder.store, &options, &folder.err) < 0)
			fail_msg("open after a kill: %s", folder.err.text);
		assert_int_equal(haul_store_reader(store, 0, &reader), 0);
		expect_ledger(reader, &book);
		uint64_t there = BULK;
		for (id = from; there == BULK; id += there)
			there = count_there(reader, id, BULK);
		haul_reader_close(reader);
		assert_int_equal(haul_store_close(store), 0);
	}
	free(book.entries);
	folder_lab_close(&folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_kill__loses_nothing_acknowledged),
		cmocka_unit_test(test_store_kill__also_during_recovery),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
