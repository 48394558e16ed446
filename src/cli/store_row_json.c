/* NDJSON lines as rows. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "cli/store.h"
#include "cli/store_row.h"
#include "sql/json.h"

static int take_u32(const char *name, const json_t *value, uint32_t *ret, struct haul_err *err)
{
	const json_int_t number = json_integer_value(value);
	if (!json_is_integer(value) || number < 0 || number > UINT32_MAX)
		return haul_err_set(err, -EINVAL, "%s: wanted is a number from 0 to 4294967295",
				    name);
	*ret = (uint32_t)number;
	return 0;
}

/* JSON's integers end at 2^63 - 1 here: a larger id is a text of digits. */
static bool id_of(const json_t *value, uint64_t *ret_id)
{
	if (json_is_integer(value)) {
		*ret_id = (uint64_t)json_integer_value(value);
		return json_integer_value(value) >= HAUL_NODE_ID_MIN;
	}
	return json_is_string(value) && store_cmd_is_id(json_string_value(value), ret_id);
}

static int take_id(const json_t *value, uint64_t *ret_id, struct haul_err *err)
{
	return id_of(value, ret_id)
		       ? 0
		       : haul_err_set(err, -EINVAL,
				      "id: wanted is a number from 1, or a text of digits");
}

static int take_key(const char *name, const json_t *value, struct haul_text *ret_key,
		    struct haul_err *err)
{
	const size_t bytes = json_string_length(value);
	if (!json_is_string(value) || bytes > HAUL_KEY_MAX)
		return haul_err_set(err, -EINVAL, "%s: wanted is a text of up to %d bytes", name,
				    HAUL_KEY_MAX);
	*ret_key = (struct haul_text){ json_string_value(value), (uint32_t)bytes };
	return 0;
}

static int take_end(const char *name, const json_t *value, struct store_end *ret_end,
		    struct haul_err *err)
{
	if (id_of(value, &ret_end->id))
		return 0;
	ret_end->id = 0;
	if (!json_is_string(value) || json_string_length(value) == 0)
		return haul_err_set(
			err, -EINVAL,
			"%s: wanted is the id (a number from 1) or the key (a text) of a "
			"node",
			name);
	return take_key(name, value, &ret_end->key, err);
}

static int take_embedding(struct store_rows *rows, uint32_t index, const json_t *value,
			  struct store_row *row, struct haul_err *err)
{
	const size_t count = json_array_size(value);
	float *room = store_row_vector(rows, row);
	if (room == NULL)
		return haul_err_set(err, HAUL_ELIMIT, "a node has at most %d embeddings here",
				    STORE_ROW_EMBEDDINGS);
	if (count == 0 || count > HAUL_DIMENSIONS_MAX)
		return haul_err_set(err, -EINVAL,
				    "embedding: wanted is an array of 1 to %d numbers",
				    HAUL_DIMENSIONS_MAX);
	for (size_t i = 0; i < count; i++) {
		const json_t *number = json_array_get(value, i);
		room[i] = (float)json_number_value(number);
		if (!json_is_number(number) || !isfinite(room[i]))
			return haul_err_set(err, -EINVAL,
					    "embedding: entry %zu is no number that fits a float",
					    i + 1);
	}
	row->embeddings[row->embedding_count++] = (struct haul_embedding){
		.index = index,
		.dimensions = (uint32_t)count,
		.vector = room,
	};
	return 0;
}

static int node_member(struct store_rows *rows, const char *name, json_t *value,
		       struct store_row *row, struct haul_err *err)
{
	uint32_t index;
	if (strcmp(name, "id") == 0)
		return take_id(value, &row->id, err);
	if (strcmp(name, "kind") == 0)
		return take_u32(name, value, &row->kind, err);
	if (strcmp(name, "key") == 0)
		return json_is_null(value) ? 0 : take_key(name, value, &row->key, err);
	if (store_row_is_embedding(name, &index))
		return take_embedding(rows, index, value, row, err);
	return haul_err_set(err, -EINVAL,
			    "member '%.40s': there are id, kind, key, properties and embedding%s",
			    name, strcmp(name, "src") == 0 ? "; give edges by --edges" : "");
}

static int edge_member(const char *name, json_t *value, struct store_row *row, struct haul_err *err)
{
	if (strcmp(name, "src") == 0)
		return take_end(name, value, &row->src, err);
	if (strcmp(name, "dst") == 0)
		return take_end(name, value, &row->dst, err);
	if (strcmp(name, "src_key") == 0)
		return take_key(name, value, &row->src.key, err);
	if (strcmp(name, "dst_key") == 0)
		return take_key(name, value, &row->dst.key, err);
	if (strcmp(name, "type") == 0)
		return take_u32(name, value, &row->type, err);
	if (strcmp(name, "disc") == 0)
		return take_u32(name, value, &row->disc, err);
	return haul_err_set(err, -EINVAL,
			    "member '%.40s': there are src, dst, src_key, dst_key, type, disc and "
			    "properties",
			    name);
}

static int member(struct store_rows *rows, const char *name, json_t *value, struct store_row *row,
		  struct haul_err *err)
{
	if (strcmp(name, "properties") == 0)
		return json_take_properties(value, rows->properties, &row->properties, err);
	if (strcmp(name, "version") == 0)
		return 0; /* as get --json shows it */
	return rows->edges ? edge_member(name, value, row, err)
			   : node_member(rows, name, value, row, err);
}

static int check_end(const char *name, const struct store_end *end, struct haul_err *err)
{
	if (end->id == 0 && end->key.bytes == 0)
		return haul_err_set(err, -EINVAL, "%s is missing", name);
	if (end->id != 0 && end->key.bytes != 0)
		return haul_err_set(err, -EINVAL, "%s and %s_key contradict each other", name,
				    name);
	return 0;
}

int store_row_of_json(struct store_rows *rows, const struct store_input *input,
		      struct store_row *row, struct haul_err *err)
{
	json_error_t at;
	const char *name;
	json_t *value;
	int rc = 0;

	json_decref(rows->object);
	rows->object = json_loadb(input->text, input->text_bytes,
				  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);
	if (rows->object == NULL)
		return haul_err_set(err, -EINVAL, "no JSON: %s, at character %d", at.text,
				    at.position);
	if (!json_is_object(rows->object))
		return haul_err_set(err, -EINVAL, "wanted is one JSON object a line");
	json_object_foreach(rows->object, name, value)
	{
		rc = member(rows, name, value, row, err);
		if (rc < 0)
			return rc;
	}
	if (rows->edges) {
		rc = check_end("src", &row->src, err);
		if (rc == 0)
			rc = check_end("dst", &row->dst, err);
	}
	return rc;
}
