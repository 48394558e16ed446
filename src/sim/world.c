#include "sim/world.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/netns.h"
#include "os/os.h"
#include "os/unixsock.h"
#include "sim/folder.h"

enum {
	BACKHAUL_PORT = 4790,
	CONFIG_BYTES = 12288, /* of a node's configuration: 256 peers take 6 KiB */
	FRAMES_MIN = 4096,
	TAP_MTU_MAX = 1400,
	OVERHEAD_MAX = 200, /* of our messages and UDP around a frame, generously */
	END_PATIENCE_MS = 2000,
	POLL_MS = 10
};

/* ---- namespaces and interfaces ---- */

static int make_interface(struct world *world, uint32_t index, uint32_t medium,
			  struct haul_err *err)
{
	const struct scenario_medium *spec =
		medium == WORLD_RADIO ? &world->scenario->radio : &world->scenario->backhaul;
	struct hub_attach attach = { .medium = medium,
				     .node = index,
				     .netns_fd = world->nodes[index].netns_fd,
				     .ifname = medium == WORLD_RADIO ? "radio0" : "back0",
				     .mtu_bytes = spec->mtu };

	return hub_attach(world->hub, &attach, err);
}

static void backhaul_address(uint32_t index, char address[WORLD_ADDRESS_BYTES])
{
	(void)snprintf(address, WORLD_ADDRESS_BYTES, "10.99.%u.%u", (index + 1) >> 8 & 255,
		       (index + 1) & 255);
}

static int make_node(struct world *world, uint32_t index, struct haul_err *err)
{
	struct world_node *node = &world->nodes[index];
	char address[WORLD_ADDRESS_BYTES];
	char cidr[WORLD_ADDRESS_BYTES + 4];
	int rc;

	node->netns_fd = netns_open(err);
	if (node->netns_fd < 0)
		return node->netns_fd;
	/* Neighbour discovery on every interface would be traffic nobody asked for. */
	rc = netns_sysctl(node->netns_fd, "ipv6/conf/default/disable_ipv6", "1", err);
	if (rc >= 0)
		rc = make_interface(world, index, WORLD_RADIO, err);
	if (rc < 0 || node->spec->role != SCENARIO_RSU)
		return rc;
	rc = make_interface(world, index, WORLD_BACKHAUL, err);
	if (rc < 0)
		return rc;
	backhaul_address(index, address);
	(void)snprintf(cidr, sizeof cidr, "%s/16", address);
	return netns_address(node->netns_fd, "back0", cidr, err);
}

/* ---- the hub ---- */

static void medium_options(const struct world *world, const struct scenario_medium *spec,
			   struct channel_options *options)
{
	*options = (struct channel_options){
		.node_count = world->count,
		.frames_max = FRAMES_MIN + world->count * spec->queue_frames,
		.frame_bytes_max = spec->mtu + HUB_ETHER_BYTES,
		.queue_frames = spec->queue_frames,
		.overhead_ns = (int64_t)(spec->overhead_us * (double)NS_PER_US),
		.rate_bit_per_s = spec->rate_mbit * 1e6,
		.seed = world->seed
	};
	options->deliveries_max = 4 * options->frames_max;
}

static uint32_t count_rsus(const struct world *world)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < world->count; i++)
		count += world->nodes[i].spec->role == SCENARIO_RSU;
	return count;
}

/* Every RSU hears every other over the wire. */
static void wire_backhaul(struct world *world)
{
	const struct scenario_medium *spec = &world->scenario->backhaul;
	const struct channel_link link = { .up = true,
					   .latency_ns =
						   (int64_t)(spec->latency_ms * (double)NS_PER_MS),
					   .jitter_ns =
						   (int64_t)(spec->jitter_ms * (double)NS_PER_MS) };
	struct channel *channel = hub_channel(world->hub, WORLD_BACKHAUL);

	for (uint32_t a = 0; a < world->count; a++) {
		for (uint32_t b = 0; b < world->count; b++) {
			if (a == b || world->nodes[a].spec->role != SCENARIO_RSU ||
			    world->nodes[b].spec->role != SCENARIO_RSU)
				continue;
			int rc = channel_link_set(channel, a, b, &link);
			HAUL_ASSERT(rc == 0);
		}
	}
}

