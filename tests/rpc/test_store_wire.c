/* What client and server of a store say to each other: both ways, and every rule broken once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "rpc/store_wire.h"

enum { ROOM = 64 << 10 };

static uint8_t *room_open(struct test_guard *guard, size_t bytes)
{
	test_guard_open(guard, bytes);
	return guard->data;
}

/* ---- whole frames ---- */

struct sample {
	const char *name;
	uint32_t bytes;
	_Alignas(8) uint8_t data[4096];
};

static uint32_t put_query(uint8_t *data, const struct wire_query *query, const void *rest,
			  uint32_t bytes)
{
	const struct wire_from from = { .seq = 9 };

	memcpy(data + FRAME_HEAD, query, sizeof *query);
	if (bytes > 0)
		memcpy(data + WIRE_QUERY_HEAD, rest, bytes);
	wire_seal(data, WIRE_QUERY, WIRE_QUERY_HEAD + bytes, &from);
	return WIRE_QUERY_HEAD + bytes;
}

static uint32_t put_answer(uint8_t *data, const int32_t *statuses, uint32_t count)
{
	const struct wire_from from = { { 1, 2 }, 3 };
	const struct exec_result result = { .count = count, .failed = 1, .op = 44 };
	const struct wire_told told = { .result = &result, .statuses = statuses, .credits = 5 };

	return wire_put_answer(data, &from, &told);
}

static uint32_t put_result(uint8_t *data, int32_t result, const void *rest, uint32_t bytes)
{
	const struct wire_from from = { .seq = 9 };
	const struct wire_result head = { .result = result, .complete = 1, .cursor = { 1, 2, 3 } };

	memcpy(data + FRAME_HEAD, &head, sizeof head);
	if (bytes > 0)
		memcpy(data + WIRE_RESULT_HEAD, rest, bytes);
	wire_seal(data, WIRE_RESULT, WIRE_RESULT_HEAD + bytes, &from);
	return WIRE_RESULT_HEAD + bytes;
}

enum { SAMPLES = 6 };
static void samples_make(struct sample samples[SAMPLES])
{
	const struct wire_welcome welcome = { .protocol = WIRE_PROTOCOL, .credits = 8, .op = 7 };
	const struct wire_query query = { .ask = WIRE_GET, .count = 3 };
	const uint64_t ids[3] = { 1, 2, 3 };
	const int32_t statuses[4] = { 0, 0, -EEXIST, 0 };

	samples[0].bytes = wire_put_hello(samples[0].data, (const uint8_t *)"secret", 6);
	samples[1].bytes = wire_put_welcome(samples[1].data, &welcome);
	samples[2].bytes = wire_put_error(samples[2].data, -EACCES, "no");
	samples[3].bytes = put_answer(samples[3].data, statuses, 4);
	samples[4].bytes = put_query(samples[4].data, &query, ids, sizeof ids);
	samples[5].bytes = put_result(samples[5].data, 3, ids, sizeof ids);
}

/* Whatever the frame, each kind of decoder. 0 or negative; must not read outside. */
static int decode_as(const uint8_t *data, uint16_t kind)
{
	struct wire_hello hello;
	struct wire_welcome welcome;
	struct wire_answer answer;
	struct haul_err err = { 0 };
	const struct wire_query *query;
	const struct wire_result *result;
	static int32_t statuses[HAUL_CHANGES_OPS];

	switch (kind) {
	case WIRE_HELLO:
		return wire_get_hello(data, &hello);
	case WIRE_WELCOME:
		return wire_get_welcome(data, &welcome);
	case WIRE_ERROR:
		return wire_get_error(data, &err);
	case WIRE_ANSWER:
		return wire_get_answer(data, &answer, statuses, HAUL_CHANGES_OPS);
	case WIRE_QUERY:
		return wire_get_query(data, &query);
	default:
		return wire_get_result(data, &result);
	}
}

