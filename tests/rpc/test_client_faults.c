/* Connections that end, servers that are not there or are others: what a client makes of it. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/os.h"
#include "rpc/client_link.h"
#include "serve_lab.h"
#include "store/changes_state.h"
#include "store/session.h"
#include "store/store_state.h"

struct fault_lab {
	struct serve_lab serve;
	struct serve_proxy *proxy;
	struct haul_client *client;
	struct haul_changes *changes;
};

/* deadline_ns: of submits, as haul_client_options. */
static void fault_open(struct fault_lab *lab, int64_t deadline_ns)
{
	const struct haul_client_options options = { .policy = HAUL_CLIENT_SELFCLOCK,
						     .deadline_ns = deadline_ns };

	serve_lab_open(&lab->serve, NULL);
	lab->proxy = serve_proxy_open(&lab->serve);
	lab->client = serve_lab_client(&lab->serve, serve_proxy_address(lab->proxy), &options);
	assert_int_equal(haul_changes_new(&lab->changes, 64, 1 << 16, 0), 0);
}

static void fault_close(struct fault_lab *lab)
{
	haul_client_close(lab->client);
	haul_changes_free(lab->changes);
	serve_proxy_close(lab->proxy);
	serve_lab_close(&lab->serve);
}

static uint64_t figure(struct fault_lab *lab, const char *block, const char *name)
{
	return serve_lab_figure(&lab->serve, block, name);
}

static struct haul_future *put(struct fault_lab *lab, uint64_t id, uint32_t count)
{
	struct haul_future *future;

	serve_lab_nodes(lab->changes, id, count);
	assert_int_equal(haul_client_future(lab->client, lab->changes, &future), 0);
	return future;
}

/* ---- retries ---- */

/* The answer is lost with its connection: the frame is sent again and told what it was told the
 * first time, not "exists already", as it was applied once. */
static void test_faults__applies_a_retry_once(void **state)
{
	struct fault_lab lab;
	int32_t statuses[2] = { 9, 9 };

	(void)state;
	fault_open(&lab, -1);
	serve_proxy_hold(lab.proxy, true);
	struct haul_future *future = put(&lab, 1, 2);
	while (!serve_lab_has(&lab.serve, 2))
		(void)sched_yield();
	serve_proxy_cut(lab.proxy);
	serve_proxy_hold(lab.proxy, false);
	assert_int_equal(haul_future_wait(future, -1, statuses, NULL), 0);
	assert_int_equal(statuses[0], 0);
	assert_int_equal(statuses[1], 0);
	assert_int_equal(figure(&lab, "client", "retries"), 1);
	assert_int_equal(figure(&lab, "client", "reconnects"), 1);
	assert_int_equal(figure(&lab, "store.server", "retries_deduplicated"), 1);
	fault_close(&lab);
}

/* The frame is lost before the server had it: it is sent again, and executed then. */
static void test_faults__sends_again_what_never_arrived(void **state)
{
	struct fault_lab lab;
	int32_t status = 9;

	(void)state;
	fault_open(&lab, -1);
	serve_proxy_mute(lab.proxy, true);
	struct haul_future *future = put(&lab, 1, 1);
	assert_false(serve_lab_has(&lab.serve, 1));
	serve_proxy_cut(lab.proxy);
	serve_proxy_mute(lab.proxy, false);
	assert_int_equal(haul_future_wait(future, -1, &status, NULL), 0);
	assert_int_equal(status, 0);
	assert_int_equal(figure(&lab, "store.server", "retries_deduplicated"), 0);
	fault_close(&lab);
}

