/* node/bundle.c — the frames of one destination leave in the order they came, few messages a turn.
 *
 * Promise: splitting all messages of a destination, in order, gives the frames pushed for it, in
 * order, each once; no message is larger than its port carries.
 * How: an aggregate is built in the arena behind room for its header. It reserves as much as it may
 * grow to; when the one reserved last closes, the arena takes the rest back, so that aggregates to
 * one destination lie back to back and the link can hand them to the kernel as one run. A frame
 * that stays alone has its header written over its entry: header and frame are then contiguous.
 * Why order holds: a destination has at most one open aggregate, and everything else for it is
 * pushed only after that has closed, into the same send batch.
 * Why a close never fails: a push leaves as many free rows in each send batch as there are open
 * aggregates for it. Why the arena never runs dry for good: bundle_sent moves what is still open to
 * the front of the other half, which takes at most BUNDLE_OPEN_MAX reservations. */
#include "node/bundle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/message.h>
#include "base/assert.h"
#include "wire/format.h"

enum {
	MESSAGE_BYTES_MIN = WIRE_HEADER_BYTES + WIRE_FRAME_BYTES_MIN,
	ENTRIES_AT = WIRE_HEADER_BYTES, /* where an aggregate's entries begin */
	HALVES = 2
};

_Static_assert(BUNDLE_OPEN_MAX *BUNDLE_MESSAGE_BYTES_MAX + HAUL_FRAME_BYTES_MAX +
			       WIRE_HEADER_BYTES <=
		       BUNDLE_ARENA_BYTES,
	       "with all aggregates moved there is room for one frame more");

static const struct haul_counter counters[] = {
#define X(id, name, help) { name, help },
	BUNDLE_COUNTER_LIST(X)
#undef X
};

struct aggregate { /* one that is open */
	struct route to;
	uint8_t *message; /* room for the header, then the entries */
	uint32_t used;    /* bytes so far, header included */
	uint32_t bytes_max;
	uint32_t count;   /* frames */
	int64_t first_ns; /* when the first came */
};

struct bundle {
	struct bundle_options options;
	uint64_t sequence;
	int64_t now_ns;
	uint32_t predicted;
	uint32_t open_count;
	uint32_t open_port[NODE_PORTS];         /* of these for each port */
	struct aggregate open[BUNDLE_OPEN_MAX]; /* in the order they were opened */
	uint8_t *arena[HALVES];
	uint32_t half; /* the one in use */
	uint32_t used; /* bytes of it */
	struct haul_stats stats;
};

int bundle_open(const struct bundle_options *options, struct bundle **ret_bundle)
{
	HAUL_ASSERT(options->ttl >= 1 && options->ttl <= UINT8_MAX);
	struct bundle *bundle = calloc(1, sizeof *bundle);
	if (bundle == NULL)
		return -ENOMEM;
	bundle->options = *options;
	bundle->sequence = options->sequence;
	haul_stats_init(&bundle->stats, "bundle", counters, BUNDLE_COUNTERS);
	for (uint32_t i = 0; i < HALVES; i++)
		bundle->arena[i] = malloc(BUNDLE_ARENA_BYTES);
	int rc = bundle->arena[0] == NULL || bundle->arena[1] == NULL ? -ENOMEM : 0;
	if (rc == 0 && options->stats != NULL)
		rc = haul_stats_enter(options->stats, &bundle->stats);
	if (rc < 0) {
		bundle->options.stats = NULL; /* not entered */
		bundle_close(bundle);
		return rc;
	}
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		HAUL_ASSERT(options->out[port].frames.capacity >= 2 * BUNDLE_OPEN_MAX);
	*ret_bundle = bundle;
	return 0;
}

void bundle_close(struct bundle *bundle)
{
	if (bundle == NULL)
		return;
	if (bundle->options.stats != NULL)
		haul_stats_remove(bundle->options.stats, &bundle->stats);
	for (uint32_t i = 0; i < HALVES; i++)
		free(bundle->arena[i]);
	free(bundle);
}

