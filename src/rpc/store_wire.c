#include "rpc/store_wire.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/checksum.h"

static_assert(WIRE_RESULT_HEAD + WIRE_VALUES_MAX +
			      WIRE_ITEMS_MAX * (sizeof(struct wire_record) + 8) <=
		      WIRE_RESULT_MAX,
	      "what a reader returns fits");
static_assert(WIRE_RESULT_HEAD + WIRE_VISITS_MAX * sizeof(struct haul_visit) <= WIRE_RESULT_MAX &&
		      WIRE_RESULT_HEAD + WIRE_HITS_MAX * sizeof(struct wire_hit) <= WIRE_RESULT_MAX,
	      "and what it finds");

/* ---- frames ---- */

void wire_seal(uint8_t *data, enum wire_kind kind, uint32_t bytes, const struct wire_from *from)
{
	HAUL_ASSERT(bytes >= FRAME_HEAD && ((uintptr_t)data & 7) == 0);
	const struct frame_head head = {
		.magic = FRAME_MAGIC,
		.version = FRAME_VERSION,
		.kind = (uint16_t)kind,
		.bytes = bytes,
		.session = { from->session[0], from->session[1] },
		.seq = from->seq,
	};
	memcpy(data, &head, sizeof head);
	frame_seal(data);
}

int wire_check(const uint8_t *data, uint64_t bytes, struct frame_head *ret_head)
{
	struct frame_head head;

	if (bytes < FRAME_HEAD)
		return HAUL_ESHORT;
	const int error = frame_check_head(data, &head);
	if (error != 0)
		return error;
	if (bytes != head.bytes)
		return bytes < head.bytes ? HAUL_ESHORT : HAUL_ELONG;
	if (head.kind < WIRE_HELLO || head.kind > WIRE_RESULT)
		return HAUL_ETYPE;
	const XXH128_hash_t body = XXH3_128bits(data + FRAME_HEAD, head.bytes - FRAME_HEAD);
	uint64_t rest = (head.check_body[0] ^ body.low64) | (head.check_body[1] ^ body.high64);
	rest |= head.sections | head.events | head.flags | head.ack_upto;
	for (uint32_t i = 0; i < sizeof head.reserved / sizeof *head.reserved; i++)
		rest |= head.reserved[i];
	if (rest != 0)
		return HAUL_ECORRUPT;
	*ret_head = head;
	return 0;
}

static const struct wire_from nobody = { 0 };

/* Bytes of the body. */
static uint32_t body_bytes(const uint8_t *data)
{
	struct frame_head head;
	memcpy(&head, data, sizeof head);
	HAUL_ASSERT(head.bytes >= FRAME_HEAD);
	return head.bytes - FRAME_HEAD;
}

/* ---- hello, welcome, error ---- */

uint32_t wire_put_hello(uint8_t *data, const uint8_t *token, uint32_t token_bytes)
{
	struct wire_hello hello = { .protocol = WIRE_PROTOCOL, .token_bytes = token_bytes };

	HAUL_ASSERT(token_bytes <= WIRE_TOKEN_MAX);
	if (token_bytes > 0)
		memcpy(hello.token, token, token_bytes);
	memcpy(data + FRAME_HEAD, &hello, sizeof hello);
	wire_seal(data, WIRE_HELLO, WIRE_HELLO_BYTES, &nobody);
	return WIRE_HELLO_BYTES;
}

int wire_get_hello(const uint8_t *data, struct wire_hello *ret_hello)
{
	struct wire_hello hello;
	uint8_t rest = 0;

	if (body_bytes(data) != sizeof hello)
		return HAUL_ECORRUPT;
	memcpy(&hello, wire_body(data), sizeof hello);
	if (hello.protocol != WIRE_PROTOCOL)
		return HAUL_EVERSION;
	if (hello.token_bytes > WIRE_TOKEN_MAX)
		return HAUL_ELIMIT;
	for (uint32_t i = hello.token_bytes; i < WIRE_TOKEN_MAX; i++)
		rest |= hello.token[i];
	if (rest != 0)
		return HAUL_ECORRUPT;
	*ret_hello = hello;
	return 0;
}

uint32_t wire_put_welcome(uint8_t *data, const struct wire_welcome *welcome)
{
	memcpy(data + FRAME_HEAD, welcome, sizeof *welcome);
	wire_seal(data, WIRE_WELCOME, WIRE_WELCOME_BYTES, &nobody);
	return WIRE_WELCOME_BYTES;
}

