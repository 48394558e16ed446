/* cli/map_where.h — conditions on entries as people type them.
 *
 * Model      EXPR is conditions joined by "and": FIELD TEST VALUE. FIELD is key or value followed
 *            by names of BTF (value.counters[2].bytes), a name alone if only one of the two has
 *            it, or OFFSET:WIDTH in brackets (value[8:4], key[0:2]be, value[0:8]s: big-endian,
 *            signed). TEST is == != < <= > >= & (any bit) &= (all bits). VALUE is a number (1500,
 *            0x5dc, 1.5k, 64Ki), the name of an enum's value, an IPv4 address for four bytes, and
 *            for == also "text" or 0x bytes of any length.
 * Threads    pure.
 * Errors     -EINVAL, -ENOENT with text that shows the place; HAUL_ELIMIT: over
 *            HAUL_MAP_CONDITIONS conditions. */
#pragma once

#include <haul/map.h>
#include "bpf/typed.h"

/* Adds to filter. */
int map_where(const char *text, const struct haul_map_info *info, const struct typed *typed,
	      struct haul_map_filter *filter, struct haul_err *err);
/* One integer field; -EINVAL for others. */
int map_where_field(const char *text, const struct haul_map_info *info, const struct typed *typed,
		    struct haul_map_field *ret_field, struct haul_err *err);
