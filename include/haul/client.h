/* haul/client.h — changes of a whole program, gathered into frames for a store server.
 *
 * Model      One client object is shared by all threads of a program. haul_client_submit copies the
 *            changes of one caller into the frame that is being gathered, as groups of their own;
 *            the gate (batch.h) closes it: at once when nothing is in flight, else when full (8192
 *            operations), at the threshold (100, adaptive), at the deadline (10 ms), at a barrier
 *            (haul_client_barrier, or a read), or by haul_client_flush. Each submit has its own
 *            results. A frame is sent again after the connection was lost; the server applies it
 *            once. A deadline that passes tells -ETIMEDOUT: the outcome is unknown, and
 *            haul_client_outcome settles it.
 * Units      _ns nanoseconds; bytes.
 * Ownership  changes are copied.
 * Memory     at open: window frames of bytes_max and what is gathered.
 * Threads    any. Callbacks come from the client's own thread and must not block.
 * Errors     open: -ECONNREFUSED, -EACCES (token), HAUL_EVERSION, -EPROTO (no server of a store),
 *            -ETIMEDOUT, -EINVAL with text. submit: -EBUSY (full, and HAUL_CLIENT_BUSY chosen, or
 *            full for as long as the deadline, or in a callback), -ESHUTDOWN; nothing was taken.
 *            result: -ETIMEDOUT, HAUL_ESTALE (the server has dropped this session, or serves
 *            another store: retries can no longer be told apart), -ESHUTDOWN, or as
 *            haul_store_commit. What would wait for itself in a callback: -EDEADLK.
 * Blocking   submit only when full, and HAUL_CLIENT_BLOCK chosen.
 * Limits     graph.h's; window 1 … 8 frames in flight.
 * Source     docs/design/0018; the interface numbers are those of seed and preset "store". */
#pragma once

#include <haul/batch.h>
#include <haul/graph.h>
#include <haul/reader.h>
#include <haul/store.h>

/* X(id, name): when a frame closes */
#define HAUL_CLIENT_POLICY_LIST(X)                                                                 \
	X(HAUL_CLIENT_FIXED, "fixed")         /* threshold and deadline as set, never idle */      \
	X(HAUL_CLIENT_SEED, "seed")           /* threshold doubles and halves by flush time */     \
	X(HAUL_CLIENT_SELFCLOCK, "selfclock") /* idle sends; else what gathered meanwhile */       \
	X(HAUL_CLIENT_MODEL, "model")         /* selfclock, and waits where it pays */

enum haul_client_policy {
#define X(id, name) id,
	HAUL_CLIENT_POLICY_LIST(X)
#undef X
		HAUL_CLIENT_POLICIES
};
HAUL_API const char *haul_client_policy_name(enum haul_client_policy policy);
HAUL_API int haul_client_policy_by_name(const char *name, enum haul_client_policy *ret_policy);

enum haul_client_full { HAUL_CLIENT_BLOCK, HAUL_CLIENT_BUSY };

struct haul_client_options {
	enum haul_client_policy policy;
	enum haul_client_full full;
	struct haul_limits limits;      /* zeros = preset "store" */
	uint32_t window;                /* frames in flight; 0 = 2 */
	bool unordered;                 /* one section a kind, see HAUL_CHANGES_UNORDERED */
	int64_t deadline_ns;            /* of one submit; 0 = 10 s, < 0 = none */
	const char *token_file;         /* NULL = none */
	struct haul_stats_table *stats; /* entered under "client" */
};

struct haul_client; /* opaque */
/* address: "unix:PATH", "HOST:PORT" or "HOST"; port 7340 unless given. options may be NULL. */
HAUL_API int haul_client_open(struct haul_client **ret_client, const char *address,
			      const struct haul_client_options *options, struct haul_err *err);
/* Sends what is gathered and waits for results, up to the deadline; then cancels the rest. */
HAUL_API void haul_client_close(struct haul_client *client);

struct haul_client_result {
	int error;      /* 0, or of the whole: -ETIMEDOUT (outcome unknown), -ESHUTDOWN … */
	uint64_t seq;   /* number of the frame in this session: for haul_client_outcome */
	uint64_t op;    /* as struct haul_commit */
	uint32_t count; /* 0 with an error */
	const int32_t *statuses; /* count of them, good until the callback returns */
};
typedef void haul_client_done(void *arg, const struct haul_client_result *result);
HAUL_API int haul_client_submit(struct haul_client *client, const struct haul_changes *changes,
				haul_client_done *done, void *arg);
/* Submit and wait. statuses may be NULL. Frames are shared with other threads all the same. */
HAUL_API int haul_client_commit(struct haul_client *client, const struct haul_changes *changes,
				int32_t *statuses, struct haul_client_result *ret_result);
/* Futures: submit now, wait later. A future is waited for once, which frees it. */
struct haul_future; /* opaque */
HAUL_API int haul_client_future(struct haul_client *client, const struct haul_changes *changes,
				struct haul_future **ret_future);
HAUL_API int haul_future_wait(struct haul_future *future, int64_t timeout_ns, int32_t *statuses,
			      struct haul_client_result *ret_result);

HAUL_API int haul_client_flush(struct haul_client *client);   /* send now; returns when told */
HAUL_API int haul_client_barrier(struct haul_client *client); /* send now; does not wait */

/* What became of frame seq of this client's session. */
enum haul_outcome {
	HAUL_OUTCOME_COMMITTED, /* executed and durable; the results are no longer known */
	HAUL_OUTCOME_NEVER,     /* never arrived, and never will be applied: it is fenced off */
	HAUL_OUTCOME_UNKNOWN,   /* the server no longer knows this session */
};
HAUL_API int haul_client_outcome(struct haul_client *client, uint64_t seq,
				 enum haul_outcome *ret_outcome);

/* Reads by this reader see all that was submitted to this client before: a read is a barrier, and
 * waits for what is not told yet. bytes: of one call's results; a server has its own bound. */
HAUL_API int haul_client_reader(struct haul_client *client, uint64_t bytes,
				struct haul_reader **ret_reader);

/* The figures of the server's store, and of each block of its statistics ("store.commit",
 * "store.log", "store.lsm", "store.server"; help texts are empty), all of them as they are now.
 * visit may be NULL; its snapshot is good until it returns. Waits at a connection of its own, up to
 * the client's deadline; what is gathered is not sent for it. 0, or as the calls of a reader, and
 * HAUL_ETYPE: the server is of an earlier version, which does not tell. */
HAUL_API int haul_client_status(struct haul_client *client, struct haul_store_status *ret_status,
				void (*visit)(const struct haul_stats *snapshot, void *arg),
				void *arg);
