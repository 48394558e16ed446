#include <string.h>

#include "base/assert.h"
#include "os/os.h"
#include "sim/sim_state.h"

/* ---- flows ---- */

/* A figure that was not measured is null. */
static void set_figure(json_t *object, const char *key, double value)
{
	json_object_set_new(object, key, value < 0 ? json_null() : json_real(value));
}

static void set_count(json_t *object, const char *key, int64_t value)
{
	json_object_set_new(object, key, value < 0 ? json_null() : json_integer(value));
}

static json_t *text_or_null(const char *text)
{
	return *text == '\0' ? json_null() : json_string(text);
}

static json_t *flow_json(const struct sim_flow *one)
{
	const struct flow *flow = &one->flow;
	const struct measure *measure = &flow->measure;
	json_t *object = json_object();

	json_object_set_new(object, "kind", json_string(scenario_kind_name(flow->spec->kind)));
	json_object_set_new(object, "from", json_string(flow->spec->from));
	json_object_set_new(object, "to", json_string(flow->spec->to));
	json_object_set_new(object, "state", json_string(flow_state_name(flow->state)));
	json_object_set_new(object, "why", text_or_null(flow->why));
	json_object_set_new(object, "route", text_or_null(one->route));
	json_object_set_new(object, "route_end", text_or_null(one->route_end));
	set_count(object, "hops", flow->hops > 0 ? (int64_t)flow->hops : -1);
	set_figure(object, "rtt_p50_ms", measure->rtt_p50_ms);
	set_figure(object, "rtt_p99_ms", measure->rtt_p99_ms);
	set_figure(object, "mbit_per_s", measure->mbit_per_s);
	set_figure(object, "loss", measure->loss);
	set_figure(object, "gap_ms", measure->gap_ms);
	set_figure(object, "jitter_ms", measure->jitter_ms);
	set_figure(object, "seconds", measure->seconds);
	set_count(object, "sent", measure->sent);
	set_count(object, "received", measure->received);
	set_count(object, "retransmits", measure->retransmits);
	json_object_set(object, "connection", one->tally != NULL ? one->tally : json_null());
	if (flow->spec->kind == SCENARIO_HTTP)
		json_object_set_new(object, "sha256_matches", json_boolean(flow->sum_matches));
	return object;
}

/* ---- nodes ---- */

static json_t *air_json(const struct channel *channel, uint32_t node)
{
	const struct channel_node_stats *stats = channel_node_stats(channel, node);

	return json_pack("{s:I, s:I, s:I, s:f}", "sent", (json_int_t)stats->sent, "dropped_queue",
			 (json_int_t)stats->dropped, "out_of_range",
			 (json_int_t)stats->out_of_range, "airtime_s",
			 (double)stats->airtime_ns / (double)NS_PER_S);
}

static json_t *interface_json(const struct hub_port *port)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "failed", (json_int_t)port->failed, "unknown",
			 (json_int_t)port->unknown, "no_frame", (json_int_t)port->no_frame,
			 "unsent", (json_int_t)port->unsent);
}

static json_t *node_json(const struct sim *sim, uint32_t index)
{
	struct hub *hub = sim->world->hub;
	const struct world_node *node = &sim->world->nodes[index];
	json_t *status = node->died ? NULL : world_status(sim->world, index, NULL);
	json_t *object = json_object();

	json_object_set_new(object, "name", json_string(node->spec->name));
	json_object_set_new(object, "role",
			    json_string(node->spec->role == SCENARIO_RSU ? "rsu" : "obu"));
	json_object_set_new(object, "address", json_string(node->address));
	json_object_set_new(object, "died", node->died ? json_string(node->why) : json_null());
	json_object_set_new(object, "air", air_json(hub_channel(hub, WORLD_RADIO), index));
	json_object_set_new(object, "radio0", interface_json(hub_port(hub, WORLD_RADIO, index)));
	json_object_set(object, "upstream", json_object_get(status, "upstream"));
	json_object_set(object, "stats", json_object_get(status, "stats"));
	json_decref(status);
	return object;
}