int wire_get_welcome(const uint8_t *data, struct wire_welcome *ret_welcome)
{
	struct wire_welcome welcome;

	if (body_bytes(data) != sizeof welcome)
		return HAUL_ECORRUPT;
	memcpy(&welcome, wire_body(data), sizeof welcome);
	if (welcome.protocol != WIRE_PROTOCOL)
		return HAUL_EVERSION;
	if (welcome.credits < 1)
		return HAUL_ECORRUPT;
	*ret_welcome = welcome;
	return 0;
}

uint32_t wire_put_error(uint8_t *data, int code, const char *text)
{
	struct wire_error error = { .code = code };

	HAUL_ASSERT(code < 0);
	error.text_bytes = (uint32_t)strnlen(text, WIRE_TEXT_MAX - 1);
	memcpy(error.text, text, error.text_bytes);
	memcpy(data + FRAME_HEAD, &error, sizeof error);
	wire_seal(data, WIRE_ERROR, WIRE_ERROR_BYTES, &nobody);
	return WIRE_ERROR_BYTES;
}

/* What stands in it goes to a person's terminal. */
static bool text_is_plain(const char *text, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++) {
		if (text[i] < ' ' || text[i] > '~')
			return false;
	}
	return true;
}

int wire_get_error(const uint8_t *data, struct haul_err *ret_err)
{
	struct wire_error error;

	if (body_bytes(data) != sizeof error)
		return HAUL_ECORRUPT;
	memcpy(&error, wire_body(data), sizeof error);
	if (error.code >= 0 || error.text_bytes >= WIRE_TEXT_MAX ||
	    !text_is_plain(error.text, error.text_bytes))
		return HAUL_ECORRUPT;
	(void)haul_err_set(ret_err, error.code, "%.*s", (int)error.text_bytes, error.text);
	return 0;
}

/* ---- answers ---- */

static uint32_t put_runs(uint8_t *at, const int32_t *statuses, uint32_t count)
{
	uint32_t runs = 0;

	for (uint32_t i = 0; i < count;) {
		struct wire_run run = { 1, statuses[i] };
		while (i + run.times < count && statuses[i + run.times] == run.status)
			run.times++;
		memcpy(at + (size_t)runs * sizeof run, &run, sizeof run);
		i += run.times;
		runs++;
	}
	return runs;
}

uint32_t wire_put_answer(uint8_t *data, const struct wire_from *from, const struct wire_told *told)
{
	struct wire_answer answer = { .error = told->error, .credits = told->credits };

	HAUL_ASSERT(told->error <= 0);
	if (told->error == HAUL_ESTALE && told->result != NULL)
		answer.op = told->result->op; /* how far the store is: for another session */
	if (told->error == 0) {
		answer.count = told->statuses != NULL ? told->result->count : 0;
		answer.failed = told->result->failed;
		answer.op = told->result->op;
		answer.repeated = told->result->repeated;
		answer.fenced = told->result->fenced;
		answer.runs = put_runs(data + WIRE_ANSWER_HEAD, told->statuses, answer.count);
	}
	memcpy(data + FRAME_HEAD, &answer, sizeof answer);
	const uint32_t bytes = WIRE_ANSWER_HEAD + answer.runs * (uint32_t)sizeof(struct wire_run);
	wire_seal(data, WIRE_ANSWER, bytes, from);
	return bytes;
}

int wire_get_answer(const uint8_t *data, struct wire_answer *ret_answer, int32_t *statuses,
		    uint32_t max)
{
	const uint32_t bytes = body_bytes(data);
	const uint8_t *at = data + WIRE_ANSWER_HEAD;
	struct wire_answer answer;
	uint32_t count = 0;

	if (bytes < sizeof answer)
		return HAUL_ECORRUPT;
	memcpy(&answer, wire_body(data), sizeof answer);
	if (answer.error > 0 || answer.reserved != 0 || answer.repeated > 1 || answer.fenced > 1 ||
	    answer.count > max || answer.runs > answer.count || answer.failed > answer.count ||
	    bytes != sizeof answer + answer.runs * sizeof(struct wire_run))
		return HAUL_ECORRUPT;
	for (uint32_t i = 0; i < answer.runs; i++) {
		struct wire_run run;
		memcpy(&run, at + (size_t)i * sizeof run, sizeof run);
		if (run.times == 0 || run.times > answer.count - count || run.status > 0)
			return HAUL_ECORRUPT;
		for (uint32_t j = 0; j < run.times; j++)
			statuses[count++] = run.status;
	}
	if (count != answer.count)
		return HAUL_ECORRUPT;
	*ret_answer = answer;
	return 0;
}

/* ---- queries ---- */

