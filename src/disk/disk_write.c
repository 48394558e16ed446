/* haul_disk_write_batch.
 *
 * Blocks     Requests become pieces that do not overlap, and the blocks which those touch become
 *            transfers: no block is in two of them, so that two requests in one block never undo
 *            each other. A transfer whose blocks are filled is written at once. Else what is not
 *            filled is read into the bounce buffer first: the first and the last block, or, if a
 *            block between them has a hole, all of it; then the pieces are laid over it. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "disk/disk_state.h"

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint8_t *piece_data(const struct haul_disk *disk, const struct haul_piece *piece,
			   uint64_t offset)
{
	HAUL_ASSERT(offset >= piece->offset && offset < piece->offset + piece->bytes);
	return (uint8_t *)disk->requests[piece->request].data + piece->request_skip +
	       (offset - piece->offset);
}

/* Where the transfer can be written from directly; NULL = nowhere. */
static uint8_t *direct_from(const struct haul_disk *disk, const struct haul_transfer *transfer)
{
	const struct haul_piece *piece = &disk->plan.pieces[transfer->first];
	if (transfer->count != 1 || piece->offset > transfer->offset ||
	    piece->offset + piece->bytes < transfer->offset + transfer->bytes)
		return NULL;
	uint8_t *data = piece_data(disk, piece, transfer->offset);
	return (uintptr_t)data % disk->file.align_memory == 0 ? data : NULL;
}

static void lay_over(struct slot *slot)
{
	struct haul_disk *disk = slot->disk;
	const struct haul_transfer *transfer = &disk->plan.transfers[slot->transfer];
	for (uint32_t i = 0; i < transfer->count; i++) {
		const struct haul_piece *piece = &disk->plan.pieces[transfer->first + i];
		uint64_t begin = most(piece->offset, slot->begin);
		uint64_t end = least(piece->offset + piece->bytes, slot->end);
		if (begin < end)
			memcpy(slot->bounce + (begin - slot->begin), piece_data(disk, piece, begin),
			       end - begin);
	}
}

/* Note what has to be read: every block that has a byte which no piece fills. */
static void note_hole(struct slot *slot, uint64_t begin, uint64_t end)
{
	uint64_t block = slot->disk->block;
	if (begin >= end)
		return;
	begin -= begin % block;
	end = (end + block - 1) / block * block;
	if (slot->reads > 0 && begin <= slot->read_end[slot->reads - 1]) {
		slot->read_end[slot->reads - 1] = most(slot->read_end[slot->reads - 1], end);
	} else if (slot->reads < 2) {
		slot->read_at[slot->reads] = begin;
		slot->read_end[slot->reads++] = end;
	} else {
		slot->read_end[1] = end; /* a third: the second reaches up to it */
	}
}

static void note_holes(struct slot *slot, const struct haul_transfer *transfer)
{
	const struct haul_disk *disk = slot->disk;
	uint64_t at = slot->begin;
	for (uint32_t i = 0; i < transfer->count; i++) {
		const struct haul_piece *piece = &disk->plan.pieces[transfer->first + i];
		note_hole(slot, at, least(piece->offset, slot->end));
		at = most(at, piece->offset + piece->bytes);
	}
	note_hole(slot, at, slot->end);
}

static void write_next(struct slot *slot);

static void write_finish(struct slot *slot, int error)
{
	struct haul_disk *disk = slot->disk;
	if (error < 0)
		transfer_fail(&disk->plan.transfers[slot->transfer], error);
	else
		disk->bytes_after = most(disk->bytes_after, slot->end);
	slot_free(slot);
}

static void write_done(struct io_op *op)
{
	struct slot *slot = op->owner;
	if (op->result < 0 || op->kind == IO_WRITE)
		write_finish(slot, op->result < 0 ? op->result : 0);
	else
		write_next(slot);
}

/* The next read, or the write. */
static void write_next(struct slot *slot)
{
	struct haul_disk *disk = slot->disk;
	while (slot->reads_done < slot->reads) {
		uint64_t at = slot->read_at[slot->reads_done];
		uint64_t bytes = slot->read_end[slot->reads_done++] - at;
		uint8_t *data = slot->bounce + (at - slot->begin);
		int64_t left = disk_tail(disk, at, data, bytes);
		if (left < 0) {
			write_finish(slot, (int)left);
			return;
		}
		if (left > 0) {
			slot_start(slot, IO_READ, at, data, (uint32_t)left);
			return;
		}
	}
	if (slot->bounce != NULL)
		lay_over(slot);
	uint8_t *data = slot->bounce != NULL
				? slot->bounce
				: direct_from(disk, &disk->plan.transfers[slot->transfer]);
	slot_start(slot, IO_WRITE, slot->begin, data, (uint32_t)(slot->end - slot->begin));
}

