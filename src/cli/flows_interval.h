/* cli/flows_interval.h — `haul flows stats --interval`: what passed in each interval, exactly. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/flow.h>

/* Print what each interval carried until count of them are over, or a signal to end. */
int flows_interval_run(struct haul_flows *flows, int64_t interval_ns, uint64_t count, bool json,
		       struct haul_err *err);
