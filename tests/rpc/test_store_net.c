/* Clients and a store in simulated time: the real client, the bytes that it sends, frame_check,
 * sessions, log and tables, over a simulated network and a simulated disk, all from one seed.
 *
 * Connections are cut at any byte; what was sent on one that was given up arrives late, behind its
 * repetition on the next; frames come twice; the power is cut, also while the store opens; the disk
 * fills up. A naive model of sessions says what has to become of each frame, a naive graph says
 * with what statuses, and a ledger knows what each caller was told: what is done is there once,
 * what is never done is not there. HAUL_TEST_SEED repeats a run that failed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net_ledger.h"
#include "net_sim.h"
#include "rpc/client_state.h"
#include "store/graph_model.h"
#include "store/store_lab.h"
#include "store/store_parts.h"

enum {
	RUNS = 30,
	ACTIONS = 220, /* of callers, a run */
	CLIENTS = 3,
	OPS_MAX = LEDGER_OPS, /* a frame is closed at so many; one caller more may be in it */
	TASKS = 24,
	BLOCK = 256 << 10,
	REPLY = WIRE_ANSWER_HEAD + (OPS_MAX + MODEL_FRAME) * sizeof(struct wire_run),
	LATER = 12, /* frames that are kept to come twice */
	STUCK = 400000,
};

struct sim;

/* A frame that the server has in hand. */
struct task {
	bool used;
	struct sim *sim;
	struct net_conn *conn; /* NULL: nobody waits for the answer */
	uint64_t conn_number;
	struct frame frame;
	enum ledger_fate fate;
	uint64_t op;
	bool refused; /* it was not executed: for want of room, or of a disk */
	_Alignas(8) uint8_t reply[REPLY];
	uint8_t *block;
};

struct caller {
	struct haul_client *client; /* NULL: none now */
};

struct later {
	uint8_t *data;
	uint32_t bytes;
};

struct sim {
	struct store_lab lab;
	struct net *net;
	struct prng prng;
	struct ledger ledger;
	struct caller callers[CLIENTS];
	struct ledger_submit *committing; /* by who waits at the socket */
	struct task tasks[TASKS];
	struct later later[LATER];
	struct haul_changes *changes;
	bool disks_fill, no_room, calm;
	uint32_t turns; /* since anybody was told anything */
	/* what this run has much of: one in so many */
	uint32_t one_fault, one_power, one_move, one_pump;
	int64_t up_ns; /* when the server is there again */
	/* what happened */
	uint64_t cuts, power, again, fenced, stale, full, twice, late, lone, unknown;
};

static uint64_t run_seed; /* of the run under way, for the message when it fails */

static void trace(struct sim *sim, uint64_t value)
{
	net_trace(sim->net, value);
}

static void graph_expect(struct sim *sim)
{
	struct haul_reader *reader;

	assert_int_equal(haul_store_reader(sim->lab.store, 0, &reader), 0);
	model_expect(&sim->ledger.model, reader, &sim->prng);
	haul_reader_close(reader);
	ledger_expect(&sim->ledger);
}

/* ---- what clients send ---- */

static struct ledger_submit *submit_of(struct sim *sim, const struct client_submit *from)
{
	return from->done == client_waiter_done ? sim->committing : from->arg;
}

/* A frame with a number carries what it carried before. */
static void note(struct sim *sim, const struct haul_client *client,
		 const struct client_batch *batch)
{
	const struct ledger_sent *before =
		ledger_sent_find(&sim->ledger, client->session, batch->number);
	struct ledger_sent *sent = &sim->ledger.sent[sim->ledger.sent_count];

	assert_true(sim->ledger.sent_count < LEDGER_FRAMES && batch->submit_count <= OPS_MAX);
	memset(sent, 0, sizeof *sent);
	memcpy(sent->session, client->session, sizeof sent->session);
	sent->seq = batch->number;
	sent->count = batch->submit_count;
	for (uint32_t i = 0; i < sent->count; i++)
		sent->submits[i] = submit_of(sim, &batch->submits[i]);
	if (before != NULL)
		assert_memory_equal(before, sent, sizeof *sent);
	else
		sim->ledger.sent_count++;
}

