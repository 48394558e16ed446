/* cli/sim_table.h — the report of a run as tables for a person. */
#pragma once

#include <jansson.h>

/* To stdout. */
void sim_table_print(const json_t *report);
