/* link/send.h — how a send batch meets a kernel that takes a part of it, nothing, or refuses.
 *
 * Model      Rows 0 … count-1 of a batch, in the order of its groups, are offered to a send
 *            function, a burst a call. It answers how many it carried, from the front; or a code
 *            that concerns the first row offered and no other. Each row ends with its own status:
 *              refused (any other code)  the next row is offered: one bad frame stops nobody
 *              full or broken            this row and all behind it get the code, and nothing more
 *                                        is offered: a caller that sends them again in order never
 *                                        overtakes a frame
 *            -ENOBUFS is tried LINK_ENOBUFS_RETRIES times more before it counts as full.
 * Threads    the tx thread of the link.
 * Errors     none of its own; see status[]. Failures are counted in the link's tx statistics. */
#pragma once

#include <stdint.h>

#include "link/link.h"

/* Offer rows batch->order[first] … order[first + count - 1], count >= 1. Returns 1 … count, or a
 * negative code for the first; counts its own system calls and bytes. */
typedef int send_fn(void *ctx, uint32_t first, uint32_t count);

/* The batch is grouped. Sets every status; returns how many rows were sent. */
int send_all(struct haul_link *link, struct haul_send_batch *batch, send_fn *send, void *ctx);

/* The finished checksum of a row with HAUL_FRAME_CSUM_PARTIAL, as it lies in memory. Its bytes
 * stay as they are: they are the caller's, and another row may share them. -EINVAL when the field
 * is not within data. */
int send_checksum(struct haul_link *link, const struct haul_frames *frames, uint32_t row,
		  uint16_t *ret_checksum);