static void client_sent(void *arg, int fd, const uint8_t *data, size_t bytes)
{
	struct sim *sim = arg;

	(void)bytes;
	for (uint32_t i = 0; i < CLIENTS; i++) {
		const struct haul_client *client = sim->callers[i].client;
		if (client == NULL || client->link.fd != fd || client->link.state != LINK_UP)
			continue;
		const struct client_batch *batch = client->flight[client->send_at];
		if (client->send_from == 0 && !batch->fence) {
			assert_ptr_equal(data, batch->wire);
			note(sim, client, batch);
		}
	}
}

/* ---- the server ---- */

static void task_say(struct task *task, const struct wire_told *told)
{
	const struct frame_head *head = task->frame.head;
	const struct wire_from from = { { head->session[0], head->session[1] }, head->seq };
	struct sim *sim = task->sim;

	const uint32_t bytes = wire_put_answer(task->reply, &from, told);
	if (told->result != NULL && told->result->op > sim->ledger.told)
		sim->ledger.told = told->result->op;
	if (task->conn != NULL && task->conn->number == task->conn_number) {
		task->conn->tasks--;
		if (task->conn->server)
			net_say(task->conn, task->reply, bytes);
	}
	task->used = false;
}

static void result_expect(const struct task *task, const struct store_answer *answer)
{
	const struct exec_result *result = &answer->result;
	const bool fence = task->frame.head->kind == FRAME_FENCE;

	assert_false(task->refused);
	assert_int_not_equal(task->fate, FATE_STALE);
	assert_int_equal(result->op, task->op);
	assert_int_equal(result->repeated, task->fate != FATE_NEXT);
	if (fence)
		assert_int_equal(result->fenced && result->repeated, task->fate == FATE_FENCED);
	else
		ledger_expect_statuses(&task->sim->ledger, task->op, answer->statuses,
				       result->count);
}

static void answered(void *arg, const struct store_answer *answer)
{
	struct task *task = arg;
	struct sim *sim = task->sim;
	const bool fence = task->frame.head->kind == FRAME_FENCE;
	const struct wire_told told = {
		.error = answer->error,
		.result = &answer->result,
		.statuses = fence ? NULL : answer->statuses,
		.credits = 1 + prng_below(&sim->prng, WIRE_CREDITS),
	};

	trace(sim, (uint64_t)(int64_t)answer->error);
	if (answer->error == 0)
		result_expect(task, answer);
	else if (answer->error == HAUL_ESTALE)
		assert_int_equal(task->fate, FATE_STALE);
	else if (answer->error != -EIO)
		assert_true(answer->error == -ENOSPC && task->refused);
	sim->full += answer->error == -ENOSPC;
	task_say(task, &told);
}

static bool sim_is_broken(const struct sim *sim)
{
	return vfs_sim_stopped(sim->lab.disk) || sim->lab.store->commit.broken != 0;
}

static void task_submit(struct sim *sim, struct task *task)
{
	const struct commit *commit = &sim->lab.store->commit;
	const struct frame_head *head = task->frame.head;

	task->fate = ledger_fate_of(&sim->ledger, head, &task->op);
	if (task->fate == FATE_NEXT)
		task->op = sim->ledger.op + 1;
	trace(sim, head->seq * 8 + task->fate);
	sim->again += task->fate == FATE_AGAIN;
	sim->fenced += task->fate == FATE_FENCED || (head->kind == FRAME_FENCE);
	sim->stale += task->fate == FATE_STALE;
	assert_true(commit->op == sim->ledger.op || sim_is_broken(sim));
	const int rc = store_submit_frame(sim->lab.store, &task->frame, answered, task);
	if (commit->op > sim->ledger.op && task->fate != FATE_NEXT)
		fail_msg("executed, and it was %s", task->fate == FATE_AGAIN ? "before" : "stale");
	/* nothing is told before it is pumped, but for a full log */
	if (commit->op > sim->ledger.op)
		ledger_execute(&sim->ledger, head);
	else
		task->refused = task->fate == FATE_NEXT;
	if (rc < 0)
		task_say(task, &(struct wire_told){ .error = rc, .credits = 1 });
}

