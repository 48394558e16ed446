/* Check: the trees of a store against each other.
 *
 * Edges are in two trees, text keys and kinds beside their nodes, embeddings by index and by node.
 * Each rule walks along one tree and asks another, a batch at a time, whether it has what belongs
 * to each row. The tree of kinds is only gone along: when each of its rows is right and there are
 * as many as nodes with a kind, none is missing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "store/store_check.h"

enum {
	GRAPH_ASKS = 1024,
	GRAPH_ARENA = 8 << 20,
	GRAPH_TOLD = 100, /* of each rule; the rest is counted */
	GRAPH_AHEAD = 8
};

/* A row of the tree walked along, as far as the rule has to remember it. */
struct graph_row {
	struct tree_key key;
	uint64_t id;   /* NAME: where it leads */
	uint32_t kind; /* NODE */
};

struct graph {
	struct store_check *check;
	struct haul_store *store;
	struct lsm_view *view;
	uint64_t op;
	struct lsm_scratch *scratch;
	struct arena arena;
	struct table_ask *asks;
	struct graph_row *rows; /* of the asks */
	uint32_t count;
	uint64_t told; /* of this rule */
	uint64_t nodes_with_kind, rows_of_kind;
};

struct graph_rule {
	enum tree from, to;
	bool value;       /* of what is asked for */
	const char *what; /* if it does not fit */
	/* What has to be there for this row; false: nothing. */
	bool (*ask)(const struct tree_row *row, struct graph_row *from, struct tree_key *ret_key);
	bool (*fits)(const struct graph_row *from, const struct tree_row *found); /* NULL: any */
};

/* ---- the rules ---- */

static void node_of(const struct tree_row *row, struct haul_node *ret_node)
{
	memset(ret_node, 0, sizeof *ret_node);
	if (record_check_node(row->value, row->bytes, false) == 0)
		record_get_node(row->value, row->bytes, ret_node);
}

static bool ask_name(const struct tree_row *row, struct graph_row *from, struct tree_key *ret_key)
{
	struct haul_node node;
	node_of(row, &node);
	from->id = from->key.word[0];
	from->kind = node.kind;
	*ret_key = record_name(node.key, node.key_bytes);
	return node.key_bytes > 0;
}

static bool fits_name(const struct graph_row *from, const struct tree_row *found)
{
	return found->bytes == 8 && le64_load(found->value) == from->id;
}

static bool ask_named(const struct tree_row *row, struct graph_row *from, struct tree_key *ret_key)
{
	from->id = row->bytes == 8 ? le64_load(row->value) : 0;
	*ret_key = (struct tree_key){ { from->id } };
	return true;
}

static bool fits_named(const struct graph_row *from, const struct tree_row *found)
{
	struct haul_node node;
	node_of(found, &node);
	if (node.key_bytes == 0)
		return false;
	const struct tree_key name = record_name(node.key, node.key_bytes);
	return tree_key_compare(&name, &from->key) == 0;
}

static bool ask_of_kind(const struct tree_row *row, struct graph_row *from,
			struct tree_key *ret_key)
{
	(void)row;
	from->kind = (uint32_t)from->key.word[0];
	*ret_key = (struct tree_key){ { from->key.word[1] } };
	return true;
}

static bool fits_of_kind(const struct graph_row *from, const struct tree_row *found)
{
	struct haul_node node;
	node_of(found, &node);
	return node.kind == from->kind;
}

static bool ask_other_way(const struct tree_row *row, struct graph_row *from,
			  struct tree_key *ret_key)
{
	(void)row;
	const uint64_t *word = from->key.word;
	*ret_key = (struct tree_key){ { word[2], word[1], word[0] } };
	return true;
}

static bool ask_swapped(const struct tree_row *row, struct graph_row *from,
			struct tree_key *ret_key)
{
	(void)row;
	*ret_key = (struct tree_key){ { from->key.word[1], from->key.word[0] } };
	return from->key.word[0] != 0 || from->key.word[1] == 0;
}

static bool ask_of_node(const struct tree_row *row, struct graph_row *from,
			struct tree_key *ret_key)
{
	(void)row;
	*ret_key = (struct tree_key){ { from->key.word[1], from->key.word[0] } };
	return from->key.word[0] != 0; /* 0: of an index as a whole */
}

static const struct graph_rule graph_rules[] = {
	{ TREE_NODE, TREE_NAME, true, "its text key does not lead to it", ask_name, fits_name },
	{ TREE_NAME, TREE_NODE, true, "leads to a node that does not have this text key", ask_named,
	  fits_named },
	{ TREE_KIND, TREE_NODE, true, "lists a node that is not of this kind", ask_of_kind,
	  fits_of_kind },
	{ TREE_OUT, TREE_IN, false, "the edge is missing on the side of its destination",
	  ask_other_way, NULL },
	{ TREE_IN, TREE_OUT, false, "the edge is missing on the side of its source", ask_other_way,
	  NULL },
	{ TREE_EMBEDDING, TREE_OF_NODE, false, "the embedding is missing at its node", ask_swapped,
	  NULL },
	{ TREE_OF_NODE, TREE_EMBEDDING, false, "the node's embedding is missing", ask_of_node,
	  NULL },
};

/* ---- asking ---- */

static void graph_tell(struct graph *graph, const struct graph_rule *rule,
		       const struct graph_row *from, const char *what)
{
	char place[128];

	if (++graph->told > GRAPH_TOLD)
		return;
	(void)snprintf(place, sizeof place, "%s %llu %llu %llu", tree_name(rule->from),
		       (unsigned long long)from->key.word[0], (unsigned long long)from->key.word[1],
		       (unsigned long long)from->key.word[2]);
	store_finding(graph->check, place, true, "%s", what);
}

