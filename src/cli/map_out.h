/* cli/map_out.h — entries of a map as text, JSON, JSON Lines or CSV.
 *
 * Model      One entry after the other is formatted into a buffer that is written when it is full:
 *            no more of the map is in memory than a batch. Numbers are as typed.h has them; bytes
 *            are "0x…" in memory order. Bits that no field of BTF covers follow as key_bytes and
 *            value_bytes, so that load gives back exactly what dump has read.
 * Ownership  the request, its types and the file stay the caller's.
 * Memory     one buffer; CSV also a place for each field.
 * Threads    one at a time.
 * Errors     a failed write is kept: map_out_end and the calls after it return it (-EPIPE, too). */
#pragma once

#include <stdio.h>

#include "cli/map.h"

struct map_out {
	const struct haul_map_info *info;
	const struct typed *typed;
	enum map_format format;
	FILE *file;
	char *buffer;
	size_t used;
	int error;
	bool joined; /* a value stands before the place: a comma is due */
	bool lossy;  /* CSV: an entry had bits that no field shows */
	uint64_t printed;
	struct typed_place *leaves; /* CSV: of the key, then of the value */
	uint32_t leaf_count, key_leaves;
	char *head; /* CSV: names of the columns */
	size_t head_bytes;
};

int map_out_begin(struct map_out *out, const struct map_request *request, FILE *file);
/* value: slot_bytes; NULL = there is none. */
int map_out_entry(struct map_out *out, const void *key, const void *value);
/* Only one of them, where entries are not what is listed. */
void map_out_key(struct map_out *out, const void *key);
void map_out_value(struct map_out *out, const void *value);
void map_out_text(struct map_out *out, const char *text);
int map_out_flush(struct map_out *out);
/* Close what is open, write all, free. */
int map_out_end(struct map_out *out);