/* Bytes of a name, 0 = has none, by enum wire_ask. */
static uint64_t payload_bytes(const struct wire_query *query, const uint8_t *payload,
			      uint64_t bytes)
{
	const uint64_t lengths = ((uint64_t)query->count + 1) / 2 * 8;
	uint64_t sum = lengths;

	switch ((enum wire_ask)query->ask) {
	case WIRE_GET:
	case WIRE_GET_EMBEDDINGS:
		return (uint64_t)query->count * 8;
	case WIRE_GET_EDGES:
		return (uint64_t)query->count * sizeof(struct haul_edge_id);
	case WIRE_NEAR:
		return (uint64_t)query->count * query->dimensions * sizeof(float);
	case WIRE_GET_BY_KEY:
		if (bytes < lengths)
			return UINT64_MAX;
		for (uint32_t i = 0; i < query->count; i++) {
			uint32_t text;
			memcpy(&text, payload + (size_t)i * 4, 4);
			sum += text;
		}
		return sum;
	case WIRE_PIN:
	case WIRE_UNPIN:
	case WIRE_SCAN:
	case WIRE_SCAN_EDGES:
	case WIRE_SCAN_EMBEDDINGS:
	case WIRE_NEIGHBOURS:
	case WIRE_TRAVERSE:
	case WIRE_PATH:
	case WIRE_STATUS:
	case WIRE_ASKS:
	default:
		return 0;
	}
}

static bool has_names(enum wire_ask ask)
{
	return (ask >= WIRE_GET && ask <= WIRE_GET_EMBEDDINGS) || ask == WIRE_NEAR;
}

int wire_get_query(const uint8_t *data, const struct wire_query **ret_query)
{
	const uint32_t bytes = body_bytes(data);
	const struct wire_query *query = (const struct wire_query *)(const void *)wire_body(data);

	if (bytes < sizeof *query)
		return HAUL_ECORRUPT;
	const enum wire_ask ask = query->ask;
	if (ask >= WIRE_ASKS)
		return HAUL_ETYPE;
	if ((query->flags & ~WIRE_FLAGS) != 0 || query->reserved != 0)
		return HAUL_ECORRUPT;
	if (query->count > WIRE_ITEMS_MAX || query->dimensions > HAUL_DIMENSIONS_MAX)
		return HAUL_ELIMIT;
	if (ask == WIRE_NEAR && (uint64_t)query->count * query->max > WIRE_HITS_MAX)
		return HAUL_ELIMIT;
	if (!has_names(ask) && query->count != 0)
		return HAUL_ECORRUPT;
	const uint64_t rest = bytes - sizeof *query;
	if (payload_bytes(query, wire_body(data) + sizeof *query, rest) != rest)
		return HAUL_ECORRUPT;
	*ret_query = query;
	return 0;
}

void wire_get_keys(const uint8_t *data, struct haul_text *keys)
{
	const struct wire_query *query = (const struct wire_query *)(const void *)wire_body(data);
	const uint8_t *lengths = data + WIRE_QUERY_HEAD;
	const char *text = (const char *)lengths + ((size_t)query->count + 1) / 2 * 8;

	HAUL_ASSERT(query->ask == WIRE_GET_BY_KEY && query->count <= WIRE_ITEMS_MAX);
	for (uint32_t i = 0; i < query->count; i++) {
		memcpy(&keys[i].bytes, lengths + (size_t)i * 4, 4);
		keys[i].data = text;
		text += keys[i].bytes;
	}
}

int wire_get_result(const uint8_t *data, const struct wire_result **ret_result)
{
	const struct wire_result *result =
		(const struct wire_result *)(const void *)wire_body(data);

	if (body_bytes(data) < sizeof *result || result->complete > 1)
		return HAUL_ECORRUPT;
	*ret_result = result;
	return 0;
}

/* ---- records ---- */

static uint32_t padded(uint32_t bytes)
{
	return (bytes + 7) & ~7U;
}

/* Room for head and record; where the record goes. */
static uint8_t *page_room(const struct wire_page *page, uint32_t bytes)
{
	const uint64_t need = sizeof(struct wire_record) + (uint64_t)padded(bytes);

	HAUL_ASSERT(page->at % 8 == 0 && page->at <= page->bytes);
	return need > page->bytes - page->at ? NULL
					     : page->data + page->at + sizeof(struct wire_record);
}

/* The record has been put behind the place of its head. */
static bool page_add(struct wire_page *page, const struct wire_record *record)
{
	const uint32_t bytes = padded(record->bytes);
	uint8_t *data = page->data + page->at;

	HAUL_ASSERT(sizeof *record + bytes <= page->bytes - page->at);
	memcpy(data, record, sizeof *record);
	memset(data + sizeof *record + record->bytes, 0, bytes - record->bytes);
	page->at += (uint32_t)sizeof *record + bytes;
	return true;
}

