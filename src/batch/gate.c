/* When a batch closes.
 *
 * The reasons are asked in the order of the header, so that the one told is the one that would have
 * closed the batch whatever the rest. The deadline is first_ns + wait_max_ns: it hangs on the first
 * operation alone, so operations that come later can never move it, and nothing waits longer than
 * wait_max_ns. With nothing in flight the batch closes at once: what is not sent now can only be
 * sent later, and nothing will come back to say when. */
#include <haul/batch.h>
#include "base/assert.h"

static int64_t deadline_of(const struct haul_limits *limits, int64_t first_ns)
{
	int64_t deadline_ns;
	if (__builtin_add_overflow(first_ns, limits->wait_max_ns, &deadline_ns))
		return INT64_MAX;
	return deadline_ns;
}

enum haul_close haul_gate(const struct haul_limits *limits, const struct haul_gate_input *input,
			  int64_t *ret_deadline_ns)
{
	HAUL_ASSERT(limits->ops_max >= 1 && limits->bytes_max >= 1);
	HAUL_ASSERT(limits->wait_max_ns >= 0);
	if (input->ops_queued == 0) {
		*ret_deadline_ns = INT64_MAX;
		return HAUL_CLOSE_NONE;
	}

	uint32_t ops = limits->ops_max;
	if (input->ops_target > 0 && input->ops_target < ops)
		ops = input->ops_target;
	int64_t deadline_ns = deadline_of(limits, input->first_ns);
	if (input->ops_queued >= ops)
		return HAUL_CLOSE_OPS;
	if (input->bytes_queued >= limits->bytes_max)
		return HAUL_CLOSE_BYTES;
	if (input->manual)
		return HAUL_CLOSE_MANUAL;
	if (input->barrier)
		return HAUL_CLOSE_BARRIER;
	if (input->in_flight == 0)
		return HAUL_CLOSE_IDLE;
	if (input->now_ns >= deadline_ns)
		return HAUL_CLOSE_DEADLINE;
	*ret_deadline_ns = deadline_ns;
	return HAUL_CLOSE_NONE;
}