static struct task *task_take(struct sim *sim, const uint8_t *data, uint32_t bytes)
{
	for (uint32_t i = 0; i < TASKS; i++) {
		struct task *task = &sim->tasks[i];
		if (task->used)
			continue;
		uint8_t *block = task->block;
		memset(task, 0, sizeof *task);
		*task = (struct task){ .used = true, .sim = sim, .block = block };
		assert_true(bytes <= BLOCK);
		memcpy(block, data, bytes);
		assert_int_equal(frame_check(block, bytes, &task->frame), 0);
		return task;
	}
	return NULL;
}

/* A frame that was executed, or was fenced off, may come again at any time. */
static void keep_for_later(struct sim *sim, const uint8_t *data, uint32_t bytes)
{
	struct later *later = &sim->later[prng_below(&sim->prng, LATER)];

	if (prng_below(&sim->prng, 2) == 0)
		return;
	if (later->data != NULL)
		test_free(later->data);
	later->data = test_malloc(bytes);
	later->bytes = bytes;
	memcpy(later->data, data, bytes);
}

static void server_twice(struct sim *sim)
{
	const struct later *later = &sim->later[prng_below(&sim->prng, LATER)];
	uint64_t op;

	if (later->data == NULL)
		return;
	struct task *task = task_take(sim, later->data, later->bytes);
	if (task == NULL)
		return;
	/* the connection it would come on knows nothing of what was never answered */
	if (ledger_fate_of(&sim->ledger, task->frame.head, &op) == FATE_NEXT) {
		task->used = false;
		return;
	}
	sim->twice++;
	task_submit(sim, task);
}

static void server_greet(struct sim *sim, struct net_conn *conn, const uint8_t *data)
{
	_Alignas(8) uint8_t frame[WIRE_WELCOME_BYTES], hello[WIRE_HELLO_BYTES];
	struct wire_welcome welcome = { .protocol = WIRE_PROTOCOL, .credits = WIRE_CREDITS };
	struct haul_store_status status;
	struct wire_hello said;
	struct frame_head head;

	memcpy(hello, data, sizeof hello);
	assert_int_equal(wire_check(hello, sizeof hello, &head), 0);
	assert_int_equal(wire_get_hello(hello, &said), 0);
	haul_store_status(sim->lab.store, &status);
	welcome.op = status.op_last;
	if (status.op_last > sim->ledger.told)
		sim->ledger.told = status.op_last;
	memcpy(welcome.uuid, status.uuid, sizeof welcome.uuid);
	conn->greeted = true;
	net_say(conn, frame, wire_put_welcome(frame, &welcome));
}

/* A whole frame of a connection, if there is one. */
static bool server_read(struct sim *sim, struct net_conn *conn)
{
	_Alignas(8) uint8_t first[FRAME_HEAD];
	struct frame_head head;
	uint32_t bytes;
	const uint8_t *data = net_peek(conn, &bytes);

	if (bytes < FRAME_HEAD)
		return false;
	memcpy(first, data, sizeof first);
	assert_int_equal(frame_check_head(first, &head), 0);
	if (bytes < head.bytes || conn->tasks >= WIRE_CREDITS)
		return false;
	if (!conn->greeted) {
		server_greet(sim, conn, data);
		net_take(conn, head.bytes);
		return true;
	}
	struct task *task = task_take(sim, data, head.bytes);
	if (task == NULL)
		return false;
	task->conn = conn;
	task->conn_number = conn->number;
	conn->tasks++;
	sim->late += !conn->client;
	const bool twice = !sim->disks_fill && prng_below(&sim->prng, 12) == 0;
	struct task *copy = twice ? task_take(sim, data, head.bytes) : NULL;
	keep_for_later(sim, data, head.bytes);
	net_take(conn, head.bytes);
	task_submit(sim, task);
	if (copy != NULL)
		task_submit(sim, copy);
	return true;
}

