#include "net_machine.h"

#include <errno.h>
#include <string.h>

#include "rpc/store_server_state.h"
#include "store/graph_expect.h"
#include "store/log.h"
#include "store/store_parts.h"

/* The wrapped functions have no other way to find it. */
static struct machine *the_machine;

static void trace(struct machine *machine, uint64_t value)
{
	sim_trace(machine->net->threads, value);
}

bool machine_is_broken(const struct machine *machine)
{
	return vfs_sim_stopped(machine->lab.disk) ||
	       (machine->lab.store != NULL && machine->lab.store->commit.broken != 0);
}

/* ---- frames on their way into the store ---- */

/* The one that is being put has been executed, and the log will have it. */
static void note_execution(struct machine *machine, uint64_t op)
{
	struct machine_frame *frame = machine->under;

	assert_non_null(frame);
	if (frame->fate != FATE_NEXT)
		fail_msg("executed, and it was %s", frame->fate == FATE_AGAIN ? "before" : "stale");
	assert_int_equal(op, machine->ledger->op + 1);
	assert_false(frame->executed);
	frame->executed = true;
	ledger_execute(machine->ledger, &frame->head);
}

static void result_expect(const struct machine_frame *frame, const struct store_answer *answer)
{
	const struct exec_result *result = &answer->result;
	const bool fence = frame->head.kind == FRAME_FENCE;

	assert_int_equal(frame->executed, frame->fate == FATE_NEXT);
	assert_int_not_equal(frame->fate, FATE_STALE);
	assert_int_equal(result->op, frame->op);
	assert_int_equal(result->repeated, frame->fate != FATE_NEXT);
	if (fence)
		assert_int_equal(result->fenced && result->repeated, frame->fate == FATE_FENCED);
	else
		ledger_expect_statuses(frame->machine->ledger, frame->op, answer->statuses,
				       result->count);
}

static void answered(void *arg, const struct store_answer *answer)
{
	struct machine_frame *frame = arg;
	struct machine *machine = frame->machine;

	trace(machine, (uint64_t)(int64_t)answer->error);
	if (answer->error == 0)
		result_expect(frame, answer);
	else if (answer->error == HAUL_ESTALE)
		assert_int_equal(frame->fate, FATE_STALE);
	else if (answer->error != -EIO)
		assert_true(answer->error == -ENOSPC && frame->fate == FATE_NEXT &&
			    !frame->executed);
	machine->full += answer->error == -ENOSPC;
	if (answer->error == 0 && answer->result.op > machine->ledger->told)
		machine->ledger->told = answer->result.op;
	frame->used = false;
	frame->answered(frame->arg, answer);
}

static struct machine_frame *frame_take(struct machine *machine)
{
	for (uint32_t i = 0; i < MACHINE_FRAMES; i++) {
		if (!machine->frames[i].used)
			return &machine->frames[i];
	}
	fail_msg("more frames are under way than there are credits");
	return NULL;
}

/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
int __real_store_submit_frame(struct haul_store *store, const struct frame *frame,
			      store_answered *answered, void *arg);
int __wrap_store_submit_frame(struct haul_store *store, const struct frame *frame,
			      store_answered *answered, void *arg);
uint32_t __real_wire_put_answer(uint8_t *data, const struct wire_from *from,
				const struct wire_told *told);
uint32_t __wrap_wire_put_answer(uint8_t *data, const struct wire_from *from,
				const struct wire_told *told);
int __real_log_put(struct log *log, uint64_t op, const struct log_part *parts, uint32_t count);
int __wrap_log_put(struct log *log, uint64_t op, const struct log_part *parts, uint32_t count);
int __real_log_write(struct log *log, uint64_t *ret_durable);
int __wrap_log_write(struct log *log, uint64_t *ret_durable);

