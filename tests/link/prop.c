#include "link/prop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "link/veth_lab.h"

enum {
	STREAM_FRAMES = 300,
	STREAM_BYTES = 512 * 1024, /* fits every receive buffer, whatever the kernel adds */
	RUN_FRAMES = 80,           /* more than fit one UDP_SEGMENT send */
	BURST_ROWS = 128,
	WAIT_MS = 10000
};

/* A row of the stream. */
struct sample {
	uint8_t *data; /* Ethernet header of path and lane, then bytes of payload */
	uint32_t bytes;
	uint32_t split; /* bytes of the first piece, header included */
	uint32_t lane;
	bool refused;
};

struct log {
	uint8_t *bytes[PROP_LANES];
	size_t used[PROP_LANES];
	uint32_t frames;
};

struct stream {
	struct sample sample[STREAM_FRAMES];
	uint32_t count;
	uint8_t *arena;
	uint8_t pattern[2 * HAUL_FRAME_BYTES_MAX]; /* random; payloads are cut out of it */
	struct log model, bursts, singles;
};

/* ---- the stream ---- */

static uint32_t random_bytes(struct prng *prng, const struct prop_case *prop)
{
	uint32_t range = prop->bytes_max - prop->bytes_min;
	uint32_t kind = prng_below(prng, 8);
	if (kind == 0)
		return prop->bytes_min;
	if (kind == 1)
		return prop->bytes_max;
	return prop->bytes_min + prng_below(prng, (kind < 5 && range > 200 ? 200 : range) + 1);
}

/* Runs of equal frames and single ones, lanes in runs and mixed: all that a link might group. */
static void stream_fill(struct stream *stream, struct prng *prng, const struct prop_case *prop)
{
	uint32_t wanted = 1 + prng_below(prng, STREAM_FRAMES), run = 0, bytes = 0, lane = 0;
	bool mixed = prng_below(prng, 2) == 0;
	size_t used = 0;
	for (stream->count = 0; stream->count < wanted; stream->count++) {
		struct sample *s = &stream->sample[stream->count];
		if (run == 0) {
			run = prng_below(prng, 2) == 0 ? 1 : 1 + prng_below(prng, RUN_FRAMES);
			bytes = random_bytes(prng, prop);
			lane = prng_below(prng, prop->bursts->lanes);
		}
		run--;
		if (used + PROP_ETHERNET + bytes > STREAM_BYTES)
			break;
		*s = (struct sample){ .data = stream->arena + used, .bytes = bytes, .lane = lane };
		if (mixed)
			s->lane = prng_below(prng, prop->bursts->lanes);
		s->split = PROP_ETHERNET + bytes;
		if (prng_below(prng, 2) == 0)
			s->split = PROP_ETHERNET + 1 + prng_below(prng, bytes);
		memcpy(s->data + PROP_ETHERNET,
		       stream->pattern + prng_below(prng, HAUL_FRAME_BYTES_MAX), bytes);
		used += PROP_ETHERNET + bytes;
	}
}

static struct haul_frame row_of(const struct prop_path *path, const struct sample *s)
{
	uint32_t skip = path->tx_header ? 0 : PROP_ETHERNET;
	memcpy(s->data, path->header[s->lane], PROP_ETHERNET);
	struct haul_frame row = {
		.data = s->data + skip,
		.len = s->split - skip,
		.tail = s->data + s->split,
		.tail_len = PROP_ETHERNET + s->bytes - s->split,
		.peer = path->peer[s->lane],
	};
	return row;
}

/* ---- logs ---- */

static void log_open(struct log *log)
{
	for (uint32_t lane = 0; lane < PROP_LANES; lane++) {
		log->bytes[lane] = malloc(STREAM_BYTES + STREAM_FRAMES * sizeof(uint32_t));
		assert_non_null(log->bytes[lane]);
	}
}

static void log_close(struct log *log)
{
	for (uint32_t lane = 0; lane < PROP_LANES; lane++)
		free(log->bytes[lane]);
}

static void log_clear(struct log *log)
{
	memset(log->used, 0, sizeof log->used);
	log->frames = 0;
}

static void log_put(struct log *log, uint32_t lane, const uint8_t *payload, uint32_t bytes)
{
	assert_true(lane < PROP_LANES);
	assert_true(log->frames < STREAM_FRAMES);
	assert_true(log->used[lane] + bytes <= STREAM_BYTES);
	memcpy(log->bytes[lane] + log->used[lane], &bytes, sizeof bytes);
	memcpy(log->bytes[lane] + log->used[lane] + sizeof bytes, payload, bytes);
	log->used[lane] += sizeof bytes + bytes;
	log->frames++;
}

static void log_expect_equal(const struct log *a, const struct log *b)
{
	assert_int_equal(a->frames, b->frames);
	for (uint32_t lane = 0; lane < PROP_LANES; lane++) {
		assert_int_equal(a->used[lane], b->used[lane]);
		assert_memory_equal(a->bytes[lane], b->bytes[lane], a->used[lane]);
	}
}

/* ---- carrying ---- */

