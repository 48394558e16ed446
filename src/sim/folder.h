/* sim/folder.h — a folder for files that must not outlive the program.
 *
 * Model      Locked while in use. Folders of programs that were killed are not locked: the next
 *            folder_open removes them.
 * Threads    any.
 * Errors     -errno with text. */
#pragma once

#include <dirent.h>
#include <stddef.h>

#include <haul/err.h>

/* In $TMPDIR, or where the system keeps such files. Only the user may enter it. */
int folder_open(char *path, size_t path_bytes, DIR **ret_lock, struct haul_err *err);
/* Remove it with all that is in it. lock NULL: nothing was opened. */
void folder_close(const char *path, DIR *lock);
