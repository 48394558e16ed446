/* A connection table from nothing: check what is asked for, load the programs, make the shards,
 * start the timer, attach. Attaching comes last, so whatever fails before has been seen by nobody,
 * and closing the descriptors takes everything back.
 *
 * The shards' sizes: connections spread over the shards by a hash, so their number in one shard
 * varies around m = entries_max / shards with a standard deviation of less than sqrt(m). Each shard
 * has room for m + 6 sqrt(m): that one of 256 shards fills up while the table holds entries_max
 * has a probability below 1e-6. A single shard needs no spare. */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/flow_state.h"
#include "bpf/progs/flow_prog.h"

/* For the object file in it. It needs flow_prog.h before it. */
#include "flow.skel.h"

enum {
	SWEEP_MS_MIN = 10,
	START_BYTES = 64, /* of the frame that is handed to flow_start */
	RING_BYTES_MAX = 1 << 30
};

static const struct haul_counter total_counters[HAUL_FLOW_TOTALS] = {
#define X(id, name, help) [id] = { name, help },
	HAUL_FLOW_TOTAL_LIST(X)
#undef X
};

static const uint32_t timeout_defaults_s[HAUL_FLOW_STATES] = {
#define X(id, name, timeout) [id] = timeout,
	HAUL_FLOW_STATE_LIST(X)
#undef X
};

struct flow_env flow_env_linux(void)
{
	return (struct flow_env){ .bpffs = "/sys/fs/bpf",
				  .btf = "/sys/kernel/btf/vmlinux",
				  .sys = bpf_sys_linux(),
				  .os = os_linux() };
}

/* ---- what is asked for ---- */

