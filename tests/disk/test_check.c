/* Damage is made in the bytes of a simulated disk, behind the back of a cache that was closed. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "disk/check.h"
#include "disk/reclaim_state.h"
#include "disk/write_lab.h"
#include "lib/testlib.h"

enum {
	SEGMENT = 65536,
	SEGMENTS = 40,
	KEYS = 200,
	DELETED = 10,
	NEW_FROM = 20,
	NEW_TO = 40,
	FLUSHES_LATER = 8
};

static const uint64_t DISK_BYTES = SEGMENT * UINT64_C(41) + 8 * 4096;

/* ---- a cache with a past ---- */

static uint32_t value_bytes(uint32_t number, bool new)
{
	return (number * 97 + (new ? 13 : 0)) % 6000;
}

static void store(struct write_lab *lab, uint32_t number, uint32_t bytes)
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
	for (uint32_t i = 0; i < KEYS; i++)
		store(lab, i, value_bytes(i, false));
	write_lab_settle(lab);
	write_lab_reopen(lab);
	for (uint32_t i = NEW_FROM; i < NEW_TO; i++)
		store(lab, i, value_bytes(i, true));
	for (uint32_t i = 0; i < DELETED; i++)
		assert_int_equal(write_lab_delete(lab, i, false), 0);
	/* Many flushes, so that what was written before them is no longer the last. */
	for (uint32_t i = 0; i < 2 * FLUSHES_LATER; i++) {
		lab->wait_count = 0;
		assert_int_equal(write_lab_put(lab, KEYS - 1, value_bytes(KEYS - 1, false), true),
				 0);
		write_lab_settle(lab);
	}
	assert_int_equal(shard_close(lab->shard), 0);
	lab->shard = NULL;
}

static struct write_lab *lab_open(void)
{
	struct write_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	write_lab_open(lab, DISK_BYTES, SEGMENT);
	assert_true(lab->volume.super.segments >= SEGMENTS);
	put_supers(lab);
	write_lab_reopen(lab); /* so that both roots have been written */
	lab_fill(lab);
	return lab;
}

static void lab_close(struct write_lab *lab)
{
	assert_int_equal(write_lab_close(lab), 0);
	free(lab);
}

/* ---- what check said ---- */

struct seen {
	const struct write_lab *lab;
	uint32_t entries[KEYS]; /* how often */
	enum haul_cache_status status[KEYS];
	uint32_t unknown;                   /* without a key */
	struct haul_cache_listed last_seen; /* its key is gone */
	uint32_t calls, stop_at;
	uint64_t done, total;
};

static int seen_entry(const struct haul_cache_listed *entry, void *arg)
{
	struct seen *seen = arg;
	char text[32];
	uint32_t number = KEYS;

	seen->last_seen = *entry;
	if (entry->key_bytes == 0) {
		seen->unknown++;
	} else {
		assert_true(entry->key_bytes < sizeof text);
		memcpy(text, entry->key, entry->key_bytes);
		text[entry->key_bytes] = 0;
		assert_int_equal(sscanf(text, "key/%" SCNu32, &number), 1);
		assert_true(number < KEYS);
		seen->entries[number]++;
		seen->status[number] = entry->status;
	}
	return ++seen->calls == seen->stop_at ? 77 : 0;
}

static int seen_progress(uint64_t done, uint64_t total, void *arg)
{
	struct seen *seen = arg;
	assert_true(done > seen->done && done <= total);
	seen->done = done;
	seen->total = total;
	return ++seen->calls == seen->stop_at ? 78 : 0;
}

