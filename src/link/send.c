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
#include "link/checksum.h"

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
		uint32_t offered = left < link->tx_offer_max ? left : link->tx_offer_max;
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

int send_checksum(struct haul_link *link, const struct haul_frames *frames, uint32_t row,
		  uint16_t *ret_checksum)
{
	uint32_t start = frames->csum_start[row], field = start + frames->csum_offset[row];
	uint32_t len = frames->len[row];
	HAUL_ASSERT((frames->flags[row] & HAUL_FRAME_CSUM_PARTIAL) != 0);
	if (field + 2 > len)
		return -EINVAL;
	/* The field is summed too: it holds the pseudo-header. */
	uint64_t sum = checksum_add(frames->data[row] + start, len - start, 0);
	if (((len - start) & 1) != 0)
		sum = checksum_add_odd(frames->tail[row], frames->tail_len[row], sum);
	else
		sum = checksum_add(frames->tail[row], frames->tail_len[row], sum);
	uint16_t checksum = (uint16_t)~checksum_fold(sum);
	/* zero would mean "no checksum" to UDP; to TCP the two are one */
	*ret_checksum = checksum != 0 ? checksum : UINT16_MAX;
	haul_stats_count(&link->tx_stats, LINK_TX_CSUM_COMPLETED, 1);
	return 0;
}