/* Frames in flight keep their order over a lost connection. */
static void test_faults__keeps_order_over_a_lost_connection(void **state)
{
	struct fault_lab lab;
	struct haul_future *futures[3];
	int32_t status = 9;

	(void)state;
	fault_open(&lab, -1);
	serve_proxy_hold(lab.proxy, true);
	futures[0] = put(&lab, 1, 1);
	haul_changes_clear(lab.changes);
	assert_int_equal(haul_changes_delete_node(lab.changes, 1, NULL), 0);
	assert_int_equal(haul_client_future(lab.client, lab.changes, &futures[1]), 0);
	futures[2] = put(&lab, 1, 1);
	serve_proxy_cut(lab.proxy);
	serve_proxy_hold(lab.proxy, false);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(haul_future_wait(futures[i], -1, &status, NULL), 0);
		assert_int_equal(status, 0);
	}
	assert_true(serve_lab_has(&lab.serve, 1));
	fault_close(&lab);
}

struct worker {
	pthread_t thread;
	struct fault_lab *lab;
	uint64_t first;
	uint32_t wrong;
	_Atomic uint32_t done;
};
enum { WORKERS = 4, COMMITS = 150 };

static void *commit_many(void *arg)
{
	struct worker *worker = arg;
	struct haul_changes *changes;

	assert_int_equal(haul_changes_new(&changes, 64, 1 << 16, 0), 0);
	for (uint32_t i = 0; i < COMMITS; i++) {
		int32_t statuses[2] = { 9, 9 };
		serve_lab_nodes(changes, worker->first + i * 2, 2);
		const int rc = haul_client_commit(worker->lab->client, changes, statuses, NULL);
		worker->wrong += rc != 0 || statuses[0] != 0 || statuses[1] != 0;
		worker->done++;
	}
	haul_changes_free(changes);
	return NULL;
}

/* Connections are cut again and again under load: every change is done exactly once. */
static void test_faults__does_everything_once(void **state)
{
	struct worker workers[WORKERS];
	struct fault_lab lab;
	struct prng prng;
	uint32_t done = 0;

	(void)state;
	test_prng(&prng);
	fault_open(&lab, -1);
	for (uint32_t i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){ .lab = &lab, .first = 1 + i * 10000 };
		assert_int_equal(pthread_create(&workers[i].thread, NULL, commit_many, &workers[i]),
				 0);
	}
	while (done < WORKERS * COMMITS) {
		const uint32_t next = done + 1 + (uint32_t)(prng_next(&prng) % 40);
		while (done < next && done < WORKERS * COMMITS) {
			(void)sched_yield();
			done = 0;
			for (uint32_t i = 0; i < WORKERS; i++)
				done += workers[i].done;
		}
		serve_proxy_hold(lab.proxy, prng_next(&prng) % 2 == 0);
		serve_proxy_cut(lab.proxy);
		serve_proxy_hold(lab.proxy, false);
	}
	for (uint32_t i = 0; i < WORKERS; i++) {
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
		assert_int_equal(workers[i].wrong, 0);
	}
	assert_true(figure(&lab, "client", "reconnects") > 0);
	fault_close(&lab);
}

/* The server ends and comes again, with the same store: the client goes on. */
static void test_faults__survives_a_restart(void **state)
{
	struct fault_lab lab;
	int32_t status = 9;

	(void)state;
	fault_open(&lab, -1);
	serve_lab_nodes(lab.changes, 1, 1);
	assert_int_equal(haul_client_commit(lab.client, lab.changes, &status, NULL), 0);
	serve_lab_stop(&lab.serve);
	struct haul_future *future = put(&lab, 2, 1);
	serve_lab_start(&lab.serve, NULL);
	assert_int_equal(haul_future_wait(future, -1, &status, NULL), 0);
	assert_int_equal(status, 0);
	fault_close(&lab);
}

/* ---- deadlines and outcomes ---- */

/* The server has it, its answer does not come: "unknown" at the deadline, and settled afterwards:
 * it was committed. */
