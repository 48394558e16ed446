/* Import: the whole file is read and verified, and compared with what the maps can hold, before the
 * first entry is written; then it is read again, verified again, and put block by block. replace
 * deletes first what the file does not have, so that a full map has room. Each block is compared
 * with what is there: only what differs is written, and the counts are exact. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <haul/map_file.h>
#include "base/assert.h"
#include "bpf/file_maps.h"
#include "bpf/file_read.h"
#include "bpf/key_set.h"

struct import {
	struct file_maps maps;
	const struct haul_map_import *options;
	const char *path;
	int fd;
	struct file_source_fd source;
	struct file_reader reader;
	uint32_t map_index;                /* of the block at hand */
	uint64_t map_entries, map_missing; /* verify: of the file for this map; of them not in it */
	struct key_set set;                /* replace: keys of the file for this map */
	uint64_t secret;
	struct key_set trie; /* keys of map trie_map, see look_up */
	uint32_t trie_map;
	/* one block: what is in the map, and the rows to be written */
	uint32_t room;
	int *status;
	uint8_t *there, *keys, *values;
	struct haul_map_file_report report;
};

static const struct haul_map_info *info_of(const struct import *m)
{
	HAUL_ASSERT(m->map_index < m->maps.count);
	return haul_map_info(m->maps.maps[m->map_index]);
}