int __wrap_store_submit_frame(struct haul_store *store, const struct frame *frame,
			      store_answered *told, void *arg)
{
	const struct server_task *task = arg;
	struct machine *machine = the_machine;
	struct machine_frame *way = frame_take(machine);
	const struct net_conn *conn = task->conn->fd >= 0 ? net_conn_of(task->conn->fd) : NULL;

	assert_true(store->commit.op == machine->ledger->op || machine_is_broken(machine));
	*way = (struct machine_frame){
		.used = true,
		.machine = machine,
		.head = *frame->head,
		.answered = told,
		.arg = arg,
	};
	way->fate = ledger_fate_of(machine->ledger, &way->head, &way->op);
	if (way->fate == FATE_NEXT)
		way->op = machine->ledger->op + 1;
	trace(machine, way->head.seq * 8 + way->fate);
	if (conn == NULL || conn->peer) { /* closed: it may have been a peer's */
		machine->twice++;
		/* a copy does not come before what it is a copy of */
		if (way->fate == FATE_NEXT) {
			way->used = false;
			return HAUL_ESTALE;
		}
	} else {
		peers_keep(machine->peers, frame->data, way->head.bytes);
	}
	machine->again += way->fate == FATE_AGAIN;
	machine->fenced += way->fate == FATE_FENCED || way->head.kind == FRAME_FENCE;
	machine->stale += way->fate == FATE_STALE;
	machine->late += conn != NULL && !conn->ends[NET_CLIENT].open;
	machine->under = way;
	const int rc = __real_store_submit_frame(store, frame, answered, way);
	machine->under = NULL;
	if (rc < 0)
		way->used = false;
	return rc;
}

int __wrap_log_put(struct log *log, uint64_t op, const struct log_part *parts, uint32_t count)
{
	const int rc = __real_log_put(log, op, parts, count);

	if (rc == 0)
		note_execution(the_machine, op);
	return rc;
}

/* A server may give fewer credits than ours. */
uint32_t __wrap_wire_put_answer(uint8_t *data, const struct wire_from *from,
				const struct wire_told *told)
{
	struct wire_told fewer = *told;

	fewer.credits = 1 + prng_below(the_machine->prng, WIRE_CREDITS);
	return __real_wire_put_answer(data, from, &fewer);
}

static bool never(void *what)
{
	(void)what;
	return false;
}

static void take_time(struct machine *machine)
{
	if (machine->log_ms > 0)
		sim_wait(never, NULL,
			 sim_now_ns(machine->net->threads) +
				 prng_below(machine->prng, machine->log_ms * 1000) * NS_PER_US);
}

int __wrap_log_write(struct log *log, uint64_t *ret_durable)
{
	take_time(the_machine);
	const int rc = __real_log_write(log, ret_durable);
	take_time(the_machine);
	return rc;
}
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

/* ---- power ---- */

void machine_heal(struct machine *machine)
{
	for (enum vfs_sim_call call = VFS_SIM_READ; call <= VFS_SIM_RESIZE; call++)
		vfs_sim_fail(machine->lab.disk, call, 0, 0, -EIO);
	if (!machine->cut)
		vfs_sim_stop_after(machine->lab.disk, UINT64_MAX);
}

static enum vfs_sim_crash any_crash(struct machine *machine)
{
	return (enum vfs_sim_crash)prng_below(machine->prng, VFS_SIM_CRASHES);
}

void machine_expect(struct machine *machine)
{
	struct haul_reader *reader;

	assert_int_equal(haul_store_reader(machine->lab.store, 0, &reader), 0);
	model_expect(&machine->ledger->model, reader, machine->prng);
	haul_reader_close(reader);
	ledger_expect(machine->ledger);
}

/* What was told is there, and nothing that nobody sent. */
static void store_start(struct machine *machine)
{
	struct store_lab *lab = &machine->lab;
	struct ledger *ledger = machine->ledger;
	struct haul_store_status status;

	machine_heal(machine);
	for (uint32_t tries = 0;; tries++) {
		if (tries < 3 && prng_below(machine->prng, 4) == 0)
			vfs_sim_stop_after(lab->disk, prng_below(machine->prng, 24));
		const int rc = store_lab_open(lab);
		if (rc == 0 && !vfs_sim_stopped(lab->disk))
			break;
		if (rc < 0 && !vfs_sim_stopped(lab->disk))
			fail_msg("open: %d, %s", rc, lab->err.text);
		if (rc == 0)
			(void)store_lab_close(lab);
		store_lab_crash(lab, any_crash(machine));
	}
	machine_heal(machine);
	haul_store_status(lab->store, &status);
	trace(machine, status.op_last);
	if (status.op_last < ledger->told || status.op_last > ledger->op)
		fail_msg("frames up to %llu are there; told were %llu, executed %llu",
			 (unsigned long long)status.op_last, (unsigned long long)ledger->told,
			 (unsigned long long)ledger->op);
	ledger_execute_again(ledger, status.op_last);
	machine_expect(machine);
}