void bundle_turn(struct bundle *bundle, int64_t now_ns, uint32_t predicted)
{
	bundle->now_ns = now_ns;
	bundle->predicted = predicted;
}

uint32_t bundle_waiting(const struct bundle *bundle)
{
	uint32_t frames = 0;
	for (uint32_t i = 0; i < bundle->open_count; i++)
		frames += bundle->open[i].count;
	return frames;
}

const struct haul_stats *bundle_stats(const struct bundle *bundle)
{
	return &bundle->stats;
}

uint32_t bundle_room(const struct bundle *bundle, uint32_t port)
{
	uint32_t room = haul_frames_room(&bundle->options.out[port].frames);
	HAUL_ASSERT(room >= bundle->open_port[port]);
	return room - bundle->open_port[port];
}

/* NULL when the arena is used up. */
static uint8_t *arena_take(struct bundle *bundle, uint32_t bytes)
{
	HAUL_ASSERT(bundle->used <= BUNDLE_ARENA_BYTES);
	if (bytes > BUNDLE_ARENA_BYTES - bundle->used)
		return NULL;
	uint8_t *at = bundle->arena[bundle->half] + bundle->used;
	bundle->used += bytes;
	return at;
}

/* Give back what a reservation has not used, if it is the last one. */
static void arena_trim(struct bundle *bundle, const struct aggregate *aggregate)
{
	const uint8_t *end = bundle->arena[bundle->half] + bundle->used;
	if (aggregate->message + aggregate->bytes_max == end)
		bundle->used -= aggregate->bytes_max - aggregate->used;
}

/* ---- messages ---- */

static struct haul_message_header header_for(struct bundle *bundle, const struct route *to)
{
	return (struct haul_message_header){
		.type = to->role == NODE_OBU ? HAUL_MESSAGE_DATA_DOWN : HAUL_MESSAGE_DATA_UP,
		.ttl = (uint8_t)bundle->options.ttl,
		.sequence = bundle->sequence,
		.origin = bundle->options.self,
		.destination = to->node,
	};
}

static void emit(struct bundle *bundle, const struct hop *next, struct haul_frame row)
{
	row.peer = next->peer;
	int rc = haul_send_batch_push(&bundle->options.out[next->port], &row);
	HAUL_ASSERT(rc == 0);
}

/* The only frame of an aggregate: its header goes over the entry. */
static struct haul_frame lone_message(struct bundle *bundle, const struct aggregate *aggregate)
{
	const uint8_t *entry = aggregate->message + ENTRIES_AT;
	struct haul_message_header header = header_for(bundle, &aggregate->to);
	struct haul_frame row = {
		.data = aggregate->message + WIRE_ENTRY_BYTES,
		.len = aggregate->used - WIRE_ENTRY_BYTES,
	};
	header.csum_start = entry[WIRE_ENTRY_OFF_CSUM_START];
	header.csum_offset = entry[WIRE_ENTRY_OFF_CSUM_OFFSET];
	haul_message_put(row.data, &header, row.len);
	return row;
}

static struct haul_frame aggregate_message(struct bundle *bundle, const struct aggregate *aggregate)
{
	struct haul_message_header header = header_for(bundle, &aggregate->to);
	struct haul_frame row = { .data = aggregate->message, .len = aggregate->used };
	header.flags = header.type == HAUL_MESSAGE_DATA_DOWN ? HAUL_MESSAGE_DOWN : 0;
	header.type = HAUL_MESSAGE_AGGREGATE;
	haul_message_put(row.data, &header, row.len);
	return row;
}

