/* Tables of the host: connections (all tables of haul flows that are attached), cache_entries (one
 * cache that nobody has open), batch_stats (of this process, and of the server of the store). Each
 * is read as a whole when a statement begins with it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <haul/cache.h>
#include <haul/flow.h>
#include "sql/convert.h"
#include "sql/table.h"

/* Rows of one size, as many as there are. */
struct host_cursor {
	struct sql_cursor base;
	uint8_t *rows;
	size_t count, room, row_bytes;
	size_t at;
	char table[HAUL_FLOWS_NAME]; /* that is being read */
	int error;
};

static void host_close(struct sql_cursor *base)
{
	struct host_cursor *cursor = (struct host_cursor *)base;
	free(cursor->rows);
	cursor->rows = NULL;
	cursor->count = cursor->room = 0;
}

static void host_begin(struct host_cursor *cursor, size_t row_bytes)
{
	host_close(&cursor->base);
	cursor->row_bytes = row_bytes;
	cursor->error = 0;
	cursor->at = SIZE_MAX;
}

/* Room for one more; NULL: there is no memory. */
static void *host_add(struct host_cursor *cursor)
{
	enum { FIRST = 256 };
	if (cursor->count == cursor->room) {
		size_t room = cursor->room > 0 ? cursor->room * 2 : FIRST;
		void *larger = realloc(cursor->rows, room * cursor->row_bytes);
		if (larger == NULL)
			return NULL;
		cursor->rows = larger;
		cursor->room = room;
	}
	return cursor->rows + cursor->count++ * cursor->row_bytes;
}

static void *host_row(const struct host_cursor *cursor)
{
	return cursor->rows + cursor->at * cursor->row_bytes;
}

static int host_next(struct sql_cursor *base)
{
	struct host_cursor *cursor = (struct host_cursor *)base;
	return ++cursor->at < cursor->count;
}

static void result_name(sqlite3_context *context, const char *text)
{
	sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
}

static void result_count(sqlite3_context *context, uint64_t number)
{
	sqlite3_result_int64(context, (sqlite3_int64)number);
}

/* ---- connections ---- */

enum {
	FLOW_TABLE,
	FLOW_PROTO,
	FLOW_SRC,
	FLOW_SRC_PORT,
	FLOW_DST,
	FLOW_DST_PORT,
	FLOW_STATE,
	FLOW_TX_PACKETS,
	FLOW_TX_BYTES,
	FLOW_RX_PACKETS,
	FLOW_RX_BYTES,
	FLOW_FIRST_NS,
	FLOW_LAST_NS,
	FLOW_RTT_US,
	FLOW_RETRANSMITS,
};

struct flow_row {
	char table[HAUL_FLOWS_NAME];
	struct haul_flow_key key;
	struct haul_flow_value value;
};

static int flow_batch(const struct haul_map_batch *batch, void *arg)
{
	struct host_cursor *cursor = arg;
	for (uint32_t i = 0; i < batch->count; i++) {
		struct flow_row *row = host_add(cursor);
		if (row == NULL)
			return -ENOMEM;
		memcpy(row->table, cursor->table, sizeof row->table);
		memcpy(&row->key, haul_map_key(batch, i), sizeof row->key);
		memcpy(&row->value, haul_map_value(batch, i), sizeof row->value);
	}
	return 0;
}

static int flow_table(const char *name, void *arg)
{
	const struct haul_flow_query any = { 0 };
	struct host_cursor *cursor = arg;
	struct haul_map_report report;
	struct haul_flows *flows;
	struct haul_err err = { 0 };
	snprintf(cursor->table, sizeof cursor->table, "%s", name);
	int error = haul_flows_open(&flows, name, &err);
	if (error == -ENOENT)
		return 0; /* detached meanwhile */
	if (error < 0) {
		(void)sql_fail(sql_vtab_of(&cursor->base), error, "connections of %s: %s", name,
			       err.text);
		return error;
	}
	error = haul_flows_scan(flows, &any, flow_batch, cursor, &report);
	haul_flows_close(flows);
	return error < 0 ? error : 0;
}

static int flow_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct host_cursor *cursor = (struct host_cursor *)base;
	struct haul_err err = { 0 };
	(void)given;
	host_begin(cursor, sizeof(struct flow_row));
	int error = haul_flows_each(flow_table, cursor, &err);
	if (error < 0 && err.text[0] != '\0')
		(void)sql_fail(sql_vtab_of(base), error, "connections: %s", err.text);
	return error < 0 ? error : 0;
}