static bool is_power_of_two(uint32_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

uint32_t flow_shard_entries(uint32_t entries_max, uint32_t shards)
{
	uint32_t mean = (entries_max + shards - 1) / shards;
	uint32_t root = 0;

	HAUL_ASSERT(is_power_of_two(shards));
	if (shards == 1)
		return entries_max;
	while (root * root < mean)
		root++;
	return mean + 6 * root;
}

static uint32_t shards_wanted(uint32_t entries_max)
{
	uint32_t shards = 1;

	while (shards < HAUL_FLOWS_SHARDS_MAX &&
	       (uint64_t)shards * HAUL_FLOWS_SHARD_ENTRIES < entries_max)
		shards *= 2;
	return shards;
}

/* The options with their defaults filled in; the ranges are the library's limits. */
static int options_fill(const struct haul_flows_options *options, struct haul_flows_options *ret,
			struct haul_err *err)
{
	*ret = *options;
	if (!ret->ifname || ret->ifname[0] == 0)
		return haul_err_set(err, -EINVAL, "no interface is named");
	if (ret->entries_max == 0)
		ret->entries_max = HAUL_FLOWS_ENTRIES;
	if (ret->entries_max > HAUL_FLOWS_ENTRIES_MAX)
		return haul_err_set(err, -EINVAL, "%u connections: at most %u", ret->entries_max,
				    HAUL_FLOWS_ENTRIES_MAX);
	if (ret->shards == 0)
		ret->shards = shards_wanted(ret->entries_max);
	if (!is_power_of_two(ret->shards) || ret->shards > HAUL_FLOWS_SHARDS_MAX)
		return haul_err_set(err, -EINVAL, "%u shards: a power of two up to %u", ret->shards,
				    HAUL_FLOWS_SHARDS_MAX);
	if (ret->sweep_ms == 0)
		ret->sweep_ms = HAUL_FLOWS_SWEEP_MS;
	if (ret->sweep_ms < SWEEP_MS_MIN)
		return haul_err_set(err, -EINVAL, "a sweep each %u ms: at least %u", ret->sweep_ms,
				    SWEEP_MS_MIN);
	if (ret->ring_bytes == 0)
		ret->ring_bytes = HAUL_FLOWS_RING_BYTES;
	if (!is_power_of_two(ret->ring_bytes) || ret->ring_bytes > RING_BYTES_MAX ||
	    ret->ring_bytes % (uint32_t)sysconf(_SC_PAGESIZE) != 0)
		return haul_err_set(err, -EINVAL,
				    "an event ring of %u bytes: a power of two, of whole pages",
				    ret->ring_bytes);
	for (int state = 0; state < HAUL_FLOW_STATES; state++)
		if (ret->timeout_s[state] == 0)
			ret->timeout_s[state] = timeout_defaults_s[state];
	return 0;
}

/* ---- the programs ---- */

static int load_failed(struct haul_err *err, int rc)
{
	if (rc == -EPERM || rc == -EACCES)
		return haul_err_set(err, -EPERM,
				    "BPF programs cannot be loaded: needs root, or CAP_BPF and "
				    "CAP_NET_ADMIN");
	if (rc == -ENOMEM)
		return haul_err_set(err, rc, "the kernel has no memory for so many connections");
	return haul_err_set(err, rc, "BPF programs cannot be loaded: %s", haul_strerror(rc));
}

static int kernel_check(const struct flow_env *env, struct haul_err *err)
{
	if (access(env->btf, R_OK) < 0)
		return haul_err_set(err, -ENOTSUP,
				    "this kernel does not describe its types (no BTF): %s is "
				    "missing; it must be built with CONFIG_DEBUG_INFO_BTF",
				    env->btf);
	return 0;
}

static void config_fill(struct haul_flows *flows, const struct haul_flows_options *options,
			const struct flow_interface *interface)
{
	struct flow_config *config = &flows->config;

	flows->env.os->random(flows->env.os, &config->salt, sizeof config->salt);
	config->hold_ns = (uint64_t)HAUL_FLOWS_HOLD_S * NS_PER_S;
	config->shard_mask = options->shards - 1;
	config->l2_bytes = interface->l2_bytes;
	config->tag_uncounted = interface->tag_uncounted;
	if (options->sweep_ms != UINT32_MAX)
		config->tick_ns = (uint64_t)options->sweep_ms * NS_PER_MS / options->shards;
	for (int state = 0; state < HAUL_FLOW_STATES; state++)
		config->timeout_ns[state] = (uint64_t)options->timeout_s[state] * NS_PER_S;
}

static void saved_fill(struct haul_flows *flows, const struct haul_flows_options *options,
		       const struct flow_interface *interface)
{
	struct flow_saved *saved = &flows->saved;

	saved->version = FLOW_VERSION;
	saved->bytes = sizeof *saved;
	saved->netns_cookie = interface->netns_cookie;
	saved->attached_ns = flows->env.os->now_ns(flows->env.os);
	saved->ifindex = interface->ifindex;
	saved->entries_max = options->entries_max;
	saved->shards = options->shards;
	saved->shard_entries = flow_shard_entries(options->entries_max, options->shards);
	saved->sweep_ms = options->sweep_ms;
	(void)snprintf(saved->ifname, sizeof saved->ifname, "%s", options->ifname);
}

static struct bpf_object *object_open(void)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "haul_flow");
	size_t bytes = 0;
	const void *elf = flow_bpf__elf_bytes(&bytes);

	return bpf_object__open_mem(elf, bytes, &options);
}

static struct bpf_map *map_of(const struct bpf_object *object, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);

	HAUL_ASSERT(map != NULL);
	return map;
}

static struct bpf_program *program_of(const struct bpf_object *object, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, name);

	HAUL_ASSERT(program != NULL);
	return program;
}

static int program_fd(const struct bpf_object *object, const char *name)
{
	return bpf_program__fd(program_of(object, name));
}

/* Only what will be attached is loaded: the verifier takes most of our time. The two programs for
 * tc do the same, so one serves both sides. */
static int programs_load(struct bpf_object *object, const struct haul_flows_options *options,
			 const struct flow_config *config)
{
	bool xdp = options->hook == HAUL_FLOWS_XDP;
	int rc = 0;

	rc = bpf_map__set_initial_value(map_of(object, ".rodata"), config, sizeof *config);
	rc = rc ? rc : bpf_map__set_max_entries(map_of(object, "shards"), options->shards);
	rc = rc ? rc : bpf_map__set_max_entries(map_of(object, "events"), options->ring_bytes);
	rc = rc ? rc : bpf_program__set_autoload(program_of(object, "flow_xdp"), xdp);
	rc = rc ? rc : bpf_program__set_autoload(program_of(object, "flow_ingress"), !xdp);
	rc = rc ? rc : bpf_program__set_autoload(program_of(object, "flow_egress"), xdp);
	return rc ? rc : bpf_object__load(object);
}

