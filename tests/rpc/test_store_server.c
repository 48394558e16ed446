/* The server of a store, and clients that are slow, silent, hostile or many. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "raw_lab.h"
#include "rpc/store_server_state.h"

/* Long enough for an honest client on a busy machine. */
static void impatient(struct store_server *server)
{
	server->patience = (struct server_patience){
		.hello_ns = 400 * NS_PER_MS,
		.half_ns = 400 * NS_PER_MS,
		.out_ns = 400 * NS_PER_MS,
		.stall_ns = 200 * NS_PER_MS,
		.pin_ns = 50 * NS_PER_MS,
		.leave_ns = 400 * NS_PER_MS,
		.last_ns = 2 * NS_PER_S,
	};
}

static void open_impatient(struct serve_lab *lab)
{
	serve_lab_open(lab, NULL);
	serve_lab_stop(lab);
	lab->tune = impatient;
	serve_lab_start(lab, NULL);
}

/* ---- what is not a frame ---- */

/* Bytes that mean nothing, a head that lies, frames of no known kind or out of place: an error
 * frame, the end of that connection, and nothing else. */
static void test_server__hangs_up_at_garbage(void **state)
{
	static _Alignas(8) uint8_t noise[512], big[FRAME_HEAD];
	uint8_t *data = raw_room();
	struct serve_lab lab;
	struct prng prng;

	(void)state;
	test_prng(&prng);
	serve_lab_open(&lab, NULL);
	for (uint32_t i = 0; i < sizeof noise; i++)
		noise[i] = (uint8_t)prng_next(&prng);
	int fd = raw_connect(&lab);
	raw_send(fd, noise, sizeof noise);
	assert_int_equal(raw_error(fd), HAUL_ECORRUPT);
	/* changes before anybody said hello */
	fd = raw_connect(&lab);
	raw_send(fd, data, raw_frame(data, 1, 1, 0));
	assert_int_equal(raw_error(fd), -EPROTO);
	/* longer than any frame */
	struct frame_head head = { .magic = FRAME_MAGIC,
				   .version = FRAME_VERSION,
				   .kind = WIRE_QUERY,
				   .bytes = WIRE_QUERY_MAX + 8 };
	fd = raw_connect(&lab);
	raw_greet(fd);
	memcpy(big, &head, sizeof head);
	head.bytes = FRAME_HEAD; /* so that it can be sealed */
	memcpy(data, &head, sizeof head);
	frame_seal(data);
	head.bytes = WIRE_QUERY_MAX + 8;
	memcpy(data, big, FRAME_HEAD);
	raw_send(fd, data, FRAME_HEAD); /* its checksum is wrong */
	assert_int_equal(raw_error(fd), HAUL_ECORRUPT);
	/* a kind that only servers send */
	fd = raw_connect(&lab);
	raw_greet(fd);
	raw_send(fd, data, wire_put_error(data, -EIO, "who is whose server?"));
	assert_int_equal(raw_error(fd), -EPROTO);
	/* a body that is not what was sealed */
	fd = raw_connect(&lab);
	raw_greet(fd);
	const uint32_t bytes = raw_frame(data, 5, 3, 0);
	data[bytes - 1] ^= 1;
	raw_send(fd, data, bytes);
	assert_int_equal(raw_error(fd), HAUL_ECORRUPT);
	assert_false(serve_lab_has(&lab, 5));
	assert_int_equal(serve_lab_figure(&lab, "store.server", "protocol_errors"), 5);
	raw_still_serves(&lab, 1);
	free(data);
	serve_lab_close(&lab);
}

/* A frame that is sealed rightly and still lies about what is in it: refused by frame_check. */
static void test_server__checks_before_it_executes(void **state)
{
	uint8_t *data = raw_room();
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	const int fd = raw_connect(&lab);
	raw_greet(fd);
	const uint32_t bytes = raw_frame(data, 5, 3, 0);
	struct frame_section section;
	memcpy(&section, data + FRAME_HEAD, sizeof section);
	section.count = 4;
	memcpy(data + FRAME_HEAD, &section, sizeof section);
	frame_seal(data);
	raw_send(fd, data, bytes);
	assert_int_equal(raw_error(fd), HAUL_ECORRUPT);
	assert_false(serve_lab_has(&lab, 5));
	raw_still_serves(&lab, 1);
	free(data);
	serve_lab_close(&lab);
}

