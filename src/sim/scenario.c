/* The schema, the defaults and the checks. A check that a schema cannot express is one line in one
 * of the check_* functions; each has a case in tests/sim/test_scenario.c. */
#include "sim/scenario.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <haul/batch.h>
#include "base/assert.h"
#include "node/conf.h"
#include "sim/channel.h"

enum { PLACE_BYTES = 64, MTU_MIN = 576, MTU_MAX = 9000, SIZE_MIB_MAX = 1024 };

#define DAY_S      86400.0
#define MS_MAX     60000.0
#define MBIT_MAX   100000.0
#define METRES_MAX 1e6

/* ---- schema ---- */

#define OPT     CYAML_FLAG_OPTIONAL
#define OPT_PTR (CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER)

static const cyaml_strval_t role_names[] = { { "obu", SCENARIO_OBU }, { "rsu", SCENARIO_RSU } };

static const cyaml_strval_t kind_names[] = { { "ping", SCENARIO_PING },
					     { "iperf3-tcp", SCENARIO_IPERF3_TCP },
					     { "iperf3-udp", SCENARIO_IPERF3_UDP },
					     { "http", SCENARIO_HTTP } };

/* of the presets, those for packets */
static const cyaml_strval_t preset_names[] = { { "low-latency", HAUL_PRESET_LOW_LATENCY },
					       { "balanced", HAUL_PRESET_BALANCED },
					       { "throughput", HAUL_PRESET_THROUGHPUT } };

#define X(id, name) { name, id },
static const cyaml_strval_t sizer_names[] = { HAUL_SIZER_LIST(X) };
#undef X

static const cyaml_schema_field_t point_fields[] = {
	CYAML_FIELD_FLOAT("at_s", CYAML_FLAG_DEFAULT, struct scenario_point, at_s),
	CYAML_FIELD_FLOAT("x_m", CYAML_FLAG_DEFAULT, struct scenario_point, x_m),
	CYAML_FIELD_FLOAT("y_m", CYAML_FLAG_DEFAULT, struct scenario_point, y_m), CYAML_FIELD_END
};

static const cyaml_schema_value_t point_schema = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct scenario_point, point_fields) };

static const cyaml_schema_field_t node_fields[] = {
	CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct scenario_node, name, 1,
			       SCENARIO_NAME_BYTES - 1),
	CYAML_FIELD_ENUM("role", CYAML_FLAG_STRICT, struct scenario_node, role, role_names, 2),
	CYAML_FIELD_FLOAT_PTR("x_m", OPT_PTR, struct scenario_node, x_m),
	CYAML_FIELD_FLOAT_PTR("y_m", OPT_PTR, struct scenario_node, y_m),
	CYAML_FIELD_SEQUENCE("path", OPT_PTR, struct scenario_node, path, &point_schema, 1,
			     SCENARIO_POINTS_MAX),
	CYAML_FIELD_END
};

static const cyaml_schema_value_t node_schema = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct scenario_node, node_fields) };

static const cyaml_schema_field_t link_fields[] = {
	CYAML_FIELD_STRING_PTR("a", CYAML_FLAG_POINTER, struct scenario_link, a, 1, 64),
	CYAML_FIELD_STRING_PTR("b", CYAML_FLAG_POINTER, struct scenario_link, b, 1, 64),
	CYAML_FIELD_FLOAT("latency_ms", OPT, struct scenario_link, latency_ms),
	CYAML_FIELD_FLOAT("jitter_ms", OPT, struct scenario_link, jitter_ms),
	CYAML_FIELD_FLOAT("loss", OPT, struct scenario_link, loss),
	CYAML_FIELD_FLOAT("burst_enter", OPT, struct scenario_link, burst_enter),
	CYAML_FIELD_FLOAT("burst_leave", OPT, struct scenario_link, burst_leave),
	CYAML_FIELD_FLOAT("burst_loss", OPT, struct scenario_link, burst_loss),
	CYAML_FIELD_FLOAT("bandwidth_mbit", OPT, struct scenario_link, bandwidth_mbit),
	CYAML_FIELD_BOOL_PTR("up", OPT_PTR, struct scenario_link, up),
	CYAML_FIELD_END
};

