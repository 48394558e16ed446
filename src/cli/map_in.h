/* cli/map_in.h — keys and values as people and dumps write them.
 *
 * Model      Text is a number, bytes, or JSON, filled into the fields that BTF names; JSON is read
 *            straight into the bytes, so numbers of 64 bits stay exact. Fields that are not named
 *            are 0.
 * Memory     none.
 * Threads    pure.
 * Errors     -EINVAL, -ENOENT, -ERANGE with text that names the field and shows the place. */
#pragma once

#include "cli/map.h"

/* One entry of {"key": …, "value": …} or {"key": …, "values": [{"cpu": 0, "value": …}, …]}; value
 * is slot_bytes. Other members are passed over (bpftool's "formatted"). */
int map_in_entry(const struct map_request *request, const char *json, uint8_t *ret_key,
		 uint8_t *ret_value, struct haul_err *err);
/* A key or a value by itself, from the command line. */
int map_in_text(const struct typed_type *type, const char *text, uint8_t *ret_data,
		struct haul_err *err);
/* The same value for every CPU, where a map has one for each. */
void map_in_spread(const struct haul_map_info *info, uint8_t *value);
