#include "node/upstream_rank.h"

#include "base/assert.h"

uint32_t rank_distance(const struct candidate *candidate)
{
	return candidate->heartbeat.hops + 1U;
}

uint32_t rank_reception_percent(uint32_t history, const struct candidate *candidate)
{
	const uint32_t expected = candidate->expected < history ? candidate->expected : history;

	HAUL_ASSERT(expected >= 1 && expected <= UPSTREAM_HISTORY_MAX);
	const uint32_t mask = (uint32_t)((UINT64_C(1) << expected) - 1);
	const uint32_t heard = (uint32_t)__builtin_popcount(candidate->heard & mask);
	HAUL_ASSERT(heard <= expected);
	return 100 * heard / expected;
}

bool rank_before(uint32_t history, const struct candidate *a, const struct candidate *b)
{
	const uint32_t of_a = rank_reception_percent(history, a);
	const uint32_t of_b = rank_reception_percent(history, b);
	const bool good = of_a >= RANK_GOOD_PERCENT;

	if (good != (of_b >= RANK_GOOD_PERCENT))
		return good;
	if (good && rank_distance(a) != rank_distance(b))
		return rank_distance(a) < rank_distance(b);
	if (of_a != of_b)
		return of_a > of_b;
	return rank_distance(a) < rank_distance(b);
}

bool rank_takes_over(uint32_t history, const struct candidate *rival, const struct candidate *used)
{
	const uint32_t of_rival = rank_reception_percent(history, rival);
	const uint32_t of_used = rank_reception_percent(history, used);

	if (rank_distance(rival) < rank_distance(used) && of_rival >= RANK_GOOD_PERCENT &&
	    of_rival + RANK_MARGIN_PERCENT > of_used)
		return true;
	return of_rival >= of_used + RANK_MARGIN_PERCENT &&
	       (rank_distance(rival) <= rank_distance(used) || of_used < RANK_GOOD_PERCENT);
}

bool rank_confirm(struct rival *rival, uint64_t who, uint32_t id)
{
	if (rival->who != who || id - rival->id > 1)
		rival->streak = 1;
	else if (id != rival->id)
		rival->streak++;
	rival->who = who;
	rival->id = id;
	HAUL_ASSERT(rival->streak >= 1);
	return rival->streak >= RANK_STREAK_MIN;
}