static const cyaml_schema_value_t link_schema = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct scenario_link, link_fields) };

static const cyaml_schema_field_t event_fields[] = {
	CYAML_FIELD_FLOAT("at_s", CYAML_FLAG_DEFAULT, struct scenario_event, at_s),
	CYAML_FIELD_STRING_PTR("a", CYAML_FLAG_POINTER, struct scenario_event, a, 1, 64),
	CYAML_FIELD_STRING_PTR("b", CYAML_FLAG_POINTER, struct scenario_event, b, 1, 64),
	CYAML_FIELD_BOOL_PTR("up", OPT_PTR, struct scenario_event, up),
	CYAML_FIELD_FLOAT_PTR("latency_ms", OPT_PTR, struct scenario_event, latency_ms),
	CYAML_FIELD_FLOAT_PTR("jitter_ms", OPT_PTR, struct scenario_event, jitter_ms),
	CYAML_FIELD_FLOAT_PTR("loss", OPT_PTR, struct scenario_event, loss),
	CYAML_FIELD_END
};

static const cyaml_schema_value_t event_schema = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct scenario_event, event_fields) };

static const cyaml_schema_field_t flow_fields[] = {
	CYAML_FIELD_ENUM("kind", CYAML_FLAG_STRICT, struct scenario_flow, kind, kind_names, 4),
	CYAML_FIELD_STRING_PTR("from", CYAML_FLAG_POINTER, struct scenario_flow, from, 1, 64),
	CYAML_FIELD_STRING_PTR("to", CYAML_FLAG_POINTER, struct scenario_flow, to, 1, 64),
	CYAML_FIELD_FLOAT("start_s", OPT, struct scenario_flow, start_s),
	CYAML_FIELD_FLOAT("seconds", OPT, struct scenario_flow, seconds),
	CYAML_FIELD_FLOAT("rate_mbit", OPT, struct scenario_flow, rate_mbit),
	CYAML_FIELD_UINT("size_mib", OPT, struct scenario_flow, size_mib),
	CYAML_FIELD_UINT("interval_ms", OPT, struct scenario_flow, interval_ms),
	CYAML_FIELD_UINT("hops", OPT, struct scenario_flow, hops),
	CYAML_FIELD_FLOAT_PTR("loss_max", OPT_PTR, struct scenario_flow, loss_max),
	CYAML_FIELD_UINT("gap_max_ms", OPT, struct scenario_flow, gap_max_ms),
	CYAML_FIELD_END
};

static const cyaml_schema_value_t flow_schema = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct scenario_flow, flow_fields) };

