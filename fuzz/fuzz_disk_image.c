/* fuzz/fuzz_disk_image.c — a cache's whole disk, damaged in any way: opened, used, checked.
 *
 * Promise: no contents make opening or checking fail; what is given as a hit was stored under that
 * key once, byte for byte; a cache that opened takes a store and has it after the next opening; and
 * what repair has been through, check finds nothing wrong with.
 * The first byte: bits 0 and 1 choose the disk that is damaged. REPAIR: checksums are put right
 * afterwards, so that lies are believed; then only not failing is promised. CHECK, else it is
 * opened. LOOK: for reading only. BAD: the first block that a change names cannot be read, ever;
 * what is stored there is lost then.
 * Then changes: how, block (2 bytes), and what `how` wants. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "disk/check.h"
#include "disk/format_sample.h"
#include "disk/shard_lab.h"

enum { PASTS = 4, REPAIR = 4, CHECK = 8, LOOK = 16, BAD = 32 };
enum { DISK = 768 << 10, SEGMENT = SAMPLE_SEGMENT, KEYS = 40, CHANGES_MAX = 64, SEED = 1 };
enum { BUFFER_BYTES = 2 << 20, READ_BYTES = 2 << 20 };

/* What a change does to its block. */
enum {
	CHANGE_BYTES, /* at (2 bytes), count (1), bytes to be xored */
	CHANGE_COPY,  /* from block (2 bytes) */
	CHANGE_ZERO,
	CHANGE_SWAP, /* with block (2 bytes) */
	CHANGES
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at;
	size_t left;
};

static uint32_t take(struct input *input, uint32_t bytes)
{
	uint32_t value = 0;

	for (uint32_t i = 0; i < bytes && input->left > 0; i++, input->left--)
		value |= (uint32_t)*input->at++ << 8 * i;
	return value;
}

/* ---- disks with a past ---- */

static void past_store(struct shard_lab *lab, uint32_t first, uint32_t last, uint32_t version)
{
	for (uint32_t i = first; i <= last; i++) {
		const uint32_t bytes = SHARD_LAB_VALUE_MIN + (i * 977 + version * 131) % 5000;
		const int rc = shard_lab_store(lab, i, version, bytes);
		HAUL_ASSERT(rc == 0);
	}
}

/* Odd ones are strict LRU; the last two compress. */
static void lab_start(struct shard_lab *lab, uint32_t past)
{
	*lab = (struct shard_lab){
		.options = { .buffer_bytes = BUFFER_BYTES,
			     .read_bytes = READ_BYTES,
			     .policy = past & 1 ? HAUL_CACHE_LRU : HAUL_CACHE_S3FIFO,
			     .codec = past & 2 ? INDEX_LZ4 : INDEX_RAW,
			     .name = "fuzz" },
	};
	shard_lab_init(lab, DISK, SEGMENT, SEED);
	lab->squeezing = (past & 2) != 0;
}

static void put_super(const struct format_super *super, uint8_t *bytes, uint32_t copy)
{
	format_super_encode(super, bytes + format_super_offset(super, copy));
}

/* 0: closed clean; 1: cut off with segments open; 2: the log has gone round; 3: many flushes later,
 * so that no batch is in doubt. Deleted: 1 … 5. */
static void past_make(struct shard_lab *lab, uint32_t past)
{
	past_store(lab, 1, 20, 1);
	for (uint32_t i = 1; i <= 5; i++)
		(void)shard_lab_delete(lab, i);
	past_store(lab, 15, KEYS, 2);
	if (past == 2)
		for (uint32_t version = 3; version < 9; version++)
			past_store(lab, 10, KEYS, version);
	for (uint32_t version = 9; past == 3 && version < 40; version++)
		past_store(lab, KEYS, KEYS, version);
	if (past != 1)
		shard_lab_reopen(lab);
	shard_lab_crash(lab, IO_SIM_KEEP_ALL);
}

/* The image of such a disk; made once. */
static const uint8_t *past_image(uint32_t past)
{
	static uint8_t *images[PASTS];

	if (images[past] == NULL) {
		struct shard_lab *maker = calloc(1, sizeof *maker);
		HAUL_ASSERT(maker != NULL);
		lab_start(maker, past);
		const struct format_super *super = &maker->volume.super;
		uint8_t *bytes = io_sim_bytes(maker->disk);
		put_super(super, bytes, 0);
		put_super(super, bytes, 1);
		int rc = shard_lab_open(maker);
		HAUL_ASSERT(rc == 0);
		past_make(maker, past);
		images[past] = malloc(super->bytes);
		HAUL_ASSERT(images[past] != NULL);
		memcpy(images[past], bytes, super->bytes);
		shard_lab_done(maker);
		free(maker);
	}
	return images[past];
}

/* ---- damage ---- */