/* Ends as the one that began the connection sees them: src is the initiator. */
static void flow_end(sqlite3_context *context, const struct flow_row *row, bool src)
{
	char text[HAUL_FLOW_TEXT];
	haul_flow_end_text(&row->key, row->value.initiator ^ !src, 0, text);
	result_name(context, text);
}

static uint16_t flow_port(const struct flow_row *row, bool src)
{
	return (row->value.initiator ^ !src) == 0 ? row->key.port_lo : row->key.port_hi;
}

static int flow_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	const struct flow_row *row = host_row((struct host_cursor *)base);
	uint8_t tx = row->value.initiator & 1, rx = tx ^ 1;
	char text[8];
	const uint64_t numbers[] = {
		[FLOW_SRC_PORT] = flow_port(row, true),
		[FLOW_DST_PORT] = flow_port(row, false),
		[FLOW_TX_PACKETS] = row->value.packets[tx],
		[FLOW_TX_BYTES] = row->value.bytes[tx],
		[FLOW_RX_PACKETS] = row->value.packets[rx],
		[FLOW_RX_BYTES] = row->value.bytes[rx],
		[FLOW_FIRST_NS] = row->value.first_ns,
		[FLOW_LAST_NS] = row->value.last_ns,
		[FLOW_RTT_US] = row->value.rtt_us,
		[FLOW_RETRANSMITS] = row->value.retransmits,
	};
	switch (column) {
	case FLOW_TABLE:
		result_name(context, row->table);
		return 0;
	case FLOW_PROTO:
		result_name(context, haul_flow_proto_name((uint8_t)row->key.proto, text));
		return 0;
	case FLOW_SRC:
	case FLOW_DST:
		flow_end(context, row, column == FLOW_SRC);
		return 0;
	case FLOW_STATE:
		result_name(context, haul_flow_state_name(row->value.state));
		return 0;
	default:
		result_count(context, numbers[column]);
		return 0;
	}
}

const struct sql_table sql_connections = {
	.name = "connections",
	.schema =
		"CREATE TABLE x(\"table\" TEXT, proto TEXT, src TEXT, src_port INTEGER, dst TEXT, "
		"dst_port INTEGER, state TEXT, tx_packets INTEGER, tx_bytes INTEGER, rx_packets "
		"INTEGER, rx_bytes INTEGER, first_ns INTEGER, last_ns INTEGER, rtt_us INTEGER, "
		"retransmits INTEGER)",
	.rows = 1e5,
	.order_column = -1,
	.cursor_bytes = sizeof(struct host_cursor),
	.start = flow_start,
	.next = host_next,
	.column = flow_column,
	.close = host_close,
};

/* ---- cache_entries ---- */

enum {
	ENTRY_KEY,
	ENTRY_BYTES,
	ENTRY_EXPIRY,
	ENTRY_SLICE,
	ENTRY_PARTITION,
	ENTRY_SEGMENT,
	ENTRY_OFFSET,
	ENTRY_STATUS,
};

struct entry_row {
	struct haul_cache_listed listed;
	char key[HAUL_CACHE_KEY_MAX];
};

static int entry_told(const struct haul_cache_listed *entry, void *arg)
{
	struct entry_row *row = host_add(arg);
	if (row == NULL)
		return -ENOMEM;
	row->listed = *entry;
	if (entry->key_bytes > sizeof row->key)
		return -EIO;
	memcpy(row->key, entry->key, entry->key_bytes);
	return 0;
}

static int entry_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct host_cursor *cursor = (struct host_cursor *)base;
	const struct haul_cache_check check = { .entry = entry_told, .all = true, .arg = cursor };
	struct haul_cache_checked checked;
	struct haul_err err = { 0 };
	(void)given;
	host_begin(cursor, sizeof(struct entry_row));
	int error = haul_cache_check(sql_connection_of(base)->source.cache, &check, &checked, &err);
	if (error < 0 && err.text[0] != '\0')
		(void)sql_fail(sql_vtab_of(base), error, "cache_entries: %s", err.text);
	return error < 0 ? error : 0;
}

