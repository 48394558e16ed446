/* cli/store_show.h — what the commands that show records share: nodes, edges and texts, for people
 * and as JSON.
 *
 * A text that is no UTF-8 is shown as x'00ff' for people and as {"$hex": "00ff"} in JSON. An array
 * of JSON objects has one a line. */
#pragma once

#include <haul/graph.h>
#include "cli/store.h"

void store_show_text(const char *text, uint32_t bytes, bool json);
/* "node 1: kind 2, key "a", version 3" and a line a property; or an object. */
void store_show_node(const struct haul_node *node, bool json);
/* {"name":"value",…} */
void store_show_properties(const struct haul_properties *properties);
/* Kind and key: "kind 2, key "a"", or "no such node". */
void store_show_brief(const struct haul_node *node);

/* The marks between objects of an array; count: of those before. */
void store_show_next(uint64_t count, bool json);
void store_show_end(uint64_t count, bool json);