/* Our own descriptors: the loader's are closed with it. */
static int descriptors_take(struct haul_flows *flows, const struct bpf_object *object)
{
	const int from[] = {
		[FLOW_SHARDS] = bpf_map__fd(map_of(object, "shards")),
		[FLOW_TOTALS] = bpf_map__fd(map_of(object, "totals")),
		[FLOW_CONTROL] = bpf_map__fd(map_of(object, "control")),
		[FLOW_EVENTS] = bpf_map__fd(map_of(object, "events")),
		[FLOW_SWEEPER] = bpf_map__fd(map_of(object, "sweeper")),
		[FLOW_CONFIG] = bpf_map__fd(map_of(object, ".rodata")),
		[FLOW_SWEEP] = program_fd(object, "flow_sweep"),
	};
	for (size_t pin = 0; pin < sizeof from / sizeof from[0]; pin++) {
		if (pin == FLOW_INFO)
			continue;
		HAUL_ASSERT(from[pin] >= 0);
		flows->fd[pin] = fcntl(from[pin], F_DUPFD_CLOEXEC, 0);
		if (flows->fd[pin] < 0)
			return -errno;
	}
	flows->fd[FLOW_INFO] = bpf_map_create(BPF_MAP_TYPE_ARRAY, "flow_info", sizeof(uint32_t),
					      sizeof(struct flow_saved), 1, NULL);
	return flows->fd[FLOW_INFO] < 0 ? -errno : 0;
}

/* ---- the shards ---- */

int flow_inner_create(const struct haul_flows *flows, uint32_t index, int btf_fd,
		      const uint32_t type_ids[2])
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	char name[BPF_OBJ_NAME_LEN];
	int fd;

	(void)snprintf(name, sizeof name, "flow_shard_%u", index);
	if (btf_fd >= 0) {
		options.btf_fd = (uint32_t)btf_fd;
		options.btf_key_type_id = type_ids[0];
		options.btf_value_type_id = type_ids[1];
	}
	fd = bpf_map_create(BPF_MAP_TYPE_HASH, name, sizeof(struct haul_flow_key),
			    sizeof(struct haul_flow_value), flows->saved.shard_entries, &options);
	return fd < 0 ? -errno : fd;
}

/* One update for all: each would wait for the programs that run. */
static int slots_fill(struct haul_flows *flows, int *fds, int btf_fd, const uint32_t type_ids[2])
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	uint32_t keys[HAUL_FLOWS_SHARDS_MAX];
	uint32_t count = flows->saved.shards, made = 0;
	int rc = 0;

	for (; made < count && rc == 0; made++) {
		keys[made] = made;
		fds[made] = flow_inner_create(flows, made, btf_fd, type_ids);
		rc = fds[made] < 0 ? fds[made] : 0;
	}
	if (rc == 0 &&
	    bpf_map_update_batch(flows->fd[FLOW_SHARDS], keys, fds, &count, &options) < 0)
		rc = -errno;
	for (uint32_t index = 0; index < made; index++)
		if (fds[index] >= 0)
			close(fds[index]);
	return rc;
}

static int shards_create(struct haul_flows *flows, const struct bpf_object *object)
{
	const struct btf *btf = bpf_object__btf(object);
	int key = btf__find_by_name_kind(btf, "haul_flow_key", BTF_KIND_STRUCT);
	int value = btf__find_by_name_kind(btf, "haul_flow_value", BTF_KIND_STRUCT);
	const uint32_t type_ids[2] = { (uint32_t)key, (uint32_t)value };
	int fds[HAUL_FLOWS_SHARDS_MAX];

	return slots_fill(flows, fds, key > 0 && value > 0 ? btf__fd(btf) : -1, type_ids);
}

/* A timer is started from inside: by a tc program that is run once, on a made-up frame. */
static int timer_start(const struct bpf_object *object)
{
	uint8_t frame[START_BYTES] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof frame);
	int rc = bpf_prog_test_run_opts(program_fd(object, "flow_start"), &options);

	if (rc < 0)
		return rc;
	return options.retval == 0 ? 0 : -EIO;
}

/* ---- a table ---- */

