/* cli/flows_text.h — connections as rows for a person.
 *
 * Model      A grid whose columns are those of a list, or (rates) those of the live view.
 * Ownership  flows_text_done frees the grid and the names of services.
 * Threads    main thread only. Errors: -ENOMEM. */
#pragma once

#include <stdbool.h>

#include "cli/flows_past.h"
#include "cli/flows_record.h"
#include "cli/grid.h"

struct flows_text {
	struct grid grid;
	bool tables; /* there is a column with the table's name */
	bool rates;
	struct flows_services *services; /* NULL = ports as numbers */
};

int flows_text_init(struct flows_text *text, bool tables, bool rates, bool numeric);
void flows_text_done(struct flows_text *text);
void flows_text_add(struct flows_text *text, const struct flows_record *record);
/* With what it did in so many seconds. */
void flows_text_add_rates(struct flows_text *text, const struct flows_record *record,
			  const struct flows_delta *delta, double seconds);
/* "192.0.2.1:443", or "192.0.2.1:https" with services; end 0 began the connection. */
void flows_text_end(const struct flows_text *text, const struct flows_record *record, int end,
		    char ret_text[HAUL_FLOW_TEXT]);
