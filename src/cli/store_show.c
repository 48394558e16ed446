#include "cli/store_show.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "sql/json.h"

void store_show_text(const char *text, uint32_t bytes, bool json)
{
	json_t *string = json_stringn(text, bytes);
	if (string != NULL) {
		(void)json_dumpf(string, stdout, JSON_ENCODE_ANY);
		json_decref(string);
		return;
	}
	fputs(json ? "{\"$hex\":\"" : "x'", stdout);
	for (uint32_t i = 0; i < bytes; i++)
		printf("%02x", (unsigned char)text[i]);
	fputs(json ? "\"}" : "'", stdout);
}

void store_show_properties(const struct haul_properties *properties)
{
	char *text = NULL;
	const int rc = json_of_properties(properties, &text);
	fputs(rc == 0 ? text : "null", stdout);
	if (rc == 0)
		free(text);
}

static void show_lines(const struct haul_properties *properties)
{
	char *text = NULL;
	const char *name = NULL;
	json_t *value = NULL;
	if (properties->count == 0 || json_of_properties(properties, &text) < 0)
		return;
	json_t *object = json_loads(text, JSON_ALLOW_NUL, NULL);
	json_object_foreach(object, name, value)
	{
		printf("  %s: ", name);
		(void)json_dumpf(value, stdout, JSON_ENCODE_ANY);
		putchar('\n');
	}
	json_decref(object);
	free(text);
}

void store_show_brief(const struct haul_node *node)
{
	if (node == NULL) {
		fputs("no such node", stdout);
		return;
	}
	printf("kind %" PRIu32, node->kind);
	if (node->key_bytes > 0) {
		fputs(", key ", stdout);
		store_show_text(node->key, node->key_bytes, false);
	}
}

void store_show_node(const struct haul_node *node, bool json)
{
	if (!json) {
		printf("node %" PRIu64 ": ", node->id);
		store_show_brief(node);
		printf(", version %" PRIu64 "\n", node->version);
		show_lines(&node->properties);
		return;
	}
	printf("{\"id\":%" PRIu64 ",\"kind\":%" PRIu32 ",\"key\":", node->id, node->kind);
	if (node->key_bytes > 0)
		store_show_text(node->key, node->key_bytes, true);
	else
		fputs("null", stdout);
	printf(",\"version\":%" PRIu64 ",\"properties\":", node->version);
	store_show_properties(&node->properties);
	putchar('}');
}

void store_show_next(uint64_t count, bool json)
{
	if (json)
		fputs(count > 0 ? ",\n " : "[", stdout);
}

void store_show_end(uint64_t count, bool json)
{
	if (json)
		puts(count > 0 ? "]" : "[]");
}
