/* bpf/flow_state.h — inside a haul_flows, and what its files share. For src/bpf and its tests only.
 *
 * Model      A table is the descriptors of FLOW_PIN_LIST, whether just loaded or opened from the
 *            pins of the same names. What a later process must know about it stands in the map
 *            "info" (struct flow_saved). flow_load.c makes one, flow_attach.c and flow_tc.c put it
 *            on an interface, flow_pin.c keeps it, flow_shard.c reaches the maps of the shards,
 *            flow_read.c, flow_summary.c, flow_age.c, flow_event.c and flow_file.c use it.
 * Ownership  everything hangs off the haul_flows; flow_env's pointers are the caller's.
 * Threads    one at a time. Between processes: the folder of the pins is locked for an interval
 *            and a clean; the folder above it while one is made or removed.
 * Errors     as haul/flow.h. */
#pragma once

#include <stdbool.h>

#include <haul/flow.h>
#include "bpf/progs/flow_hash.h"
#include "bpf/sys.h"
#include "os/os.h"

/* The outside as a table sees it; tests have their own. */
struct flow_env {
	const char *bpffs; /* where one is mounted, or is to be */
	const char *btf;   /* the kernel's own types */
	struct bpf_sys *sys;
	struct os *os;
};
struct flow_env flow_env_linux(void);

/* X(id, name of the pin) */
#define FLOW_PIN_LIST(X)                                                                           \
	X(FLOW_SHARDS, "shards")                                                                   \
	X(FLOW_TOTALS, "totals")                                                                   \
	X(FLOW_CONTROL, "control")                                                                 \
	X(FLOW_EVENTS, "events")                                                                   \
	X(FLOW_SWEEPER, "sweeper")                                                                 \
	X(FLOW_CONFIG, "config")                                                                   \
	X(FLOW_INFO, "info")                                                                       \
	X(FLOW_SWEEP, "sweep")                                                                     \
	X(FLOW_LINK_INGRESS, "link_ingress") /* none with clsact */                                \
	X(FLOW_LINK_EGRESS, "link_egress")

enum flow_pin {
#define X(id, name) id,
	FLOW_PIN_LIST(X)
#undef X
		FLOW_PINS
};
extern const char *const flow_pin_names[FLOW_PINS];

/* X(id, name): where the programs are. */
#define FLOW_HOOK_LIST(X)                                                                          \
	X(FLOW_HOOK_TCX, "tcx")                                                                    \
	X(FLOW_HOOK_CLSACT, "clsact")                                                              \
	X(FLOW_HOOK_XDP_TCX, "xdp+tcx")                                                            \
	X(FLOW_HOOK_XDP_CLSACT, "xdp+clsact")                                                      \
	X(FLOW_HOOK_GENERIC_TCX, "xdpgeneric+tcx")                                                 \
	X(FLOW_HOOK_GENERIC_CLSACT, "xdpgeneric+clsact")

enum flow_hook {
#define X(id, name) id,
	FLOW_HOOK_LIST(X)
#undef X
		FLOW_HOOKS
};

/* A filter on clsact: what TCX links do by themselves must be remembered here. */
struct flow_filter {
	uint32_t prog_id; /* 0 = none */
	uint32_t handle;
	uint32_t priority;
};

enum { FLOW_VERSION = 1, FLOW_INGRESS = 0, FLOW_EGRESS = 1, FLOW_SIDES = 2 };

struct flow_saved {
	uint32_t version;
	uint32_t bytes; /* of this struct */
	uint64_t netns_cookie;
	int64_t attached_ns;
	uint32_t ifindex;
	uint32_t entries_max;
	uint32_t shard_entries; /* room of one shard */
	uint32_t shards;
	uint32_t sweep_ms;
	uint32_t hook; /* enum flow_hook */
	uint32_t qdisc_made;
	struct flow_filter filter[FLOW_SIDES];
	char ifname[16];
	uint32_t reserved;
};
_Static_assert(sizeof(struct flow_saved) == 96, "what is pinned has no padding");

struct flow_shard_map {
	uint32_t id; /* of the kernel's map that map stands for; 0 = not opened */
	struct haul_map *map;
};

struct flow_work; /* flow_shard.c: rows put in order by shard */
struct flow_ring; /* flow_event.c */