static bool is_array(const struct haul_map_info *info)
{
	return info->type == BPF_MAP_TYPE_ARRAY || info->type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static bool evicts(const struct haul_map_info *info)
{
	return info->type == BPF_MAP_TYPE_LRU_HASH || info->type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

static int failed(const struct import *m, int rc, const char *doing, struct haul_err *err)
{
	const struct haul_map_info *info = info_of(m);

	return haul_err_set(err, rc,
			    "%s: %s map %s (id %u): %s%s; so far %" PRIu64 " inserted, %" PRIu64
			    " updated, %" PRIu64 " deleted",
			    m->path, doing, info->name, info->id, haul_strerror(rc),
			    rc == -E2BIG ? " (the map is full)" : "", m->report.inserted,
			    m->report.updated, m->report.deleted);
}

static int room_alloc(struct import *m, uint32_t count, struct haul_err *err)
{
	const struct haul_map_info *info = info_of(m);

	if (count <= m->room)
		return 0;
	free(m->status);
	free(m->there);
	free(m->keys);
	free(m->values);
	m->status = calloc(count, sizeof *m->status);
	m->there = malloc((size_t)count * info->slot_bytes);
	m->keys = malloc((size_t)count * info->key_size);
	m->values = malloc((size_t)count * info->slot_bytes);
	m->room = count;
	if (m->status != NULL && m->there != NULL && m->keys != NULL && m->values != NULL)
		return 0;
	m->room = 0;
	return haul_err_set(err, -ENOMEM, "%s: no memory for a block of %u entries", m->path,
			    count);
}

/* ---- one pass over the file ---- */

typedef int import_block(struct import *m, const struct haul_map_batch *batch,
			 struct haul_err *err);

/* block for each one; after the last of a map also map_end, which may be NULL. */
static int pass(struct import *m, import_block *block, import_block *map_end, struct haul_err *err)
{
	struct haul_map_batch batch;
	int rc = file_reader_open(&m->reader, &m->source.source, err);

	if (rc < 0)
		return rc;
	rc = file_maps_fit(&m->reader.header, &m->maps, m->path, err);
	while (rc == 0 && (rc = file_reader_load_next(&m->reader, &batch, err)) > 0) {
		m->map_index = m->reader.block.map_index;
		rc = block(m, &batch, err);
		if (rc == 0 && m->reader.block.last && map_end != NULL)
			rc = map_end(m, &batch, err);
	}
	m->report.blocks = m->reader.totals.blocks;
	m->report.bytes = m->source.source.bytes;
	file_reader_close(&m->reader);
	return rc;
}

/* ---- verify ---- */

static int check_keys(const struct import *m, const struct haul_map_batch *batch,
		      struct haul_err *err)
{
	const struct haul_map_info *info = info_of(m);

	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t number;
		memcpy(&number, haul_map_key(batch, i), sizeof number);
		if (is_array(info) && number >= info->max_entries)
			return haul_err_set(err, -EINVAL,
					    "%s: has index %u, and the array %s (id %u) ends at %u",
					    m->path, number, info->name, info->id,
					    info->max_entries - 1);
		if (!is_array(info) && number > (info->key_size - sizeof number) * 8)
			return haul_err_set(err, HAUL_ECORRUPT,
					    "%s: has a prefix of %u bits in a key of %zu", m->path,
					    number, (info->key_size - sizeof number) * 8);
	}
	return 0;
}

typedef int import_take(struct import *m, const struct haul_map_batch *batch, void *arg);

/* All entries of the map at hand. */
static int walk(struct import *m, import_take *take, void *arg, struct haul_err *err)
{
	const struct haul_map_options options = { .engine = HAUL_MAP_BATCH };
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_batch batch = { 0 };
	struct haul_map *map;
	int rc = haul_map_open_fd(&map, haul_map_fd(m->maps.maps[m->map_index]), &options, err);

	if (rc < 0)
		return rc;
	do {
		struct haul_map_result result = { 0 };
		rc = haul_map_read(map, &cursor, &batch, &result);
		m->report.retries += result.retries;
		const int taken = rc > 0 ? take(m, &batch, arg) : 0;
		rc = taken < 0 ? taken : rc;
	} while (rc > 0);
	haul_map_close(map);
	return rc < 0 ? failed(m, rc, "reading", err) : 0;
}

static int trie_take(struct import *m, const struct haul_map_batch *batch, void *arg)
{
	(void)arg;
	HAUL_ASSERT(batch->key_stride == m->trie.key_size);
	return key_set_load(&m->trie, batch->keys, batch->count);
}

/* A trie answers with the longest prefix that matches, which may be another entry. So what is not
 * among its keys is missing, whatever it answered. */
static int look_up_trie(struct import *m, const struct haul_map_batch *batch,
			struct haul_map_result *result, struct haul_err *err)
{
	int rc = 0;

	if (m->trie.key_size == 0 || m->trie_map != m->map_index) {
		key_set_done(&m->trie);
		key_set_init(&m->trie, info_of(m)->key_size, m->secret);
		m->trie_map = m->map_index;
		rc = walk(m, trie_take, NULL, err);
	}
	if (rc < 0)
		return rc;
	result->missing = 0;
	for (uint32_t i = 0; i < batch->count; i++) {
		if (!key_set_has(&m->trie, haul_map_key(batch, i)))
			m->status[i] = -ENOENT;
		result->missing += m->status[i] == -ENOENT;
	}
	return 0;
}

/* How many rows of batch are not in the map; status is filled in. */
static int look_up(struct import *m, const struct haul_map_batch *batch,
		   struct haul_map_result *result, struct haul_err *err)
{
	int rc = room_alloc(m, batch->count, err);

	if (rc < 0)
		return rc;
	HAUL_ASSERT(batch->key_stride == info_of(m)->key_size);
	const struct haul_map_rows rows = {
		.count = batch->count,
		.keys = batch->keys,
		.values = m->there,
		.status = m->status,
	};
	rc = haul_map_get(m->maps.maps[m->map_index], &rows, result);
	if (rc < 0)
		return failed(m, rc, "reading", err);
	return info_of(m)->type == BPF_MAP_TYPE_LPM_TRIE ? look_up_trie(m, batch, result, err) : 0;
}

static int verify_block(struct import *m, const struct haul_map_batch *batch, struct haul_err *err)
{
	const struct haul_map_info *info = info_of(m);
	struct haul_map_result result = { 0 };
	int rc = 0;

	m->map_entries += batch->count;
	if (is_array(info) || info->type == BPF_MAP_TYPE_LPM_TRIE)
		rc = check_keys(m, batch, err);
	if (rc == 0 && m->options->mode != HAUL_MAP_IMPORT_REPLACE && batch->count > 0)
		rc = look_up(m, batch, &result, err);
	m->map_missing += result.missing;
	return rc;
}

static int verify_map(struct import *m, const struct haul_map_batch *batch, struct haul_err *err)
{
	const struct haul_map_info *info = info_of(m);
	struct haul_map_result result;
	uint64_t stay = 0, come = m->map_entries;
	int rc = 0;

	(void)batch;
	if (m->options->mode != HAUL_MAP_IMPORT_REPLACE) {
		come = m->map_missing;
		rc = haul_map_count(m->maps.maps[m->map_index], &stay, &result);
	}
	m->map_entries = m->map_missing = 0;
	if (rc < 0)
		return failed(m, rc, "counting", err);
	if (stay == HAUL_MAP_UNKNOWN || come == 0 || (evicts(info) && stay > 0) ||
	    stay + come <= info->max_entries)
		return 0;
	return haul_err_set(err, HAUL_EFULL,
			    "%s: map %s (id %u) holds at most %u entries; %" PRIu64
			    " are there and %" PRIu64 " would be added; nothing was written",
			    m->path, info->name, info->id, info->max_entries, stay, come);
}

/* ---- replace: delete the rest ---- */

struct rest {
	uint8_t *keys;
	uint64_t count, room;
};

static bool is_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* All keys of the map that are not in the set. They are collected before the first is deleted: the
 * walk of a trie goes on from a key, which must still be there. */
static int rest_take(struct import *m, const struct haul_map_batch *batch, void *arg)
{
	const struct haul_map_info *info = info_of(m);
	struct rest *rest = arg;

	for (uint32_t i = 0; i < batch->count; i++) {
		const void *key = haul_map_key(batch, i);
		if (key_set_has(&m->set, key))
			continue;
		if (is_array(info) && is_zero(haul_map_value(batch, i), info->slot_bytes))
			continue;
		if (rest->count == rest->room) {
			const uint64_t room = rest->room > 0 ? 2 * rest->room : 1024;
			uint8_t *keys = realloc(rest->keys, room * info->key_size);
			if (keys == NULL)
				return -ENOMEM;
			rest->keys = keys;
			rest->room = room;
		}
		memcpy(rest->keys + rest->count++ * info->key_size, key, info->key_size);
	}
	return 0;
}

/* An array's entries cannot go: they become what they are in a new one, zero. */
static int rest_zero(struct import *m, const struct rest *rest, uint64_t from, uint32_t count)
{
	const struct haul_map_info *info = info_of(m);
	struct haul_map_result result = { 0 };

	memset(m->values, 0, (size_t)count * info->slot_bytes);
	const struct haul_map_rows rows = {
		.count = count,
		.keys = rest->keys + from * info->key_size,
		.values = m->values,
	};
	const int rc = haul_map_update(m->maps.maps[m->map_index], &rows, HAUL_MAP_ANY, &result);
	m->report.deleted += result.done;
	return rc;
}

static int rest_delete(struct import *m, const struct rest *rest, uint64_t from, uint32_t count)
{
	struct haul_map_result result = { 0 };
	const struct haul_map_rows rows = {
		.count = count,
		.keys = rest->keys + from * info_of(m)->key_size,
	};
	const int rc = haul_map_delete(m->maps.maps[m->map_index], &rows, &result);
	m->report.deleted += result.done;
	return rc;
}

static int remove_rest(struct import *m, const struct haul_map_batch *batch, struct haul_err *err)
{
	const bool array = is_array(info_of(m));
	struct rest rest = { 0 };
	int rc = walk(m, rest_take, &rest, err);

	(void)batch;
	if (rc == 0)
		rc = room_alloc(m, HAUL_MAP_FILE_BLOCK, err);
	for (uint64_t from = 0; rc == 0 && from < rest.count;) {
		const uint64_t left = rest.count - from;
		const uint32_t count = left < m->room ? (uint32_t)left : m->room;
		rc = array ? rest_zero(m, &rest, from, count) : rest_delete(m, &rest, from, count);
		if (rc < 0)
			(void)failed(m, rc, "deleting from", err);
		rc = rc > 0 ? 0 : rc;
		from += count;
	}
	free(rest.keys);
	key_set_done(&m->set);
	key_set_init(&m->set, m->set.key_size, m->set.secret);
	return rc;
}

static int note_keys(struct import *m, const struct haul_map_batch *batch, struct haul_err *err)
{
	if (key_set_load(&m->set, batch->keys, batch->count) < 0)
		return haul_err_set(err, -ENOMEM, "%s: no memory for the keys of the file",
				    m->path);
	return 0;
}

/* ---- put ---- */

/* What lies between the values of two CPUs does not count. */
static bool same_value(const struct haul_map_info *info, const uint8_t *a, const uint8_t *b)
{
	const uint32_t step = info->slot_bytes / info->cpus;

	for (uint32_t cpu = 0; cpu < info->cpus; cpu++)
		if (memcmp(a + cpu * step, b + cpu * step, info->value_size) != 0)
			return false;
	return true;
}

/* The rows of batch that are to be written, into keys and values. */
static uint32_t select_rows(struct import *m, const struct haul_map_batch *batch)
{
	const struct haul_map_info *info = info_of(m);
	const bool only_new = m->options->mode == HAUL_MAP_IMPORT_ONLY_NEW;
	uint32_t count = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		const bool missing = m->status[i] == -ENOENT;
		if (!missing && (only_new || same_value(info, haul_map_value(batch, i),
							m->there + (size_t)i * info->slot_bytes)))
			continue;
		memcpy(m->keys + (size_t)count * info->key_size, haul_map_key(batch, i),
		       info->key_size);
		memcpy(m->values + (size_t)count * info->slot_bytes, haul_map_value(batch, i),
		       info->slot_bytes);
		count++;
	}
	return count;
}