static bool server_turn(struct sim *sim)
{
	const uint32_t from = prng_below(&sim->prng, NET_CONNS);

	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &sim->net->conns[(from + i) % NET_CONNS];
		if (!conn->server)
			continue;
		if (server_read(sim, conn))
			return true;
		if (!conn->client && conn->up.arrived == conn->up.to && conn->tasks == 0)
			net_hang_up(conn);
	}
	return false;
}

/* ---- power ---- */

static void server_gone(struct sim *sim)
{
	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &sim->net->conns[i];
		if (conn->server)
			net_cut(sim->net, conn,
				prng_below(&sim->prng, 2) == 0 ? NET_LOSE_BOTH : NET_LOSE_UP);
	}
	for (uint32_t i = 0; i < TASKS; i++)
		sim->tasks[i].used = false;
	sim->net->listening = false;
	sim->power++;
	sim->up_ns = sim->lab.os.now_ns + prng_below(&sim->prng, 60) * NS_PER_MS;
}

static void power_cut(struct sim *sim)
{
	server_gone(sim);
	store_lab_crash(&sim->lab, (enum vfs_sim_crash)prng_below(&sim->prng, VFS_SIM_CRASHES));
}

static void disk_heal(struct sim *sim)
{
	for (enum vfs_sim_call call = VFS_SIM_READ; call <= VFS_SIM_RESIZE; call++)
		vfs_sim_fail(sim->lab.disk, call, 0, 0, -EIO);
	sim->no_room = false;
	vfs_sim_stop_after(sim->lab.disk, UINT64_MAX);
}

/* The server is started again: what was told is there, and nothing that nobody sent. */
static void server_start(struct sim *sim)
{
	struct store_lab *lab = &sim->lab;
	struct haul_store_status status;

	disk_heal(sim);
	for (uint32_t tries = 0;; tries++) {
		if (tries < 3 && prng_below(&sim->prng, 4) == 0)
			vfs_sim_stop_after(lab->disk, prng_below(&sim->prng, 24));
		const int rc = store_lab_open(lab);
		if (rc == 0 && !vfs_sim_stopped(lab->disk))
			break;
		if (rc < 0 && !vfs_sim_stopped(lab->disk))
			fail_msg("open: %d, %s", rc, lab->err.text);
		store_lab_crash(lab, (enum vfs_sim_crash)prng_below(&sim->prng, VFS_SIM_CRASHES));
	}
	disk_heal(sim);
	haul_store_status(lab->store, &status);
	trace(sim, status.op_last);
	if (status.op_last < sim->ledger.told || status.op_last > sim->ledger.op)
		fail_msg("frames up to %llu are there; told were %llu, executed %llu",
			 (unsigned long long)status.op_last, (unsigned long long)sim->ledger.told,
			 (unsigned long long)sim->ledger.op);
	ledger_execute_again(&sim->ledger, status.op_last);
	graph_expect(sim);
	sim->net->listening = true;
}

/* ---- faults ---- */

static void fault_cut(struct sim *sim)
{
	struct net_conn *conn = &sim->net->conns[prng_below(&sim->prng, NET_CONNS)];

	for (uint32_t i = 0; i < NET_CONNS && !(conn->client && conn->server); i++)
		conn = &sim->net->conns[prng_below(&sim->prng, NET_CONNS)];
	if (!conn->client || !conn->server)
		return;
	sim->cuts++;
	net_cut(sim->net, conn, (enum net_cut)prng_below(&sim->prng, NET_CUTS));
}

