#include <assert.h>
#include <errno.h>
#include <string.h>

#include <haul/batch.h>
#include "base/assert.h"

struct preset {
	const char *name;
	struct haul_limits limits;
};

static const struct preset presets[] = {
#define X(id, label, ops, bytes, wait, start)                                                      \
	{ .name = label,                                                                           \
	  .limits = {                                                                              \
		  .ops_max = ops, .bytes_max = bytes, .wait_max_ns = wait, .ops_start = start } },
	HAUL_PRESET_LIST(X)
#undef X
};

#define X(id, label, ops, bytes, wait, start)                                                      \
	static_assert((ops) >= 1 && (ops) <= HAUL_BATCH_OPS_MAX && (bytes) >= 1 && (wait) >= 0 &&  \
			      (start) >= 1 && (start) <= (ops),                                    \
		      "preset " label " keeps its own rules");
HAUL_PRESET_LIST(X)
#undef X

struct haul_limits haul_limits_preset(enum haul_preset preset)
{
	HAUL_ASSERT((unsigned)preset < HAUL_PRESETS);
	return presets[preset].limits;
}

const char *haul_preset_name(enum haul_preset preset)
{
	HAUL_ASSERT((unsigned)preset < HAUL_PRESETS);
	return presets[preset].name;
}

int haul_preset_by_name(const char *name, enum haul_preset *ret_preset)
{
	for (unsigned i = 0; i < HAUL_PRESETS; i++) {
		if (strcmp(presets[i].name, name) == 0) {
			*ret_preset = (enum haul_preset)i;
			return 0;
		}
	}
	return -EINVAL;
}

int haul_limits_check(const struct haul_limits *limits, struct haul_err *err)
{
	if (limits->ops_max < 1 || limits->ops_max > HAUL_BATCH_OPS_MAX)
		return haul_err_set(err, -EINVAL, "ops_max %u: allowed are 1 to %d",
				    limits->ops_max, HAUL_BATCH_OPS_MAX);
	if (limits->bytes_max < 1)
		return haul_err_set(err, -EINVAL, "bytes_max 0: at least 1 is needed");
	if (limits->wait_max_ns < 0)
		return haul_err_set(err, -EINVAL, "wait_max %lld ns: must not be negative",
				    (long long)limits->wait_max_ns);
	if (limits->ops_start < 1 || limits->ops_start > limits->ops_max)
		return haul_err_set(err, -EINVAL, "ops_start %u: allowed are 1 to ops_max %u",
				    limits->ops_start, limits->ops_max);
	return 0;
}