/* Queries that ask for too much, for what there is not, or whose names are cut short. */
static void test_server__checks_queries(void **state)
{
	_Alignas(8) uint8_t data[1024];
	const struct wire_query bad[] = {
		{ .ask = WIRE_ASKS },
		{ .ask = WIRE_GET, .count = 5 },
		{ .ask = WIRE_GET, .count = UINT32_MAX },
		{ .ask = WIRE_GET_BY_KEY, .count = 3 },
		{ .ask = WIRE_SCAN, .count = 1 },
		{ .ask = WIRE_SCAN, .flags = 0x80 },
		{ .ask = WIRE_NEAR, .count = 1000, .max = 1000 },
		{ .ask = WIRE_NEAR, .count = 1, .max = 1, .dimensions = UINT32_MAX },
		{ .ask = WIRE_STATUS, .count = 1 },
		{ .ask = WIRE_STATUS, .reserved = 1 },
	};
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const struct wire_from from = { .seq = 1 };
		const int fd = raw_connect(&lab);
		raw_greet(fd);
		memcpy(data + FRAME_HEAD, &bad[i], sizeof bad[i]);
		wire_seal(data, WIRE_QUERY, WIRE_QUERY_HEAD, &from);
		raw_send(fd, data, WIRE_QUERY_HEAD);
		const int code = raw_error(fd);
		assert_true(code == HAUL_ECORRUPT || code == HAUL_ELIMIT || code == HAUL_ETYPE);
	}
	raw_still_serves(&lab, 1);
	serve_lab_close(&lab);
}

/* ---- slow ones ---- */

/* Who says nothing, who stops in the middle of a head or of a frame is told so and closed. */
static void test_server__does_not_wait_for_ever(void **state)
{
	uint8_t *data = raw_room();
	struct serve_lab lab;

	(void)state;
	open_impatient(&lab);
	const int silent = raw_connect(&lab);
	const int half_head = raw_connect(&lab);
	const int half_frame = raw_connect(&lab);
	raw_greet(half_head);
	raw_greet(half_frame);
	const uint32_t bytes = raw_frame(data, 10, 2000, 0);
	raw_send(half_head, data, 60);
	raw_send(half_frame, data, bytes / 2);
	raw_still_serves(&lab, 1);
	assert_int_equal(raw_error(silent), -ETIMEDOUT);
	assert_int_equal(raw_error(half_head), -ETIMEDOUT);
	assert_int_equal(raw_error(half_frame), -ETIMEDOUT);
	assert_int_equal(serve_lab_figure(&lab, "store.server", "closed_slow"), 3);
	assert_false(serve_lab_has(&lab, 10));
	free(data);
	serve_lab_close(&lab);
}

/* Byte by byte is slow, and still right. */
static void test_server__takes_a_frame_in_pieces(void **state)
{
	static struct raw raw;
	uint8_t *data = raw_room();
	struct serve_lab lab;
	int32_t statuses[4];

	(void)state;
	serve_lab_open(&lab, NULL);
	const int fd = raw_connect(&lab);
	raw_greet(fd);
	const uint32_t bytes = raw_frame(data, 1, 4, 0);
	for (uint32_t i = 0; i < bytes; i++)
		raw_send(fd, data + i, 1);
	assert_int_equal(raw_answer(fd, &raw, statuses, 4), 0);
	assert_int_equal(statuses[3], 0);
	(void)close(fd);
	free(data);
	serve_lab_close(&lab);
}

/* Forty clients send half of the longest frame each, which together is more than the server has:
 * they are closed when others need the memory, and the others are served. */
