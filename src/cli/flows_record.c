#include "cli/flows_record.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"

enum { FLAGS = 8 };

/* What the list of fields below refers to. */
struct fields {
	const struct haul_flow_key *key;
	const struct haul_flow_value *value;
	const char *table;
	const char *proto;
	int tx, rx; /* directions */
	int64_t age_ns, idle_ns;
	char proto_text[8];
	char end[2][INET6_ADDRSTRLEN];
	uint16_t port[2];
	char flags[2][FLAGS + 1];
};

/* X(kind, name, what). STRING and NUMBER; OPTIONAL: 0 stands for "not known". */
#define FIELD_LIST(X)                                                                              \
	X(STRING, "table", f->table)                                                               \
	X(STRING, "proto", f->proto)                                                               \
	X(STRING, "initiator", f->end[0])                                                          \
	X(NUMBER, "initiator_port", f->port[0])                                                    \
	X(STRING, "responder", f->end[1])                                                          \
	X(NUMBER, "responder_port", f->port[1])                                                    \
	X(STRING, "state", haul_flow_state_name(f->value->state))                                  \
	X(NUMBER, "packets_tx", f->value->packets[f->tx])                                          \
	X(NUMBER, "packets_rx", f->value->packets[f->rx])                                          \
	X(NUMBER, "bytes_tx", f->value->bytes[f->tx])                                              \
	X(NUMBER, "bytes_rx", f->value->bytes[f->rx])                                              \
	X(NUMBER, "payload_tx", f->value->payload[f->tx])                                          \
	X(NUMBER, "payload_rx", f->value->payload[f->rx])                                          \
	X(NUMBER, "age_ns", (uint64_t)f->age_ns)                                                   \
	X(NUMBER, "idle_ns", (uint64_t)f->idle_ns)                                                 \
	X(NUMBER, "first_ns", f->value->first_ns)                                                  \
	X(NUMBER, "last_ns", f->value->last_ns)                                                    \
	X(OPTIONAL, "rtt_us", f->value->rtt_us)                                                    \
	X(NUMBER, "retransmits", f->value->retransmits)                                            \
	X(STRING, "flags_tx", f->flags[f->tx])                                                     \
	X(STRING, "flags_rx", f->flags[f->rx])                                                     \
	X(OPTIONAL, "vlan_outer", f->key->vlan_outer)                                              \
	X(OPTIONAL, "vlan_inner", f->key->vlan_inner)                                              \
	X(NUMBER, "ifindex", f->value->ifindex)

int64_t flows_record_since(int64_t now_ns, uint64_t then_ns)
{
	HAUL_ASSERT(now_ns >= 0);
	return (uint64_t)now_ns > then_ns ? (int64_t)((uint64_t)now_ns - then_ns) : 0;
}

static void address_text(const uint8_t address[16], char text[INET6_ADDRSTRLEN])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = memcmp(address, mapped, sizeof mapped) == 0;
	const char *done = inet_ntop(v4 ? AF_INET : AF_INET6, address + (v4 ? sizeof mapped : 0),
				     text, INET6_ADDRSTRLEN);

	HAUL_ASSERT(done != NULL);
}

static void flags_text(uint8_t flags, char text[FLAGS + 1])
{
	static const char letters[] = "FSRPAUEC"; /* from bit 0 up */
	int count = 0;

	for (int i = 0; i < FLAGS; i++)
		if (flags >> i & 1)
			text[count++] = letters[i];
	text[count] = '\0';
}

static void fill(struct fields *f, const struct flows_record *record)
{
	const struct haul_flow_key *key = record->key;
	const struct haul_flow_value *value = record->value;
	int begun_by_hi = value->initiator == HAUL_FLOW_INITIATOR_HI;

	f->key = key;
	f->value = value;
	f->table = record->table;
	f->proto = haul_flow_proto_name((uint8_t)key->proto, f->proto_text);
	f->tx = begun_by_hi;
	f->rx = !begun_by_hi;
	f->age_ns = flows_record_since(record->now_ns, value->first_ns);
	f->idle_ns = flows_record_since(record->now_ns, value->last_ns);
	address_text(key->addr_lo, f->end[begun_by_hi]);
	address_text(key->addr_hi, f->end[!begun_by_hi]);
	f->port[begun_by_hi] = key->port_lo;
	f->port[!begun_by_hi] = key->port_hi;
	flags_text(value->tcp_flags[0], f->flags[0]);
	flags_text(value->tcp_flags[1], f->flags[1]);
}

/* ---- JSON ---- */

void flows_record_string(FILE *out, const char *text)
{
	(void)putc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < ' ')
			fprintf(out, "\\u%04x", (unsigned)*text);
		else
			(void)putc(*text, out);
	}
	(void)putc('"', out);
}

static void json_number(FILE *out, uint64_t number)
{
	fprintf(out, "%" PRIu64, number);
}

static void json_optional(FILE *out, uint64_t number)
{
	if (number == 0)
		(void)fputs("null", out);
	else
		json_number(out, number);
}

void flows_record_json(FILE *out, const struct flows_record *record)
{
	struct fields fields, *f = &fields;
	const char *comma = "";

	fill(f, record);
#define STRING   flows_record_string
#define NUMBER   json_number
#define OPTIONAL json_optional
#define X(kind, name, what)                                                                        \
	fprintf(out, "%s\"%s\":", comma, name);                                                    \
	kind(out, what);                                                                           \
	comma = ",";
	FIELD_LIST(X)
#undef X
#undef STRING
#undef NUMBER
#undef OPTIONAL
}

/* ---- CSV, RFC 4180 ---- */

void flows_record_csv_names(FILE *out)
{
	const char *comma = "";

#define X(kind, name, what)                                                                        \
	fprintf(out, "%s%s", comma, name);                                                         \
	comma = ",";
	FIELD_LIST(X)
#undef X
	(void)putc('\n', out);
}

static void csv_string(FILE *out, const char *text)
{
	if (strpbrk(text, ",\"\n\r") == NULL) {
		(void)fputs(text, out);
		return;
	}
	(void)putc('"', out);
	for (; *text != '\0'; text++)
		fprintf(out, *text == '"' ? "\"%c" : "%c", *text);
	(void)putc('"', out);
}

static void csv_optional(FILE *out, uint64_t number)
{
	if (number != 0)
		json_number(out, number);
}

void flows_record_csv(FILE *out, const struct flows_record *record)
{
	struct fields fields, *f = &fields;
	const char *comma = "";

	fill(f, record);
#define STRING   csv_string
#define NUMBER   json_number
#define OPTIONAL csv_optional
#define X(kind, name, what)                                                                        \
	(void)fputs(comma, out);                                                                   \
	kind(out, what);                                                                           \
	comma = ",";
	FIELD_LIST(X)
#undef X
#undef STRING
#undef NUMBER
#undef OPTIONAL
	(void)putc('\n', out);
}
