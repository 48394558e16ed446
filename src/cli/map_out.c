#include "cli/map_out.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER = 1 << 18, SPARE = 128, LINE_SHORT = 120, DIGITS = 20 };

/* ---- the buffer ---- */

static void write_out(struct map_out *out, const char *data, size_t bytes)
{
	if (out->error == 0 && bytes > 0 && fwrite(data, 1, bytes, out->file) != bytes)
		out->error = errno != 0 ? -errno : -EIO;
}

static void make_room(struct map_out *out, size_t bytes)
{
	if (out->used + bytes <= BUFFER)
		return;
	write_out(out, out->buffer, out->used);
	out->used = 0;
}

static void put(struct map_out *out, const char *text, size_t bytes)
{
	make_room(out, bytes);
	if (bytes > BUFFER) {
		write_out(out, text, bytes);
		return;
	}
	memcpy(out->buffer + out->used, text, bytes);
	out->used += bytes;
}

static void put_text(struct map_out *out, const char *text)
{
	put(out, text, strlen(text));
}

/* Two digits a byte, sixteen bytes at a time: most of a dump without BTF is this. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));

static bytes16 digit_of(bytes16 nibble)
{
	return nibble + '0' + ((bytes16)(nibble > 9) & ('a' - '0' - 10));
}

static void hex_digits(char *to, const uint8_t *data, uint32_t bytes)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t i = 0;
	for (; bytes - i >= sizeof(bytes16); i += sizeof(bytes16)) {
		bytes16 in, out[2];
		memcpy(&in, data + i, sizeof in);
		bytes16 high = digit_of(in >> 4), low = digit_of(in & 15);
		out[0] = __builtin_shufflevector(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
						 21, 6, 22, 7, 23);
		out[1] = __builtin_shufflevector(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
						 13, 29, 14, 30, 15, 31);
		memcpy(to + 2 * (size_t)i, out, sizeof out);
	}
	for (; i < bytes; i++) {
		to[2 * (size_t)i] = digits[data[i] >> 4];
		to[2 * (size_t)i + 1] = digits[data[i] & 15];
	}
}

static void put_hex(struct map_out *out, const uint8_t *data, uint32_t bytes)
{
	put(out, "0x", 2);
	while (bytes > 0) {
		uint32_t now = bytes < BUFFER / 4 ? bytes : BUFFER / 4;
		make_room(out, 2 * (size_t)now);
		hex_digits(out->buffer + out->used, data, now);
		out->used += 2 * (size_t)now;
		data += now;
		bytes -= now;
	}
}

static void put_decimal(struct map_out *out, uint64_t value)
{
	char digits[DIGITS];
	uint32_t at = DIGITS;
	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	put(out, digits + at, DIGITS - at);
}

/* ---- what typed_walk tells ---- */

static bool is_json(const struct map_out *out)
{
	return out->format == MAP_JSON || out->format == MAP_NDJSON;
}

static void join(struct map_out *out)
{
	if (out->joined)
		put_text(out, is_json(out) ? "," : ", ");
	out->joined = true;
}

static void on_begin(void *arg, enum typed_kind kind)
{
	join(arg);
	put_text(arg, kind == TYPED_STRUCT ? "{" : "[");
	((struct map_out *)arg)->joined = false;
}

static void on_end(void *arg, enum typed_kind kind)
{
	put_text(arg, kind == TYPED_STRUCT ? "}" : "]");
	((struct map_out *)arg)->joined = true;
}

static void on_name(void *arg, const char *name)
{
	struct map_out *out = arg;
	join(out);
	if (is_json(out)) {
		put(out, "\"", 1);
		put_text(out, name);
		put(out, "\":", 2);
	} else {
		put_text(out, name);
		put(out, ": ", 2);
	}
	out->joined = false;
}

static void on_number(void *arg, uint64_t bits, bool is_signed)
{
	join(arg);
	if (is_signed && (int64_t)bits < 0) {
		put(arg, "-", 1);
		bits = 0 - bits;
	}
	put_decimal(arg, bits);
}

static void on_boolean(void *arg, bool value)
{
	join(arg);
	put_text(arg, value ? "true" : "false");
}

/* JSON has no numbers for these. */
static void put_special(struct map_out *out, double value)
{
	const char *quote = is_json(out) ? "\"" : "";
	put_text(out, quote);
	put_text(out, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
	put_text(out, quote);
}

static void on_real(void *arg, double value, uint32_t bytes)
{
	char text[64] = "";
	int digits = bytes == sizeof(float) ? 6 : 15, digits_max = bytes == sizeof(float) ? 9 : 17;
	join(arg);
	if (!isfinite(value)) {
		put_special(arg, value);
		return;
	}
	for (bool same = false; !same && digits <= digits_max; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, value);
		double back = strtod(text, NULL);
		if (bytes == sizeof(float))
			back = (double)(float)back;
		same = back >= value && back <= value;
	}
	put_text(arg, text);
}