struct haul_flows *flows_new(const struct flow_env *env)
{
	struct haul_flows *flows = calloc(1, sizeof *flows);

	if (!flows)
		return NULL;
	flows->env = *env;
	for (int pin = 0; pin < FLOW_PINS; pin++)
		flows->fd[pin] = -1;
	flows->folder_fd = -1;
	flows->grace_fd = -1;
	return flows;
}

void flows_name(struct haul_flows *flows, const char *name)
{
	(void)snprintf(flows->info.name, sizeof flows->info.name, "%s", name);
	(void)snprintf(flows->stats_name, sizeof flows->stats_name, "flows.%s",
		       name[0] ? name : flows->saved.ifname);
}

static void stats_refresh(struct haul_stats *stats)
{
	struct haul_flows *flows = (void *)((char *)stats - offsetof(struct haul_flows, stats));
	uint64_t totals[HAUL_FLOW_TOTALS];

	if (haul_flows_totals(flows, totals) == 0)
		memcpy(stats->extra, totals, sizeof totals);
}

/* As the kernel accounts it, from what /proc says about the descriptor. */
static uint64_t map_memory(int fd)
{
	char path[48], line[96];
	static const char label[] = "memlock:";
	uint64_t bytes = 0;
	FILE *file;

	(void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof line, file))
		if (strncmp(line, label, sizeof label - 1) == 0)
			bytes = strtoull(line + sizeof label - 1, NULL, 10);
	(void)fclose(file);
	return bytes;
}

static uint64_t memory_sum(const struct haul_flows *flows)
{
	uint64_t bytes = 0;
	uint32_t id;

	for (int pin = 0; pin <= FLOW_INFO; pin++)
		if (flows->fd[pin] >= 0)
			bytes += map_memory(flows->fd[pin]);
	/* All shards are equal. */
	if (flow_slot_get(flows, 0, &id) == 0) {
		int fd = bpf_map_get_fd_by_id(id);
		if (fd >= 0) {
			bytes += map_memory(fd) * flows->saved.shards;
			close(fd);
		}
	}
	return bytes;
}

static void info_fill(struct haul_flows *flows)
{
	static const char *const hooks[FLOW_HOOKS] = {
#define X(id, name) [id] = name,
		FLOW_HOOK_LIST(X)
#undef X
	};
	const struct flow_saved *saved = &flows->saved;
	struct haul_flows_info *info = &flows->info;

	HAUL_ASSERT(saved->hook < FLOW_HOOKS);
	memcpy(info->ifname, saved->ifname, sizeof info->ifname);
	info->ifindex = saved->ifindex;
	info->netns_cookie = saved->netns_cookie;
	info->hook = hooks[saved->hook];
	info->entries_max = saved->entries_max;
	info->shards = saved->shards;
	info->sweep_ms = saved->sweep_ms;
	info->attached_ns = saved->attached_ns;
	info->memory_bytes = memory_sum(flows);
	for (int state = 0; state < HAUL_FLOW_STATES; state++)
		info->timeout_s[state] = (uint32_t)(flows->config.timeout_ns[state] / NS_PER_S);
}

int flows_init(struct haul_flows *flows, struct haul_err *err)
{
	int cpus = libbpf_num_possible_cpus();
	void *page;

	if (cpus < 0)
		return haul_err_set(err, cpus, "the number of CPUs cannot be told: %s",
				    haul_strerror(cpus));
	flows->cpus = (uint32_t)cpus;
	flows->cpu_totals = calloc(flows->cpus, sizeof(uint64_t[HAUL_FLOW_TOTALS]));
	flows->shards = calloc(flows->saved.shards, sizeof *flows->shards);
	if (!flows->cpu_totals || !flows->shards)
		return haul_err_set(err, -ENOMEM, "no memory");
	page = mmap(NULL, sizeof *flows->control, PROT_READ | PROT_WRITE, MAP_SHARED,
		    flows->fd[FLOW_CONTROL], 0);
	if (page == MAP_FAILED)
		return haul_err_set(err, -errno, "the control map cannot be mapped: %s",
				    haul_strerror(-errno));
	flows->control = page;
	info_fill(flows);
	flows_name(flows, "");
	haul_stats_init(&flows->stats, flows->stats_name, total_counters, HAUL_FLOW_TOTALS);
	flows->stats.refresh = stats_refresh;
	return 0;
}