static void test_faults__settles_what_was_committed(void **state)
{
	struct haul_client_result result = { 0 };
	enum haul_outcome outcome = HAUL_OUTCOME_UNKNOWN;
	struct fault_lab lab;

	(void)state;
	fault_open(&lab, 100 * NS_PER_MS);
	serve_proxy_hold(lab.proxy, true);
	serve_lab_nodes(lab.changes, 1, 1);
	assert_int_equal(haul_client_commit(lab.client, lab.changes, NULL, &result), -ETIMEDOUT);
	assert_int_equal(result.seq, 1);
	assert_int_equal(figure(&lab, "client", "timeouts"), 1);
	while (!serve_lab_has(&lab.serve, 1))
		(void)sched_yield();
	assert_int_equal(haul_client_outcome(lab.client, result.seq, &outcome), -ETIMEDOUT);
	serve_proxy_cut(lab.proxy);
	serve_proxy_hold(lab.proxy, false);
	int rc;
	while ((rc = haul_client_outcome(lab.client, result.seq, &outcome)) == -ETIMEDOUT)
		;
	assert_int_equal(rc, 0);
	assert_int_equal(outcome, HAUL_OUTCOME_COMMITTED);
	assert_int_equal(figure(&lab, "store.server", "fences"), 1);
	fault_close(&lab);
}

/* The server never had it: after the deadline it is fenced off instead of being applied late, and
 * what comes later goes on in the same session. */
static void test_faults__never_applies_what_was_given_up(void **state)
{
	struct haul_client_result result = { 0 };
	enum haul_outcome outcome = HAUL_OUTCOME_UNKNOWN;
	struct fault_lab lab;
	int32_t status = 9;
	int rc;

	(void)state;
	fault_open(&lab, 100 * NS_PER_MS);
	serve_proxy_mute(lab.proxy, true);
	serve_lab_nodes(lab.changes, 1, 1);
	assert_int_equal(haul_client_commit(lab.client, lab.changes, NULL, &result), -ETIMEDOUT);
	serve_proxy_cut(lab.proxy);
	serve_proxy_mute(lab.proxy, false);
	while ((rc = haul_client_outcome(lab.client, result.seq, &outcome)) == -ETIMEDOUT)
		;
	assert_int_equal(rc, 0);
	assert_int_equal(outcome, HAUL_OUTCOME_NEVER);
	assert_false(serve_lab_has(&lab.serve, 1));
	serve_lab_nodes(lab.changes, 2, 1);
	do
		rc = haul_client_commit(lab.client, lab.changes, &status, &result);
	while (rc == -ETIMEDOUT);
	assert_int_equal(rc, 0);
	assert_int_equal(haul_client_outcome(lab.client, result.seq, &outcome), 0);
	assert_int_equal(outcome, HAUL_OUTCOME_COMMITTED);
	assert_false(serve_lab_has(&lab.serve, 1));
	assert_int_equal(figure(&lab, "client", "sessions"), 1);
	assert_int_equal(haul_client_outcome(lab.client, 0, &outcome), -EINVAL);
	assert_int_equal(haul_client_outcome(lab.client, 1000, &outcome), -EINVAL);
	fault_close(&lab);
}

/* What was gathered and never sent is told at its deadline, and never sent afterwards. */
static void test_faults__forgets_what_was_never_sent(void **state)
{
	struct haul_client_result result = { 0 };
	enum haul_outcome outcome = HAUL_OUTCOME_UNKNOWN;
	struct fault_lab lab;
	struct haul_future *futures[4];
	int rc;

	(void)state;
	fault_open(&lab, 100 * NS_PER_MS);
	serve_proxy_refuse(lab.proxy, true);
	serve_proxy_cut(lab.proxy);
	for (uint32_t i = 0; i < 4; i++) /* two in flight, the others gathered */
		futures[i] = put(&lab, 1 + i, 1);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(haul_future_wait(futures[i], -1, NULL, &result), -ETIMEDOUT);
	serve_proxy_refuse(lab.proxy, false);
	while ((rc = haul_client_outcome(lab.client, result.seq, &outcome)) == -ETIMEDOUT)
		;
	assert_int_equal(rc, 0);
	assert_int_equal(outcome, HAUL_OUTCOME_NEVER);
	serve_lab_nodes(lab.changes, 100, 1);
	while ((rc = haul_client_commit(lab.client, lab.changes, NULL, NULL)) == -ETIMEDOUT)
		;
	for (uint32_t i = 0; i < 4; i++)
		assert_false(serve_lab_has(&lab.serve, 1 + i));
	fault_close(&lab);
}

