/* store/changes_state.h — what the parts of store and rpc share of struct haul_changes.
 *
 * Model      Changes are gathered in three columns (sections, events, heap) and laid out as a frame
 *            when they are sealed. One list may be appended to another as groups of its own: that
 *            is how a client puts callers together.
 * Threads    one at a time. */
#pragma once

#include "store/frame.h"

/* Put the groups of `from` behind those of `to`. HAUL_EFULL and nothing is done if they do not fit;
 * -EINVAL: a group is open, or `to` is unordered and `from` has a group of several changes.
 * *ret_first: number of the first of its changes in `to`; the others follow as in `from`. */
int changes_append(struct haul_changes *to, const struct haul_changes *from, uint32_t *ret_first);

/* Bytes of the frame that it makes. */
uint32_t changes_frame_bytes(const struct haul_changes *changes);
struct changes_sender {
	uint64_t session[2];
	uint64_t seq;
	uint64_t ack_upto;
	uint16_t kind;
};
/* Lay it out into data (aligned to 8) and seal it. -EINVAL: a group is open, or there are changes
 * and it shall be a FRAME_FENCE; HAUL_EFULL: bytes < changes_frame_bytes. */
int changes_seal(const struct haul_changes *changes, const struct changes_sender *sender,
		 uint8_t *data, uint32_t bytes);
/* Whether a group is open. */
bool changes_open(const struct haul_changes *changes);
