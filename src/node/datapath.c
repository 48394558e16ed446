/* node/datapath.c — the turn.
 *
 * Promise: what control queued leaves before any data of the turn; all that a turn received has
 * left or has been counted when it ends, but for aggregates the gate keeps open; nothing queued in
 * a link waits for a sleep.
 * How: a link that filled its burst may hold more frames that no poll would tell of (segments of a
 * superframe already read), so it counts as ready until a burst comes back short, and a turn that
 * follows such a burst does not sleep. Polling is left out for UNPOLLED_FRAMES frames then: one
 * frame a turn must not cost one poll each.
 * Why rows stay valid: a link's bytes live until the next rx on it, a link is read once a turn, and
 * every turn ends with a flush. */
#include "node/datapath.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "node/datapath_state.h"

enum { UNPOLLED_FRAMES = 64, TURN_FRAMES_MIN = 8 };

static const struct haul_counter counters[] = {
#define X(id, name, help) { name, help },
	HAUL_REJECT_LIST(X) DATAPATH_COUNTER_LIST(X)
#undef X
};

_Static_assert(sizeof counters / sizeof counters[0] == DATAPATH_COUNTERS, "one a counter");
_Static_assert((int)DATAPATH_COUNTERS <= HAUL_STATS_COUNTERS, "counters fit a block");
_Static_assert(DATAPATH_OUT_FRAMES >= 2 * BUNDLE_OPEN_MAX, "what bundle_open asks for");
_Static_assert(DATAPATH_INNER_FRAMES >= HAUL_MESSAGE_BYTES_MAX / 18, "any aggregate fits");

/* ---- open and close ---- */

struct haul_sizer_options datapath_sizer(enum haul_sizer_policy policy,
					 const struct haul_limits *limits, bool individual)
{
	struct haul_sizer_options options = {
		.policy = individual ? HAUL_SIZER_FIXED : policy,
		.ops_min = individual ? 1 : TURN_FRAMES_MIN,
		.ops_max = individual ? 1 : DATAPATH_TURN_FRAMES_MAX,
		.ops_start = individual ? 1 : limits->ops_start,
	};
	if (options.ops_start < options.ops_min)
		options.ops_start = options.ops_min;
	if (options.ops_start > options.ops_max)
		options.ops_start = options.ops_max;
	return options;
}

static int open_batches(struct datapath *dp)
{
	int rc = haul_messages_init(&dp->messages, DATAPATH_TURN_FRAMES_MAX);
	if (rc == 0)
		rc = haul_frames_init(&dp->inner, DATAPATH_INNER_FRAMES);
	if (rc == 0)
		rc = haul_send_batch_init(&dp->urgent, DATAPATH_COMMANDS_MAX);
	for (uint32_t port = 0; port < NODE_PORTS && rc == 0; port++) {
		rc = haul_frames_init(&dp->rx[port], DATAPATH_TURN_FRAMES_MAX);
		if (rc == 0)
			rc = haul_send_batch_init(&dp->out[port], DATAPATH_OUT_FRAMES);
	}
	dp->inner_origin = calloc(DATAPATH_INNER_FRAMES, sizeof *dp->inner_origin);
	dp->owner = calloc(DATAPATH_INNER_FRAMES, sizeof *dp->owner);
	if (rc == 0 && (dp->inner_origin == NULL || dp->owner == NULL))
		rc = -ENOMEM;
	return rc;
}

static int open_bundle(struct datapath *dp)
{
	const struct datapath_options *options = &dp->options;
	struct bundle_options bundle = {
		.self = options->self,
		.sequence = options->sequence,
		.ttl = options->ttl,
		.individual = options->individual,
		.limits = options->limits,
		.out = dp->out,
		.stats = options->stats,
	};
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		bundle.mtu_bytes[port] = dp->link[port] != NULL ? haul_link_mtu(dp->link[port]) : 0;
	return bundle_open(&bundle, &dp->bundle);
}

static int open_parts(struct datapath *dp, struct haul_err *err)
{
	int rc = open_batches(dp);
	if (rc == 0)
		rc = open_bundle(dp);
	if (rc == 0)
		rc = dedupe_open(DATAPATH_ORIGINS_MAX, &dp->dedupe);
	if (rc < 0)
		return haul_err_set(err, rc, "datapath: %s", haul_strerror(rc));
	for (uint32_t port = 0; port < NODE_PORTS && rc == 0; port++)
		rc = haul_sizer_init(&dp->sizer[port], &dp->options.sizer, err);
	return rc;
}

static int enter_stats(struct datapath *dp, struct haul_err *err)
{
	if (dp->options.stats == NULL)
		return 0;
	int rc = haul_stats_enter(dp->options.stats, &dp->stats);
	if (rc < 0)
		return haul_err_set(err, rc, "datapath: %s", haul_strerror(rc));
	dp->entered = true;
	return 0;
}