static const cyaml_schema_field_t radio_fields[] = {
	CYAML_FIELD_FLOAT("rate_mbit", OPT, struct scenario_medium, rate_mbit),
	CYAML_FIELD_FLOAT("overhead_us", OPT, struct scenario_medium, overhead_us),
	CYAML_FIELD_FLOAT("latency_ms", OPT, struct scenario_medium, latency_ms),
	CYAML_FIELD_FLOAT("jitter_ms", OPT, struct scenario_medium, jitter_ms),
	CYAML_FIELD_UINT("retries", OPT, struct scenario_medium, retries),
	CYAML_FIELD_FLOAT("range_m", OPT, struct scenario_medium, range_m),
	CYAML_FIELD_BOOL_PTR("shared", OPT_PTR, struct scenario_medium, shared),
	CYAML_FIELD_UINT("queue_frames", OPT, struct scenario_medium, queue_frames),
	CYAML_FIELD_UINT("mtu", OPT, struct scenario_medium, mtu),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t backhaul_fields[] = {
	CYAML_FIELD_FLOAT("rate_mbit", OPT, struct scenario_medium, rate_mbit),
	CYAML_FIELD_FLOAT("latency_ms", OPT, struct scenario_medium, latency_ms),
	CYAML_FIELD_FLOAT("jitter_ms", OPT, struct scenario_medium, jitter_ms),
	CYAML_FIELD_UINT("queue_frames", OPT, struct scenario_medium, queue_frames),
	CYAML_FIELD_UINT("mtu", OPT, struct scenario_medium, mtu),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t settings_fields[] = {
	CYAML_FIELD_UINT("heartbeat_ms", OPT, struct scenario_settings, heartbeat_ms),
	CYAML_FIELD_UINT("ttl", OPT, struct scenario_settings, ttl),
	CYAML_FIELD_ENUM("preset", OPT | CYAML_FLAG_STRICT, struct scenario_settings, preset,
			 preset_names, 3),
	CYAML_FIELD_ENUM_PTR("sizer", OPT_PTR | CYAML_FLAG_STRICT, struct scenario_settings, sizer,
			     sizer_names, HAUL_SIZER_POLICIES),
	CYAML_FIELD_BOOL("individual", OPT, struct scenario_settings, individual),
	CYAML_FIELD_BOOL("flows", OPT, struct scenario_settings, flows),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t top_fields[] = {
	CYAML_FIELD_UINT("seed", OPT, struct scenario, seed),
	CYAML_FIELD_FLOAT("duration_s", CYAML_FLAG_DEFAULT, struct scenario, duration_s),
	CYAML_FIELD_MAPPING("radio", OPT, struct scenario, radio, radio_fields),
	CYAML_FIELD_MAPPING("backhaul", OPT, struct scenario, backhaul, backhaul_fields),
	CYAML_FIELD_MAPPING("settings", OPT, struct scenario, settings, settings_fields),
	CYAML_FIELD_SEQUENCE("nodes", CYAML_FLAG_POINTER, struct scenario, nodes, &node_schema, 1,
			     SCENARIO_NODES_MAX),
	CYAML_FIELD_SEQUENCE("links", OPT_PTR, struct scenario, links, &link_schema, 0,
			     SCENARIO_LINKS_MAX),
	CYAML_FIELD_SEQUENCE("events", OPT_PTR, struct scenario, events, &event_schema, 0,
			     SCENARIO_EVENTS_MAX),
	CYAML_FIELD_SEQUENCE("traffic", OPT_PTR, struct scenario, traffic, &flow_schema, 0,
			     SCENARIO_FLOWS_MAX),
	CYAML_FIELD_END
};

static const cyaml_schema_value_t top_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER,
								     struct scenario, top_fields) };

/* ---- checks ---- */

struct check {
	const char *path;
	struct haul_err *err;
	const struct scenario *scenario;
};

/* A place of which the last part is a key of entry index of a list. */
static void place_of(char place[PLACE_BYTES], const char *list, uint32_t index, const char *key)
{
	(void)snprintf(place, PLACE_BYTES, "%s[%u].%s", list, index, key);
}

struct range {
	const char *key;
	double value;
	double min;
	double max;
};

/* list NULL: the keys are full places. Also refuses what is not a number. */
static int check_ranges(const struct check *check, const char *list, uint32_t index,
			const struct range *ranges)
{
	char place[PLACE_BYTES];

	for (; ranges->key != NULL; ranges++) {
		if (ranges->value >= ranges->min && ranges->value <= ranges->max)
			continue;
		if (list == NULL)
			(void)snprintf(place, sizeof place, "%s", ranges->key);
		else
			place_of(place, list, index, ranges->key);
		return conf_fail(check->path, place, check->err, "want %g to %g", ranges->min,
				 ranges->max);
	}
	return 0;
}

static double value_or(const double *value, double otherwise)
{
	return value != NULL ? *value : otherwise;
}

int scenario_node_find(const struct scenario *scenario, const char *name)
{
	for (uint32_t i = 0; i < scenario->nodes_count; i++)
		if (strcmp(scenario->nodes[i].name, name) == 0)
			return (int)i;
	return -ENOENT;
}

static int check_name(const struct check *check, const char *place, const char *name,
		      uint32_t *ret_index)
{
	int index = scenario_node_find(check->scenario, name);

	if (index < 0)
		return conf_fail(check->path, place, check->err, "no node of that name");
	*ret_index = (uint32_t)index;
	return 0;
}

/* Two different nodes by name, under two keys of one entry. */
struct pair {
	const char *list;
	uint32_t index;
	const char *keys[2];
	const char *names[2];
};

static int check_pair(const struct check *check, const struct pair *pair, uint32_t ret_indices[2])
{
	char place[PLACE_BYTES];

	for (uint32_t i = 0; i < 2; i++) {
		int rc;

		place_of(place, pair->list, pair->index, pair->keys[i]);
		rc = check_name(check, place, pair->names[i], &ret_indices[i]);
		if (rc < 0)
			return rc;
	}
	if (ret_indices[0] == ret_indices[1])
		return conf_fail(check->path, place, check->err, "want another node than %s",
				 pair->keys[0]);
	return 0;
}

static int check_top(const struct check *check)
{
	const struct scenario *s = check->scenario;
	const struct range ranges[] = {
		{ "duration_s", s->duration_s, 1, DAY_S },
		{ "radio.rate_mbit", s->radio.rate_mbit, 0, MBIT_MAX },
		{ "radio.overhead_us", s->radio.overhead_us, 0, MS_MAX },
		{ "radio.latency_ms", s->radio.latency_ms, 0, MS_MAX },
		{ "radio.jitter_ms", s->radio.jitter_ms, 0, MS_MAX },
		{ "radio.range_m", s->radio.range_m, 0, METRES_MAX },
		{ "radio.queue_frames", s->radio.queue_frames, 1, 65536 },
		{ "radio.mtu", s->radio.mtu, MTU_MIN, MTU_MAX },
		{ "backhaul.rate_mbit", s->backhaul.rate_mbit, 0, MBIT_MAX },
		{ "backhaul.latency_ms", s->backhaul.latency_ms, 0, MS_MAX },
		{ "backhaul.jitter_ms", s->backhaul.jitter_ms, 0, MS_MAX },
		{ "backhaul.queue_frames", s->backhaul.queue_frames, 1, 65536 },
		{ "backhaul.mtu", s->backhaul.mtu, MTU_MIN, MTU_MAX },
		{ "settings.heartbeat_ms", s->settings.heartbeat_ms, 10, MS_MAX },
		{ "settings.ttl", s->settings.ttl, 1, 64 },
		{ NULL, 0, 0, 0 }
	};

	return check_ranges(check, NULL, 0, ranges);
}

static int check_path(const struct check *check, uint32_t index)
{
	const struct scenario_node *node = &check->scenario->nodes[index];
	double before_s = 0;

	for (uint32_t i = 0; i < node->path_count; i++) {
		const struct scenario_point *point = &node->path[i];
		char list[PLACE_BYTES];
		const struct range ranges[] = { { "at_s", point->at_s, before_s, DAY_S },
						{ "x_m", point->x_m, -METRES_MAX, METRES_MAX },
						{ "y_m", point->y_m, -METRES_MAX, METRES_MAX },
						{ NULL, 0, 0, 0 } };
		int rc;

		(void)snprintf(list, sizeof list, "nodes[%u].path", index);
		rc = check_ranges(check, list, i, ranges);
		if (rc < 0)
			return rc;
		before_s = point->at_s;
	}
	return 0;
}

static int check_node(const struct check *check, uint32_t index)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_";
	const struct scenario_node *node = &check->scenario->nodes[index];
	const struct range ranges[] = { { "x_m", value_or(node->x_m, 0), -METRES_MAX, METRES_MAX },
					{ "y_m", value_or(node->y_m, 0), -METRES_MAX, METRES_MAX },
					{ NULL, 0, 0, 0 } };
	char place[PLACE_BYTES];

	place_of(place, "nodes", index, "name");
	if (node->name[strspn(node->name, letters)] != '\0')
		return conf_fail(check->path, place, check->err,
				 "want letters, digits, - and _ only");
	if (scenario_node_find(check->scenario, node->name) != (int)index)
		return conf_fail(check->path, place, check->err, "another node has that name");
	if ((node->x_m == NULL) != (node->y_m == NULL)) {
		place_of(place, "nodes", index, node->x_m == NULL ? "y_m" : "x_m");
		return conf_fail(check->path, place, check->err, "want both x_m and y_m");
	}
	if (node->path_count > 0 && node->x_m == NULL) {
		place_of(place, "nodes", index, "path");
		return conf_fail(check->path, place, check->err,
				 "want x_m and y_m too: where the path begins");
	}
	if (check_ranges(check, "nodes", index, ranges) < 0)
		return HAUL_ECONFIG;
	return check_path(check, index);
}

