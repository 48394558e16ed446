/* rpc/store_wire.h — what client and server of a store say to each other.
 *
 * Model      Everything is a frame with the head of store/frame.h, sealed by frame_seal; a client
 *            begins. HELLO (token) is answered by WELCOME or ERROR. Frames of changes and fences go
 *            as they are logged, each answered by one ANSWER with its session and seq, in order. A
 *            QUERY is one call of haul/reader.h, or asks for the figures of the server, and is
 *            answered by one RESULT with its seq. ERROR says why the connection is closed behind
 *            it. At most `credits` frames may be without an answer on one connection.
 *            Statuses go as runs of equal ones. Records go as store/record.h has them, each behind
 *            a struct wire_record and filled up to 8 bytes.
 * Units      bytes; little-endian.
 * Threads    pure.
 * Errors     wire_check and the decoders: HAUL_E… as frame_check; nothing points out of the frame.
 * Limits     WIRE_QUERY_MAX and WIRE_RESULT_MAX bytes a frame.
 * Source     docs/design/0018. */
#pragma once

#include <haul/reader.h>
#include "store/exec.h"
#include "store/frame.h"

enum {
	WIRE_PROTOCOL = 1,
	WIRE_TOKEN_MAX = 256,
	WIRE_TEXT_MAX = 232,
	WIRE_QUERY_MAX = FRAME_BYTES_MAX,
	WIRE_RESULT_MAX = 8 << 20,
	WIRE_ITEMS_MAX = 16384,    /* records of a query, and of its result */
	WIRE_VALUES_MAX = 1 << 20, /* bytes of all records of a result, heads aside */
	WIRE_HITS_MAX = 256 << 10, /* of a near query: k * count */
	WIRE_VISITS_MAX = 256 << 10,
	WIRE_CREDITS = 8,
};

enum wire_kind {
	WIRE_HELLO = FRAME_WIRE,
	WIRE_WELCOME,
	WIRE_ERROR,
	WIRE_ANSWER,
	WIRE_QUERY,
	WIRE_RESULT,
};

struct wire_hello {
	uint32_t protocol;
	uint32_t token_bytes;
	uint8_t token[WIRE_TOKEN_MAX];
};
struct wire_welcome {
	uint32_t protocol;
	uint32_t credits;
	uint64_t op; /* durable: second word of a session that is made now */
	uint8_t uuid[16];
};
struct wire_error {
	int32_t code;
	uint32_t text_bytes;
	char text[WIRE_TEXT_MAX];
};
struct wire_answer {
	int32_t error;
	uint32_t count, failed;
	uint32_t runs; /* behind it */
	uint64_t op;
	uint8_t repeated, fenced;
	uint16_t reserved;
	uint32_t credits;
};
struct wire_run {
	uint32_t times;
	int32_t status;
};

enum wire_ask { /* clang-format off */
	WIRE_PIN, WIRE_UNPIN,
	WIRE_GET, WIRE_GET_BY_KEY, WIRE_GET_EDGES, WIRE_GET_EMBEDDINGS,
	WIRE_SCAN, WIRE_SCAN_EDGES, WIRE_SCAN_EMBEDDINGS, WIRE_NEIGHBOURS,
	WIRE_TRAVERSE, WIRE_PATH, WIRE_NEAR,
	WIRE_STATUS, /* no call of a reader: wire_status.h */
	WIRE_ASKS
}; /* clang-format on */

enum {
	WIRE_PINNED = 1, /* of the state that this connection has pinned */
	WIRE_BARE = 2,
	WIRE_EXACT = 4,
	WIRE_FLAGS = 7,
};
/* Behind it `count` of: ids (8 bytes), edges (struct haul_edge_id), or texts: lengths (4 bytes,
 * an even number of them), then texts; of NEAR the vectors. */
struct wire_query {
	uint16_t ask; /* enum wire_ask */
	uint16_t flags;
	uint32_t count; /* of names, or queries of NEAR */
	uint32_t max;   /* records wanted; k of NEAR */
	uint32_t type;  /* or kind, or index */
	uint32_t direction;
	uint32_t dimensions;
	uint32_t depth_max, visits_max;
	uint64_t first, last; /* ids; ends of a path; the node */
	uint64_t cursor[4];
	uint32_t metric;
	uint32_t reserved;
};
/* Behind it: records, or struct haul_visit, or ids, or struct wire_hit, or struct wire_status. */
struct wire_result {
	int32_t result; /* of the call */
	uint32_t complete;
	uint64_t cursor[4];
};
struct wire_record {
	uint64_t a, b; /* id; src, dst; node */
	uint64_t version;
	uint32_t type, disc; /* or index */
	int32_t status;
	uint32_t bytes; /* of the record behind it */
};
struct wire_hit {
	uint64_t node;
	float distance;
	uint32_t reserved;
};
static_assert(sizeof(struct wire_hello) % 8 == 0 && sizeof(struct wire_welcome) == 32 &&
		      sizeof(struct wire_error) == 240 && sizeof(struct wire_answer) == 32 &&
		      sizeof(struct wire_query) == 88 && sizeof(struct wire_result) == 40 &&
		      sizeof(struct wire_record) == 40 && sizeof(struct wire_hit) == 16 &&
		      sizeof(struct haul_visit) == 24 && sizeof(struct haul_edge_id) == 24,
	      "no holes on the wire");

