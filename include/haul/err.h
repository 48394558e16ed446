/* haul/err.h — how a haul call says that it failed.
 *
 * Model      One int. >= 0 is success or a count. -1 … -4095 is -errno as the kernel said it.
 *            HAUL_EBASE and below is what only haul can say. The global errno is never used.
 *            Control-plane calls (open, configure, parse) also take a struct haul_err and fill it
 *            with one line a person can act on: what, where, the value, what would be right.
 *            Data-plane calls take none: a batch has a status column instead.
 * Ownership  struct haul_err is the caller's; it holds its text by value.
 * Threads    all calls are pure, or write only to the struct given.
 * Limits     HAUL_ERR_TEXT bytes of text; longer text is cut, and ends in "...". */
#pragma once

#include <haul/api.h>

enum { HAUL_EBASE = -5000, HAUL_ERR_TEXT = 256 };

/* X(name, offset from HAUL_EBASE, text) */
#define HAUL_ERR_LIST(X)                                                                           \
	X(HAUL_EFULL, 0, "the batch or table is full")                                             \
	X(HAUL_ESHORT, 1, "input ends before what it announces")                                   \
	X(HAUL_ELONG, 2, "input goes on after its announced end")                                  \
	X(HAUL_EVERSION, 3, "unknown version")                                                     \
	X(HAUL_ETYPE, 4, "unknown type")                                                           \
	X(HAUL_ECORRUPT, 5, "contents contradict themselves")                                      \
	X(HAUL_ESTALE, 6, "older than what is already known")                                      \
	X(HAUL_ELIMIT, 7, "over a stated limit")                                                   \
	X(HAUL_ETTL, 8, "time to live is used up")                                                 \
	X(HAUL_ENOROUTE, 9, "no route to the destination")                                         \
	X(HAUL_ECONFIG, 10, "configuration is not valid")                                          \
	X(HAUL_ETRUNC, 11, "received item was cut short by the kernel")                            \
	X(HAUL_EADMIT, 12, "refused: the write budget is used up")

enum haul_error {
#define X(name, offset, text) name = HAUL_EBASE - (offset),
	HAUL_ERR_LIST(X)
#undef X
};

struct haul_err {
	int code;                 /* negative code, 0 before any failure */
	char text[HAUL_ERR_TEXT]; /* one line, no newline at its end */
};

/* The text of any code that haul returns, errno codes included. Never NULL. */
HAUL_API const char *haul_strerror(int code);

/* Set code and text; returns code, so that "return haul_err_set(err, -EINVAL, …)" reads well.
 * err may be NULL. */
HAUL_API int haul_err_set(struct haul_err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "what: " before the text that is there; returns err->code (or code if err is NULL). */
HAUL_API int haul_err_wrap(struct haul_err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
