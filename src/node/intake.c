/* node/intake.c — from a received burst to rows in send batches.
 *
 * A burst from the wire is decoded as a whole, then told apart row by row: for control, for us, or
 * for somebody else. What is for us is unpacked into one batch of Ethernet frames that still lie
 * where they were received, and handled as a burst again: an OBU gives it to its TAP, an RSU
 * switches it. A frame that came as a message of its own keeps that message's header before it as
 * headroom, so an RSU that sends it on writes the new header over the old one. */
#include <errno.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "link/checksum.h"
#include "node/datapath_state.h"

enum { ETH_BYTES = 14, ETH_SOURCE_AT = 6, CSUM_OFFSET_MAX = UINT8_MAX };

/* ---- checksums ---- */

/* The checksum field lies in the first piece: it is a header's. The bytes summed may lie in
 * both. */
static void complete_checksum(struct haul_frames *frames, uint32_t i)
{
	uint32_t start = frames->csum_start[i];
	uint32_t field = start + frames->csum_offset[i];
	HAUL_ASSERT(frames->flags[i] & HAUL_FRAME_CSUM_PARTIAL);
	frames->flags[i] &= (uint16_t)~HAUL_FRAME_CSUM_PARTIAL;
	if (field + 2 > frames->len[i])
		return; /* says something about bytes that are not there: nothing to finish */
	uint32_t head = frames->len[i] - start;
	uint64_t sum = checksum_add(frames->data[i] + start, head, 0);
	if (frames->tail_len[i] > 0)
		sum = head % 2 == 0 ? checksum_add(frames->tail[i], frames->tail_len[i], sum)
				    : checksum_add_odd(frames->tail[i], frames->tail_len[i], sum);
	uint16_t value = (uint16_t)~checksum_fold(sum);
	/* A sum of zero means "no checksum" in UDP; 0xffff is the same number everywhere. */
	checksum_store(frames->data[i] + field, value == 0 ? UINT16_MAX : value);
}

static bool header_can_tell(const struct haul_frames *frames, uint32_t i)
{
	return frames->csum_start[i] <= CSUM_OFFSET_MAX && frames->csum_offset[i] >= 1 &&
	       frames->csum_offset[i] <= CSUM_OFFSET_MAX;
}

/* ---- from our TAP ---- */

/* An OBU sends all up; a frame without an Ethernet header is left out. */
static void send_up(struct datapath *dp, struct haul_frames *frames, const struct route *upstream)
{
	struct bundle_run run = { .frames = frames };
	uint32_t i = 0;
	while (i < frames->count) {
		run.first = i;
		while (i < frames->count && frames->len[i] >= ETH_BYTES)
			i++;
		run.count = i - run.first;
		if (run.count > 0) {
			datapath_send(dp, &run, upstream);
			continue;
		}
		datapath_count(dp, DATAPATH_DROP_RUNT, 1);
		i++;
	}
}

void intake_tap(struct datapath *dp)
{
	struct haul_frames *frames = &dp->rx[NODE_TAP];
	const struct snapshot *snapshot = dp->snapshot;
	for (uint32_t i = 0; i < frames->count; i++)
		if ((frames->flags[i] & HAUL_FRAME_CSUM_PARTIAL) && !header_can_tell(frames, i))
			complete_checksum(frames, i);
	if (snapshot != NULL && dp->options.role == NODE_RSU)
		switch_frames(dp, &(struct switch_input){ .frames = frames, .port = NODE_TAP });
	else if (snapshot != NULL && snapshot->upstream.node != 0)
		send_up(dp, frames, &snapshot->upstream);
	else
		datapath_count(dp, DATAPATH_DROP_NO_ROUTE, frames->count);
}

/* ---- from the wire ---- */

/* What this stage looks at. */
struct burst {
	struct datapath *dp;
	struct haul_frames *frames;
	const struct haul_messages *messages;
	uint32_t port;
};

static bool is_stranger(const struct burst *burst, uint32_t i)
{
	return burst->port == NODE_BACKHAUL && burst->frames->peer[i] == HAUL_PEER_NONE;
}

/* Data is sent to one neighbour at a time: passed on by all who hear it, it would multiply. */
static bool is_for_all(const struct burst *burst, uint32_t i)
{
	return (burst->frames->flags[i] & HAUL_FRAME_BROADCAST) != 0;
}

