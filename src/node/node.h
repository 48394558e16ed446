/* node/node.h — one OBU or RSU: its links, its two threads, its status socket.
 *
 * Model      node_open does all that can fail and touches nothing when the configuration is wrong:
 *            links, control, datapath, status socket. node_run starts the datapath thread and is
 *            itself the control thread until told to stop.
 * Ownership  node_close takes back what node_open made; the TAP, its address and the socket file go
 *            with it.
 * Threads    the caller's thread is the control thread.
 * Errors     -errno or HAUL_ECONFIG with text.
 * Blocking   node_run, until stop_fd is readable or a link breaks. */
#pragma once

#include <haul/err.h>
#include "node/config.h"

struct node;

int node_open(const struct node_config *config, struct node **ret_node, struct haul_err *err);
/* NULL is allowed. */
void node_close(struct node *node);

/* Returns 0 when stop_fd became readable, after the turn in hand; else what broke. */
int node_run(struct node *node, int stop_fd, struct haul_err *err);
