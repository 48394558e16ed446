/* rpc/mc.h — the memcached protocols, text and meta: reading requests.
 *
 * Model      mc_parse takes the next request off the front of what was received. A pure function:
 *            it copies nothing, keeps no state, and points into the buffer. Commands: get gets gat
 *            gats set add replace append prepend cas incr decr delete touch stats version verbosity
 *            flush_all quit, mg ms md ma mn me, shutdown is refused; `online` is ours.
 * Units      bytes; exptime as on the wire (seconds; over 30 days: since 1970; negative: at once).
 * Threads    pure.
 * Errors     a request that cannot be understood is answered, not fatal: MC_ERROR with the line to
 *            send; where it announces a data block, that is part of `consumed`, so a client's data
 *            is never taken for commands. Only what cannot be told apart any more (a line without
 *            end, the binary protocol, HTTP, more than 2 GiB of data) closes the connection:
 *            MC_FATAL.
 * Limits     MC_LINE_MAX bytes a line of keys, MC_COMMAND_MAX another one, MC_KEY_MAX a key; any
 *            number of keys a get.
 * Source     memcached's doc/protocol.txt, 1.6.18; x of md, s and N of ms are of later ones. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	MC_KEY_MAX = 250,
	MC_LINE_MAX = 1 << 20, /* a get of 4000 keys of 250 bytes */
	MC_COMMAND_MAX = 2048, /* lines of other commands */
	MC_TOKENS_MAX = 28,    /* words of such a line */
	MC_FLAGS_MAX = 24,     /* flags of one meta command */
	MC_OPAQUE_MAX = 32
};

enum mc_parsed { MC_MORE, MC_REQUEST, MC_ERROR, MC_FATAL };

/* X(name, kind of line) */
#define MC_COMMAND_LIST(X)                                                                         \
	X(get, KEYS)                                                                               \
	X(gets, KEYS)                                                                              \
	X(gat, TOUCH_KEYS)                                                                         \
	X(gats, TOUCH_KEYS)                                                                        \
	X(set, STORE)                                                                              \
	X(add, STORE)                                                                              \
	X(replace, STORE)                                                                          \
	X(append, STORE)                                                                           \
	X(prepend, STORE)                                                                          \
	X(cas, STORE)                                                                              \
	X(incr, DELTA)                                                                             \
	X(decr, DELTA)                                                                             \
	X(delete, DELETE)                                                                          \
	X(touch, TOUCH)                                                                            \
	X(stats, STATS)                                                                            \
	X(version, WORD)                                                                           \
	X(verbosity, NUMBER)                                                                       \
	X(flush_all, DELAY)                                                                        \
	X(quit, WORD)                                                                              \
	X(online, WORD)                                                                            \
	X(shutdown, WORD)                                                                          \
	X(mg, META)                                                                                \
	X(ms, META)                                                                                \
	X(md, META)                                                                                \
	X(ma, META)                                                                                \
	X(mn, WORD)                                                                                \
	X(me, META)

enum mc_command {
#define X(name, kind) MC_##name,
	MC_COMMAND_LIST(X)
#undef X
		MC_COMMANDS
};

struct mc_text {
	const char *data;
	uint32_t bytes;
};

/* Bit of a meta flag in mc_request.have. */
#define MC_FLAG(letter) (UINT64_C(1) << ((letter) >= 'a' ? (letter) - 'a' : 26 + (letter) - 'A'))

struct mc_request {
	enum mc_command command;
	struct mc_text keys; /* get …: the keys; mc_key takes one after the other */
	uint32_t key_count;  /* of keys */
	struct mc_text key;  /* one key, as on the wire; stats: its argument */
	bool noreply;        /* meta: flag q */
	bool has_delay;      /* flush_all: exptime was given */
	uint32_t flags;      /* client flags; meta: F */
	int64_t exptime;     /* meta: T */
	uint64_t cas;        /* meta: C */
	uint64_t delta;      /* meta: D */
	uint64_t initial;    /* ma: J */
	int64_t vivify;      /* meta: N */
	int64_t recache;     /* mg: R */
	char mode;           /* ms: S E A P R; ma: I D */
	uint64_t have;       /* meta: which flags were there, MC_FLAG */
	/* Storage commands: bytes of the data block, and where it is; NULL if it is to be taken as
	 * it comes (from `head` on). */
	uint64_t value_bytes;
	const char *value;
	uint32_t head;                     /* bytes of the line with its end */
	struct mc_text meta[MC_FLAGS_MAX]; /* flags with their tokens, in order: "T30" */
	uint32_t meta_count;
	/* MC_ERROR, MC_FATAL: the line to send, with its end; NULL = send nothing. */
	const char *error;
	uint64_t consumed; /* bytes of the request; may go beyond what is in the buffer: with value
			    * NULL, or with an error whose data is to be swallowed */
};

/* value_min: a storage command whose value is longer is told as soon as its line is there, so that
 * its value can be taken as it comes; others only when all of it is there. A value over value_max
 * is MC_ERROR. *ret_request is undefined after MC_MORE. */
enum mc_parsed mc_parse(const char *data, uint64_t bytes, uint64_t value_min, uint64_t value_max,
			struct mc_request *ret_request);
/* The next key of *keys, which is shortened; false = no more. */
bool mc_key(struct mc_text *keys, struct mc_text *ret_key);
/* Seconds since 1970 by which an item with that exptime expires; 0 = never; 1 = it is over. */
uint32_t mc_expiry(int64_t exptime, uint32_t now_s);
/* A decimal number and nothing else; false if it is none or does not fit. */
bool mc_number(struct mc_text text, uint64_t *ret_number);

/* mc_meta.c: words after the command of a meta line. NULL, or the error line. */
const char *mc_meta_parse(const struct mc_text *words, uint32_t count, struct mc_request *request);
/* Decode base64 (flag b) into out, at most max bytes; returns how many, 0 = not base64. */
uint32_t mc_base64(struct mc_text text, uint8_t *out, uint32_t max);
