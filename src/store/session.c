#include "store/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "store/exec.h"

enum { BUCKETS = 2048, NONE = 0xffff };

struct session {
	uint64_t name[2];
	uint64_t seq, op; /* of its last frame */
	struct {
		uint64_t seq, op; /* 0: nothing */
		bool fence;
	} slot[SESSION_WINDOW];
	uint16_t next; /* of its bucket */
};

struct sessions {
	struct lsm *lsm;
	uint64_t horizon;
	uint32_t count;
	uint16_t buckets[BUCKETS];
	struct session sessions[SESSIONS_MAX];
	uint8_t reply[SESSION_REPLY_MAX];
};

uint32_t sessions_count(const struct sessions *sessions)
{
	return sessions->count;
}

/* ---- the table ---- */

static uint16_t *bucket_of(struct sessions *sessions, const uint64_t name[2])
{
	return &sessions->buckets[hash_u64(name[0] ^ hash_u64(name[1])) % BUCKETS];
}

static struct session *find(struct sessions *sessions, const uint64_t name[2])
{
	for (uint32_t at = *bucket_of(sessions, name); at != NONE;
	     at = sessions->sessions[at].next) {
		struct session *session = &sessions->sessions[at];
		if (session->name[0] == name[0] && session->name[1] == name[1])
			return session;
	}
	return NULL;
}

static void unlink_from(struct sessions *sessions, const struct session *session)
{
	const uint16_t number = (uint16_t)(session - sessions->sessions);
	uint16_t *link = bucket_of(sessions, session->name);

	while (*link != number) {
		HAUL_ASSERT(*link != NONE);
		link = &sessions->sessions[*link].next;
	}
	*link = session->next;
}

/* A place that nobody uses becomes that of a session. */
static void enter(struct sessions *sessions, struct session *session, const uint64_t name[2])
{
	uint16_t *bucket = bucket_of(sessions, name);

	*session = (struct session){ .name = { name[0], name[1] }, .next = *bucket };
	*bucket = (uint16_t)(session - sessions->sessions);
}

static void set_slot(struct session *session, uint64_t seq, uint64_t op, bool fence)
{
	session->slot[seq % SESSION_WINDOW].seq = seq;
	session->slot[seq % SESSION_WINDOW].op = op;
	session->slot[seq % SESSION_WINDOW].fence = fence;
	if (seq > session->seq) {
		session->seq = seq;
		session->op = op;
	}
}

/* ---- reading the tree ---- */

static bool reply_valid(const uint8_t *data, uint32_t bytes)
{
	if (bytes < SESSION_REPLY_HEAD || le64_load(data) == 0)
		return false;
	const uint32_t kind = data[22], runs = le16_load(data + 20);
	return (kind == FRAME_CHANGES || kind == FRAME_FENCE) && data[23] == 0 &&
	       le32_load(data + 16) <= HAUL_CHANGES_OPS &&
	       bytes == SESSION_REPLY_HEAD + runs * SESSION_RUN;
}

static int load_row(struct sessions *sessions, const uint64_t key[3], uint64_t op,
		    const uint8_t *value, uint32_t bytes)
{
	struct session *session = find(sessions, key);

	if ((key[0] | key[1]) == 0) {
		if (bytes != 8)
			return HAUL_ECORRUPT;
		sessions->horizon = le64_load(value);
		return 0;
	}
	if (!reply_valid(value, bytes) || key[2] != le64_load(value) % SESSION_WINDOW)
		return HAUL_ECORRUPT;
	if (session == NULL) {
		if (sessions->count == SESSIONS_MAX)
			return HAUL_ECORRUPT;
		session = &sessions->sessions[sessions->count++];
		enter(sessions, session, key);
	}
	set_slot(session, le64_load(value), op, value[22] == FRAME_FENCE);
	return 0;
}

