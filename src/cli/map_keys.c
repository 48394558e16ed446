#include "cli/map_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/map_in.h"

enum { ROOM_START = 64 };

static int add(struct map_keys *keys, const struct map_request *request, const char *text,
	       struct haul_err *err)
{
	if (keys->count == keys->room) {
		uint32_t room = keys->room > 0 ? keys->room * 2 : ROOM_START;
		uint8_t *grown =
			room > keys->room ? realloc(keys->data, (size_t)room * keys->bytes) : NULL;
		if (grown == NULL)
			return haul_err_set(err, -ENOMEM, "out of memory after %u keys",
					    keys->count);
		keys->data = grown;
		keys->room = room;
	}
	int rc = map_in_text(request->typed.key, text, map_keys_at(keys, keys->count), err);
	if (rc == 0)
		keys->count++;
	return rc;
}

static int add_lines(struct map_keys *keys, const struct map_request *request, struct haul_err *err)
{
	char *line = NULL;
	size_t room = 0;
	uint64_t number = 0;
	int rc = 0;
	while (rc == 0 && getline(&line, &room, stdin) >= 0) {
		line[strcspn(line, "\r\n")] = '\0';
		number++;
		if (line[0] == '\0')
			continue;
		rc = add(keys, request, line, err);
		if (rc < 0)
			rc = haul_err_wrap(err, rc, "line %llu", (unsigned long long)number);
	}
	free(line);
	return rc;
}

int map_keys_read(struct map_keys *keys, const struct map_request *request)
{
	struct haul_err err = { 0 };
	int rc = 0;
	*keys = (struct map_keys){ .bytes = request->info->key_size };
	for (uint32_t i = 1; rc == 0 && i < request->arg_count; i++) {
		rc = !strcmp(request->args[i], "-") ? add_lines(keys, request, &err)
						    : add(keys, request, request->args[i], &err);
		if (rc < 0)
			(void)haul_err_wrap(&err, rc, "key");
	}
	return rc < 0 ? cli_fail("map", &err) : CLI_OK;
}

void map_keys_free(struct map_keys *keys)
{
	free(keys->data);
	keys->data = NULL;
}
