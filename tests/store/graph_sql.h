/* store/graph_sql.h — the same changes to the same graph in SQLite: the second oracle of the store.
 *
 * Model      Tables of nodes, edges, properties and embeddings in one connection in memory. A group
 *            is a savepoint. What a change finds is found by SQL, and traversals by a recursive
 *            query; nothing is shared with the first oracle but the changes themselves.
 * Threads    one. Errors: asserts. */
#pragma once

#include "graph_model.h"

struct graph_sql;
struct graph_sql *graph_sql_open(void);
void graph_sql_close(struct graph_sql *sql);
/* Statuses that a store has to tell; nothing is kept until graph_sql_keep, or all is forgotten by
 * graph_sql_forget: a frame that may not have become durable. */
void graph_sql_apply(struct graph_sql *sql, const struct model_frame *frame, uint64_t op,
		     int32_t *statuses);
void graph_sql_keep(struct graph_sql *sql);
void graph_sql_forget(struct graph_sql *sql);
/* Nodes, edges, properties and what traversals find, of what is kept. */
void graph_sql_expect(struct graph_sql *sql, struct haul_reader *reader, struct prng *prng);