static void on_wide(void *arg, uint64_t high, uint64_t low)
{
	char text[64];
	join(arg);
	if (high != 0)
		snprintf(text, sizeof text, "0x%llx%016llx", (unsigned long long)high,
			 (unsigned long long)low);
	else
		snprintf(text, sizeof text, "0x%llx", (unsigned long long)low);
	if (is_json(arg))
		put(arg, "\"", 1);
	put_text(arg, text);
	if (is_json(arg))
		put(arg, "\"", 1);
}

static void on_text(void *arg, const char *text, uint32_t bytes)
{
	struct map_out *out = arg;
	bool csv = out->format == MAP_CSV;
	join(out);
	if (csv && memchr(text, ',', bytes) == NULL && memchr(text, '"', bytes) == NULL) {
		put(out, text, bytes);
		return;
	}
	put(out, "\"", 1);
	for (uint32_t i = 0; i < bytes; i++) {
		if (text[i] == '"' || (text[i] == '\\' && !csv))
			put(out, csv ? "\"" : "\\", 1);
		put(out, text + i, 1);
	}
	put(out, "\"", 1);
}

static void on_bytes(void *arg, const uint8_t *data, uint32_t bytes)
{
	join(arg);
	if (is_json(arg))
		put(arg, "\"", 1);
	put_hex(arg, data, bytes);
	if (is_json(arg))
		put(arg, "\"", 1);
}

static const struct typed_sink sink = { on_begin, on_end,  on_name, on_number, on_boolean,
					on_real,  on_wide, on_text, on_bytes };

/* ---- entries ---- */

static uint32_t value_stride(const struct map_out *out)
{
	return out->info->slot_bytes / out->info->cpus;
}