static void fault(struct sim *sim)
{
	struct vfs_sim *disk = sim->lab.disk;
	const uint32_t dice = prng_below(&sim->prng, 16);

	trace(sim, dice);
	if (sim->disks_fill && prng_below(&sim->prng, 3) == 0) {
		sim->no_room = !sim->no_room;
		vfs_sim_fail(disk, VFS_SIM_RESIZE, 0, sim->no_room ? STUCK : 0, -ENOSPC);
		return;
	}
	if (dice < 9 || prng_below(&sim->prng, sim->one_power) > 9)
		fault_cut(sim);
	else if (dice < 12)
		server_twice(sim);
	else if (dice == 12)
		vfs_sim_stop_after(disk, prng_below(&sim->prng, 20));
	else if (dice == 13)
		vfs_sim_fail(disk, VFS_SIM_SYNC, prng_below(&sim->prng, 6), 1, -EIO);
	else if (dice == 15)
		power_cut(sim);
}

/* ---- time ---- */

static void server_runs(struct sim *sim)
{
	struct prng *prng = &sim->prng;

	if (sim_is_broken(sim) && prng_below(prng, 8) == 0) {
		power_cut(sim);
	} else if (!sim->calm && prng_below(prng, sim->one_fault) == 0) {
		fault(sim);
	} else if (prng_below(prng, sim->one_pump) == 0) {
		commit_pump(&sim->lab.store->commit);
		if (!sim->calm && prng_below(prng, sim->one_power) == 0)
			power_cut(sim); /* right behind what was told */
	} else if (prng_below(prng, 5) == 0) {
		(void)store_step(sim->lab.store);
	} else {
		(void)server_turn(sim);
	}
}

static bool server_has_work(const struct sim *sim)
{
	uint32_t bytes;

	for (uint32_t i = 0; i < NET_CONNS; i++) {
		const struct net_conn *conn = &sim->net->conns[i];
		if (!conn->server)
			continue;
		(void)net_peek(conn, &bytes);
		if (bytes > 0 || conn->tasks > 0)
			return true;
	}
	return false;
}

/* Whatever happens next. */
static void turn(void *arg)
{
	struct sim *sim = arg;
	struct os_sim *os = &sim->lab.os;

	if (sim->turns++ == STUCK)
		fail_msg("callers wait, and nothing is in their way");
	os_sim_advance(os, 1000 + prng_below(&sim->prng, 100000));
	trace(sim, (uint64_t)os->now_ns);
	if (sim->lab.store == NULL && os->now_ns >= sim->up_ns)
		server_start(sim);
	const bool moved = prng_below(&sim->prng, sim->one_move) == 0 && net_move(sim->net);
	const bool ran = prng_below(&sim->prng, 3) > 0 && net_run_thread(sim->net);
	if (sim->lab.store != NULL)
		server_runs(sim);
	if (moved || ran || prng_below(&sim->prng, 16) > 0 || server_has_work(sim))
		return;
	/* nobody has anything to do: on to when the next one wakes */
	int64_t wake_ns = net_wake_ns(sim->net);
	if (sim->lab.store == NULL && sim->up_ns < wake_ns)
		wake_ns = sim->up_ns;
	if (wake_ns > os->now_ns && wake_ns < os->now_ns + 100 * NS_PER_MS)
		os_sim_advance(os, wake_ns - os->now_ns);
}

/* ---- callers ---- */

/* Outcomes that are not known: of what was sent, and not settled yet. */
static bool is_unknown(int error)
{
	return error == -ETIMEDOUT || error == HAUL_ESTALE || error == -EIO || error == -ESHUTDOWN;
}

/* What a caller put in an order is done in it. */
static void order_expect(const struct sim *sim, const struct ledger_submit *submit)
{
	for (uint32_t i = 0; i < sim->ledger.submit_count; i++) {
		const struct ledger_submit *other = &sim->ledger.submits[i];
		if (other->client != submit->client || !other->told || other->error != 0)
			continue;
		if (other < submit ? other->op > submit->op : other->op < submit->op)
			fail_msg("done in another order than it was put");
	}
}