static int write_rows(struct import *m, uint32_t count)
{
	struct haul_map *map = m->maps.maps[m->map_index];
	struct haul_map_result result = { 0 };
	const struct haul_map_rows rows = { .count = count, .keys = m->keys, .values = m->values };
	int rc;

	if (m->options->mode == HAUL_MAP_IMPORT_ONLY_NEW) {
		rc = haul_map_update(map, &rows, HAUL_MAP_ONLY_NEW, &result);
		m->report.inserted += result.done;
		m->report.unchanged += result.kept; /* came between looking and writing */
	} else if (is_array(info_of(m))) {
		rc = haul_map_update(map, &rows, HAUL_MAP_ANY, &result);
		m->report.updated += result.done;
	} else {
		rc = haul_map_upsert(map, &rows, &result);
		m->report.inserted += result.inserted;
		m->report.updated += result.updated;
	}
	m->report.retries += result.retries;
	return rc < 0 ? rc : 0;
}

static int put_block(struct import *m, const struct haul_map_batch *batch, struct haul_err *err)
{
	struct haul_map_file_report *report = &m->report;
	struct haul_map_result result = { 0 };
	int rc = batch->count > 0 ? look_up(m, batch, &result, err) : 0;

	if (rc < 0)
		return rc;
	const uint32_t count = select_rows(m, batch);
	report->unchanged += batch->count - count;
	rc = count > 0 ? write_rows(m, count) : 0;
	report->entries = report->inserted + report->updated + report->unchanged;
	if (rc < 0)
		return failed(m, rc, "writing to", err);
	if (m->options->progress == NULL)
		return 0;
	return m->options->progress(report->entries, report->expected, m->options->arg);
}