static void told_over(void *arg, const struct haul_client_result *result)
{
	int *error = arg;
	__atomic_store_n(error, result->error, __ATOMIC_RELEASE);
}

/* Closing with the server gone tells the rest that it is over, after the deadline, and returns. */
static void test_faults__closes_without_a_server(void **state)
{
	int error = 0;
	struct fault_lab lab;

	(void)state;
	fault_open(&lab, 50 * NS_PER_MS);
	serve_lab_stop(&lab.serve);
	serve_lab_nodes(lab.changes, 1, 1);
	assert_int_equal(haul_client_submit(lab.client, lab.changes, told_over, &error), 0);
	fault_close(&lab);
	assert_true(error == -ESHUTDOWN || error == -ETIMEDOUT);
}

/* ---- sessions ---- */

static void answered(void *arg, const struct store_answer *answer)
{
	uint32_t *count = arg;
	assert_int_equal(answer->error, 0);
	__atomic_fetch_add(count, 1, __ATOMIC_RELEASE);
}

/* So many sessions that all that were there before are displaced. */
static void displace(struct fault_lab *lab)
{
	static _Alignas(8) uint8_t frames[HAUL_STORE_IN_FLIGHT][1024];
	struct haul_store_status status;
	uint32_t count = 0;

	haul_store_status(lab->serve.store, &status);
	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		uint8_t *data = frames[i % HAUL_STORE_IN_FLIGHT];
		const struct changes_sender sender = { .session = { 1000 + i, status.op_last },
						       .seq = 1,
						       .kind = FRAME_CHANGES };
		struct frame frame;
		serve_lab_nodes(lab->changes, 100000 + i, 1);
		assert_int_equal(changes_seal(lab->changes, &sender, data, 1024), 0);
		frame_trust(data, &frame);
		assert_int_equal(store_submit_frame(lab->serve.store, &frame, answered, &count), 0);
		assert_int_equal(haul_store_flush(lab->serve.store), 0);
	}
	assert_int_equal(count, SESSIONS_MAX);
}

/* The server has forgotten the session of an idle client: nothing was lost by it, so the client
 * begins another and nobody notices. */
static void test_faults__begins_a_new_session(void **state)
{
	struct fault_lab lab;
	struct haul_client_result result;
	int32_t status = 9;

	(void)state;
	fault_open(&lab, -1);
	serve_lab_nodes(lab.changes, 1, 1);
	assert_int_equal(haul_client_commit(lab.client, lab.changes, &status, &result), 0);
	displace(&lab);
	serve_lab_nodes(lab.changes, 2, 1);
	assert_int_equal(haul_client_commit(lab.client, lab.changes, &status, &result), 0);
	assert_int_equal(status, 0);
	assert_int_equal(result.seq, 2);
	assert_int_equal(figure(&lab, "client", "sessions"), 2);
	assert_int_equal(figure(&lab, "client", "sessions_expired"), 0);
	fault_close(&lab);
}

/* But what may have been applied before the session was forgotten is told HAUL_ESTALE, not done a
 * second time; and the client goes on. */