static void submit_told(struct ledger_submit *submit, const struct haul_client_result *result)
{
	struct sim *sim = submit->sim;

	assert_false(submit->told);
	sim->turns = 0;
	submit->told = true;
	submit->error = result->error;
	submit->seq = result->seq;
	trace(sim, (uint64_t)(int64_t)result->error);
	if (result->error != 0) {
		sim->unknown += is_unknown(result->error);
		submit->never = !is_unknown(result->error);
		if (submit->never && submit->op != 0)
			fail_msg("told %d, and it was done", result->error);
		return;
	}
	submit->told_op = result->op;
	assert_int_equal(result->op, submit->op);
	assert_int_equal(result->count, submit->frame.count);
	model_expect_statuses(&submit->frame, submit->wanted, result->statuses);
	order_expect(sim, submit);
}

static void told(void *arg, const struct haul_client_result *result)
{
	submit_told(arg, result);
}

static void caller_open(struct sim *sim, struct caller *caller)
{
	static const int64_t deadlines[] = { 15 * NS_PER_MS, 60 * NS_PER_MS, NS_PER_S, -1 };
	const struct haul_client_options options = {
		.policy = (enum haul_client_policy)prng_below(&sim->prng, HAUL_CLIENT_POLICIES),
		.full = prng_below(&sim->prng, 2) == 0 ? HAUL_CLIENT_BLOCK : HAUL_CLIENT_BUSY,
		.limits = { .ops_max = OPS_MAX,
			    .bytes_max = BLOCK / 2,
			    .wait_max_ns = 10 * NS_PER_MS,
			    .ops_start = 10 },
		.window = 1 + prng_below(&sim->prng, CLIENT_WINDOW_MAX),
		.deadline_ns = deadlines[prng_below(&sim->prng, 4)],
	};
	struct haul_err err = { 0 };

	const int rc = haul_client_open(&caller->client, "unix:/simulated", &options, &err);
	trace(sim, (uint64_t)(int64_t)rc);
	/* -EPROTO: half a welcome, from somebody who is not known yet */
	const bool fits = rc == -ECONNREFUSED || rc == -ECONNRESET || rc == -ETIMEDOUT;
	if (rc != 0 && rc != -EPROTO && !fits)
		fail_msg("open: %d: %s", rc, err.text);
}

static struct ledger_submit *submit_next(struct sim *sim, uint32_t client)
{
	struct ledger_submit *submit = &sim->ledger.submits[sim->ledger.submit_count];

	memset(submit, 0, sizeof *submit);
	submit->sim = sim;
	submit->client = client;
	model_frame_random(&submit->frame, &sim->ledger.model, &sim->prng);
	haul_changes_clear(sim->changes);
	model_frame_put(&submit->frame, sim->changes);
	assert_true(sim->ledger.submit_count < LEDGER_SUBMITS);
	sim->ledger.submit_count++;
	return submit;
}

/* It was not taken: as if told. */
static void submit_refused(struct ledger_submit *submit, int rc)
{
	assert_int_equal(rc, -EBUSY);
	submit->told = true;
	submit->error = rc;
	submit->never = true;
}

static void act_submit(struct sim *sim, uint32_t client)
{
	struct ledger_submit *submit = submit_next(sim, client);
	const int rc = haul_client_submit(sim->callers[client].client, sim->changes, told, submit);

	if (rc < 0)
		submit_refused(submit, rc);
}

static void act_commit(struct sim *sim, uint32_t client)
{
	struct ledger_submit *submit = submit_next(sim, client);
	struct haul_client_result result = { 0 };
	int32_t statuses[MODEL_FRAME];

	sim->committing = submit;
	const int rc =
		haul_client_commit(sim->callers[client].client, sim->changes, statuses, &result);
	sim->committing = NULL;
	sim->lone++;
	if (rc == -EBUSY)
		submit_refused(submit, rc);
	else
		submit_told(submit, &result);
}

