#include "rpc/client_pace.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/assert.h"

enum { OPS_MIN = 10, PREDICT_MIN = 2 };
#define RATE_WEIGHT 0.125 /* of the newest sample */

static const char *const policy_names[] = {
#define X(id, name) name,
	HAUL_CLIENT_POLICY_LIST(X)
#undef X
};

const char *haul_client_policy_name(enum haul_client_policy policy)
{
	return (unsigned)policy < HAUL_CLIENT_POLICIES ? policy_names[policy] : "unknown";
}

int haul_client_policy_by_name(const char *name, enum haul_client_policy *ret_policy)
{
	for (unsigned i = 0; i < HAUL_CLIENT_POLICIES; i++) {
		if (strcmp(policy_names[i], name) == 0) {
			*ret_policy = (enum haul_client_policy)i;
			return 0;
		}
	}
	return -EINVAL;
}

int pace_init(struct pace *pace, enum haul_client_policy policy, const struct haul_limits *limits,
	      struct haul_err *err)
{
	static const enum haul_sizer_policy sizers[HAUL_CLIENT_POLICIES] = {
		[HAUL_CLIENT_FIXED] = HAUL_SIZER_FIXED,
		[HAUL_CLIENT_SEED] = HAUL_SIZER_SERVICE,
		[HAUL_CLIENT_SELFCLOCK] = HAUL_SIZER_FIXED,
		[HAUL_CLIENT_MODEL] = HAUL_SIZER_MODEL,
	};

	if ((unsigned)policy >= HAUL_CLIENT_POLICIES)
		return haul_err_set(err, -EINVAL, "client policy %d: unknown", (int)policy);
	const int rc = haul_limits_check(limits, err);
	if (rc < 0)
		return rc;
	const uint32_t least = OPS_MIN < limits->ops_start ? OPS_MIN : limits->ops_start;
	const struct haul_sizer_options options = {
		.policy = sizers[policy],
		.ops_min = least,
		.ops_max = limits->ops_max,
		.ops_start = limits->ops_start,
	};
	*pace = (struct pace){ .policy = policy, .limits = *limits, .told_ns = INT64_MIN };
	return haul_sizer_init(&pace->sizer, &options, err);
}

/* How long it pays to wait with nothing in flight; 0 = not at all. */
static int64_t wait_of(const struct pace *pace)
{
	const int64_t most_ns = pace->limits.wait_max_ns;

	if (haul_sizer_predict(&pace->sizer, most_ns) < PREDICT_MIN)
		return 0;
	const double ns = sqrt(2 * pace->sizer.fixed_ns / pace->sizer.ops_per_ns);
	const int64_t wait_ns = ns < (double)most_ns ? (int64_t)ns : most_ns;
	return haul_sizer_predict(&pace->sizer, wait_ns) < PREDICT_MIN ? 0 : wait_ns;
}

/* As many as the model wants, but no more than were told last: callers that wait for their results
 * come again when they have them, and when all have come nobody is left to wait for. */
static uint32_t awaited(const struct pace *pace)
{
	const uint32_t target = pace->sizer.target;
	const uint32_t again = pace->told_ops > PREDICT_MIN ? pace->told_ops : PREDICT_MIN;

	return again < target ? again : target;
}

enum haul_close pace_ask(struct pace *pace, const struct pace_input *input,
			 int64_t *ret_deadline_ns)
{
	struct haul_limits limits = pace->limits;
	struct haul_gate_input gate = {
		.ops_queued = input->ops,
		.bytes_queued = input->bytes,
		.in_flight = input->in_flight,
		.first_ns = input->first_ns,
		.now_ns = input->now_ns,
		.barrier = input->barrier,
		.manual = input->manual,
	};

	switch (pace->policy) {
	case HAUL_CLIENT_FIXED:
		gate.ops_target = pace->sizer.target;
		gate.in_flight = input->in_flight > 0 ? input->in_flight : 1;
		break;
	case HAUL_CLIENT_SEED:
		gate.ops_target = pace->sizer.target;
		break;
	case HAUL_CLIENT_MODEL:
		gate.ops_target = input->flight_ops;
		pace->wait_ns = input->in_flight > 0 ? limits.wait_max_ns : wait_of(pace);
		if (input->in_flight > 0 || pace->wait_ns == 0)
			break;
		gate.in_flight = haul_sizer_predict(&pace->sizer, pace->wait_ns);
		gate.ops_target = awaited(pace);
		limits.wait_max_ns = pace->wait_ns;
		break;
	case HAUL_CLIENT_SELFCLOCK:
	case HAUL_CLIENT_POLICIES:
	default:
		gate.ops_target = input->flight_ops;
		break;
	}
	return haul_gate(&limits, &gate, ret_deadline_ns);
}

void pace_told(struct pace *pace, uint32_t ops, int64_t service_ns, int64_t now_ns)
{
	const struct haul_sizer_sample sample = { ops > 0 ? ops : 1, service_ns, now_ns };

	HAUL_ASSERT(service_ns >= 0);
	(void)haul_sizer_update(&pace->sizer, &sample);
	if (pace->told_ns != INT64_MIN && now_ns > pace->told_ns) {
		const double rate = ops / (double)(now_ns - pace->told_ns);
		pace->ops_per_ns += (rate - pace->ops_per_ns) * RATE_WEIGHT;
	}
	pace->told_ns = now_ns;
	pace->told_ops = ops;
}

uint32_t pace_threshold(const struct pace *pace)
{
	return pace->sizer.target;
}