/* How many of the first were answered; at least one. */
static uint32_t graph_get(struct graph *graph, const struct graph_rule *rule, uint32_t from)
{
	uint32_t count = graph->count - from;

	graph->arena.used = 0;
	for (uint32_t i = from; i < graph->count; i++) {
		graph->asks[i].op_max = graph->op;
		graph->asks[i].status = 0;
	}
	for (;;) {
		lsm_get(graph->view, rule->to, &graph->asks[from], count,
			lsm_into(graph->scratch, rule->value ? &graph->arena : NULL));
		uint32_t answered = 0;
		while (answered < count && graph->asks[from + answered].status != HAUL_EFULL)
			answered++;
		if (answered > 0 || count == 1)
			return answered > 0 ? answered : 1;
		graph->arena.used = 0;
		count = 1;
	}
}

static void graph_flush(struct graph *graph, const struct graph_rule *rule)
{
	for (uint32_t at = 0; at < graph->count;) {
		const uint32_t answered = graph_get(graph, rule, at);
		for (uint32_t i = at; i < at + answered; i++) {
			const struct table_ask *ask = &graph->asks[i];
			const bool there = ask->row.op != 0 && !ask->row.deleted;
			if (ask->status < 0)
				graph_tell(graph, rule, &graph->rows[i],
					   haul_strerror(ask->status));
			else if (!there ||
				 (rule->fits != NULL && !rule->fits(&graph->rows[i], &ask->row)))
				graph_tell(graph, rule, &graph->rows[i], rule->what);
		}
		at += answered;
	}
	graph->count = 0;
}

static void graph_rows(struct graph *graph, const struct graph_rule *rule, const struct rows *rows)
{
	for (uint32_t i = 0; i < rows->count; i++) {
		const uint32_t start = i > 0 ? rows->end[i - 1] : 0;
		const struct tree_row row = { .op = rows->op[i],
					      .value = rows->heap + start,
					      .bytes = rows->end[i] - start };
		struct graph_row *from = &graph->rows[graph->count];
		*from = (struct graph_row){ 0 };
		memcpy(from->key.word, &rows->key[(size_t)i * rows->words],
		       rows->words * sizeof(uint64_t));
		const bool asks = rule->ask(&row, from, &graph->asks[graph->count].key);
		graph->nodes_with_kind += rule->from == TREE_NODE && from->kind != 0;
		graph->rows_of_kind += rule->from == TREE_KIND;
		if (!asks)
			continue;
		if (++graph->count == GRAPH_ASKS)
			graph_flush(graph, rule);
	}
}

static int graph_rule_check(struct graph *graph, const struct graph_rule *rule)
{
	const struct lsm_walk_options options = {
		.tree = rule->from,
		.to = { { UINT64_MAX, UINT64_MAX, UINT64_MAX } },
		.op_max = graph->op,
		.ahead = GRAPH_AHEAD,
	};
	struct lsm_walk *walk;
	struct rows rows;

	graph->told = 0;
	int rc = lsm_walk_open(&walk, graph->view, &options);
	if (rc < 0)
		return rc;
	while ((rc = lsm_walk_next(walk, &rows)) > 0)
		graph_rows(graph, rule, &rows);
	lsm_walk_close(walk);
	graph_flush(graph, rule);
	if (graph->told > GRAPH_TOLD)
		store_finding(graph->check, tree_name(rule->from), true, "%s: and %llu more",
			      rule->what, (unsigned long long)(graph->told - GRAPH_TOLD));
	return rc;
}

static int graph_memory_alloc(struct graph *graph)
{
	graph->arena.bytes = GRAPH_ARENA;
	graph->arena.data = malloc(GRAPH_ARENA);
	graph->asks = calloc(GRAPH_ASKS, sizeof *graph->asks);
	graph->rows = calloc(GRAPH_ASKS, sizeof *graph->rows);
	if (graph->arena.data == NULL || graph->asks == NULL || graph->rows == NULL)
		return -ENOMEM;
	return lsm_scratch_new(&graph->scratch, GRAPH_ASKS);
}

static int graph_run(struct graph *graph)
{
	int rc = graph_memory_alloc(graph);
	if (rc == 0)
		graph->view = lsm_view_take(graph->store->lsm, &graph->op);
	for (size_t i = 0; rc == 0 && i < sizeof graph_rules / sizeof graph_rules[0]; i++)
		rc = graph_rule_check(graph, &graph_rules[i]);
	if (rc == 0 && graph->nodes_with_kind != graph->rows_of_kind)
		store_finding(graph->check, "kind", true,
			      "%llu nodes have a kind, and %llu are listed under theirs",
			      (unsigned long long)graph->nodes_with_kind,
			      (unsigned long long)graph->rows_of_kind);
	if (graph->view != NULL)
		lsm_view_drop(graph->store->lsm, graph->view);
	lsm_scratch_free(graph->scratch);
	free(graph->rows);
	free(graph->asks);
	free(graph->arena.data);
	return rc;
}

int store_check_graph(struct store_check *check, struct haul_err *err)
{
	const struct haul_store_options options = { .read_only = true };
	struct graph graph = { .check = check };
	struct haul_err why = { 0 };

	int rc = store_open_on(&graph.store, check->deep, &options, &why);
	if (rc < 0) {
		store_finding(check, "store", true, "cannot be opened: %s", why.text);
		return 0;
	}
	rc = graph_run(&graph);
	(void)haul_store_close(graph.store);
	return rc < 0 ? haul_err_set(err, rc, "comparing the trees: %s", haul_strerror(rc)) : 0;
}