static int entry_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	const struct entry_row *row = host_row((struct host_cursor *)base);
	const struct haul_cache_listed *listed = &row->listed;
	const uint64_t numbers[] = {
		[ENTRY_BYTES] = listed->value_bytes, [ENTRY_EXPIRY] = listed->expiry,
		[ENTRY_SLICE] = listed->slice,       [ENTRY_PARTITION] = listed->partition,
		[ENTRY_SEGMENT] = listed->segment,   [ENTRY_OFFSET] = listed->offset,
	};
	switch (column) {
	case ENTRY_KEY:
		convert_result_text(context, row->key, listed->key_bytes);
		return 0;
	case ENTRY_STATUS:
		result_name(context, haul_cache_status_name(listed->status));
		return 0;
	default:
		result_count(context, numbers[column]);
		return 0;
	}
}

const struct sql_table sql_cache_entries = {
	.name = "cache_entries",
	.schema = "CREATE TABLE x(key TEXT, bytes INTEGER, expiry INTEGER, slice INTEGER, "
		  "\"partition\" INTEGER, segment INTEGER, \"offset\" INTEGER, status TEXT)",
	.rows = 1e5,
	.order_column = -1,
	.cursor_bytes = sizeof(struct host_cursor),
	.start = entry_start,
	.next = host_next,
	.column = entry_column,
	.close = host_close,
};

/* ---- batch_stats: a row a figure ---- */

enum { STAT_BLOCK, STAT_NAME, STAT_VALUE };

struct stat_row {
	char block[64], name[64];
	double value;
};

static void stat_add(struct host_cursor *cursor, const struct haul_stats *stats, const char *name,
		     double value)
{
	struct stat_row *row = host_add(cursor);
	if (row == NULL) {
		cursor->error = -ENOMEM;
		return;
	}
	snprintf(row->block, sizeof row->block, "%s", stats->name);
	snprintf(row->name, sizeof row->name, "%s", name);
	row->value = value;
}

static void stat_told(const struct haul_stats *stats, void *arg)
{
	struct host_cursor *cursor = arg;
	char name[64];
	stat_add(cursor, stats, "ops", (double)stats->ops);
	stat_add(cursor, stats, "batches", (double)stats->batches);
	stat_add(cursor, stats, "bytes", (double)stats->bytes);
	stat_add(cursor, stats, "syscalls", (double)stats->syscalls);
	for (enum haul_close reason = HAUL_CLOSE_NONE + 1; reason < HAUL_CLOSE_REASONS; reason++) {
		snprintf(name, sizeof name, "closed_%s", haul_close_name(reason));
		stat_add(cursor, stats, name, (double)stats->closed[reason]);
	}
	stat_add(cursor, stats, "fill_mean", haul_hist_mean(&stats->fill));
	stat_add(cursor, stats, "wait_ns_p50", (double)haul_hist_quantile(&stats->wait_ns, .5));
	stat_add(cursor, stats, "wait_ns_p99", (double)haul_hist_quantile(&stats->wait_ns, .99));
	stat_add(cursor, stats, "service_ns_p50",
		 (double)haul_hist_quantile(&stats->service_ns, .5));
	stat_add(cursor, stats, "service_ns_p99",
		 (double)haul_hist_quantile(&stats->service_ns, .99));
	for (uint32_t i = 0; i < stats->counter_count; i++)
		stat_add(cursor, stats, stats->counters[i].name, (double)stats->extra[i]);
}

static int stat_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct host_cursor *cursor = (struct host_cursor *)base;
	const struct sql_source *source = &sql_connection_of(base)->source;
	(void)given;
	host_begin(cursor, sizeof(struct stat_row));
	int error = source->stats(source->arg, stat_told, cursor);
	if (error < 0)
		(void)sql_fail(sql_vtab_of(base), error, "batch_stats: %s", haul_strerror(error));
	return error < 0 ? error : cursor->error;
}

static int stat_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	const struct stat_row *row = host_row((struct host_cursor *)base);
	if (column == STAT_VALUE)
		sqlite3_result_double(context, row->value);
	else
		result_name(context, column == STAT_BLOCK ? row->block : row->name);
	return 0;
}

const struct sql_table sql_batch_stats = {
	.name = "batch_stats",
	.schema = "CREATE TABLE x(block TEXT, name TEXT, value REAL)",
	.rows = 200,
	.order_column = -1,
	.cursor_bytes = sizeof(struct host_cursor),
	.start = stat_start,
	.next = host_next,
	.column = stat_column,
	.close = host_close,
};
