/* link/link.c — one interface over the back ends: defaults, dispatch and statistics.
 *
 * A burst is recorded as one batch of the statistics block: its frames, bytes, system calls and why
 * it ended. Calls that carried nothing (an empty queue, a full one) are no batch; their system
 * calls are added to the next one, so that system calls per frame come out honest. */
#include "link/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

static const struct haul_counter rx_counters[] = {
#define X(id, name, help) { name, help },
	LINK_RX_COUNTER_LIST(X)
#undef X
};

static const struct haul_counter tx_counters[] = {
#define X(id, name, help) { name, help },
	LINK_TX_COUNTER_LIST(X)
#undef X
};

_Static_assert((int)LINK_RX_COUNTERS <= HAUL_STATS_COUNTERS, "counters fit a block");
_Static_assert((int)LINK_TX_COUNTERS <= HAUL_STATS_COUNTERS, "counters fit a block");

void haul_link_options_init(struct haul_link_options *options, enum haul_link_kind kind)
{
	*options = (struct haul_link_options){
		.kind = kind,
		.fd = -1,
		.offloads = HAUL_OFFLOAD_ALL,
	};
}

static uint32_t default_u32(uint32_t value, uint32_t otherwise)
{
	return value != 0 ? value : otherwise;
}

static uint32_t default_mtu(enum haul_link_kind kind)
{
	if (kind == HAUL_LINK_TAP)
		return 1514;
	return kind == HAUL_LINK_UDP ? 1472 : 0; /* raw: the interface knows */
}

/* Put in the defaults and refuse what no back end could do. */
static int options_complete(struct haul_link_options *options, struct haul_err *err)
{
	if (memchr(options->name, '\0', sizeof options->name) == NULL)
		return haul_err_set(err, -EINVAL, "link name is longer than %d bytes",
				    HAUL_LINK_NAME_BYTES - 1);
	if (memchr(options->ifname, '\0', sizeof options->ifname) == NULL)
		return haul_err_set(err, -EINVAL, "%s: interface name is longer than %zu bytes",
				    options->name, sizeof options->ifname - 1);
	options->mtu_bytes = default_u32(options->mtu_bytes, default_mtu(options->kind));
	options->burst_max = default_u32(options->burst_max, LINK_BURST_DEFAULT);
	options->sockbuf_bytes = default_u32(options->sockbuf_bytes, 4 << 20);
	options->txqueuelen = default_u32(options->txqueuelen, 1000);
	options->ethertype = (uint16_t)default_u32(options->ethertype, 0x88b5);
	if (options->mtu_bytes > HAUL_FRAME_BYTES_MAX)
		return haul_err_set(err, -EINVAL, "%s: mtu_bytes %u is over %d", options->name,
				    options->mtu_bytes, HAUL_FRAME_BYTES_MAX);
	if (options->burst_max > LINK_BURST_MAX)
		return haul_err_set(err, -EINVAL, "%s: burst_max %u is over %d", options->name,
				    options->burst_max, LINK_BURST_MAX);
	return 0;
}

int haul_link_open(const struct haul_link_options *options, struct haul_link **ret_link,
		   struct haul_err *err)
{
	struct haul_link_options complete = *options;
	int rc = options_complete(&complete, err);
	if (rc < 0)
		return rc;
	switch (complete.kind) {
	case HAUL_LINK_TAP:
		return link_tap_open(&complete, ret_link, err);
	case HAUL_LINK_UDP:
		return link_udp_open(&complete, ret_link, err);
	case HAUL_LINK_RAW:
		return link_raw_open(&complete, ret_link, err);
	case HAUL_LINK_MEM:
	default:
		return haul_err_set(err, -EINVAL, "%s: no link of kind %d can be opened by options",
				    complete.name, (int)complete.kind);
	}
}

int link_init(struct haul_link *link, const struct haul_link_options *options,
	      const struct link_ops *ops, struct haul_err *err)
{
	HAUL_ASSERT(ops->rx != NULL && ops->tx != NULL && ops->close != NULL);
	HAUL_ASSERT(options->burst_max >= 1);
	link->ops = ops;
	link->fd = -1;
	link->mtu_bytes = options->mtu_bytes;
	link->burst_max = options->burst_max;
	link->tx_offer_max = options->burst_max;
	(void)snprintf(link->rx_name, sizeof link->rx_name, "%s.rx", options->name);
	(void)snprintf(link->tx_name, sizeof link->tx_name, "%s.tx", options->name);
	haul_stats_init(&link->rx_stats, link->rx_name, rx_counters, LINK_RX_COUNTERS);
	haul_stats_init(&link->tx_stats, link->tx_name, tx_counters, LINK_TX_COUNTERS);
	if (options->stats == NULL)
		return 0;
	int rc = haul_stats_enter(options->stats, &link->rx_stats);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: statistics: %s", link->rx_name,
				    haul_strerror(rc));
	rc = haul_stats_enter(options->stats, &link->tx_stats);
	if (rc < 0) {
		haul_stats_remove(options->stats, &link->rx_stats);
		return haul_err_set(err, rc, "%s: statistics: %s", link->tx_name,
				    haul_strerror(rc));
	}
	link->table = options->stats;
	return 0;
}

