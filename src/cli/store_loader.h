/* cli/store_loader.h — rows into a store, in full frames.
 *
 * Model      Rows are copied in; when a batch is together, keys are looked up in one call, and the
 *            rows go as one frame, each a group of its own: the next frame is made while earlier
 *            ones are on their way to the disk. A node without an id gets one made of its key: 63
 *            bits of XXH3 (0 becomes 1); with upsert it keeps that which it has. What became of a
 *            row is told later, in order.
 * Ownership  the target is borrowed.
 * Memory     at new: STORE_LOADER_FRAMES frames, and what is gathered.
 * Threads    one; results come in on the store's.
 * Errors     a bad row is told and counted; a frame that was not taken ends the load, with text.
 * Blocking   add waits when STORE_LOADER_FRAMES are under way; flush for all.
 * Source     xxHash (https://xxhash.com). */
#pragma once

#include "cli/store_row.h"
#include "rpc/store_target.h"

enum { STORE_LOADER_FRAMES = 4 };

typedef void store_loader_bad(uint64_t line, const char *text, void *arg);

struct store_loader_options {
	const struct store_target *target;
	uint32_t batch; /* rows a frame, at most HAUL_CHANGES_OPS */
	bool upsert, loose;
};

struct store_loader; /* opaque */
int store_loader_new(struct store_loader **ret_loader, const struct store_loader_options *options,
		     struct haul_err *err);
void store_loader_free(struct store_loader *loader);
/* Of the next file: nodes or edges, and who is told of bad rows. Nothing is under way. */
void store_loader_begin(struct store_loader *loader, bool edges, store_loader_bad *bad, void *arg);
int store_loader_add(struct store_loader *loader, const struct store_row *row, uint64_t line,
		     struct haul_err *err);
/* Send what is gathered, and wait for all of it. */
int store_loader_flush(struct store_loader *loader, struct haul_err *err);
/* Rows that are durable. */
uint64_t store_loader_loaded(const struct store_loader *loader);
/* The id of a node that has only a key. */
uint64_t store_loader_id(const struct haul_text *key);