/* On the hub's thread: what the scenario has due. */
static int64_t run_timeline(void *arg, struct hub *hub, int64_t now_ns)
{
	struct world *world = arg;
	double now_s = world->begun_ns == INT64_MAX
			       ? 0
			       : (double)(now_ns - world->begun_ns) / (double)NS_PER_S;
	double next_s = timeline_apply(&world->timeline, hub_channel(hub, WORLD_RADIO), now_s);

	if (world->begun_ns == INT64_MAX || isinf(next_s))
		return INT64_MAX;
	return world->begun_ns + (int64_t)ceil(next_s * (double)NS_PER_S);
}

static int make_hub(struct world *world, struct haul_err *err)
{
	const struct scenario *scenario = world->scenario;
	struct channel_options options[WORLD_MEDIA];
	uint32_t rsus = count_rsus(world);

	medium_options(world, &scenario->radio, &options[WORLD_RADIO]);
	options[WORLD_RADIO].shared = scenario->radio.shared == NULL || *scenario->radio.shared;
	options[WORLD_RADIO].retries_max = scenario->radio.retries;
	options[WORLD_RADIO].links_max = timeline_links_max(scenario);
	medium_options(world, &scenario->backhaul, &options[WORLD_BACKHAUL]);
	options[WORLD_BACKHAUL].links_max = rsus > 1 ? rsus * (rsus - 1) : 1;
	return hub_open(options, WORLD_MEDIA, &world->hub, err);
}

/* ---- a node's configuration ---- */

static size_t config_peers(const struct world *world, uint32_t index, char *text, size_t bytes)
{
	char address[WORLD_ADDRESS_BYTES];
	size_t used = 0;
	const char *separator = "";

	for (uint32_t i = 0; i < world->count; i++) {
		if (i == index || world->nodes[i].spec->role != SCENARIO_RSU)
			continue;
		backhaul_address(i, address);
		used += (size_t)snprintf(text + used, bytes - used, "%s\"%s:%d\"", separator,
					 address, BACKHAUL_PORT);
		HAUL_ASSERT(used < bytes);
		separator = ", ";
	}
	return used;
}

static size_t config_backhaul(const struct world *world, uint32_t index, char *text, size_t bytes)
{
	char address[WORLD_ADDRESS_BYTES];
	size_t used;

	if (world->nodes[index].spec->role != SCENARIO_RSU)
		return 0;
	backhaul_address(index, address);
	used = (size_t)snprintf(text, bytes, "backhaul: {local: \"%s:%d\", peers: [", address,
				BACKHAUL_PORT);
	used += config_peers(world, index, text + used, bytes - used);
	used += (size_t)snprintf(text + used, bytes - used, "]}\n");
	HAUL_ASSERT(used < bytes);
	return used;
}

static uint32_t tap_mtu(const struct scenario *scenario)
{
	uint32_t mtu = scenario->radio.mtu < scenario->backhaul.mtu ? scenario->radio.mtu
								    : scenario->backhaul.mtu;

	return mtu - OVERHEAD_MAX < TAP_MTU_MAX ? mtu - OVERHEAD_MAX : TAP_MTU_MAX;
}

static void config_text(const struct world *world, uint32_t index, char text[CONFIG_BYTES])
{
	const struct scenario *scenario = world->scenario;
	const struct scenario_settings *settings = &scenario->settings;
	const struct world_node *node = &world->nodes[index];
	size_t used = (size_t)snprintf(
		text, CONFIG_BYTES,
		"node: %s\n"
		"name: %s\n"
		"id: \"02:00:00:00:%02x:%02x\"\n"
		"tap: {ifname: haul0, mtu: %u, address: %s/16}\n"
		"radio: {kind: raw, ifname: radio0}\n"
		"heartbeat: {period_ms: %u, ttl: %u}\n"
		"batch: {preset: %s, sizer: %s, individual: %s}\n"
		"control: %s/%s.sock\n"
		"flows: %s\n",
		node->spec->role == SCENARIO_RSU ? "rsu" : "obu", node->spec->name,
		(unsigned int)(node->id >> 8 & 255), (unsigned int)(node->id & 255),
		tap_mtu(scenario), node->address, settings->heartbeat_ms, settings->ttl,
		haul_preset_name(settings->preset),
		haul_sizer_policy_name(settings->sizer == NULL ? HAUL_SIZER_FILL
							       : *settings->sizer),
		settings->individual ? "true" : "false", world->dir, node->spec->name,
		settings->flows ? "true" : "false");

	HAUL_ASSERT(used < CONFIG_BYTES);
	(void)config_backhaul(world, index, text + used, CONFIG_BYTES - used);
}

