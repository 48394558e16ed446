/* bench/bench_message.c — flat messages in batches against nested ones, and against protobuf-c.
 *
 * Promise: all encoders write the same fields of the same heartbeats, all decoders read them back
 * to the same struct, and every result is looked at, so no compiler can leave work out.
 * Nested is how a message looks when each of its fields becomes a buffer of its own: an array of
 * eight parts, each from the heap. Flattened, the parts are then joined in one more buffer.
 * Allocations are counted where they are made; the flat arms have no allocator to call, which
 * tests/wire/test_message_allocations.c shows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <haul/frames.h>
#include <haul/message.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "base/prng.h"
#include "bench.h"
#include "message.pb-c.h"
#include "os/os.h"

enum {
	BATCH = 64,
	HEARTBEATS = 1024, /* different ones, in turn */
	ROW_BYTES = 64,    /* between rows of the slab */
	MESSAGE_BYTES = HAUL_MESSAGE_HEADER_BYTES + 16,
	PACKED_BYTES_MAX = 128,
	PARTS = 8,
	ROUNDS = 16 /* batches between two looks at the clock */
};

enum kind { KIND_NESTED, KIND_FLATTENED, KIND_PROTOBUF, KIND_PROTOBUF_DECODE };

struct message_bench {
	struct haul_message_header header;
	struct haul_heartbeat heartbeat[HEARTBEATS];
	uint32_t next; /* first of the next batch */
	uint64_t allocations;
	uint64_t sum; /* of what was decoded */
	struct haul_frames frames;
	struct haul_messages messages;
	ProtobufCAllocator allocator;
	uint8_t slab[BATCH][ROW_BYTES];
	uint8_t packed[BATCH][PACKED_BYTES_MAX];
	size_t packed_bytes[BATCH];
};

struct part {
	uint8_t *bytes;
	uint32_t len;
};

/* The compiler must believe that somebody reads what p points to. */
static inline void consume(const void *p)
{
	__asm__ volatile("" : : "r"(p) : "memory");
}

static void *counted_alloc(void *ctx, size_t bytes)
{
	struct message_bench *bench = ctx;
	void *memory = malloc(bytes);

	HAUL_ASSERT(memory != NULL);
	bench->allocations++;
	return memory;
}

static void counted_free(void *ctx, void *memory)
{
	(void)ctx;
	free(memory);
}

static uint8_t *part_add(struct message_bench *bench, struct part *part, uint32_t len)
{
	part->bytes = counted_alloc(bench, len);
	part->len = len;
	return part->bytes;
}

/* The fields of wire/format.h in order, neighbours of a byte or two together. */
static struct part *nested_build(struct message_bench *bench,
				 const struct haul_heartbeat *heartbeat)
{
	const struct haul_message_header *header = &bench->header;
	struct part *part = counted_alloc(bench, PARTS * sizeof *part);
	const uint8_t kind[] = { 1, header->type, header->flags, header->ttl };
	const uint8_t length[] = { 0, MESSAGE_BYTES, 0, 0 };

	memcpy(part_add(bench, &part[0], sizeof kind), kind, sizeof kind);
	memcpy(part_add(bench, &part[1], sizeof length), length, sizeof length);
	be64_store(part_add(bench, &part[2], 8), header->sequence);
	mac_store(part_add(bench, &part[3], 6), header->origin);
	mac_store(part_add(bench, &part[4], 6), header->destination);
	be32_store(part_add(bench, &part[5], 4), header->key_id);
	be64_store(part_add(bench, &part[6], 8), (uint64_t)heartbeat->id << 32 |
							 (uint64_t)heartbeat->hops << 24 |
							 heartbeat->period_ms);
	be64_store(part_add(bench, &part[7], 8), heartbeat->time_ns);
	return part;
}

static void nested_free(struct part *part)
{
	for (uint32_t i = 0; i < PARTS; i++)
		free(part[i].bytes);
	free(part);
}

static uint8_t *nested_flatten(struct message_bench *bench, const struct part *part)
{
	uint8_t *flat = counted_alloc(bench, MESSAGE_BYTES);
	uint32_t at = 0;

	for (uint32_t i = 0; i < PARTS; i++) {
		memcpy(flat + at, part[i].bytes, part[i].len);
		at += part[i].len;
	}
	HAUL_ASSERT(at == MESSAGE_BYTES);
	return flat;
}

