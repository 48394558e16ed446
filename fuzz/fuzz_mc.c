/* fuzz/fuzz_mc.c — any bytes as what a memcached client sends.
 *
 * Promise: nothing outside of the input is read (each prefix lies in memory of exactly its size);
 * every request is understood the same whether it came at once or byte by byte; each one consumes
 * something; keys and values lie within the input; and the meta flags kept are those of the line.
 * What is told to the client is a line.
 * The first byte chooses from which length on values are taken as they come. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/mc.h"

enum { INPUT_BYTES_MAX = 4096, REQUESTS_MAX = 64, VALUE_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct parsed {
	enum mc_parsed how;
	struct mc_request request;
};

/* Base64 gives no more than its letters hold, and nothing when that is no room. */
static void check_base64(struct mc_text key)
{
	const uint32_t max = key.bytes / 4 * 3;
	uint8_t *out = malloc(max ? max : 1);

	HAUL_ASSERT(out);
	const uint32_t bytes = mc_base64(key, out, max);
	HAUL_ASSERT(bytes <= max && bytes + 3 > (bytes > 0 ? max : 0));
	if (bytes > 0)
		HAUL_ASSERT(mc_base64(key, out, bytes - 1) == 0);
	free(out);
}

/* What was over stays over; what expires does so after it was stored; later is never earlier. */
static void check_expiry(int64_t exptime)
{
	const uint32_t now_s = 1700000000;
	const uint32_t expiry = mc_expiry(exptime, now_s);

	HAUL_ASSERT((expiry == 0) == (exptime == 0));
	if (exptime < 0)
		HAUL_ASSERT(expiry == 1);
	if (exptime > 0 && exptime < now_s)
		HAUL_ASSERT(expiry > now_s || expiry == exptime);
}

/* From memory that ends where the input ends. What points into it is turned into offsets. */
static struct parsed parse(const char *data, size_t bytes, uint64_t value_min)
{
	struct parsed parsed;
	char *exact = malloc(bytes ? bytes : 1);
	HAUL_ASSERT(exact);
	if (bytes > 0)
		memcpy(exact, data, bytes);
	parsed.how = mc_parse(exact, bytes, value_min, VALUE_MAX, &parsed.request);
	struct mc_request *request = &parsed.request;
	if (parsed.how == MC_REQUEST) {
		struct mc_text keys = request->keys;
		struct mc_text key;
		uint32_t count = 0;
		while (keys.bytes > 0 && mc_key(&keys, &key))
			count++;
		HAUL_ASSERT(count == request->key_count);
		HAUL_ASSERT(request->key.bytes <= MC_KEY_MAX);
		HAUL_ASSERT(request->meta_count <= MC_FLAGS_MAX);
		HAUL_ASSERT(request->value_bytes <= VALUE_MAX);
		if (request->value)
			HAUL_ASSERT(request->value >= exact &&
				    request->value + request->value_bytes + 2 <= exact + bytes);
		check_base64(request->key);
		check_expiry(request->exptime);
		if (request->key.bytes > 0)
			HAUL_ASSERT(request->key.data >= exact &&
				    request->key.data + request->key.bytes <= exact + bytes);
	}
	if (parsed.how != MC_MORE && request->error) {
		const size_t length = strlen(request->error);
		HAUL_ASSERT(length > 2 && strcmp(request->error + length - 2, "\r\n") == 0);
	}
	free(exact);
	return parsed;
}

/* All but where things lie. */
static void expect_same(const struct parsed *a, const struct parsed *b)
{
	HAUL_ASSERT(a->how == b->how);
	if (a->how == MC_FATAL)
		return;
	HAUL_ASSERT(a->request.consumed == b->request.consumed);
	HAUL_ASSERT(a->request.command == b->request.command);
	HAUL_ASSERT(a->request.error == b->request.error);
	HAUL_ASSERT(a->request.noreply == b->request.noreply);
	HAUL_ASSERT(a->request.key_count == b->request.key_count);
	HAUL_ASSERT(a->request.key.bytes == b->request.key.bytes);
	HAUL_ASSERT(a->request.value_bytes == b->request.value_bytes);
	HAUL_ASSERT(a->request.exptime == b->request.exptime);
	HAUL_ASSERT(a->request.cas == b->request.cas);
	HAUL_ASSERT(a->request.have == b->request.have);
	HAUL_ASSERT((a->request.value == NULL) == (b->request.value == NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > INPUT_BYTES_MAX)
		return 0;
	uint64_t value_min = (uint64_t)(data[0] & 63) * 16;
	const char *at = (const char *)data + 1;
	size_t left = size - 1;
	for (uint32_t i = 0; i < REQUESTS_MAX && left > 0; i++) {
		struct parsed all = parse(at, left, value_min);
		struct parsed part = { .how = MC_MORE };
		for (size_t n = 0; n <= left && part.how == MC_MORE; n++)
			part = parse(at, n, value_min);
		expect_same(&all, &part);
		if (all.how == MC_MORE || all.how == MC_FATAL)
			return 0;
		HAUL_ASSERT(all.request.consumed > 0);
		size_t take = all.request.consumed < left ? (size_t)all.request.consumed : left;
		at += take;
		left -= take;
	}
	return 0;
}
