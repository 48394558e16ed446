/* haul_disk_read_batch.
 *
 * Isolation  A merged read that fails says nothing of the single requests in it: those are read
 *            again, each by itself, so that only those fail that lie on bad sectors. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "disk/disk_state.h"

static const uint32_t ALL = UINT32_MAX;

/* What bounce holds goes to the request, as far as the two meet. */
static void copy_out(const struct slot *slot, const struct haul_disk_request *request)
{
	uint64_t begin = slot->begin > request->offset ? slot->begin : request->offset;
	uint64_t end = request->offset + request->bytes;
	end = slot->end < end ? slot->end : end;
	if (begin < end)
		memcpy((uint8_t *)request->data + (begin - request->offset),
		       slot->bounce + (begin - slot->begin), end - begin);
}

static void read_finish(struct slot *slot, int error)
{
	struct haul_disk *disk = slot->disk;
	struct haul_transfer *transfer = &disk->plan.transfers[slot->transfer];
	if (slot->only != ALL) {
		struct haul_disk_request *request = &disk->requests[disk->plan.order[slot->only]];
		if (error < 0 && request->status == 0)
			request->status = error;
		else if (error == 0 && slot->bounce != NULL)
			copy_out(slot, request);
	} else if (error < 0) {
		transfer_fail(transfer, error);
	} else if (slot->bounce != NULL) {
		for (uint32_t i = 0; i < transfer->count; i++)
			copy_out(slot, &disk->requests[disk->plan.order[transfer->first + i]]);
	}
	slot_free(slot);
}

static void read_done(struct io_op *op)
{
	read_finish(op->owner, op->result < 0 ? op->result : 0);
}

/* Where in the request's memory begin … end can be read to directly; NULL = nowhere. */
static uint8_t *direct_to(const struct haul_disk *disk, const struct haul_disk_request *request,
			  uint64_t begin, uint64_t end)
{
	if (begin < request->offset || end > request->offset + request->bytes)
		return NULL;
	uint8_t *data = (uint8_t *)request->data + (begin - request->offset);
	return (uintptr_t)data % disk->file.align_memory == 0 ? data : NULL;
}

/* Read begin … end, which is part of the transfer: for all in it, or only one. */
static void read_start(struct haul_disk *disk, uint32_t transfer, uint32_t only, uint64_t begin,
		       uint64_t end)
{
	const struct haul_transfer *planned = &disk->plan.transfers[transfer];
	uint8_t *data = NULL;
	if (only != ALL || planned->count == 1) {
		uint32_t place = only != ALL ? only : planned->first;
		data = direct_to(disk, &disk->requests[disk->plan.order[place]], begin, end);
	}
	HAUL_ASSERT(begin < end && end - begin <= disk->split);
	struct slot *slot = slot_take(disk, data == NULL);
	slot->transfer = transfer;
	slot->only = only;
	slot->begin = begin;
	slot->end = end;
	if (data == NULL) {
		data = slot->bounce;
		haul_stats_count(&disk->reads, DISK_BOUNCED, 1);
	}
	int64_t left = disk_tail(disk, begin, data, end - begin);
	slot->op.done = read_done;
	if (left > 0)
		slot_start(slot, IO_READ, begin, data, (uint32_t)left);
	else
		read_finish(slot, (int)left);
}

/* Each request of a failed transfer by itself. */
static void read_isolated(struct haul_disk *disk, uint32_t index)
{
	const struct haul_transfer *transfer = &disk->plan.transfers[index];
	uint64_t mask = disk->block - 1;
	haul_stats_count(&disk->reads, DISK_ISOLATED, 1);
	for (uint32_t i = 0; i < transfer->count; i++) {
		uint32_t place = transfer->first + i;
		const struct haul_disk_request *request = &disk->requests[disk->plan.order[place]];
		uint64_t begin = request->offset & ~mask;
		uint64_t end = (request->offset + request->bytes + mask) & ~mask;
		if (begin < transfer->offset)
			begin = transfer->offset;
		if (end > transfer->offset + transfer->bytes)
			end = transfer->offset + transfer->bytes;
		if (begin < end)
			read_start(disk, index, place, begin, end);
	}
}

static void read_round(struct haul_disk *disk, uint32_t count)
{
	const struct haul_plan_limits limits = { .gap_max = disk->gap_max,
						 .bytes_max = disk->split,
						 .align = disk->block };
	struct haul_plan *plan = &disk->plan;
	int error = haul_plan_reads(disk->extents, count, &limits, plan);
	HAUL_ASSERT(error == 0);
	for (uint32_t i = 0; i < plan->transfer_count; i++) {
		const struct haul_transfer *transfer = &plan->transfers[i];
		haul_stats_count(&disk->reads, DISK_GAP_BYTES, transfer->gap_bytes);
		read_start(disk, i, ALL, transfer->offset, transfer->offset + transfer->bytes);
	}
	disk_drain(disk);
	for (uint32_t i = 0; i < plan->transfer_count; i++) {
		const struct haul_transfer *transfer = &plan->transfers[i];
		error = transfer_error(transfer);
		if (error == 0)
			continue;
		struct haul_disk_request *request = &disk->requests[plan->order[transfer->first]];
		if (transfer->count > 1)
			read_isolated(disk, i);
		else if (request->status == 0)
			request->status = error;
	}
	disk_drain(disk);
}

int haul_disk_read_batch(struct haul_disk *disk, struct haul_disk_request *requests, uint32_t count)
{
	HAUL_ASSERT(count <= HAUL_DISK_BATCH_MAX);
	uint64_t syscalls = disk->io->syscalls, bytes = 0;
	int64_t start_ns = disk->os->now_ns(disk->os);
	int good = 0;
	for (uint32_t first = 0, taken = 0; first < count; first += taken) {
		taken = round_take(disk, requests + first, count - first, false);
		read_round(disk, taken);
	}
	for (uint32_t i = 0; i < count; i++) {
		good += requests[i].status == 0;
		bytes += requests[i].status == 0 ? requests[i].bytes : 0;
	}
	haul_stats_count(&disk->reads, DISK_FAILED, count - (uint32_t)good);
	if (count > 0)
		haul_stats_batch(&disk->reads,
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