void link_done(struct haul_link *link)
{
	peers_close(link->peers);
	link->peers = NULL;
	if (link->table == NULL)
		return;
	haul_stats_remove(link->table, &link->tx_stats);
	haul_stats_remove(link->table, &link->rx_stats);
	link->table = NULL;
}

void haul_link_close(struct haul_link *link)
{
	if (link != NULL)
		link->ops->close(link);
}

int haul_link_fd(const struct haul_link *link)
{
	return link->fd;
}

uint32_t haul_link_offloads(const struct haul_link *link)
{
	return link->offloads;
}

struct haul_addr haul_link_local(const struct haul_link *link)
{
	return link->local;
}

uint32_t haul_link_mtu(const struct haul_link *link)
{
	return link->mtu_bytes;
}

const struct haul_stats *haul_link_rx_stats(const struct haul_link *link)
{
	return &link->rx_stats;
}

const struct haul_stats *haul_link_tx_stats(const struct haul_link *link)
{
	return &link->tx_stats;
}

/* Record a burst of ops frames; pending keeps the system calls of bursts of none. */
static void record(struct haul_stats *stats, uint32_t *pending, uint32_t ops,
		   const struct link_burst *burst)
{
	HAUL_ASSERT(burst->reason > HAUL_CLOSE_NONE && burst->reason < HAUL_CLOSE_REASONS);
	*pending += burst->syscalls;
	if (ops == 0)
		return;
	struct haul_stats_batch batch = {
		.ops = ops,
		.syscalls = *pending,
		.bytes = burst->bytes,
		.reason = burst->reason,
		.wait_ns = -1,
		.service_ns = -1,
	};
	haul_stats_batch(stats, &batch);
	*pending = 0;
}

int haul_link_rx(struct haul_link *link, struct haul_frames *frames)
{
	struct link_burst burst = { .reason = HAUL_CLOSE_IDLE };
	haul_frames_clear(frames);
	HAUL_ASSERT(frames->capacity > 0);
	int rc = link->ops->rx(link, frames, &burst);
	HAUL_ASSERT(rc < 0 ? frames->count == 0 : (uint32_t)rc == frames->count);
	record(&link->rx_stats, &link->rx_syscalls, frames->count, &burst);
	return rc;
}

int haul_link_tx(struct haul_link *link, struct haul_send_batch *batch)
{
	struct link_burst burst = { .reason = HAUL_CLOSE_IDLE };
	if (batch->frames.count == 0)
		return 0;
	haul_send_batch_group(batch);
	int sent = link->ops->tx(link, batch, &burst);
	HAUL_ASSERT(sent >= 0 && (uint32_t)sent <= batch->frames.count);
	record(&link->tx_stats, &link->tx_syscalls, (uint32_t)sent, &burst);
	return sent;
}

int haul_link_peer_add(struct haul_link *link, const struct haul_addr *addr)
{
	if (link->peers == NULL || addr->kind == HAUL_ADDR_NONE)
		return -EINVAL;
	int peer = peers_add(link->peers, addr);
	if (peer < 0)
		return peer;
	int rc = link->ops->peer_set(link, (uint32_t)peer, addr);
	if (rc < 0) {
		(void)peers_remove(link->peers, (uint32_t)peer);
		return rc;
	}
	return peer;
}

int haul_link_peer_find(const struct haul_link *link, const struct haul_addr *addr)
{
	if (link->peers == NULL || addr->kind == HAUL_ADDR_NONE)
		return -ENOENT;
	return peers_find(link->peers, addr);
}

int haul_link_peer_remove(struct haul_link *link, uint32_t peer)
{
	return link->peers == NULL ? -ENOENT : peers_remove(link->peers, peer);
}

int haul_link_peer_addr(const struct haul_link *link, uint32_t peer, struct haul_addr *ret_addr)
{
	return link->peers == NULL ? -ENOENT : peers_addr(link->peers, peer, ret_addr);
}
