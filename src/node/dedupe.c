/* node/dedupe.c — a window of marks that slides over each origin's sequence numbers.
 *
 * Promise: of any two messages with one origin and sequence at most one is fresh while the origin
 * keeps its row and is not silent; a message at most DEDUPE_WINDOW - 1 behind the newest is not
 * refused for being late.
 * How: marks lie in a ring of words. Sliding forward clears the words entered, whole: the ring has
 * one word more than the window, so a word cleared never holds a number still inside.
 * Why it holds: the numbers inside the window span at most DEDUPE_WINDOW / 64 + 1 words, which is
 * the ring, so no two of them share a mark. Comparisons are of plain 64-bit numbers, nothing
 * wraps. */
#include "node/dedupe.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "node/row_index.h"

enum { DEDUPE_WORDS = DEDUPE_WINDOW / 64 + 1 };

static_assert(DEDUPE_WINDOW % 64 == 0, "the window is whole words");

struct dedupe_origin {
	uint64_t origin;
	uint64_t newest;             /* highest sequence heard */
	int64_t fresh_ns;            /* when something fresh came last */
	uint32_t before;             /* towards the origin heard most recently */
	uint32_t after;              /* towards the longest silent origin */
	uint64_t seen[DEDUPE_WORDS]; /* bit = sequence % 64 of word sequence / 64 % DEDUPE_WORDS */
};

struct dedupe {
	struct row_index index; /* origin -> row */
	struct dedupe_origin *rows;
	uint32_t count;
	uint32_t capacity;
	uint32_t recent; /* ends of the list by last fresh message */
	uint32_t silent;
};

int dedupe_open(uint32_t origins, struct dedupe **ret_dedupe)
{
	HAUL_ASSERT(origins >= 1 && origins <= DEDUPE_ORIGINS_MAX);
	struct dedupe *dedupe = calloc(1, sizeof *dedupe);
	if (dedupe == NULL)
		return -ENOMEM;
	/* An address is as good a secret as the address space is random; what is answered does not
	 * depend on it. */
	int rc = row_index_init(&dedupe->index, origins, (uintptr_t)dedupe);
	dedupe->rows = calloc(origins, sizeof *dedupe->rows);
	if (rc == 0 && dedupe->rows == NULL)
		rc = -ENOMEM;
	if (rc < 0) {
		dedupe_close(dedupe);
		return rc;
	}
	dedupe->capacity = origins;
	dedupe->recent = ROW_INDEX_NONE;
	dedupe->silent = ROW_INDEX_NONE;
	*ret_dedupe = dedupe;
	return 0;
}

void dedupe_close(struct dedupe *dedupe)
{
	if (dedupe == NULL)
		return;
	row_index_done(&dedupe->index);
	free(dedupe->rows);
	free(dedupe);
}

static void list_take_out(struct dedupe *dedupe, uint32_t row)
{
	const uint32_t before = dedupe->rows[row].before;
	const uint32_t after = dedupe->rows[row].after;

	if (before != ROW_INDEX_NONE)
		dedupe->rows[before].after = after;
	else
		dedupe->recent = after;
	if (after != ROW_INDEX_NONE)
		dedupe->rows[after].before = before;
	else
		dedupe->silent = before;
}

static void list_put_first(struct dedupe *dedupe, uint32_t row)
{
	const uint32_t second = dedupe->recent;

	dedupe->rows[row].before = ROW_INDEX_NONE;
	dedupe->rows[row].after = second;
	if (second != ROW_INDEX_NONE)
		dedupe->rows[second].before = row;
	else
		dedupe->silent = row;
	dedupe->recent = row;
}

static void mark(struct dedupe_origin *row, uint64_t sequence)
{
	row->seen[sequence / 64 % DEDUPE_WORDS] |= UINT64_C(1) << sequence % 64;
}

static void window_start(struct dedupe_origin *row, uint64_t sequence)
{
	memset(row->seen, 0, sizeof row->seen);
	row->newest = sequence;
	mark(row, sequence);
}

static void window_slide(struct dedupe_origin *row, uint64_t sequence)
{
	const uint64_t word = sequence / 64;
	uint64_t entered = row->newest / 64;

	HAUL_ASSERT(sequence > row->newest);
	if (word - entered >= DEDUPE_WORDS) {
		window_start(row, sequence);
		return;
	}
	while (entered < word)
		row->seen[++entered % DEDUPE_WORDS] = 0;
	row->newest = sequence;
	mark(row, sequence);
}

/* A row for an origin heard for the first time, at the expense of the longest silent one. */
static uint32_t row_new(struct dedupe *dedupe, uint64_t origin)
{
	uint32_t row = dedupe->count;

	if (row < dedupe->capacity) {
		dedupe->count++;
	} else {
		row = dedupe->silent;
		HAUL_ASSERT(row != ROW_INDEX_NONE);
		list_take_out(dedupe, row);
		row_index_remove(&dedupe->index, dedupe->rows[row].origin);
	}
	dedupe->rows[row].origin = origin;
	row_index_put(&dedupe->index, origin, row);
	list_put_first(dedupe, row);
	return row;
}

static uint8_t check_known(struct dedupe_origin *row, uint64_t sequence, int64_t now_ns)
{
	if (sequence > row->newest) {
		window_slide(row, sequence);
		return 1;
	}
	if (row->newest - sequence >= DEDUPE_WINDOW) {
		if (now_ns - row->fresh_ns < DEDUPE_SILENCE_NS)
			return 0;
		window_start(row, sequence);
		return 1;
	}
	if ((row->seen[sequence / 64 % DEDUPE_WORDS] >> sequence % 64 & 1) != 0)
		return 0;
	mark(row, sequence);
	return 1;
}

uint32_t dedupe_check(struct dedupe *dedupe, const struct dedupe_batch *batch, int64_t now_ns,
		      uint8_t *ret_fresh)
{
	uint32_t row = ROW_INDEX_NONE;
	uint32_t fresh_count = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		ret_fresh[i] = 0;
		if (batch->origin[i] == 0)
			continue;
		/* Bursts come from few origins: most rows are the one of the message before. */
		if (row == ROW_INDEX_NONE || dedupe->rows[row].origin != batch->origin[i])
			row = row_index_find(&dedupe->index, batch->origin[i]);
		if (row == ROW_INDEX_NONE) {
			row = row_new(dedupe, batch->origin[i]);
			window_start(&dedupe->rows[row], batch->sequence[i]);
			ret_fresh[i] = 1;
		} else {
			ret_fresh[i] = check_known(&dedupe->rows[row], batch->sequence[i], now_ns);
		}
		if (ret_fresh[i] == 0)
			continue;
		fresh_count++;
		dedupe->rows[row].fresh_ns = now_ns;
		if (dedupe->recent != row) {
			list_take_out(dedupe, row);
			list_put_first(dedupe, row);
		}
	}
	HAUL_ASSERT(fresh_count <= batch->count);
	return fresh_count;
}
