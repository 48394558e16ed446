/* link/send.c — see send.h.
 *
 * Promise: every row is carried once or has a negative status, and rows with -EAGAIN or -ENOBUFS
 * are always the last ones in the order of the groups.
 * How: one cursor that only moves forward. It passes a row once the send function has answered for
 * exactly that row; "full" fills the rest with its code and ends the walk.
 * Why it ends: each turn moves the cursor or uses up one of the retries. */
#include "link/send.h"

#include <errno.h>

#include "base/assert.h"

/* The queue is full or the way out is gone: the next frame would fare no better. */
static bool is_over(int code)
{
	return code == -EAGAIN || code == -ENOBUFS || code == -ENETDOWN || code == -ENODEV;
}

static void count_failures(struct haul_link *link, int code, uint32_t rows)
{
	enum link_tx_counter counter = LINK_TX_FAILED;
	if (code == -EAGAIN || code == -ENOBUFS)
		counter = LINK_TX_EAGAIN;
	haul_stats_count(&link->tx_stats, counter, rows);
}

int send_all(struct haul_link *link, struct haul_send_batch *batch, send_fn *send, void *ctx)
{
	uint32_t count = batch->frames.count;
	uint32_t pos = 0, sent = 0, retries = 0;

	HAUL_ASSERT(batch->grouped == count);
	while (pos < count) {
		uint32_t left = count - pos;
		uint32_t offered = left < link->burst_max ? left : link->burst_max;
		int got = send(ctx, pos, offered);
		HAUL_ASSERT(got != 0 && got <= (int)offered);
		if (got == -ENOBUFS && retries < LINK_ENOBUFS_RETRIES) {
			haul_stats_count(&link->tx_stats, LINK_TX_ENOBUFS, 1);
			retries++;
			continue;
		}
		retries = 0;
		uint32_t answered = got > 0 ? (uint32_t)got : is_over(got) ? left : 1;
		for (uint32_t i = pos; i < pos + answered; i++)
			batch->frames.status[batch->order[i]] = got > 0 ? 0 : got;
		if (got > 0)
			sent += answered;
		else
			count_failures(link, got, answered);
		pos += answered;
	}
	HAUL_ASSERT(pos == count && sent <= count);
	return (int)sent;
}
