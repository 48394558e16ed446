/* The hub's thread: wait for frames or for the channels' next event, whichever comes first; read;
 * hand over what is due. A turn reads at most one burst of each TAP, so nobody is kept waiting by
 * a sender that never stops. The wait is in nanoseconds (epoll_pwait2) with the thread's timer
 * slack at its minimum; what lateness remains is measured and reported, not assumed. */
#include "sim/hub.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <haul/link.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "os/netns.h"
#include "os/os.h"

enum {
	BURST_FRAMES = 64,
	EVENTS_MAX = 128,
	DELIVERIES_A_TURN = 256,
	TXQUEUELEN = 1000,
	MAC_SLOTS = 4 * CHANNEL_NODES_MAX, /* power of two, at most a quarter full */
	WAIT_MAX_S = 3600
};

#define WAKE_EVENT UINT64_MAX

struct port {
	struct hub_port seen;
	struct haul_link *link;
};

struct medium {
	struct channel *channel;
	struct channel_options options;
	struct port *ports;
	uint32_t node_of[MAC_SLOTS]; /* hash of the address -> node + 1, linear probing */
};

struct hub {
	struct medium media[HUB_MEDIA_MAX];
	uint32_t media_count;
	int epoll_fd;
	int wake_fd;
	hub_schedule *schedule;
	void *schedule_arg;
	struct os *os;
	pthread_t thread;
	bool running;
	bool stopping; /* under lock */
	pthread_mutex_t lock;
	struct haul_frames received;
	struct haul_send_batch batch;
	struct channel_delivery deliveries[DELIVERIES_A_TURN];
	struct haul_hist late_ns;
};

void hub_lock(struct hub *hub)
{
	int rc = pthread_mutex_lock(&hub->lock);

	HAUL_ASSERT(rc == 0);
}

void hub_unlock(struct hub *hub)
{
	int rc = pthread_mutex_unlock(&hub->lock);

	HAUL_ASSERT(rc == 0);
}

struct channel *hub_channel(struct hub *hub, uint32_t medium)
{
	HAUL_ASSERT(medium < hub->media_count);
	return hub->media[medium].channel;
}

const struct hub_port *hub_port(const struct hub *hub, uint32_t medium, uint32_t node)
{
	HAUL_ASSERT(medium < hub->media_count);
	HAUL_ASSERT(node < hub->media[medium].options.node_count);
	return &hub->media[medium].ports[node].seen;
}

const struct haul_hist *hub_late_ns(const struct hub *hub)
{
	return &hub->late_ns;
}

/* ---- addresses ---- */

/* The slot of mac, or the empty one where it would stand. */
static uint32_t mac_slot(const struct medium *medium, uint64_t mac)
{
	uint32_t slot = (uint32_t)hash_u64(mac) % MAC_SLOTS;

	while (medium->node_of[slot] != 0 &&
	       medium->ports[medium->node_of[slot] - 1].seen.mac != mac)
		slot = (slot + 1) % MAC_SLOTS;
	return slot;
}

int hub_node_of(const struct hub *hub, uint32_t medium, uint64_t mac)
{
	uint32_t node_plus_1;

	HAUL_ASSERT(medium < hub->media_count);
	node_plus_1 = hub->media[medium].node_of[mac_slot(&hub->media[medium], mac)];
	return node_plus_1 == 0 ? -ENOENT : (int)(node_plus_1 - 1);
}

/* ---- from the TAPs into the channels ---- */

