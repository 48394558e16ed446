/* One client for a whole program: what callers put into it, and what they are told. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>

#include "serve_lab.h"

/* ---- results ---- */

struct told {
	sem_t sem;
	int error;
	uint64_t seq, op;
	uint32_t count;
	int32_t statuses[64];
};

static void told_init(struct told *told)
{
	memset(told, 0, sizeof *told);
	assert_int_equal(sem_init(&told->sem, 0, 0), 0);
}

static void tell(void *arg, const struct haul_client_result *result)
{
	struct told *told = arg;

	told->error = result->error;
	told->seq = result->seq;
	told->op = result->op;
	told->count = result->count;
	for (uint32_t i = 0; i < result->count && i < 64; i++)
		told->statuses[i] = result->statuses[i];
	sem_post(&told->sem);
}

static void wait_told(struct told *told)
{
	while (sem_wait(&told->sem) < 0)
		;
}

/* What gathers is closed by threshold, barrier or flush; the deadline is an hour away. */
static const struct haul_client_options patient = {
	.policy = HAUL_CLIENT_FIXED,
	.limits = { .ops_max = 8192,
		    .bytes_max = 1 << 20,
		    .wait_max_ns = INT64_C(3600000000000),
		    .ops_start = 100 },
};

static struct haul_changes *changes_of(uint64_t from, uint32_t count)
{
	struct haul_changes *changes;

	assert_int_equal(haul_changes_new(&changes, count < 64 ? 64 : count, 0, 0), 0);
	serve_lab_nodes(changes, from, count);
	return changes;
}

