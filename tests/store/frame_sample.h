/* store/frame_sample.h — frames for tests: of random changes, or of the plainest ones. */
#pragma once

#include "base/prng.h"
#include "store/changes_state.h"

/* Random changes of a small world (ids 1 … nodes): groups of several, all kinds, all flags. Returns
 * how many; fewer than `count` when the list is full. */
uint32_t sample_changes(struct prng *prng, struct haul_changes *changes, uint32_t nodes,
			uint32_t count);
/* One random change. 0 or more as haul_changes_*. */
int sample_change(struct prng *prng, struct haul_changes *changes, uint32_t nodes);
/* A sealed frame of `count` new nodes from id on, with value_bytes of properties each. Returns its
 * bytes. data is aligned to 8; seq 0: no session. */
uint32_t sample_frame(uint8_t *data, uint32_t bytes, uint64_t id, uint32_t count,
		      uint32_t value_bytes, uint64_t seq);
/* Seal, of no session. */
uint32_t sample_seal(const struct haul_changes *changes, uint8_t *data, uint32_t bytes);
