/* Superblock, root and segment header; batches and footers are in format_batch.c, where all of it
 * lies in format_layout.c. A decoder first checks the common head, then that every number it hands
 * on lies within the limits its readers rely on. Reserved bytes are written as zeros and not looked
 * at: what later versions put there is announced by a feature bit. */
#include "disk/format.h"

#include <assert.h>
#include <math.h>

#include "base/assert.h"
#include "disk/format_head.h"

enum {
	SUPER_OFF_COMPAT = 32,
	SUPER_OFF_RO_COMPAT = 36,
	SUPER_OFF_INCOMPAT = 40,
	SUPER_OFF_CREATED = 44,
	SUPER_OFF_BYTES = 48,
	SUPER_OFF_SECRET = 56,
	SUPER_OFF_SEGMENTS_OFFSET = 64,
	SUPER_OFF_ENTRIES_MAX = 72,
	SUPER_OFF_PARTITIONS = 80,
	SUPER_OFF_SEGMENT_BYTES = 84,
	SUPER_OFF_SEGMENTS = 88,

	ROOT_OFF_GENERATION = 32,
	ROOT_OFF_PURGED_SEQ = 40,
	ROOT_OFF_SYNC_NS = 48,
	ROOT_OFF_WRITE_BANDWIDTH = 56,
	ROOT_OFF_READ_BANDWIDTH = 64,
	ROOT_OFF_READ_IOPS = 72,
	ROOT_OFF_READ_NS = 80,
	ROOT_OFF_PARTITION = 88,
	ROOT_OFF_BAD_COUNT = 92,
	ROOT_OFF_GENERATION_BOUND = 96,
	ROOT_OFF_FLUSH_PROVEN = 104,
	ROOT_OFF_BAD = 112, /* all before it, and 50 of them, are in the first sector */
	ROOT_BAD_BYTES = 8,

	SEGMENT_OFF_GENERATION = 32,
	SEGMENT_OFF_BORN_SEQ = 40,
	SEGMENT_OFF_PARTITION = 48,
	SEGMENT_OFF_SEGMENT = 52,
	SEGMENT_OFF_LANE = 56,
	SEGMENT_OFF_CREATED = 60
};

static_assert(ROOT_OFF_BAD + FORMAT_BAD_MAX * ROOT_BAD_BYTES <= FORMAT_BLOCK, "a root is a block");
static_assert(sizeof(double) == sizeof(uint64_t), "the model is stored as IEEE 754 bits");

void format_super_encode(const struct format_super *super, uint8_t *block)
{
	HAUL_ASSERT(super->partitions >= 1 && super->partitions <= FORMAT_PARTITIONS_MAX);
	HAUL_ASSERT(super->segments >= 1 && super->segments <= FORMAT_SEGMENTS_MAX);
	head_start(block, FORMAT_BLOCK, HEAD_MAGIC_SUPER, super->uuid);
	le32_store(block + SUPER_OFF_COMPAT, super->compat);
	le32_store(block + SUPER_OFF_RO_COMPAT, super->ro_compat);
	le32_store(block + SUPER_OFF_INCOMPAT, super->incompat);
	le32_store(block + SUPER_OFF_CREATED, super->created);
	le64_store(block + SUPER_OFF_BYTES, super->bytes);
	le64_store(block + SUPER_OFF_SECRET, super->secret);
	le64_store(block + SUPER_OFF_SEGMENTS_OFFSET, super->segments_offset);
	le64_store(block + SUPER_OFF_ENTRIES_MAX, super->entries_max);
	le32_store(block + SUPER_OFF_PARTITIONS, super->partitions);
	le32_store(block + SUPER_OFF_SEGMENT_BYTES, super->segment_bytes);
	le32_store(block + SUPER_OFF_SEGMENTS, super->segments);
	head_seal(block, FORMAT_BLOCK);
}

