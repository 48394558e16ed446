#include "check_lab.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENTS = 40, FLUSHES_LATER = 8 };

static const uint64_t DISK_BYTES = CHECK_LAB_SEGMENT * UINT64_C(41) + 8 * 4096;

uint32_t check_lab_bytes(uint32_t number, bool new)
{
	return (number * 97 + (new ? 13 : 0)) % 6000;
}

void check_lab_put(struct write_lab *lab, uint32_t number, uint32_t bytes)
{
	int rc = write_lab_put(lab, number, bytes, false);
	if (rc == -EAGAIN) {
		write_lab_settle(lab);
		rc = write_lab_put(lab, number, bytes, false);
	}
	assert_int_equal(rc, 0);
}

static void put_supers(struct write_lab *lab)
{
	uint8_t *bytes = io_sim_bytes(lab->disk);
	const struct format_super *super = &lab->volume.super;
	format_super_encode(super, bytes + format_super_offset(super, 0));
	format_super_encode(super, bytes + format_super_offset(super, 1));
}

/* KEYS stored, some anew, some deleted; closed clean. */
static void lab_fill(struct write_lab *lab)
{
	for (uint32_t i = 0; i < CHECK_LAB_KEYS; i++)
		check_lab_put(lab, i, check_lab_bytes(i, false));
	write_lab_settle(lab);
	write_lab_reopen(lab);
	for (uint32_t i = CHECK_LAB_NEW_FROM; i < CHECK_LAB_NEW_TO; i++)
		check_lab_put(lab, i, check_lab_bytes(i, true));
	for (uint32_t i = 0; i < CHECK_LAB_DELETED; i++)
		assert_int_equal(write_lab_delete(lab, i, false), 0);
	/* Many flushes, so that what was written before them is no longer the last. */
	for (uint32_t i = 0; i < 2 * FLUSHES_LATER; i++) {
		lab->wait_count = 0;
		assert_int_equal(write_lab_put(lab, CHECK_LAB_KEYS - 1,
					       check_lab_bytes(CHECK_LAB_KEYS - 1, false), true),
				 0);
		write_lab_settle(lab);
	}
	assert_int_equal(shard_close(lab->shard), 0);
	lab->shard = NULL;
}

struct write_lab *check_lab_open(void)
{
	struct write_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	write_lab_open(lab, DISK_BYTES, CHECK_LAB_SEGMENT);
	assert_true(lab->volume.super.segments >= SEGMENTS);
	put_supers(lab);
	write_lab_reopen(lab); /* so that both roots have been written */
	lab_fill(lab);
	return lab;
}

void check_lab_close(struct write_lab *lab)
{
	assert_int_equal(write_lab_close(lab), 0);
	free(lab);
}

/* ---- what check said ---- */

int check_seen_entry(const struct haul_cache_listed *entry, void *arg)
{
	struct check_seen *seen = arg;
	char text[32];
	uint32_t number = CHECK_LAB_KEYS;

	seen->last_seen = *entry;
	if (entry->key_bytes == 0) {
		seen->unknown++;
	} else {
		assert_true(entry->key_bytes < sizeof text);
		memcpy(text, entry->key, entry->key_bytes);
		text[entry->key_bytes] = 0;
		assert_int_equal(sscanf(text, "key/%" SCNu32, &number), 1);
		assert_true(number < CHECK_LAB_KEYS);
		seen->entries[number]++;
		seen->status[number] = entry->status;
	}
	return ++seen->calls == seen->stop_at ? 77 : 0;
}

int check_seen_progress(uint64_t done, uint64_t total, void *arg)
{
	struct check_seen *seen = arg;
	assert_true(done > seen->done && done <= total);
	seen->done = done;
	seen->total = total;
	return ++seen->calls == seen->stop_at ? 78 : 0;
}

struct haul_cache_checked check_lab_run(struct write_lab *lab, bool repair, bool all,
					struct check_seen *seen)
{
	const struct haul_cache_check options = {
		.repair = repair, .all = all, .entry = check_seen_entry, .arg = seen
	};
	struct haul_cache_checked checked = { 0 };
	struct haul_err err = { 0 };

	memset(seen, 0, sizeof *seen);
	const int rc = check_volume(&lab->volume, &lab->spy.io, &options, &checked, &err);
	if (rc != 0)
		fail_msg("%d: %s", rc, err.text);
	assert_int_equal(checked.damaged != 0 || checked.structures != 0, checked.first[0] != 0);
	return checked;
}

struct haul_cache_checked check_lab_look(struct write_lab *lab, struct check_seen *seen)
{
	return check_lab_run(lab, false, true, seen);
}

struct haul_cache_checked check_lab_repair(struct write_lab *lab, struct check_seen *seen)
{
	return check_lab_run(lab, true, false, seen);
}

void check_lab_clean(struct write_lab *lab, uint64_t entries)
{
	struct check_seen seen;
	const struct haul_cache_checked checked = check_lab_look(lab, &seen);
	if (checked.damaged != 0 || checked.structures != 0)
		fail_msg("%s", checked.first);
	assert_int_equal(checked.entries, entries);
	assert_int_equal(checked.torn, 0);
	assert_int_equal(seen.unknown, 0);
}

void check_lab_served(struct write_lab *lab, const uint32_t *lost, uint32_t lost_count)
{
	write_lab_shard(lab);
	for (uint32_t i = 0; i < CHECK_LAB_KEYS; i++) {
		bool good, gone = i < CHECK_LAB_DELETED;
		const enum haul_cache_status status = write_lab_get(lab, i, &good);
		for (uint32_t j = 0; j < lost_count; j++)
			gone = gone || lost[j] == i;
		if (status != (gone ? HAUL_CACHE_MISS : HAUL_CACHE_HIT) || good == gone)
			fail_msg("key %" PRIu32 ": %s", i, haul_cache_status_name(status));
	}
	assert_int_equal(shard_close(lab->shard), 0);
	lab->shard = NULL;
}

/* ---- finding things on the disk ---- */

struct place {
	const struct write_lab *lab;
	char want[32];
	struct haul_cache_listed listed;
	bool found;
};

static int place_entry(const struct haul_cache_listed *entry, void *arg)
{
	struct place *place = arg;
	if (entry->key_bytes != strlen(place->want) ||
	    memcmp(entry->key, place->want, entry->key_bytes) != 0)
		return 0;
	place->listed = *entry;
	place->found = true;
	return 0;
}

struct haul_cache_listed check_lab_place(struct write_lab *lab, uint32_t number)
{
	struct place place = { .lab = lab };
	const struct haul_cache_check options = { .all = true,
						  .entry = place_entry,
						  .arg = &place };
	struct haul_cache_checked checked;
	struct haul_err err = { 0 };

	write_lab_key(lab, number, place.want);
	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, &err), 0);
	assert_true(place.found);
	return place.listed;
}

uint8_t *check_lab_segment(struct write_lab *lab, uint32_t segment)
{
	return io_sim_bytes(lab->disk) + format_segment_offset(&lab->volume.super, 0, segment);
}

uint8_t *check_lab_value(struct write_lab *lab, uint32_t number)
{
	const struct haul_cache_listed listed = check_lab_place(lab, number);
	return check_lab_segment(lab, listed.segment) + listed.offset;
}