int datapath_open(const struct datapath_options *options, struct datapath **ret_datapath,
		  struct haul_err *err)
{
	HAUL_ASSERT(options->link[NODE_TAP] != NULL && options->link[NODE_RADIO] != NULL);
	HAUL_ASSERT(options->sizer.ops_max <= DATAPATH_TURN_FRAMES_MAX);
	int rc = haul_limits_check(&options->limits, err);
	if (rc < 0)
		return rc;
	struct datapath *dp = calloc(1, sizeof *dp);
	if (dp == NULL)
		return haul_err_set(err, -ENOMEM, "datapath: no memory");
	dp->options = *options;
	dp->deadline_ns = INT64_MAX;
	memcpy(dp->link, options->link, sizeof dp->link);
	haul_stats_init(&dp->stats, "datapath", counters, DATAPATH_COUNTERS);
	rc = open_parts(dp, err);
	if (rc == 0)
		rc = enter_stats(dp, err);
	if (rc < 0) {
		datapath_close(dp);
		return rc;
	}
	*ret_datapath = dp;
	return 0;
}

void datapath_close(struct datapath *dp)
{
	if (dp == NULL)
		return;
	if (dp->entered)
		haul_stats_remove(dp->options.stats, &dp->stats);
	dedupe_close(dp->dedupe);
	bundle_close(dp->bundle);
	for (uint32_t port = 0; port < NODE_PORTS; port++) {
		dp->rx[port].capacity = DATAPATH_TURN_FRAMES_MAX;
		haul_frames_done(&dp->rx[port]);
		haul_send_batch_done(&dp->out[port]);
	}
	haul_send_batch_done(&dp->urgent);
	haul_frames_done(&dp->inner);
	haul_messages_done(&dp->messages);
	free(dp->inner_origin);
	free(dp->owner);
	free(dp);
}

const struct haul_stats *datapath_stats(const struct datapath *dp)
{
	return &dp->stats;
}

const struct haul_stats *datapath_bundle_stats(const struct datapath *dp)
{
	return bundle_stats(dp->bundle);
}

/* ---- send ---- */

void datapath_tell(struct datapath *dp, const struct control_event *event)
{
	if (ring_push(&dp->options.mailbox->events, event, 1) == 1)
		dp->told_control = true;
	else
		datapath_count(dp, DATAPATH_DROP_EVENT, 1);
}

static bool is_full_queue(int32_t status)
{
	return status == -EAGAIN || status == -ENOBUFS;
}

/* Count what was not sent, and tell control of peers that cannot be reached, once a flush each. */
static void account_failures(struct datapath *dp, uint32_t port, const struct haul_frames *frames)
{
	uint32_t told = HAUL_PEER_NONE;
	for (uint32_t i = 0; i < frames->count; i++) {
		int32_t status = frames->status[i];
		if (status == 0)
			continue;
		datapath_count(dp, is_full_queue(status) ? DATAPATH_DROP_QUEUE : DATAPATH_DROP_SEND,
			       1);
		if (is_full_queue(status) || status == -EMSGSIZE || port == NODE_TAP ||
		    frames->peer[i] == told)
			continue;
		told = frames->peer[i];
		datapath_tell(dp, &(struct control_event){
					  .kind = CONTROL_SEND_FAILED,
					  .from = { .port = port, .peer = told },
					  .now_ns = dp->now_ns,
				  });
	}
}

static void send_batch(struct datapath *dp, uint32_t port, struct haul_send_batch *batch)
{
	uint32_t count = batch->frames.count;
	if (count == 0)
		return;
	HAUL_ASSERT(dp->link[port] != NULL);
	int sent = haul_link_tx(dp->link[port], batch);
	HAUL_ASSERT(sent >= 0);
	if ((uint32_t)sent < count)
		account_failures(dp, port, &batch->frames);
	haul_send_batch_clear(batch);
}

void datapath_flush(struct datapath *dp)
{
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		send_batch(dp, port, &dp->out[port]);
	bundle_sent(dp->bundle);
}

/* A batch filled up before the end of the turn. */
static void flush_early(struct datapath *dp)
{
	datapath_count(dp, DATAPATH_FLUSHES, 1);
	datapath_flush(dp);
}

void datapath_push(struct datapath *dp, uint32_t port, const struct haul_frame *row)
{
	if (bundle_room(dp->bundle, port) == 0)
		flush_early(dp);
	int rc = haul_send_batch_push(&dp->out[port], row);
	HAUL_ASSERT(rc == 0);
}

