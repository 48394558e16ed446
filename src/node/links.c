#include "node/links.h"

#include <errno.h>
#include <string.h>

#include <haul/message.h>
#include "base/assert.h"
#include "os/netif.h"

enum { ETH_BYTES = 14, UDP_IPV4_BYTES = 28, UDP_IPV6_BYTES = 48 };

static void set_text(char *out, size_t bytes, const char *text)
{
	size_t n = strlen(text);
	HAUL_ASSERT(n < bytes);
	memcpy(out, text, n + 1);
}

/* Largest datagram that leaves the local address in one packet; 0 = not to be known. */
static uint32_t udp_mtu(const struct haul_addr *local)
{
	uint32_t bytes = local->kind == HAUL_ADDR_IPV4 ? UDP_IPV4_BYTES : UDP_IPV6_BYTES;
	uint32_t mtu;
	if (netif_mtu(local, &mtu) < 0 || mtu <= bytes)
		return 0;
	return mtu - bytes < HAUL_MESSAGE_BYTES_MAX ? mtu - bytes : HAUL_MESSAGE_BYTES_MAX;
}

/* One frame a kernel call and no offloads is what batches are compared with. */
static void set_batching(const struct node_config *config, uint32_t offloads,
			 struct haul_link_options *options)
{
	options->offloads = config->batch.individual ? 0 : offloads;
	options->burst_max = config->batch.individual ? 1 : 0;
}

static int open_wire(const struct node_config *config, const struct config_link *wire,
		     struct haul_link_options *options, struct haul_link **ret_link,
		     struct haul_err *err)
{
	set_text(options->ifname, sizeof options->ifname, wire->ifname);
	options->local = wire->local;
	options->broadcast = wire->broadcast;
	options->mtu_bytes = wire->mtu;
	if (wire->kind == HAUL_LINK_UDP && wire->mtu == 0)
		options->mtu_bytes = udp_mtu(&wire->local);
	set_batching(config, wire->offloads, options);
	return haul_link_open(options, ret_link, err);
}

static int open_radio(const struct node_config *config, struct haul_stats_table *stats,
		      struct haul_link **ret_link, struct haul_err *err)
{
	struct haul_link_options options;
	haul_link_options_init(&options, config->radio.kind);
	set_text(options.name, sizeof options.name, "radio");
	options.stats = stats;
	return open_wire(config, &config->radio, &options, ret_link, err);
}

static int open_backhaul(const struct node_config *config, struct haul_stats_table *stats,
			 struct haul_link **ret_link, struct haul_err *err)
{
	struct haul_link_options options;
	struct haul_link *link;
	haul_link_options_init(&options, HAUL_LINK_UDP);
	set_text(options.name, sizeof options.name, "backhaul");
	options.stats = stats;
	int rc = open_wire(config, &config->backhaul, &options, &link, err);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < config->peer_count; i++) {
		int peer = haul_link_peer_add(link, &config->peers[i]);
		if (peer < 0) {
			haul_link_close(link);
			return haul_err_set(err, peer, "backhaul: peer %u: %s", i,
					    haul_strerror(peer));
		}
		HAUL_ASSERT((uint32_t)peer == i + 1); /* control counts on it */
	}
	*ret_link = link;
	return 0;
}

static int open_tap(const struct node_config *config, struct haul_stats_table *stats, uint32_t mtu,
		    struct haul_link **ret_link, struct haul_err *err)
{
	struct haul_link_options options;
	struct haul_link *link;
	haul_link_options_init(&options, HAUL_LINK_TAP);
	set_text(options.name, sizeof options.name, "tap");
	set_text(options.ifname, sizeof options.ifname, config->tap.ifname);
	options.mtu_bytes = mtu + ETH_BYTES;
	options.stats = stats;
	set_batching(config, config->tap.offloads, &options);
	int rc = haul_link_open(&options, &link, err);
	if (rc < 0)
		return rc;
	if (config->tap.address[0] != '\0')
		rc = netif_address(config->tap.ifname, config->tap.address, err);
	if (rc < 0) {
		haul_link_close(link);
		return rc;
	}
	*ret_link = link;
	return 0;
}

static uint32_t message_bytes(const struct links *links)
{
	uint32_t bytes = haul_link_mtu(links->link[NODE_RADIO]);
	const struct haul_link *backhaul = links->link[NODE_BACKHAUL];
	return backhaul != NULL && haul_link_mtu(backhaul) < bytes ? haul_link_mtu(backhaul)
								   : bytes;
}

int links_open(const struct node_config *config, struct haul_stats_table *stats,
	       struct links *ret_links, struct haul_err *err)
{
	struct links links = { 0 };
	int rc = open_radio(config, stats, &links.link[NODE_RADIO], err);
	if (rc == 0 && config->has_backhaul)
		rc = open_backhaul(config, stats, &links.link[NODE_BACKHAUL], err);
	if (rc == 0)
		rc = config_tap_mtu(config, message_bytes(&links), &links.tap_mtu, err);
	if (rc == 0)
		rc = open_tap(config, stats, links.tap_mtu, &links.link[NODE_TAP], err);
	if (rc < 0) {
		links_close(&links);
		return rc;
	}
	*ret_links = links;
	return 0;
}

void links_close(struct links *links)
{
	for (uint32_t port = 0; port < NODE_PORTS; port++) {
		haul_link_close(links->link[port]);
		links->link[port] = NULL;
	}
}