static void close_one(struct bundle *bundle, uint32_t index, enum haul_close reason)
{
	struct aggregate *aggregate = &bundle->open[index];
	HAUL_ASSERT(index < bundle->open_count);
	HAUL_ASSERT(aggregate->count >= 1 && aggregate->used <= aggregate->bytes_max);
	bool lone = aggregate->count == 1;
	emit(bundle, &aggregate->to.next,
	     lone ? lone_message(bundle, aggregate) : aggregate_message(bundle, aggregate));
	bundle->sequence++;
	arena_trim(bundle, aggregate);
	haul_stats_count(&bundle->stats, lone ? BUNDLE_LONE : BUNDLE_AGGREGATES, 1);
	if (!lone)
		haul_stats_count(&bundle->stats, BUNDLE_AGGREGATED, aggregate->count);
	haul_stats_batch(&bundle->stats, &(struct haul_stats_batch){
						 .ops = aggregate->count,
						 .bytes = aggregate->used - ENTRIES_AT,
						 .reason = reason,
						 .wait_ns = bundle->now_ns - aggregate->first_ns,
						 .service_ns = -1,
					 });
	HAUL_ASSERT(bundle->open_port[aggregate->to.next.port] > 0);
	bundle->open_port[aggregate->to.next.port]--;
	bundle->open_count--;
	memmove(aggregate, aggregate + 1, (bundle->open_count - index) * sizeof *aggregate);
}

/* ---- the gate ---- */

/* entry_bytes: of a frame that wants in. An aggregate is full by bytes when that frame would go
 * over what it may hold. */
static enum haul_close ask_gate(const struct bundle *bundle, const struct aggregate *aggregate,
				uint32_t entry_bytes, int64_t *ret_deadline_ns)
{
	struct haul_limits limits = bundle->options.limits;
	struct haul_gate_input input = {
		.ops_queued = aggregate->count,
		.bytes_queued = aggregate->used + entry_bytes,
		.in_flight = bundle->predicted >= 2 ? bundle->predicted : 0,
		.first_ns = aggregate->first_ns,
		.now_ns = bundle->now_ns,
	};
	limits.bytes_max = aggregate->bytes_max + 1;
	/* More of this turn is on its way: only ops and bytes may close it now. */
	if (entry_bytes > 0) {
		input.in_flight = 1;
		limits.wait_max_ns = INT64_MAX;
	}
	return haul_gate(&limits, &input, ret_deadline_ns);
}

int64_t bundle_close_due(struct bundle *bundle)
{
	int64_t first_ns = INT64_MAX;
	uint32_t i = 0;
	while (i < bundle->open_count) {
		int64_t deadline_ns = INT64_MAX;
		enum haul_close reason = ask_gate(bundle, &bundle->open[i], 0, &deadline_ns);
		if (reason != HAUL_CLOSE_NONE) {
			close_one(bundle, i, reason);
			continue;
		}
		if (deadline_ns < first_ns)
			first_ns = deadline_ns;
		i++;
	}
	return first_ns;
}

void bundle_close_all(struct bundle *bundle, enum haul_close reason)
{
	while (bundle->open_count > 0)
		close_one(bundle, 0, reason);
}

/* ---- small frames ---- */

static uint32_t find(const struct bundle *bundle, uint64_t node)
{
	uint32_t i = bundle->open_count;
	while (i > 0 && bundle->open[i - 1].to.node != node)
		i--;
	return i > 0 ? i - 1 : BUNDLE_OPEN_MAX;
}

static uint32_t message_bytes_max(const struct bundle *bundle, const struct route *to)
{
	uint32_t mtu = bundle->options.mtu_bytes[to->next.port];
	HAUL_ASSERT(mtu >= MESSAGE_BYTES_MIN + HAUL_MESSAGE_TAG_BYTES);
	return mtu - HAUL_MESSAGE_TAG_BYTES;
}

static uint32_t aggregate_bytes_max(const struct bundle *bundle, const struct route *to)
{
	uint32_t bytes = message_bytes_max(bundle, to);
	if (bytes > bundle->options.limits.bytes_max)
		bytes = bundle->options.limits.bytes_max;
	return bytes < BUNDLE_MESSAGE_BYTES_MAX ? bytes : BUNDLE_MESSAGE_BYTES_MAX;
}

static void evict_oldest(struct bundle *bundle)
{
	haul_stats_count(&bundle->stats, BUNDLE_EVICTED, 1);
	close_one(bundle, 0, HAUL_CLOSE_MANUAL);
}

