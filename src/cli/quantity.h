/* cli/quantity.h — durations and sizes as people type and read them.
 *
 * Model      "500ms", "10s", "1.5m", "2h", "1d" and a bare number of seconds are durations; "900",
 *            "1.5k", "2M", "64Ki" are sizes: k M G T count in thousands, Ki Mi Gi Ti in 1024s.
 * Units      nanoseconds; sizes whatever is counted.
 * Threads    pure. Errors: -EINVAL for another text, -ERANGE for one that does not fit. */
#pragma once

#include <stdint.h>

#define QUANTITY_DURATION "a duration such as 500ms, 10s, 5m, 2h or 1d"
#define QUANTITY_SIZE     "a number such as 900, 1.5k, 2M (thousands) or 64Ki (1024s)"

enum { QUANTITY_TEXT = 24 };

int quantity_duration(const char *text, int64_t *ret_ns);
int quantity_size(const char *text, uint64_t *ret_size);

/* At most 6 characters up to 99 days: "800us", "12ms", "3.2s", "5m10s", "2h03m", "1d04h". */
const char *quantity_duration_text(int64_t ns, char ret_text[QUANTITY_TEXT]);
/* At most 5 characters: "999", "1.2k", "34.5M". */
const char *quantity_size_text(double size, char ret_text[QUANTITY_TEXT]);
/* The same in 1024s, with the unit: "12.3 MiB". */
const char *quantity_memory_text(uint64_t bytes, char ret_text[QUANTITY_TEXT]);