static void receive_frame(struct hub *hub, uint32_t index, uint32_t from, uint32_t row)
{
	struct medium *medium = &hub->media[index];
	struct hub_port *seen = &medium->ports[from].seen;
	uint32_t bytes = haul_frame_bytes(&hub->received, row);
	struct channel_frame *frame;
	uint64_t mac;
	int to;

	if (bytes < HUB_ETHER_BYTES || bytes > medium->options.frame_bytes_max) {
		seen->unsent++;
		return;
	}
	mac = mac_load(hub->received.data[row]);
	to = mac_is_group(mac) ? 0 : hub_node_of(hub, index, mac);
	if (to < 0) {
		seen->unknown++;
		return;
	}
	frame = channel_get(medium->channel);
	if (frame == NULL) {
		seen->no_frame++;
		return;
	}
	frame->len = haul_frame_copy(&hub->received, row, frame->bytes);
	frame->from = from;
	frame->to = mac_is_group(mac) ? CHANNEL_TO_ALL : (uint32_t)to;
	channel_send(medium->channel, frame, hub->os->now_ns(hub->os));
}

static void receive(struct hub *hub, uint32_t index, uint32_t from)
{
	struct port *port = &hub->media[index].ports[from];
	int count = haul_link_rx(port->link, &hub->received);

	if (count < 0) {
		port->seen.failed = count;
		if (epoll_ctl(hub->epoll_fd, EPOLL_CTL_DEL, haul_link_fd(port->link), NULL) < 0)
			HAUL_ASSERT(errno != EINVAL);
		return;
	}
	for (uint32_t row = 0; row < (uint32_t)count; row++)
		receive_frame(hub, index, from, row);
}

/* ---- from the channels to the TAPs ---- */

static void flush(struct hub *hub, struct port *port)
{
	uint32_t count = hub->batch.frames.count;
	int sent = haul_link_tx(port->link, &hub->batch);

	if (sent < (int)count)
		port->seen.unsent += count - (uint32_t)(sent > 0 ? sent : 0);
	haul_send_batch_clear(&hub->batch);
}

/* One taking: runs of frames for the same TAP go out in one call. */
static uint32_t deliver_some(struct hub *hub, struct medium *medium, int64_t now_ns)
{
	struct channel_delivery *taken = hub->deliveries;
	uint32_t count = channel_take(medium->channel, now_ns, taken, DELIVERIES_A_TURN);

	for (uint32_t i = 0; i < count; i++) {
		struct port *port = &medium->ports[taken[i].to];
		struct haul_frame row = { .data = taken[i].frame->bytes,
					  .len = taken[i].frame->len };

		haul_hist_add(&hub->late_ns, (uint64_t)(now_ns - taken[i].due_ns), 1);
		if (!port->seen.attached || port->seen.failed != 0) {
			port->seen.unsent++;
			continue;
		}
		int rc = haul_send_batch_push(&hub->batch, &row);
		HAUL_ASSERT(rc >= 0);
		if (i + 1 == count || taken[i + 1].to != taken[i].to ||
		    hub->batch.frames.count == BURST_FRAMES)
			flush(hub, port);
	}
	for (uint32_t i = 0; i < count; i++)
		channel_put(medium->channel, taken[i].frame);
	return count;
}

static void deliver(struct hub *hub)
{
	for (uint32_t i = 0; i < hub->media_count; i++) {
		int64_t now_ns = hub->os->now_ns(hub->os);

		while (deliver_some(hub, &hub->media[i], now_ns) == DELIVERIES_A_TURN)
			;
	}
}

/* ---- the thread ---- */

static void awake(struct hub *hub)
{
	uint64_t times;
	ssize_t got = read(hub->wake_fd, &times, sizeof times);

	HAUL_ASSERT(got == sizeof times);
}

/* One turn; returns when the next has to be at the latest. */
static int64_t turn(struct hub *hub, const struct epoll_event *events, int count)
{
	int64_t next_ns = INT64_MAX;

	if (hub->schedule != NULL)
		next_ns = hub->schedule(hub->schedule_arg, hub, hub->os->now_ns(hub->os));
	for (int i = 0; i < count; i++) {
		uint64_t key = events[i].data.u64;

		if (key == WAKE_EVENT)
			awake(hub);
		else
			receive(hub, (uint32_t)(key >> 32), (uint32_t)key);
	}
	deliver(hub);
	for (uint32_t i = 0; i < hub->media_count; i++) {
		int64_t due_ns = channel_next_ns(hub->media[i].channel);

		if (due_ns < next_ns)
			next_ns = due_ns;
	}
	return next_ns;
}

