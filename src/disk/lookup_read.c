/* What has to come from the disk. The keys of a batch are planned together: sorted, merged over
 * gaps that cost less than another read, cut at HAUL_DISK_SPLIT and at segments' ends. A value is
 * never cut: it lies in one buffer, whole, and is handed out from there.
 *
 * A merged read that fails is read again value by value, into the same places, so that only what
 * cannot be read is lost. */
#include <errno.h>

#include "base/assert.h"
#include "disk/lookup_state.h"

/* ---- where entries lie ---- */

static uint64_t entry_offset(const struct shard *shard, const struct index_entry *entry)
{
	return segment_offset(shard, entry->segment) + (uint64_t)entry->unit * FORMAT_UNIT;
}

/* The whole blocks of it. */
static struct haul_extent entry_extent(const struct shard *shard, const struct index_entry *entry)
{
	uint64_t offset = entry_offset(shard, entry);
	uint64_t first = offset / FORMAT_BLOCK * FORMAT_BLOCK;
	uint64_t end = (offset + entry->bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK * FORMAT_BLOCK;
	return (struct haul_extent){ .offset = first, .bytes = end - first };
}

uint64_t read_cost(const struct index_entry *entry)
{
	uint64_t inside = (uint64_t)entry->unit * FORMAT_UNIT % FORMAT_BLOCK;
	uint64_t bytes = inside + entry->bytes, cost = FORMAT_BLOCK;
	while (cost < bytes)
		cost *= 2;
	return cost;
}

/* ---- finished ---- */

/* The disk, or what is on it, let us down: the entry goes. */
static void item_drop(struct lookups *lookups, const struct lookup_item *item)
{
	struct shard *shard = lookups->shard;
	const struct index_entry *entry = &item->entry;
	struct index_slot *slot = index_find(&shard->index, entry->hash);
	if (slot != NULL && index_is_at(slot, entry->segment, entry->unit)) {
		shard_forget(shard, slot);
		shard->hides = true;
	}
	struct segment *segment = &shard->segments[entry->segment];
	if (segment->errors < UINT16_MAX)
		segment->errors++;
	/* While batches of it are on their way, or reclaim is at it, it is left to them. */
	if (segment->errors >= SEGMENT_ERRORS_MAX && segment->state == SEGMENT_SEALED &&
	    segment->chunks == NULL)
		segment_quarantine(shard, entry->segment, segment->append);
}

static void item_keep(struct lookups *lookups, const struct lookup_item *item,
		      const struct shard_value *value)
{
	struct shard *shard = lookups->shard;
	const struct index_entry *entry = &item->entry;
	if (shard->ram.bytes_max == 0 || entry->freq == 0 || item->get->peek)
		return;
	const struct index_slot *slot = index_find(&shard->index, entry->hash);
	if (slot == NULL || !index_is_at(slot, entry->segment, entry->unit))
		return; /* overwritten meanwhile */
	struct ram_value ram = { .data = value->data,
				 .bytes = value->bytes,
				 .flags = value->flags,
				 .expiry = value->expiry,
				 .head = value->head };
	ram_put(&shard->ram, entry->hash, &ram);
}

static bool item_verifies(const struct lookup_item *item, const uint8_t *stored)
{
	const struct cache_key *key = &item->get->keys[item->key];
	uint64_t checksum = cache_key_checksum(key, stored, item->entry.bytes);
	return (uint32_t)checksum == item->entry.check;
}

static void item_take(struct lookups *lookups, const struct lookup_item *item,
		      struct transfer *transfer)
{
	struct shard_value *value = &item->get->values[item->key];
	const uint8_t *stored =
		transfer->data + (entry_offset(lookups->shard, &item->entry) - transfer->offset);
	int rc = HAUL_ECORRUPT;
	if (item_verifies(item, stored))
		rc = buffer_value(lookups, &item->entry, stored, transfer->data, value);
	if (rc == -EAGAIN) {
		lookup_cut(item->get, item->key);
		return;
	}
	if (rc < 0) {
		value->status = HAUL_CACHE_CORRUPT;
		item_drop(lookups, item);
		return;
	}
	value->status = HAUL_CACHE_HIT;
	lookup_count(lookups, LOOKUP_HITS_DISK, 1);
	item_keep(lookups, item, value);
}

static void item_end(struct lookups *lookups, struct lookup_item *item, struct transfer *transfer,
		     int error)
{
	struct shard_get *get = item->get;
	lookups->shard->stat.read_keys++;
	if (error == 0) {
		item_take(lookups, item, transfer);
	} else {
		get->values[item->key].status = HAUL_CACHE_FAILED;
		if (error != -ENODEV && error != -ENXIO)
			item_drop(lookups, item);
	}
	item->next = lookups->item_free;
	lookups->item_free = item;
	lookup_key_done(lookups, get);
}

static void transfer_free(struct transfer *transfer)
{
	struct lookups *lookups = transfer->lookups;
	buffer_release(lookups, transfer->data);
	transfer->data = NULL;
	transfer->next = lookups->transfer_free;
	lookups->transfer_free = transfer;
}

static void transfer_end(struct transfer *transfer)
{
	struct lookups *lookups = transfer->lookups;
	struct segment *segment = &lookups->shard->segments[transfer->segment];
	HAUL_ASSERT(segment->readers > 0 && lookups->in_flight > 0);
	segment->readers--;
	lookups->in_flight--;
	transfer_free(transfer);
}

/* ---- one by one ---- */

static void transfer_push(struct transfer *transfer, uint64_t offset, uint32_t bytes);

/* Read the first of items again, by itself. */
static void transfer_retry(struct transfer *transfer)
{
	const struct lookup_item *item = transfer->items;
	struct haul_extent extent = entry_extent(transfer->lookups->shard, &item->entry);
	transfer->single = true;
	transfer->error = 0;
	lookup_count(transfer->lookups, LOOKUP_RETRIED, 1);
	transfer_push(transfer, extent.offset, (uint32_t)extent.bytes);
}

/* The one that was read by itself, and all that lie at the same place. */
static void transfer_end_single(struct transfer *transfer)
{
	struct lookup_item *item = transfer->items;
	uint32_t unit = item->entry.unit;
	while (item != NULL && item->entry.unit == unit) {
		transfer->items = item->next;
		item_end(transfer->lookups, item, transfer, transfer->error);
		item = transfer->items;
	}
	if (item != NULL)
		transfer_retry(transfer);
	else
		transfer_end(transfer);
}

static void transfer_end_all(struct transfer *transfer)
{
	while (transfer->items != NULL) {
		struct lookup_item *item = transfer->items;
		transfer->items = item->next;
		item_end(transfer->lookups, item, transfer, transfer->error);
	}
	transfer_end(transfer);
}

static void transfer_done(struct io_op *op)
{
	struct transfer *transfer = op->owner;
	HAUL_ASSERT(transfer->pending > 0);
	if (op->result < 0 && transfer->error == 0)
		transfer->error = op->result;
	if (--transfer->pending > 0)
		return;
	bool alone = transfer->items->entry.unit == transfer->last->entry.unit;
	if (transfer->single)
		transfer_end_single(transfer);
	else if (transfer->error != 0 && !alone && !transfer->lookups->shard->offline)
		transfer_retry(transfer);
	else
		transfer_end_all(transfer);
}

/* ---- started ---- */

static void transfer_push(struct transfer *transfer, uint64_t offset, uint32_t bytes)
{
	struct shard *shard = transfer->lookups->shard;
	HAUL_ASSERT(transfer->pending == 0 && offset >= transfer->offset);
	uint8_t *data = transfer->data + (offset - transfer->offset);
	uint32_t count = (bytes + HAUL_DISK_SPLIT - 1) / HAUL_DISK_SPLIT;
	HAUL_ASSERT(count >= 1 && count <= TRANSFER_OPS);
	transfer->pending = count;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t skip = i * HAUL_DISK_SPLIT, left = bytes - skip;
		struct io_op *op = &transfer->ops[i];
		*op = (struct io_op){ .kind = IO_READ, .done = transfer_done, .owner = transfer };
		op->offset = offset + skip;
		op->bytes = left < HAUL_DISK_SPLIT ? left : HAUL_DISK_SPLIT;
		op->data = data + skip;
		queue_put(&shard->queue, op, QUEUE_READ);
	}
	shard->stat.read_ops += count;
	shard->stat.read_bytes += bytes;
	lookup_count(transfer->lookups, LOOKUP_TRANSFERS, count);
}

