/* bpf/flow_group.h — the network that all tests of one program share, as flow_net.h says.
 *
 * Model      included by that program alone: it has the one network, and what opens it before the
 *            first test and closes it behind the last. */
#pragma once

#include "bpf/flow_net.h"

static struct flow_net net;

static inline int group_open(void **state)
{
	(void)state;
	flow_net_open(&net);
	return 0;
}

static inline int group_close(void **state)
{
	(void)state;
	flow_net_close(&net);
	return 0;
}