static int config_write(const struct world *world, uint32_t index, const char *path,
			struct haul_err *err)
{
	char text[CONFIG_BYTES];
	FILE *file = fopen(path, "we");
	int rc = 0;

	if (file == NULL)
		return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
	config_text(world, index, text);
	if (fwrite(text, strlen(text), 1, file) != 1)
		rc = -EIO;
	if (fclose(file) != 0 && rc == 0)
		rc = -errno;
	return rc < 0 ? haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc)) : 0;
}

/* ---- nodes ---- */

/* The write end of a pipe stays open across exec for this one child. */
static int start_with_ready(struct world *world, struct world_node *node, const char *program,
			    int ready[2], struct haul_err *err)
{
	char config[CHILD_PATH_BYTES];
	char log[CHILD_PATH_BYTES];
	char fd[16];
	const char *const argv[] = { program, "node", "-c", config, "--ready-fd", fd, NULL };
	int rc;

	(void)snprintf(config, sizeof config, "%s/%s.yaml", world->dir, node->spec->name);
	(void)snprintf(log, sizeof log, "%s/%s.log", world->dir, node->spec->name);
	(void)snprintf(fd, sizeof fd, "%d", ready[1]);
	rc = config_write(world, (uint32_t)(node - world->nodes), config, err);
	if (rc < 0)
		return rc;
	if (fcntl(ready[1], F_SETFD, 0) < 0 || fcntl(ready[0], F_SETFL, O_NONBLOCK) < 0)
		return haul_err_set(err, -errno, "ready pipe: %s", haul_strerror(-errno));
	return child_start(&node->child, node->netns_fd, argv, log, err);
}

static int start_node(struct world *world, struct world_node *node, const char *program,
		      struct haul_err *err)
{
	int ready[2];
	int rc;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return haul_err_set(err, -errno, "ready pipe: %s", haul_strerror(-errno));
	rc = start_with_ready(world, node, program, ready, err);
	close(ready[1]);
	if (rc < 0) {
		close(ready[0]);
		return haul_err_wrap(err, rc, "node %s", node->spec->name);
	}
	node->ready_fd = ready[0];
	return 0;
}

int world_start(struct world *world, const char *program, struct haul_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < world->count; i++)
		rc = start_node(world, &world->nodes[i], program, err);
	return rc;
}

static void poll_node(struct world_node *node)
{
	char byte;

	if (node->ready_fd >= 0 && read(node->ready_fd, &byte, 1) == 1) {
		node->ready = true;
		close(node->ready_fd);
		node->ready_fd = -1;
	}
	if (node->child.started && !node->died && !child_runs(&node->child)) {
		node->died = true;
		child_epitaph(&node->child, node->why, sizeof node->why);
	}
}

uint32_t world_poll(struct world *world)
{
	uint32_t ready = 0;

	for (uint32_t i = 0; i < world->count; i++) {
		poll_node(&world->nodes[i]);
		ready += world->nodes[i].ready;
	}
	return ready;
}

void world_begin(struct world *world)
{
	struct os *os = os_linux();

	hub_lock(world->hub);
	world->begun_ns = os->now_ns(os);
	hub_unlock(world->hub);
	hub_wake(world->hub);
}

double world_now_s(const struct world *world)
{
	struct os *os = os_linux();

	if (world->begun_ns == INT64_MAX)
		return -1;
	return (double)(os->now_ns(os) - world->begun_ns) / (double)NS_PER_S;
}

/* ---- what nodes say ---- */

json_t *world_status(const struct world *world, uint32_t node, struct haul_err *err)
{
	char path[CHILD_PATH_BYTES];
	json_error_t where;
	json_t *root;
	int fd;

	HAUL_ASSERT(node < world->count);
	(void)snprintf(path, sizeof path, "%s/%s.sock", world->dir, world->nodes[node].spec->name);
	fd = unixsock_connect(path, err);
	if (fd < 0)
		return NULL;
	root = json_loadfd(fd, 0, &where);
	close(fd);
	if (root == NULL)
		(void)haul_err_set(err, HAUL_ECORRUPT, "%s: no status came: %s", path, where.text);
	return root;
}