static void outcome_expect(struct sim *sim, struct ledger_submit *submit)
{
	struct haul_client *client = sim->callers[submit->client].client;
	enum haul_outcome outcome = HAUL_OUTCOME_UNKNOWN;
	const int rc = haul_client_outcome(client, submit->seq, &outcome);

	trace(sim, (uint64_t)outcome);
	if (rc < 0) {
		assert_int_equal(rc, -ETIMEDOUT);
		assert_false(sim->calm);
		return;
	}
	if (outcome == HAUL_OUTCOME_COMMITTED && submit->op == 0)
		fail_msg("told to be committed, and it is not there");
	if (outcome == HAUL_OUTCOME_NEVER && submit->op != 0)
		fail_msg("told to be never done, and it is there");
	submit->never |= outcome == HAUL_OUTCOME_NEVER;
}

/* Of the youngest that asks itself. */
static void act_outcome(struct sim *sim, uint32_t client)
{
	for (uint32_t i = sim->ledger.submit_count; i-- > 0;) {
		struct ledger_submit *submit = &sim->ledger.submits[i];
		if (submit->client == client && submit->told && submit->seq > 0 &&
		    submit->error == -ETIMEDOUT && !submit->never) {
			outcome_expect(sim, submit);
			return;
		}
	}
}

static void caller_close(struct sim *sim, uint32_t client)
{
	haul_client_close(sim->callers[client].client);
	sim->callers[client].client = NULL;
	for (uint32_t i = 0; i < sim->ledger.submit_count; i++) {
		struct ledger_submit *submit = &sim->ledger.submits[i];
		assert_true(submit->client != client || submit->told);
		if (submit->client == client)
			submit->seq = 0; /* the next one counts anew */
	}
}

static void act(struct sim *sim)
{
	const uint32_t client = prng_below(&sim->prng, CLIENTS);
	const uint32_t dice = prng_below(&sim->prng, 100);
	struct caller *caller = &sim->callers[client];

	sim->turns = 0;
	trace(sim, dice);
	if (caller->client == NULL)
		caller_open(sim, caller);
	else if (dice < 75)
		act_submit(sim, client);
	else if (dice < 85)
		act_commit(sim, client);
	else if (dice < 90)
		(void)haul_client_barrier(caller->client);
	else if (dice < 96)
		act_outcome(sim, client);
	else if (dice < 98)
		assert_int_equal(haul_client_flush(caller->client), 0);
	else
		caller_close(sim, client);
}

/* ---- runs ---- */

static bool client_rests(const struct haul_client *client)
{
	return client == NULL || (client->submits == client->tells && client->flight_count == 0 &&
				  client->held.head == NULL && client->told.head == NULL);
}

static bool sim_rests(struct sim *sim)
{
	bool rests = sim->lab.store != NULL && !sim_is_broken(sim) && !server_has_work(sim);

	for (uint32_t i = 0; i < CLIENTS; i++)
		rests &= client_rests(sim->callers[i].client);
	for (uint32_t i = 0; i < TASKS; i++)
		rests &= !sim->tasks[i].used;
	return rests;
}

/* Nothing fails any more: everybody is told everything, and what was late is there, too. */
static void sim_calm(struct sim *sim)
{
	sim->calm = true;
	disk_heal(sim);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		if (sim->callers[i].client != NULL)
			(void)haul_client_barrier(sim->callers[i].client);
	}
	while (!sim_rests(sim) || net_move(sim->net))
		turn(sim);
	for (uint32_t i = 0; i < sim->ledger.submit_count; i++) {
		struct ledger_submit *submit = &sim->ledger.submits[i];
		assert_true(submit->told);
		if (submit->error != 0 && submit->seq > 0)
			outcome_expect(sim, submit);
	}
}