/* The disk has stopped: whatever closing does is lost. */
static void store_stop(struct machine *machine)
{
	const bool broken = machine_is_broken(machine);
	const int rc = store_lab_close(&machine->lab);

	if (rc < 0 || machine->cut)
		store_lab_crash(&machine->lab, any_crash(machine));
	if (rc < 0 && !machine->cut && !broken)
		trace(machine, (uint64_t)(int64_t)rc); /* a fault met the last checkpoint */
}

static void server_start(struct machine *machine)
{
	const struct store_server_options options = {
		.store = machine->lab.store,
		.addresses = { "unix:/simulated" },
		.address_count = 1,
		.connections_max = MACHINE_CONNS,
	};
	struct haul_err err = { 0 };
	struct store_server *server;

	if (store_server_open(&server, &options, &err) < 0)
		fail_msg("server: %s", err.text);
	server->patience = (struct server_patience){
		.hello_ns = 100 * NS_PER_MS,
		.half_ns = 200 * NS_PER_MS,
		.out_ns = 300 * NS_PER_MS,
		.stall_ns = 20 * NS_PER_MS,
		.pin_ns = 500 * NS_PER_MS,
		.leave_ns = 50 * NS_PER_MS,
		.last_ns = 100 * NS_PER_MS,
	};
	machine->server = server;
}

static void *live(void *arg)
{
	struct machine *machine = arg;

	while (!machine->end) {
		machine->cut = false;
		store_start(machine);
		server_start(machine);
		assert_int_equal(store_server_run(machine->server), 0);
		struct store_server *server = machine->server;
		machine->server = NULL;
		store_server_close(server);
		store_stop(machine);
		for (uint32_t i = 0; i < MACHINE_FRAMES; i++)
			assert_false(machine->frames[i].used);
		if (!machine->end)
			sim_wait(never, NULL,
				 sim_now_ns(machine->net->threads) +
					 prng_below(machine->prng, 60) * NS_PER_MS);
	}
	return NULL;
}

void machine_power_cut(struct machine *machine)
{
	if (machine->server == NULL || machine->cut)
		return;
	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &machine->net->conns[i];
		if (conn->ends[NET_SERVER].open)
			net_cut(machine->net, conn,
				prng_below(machine->prng, 2) == 0 ? NET_LOSE_BOTH : NET_LOSE_UP);
	}
	machine->power++;
	machine->cut = true;
	vfs_sim_stop_after(machine->lab.disk, 0);
	machine->net->listening = false;
	store_server_stop(machine->server);
}

void machine_stop(struct machine *machine)
{
	if (machine->server == NULL)
		return;
	machine->stops++;
	store_server_stop(machine->server);
}

/* ---- open and close ---- */

bool machine_rests(const struct machine *machine)
{
	bool rests = machine->server != NULL && !machine->cut && !machine_is_broken(machine) &&
		     !net_server_has_work(machine->net);

	for (uint32_t i = 0; i < MACHINE_FRAMES; i++)
		rests &= !machine->frames[i].used;
	return rests;
}

void machine_open(struct machine *machine)
{
	the_machine = machine;
	machine->lab.deep.threads = true;
	assert_int_equal(pthread_create(&machine->thread, NULL, live, machine), 0);
}

void machine_close(struct machine *machine)
{
	machine->end = true;
	machine_stop(machine);
	assert_int_equal(pthread_join(machine->thread, NULL), 0);
	the_machine = NULL;
}
