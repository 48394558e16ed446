/* bpf/progs/map_figures.h — the arithmetic of an aggregate, one number at a time.
 *
 * Model      figures: count, 128-bit sum, extremes and a histogram by powers of two. ranks: a heap
 *            of the N largest numbers, smallest on top; each has a place (0 … N-1) where its entry
 *            is kept, which the next larger one takes over.
 * Limits     HAUL_MAP_TOP_MAX ranks. Compiled for the kernel and for user space. */
#pragma once

#include <stdint.h>

#include "bpf/progs/map_test.h"

enum { MAP_HIST = 65, MAP_RANKS = 256 };

struct map_figures {
	uint64_t turn; /* in: 2^63 for signed numbers, else 0 */
	uint64_t count;
	uint64_t sum;
	uint64_t sum_high;
	uint64_t low; /* extremes, turned so that they compare as unsigned */
	uint64_t high;
	uint64_t hist[MAP_HIST];
};

struct map_ranks {
	uint32_t limit; /* in: N, <= MAP_RANKS */
	uint32_t count;
	uint64_t number[MAP_RANKS]; /* turned; a heap */
	uint32_t place[MAP_RANKS];
};

/* Bits that number takes: 0 for 0, 64 for 2^63 and above. BPF has no instruction for it, and one
 * branch a step would be guessed wrong too often: all bits below the highest are set, and counted
 * (in pairs, fours, eights, then all at once). */
MAP_INLINE uint32_t map_bits(uint64_t number)
{
	number |= number >> 1;
	number |= number >> 2;
	number |= number >> 4;
	number |= number >> 8;
	number |= number >> 16;
	number |= number >> 32;
	number -= number >> 1 & 0x5555555555555555;
	number = (number & 0x3333333333333333) + (number >> 2 & 0x3333333333333333);
	number = (number + (number >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return (uint32_t)(number * 0x0101010101010101 >> 56);
}

MAP_INLINE void map_figures_init(struct map_figures *figures, int is_signed)
{
	figures->turn = is_signed ? UINT64_C(1) << 63 : 0;
	figures->count = figures->sum = figures->sum_high = 0;
	figures->low = UINT64_MAX;
	figures->high = 0;
	for (uint32_t i = 0; i < MAP_HIST; i++)
		figures->hist[i] = 0;
}

MAP_INLINE void map_figures_add(struct map_figures *figures, uint64_t number)
{
	uint64_t turned = number ^ figures->turn;
	int below = figures->turn && turned < figures->turn;
	figures->count++;
	figures->sum += number;
	/* Carry out of the low half; a negative number has all ones in its high half. */
	figures->sum_high += (uint64_t)(figures->sum < number) - (uint64_t)below;
	if (turned < figures->low)
		figures->low = turned;
	if (turned > figures->high)
		figures->high = turned;
	uint32_t bits = below ? 0 : map_bits(number);
	if (bits < MAP_HIST)
		figures->hist[bits]++;
}

MAP_INLINE void map_ranks_swap(struct map_ranks *ranks, uint32_t a, uint32_t b)
{
	uint64_t number = ranks->number[a & (MAP_RANKS - 1)];
	uint32_t place = ranks->place[a & (MAP_RANKS - 1)];
	ranks->number[a & (MAP_RANKS - 1)] = ranks->number[b & (MAP_RANKS - 1)];
	ranks->place[a & (MAP_RANKS - 1)] = ranks->place[b & (MAP_RANKS - 1)];
	ranks->number[b & (MAP_RANKS - 1)] = number;
	ranks->place[b & (MAP_RANKS - 1)] = place;
}

/* Take number in if it is among the largest; returns the place for its entry, or -1. */
MAP_INLINE int64_t map_ranks_add(struct map_ranks *ranks, uint64_t turned)
{
	uint32_t at, place;
	if (ranks->count < ranks->limit && ranks->count < MAP_RANKS) {
		at = place = ranks->count++;
		ranks->number[at & (MAP_RANKS - 1)] = turned;
		ranks->place[at & (MAP_RANKS - 1)] = place;
		for (int level = 0; level < 8 && at > 0; level++) {
			uint32_t up = (at - 1) / 2;
			if (ranks->number[up & (MAP_RANKS - 1)] <= turned)
				break;
			map_ranks_swap(ranks, at, up);
			at = up;
		}
		return place;
	}
	if (ranks->limit == 0 || turned <= ranks->number[0])
		return -1;
	place = ranks->place[0];
	ranks->number[0] = turned;
	at = 0;
	for (int level = 0; level < 8; level++) {
		uint32_t down = 2 * at + 1;
		if (down >= ranks->count || down >= MAP_RANKS)
			break;
		if (down + 1 < ranks->count && ranks->number[(down + 1) & (MAP_RANKS - 1)] <
						       ranks->number[down & (MAP_RANKS - 1)])
			down++;
		if (ranks->number[down & (MAP_RANKS - 1)] >= turned)
			break;
		map_ranks_swap(ranks, at, down);
		at = down;
	}
	return place;
}