static struct timespec wait_until(struct hub *hub, int64_t next_ns)
{
	int64_t wait_ns =
		next_ns == INT64_MAX ? WAIT_MAX_S * NS_PER_S : next_ns - hub->os->now_ns(hub->os);

	if (wait_ns < 0)
		wait_ns = 0;
	return (struct timespec){ .tv_sec = wait_ns / NS_PER_S, .tv_nsec = wait_ns % NS_PER_S };
}

static void *hub_thread(void *arg)
{
	struct hub *hub = arg;
	struct epoll_event events[EVENTS_MAX];
	struct sched_param first = { .sched_priority = 1 };
	struct timespec wait;
	int64_t next_ns;
	bool stopping;
	int count = 0;

	/* Only a thread may ask for its own; the default slack of 50 us would show in every
	 * delay. */
	prctl(PR_SET_TIMERSLACK, 1UL);
	/* The air does not wait for processors: go before the nodes, and at once. Where that is not
	 * allowed, frames are only later. */
	(void)pthread_setschedparam(pthread_self(), SCHED_RR, &first);
	for (;;) {
		hub_lock(hub);
		next_ns = turn(hub, events, count);
		stopping = hub->stopping;
		hub_unlock(hub);
		if (stopping)
			return NULL;
		wait = wait_until(hub, next_ns);
		count = epoll_pwait2(hub->epoll_fd, events, EVENTS_MAX, &wait, NULL);
		HAUL_ASSERT(count >= 0 || errno == EINTR);
	}
}

int hub_start(struct hub *hub, hub_schedule *schedule, void *arg, struct haul_err *err)
{
	int rc;

	HAUL_ASSERT(!hub->running);
	hub->schedule = schedule;
	hub->schedule_arg = arg;
	hub->stopping = false;
	rc = pthread_create(&hub->thread, NULL, hub_thread, hub);
	if (rc != 0)
		return haul_err_set(err, -rc, "start the hub's thread: %s", haul_strerror(-rc));
	hub->running = true;
	return 0;
}

void hub_wake(struct hub *hub)
{
	uint64_t one = 1;
	ssize_t wrote = write(hub->wake_fd, &one, sizeof one);

	HAUL_ASSERT(wrote == sizeof one);
}

void hub_stop(struct hub *hub)
{
	int rc;

	if (!hub->running)
		return;
	hub_lock(hub);
	hub->stopping = true;
	hub_unlock(hub);
	hub_wake(hub);
	rc = pthread_join(hub->thread, NULL);
	HAUL_ASSERT(rc == 0);
	hub->running = false;
}

/* ---- open, attach, close ---- */

