#include "cli/flows_text.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/quantity.h"

enum { PORTS = 65536 };

struct flows_services {
	char *tcp[PORTS];
	char *udp[PORTS];
};

/* /etc/services, once; what is not there stays a number. */
static struct flows_services *load_services(void)
{
	struct flows_services *services = calloc(1, sizeof *services);
	const struct servent *entry;

	if (services == NULL)
		return NULL;
	setservent(1);
	while ((entry = getservent()) != NULL) {
		uint16_t port = ntohs((uint16_t)entry->s_port);
		char **name = !strcmp(entry->s_proto, "tcp")   ? &services->tcp[port]
			      : !strcmp(entry->s_proto, "udp") ? &services->udp[port]
							       : NULL;

		if (name != NULL && *name == NULL)
			*name = strdup(entry->s_name);
	}
	endservent();
	return services;
}

static void free_services(struct flows_services *services)
{
	for (unsigned port = 0; services != NULL && port < PORTS; port++) {
		free(services->tcp[port]);
		free(services->udp[port]);
	}
	free(services);
}

int flows_text_init(struct flows_text *text, bool tables, bool rates, bool numeric)
{
	static const struct grid_column list[] = {
		{ "TABLE", false },     { "PROTO", false },  { "INITIATOR", false },
		{ "RESPONDER", false }, { "STATE", false },  { "PKT-TX", true },
		{ "PKT-RX", true },     { "BYTE-TX", true }, { "BYTE-RX", true },
		{ "DATA-TX", true },    { "DATA-RX", true }, { "AGE", true },
		{ "IDLE", true },       { "RTT", true },     { "RETR", true },
		{ "VLAN", true },
	};
	static const struct grid_column live[] = {
		{ "TABLE", false },     { "PROTO", false },   { "INITIATOR", false },
		{ "RESPONDER", false }, { "STATE", false },   { "BIT/S-TX", true },
		{ "BIT/S-RX", true },   { "PKT/S-TX", true }, { "PKT/S-RX", true },
		{ "BYTES", true },      { "AGE", true },      { "IDLE", true },
		{ "RTT", true },        { "RETR", true },
	};
	const struct grid_column *columns = rates ? live : list;
	size_t count = rates ? sizeof live / sizeof live[0] : sizeof list / sizeof list[0];
	size_t first = tables ? 0 : 1;

	*text = (struct flows_text){ .tables = tables, .rates = rates };
	if (!numeric)
		text->services = load_services();
	return grid_init(&text->grid, columns + first, (uint32_t)(count - first));
}

void flows_text_done(struct flows_text *text)
{
	free_services(text->services);
	grid_done(&text->grid);
}

static const char *service_name(const struct flows_text *text, const struct haul_flow_key *key,
				uint16_t port)
{
	if (text->services == NULL)
		return NULL;
	if (key->proto == IPPROTO_TCP)
		return text->services->tcp[port];
	return key->proto == IPPROTO_UDP ? text->services->udp[port] : NULL;
}

void flows_text_end(const struct flows_text *text, const struct flows_record *record, int end,
		    char ret_text[HAUL_FLOW_TEXT])
{
	const struct haul_flow_key *key = record->key;
	int side = record->value->initiator ^ end;
	uint16_t port = side == 0 ? key->port_lo : key->port_hi;
	const char *name = end == 1 ? service_name(text, key, port) : NULL;
	char *colon;

	HAUL_ASSERT(end == 0 || end == 1);
	haul_flow_end_text(key, side, key->port_lo != 0 || key->port_hi != 0, ret_text);
	colon = strrchr(ret_text, ':');
	if (name != NULL && colon != NULL)
		(void)snprintf(colon + 1, (size_t)(ret_text + HAUL_FLOW_TEXT - colon - 1), "%s",
			       name);
}

static void put(struct flows_text *text, const char *cell)
{
	(void)snprintf(grid_cell(&text->grid), GRID_CELL, "%.*s", GRID_CELL - 1, cell);
}

static void put_size(struct flows_text *text, double size)
{
	char cell[QUANTITY_TEXT];

	put(text, quantity_size_text(size, cell));
}

static void put_since(struct flows_text *text, const struct flows_record *record, uint64_t then_ns)
{
	char cell[QUANTITY_TEXT];

	put(text, quantity_duration_text(flows_record_since(record->now_ns, then_ns), cell));
}

/* Who, with whom, in which state. */
static void put_ends(struct flows_text *text, const struct flows_record *record)
{
	char end[HAUL_FLOW_TEXT], proto[8];

	if (text->tables)
		put(text, record->table);
	put(text, haul_flow_proto_name((uint8_t)record->key->proto, proto));
	for (int i = 0; i < 2; i++) {
		flows_text_end(text, record, i, end);
		put(text, end);
	}
	put(text, haul_flow_state_name(record->value->state));
}

static void put_handshake(struct flows_text *text, const struct haul_flow_value *value)
{
	char cell[QUANTITY_TEXT];

	if (value->rtt_us == 0)
		put(text, "-");
	else
		put(text, quantity_duration_text((int64_t)value->rtt_us * 1000, cell));
	(void)snprintf(grid_cell(&text->grid), GRID_CELL, "%" PRIu32, value->retransmits);
}

void flows_text_add(struct flows_text *text, const struct flows_record *record)
{
	const struct haul_flow_value *value = record->value;
	const struct haul_flow_key *key = record->key;
	int tx = value->initiator == HAUL_FLOW_INITIATOR_HI;

	HAUL_ASSERT(!text->rates);
	put_ends(text, record);
	put_size(text, (double)value->packets[tx]);
	put_size(text, (double)value->packets[!tx]);
	put_size(text, (double)value->bytes[tx]);
	put_size(text, (double)value->bytes[!tx]);
	put_size(text, (double)value->payload[tx]);
	put_size(text, (double)value->payload[!tx]);
	put_since(text, record, value->first_ns);
	put_since(text, record, value->last_ns);
	put_handshake(text, value);
	if (key->vlan_inner != 0)
		(void)snprintf(grid_cell(&text->grid), GRID_CELL, "%u.%u", key->vlan_outer,
			       key->vlan_inner);
	else if (key->vlan_outer != 0)
		(void)snprintf(grid_cell(&text->grid), GRID_CELL, "%u", key->vlan_outer);
	else
		put(text, "-");
}

void flows_text_add_rates(struct flows_text *text, const struct flows_record *record,
			  const struct flows_delta *delta, double seconds)
{
	const struct haul_flow_value *value = record->value;
	int tx = value->initiator == HAUL_FLOW_INITIATOR_HI;

	HAUL_ASSERT(text->rates && seconds > 0);
	put_ends(text, record);
	put_size(text, (double)delta->bytes[tx] * 8 / seconds);
	put_size(text, (double)delta->bytes[!tx] * 8 / seconds);
	put_size(text, (double)delta->packets[tx] / seconds);
	put_size(text, (double)delta->packets[!tx] / seconds);
	put_size(text, (double)(value->bytes[0] + value->bytes[1]));
	put_since(text, record, value->first_ns);
	put_since(text, record, value->last_ns);
	put_handshake(text, value);
}
