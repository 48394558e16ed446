/* node/node.c — the process of a node.
 *
 * Two threads. The datapath's moves frames and never waits for anybody. The control thread (the
 * caller of node_run) takes its events in batches, keeps time, publishes snapshots, ages peers and
 * answers the status socket. All they share is in the mailbox.
 *
 * Sequence numbers: control and datapath number their messages apart, as neither may wait for the
 * other. Both start at the boot second << 32, control's with the top bit set besides, so no number
 * of this origin is ever used twice while clocks go on. Seconds are counted from SEQUENCE_EPOCH_S
 * on, so that 31 bits last until 2072; a machine that does not know the time counts as at 0. */
#include "node/node.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "node/connections.h"
#include "node/control.h"
#include "node/datapath.h"
#include "node/links.h"
#include "node/mailbox.h"
#include "node/peer_age.h"
#include "node/status.h"
#include "os/os.h"

enum {
	EVENTS_MAX = 256, /* taken in one go */
	RETIRED_MAX = 16, /* snapshots that the datapath may still look at */
	MAKE_UP_MS = 50,  /* see make_up */
	NODE_FDS = 2 + STATUS_FDS
};

#define SEEN_NS          (2 * NS_PER_S)   /* between looks at which clients were seen */
#define LATE_NS          (20 * NS_PER_MS) /* a timer is never so late on a host that runs us */
#define CONTROL_SEQUENCE (UINT64_C(1) << 63)
#define SEQUENCE_SECONDS UINT64_C(0x7fffffff)
#define SEQUENCE_EPOCH_S (INT64_C(1) << 30) /* January 2004 */

struct node {
	struct node_config config;
	struct os *os;
	uint64_t id;
	uint64_t client; /* MAC of our TAP */
	struct haul_stats_table *stats;
	struct links links;
	struct mailbox mailbox;
	struct control *control;
	struct datapath *datapath;
	struct connections *connections; /* NULL = not counted */
	struct status *status;

	struct snapshot *current;              /* published last */
	struct snapshot *retired[RETIRED_MAX]; /* older ones not freed yet, oldest first */
	uint32_t retired_count;
	uint32_t client_count; /* MACs in the current one */
	int64_t seen_due_ns;
	struct peer_age *peer_age;
	struct control_event event[EVENTS_MAX];
	struct control_tx tx[EVENTS_MAX];
	uint32_t peer[EVENTS_MAX];
};

/* ---- open and close ---- */

static uint64_t first_sequence(struct node *node)
{
	int64_t seconds = node->os->real_time_s(node->os) - SEQUENCE_EPOCH_S;
	return seconds > 0 ? ((uint64_t)seconds & SEQUENCE_SECONDS) << 32 : 0;
}

static int open_control(struct node *node, struct haul_err *err)
{
	const struct config_heartbeat *heartbeat = &node->config.heartbeat;
	struct control_options options = {
		.role = node->config.role,
		.self = node->id,
		.client = node->client,
		.sequence = first_sequence(node) | CONTROL_SEQUENCE,
		.period_ms = heartbeat->period_ms,
		.jitter_percent = heartbeat->jitter_percent,
		.history = heartbeat->history,
		.candidates = heartbeat->candidates,
		.missed_max = heartbeat->missed_max,
		.ttl = heartbeat->ttl,
		.backhaul_peers = node->config.peer_count,
	};
	node->os->random(node->os, &options.seed, sizeof options.seed);
	int rc = control_open(&options, node->os->now_ns(node->os), &node->control, err);
	if (rc < 0)
		return rc;
	rc = haul_stats_enter(node->stats, control_stats(node->control));
	return rc < 0 ? haul_err_set(err, rc, "control: %s", haul_strerror(rc)) : 0;
}

static int open_datapath(struct node *node, struct haul_err *err)
{
	const struct config_batch *batch = &node->config.batch;
	struct datapath_options options = {
		.role = node->config.role,
		.self = node->id,
		.sequence = first_sequence(node),
		.ttl = node->config.heartbeat.ttl,
		.limits = batch->limits,
		.sizer = datapath_sizer(batch->sizer, &batch->limits, batch->individual),
		.individual = batch->individual,
		.mailbox = &node->mailbox,
		.os = node->os,
		.stats = node->stats,
	};
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		options.link[port] = node->links.link[port];
	return datapath_open(&options, &node->datapath, err);
}

static int open_status(struct node *node, struct haul_err *err)
{
	struct status_source source = {
		.name = node->config.name,
		.role = node->config.role,
		.id = node->id,
		.tap_mtu = node->links.tap_mtu,
		.start_ns = node->os->now_ns(node->os),
		.control = node->control,
		.stats = node->stats,
		.link = node->links.link,
		.connections = node->connections,
	};
	if (node->config.control[0] == '\0')
		return 0;
	return status_open(node->config.control, &source, &node->status, err);
}

