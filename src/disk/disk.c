/* haul_disk: opening, slots, and what reads and writes share. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <haul/disk.h>
#include "base/assert.h"
#include "disk/disk_state.h"

static const uint64_t OFFSET_LIMIT = UINT64_C(1) << 63;

static const struct haul_counter disk_counters[] = {
#define X(id, name, help) { name, help },
	DISK_COUNTER_LIST(X)
#undef X
};

/* ---- open and close ---- */

static int engine_of(const char *name, enum io_engine *ret_engine, struct haul_err *err)
{
	static const enum io_engine engines[] = { IO_AUTO, IO_URING, IO_THREADS };
	for (uint32_t i = 0; i < sizeof engines / sizeof *engines; i++) {
		if (name == NULL || strcmp(name, io_engine_name(engines[i])) == 0) {
			*ret_engine = engines[i];
			return 0;
		}
	}
	return haul_err_set(err, -EINVAL, "engine %s: there are auto, io_uring and threads", name);
}

static void disk_free(struct haul_disk *disk)
{
	if (disk->bounce != NULL)
		munmap(disk->bounce, disk->bounce_bytes);
	free(disk->plan.transfers);
	free(disk->plan.pieces);
	free(disk->plan.order);
	free(disk->spans);
	free(disk->extents);
	free(disk->bounce_free);
	free(disk->slots);
	free(disk);
}

/* Room for all transfers of a round: one a piece, and what is split or rounded out. */
static uint64_t transfers_max(const struct haul_disk *disk)
{
	return 6 * (uint64_t)ROUND + UINT32_MAX / disk->split + 16;
}

