/* Export. A block is one read of the map of a fixed size from a given cursor, so an unchanged map
 * gives the same blocks however often the work was broken off; and it is synced before the next is
 * read, so what a file holds up to its last good block is always true. Resuming is then: check
 * that the maps are the same, cut off what is behind the last good block, read on from its cursor.
 * The one thing with a memory would be a read whose buffer had grown for a large bucket: the map
 * is opened anew behind it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <haul/map_file.h>
#include "base/assert.h"
#include "bpf/file_maps.h"
#include "bpf/file_read.h"
#include "bpf/file_write.h"

#define PART ".part"

struct export
{
	struct file_maps maps;
	const struct haul_map_export *options;
	const char *path;
	char work[PATH_MAX]; /* path, or path.part, which takes its place in the end */
	int fd;
	bool created;            /* the file was not there */
	bool complete;           /* resumed, and there was nothing left to do */
	struct file_header ours; /* as the maps are now */
	struct file_writer writer;
	struct haul_map *reader; /* of maps[map_index] */
	uint32_t map_index;
	struct haul_map_cursor cursor;
	struct haul_map_file_report report;
};

/* ---- the file ---- */

static int folder_sync(const char *path, struct haul_err *err)
{
	char folder[PATH_MAX] = ".";
	const char *slash = strrchr(path, '/');

	if (slash != NULL) {
		const size_t bytes = slash == path ? 1 : (size_t)(slash - path);
		HAUL_ASSERT(bytes < sizeof folder);
		memcpy(folder, path, bytes);
		folder[bytes] = 0;
	}
	const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	if (fd >= 0)
		(void)close(fd);
	if (rc == -EINVAL || rc == -EACCES) /* not every file system syncs folders, or lets read */
		rc = 0;
	return rc == 0 ? 0 : haul_err_set(err, rc, "%s: %s", folder, haul_strerror(rc));
}

static int work_name(struct export *e, struct haul_err *err)
{
	const size_t bytes = strlen(e->path);

	if (bytes == 0 || bytes + sizeof PART > sizeof e->work)
		return haul_err_set(err, bytes == 0 ? -EINVAL : -ENAMETOOLONG,
				    "the file's name has %zu bytes; right is 1 to %zu", bytes,
				    sizeof e->work - sizeof PART);
	memcpy(e->work, e->path, bytes + 1);
	if (e->options->overwrite)
		memcpy(e->work + bytes, PART, sizeof PART);
	return 0;
}

static int file_open(struct export *e, struct haul_err *err)
{
	const bool overwrite = e->options->overwrite;
	const int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | (overwrite ? O_NOFOLLOW : 0);

	if (overwrite || e->options->resume)
		e->fd = open(e->work, flags);
	if (e->fd < 0 && (errno == ENOENT || !(overwrite || e->options->resume))) {
		e->fd = open(e->work, flags | O_CREAT | O_EXCL, 0600);
		e->created = e->fd >= 0;
	}
	const int rc = e->fd < 0 ? -errno : 0;
	if (rc == -EEXIST)
		return haul_err_set(err, rc,
				    "%s: there already; resume goes on with it, overwrite replaces "
				    "it",
				    e->work);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", e->work, haul_strerror(rc));
	if (flock(e->fd, LOCK_EX | LOCK_NB) < 0)
		return haul_err_set(err, -EBUSY, "%s: another export is writing it", e->work);
	return 0;
}

/* Nothing behind the last good block stays: a failed write leaves no torn one. */
static int file_cut(struct export *e, uint64_t bytes, struct haul_err *err)
{
	if (ftruncate(e->fd, (off_t)bytes) < 0)
		return haul_err_set(err, -errno, "%s: %s", e->work, haul_strerror(-errno));
	return 0;
}

/* The writer's piece, to end at offset end, and on the disk when this returns. */
static int file_put(struct export *e, uint64_t end, struct haul_err *err)
{
	const uint8_t *from = e->writer.buffer;
	const uint64_t start = end - e->writer.bytes;
	int rc = 0;

	HAUL_ASSERT(end >= e->writer.bytes);
	for (size_t done = 0; rc == 0 && done < e->writer.bytes;) {
		const ssize_t put =
			pwrite(e->fd, from + done, e->writer.bytes - done, (off_t)(start + done));
		if (put < 0 && errno != EINTR)
			rc = -errno;
		done += put > 0 ? (size_t)put : 0;
	}
	if (rc == 0 && fdatasync(e->fd) < 0)
		rc = -errno;
	if (rc == 0)
		return 0;
	(void)file_cut(e, start, NULL);
	return haul_err_set(err, rc,
			    "%s: at offset %" PRIu64 ": %s; what is before it is good, resume goes "
			    "on there",
			    e->work, start, haul_strerror(rc));
}

/* ---- start, or go on ---- */