static int link_find(const struct scenario *scenario, uint32_t a, uint32_t b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct scenario_link *link = &scenario->links[i];

		if ((link->a_index == a && link->b_index == b) ||
		    (link->a_index == b && link->b_index == a))
			return (int)i;
	}
	return -ENOENT;
}

static int check_link(const struct check *check, uint32_t index)
{
	struct scenario_link *link = &check->scenario->links[index];
	const struct pair pair = { "links", index, { "a", "b" }, { link->a, link->b } };
	const struct range ranges[] = { { "latency_ms", link->latency_ms, 0, MS_MAX },
					{ "jitter_ms", link->jitter_ms, 0, MS_MAX },
					{ "loss", link->loss, 0, 1 },
					{ "burst_enter", link->burst_enter, 0, 1 },
					{ "burst_leave", link->burst_leave, 0, 1 },
					{ "burst_loss", link->burst_loss, 0, 1 },
					{ "bandwidth_mbit", link->bandwidth_mbit, 0, MBIT_MAX },
					{ NULL, 0, 0, 0 } };
	char place[PLACE_BYTES];
	uint32_t ends[2];
	int rc = check_pair(check, &pair, ends);

	if (rc < 0)
		return rc;
	link->a_index = ends[0];
	link->b_index = ends[1];
	link->is_down = link->up != NULL && !*link->up;
	place_of(place, "links", index, "a");
	if (link_find(check->scenario, ends[0], ends[1], index) >= 0)
		return conf_fail(check->path, place, check->err,
				 "these two nodes have a link already (one link is both ways)");
	return check_ranges(check, "links", index, ranges);
}