/* ---- all ---- */

static int check_writable(const struct import *m, struct haul_err *err)
{
	for (uint32_t i = 0; i < m->maps.count; i++) {
		const struct haul_map_info *info = haul_map_info(m->maps.maps[i]);
		const int flags = fcntl(haul_map_fd(m->maps.maps[i]), F_GETFL);
		if (info->frozen || (flags & O_ACCMODE) == O_RDONLY)
			return haul_err_set(err, -EPERM,
					    "map %s (id %u) is read-only to system calls",
					    info->name, info->id);
	}
	return 0;
}

static int file_open(const char *path, int *ret_fd, struct haul_err *err)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
	*ret_fd = fd;
	return 0;
}

static int run(struct import *m, struct haul_err *err)
{
	int rc = file_open(m->path, &m->fd, err);

	if (rc == 0)
		rc = file_source_fd_init(&m->source, m->fd, m->path, err);
	if (rc == 0)
		rc = check_writable(m, err);
	if (rc == 0)
		rc = pass(m, verify_block, verify_map, err);
	if (rc < 0)
		return rc;
	m->report.expected = m->reader.totals.entries;
	m->report.entries = m->options->dry_run ? m->report.expected : 0;
	if (m->options->dry_run)
		return 0;
	if (m->options->mode == HAUL_MAP_IMPORT_REPLACE) {
		key_set_init(&m->set, haul_map_info(m->maps.maps[0])->key_size, m->secret);
		rc = pass(m, note_keys, remove_rest, err);
	}
	return rc == 0 ? pass(m, put_block, NULL, err) : rc;
}