static int hub_watch(struct hub *hub, int fd, uint64_t key)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = key };

	return epoll_ctl(hub->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

struct attach_call {
	struct haul_link_options options;
	struct haul_link *link;
	struct haul_err err;
};

/* A TAP belongs to the namespace in which /dev/net/tun is opened. */
static int attach_inside(void *arg)
{
	struct attach_call *call = arg;

	return haul_link_open(&call->options, &call->link, &call->err);
}

int hub_attach(struct hub *hub, const struct hub_attach *attach, struct haul_err *err)
{
	struct medium *medium = &hub->media[attach->medium];
	struct port *port = &medium->ports[attach->node];
	struct attach_call call = { .link = NULL };
	struct haul_addr local;
	int rc;

	HAUL_ASSERT(attach->medium < hub->media_count);
	HAUL_ASSERT(attach->node < medium->options.node_count);
	HAUL_ASSERT(!port->seen.attached && !hub->running);
	HAUL_ASSERT(strlen(attach->ifname) < sizeof call.options.ifname);
	HAUL_ASSERT(attach->mtu_bytes + HUB_ETHER_BYTES <= medium->options.frame_bytes_max);
	haul_link_options_init(&call.options, HAUL_LINK_TAP);
	memcpy(call.options.ifname, attach->ifname, strlen(attach->ifname) + 1);
	memcpy(call.options.name, attach->ifname, strlen(attach->ifname) + 1);
	call.options.mtu_bytes = attach->mtu_bytes + HUB_ETHER_BYTES;
	call.options.offloads = 0;
	call.options.txqueuelen = TXQUEUELEN;
	rc = netns_call(attach->netns_fd, attach_inside, &call);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", attach->ifname, call.err.text);
	port->link = call.link;
	rc = hub_watch(hub, haul_link_fd(call.link), (uint64_t)attach->medium << 32 | attach->node);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: epoll: %s", attach->ifname, haul_strerror(rc));
	local = haul_link_local(call.link);
	port->seen.mac = mac_load(local.bytes);
	port->seen.attached = true;
	medium->node_of[mac_slot(medium, port->seen.mac)] = attach->node + 1;
	return 0;
}

static int hub_allocate(struct hub *hub, const struct channel_options *media, struct haul_err *err)
{
	int rc;

	for (uint32_t i = 0; i < hub->media_count; i++) {
		hub->media[i].options = media[i];
		hub->media[i].ports = calloc(media[i].node_count, sizeof *hub->media[i].ports);
		if (hub->media[i].ports == NULL)
			return haul_err_set(err, -ENOMEM, "hub: out of memory");
		rc = channel_open(&media[i], &hub->media[i].channel, err);
		if (rc < 0)
			return rc;
	}
	rc = haul_frames_init(&hub->received, BURST_FRAMES);
	if (rc >= 0)
		rc = haul_send_batch_init(&hub->batch, BURST_FRAMES);
	if (rc < 0)
		return haul_err_set(err, rc, "hub: %s", haul_strerror(rc));
	hub->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	hub->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hub->epoll_fd < 0 || hub->wake_fd < 0)
		return haul_err_set(err, -errno, "hub: %s", haul_strerror(-errno));
	rc = hub_watch(hub, hub->wake_fd, WAKE_EVENT);
	return rc < 0 ? haul_err_set(err, rc, "hub: epoll: %s", haul_strerror(rc)) : 0;
}

int hub_open(const struct channel_options *media, uint32_t media_count, struct hub **ret_hub,
	     struct haul_err *err)
{
	struct hub *hub = calloc(1, sizeof *hub);
	int rc;

	HAUL_ASSERT(media_count >= 1 && media_count <= HUB_MEDIA_MAX);
	if (hub == NULL)
		return haul_err_set(err, -ENOMEM, "hub: out of memory");
	hub->media_count = media_count;
	hub->epoll_fd = -1;
	hub->wake_fd = -1;
	hub->os = os_linux();
	pthread_mutex_init(&hub->lock, NULL);
	rc = hub_allocate(hub, media, err);
	if (rc < 0) {
		hub_close(hub);
		return rc;
	}
	*ret_hub = hub;
	return 0;
}

static void medium_close(struct medium *medium)
{
	for (uint32_t i = 0; medium->ports != NULL && i < medium->options.node_count; i++)
		haul_link_close(medium->ports[i].link);
	free(medium->ports);
	channel_close(medium->channel);
}

void hub_close(struct hub *hub)
{
	if (hub == NULL)
		return;
	hub_stop(hub);
	for (uint32_t i = 0; i < hub->media_count; i++)
		medium_close(&hub->media[i]);
	haul_send_batch_done(&hub->batch);
	haul_frames_done(&hub->received);
	if (hub->wake_fd >= 0)
		close(hub->wake_fd);
	if (hub->epoll_fd >= 0)
		close(hub->epoll_fd);
	pthread_mutex_destroy(&hub->lock);
	free(hub);
}
