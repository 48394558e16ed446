/* rpc/net_poll.h — eventfds, poll and epoll of the simulated network (net_sim.h).
 *
 * Model      One epoll at a time, the server's; its events come in any order, not all at once.
 * Threads    those of sim_threads. Errors: asserts. */
#pragma once

#include "net_sim.h"

void poll_open(struct net *net);
/* Whether the descriptor was an eventfd, or the epoll. */
bool poll_close(int fd);