static void transfer_start(struct transfer *transfer)
{
	struct lookups *lookups = transfer->lookups;
	lookups->shard->segments[transfer->segment].readers++;
	lookups->in_flight++;
	transfer_push(transfer, transfer->offset, transfer->bytes);
}

/* ---- planned ---- */

static void item_put_back(struct lookups *lookups, struct lookup_item *item)
{
	lookup_cut(item->get, item->key);
	HAUL_ASSERT(item->get->pending > 0);
	item->get->pending--;
	item->next = lookups->item_free;
	lookups->item_free = item;
}

/* A transfer of items of the batch, order[first] … order[first + count - 1]; NULL = no room. */
static struct transfer *transfer_make(struct lookups *lookups, uint32_t first, uint32_t count,
				      struct haul_extent extent)
{
	struct transfer *transfer = lookups->transfer_free;
	uint8_t *data = transfer ? buffer_take(lookups, extent.bytes) : NULL;
	if (data == NULL)
		return NULL;
	lookups->transfer_free = transfer->next;
	transfer->next = NULL;
	transfer->data = data;
	transfer->offset = extent.offset;
	transfer->bytes = (uint32_t)extent.bytes;
	transfer->single = false;
	transfer->error = 0;
	struct lookup_item **end = &transfer->items;
	for (uint32_t i = first; i < first + count; i++) {
		struct lookup_item *item = lookups->batch[lookups->order[i]];
		item->next = NULL;
		*end = item;
		end = &item->next;
		transfer->last = item;
	}
	transfer->segment = transfer->items->entry.segment;
	return transfer;
}