int haul_map_import(struct haul_map *const *maps, uint32_t map_count, const char *path,
		    const struct haul_map_import *options, struct haul_map_file_report *ret_report,
		    struct haul_err *err)
{
	const struct haul_map_import defaults = { 0 };
	struct import m = {
		.maps = { .maps = maps, .count = map_count },
		.options = options != NULL ? options : &defaults,
		.path = path,
		.fd = -1,
	};

	HAUL_ASSERT(maps != NULL && path != NULL);
	os_linux()->random(os_linux(), &m.secret, sizeof m.secret);
	const int rc = run(&m, err);
	key_set_done(&m.set);
	key_set_done(&m.trie);
	free(m.status);
	free(m.there);
	free(m.keys);
	free(m.values);
	if (m.fd >= 0)
		(void)close(m.fd);
	if (ret_report != NULL)
		*ret_report = m.report;
	return rc;
}

/* ---- read only ---- */

static int read_all(struct file_reader *reader,
		    int (*visit)(const struct haul_map_batch *, uint32_t, void *), void *arg,
		    struct haul_err *err)
{
	struct haul_map_batch batch;
	int rc;

	while ((rc = file_reader_load_next(reader, &batch, err)) > 0) {
		const int stop = visit == NULL ? 0 : visit(&batch, reader->block.map_index, arg);
		if (stop != 0)
			return stop;
	}
	return rc;
}

int haul_map_file_read(const char *path, struct haul_map_file_info *ret_info,
		       int (*visit)(const struct haul_map_batch *batch, uint32_t map_index,
				    void *arg),
		       void *arg, struct haul_err *err)
{
	struct file_source_fd source;
	struct file_reader reader;
	int fd = -1;
	int rc = file_open(path, &fd, err);

	if (rc < 0)
		return rc;
	rc = file_source_fd_init(&source, fd, path, err);
	if (rc == 0)
		rc = file_reader_open(&reader, &source.source, err);
	if (rc < 0) {
		(void)close(fd);
		return rc;
	}
	rc = read_all(&reader, visit, arg, err);
	const struct file_header *header = &reader.header;
	if (ret_info != NULL) {
		*ret_info = (struct haul_map_file_info){
			.version = FILE_VERSION,
			.map_count = header->map_count,
			.map_type = header->map_type,
			.key_size = header->key_size,
			.slot_bytes = header->slot_bytes,
			.block_entries = header->block_entries,
			.entries = reader.totals.entries,
			.complete = reader.complete,
		};
		memcpy(ret_info->map_name, header->maps[0].name, HAUL_MAP_NAME);
	}
	file_reader_close(&reader);
	(void)close(fd);
	return rc;
}
