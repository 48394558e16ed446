#include "cli/flows_screen.h"

#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

enum { ESCAPE_MS = 25, ASCII_ESCAPE = 27, ASCII_DELETE = 127 };

struct flows_screen {
	SCREEN *terminal;
};

struct flows_screen *flows_screen_open(void)
{
	struct flows_screen *screen;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return NULL;
	screen = calloc(1, sizeof *screen);
	if (screen == NULL)
		return NULL;
	screen->terminal = newterm(NULL, stdout, stdin);
	if (screen->terminal == NULL) {
		free(screen);
		return NULL;
	}
	(void)set_escdelay(ESCAPE_MS);
	(void)cbreak();
	(void)noecho();
	(void)curs_set(0);
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	return screen;
}

void flows_screen_close(struct flows_screen *screen)
{
	if (screen == NULL)
		return;
	(void)endwin();
	delscreen(screen->terminal);
	free(screen);
}

int flows_screen_lines(const struct flows_screen *screen)
{
	HAUL_ASSERT(screen->terminal != NULL);
	return getmaxy(stdscr);
}

void flows_screen_draw(struct flows_screen *screen, const char *frame, int marked)
{
	int lines = flows_screen_lines(screen), columns = getmaxx(stdscr);

	(void)erase();
	for (int y = 0; y < lines && *frame != '\0'; y++) {
		size_t bytes = strcspn(frame, "\n");
		int shown = bytes < (size_t)columns ? (int)bytes : columns;

		if (y == marked)
			(void)attron(A_REVERSE);
		(void)mvaddnstr(y, 0, frame, shown);
		if (y == marked) {
			(void)hline(' ' | A_REVERSE, columns - shown);
			(void)attroff(A_REVERSE);
		}
		frame += bytes + (frame[bytes] == '\n');
	}
	(void)refresh();
}

int flows_screen_key(struct flows_screen *screen)
{
	int key = getch();

	HAUL_ASSERT(screen->terminal != NULL);
	switch (key) {
	case ERR:
		return 0;
	case KEY_RESIZE:
		return FLOWS_KEY_RESIZE;
	case KEY_BACKSPACE:
	case '\b':
	case ASCII_DELETE:
		return FLOWS_KEY_BACKSPACE;
	case KEY_ENTER:
	case '\n':
	case '\r':
		return FLOWS_KEY_ENTER;
	case ASCII_ESCAPE:
		return FLOWS_KEY_ESCAPE;
	default:
		return key;
	}
}