static int open_connections(struct node *node, struct haul_err *err)
{
	if (!node->config.flows)
		return 0;
	int rc = connections_open(node->config.tap.ifname, &node->connections, err);
	if (rc < 0)
		return rc;
	rc = haul_stats_enter(node->stats, connections_stats(node->connections));
	return rc < 0 ? haul_err_set(err, rc, "flows: %s", haul_strerror(rc)) : 0;
}

static void take_id(struct node *node)
{
	struct haul_addr mac = haul_link_local(node->links.link[NODE_TAP]);
	HAUL_ASSERT(mac.kind == HAUL_ADDR_MAC);
	node->client = mac_load(mac.bytes);
	node->id = node->config.id != 0 ? node->config.id : node->client;
}

static int open_parts(struct node *node, struct haul_err *err)
{
	int rc = links_open(&node->config, node->stats, &node->links, err);
	if (rc < 0)
		return rc;
	take_id(node);
	rc = open_control(node, err);
	if (rc == 0)
		rc = open_datapath(node, err);
	if (rc == 0)
		rc = open_connections(node, err);
	if (rc == 0)
		rc = open_status(node, err);
	return rc;
}

int node_open(const struct node_config *config, struct node **ret_node, struct haul_err *err)
{
	struct node *node = calloc(1, sizeof *node);
	struct peer_age *peer_age = calloc(1, sizeof *peer_age);
	int rc = node == NULL || peer_age == NULL ? -ENOMEM : 0;
	if (rc < 0)
		goto fail_alloc;
	rc = mailbox_open(&node->mailbox);
	if (rc < 0)
		goto fail_alloc;
	rc = haul_stats_table_open(&node->stats);
	if (rc < 0)
		goto fail_mailbox;
	node->config = *config;
	node->os = os_linux();
	node->peer_age = peer_age;
	rc = open_parts(node, err);
	if (rc < 0) {
		node_close(node);
		return rc;
	}
	*ret_node = node;
	return 0;

fail_mailbox:
	mailbox_close(&node->mailbox);
fail_alloc:
	free(peer_age);
	free(node);
	return haul_err_set(err, rc, "node: %s", haul_strerror(rc));
}

void node_close(struct node *node)
{
	if (node == NULL)
		return;
	status_close(node->status);
	if (node->connections != NULL)
		haul_stats_remove(node->stats, connections_stats(node->connections));
	connections_close(node->connections);
	datapath_close(node->datapath);
	if (node->control != NULL)
		haul_stats_remove(node->stats, control_stats(node->control));
	control_close(node->control);
	links_close(&node->links);
	for (uint32_t i = 0; i < node->retired_count; i++)
		snapshot_free(node->retired[i]);
	snapshot_free(node->current);
	haul_stats_table_close(node->stats);
	mailbox_close(&node->mailbox);
	free(node->peer_age);
	free(node);
}

/* ---- the control thread ---- */

static void take_events(struct node *node)
{
	uint32_t count;
	mailbox_woken(node->mailbox.event_fd);
	while ((count = ring_pop(&node->mailbox.events, node->event, EVENTS_MAX)) > 0) {
		peer_age_heard(node->peer_age, node->event, count);
		control_events(node->control, node->event, count);
	}
}

/* The ring holds as much as control queues at most, and the datapath empties it every turn: what
 * does not fit now is lost as on the air, and control sends the like again. */
static void push_commands(struct node *node, const struct command *commands, uint32_t count)
{
	if (ring_push(&node->mailbox.commands, commands, count) > 0)
		mailbox_wake(node->mailbox.command_fd);
}

static void send_queued(struct node *node)
{
	uint32_t count;
	while ((count = control_take(node->control, node->tx, EVENTS_MAX)) > 0)
		for (uint32_t i = 0; i < count; i++) {
			struct command command = { .kind = COMMAND_SEND, .tx = node->tx[i] };
			push_commands(node, &command, 1);
		}
}

static uint32_t count_clients(const struct snapshot *snapshot)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i <= snapshot->client_mask; i++)
		count += snapshot->clients[i].mac != 0;
	return count;
}

/* Free what the datapath will not look at again. */
static void free_retired(struct node *node, int64_t now_ns)
{
	uint64_t in_use = mailbox_in_use(&node->mailbox);
	uint32_t gone = 0;
	while (gone < node->retired_count && node->retired[gone]->generation < in_use) {
		control_seen(node->control, node->retired[gone], now_ns);
		snapshot_free(node->retired[gone++]);
	}
	node->retired_count -= gone;
	for (uint32_t i = 0; i < node->retired_count; i++)
		node->retired[i] = node->retired[i + gone];
}

