#include "cli/flows_interval.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/flows_loop.h"
#include "cli/flows_record.h"
#include "cli/grid.h"
#include "cli/quantity.h"
#include "os/os.h"

/* What the entries taken out of the table had counted. */
struct sums {
	struct haul_flow_group all;
	uint64_t payload;
	struct haul_flow_group by_proto[256];
	uint64_t totals[HAUL_FLOW_TOTALS];
};

struct interval {
	struct haul_flows *flows;
	bool json;
	uint64_t number; /* 0: what was there before the first interval */
	int64_t began_ns;
	struct sums now;
	uint64_t before[HAUL_FLOW_TOTALS];
};

static void add(struct haul_flow_group *group, const struct haul_flow_value *value)
{
	group->connections++;
	group->packets += value->packets[0] + value->packets[1];
	group->bytes += value->bytes[0] + value->bytes[1];
}

static int visit(const struct haul_map_batch *batch, void *arg)
{
	struct sums *sums = arg;

	for (uint32_t i = 0; i < batch->count; i++) {
		const struct haul_flow_key *key = haul_map_key(batch, i);
		const struct haul_flow_value *value = haul_map_value(batch, i);

		add(&sums->all, value);
		add(&sums->by_proto[key->proto], value);
		sums->payload += value->payload[0] + value->payload[1];
	}
	return 0;
}

static void put_json(const struct interval *interval, double seconds)
{
	const struct sums *sums = &interval->now;
	const char *comma = "";
	char name[8];

	(void)fputs("{\"table\":", stdout);
	flows_record_string(stdout, haul_flows_info(interval->flows)->name);
	printf(",\"interval\":%" PRIu64 ",\"seconds\":%.6f,\"connections\":%" PRIu64
	       ",\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"payload\":%" PRIu64
	       ",\"by_proto\":{",
	       interval->number, seconds, sums->all.connections, sums->all.packets, sums->all.bytes,
	       sums->payload);
	for (unsigned proto = 0; proto < 256; proto++) {
		const struct haul_flow_group *group = &sums->by_proto[proto];

		if (group->connections == 0)
			continue;
		printf("%s\"%s\":{\"connections\":%" PRIu64 ",\"packets\":%" PRIu64
		       ",\"bytes\":%" PRIu64 "}",
		       comma, haul_flow_proto_name((uint8_t)proto, name), group->connections,
		       group->packets, group->bytes);
		comma = ",";
	}
	(void)fputs("},\"totals\":{", stdout);
	comma = "";
#define X(id, name, help)                                                                          \
	printf("%s\"" name "\":%" PRIu64, comma, sums->totals[id]);                                \
	comma = ",";
	HAUL_FLOW_TOTAL_LIST(X)
#undef X
	(void)fputs("}}\n", stdout);
}

static void put_text(const struct interval *interval, double seconds)
{
	const struct sums *sums = &interval->now;
	char bits[QUANTITY_TEXT], rate[QUANTITY_TEXT], at[QUANTITY_TEXT];

	if (interval->number == 0)
		printf("%-8s %11s %12s %15s %8s %8s %9s %9s\n", "INTERVAL", "CONNECTIONS",
		       "PACKETS", "BYTES", "BIT/S", "PKT/S", "OVERFLOW", "LATE");
	(void)snprintf(at, sizeof at, "%" PRIu64, interval->number);
	printf("%-8s %11" PRIu64 " %12" PRIu64 " %15" PRIu64 " %8s %8s %9" PRIu64 " %9" PRIu64 "\n",
	       interval->number == 0 ? "before" : at, sums->all.connections, sums->all.packets,
	       sums->all.bytes,
	       interval->number == 0
		       ? "-"
		       : quantity_size_text((double)sums->all.bytes * 8 / seconds, bits),
	       interval->number == 0
		       ? "-"
		       : quantity_size_text((double)sums->all.packets / seconds, rate),
	       sums->totals[HAUL_FLOW_T_OVERFLOW], sums->totals[HAUL_FLOW_T_LATE]);
}

/* Totals as what was added since the last time. */
static int read_totals(struct interval *interval)
{
	uint64_t totals[HAUL_FLOW_TOTALS];
	int rc = haul_flows_totals(interval->flows, totals);

	for (int i = 0; rc == 0 && i < HAUL_FLOW_TOTALS; i++) {
		interval->now.totals[i] = totals[i] - interval->before[i];
		interval->before[i] = totals[i];
	}
	return rc;
}

static int take(struct interval *interval, struct haul_err *err)
{
	int64_t now_ns = os_linux()->now_ns(os_linux());
	double seconds = (double)(now_ns - interval->began_ns) / 1e9;
	struct haul_map_report report;
	int rc;

	interval->now = (struct sums){ 0 };
	interval->began_ns = now_ns;
	rc = haul_flows_interval(interval->flows, visit, &interval->now, &report);
	if (rc == -EBUSY)
		return haul_err_set(err, rc, "%s: another process takes its intervals",
				    haul_flows_info(interval->flows)->name);
	if (rc == 0)
		rc = read_totals(interval);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: taking the table: %s",
				    haul_flows_info(interval->flows)->name, haul_strerror(rc));
	if (interval->json)
		put_json(interval, interval->number == 0 ? 0 : seconds);
	else
		put_text(interval, seconds > 0 ? seconds : 1);
	interval->number++;
	return flows_loop_flush(err);
}

int flows_interval_run(struct haul_flows *flows, int64_t interval_ns, uint64_t count, bool json,
		       struct haul_err *err)
{
	struct interval interval = { .flows = flows, .json = json };
	int64_t next_ns = os_linux()->now_ns(os_linux());
	int stop_fd = flows_loop_open(err);
	int rc;

	HAUL_ASSERT(interval_ns > 0);
	if (stop_fd < 0)
		return stop_fd;
	interval.began_ns = next_ns;
	rc = take(&interval, err);
	while (rc == 0 && (count == 0 || interval.number <= count)) {
		next_ns += interval_ns;
		if (flows_loop_wait(stop_fd, -1, next_ns) == FLOWS_LOOP_STOP)
			break;
		rc = take(&interval, err);
	}
	(void)close(stop_fd);
	return rc == -EPIPE ? 0 : rc;
}