static int disk_alloc(struct haul_disk *disk)
{
	uint64_t buffers = BOUNCE_BYTES / disk->split;
	disk->slot_count = disk->queue.depth;
	HAUL_ASSERT(disk->slot_count >= 1);
	disk->bounce_count = buffers < disk->slot_count ? (uint32_t)buffers : disk->slot_count;
	if (disk->bounce_count == 0)
		disk->bounce_count = 1;
	disk->bounce_bytes = disk->bounce_count * disk->split;
	disk->plan.transfers_max = (uint32_t)transfers_max(disk);
	disk->plan.pieces_max = 2 * ROUND;
	disk->slots = calloc(disk->slot_count, sizeof *disk->slots);
	disk->bounce_free = calloc(disk->bounce_count, sizeof *disk->bounce_free);
	disk->extents = calloc(ROUND, sizeof *disk->extents);
	disk->spans = calloc(disk->plan.pieces_max, sizeof *disk->spans);
	disk->plan.order = calloc(disk->plan.pieces_max, sizeof *disk->plan.order);
	disk->plan.pieces = calloc(disk->plan.pieces_max, sizeof *disk->plan.pieces);
	disk->plan.transfers = calloc(disk->plan.transfers_max, sizeof *disk->plan.transfers);
	void *bounce = mmap(NULL, disk->bounce_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	disk->bounce = bounce == MAP_FAILED ? NULL : bounce;
	if (!disk->slots || !disk->bounce_free || !disk->extents || !disk->spans ||
	    !disk->plan.order || !disk->plan.pieces || !disk->plan.transfers || !disk->bounce)
		return -ENOMEM;
	for (uint32_t i = 0; i < disk->bounce_count; i++)
		disk->bounce_free[disk->bounce_left++] = disk->bounce + i * disk->split;
	for (uint32_t i = disk->slot_count; i-- > 0;) {
		disk->slots[i].disk = disk;
		disk->slots[i].next = disk->free;
		disk->free = &disk->slots[i];
	}
	return 0;
}

static int disk_enter(struct haul_disk *disk, struct haul_stats_table *table)
{
	haul_stats_init(&disk->reads, "disk.read", disk_counters, DISK_COUNTERS);
	haul_stats_init(&disk->writes, "disk.write", disk_counters, DISK_COUNTERS);
	if (table == NULL)
		return 0;
	int error = haul_stats_enter(table, &disk->reads);
	if (error < 0)
		return error;
	error = haul_stats_enter(table, &disk->writes);
	if (error < 0)
		haul_stats_remove(table, &disk->reads);
	else
		disk->table = table;
	return error;
}

/* file and io are set. */
static int disk_init(struct haul_disk *disk, const struct haul_disk_options *options,
		     struct haul_err *err)
{
	const struct file *file = &disk->file;
	uint64_t split = options->split > 0 ? options->split : HAUL_DISK_SPLIT;
	/* So that what starts at a block of a bounce buffer is aligned in memory, too. */
	disk->block =
		file->align_offset > file->align_memory ? file->align_offset : file->align_memory;
	disk->split = split / disk->block * disk->block;
	if (disk->split == 0 || disk->split > BOUNCE_BYTES)
		return haul_err_set(err, -EINVAL, "split at %llu bytes: allowed are %u to %u",
				    (unsigned long long)split, disk->block, (uint32_t)BOUNCE_BYTES);
	disk->os = os_linux();
	disk->write = options->write;
	disk->gap_max = options->gap_max > 0 ? options->gap_max : HAUL_DISK_GAP_MAX;
	queue_init(&disk->queue, disk->io, disk->os, options->depth, 0);
	int error = disk_alloc(disk);
	if (error == 0)
		error = disk_enter(disk, options->stats);
	if (error < 0)
		return haul_err_set(err, error, "set up a disk with %u operations at a time: %s",
				    disk->io->depth, haul_strerror(error));
	return 0;
}

int disk_open_over(struct haul_disk **ret_disk, const struct file *file, struct io *io,
		   const struct haul_disk_options *options, struct haul_err *err)
{
	struct haul_disk *disk = calloc(1, sizeof *disk);
	if (disk == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for a disk");
	disk->file = *file;
	disk->io = io;
	disk->borrowed = true;
	int error = disk_init(disk, options, err);
	if (error < 0)
		disk_free(disk);
	else
		*ret_disk = disk;
	return error;
}

int haul_disk_open(struct haul_disk **ret_disk, const char *path,
		   const struct haul_disk_options *options, struct haul_err *err)
{
	struct io_options io_options = {
		.depth = options->depth > 0 ? options->depth : DISK_DEPTH,
		.sync_add_ns = options->sync_add_ns,
	};
	int error = engine_of(options->engine, &io_options.engine, err);
	if (error < 0)
		return error;
	enum file_mode mode = !options->write   ? FILE_READ
			      : options->create ? FILE_CREATE
						: FILE_WRITE;
	struct haul_disk *disk = calloc(1, sizeof *disk);
	if (disk == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for a disk");
	error = file_open(&disk->file, path, mode, err);
	if (error < 0)
		goto free_disk;
	error = io_open(&disk->io, &disk->file, &io_options, err);
	if (error == 0)
		error = disk_init(disk, options, err);
	if (error < 0) {
		haul_err_wrap(err, error, "%s", path);
		goto close_io;
	}
	*ret_disk = disk;
	return 0;

close_io:
	io_close(disk->io);
	file_close(&disk->file);
free_disk:
	disk_free(disk);
	return error;
}

void haul_disk_close(struct haul_disk *disk)
{
	if (disk == NULL)
		return;
	HAUL_ASSERT(queue_idle(&disk->queue));
	if (disk->table != NULL) {
		haul_stats_remove(disk->table, &disk->reads);
		haul_stats_remove(disk->table, &disk->writes);
	}
	if (!disk->borrowed) {
		io_close(disk->io);
		file_close(&disk->file);
	}
	disk_free(disk);
}

uint64_t haul_disk_bytes(const struct haul_disk *disk)
{
	return disk->file.bytes;
}

/* ---- slots ---- */

static void disk_wait(struct haul_disk *disk)
{
	queue_pump(&disk->queue);
	if (queue_reap(&disk->queue) == 0)
		(void)io_wait(disk->io, -1);
}

struct slot *slot_take(struct haul_disk *disk, bool bounce)
{
	while (disk->free == NULL || (bounce && disk->bounce_left == 0))
		disk_wait(disk);
	struct slot *slot = disk->free;
	disk->free = slot->next;
	slot->next = NULL;
	slot->bounce = bounce ? disk->bounce_free[--disk->bounce_left] : NULL;
	slot->reads = slot->reads_done = 0;
	return slot;
}

void slot_free(struct slot *slot)
{
	struct haul_disk *disk = slot->disk;
	if (slot->bounce != NULL) {
		HAUL_ASSERT(disk->bounce_left < disk->bounce_count);
		disk->bounce_free[disk->bounce_left++] = slot->bounce;
	}
	slot->bounce = NULL;
	slot->next = disk->free;
	disk->free = slot;
}

void slot_start(struct slot *slot, enum io_kind kind, uint64_t offset, uint8_t *data,
		uint32_t bytes)
{
	struct haul_disk *disk = slot->disk;
	HAUL_ASSERT(offset % disk->block == 0 && bytes % disk->block == 0);
	slot->op.kind = kind;
	slot->op.offset = offset;
	slot->op.data = data;
	slot->op.bytes = bytes;
	slot->op.owner = slot;
	queue_put(&disk->queue, &slot->op, kind == IO_READ ? QUEUE_READ : QUEUE_FLUSH);
	haul_stats_count(kind == IO_READ ? &disk->reads : &disk->writes, DISK_TRANSFERS, 1);
}

void disk_wait_below(struct haul_disk *disk, const uint32_t *under_way, uint32_t depth)
{
	while (*under_way >= depth)
		disk_wait(disk);
}

void disk_drain(struct haul_disk *disk)
{
	while (!queue_idle(&disk->queue))
		disk_wait(disk);
	HAUL_ASSERT(disk->bounce_left == disk->bounce_count);
}

int64_t disk_tail(struct haul_disk *disk, uint64_t offset, uint8_t *data, uint64_t bytes)
{
	uint64_t end = disk->file.bytes, whole = end / disk->block * disk->block;
	if (offset + bytes <= whole)
		return (int64_t)bytes;
	uint64_t left = offset < whole ? whole - offset : 0;
	memset(data + left, 0, bytes - left);
	if (whole == end || offset > whole)
		return (int64_t)left;
	/* The odd end: less than a block, which no queue would call whole. */
	HAUL_ASSERT(offset + left == whole && disk->file.fd >= 0);
	ssize_t got = pread(disk->file.fd, data + left, disk->block, (off_t)whole);
	if (got < 0)
		return -errno;
	return (int64_t)left;
}

static void sync_done(struct io_op *op)
{
	struct slot *slot = op->owner;
	slot->disk->sync_result = op->result;
	slot_free(slot);
}

int disk_sync(struct haul_disk *disk)
{
	struct slot *slot = slot_take(disk, false);
	slot->op.done = sync_done;
	slot_start(slot, IO_SYNC, 0, NULL, 0);
	disk_drain(disk);
	haul_stats_count(&disk->writes, DISK_SYNCS, 1);
	return disk->sync_result;
}

/* ---- rounds ---- */

static int request_check(const struct haul_disk *disk, const struct haul_disk_request *request,
			 bool write)
{
	uint64_t end = request->offset + request->bytes;
	if (request->offset > OFFSET_LIMIT || end > OFFSET_LIMIT)
		return -EINVAL;
	if (request->bytes == 0 || end <= disk->file.bytes)
		return 0;
	if (!write)
		return HAUL_ESHORT;
	return disk->file.block_device || disk->file.fd < 0 ? -ENOSPC : 0;
}

uint32_t round_take(struct haul_disk *disk, struct haul_disk_request *requests, uint32_t count,
		    bool write)
{
	uint64_t bytes = 0;
	uint32_t taken = 0;
	disk->requests = requests;
	for (; taken < count && taken < ROUND; taken++) {
		struct haul_disk_request *request = &requests[taken];
		bytes += request->bytes;
		if (taken > 0 && bytes > UINT32_MAX)
			break;
		request->status = request_check(disk, request, write);
		disk->extents[taken] = (struct haul_extent){
			.offset = request->status == 0 ? request->offset : 0,
			.bytes = request->status == 0 ? request->bytes : 0,
		};
	}
	HAUL_ASSERT(taken > 0 || count == 0);
	return taken;
}
