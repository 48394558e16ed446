/* The figures of a served store, as a client asks for them: of a server that works, and of one that
 * is of another version or lies. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "rpc/wire_status.h"
#include "serve_lab.h"

/* ---- what was told ---- */

enum { BLOCKS = 8 };

struct seen {
	char names[BLOCKS][64];
	struct haul_stats stats[BLOCKS];
	uint32_t count;
	uint64_t operations; /* of the counter operations_processed */
};

static void see(const struct haul_stats *stats, void *arg)
{
	struct seen *seen = arg;

	assert_true(seen->count < BLOCKS);
	(void)strncpy(seen->names[seen->count], stats->name, sizeof *seen->names - 1);
	for (uint32_t i = 0; i < stats->counter_count; i++) {
		if (strcmp(stats->counters[i].name, "operations_processed") == 0)
			seen->operations = stats->extra[i];
	}
	seen->stats[seen->count++] = *stats;
}

static const struct haul_stats *seen_block(const struct seen *seen, const char *name)
{
	uint32_t i = 0;

	while (i < seen->count && strcmp(seen->names[i], name) != 0)
		i++;
	assert_true(i < seen->count);
	return &seen->stats[i];
}

static struct haul_changes *changes_new(void)
{
	struct haul_changes *changes;

	assert_int_equal(haul_changes_new(&changes, 64, 16 << 10, 0), 0);
	return changes;
}

/* ---- of a server that works ---- */

/* The same figures and blocks as the process of the server sees. */
static void test_client_status__tells_what_the_server_has(void **state)
{
	struct haul_changes *changes = changes_new();
	struct haul_store_status here, there;
	static struct seen seen;
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	const char *const addresses[] = { lab.local, lab.tcp };
	for (uint32_t i = 0; i < 2; i++) {
		struct haul_client *client = serve_lab_client(&lab, addresses[i], NULL);
		serve_lab_nodes(changes, 1 + 10 * i, 10);
		assert_int_equal(haul_client_commit(client, changes, NULL, NULL), 0);
		memset(&seen, 0, sizeof seen);
		assert_int_equal(haul_client_status(client, &there, see, &seen), 0);
		haul_store_status(lab.store, &here);
		assert_memory_equal(there.uuid, here.uuid, sizeof here.uuid);
		assert_int_equal(there.op_last, here.op_last);
		assert_int_equal(there.op_last, i + 1);
		assert_int_equal(there.level_count, here.level_count);
		assert_int_equal(there.memory_bytes, here.memory_bytes);
		assert_int_equal(there.bytes_logged, here.bytes_logged);
		assert_true(there.sync_ns > 0);
		assert_true(there.memtable_bytes > 0);
		assert_int_equal(seen.count, 5); /* the client of this process among them */
		assert_int_equal(seen.operations, 10 * (i + 1));
		assert_int_equal(seen_block(&seen, "store.server")->ops, 10 * (i + 1));
		assert_int_equal(seen_block(&seen, "store.server")->fill.max, 10);
		assert_int_equal(seen_block(&seen, "store.commit")->batches, i + 1);
		assert_true(seen_block(&seen, "store.log")->batches > 0);
		assert_true(seen_block(&seen, "store.lsm")->counter_count >= 24);
		assert_int_equal(haul_client_status(client, &there, NULL, NULL), 0);
		assert_int_equal(serve_lab_figure(&lab, "store.server", "queries"), 2 * (i + 1));
		haul_client_close(client);
	}
	haul_changes_free(changes);
	serve_lab_close(&lab);
}

/* Asking is no barrier: a change that is gathered stays gathered until its own time comes. */
static void test_client_status__sends_nothing_that_is_gathered(void **state)
{
	const struct haul_client_options options = {
		.policy = HAUL_CLIENT_FIXED,
		.limits = { .ops_max = 100,
			    .bytes_max = 1 << 20,
			    .wait_max_ns = 3600 * NS_PER_S,
			    .ops_start = 100 },
		.deadline_ns = -1,
	};
	struct haul_changes *changes = changes_new();
	struct haul_store_status status;
	struct haul_client_result result;
	struct haul_future *future;
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, &options);
	serve_lab_nodes(changes, 1, 1);
	assert_int_equal(haul_client_future(client, changes, &future), 0);
	assert_int_equal(haul_client_status(client, &status, NULL, NULL), 0);
	assert_int_equal(status.op_last, 0);
	assert_int_equal(haul_client_flush(client), 0);
	assert_int_equal(haul_future_wait(future, -1, NULL, &result), 0);
	assert_int_equal(haul_client_status(client, &status, NULL, NULL), 0);
	assert_int_equal(status.op_last, 1);
	haul_client_close(client);
	haul_changes_free(changes);
	serve_lab_close(&lab);
}

struct writer {
	struct haul_client *client;
	uint64_t from;
	pthread_t thread;
};
enum { WRITERS = 2, COMMITS = 200 };