static void take_control(const struct burst *burst, uint32_t i)
{
	struct datapath *dp = burst->dp;
	const struct haul_messages *m = burst->messages;
	uint32_t peer = burst->frames->peer[i];
	if (peer == HAUL_PEER_NONE) {
		int rc = haul_link_peer_add(dp->link[burst->port],
					    &burst->frames->addr[burst->frames->from[i]]);
		if (rc < 0) {
			datapath_count(dp, DATAPATH_DROP_PEERS, 1);
			return;
		}
		peer = (uint32_t)rc;
	}
	struct control_event event = {
		.kind = m->type[i] == HAUL_MESSAGE_REPLY ? CONTROL_REPLY : CONTROL_HEARTBEAT,
		.from = {.port = burst->port, .peer = peer},
		.now_ns = dp->now_ns,
		.broadcast = is_for_all(burst, i),
		.header = {
			.type = m->type[i],
			.flags = m->flags[i],
			.ttl = m->ttl[i],
			.sequence = m->sequence[i],
			.origin = m->origin[i],
			.destination = m->destination[i],
		},
	};
	if (event.kind == CONTROL_REPLY)
		haul_reply_get(m->body[i], &event.reply);
	else
		haul_heartbeat_get(m->body[i], &event.reply.heartbeat);
	datapath_count(dp, DATAPATH_EVENTS, 1);
	datapath_tell(dp, &event);
}

/* What other RSUs send to our OBUs is all we hear of the stations behind them. */
static void learn_in_passing(const struct burst *burst, uint32_t i)
{
	const struct haul_messages *m = burst->messages;
	const uint8_t *frame = m->body[i];
	if (burst->dp->options.role != NODE_RSU || burst->port != NODE_BACKHAUL)
		return;
	if (m->type[i] == HAUL_MESSAGE_AGGREGATE)
		frame += HAUL_AGGREGATE_ENTRY_BYTES;
	switch_source(burst->dp, mac_load(frame + ETH_SOURCE_AT), m->origin[i]);
}

static void relay(const struct burst *burst, uint32_t i)
{
	struct datapath *dp = burst->dp;
	const struct haul_frames *frames = burst->frames;
	const struct route *to = snapshot_route(dp->snapshot, burst->messages->destination[i]);
	if (to == NULL) {
		datapath_count(dp, DATAPATH_DROP_NO_ROUTE, 1);
		return;
	}
	if (burst->messages->ttl[i] <= 1) {
		datapath_count(dp, DATAPATH_DROP_TTL, 1);
		return;
	}
	if (to->next.port == burst->port && to->next.peer == frames->peer[i]) {
		datapath_count(dp, DATAPATH_DROP_LOOP, 1);
		return;
	}
	if (to->next.port == NODE_BACKHAUL && burst->port == NODE_BACKHAUL) {
		datapath_count(dp, DATAPATH_DROP_SPLIT, 1);
		return;
	}
	learn_in_passing(burst, i);
	haul_message_relay(frames->data[i]);
	datapath_count(dp, DATAPATH_RELAYED, 1);
	datapath_push(dp, to->next.port,
		      &(struct haul_frame){
			      .data = frames->data[i],
			      .len = frames->len[i],
			      .peer = to->next.peer,
		      });
}

/* Hand on what has been unpacked. */
static void drain_inner(const struct burst *burst)
{
	struct datapath *dp = burst->dp;
	if (dp->inner.count == 0)
		return;
	if (dp->options.role == NODE_RSU)
		switch_frames(dp, &(struct switch_input){
					  .frames = &dp->inner,
					  .origin = dp->inner_origin,
					  .port = burst->port,
				  });
	else
		datapath_deliver(dp, &dp->inner, 0, dp->inner.count);
	haul_frames_clear(&dp->inner);
}

static int unpack_one(const struct burst *burst, uint32_t i)
{
	const struct haul_messages *m = burst->messages;
	struct haul_frame row = {
		.data = m->body[i],
		.len = m->body_len[i],
		.peer = burst->frames->peer[i],
		.flags = HAUL_FRAME_HEADROOM,
		.csum_start = m->csum_start[i],
		.csum_offset = m->csum_offset[i],
	};
	if (row.csum_offset != 0)
		row.flags |= HAUL_FRAME_CSUM_PARTIAL;
	return haul_frames_push(&burst->dp->inner, &row);
}