/* Every prefix of every frame is refused, and so is one byte more. */
static void test_wire__refuses_every_truncation(void **state)
{
	static struct sample samples[SAMPLES];

	(void)state;
	samples_make(samples);
	for (uint32_t i = 0; i < SAMPLES; i++) {
		struct frame_head head;
		const struct sample *sample = &samples[i];
		assert_int_equal(wire_check(sample->data, sample->bytes, &head), 0);
		assert_int_equal(head.kind, WIRE_HELLO + i);
		assert_int_equal(decode_as(sample->data, head.kind), 0);
		for (uint32_t bytes = 0; bytes < sample->bytes; bytes++) {
			struct test_guard guard;
			uint8_t *data = room_open(&guard, bytes);
			if (bytes > 0)
				memcpy(data, sample->data, bytes);
			assert_int_equal(wire_check(data, bytes, &head), HAUL_ESHORT);
			test_guard_close(&guard);
		}
		assert_int_equal(wire_check(sample->data, sample->bytes + 1, &head), HAUL_ELONG);
	}
}

/* Every single bit that is turned over is found. */
static void test_wire__finds_every_flipped_bit(void **state)
{
	static struct sample samples[SAMPLES];

	(void)state;
	samples_make(samples);
	for (uint32_t i = 0; i < SAMPLES; i++) {
		struct frame_head head;
		struct sample *sample = &samples[i];
		for (uint32_t bit = 0; bit < sample->bytes * 8; bit++) {
			sample->data[bit / 8] ^= (uint8_t)(1U << bit % 8);
			assert_true(wire_check(sample->data, sample->bytes, &head) < 0);
			sample->data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
	}
}

/* A body that is cut where its checksum says it is right: refused by its decoder. */
static void test_wire__refuses_short_bodies(void **state)
{
	static struct sample samples[SAMPLES];

	(void)state;
	samples_make(samples);
	for (uint32_t i = 0; i < SAMPLES; i++) {
		struct sample *sample = &samples[i];
		struct frame_head head;
		memcpy(&head, sample->data, sizeof head);
		const uint32_t fixed = i == 3   ? WIRE_ANSWER_HEAD
				       : i == 4 ? WIRE_QUERY_HEAD
				       : i == 5 ? WIRE_RESULT_HEAD
						: sample->bytes;
		for (uint32_t bytes = FRAME_HEAD; bytes < sample->bytes; bytes++) {
			struct test_guard guard;
			uint8_t *data = room_open(&guard, (bytes + 7) & ~7U);
			const struct wire_from from = { { head.session[0], head.session[1] },
							head.seq };
			memcpy(data, sample->data, bytes);
			wire_seal(data, (enum wire_kind)head.kind, bytes, &from);
			if (i != 5 || bytes < fixed)
				assert_int_equal(decode_as(data, head.kind), HAUL_ECORRUPT);
			else /* its records are read one by one */
				assert_int_equal(decode_as(data, head.kind), 0);
			test_guard_close(&guard);
		}
	}
}

/* Heads that say what a frame of the wire does not have. */
static void test_wire__checks_its_head(void **state)
{
	static struct sample samples[SAMPLES];
	static const size_t nothing[] = {
		offsetof(struct frame_head, sections), offsetof(struct frame_head, events),
		offsetof(struct frame_head, flags),    offsetof(struct frame_head, ack_upto),
		offsetof(struct frame_head, reserved),
	};
	struct frame_head head;

	(void)state;
	for (uint32_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
		samples_make(samples);
		samples[1].data[nothing[i]] = 1;
		frame_seal(samples[1].data);
		assert_int_equal(wire_check(samples[1].data, samples[1].bytes, &head),
				 HAUL_ECORRUPT);
	}
	samples_make(samples);
	const uint16_t kinds[] = { 0, FRAME_CHANGES, FRAME_FENCE, WIRE_RESULT + 1, 999 };
	for (uint32_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		memcpy(samples[1].data + offsetof(struct frame_head, kind), &kinds[i], 2);
		frame_seal(samples[1].data);
		assert_int_equal(wire_check(samples[1].data, samples[1].bytes, &head), HAUL_ETYPE);
	}
	samples_make(samples);
	const uint16_t version = 2;
	memcpy(samples[0].data + offsetof(struct frame_head, version), &version, 2);
	frame_seal(samples[0].data);
	assert_int_equal(wire_check(samples[0].data, samples[0].bytes, &head), HAUL_EVERSION);
}

/* ---- hello, welcome, error ---- */

static void reseal(uint8_t *data, enum wire_kind kind, uint32_t bytes)
{
	const struct wire_from from = { 0 };
	wire_seal(data, kind, bytes, &from);
}

/* Another protocol, a token that is too long, one that goes on behind its end. */
static void test_wire__checks_hello(void **state)
{
	_Alignas(8) uint8_t data[WIRE_HELLO_BYTES];
	struct wire_hello hello, seen;

	(void)state;
	(void)wire_put_hello(data, (const uint8_t *)"secret", 6);
	assert_int_equal(wire_get_hello(data, &hello), 0);
	assert_int_equal(hello.token_bytes, 6);
	assert_memory_equal(hello.token, "secret\0", 7);
	struct wire_hello bad = hello;
	bad.protocol = 2;
	memcpy(data + FRAME_HEAD, &bad, sizeof bad);
	reseal(data, WIRE_HELLO, WIRE_HELLO_BYTES);
	assert_int_equal(wire_get_hello(data, &seen), HAUL_EVERSION);
	bad = hello;
	bad.token_bytes = WIRE_TOKEN_MAX + 1;
	memcpy(data + FRAME_HEAD, &bad, sizeof bad);
	assert_int_equal(wire_get_hello(data, &seen), HAUL_ELIMIT);
	bad = hello;
	bad.token_bytes = 5;
	memcpy(data + FRAME_HEAD, &bad, sizeof bad);
	assert_int_equal(wire_get_hello(data, &seen), HAUL_ECORRUPT);
}

/* Another protocol; no credits would be a client that can never send. */
static void test_wire__checks_welcome(void **state)
{
	struct wire_welcome welcome = { .protocol = WIRE_PROTOCOL, .credits = 8, .op = 7 };
	_Alignas(8) uint8_t data[WIRE_WELCOME_BYTES];
	struct wire_welcome seen;

	(void)state;
	(void)wire_put_welcome(data, &welcome);
	assert_int_equal(wire_get_welcome(data, &seen), 0);
	assert_int_equal(seen.op, 7);
	welcome.protocol = 3;
	(void)wire_put_welcome(data, &welcome);
	assert_int_equal(wire_get_welcome(data, &seen), HAUL_EVERSION);
	welcome.protocol = WIRE_PROTOCOL;
	welcome.credits = 0;
	(void)wire_put_welcome(data, &welcome);
	assert_int_equal(wire_get_welcome(data, &seen), HAUL_ECORRUPT);
}

/* Text of another machine gets to a terminal: nothing but plain characters does. A long one is
 * cut. */
static void test_wire__checks_errors(void **state)
{
	_Alignas(8) uint8_t data[WIRE_ERROR_BYTES];
	struct haul_err err = { 0 };
	struct wire_error error;
	char text[1000];

	(void)state;
	memset(text, 'x', sizeof text);
	text[sizeof text - 1] = '\0';
	(void)wire_put_error(data, HAUL_ELIMIT, text);
	assert_int_equal(wire_get_error(data, &err), 0);
	assert_int_equal(err.code, HAUL_ELIMIT);
	assert_int_equal(strlen(err.text), WIRE_TEXT_MAX - 1);
	(void)wire_put_error(data, -EIO, "\033[2Jgone");
	assert_int_equal(wire_get_error(data, &err), HAUL_ECORRUPT);
	(void)wire_put_error(data, -EIO, "text");
	memcpy(&error, data + FRAME_HEAD, sizeof error);
	error.code = 5;
	memcpy(data + FRAME_HEAD, &error, sizeof error);
	assert_int_equal(wire_get_error(data, &err), HAUL_ECORRUPT);
	error.code = -5;
	error.text_bytes = WIRE_TEXT_MAX;
	memcpy(data + FRAME_HEAD, &error, sizeof error);
	assert_int_equal(wire_get_error(data, &err), HAUL_ECORRUPT);
}

/* ---- answers ---- */

/* Statuses of any pattern come back as they were; runs are as short as they can be. */
static void test_wire__carries_statuses(void **state)
{
	static int32_t statuses[HAUL_CHANGES_OPS], seen[HAUL_CHANGES_OPS];
	uint8_t *data = aligned_alloc(64, (WIRE_ANSWER_MAX + 63) & ~63UL);
	struct wire_answer answer;
	struct prng prng;

	(void)state;
	test_prng(&prng);
	assert_non_null(data);
	for (uint32_t round = 0; round < 60; round++) {
		const uint32_t count = round == 0 ? 0 : 1 + prng_below(&prng, HAUL_CHANGES_OPS);
		const uint32_t kinds = 1 + prng_below(&prng, 5);
		for (uint32_t i = 0; i < count; i++)
			statuses[i] = -(int32_t)prng_below(&prng, kinds);
		const uint32_t bytes = put_answer(data, statuses, count);
		assert_true(bytes <= WIRE_ANSWER_MAX);
		if (kinds == 1 && count > 0)
			assert_int_equal(bytes, WIRE_ANSWER_HEAD + sizeof(struct wire_run));
		memset(seen, 1, sizeof seen);
		if (count == 0) /* failed is 1 there */
			continue;
		assert_int_equal(wire_get_answer(data, &answer, seen, HAUL_CHANGES_OPS), 0);
		assert_int_equal(answer.count, count);
		assert_int_equal(answer.op, 44);
		assert_int_equal(answer.credits, 5);
		assert_memory_equal(seen, statuses, count * sizeof *seen);
		assert_int_equal(wire_get_answer(data, &answer, seen, count - 1), HAUL_ECORRUPT);
	}
	free(data);
}

/* Runs that are empty, too long, too short, or of no status; flags that are neither; an error has
 * no statuses. */
static void test_wire__checks_answers(void **state)
{
	const int32_t statuses[4] = { 0, 0, -EEXIST, 0 };
	const struct wire_from from = { { 1, 2 }, 3 };
	const struct exec_result result = { .count = 4, .op = 44 };
	const struct wire_told failed = { .error = -EIO, .result = &result };
	_Alignas(8) uint8_t data[1024];
	struct wire_answer answer, whole;
	struct wire_run run;
	int32_t seen[8];

	(void)state;
	for (uint32_t i = 0; i < 9; i++) {
		(void)put_answer(data, statuses, 4);
		memcpy(&whole, data + FRAME_HEAD, sizeof whole);
		memcpy(&run, data + WIRE_ANSWER_HEAD, sizeof run);
		whole.error = i == 0 ? 1 : 0;
		whole.reserved = i == 1;
		whole.repeated = i == 2 ? 2 : 0;
		whole.fenced = i == 3 ? 2 : 0;
		whole.failed = i == 4 ? 5 : 1;
		whole.runs += i == 5;
		run.times = i == 6 ? 0 : i == 7 ? 9 : run.times;
		run.status = i == 8 ? 1 : run.status;
		memcpy(data + FRAME_HEAD, &whole, sizeof whole);
		memcpy(data + WIRE_ANSWER_HEAD, &run, sizeof run);
		assert_int_equal(wire_get_answer(data, &answer, seen, 8), HAUL_ECORRUPT);
	}
	(void)put_answer(data, statuses, 4);
	memcpy(&run, data + WIRE_ANSWER_HEAD, sizeof run);
	run.times--;
	memcpy(data + WIRE_ANSWER_HEAD, &run, sizeof run);
	assert_int_equal(wire_get_answer(data, &answer, seen, 8), HAUL_ECORRUPT);
	assert_int_equal(wire_put_answer(data, &from, &failed), WIRE_ANSWER_HEAD);
	assert_int_equal(wire_get_answer(data, &answer, seen, 8), 0);
	assert_int_equal(answer.error, -EIO);
	assert_int_equal(answer.count, 0);
}

/* ---- queries ---- */

/* Names have the length that their count says, and texts that of their lengths. */
static void test_wire__checks_queries(void **state)
{
	static const struct {
		struct wire_query query;
		uint32_t bytes;
		int error;
	} cases[] = {
		{ { .ask = WIRE_GET, .count = 2 }, 16, 0 },
		{ { .ask = WIRE_GET, .count = 2 }, 24, HAUL_ECORRUPT },
		{ { .ask = WIRE_GET_EDGES, .count = 2 }, 48, 0 },
		{ { .ask = WIRE_GET_EDGES, .count = 2 }, 47, HAUL_ECORRUPT },
		{ { .ask = WIRE_GET_EMBEDDINGS, .count = 1 }, 8, 0 },
		{ { .ask = WIRE_GET_BY_KEY, .count = 2 }, 8, 0 },
		{ { .ask = WIRE_GET_BY_KEY, .count = 2 }, 7, HAUL_ECORRUPT },
		{ { .ask = WIRE_GET_BY_KEY, .count = 1 }, 9, HAUL_ECORRUPT },
		{ { .ask = WIRE_NEAR, .count = 2, .dimensions = 3, .max = 5 }, 24, 0 },
		{ { .ask = WIRE_NEAR, .count = 2, .dimensions = 3 }, 20, HAUL_ECORRUPT },
		{ { .ask = WIRE_NEAR, .count = 1024, .max = 1024 }, 0, HAUL_ELIMIT },
		{ { .ask = WIRE_NEAR, .dimensions = 4097 }, 0, HAUL_ELIMIT },
		{ { .ask = WIRE_GET, .count = WIRE_ITEMS_MAX + 1 }, 0, HAUL_ELIMIT },
		{ { .ask = WIRE_SCAN }, 0, 0 },
		{ { .ask = WIRE_SCAN, .count = 1 }, 8, HAUL_ECORRUPT },
		{ { .ask = WIRE_SCAN }, 8, HAUL_ECORRUPT },
		{ { .ask = WIRE_TRAVERSE }, 0, 0 },
		{ { .ask = WIRE_STATUS }, 0, 0 },
		{ { .ask = WIRE_STATUS }, 8, HAUL_ECORRUPT },
		{ { .ask = WIRE_STATUS, .count = 1 }, 0, HAUL_ECORRUPT },
		{ { .ask = WIRE_PIN, .flags = 8 }, 0, HAUL_ECORRUPT },
		{ { .ask = WIRE_PIN, .reserved = 1 }, 0, HAUL_ECORRUPT },
		{ { .ask = WIRE_ASKS }, 0, HAUL_ETYPE },
		{ { .ask = UINT16_MAX }, 0, HAUL_ETYPE },
	};
	static const uint8_t zeros[64];
	_Alignas(8) uint8_t data[1024];
	const struct wire_query *query;

	(void)state;
	for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		(void)put_query(data, &cases[i].query, zeros, cases[i].bytes);
		assert_int_equal(wire_get_query(data, &query), cases[i].error);
	}
}

