/* cli/flows_past.h — what each connection had counted when it was last looked at.
 *
 * Model      A hash table from connection (key and first packet) to its counters. Each look is a
 *            generation; what was not seen for FLOWS_PAST_KEEP of them is forgotten when the table
 *            needs room. Connections are told apart by 64 bits of a salted hash.
 * Memory     64 bytes a slot, at most 3/4 of the slots in use; grows to FLOWS_PAST_SLOTS_MAX slots
 *            (128 MiB). Connections beyond that are not remembered, and counted.
 * Ownership  flows_past_done frees it.
 * Threads    main thread only. Errors: -ENOMEM. */
#pragma once

#include <stdint.h>

#include <haul/flow.h>

enum { FLOWS_PAST_SLOTS_MAX = 1 << 21, FLOWS_PAST_KEEP = 3 };

/* By direction, as in struct haul_flow_value. */
struct flows_delta {
	uint64_t packets[2];
	uint64_t bytes[2];
	uint64_t payload[2];
};

enum flows_past_found {
	FLOWS_PAST_NEW,   /* never seen: the delta is all of it */
	FLOWS_PAST_KNOWN, /* since the last look */
	FLOWS_PAST_AGAIN, /* seen in this generation already; since then */
	FLOWS_PAST_ENDED, /* flows_past_end was called for it */
	FLOWS_PAST_FULL   /* cannot be remembered; the delta is 0 */
};

struct flows_past_slot;

struct flows_past {
	struct flows_past_slot *slots;
	uint32_t slot_count; /* power of two */
	uint32_t used;
	uint32_t generation;
	uint64_t salt;
	uint64_t refused;    /* connections not remembered */
	uint32_t refused_in; /* generation in which there was no room */
};

int flows_past_init(struct flows_past *past);
void flows_past_done(struct flows_past *past);
/* A new look begins. */
void flows_past_turn(struct flows_past *past);
/* Compare with what is remembered, and remember this. */
enum flows_past_found flows_past_note(struct flows_past *past, uint32_t table,
				      const struct haul_flow_key *key,
				      const struct haul_flow_value *value,
				      struct flows_delta *ret_delta);
/* As flows_past_note, and the connection is over. */
enum flows_past_found flows_past_end(struct flows_past *past, uint32_t table,
				     const struct haul_flow_key *key,
				     const struct haul_flow_value *value,
				     struct flows_delta *ret_delta);