enum {
	WIRE_HELLO_BYTES = FRAME_HEAD + sizeof(struct wire_hello),
	WIRE_WELCOME_BYTES = FRAME_HEAD + sizeof(struct wire_welcome),
	WIRE_ERROR_BYTES = FRAME_HEAD + sizeof(struct wire_error),
	WIRE_ANSWER_HEAD = FRAME_HEAD + sizeof(struct wire_answer),
	WIRE_ANSWER_MAX = WIRE_ANSWER_HEAD + HAUL_CHANGES_OPS * sizeof(struct wire_run),
	WIRE_QUERY_HEAD = FRAME_HEAD + sizeof(struct wire_query),
	WIRE_RESULT_HEAD = FRAME_HEAD + sizeof(struct wire_result),
};

/* What a frame is from. */
struct wire_from {
	uint64_t session[2];
	uint64_t seq;
};
/* Head into data, whose body of `bytes` - FRAME_HEAD has been written; seals. */
void wire_seal(uint8_t *data, enum wire_kind kind, uint32_t bytes, const struct wire_from *from);
/* A whole frame of one of the kinds above: both checksums, and that its head says nothing it should
 * not. The body is the decoders'. */
int wire_check(const uint8_t *data, uint64_t bytes, struct frame_head *ret_head);
static inline const uint8_t *wire_body(const uint8_t *data)
{
	return data + FRAME_HEAD;
}

/* All return the bytes of the frame, sealed. data is aligned to 8. */
uint32_t wire_put_hello(uint8_t *data, const uint8_t *token, uint32_t token_bytes);
uint32_t wire_put_welcome(uint8_t *data, const struct wire_welcome *welcome);
uint32_t wire_put_error(uint8_t *data, int code, const char *text);
/* Room: WIRE_ANSWER_HEAD and a struct wire_run for each of result->count. statuses: NULL with an
 * error. result: NULL, or with an error only its op, which is durable. */
struct wire_told {
	int error;
	const struct exec_result *result;
	const int32_t *statuses;
	uint32_t credits;
};
uint32_t wire_put_answer(uint8_t *data, const struct wire_from *from, const struct wire_told *told);

/* Of checked frames; out-pointers point into them. */
int wire_get_hello(const uint8_t *data, struct wire_hello *ret_hello);
int wire_get_welcome(const uint8_t *data, struct wire_welcome *ret_welcome);
int wire_get_error(const uint8_t *data, struct haul_err *ret_err);
/* statuses: ret_answer->count of them, at most `max`. */
int wire_get_answer(const uint8_t *data, struct wire_answer *ret_answer, int32_t *statuses,
		    uint32_t max);
/* That its fields are possible and that what is behind it has the length they say. */
int wire_get_query(const uint8_t *data, const struct wire_query **ret_query);
int wire_get_result(const uint8_t *data, const struct wire_result **ret_result);
/* keys[count], of a query GET_BY_KEY. */
void wire_get_keys(const uint8_t *data, struct haul_text *keys);

/* ---- records of a result, one after the other ---- */

struct wire_page {
	uint8_t *data;
	uint32_t at, bytes; /* of the frame so far; room */
};
/* false: it does not fit any more, nothing was put. */
bool wire_put_node(struct wire_page *page, const struct haul_node *node, int32_t status);
bool wire_put_edge(struct wire_page *page, const struct haul_edge *edge, int32_t status);
bool wire_put_embedding(struct wire_page *page, const struct haul_embedding *embedding,
			int32_t status);
struct wire_reading {
	const uint8_t *data;
	uint32_t at, bytes;
};
int wire_get_node(struct wire_reading *page, struct haul_node *node, int32_t *ret_status);
int wire_get_edge(struct wire_reading *page, struct haul_edge *edge, int32_t *ret_status);
int wire_get_embedding(struct wire_reading *page, struct haul_embedding *embedding,
		       int32_t *ret_status);
