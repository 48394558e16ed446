#include "cli/quantity.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "os/os.h"

enum { DECIMALS_MAX = 9 };

struct unit {
	const char *name;
	uint64_t factor;
};

static bool multiply(uint64_t a, uint64_t b, uint64_t *ret_product)
{
	return !__builtin_mul_overflow(a, b, ret_product);
}

/* Digits, then perhaps a point and up to DECIMALS_MAX digits: text = (*number) / (*scale). */
static int parse_number(const char **text, uint64_t *number, uint64_t *scale)
{
	const char *at = *text;
	bool fraction = false;

	*number = 0;
	*scale = 1;
	if (!isdigit((unsigned char)*at))
		return -EINVAL;
	for (; isdigit((unsigned char)*at) || (*at == '.' && !fraction); at++) {
		if (*at == '.') {
			fraction = true;
			if (!isdigit((unsigned char)at[1]))
				return -EINVAL;
			continue;
		}
		if (!multiply(*number, 10, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(*at - '0'), number))
			return -ERANGE;
		if (fraction && !multiply(*scale, 10, scale))
			return -ERANGE;
	}
	*text = at;
	return 0;
}

/* The end of units has no name. */
static int parse(const char *text, const struct unit *units, uint64_t *ret_value)
{
	uint64_t number, scale, product;
	int rc = parse_number(&text, &number, &scale);

	if (rc < 0)
		return rc;
	for (; units->name != NULL; units++) {
		if (strcmp(text, units->name) != 0)
			continue;
		if (!multiply(number, units->factor, &product))
			return -ERANGE;
		*ret_value = product / scale;
		return 0;
	}
	return -EINVAL;
}

int quantity_duration(const char *text, int64_t *ret_ns)
{
	static const struct unit units[] = {
		{ "", (uint64_t)NS_PER_S },
		{ "ns", 1 },
		{ "us", (uint64_t)NS_PER_US },
		{ "ms", (uint64_t)NS_PER_MS },
		{ "s", (uint64_t)NS_PER_S },
		{ "m", 60 * (uint64_t)NS_PER_S },
		{ "h", 3600 * (uint64_t)NS_PER_S },
		{ "d", 86400 * (uint64_t)NS_PER_S },
		{ 0 },
	};
	uint64_t ns;
	int rc = parse(text, units, &ns);

	if (rc == 0 && ns > INT64_MAX)
		rc = -ERANGE;
	if (rc == 0)
		*ret_ns = (int64_t)ns;
	return rc;
}

int quantity_size(const char *text, uint64_t *ret_size)
{
	static const struct unit units[] = {
		{ "", 1 },
		{ "k", UINT64_C(1000) },
		{ "M", UINT64_C(1000000) },
		{ "G", UINT64_C(1000000000) },
		{ "T", UINT64_C(1000000000000) },
		{ "Ki", UINT64_C(1) << 10 },
		{ "Mi", UINT64_C(1) << 20 },
		{ "Gi", UINT64_C(1) << 30 },
		{ "Ti", UINT64_C(1) << 40 },
		{ 0 },
	};

	return parse(text, units, ret_size);
}

const char *quantity_duration_text(int64_t ns, char ret_text[QUANTITY_TEXT])
{
	int64_t s = ns / NS_PER_S;

	if (ns < NS_PER_MS)
		(void)snprintf(ret_text, QUANTITY_TEXT, "%" PRId64 "us",
			       ns > 0 ? ns / NS_PER_US : 0);
	else if (ns < NS_PER_S)
		(void)snprintf(ret_text, QUANTITY_TEXT, "%" PRId64 "ms", ns / NS_PER_MS);
	else if (s < 60)
		(void)snprintf(ret_text, QUANTITY_TEXT, "%" PRId64 ".%" PRId64 "s", s,
			       ns % NS_PER_S / (NS_PER_S / 10));
	else if (s < 3600)
		(void)snprintf(ret_text, QUANTITY_TEXT, "%" PRId64 "m%02" PRId64 "s", s / 60,
			       s % 60);
	else if (s < 86400)
		(void)snprintf(ret_text, QUANTITY_TEXT, "%" PRId64 "h%02" PRId64 "m", s / 3600,
			       s / 60 % 60);
	else
		(void)snprintf(ret_text, QUANTITY_TEXT, "%" PRId64 "d%02" PRId64 "h", s / 86400,
			       s / 3600 % 24);
	return ret_text;
}

/* Divided by base until what is shown is below it; units has one letter a step. slack: what is at
 * most so far below base would be rounded up to it. */
static double scale_down(double size, double base, double slack, const char **unit)
{
	HAUL_ASSERT(size >= 0);
	while (size >= base - (**unit == ' ' ? 0.5 : slack) && (*unit)[1] != '\0') {
		size /= base;
		(*unit)++;
	}
	return size;
}

const char *quantity_size_text(double size, char ret_text[QUANTITY_TEXT])
{
	const char *unit = " kMGTPE";
	double shown = scale_down(size, 1000, 0.5, &unit);

	if (*unit == ' ')
		(void)snprintf(ret_text, QUANTITY_TEXT, "%.0f", shown);
	else
		(void)snprintf(ret_text, QUANTITY_TEXT, shown < 99.95 ? "%.1f%c" : "%.0f%c", shown,
			       *unit);
	return ret_text;
}

const char *quantity_memory_text(uint64_t bytes, char ret_text[QUANTITY_TEXT])
{
	const char *unit = " KMGTPE";
	double shown = scale_down((double)bytes, 1024, 0.05, &unit);

	if (*unit == ' ')
		(void)snprintf(ret_text, QUANTITY_TEXT, "%.0f B", shown);
	else
		(void)snprintf(ret_text, QUANTITY_TEXT, "%.1f %ciB", shown, *unit);
	return ret_text;
}