static struct haul_cache_checked check_how(struct write_lab *lab, bool repair, bool all,
					   struct seen *seen)
{
	const struct haul_cache_check options = {
		.repair = repair, .all = all, .entry = seen_entry, .arg = seen
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

static struct haul_cache_checked look(struct write_lab *lab, struct seen *seen)
{
	return check_how(lab, false, true, seen);
}

static struct haul_cache_checked repair(struct write_lab *lab, struct seen *seen)
{
	return check_how(lab, true, false, seen);
}

static void assert_clean(struct write_lab *lab, uint64_t entries)
{
	struct seen seen;
	const struct haul_cache_checked checked = look(lab, &seen);
	if (checked.damaged != 0 || checked.structures != 0)
		fail_msg("%s", checked.first);
	assert_int_equal(checked.entries, entries);
	assert_int_equal(checked.torn, 0);
	assert_int_equal(seen.unknown, 0);
}

/* What is served after it: everything but `lost`, and nothing that was deleted. */
static void assert_served(struct write_lab *lab, const uint32_t *lost, uint32_t lost_count)
{
	write_lab_shard(lab);
	for (uint32_t i = 0; i < KEYS; i++) {
		bool good, gone = i < DELETED;
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

/* Where the live value of a key is. */
static struct haul_cache_listed place_of(struct write_lab *lab, uint32_t number)
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

static uint8_t *segment_bytes_of(struct write_lab *lab, uint32_t segment)
{
	return io_sim_bytes(lab->disk) + format_segment_offset(&lab->volume.super, 0, segment);
}

static uint8_t *value_of(struct write_lab *lab, uint32_t number)
{
	const struct haul_cache_listed listed = place_of(lab, number);
	return segment_bytes_of(lab, listed.segment) + listed.offset;
}

/* ---- tests ---- */

/* A good cache is said to be damaged, or check sees other entries than the cache has. */
static void test_check__good_cache_is_good(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen;
	uint64_t bytes = 0;

	const struct haul_cache_checked checked = look(lab, &seen);
	assert_string_equal(checked.first, "");
	assert_int_equal(checked.entries, KEYS - DELETED);
	for (uint32_t i = 0; i < KEYS; i++) {
		assert_int_equal(seen.entries[i], i < DELETED ? 0 : 1);
		assert_int_equal(seen.status[i], HAUL_CACHE_HIT);
		if (i >= DELETED)
			bytes += value_bytes(i, i >= NEW_FROM && i < NEW_TO);
	}
	assert_int_equal(checked.bytes, bytes);
	assert_int_equal(checked.damaged + checked.structures + checked.torn + checked.repaired, 0);
	/* Only the damaged are told unless all are wanted. */
	(void)check_how(lab, false, false, &seen);
	assert_int_equal(seen.calls, 0);
	lab_close(lab);
}

/* Looking changes the disk, or repairing a good cache does. */
static void test_check__looking_writes_nothing(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen;
	const uint64_t before = io_sim_count(lab->disk, IO_WRITE);

	(void)repair(lab, &seen);
	assert_int_equal(io_sim_count(lab->disk, IO_WRITE), before);
	value_of(lab, 50)[0] ^= 1;
	memset(io_sim_bytes(lab->disk), 0, 4096);
	const uint64_t writes = io_sim_count(lab->disk, IO_WRITE);
	const uint64_t syncs = io_sim_count(lab->disk, IO_SYNC);
	(void)look(lab, &seen);
	assert_int_equal(io_sim_count(lab->disk, IO_WRITE), writes);
	assert_int_equal(io_sim_count(lab->disk, IO_SYNC), syncs);
	lab_close(lab);
}

/* A damaged value is not found, its neighbours are accused, or repairing takes more than it, or
 * brings an older value back. */
static void test_check__damaged_value_is_named_and_dropped(void **state)
{
	(void)state;
	static const uint32_t lost[] = { 25, 110 };
	struct write_lab *lab = lab_open();
	struct seen seen;

	value_of(lab, 25)[value_bytes(25, true) - 1] ^= 0x80;
	value_of(lab, 110)[7] ^= 1;
	struct haul_cache_checked checked = look(lab, &seen);
	assert_int_equal(checked.damaged, 2);
	assert_int_equal(checked.structures, 0);
	assert_int_equal(checked.entries, KEYS - DELETED);
	assert_non_null(strstr(checked.first, "does not verify"));
	for (uint32_t i = DELETED; i < KEYS; i++)
		assert_int_equal(seen.status[i],
				 i == 25 || i == 110 ? HAUL_CACHE_CORRUPT : HAUL_CACHE_HIT);
	checked = repair(lab, &seen);
	assert_int_equal(checked.damaged, 2);
	assert_int_equal(checked.repaired, 2);
	assert_int_equal(seen.calls, 2);
	assert_clean(lab, KEYS - DELETED - 2);
	assert_served(lab, lost, 2);
	lab_close(lab);
}

/* Damage where nothing lives any more is reported. */
static void test_check__damage_in_dead_values_is_none(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	uint8_t *old, *new;

	/* The value of a key that is stored anew afterwards. */
	old = value_of(lab, 60);
	write_lab_shard(lab);
	store(lab, 60, 100);
	assert_int_equal(shard_close(lab->shard), 0);
	lab->shard = NULL;
	new = value_of(lab, 60);
	assert_true(old != new);
	old[1] ^= 1;
	assert_clean(lab, KEYS - DELETED);
	lab_close(lab);
}

/* A sector that cannot be read is taken for a wrong value, or for the end of the segment. */
static void test_check__unreadable_values_are_told_apart(void **state)
{
	(void)state;
	static const uint32_t lost[] = { 61 };
	struct write_lab *lab = lab_open();
	struct seen seen;
	const uint64_t at = (uint64_t)(value_of(lab, 61) - io_sim_bytes(lab->disk));

	io_sim_bad(lab->disk, (at + 4095) / 4096 * 4096, 512);
	struct haul_cache_checked checked = look(lab, &seen);
	assert_int_equal(seen.status[61], HAUL_CACHE_FAILED);
	assert_true(checked.damaged >= 1 && checked.damaged <= 3);
	const uint64_t damaged = checked.damaged;
	if (damaged == 1)
		assert_non_null(strstr(checked.first, "cannot be read"));
	checked = repair(lab, &seen);
	assert_int_equal(checked.repaired, damaged);
	assert_clean(lab, KEYS - DELETED - damaged);
	io_sim_bad(lab->disk, 0, 0);
	if (damaged == 1)
		assert_served(lab, lost, 1);
	lab_close(lab);
}

/* Damage to a superblock goes unseen until the other one is damaged too. */
static void test_check__superblocks_are_put_right(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen;

	for (uint32_t copy = 0; copy < 2; copy++) {
		uint8_t *block =
			io_sim_bytes(lab->disk) + format_super_offset(&lab->volume.super, copy);
		uint8_t before[4096];
		memcpy(before, block, sizeof before);
		block[100] ^= 1;
		struct haul_cache_checked checked = look(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_int_equal(checked.damaged, 0);
		assert_non_null(strstr(checked.first, copy == 0 ? "superblock 1" : "superblock 2"));
		checked = repair(lab, &seen);
		assert_int_equal(checked.repaired, 1);
		assert_memory_equal(block, before, sizeof before);
		assert_clean(lab, KEYS - DELETED);
	}
	lab_close(lab);
}

/* Damage to a root goes unseen; or one that a crash cut in two is called damaged. */
static void test_check__roots_are_put_right(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct format_root root[2];
	struct seen seen;
	uint8_t *bytes = io_sim_bytes(lab->disk);
	uint8_t *block[2];

	for (uint32_t copy = 0; copy < 2; copy++) {
		block[copy] = bytes + format_root_offset(&lab->volume.super, 0, copy);
		assert_int_equal(
			format_root_decode(block[copy], lab->volume.super.uuid, &root[copy]), 0);
	}
	const uint32_t older = root[0].generation < root[1].generation ? 0 : 1;
	block[older][200] ^= 1;
	struct haul_cache_checked checked = look(lab, &seen);
	assert_int_equal(checked.structures, 1);
	assert_non_null(strstr(checked.first, older == 0 ? "root 1" : "root 2"));
	checked = repair(lab, &seen);
	assert_int_equal(checked.repaired, 1);
	assert_clean(lab, KEYS - DELETED);

	/* The next one, half written. */
	struct format_root next = root[1 - older];
	next.generation += 10;
	format_root_encode(&next, lab->volume.super.uuid, block[older]);
	next.generation++;
	format_root_encode(&next, lab->volume.super.uuid, block[1 - older]);
	block[1 - older][300] ^= 1;
	checked = look(lab, &seen);
	assert_int_equal(checked.structures, 0);
	assert_int_equal(checked.torn, 1);
	lab_close(lab);
}

/* Both roots lost stop check, or are not told. */
static void test_check__both_roots_lost_are_told(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen;
	uint8_t *bytes = io_sim_bytes(lab->disk);

	for (uint32_t copy = 0; copy < 2; copy++)
		memset(bytes + format_root_offset(&lab->volume.super, 0, copy), 0, 4096);
	struct haul_cache_checked checked = look(lab, &seen);
	assert_int_equal(checked.structures, 2);
	assert_int_equal(checked.entries, KEYS - DELETED);
	checked = repair(lab, &seen);
	assert_int_equal(checked.repaired, 2);
	assert_clean(lab, KEYS - DELETED);
	assert_served(lab, NULL, 0);
	lab_close(lab);
}

/* A segment whose header is lost takes its entries along, and older ones come back in their place,
 * though footer and batches tell all about it. */
static void test_check__headers_are_put_right(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen;
	const struct haul_cache_listed listed = place_of(lab, NEW_FROM + 1);
	uint8_t *segment = segment_bytes_of(lab, listed.segment);

	for (int how = 0; how < 3; how++) {
		if (how == 0)
			segment[40] ^= 1;
		else
			memset(segment, 0xe5, 4096);
		if (how == 2) /* the batches alone will do */
			memset(segment + SEGMENT - 4096, 0, 4096);
		struct haul_cache_checked checked = look(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_int_equal(checked.damaged, 0);
		assert_non_null(strstr(checked.first, "the header is damaged"));
		assert_int_equal(checked.entries, KEYS - DELETED);
		if (how == 1) /* without repair, too */
			assert_served(lab, NULL, 0);
		checked = repair(lab, &seen);
		assert_int_equal(checked.repaired, 1);
		assert_int_equal(checked.entries, KEYS - DELETED);
		assert_clean(lab, KEYS - DELETED);
	}
	assert_served(lab, NULL, 0);
	lab_close(lab);
}

/* Where nothing is left to restore a header from, every check finds it again. */
static void test_check__headers_that_are_lost_are_emptied(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen;
	const struct haul_cache_listed listed = place_of(lab, 100);
	uint8_t *segment = segment_bytes_of(lab, listed.segment);

	segment[40] ^= 1;
	segment[4096 + 40] ^= 1;
	struct haul_cache_checked checked = repair(lab, &seen);
	assert_int_equal(checked.structures, 1);
	assert_int_equal(checked.repaired, 1);
	assert_clean(lab, checked.entries);
	lab_close(lab);
}

/* What lay on the device before it was formatted is called damage. */
static void test_check__what_was_there_before_is_no_damage(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	static const uint8_t other[16] = "another cache's";
	const struct format_segment header = { .generation = 7, .segment = 38, .partition = 0 };
	struct format_segment decoded;
	uint8_t *segment = segment_bytes_of(lab, 38);

	assert_int_equal(format_segment_decode(segment, lab->volume.super.uuid, &decoded),
			 HAUL_ECORRUPT);
	memset(segment, 0xe5, SEGMENT);
	format_segment_encode(&header, other, segment);
	memset(segment_bytes_of(lab, 39), 0x17, SEGMENT);
	assert_clean(lab, KEYS - DELETED);
	lab_close(lab);
}

/* A damaged footer goes unseen, or costs entries that the batches tell of. */
static void test_check__footers_are_put_right(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen;
	const struct haul_cache_listed listed = place_of(lab, 100);
	uint8_t *segment = segment_bytes_of(lab, listed.segment);

	for (int how = 0; how < 2; how++) {
		if (how == 0) /* the block, or its rows */
			segment[SEGMENT - 4096 + 50] ^= 1;
		else
			segment[le32_load(segment + SEGMENT - 4096 + 80) + 3] ^= 1;
		struct haul_cache_checked checked = look(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_int_equal(checked.damaged, 0);
		assert_int_equal(checked.entries, KEYS - DELETED);
		assert_non_null(strstr(checked.first, "the footer is damaged"));
		checked = repair(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_int_equal(checked.repaired, 1);
		assert_clean(lab, KEYS - DELETED);
	}
	assert_served(lab, NULL, 0);
	lab_close(lab);
}

/* Entries whose batch is damaged are forgotten by check though the cache would look for them, or
 * cannot be deleted because nobody knows their keys. */
static void test_check__batches_that_lost_their_keys(void **state)
{
	(void)state;
	struct seen seen;

	for (int how = 0; how < 2; how++) {
		struct write_lab *lab = lab_open();
		const struct haul_cache_listed listed = place_of(lab, 100);
		uint8_t *segment = segment_bytes_of(lab, listed.segment);
		struct format_batch batch;
		uint32_t at = 4096;
		for (;;) {
			assert_int_equal(format_batch_decode(segment + at, lab->volume.super.uuid,
							     SEGMENT, &batch),
					 0);
			if (listed.offset < at + batch.bytes)
				break;
			at += batch.bytes;
		}
		if (how == 0) /* the header, or the rows */
			segment[at + 60] ^= 1;
		else
			segment[at + batch.table + 20] ^= 1;
		struct haul_cache_checked checked = look(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_true(checked.damaged >= 1 && checked.damaged <= batch.rows);
		assert_int_equal(checked.entries, KEYS - DELETED);
		assert_int_equal(seen.unknown, checked.damaged);
		assert_int_equal(seen.entries[100], 0);
		assert_non_null(strstr(checked.first, "lost their keys"));
		const uint64_t damaged = checked.damaged;
		checked = repair(lab, &seen);
		assert_int_equal(checked.damaged, damaged);
		assert_int_equal(checked.repaired, damaged + 1);
		assert_clean(lab, KEYS - DELETED - damaged);
		/* And again from the disk: the tombstones that have no key count too. */
		assert_clean(lab, KEYS - DELETED - damaged);
		lab_close(lab);
	}
}

/* A caller that wants to stop is not heard, or gets another value than its own. */
static void test_check__callbacks_can_stop_it(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen = { .stop_at = 5 };
	struct haul_cache_checked checked = { .entries = 99 };
	struct haul_cache_check options = { .all = true, .entry = seen_entry, .arg = &seen };

	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, NULL), 77);
	assert_int_equal(seen.calls, 5);
	options = (struct haul_cache_check){ .progress = seen_progress, .arg = &seen };
	seen = (struct seen){ .stop_at = 3 };
	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, NULL), 78);
	seen = (struct seen){ 0 };
	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, NULL), 0);
	assert_int_equal(seen.done, seen.total);
	assert_int_equal(seen.total, (uint64_t)lab->volume.super.segments * SEGMENT);
	lab_close(lab);
}

/* A device that is gone is reported as a damaged cache. */
static void test_check__dead_device_is_an_error(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	const struct haul_cache_check options = { 0 };
	struct haul_cache_checked checked = { .entries = 99 };
	struct haul_err err = { 0 };

	io_sim_dead(lab->disk, true);
	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, &err),
			 -ENODEV);
	assert_true(err.code == -ENODEV && err.text[0] != 0);
	assert_int_equal(checked.entries, 99);
	io_sim_dead(lab->disk, false);
	assert_clean(lab, KEYS - DELETED);
	lab_close(lab);
}

/* Want of memory is taken for damage, or ends the process. */
static void test_check__want_of_memory_is_an_error(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct seen seen;
	const struct haul_cache_check options = { .repair = true,
						  .entry = seen_entry,
						  .arg = &seen };
	struct haul_cache_checked checked = { .entries = 99 };
	const uint64_t writes = io_sim_count(lab->disk, IO_WRITE);

	value_of(lab, 110)[7] ^= 1;
	const uint64_t before = test_mallocs();
	(void)look(lab, &seen);
	/* Those of a look, and the two that remember what is to be repaired. */
	const uint64_t count = test_mallocs() - before + 2;
	for (uint32_t i = 0; i < count; i++) {
		struct haul_err err = { 0 };
		if (!test_malloc_fail(i))
			break;
		assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, &err),
				 -ENOMEM);
		assert_true(err.code == -ENOMEM && err.text[0] != 0);
		assert_int_equal(checked.entries, 99);
	}
	assert_int_equal(io_sim_count(lab->disk, IO_WRITE), writes);
	(void)repair(lab, &seen);
	assert_clean(lab, KEYS - DELETED - 1);
	lab_close(lab);
}

