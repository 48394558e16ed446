/* How large a batch may grow: four policies behind one update.
 *
 * FILL and SERVICE keep a moving average and move the target by a factor of two when it leaves its
 * band. After each move the average starts again from the middle of the band, so that the next move
 * needs fresh evidence: targets do not run away on samples taken at the old size.
 *
 * MODEL fits  service = fixed + ops * per_op  by least squares over the last few dozen batches
 * (older ones fade by MODEL_KEEP each). The target is the smallest batch in which fixed is at most
 * fixed_share_max of the whole:  n >= fixed * (1 - share) / (share * per_op).  A line through
 * batches of one size has any slope, so when sizes differ too little to tell, what was learnt
 * stays, and if the target is what keeps the sizes alike, one batch of another size is tried. */
#include <errno.h>
#include <string.h>

#include <haul/batch.h>
#include "base/assert.h"

#define EMA_WEIGHT        0.25 /* of the newest sample */
#define FILL_HIGH         0.8
#define FILL_LOW          0.3
#define FILL_MIDDLE       0.55
#define SERVICE_HIGH      2.0
#define SERVICE_LOW       0.5
#define SERVICE_TARGET_NS 1000000
#define FIXED_SHARE_MAX   0.1
#define MODEL_KEEP        0.98 /* of the older batches' weight: about fifty count */
#define MODEL_SAMPLES_MIN 3.5  /* batches, as faded, before anything is believed */
#define MODEL_OFF         0.5  /* share of the expected time that a batch may be off … */
#define MODEL_OFF_COUNT   4    /* … so many times in a row before the past is forgotten */
#define MODEL_SPREAD_MIN  0.02 /* variance of ops over its mean squared, below: cannot tell */
#define MODEL_STEP        8    /* targets that differ by less than 1/8 are the same */
#define MODEL_PROBE       4    /* a probe is a quarter of the target, or four times */
#define ARRIVALS_KEEP     0.9  /* about ten batches count: a burst shows at once */
#define BUSY_SHARE        0.5  /* of the time, one at a time, above which waiting pays */

static const char *const policy_names[] = {
#define X(id, name) name,
	HAUL_SIZER_LIST(X)
#undef X
};

const char *haul_sizer_policy_name(enum haul_sizer_policy policy)
{
	HAUL_ASSERT((unsigned)policy < HAUL_SIZER_POLICIES);
	return policy_names[policy];
}