int world_node_of(const struct world *world, const char *id)
{
	unsigned long low = 0;

	if (id != NULL && strncmp(id, "02:00:00:00:", 12) == 0 && strlen(id) == 17)
		low = strtoul(id + 12, NULL, 16) << 8 | strtoul(id + 15, NULL, 16);
	return low >= 1 && low <= world->count ? (int)(low - 1) : -ENOENT;
}

void world_reachable(struct world *world, bool *reachable)
{
	bool changed = true;

	for (uint32_t i = 0; i < world->count; i++)
		reachable[i] = world->nodes[i].spec->role == SCENARIO_RSU;
	hub_lock(world->hub);
	while (changed) {
		changed = false;
		for (uint32_t a = 0; a < world->count; a++) {
			for (uint32_t b = 0; reachable[a] && b < world->count; b++) {
				struct channel_link link = channel_link_get(
					hub_channel(world->hub, WORLD_RADIO), a, b);

				if (reachable[b] || !link.up || link.loss > 0.5)
					continue;
				reachable[b] = true;
				changed = true;
			}
		}
	}
	hub_unlock(world->hub);
}

/* ---- open and close ---- */

static int world_make(struct world *world, struct haul_err *err)
{
	int rc = folder_open(world->dir, sizeof world->dir, &world->dir_lock, err);

	if (rc >= 0)
		rc = make_hub(world, err);
	for (uint32_t i = 0; rc >= 0 && i < world->count; i++)
		rc = make_node(world, i, err);
	if (rc < 0)
		return rc;
	wire_backhaul(world);
	timeline_init(&world->timeline, world->scenario);
	world->begun_ns = INT64_MAX;
	return hub_start(world->hub, run_timeline, world, err);
}

int world_open(struct scenario *scenario, uint64_t seed, struct world **ret_world,
	       struct haul_err *err)
{
	struct world *world = calloc(1, sizeof *world);
	int rc;

	if (world == NULL)
		return haul_err_set(err, -ENOMEM, "world: out of memory");
	world->nodes = calloc(scenario->nodes_count, sizeof *world->nodes);
	if (world->nodes == NULL) {
		free(world);
		return haul_err_set(err, -ENOMEM, "world: out of memory");
	}
	world->scenario = scenario;
	world->seed = seed;
	world->count = scenario->nodes_count;
	for (uint32_t i = 0; i < world->count; i++) {
		struct world_node *node = &world->nodes[i];

		node->spec = &scenario->nodes[i];
		node->id = i + 1;
		node->netns_fd = -1;
		node->ready_fd = -1;
		(void)snprintf(node->address, sizeof node->address, "10.1.%u.%u",
			       (i + 1) >> 8 & 255, (i + 1) & 255);
	}
	rc = world_make(world, err);
	if (rc < 0) {
		world_close(world);
		return rc;
	}
	*ret_world = world;
	return 0;
}

/* Ask all nodes at once, and give them a moment to finish what they have in hand. */
static void end_nodes(struct world *world)
{
	struct os *os = os_linux();
	int64_t until_ns = os->now_ns(os) + END_PATIENCE_MS * NS_PER_MS;
	bool any = true;

	for (uint32_t i = 0; i < world->count; i++)
		child_signal(&world->nodes[i].child, SIGTERM);
	while (any && os->now_ns(os) < until_ns) {
		any = false;
		for (uint32_t i = 0; i < world->count; i++)
			any = child_runs(&world->nodes[i].child) || any;
		if (any)
			(void)poll(NULL, 0, POLL_MS);
	}
	for (uint32_t i = 0; i < world->count; i++)
		child_end(&world->nodes[i].child);
}

void world_close(struct world *world)
{
	if (world == NULL)
		return;
	end_nodes(world);
	hub_close(world->hub);
	for (uint32_t i = 0; i < world->count; i++) {
		if (world->nodes[i].ready_fd >= 0)
			close(world->nodes[i].ready_fd);
		if (world->nodes[i].netns_fd >= 0)
			close(world->nodes[i].netns_fd);
	}
	folder_close(world->dir, world->dir_lock);
	free(world->nodes);
	free(world);
}
