/* node/peer_age.h — which radio peers have been silent for so long that their place can be given
 * on.
 *
 * Model      Control's thread notes who was heard; now and then it asks who may go: peers silent
 *            for PEER_AGE_NS that no route and no candidate uses. Without this, whoever sends
 *            heartbeats from many addresses would fill the table of peers for good.
 * Units      ns.
 * Threads    control's.
 * Limits     HAUL_LINK_PEERS. */
#pragma once

#include <stdint.h>

#include <haul/link.h>
#include "node/control.h"

#define PEER_AGE_NS       INT64_C(60000000000)
#define PEER_AGE_CHECK_NS INT64_C(5000000000)

struct peer_age {
	int64_t due_ns;                    /* of the next check */
	int64_t heard_ns[HAUL_LINK_PEERS]; /* 0 = not known */
	uint8_t used[HAUL_LINK_PEERS];     /* work space of a check */
	struct route routes[NODE_ROUTES_MAX];
	struct control_candidate candidates[NODE_ROUTES_MAX];
};

void peer_age_heard(struct peer_age *age, const struct control_event *events, uint32_t count);
/* When a check is due: up to max peers that may go, which are forgotten here. */
uint32_t peer_age_check(struct peer_age *age, const struct control *control, int64_t now_ns,
			uint32_t *ret_peers, uint32_t max);
