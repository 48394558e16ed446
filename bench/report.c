#include "report.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

/* "AMD EPYC 7763, 2 cores, Linux 6.1.0, gcc 12.2.0": figures mean nothing without it. */
static void machine_name(char *out, size_t bytes)
{
	char line[256], model[128] = "unknown processor";
	FILE *cpuinfo = fopen("/proc/cpuinfo", "re");
	while (cpuinfo && fgets(line, sizeof line, cpuinfo))
		if (sscanf(line, "model name : %127[^\n]", model) == 1)
			break;
	if (cpuinfo)
		(void)fclose(cpuinfo); /* only read */
	struct utsname kernel;
	bool known = uname(&kernel) == 0;
	snprintf(out, bytes, "%s, %ld cores, Linux %s, " COMPILER, model,
		 sysconf(_SC_NPROCESSORS_ONLN), known ? kernel.release : "unknown");
}

/* Three or more digits that mean something, whatever the size. */
static const char *number(char out[24], double value)
{
	int digits = value < 10.0 ? 2 : value < 100.0 ? 1 : 0;
	snprintf(out, 24, "%.*f", digits, value);
	return out;
}

static const char *maybe(char out[24], double value, int digits)
{
	if (value < 0.0)
		return "-";
	snprintf(out, 24, "%.*f", digits, value);
	return out;
}

static bool goal_missed(const struct bench_row *row)
{
	const struct bench_case *of = row->of;
	if (of->excess_max > 0.0)
		return row->batched.value > row->individual.value + of->excess_max;
	return row->ratio < of->goal;
}

static const char *goal_text(const struct bench_case *of, char out[24])
{
	if (of->excess_max <= 0.0)
		return of->goal > 0.0 ? number(out, of->goal) : "-";
	snprintf(out, 24, "+%.3g", of->excess_max);
	return out;
}

static void table_row(const struct bench_row *row, FILE *out)
{
	const struct bench_case *of = row->of;
	char a[24], b[24], c[24], spread[80];
	if (row->left_out[0]) {
		fprintf(out, "%-20s left out: %s\n", of->name, row->left_out);
		return;
	}
	snprintf(spread, sizeof spread, "%s [%s-%s]", number(a, row->ratio),
		 number(b, row->ratio_min), number(c, row->ratio_max));
	fprintf(out, "%-20s %10s %10s %-8s %-22s", of->name, number(a, row->individual.value),
		number(b, row->batched.value), of->unit, spread);
	fprintf(out, " %s%6s", goal_missed(row) ? "!" : " ", goal_text(of, a));
	fprintf(out, " %9s %7s\n", maybe(a, row->batched.syscalls_per_op, 3),
		maybe(b, row->batched.fill_mean, 1));
	if (row->individual.note[0] || row->batched.note[0])
		fprintf(out, "    %s | %s\n", row->individual.note, row->batched.note);
}

/* One cell of the bench's own tables. */
static const char *cell_text(const json_t *cell, char out[24])
{
	if (json_is_string(cell))
		return json_string_value(cell);
	if (json_is_real(cell))
		return number(out, json_real_value(cell));
	if (!json_is_integer(cell))
		return "-";
	snprintf(out, 24, "%lld", (long long)json_integer_value(cell));
	return out;
}

static void cells_print(const json_t *cells, FILE *out)
{
	const json_t *cell;
	size_t i;
	char text[24];
	json_array_foreach(cells, i, cell)
		fprintf(out, i == 0 ? "%-22s" : " %12s", cell_text(cell, text));
	fputc('\n', out);
}

static void tables_print(const json_t *tables, FILE *out)
{
	const json_t *table, *row;
	size_t i, k;
	json_array_foreach(tables, i, table)
	{
		fprintf(out, "%s: %s\n", json_string_value(json_object_get(table, "table")),
			json_string_value(json_object_get(table, "what")));
		cells_print(json_object_get(table, "columns"), out);
		json_array_foreach(json_object_get(table, "rows"), k, row) cells_print(row, out);
		fputc('\n', out);
	}
}

void report_table(const struct bench_report *report, FILE *out)
{
	char machine[256];
	machine_name(machine, sizeof machine);
	fprintf(out, "%s: %s\n%s, %u pairs, load %.1f\n", report->bench->name, report->bench->help,
		machine, report->options->pairs, report->load);
	fprintf(out, "%-20s %10s %10s %-8s %-22s  %6s %9s %7s\n", "case", "individual", "batched",
		"unit", "ratio [min-max]", "goal", "calls/op", "fill");
	for (uint32_t i = 0; i < report->row_count; i++)
		table_row(&report->rows[i], out);
	fputc('\n', out);
	if (report->tables)
		tables_print(report->tables, out);
}

static json_t *json_maybe(double value, bool known)
{
	return known ? json_real(value) : json_null();
}

static json_t *json_row(const struct bench_row *row, uint32_t pairs)
{
	const struct bench_case *of = row->of;
	bool ran = !row->left_out[0];
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:s, s:i,"
			 " s:s, s:s, s:s}",
			 "case", of->name, "unit", of->unit, "individual",
			 json_maybe(row->individual.value, ran), "batched",
			 json_maybe(row->batched.value, ran), "ratio", json_maybe(row->ratio, ran),
			 "ratio_min", json_maybe(row->ratio_min, ran), "ratio_max",
			 json_maybe(row->ratio_max, ran), "syscalls_per_op",
			 json_maybe(row->batched.syscalls_per_op,
				    ran && row->batched.syscalls_per_op >= 0.0),
			 "fill_mean",
			 json_maybe(row->batched.fill_mean, ran && row->batched.fill_mean >= 0.0),
			 "goal", json_maybe(of->goal, of->goal > 0.0), "excess_max",
			 json_maybe(of->excess_max, of->excess_max > 0.0), "lower_is_better",
			 of->lower_is_better, "arms", of->arms, "pairs", (int)pairs,
			 "individual_note", row->individual.note, "batched_note", row->batched.note,
			 "left_out", row->left_out);
}

int report_json(const struct bench_report *report, FILE *out)
{
	char machine[256];
	machine_name(machine, sizeof machine);
	json_t *rows = json_array();
	int rc = rows ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < report->row_count && rc == 0; i++)
		if (json_array_append_new(rows, json_row(&report->rows[i], report->options->pairs)))
			rc = -ENOMEM;
	json_t *object =
		json_pack("{s:s, s:s, s:f, s:o, s:O*}", "bench", report->bench->name, "machine",
			  machine, "load", report->load, "rows", rows, "tables", report->tables);
	if (rc == 0 && !object)
		rc = -ENOMEM;
	if (rc == 0 && json_dumpf(object, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) != 0)
		rc = -EIO;
	if (rc == 0)
		fputc('\n', out);
	json_decref(object);
	return rc;
}
