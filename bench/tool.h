/* bench/tool.h — programs that a bench runs in a namespace, quietly, to their end.
 * Threads: any. Blocking: yes. Errors: -errno, or -EIO when the program fails. */
#pragma once

#include <stdbool.h>

#include <haul/err.h>

int tool_run(int netns, const char *const argv[], struct haul_err *err);

/* Both ends of the veth pair "wire0": cut superframes to the MTU on the wire and join them at the
 * receiver, as network cards do, or let them cross whole. */
int tool_split(int near_netns, int far_netns, bool split, struct haul_err *err);