static int saved_store(const struct haul_flows *flows)
{
	uint32_t zero = 0;
	return bpf_map_update_elem(flows->fd[FLOW_INFO], &zero, &flows->saved, BPF_ANY) < 0 ? -errno
											    : 0;
}

static void programs_choose(const struct bpf_object *object,
			    const struct haul_flows_options *options,
			    struct flow_programs *programs)
{
	if (options->hook == HAUL_FLOWS_XDP) {
		programs->xdp = program_fd(object, "flow_xdp");
		programs->ingress = -1;
		programs->egress = program_fd(object, "flow_egress");
	} else {
		programs->xdp = -1;
		programs->ingress = program_fd(object, "flow_ingress");
		programs->egress = programs->ingress;
	}
	HAUL_ASSERT(programs->egress >= 0);
}

static int flows_load(struct haul_flows *flows, const struct haul_flows_options *options,
		      struct haul_err *err)
{
	struct flow_programs programs;
	struct bpf_object *object = object_open();
	int rc;

	if (!object)
		return load_failed(err, -errno);
	rc = programs_load(object, options, &flows->config);
	rc = rc ? rc : descriptors_take(flows, object);
	rc = rc ? rc : shards_create(flows, object);
	if (rc == 0 && flows->config.tick_ns != 0)
		rc = timer_start(object);
	if (rc < 0) {
		rc = load_failed(err, rc);
		goto out;
	}
	programs_choose(object, options, &programs);
	rc = flow_attach(flows, &programs, err);
	rc = rc ? rc : saved_store(flows);
out:
	bpf_object__close(object);
	return rc;
}

int flows_create_in(struct haul_flows **ret_flows, const struct flow_env *env,
		    const struct haul_flows_options *options, struct haul_err *err)
{
	struct haul_flows_options filled;
	struct flow_interface interface = { 0 };
	struct haul_flows *flows;
	libbpf_print_fn_t printer;
	int rc = options_fill(options, &filled, err);

	rc = rc ? rc : flow_interface_get(filled.ifname, &interface, err);
	rc = rc ? rc : kernel_check(env, err);
	rc = rc ? rc : flow_pin_taken(env, filled.ifname, &interface, err);
	if (rc < 0)
		return rc;
	flows = flows_new(env);
	if (!flows)
		return haul_err_set(err, -ENOMEM, "no memory");
	config_fill(flows, &filled, &interface);
	saved_fill(flows, &filled, &interface);
	printer = bpf_quiet_begin();
	rc = flows_load(flows, &filled, err);
	bpf_quiet_end(printer);
	rc = rc ? rc : flows_init(flows, err);
	if (rc < 0) {
		haul_flows_close(flows);
		return rc;
	}
	*ret_flows = flows;
	return 0;
}

int haul_flows_create(struct haul_flows **ret_flows, const struct haul_flows_options *options,
		      struct haul_err *err)
{
	struct flow_env env = flow_env_linux();
	return flows_create_in(ret_flows, &env, options, err);
}

void haul_flows_close(struct haul_flows *flows)
{
	if (!flows)
		return;
	haul_flows_unlisten(flows);
	/* Links end with their descriptors, but not at once; and filters not at all. */
	if (flows->folder_fd < 0)
		(void)flow_detach(&flows->env, &flows->fd[FLOW_LINK_INGRESS], &flows->saved, NULL);
	flow_shards_close(flows);
	flow_work_close(flows);
	if (flows->control)
		(void)munmap(flows->control, sizeof *flows->control);
	for (int pin = 0; pin < FLOW_PINS; pin++)
		if (flows->fd[pin] >= 0)
			close(flows->fd[pin]);
	if (flows->folder_fd >= 0)
		close(flows->folder_fd);
	if (flows->grace_fd >= 0)
		close(flows->grace_fd);
	free(flows->cpu_totals);
	free(flows->shards);
	free(flows);
}

const struct haul_flows_info *haul_flows_info(const struct haul_flows *flows)
{
	return &flows->info;
}

struct haul_stats *haul_flows_stats(struct haul_flows *flows)
{
	return &flows->stats;
}
