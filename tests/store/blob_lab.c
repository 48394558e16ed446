#include "store/blob_lab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static struct blob_lab *lab_of(struct media *media)
{
	return (struct blob_lab *)(void *)media;
}

static int blob_put(struct media *media, uint64_t blob, const void *data, size_t bytes)
{
	struct blob_lab *lab = lab_of(media);
	HAUL_ASSERT(blob < BLOB_LAB_BLOBS && bytes % MEDIA_ALIGN == 0);
	HAUL_ASSERT((uintptr_t)data % MEDIA_ALIGN == 0);
	if (lab->put_fail_after && --lab->put_fail_after == 0)
		return -ENOSPC;
	if (lab->blob[blob].data)
		return -EEXIST;
	lab->blob[blob].data = malloc(bytes);
	HAUL_ASSERT(lab->blob[blob].data);
	memcpy(lab->blob[blob].data, data, bytes);
	lab->blob[blob].bytes = bytes;
	return 0;
}

/* Whether it is this one's turn to fail. */
static bool comes_up(uint64_t *after)
{
	return *after && --*after == 0;
}

static void read_one(struct blob_lab *lab, struct media_read *read)
{
	HAUL_ASSERT(read->offset % MEDIA_ALIGN == 0 && read->bytes % MEDIA_ALIGN == 0);
	HAUL_ASSERT((uintptr_t)read->data % MEDIA_ALIGN == 0);
	uint64_t offset = read->offset;
	if (read->blob >= BLOB_LAB_BLOBS || !lab->blob[read->blob].data) {
		read->result = -ENOENT;
		return;
	}
	if (comes_up(&lab->fail_after)) {
		read->result = -EIO;
		return;
	}
	if (comes_up(&lab->astray_after))
		offset = offset ? 0 : MEDIA_ALIGN;
	const struct blob_lab_blob *blob = &lab->blob[read->blob];
	uint64_t left = offset < blob->bytes ? blob->bytes - offset : 0;
	uint64_t bytes = left < read->bytes ? left : read->bytes;
	memcpy(read->data, blob->data + offset, bytes);
	read->result = (int32_t)bytes;
}

static void blob_get(struct media *media, struct media_read *reads, uint32_t count)
{
	struct blob_lab *lab = lab_of(media);
	__atomic_fetch_add(&lab->gets, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&lab->reads, count, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < count; i++)
		read_one(lab, &reads[i]);
}

static int64_t blob_bytes(struct media *media, uint64_t blob)
{
	struct blob_lab *lab = lab_of(media);
	if (blob >= BLOB_LAB_BLOBS || !lab->blob[blob].data)
		return -ENOENT;
	return (int64_t)lab->blob[blob].bytes;
}

static int blob_delete(struct media *media, uint64_t blob)
{
	struct blob_lab *lab = lab_of(media);
	HAUL_ASSERT(blob < BLOB_LAB_BLOBS);
	free(lab->blob[blob].data);
	lab->blob[blob] = (struct blob_lab_blob){ 0 };
	lab->deleted++;
	return 0;
}

static const struct media_calls calls = {
	.blob_put = blob_put,
	.blob_get = blob_get,
	.blob_bytes = blob_bytes,
	.blob_delete = blob_delete,
};

void blob_lab_open(struct blob_lab *lab)
{
	*lab = (struct blob_lab){ .media.calls = &calls };
}

void blob_lab_close(struct blob_lab *lab)
{
	for (uint32_t i = 0; i < BLOB_LAB_BLOBS; i++)
		free(lab->blob[i].data);
}

static uint64_t blob_next(void *arg)
{
	struct blob_lab_tables *tables = arg;
	return tables->next++;
}

static int made(const struct table_info *info, void *arg)
{
	struct blob_lab_tables *tables = arg;
	HAUL_ASSERT(tables->count < 256);
	tables->info[tables->count++] = *info;
	return 0;
}

void blob_lab_options(struct blob_lab_tables *tables, enum tree tree,
		      struct table_builder_options *ret_options)
{
	*ret_options = (struct table_builder_options){ .media = &tables->lab->media,
						       .tree = tree,
						       .blob_next = blob_next,
						       .made = made,
						       .arg = tables };
}
