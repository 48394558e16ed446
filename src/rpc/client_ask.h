/* rpc/client_ask.h — one query and its result, over a connection of the reader's own.
 *
 * Model      Each reader has a connection of its own and waits at it in the thread that calls: no
 *            other thread is on the way. What callers of the client were told is durable and seen
 *            by any query that comes later, on whichever connection. What was submitted and not
 *            told yet is waited for before: a read is a barrier.
 *            A query changes nothing: when the connection is lost it is asked again, on another
 *            one. But what was pinned is gone with its connection: HAUL_ESTALE.
 * Memory     a query and a result, at haul_client_reader.
 * Threads    that of the reader.
 * Errors     as haul/reader.h. */
#pragma once

#include "rpc/client_state.h"
#include "store/reader_state.h"

struct client_reader {
	struct haul_reader reader; /* first */
	struct haul_client *client;
	struct link link;
	uint8_t *out; /* WIRE_QUERY_MAX */
	uint8_t *in;  /* WIRE_RESULT_MAX */
	uint32_t out_bytes;
	uint64_t seq;
	bool pinned, pin_lost;
	const struct wire_result *result; /* of the last call */
};
static inline uint32_t ask_most(uint32_t count, uint32_t most)
{
	return count < most ? count : most;
}

/* The start of a query; what is behind it follows by ask_add. */
void ask_begin(struct client_reader *reader, const struct wire_query *query);
void ask_add(struct client_reader *reader, const void *data, uint64_t bytes);
/* Ask what has been put together. What the call returned, or why it did not get there. */
int ask_call(struct client_reader *reader);
/* The same, and no barrier: what was submitted is not waited for. */
int ask_at_once(struct client_reader *reader);
/* The same, and sees to it that no more comes than was asked for. */
int ask_for(struct client_reader *reader, uint32_t most);
/* What came, behind its head. */
struct wire_reading ask_result(const struct client_reader *reader);
/* It is not as it should be: hangs up; returns rc. */
int ask_broken(struct client_reader *reader, int rc);
void ask_hang_up(struct client_reader *reader);
