#include "cli/flows.h"
#include "cli/group.h"

static const struct command subcommands[] = {
#define X(name, help) { #name, help, flows_##name },
	FLOWS_COMMAND_LIST(X)
#undef X
};

int cmd_flows(int argc, char **argv)
{
	static const struct command_group group = {
		.prefix = "haul flows",
		.noun = "subcommand",
		.commands = subcommands,
		.count = sizeof subcommands / sizeof subcommands[0],
		.args_doc = "SUBCOMMAND [ARGUMENT...]",
		.doc = "Count every connection that passes an interface, in the kernel: packets "
		       "and bytes each way, state, handshake time. A table is named after its "
		       "interface and stays until it is detached.\v"
		       "'haul flows SUBCOMMAND --help' has the options.\n\n"
		       "Examples:\n"
		       "  sudo haul flows attach eth0\n"
		       "  sudo haul flows list eth0 --sort bytes --limit 10\n"
		       "  sudo haul flows top\n"
		       "  sudo haul flows detach eth0\n",
	};

	return group_run(&group, argc, argv);
}
