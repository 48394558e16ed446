/* What has its fixed place: superblocks, roots, segment headers. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "disk/check.h"
#include "disk/format_head.h"

static bool device_gone(int rc)
{
	return rc == -ENODEV || rc == -ENXIO;
}

/* Written anew, if that is wanted. A write that fails leaves the damage unrepaired. */
static int put_right(struct check *check, uint64_t offset, uint8_t *block)
{
	if (!check->options->repair)
		return 0;
	int rc = check_write(check, offset, FORMAT_BLOCK, block);
	if (rc == 0)
		rc = check_sync(check);
	if (rc == 0)
		check->result.repaired++;
	return device_gone(rc) ? -ENODEV : 0;
}

/* ---- superblocks ---- */

static bool super_good(const struct check *check, int rc, const uint8_t *block)
{
	struct format_super super;
	return rc == 0 && format_super_decode(block, &super) == 0 &&
	       memcmp(super.uuid, check->super->uuid, sizeof super.uuid) == 0;
}

int check_supers(struct check *check)
{
	uint8_t *const block[2] = { check->image, check->image + FORMAT_BLOCK };
	bool good[2];

	for (uint32_t copy = 0; copy < 2; copy++) {
		const int rc = check_read(check, format_super_offset(check->super, copy),
					  FORMAT_BLOCK, block[copy]);
		if (device_gone(rc))
			return -ENODEV;
		good[copy] = super_good(check, rc, block[copy]);
	}
	for (uint32_t copy = 0; copy < 2; copy++) {
		if (good[copy])
			continue;
		check->result.structures++;
		check_damage(check, "superblock %u of 2 is damaged", copy + 1);
		if (!good[1 - copy])
			continue; /* it was good when the file was opened: the device changes */
		const int rc =
			put_right(check, format_super_offset(check->super, copy), block[1 - copy]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- roots ---- */

/* Neither is left: what was purged or quarantined is not known any more. */
static int roots_fresh(struct check *check, uint32_t partition)
{
	int rc = 0;

	for (uint32_t copy = 0; copy < 2 && rc == 0; copy++) {
		check->root = (struct format_root){
			.generation = copy,
			.partition = partition,
			.generation_bound = ROOT_GENERATION_UNKNOWN,
		};
		format_root_encode(&check->root, check->super->uuid, check->image);
		rc = put_right(check, format_root_offset(check->super, partition, copy),
			       check->image);
	}
	return rc;
}

static int check_root(struct check *check, uint32_t partition)
{
	uint8_t *const block[2] = { check->image, check->image + FORMAT_BLOCK };
	struct format_root root[2];
	bool good[2];

	for (uint32_t copy = 0; copy < 2; copy++) {
		const uint64_t offset = format_root_offset(check->super, partition, copy);
		const int rc = check_read(check, offset, FORMAT_BLOCK, block[copy]);
		if (device_gone(rc))
			return -ENODEV;
		good[copy] =
			rc == 0 &&
			format_root_decode(block[copy], check->super->uuid, &root[copy]) == 0 &&
			root[copy].partition == partition;
	}
	for (uint32_t copy = 0; copy < 2; copy++) {
		if (good[copy])
			continue;
		/* A crash while the next one was written leaves it cut in two: the old one counts,
		 * and the next write goes here again. */
		if (good[1 - copy] &&
		    le64_load(block[copy] + HEAD_BYTES) == root[1 - copy].generation + 1) {
			check->result.torn++;
			continue;
		}
		check->result.structures++;
		check_damage(check, "partition %u: root %u of 2 is damaged", partition, copy + 1);
		if (!good[1 - copy])
			continue;
		const int rc = put_right(check, format_root_offset(check->super, partition, copy),
					 block[1 - copy]);
		if (rc < 0)
			return rc;
	}
	return good[0] || good[1] ? 0 : roots_fresh(check, partition);
}

int check_roots(struct check *check)
{
	int rc = 0;
	for (uint32_t p = 0; p < check->super->partitions && rc == 0; p++)
		rc = check_root(check, p);
	return rc;
}

/* ---- segment headers ---- */

/* block is neither a header of ours nor empty. */
static int check_header(struct check *check, uint32_t segment, bool magic)
{
	const struct format_segment place = { .partition = check->partition, .segment = segment };
	const uint8_t *image = check->image;
	struct format_segment header;
	bool known = false;

	if (check_read_segment(check, segment) == 0)
		known = walk_header_restore(&place, check->super, image + FORMAT_BLOCK,
					    image + check->super->segment_bytes - FORMAT_BLOCK,
					    &header) == 1;
	if (!magic && !known)
		return 0; /* what was on the device before */
	check->result.structures++;
	check_damage(check, "partition %u, segment %u: the header is damaged", check->partition,
		     segment);
	memset(check->image, 0, FORMAT_BLOCK);
	if (known)
		format_segment_encode(&header, check->super->uuid, check->image);
	return put_right(check, format_segment_offset(check->super, check->partition, segment),
			 check->image);
}

static bool is_bad(const struct format_root *root, uint32_t segment)
{
	for (uint32_t i = 0; i < root->bad_count; i++)
		if (root->bad[i].segment == segment)
			return true;
	return false;
}

/* The newer root: quarantined segments may hold anything. */
static void root_read(struct check *check)
{
	struct format_root root;
	check->root = (struct format_root){ 0 };
	for (uint32_t copy = 0; copy < 2; copy++) {
		const uint64_t offset = format_root_offset(check->super, check->partition, copy);
		if (check_read(check, offset, FORMAT_BLOCK, check->image) == 0 &&
		    format_root_decode(check->image, check->super->uuid, &root) == 0 &&
		    root.partition == check->partition && root.generation >= check->root.generation)
			check->root = root;
	}
}

/* 1: the header is to be looked at closely; *ret_magic: it was one. */
static int header_doubtful(struct check *check, uint32_t segment, const struct io_op *op,
			   bool *ret_magic)
{
	struct format_segment header;

	if (device_gone(op->result))
		return -ENODEV;
	if (op->result < 0) {
		check->result.structures++;
		check_damage(check, "partition %u, segment %u: the header cannot be read",
			     check->partition, segment);
		return 0;
	}
	*ret_magic = walk_header(check->super, check->partition, segment, op->data, &header) < 0;
	return *ret_magic || walk_header_rotten(check->super, op->data);
}

/* Headers of count segments from first on, side by side: into image. */
static void headers_read(struct check *check, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		check->ops[i] = (struct io_op){
			.kind = IO_READ,
			.bytes = FORMAT_BLOCK,
			.offset = format_segment_offset(check->super, check->partition, first + i),
			.data = check->image + (size_t)i * FORMAT_BLOCK,
		};
		check_start(check, &check->ops[i]);
	}
	check_wait(check);
}

/* Looking closely takes the image, so that comes when all were looked at. */
static int headers_look(struct check *check, uint32_t first, uint32_t count)
{
	struct {
		uint32_t segment;
		bool magic;
	} doubtful[CHECK_OPS];
	uint32_t doubts = 0;
	int rc = 0;

	for (uint32_t i = 0; i < count && rc >= 0; i++) {
		if (is_bad(&check->root, first + i))
			continue;
		doubtful[doubts].segment = first + i;
		rc = header_doubtful(check, first + i, &check->ops[i], &doubtful[doubts].magic);
		doubts += rc == 1;
	}
	rc = rc < 0 ? rc : 0;
	for (uint32_t i = 0; i < doubts && rc == 0; i++)
		rc = check_header(check, doubtful[i].segment, doubtful[i].magic);
	return rc;
}

int check_headers(struct check *check)
{
	const uint32_t segments = check->super->segments;
	const uint32_t room = check->super->segment_bytes / FORMAT_BLOCK;
	const uint32_t step = room < CHECK_OPS ? room : CHECK_OPS;
	int rc = 0;

	root_read(check);
	for (uint32_t first = 0; first < segments && rc == 0; first += step) {
		const uint32_t count = segments - first < step ? segments - first : step;
		headers_read(check, first, count);
		rc = headers_look(check, first, count);
	}
	return rc;
}
