/* Open addressing with linear probing. A slot is never emptied in place: what ended stays as a mark
 * (so that a late look at it is recognised), what was not seen for long stays as it is, and both go
 * when the table is rebuilt because it is 3/4 full. */
#include "cli/flows_past.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "os/os.h"

enum { SLOTS_START = 1024 };

struct flows_past_slot {
	uint64_t print; /* 0 = free */
	struct flows_delta seen;
	uint32_t generation;
	bool ended;
};
_Static_assert(sizeof(struct flows_past_slot) == 64, "a slot is one cache line");

int flows_past_init(struct flows_past *past)
{
	*past = (struct flows_past){ .slot_count = SLOTS_START, .generation = 1 };
	past->slots = calloc(SLOTS_START, sizeof *past->slots);
	if (past->slots == NULL)
		return -ENOMEM;
	os_linux()->random(os_linux(), &past->salt, sizeof past->salt);
	return 0;
}

void flows_past_done(struct flows_past *past)
{
	free(past->slots);
	past->slots = NULL;
}

void flows_past_turn(struct flows_past *past)
{
	past->generation++;
}

static uint64_t print_of(const struct flows_past *past, uint32_t table,
			 const struct haul_flow_key *key, const struct haul_flow_value *value)
{
	uint64_t words[sizeof *key / sizeof(uint64_t)];
	uint64_t print = hash_u64(past->salt ^ table);

	memcpy(words, key, sizeof words);
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		print = hash_u64(print ^ words[i]) + past->salt;
	print = hash_u64(print ^ value->first_ns);
	return print != 0 ? print : 1;
}

/* Its slot, or the free one where it would be. */
static struct flows_past_slot *find(const struct flows_past *past, uint64_t print)
{
	uint32_t mask = past->slot_count - 1;
	uint32_t at = (uint32_t)print & mask;

	HAUL_ASSERT(past->used < past->slot_count);
	while (past->slots[at].print != 0 && past->slots[at].print != print)
		at = (at + 1) & mask;
	return &past->slots[at];
}

static bool is_old(const struct flows_past *past, const struct flows_past_slot *slot)
{
	return past->generation - slot->generation >= FLOWS_PAST_KEEP;
}

static uint32_t count_kept(const struct flows_past *past)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < past->slot_count; i++)
		kept += past->slots[i].print != 0 && !is_old(past, &past->slots[i]);
	return kept;
}

/* Leave out what is old; twice as large if that does not empty half of it. */
static bool rebuild(struct flows_past *past)
{
	struct flows_past next = *past;
	uint32_t kept;

	if (past->refused_in == past->generation)
		return false; /* counting again would give the same */
	kept = count_kept(past);
	if (kept > past->slot_count / 2)
		next.slot_count *= 2;
	next.slots = NULL;
	if (next.slot_count <= FLOWS_PAST_SLOTS_MAX)
		next.slots = calloc(next.slot_count, sizeof *next.slots);
	if (next.slots == NULL) {
		past->refused_in = past->generation;
		return false;
	}
	next.used = kept;
	for (uint32_t i = 0; i < past->slot_count; i++) {
		const struct flows_past_slot *slot = &past->slots[i];

		if (slot->print != 0 && !is_old(past, slot))
			*find(&next, slot->print) = *slot;
	}
	free(past->slots);
	*past = next;
	return true;
}

static void subtract(uint64_t delta[2], uint64_t seen[2], const uint64_t now[2])
{
	for (int i = 0; i < 2; i++) {
		delta[i] = now[i] > seen[i] ? now[i] - seen[i] : 0;
		seen[i] += delta[i];
	}
}

static enum flows_past_found note(struct flows_past *past, uint64_t print,
				  const struct haul_flow_value *value,
				  struct flows_delta *ret_delta, bool end)
{
	struct flows_past_slot *slot = find(past, print);
	enum flows_past_found found = FLOWS_PAST_NEW;

	*ret_delta = (struct flows_delta){ 0 };
	if (slot->print == 0) {
		if (past->used >= past->slot_count / 4 * 3) {
			if (!rebuild(past)) {
				past->refused++;
				return FLOWS_PAST_FULL;
			}
			slot = find(past, print);
		}
		past->used++;
		slot->print = print;
	} else if (slot->ended) {
		return FLOWS_PAST_ENDED;
	} else {
		found = slot->generation == past->generation ? FLOWS_PAST_AGAIN : FLOWS_PAST_KNOWN;
	}
	slot->generation = past->generation;
	slot->ended = end;
	subtract(ret_delta->packets, slot->seen.packets, value->packets);
	subtract(ret_delta->bytes, slot->seen.bytes, value->bytes);
	subtract(ret_delta->payload, slot->seen.payload, value->payload);
	return found;
}

enum flows_past_found flows_past_note(struct flows_past *past, uint32_t table,
				      const struct haul_flow_key *key,
				      const struct haul_flow_value *value,
				      struct flows_delta *ret_delta)
{
	return note(past, print_of(past, table, key, value), value, ret_delta, false);
}

enum flows_past_found flows_past_end(struct flows_past *past, uint32_t table,
				     const struct haul_flow_key *key,
				     const struct haul_flow_value *value,
				     struct flows_delta *ret_delta)
{
	return note(past, print_of(past, table, key, value), value, ret_delta, true);
}
