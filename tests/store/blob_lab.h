/* store/blob_lab.h — a media of blobs in memory, whose reads fail or go astray when told to.
 *
 * Threads    reads: any; all else one at a time. */
#pragma once

#include "store/media.h"
#include "store/table.h"

enum { BLOB_LAB_BLOBS = 4096 };

struct blob_lab {
	struct media media; /* first */
	struct blob_lab_blob {
		uint8_t *data;
		size_t bytes;
	} blob[BLOB_LAB_BLOBS]; /* by number */
	uint64_t gets, reads;   /* calls of blob_get, and reads in them; atomic */
	/* So many reads succeed, then one does not; 0 = never. */
	uint64_t fail_after, astray_after;
	uint64_t put_fail_after;
	uint32_t deleted;
};

void blob_lab_open(struct blob_lab *lab);
void blob_lab_close(struct blob_lab *lab);

/* Tables built on a lab: what table_builder_options wants. */
struct blob_lab_tables {
	struct blob_lab *lab;
	uint64_t next; /* number of the next blob */
	struct table_info info[256];
	uint32_t count;
};
void blob_lab_options(struct blob_lab_tables *tables, enum tree tree,
		      struct table_builder_options *ret_options);