static bool per_cpu(const struct map_out *out)
{
	return out->info->slot_bytes > out->info->value_size ||
	       out->info->type == BPF_MAP_TYPE_PERCPU_HASH ||
	       out->info->type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
	       out->info->type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       out->info->type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

static void put_typed(struct map_out *out, const struct typed_type *type, const void *data)
{
	out->joined = false;
	typed_walk(type, data, &sink, out);
}

static void json_member(struct map_out *out, const char *name, const struct typed_type *type,
			const uint8_t *data)
{
	put(out, "\"", 1);
	put_text(out, name);
	put(out, "\":", 2);
	put_typed(out, type, data);
	if (!typed_in_gaps(type, data))
		return;
	put(out, ",\"", 2);
	put_text(out, name);
	put_text(out, "_bytes\":\"");
	put_hex(out, data, type->bytes);
	put(out, "\"", 1);
}

static void json_value(struct map_out *out, const uint8_t *value)
{
	if (value == NULL) {
		put_text(out, "\"value\":null");
		return;
	}
	if (!per_cpu(out)) {
		json_member(out, "value", out->typed->value, value);
		return;
	}
	put_text(out, "\"values\":[");
	for (uint32_t cpu = 0; cpu < out->info->cpus; cpu++) {
		put_text(out, cpu > 0 ? ",{\"cpu\":" : "{\"cpu\":");
		put_decimal(out, cpu);
		put(out, ",", 1);
		json_member(out, "value", out->typed->value, value + cpu * value_stride(out));
		put(out, "}", 1);
	}
	put(out, "]", 1);
}

static void json_entry(struct map_out *out, const void *key, const void *value)
{
	if (out->format == MAP_JSON)
		put_text(out, out->printed > 0 ? ",\n" : "\n");
	put(out, "{", 1);
	json_member(out, "key", out->typed->key, key);
	put(out, ",", 1);
	json_value(out, value);
	put_text(out, out->format == MAP_NDJSON ? "}\n" : "}");
}

static void text_typed(struct map_out *out, const struct typed_type *type, const void *data)
{
	put_typed(out, type, data);
	if (!typed_in_gaps(type, data))
		return;
	put_text(out, " (");
	put_hex(out, data, type->bytes);
	put_text(out, ")");
}

static void text_value(struct map_out *out, const uint8_t *value)
{
	if (value == NULL) {
		put_text(out, "none");
		return;
	}
	if (!per_cpu(out)) {
		text_typed(out, out->typed->value, value);
		return;
	}
	for (uint32_t cpu = 0; cpu < out->info->cpus; cpu++) {
		put_text(out, cpu > 0 ? "  cpu" : "cpu");
		put_decimal(out, cpu);
		put(out, " ", 1);
		text_typed(out, out->typed->value, value + cpu * value_stride(out));
	}
}

/* One line, or two when one would be long. */
static void text_entry(struct map_out *out, const void *key, const void *value)
{
	make_room(out, 2 * (size_t)BUFFER / 4);
	put_text(out, "key ");
	size_t start = out->used;
	text_typed(out, out->typed->key, key);
	size_t middle = out->used;
	put_text(out, "   value ");
	text_value(out, value);
	/* not when the buffer had to be written in between */
	if (out->used > middle && middle > start && out->used - start > LINE_SHORT &&
	    !memcmp(out->buffer + middle, "   value ", 9))
		out->buffer[middle] = '\n';
	put(out, "\n", 1);
}

static void csv_row(struct map_out *out, const uint8_t *key, const uint8_t *value, uint32_t cpu)
{
	for (uint32_t i = 0; i < out->leaf_count; i++) {
		bool of_key = i < out->key_leaves;
		if (i > 0)
			put(out, ",", 1);
		if (i == out->key_leaves && per_cpu(out)) {
			put_decimal(out, cpu);
			put(out, ",", 1);
		}
		out->joined = false;
		if (of_key || value != NULL)
			typed_scalar(out->leaves[i], of_key ? key : value, &sink, out);
	}
	put(out, "\n", 1);
	out->lossy |= typed_in_gaps(out->typed->key, key) ||
		      (value != NULL && typed_in_gaps(out->typed->value, value));
}

static void csv_entry(struct map_out *out, const void *key, const uint8_t *value)
{
	uint32_t rows = per_cpu(out) && value != NULL ? out->info->cpus : 1;
	for (uint32_t cpu = 0; cpu < rows; cpu++)
		csv_row(out, key, value != NULL ? value + cpu * value_stride(out) : NULL, cpu);
}

int map_out_entry(struct map_out *out, const void *key, const void *value)
{
	if (is_json(out))
		json_entry(out, key, value);
	else if (out->format == MAP_CSV)
		csv_entry(out, key, value);
	else
		text_entry(out, key, value);
	out->printed++;
	return out->error;
}

void map_out_key(struct map_out *out, const void *key)
{
	put_typed(out, out->typed->key, key);
}

void map_out_value(struct map_out *out, const void *value)
{
	if (is_json(out))
		json_value(out, value);
	else
		text_value(out, value);
}

void map_out_text(struct map_out *out, const char *text)
{
	put_text(out, text);
}

/* ---- begin and end ---- */

struct heading {
	struct map_out *out;
	FILE *head;
	const char *root;
};

static int add_column(struct typed_place place, const char *path, void *arg)
{
	struct heading *heading = arg;
	struct map_out *out = heading->out;
	if (out->leaf_count == TYPED_LEAVES_MAX)
		return -E2BIG;
	bool comma = out->leaf_count > 0;
	out->leaves[out->leaf_count++] = place;
	fprintf(heading->head, "%s%s%s%s", comma ? "," : "", heading->root,
		path[0] != '\0' && path[0] != '[' ? "." : "", path);
	return 0;
}

static int csv_open(struct map_out *out)
{
	struct heading heading = { .out = out, .root = "key" };
	out->leaves = calloc(TYPED_LEAVES_MAX, sizeof *out->leaves);
	heading.head = open_memstream(&out->head, &out->head_bytes);
	if (out->leaves == NULL || heading.head == NULL)
		return -ENOMEM;
	int rc = typed_leaves(out->typed->key, add_column, &heading);
	out->key_leaves = out->leaf_count;
	if (per_cpu(out))
		fprintf(heading.head, ",cpu");
	heading.root = "value";
	if (rc == 0)
		rc = typed_leaves(out->typed->value, add_column, &heading);
	if (fclose(heading.head) != 0)
		rc = -ENOMEM;
	if (rc < 0)
		return rc;
	put(out, out->head, out->head_bytes);
	put(out, "\n", 1);
	return 0;
}

static void out_free(struct map_out *out)
{
	free(out->buffer);
	free(out->leaves);
	free(out->head);
	out->buffer = NULL;
	out->leaves = NULL;
	out->head = NULL;
}

int map_out_begin(struct map_out *out, const struct map_request *request, FILE *file)
{
	*out = (struct map_out){ .info = request->info,
				 .typed = &request->typed,
				 .format = request->format,
				 .file = file,
				 .buffer = malloc(BUFFER + SPARE) };
	int rc = out->buffer == NULL ? -ENOMEM : 0;
	if (rc == 0 && out->format == MAP_CSV)
		rc = csv_open(out);
	if (rc == 0 && out->format == MAP_JSON)
		put(out, "[", 1);
	if (rc < 0)
		out_free(out);
	return rc;
}

int map_out_flush(struct map_out *out)
{
	write_out(out, out->buffer, out->used);
	out->used = 0;
	if (out->error == 0 && fflush(out->file) != 0)
		out->error = -errno;
	return out->error;
}

int map_out_end(struct map_out *out)
{
	if (out->format == MAP_JSON)
		put_text(out, out->printed > 0 ? "\n]\n" : "]\n");
	int rc = map_out_flush(out);
	if (out->lossy && rc == 0)
		fprintf(stderr, "haul: map: entries have bits that no column shows; --ndjson keeps "
				"them\n");
	out_free(out);
	return rc;
}
