#include "node/mailbox.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"

int mailbox_open(struct mailbox *mailbox)
{
	memset(mailbox, 0, sizeof *mailbox);
	mailbox->command_fd = -1;
	mailbox->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (mailbox->event_fd < 0)
		return -errno;
	mailbox->command_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int rc = mailbox->command_fd < 0 ? -errno : 0;
	if (rc == 0)
		rc = ring_init(&mailbox->events, sizeof(struct control_event), MAILBOX_EVENTS);
	if (rc == 0)
		rc = ring_init(&mailbox->commands, sizeof(struct command), MAILBOX_COMMANDS);
	if (rc < 0)
		mailbox_close(mailbox);
	return rc;
}

void mailbox_close(struct mailbox *mailbox)
{
	ring_done(&mailbox->events);
	ring_done(&mailbox->commands);
	if (mailbox->event_fd >= 0)
		(void)close(mailbox->event_fd);
	if (mailbox->command_fd >= 0)
		(void)close(mailbox->command_fd);
}

void mailbox_wake(int fd)
{
	uint64_t one = 1;
	/* Fails only when the counter is at its maximum: then it is readable already. */
	ssize_t n = write(fd, &one, sizeof one);
	HAUL_ASSERT(n == sizeof one || errno == EAGAIN);
}

void mailbox_woken(int fd)
{
	uint64_t signals;
	ssize_t n = read(fd, &signals, sizeof signals);
	HAUL_ASSERT(n == sizeof signals || errno == EAGAIN);
}

void mailbox_publish(struct mailbox *mailbox, struct snapshot *snapshot)
{
	const struct snapshot *before =
		atomic_exchange_explicit(&mailbox->snapshot, snapshot, memory_order_acq_rel);
	HAUL_ASSERT(before == NULL || before->generation < snapshot->generation);
	mailbox_wake(mailbox->command_fd);
}

uint64_t mailbox_in_use(struct mailbox *mailbox)
{
	return atomic_load_explicit(&mailbox->generation, memory_order_acquire);
}

struct snapshot *mailbox_snapshot(struct mailbox *mailbox)
{
	struct snapshot *snapshot = atomic_load_explicit(&mailbox->snapshot, memory_order_acquire);
	if (snapshot != NULL)
		atomic_store_explicit(&mailbox->generation, snapshot->generation,
				      memory_order_release);
	return snapshot;
}