/* Everything lies where format.h says and does not overlap; no sum below can overflow. */
static bool super_good(const struct format_super *super)
{
	const uint32_t segment_bytes = super->segment_bytes;

	if (super->partitions < 1 || super->partitions > FORMAT_PARTITIONS_MAX ||
	    super->segments < 1 || super->segments > FORMAT_SEGMENTS_MAX)
		return false;
	if (segment_bytes < FORMAT_SEGMENT_MIN || segment_bytes > FORMAT_SEGMENT_MAX ||
	    (segment_bytes & (segment_bytes - 1)) != 0)
		return false;
	const uint64_t edge = (1 + (uint64_t)super->partitions) * FORMAT_BLOCK;
	const uint64_t partition_bytes = (uint64_t)super->segments * segment_bytes;
	if (super->bytes % FORMAT_BLOCK != 0 || super->bytes > INT64_MAX ||
	    super->segments_offset % FORMAT_BLOCK != 0 || super->segments_offset < edge ||
	    super->segments_offset > super->bytes)
		return false;
	if (super->bytes - super->segments_offset < partition_bytes * super->partitions + edge)
		return false;
	return super->entries_max >= 1 && super->entries_max <= partition_bytes / FORMAT_ROW;
}

int format_super_decode(const uint8_t *block, struct format_super *ret_super)
{
	const int rc = head_check(block, FORMAT_BLOCK, HEAD_MAGIC_SUPER, NULL);

	if (rc < 0)
		return rc;
	struct format_super super = {
		.bytes = le64_load(block + SUPER_OFF_BYTES),
		.secret = le64_load(block + SUPER_OFF_SECRET),
		.partitions = le32_load(block + SUPER_OFF_PARTITIONS),
		.segment_bytes = le32_load(block + SUPER_OFF_SEGMENT_BYTES),
		.segments = le32_load(block + SUPER_OFF_SEGMENTS),
		.segments_offset = le64_load(block + SUPER_OFF_SEGMENTS_OFFSET),
		.entries_max = le64_load(block + SUPER_OFF_ENTRIES_MAX),
		.created = le32_load(block + SUPER_OFF_CREATED),
		.compat = le32_load(block + SUPER_OFF_COMPAT),
		.ro_compat = le32_load(block + SUPER_OFF_RO_COMPAT),
		.incompat = le32_load(block + SUPER_OFF_INCOMPAT),
	};
	if (super.incompat != 0)
		return HAUL_EVERSION;
	if (!super_good(&super))
		return HAUL_ECORRUPT;
	memcpy(super.uuid, block + HEAD_OFF_UUID, HEAD_UUID_BYTES);
	*ret_super = super;
	return 0;
}

/* A figure that is none (not a number, infinite, negative) is 0: not known. */
static void figure_store(uint8_t *at, double figure)
{
	uint64_t bits;

	if (!isfinite(figure) || figure <= 0)
		figure = 0;
	memcpy(&bits, &figure, sizeof bits);
	le64_store(at, bits);
}

static double figure_load(const uint8_t *at)
{
	const uint64_t bits = le64_load(at);
	double figure;

	memcpy(&figure, &bits, sizeof figure);
	return isfinite(figure) && figure > 0 ? figure : 0;
}

void format_root_encode(const struct format_root *root, const uint8_t uuid[16], uint8_t *block)
{
	HAUL_ASSERT(root->bad_count <= FORMAT_BAD_MAX);
	HAUL_ASSERT(root->partition < FORMAT_PARTITIONS_MAX);
	head_start(block, FORMAT_BLOCK, HEAD_MAGIC_ROOT, uuid);
	le64_store(block + ROOT_OFF_GENERATION, root->generation);
	le64_store(block + ROOT_OFF_PURGED_SEQ, root->purged_seq);
	le64_store(block + ROOT_OFF_GENERATION_BOUND, root->generation_bound);
	le64_store(block + ROOT_OFF_FLUSH_PROVEN, root->flush_proven);
	figure_store(block + ROOT_OFF_SYNC_NS, root->model.sync_ns);
	figure_store(block + ROOT_OFF_WRITE_BANDWIDTH, root->model.write_bandwidth);
	figure_store(block + ROOT_OFF_READ_BANDWIDTH, root->model.read_bandwidth);
	figure_store(block + ROOT_OFF_READ_IOPS, root->model.read_iops);
	figure_store(block + ROOT_OFF_READ_NS, root->model.read_ns);
	le32_store(block + ROOT_OFF_PARTITION, root->partition);
	le32_store(block + ROOT_OFF_BAD_COUNT, root->bad_count);
	for (uint32_t i = 0; i < root->bad_count; i++) {
		uint8_t *at = block + ROOT_OFF_BAD + i * ROOT_BAD_BYTES;
		le32_store(at, root->bad[i].segment);
		le32_store(at + 4, root->bad[i].good_bytes);
	}
	head_seal(block, FORMAT_BLOCK);
}

