#include "write_lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"

enum { START_S = 1700000000, VALUE_MAX = HAUL_CACHE_SLICE_MAX };

static uint8_t value[VALUE_MAX];

/* ---- the spy ---- */

static struct write_lab_spy *spy_of(struct io *io)
{
	return (struct write_lab_spy *)io;
}

/* Direct I/O asks for it of memory, offset and length; the simulated disk would not notice. */
static void spy_aligned(const struct io_op *op)
{
	if (op->kind == IO_SYNC)
		return;
	assert_int_equal((uintptr_t)op->data % FORMAT_BLOCK, 0);
	assert_int_equal(op->offset % FORMAT_BLOCK, 0);
	assert_int_equal(op->bytes % FORMAT_BLOCK, 0);
	assert_true(op->bytes <= HAUL_DISK_SPLIT);
}

static void spy_submit(struct io *io, struct io_op *op)
{
	struct write_lab_spy *spy = spy_of(io);
	if (op->bytes_done == 0)
		spy_aligned(op);
	spy->sync_count += op->kind == IO_SYNC || (op->kind == IO_WRITE && op->durable);
	if (op->kind == IO_WRITE) {
		assert_true(spy->write_count < WRITE_LAB_WRITES);
		spy->writes[spy->write_count].offset = op->offset;
		spy->writes[spy->write_count++].bytes = op->bytes;
	}
	io_submit(spy->inner, op);
	io->in_flight = spy->inner->in_flight;
}

static void spy_push(struct io *io)
{
	io_push(spy_of(io)->inner);
}

static uint32_t spy_reap(struct io *io)
{
	uint32_t count = io_reap(spy_of(io)->inner);
	io->in_flight = spy_of(io)->inner->in_flight;
	return count;
}

static int spy_wait(struct io *io, int64_t timeout_ns)
{
	return io_wait(spy_of(io)->inner, timeout_ns);
}

static const struct io_calls spy_calls = {
	.submit = spy_submit, .push = spy_push, .reap = spy_reap, .wait = spy_wait
};

static void spy_open(struct write_lab_spy *spy, struct io *inner)
{
	spy->io = (struct io){ .calls = &spy_calls, .fd = -1, .depth = inner->depth };
	spy->inner = inner;
}

/* ---- the lab ---- */

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
	spy_open(&lab->spy, io_sim_io(lab->disk));
	write_lab_shard(lab);
}

void write_lab_shard(struct write_lab *lab)
{
	struct haul_err err = { 0 };
	lab->options.volume = &lab->volume;
	lab->options.io = &lab->spy.io;
	int rc = shard_open(&lab->shard, &lab->options, &err);
	if (rc != 0)
		fail_msg("%s", err.text);
	write_lab_mark(lab);
}

void write_lab_mark(struct write_lab *lab)
{
	lab->writes = lab->spy.write_count;
	lab->syncs = lab->spy.sync_count;
}

uint32_t write_lab_writes(const struct write_lab *lab)
{
	return lab->spy.write_count - lab->writes;
}

uint32_t write_lab_syncs(const struct write_lab *lab)
{
	return lab->spy.sync_count - lab->syncs;
}

uint64_t write_lab_rewritten(const struct write_lab *lab)
{
	const struct format_super *super = &lab->volume.super;
	uint8_t *seen = calloc(super->bytes / FORMAT_BLOCK, 1);
	uint64_t again = 0;
	assert_non_null(seen);
	for (uint32_t i = lab->writes; i < lab->spy.write_count; i++) {
		uint64_t first = lab->spy.writes[i].offset / FORMAT_BLOCK;
		uint64_t count = lab->spy.writes[i].bytes / FORMAT_BLOCK;
		for (uint64_t block = first; block < first + count; block++) {
			if (block == format_root_offset(super, 0, 0) / FORMAT_BLOCK ||
			    block == format_root_offset(super, 0, 1) / FORMAT_BLOCK)
				continue;
			again += seen[block] ? FORMAT_BLOCK : 0;
			seen[block] = 1;
		}
	}
	free(seen);
	return again;
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
	io_close(lab->spy.inner);
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
		good = got.bytes == 0 || memcmp(value, got.data, got.bytes) == 0;
	}
	*ret_good = good;
	shard_get_next(lab->shard, &get);
	return got.status;
}
