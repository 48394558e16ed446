#include "shard_lab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "disk/lookup_state.h"
#include "disk/reclaim_state.h"

enum { WORDS_ALIKE = 128 }; /* words in a row that are the same, in values to be squeezed */

/* ---- the disk ---- */

static struct shard_lab *lab_of(struct io *io);

/* The disk has stopped: the power is cut now, while what is under way is still there. */
static int lab_io_wait(struct io *io, int64_t timeout_ns)
{
	struct shard_lab *lab = lab_of(io);
	int rc = lab->own_calls->wait(io, timeout_ns);
	if (rc == -ETIME && !lab->crashed && io_sim_stopped(lab->disk)) {
		io_sim_crash(lab->disk, lab->how, &lab->prng);
		lab->crashed = true;
	}
	if (rc == -ETIME && timeout_ns > 0)
		os_sim_advance(&lab->os, timeout_ns);
	return rc;
}

static struct shard_lab *lab_of(struct io *io)
{
	const struct io_calls *calls = io->calls;
	return (struct shard_lab *)((uintptr_t)calls - offsetof(struct shard_lab, calls));
}

static void lab_io(struct shard_lab *lab)
{
	lab->io = io_sim_io(lab->disk);
	lab->own_calls = lab->io->calls;
	lab->calls = *lab->own_calls;
	lab->calls.wait = lab_io_wait;
	lab->io->calls = &lab->calls;
	lab->options.io = lab->io;
}

void shard_lab_init(struct shard_lab *lab, uint64_t bytes, uint32_t segment_bytes, uint64_t seed)
{
	struct haul_err err = { 0 };
	struct shard_options options = lab->options;
	*lab = (struct shard_lab){ .options = options, .how = IO_SIM_LOSE_ALL };
	lab->volume.super = (struct format_super){ .secret = 7, .created = 1 };
	memcpy(lab->volume.super.uuid, "shard_lab's disk", 16);
	int rc = format_layout(&lab->volume.super, bytes, 1, segment_bytes, &err);
	if (rc != 0)
		fail_msg("%s", err.text);
	os_sim_init(&lab->os, seed);
	os_sim_advance(&lab->os, NS_PER_S * SHARD_LAB_START_S);
	lab->volume.os = &lab->os.os;
	prng_init(&lab->prng, seed);
	assert_int_equal(io_sim_open(&lab->disk, lab->volume.super.bytes, seed), 0);
	lab->value = malloc(HAUL_CACHE_SLICE_MAX);
	assert_non_null(lab->value);
	lab->options.volume = &lab->volume;
	lab_io(lab);
}

void shard_lab_done(struct shard_lab *lab)
{
	if (lab->shard)
		(void)shard_lab_close(lab);
	io_close(lab->io);
	io_sim_close(lab->disk);
	free(lab->value);
}

int shard_lab_open(struct shard_lab *lab)
{
	struct haul_err err = { 0 };
	assert_null(lab->shard);
	if (lab->crashed) {
		io_close(lab->io);
		lab_io(lab);
		lab->crashed = false;
	}
	int rc = shard_open(&lab->shard, &lab->options, &err);
	if (rc != 0 && !lab->crashed)
		print_message("shard_open: %d %s\n", rc, err.text);
	if (rc != 0)
		lab->shard = NULL;
	return rc;
}

int shard_lab_close(struct shard_lab *lab)
{
	int rc = shard_close(lab->shard);
	lab->shard = NULL;
	return rc;
}

void shard_lab_reopen(struct shard_lab *lab)
{
	assert_int_equal(shard_lab_close(lab), 0);
	assert_int_equal(shard_lab_open(lab), 0);
}

void shard_lab_abandon(struct shard_lab *lab)
{
	if (!lab->shard)
		return;
	/* Gets that never finish now. */
	lab->shard->lookups->first = lab->shard->lookups->last = NULL;
	lab->shard->lookups->in_flight = 0;
	lab->shard->reclaim->reads = 0;
	lab->shard->flushing_stopped = true;
	(void)shard_close(lab->shard);
	lab->shard = NULL;
}

void shard_lab_crash(struct shard_lab *lab, enum io_sim_crash how)
{
	if (!lab->crashed)
		io_sim_crash(lab->disk, how, &lab->prng);
	lab->crashed = true;
	io_sim_stop_after(lab->disk, UINT64_MAX);
	shard_lab_abandon(lab);
}

/* ---- keys and values ---- */

struct cache_key shard_lab_key(const struct shard_lab *lab, uint64_t number, char text[32])
{
	int bytes = snprintf(text, 32, "key/%llu", (unsigned long long)number);
	struct cache_key key = { .data = (const uint8_t *)text, .bytes = (uint32_t)bytes };
	if (lab->slicing && number % 4 == 3) {
		key.slice = 1 + (uint32_t)number;
		key.version = number * number;
	}
	cache_key_hash(&key, lab->volume.super.secret);
	return key;
}

static void fill(const struct shard_lab *lab, uint64_t seed, uint8_t *out, uint32_t bytes)
{
	uint32_t alike = lab->squeezing ? WORDS_ALIKE : 1;
	for (uint32_t at = 0; at < bytes; at += 8) {
		uint8_t word[8];
		le64_store(word, hash_u64(seed + at / 8 / alike));
		memcpy(out + at, word, bytes - at < 8 ? bytes - at : 8);
	}
}

