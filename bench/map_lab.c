#include "map_lab.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "map_bare.h"
#include "os/os.h"

enum {
	RUNS = 11, /* of each method; the median counts */
	LAB_KEYS = 1000,
	LAB_ROOM = 10000,
	LAB_QUERY = 500,
	LAB_DEFAULT = 256,
	LAB_STEP = 100,
	ENTRY_BYTES = sizeof(struct haul_flow_key) + sizeof(struct haul_flow_value),
	THREADS = 2
};

struct lab {
	struct map_table *table;
	uint32_t count; /* rows */
	struct haul_flow_key *keys;
	struct haul_flow_value *values, *got;
	struct haul_map *map;         /* of the method that is being measured */
	uint64_t visited[THREADS][8]; /* a cache line a thread */
};

/* One way to do so many operations. */
struct method {
	const char *name;
	enum haul_map_engine engine;
	uint32_t batch;
	uint32_t threads;
	int (*run)(struct lab *lab, const struct method *method, uint64_t *ret_ops);
};

/* ---- ways ---- */

static int get_one(struct lab *lab, const struct method *method, uint64_t *ret_ops)
{
	(void)method;
	struct map_bare one;
	int rc = 0;
	map_bare_init(&one, lab->table->fd);
	for (uint32_t i = 0; i < lab->count && rc >= 0; i++)
		rc = map_bare_get(&one, &lab->keys[i], &lab->got[i]);
	*ret_ops = lab->count;
	return rc;
}

static int put_one(struct lab *lab, const struct method *method, uint64_t *ret_ops)
{
	(void)method;
	struct map_bare one;
	int rc = 0;
	map_bare_init(&one, lab->table->fd);
	for (uint32_t i = 0; i < lab->count && rc >= 0; i++)
		rc = map_bare_put(&one, &lab->keys[i], &lab->values[i], BPF_ANY);
	*ret_ops = lab->count;
	return rc;
}

static int walk_one(struct lab *lab, const struct method *method, uint64_t *ret_ops)
{
	(void)method;
	struct map_bare_walk walk;
	const struct haul_flow_key *key;
	int rc;
	*ret_ops = 0;
	map_bare_walk_init(&walk, lab->table->fd);
	while ((rc = map_bare_walk_next(&walk, &key)) > 0)
		++*ret_ops;
	return rc;
}

typedef int rows_op(struct haul_map *map, const struct haul_map_rows *rows,
		    struct haul_map_result *ret_result);

static int update_rows(struct haul_map *map, const struct haul_map_rows *rows,
		       struct haul_map_result *ret_result)
{
	return haul_map_update(map, rows, HAUL_MAP_ANY, ret_result);
}

/* The lab cuts its keys into parts of the batch's size, and so do we. */
static int rows_run(struct lab *lab, const struct method *method, rows_op *op,
		    struct haul_flow_value *values)
{
	for (uint32_t at = 0; at < lab->count; at += method->batch) {
		uint32_t left = lab->count - at;
		const struct haul_map_rows rows = {
			.count = left < method->batch ? left : method->batch,
			.keys = &lab->keys[at],
			.values = &values[at],
		};
		struct haul_map_result result;
		int rc = op(lab->map, &rows, &result);
		if (rc < 0)
			return rc;
		if (result.done != rows.count)
			return -EIO;
	}
	return 0;
}

static int get_rows(struct lab *lab, const struct method *method, uint64_t *ret_ops)
{
	*ret_ops = lab->count;
	return rows_run(lab, method, haul_map_get, lab->got);
}

static int put_rows(struct lab *lab, const struct method *method, uint64_t *ret_ops)
{
	*ret_ops = lab->count;
	return rows_run(lab, method, update_rows, lab->values);
}

static int walk_visit(const struct haul_map_batch *batch, void *arg)
{
	struct lab *lab = arg;
	lab->visited[batch->thread][0] += batch->count;
	return 0;
}

static int walk_batches(struct lab *lab, const struct method *method, uint64_t *ret_ops)
{
	const struct haul_map_scan scan = { .threads = method->threads,
					    .visit = walk_visit,
					    .arg = lab };
	struct haul_map_report report;
	int rc = haul_map_scan(lab->map, &scan, &report);
	*ret_ops = report.read;
	return rc;
}