/* Chain a transfer to what is planned; where there is no room for it as a whole, one for each of
 * its items. */
static void piece_plan(struct lookups *lookups, uint32_t first, uint32_t count,
		       struct haul_extent extent)
{
	struct transfer *transfer = transfer_make(lookups, first, count, extent);
	if (transfer != NULL) {
		*lookups->planned_end = transfer;
		lookups->planned_end = &transfer->next;
		return;
	}
	for (uint32_t i = first; i < first + count; i++) {
		struct lookup_item *item = lookups->batch[lookups->order[i]];
		extent = entry_extent(lookups->shard, &item->entry);
		transfer = transfer_make(lookups, i, 1, extent);
		if (transfer == NULL) {
			item_put_back(lookups, item);
			continue;
		}
		*lookups->planned_end = transfer;
		lookups->planned_end = &transfer->next;
	}
}

/* Cut a run of the plan where it becomes too long, and at segments' ends. */
static void run_plan(struct lookups *lookups, const struct haul_transfer *run)
{
	uint32_t first = run->first, end = run->first + run->count;
	while (first < end) {
		uint32_t index = lookups->order[first], last = first + 1;
		struct haul_extent piece = lookups->extents[index];
		uint32_t segment = lookups->batch[index]->entry.segment;
		uint64_t gaps = 0;
		for (; last < end; last++) {
			index = lookups->order[last];
			const struct haul_extent *next = &lookups->extents[index];
			uint64_t reach = next->offset + next->bytes,
				 to = piece.offset + piece.bytes;
			if (lookups->batch[index]->entry.segment != segment)
				break;
			if (reach > to && reach - piece.offset > HAUL_DISK_SPLIT)
				break;
			gaps += next->offset > to ? next->offset - to : 0;
			piece.bytes = (reach > to ? reach : to) - piece.offset;
		}
		piece_plan(lookups, first, last - first, piece);
		lookups->shard->stat.read_gap_bytes += gaps;
		lookup_count(lookups, LOOKUP_GAP_BYTES, gaps);
		lookup_count(lookups, LOOKUP_MERGED, last - first - 1);
		first = last;
	}
}

/* Items whose keys are behind the (cut) end of their window are not read now. */
static bool transfer_trim(struct transfer *transfer)
{
	struct lookup_item **link = &transfer->items;
	transfer->last = NULL;
	while (*link != NULL) {
		struct lookup_item *item = *link;
		if (item->key >= item->get->first + item->get->ready) {
			*link = item->next;
			item_put_back(transfer->lookups, item);
			continue;
		}
		transfer->last = item;
		link = &item->next;
	}
	return transfer->items != NULL;
}

static void batch_plan(struct lookups *lookups)
{
	struct shard *shard = lookups->shard;
	uint32_t count = lookups->batch_count;
	for (uint32_t i = 0; i < count; i++)
		lookups->extents[i] = entry_extent(shard, &lookups->batch[i]->entry);
	uint64_t gap = haul_disk_model_gap(&shard->model);
	struct haul_plan_limits limits = { .gap_max = gap < HAUL_DISK_GAP_MAX ? gap
									      : HAUL_DISK_GAP_MAX,
					   .bytes_max = UINT64_C(1) << 62,
					   .align = FORMAT_BLOCK };
	struct haul_plan plan = { .order = lookups->order,
				  .transfers = lookups->runs,
				  .transfers_max = ITEMS_MAX };
	int rc = haul_plan_reads(lookups->extents, count, &limits, &plan);
	HAUL_ASSERT(rc >= 0 && plan.transfer_count >= 1);
	for (uint32_t i = 0; i < plan.transfer_count; i++)
		run_plan(lookups, &lookups->runs[i]);
}

void read_start(struct lookups *lookups)
{
	if (lookups->batch_count == 0)
		return;
	HAUL_ASSERT(lookups->planned == NULL);
	lookups->planned_end = &lookups->planned;
	batch_plan(lookups);
	uint64_t bytes = 0;
	while (lookups->planned != NULL) {
		struct transfer *transfer = lookups->planned;
		lookups->planned = transfer->next;
		transfer->next = NULL;
		if (!transfer_trim(transfer)) {
			transfer_free(transfer);
			continue;
		}
		bytes += transfer->bytes;
		transfer_start(transfer);
	}
	struct haul_stats_batch batch = { .ops = lookups->batch_count,
					  .bytes = bytes,
					  .reason = HAUL_CLOSE_IDLE,
					  .wait_ns = -1,
					  .service_ns = -1 };
	haul_stats_batch(&lookups->shard->read_stats, &batch);
	queue_pump(&lookups->shard->queue);
}