/* ---- links ---- */

static double hist_ms(const struct haul_hist *hist, double quantile)
{
	return (double)haul_hist_quantile(hist, quantile) / (double)NS_PER_MS;
}

static void add_link(const struct world *world, uint32_t medium, uint32_t from, uint32_t to,
		     json_t *list)
{
	const struct channel_link_stats *stats =
		channel_link_stats(hub_channel(world->hub, medium), from, to);

	if (stats == NULL || stats->sent == 0)
		return;
	json_array_append_new(
		list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "medium",
				medium == WORLD_RADIO ? "radio" : "backhaul", "from",
				world->nodes[from].spec->name, "to", world->nodes[to].spec->name,
				"sent", (json_int_t)stats->sent, "lost", (json_int_t)stats->lost,
				"dropped", (json_int_t)stats->dropped, "delivered",
				(json_int_t)stats->delivered, "bytes", (json_int_t)stats->bytes,
				"loss", (double)stats->lost / (double)stats->sent, "delay_p50_ms",
				hist_ms(&stats->delay_ns, 0.5), "delay_p99_ms",
				hist_ms(&stats->delay_ns, 0.99)));
}

static json_t *links_json(const struct world *world)
{
	json_t *list = json_array();

	for (uint32_t medium = 0; medium < WORLD_MEDIA; medium++)
		for (uint32_t from = 0; from < world->count; from++)
			for (uint32_t to = 0; to < world->count; to++)
				add_link(world, medium, from, to, list);
	return list;
}

/* ---- all ---- */

static bool passed(const struct sim *sim)
{
	bool all = sim->all_routed;

	for (uint32_t i = 0; i < sim->flow_count; i++)
		all = all && (sim->flows[i].flow.state == FLOW_PASSED ||
			      sim->flows[i].flow.state == FLOW_SKIPPED);
	for (uint32_t i = 0; i < sim->world->count; i++)
		all = all && !sim->world->nodes[i].died;
	return all;
}

static json_t *hub_json(const struct hub *hub)
{
	const struct haul_hist *late_ns = hub_late_ns(hub);

	return json_pack("{s:I, s:f, s:f}", "frames", (json_int_t)late_ns->count, "late_p50_us",
			 hist_ms(late_ns, 0.5) * 1000, "late_p99_us",
			 hist_ms(late_ns, 0.99) * 1000);
}

/* Nodes answer while the hub runs, so they are asked before it is held. */
json_t *report_build(const struct sim *sim)
{
	double heartbeat_s = sim->scenario->settings.heartbeat_ms / 1000.0;
	json_t *flows = json_array();
	json_t *nodes = json_array();
	json_t *links;
	json_t *hub;

	HAUL_ASSERT(sim->world != NULL);
	for (uint32_t i = 0; i < sim->flow_count; i++)
		json_array_append_new(flows, flow_json(&sim->flows[i]));
	for (uint32_t i = 0; i < sim->world->count; i++)
		json_array_append_new(nodes, node_json(sim, i));
	hub_lock(sim->world->hub);
	links = links_json(sim->world);
	hub = hub_json(sim->world->hub);
	hub_unlock(sim->world->hub);
	return json_pack("{s:s, s:I, s:b, s:f, s:f, s:f, s:f, s:b, s:o, s:o, s:o, s:o}", "scenario",
			 sim->options.path, "seed", (json_int_t)sim->seed, "passed", passed(sim),
			 "seconds", sim->ran_s, "start_s", sim->start_s, "converged_s",
			 sim->converged_s, "converged_heartbeats", sim->converged_s / heartbeat_s,
			 "all_routed", sim->all_routed, "hub", hub, "flows", flows, "nodes", nodes,
			 "links", links);
}
