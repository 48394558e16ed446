/* store/graph_expect.h — all that a reader can tell, compared with the naive graph.
 *
 * Model      Nodes by id, key and kind, edges and neighbours, embeddings, traversals and paths, and
 *            what is near: each is worked out from the model in the plainest way.
 * Threads    one. Errors: asserts. */
#pragma once

#include "graph_model.h"

/* Everything, with page sizes and queries from prng. */
void model_expect(const struct graph_model *model, struct haul_reader *reader, struct prng *prng);