struct haul_flows {
	struct flow_env env;
	struct haul_flows_info info;
	struct flow_saved saved;
	struct flow_config config;
	int fd[FLOW_PINS];
	int folder_fd; /* of the pins, for its lock; -1 = not pinned */
	struct flow_control *control;
	struct flow_shard_map *shards; /* saved.shards of them */
	uint64_t *cpu_totals;          /* of each possible CPU */
	uint32_t cpus;
	int grace_fd; /* an array of maps: updating it waits for the programs that run */
	struct flow_work *work;
	struct flow_ring *ring;
	char stats_name[HAUL_FLOWS_NAME + 8];
	struct haul_stats stats;
};

/* ---- flow_load.c ---- */

int flows_create_in(struct haul_flows **ret_flows, const struct flow_env *env,
		    const struct haul_flows_options *options, struct haul_err *err);
struct haul_flows *flows_new(const struct flow_env *env);
/* After saved, config and the descriptors are there: the rest of a table. */
int flows_init(struct haul_flows *flows, struct haul_err *err);
void flows_name(struct haul_flows *flows, const char *name);
/* An empty map for a shard; its fd. */
int flow_inner_create(const struct haul_flows *flows, uint32_t index, int btf_fd,
		      const uint32_t type_ids[2]);
/* The room of one of so many shards, so that entries_max connections find room. */
uint32_t flow_shard_entries(uint32_t entries_max, uint32_t shards);

/* ---- flow_attach.c ---- */

struct flow_interface {
	uint32_t ifindex;
	uint32_t l2_bytes;
	uint32_t tag_uncounted;
	uint64_t netns_cookie;
};
int flow_interface_get(const char *ifname, struct flow_interface *ret_interface,
		       struct haul_err *err);
int flow_netns_cookie(uint64_t *ret_cookie);

struct flow_programs {
	int ingress, egress;
	int xdp; /* -1 = tc for ingress */
};
/* Fills in saved.hook and what it takes to detach. */
int flow_attach(struct haul_flows *flows, const struct flow_programs *programs,
		struct haul_err *err);
/* Links by descriptor (-1 = none), filters by saved. */
int flow_detach(const struct flow_env *env, const int link_fd[FLOW_SIDES],
		const struct flow_saved *saved, struct haul_err *err);

/* ---- flow_tc.c: clsact ---- */

int flow_tc_qdisc_add(uint32_t ifindex, uint32_t *ret_made);
/* Only when nobody has filters there. */
int flow_tc_qdisc_remove(uint32_t ifindex);
int flow_tc_attach(uint32_t ifindex, int side, int prog_fd, struct flow_filter *ret_filter);
/* Only when it is still our program. */
int flow_tc_detach(uint32_t ifindex, int side, const struct flow_filter *filter);

/* ---- flow_pin.c ---- */

int flows_open_in(struct haul_flows **ret_flows, const struct flow_env *env, const char *name,
		  struct haul_err *err);
int flows_detach_in(const struct flow_env *env, const char *name, struct haul_err *err);
int flows_each_in(const struct flow_env *env, int (*visit)(const char *name, void *arg), void *arg,
		  struct haul_err *err);
/* -EEXIST with text when a pinned table is on that interface already. */
int flow_pin_taken(const struct flow_env *env, const char *ifname,
		   const struct flow_interface *interface, struct haul_err *err);

/* ---- flow_shard.c ---- */

/* The shard's map as it is now (an interval, perhaps another process's, may have replaced it). */
int flow_shard_open(struct haul_flows *flows, uint32_t index, struct haul_map **ret_map);
void flow_shards_close(struct haul_flows *flows);
int flow_slot_get(const struct haul_flows *flows, uint32_t index, uint32_t *ret_id);
/* Put a map into the slot; when it returns no program uses the one before any more. */
int flow_slot_put(const struct haul_flows *flows, uint32_t index, int map_fd);
/* Wait until all programs that run now have ended. */
int flow_grace(struct haul_flows *flows);
/* One operation on rows, each handed to its shard. */
typedef int flow_rows_op(struct haul_map *map, const struct haul_map_rows *rows,
			 struct haul_map_result *ret_result);
int flow_rows_do(struct haul_flows *flows, const struct haul_map_rows *rows, flow_rows_op *op,
		 struct haul_map_result *result);
void flow_work_close(struct haul_flows *flows);

/* ---- flow_read.c ---- */

int flow_put(struct haul_flows *flows, const struct haul_map_rows *rows, enum haul_map_mode mode,
	     struct haul_map_result *ret_result);
void flow_extra_add(struct haul_flows *flows, enum haul_flow_total total, uint64_t n);