int haul_sizer_policy_by_name(const char *name, enum haul_sizer_policy *ret_policy)
{
	for (unsigned i = 0; i < HAUL_SIZER_POLICIES; i++) {
		if (strcmp(policy_names[i], name) == 0) {
			*ret_policy = (enum haul_sizer_policy)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int options_check(const struct haul_sizer_options *o, struct haul_err *err)
{
	if ((unsigned)o->policy >= HAUL_SIZER_POLICIES)
		return haul_err_set(err, -EINVAL, "sizer policy %d: unknown", (int)o->policy);
	if (o->ops_min < 1 || o->ops_max < o->ops_min || o->ops_max > HAUL_BATCH_OPS_MAX)
		return haul_err_set(err, -EINVAL,
				    "ops_min %u, ops_max %u: 1 <= min <= max <= %d is needed",
				    o->ops_min, o->ops_max, HAUL_BATCH_OPS_MAX);
	if (o->ops_start < o->ops_min || o->ops_start > o->ops_max)
		return haul_err_set(err, -EINVAL, "ops_start %u: allowed are %u to %u",
				    o->ops_start, o->ops_min, o->ops_max);
	if (o->service_target_ns < 0)
		return haul_err_set(err, -EINVAL, "service target %lld ns: must not be negative",
				    (long long)o->service_target_ns);
	if (!(o->fixed_share_max >= 0.0 && o->fixed_share_max < 1.0))
		return haul_err_set(err, -EINVAL, "fixed share %g: 0 <= share < 1 is needed",
				    o->fixed_share_max);
	return 0;
}

int haul_sizer_init(struct haul_sizer *sizer, const struct haul_sizer_options *options,
		    struct haul_err *err)
{
	int rc = options_check(options, err);
	if (rc < 0)
		return rc;
	struct haul_sizer_options o = *options;
	if (o.service_target_ns == 0)
		o.service_target_ns = SERVICE_TARGET_NS;
	if (!(o.fixed_share_max > 0.0))
		o.fixed_share_max = FIXED_SHARE_MAX;
	*sizer = (struct haul_sizer){
		.options = o,
		.target = o.ops_start,
		.settled = o.ops_start,
		.fill_ema = FILL_MIDDLE,
		.service_ema_ns = (double)o.service_target_ns,
		.last_ns = INT64_MIN,
	};
	return 0;
}

static uint32_t clamp_target(const struct haul_sizer_options *o, double ops)
{
	if (!(ops > o->ops_min))
		return o->ops_min;
	return ops < o->ops_max ? (uint32_t)ops : o->ops_max;
}

static uint32_t fill_target(struct haul_sizer *s, const struct haul_sizer_sample *sample)
{
	double fill = (double)sample->ops / s->target;
	if (fill > 1.0)
		fill = 1.0;
	s->fill_ema += EMA_WEIGHT * (fill - s->fill_ema);
	double factor = s->fill_ema >= FILL_HIGH ? 2.0 : s->fill_ema <= FILL_LOW ? 0.5 : 1.0;
	uint32_t target = clamp_target(&s->options, s->target * factor);
	if (target != s->target)
		s->fill_ema = FILL_MIDDLE;
	return target;
}

static uint32_t service_target(struct haul_sizer *s, const struct haul_sizer_sample *sample)
{
	if (sample->service_ns < 0)
		return s->target;
	double wanted_ns = (double)s->options.service_target_ns;
	s->service_ema_ns += EMA_WEIGHT * ((double)sample->service_ns - s->service_ema_ns);
	double share = s->service_ema_ns / wanted_ns;
	double factor = share > SERVICE_HIGH ? 0.5 : share < SERVICE_LOW ? 2.0 : 1.0;
	uint32_t target = clamp_target(&s->options, s->target * factor);
	if (target != s->target)
		s->service_ema_ns = wanted_ns;
	return target;
}

static void arrivals_learn(struct haul_sizer *s, const struct haul_sizer_sample *sample)
{
	int64_t last_ns = s->last_ns;
	s->last_ns = sample->now_ns;
	if (last_ns == INT64_MIN || sample->now_ns <= last_ns)
		return;
	s->sum_ops = s->sum_ops * ARRIVALS_KEEP + sample->ops;
	s->sum_ns = s->sum_ns * ARRIVALS_KEEP + (double)(sample->now_ns - last_ns);
	s->ops_per_ns = s->sum_ops / s->sum_ns;
}

/* Several batches in a row far off the learnt line mean that the price has changed: what came
 * before says nothing any more, and being larger it could outweigh the new for long. One batch far
 * off is an accident. */
static void change_detect(struct haul_sizer *s, double ops, double service_ns)
{
	double expected_ns = s->fixed_ns + s->per_op_ns * ops;
	if (!(expected_ns > 0.0))
		return; /* nothing learnt yet */
	double off_ns = service_ns - expected_ns;
	bool off = off_ns > MODEL_OFF * expected_ns || -off_ns > MODEL_OFF * expected_ns;
	s->off_count = off ? s->off_count + 1 : 0;
	if (s->off_count < MODEL_OFF_COUNT)
		return;
	s->off_count = 0;
	s->sum_w = s->sum_n = s->sum_t = s->sum_nn = s->sum_nt = 0.0;
}

/* Returns whether the batches seen differ enough in size for the fit to mean anything. Each batch
 * weighs 1 / ops: the time of a large one scatters more. */
static bool cost_learn(struct haul_sizer *s, const struct haul_sizer_sample *sample)
{
	double n = sample->ops;
	double t = (double)sample->service_ns;
	change_detect(s, n, t);
	s->sum_w = s->sum_w * MODEL_KEEP + 1.0 / n;
	s->sum_n = s->sum_n * MODEL_KEEP + 1.0;
	s->sum_t = s->sum_t * MODEL_KEEP + t / n;
	s->sum_nn = s->sum_nn * MODEL_KEEP + n;
	s->sum_nt = s->sum_nt * MODEL_KEEP + t;

	double mean_n = s->sum_n / s->sum_w;
	double mean_t = s->sum_t / s->sum_w;
	double variance = s->sum_nn / s->sum_w - mean_n * mean_n;
	if (s->sum_n < MODEL_SAMPLES_MIN || variance < MODEL_SPREAD_MIN * mean_n * mean_n)
		return false;
	double slope = (s->sum_nt / s->sum_w - mean_n * mean_t) / variance;
	double fixed_ns = mean_t - slope * mean_n;
	/* Noise can make either of them negative; the other one then explains it all. */
	s->per_op_ns = fixed_ns < 0.0 ? mean_t / mean_n : slope > 0.0 ? slope : 0.0;
	s->fixed_ns = fixed_ns < 0.0 ? 0.0 : slope > 0.0 ? fixed_ns : mean_t;
	return true;
}

static uint32_t model_wanted(const struct haul_sizer *s)
{
	double share = s->options.fixed_share_max;
	double gain_ns = s->fixed_ns * (1.0 - share) / share;
	if (gain_ns >= s->per_op_ns * s->options.ops_max)
		return s->options.ops_max;
	double ops = gain_ns / s->per_op_ns;
	uint32_t target = clamp_target(&s->options, ops);
	return clamp_target(&s->options, target < ops ? target + 1.0 : target);
}

static uint32_t model_probe(const struct haul_sizer *s)
{
	if (s->settled / MODEL_PROBE >= s->options.ops_min)
		return s->settled / MODEL_PROBE;
	return clamp_target(&s->options, (double)s->settled * MODEL_PROBE);
}

static uint32_t model_target(struct haul_sizer *s, const struct haul_sizer_sample *sample)
{
	bool probing = s->target != s->settled;
	bool full = sample->ops >= s->target;
	if (sample->service_ns < 0)
		return s->settled;
	if (!cost_learn(s, sample))
		return full && !probing ? model_probe(s) : s->settled;

	uint32_t wanted = model_wanted(s);
	uint32_t apart = wanted > s->settled ? wanted - s->settled : s->settled - wanted;
	if ((uint64_t)apart * MODEL_STEP >= s->settled)
		s->settled = wanted;
	return s->settled;
}

uint32_t haul_sizer_update(struct haul_sizer *sizer, const struct haul_sizer_sample *sample)
{
	HAUL_ASSERT(sample->ops >= 1);
	uint32_t target = sizer->target;
	switch (sizer->options.policy) {
	case HAUL_SIZER_FILL:
		target = fill_target(sizer, sample);
		break;
	case HAUL_SIZER_SERVICE:
		target = service_target(sizer, sample);
		break;
	case HAUL_SIZER_MODEL:
		arrivals_learn(sizer, sample);
		target = model_target(sizer, sample);
		break;
	case HAUL_SIZER_FIXED:
	case HAUL_SIZER_POLICIES:
		break;
	}
	HAUL_ASSERT(target >= sizer->options.ops_min && target <= sizer->options.ops_max);
	sizer->adjustments += target != sizer->target;
	sizer->target = target;
	return target;
}

uint32_t haul_sizer_predict(const struct haul_sizer *sizer, int64_t wait_ns)
{
	HAUL_ASSERT(wait_ns >= 0);
	if (sizer->options.policy != HAUL_SIZER_MODEL)
		return 0;
	double busy = sizer->ops_per_ns * (sizer->fixed_ns + sizer->per_op_ns);
	if (!(busy > BUSY_SHARE))
		return 0;
	double ops = sizer->ops_per_ns * (double)wait_ns;
	return ops < HAUL_BATCH_OPS_MAX ? (uint32_t)ops : HAUL_BATCH_OPS_MAX;
}
