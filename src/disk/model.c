/* What a device costs, and what follows (haul/disk.h).
 *
 * A gap of G bytes costs G / bandwidth to read, another operation 1 / IOPS: bridging pays below
 * bandwidth / IOPS. A sync of t takes the share x of a batch that needs B / bandwidth to write when
 * t = x (t + B / bandwidth), so B = t * bandwidth * (1 - x) / x.
 *
 * Refining   Each figure follows what is seen by a sixteenth, and takes no sample for more than
 *            four times, or less than a quarter, of what it is: a stall moves it by a fifth, a disk
 *            that has become ten times slower is known after some dozens of samples. */
#include <math.h>

#include <haul/disk.h>
#include "base/assert.h"

static const double WEIGHT = 1.0 / 16;
static const double OUTLIER = 4.0;

enum { GAP_UNIT = 512, READ_UNIT = 4096 };

/* Figures can come from a disk: what is no number, or not positive, counts as unknown. */
static bool known(double value)
{
	return isfinite(value) && value > 0.0;
}

uint64_t haul_disk_model_gap(const struct haul_disk_model *model)
{
	if (!known(model->read_bandwidth) || !known(model->read_iops))
		return 0;
	double gap = model->read_bandwidth / model->read_iops;
	if (gap >= HAUL_DISK_GAP_MAX)
		return HAUL_DISK_GAP_MAX;
	return (uint64_t)gap / GAP_UNIT * GAP_UNIT;
}

uint64_t haul_disk_model_batch(const struct haul_disk_model *model, double share)
{
	if (!known(model->sync_ns) || !known(model->write_bandwidth) || share >= 1.0)
		return 0;
	if (!(share > 0.0))
		return UINT64_MAX;
	double bytes = model->sync_ns * 1e-9 * model->write_bandwidth * (1.0 - share) / share;
	return bytes >= 0x1p63 ? UINT64_MAX : (uint64_t)bytes;
}

static void follow(double *figure, double seen)
{
	if (!known(seen))
		return;
	if (!known(*figure)) {
		*figure = seen;
		return;
	}
	double ratio = fmin(fmax(seen / *figure, 1.0 / OUTLIER), OUTLIER);
	*figure *= 1.0 + WEIGHT * (ratio - 1.0);
	HAUL_ASSERT(known(*figure) || seen > 1e300);
}

void haul_disk_model_saw_sync(struct haul_disk_model *model, double ns)
{
	follow(&model->sync_ns, ns);
}

void haul_disk_model_saw_write(struct haul_disk_model *model, uint64_t bytes, double ns)
{
	if (bytes > 0 && known(ns))
		follow(&model->write_bandwidth, (double)bytes / (ns * 1e-9));
}

/* Reads cost operations / IOPS, and what they have over 4 KiB each costs bytes / bandwidth. One
 * sum was measured: what it is more or less than expected goes to the two by their parts in it. */
void haul_disk_model_saw_reads(struct haul_disk_model *model, uint32_t operations, uint64_t bytes,
			       double ns)
{
	if (operations == 0 || !known(ns) || !known(model->read_iops) ||
	    !known(model->read_bandwidth))
		return;
	uint64_t small = (uint64_t)operations * READ_UNIT;
	double by_operations = operations / model->read_iops;
	double by_bytes = bytes > small ? (double)(bytes - small) / model->read_bandwidth : 0.0;
	double ratio = (by_operations + by_bytes) / (ns * 1e-9);
	ratio = fmin(fmax(ratio, 1.0 / OUTLIER), OUTLIER);
	double part = by_operations / (by_operations + by_bytes);
	HAUL_ASSERT(part > 0.0 && part <= 1.0);
	model->read_iops *= 1.0 + WEIGHT * part * (ratio - 1.0);
	model->read_bandwidth *= 1.0 + WEIGHT * (1.0 - part) * (ratio - 1.0);
}