static int check_event(const struct check *check, uint32_t index)
{
	struct scenario_event *event = &check->scenario->events[index];
	const struct pair pair = { "events", index, { "a", "b" }, { event->a, event->b } };
	double before_s = index > 0 ? check->scenario->events[index - 1].at_s : 0;
	const struct range ranges[] = { { "at_s", event->at_s, before_s, DAY_S },
					{ "latency_ms", value_or(event->latency_ms, 0), 0, MS_MAX },
					{ "jitter_ms", value_or(event->jitter_ms, 0), 0, MS_MAX },
					{ "loss", value_or(event->loss, 0), 0, 1 },
					{ NULL, 0, 0, 0 } };
	char place[PLACE_BYTES];
	uint32_t ends[2];
	int link;
	int rc = check_pair(check, &pair, ends);

	if (rc < 0)
		return rc;
	link = link_find(check->scenario, ends[0], ends[1], check->scenario->links_count);
	place_of(place, "events", index, "a");
	if (link < 0)
		return conf_fail(check->path, place, check->err,
				 "`links` has none between these nodes (give it with up: false)");
	event->link_index = (uint32_t)link;
	return check_ranges(check, "events", index, ranges);
}

static int check_flow(const struct check *check, uint32_t index)
{
	struct scenario_flow *flow = &check->scenario->traffic[index];
	const struct pair pair = { "traffic", index, { "from", "to" }, { flow->from, flow->to } };
	bool http = flow->kind == SCENARIO_HTTP;
	bool udp = flow->kind == SCENARIO_IPERF3_UDP;
	const struct range ranges[] = {
		{ "start_s", flow->start_s, 0, check->scenario->duration_s - 1 },
		{ "seconds", flow->seconds, 0, DAY_S },
		{ "rate_mbit", flow->rate_mbit, udp ? 0.01 : 0, MBIT_MAX },
		{ "size_mib", flow->size_mib, http ? 1 : 0, http ? SIZE_MIB_MAX : 0 },
		{ "interval_ms", flow->interval_ms, 2, 1000 },
		{ "hops", flow->hops, 0, 255 },
		{ "loss_max", value_or(flow->loss_max, 0), 0, 1 },
		{ "gap_max_ms", flow->gap_max_ms, 0, DAY_S },
		{ NULL, 0, 0, 0 }
	};
	uint32_t ends[2];
	int rc = check_pair(check, &pair, ends);

	if (rc < 0)
		return rc;
	flow->from_index = ends[0];
	flow->to_index = ends[1];
	return check_ranges(check, "traffic", index, ranges);
}