static int publish(struct node *node, int64_t now_ns)
{
	struct snapshot *next = NULL;
	free_retired(node, now_ns);
	/* A datapath that is this far behind gets the newest when it has caught up. */
	if (node->retired_count == RETIRED_MAX)
		return 0;
	int rc = control_snapshot(node->control, now_ns, &next);
	if (rc < 0 || next == NULL)
		return rc;
	mailbox_publish(&node->mailbox, next);
	if (node->current != NULL)
		node->retired[node->retired_count++] = node->current;
	node->current = next;
	node->client_count = count_clients(next);
	return 0;
}

static void look_at_clients(struct node *node, int64_t now_ns)
{
	if (now_ns < node->seen_due_ns || node->current == NULL)
		return;
	control_seen(node->control, node->current, now_ns);
	node->seen_due_ns = now_ns + SEEN_NS;
}

static void age_peers(struct node *node, int64_t now_ns)
{
	uint32_t count =
		peer_age_check(node->peer_age, node->control, now_ns, node->peer, EVENTS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		struct command command = {
			.kind = COMMAND_PEER_REMOVE,
			.tx.to = { .port = NODE_RADIO, .peer = node->peer[i] },
		};
		push_commands(node, &command, 1);
	}
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Everything that is due; *ret_due_ns is when to come again at the latest. */
static int control_turn(struct node *node, int64_t *ret_due_ns)
{
	take_events(node);
	int64_t now_ns = node->os->now_ns(node->os);
	int64_t due_ns = control_tick(node->control, now_ns);
	send_queued(node);
	int rc = publish(node, now_ns);
	look_at_clients(node, now_ns);
	age_peers(node, now_ns);
	if (node->status != NULL) {
		status_serve(node->status, node->client_count, now_ns);
		due_ns = earlier(due_ns, status_deadline(node->status));
	}
	*ret_due_ns = earlier(due_ns, earlier(node->seen_due_ns, node->peer_age->due_ns));
	return rc;
}

/* To wake long after the time says that this process did not run: then the datapath did not either,
 * and heartbeats may lie in a socket that nobody has read. Let it tell of them before their absence
 * is taken for a neighbour's silence. */
static void make_up(const struct node *node, struct pollfd *events, int64_t due_ns)
{
	if (node->os->now_ns(node->os) - due_ns > LATE_NS)
		(void)poll(events, 1, MAKE_UP_MS);
}

/* Sleep until due_ns or until somebody wants something. Returns whether it is the stop. */
static bool wait_for_work(struct node *node, int stop_fd, int64_t due_ns)
{
	struct pollfd fds[NODE_FDS] = {
		{ .fd = stop_fd, .events = POLLIN },
		{ .fd = node->mailbox.event_fd, .events = POLLIN },
	};
	uint32_t count = 2;
	if (node->status != NULL)
		count += status_poll(node->status, fds + count);
	int64_t left_ns = due_ns - node->os->now_ns(node->os);
	if (left_ns < 0)
		left_ns = 0;
	struct timespec timeout = { .tv_sec = left_ns / NS_PER_S, .tv_nsec = left_ns % NS_PER_S };
	int n = ppoll(fds, count, &timeout, NULL);
	if (n <= 0 || fds[1].revents == 0)
		make_up(node, &fds[1], due_ns);
	return n > 0 && fds[0].revents != 0;
}

static void *datapath_thread(void *arg)
{
	struct node *node = arg;
	(void)datapath_run(node->datapath);
	return NULL;
}

static int control_loop(struct node *node, int stop_fd, struct haul_err *err)
{
	bool stop = false;
	int rc = 0;
	while (!stop && rc == 0) {
		int64_t due_ns;
		rc = control_turn(node, &due_ns);
		if (rc < 0)
			return haul_err_set(err, rc, "%s: routes: %s", node->config.name,
					    haul_strerror(rc));
		rc = atomic_load_explicit(&node->mailbox.failed, memory_order_acquire);
		if (rc < 0)
			return haul_err_set(err, rc, "%s: a link broke: %s", node->config.name,
					    haul_strerror(rc));
		stop = wait_for_work(node, stop_fd, due_ns);
	}
	return rc;
}

int node_run(struct node *node, int stop_fd, struct haul_err *err)
{
	pthread_t thread;
	int rc = -pthread_create(&thread, NULL, datapath_thread, node);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: thread: %s", node->config.name,
				    haul_strerror(rc));
	rc = control_loop(node, stop_fd, err);
	atomic_store_explicit(&node->mailbox.stop, true, memory_order_release);
	mailbox_wake(node->mailbox.command_fd);
	int joined = pthread_join(thread, NULL);
	HAUL_ASSERT(joined == 0);
	return rc;
}