static void test_faults__tells_an_expired_session(void **state)
{
	enum haul_outcome outcome = HAUL_OUTCOME_COMMITTED;
	struct haul_client_result result = { 0 };
	struct fault_lab lab;
	int32_t status = 9;

	(void)state;
	fault_open(&lab, -1);
	serve_lab_nodes(lab.changes, 1, 1);
	assert_int_equal(haul_client_commit(lab.client, lab.changes, &status, NULL), 0);
	serve_proxy_hold(lab.proxy, true);
	struct haul_future *future = put(&lab, 2, 1);
	while (!serve_lab_has(&lab.serve, 2))
		(void)sched_yield();
	serve_proxy_refuse(lab.proxy, true);
	serve_proxy_cut(lab.proxy);
	displace(&lab);
	serve_proxy_hold(lab.proxy, false);
	serve_proxy_refuse(lab.proxy, false);
	assert_int_equal(haul_future_wait(future, -1, NULL, &result), HAUL_ESTALE);
	assert_int_equal(haul_client_outcome(lab.client, result.seq, &outcome), 0);
	assert_int_equal(outcome, HAUL_OUTCOME_UNKNOWN);
	assert_int_equal(figure(&lab, "client", "sessions_expired"), 1);
	serve_lab_nodes(lab.changes, 3, 1);
	assert_int_equal(haul_client_commit(lab.client, lab.changes, &status, NULL), 0);
	assert_int_equal(status, 0);
	fault_close(&lab);
}

/* ---- others ---- */

struct stranger {
	int listener;
	char address[FOLDER_LAB_PATH + 32];
	struct folder_lab folder;
	const uint8_t *says;
	size_t bytes;
	bool ends;
	pthread_t thread;
};

/* Says its text to one client, and ends or stays silent. */
static void *be_strange(void *arg)
{
	struct stranger *stranger = arg;
	uint8_t away[4096];
	const int fd = accept4(stranger->listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(recv(fd, away, sizeof away, 0) > 0);
	if (stranger->bytes > 0)
		(void)send(fd, stranger->says, stranger->bytes, MSG_NOSIGNAL);
	if (stranger->ends)
		(void)shutdown(fd, SHUT_WR);
	while (recv(fd, away, sizeof away, 0) > 0)
		;
	(void)close(fd);
	return NULL;
}

static void stranger_open(struct stranger *stranger)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	folder_lab_open(&stranger->folder);
	(void)snprintf(stranger->address, sizeof stranger->address, "unix:%s/stranger",
		       stranger->folder.path);
	memcpy(name.sun_path, stranger->address + 5, strlen(stranger->address) - 5);
	stranger->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(stranger->listener, (const struct sockaddr *)&name, sizeof name), 0);
	assert_int_equal(listen(stranger->listener, 1), 0);
	assert_int_equal(pthread_create(&stranger->thread, NULL, be_strange, stranger), 0);
}

static void stranger_close(struct stranger *stranger)
{
	assert_int_equal(pthread_join(stranger->thread, NULL), 0);
	(void)close(stranger->listener);
	folder_lab_close(&stranger->folder);
}

static int meet(struct stranger *stranger, struct haul_err *err)
{
	struct link_target target;
	struct link link;

	stranger_open(stranger);
	assert_int_equal(link_target_read(&target, stranger->address, NULL, err), 0);
	link_begin(&link, &target, os_linux());
	const int rc = link_dial(&link, 100 * NS_PER_MS, err);
	link_close(&link);
	stranger_close(stranger);
	return rc;
}

/* A server of something else, one that hangs up, and one that says nothing: a clear error, and no
 * client that hangs for ever. */
static void test_faults__names_a_wrong_server(void **state)
{
	static char html[300] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
	struct stranger talks = { .says = (const uint8_t *)html, .bytes = sizeof html };
	struct stranger leaves = { .says = (const uint8_t *)html, .bytes = 20, .ends = true };
	struct stranger silent = { .bytes = 0 };
	struct haul_err err = { 0 };

	(void)state;
	memset(html + 50, '.', sizeof html - 50);
	assert_int_equal(meet(&talks, &err), -EPROTO);
	assert_non_null(strstr(err.text, "not a server of a store"));
	assert_int_equal(meet(&leaves, &err), -EPROTO);
	assert_int_equal(meet(&silent, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "nothing came in time"));
}