/* What was told is durable and there; the op is that of the store. */
static void test_client__commits(void **state)
{
	struct haul_client_result result = { 0 };
	struct haul_store_status status;
	struct serve_lab lab;
	int32_t statuses[3] = { 9, 9, 9 };

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.tcp, NULL);
	struct haul_changes *changes = changes_of(1, 3);
	assert_int_equal(haul_client_commit(client, changes, statuses, &result), 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(statuses[i], 0);
	haul_store_status(lab.store, &status);
	assert_int_equal(result.op, status.op_last);
	assert_int_equal(result.count, 3);
	assert_int_equal(result.seq, 1);
	assert_true(serve_lab_has(&lab, 3));
	assert_int_equal(haul_client_commit(client, changes, statuses, NULL), 0);
	assert_int_equal(statuses[1], -EEXIST);
	/* nothing at all is a commit, too */
	haul_changes_clear(changes);
	assert_int_equal(haul_client_commit(client, changes, NULL, &result), 0);
	assert_int_equal(result.count, 0);
	haul_changes_free(changes);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* A list with an open group is refused, and nothing of it is sent. */
static void test_client__refuses_an_open_group(void **state)
{
	const struct haul_node node = { .id = 5 };
	struct serve_lab lab;
	struct told told;

	(void)state;
	serve_lab_open(&lab, NULL);
	told_init(&told);
	struct haul_client *client = serve_lab_client(&lab, lab.local, NULL);
	struct haul_changes *changes = changes_of(1, 1);
	assert_int_equal(haul_changes_begin(changes), 0);
	assert_int_equal(haul_changes_create_node(changes, &node, NULL), 1);
	assert_int_equal(haul_client_submit(client, changes, tell, &told), -EINVAL);
	assert_int_equal(haul_client_flush(client), 0);
	assert_false(serve_lab_has(&lab, 1));
	haul_changes_free(changes);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* ---- many callers ---- */

enum { CALLERS = 64, SUBMITS = 40, IN_FLIGHT = 8 };

struct caller {
	pthread_t thread;
	struct haul_client *client;
	uint64_t first;
	struct told told[IN_FLIGHT];
	uint32_t wrong;
};

/* A group of two nodes, one of which exists already when `bad`; and a node of its own. */
static void caller_put(struct caller *caller, struct haul_changes *changes, uint32_t number)
{
	const uint64_t id = caller->first + number * 4;
	const struct haul_node group[2] = { { .id = id }, { .id = number % 3 == 2 ? id : id + 1 } };
	const struct haul_node alone = { .id = id + 2 };

	haul_changes_clear(changes);
	assert_int_equal(haul_changes_begin(changes), 0);
	assert_int_equal(haul_changes_create_node(changes, &group[0], NULL), 0);
	assert_int_equal(haul_changes_create_node(changes, &group[1], NULL), 1);
	assert_int_equal(haul_changes_end(changes), 0);
	assert_int_equal(haul_changes_create_node(changes, &alone, NULL), 2);
}

static void caller_check(struct caller *caller, uint32_t number)
{
	struct told *told = &caller->told[number % IN_FLIGHT];

	wait_told(told);
	const bool bad = number % 3 == 2;
	caller->wrong += told->error != 0 || told->count != 3;
	caller->wrong += told->statuses[0] != (bad ? -ECANCELED : 0);
	caller->wrong += told->statuses[1] != (bad ? -EEXIST : 0);
	caller->wrong += told->statuses[2] != 0;
}

static void *call(void *arg)
{
	struct caller *caller = arg;
	struct haul_changes *changes;

	assert_int_equal(haul_changes_new(&changes, 16, 4096, 0), 0);
	for (uint32_t i = 0; i < IN_FLIGHT; i++)
		told_init(&caller->told[i]);
	for (uint32_t i = 0; i < SUBMITS; i++) {
		if (i >= IN_FLIGHT)
			caller_check(caller, i - IN_FLIGHT);
		caller_put(caller, changes, i);
		caller->wrong += haul_client_submit(caller->client, changes, tell,
						    &caller->told[i % IN_FLIGHT]) != 0;
	}
	for (uint32_t i = SUBMITS - IN_FLIGHT; i < SUBMITS; i++)
		caller_check(caller, i);
	haul_changes_free(changes);
	return NULL;
}

/* Groups of 64 threads share frames, and each caller is told his own results: a group that fails
 * does so alone, whole, with its reason. */
static void test_client__tells_each_caller_his_own(void **state)
{
	static struct caller callers[CALLERS];
	struct serve_lab lab;
	uint32_t wrong = 0;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, NULL);
	for (uint32_t i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){ .client = client, .first = 1 + i * 1000 };
		assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
	}
	for (uint32_t i = 0; i < CALLERS; i++) {
		assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
		wrong += callers[i].wrong;
	}
	assert_int_equal(wrong, 0);
	assert_int_equal(serve_lab_figure(&lab, "client", "operations_queued"),
			 CALLERS * SUBMITS * 3);
	assert_int_equal(serve_lab_figure(&lab, "client", "operations_flushed"),
			 CALLERS * SUBMITS * 3);
	assert_true(serve_lab_figure(&lab, "client", "flushes_performed") < CALLERS * SUBMITS);
	haul_client_close(client);
	serve_lab_close(&lab);
}

struct committer {
	pthread_t thread;
	struct haul_client *client;
	uint64_t first;
	uint32_t wrong;
};

static void *commit_many(void *arg)
{
	struct committer *committer = arg;
	struct haul_changes *changes = changes_of(1, 1);

	for (uint32_t i = 0; i < SUBMITS; i++) {
		int32_t status = 9;
		serve_lab_nodes(changes, committer->first + i, 1);
		committer->wrong +=
			haul_client_commit(committer->client, changes, &status, NULL) != 0;
		committer->wrong += status != 0;
	}
	haul_changes_free(changes);
	return NULL;
}

/* Callers that wait take turns at receiving, and none is forgotten. */
static void test_client__lets_many_commit(void **state)
{
	static struct committer committers[16];
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, NULL);
	for (uint32_t i = 0; i < 16; i++) {
		committers[i] = (struct committer){ .client = client, .first = 1 + i * 1000 };
		assert_int_equal(
			pthread_create(&committers[i].thread, NULL, commit_many, &committers[i]),
			0);
	}
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(pthread_join(committers[i].thread, NULL), 0);
		assert_int_equal(committers[i].wrong, 0);
	}
	assert_true(serve_lab_has(&lab, 15 * 1000 + SUBMITS));
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* ---- defects of the original ---- */