static int unpack_once(const struct burst *burst, uint32_t i)
{
	const struct haul_messages *m = burst->messages;
	struct haul_frames *inner = &burst->dp->inner;
	uint32_t before = inner->count;
	int rc;
	if (m->type[i] == HAUL_MESSAGE_AGGREGATE)
		rc = haul_aggregate_split(m->body[i], m->body_len[i], burst->frames->peer[i],
					  inner);
	else
		rc = unpack_one(burst, i);
	if (rc < 0)
		return rc;
	for (uint32_t n = before; n < inner->count; n++)
		burst->dp->inner_origin[n] = m->origin[i];
	return 0;
}

static void unpack(const struct burst *burst, uint32_t i)
{
	const struct haul_messages *m = burst->messages;
	bool down = m->type[i] == HAUL_MESSAGE_DATA_DOWN ||
		    (m->type[i] == HAUL_MESSAGE_AGGREGATE && (m->flags[i] & HAUL_MESSAGE_DOWN));
	if (down != (burst->dp->options.role == NODE_OBU)) {
		datapath_count(burst->dp, DATAPATH_DROP_DIRECTION, 1);
		return;
	}
	if (unpack_once(burst, i) == 0)
		return;
	drain_inner(burst);
	int rc = unpack_once(burst, i);
	HAUL_ASSERT(rc == 0); /* DATAPATH_INNER_FRAMES hold any message */
}

static void take_data(const struct burst *burst, uint32_t i)
{
	struct datapath *dp = burst->dp;
	if (burst->messages->origin[i] == dp->options.self)
		datapath_count(dp, DATAPATH_DROP_LOOP, 1);
	else if (!dp->fresh[i])
		datapath_count(dp, DATAPATH_DROP_DUPLICATE, 1);
	else if (dp->snapshot == NULL)
		datapath_count(dp, DATAPATH_DROP_NO_ROUTE, 1);
	else if (burst->messages->destination[i] == dp->options.self)
		unpack(burst, i);
	else
		relay(burst, i);
}

static bool is_control(uint8_t type)
{
	return type == HAUL_MESSAGE_HEARTBEAT || type == HAUL_MESSAGE_REPLY;
}

/* Only data that is believed may mark a sequence number as seen; a row without an origin never is.
 * Control messages number apart from data (see node.c) and have checks of their own. */
static void find_fresh(const struct burst *burst)
{
	struct datapath *dp = burst->dp;
	const struct haul_messages *m = burst->messages;
	for (uint32_t i = 0; i < m->count; i++) {
		bool counts = m->status[i] == 0 && !is_control(m->type[i]) &&
			      !is_stranger(burst, i) && !is_for_all(burst, i);
		dp->origin[i] = counts ? m->origin[i] : 0;
	}
	const struct dedupe_batch batch = { .origin = dp->origin,
					    .sequence = m->sequence,
					    .count = m->count };
	(void)dedupe_check(dp->dedupe, &batch, dp->now_ns, dp->fresh);
}

void intake_wire(struct datapath *dp, uint32_t port)
{
	struct burst burst = {
		.dp = dp,
		.frames = &dp->rx[port],
		.messages = &dp->messages,
		.port = port,
	};
	HAUL_ASSERT(port == NODE_RADIO || port == NODE_BACKHAUL);
	HAUL_ASSERT(dp->inner.count == 0);
	uint32_t count = burst.frames->count;
	if ((uint32_t)haul_messages_decode(burst.frames, &dp->messages) < count)
		(void)haul_messages_count_rejects(&dp->messages, &dp->stats, 0);
	find_fresh(&burst);
	for (uint32_t i = 0; i < count; i++) {
		if (dp->messages.status[i] != 0)
			continue;
		if (is_stranger(&burst, i))
			datapath_count(dp, DATAPATH_DROP_STRANGER, 1);
		else if (is_control(dp->messages.type[i]))
			take_control(&burst, i);
		else if (is_for_all(&burst, i))
			datapath_count(dp, DATAPATH_DROP_BROADCAST, 1);
		else
			take_data(&burst, i);
	}
	drain_inner(&burst);
}