/* Keys are where their lengths say; lengths that lead outside are refused. */
static void test_wire__carries_keys(void **state)
{
	const struct wire_query query = { .ask = WIRE_GET_BY_KEY, .count = 3 };
	struct rest {
		uint32_t lengths[4];
		char text[8];
	} rest = { { 3, 0, 5, 0 }, "abcdefgh" };
	_Alignas(8) uint8_t data[1024];
	const struct wire_query *seen;
	struct haul_text keys[3];

	(void)state;
	(void)put_query(data, &query, &rest, sizeof rest);
	assert_int_equal(wire_get_query(data, &seen), 0);
	wire_get_keys(data, keys);
	assert_int_equal(keys[0].bytes, 3);
	assert_memory_equal(keys[0].data, "abc", 3);
	assert_int_equal(keys[1].bytes, 0);
	assert_int_equal(keys[2].bytes, 5);
	assert_memory_equal(keys[2].data, "defgh", 5);
	rest.lengths[2] = UINT32_MAX;
	(void)put_query(data, &query, &rest, sizeof rest);
	assert_int_equal(wire_get_query(data, &seen), HAUL_ECORRUPT);
}

/* ---- records ---- */

/* Records of every kind, those that are not there among them, until the page is full. */
static void test_wire__carries_records(void **state)
{
	static const float vector[3] = { 1, 2, 3 };
	const struct haul_node node = {
		.id = 5, .version = 6, .kind = 7, .key = "key", .key_bytes = 3
	};
	const struct haul_edge edge = { .id = { 1, 2, 3, 4 }, .version = 5 };
	const struct haul_embedding embedding = {
		.node = 5, .version = 6, .index = 7, .dimensions = 3, .vector = vector
	};
	_Alignas(8) uint8_t data[400];
	struct wire_page page = { data, WIRE_RESULT_HEAD, sizeof data };
	struct haul_node node_seen;
	struct haul_edge edge_seen;
	struct haul_embedding embedding_seen;
	int32_t status = 9;

	(void)state;
	assert_true(wire_put_node(&page, &node, 0));
	assert_true(wire_put_node(&page, &node, -ENOENT));
	assert_true(wire_put_edge(&page, &edge, 0));
	assert_true(wire_put_embedding(&page, &embedding, 0));
	const uint32_t full = page.at;
	assert_false(wire_put_node(&page, &node, 0));
	assert_int_equal(page.at, full);
	struct wire_reading reading = { data, WIRE_RESULT_HEAD, full };
	assert_int_equal(wire_get_node(&reading, &node_seen, &status), 0);
	assert_int_equal(status, 0);
	assert_int_equal(node_seen.id, 5);
	assert_int_equal(node_seen.version, 6);
	assert_int_equal(node_seen.kind, 7);
	assert_memory_equal(node_seen.key, "key", 3);
	assert_int_equal(wire_get_node(&reading, &node_seen, &status), 0);
	assert_int_equal(status, -ENOENT);
	assert_int_equal(wire_get_edge(&reading, &edge_seen, &status), 0);
	assert_memory_equal(&edge_seen.id, &edge.id, sizeof edge.id);
	assert_int_equal(wire_get_embedding(&reading, &embedding_seen, &status), 0);
	assert_int_equal(embedding_seen.index, 7);
	assert_memory_equal(embedding_seen.vector, vector, sizeof vector);
	assert_int_equal(wire_get_node(&reading, &node_seen, &status), HAUL_ECORRUPT);
}