bool wire_put_node(struct wire_page *page, const struct haul_node *node, int32_t status)
{
	struct wire_record record = { .status = status };
	uint8_t *data;

	if (status == 0)
		record.bytes = RECORD_NODE_HEAD + node->key_bytes + node->properties.bytes;
	data = page_room(page, record.bytes);
	if (data == NULL)
		return false;
	if (status == 0) {
		record.a = node->id;
		record.version = node->version;
		const uint32_t bytes = record_put_node(data, node);
		HAUL_ASSERT(bytes == record.bytes);
	}
	return page_add(page, &record);
}

bool wire_put_edge(struct wire_page *page, const struct haul_edge *edge, int32_t status)
{
	struct wire_record record = { .status = status };
	uint8_t *data;

	if (status == 0)
		record.bytes = RECORD_EDGE_HEAD + edge->properties.bytes;
	data = page_room(page, record.bytes);
	if (data == NULL)
		return false;
	if (status == 0) {
		record.a = edge->id.src;
		record.b = edge->id.dst;
		record.type = edge->id.type;
		record.disc = edge->id.disc;
		record.version = edge->version;
		const uint32_t bytes = record_put_edge(data, edge);
		HAUL_ASSERT(bytes == record.bytes);
	}
	return page_add(page, &record);
}

bool wire_put_embedding(struct wire_page *page, const struct haul_embedding *embedding,
			int32_t status)
{
	struct wire_record record = { .status = status };
	uint8_t *data;

	if (status == 0)
		record.bytes = RECORD_EMBEDDING_HEAD + embedding->dimensions * 4;
	data = page_room(page, record.bytes);
	if (data == NULL)
		return false;
	if (status == 0) {
		record.a = embedding->node;
		record.type = embedding->index;
		record.version = embedding->version;
		const uint32_t bytes = record_put_embedding(data, embedding);
		HAUL_ASSERT(bytes == record.bytes);
	}
	return page_add(page, &record);
}

/* The next head, and where its record is. */
static int reading_next(struct wire_reading *page, struct wire_record *record,
			const uint8_t **ret_data)
{
	if (page->bytes - page->at < sizeof *record)
		return HAUL_ECORRUPT;
	memcpy(record, page->data + page->at, sizeof *record);
	const uint32_t left = page->bytes - page->at - (uint32_t)sizeof *record;
	if (record->status > 0 || record->bytes > left || padded(record->bytes) > left)
		return HAUL_ECORRUPT;
	*ret_data = page->data + page->at + sizeof *record;
	page->at += (uint32_t)sizeof *record + padded(record->bytes);
	return 0;
}

int wire_get_node(struct wire_reading *page, struct haul_node *node, int32_t *ret_status)
{
	struct wire_record record;
	const uint8_t *data;

	int error = reading_next(page, &record, &data);
	if (error == 0 && record.status == 0)
		error = record_check_node(data, record.bytes, false);
	if (error != 0)
		return error;
	*ret_status = record.status;
	if (record.status != 0)
		return 0;
	record_get_node(data, record.bytes, node);
	node->id = record.a;
	node->version = record.version;
	return 0;
}

int wire_get_edge(struct wire_reading *page, struct haul_edge *edge, int32_t *ret_status)
{
	struct wire_record record;
	const uint8_t *data;

	int error = reading_next(page, &record, &data);
	if (error == 0 && record.status == 0)
		error = record_check_edge(data, record.bytes, false);
	if (error != 0)
		return error;
	*ret_status = record.status;
	if (record.status != 0)
		return 0;
	record_get_edge(data, record.bytes, edge);
	edge->id = (struct haul_edge_id){
		.src = record.a, .dst = record.b, .type = record.type, .disc = record.disc
	};
	edge->version = record.version;
	return 0;
}

int wire_get_embedding(struct wire_reading *page, struct haul_embedding *embedding,
		       int32_t *ret_status)
{
	struct wire_record record;
	const uint8_t *data;

	int error = reading_next(page, &record, &data);
	if (error == 0 && record.status == 0)
		error = record_check_embedding(data, record.bytes);
	if (error != 0)
		return error;
	*ret_status = record.status;
	if (record.status != 0)
		return 0;
	record_get_embedding(data, record.bytes, embedding);
	embedding->node = record.a;
	embedding->index = record.type;
	embedding->version = record.version;
	return 0;
}