static void test_server__takes_memory_back(void **state)
{
	enum { HOLDERS = 40, HALF = 300 << 10 };
	const struct frame_head head = { .magic = FRAME_MAGIC,
					 .version = FRAME_VERSION,
					 .kind = FRAME_CHANGES,
					 .bytes = FRAME_BYTES_MAX,
					 .session = { 1, 1 },
					 .seq = 1 };
	static _Alignas(8) uint8_t data[FRAME_BYTES_MAX];
	struct serve_lab lab;
	int fds[HOLDERS];

	(void)state;
	serve_lab_open(&lab, NULL);
	serve_lab_stop(&lab);
	serve_lab_start(&lab, NULL);
	memcpy(data, &head, sizeof head);
	frame_seal(data);
	for (uint32_t i = 0; i < HOLDERS; i++) {
		fds[i] = raw_connect(&lab);
		raw_greet(fds[i]);
		/* what does not fit into the socket need not get there */
		(void)send(fds[i], data, HALF, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	raw_still_serves(&lab, 1);
	while (serve_lab_figure(&lab, "store.server", "closed_for_memory") == 0)
		(void)sched_yield();
	raw_still_serves(&lab, 2);
	for (uint32_t i = 0; i < HOLDERS; i++)
		(void)close(fds[i]);
	serve_lab_close(&lab);
}

/* Who asks and never reads is not read from, holds little, and is closed. */
static void test_server__lets_go_of_who_never_reads(void **state)
{
	enum { ASKS = 400 };
	_Alignas(8) uint8_t query[WIRE_QUERY_HEAD];
	const struct wire_query scan = { .ask = WIRE_SCAN, .max = WIRE_ITEMS_MAX };
	struct haul_changes *changes;
	struct serve_lab lab;

	(void)state;
	open_impatient(&lab);
	assert_int_equal(haul_changes_new(&changes, 0, 0, 0), 0);
	serve_lab_nodes(changes, 1, 8192);
	assert_int_equal(haul_store_commit(lab.store, changes, NULL, NULL), 0);
	const int fd = raw_connect(&lab);
	raw_greet(fd);
	memcpy(query + FRAME_HEAD, &scan, sizeof scan);
	for (uint32_t i = 0; i < ASKS; i++) {
		const struct wire_from from = { .seq = i + 1 };
		wire_seal(query, WIRE_QUERY, sizeof query, &from);
		(void)send(fd, query, sizeof query, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	raw_still_serves(&lab, 10000);
	while (serve_lab_figure(&lab, "store.server", "closed_slow") == 0)
		(void)sched_yield();
	assert_true(serve_lab_figure(&lab, "store.server", "queries") <= WIRE_CREDITS);
	raw_still_serves(&lab, 10001);
	(void)close(fd);
	haul_changes_free(changes);
	serve_lab_close(&lab);
}

/* Clients that vanish with frames under way: what was complete is executed, nobody is harmed. */
static void test_server__survives_who_vanishes(void **state)
{
	uint8_t *data = raw_room();
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	for (uint32_t i = 0; i < 50; i++) {
		const int fd = raw_connect(&lab);
		raw_greet(fd);
		const uint32_t bytes = raw_frame(data, 1 + i * 100, 20, 0);
		raw_send(fd, data, bytes);
		raw_send(fd, data, i % bytes);
		(void)close(fd);
	}
	while (!serve_lab_has(&lab, 1 + 49 * 100))
		(void)sched_yield();
	for (uint32_t i = 0; i < 50; i++)
		assert_true(serve_lab_has(&lab, 1 + i * 100));
	raw_still_serves(&lab, 100000);
	free(data);
	serve_lab_close(&lab);
}

/* ---- order ---- */

/* More frames at once than there are credits: all answered, in order; and a query behind changes
 * on one connection sees them. */
static void test_server__answers_in_order(void **state)
{
	enum { FRAMES = 40 };
	static struct raw raw;
	uint8_t *data = raw_room();
	const uint64_t id = FRAMES;
	_Alignas(8) uint8_t query[WIRE_QUERY_HEAD + 8];
	const struct wire_query get = { .ask = WIRE_GET, .count = 1 };
	const struct wire_from from = { .seq = 1 };
	const struct wire_result *result;
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	const int fd = raw_connect(&lab);
	raw_greet(fd);
	for (uint32_t i = 1; i <= FRAMES; i++)
		raw_send(fd, data, raw_frame(data, i, 1, i));
	memcpy(query + FRAME_HEAD, &get, sizeof get);
	memcpy(query + WIRE_QUERY_HEAD, &id, sizeof id);
	wire_seal(query, WIRE_QUERY, sizeof query, &from);
	raw_send(fd, query, sizeof query);
	for (uint32_t i = 1; i <= FRAMES; i++) {
		struct frame_head head;
		int32_t status = 9;
		assert_int_equal(raw_answer(fd, &raw, &status, 1), 0);
		memcpy(&head, raw.in, sizeof head);
		assert_int_equal(head.seq, i);
		assert_int_equal(status, 0);
	}
	const uint32_t bytes = raw_read(fd, raw.in, sizeof raw.in);
	assert_int_equal(wire_get_result(raw.in, &result), 0);
	assert_int_equal(result->result, 1);
	struct wire_reading page = { raw.in, WIRE_RESULT_HEAD, bytes };
	struct haul_node node;
	int32_t status = 9;
	assert_int_equal(wire_get_node(&page, &node, &status), 0);
	assert_int_equal(status, 0);
	assert_int_equal(node.id, FRAMES);
	(void)close(fd);
	free(data);
	serve_lab_close(&lab);
}

/* ---- many ---- */

/* A thousand connections are served; one more is told that there are too many. */
static void test_server__serves_a_thousand(void **state)
{
	enum { MANY = 1000 };
	static int fds[MANY];
	static struct raw raw;
	uint8_t *data = raw_room();
	struct serve_lab lab;
	struct rlimit limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < 2 * MANY + 200)
		test_skip("2200 open files are not allowed here");
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	serve_lab_open(&lab, NULL);
	for (uint32_t i = 0; i < MANY; i++) {
		fds[i] = raw_connect(&lab);
		raw_greet(fds[i]);
	}
	assert_int_equal(raw_error(raw_connect(&lab)), -EBUSY);
	for (uint32_t i = 0; i < MANY; i++)
		raw_send(fds[i], data, raw_frame(data, 1 + i, 1, 0));
	for (uint32_t i = 0; i < MANY; i++) {
		int32_t status = 9;
		assert_int_equal(raw_answer(fds[i], &raw, &status, 1), 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(serve_lab_figure(&lab, "store.server", "connections"), MANY);
	assert_int_equal(serve_lab_figure(&lab, "store.server", "operations_processed"), MANY);
	(void)close(fds[0]);
	while (serve_lab_figure(&lab, "store.server", "connections") == MANY)
		(void)sched_yield();
	raw_still_serves(&lab, 5000);
	for (uint32_t i = 1; i < MANY; i++)
		(void)close(fds[i]);
	free(data);
	serve_lab_close(&lab);
}

/* Stopping answers what is under way, and closes. */
static void test_server__stops_with_clients(void **state)
{
	static struct raw raw;
	uint8_t *data = raw_room();
	struct serve_lab lab;

	(void)state;
	open_impatient(&lab);
	const int idle = raw_connect(&lab);
	const int busy = raw_connect(&lab);
	raw_greet(idle);
	raw_greet(busy);
	int32_t status = 9;
	raw_send(busy, data, raw_frame(data, 1, 1, 0));
	assert_int_equal(raw_answer(busy, &raw, &status, 1), 0);
	serve_lab_stop(&lab);
	assert_int_equal(raw_read(idle, raw.in, sizeof raw.in), 0);
	assert_int_equal(raw_read(busy, raw.in, sizeof raw.in), 0);
	(void)close(idle);
	(void)close(busy);
	free(data);
	serve_lab_close(&lab);
}

/* A pin that nobody uses is let go of, so that merges can go on; its reader is told. */
static void test_server__lets_go_of_idle_pins(void **state)
{
	const uint64_t id = 1;
	struct haul_reader *reader;
	struct haul_node node;
	struct serve_lab lab;
	int32_t status;

	(void)state;
	open_impatient(&lab);
	struct haul_client *client = serve_lab_client(&lab, lab.local, NULL);
	assert_int_equal(haul_client_reader(client, 0, &reader), 0);
	assert_int_equal(haul_reader_pin(reader), 0);
	while (serve_lab_figure(&lab, "store.server", "pins") > 0)
		(void)sched_yield();
	assert_int_equal(haul_reader_get(reader, &id, 1, &node, &status), HAUL_ESTALE);
	haul_reader_unpin(reader);
	assert_int_equal(haul_reader_get(reader, &id, 1, &node, &status), 1);
	haul_reader_close(reader);
	haul_client_close(client);
	serve_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server__hangs_up_at_garbage),
		cmocka_unit_test(test_server__checks_before_it_executes),
		cmocka_unit_test(test_server__checks_queries),
		cmocka_unit_test(test_server__does_not_wait_for_ever),
		cmocka_unit_test(test_server__takes_a_frame_in_pieces),
		cmocka_unit_test(test_server__takes_memory_back),
		cmocka_unit_test(test_server__lets_go_of_who_never_reads),
		cmocka_unit_test(test_server__survives_who_vanishes),
		cmocka_unit_test(test_server__answers_in_order),
		cmocka_unit_test(test_server__serves_a_thousand),
		cmocka_unit_test(test_server__stops_with_clients),
		cmocka_unit_test(test_server__lets_go_of_idle_pins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