static void change_bytes(struct input *input, uint8_t *block)
{
	const uint32_t at = take(input, 2) % FORMAT_BLOCK;
	const uint32_t count = take(input, 1);

	for (uint32_t i = at; i < at + count && i < FORMAT_BLOCK; i++)
		block[i] ^= (uint8_t)take(input, 1);
}

/* Returns which block. */
static uint32_t change(struct input *input, uint8_t *bytes, uint32_t blocks)
{
	const uint32_t how = take(input, 1) % CHANGES;
	const uint32_t index = take(input, 2) % blocks;
	uint8_t *block = bytes + (size_t)index * FORMAT_BLOCK;
	uint8_t kept[FORMAT_BLOCK];

	if (how == CHANGE_BYTES) {
		change_bytes(input, block);
	} else if (how == CHANGE_ZERO) {
		memset(block, 0, FORMAT_BLOCK);
	} else {
		uint8_t *other = bytes + (size_t)(take(input, 2) % blocks) * FORMAT_BLOCK;
		memcpy(kept, block, FORMAT_BLOCK);
		memmove(block, other, FORMAT_BLOCK);
		if (how == CHANGE_SWAP)
			memcpy(other, kept, FORMAT_BLOCK);
	}
	return index;
}

static void repair_all(const struct format_super *super, uint8_t *bytes)
{
	for (uint64_t at = 0; at < super->bytes; at += FORMAT_BLOCK)
		(void)sample_repair_block(bytes + at, FORMAT_BLOCK);
	for (uint32_t s = 0; s < super->segments; s++)
		sample_repair_segment(bytes + format_segment_offset(super, 0, s),
				      super->segment_bytes, super->secret);
}

static void damage(struct shard_lab *lab, uint32_t how, struct input *input)
{
	const struct format_super *super = &lab->volume.super;
	uint8_t *bytes = io_sim_bytes(lab->disk);
	uint32_t first = 0;

	for (uint32_t i = 0; i < CHANGES_MAX && input->left > 0; i++) {
		const uint32_t block =
			change(input, bytes, (uint32_t)(super->bytes / FORMAT_BLOCK));
		first = i == 0 ? block : first;
	}
	if (how & REPAIR)
		repair_all(super, bytes);
	/* A cache without any superblock is none: what opens files says so. */
	put_super(super, bytes, 1);
	if (how & BAD)
		io_sim_bad(lab->disk, (uint64_t)first * FORMAT_BLOCK, FORMAT_BLOCK);
}

/* ---- what must hold ---- */

static void get_all(struct shard_lab *lab, uint32_t how)
{
	for (uint64_t i = 1; i <= KEYS; i++) {
		uint64_t version;
		if (shard_lab_get(lab, i, &version) == HAUL_CACHE_HIT && !(how & REPAIR))
			HAUL_ASSERT(version >= 1 && version < 40);
	}
}

static void open_it(struct shard_lab *lab, uint32_t how)
{
	uint64_t version;

	lab->options.read_only = (how & LOOK) != 0;
	int rc = shard_lab_open(lab);
	HAUL_ASSERT(rc == 0);
	get_all(lab, how);
	if ((how & LOOK) == 0) {
		rc = shard_lab_store(lab, 7, 39, 3000);
		HAUL_ASSERT(rc == 0 || (how & (REPAIR | BAD)) != 0);
		(void)shard_lab_close(lab);
		const int again = shard_lab_open(lab);
		HAUL_ASSERT(again == 0);
		const enum haul_cache_status status = shard_lab_get(lab, 7, &version);
		HAUL_ASSERT((how & (REPAIR | BAD)) || rc != 0 ||
			    (status == HAUL_CACHE_HIT && version == 39));
		get_all(lab, how);
	}
	(void)shard_lab_close(lab);
}

static struct haul_cache_checked check_it(struct shard_lab *lab, bool repair)
{
	const struct haul_cache_check options = { .repair = repair };
	struct haul_cache_checked checked = { 0 };
	struct haul_err err = { 0 };

	const int rc = check_volume(&lab->volume, lab->io, &options, &checked, &err);
	HAUL_ASSERT(rc == 0);
	return checked;
}

static void check_all(struct shard_lab *lab, uint32_t how)
{
	(void)check_it(lab, false);
	if (how & LOOK)
		return;
	(void)check_it(lab, true);
	const struct haul_cache_checked checked = check_it(lab, false);
	HAUL_ASSERT((how & (REPAIR | BAD)) || (checked.damaged == 0 && checked.structures == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct shard_lab lab;
	struct input input = { data, size };

	if (size == 0)
		return 0;
	const uint32_t how = take(&input, 1);
	const uint8_t *image = past_image(how % PASTS);
	lab_start(&lab, how % PASTS);
	memcpy(io_sim_bytes(lab.disk), image, lab.volume.super.bytes);
	damage(&lab, how, &input);
	if (how & CHECK)
		check_all(&lab, how);
	else
		open_it(&lab, how);
	shard_lab_done(&lab);
	return 0;
}
