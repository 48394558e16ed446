/* haul map set, del and clean. */
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/map.h"
#include "cli/map_in.h"
#include "cli/map_keys.h"

/* ---- set ---- */

/* The id of an inner map becomes a descriptor of it. -1: not a map of maps. */
static int inner_fd(const struct haul_map_info *info, uint8_t *value)
{
	uint32_t id;
	if (info->type != BPF_MAP_TYPE_HASH_OF_MAPS && info->type != BPF_MAP_TYPE_ARRAY_OF_MAPS)
		return -1;
	memcpy(&id, value, sizeof id);
	int fd = bpf_map_get_fd_by_id(id);
	memcpy(value, &fd, sizeof fd);
	return fd;
}

static int set_entry(struct map_request *request, uint8_t *key, uint8_t *value)
{
	struct haul_err err = { 0 };
	struct haul_map_result result;
	int status = 0;
	struct haul_map_rows rows = { .count = 1, .keys = key, .values = value, .status = &status };
	int rc = map_in_text(request->typed.key, request->args[1], key, &err);
	if (rc < 0) {
		(void)haul_err_wrap(&err, rc, "key");
		return cli_fail("map", &err);
	}
	rc = map_in_text(request->typed.value, request->args[2], value, &err);
	if (rc < 0) {
		(void)haul_err_wrap(&err, rc, "value");
		return cli_fail("map", &err);
	}
	map_in_spread(request->info, value);
	int fd = inner_fd(request->info, value);
	map_explain(request, HAUL_MAP_OP_UPDATE, 1);
	rc = haul_map_update(request->map, &rows, request->mode, &result);
	if (fd >= 0)
		(void)close(fd);
	if (rc == 0 && status == -EEXIST)
		fprintf(stderr, "haul: map: there is an entry with that key: left as it is\n");
	if (rc == 0 && status == -ENOENT)
		fprintf(stderr, "haul: map: there is no entry with that key: none was added\n");
	if (rc == -E2BIG)
		fprintf(stderr,
			"haul: map: %s, key '%s': the map is full (%u entries), or has no "
			"such index\n",
			request->args[0], request->args[1], request->info->max_entries);
	else if (rc < 0)
		return map_op_fail(request, rc);
	return rc == 0 && status == 0 ? CLI_OK : CLI_FAILED;
}

int map_set(struct map_request *request)
{
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	uint8_t *key = calloc(1, request->info->key_size + 1);
	uint8_t *value = calloc(1, request->info->slot_bytes + 1);
	int code = key == NULL || value == NULL ? cli_fail_code("map", "set", -ENOMEM)
						: set_entry(request, key, value);
	free(key);
	free(value);
	map_end(request);
	return code;
}

/* ---- del ---- */

static int delete_keys(struct map_request *request, const struct map_keys *keys)
{
	struct haul_map_result result;
	struct haul_map_rows rows = { .count = keys->count, .keys = keys->data };
	map_explain(request, HAUL_MAP_OP_DELETE, keys->count);
	int rc = haul_map_delete(request->map, &rows, &result);
	if (rc == -ENOTSUP)
		return map_op_fail(request, rc);
	if (request->format == MAP_JSON)
		printf("{\"deleted\": %" PRIu64 ", \"missing\": %" PRIu64 "}\n", result.done,
		       result.missing);
	else
		printf("%" PRIu64 " deleted, %" PRIu64 " not there\n", result.done, result.missing);
	if (rc < 0)
		return map_op_fail(request, rc);
	return result.missing > 0 ? CLI_FAILED : CLI_OK;
}

int map_del(struct map_request *request)
{
	struct map_keys keys = { 0 };
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	int code = map_keys_read(&keys, request);
	if (code == CLI_OK)
		code = delete_keys(request, &keys);
	map_keys_free(&keys);
	map_end(request);
	return code;
}

/* ---- clean ---- */

int map_clean(struct map_request *request)
{
	struct haul_map_result result;
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	map_explain(request, HAUL_MAP_OP_DELETE_IF, 0);
	int rc = haul_map_delete_if(request->map, &request->filter, &result);
	map_end(request);
	if (rc == -ENOTSUP)
		return map_op_fail(request, rc);
	if (request->format == MAP_JSON)
		printf("{\"deleted\": %" PRIu64 ", \"visited\": %" PRIu64 "}\n", result.done,
		       result.visited);
	else
		printf("%" PRIu64 " of %" PRIu64 " entries deleted\n", result.done, result.visited);
	return rc < 0 ? map_op_fail(request, rc) : CLI_OK;
}