/* The process that crashed is gone: its memory is freed, its disk hears of nothing. */
static void abandon(struct write_lab *lab)
{
	lab->shard->reclaim->reads = 0; /* they never finish */
	lab->shard->flushing_stopped = true;
	(void)shard_close(lab->shard);
	lab->shard = NULL;
}

/* What a crash leaves is called damage: then nobody would believe check. */
static void test_check__crashes_are_no_damage(void **state)
{
	(void)state;
	struct prng prng;
	uint64_t torn = 0;

	test_prng(&prng);
	for (uint32_t round = 0; round < 60; round++) {
		struct write_lab *lab = lab_open();
		struct seen seen;
		write_lab_shard(lab);
		lab->wait_count = 0;
		for (uint32_t i = 0; i < 30; i++)
			(void)write_lab_put(lab, prng_below(&prng, KEYS), prng_below(&prng, 9000),
					    true);
		io_sim_stop_after(lab->disk, prng_below(&prng, 20));
		for (uint32_t turn = 0; turn < 200; turn++) {
			(void)shard_poll(lab->shard);
			os_sim_advance(&lab->os, NS_PER_MS);
		}
		io_sim_crash(lab->disk, prng_below(&prng, IO_SIM_CRASHES), &prng);
		abandon(lab);
		lab->spy.inner = io_sim_io(lab->disk);
		lab->spy.io.in_flight = 0;
		io_sim_stop_after(lab->disk, UINT64_MAX);
		const struct haul_cache_checked checked = look(lab, &seen);
		if (checked.damaged != 0 || checked.structures != 0)
			fail_msg("round %" PRIu32 ": %s", round, checked.first);
		torn += checked.torn;
		write_lab_shard(lab);
		assert_int_equal(shard_close(lab->shard), 0);
		lab->shard = NULL;
		const struct haul_cache_checked after = look(lab, &seen);
		assert_int_equal(after.damaged + after.structures + after.torn, 0);
		assert_int_equal(after.entries, checked.entries);
		lab_close(lab);
	}
	assert_true(torn > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check__good_cache_is_good),
		cmocka_unit_test(test_check__looking_writes_nothing),
		cmocka_unit_test(test_check__damaged_value_is_named_and_dropped),
		cmocka_unit_test(test_check__damage_in_dead_values_is_none),
		cmocka_unit_test(test_check__unreadable_values_are_told_apart),
		cmocka_unit_test(test_check__superblocks_are_put_right),
		cmocka_unit_test(test_check__roots_are_put_right),
		cmocka_unit_test(test_check__both_roots_lost_are_told),
		cmocka_unit_test(test_check__headers_are_put_right),
		cmocka_unit_test(test_check__headers_that_are_lost_are_emptied),
		cmocka_unit_test(test_check__what_was_there_before_is_no_damage),
		cmocka_unit_test(test_check__footers_are_put_right),
		cmocka_unit_test(test_check__batches_that_lost_their_keys),
		cmocka_unit_test(test_check__callbacks_can_stop_it),
		cmocka_unit_test(test_check__dead_device_is_an_error),
		cmocka_unit_test(test_check__want_of_memory_is_an_error),
		cmocka_unit_test(test_check__crashes_are_no_damage),
	};

	return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