static void nested_round(struct message_bench *bench, const struct haul_heartbeat *heartbeat,
			 bool flatten)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		struct part *part = nested_build(bench, &heartbeat[i]);
		bench->header.sequence++;
		for (uint32_t p = 0; p < PARTS; p++)
			consume(part[p].bytes);
		if (flatten) {
			uint8_t *flat = nested_flatten(bench, part);
			consume(flat);
			free(flat);
		}
		nested_free(part);
	}
}

static void flat_round(struct message_bench *bench, const struct haul_heartbeat *heartbeat)
{
	haul_heartbeats_encode(&bench->header, heartbeat, BATCH, bench->slab[0], ROW_BYTES);
	bench->header.sequence += BATCH;
	consume(bench->slab);
}

static void protobuf_round(struct message_bench *bench, const struct haul_heartbeat *heartbeat)
{
	Bench__Heartbeat message = BENCH__HEARTBEAT__INIT;

	message.version = 1;
	message.type = bench->header.type;
	message.ttl = bench->header.ttl;
	message.origin = bench->header.origin;
	message.destination = bench->header.destination;
	for (uint32_t i = 0; i < BATCH; i++) {
		message.sequence = bench->header.sequence++;
		message.id = heartbeat[i].id;
		message.hops = heartbeat[i].hops;
		message.period_ms = heartbeat[i].period_ms;
		message.time_ns = heartbeat[i].time_ns;
		bench->packed_bytes[i] = bench__heartbeat__pack(&message, bench->packed[i]);
		consume(bench->packed[i]);
	}
}

static void sum_add(struct message_bench *bench, const struct haul_heartbeat *heartbeat)
{
	bench->sum += heartbeat->id + heartbeat->hops + heartbeat->period_ms + heartbeat->time_ns;
}

static void protobuf_decode_round(struct message_bench *bench)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		Bench__Heartbeat *message = bench__heartbeat__unpack(
			&bench->allocator, bench->packed_bytes[i], bench->packed[i]);
		HAUL_ASSERT(message != NULL);
		const struct haul_heartbeat heartbeat = {
			.id = message->id,
			.hops = (uint8_t)message->hops,
			.period_ms = (uint16_t)message->period_ms,
			.time_ns = message->time_ns,
		};
		sum_add(bench, &heartbeat);
		bench__heartbeat__free_unpacked(message, &bench->allocator);
	}
	consume(&bench->sum);
}

static void flat_decode_round(struct message_bench *bench)
{
	const int good = haul_messages_decode(&bench->frames, &bench->messages);

	HAUL_ASSERT(good == BATCH);
	for (uint32_t i = 0; i < BATCH; i++) {
		struct haul_heartbeat heartbeat;
		haul_heartbeat_get(bench->messages.body[i], &heartbeat);
		sum_add(bench, &heartbeat);
	}
	consume(&bench->sum);
}

static void round_run(struct message_bench *bench, enum kind kind, enum bench_arm arm)
{
	const struct haul_heartbeat *heartbeat = &bench->heartbeat[bench->next];

	bench->next = (bench->next + BATCH) % HEARTBEATS;
	if (kind == KIND_PROTOBUF_DECODE && arm == BENCH_BATCHED)
		flat_decode_round(bench);
	else if (kind == KIND_PROTOBUF_DECODE)
		protobuf_decode_round(bench);
	else if (arm == BENCH_BATCHED)
		flat_round(bench, heartbeat);
	else if (kind == KIND_PROTOBUF)
		protobuf_round(bench, heartbeat);
	else
		nested_round(bench, heartbeat, kind == KIND_FLATTENED);
}

