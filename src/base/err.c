#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <haul/err.h>
#include "base/assert.h"

static const char CUT[] = "...";

const char *haul_strerror(int code)
{
	switch (code) {
#define X(name, offset, text)                                                                      \
	case name:                                                                                 \
		return text;
		HAUL_ERR_LIST(X)
#undef X
	default:
		break;
	}
	if (code >= 0)
		return "success";
	const char *text = code >= -4095 ? strerrordesc_np(-code) : NULL;
	return text ? text : "unknown error";
}

/* Ends a text that did not fit, without half a UTF-8 character before the dots. */
static void mark_cut(char *text)
{
	size_t at = HAUL_ERR_TEXT - sizeof CUT;
	while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80)
		at--;
	memcpy(text + at, CUT, sizeof CUT);
}

static void one_line(char *text)
{
	for (; *text; text++)
		if (*text == '\n' || *text == '\r')
			*text = ' ';
}

int haul_err_set(struct haul_err *err, int code, const char *format, ...)
{
	HAUL_ASSERT(code < 0);
	if (!err)
		return code;

	va_list args;
	va_start(args, format);
	int bytes = vsnprintf(err->text, sizeof err->text, format, args);
	va_end(args);
	HAUL_ASSERT(bytes >= 0);
	if (bytes >= HAUL_ERR_TEXT)
		mark_cut(err->text);
	one_line(err->text);
	err->code = code;
	return code;
}

int haul_err_wrap(struct haul_err *err, int code, const char *format, ...)
{
	HAUL_ASSERT(code < 0);
	if (!err)
		return code;

	char what[HAUL_ERR_TEXT];
	va_list args;
	va_start(args, format);
	int bytes = vsnprintf(what, sizeof what, format, args);
	va_end(args);
	HAUL_ASSERT(bytes >= 0);

	char inner[HAUL_ERR_TEXT];
	memcpy(inner, err->code ? err->text : "", err->code ? sizeof inner : 1);
	return haul_err_set(err, err->code ? err->code : code, "%s: %s", what,
			    inner[0] ? inner : haul_strerror(code));
}