/* Index of a new one, or HAUL_EFULL. */
static int open_new(struct bundle *bundle, const struct route *to)
{
	if (bundle->open_count == BUNDLE_OPEN_MAX)
		evict_oldest(bundle);
	uint32_t bytes_max = aggregate_bytes_max(bundle, to);
	if (bundle_room(bundle, to->next.port) == 0)
		return HAUL_EFULL;
	uint8_t *message = arena_take(bundle, bytes_max);
	if (message == NULL)
		return HAUL_EFULL;
	bundle->open[bundle->open_count] = (struct aggregate){
		.to = *to,
		.message = message,
		.used = ENTRIES_AT,
		.bytes_max = bytes_max,
		.first_ns = bundle->now_ns,
	};
	bundle->open_port[to->next.port]++;
	return (int)bundle->open_count++;
}

/* The open aggregate that takes so many bytes more, or HAUL_EFULL. */
static int find_or_open(struct bundle *bundle, const struct route *to, uint32_t entry_bytes)
{
	uint32_t i = find(bundle, to->node);
	if (i == BUNDLE_OPEN_MAX)
		return open_new(bundle, to);
	const struct hop *next = &bundle->open[i].to.next;
	int64_t deadline_ns;
	enum haul_close reason = ask_gate(bundle, &bundle->open[i], entry_bytes, &deadline_ns);
	if (next->port != to->next.port || next->peer != to->next.peer)
		reason = HAUL_CLOSE_BARRIER;
	if (reason == HAUL_CLOSE_NONE)
		return (int)i;
	close_one(bundle, i, reason);
	return open_new(bundle, to);
}

static int push_small(struct bundle *bundle, const struct haul_frames *frames, uint32_t row,
		      const struct route *to)
{
	uint32_t entry_bytes = WIRE_ENTRY_BYTES + haul_frame_bytes(frames, row);
	int i = find_or_open(bundle, to, entry_bytes);
	if (i < 0)
		return i;
	struct aggregate *aggregate = &bundle->open[i];
	HAUL_ASSERT(aggregate->used + entry_bytes <= aggregate->bytes_max);
	aggregate->used += haul_aggregate_put(aggregate->message + aggregate->used, frames, row);
	aggregate->count++;
	return 0;
}

/* ---- large frames ---- */

/* A header of its own in the arena: before the whole frame, or, as a row has but two pieces, before
 * a copy of the first piece. */
static int push_copied(struct bundle *bundle, const struct haul_frames *frames, uint32_t row,
		       const struct route *to)
{
	bool two_pieces = frames->tail_len[row] > 0;
	uint32_t copy_bytes = two_pieces ? frames->len[row] : 0;
	struct haul_message_header header = header_for(bundle, to);
	uint8_t *data = arena_take(bundle, WIRE_HEADER_BYTES + copy_bytes);
	if (data == NULL)
		return HAUL_EFULL;
	if (frames->flags[row] & HAUL_FRAME_CSUM_PARTIAL) {
		header.csum_start = frames->csum_start[row];
		header.csum_offset = frames->csum_offset[row];
	}
	haul_message_put(data, &header, WIRE_HEADER_BYTES + haul_frame_bytes(frames, row));
	if (two_pieces) {
		memcpy(data + WIRE_HEADER_BYTES, frames->data[row], copy_bytes);
		haul_stats_count(&bundle->stats, BUNDLE_COPIED, 1);
	}
	bundle->sequence++;
	emit(bundle, &to->next,
	     (struct haul_frame){
		     .data = data,
		     .len = WIRE_HEADER_BYTES + copy_bytes,
		     .tail = two_pieces ? frames->tail[row] : frames->data[row],
		     .tail_len = two_pieces ? frames->tail_len[row] : frames->len[row],
	     });
	return 0;
}

static bool goes_in_place(const struct bundle_run *run, uint32_t row)
{
	return !run->shared && (run->frames->flags[row] & HAUL_FRAME_HEADROOM);
}