void datapath_send(struct datapath *dp, const struct bundle_run *run, const struct route *to)
{
	struct bundle_run rest = *run;
	datapath_count(dp, DATAPATH_SENT, run->count);
	for (;;) {
		uint32_t taken = bundle_push(dp->bundle, &rest, to);
		rest.first += taken;
		rest.count -= taken;
		if (rest.count == 0)
			return;
		HAUL_ASSERT(taken > 0 || dp->out[to->next.port].frames.count > 0 ||
			    bundle_waiting(dp->bundle) > 0);
		flush_early(dp);
	}
}

void datapath_deliver(struct datapath *dp, const struct haul_frames *frames, uint32_t first,
		      uint32_t count)
{
	datapath_count(dp, DATAPATH_DELIVERED, count);
	for (uint32_t i = first; i < first + count; i++)
		datapath_push(dp, NODE_TAP,
			      &(struct haul_frame){
				      .data = frames->data[i],
				      .tail = frames->tail[i],
				      .len = frames->len[i],
				      .tail_len = frames->tail_len[i],
				      .flags = frames->flags[i] & HAUL_FRAME_CSUM_PARTIAL,
				      .csum_start = frames->csum_start[i],
				      .csum_offset = frames->csum_offset[i],
			      });
}

/* ---- what control wants ---- */

static void send_commands(struct datapath *dp, uint32_t count, uint32_t port)
{
	for (uint32_t i = 0; i < count; i++) {
		struct control_tx *tx = &dp->command[i].tx;
		if (dp->command[i].kind != COMMAND_SEND || tx->to.port != port)
			continue;
		HAUL_ASSERT(tx->len >= 1 && tx->len <= CONTROL_MESSAGE_BYTES);
		struct haul_frame row = { .data = tx->bytes, .len = tx->len, .peer = tx->to.peer };
		int rc = haul_send_batch_push(&dp->urgent, &row);
		HAUL_ASSERT(rc == 0);
	}
	datapath_count(dp, DATAPATH_COMMANDS, dp->urgent.frames.count);
	send_batch(dp, port, &dp->urgent);
}

/* Nothing of a turn is queued yet, so this overtakes all data; open aggregates for a peer that goes
 * are closed before its index can mean another. */
static void take_commands(struct datapath *dp)
{
	uint32_t count =
		ring_pop(&dp->options.mailbox->commands, dp->command, DATAPATH_COMMANDS_MAX);
	if (count == 0)
		return;
	for (uint32_t port = NODE_RADIO; port < NODE_PORTS; port++)
		if (dp->link[port] != NULL)
			send_commands(dp, count, port);
	for (uint32_t i = 0; i < count; i++) {
		const struct hop *to = &dp->command[i].tx.to;
		if (dp->command[i].kind != COMMAND_PEER_REMOVE)
			continue;
		bundle_close_all(dp->bundle, HAUL_CLOSE_BARRIER);
		datapath_flush(dp);
		(void)haul_link_peer_remove(dp->link[to->port], to->peer);
	}
	/* A full burst may have left some behind. */
	if (count == DATAPATH_COMMANDS_MAX)
		mailbox_wake(dp->options.mailbox->command_fd);
}

static void take_snapshot(struct datapath *dp)
{
	const struct snapshot *snapshot = mailbox_snapshot(dp->options.mailbox);
	if (snapshot == dp->snapshot)
		return;
	/* What is open was routed by the old one. */
	bundle_close_all(dp->bundle, HAUL_CLOSE_BARRIER);
	dp->snapshot = snapshot;
}

/* ---- wait ---- */