static int load_walk(struct sessions *sessions, struct lsm_walk *walk)
{
	struct rows rows;
	int rc;

	while ((rc = lsm_walk_next(walk, &rows)) == 1) {
		HAUL_ASSERT(rows.words == 3);
		for (uint32_t i = 0; i < rows.count; i++) {
			const uint32_t from = i == 0 ? 0 : rows.end[i - 1];
			const int error = load_row(sessions, rows.key + (size_t)i * 3,
						   rows.op[i] & ~TREE_DELETED, rows.heap + from,
						   rows.end[i] - from);
			if (error != 0)
				return error;
		}
	}
	return rc;
}

static int load(struct sessions *sessions)
{
	struct lsm_walk *walk;
	struct lsm_walk_options options = {
		.tree = TREE_SESSION,
		.to = { { UINT64_MAX, UINT64_MAX, UINT64_MAX } },
	};
	struct lsm_view *view = lsm_view_take(sessions->lsm, &options.op_max);
	int rc = lsm_walk_open(&walk, view, &options);

	if (rc == 0) {
		rc = load_walk(sessions, walk);
		lsm_walk_close(walk);
	}
	lsm_view_drop(sessions->lsm, view);
	return rc;
}

int sessions_new(struct sessions **ret_sessions, struct lsm *lsm)
{
	struct sessions *sessions = calloc(1, sizeof *sessions);

	if (sessions == NULL)
		return -ENOMEM;
	sessions->lsm = lsm;
	memset(sessions->buckets, 0xff, sizeof sessions->buckets);
	const int error = load(sessions);
	if (error != 0) {
		sessions_free(sessions);
		return error;
	}
	*ret_sessions = sessions;
	return 0;
}

void sessions_free(struct sessions *sessions)
{
	free(sessions);
}

/* ---- admitting ---- */

static struct tree_key row_of(const uint64_t name[2], uint64_t seq)
{
	return (struct tree_key){ { name[0], name[1], seq % SESSION_WINDOW } };
}

/* The statuses of a frame of before; HAUL_ESTALE if it was another frame with this number. */
static int repeat(struct sessions *sessions, const struct frame_head *head, int32_t *statuses,
		  struct session_answer *answer)
{
	struct arena arena = { .data = sessions->reply, .bytes = sizeof sessions->reply };
	struct table_ask ask = { .key = row_of(head->session, head->seq),
				 .op_max = TREE_DELETED - 1 };
	const int error = lsm_find(sessions->lsm, TREE_SESSION, &ask, 1, &arena);
	const uint8_t *reply = ask.row.value;
	uint32_t count = 0;

	if (error < 0 || ask.status != 0)
		return error < 0 ? error : ask.status;
	if (ask.row.op != answer->op || ask.row.deleted || !reply_valid(reply, ask.row.bytes))
		return HAUL_ECORRUPT;
	if (le32_load(reply + 16) != head->events || le64_load(reply + 8) != head->check_body[0])
		return HAUL_ESTALE;
	for (uint32_t run = 0; run < le16_load(reply + 20); run++) {
		const uint8_t *at = reply + SESSION_REPLY_HEAD + (size_t)run * SESSION_RUN;
		const uint32_t times = le16_load(at);
		const int32_t status = (int32_t)le32_load(at + 2);
		if (times > head->events - count)
			return HAUL_ECORRUPT;
		for (uint32_t i = 0; i < times; i++)
			statuses[count++] = status;
		answer->failed += status != 0 ? times : 0;
	}
	answer->count = count;
	return count == head->events ? 1 : HAUL_ECORRUPT;
}

int sessions_admit(struct sessions *sessions, const struct frame_head *head, int32_t *statuses,
		   struct session_answer *ret_answer)
{
	const bool fence = head->kind == FRAME_FENCE;
	struct session_answer answer = { 0 };

	if ((head->session[0] | head->session[1]) == 0)
		return 0;
	const struct session *session = find(sessions, head->session);
	if (session == NULL)
		return head->seq == 1 && head->session[1] >= sessions->horizon ? 0 : HAUL_ESTALE;
	if (head->seq == session->seq + 1 || (fence && head->seq > session->seq))
		return 0;
	if (head->seq > session->seq || session->seq - head->seq >= SESSION_WINDOW)
		return HAUL_ESTALE;
	const uint32_t slot = head->seq % SESSION_WINDOW;
	const bool skipped = session->slot[slot].seq != head->seq;
	answer.fenced = skipped || session->slot[slot].fence;
	answer.op = skipped ? session->op : session->slot[slot].op;
	if (answer.fenced && !fence)
		return HAUL_ESTALE;
	const int rc = fence ? 1 : repeat(sessions, head, statuses, &answer);
	if (rc == 1)
		*ret_answer = answer;
	return rc;
}