/* A server of another version, which says so in its own frames. */
static void test_faults__names_another_version(void **state)
{
	static _Alignas(8) uint8_t frame[WIRE_ERROR_BYTES];
	struct frame_head head;
	struct haul_err err = { 0 };
	struct stranger other = { .says = frame };

	(void)state;
	other.bytes = wire_put_error(frame, HAUL_EVERSION, "version 2 only");
	struct stranger polite = { .says = frame, .bytes = other.bytes };
	assert_int_equal(meet(&polite, &err), HAUL_EVERSION);
	assert_non_null(strstr(err.text, "version 2 only"));
	memcpy(&head, frame, sizeof head);
	head.version = 2;
	memcpy(frame, &head, sizeof head);
	frame_seal(frame);
	assert_int_equal(meet(&other, &err), HAUL_EVERSION);
	assert_non_null(strstr(err.text, "another version"));
}

/* Nobody listens: said at once. */
static void test_faults__says_that_nobody_listens(void **state)
{
	struct haul_client *client = NULL;
	struct haul_err err = { 0 };

	(void)state;
	assert_int_equal(haul_client_open(&client, "127.0.0.1:1", NULL, &err), -ECONNREFUSED);
	assert_non_null(strstr(err.text, "127.0.0.1:1"));
	assert_int_equal(haul_client_open(&client, "unix:/nonexistent/socket", NULL, &err),
			 -ECONNREFUSED);
	assert_int_equal(haul_client_open(&client, "1.2.3.4:x", NULL, &err), -EINVAL);
	assert_int_equal(haul_client_open(&client, "[::1", NULL, &err), -EINVAL);
	assert_int_equal(haul_client_open(&client, "", NULL, &err), -EINVAL);
	assert_null(client);
}

/* Another store is served where the old one was: frames meant for one never get to the other. */
static void test_faults__does_not_write_to_another_store(void **state)
{
	struct fault_lab lab;
	struct haul_store *other, *own;
	struct haul_client_result result = { 0 };
	const struct haul_store_options options = { .memory = 128 << 20 };

	(void)state;
	fault_open(&lab, -1);
	serve_lab_stop(&lab.serve);
	struct haul_future *future = put(&lab, 1, 1);
	assert_int_equal(haul_store_init(lab.serve.folder.other, NULL), 0);
	assert_int_equal(haul_store_open(&other, lab.serve.folder.other, &options, NULL), 0);
	own = lab.serve.store;
	lab.serve.store = other;
	serve_lab_start(&lab.serve, NULL);
	assert_int_equal(haul_future_wait(future, -1, NULL, &result), HAUL_ESTALE);
	assert_false(serve_lab_has(&lab.serve, 1));
	serve_lab_nodes(lab.changes, 2, 1);
	assert_int_equal(haul_client_commit(lab.client, lab.changes, NULL, NULL), HAUL_ESTALE);
	assert_int_equal(haul_store_close(own), 0);
	fault_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults__applies_a_retry_once),
		cmocka_unit_test(test_faults__sends_again_what_never_arrived),
		cmocka_unit_test(test_faults__keeps_order_over_a_lost_connection),
		cmocka_unit_test(test_faults__does_everything_once),
		cmocka_unit_test(test_faults__survives_a_restart),
		cmocka_unit_test(test_faults__settles_what_was_committed),
		cmocka_unit_test(test_faults__never_applies_what_was_given_up),
		cmocka_unit_test(test_faults__forgets_what_was_never_sent),
		cmocka_unit_test(test_faults__closes_without_a_server),
		cmocka_unit_test(test_faults__begins_a_new_session),
		cmocka_unit_test(test_faults__tells_an_expired_session),
		cmocka_unit_test(test_faults__names_a_wrong_server),
		cmocka_unit_test(test_faults__names_another_version),
		cmocka_unit_test(test_faults__says_that_nobody_listens),
		cmocka_unit_test(test_faults__does_not_write_to_another_store),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