static bool bad_load(const uint8_t *at, struct format_bad *ret_bad)
{
	ret_bad->segment = le32_load(at);
	ret_bad->good_bytes = le32_load(at + 4);
	return ret_bad->segment < FORMAT_SEGMENTS_MAX && ret_bad->good_bytes <= FORMAT_SEGMENT_MAX;
}

int format_root_decode(const uint8_t *block, const uint8_t uuid[16], struct format_root *ret_root)
{
	const int rc = head_check(block, FORMAT_BLOCK, HEAD_MAGIC_ROOT, uuid);

	if (rc < 0)
		return rc;
	struct format_root root = {
		.generation = le64_load(block + ROOT_OFF_GENERATION),
		.partition = le32_load(block + ROOT_OFF_PARTITION),
		.purged_seq = le64_load(block + ROOT_OFF_PURGED_SEQ),
		.generation_bound = le64_load(block + ROOT_OFF_GENERATION_BOUND),
		.flush_proven = le64_load(block + ROOT_OFF_FLUSH_PROVEN),
		.model.sync_ns = figure_load(block + ROOT_OFF_SYNC_NS),
		.model.write_bandwidth = figure_load(block + ROOT_OFF_WRITE_BANDWIDTH),
		.model.read_bandwidth = figure_load(block + ROOT_OFF_READ_BANDWIDTH),
		.model.read_iops = figure_load(block + ROOT_OFF_READ_IOPS),
		.model.read_ns = figure_load(block + ROOT_OFF_READ_NS),
		.bad_count = le32_load(block + ROOT_OFF_BAD_COUNT),
	};
	if (root.partition >= FORMAT_PARTITIONS_MAX || root.bad_count > FORMAT_BAD_MAX)
		return HAUL_ECORRUPT;
	for (uint32_t i = 0; i < root.bad_count; i++)
		if (!bad_load(block + ROOT_OFF_BAD + i * ROOT_BAD_BYTES, &root.bad[i]))
			return HAUL_ECORRUPT;
	*ret_root = root;
	return 0;
}

void format_segment_encode(const struct format_segment *segment, const uint8_t uuid[16],
			   uint8_t *block)
{
	HAUL_ASSERT(segment->lane < LANES);
	HAUL_ASSERT(segment->segment < FORMAT_SEGMENTS_MAX);
	head_start(block, FORMAT_BLOCK, HEAD_MAGIC_SEGMENT, uuid);
	le64_store(block + SEGMENT_OFF_GENERATION, segment->generation);
	le64_store(block + SEGMENT_OFF_BORN_SEQ, segment->born_seq);
	le32_store(block + SEGMENT_OFF_PARTITION, segment->partition);
	le32_store(block + SEGMENT_OFF_SEGMENT, segment->segment);
	le32_store(block + SEGMENT_OFF_LANE, segment->lane);
	le32_store(block + SEGMENT_OFF_CREATED, segment->created);
	head_seal(block, FORMAT_BLOCK);
}

int format_segment_decode(const uint8_t *block, const uint8_t uuid[16],
			  struct format_segment *ret_segment)
{
	const int rc = head_check(block, FORMAT_BLOCK, HEAD_MAGIC_SEGMENT, uuid);

	if (rc < 0)
		return rc;
	const struct format_segment segment = {
		.generation = le64_load(block + SEGMENT_OFF_GENERATION),
		.born_seq = le64_load(block + SEGMENT_OFF_BORN_SEQ),
		.partition = le32_load(block + SEGMENT_OFF_PARTITION),
		.segment = le32_load(block + SEGMENT_OFF_SEGMENT),
		.lane = le32_load(block + SEGMENT_OFF_LANE),
		.created = le32_load(block + SEGMENT_OFF_CREATED),
	};
	if (segment.partition >= FORMAT_PARTITIONS_MAX || segment.segment >= FORMAT_SEGMENTS_MAX ||
	    segment.lane >= LANES)
		return HAUL_ECORRUPT;
	*ret_segment = segment;
	return 0;
}