/* ---- measuring ---- */

static int compare_double(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

struct figures {
	uint64_t ops;
	double ns; /* an operation; 0 = this kernel cannot */
};

static int measure(struct lab *lab, const struct method *method, struct figures *ret,
		   struct haul_err *err)
{
	const struct haul_map_options options = { .engine = method->engine,
						  .batch = method->batch };
	struct os *os = os_linux();
	double ns[RUNS];
	int rc = haul_map_open_fd(&lab->map, lab->table->fd, &options, err);
	if (rc < 0)
		return rc;
	*ret = (struct figures){ 0 };
	rc = method->run(lab, method, &ret->ops); /* what is set up once */
	for (int i = 0; i < RUNS && rc >= 0; i++) {
		int64_t start_ns = os->now_ns(os);
		rc = method->run(lab, method, &ret->ops);
		ns[i] = (double)(os->now_ns(os) - start_ns) / (double)(ret->ops ? ret->ops : 1);
	}
	haul_map_close(lab->map);
	lab->map = NULL;
	if (rc == -ENOTSUP)
		return 0;
	if (rc < 0)
		return haul_err_set(err, rc, "lab, %s: %s", method->name, haul_strerror(rc));
	qsort(ns, RUNS, sizeof *ns, compare_double);
	ret->ns = ns[RUNS / 2];
	return 0;
}

static double per_s(const struct figures *figures)
{
	return figures->ns > 0 ? 1e9 / figures->ns : 0;
}

/* ---- tables ---- */

static json_t *table_new(json_t *tables, const char *name, const char *what, json_t *columns)
{
	json_t *rows = json_array();
	json_t *table = json_pack("{s:s, s:s, s:o, s:o}", "table", name, "what", what, "columns",
				  columns, "rows", rows);
	return table && json_array_append_new(tables, table) == 0 ? rows : NULL;
}

/* Takes row over. */
static int row_add(json_t *rows, json_t *row, struct haul_err *err)
{
	return rows && json_array_append_new(rows, row) == 0
		       ? 0
		       : haul_err_set(err, -ENOMEM, "no memory for the lab's tables");
}

/* Methods against the first of them. */
static int methods_table(struct lab *lab, json_t *rows, const struct method *methods,
			 unsigned count, struct haul_err *err)
{
	struct figures first = { 0 };
	int rc = 0;
	for (unsigned i = 0; i < count && rc >= 0; i++) {
		struct figures now;
		rc = measure(lab, &methods[i], &now, err);
		if (rc < 0)
			break;
		if (methods[i].batch == 0)
			first = now;
		rc = row_add(rows,
			     now.ns > 0 ? json_pack("[s, I, f, f, f]", methods[i].name,
						    (json_int_t)now.ops, now.ns, per_s(&now),
						    first.ns / now.ns)
					: json_pack("[s, n, n, n, n]", methods[i].name),
			     err);
	}
	return rc;
}

static json_t *method_columns(void)
{
	return json_pack("[s, s, s, s, s]", "method", "operations", "ns/op", "ops/s", "speed-up");
}

static int lookup_table(struct lab *lab, json_t *tables, struct haul_err *err)
{
	static const struct method methods[] = {
		{ .name = "lookup, individual", .run = get_one },
		{ "keyed, batch 256", HAUL_MAP_KERNEL, LAB_DEFAULT, 1, get_rows },
		{ "keyed, batch 1000", HAUL_MAP_KERNEL, LAB_KEYS, 1, get_rows },
		{ .name = "walk, individual", .run = walk_one },
		{ "walk, batch 256", HAUL_MAP_BATCH, LAB_DEFAULT, 1, walk_batches },
		{ "walk, batch 1000", HAUL_MAP_BATCH, LAB_KEYS, 1, walk_batches },
	};
	json_t *rows =
		table_new(tables, "lookup", "1000 given keys (keyed), or all 10 000 entries (walk)",
			  method_columns());
	return methods_table(lab, rows, methods, sizeof methods / sizeof *methods, err);
}

static int update_table(struct lab *lab, json_t *tables, struct haul_err *err)
{
	static const struct method methods[] = {
		{ .name = "update, individual", .run = put_one },
		{ "batch call, batch 256", HAUL_MAP_BATCH, LAB_DEFAULT, 1, put_rows },
		{ "kernel, batch 256", HAUL_MAP_KERNEL, LAB_DEFAULT, 1, put_rows },
	};
	json_t *rows = table_new(tables, "update", "1000 entries that are there", method_columns());
	return methods_table(lab, rows, methods, sizeof methods / sizeof *methods, err);
}

static int size_row(struct lab *lab, json_t *rows, uint32_t batch, double best[2],
		    uint32_t best_batch[2], struct haul_err *err)
{
	const struct method methods[2] = {
		{ "keyed", HAUL_MAP_KERNEL, batch, 1, get_rows },
		{ "walk", HAUL_MAP_BATCH, batch, 1, walk_batches },
	};
	struct figures now[2];
	for (int i = 0; i < 2; i++) {
		int rc = measure(lab, &methods[i], &now[i], err);
		if (rc < 0)
			return rc;
		if (per_s(&now[i]) > best[i]) {
			best[i] = per_s(&now[i]);
			best_batch[i] = batch;
		}
	}
	return row_add(rows,
		       json_pack("[i, i, f, f, f, f]", batch, (lab->count + batch - 1) / batch,
				 per_s(&now[0]), per_s(&now[1]), now[1].ns * batch / 1e3,
				 (double)batch * ENTRY_BYTES / 1024),
		       err);
}

static int size_table(struct lab *lab, json_t *tables, struct haul_err *err)
{
	json_t *rows = table_new(tables, "batch_size",
				 "10 000 keys (keyed) or entries (walk); the length of a walk's "
				 "call; what a batch takes in memory",
				 json_pack("[s, s, s, s, s, s]", "batch size", "batches",
					   "keyed ops/s", "walk ops/s", "us/call", "KiB"));
	double best[2] = { 0 };
	uint32_t best_batch[2] = { 0 };
	int rc = 0;
	for (uint32_t batch = 16; batch <= 2048 && rc >= 0; batch *= 2)
		rc = size_row(lab, rows, batch, best, best_batch, err);
	if (rc < 0)
		return rc;
	return row_add(rows,
		       json_pack("[s, n, i, i, n, n]", "fastest at", best_batch[0], best_batch[1]),
		       err);
}

static int walk_table(struct lab *lab, json_t *tables, struct haul_err *err)
{
	static const struct method methods[] = {
		{ "batches of 100", HAUL_MAP_BATCH, LAB_STEP, 1, walk_batches },
		{ "sequential, 256", HAUL_MAP_BATCH, LAB_DEFAULT, 1, walk_batches },
		{ "2 threads, 256", HAUL_MAP_BATCH, LAB_DEFAULT, THREADS, walk_batches },
	};
	json_t *rows = table_new(tables, "walk", "all 10 000 entries, in batches",
				 json_pack("[s, s, s]", "method", "entries", "ms"));
	int rc = 0;
	for (unsigned i = 0; i < sizeof methods / sizeof *methods && rc >= 0; i++) {
		struct figures now;
		rc = measure(lab, &methods[i], &now, err);
		if (rc >= 0)
			rc = row_add(rows,
				     json_pack("[s, I, f]", methods[i].name, (json_int_t)now.ops,
					       now.ns * (double)now.ops / 1e6),
				     err);
	}
	return rc;
}

/* ---- the connection table ---- */

struct connections {
	struct haul_map *map;
	double insert_ms, query_ms;
	uint64_t found;
	struct haul_map_aggregate packets, bytes;
};

static double ms_since(int64_t start_ns)
{
	struct os *os = os_linux();
	return (double)(os->now_ns(os) - start_ns) / 1e6;
}

static int connections_work(const struct lab *lab, struct connections *c)
{
	struct os *os = os_linux();
	struct haul_map_result result;
	struct haul_map_rows rows = { .count = LAB_KEYS, .keys = lab->keys, .values = lab->values };
	int64_t start_ns = os->now_ns(os);
	int rc = haul_map_update(c->map, &rows, HAUL_MAP_ANY, &result);
	c->insert_ms = ms_since(start_ns);
	rows.count = LAB_QUERY;
	rows.values = lab->got;
	start_ns = os->now_ns(os);
	rc = rc < 0 ? rc : haul_map_get(c->map, &rows, &result);
	c->query_ms = ms_since(start_ns);
	c->found = result.done;
	c->packets.field =
		(struct haul_map_field){ .offset = offsetof(struct haul_flow_value, packets),
					 .width = 8 };
	c->bytes.field = (struct haul_map_field){ .offset = offsetof(struct haul_flow_value, bytes),
						  .width = 8 };
	rc = rc < 0 ? rc : haul_map_aggregate(c->map, &c->packets, &result);
	return rc < 0 ? rc : haul_map_aggregate(c->map, &c->bytes, &result);
}

static int connections_rows(const struct connections *c, json_t *rows, struct haul_err *err)
{
	double count = (double)c->packets.count;
	const struct {
		const char *name;
		double value;
	} lines[] = {
		{ "insert 1000, ms", c->insert_ms },
		{ "query 500, ms", c->query_ms },
		{ "found", (double)c->found },
		{ "total connections", count },
		{ "total packets", (double)c->packets.sum },
		{ "total bytes", (double)c->bytes.sum },
		{ "packets a connection", (double)c->packets.sum / count },
		{ "bytes a connection", (double)c->bytes.sum / count },
	};
	int rc = 0;
	for (unsigned i = 0; i < sizeof lines / sizeof *lines && rc >= 0; i++)
		rc = row_add(rows, json_pack("[s, f]", lines[i].name, lines[i].value), err);
	return rc;
}

static int connections_table(struct lab *lab, json_t *tables, struct haul_err *err)
{
	struct connections c = { 0 };
	json_t *rows = table_new(tables, "connections",
				 "a table for 10 000: insert 1000, query 500, add up; each once",
				 json_pack("[s, s]", "step", "value"));
	int fd = map_table_create("haul_lab", LAB_ROOM, err);
	if (fd < 0)
		return fd;
	int rc = haul_map_open_fd(&c.map, fd, NULL, err);
	if (rc >= 0) {
		rc = connections_work(lab, &c);
		if (rc < 0)
			haul_err_set(err, rc, "lab, connections: %s", haul_strerror(rc));
	}
	haul_map_close(c.map);
	close(fd);
	return rc < 0 ? rc : connections_rows(&c, rows, err);
}

/* ---- all ---- */

static int rows_build(struct lab *lab)
{
	uint32_t entries = lab->table->entries;
	lab->keys = calloc(entries, sizeof *lab->keys);
	lab->values = calloc(entries, sizeof *lab->values);
	lab->got = calloc(entries, sizeof *lab->got);
	if (!lab->keys || !lab->values || !lab->got)
		return -ENOMEM;
	for (uint32_t i = 0; i < entries; i++) {
		map_table_key(lab->table->order[i], &lab->keys[i]);
		map_table_value(lab->table->order[i], &lab->values[i]);
	}
	return 0;
}

int map_lab_tables(struct map_table *table, struct json_t *tables, struct haul_err *err)
{
	struct lab lab = { .table = table, .count = LAB_KEYS };
	HAUL_ASSERT(table->entries >= LAB_KEYS);
	int rc = rows_build(&lab);
	if (rc < 0)
		haul_err_set(err, rc, "no memory for %u rows", table->entries);
	rc = rc < 0 ? rc : lookup_table(&lab, tables, err);
	rc = rc < 0 ? rc : update_table(&lab, tables, err);
	lab.count = table->entries;
	rc = rc < 0 ? rc : size_table(&lab, tables, err);
	rc = rc < 0 ? rc : connections_table(&lab, tables, err);
	rc = rc < 0 ? rc : walk_table(&lab, tables, err);
	free(lab.keys);
	free(lab.values);
	free(lab.got);
	return rc;
}