static int writer_init(struct export *e, struct haul_err *err)
{
	const int rc = file_writer_init(&e->writer, &e->ours);

	return rc == 0 ? 0 : haul_err_set(err, rc, "%s: no memory for the header", e->work);
}

static int start(struct export *e, struct haul_err *err)
{
	int rc = file_cut(e, 0, err);

	if (rc == 0)
		rc = writer_init(e, err);
	if (rc == 0)
		rc = file_put(e, e->writer.totals.bytes, err);
	if (rc == 0)
		rc = folder_sync(e->work, err);
	if (rc < 0 && e->created)
		(void)unlink(e->work);
	return rc;
}

static int check_same(struct export *e, const struct file_header *theirs, struct haul_err *err)
{
	const uint32_t asked = e->options->block_entries;
	int rc = file_maps_same(theirs, &e->ours, e->work, err);

	if (rc < 0)
		return rc;
	if (asked != 0 && asked != theirs->block_entries)
		return haul_err_set(err, -EINVAL, "%s: was begun with %u entries a block, not %u",
				    e->work, theirs->block_entries, asked);
	e->ours.block_entries = theirs->block_entries;
	return 0;
}

static int map_open(struct export *e, struct haul_err *err)
{
	const struct haul_map_options options = {
		.engine = HAUL_MAP_BATCH,
		.batch = e->ours.block_entries,
	};

	haul_map_close(e->reader);
	e->reader = NULL;
	return haul_map_open_fd(&e->reader, haul_map_fd(e->maps.maps[e->map_index]), &options, err);
}

/* Whether the key of the cursor is in the map, by walking it: a look-up in a trie would find a
 * shorter prefix as well. 1: it is there. */
static int find_cursor(struct export *e, struct haul_map *map)
{
	struct haul_map_cursor cursor = { 0 };
	int rc;

	do {
		struct haul_map_batch batch;
		struct haul_map_result result;
		rc = haul_map_read(map, &cursor, &batch, &result);
		for (int i = 0; i < rc; i++)
			if (memcmp(haul_map_key(&batch, (uint32_t)i), e->cursor.data,
				   e->cursor.bytes) == 0)
				return 1;
	} while (rc > 0);
	return rc;
}

/* The kernel goes on behind a key only while that is in the map; else it would begin again. An
 * array's are there always, and a hash is walked by buckets. */
static int check_cursor(struct export *e, struct haul_err *err)
{
	const struct haul_map_info *info = haul_map_info(e->maps.maps[e->map_index]);

	if (info->type != BPF_MAP_TYPE_LPM_TRIE)
		return 0;
	int rc = map_open(e, err);
	if (rc < 0)
		return rc;
	rc = find_cursor(e, e->reader);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: reading map %s (id %u): %s", e->work, info->name,
				    info->id, haul_strerror(rc));
	if (rc == 0)
		return haul_err_set(err, HAUL_ESTALE,
				    "%s: the entry of map %s (id %u) at which it stopped is gone, "
				    "and the kernel cannot go on behind it: start anew (overwrite)",
				    e->work, info->name, info->id);
	return 0;
}

/* Read up to the last good block, and stand behind it. */
static int go_on(struct export *e, struct file_reader *reader, struct haul_err *err)
{
	struct haul_map_batch batch;
	struct haul_err why = { 0 }; /* the end of the good part is no failure here */
	int rc = check_same(e, &reader->header, err);

	if (rc == 0)
		rc = writer_init(e, err);
	if (rc < 0)
		return rc;
	HAUL_ASSERT(e->writer.header.crc == reader->header.crc);
	do {
		rc = file_reader_load_next(reader, &batch, &why);
	} while (rc > 0);
	if (rc < 0 && rc > HAUL_EBASE) /* the disk, not the file */
		return haul_err_set(err, rc, "%s", why.text);
	file_writer_resume(&e->writer, &reader->totals);
	e->report.resumed_entries = reader->totals.entries;
	e->map_index = reader->map_index;
	if (reader->totals.blocks > 0 && !reader->block.last) {
		e->cursor.map_id = e->ours.maps[e->map_index].id;
		e->cursor.bytes = reader->block.cursor_bytes;
		memcpy(e->cursor.data, reader->block.cursor, reader->block.cursor_bytes);
		rc = check_cursor(e, err);
		if (rc < 0)
			return rc;
	}
	return reader->complete ? 0 : file_cut(e, reader->totals.bytes, err);
}

static int begin(struct export *e, struct haul_err *err)
{
	struct file_source_fd source;
	struct file_reader reader;
	struct haul_err why = { 0 };
	int rc = file_open(e, err);

	if (rc == 0)
		rc = file_source_fd_init(&source, e->fd, e->work, err);
	if (rc < 0)
		return rc;
	if (e->created || !e->options->resume)
		return start(e, err);
	rc = file_reader_open(&reader, &source.source, &why);
	if (rc == HAUL_ESHORT) /* killed before its header was whole: nothing is lost */
		return start(e, err);
	if (rc < 0)
		return haul_err_set(err, rc, "%s", why.text);
	rc = go_on(e, &reader, err);
	e->complete = reader.complete;
	file_reader_close(&reader);
	return rc;
}