/* The last changes of a program are sent by the deadline though nobody calls anything any more:
 * the original looked at its timer only when something was added. */
static void test_client__fires_the_deadline_by_itself(void **state)
{
	const struct haul_client_options options = { .policy = HAUL_CLIENT_FIXED };
	struct serve_lab lab;
	struct told told;

	(void)state;
	serve_lab_open(&lab, NULL);
	told_init(&told);
	struct haul_client *client = serve_lab_client(&lab, lab.local, &options);
	struct haul_changes *changes = changes_of(1, 1);
	assert_int_equal(haul_client_submit(client, changes, tell, &told), 0);
	wait_told(&told);
	assert_int_equal(told.error, 0);
	assert_int_equal(serve_lab_closed(&lab, "client", HAUL_CLOSE_DEADLINE), 1);
	assert_true(serve_lab_has(&lab, 1));
	haul_changes_free(changes);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* More than a frame holds is all sent: the original kept what it had sent and dropped the rest. */
static void test_client__keeps_what_does_not_fit(void **state)
{
	enum { LISTS = 20, EACH = 1000 };
	struct serve_lab lab;
	static struct told told[LISTS];

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, NULL);
	struct haul_changes *changes = changes_of(1, EACH);
	for (uint32_t i = 0; i < LISTS; i++) {
		told_init(&told[i]);
		serve_lab_nodes(changes, 1 + i * EACH, EACH);
		assert_int_equal(haul_client_submit(client, changes, tell, &told[i]), 0);
	}
	for (uint32_t i = 0; i < LISTS; i++) {
		wait_told(&told[i]);
		assert_int_equal(told[i].error, 0);
		assert_int_equal(told[i].count, EACH);
		assert_true(serve_lab_has(&lab, (i + 1) * EACH));
	}
	haul_changes_free(changes);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* What a caller gave belongs to him again at once: the original kept his pointer. */
static void test_client__copies_what_it_is_given(void **state)
{
	const struct haul_client_options options = { .policy = HAUL_CLIENT_FIXED };
	struct serve_lab lab;
	struct told told;

	(void)state;
	serve_lab_open(&lab, NULL);
	told_init(&told);
	struct haul_client *client = serve_lab_client(&lab, lab.local, &options);
	struct haul_changes *changes = changes_of(1, 1);
	assert_int_equal(haul_client_submit(client, changes, tell, &told), 0);
	serve_lab_nodes(changes, 77, 1);
	haul_changes_free(changes);
	wait_told(&told);
	assert_true(serve_lab_has(&lab, 1));
	assert_false(serve_lab_has(&lab, 77));
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* Kinds do not overtake each other: the original flushed nodes, then edges, whatever came first. */
static void test_client__keeps_program_order(void **state)
{
	const struct haul_node one = { .id = 1 }, two = { .id = 2 };
	const struct haul_edge edge = { .id = { 1, 2, 3, 0 } };
	struct serve_lab lab;
	struct told told[6];

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, &patient);
	struct haul_changes *changes = changes_of(1, 1);
	for (uint32_t i = 0; i < 6; i++) {
		told_init(&told[i]);
		haul_changes_clear(changes);
		if (i == 0 || i == 5)
			(void)haul_changes_create_node(changes, &one, NULL);
		if (i == 1)
			(void)haul_changes_create_node(changes, &two, NULL);
		if (i == 2)
			(void)haul_changes_create_edge(changes, &edge, NULL);
		if (i == 3)
			(void)haul_changes_delete_edge(changes, &edge.id, NULL);
		if (i == 4)
			(void)haul_changes_delete_node(changes, 1, NULL);
		assert_int_equal(haul_client_submit(client, changes, tell, &told[i]), 0);
	}
	assert_int_equal(haul_client_flush(client), 0);
	for (uint32_t i = 0; i < 6; i++) {
		wait_told(&told[i]);
		assert_int_equal(told[i].statuses[0], 0);
		assert_int_equal(told[i].seq, 1);
	}
	assert_int_equal(serve_lab_closed(&lab, "client", HAUL_CLOSE_MANUAL), 1);
	haul_changes_free(changes);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* ---- flush, barrier, futures ---- */

/* Flush returns when all is told; a barrier only sends, and so does a read. */
static void test_client__closes_for_flush_barrier_and_read(void **state)
{
	struct serve_lab lab;
	struct told told;
	struct haul_reader *reader;
	struct haul_node node;
	const uint64_t id = 3;
	int32_t status = 9;

	(void)state;
	serve_lab_open(&lab, NULL);
	told_init(&told);
	struct haul_client *client = serve_lab_client(&lab, lab.local, &patient);
	struct haul_changes *changes = changes_of(1, 1);
	assert_int_equal(haul_client_submit(client, changes, tell, &told), 0);
	assert_int_equal(haul_client_flush(client), 0);
	assert_int_equal(sem_trywait(&told.sem), 0);
	serve_lab_nodes(changes, 2, 1);
	assert_int_equal(haul_client_submit(client, changes, tell, &told), 0);
	assert_int_equal(haul_client_barrier(client), 0);
	wait_told(&told);
	assert_int_equal(serve_lab_closed(&lab, "client", HAUL_CLOSE_BARRIER), 1);
	assert_int_equal(haul_client_barrier(client), 0); /* nothing is gathered */
	serve_lab_nodes(changes, 3, 1);
	assert_int_equal(haul_client_submit(client, changes, tell, &told), 0);
	assert_int_equal(haul_client_reader(client, 0, &reader), 0);
	assert_int_equal(haul_reader_get(reader, &id, 1, &node, &status), 1);
	assert_int_equal(status, 0);
	assert_int_equal(serve_lab_closed(&lab, "client", HAUL_CLOSE_BARRIER), 2);
	haul_reader_close(reader);
	haul_changes_free(changes);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* A future is waited for later; one that was given up frees itself. */
static void test_client__has_futures(void **state)
{
	struct haul_client_result result;
	struct serve_lab lab;
	struct haul_future *future;
	int32_t statuses[2] = { 9, 9 };

	(void)state;
	serve_lab_open(&lab, NULL);
	struct serve_proxy *proxy = serve_proxy_open(&lab);
	struct haul_client *client = serve_lab_client(&lab, serve_proxy_address(proxy), NULL);
	struct haul_changes *changes = changes_of(1, 2);
	assert_int_equal(haul_client_future(client, changes, &future), 0);
	assert_int_equal(haul_future_wait(future, -1, statuses, &result), 0);
	assert_int_equal(statuses[1], 0);
	assert_int_equal(result.count, 2);
	serve_proxy_hold(proxy, true);
	serve_lab_nodes(changes, 11, 2);
	assert_int_equal(haul_client_future(client, changes, &future), 0);
	assert_int_equal(haul_future_wait(future, 1, NULL, NULL), -ETIMEDOUT);
	serve_proxy_hold(proxy, false);
	assert_int_equal(haul_client_flush(client), 0);
	assert_true(serve_lab_has(&lab, 12));
	haul_changes_free(changes);
	haul_client_close(client);
	serve_proxy_close(proxy);
	serve_lab_close(&lab);
}

struct chain {
	struct haul_client *client;
	struct haul_changes *changes;
	uint32_t left;
	int inside; /* what calls that would wait say */
	sem_t sem;
};

static void chain_next(void *arg, const struct haul_client_result *result)
{
	struct chain *chain = arg;

	assert_int_equal(result->error, 0);
	chain->inside = haul_client_commit(chain->client, chain->changes, NULL, NULL);
	if (chain->inside == -EDEADLK)
		chain->inside = haul_client_flush(chain->client);
	if (chain->left == 0) {
		sem_post(&chain->sem);
		return;
	}
	serve_lab_nodes(chain->changes, 1 + chain->left--, 1);
	assert_int_equal(haul_client_submit(chain->client, chain->changes, chain_next, chain), 0);
}

/* A callback may submit; what would wait for itself there says so. */
static void test_client__can_be_called_from_callbacks(void **state)
{
	struct serve_lab lab;
	struct chain chain = { .left = 200 };

	(void)state;
	serve_lab_open(&lab, NULL);
	chain.client = serve_lab_client(&lab, lab.local, NULL);
	chain.changes = changes_of(1, 1);
	assert_int_equal(sem_init(&chain.sem, 0, 0), 0);
	assert_int_equal(haul_client_submit(chain.client, chain.changes, chain_next, &chain), 0);
	while (sem_wait(&chain.sem) < 0)
		;
	assert_int_equal(chain.inside, -EDEADLK);
	assert_true(serve_lab_has(&lab, 201));
	haul_client_close(chain.client);
	haul_changes_free(chain.changes);
	serve_lab_close(&lab);
}

/* One section a kind, as the seed has it, when asked for; groups of several do not go with it. */
static void test_client__can_be_unordered(void **state)
{
	struct haul_client_options options = patient;
	const struct haul_node node = { .id = 9 };
	const struct haul_edge edge = { .id = { 1, 2, 3, 0 } };
	struct serve_lab lab;
	struct told told[2];

	(void)state;
	options.unordered = true;
	serve_lab_open(&lab, NULL);
	told_init(&told[0]);
	told_init(&told[1]);
	struct haul_client *client = serve_lab_client(&lab, lab.local, &options);
	struct haul_changes *changes = changes_of(1, 1);
	haul_changes_clear(changes); /* the edge is given first, and executed last */
	assert_int_equal(haul_changes_create_edge(changes, &edge, NULL), 0);
	assert_int_equal(haul_client_submit(client, changes, tell, &told[0]), 0);
	serve_lab_nodes(changes, 1, 2);
	assert_int_equal(haul_client_submit(client, changes, tell, &told[1]), 0);
	assert_int_equal(haul_client_flush(client), 0);
	assert_int_equal(told[0].statuses[0], 0);
	assert_int_equal(told[1].statuses[1], 0);
	haul_changes_clear(changes);
	assert_int_equal(haul_changes_begin(changes), 0);
	assert_int_equal(haul_changes_create_node(changes, &node, NULL), 0);
	assert_int_equal(haul_changes_delete_node(changes, 9, NULL), 1);
	assert_int_equal(haul_changes_end(changes), 0);
	assert_int_equal(haul_client_submit(client, changes, tell, &told[0]), -EINVAL);
	haul_changes_free(changes);
	haul_client_close(client);
	serve_lab_close(&lab);
}

/* ---- full ---- */

static struct haul_client *narrow(struct serve_lab *lab, struct serve_proxy *proxy,
				  enum haul_client_full full)
{
	const struct haul_client_options options = {
		.policy = HAUL_CLIENT_SELFCLOCK,
		.full = full,
		.window = 1,
		.limits = { .ops_max = 4, .bytes_max = 4096, .ops_start = 4 },
	};
	return serve_lab_client(lab, serve_proxy_address(proxy), &options);
}

/* With no room left it says so, and what it took before is told in the end. */
static void test_client__says_busy_when_full(void **state)
{
	struct serve_lab lab;
	static struct told told[64];
	uint32_t taken = 0;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct serve_proxy *proxy = serve_proxy_open(&lab);
	struct haul_client *client = narrow(&lab, proxy, HAUL_CLIENT_BUSY);
	struct haul_changes *changes = changes_of(1, 1);
	serve_proxy_mute(proxy, true);
	for (;;) {
		told_init(&told[taken]);
		serve_lab_nodes(changes, 1 + taken, 1);
		const int rc = haul_client_submit(client, changes, tell, &told[taken]);
		if (rc == -EBUSY)
			break;
		assert_int_equal(rc, 0);
		assert_true(++taken < 64);
	}
	assert_int_equal(taken, 1 + 4); /* in flight, and gathered */
	assert_int_equal(serve_lab_figure(&lab, "client", "busy_told"), 1);
	serve_proxy_mute(proxy, false);
	for (uint32_t i = 0; i < taken; i++) {
		wait_told(&told[i]);
		assert_int_equal(told[i].error, 0);
	}
	haul_changes_free(changes);
	haul_client_close(client);
	serve_proxy_close(proxy);
	serve_lab_close(&lab);
}

struct pusher {
	struct haul_client *client;
	_Atomic uint32_t taken, told;
};

static void count_told(void *arg, const struct haul_client_result *result)
{
	struct pusher *pusher = arg;

	assert_int_equal(result->error, 0);
	pusher->told++;
}

static void *push(void *arg)
{
	struct pusher *pusher = arg;
	struct haul_changes *changes = changes_of(1, 1);

	for (uint32_t i = 0; i < 40; i++) {
		serve_lab_nodes(changes, 1 + i, 1);
		assert_int_equal(haul_client_submit(pusher->client, changes, count_told, pusher),
				 0);
		pusher->taken++;
	}
	haul_changes_free(changes);
	return NULL;
}

/* Or the caller waits, and nothing is dropped. */
static void test_client__blocks_when_full(void **state)
{
	struct serve_lab lab;
	struct pusher pusher = { 0 };
	pthread_t thread;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct serve_proxy *proxy = serve_proxy_open(&lab);
	pusher.client = narrow(&lab, proxy, HAUL_CLIENT_BLOCK);
	serve_proxy_mute(proxy, true);
	assert_int_equal(pthread_create(&thread, NULL, push, &pusher), 0);
	while (serve_lab_figure(&lab, "client", "queue_full") == 0)
		(void)sched_yield();
	assert_int_equal(pusher.taken, 1 + 4);
	assert_int_equal(pusher.told, 0);
	serve_proxy_mute(proxy, false);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(haul_client_flush(pusher.client), 0);
	assert_int_equal(pusher.told, 40);
	haul_client_close(pusher.client);
	serve_proxy_close(proxy);
	serve_lab_close(&lab);
}

/* Options that cannot be are refused before anything is connected. */
static void test_client__refuses_bad_options(void **state)
{
	const struct haul_client_options bad[] = {
		{ .window = 9 },
		{ .policy = HAUL_CLIENT_POLICIES },
		{ .limits = { .ops_max = 8193, .bytes_max = 1, .ops_start = 1 } },
		{ .limits = { .ops_max = 1, .bytes_max = UINT32_MAX, .ops_start = 1 } },
		{ .full = (enum haul_client_full)7 },
		{ .token_file = "/nonexistent/token" },
	};
	struct haul_client *client = NULL;

	(void)state;
	for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct haul_err err = { 0 };
		assert_true(haul_client_open(&client, "127.0.0.1:1", &bad[i], &err) < 0);
		assert_true(err.text[0] != '\0');
		assert_null(client);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client__commits),
		cmocka_unit_test(test_client__refuses_an_open_group),
		cmocka_unit_test(test_client__tells_each_caller_his_own),
		cmocka_unit_test(test_client__lets_many_commit),
		cmocka_unit_test(test_client__fires_the_deadline_by_itself),
		cmocka_unit_test(test_client__keeps_what_does_not_fit),
		cmocka_unit_test(test_client__copies_what_it_is_given),
		cmocka_unit_test(test_client__keeps_program_order),
		cmocka_unit_test(test_client__closes_for_flush_barrier_and_read),
		cmocka_unit_test(test_client__has_futures),
		cmocka_unit_test(test_client__can_be_called_from_callbacks),
		cmocka_unit_test(test_client__can_be_unordered),
		cmocka_unit_test(test_client__says_busy_when_full),
		cmocka_unit_test(test_client__blocks_when_full),
		cmocka_unit_test(test_client__refuses_bad_options),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