/* Headers for rows first … first+count-1, each in its headroom. */
static void push_in_place(struct bundle *bundle, struct haul_frames *frames, uint32_t first,
			  uint32_t count, const struct route *to)
{
	struct haul_message_header header = header_for(bundle, to);
	bundle->sequence = haul_messages_prepend(frames, first, count, &header);
	for (uint32_t i = first; i < first + count; i++)
		emit(bundle, &to->next,
		     (struct haul_frame){
			     .data = frames->data[i],
			     .len = frames->len[i],
			     .tail = frames->tail[i],
			     .tail_len = frames->tail_len[i],
		     });
}

struct large { /* sizes of frames that are not small, of the destination at hand */
	uint32_t bytes_min;
	uint32_t bytes_max;
};

static struct large large_bytes(const struct bundle *bundle, const struct route *to)
{
	uint32_t small_max = aggregate_bytes_max(bundle, to) - ENTRIES_AT - WIRE_ENTRY_BYTES;
	if (small_max > BUNDLE_SMALL_BYTES_MAX)
		small_max = BUNDLE_SMALL_BYTES_MAX;
	return (struct large){
		.bytes_min = bundle->options.individual ? 0 : small_max + 1,
		.bytes_max = message_bytes_max(bundle, to) - WIRE_HEADER_BYTES,
	};
}

/* Rows from first on, at most max, that are large, fit a message and take their header in place. */
static uint32_t in_place_count(const struct bundle_run *run, uint32_t first, uint32_t max,
			       const struct large *large)
{
	uint32_t count = 0;
	while (count < max && goes_in_place(run, first + count)) {
		uint32_t bytes = haul_frame_bytes(run->frames, first + count);
		if (bytes < large->bytes_min || bytes > large->bytes_max)
			break;
		count++;
	}
	return count;
}

/* Push the large frames that the run goes on with at row first; returns how many, 0 = full. */
static uint32_t push_large(struct bundle *bundle, const struct bundle_run *run, uint32_t first,
			   const struct route *to)
{
	const struct large large = large_bytes(bundle, to);
	uint32_t i = find(bundle, to->node);
	if (i != BUNDLE_OPEN_MAX)
		close_one(bundle, i, HAUL_CLOSE_BARRIER);
	if (haul_frame_bytes(run->frames, first) > large.bytes_max) {
		haul_stats_count(&bundle->stats, BUNDLE_DROP_TOO_BIG, 1);
		return 1;
	}
	uint32_t max = run->first + run->count - first;
	uint32_t room = bundle_room(bundle, to->next.port);
	if (room == 0)
		return 0;
	uint32_t count = in_place_count(run, first, max < room ? max : room, &large);
	if (count > 0)
		push_in_place(bundle, run->frames, first, count, to);
	else
		count = push_copied(bundle, run->frames, first, to) == 0;
	haul_stats_count(&bundle->stats, BUNDLE_LARGE, count);
	return count;
}

uint32_t bundle_push(struct bundle *bundle, const struct bundle_run *run, const struct route *to)
{
	const struct haul_frames *frames = run->frames;
	uint32_t end = run->first + run->count;
	uint32_t row = run->first;
	const struct large large = large_bytes(bundle, to);
	HAUL_ASSERT(end <= frames->count && to->node != 0);
	HAUL_ASSERT(to->next.port < NODE_PORTS);
	while (row < end) {
		uint32_t taken;
		if (haul_frame_bytes(frames, row) < large.bytes_min)
			taken = push_small(bundle, frames, row, to) == 0;
		else
			taken = push_large(bundle, run, row, to);
		if (taken == 0)
			break;
		row += taken;
	}
	return row - run->first;
}

void bundle_sent(struct bundle *bundle)
{
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		HAUL_ASSERT(bundle->options.out[port].frames.count == 0);
	bundle->used = 0;
	if (bundle->open_count == 0)
		return; /* the same half again: it is in the cache */
	bundle->half = 1 - bundle->half;
	for (uint32_t i = 0; i < bundle->open_count; i++) {
		struct aggregate *aggregate = &bundle->open[i];
		uint8_t *message = arena_take(bundle, aggregate->bytes_max);
		HAUL_ASSERT(message != NULL);
		memcpy(message, aggregate->message, aggregate->used);
		aggregate->message = message;
	}
}