void shard_lab_value(const struct shard_lab *lab, uint64_t number, uint64_t version, uint8_t *out,
		     uint32_t bytes)
{
	if (bytes == 0)
		return;
	assert_true(bytes >= SHARD_LAB_VALUE_MIN);
	le64_store(out, number);
	le64_store(out + 8, version);
	le64_store(out + 16, bytes);
	fill(lab, hash_u64(number) ^ hash_u64(version + 1), out + 24, bytes - 24);
}

uint64_t shard_lab_version(const struct shard_lab *lab, uint64_t number, const uint8_t *data,
			   uint32_t bytes)
{
	static uint8_t want[HAUL_CACHE_SLICE_MAX];
	if (bytes < SHARD_LAB_VALUE_MIN || bytes > sizeof want || le64_load(data) != number)
		return 0;
	uint64_t version = le64_load(data + 8);
	shard_lab_value(lab, number, version, want, bytes);
	return memcmp(want, data, bytes) == 0 ? version : 0;
}

/* ---- doing ---- */

static void told(struct shard_wait *wait, int result)
{
	struct shard_lab_wait *lab_wait = wait->owner;
	lab_wait->told++;
	lab_wait->result = result;
}

struct shard_wait *shard_lab_wait(struct shard_lab_wait *wait)
{
	*wait = (struct shard_lab_wait){ .wait.done = told };
	wait->wait.owner = wait;
	return &wait->wait;
}

/* Until it was told, or the disk has stopped. */
static int settle_wait(struct shard_lab *lab, struct shard_lab_wait *wait)
{
	while (wait->told == 0 && !lab->crashed) {
		shard_drive(lab->shard, NULL);
		if (wait->told == 0 && !lab->crashed)
			os_sim_advance(&lab->os, NS_PER_MS);
	}
	return wait->told ? wait->result : -ENODEV;
}

int shard_lab_put(struct shard_lab *lab, uint64_t number, uint64_t version, uint32_t bytes,
		  struct shard_put *put)
{
	char text[32];
	shard_lab_value(lab, number, version, lab->value, bytes);
	put->key = shard_lab_key(lab, number, text);
	put->value = lab->value;
	put->bytes = bytes;
	return shard_put(lab->shard, put);
}

int shard_lab_store(struct shard_lab *lab, uint64_t number, uint64_t version, uint32_t bytes)
{
	struct shard_lab_wait wait;
	struct shard_put put = { .wait = shard_lab_wait(&wait) };
	int rc;
	while ((rc = shard_lab_put(lab, number, version, bytes, &put)) == -EAGAIN) {
		shard_lab_settle(lab);
		if (lab->crashed)
			return -ENODEV;
		os_sim_advance(&lab->os, NS_PER_MS);
	}
	return rc < 0 ? rc : settle_wait(lab, &wait);
}

int shard_lab_delete(struct shard_lab *lab, uint64_t number)
{
	char text[32];
	struct shard_lab_wait wait;
	struct cache_key key = shard_lab_key(lab, number, text);
	int rc;
	while ((rc = shard_delete(lab->shard, &key, shard_lab_wait(&wait))) == -EAGAIN) {
		shard_lab_settle(lab);
		if (lab->crashed)
			return -ENODEV;
		os_sim_advance(&lab->os, NS_PER_MS);
	}
	return rc < 0 ? rc : settle_wait(lab, &wait);
}

int shard_lab_flush(struct shard_lab *lab)
{
	struct shard_lab_wait wait;
	shard_flush(lab->shard, shard_lab_wait(&wait));
	return settle_wait(lab, &wait);
}

static void got(struct shard_get *get)
{
	*(bool *)get->owner = true;
}

enum haul_cache_status shard_lab_get(struct shard_lab *lab, uint64_t number, uint64_t *ret_version)
{
	char text[32];
	struct cache_key key = shard_lab_key(lab, number, text);
	struct shard_value value = { .status = HAUL_CACHE_MISS };
	bool done = false;
	struct shard_get get = {
		.keys = &key, .values = &value, .count = 1, .done = got, .owner = &done
	};
	shard_get(lab->shard, &get);
	shard_drive(lab->shard, &done);
	*ret_version = 0;
	if (lab->crashed && !done) {
		shard_lab_abandon(lab);
		return HAUL_CACHE_FAILED;
	}
	assert_true(done && get.ready == 1);
	lab->got = value;
	if (value.status == HAUL_CACHE_HIT && value.bytes == 0)
		*ret_version = value.flags;
	else if (value.status == HAUL_CACHE_HIT)
		*ret_version = shard_lab_version(lab, number, value.data, value.bytes);
	shard_get_next(lab->shard, &get);
	return value.status;
}

void shard_lab_settle(struct shard_lab *lab)
{
	shard_drive(lab->shard, NULL);
}

struct haul_cache_stat shard_lab_stat(const struct shard_lab *lab)
{
	struct haul_cache_stat stat = { 0 };
	shard_stat(lab->shard, &stat);
	return stat;
}

uint8_t *shard_lab_bytes(struct shard_lab *lab, uint64_t number, uint64_t *ret_offset)
{
	char text[32];
	struct cache_key key = shard_lab_key(lab, number, text);
	const struct index_slot *slot = index_find(&lab->shard->index, key.hash);
	struct index_entry entry;
	assert_non_null(slot);
	index_unpack(slot, &entry);
	uint64_t offset =
		segment_offset(lab->shard, entry.segment) + (uint64_t)entry.unit * FORMAT_UNIT;
	if (ret_offset)
		*ret_offset = offset;
	return io_sim_bytes(lab->disk) + offset;
}