static void sim_open(struct sim *sim, uint64_t seed)
{
	prng_init(&sim->prng, seed);
	store_lab_init_empty(&sim->lab, seed);
	sim->lab.options.memtable_bytes = 2048U << prng_below(&sim->prng, 5);
	sim->lab.deep.segment_bytes = 16384U << prng_below(&sim->prng, 3);
	assert_int_equal(store_lab_make(&sim->lab), 0);
	sim->net = net_open(&sim->lab.os, seed);
	sim->net->turn = turn;
	sim->net->sent = client_sent;
	sim->net->arg = sim;
	sim->disks_fill = prng_below(&sim->prng, 3) == 0;
	sim->net->lag_ms = 30 * prng_below(&sim->prng, 3);
	sim->one_fault = 12U << prng_below(&sim->prng, 5);
	sim->one_power = 10U << prng_below(&sim->prng, 8);
	sim->one_move = 1 + prng_below(&sim->prng, 4);
	sim->one_pump = 2U << prng_below(&sim->prng, 5);
	ledger_init(&sim->ledger);
	assert_int_equal(haul_changes_new(&sim->changes, 0, 0, 0), 0);
	for (uint32_t i = 0; i < TASKS; i++)
		sim->tasks[i].block = aligned_alloc(64, BLOCK);
	server_start(sim);
}

static void sim_close(struct sim *sim)
{
	for (uint32_t i = 0; i < CLIENTS; i++) {
		if (sim->callers[i].client != NULL)
			caller_close(sim, i);
	}
	net_close();
	(void)store_lab_close(&sim->lab);
	store_lab_done(&sim->lab);
	for (uint32_t i = 0; i < TASKS; i++)
		free(sim->tasks[i].block);
	for (uint32_t i = 0; i < LATER; i++) {
		if (sim->later[i].data != NULL)
			test_free(sim->later[i].data);
	}
	haul_changes_free(sim->changes);
	ledger_done(&sim->ledger);
}

static void sim_print(const struct sim *sim)
{
	const uint64_t counts[] = { sim->ledger.op, sim->ledger.submit_count,
				    sim->power,     sim->cuts,
				    sim->again,     sim->fenced,
				    sim->stale,     sim->full,
				    sim->twice,     sim->late,
				    sim->lone,      sim->unknown };

	if (getenv("HAUL_TEST_VERBOSE") == NULL)
		return;
	print_message("op submits power cuts again fenced stale full twice late lone unknown:");
	for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
		print_message(" %llu", (unsigned long long)counts[i]);
	print_message("\n");
}

/* What happened, as a hash. */
static uint64_t run_one(uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof *sim);

	assert_non_null(sim);
	run_seed = seed;
	sim_open(sim, seed);
	for (uint32_t i = 0; i < ACTIONS; i++) {
		act(sim);
		for (uint32_t turns = prng_below(&sim->prng, 24); turns > 0; turns--)
			turn(sim);
	}
	sim_calm(sim);
	assert_int_equal(haul_store_flush(sim->lab.store), 0);
	graph_expect(sim);
	sim_print(sim);
	const uint64_t trace = sim->net->trace;
	/* a fault of before may have ended what works in the background: no checkpoint then */
	if (store_lab_close(&sim->lab) < 0)
		store_lab_crash(&sim->lab, VFS_SIM_LOSE_ALL);
	server_start(sim);
	sim_close(sim);
	free(sim);
	run_seed = 0;
	return trace;
}

/* Callers are told the truth, whatever network, power and disk do. */
static void test_store_net__callers_are_told_the_truth(void **state)
{
	struct prng prng;

	(void)state;
	test_prng(&prng);
	(void)run_one(prng.state);
	for (uint32_t i = 1; i < RUNS; i++)
		(void)run_one(prng_next(&prng));
}

/* A run that failed can be repeated. */
static void test_store_net__the_seed_decides_everything(void **state)
{
	struct prng prng;

	(void)state;
	test_prng(&prng);
	const uint64_t first = run_one(prng.state);
	assert_true(run_one(prng.state) == first);
	assert_true(run_one(prng.state + 1) != first);
}

static int teardown(void **state)
{
	(void)state;
	if (run_seed != 0)
		print_message("HAUL_TEST_SEED=%llu repeats it\n", (unsigned long long)run_seed);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_store_net__callers_are_told_the_truth, teardown),
		cmocka_unit_test_teardown(test_store_net__the_seed_decides_everything, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