/* One rx on receiver r into a batch of random size; returns what rx did. */
static int receive(const struct prop_path *path, uint32_t r, struct prng *prng, struct log *log)
{
	static uint8_t joined[HAUL_FRAME_BYTES_MAX];
	struct haul_frames in;
	assert_int_equal(haul_frames_init(&in, 1 + prng_below(prng, BURST_ROWS)), 0);
	int count = haul_link_rx(path->to[r], &in);
	assert_true(count >= 0);
	for (uint32_t i = 0; i < (uint32_t)count; i++) {
		uint32_t bytes = haul_frame_copy(&in, i, joined);
		uint32_t skip = path->rx_header ? PROP_ETHERNET : 0;
		uint32_t lane = r;
		if (path->rx_header && be16_load(joined + 12) != VETH_LAB_ETHERTYPE)
			continue; /* the kernel's own, as router solicitations */
		if (path->to_count == 1)
			lane = (in.flags[i] & HAUL_FRAME_BROADCAST) != 0 ? 0 : 1;
		assert_int_equal(in.status[i], 0);
		log_put(log, lane, joined + skip, bytes - skip);
	}
	haul_frames_done(&in);
	return count;
}

static void receive_some(const struct prop_path *path, struct prng *prng, struct log *log)
{
	for (uint32_t r = 0; r < path->to_count; r++)
		if (prng_below(prng, 2) == 0)
			(void)receive(path, r, prng, log);
}

/* Until as many have come as were sent, and then nothing more. */
static void receive_rest(const struct prop_path *path, uint32_t frames, struct prng *prng,
			 struct log *log)
{
	while (log->frames < frames) {
		struct pollfd fds[PROP_LANES];
		int got = 0;
		for (uint32_t r = 0; r < path->to_count; r++) {
			got += receive(path, r, prng, log);
			fds[r] = (struct pollfd){ .fd = haul_link_fd(path->to[r]),
						  .events = POLLIN };
		}
		if (got == 0 && log->frames < frames)
			assert_true(poll(fds, path->to_count, WAIT_MS) > 0);
	}
	for (uint32_t r = 0; r < path->to_count; r++)
		while (receive(path, r, prng, log) > 0)
			continue;
}

/* Frames in hand: told "full" before, and the next ones of the stream. */
struct hand {
	uint32_t sample[BURST_ROWS];
	uint32_t count;
	uint32_t next;
};

static bool hand_fill(struct hand *hand, const struct stream *stream, uint32_t wanted)
{
	for (; hand->count < wanted && hand->next < stream->count; hand->next++)
		if (!stream->sample[hand->next].refused)
			hand->sample[hand->count++] = hand->next;
	return hand->count > 0;
}

/* Apply what tx said: the model keeps what was sent, the hand what is to be sent again. */
static void hand_settle(struct hand *hand, struct stream *stream,
			const struct haul_send_batch *batch, struct prop_totals *totals)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < batch->frames.count; i++) {
		struct sample *s = &stream->sample[hand->sample[i]];
		int32_t status = batch->frames.status[i];
		assert_true(status <= 0);
		if (status == -EAGAIN || status == -ENOBUFS) {
			hand->sample[kept++] = hand->sample[i];
			totals->again++;
		} else if (status == 0) {
			log_put(&stream->model, s->lane, s->data + PROP_ETHERNET, s->bytes);
		} else {
			s->refused = true;
			totals->refused++;
		}
	}
	hand->count = kept;
}

static void carry(const struct prop_path *path, struct stream *stream, struct prng *prng,
		  struct log *log, struct prop_totals *totals)
{
	struct haul_send_batch batch;
	struct hand hand = { .count = 0 };
	uint32_t row_max = path->burst_max;
	assert_true(row_max <= BURST_ROWS);
	assert_int_equal(haul_send_batch_init(&batch, row_max), 0);
	log_clear(&stream->model);
	log_clear(log);
	while (hand_fill(&hand, stream, 1 + prng_below(prng, row_max))) {
		haul_send_batch_clear(&batch);
		for (uint32_t i = 0; i < hand.count; i++) {
			struct haul_frame row = row_of(path, &stream->sample[hand.sample[i]]);
			assert_int_equal(haul_send_batch_push(&batch, &row), 0);
		}
		if (path->disturb != NULL)
			path->disturb(path->from, prng);
		int sent = haul_link_tx(path->from, &batch);
		uint32_t before = stream->model.frames;
		hand_settle(&hand, stream, &batch, totals);
		assert_int_equal(sent, stream->model.frames - before);
		receive_some(path, prng, log);
	}
	receive_rest(path, stream->model.frames, prng, log);
	log_expect_equal(log, &stream->model);
	haul_send_batch_done(&batch);
}

void prop_run(const struct prop_case *prop, uint32_t count, struct prop_totals *ret_totals)
{
	static struct stream stream;
	struct prop_totals totals = { 0 }, singles = { 0 };
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < sizeof stream.pattern; i++)
		stream.pattern[i] = (uint8_t)prng_next(&prng);
	stream.arena = malloc(STREAM_BYTES);
	assert_non_null(stream.arena);
	log_open(&stream.model);
	log_open(&stream.bursts);
	log_open(&stream.singles);
	for (uint32_t i = 0; i < count; i++) {
		stream_fill(&stream, &prng, prop);
		carry(prop->bursts, &stream, &prng, &stream.bursts, &totals);
		carry(prop->singles, &stream, &prng, &stream.singles, &singles);
		log_expect_equal(&stream.bursts, &stream.singles);
		totals.frames += stream.count;
	}
	assert_int_equal(singles.refused, 0);
	log_close(&stream.model);
	log_close(&stream.bursts);
	log_close(&stream.singles);
	free(stream.arena);
	*ret_totals = totals;
}
