/* node/links.h — the links of a node, opened as its configuration says.
 *
 * Model      Radio and backhaul first: what they carry decides the MTU of the TAP.
 * Ownership  links_close closes what links_open opened.
 * Errors     -errno or HAUL_ECONFIG with text.
 * Blocking   yes: control plane. */
#pragma once

#include <haul/err.h>
#include <haul/link.h>
#include <haul/stats.h>
#include "node/config.h"

struct links {
	struct haul_link *link[NODE_PORTS]; /* NODE_BACKHAUL may be NULL */
	uint32_t tap_mtu;
};

int links_open(const struct node_config *config, struct haul_stats_table *stats,
	       struct links *ret_links, struct haul_err *err);
void links_close(struct links *links);
