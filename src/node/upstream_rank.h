/* node/upstream_rank.h — which of two ways to an RSU is better, and is it better by enough?
 *
 * Model      Quality is the share of the last history heartbeats that came by a way. Good ways
 *            (half or more) compare by hops, then quality; others by quality, then hops. What is in
 *            use is left only for what is better by hops or by a clear margin of quality, two
 *            heartbeats on end. Who has been better once stays the rival while it is better: of
 *            two that take turns in being best neither would ever last.
 * Units      hops in radio hops to the RSU.
 * Threads    pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/upstream.h"

enum {
	RANK_GOOD_PERCENT = 50,
	RANK_MARGIN_PERCENT = 30,
	RANK_STREAK_MIN = 2 /* heartbeats on end */
};

uint32_t rank_distance(const struct candidate *candidate);
/* 0 … 100 */
uint32_t rank_reception_percent(uint32_t history, const struct candidate *candidate);
/* The order of preference, without regard to what is in use. */
bool rank_before(uint32_t history, const struct candidate *a, const struct candidate *b);
/* Is the rival enough better than what is in use? Never true both ways round. */
bool rank_takes_over(uint32_t history, const struct candidate *rival, const struct candidate *used);
/* The rival was better at heartbeat id; true when it has been so for long enough. */
bool rank_confirm(struct rival *rival, uint64_t who, uint32_t id);