static int message_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		       struct bench_sample *ret_sample, struct haul_err *err)
{
	struct message_bench *bench = ctx;
	struct os *os = os_linux();
	const int64_t start_ns = os->now_ns(os);
	const int64_t end_ns = start_ns + (int64_t)(seconds * (double)NS_PER_S);
	int64_t now_ns = start_ns;
	uint64_t ops = 0;

	(void)err;
	bench->allocations = 0;
	while (now_ns < end_ns) {
		for (uint32_t i = 0; i < ROUNDS; i++)
			round_run(bench, (enum kind)self->parameter, arm);
		ops += (uint64_t)BATCH * ROUNDS;
		now_ns = os->now_ns(os);
	}
	ret_sample->value = (double)(now_ns - start_ns) / (double)ops;
	snprintf(ret_sample->note, sizeof ret_sample->note, "%.2f allocations a heartbeat",
		 (double)bench->allocations / (double)ops);
	if (arm == BENCH_BATCHED)
		ret_sample->fill_mean = BATCH;
	return 0;
}

static void message_close(void *ctx)
{
	struct message_bench *bench = ctx;

	if (bench == NULL)
		return;
	haul_frames_done(&bench->frames);
	haul_messages_done(&bench->messages);
	free(bench);
}

/* What the decoders are to decode, in both formats. */
static void fill(struct message_bench *bench)
{
	struct prng prng;

	prng_init(&prng, 1);
	for (uint32_t i = 0; i < HEARTBEATS; i++)
		bench->heartbeat[i] = (struct haul_heartbeat){
			.id = (uint32_t)prng_next(&prng),
			.hops = (uint8_t)prng_below(&prng, 8),
			.period_ms = (uint16_t)(100 + prng_below(&prng, 900)),
			.time_ns = prng_next(&prng),
		};
	flat_round(bench, bench->heartbeat);
	protobuf_round(bench, bench->heartbeat);
	for (uint32_t i = 0; i < BATCH; i++) {
		const struct haul_frame row = { .data = bench->slab[i], .len = MESSAGE_BYTES };
		const int rc = haul_frames_push(&bench->frames, &row);
		HAUL_ASSERT(rc == 0);
		HAUL_ASSERT(bench->packed_bytes[i] <= PACKED_BYTES_MAX);
	}
}

static int message_open(void **ret_ctx, struct haul_err *err)
{
	struct message_bench *bench = calloc(1, sizeof *bench);

	if (bench == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	bench->header = (struct haul_message_header){
		.type = HAUL_MESSAGE_HEARTBEAT,
		.ttl = 8,
		.sequence = UINT64_C(0x6543210000000000),
		.origin = UINT64_C(0x020000000001),
		.destination = HAUL_NODE_BROADCAST,
	};
	bench->allocator = (ProtobufCAllocator){ .alloc = counted_alloc,
						 .free = counted_free,
						 .allocator_data = bench };
	int rc = haul_frames_init(&bench->frames, BATCH);
	if (rc >= 0)
		rc = haul_messages_init(&bench->messages, BATCH);
	if (rc < 0) {
		message_close(bench);
		return haul_err_set(err, rc, "%s", haul_strerror(rc));
	}
	fill(bench);
	*ret_ctx = bench;
	return 0;
}

static const struct bench_case message_cases[] = {
	{ .name = "flat_vs_nested",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .goal = 40.0,
	  .arms = "a heartbeat in 8 heap parts, and freed | 64 flat in one call (at most 5 ns)",
	  .run = message_run,
	  .parameter = KIND_NESTED },
	{ .name = "flat_vs_nested_flattened",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .arms = "8 heap parts joined in one buffer, and freed | 64 flat in one call",
	  .run = message_run,
	  .parameter = KIND_FLATTENED },
	{ .name = "flat_vs_protobuf",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .goal = 10.0,
	  .arms = "protobuf-c pack | 64 flat in one call",
	  .run = message_run,
	  .parameter = KIND_PROTOBUF },
	{ .name = "decode_vs_protobuf",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .arms = "protobuf-c unpack, and freed | 64 decoded, checked and taken in one call",
	  .run = message_run,
	  .parameter = KIND_PROTOBUF_DECODE },
};

const struct bench bench_message = {
	.name = "message",
	.help = "Flat messages against nested ones and protobuf-c",
	.cases = message_cases,
	.case_count = sizeof message_cases / sizeof *message_cases,
	.open = message_open,
	.close = message_close,
};
