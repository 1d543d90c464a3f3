/* SPDX-License-Identifier: Apache-2.0 */
/* test_config: a configuration survives its JSON, and bad ones are told in a sentence. */
#include "hv/config.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/cm.h"

static void refused(const char *json, const char *word)
{
	struct vm_config c;

	assert_err(config_from_json(json, strlen(json), &c), ERR_USAGE);
	if (!strstr(err_text(), word))
		fail_msg("%s: \"%s\" does not say \"%s\"", json, err_text(), word);
}

static void test_config__goes_through_json_unchanged(void **state)
{
	AUTO_BUF struct buf text = {0}, again = {0};
	struct vm_config c, back;

	(void)state;
	config_init(&c);
	strcpy(c.name, "a-1-b-c");
	c.memory_bytes = 3ull << 30;
	c.vcpus = 32;
	c.cpu = CONFIG_CPU_V3;
	c.cmdline = strdup("console=ttyS0 x=\"quoted\\\" \xc3\xa4");
	c.on_reboot = CONFIG_STOP;
	c.on_crash = CONFIG_REBOOT;
	c.console[0] = CONFIG_CONSOLE_PTY;
	c.console[1] = CONFIG_CONSOLE_FILE;
	assert_ok(config_to_json(&c, &text));
	assert_ok(config_from_json(text.data, text.len, &back));
	assert_string_equal(back.name, c.name);
	assert_true(back.memory_bytes == c.memory_bytes && back.vcpus == 32);
	assert_int_equal(back.cpu, CONFIG_CPU_V3);
	assert_string_equal(back.cmdline, c.cmdline);
	assert_true(back.on_reboot == c.on_reboot && back.on_crash == c.on_crash);
	assert_true(back.console[0] == c.console[0] && back.console[1] == c.console[1]);
	assert_ok(config_to_json(&back, &again));
	assert_string_equal(buf_str(&text), buf_str(&again));
	config_fini(&c);
	config_fini(&back);
}

static void test_config__what_is_left_out_has_defaults(void **state)
{
	const char *json = "{\"name\":\"x\",\"memory_bytes\":16777216,\"vcpus\":1}";
	struct vm_config c;

	(void)state;
	assert_ok(config_from_json(json, strlen(json), &c));
	assert_null(c.cmdline);
	assert_true(c.cpu == CONFIG_CPU_HOST && c.on_reboot == CONFIG_REBOOT &&
		    c.on_crash == CONFIG_STOP && c.console[0] == CONFIG_CONSOLE_STDIO &&
		    c.console[1] == CONFIG_CONSOLE_NONE);
	config_fini(&c);
}

static void test_config__bad_ones_are_named(void **state)
{
#define OK "\"name\":\"x\",\"memory_bytes\":16777216,\"vcpus\":1"
	(void)state;
	refused("", "line");
	refused("[]", "no JSON object");
	refused("{\"memory_bytes\":16777216,\"vcpus\":1}", "name is missing");
	refused("{" OK ",\"memroy\":1}", "unknown key \"memroy\"");
	refused("{" OK ",\"vcpus\":2}", "duplicate");
	refused("{" OK ",\"cpu\":\"x86-64-v5\"}", "x86-64-v5");
	refused("{" OK ",\"cpu\":3}", "cpu is no text");
	refused("{" OK ",\"console\":[\"stdio\"]}", "list of two");
	refused("{" OK ",\"console\":[\"stdio\",\"tty\"]}", "tty");
	refused("{" OK ",\"on_crash\":\"explode\"}", "explode");
	refused("{" OK ",\"cmdline\":\"a\\u0000b\"}", "u0000");
	refused("{" OK ",\"cmdline\":\"a\\nb\"}", "control character");
	refused("{\"name\":\"../x\",\"memory_bytes\":16777216,\"vcpus\":1}", "../x");
	refused("{\"name\":\"x\",\"memory_bytes\":-1,\"vcpus\":1}", "memory_bytes");
	refused("{\"name\":\"x\",\"memory_bytes\":16777215,\"vcpus\":1}", "memory");
	refused("{\"name\":\"x\",\"memory_bytes\":16777217,\"vcpus\":1}", "multiple");
	refused("{\"name\":\"x\",\"memory_bytes\":1099511631872,\"vcpus\":1}", "memory");
	refused("{\"name\":\"x\",\"memory_bytes\":16777216,\"vcpus\":0}", "vcpus");
	refused("{\"name\":\"x\",\"memory_bytes\":16777216,\"vcpus\":33}", "vcpus");
	refused("{\"name\":\"x\",\"memory_bytes\":16777216,\"vcpus\":4294967297}", "vcpus");
	refused("{\"name\":\"x\",\"memory_bytes\":1.5,\"vcpus\":1}", "memory_bytes");
}

static void test_config__names_are_safe_as_directories(void **state)
{
	char longest[CONFIG_NAME_BYTES + 1];

	(void)state;
	memset(longest, 'a', sizeof(longest));
	longest[CONFIG_NAME_BYTES - 1] = 0;
	assert_true(config_name_ok(longest));
	longest[CONFIG_NAME_BYTES - 1] = 'a';
	longest[CONFIG_NAME_BYTES] = 0;
	assert_false(config_name_ok(longest));
	assert_true(config_name_ok("web-1-example-2"));
	assert_true(config_name_ok("1"));
	assert_false(config_name_ok("Web"));
	assert_false(config_name_ok("web_1"));
	assert_false(config_name_ok("web.1"));
	assert_false(config_name_ok(""));
	assert_false(config_name_ok("."));
	assert_false(config_name_ok(".."));
	assert_false(config_name_ok("-rf"));
	assert_false(config_name_ok("a/b"));
	assert_false(config_name_ok("a b"));
	assert_false(config_name_ok("\xc3\xa4"));
}

static void test_config__command_line_has_a_limit(void **state)
{
	struct vm_config c;

	(void)state;
	config_init(&c);
	strcpy(c.name, "x");
	c.cmdline = calloc(1, CONFIG_MAX_CMDLINE + 1);
	memset(c.cmdline, 'a', CONFIG_MAX_CMDLINE - 1);
	assert_ok(config_check(&c));
	c.cmdline[CONFIG_MAX_CMDLINE - 1] = 'a';
	assert_err(config_check(&c), ERR_USAGE);
	config_fini(&c);
}

static void test_config__cpu_names_go_both_ways(void **state)
{
	enum config_cpu cpu = CONFIG_CPU_HOST;

	(void)state;
	assert_ok(config_cpu_parse("x86-64-v4", &cpu));
	assert_int_equal(cpu, CONFIG_CPU_V4);
	assert_string_equal(config_cpu_name(cpu), "x86-64-v4");
	assert_err(config_cpu_parse("v4", &cpu), ERR_USAGE);
	assert_non_null(strstr(err_text(), "host, x86-64-v2, x86-64-v3, x86-64-v4"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config__goes_through_json_unchanged),
		cmocka_unit_test(test_config__what_is_left_out_has_defaults),
		cmocka_unit_test(test_config__bad_ones_are_named),
		cmocka_unit_test(test_config__names_are_safe_as_directories),
		cmocka_unit_test(test_config__command_line_has_a_limit),
		cmocka_unit_test(test_config__cpu_names_go_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