static void *write_on(void *arg)
{
	const struct writer *writer = arg;
	struct haul_changes *changes = changes_new();

	for (uint32_t i = 0; i < COMMITS; i++) {
		serve_lab_nodes(changes, writer->from + i, 1);
		assert_int_equal(haul_client_commit(writer->client, changes, NULL, NULL), 0);
	}
	haul_changes_free(changes);
	return NULL;
}

/* While others write: each answer is whole, and nothing that is counted goes back. */
static void test_client_status__beside_writers(void **state)
{
	struct haul_store_status status = { 0 };
	struct writer writers[WRITERS];
	static struct seen seen;
	struct serve_lab lab;
	uint64_t op = 0, operations = 0;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, NULL);
	for (uint32_t i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ .client = client, .from = 1 + i * COMMITS };
		assert_int_equal(pthread_create(&writers[i].thread, NULL, write_on, &writers[i]),
				 0);
	}
	for (uint32_t round = 0; round < 50; round++) {
		memset(&seen, 0, sizeof seen);
		assert_int_equal(haul_client_status(client, &status, see, &seen), 0);
		assert_int_equal(seen.count, 5);
		assert_true(status.op_last >= op && seen.operations >= operations);
		op = status.op_last;
		operations = seen.operations;
	}
	for (uint32_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
	memset(&seen, 0, sizeof seen);
	assert_int_equal(haul_client_status(client, &status, see, &seen), 0);
	assert_int_equal(seen.operations, WRITERS * COMMITS);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* The server went, and is back: it is asked again. It is gone: that is said, in time. */
static void test_client_status__of_a_server_that_went(void **state)
{
	const struct haul_client_options options = { .policy = HAUL_CLIENT_SELFCLOCK,
						     .deadline_ns = 200 * NS_PER_MS };
	struct haul_store_status status = { .op_last = 77 };
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, &options);
	serve_lab_stop(&lab);
	assert_int_equal(haul_client_status(client, &status, NULL, NULL), -ENOTCONN);
	assert_int_equal(status.op_last, 77);
	serve_lab_start(&lab, NULL);
	int rc = -ENOTCONN; /* on a busy machine a deadline may pass once more */
	for (uint32_t i = 0; i < 50 && rc < 0; i++)
		rc = haul_client_status(client, &status, NULL, NULL);
	assert_int_equal(rc, 0);
	assert_int_equal(status.op_last, 0);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* ---- of one that lies ---- */

enum { CONNS = 16 };

/* Greets all who come, and answers each query with `answer`, or by hanging up. */
struct liar {
	struct folder_lab folder;
	char address[FOLDER_LAB_PATH + 32];
	int listener, wake;
	pthread_t thread;
	int conns[CONNS];
	uint32_t count;
	const uint8_t *answer;
	uint32_t bytes;
	_Atomic uint32_t hang_ups; /* so many queries are not answered first */
};

static bool read_all(int fd, uint8_t *data, uint32_t bytes)
{
	return recv(fd, data, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

/* false: it is over. */
static bool liar_serve(struct liar *liar, int fd)
{
	const struct wire_welcome welcome = { .protocol = WIRE_PROTOCOL, .credits = 8 };
	_Alignas(8) uint8_t in[WIRE_HELLO_BYTES], out[WIRE_WELCOME_BYTES];
	struct frame_head head;

	if (!read_all(fd, in, FRAME_HEAD))
		return false;
	assert_int_equal(frame_check_head(in, &head), 0);
	assert_true(head.bytes <= sizeof in);
	if (!read_all(fd, in + FRAME_HEAD, head.bytes - FRAME_HEAD))
		return false;
	if (head.kind == WIRE_HELLO) {
		const uint32_t bytes = wire_put_welcome(out, &welcome);
		return send(fd, out, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
	}
	assert_int_equal(head.kind, WIRE_QUERY);
	if (liar->hang_ups > 0) {
		liar->hang_ups--;
		return false;
	}
	return send(fd, liar->answer, liar->bytes, MSG_NOSIGNAL) == (ssize_t)liar->bytes;
}

static void *liar_run(void *arg)
{
	struct liar *liar = arg;

	for (;;) {
		struct pollfd fds[2 + CONNS] = { { liar->wake, POLLIN, 0 },
						 { liar->listener, POLLIN, 0 } };
		for (uint32_t i = 0; i < liar->count; i++)
			fds[2 + i] = (struct pollfd){ liar->conns[i], POLLIN, 0 };
		(void)poll(fds, 2 + liar->count, -1);
		if (fds[0].revents != 0)
			return NULL;
		for (uint32_t i = 0; i < liar->count; i++) {
			if (fds[2 + i].revents == 0 || liar_serve(liar, liar->conns[i]))
				continue;
			(void)close(liar->conns[i]);
			liar->conns[i] = -1;
		}
		if (fds[1].revents == 0)
			continue;
		assert_true(liar->count < CONNS);
		liar->conns[liar->count++] = accept(liar->listener, NULL, NULL);
	}
}

static void liar_open(struct liar *liar)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	memset(liar, 0, sizeof *liar);
	folder_lab_open(&liar->folder);
	(void)snprintf(liar->address, sizeof liar->address, "unix:%s/socket", liar->folder.path);
	(void)strncpy(name.sun_path, liar->address + 5, sizeof name.sun_path - 1);
	liar->wake = eventfd(0, EFD_CLOEXEC);
	liar->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(liar->listener, (const struct sockaddr *)&name, sizeof name), 0);
	assert_int_equal(listen(liar->listener, CONNS), 0);
	assert_int_equal(pthread_create(&liar->thread, NULL, liar_run, liar), 0);
}

static void liar_close(struct liar *liar)
{
	const uint64_t one = 1;

	assert_int_equal(write(liar->wake, &one, sizeof one), sizeof one);
	assert_int_equal(pthread_join(liar->thread, NULL), 0);
	for (uint32_t i = 0; i < liar->count; i++) {
		if (liar->conns[i] >= 0)
			(void)close(liar->conns[i]);
	}
	(void)close(liar->listener);
	(void)close(liar->wake);
	folder_lab_close(&liar->folder);
}

/* A status with one block, whose result says `count`; seq as that of a first query. */
static uint32_t put_status(uint8_t *data, uint32_t room, int count)
{
	const struct haul_store_status status = { .op_last = 5, .level_count = 4 };
	const struct wire_result result = { .result = count, .complete = 1 };
	const struct wire_from from = { .seq = 1 };
	struct wire_page page = { data, WIRE_RESULT_HEAD, room };
	static struct haul_stats stats;

	haul_stats_init(&stats, "store.log", NULL, 0);
	memcpy(data + FRAME_HEAD, &result, sizeof result);
	wire_status_put(&page, &status);
	wire_status_put_block(&page, &stats);
	wire_seal(data, WIRE_RESULT, page.at, &from);
	return page.at;
}

/* What it says to `answer`; nothing may have been told when it failed. */
static int ask_liar(const uint8_t *answer, uint32_t bytes, uint32_t hang_ups)
{
	struct haul_store_status status = { .op_last = 77 };
	struct haul_client *client;
	struct haul_err err = { 0 };
	static struct seen seen;
	struct liar liar;

	liar_open(&liar);
	liar.answer = answer;
	liar.bytes = bytes;
	liar.hang_ups = hang_ups;
	if (haul_client_open(&client, liar.address, NULL, &err) < 0)
		fail_msg("%s", err.text);
	seen.count = 0;
	const int rc = haul_client_status(client, &status, see, &seen);
	assert_int_equal(status.op_last, rc < 0 ? 77 : 5);
	assert_int_equal(seen.count, rc < 0 ? 0 : 1);
	haul_client_close(client);
	liar_close(&liar);
	return rc;
}

/* An earlier server does not know the question, and says so; one that hangs up is asked again. */
static void test_client_status__of_an_earlier_server(void **state)
{
	_Alignas(8) uint8_t data[4096];

	(void)state;
	uint32_t bytes = wire_put_error(data, HAUL_ETYPE, "what came is not known here");
	assert_int_equal(ask_liar(data, bytes, 0), HAUL_ETYPE);
	bytes = put_status(data, sizeof data, 1);
	assert_int_equal(ask_liar(data, bytes, 0), 0);
	assert_int_equal(ask_liar(data, bytes, 3), 0);
}

/* Fewer blocks than it says, none of the figures, a frame over the limit, a code: each refused
 * before anybody is told anything. */
static void test_client_status__of_one_that_lies(void **state)
{
	const struct wire_from from = { .seq = 1 };
	_Alignas(8) uint8_t data[4096];

	(void)state;
	assert_int_equal(ask_liar(data, put_status(data, sizeof data, 2), 0), HAUL_ECORRUPT);
	assert_int_equal(ask_liar(data, put_status(data, sizeof data, INT32_MAX), 0),
			 HAUL_ECORRUPT);
	assert_int_equal(ask_liar(data, put_status(data, sizeof data, -EIO), 0), -EIO);
	(void)put_status(data, sizeof data, 1);
	wire_seal(data, WIRE_RESULT, WIRE_RESULT_HEAD, &from);
	assert_int_equal(ask_liar(data, WIRE_RESULT_HEAD, 0), HAUL_ECORRUPT);
	/* a head that announces more than there may be; sealed, as a liar would */
	uint8_t *big = calloc(1, WIRE_RESULT_MAX + 64);
	assert_non_null(big);
	memcpy(big + FRAME_HEAD, data + FRAME_HEAD, sizeof(struct wire_result));
	wire_seal(big, WIRE_RESULT, WIRE_RESULT_MAX + 8, &from);
	assert_int_equal(ask_liar(big, FRAME_HEAD, 0), HAUL_ELIMIT);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client_status__tells_what_the_server_has),
		cmocka_unit_test(test_client_status__sends_nothing_that_is_gathered),
		cmocka_unit_test(test_client_status__beside_writers),
		cmocka_unit_test(test_client_status__of_a_server_that_went),
		cmocka_unit_test(test_client_status__of_an_earlier_server),
		cmocka_unit_test(test_client_status__of_one_that_lies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
