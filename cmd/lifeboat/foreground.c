/* SPDX-License-Identifier: Apache-2.0 */
/* foreground: a launched machine whose verb stays with it.
 *
 * The machine does not live in this process: when the terminal goes away
 * (SIGHUP), or standard output breaks, the machine goes on and can be found by
 * `lifeboat ps'.  Only SIGINT and SIGTERM mean the machine. */
#include "cmd/lifeboat/foreground.h"

#include <signal.h>
#include <unistd.h>

#include "cmd/lifeboat/attach.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/term.h"

enum err foreground_open(const struct machine *m, struct remote *r, int *console_fd)
{
	*console_fd = -1;
	for (unsigned port = 0; port < 2; port++)
		if (m->config.console[port] == CONFIG_CONSOLE_STDIO)
			return remote_console(r, port, true, console_fd);
	return ERR_OK;
}

static enum err leave(const struct machine *m)
{
	cli_say("machine %s goes on: `lifeboat console %s' comes back to it", m->config.name,
		m->config.name);
	return ERR_OK;
}

static enum err interrupted(const struct home *h, const struct machine *m, struct launch *l,
			    struct remote *r)
{
	if (cli_signal() == SIGHUP)
		return err_note(ERR_CANCELLED, 0, "machine %s: the terminal is gone, it goes on",
				m->config.name);
	enum err e = home_end(h, m->config.name, r);
	if (e != ERR_OK)
		return err_context(e, "machine %s: end it", m->config.name);
	launch_await_end(l);
	return err_note(ERR_CANCELLED, 0, "machine %s: interrupted, and ended", m->config.name);
}

enum err foreground_stay(const struct home *h, const struct machine *m, struct launch *l,
			 struct remote *r, int console_fd)
{
	enum attach_result result = ATTACH_ENDED;
	enum err e = ERR_OK;

	if (console_fd >= 0 && term_usable(STDIN_FILENO, STDOUT_FILENO))
		cli_say("machine %s: " ATTACH_KEYS " leaves its console", m->config.name);
	if (console_fd >= 0)
		e = attach_run(console_fd, &result);
	if (e != ERR_OK) {
		e = err_context(e, "machine %s goes on", m->config.name);
		return e;
	}
	if (result == ATTACH_LEFT)
		return leave(m);
	if (result == ATTACH_ENDED)
		e = launch_wait_end(l);
	if (result == ATTACH_SIGNAL || e == ERR_CANCELLED)
		return interrupted(h, m, l, r);
	return e;
}
