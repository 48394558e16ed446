/* node/config.h — what the file of one node says.
 *
 * Model      A YAML file is read by a schema, checked whole, and turned into plain values with all
 *            defaults put in; nothing else is touched. examples/node-*.yaml show every key,
 *            haul-node(1) describes them.
 * Units      as the key says.
 * Ownership  plain values, no pointers.
 * Threads    pure, but for reading the file.
 * Errors     HAUL_ECONFIG with file, line, key, value and what is right; -errno with the file's
 *            name when it cannot be read.
 * Limits     CONFIG_BACKHAUL_PEERS, the *_BYTES below. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/batch.h>
#include <haul/err.h>
#include <haul/frames.h>
#include <haul/link.h>
#include "node/hop.h"

enum {
	CONFIG_BACKHAUL_PEERS = 256,
	CONFIG_NAME_BYTES = 32,
	CONFIG_IFNAME_BYTES = 16,
	CONFIG_PATH_BYTES = 108, /* sun_path */
	CONFIG_FILE_BYTES = 1024
};

struct config_tap {
	char ifname[CONFIG_IFNAME_BYTES];
	uint32_t mtu;                 /* 0 = as large as the links allow */
	char address[HAUL_ADDR_TEXT]; /* with prefix length; "" = none */
	uint32_t offloads;
};

struct config_link {              /* radio and backhaul */
	enum haul_link_kind kind; /* RAW or UDP */
	char ifname[CONFIG_IFNAME_BYTES];
	struct haul_addr local;
	struct haul_addr broadcast;
	uint32_t mtu; /* largest message; 0 = what the interface carries */
	uint32_t offloads;
};

struct config_heartbeat {
	uint32_t period_ms;
	uint32_t jitter_percent;
	uint32_t history;
	uint32_t candidates;
	uint32_t missed_max;
	uint32_t ttl;
};

struct config_batch {
	struct haul_limits limits;
	enum haul_sizer_policy sizer;
	bool individual;
};

struct node_config {
	char file[CONFIG_FILE_BYTES];
	enum node_role role;
	char name[CONFIG_NAME_BYTES];
	uint64_t id; /* 0 = the TAP's MAC */
	struct config_tap tap;
	struct config_link radio;
	bool has_backhaul;
	struct config_link backhaul;
	struct haul_addr peers[CONFIG_BACKHAUL_PEERS]; /* of the backhaul */
	uint32_t peer_count;
	struct config_heartbeat heartbeat;
	struct config_batch batch;
	char control[CONFIG_PATH_BYTES]; /* "" = none */
	bool flows;                      /* count the TAP's connections */
};

int config_load(const char *path, struct node_config *ret_config, struct haul_err *err);

/* The MTU of the TAP when the smallest of the links carries messages of so many bytes: the
 * configured one, or the largest that fits. HAUL_ECONFIG when it does not fit. */
int config_tap_mtu(const struct node_config *config, uint32_t message_bytes, uint32_t *ret_mtu,
		   struct haul_err *err);
