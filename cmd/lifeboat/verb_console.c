/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat console: attach to a machine's serial line. */
#include <unistd.h>

#include "base/units.h"
#include "cmd/lifeboat/attach.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/term.h"
#include "cmd/lifeboat/verbs.h"

struct console_args {
	const char *name;
	uint64_t line; /* 1 or 2 */
	uint64_t timeout_ns;
	bool no_replay;
};

static enum err option(void *args, int key, char *value)
{
	struct console_args *c = args;

	switch (key) {
	case CLI_ARGUMENT: c->name = value; return ERR_OK;
	case CLI_KEY_NO_REPLAY: c->no_replay = true; return ERR_OK;
	case CLI_KEY_TIMEOUT: return cli_timeout(value, &c->timeout_ns);
	case CLI_KEY_LINE: return units_number(value, "number of the line", 1, 2, &c->line);
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	{.name = "line", .key = CLI_KEY_LINE, .arg = "N", .doc = "Serial line 1 (default) or 2"},
	{.name = "no-replay", .key = CLI_KEY_NO_REPLAY,
	 .doc = "Do not show first what the guest wrote before (up to 1 MiB)"},
	CLI_OPTION_TIMEOUT,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "console",
	.args_doc = "NAME",
	.doc = "Attach to a machine's serial line. On a terminal every key goes to the guest, but for "
	       "Ctrl-] d, which leaves the console (the machine goes on), and Ctrl-] Ctrl-], which "
	       "sends one Ctrl-].\vExample:\n  lifeboat console web",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

enum err verb_console(int argc, char **argv)
{
	struct console_args c = {.line = 1};
	enum attach_result result;
	struct home h;
	struct remote *r = NULL;
	int fd = -1;
	enum err e = cli_parse(&verb, argc, argv, &c);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, c.name, c.timeout_ns, &r)) != ERR_OK)
		return e;
	e = remote_console(r, (unsigned)c.line - 1, !c.no_replay, &fd);
	remote_close(r);
	if (e != ERR_OK)
		return err_context(e, "console of %s", c.name);
	if (term_usable(STDIN_FILENO, STDOUT_FILENO))
		cli_say("machine %s: " ATTACH_KEYS " leaves its console", c.name);
	if ((e = attach_run(fd, &result)) != ERR_OK)
		return e;
	if (result == ATTACH_SIGNAL)
		return cli_check_interrupted();
	if (result == ATTACH_ENDED)
		cli_say("machine %s has ended", c.name);
	else
		cli_say("machine %s goes on", c.name);
	return ERR_OK;
}
