#include "write_lab.h"

#include <stdio.h>
#include <string.h>

#include "lib/testlib.h"

enum { START_S = 1700000000, VALUE_MAX = HAUL_CACHE_SLICE_MAX };

static uint8_t value[VALUE_MAX];

void write_lab_open(struct write_lab *lab, uint64_t bytes, uint32_t segment_bytes)
{
	struct haul_err err = { 0 };
	lab->volume.super = (struct format_super){ .secret = 7, .created = 1 };
	memcpy(lab->volume.super.uuid, "write_lab's disk", 16);
	assert_int_equal(format_layout(&lab->volume.super, bytes, 1, segment_bytes, &err), 0);
	os_sim_init(&lab->os, 1);
	os_sim_advance(&lab->os, NS_PER_S * START_S);
	lab->volume.os = &lab->os.os;
	assert_int_equal(io_sim_open(&lab->disk, lab->volume.super.bytes, 1), 0);
	lab->io = io_sim_io(lab->disk);
	write_lab_shard(lab);
}

void write_lab_shard(struct write_lab *lab)
{
	struct haul_err err = { 0 };
	lab->options.volume = &lab->volume;
	lab->options.io = lab->io;
	int rc = shard_open(&lab->shard, &lab->options, &err);
	if (rc != 0)
		fail_msg("%s", err.text);
	write_lab_mark(lab);
}

void write_lab_mark(struct write_lab *lab)
{
	lab->writes = io_sim_count(lab->disk, IO_WRITE);
	lab->syncs = io_sim_count(lab->disk, IO_SYNC);
}

uint64_t write_lab_writes(const struct write_lab *lab)
{
	return io_sim_count(lab->disk, IO_WRITE) - lab->writes;
}

uint64_t write_lab_syncs(const struct write_lab *lab)
{
	return io_sim_count(lab->disk, IO_SYNC) - lab->syncs;
}

void write_lab_reopen(struct write_lab *lab)
{
	assert_int_equal(shard_close(lab->shard), 0);
	write_lab_shard(lab);
}

int write_lab_close(struct write_lab *lab)
{
	int rc = shard_close(lab->shard);
	lab->shard = NULL;
	io_close(lab->io);
	io_sim_close(lab->disk);
	return rc;
}

struct cache_key write_lab_key(const struct write_lab *lab, uint32_t number, char text[32])
{
	int bytes = snprintf(text, 32, "key/%u", number);
	struct cache_key key = { .data = (const uint8_t *)text, .bytes = (uint32_t)bytes };
	cache_key_hash(&key, lab->volume.super.secret);
	return key;
}

static void told(struct shard_wait *shard_wait, int result)
{
	struct write_lab_wait *wait = shard_wait->owner;
	wait->result = result;
	wait->told++;
	wait->order = ++wait->lab->told;
}

struct shard_wait *write_lab_wait(struct write_lab *lab)
{
	assert_true(lab->wait_count < WRITE_LAB_WAITS);
	struct write_lab_wait *wait = &lab->waits[lab->wait_count++];
	*wait = (struct write_lab_wait){ .lab = lab };
	wait->wait = (struct shard_wait){ .done = told, .owner = wait };
	return &wait->wait;
}

/* The same bytes for the same number and length. */
static void value_make(uint8_t *out, uint32_t number, uint32_t bytes)
{
	struct prng prng;
	prng_init(&prng, number * UINT64_C(0x9e3779b9) + bytes);
	for (uint32_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)prng_next(&prng);
}

int write_lab_put_how(struct write_lab *lab, struct shard_put *put, uint32_t number, uint32_t bytes)
{
	char text[32];
	assert_true(bytes <= VALUE_MAX);
	value_make(value, number, bytes);
	put->key = write_lab_key(lab, number, text);
	put->value = value;
	put->bytes = bytes;
	return shard_put(lab->shard, put);
}

int write_lab_put(struct write_lab *lab, uint32_t number, uint32_t bytes, bool durable)
{
	struct shard_put put = { .wait = durable ? write_lab_wait(lab) : NULL };
	int rc = write_lab_put_how(lab, &put, number, bytes);
	if (rc != 0 && durable)
		lab->wait_count--;
	return rc;
}

int write_lab_delete(struct write_lab *lab, uint32_t number, bool durable)
{
	char text[32];
	struct cache_key key = write_lab_key(lab, number, text);
	return shard_delete(lab->shard, &key, durable ? write_lab_wait(lab) : NULL);
}

void write_lab_settle(struct write_lab *lab)
{
	shard_drive(lab->shard, NULL);
}

static void get_done(struct shard_get *get)
{
	*(bool *)get->owner = true;
}

enum haul_cache_status write_lab_get(struct write_lab *lab, uint32_t number, bool *ret_good)
{
	char text[32];
	struct cache_key key = write_lab_key(lab, number, text);
	struct shard_value got = { 0 };
	bool done = false;
	struct shard_get get = {
		.keys = &key, .values = &got, .count = 1, .done = get_done, .owner = &done
	};
	shard_get(lab->shard, &get);
	shard_drive(lab->shard, &done);
	assert_true(done && get.ready == 1);
	bool good = got.status == HAUL_CACHE_HIT && got.bytes <= VALUE_MAX;
	if (good) {
		value_make(value, number, got.bytes);
		good = memcmp(value, got.data, got.bytes) == 0;
	}
	*ret_good = good;
	shard_get_next(lab->shard, &get);
	return got.status;
}