static void write_start(struct haul_disk *disk, uint32_t index)
{
	const struct haul_transfer *transfer = &disk->plan.transfers[index];
	bool bounce = direct_from(disk, transfer) == NULL;
	struct slot *slot = slot_take(disk, bounce);
	slot->transfer = index;
	slot->begin = transfer->offset;
	slot->end = transfer->offset + transfer->bytes;
	slot->op.done = write_done;
	if (bounce) {
		haul_stats_count(&disk->writes, DISK_BOUNCED, 1);
		note_holes(slot, transfer);
		haul_stats_count(&disk->writes, DISK_MODIFIED, slot->reads > 0);
	}
	write_next(slot);
}

/* Each request has the first error of a transfer that it has bytes in, also where a later request
 * would have covered them: neither is there. */
static void tell(struct haul_disk *disk, uint32_t count)
{
	const struct haul_plan *plan = &disk->plan;
	for (uint32_t i = 0; i < count; i++) {
		const struct haul_extent *extent = &disk->extents[i];
		uint32_t low = 0, high = plan->transfer_count;
		while (low < high) {
			uint32_t middle = low + (high - low) / 2;
			const struct haul_transfer *transfer = &plan->transfers[middle];
			if (transfer->offset + transfer->bytes > extent->offset)
				high = middle;
			else
				low = middle + 1;
		}
		for (; extent->bytes > 0 && disk->requests[i].status == 0 &&
		       low < plan->transfer_count &&
		       plan->transfers[low].offset < extent->offset + extent->bytes;
		     low++)
			disk->requests[i].status = transfer_error(&plan->transfers[low]);
	}
}

static void write_round(struct haul_disk *disk, uint32_t count)
{
	const struct haul_plan_limits limits = { .bytes_max = disk->split, .align = disk->block };
	struct haul_plan *plan = &disk->plan;
	int error = haul_plan_writes(disk->extents, count, &limits, plan);
	HAUL_ASSERT(error == 0);
	for (uint32_t i = 0; i < plan->piece_count; i++)
		disk->spans[i] =
			(struct haul_extent){ plan->pieces[i].offset, plan->pieces[i].bytes };
	error = haul_plan_reads(disk->spans, plan->piece_count, &limits, plan);
	HAUL_ASSERT(error == 0);
	disk->bytes_after = disk->file.bytes;
	for (uint32_t i = 0; i < plan->transfer_count; i++)
		write_start(disk, i);
	disk_drain(disk);
	disk->file.bytes = disk->bytes_after;
	tell(disk, count);
}

int haul_disk_write_batch(struct haul_disk *disk, struct haul_disk_request *requests,
			  uint32_t count, bool sync)
{
	HAUL_ASSERT(count <= HAUL_DISK_BATCH_MAX);
	uint64_t syscalls = disk->io->syscalls, bytes = 0;
	int64_t start_ns = disk->os->now_ns(disk->os);
	int good = 0, error = disk->write ? 0 : -EROFS;
	for (uint32_t first = 0, taken = 0; first < count && error == 0; first += taken) {
		taken = round_take(disk, requests + first, count - first, true);
		write_round(disk, taken);
	}
	if (error == 0 && sync)
		error = disk_sync(disk);
	for (uint32_t i = 0; i < count; i++) {
		if (error < 0 && (error == -EROFS || requests[i].status == 0))
			requests[i].status = error;
		good += requests[i].status == 0;
		bytes += requests[i].status == 0 ? requests[i].bytes : 0;
	}
	haul_stats_count(&disk->writes, DISK_FAILED, count - (uint32_t)good);
	if (count == 0)
		return error;
	haul_stats_batch(&disk->writes,
			 &(struct haul_stats_batch){
				 .ops = count,
				 .syscalls = (uint32_t)(disk->io->syscalls - syscalls),
				 .bytes = bytes,
				 .reason = HAUL_CLOSE_MANUAL,
				 .wait_ns = -1,
				 .service_ns = disk->os->now_ns(disk->os) - start_ns,
			 });
	return good;
}