static int check_each(const struct check *check, uint32_t count,
		      int (*one)(const struct check *check, uint32_t index))
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = one(check, i);
	return rc;
}

static int check_has_rsu(const struct check *check)
{
	for (uint32_t i = 0; i < check->scenario->nodes_count; i++)
		if (check->scenario->nodes[i].role == SCENARIO_RSU)
			return 0;
	return conf_fail(check->path, "nodes", check->err, "want at least one with role: rsu");
}

static int check_all(const struct check *check)
{
	const struct scenario *scenario = check->scenario;
	int rc = check_top(check);

	if (rc == 0)
		rc = check_each(check, scenario->nodes_count, check_node);
	if (rc == 0)
		rc = check_has_rsu(check);
	if (rc == 0)
		rc = check_each(check, scenario->links_count, check_link);
	if (rc == 0)
		rc = check_each(check, scenario->events_count, check_event);
	if (rc == 0)
		rc = check_each(check, scenario->traffic_count, check_flow);
	return rc;
}

/* ---- load ---- */

static void default_u32(uint32_t *value, uint32_t otherwise)
{
	if (*value == 0)
		*value = otherwise;
}

static void set_defaults(struct scenario *scenario)
{
	default_u32(&scenario->radio.queue_frames, SCENARIO_QUEUE_FRAMES);
	default_u32(&scenario->radio.mtu, SCENARIO_MTU);
	default_u32(&scenario->backhaul.queue_frames, SCENARIO_BACKHAUL_QUEUE_FRAMES);
	default_u32(&scenario->backhaul.mtu, SCENARIO_MTU);
	default_u32(&scenario->settings.heartbeat_ms, SCENARIO_HEARTBEAT_MS);
	default_u32(&scenario->settings.ttl, SCENARIO_TTL);
	for (uint32_t i = 0; i < scenario->traffic_count; i++)
		default_u32(&scenario->traffic[i].interval_ms, SCENARIO_PING_INTERVAL_MS);
}

int scenario_load(const char *path, struct scenario **ret_scenario, struct haul_err *err)
{
	struct check check = { .path = path, .err = err };
	void *data = NULL;
	int rc = conf_load(path, &top_schema, &data, err);

	if (rc < 0)
		return rc;
	HAUL_ASSERT(data != NULL);
	set_defaults(data);
	check.scenario = data;
	rc = check_all(&check);
	if (rc < 0) {
		scenario_free(data);
		return rc;
	}
	*ret_scenario = data;
	return 0;
}

void scenario_free(struct scenario *scenario)
{
	conf_free(&top_schema, scenario);
}

const char *scenario_kind_name(enum scenario_kind kind)
{
	HAUL_ASSERT((size_t)kind < sizeof kind_names / sizeof kind_names[0]);
	return kind_names[kind].str;
}