/* ---- noting ---- */

uint64_t sessions_cost(uint32_t events)
{
	return exec_cost(SESSION_REPLY_HEAD + events * SESSION_RUN) +
	       (uint64_t)(SESSION_WINDOW + 1) * exec_cost(8);
}

static uint32_t encode(uint8_t *reply, const struct frame_head *head, const int32_t *statuses)
{
	uint32_t runs = 0;

	for (uint32_t i = 0; i < head->events;) {
		uint8_t *at = reply + SESSION_REPLY_HEAD + (size_t)runs * SESSION_RUN;
		uint32_t times = 1;
		while (i + times < head->events && statuses[i + times] == statuses[i])
			times++;
		le16_store(at, (uint16_t)times);
		le32_store(at + 2, (uint32_t)statuses[i]);
		i += times;
		runs++;
	}
	le64_store(reply, head->seq);
	le64_store(reply + 8, head->check_body[0]);
	le32_store(reply + 16, head->events);
	le16_store(reply + 20, (uint16_t)runs);
	reply[22] = (uint8_t)head->kind;
	reply[23] = 0;
	return SESSION_REPLY_HEAD + runs * SESSION_RUN;
}

static struct session *oldest(struct sessions *sessions)
{
	struct session *session = &sessions->sessions[0];

	for (uint32_t i = 1; i < sessions->count; i++) {
		if (sessions->sessions[i].op < session->op)
			session = &sessions->sessions[i];
	}
	return session;
}

/* Take the rows of a session away and remember that it was there. */
static int displace(struct sessions *sessions, const struct session *session, uint64_t op)
{
	const struct tree_key horizon_key = { { 0 } };
	const struct tree_row gone = { .deleted = true };
	uint8_t value[8];
	int error = 0;

	for (uint32_t i = 0; error == 0 && i < SESSION_WINDOW; i++) {
		const struct tree_key key = row_of(session->name, i);
		if (session->slot[i].seq != 0)
			error = lsm_put(sessions->lsm, TREE_SESSION, &key, op, &gone);
	}
	le64_store(value, session->op > sessions->horizon ? session->op : sessions->horizon);
	const struct tree_row row = { .value = value, .bytes = sizeof value };
	if (error == 0)
		error = lsm_put(sessions->lsm, TREE_SESSION, &horizon_key, op, &row);
	return error;
}

int sessions_note(struct sessions *sessions, const struct frame_head *head, uint64_t op,
		  const int32_t *statuses)
{
	if ((head->session[0] | head->session[1]) == 0)
		return 0;
	const struct tree_key key = row_of(head->session, head->seq);
	struct session *session = find(sessions, head->session);
	struct session *leaves = NULL;
	const uint32_t bytes = encode(sessions->reply, head, statuses);
	const struct tree_row row = { .value = sessions->reply, .bytes = bytes };
	int error = lsm_put(sessions->lsm, TREE_SESSION, &key, op, &row);

	if (session == NULL && sessions->count == SESSIONS_MAX) {
		leaves = oldest(sessions);
		if (error == 0)
			error = displace(sessions, leaves, op);
	}
	if (error != 0)
		return error;
	if (leaves != NULL) {
		if (leaves->op > sessions->horizon)
			sessions->horizon = leaves->op;
		unlink_from(sessions, leaves);
		session = leaves;
		enter(sessions, session, head->session);
	} else if (session == NULL) {
		session = &sessions->sessions[sessions->count++];
		enter(sessions, session, head->session);
	}
	HAUL_ASSERT(head->seq > session->seq);
	set_slot(session, head->seq, op, head->kind == FRAME_FENCE);
	return 0;
}
