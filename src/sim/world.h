/* sim/world.h — all that a scenario is made of on this machine: folder, namespaces, hub, nodes.
 *
 * Model      world_open makes the folder, a namespace a node, and the hub with a radio0 interface
 *            in each namespace and a back0 interface in those of RSUs. world_start starts a `haul
 *            node` in each; world_poll follows them until all are ready. world_begin starts the
 *            clock of the scenario: from then on its events happen.
 * Ownership  world_close takes back everything, in whatever state it is. Should we be killed, the
 *            kernel ends the nodes (PR_SET_PDEATHSIG) and with them and us go namespaces and
 *            interfaces, which have no names; the folder is removed by the next world_open, which
 *            finds that nobody holds its lock.
 * Threads    one, beside the hub's.
 * Errors     -errno with text; what was made is then the caller's to close.
 * Blocking   all but world_poll.
 * Limits     SCENARIO_NODES_MAX nodes. */
#pragma once

#include <dirent.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>
#include "sim/child.h"
#include "sim/hub.h"
#include "sim/scenario.h"
#include "sim/timeline.h"

enum { WORLD_RADIO, WORLD_BACKHAUL, WORLD_MEDIA };

enum { WORLD_PATH_BYTES = 64, WORLD_ADDRESS_BYTES = 16, WORLD_WHY_BYTES = 200 };

struct world_node {
	const struct scenario_node *spec;
	uint64_t id;
	char address[WORLD_ADDRESS_BYTES]; /* of haul0 */
	int netns_fd;
	struct child child;
	int ready_fd; /* -1 = no longer of interest */
	bool ready;
	bool died;
	char why[WORLD_WHY_BYTES]; /* it died */
};

struct world {
	struct scenario *scenario;
	uint64_t seed;
	char dir[WORLD_PATH_BYTES];
	DIR *dir_lock;
	struct hub *hub;
	struct timeline timeline;
	int64_t begun_ns; /* scenario's zero, INT64_MAX before; under the hub's lock */
	struct world_node *nodes;
	uint32_t count;
};

/* The scenario is changed by its events, and must outlive the world. */
int world_open(struct scenario *scenario, uint64_t seed, struct world **ret_world,
	       struct haul_err *err);
/* NULL is allowed. */
void world_close(struct world *world);

/* program: the haul binary to start as `program node …`. */
int world_start(struct world *world, const char *program, struct haul_err *err);
/* Notice who is ready and who died; returns how many are ready. */
uint32_t world_poll(struct world *world);
void world_begin(struct world *world);
/* Seconds since world_begin, < 0 before. */
double world_now_s(const struct world *world);

/* The status document of a node; NULL when it gives none (err says why). The caller drops it. */
json_t *world_status(const struct world *world, uint32_t node, struct haul_err *err);
/* The node with that id, as text in status documents; -ENOENT. */
int world_node_of(const struct world *world, const char *id);
/* Put into reachable[] which nodes a chain of links leads to from any RSU at present. */
void world_reachable(struct world *world, bool *reachable);
