/* fuzz/fuzz_store_wire.c — any bytes as the body of what client and server of a store say.
 *
 * Promise: nothing outside of the input is read (each body lies in memory of exactly its size),
 * whatever the kind; what is accepted is within its limits: counts of statuses, lengths of names,
 * records and figures within the page. The first byte chooses the kind; the frame is sealed here,
 * as a checksum keeps no hostile sender away. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/wire_status.h"

enum { BODY_MAX = 1 << 16, KINDS = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(const void *at, uint64_t bytes, const uint8_t *frame, uint64_t frame_bytes)
{
	const uint8_t *from = at;
	HAUL_ASSERT(bytes == 0 || (from >= frame && from + bytes <= frame + frame_bytes));
}

static void try_answer(const uint8_t *frame)
{
	static int32_t statuses[HAUL_CHANGES_OPS];
	struct wire_answer answer;

	if (wire_get_answer(frame, &answer, statuses, HAUL_CHANGES_OPS) == 0)
		HAUL_ASSERT(answer.count <= HAUL_CHANGES_OPS && answer.error <= 0);
}

static void try_query(const uint8_t *frame, uint64_t bytes)
{
	static struct haul_text keys[WIRE_ITEMS_MAX];
	const struct wire_query *query;

	if (wire_get_query(frame, &query) != 0)
		return;
	HAUL_ASSERT(query->count <= WIRE_ITEMS_MAX && query->ask < WIRE_ASKS);
	if (query->ask != WIRE_GET_BY_KEY)
		return;
	wire_get_keys(frame, keys);
	for (uint32_t i = 0; i < query->count; i++)
		within(keys[i].data, keys[i].bytes, frame, bytes);
}

/* As the figures of a server; names end within the frame. */
static void try_status(const uint8_t *frame, uint32_t bytes)
{
	static struct wire_status_block block;
	struct wire_reading page = { frame, WIRE_RESULT_HEAD, bytes };
	struct haul_store_status status;

	if (wire_status_get(&page, &status) != 0)
		return;
	HAUL_ASSERT(status.level_count <= 8 && status.sync_ns >= 0);
	while (wire_status_get_block(&page, &block) == 0) {
		const struct haul_stats *stats = &block.stats;
		within(stats->name, strlen(stats->name) + 1, frame, bytes);
		HAUL_ASSERT(stats->counter_count <= HAUL_STATS_COUNTERS);
		for (uint32_t i = 0; i < stats->counter_count; i++)
			within(stats->counters[i].name, strlen(stats->counters[i].name) + 1, frame,
			       bytes);
	}
}

/* As records of each kind. */
static void try_result(const uint8_t *frame, uint32_t bytes)
{
	struct wire_reading pages[3];
	const struct wire_result *result;
	struct haul_node node;
	struct haul_edge edge;
	struct haul_embedding embedding;
	int32_t status = 1;

	if (wire_get_result(frame, &result) != 0)
		return;
	try_status(frame, bytes);
	for (uint32_t i = 0; i < 3; i++)
		pages[i] = (struct wire_reading){ frame, WIRE_RESULT_HEAD, bytes };
	while (wire_get_node(&pages[0], &node, &status) == 0) {
		if (status != 0)
			continue;
		within(node.key, node.key_bytes, frame, bytes);
		within(node.properties.data, node.properties.bytes, frame, bytes);
	}
	while (wire_get_edge(&pages[1], &edge, &status) == 0) {
		if (status == 0)
			within(edge.properties.data, edge.properties.bytes, frame, bytes);
	}
	while (wire_get_embedding(&pages[2], &embedding, &status) == 0) {
		if (status == 0)
			within(embedding.vector, embedding.dimensions * sizeof(float), frame,
			       bytes);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct wire_from from = { .seq = 1 };
	struct frame_head head;
	struct wire_hello hello;
	struct wire_welcome welcome;
	struct haul_err err = { 0 };

	if (size < 1 || size > BODY_MAX)
		return 0;
	const enum wire_kind kind = (enum wire_kind)(WIRE_HELLO + data[0] % KINDS);
	const uint32_t bytes = FRAME_HEAD + (uint32_t)size - 1;
	/* whole words, as aligned_alloc wants them; what is behind the frame is never read */
	uint8_t *frame = aligned_alloc(8, (bytes + 7) & ~7U);
	HAUL_ASSERT(frame != NULL);
	memcpy(frame + FRAME_HEAD, data + 1, size - 1);
	wire_seal(frame, kind, bytes, &from);
	HAUL_ASSERT(wire_check(frame, bytes, &head) == 0);
	if (kind == WIRE_HELLO)
		(void)wire_get_hello(frame, &hello);
	else if (kind == WIRE_WELCOME)
		(void)wire_get_welcome(frame, &welcome);
	else if (kind == WIRE_ERROR)
		(void)wire_get_error(frame, &err);
	else if (kind == WIRE_ANSWER)
		try_answer(frame);
	else if (kind == WIRE_QUERY)
		try_query(frame, bytes);
	else
		try_result(frame, bytes);
	free(frame);
	return 0;
}