static struct timespec timespec_of(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

static int64_t time_to_wait(struct datapath *dp, int64_t wait_max_ns)
{
	if (dp->deadline_ns == INT64_MAX)
		return wait_max_ns;
	int64_t left_ns = dp->deadline_ns - dp->options.os->now_ns(dp->options.os);
	if (left_ns < 0)
		left_ns = 0;
	return left_ns < wait_max_ns ? left_ns : wait_max_ns;
}

static int poll_links(struct datapath *dp, int64_t wait_ns, bool ready[NODE_PORTS])
{
	struct pollfd fds[NODE_PORTS + 1];
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		fds[port] = (struct pollfd){
			.fd = dp->link[port] != NULL ? haul_link_fd(dp->link[port]) : -1,
			.events = POLLIN,
		};
	fds[NODE_PORTS] = (struct pollfd){
		.fd = dp->options.mailbox->command_fd,
		.events = POLLIN,
	};
	struct timespec timeout = timespec_of(wait_ns);
	int n = ppoll(fds, NODE_PORTS + 1, wait_ns == INT64_MAX ? NULL : &timeout, NULL);
	if (n < 0 && errno != EINTR)
		return -errno;
	dp->polls++;
	dp->unpolled = 0;
	if (n <= 0)
		return 0;
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		ready[port] |= fds[port].revents != 0;
	if (fds[NODE_PORTS].revents != 0)
		mailbox_woken(dp->options.mailbox->command_fd);
	return 0;
}

static int wait_ready(struct datapath *dp, int64_t wait_max_ns, bool ready[NODE_PORTS])
{
	bool more = false;
	for (uint32_t port = 0; port < NODE_PORTS; port++) {
		ready[port] = dp->more[port];
		more |= dp->more[port];
	}
	if (more && dp->unpolled < UNPOLLED_FRAMES)
		return 0;
	return poll_links(dp, more ? 0 : time_to_wait(dp, wait_max_ns), ready);
}

/* ---- the turn ---- */

static int receive(struct datapath *dp, uint32_t port)
{
	struct haul_frames *frames = &dp->rx[port];
	/* The sizer bounds the work of a turn; frames beyond stay in the link until the next. */
	frames->capacity = dp->sizer[port].target;
	int count = haul_link_rx(dp->link[port], frames);
	if (count == -ENETDOWN) {
		/* The interface is down: the link says so once, and goes on when it is up again. */
		datapath_count(dp, DATAPATH_LINK_DOWN, 1);
		count = 0;
	}
	dp->more[port] = count > 0 && (uint32_t)count == frames->capacity;
	if (count <= 0)
		return count;
	dp->unpolled += (uint32_t)count;
	if (port == NODE_TAP)
		intake_tap(dp);
	else
		intake_wire(dp, port);
	return count;
}

static uint64_t bytes_of(const struct haul_frames *frames)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < frames->count; i++)
		bytes += haul_frame_bytes(frames, i);
	return bytes;
}

static void account_turn(struct datapath *dp, const uint32_t received[NODE_PORTS], uint64_t bytes)
{
	int64_t end_ns = dp->options.os->now_ns(dp->options.os);
	struct haul_stats_batch batch = {
		.syscalls = dp->polls,
		.bytes = bytes,
		.reason = HAUL_CLOSE_IDLE,
		.wait_ns = -1,
		.service_ns = end_ns - dp->now_ns,
	};
	for (uint32_t port = 0; port < NODE_PORTS; port++) {
		batch.ops += received[port];
		if (dp->more[port])
			batch.reason = HAUL_CLOSE_OPS;
		if (received[port] > 0)
			(void)haul_sizer_update(&dp->sizer[port],
						&(struct haul_sizer_sample){
							.ops = received[port],
							.service_ns = batch.service_ns,
							.now_ns = end_ns,
						});
	}
	if (batch.ops > 0) {
		haul_stats_batch(&dp->stats, &batch);
		dp->polls = 0;
	}
	for (uint32_t i = 0; i < DATAPATH_COUNTERS; i++)
		if (dp->counted[i] > 0)
			haul_stats_count(&dp->stats, i, dp->counted[i]);
	memset(dp->counted, 0, sizeof dp->counted);
}

static void end_turn(struct datapath *dp)
{
	dp->deadline_ns = bundle_close_due(dp->bundle);
	datapath_flush(dp);
	if (dp->told_control)
		mailbox_wake(dp->options.mailbox->event_fd);
	dp->told_control = false;
}

int datapath_turn(struct datapath *dp, int64_t wait_max_ns)
{
	bool ready[NODE_PORTS];
	uint32_t received[NODE_PORTS] = { 0 };
	uint64_t bytes = 0;
	int total = 0;
	HAUL_ASSERT(wait_max_ns >= 0);
	int rc = wait_ready(dp, wait_max_ns, ready);
	dp->now_ns = dp->options.os->now_ns(dp->options.os);
	bundle_turn(dp->bundle, dp->now_ns,
		    haul_sizer_predict(&dp->sizer[NODE_TAP], dp->options.limits.wait_max_ns));
	take_commands(dp);
	take_snapshot(dp);
	for (uint32_t port = 0; port < NODE_PORTS && rc == 0; port++) {
		if (!ready[port])
			continue;
		int count = receive(dp, port);
		if (count < 0) {
			rc = count;
			break;
		}
		received[port] = (uint32_t)count;
		bytes += bytes_of(&dp->rx[port]);
		total += count;
	}
	end_turn(dp);
	account_turn(dp, received, bytes);
	return rc < 0 ? rc : total;
}

int datapath_run(struct datapath *dp)
{
	struct mailbox *mailbox = dp->options.mailbox;
	int rc = 0;
	while (rc >= 0 && !atomic_load_explicit(&mailbox->stop, memory_order_acquire))
		rc = datapath_turn(dp, INT64_MAX);
	bundle_close_all(dp->bundle, HAUL_CLOSE_MANUAL);
	datapath_flush(dp);
	if (rc >= 0)
		return 0;
	atomic_store_explicit(&mailbox->failed, rc, memory_order_release);
	mailbox_wake(mailbox->event_fd);
	return rc;
}