/* A record that is longer than the page, has a status above 0, or is not one: refused. */
static void test_wire__checks_records(void **state)
{
	const struct haul_node node = { .id = 5, .key = "key", .key_bytes = 3 };
	_Alignas(8) uint8_t data[256];
	struct haul_edge edge;
	struct haul_node seen;
	int32_t status;

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		struct wire_page page = { data, 0, sizeof data };
		struct wire_record record;
		assert_true(wire_put_node(&page, &node, 0));
		memcpy(&record, data, sizeof record);
		record.bytes += i == 0 ? 6 : 0;
		record.bytes = i == 1 ? UINT32_MAX : record.bytes;
		record.status = i == 2;
		memcpy(data, &record, sizeof record);
		data[sizeof record + 7] = i == 3; /* a byte of the record that is always 0 */
		struct wire_reading reading = { data, 0, page.at };
		assert_int_equal(wire_get_node(&reading, &seen, &status), HAUL_ECORRUPT);
	}
	struct wire_page page = { data, 0, sizeof data };
	assert_true(wire_put_node(&page, &node, 0));
	struct wire_reading reading = { data, 0, page.at };
	assert_int_equal(wire_get_edge(&reading, &edge, &status), HAUL_ECORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wire__refuses_every_truncation),
		cmocka_unit_test(test_wire__finds_every_flipped_bit),
		cmocka_unit_test(test_wire__refuses_short_bodies),
		cmocka_unit_test(test_wire__checks_its_head),
		cmocka_unit_test(test_wire__checks_hello),
		cmocka_unit_test(test_wire__checks_welcome),
		cmocka_unit_test(test_wire__checks_errors),
		cmocka_unit_test(test_wire__carries_statuses),
		cmocka_unit_test(test_wire__checks_answers),
		cmocka_unit_test(test_wire__checks_queries),
		cmocka_unit_test(test_wire__carries_keys),
		cmocka_unit_test(test_wire__carries_records),
		cmocka_unit_test(test_wire__checks_records),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