/* ---- blocks ---- */

static int block_put(struct export *e, const struct haul_map_batch *batch, bool last,
		     struct haul_err *err)
{
	struct file_block block = {
		.map_index = e->map_index,
		.count = batch->count,
		.last = last,
		.cursor_bytes = last ? 0 : e->cursor.bytes,
	};

	const struct file_totals before = e->writer.totals;

	memcpy(block.cursor, e->cursor.data, block.cursor_bytes);
	int rc = file_writer_block_build(&e->writer, &block, batch);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: no memory for a block of %u entries", e->work,
				    block.count);
	rc = file_put(e, e->writer.totals.bytes, err);
	if (rc < 0)
		e->writer.totals = before; /* the report counts what is in the file */
	if (rc < 0 || e->options->progress == NULL)
		return rc;
	return e->options->progress(e->writer.totals.entries, e->report.expected, e->options->arg);
}

static int map_put(struct export *e, struct haul_err *err)
{
	bool last = false;
	int rc = map_open(e, err);

	while (rc == 0 && !last) {
		struct haul_map_batch batch = { 0 };
		struct haul_map_result result = { 0 };
		const int count = haul_map_read(e->reader, &e->cursor, &batch, &result);
		e->report.retries += result.retries;
		if (count < 0)
			return haul_err_set(err, count, "%s: reading map %s (id %u): %s", e->work,
					    e->ours.maps[e->map_index].name,
					    e->ours.maps[e->map_index].id, haul_strerror(count));
		last = count == 0 || e->cursor.ended != 0;
		HAUL_ASSERT(count == 0 || (uint32_t)count == batch.count);
		batch.count = (uint32_t)count;
		rc = block_put(e, &batch, last, err);
		if (rc == 0 && !last && batch.count > e->ours.block_entries)
			rc = map_open(e, err);
	}
	e->cursor = (struct haul_map_cursor){ 0 };
	return rc;
}

static uint64_t expected_of(const struct file_maps *maps)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < maps->count; i++) {
		struct haul_map_result result;
		uint64_t count = 0;
		if (haul_map_count(maps->maps[i], &count, &result) < 0)
			return HAUL_MAP_UNKNOWN;
		sum += count;
	}
	return sum;
}

static int all_put(struct export *e, struct haul_err *err)
{
	int rc = 0;

	for (; rc == 0 && e->map_index < e->maps.count; e->map_index += rc == 0)
		rc = map_put(e, err);
	if (rc != 0)
		return rc;
	rc = file_writer_end_build(&e->writer);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: no memory for the end mark", e->work);
	return file_put(e, e->writer.totals.bytes + FILE_END_BYTES, err);
}

static int finish(struct export *e, struct haul_err *err)
{
	e->report.bytes = e->writer.totals.bytes + FILE_END_BYTES;
	if (!e->options->overwrite)
		return 0;
	if (rename(e->work, e->path) < 0)
		return haul_err_set(err, -errno, "%s: complete, but cannot become %s: %s", e->work,
				    e->path, haul_strerror(-errno));
	return folder_sync(e->path, err);
}

static int run(struct export *e, struct haul_err *err)
{
	int rc = work_name(e, err);

	if (rc == 0)
		rc = file_header_new(&e->ours, &e->maps, e->options->block_entries, err);
	if (rc < 0)
		return rc;
	e->report.expected = expected_of(&e->maps);
	rc = begin(e, err);
	if (rc == 0 && !e->complete)
		rc = all_put(e, err);
	e->report.entries = e->writer.totals.entries;
	e->report.blocks = e->writer.totals.blocks;
	e->report.bytes = e->writer.totals.bytes;
	return rc != 0 ? rc : finish(e, err);
}

int haul_map_export(struct haul_map *const *maps, uint32_t map_count, const char *path,
		    const struct haul_map_export *options, struct haul_map_file_report *ret_report,
		    struct haul_err *err)
{
	const struct haul_map_export defaults = { 0 };
	struct export e = {
		.maps = { .maps = maps, .count = map_count },
		.options = options != NULL ? options : &defaults,
		.path = path,
		.fd = -1,
	};

	HAUL_ASSERT(maps != NULL && path != NULL);
	const int rc = run(&e, err);
	haul_map_close(e.reader);
	file_writer_done(&e.writer);
	file_header_free(&e.ours);
	if (e.fd >= 0)
		(void)close(e.fd);
	if (ret_report != NULL)
		*ret_report = e.report;
	return rc;
}
