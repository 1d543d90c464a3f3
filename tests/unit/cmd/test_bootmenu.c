/* SPDX-License-Identifier: Apache-2.0 */
/* bootmenu: the entry that a boot loader's configuration starts by itself. */
#include <stdio.h>
#include <string.h>

#include "cmd/bootfs/bootmenu.h"
#include "tests/unit/cm.h"

/* As grub-mkconfig writes them, shortened. */
#define HEAD(choice)                                                                               \
	"if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nelse\n"               \
	"   set default=\"" choice "\"\nfi\n"                                                      \
	"function savedefault {\n  if [ -z \"${boot_once}\" ]; then\n    save_env x\n  fi\n}\n"
#define MENU                                                                                       \
	"menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'simple' {\n"            \
	"\tinsmod ext2\n"                                                                          \
	"\tlinux\t/boot/vmlinuz-new root=UUID=1-2 ro  quiet # not this\n"                          \
	"\tinitrd\t/boot/initrd.img-new\n}\n"                                                      \
	"submenu 'Advanced options' $menuentry_id_option 'advanced' {\n"                           \
	"\tmenuentry 'Linux new' --class os $menuentry_id_option 'new' {\n"                        \
	"\t\tlinux /boot/vmlinuz-new root=UUID=1-2 ro\n\t}\n"                                      \
	"\tmenuentry 'Linux old' --class os $menuentry_id_option 'old' {\n"                        \
	"\t\tif [ x$feature = xy ]; then\n\t\t\tinsmod a; insmod b\n\t\tfi\n"                      \
	"\t\tlinux ($root)/boot/vmlinuz-old root=UUID=1-2 \"a b\"\n"                               \
	"\t\tinitrd /boot/ucode.img /boot/initrd.img-old\n\t}\n}\n"                                \
	"menuentry 'Other' {\n\tlinuxefi /other root=/dev/sdb\n\tinitrdefi /i\n}\n"

static void expect_grub(const char *text, const char *env, const char *kernel)
{
	struct bootmenu_entry e;
	bool found = bootmenu_grub(text, env, &e);

	assert_int_equal(found, kernel != NULL);
	if (kernel)
		assert_string_equal(e.kernel, kernel);
}

static void test_grub__the_default_entry(void **state)
{
	struct bootmenu_entry e;

	(void)state;
	assert_true(bootmenu_grub(HEAD("0") MENU, NULL, &e));
	assert_string_equal(e.kernel, "/boot/vmlinuz-new");
	assert_string_equal(e.cmdline, "root=UUID=1-2 ro quiet");
	assert_int_equal(e.initrds, 1);
	assert_string_equal(e.initrd[0], "/boot/initrd.img-new");
	assert_true(bootmenu_grub(HEAD("1>1") MENU, NULL, &e));
	assert_string_equal(e.kernel, "/boot/vmlinuz-old");
	assert_string_equal(e.cmdline, "root=UUID=1-2 a b");
	assert_int_equal(e.initrds, 2);
	assert_string_equal(e.initrd[1], "/boot/initrd.img-old");
}

static void test_grub__named_by_title_id_or_saved(void **state)
{
	(void)state;
	expect_grub(HEAD("Other") MENU, NULL, "/other");
	expect_grub(HEAD("2") MENU, NULL, "/other");
	expect_grub(HEAD("advanced>old") MENU, NULL, "/boot/vmlinuz-old");
	expect_grub(HEAD("Advanced options>Linux old") MENU, NULL, "/boot/vmlinuz-old");
	expect_grub(HEAD("advanced") MENU, NULL, "/boot/vmlinuz-new");
	expect_grub(HEAD("${saved_entry}") MENU, "# GRUB\nsaved_entry=advanced>old\n####",
		    "/boot/vmlinuz-old");
	expect_grub(HEAD("${saved_entry}") MENU, "x=1\n", "/boot/vmlinuz-new");
	expect_grub(HEAD("${saved_entry}") MENU, NULL, "/boot/vmlinuz-new");
	/* What is not there is the first, as in GRUB. */
	expect_grub(HEAD("7") MENU, NULL, "/boot/vmlinuz-new");
	expect_grub(MENU, NULL, "/boot/vmlinuz-new");
}

static void test_grub__what_only_grub_understands_is_no_entry(void **state)
{
	char text[4096];

	(void)state;
	expect_grub("", NULL, NULL);
	expect_grub("insmod blscfg\nblscfg\n", NULL, NULL);
	expect_grub("menuentry a {\nlinux $kernel root=x\n}\n", NULL, NULL);
	expect_grub("menuentry a {\nlinux /k root=$r\n}\n", NULL, NULL);
	expect_grub("menuentry a {\nlinux vmlinuz root=x\n}\n", NULL, NULL);
	expect_grub("menuentry a {\nchainloader +1\n}\n", NULL, NULL);
	expect_grub("menuentry a {\nlinux /k\x01 root=x\n}\n", NULL, NULL);
	expect_grub("menuentry a {\nlinux /k\ninitrd /1 /2 /3 /4 /5\n}\n", NULL, NULL);
	expect_grub("menuentry a {\nlinux \"/k", NULL, "/k");
	(void)snprintf(text, sizeof(text), "menuentry a {\nlinux /%0600d root=x\n}\n", 0);
	expect_grub(text, NULL, NULL);
	(void)snprintf(text, sizeof(text), "menuentry a {\nlinux /k %0500d %0500d %0500d %0500d %0500d\n}\n",
		       0, 0, 0, 0, 0);
	expect_grub(text, NULL, NULL);
}

static void test_extlinux__the_label_that_default_names(void **state)
{
	static const char text[] = "DEFAULT two\nLABEL one\n LINUX /k1\n APPEND a=1\nLABEL two\n"
				   "\tkernel /k2\n\tinitrd /i1,/i2\n\tappend  root=/dev/sda ro \n";
	struct bootmenu_entry e;

	(void)state;
	assert_true(bootmenu_extlinux(text, &e));
	assert_string_equal(e.kernel, "/k2");
	assert_string_equal(e.cmdline, "root=/dev/sda ro");
	assert_int_equal(e.initrds, 2);
	assert_string_equal(e.initrd[1], "/i2");
	assert_true(bootmenu_extlinux(strchr(text, '\n') + 1, &e));
	assert_string_equal(e.kernel, "/k1");
	assert_false(bootmenu_extlinux("LABEL a\n LINUX relative\n", &e));
	assert_false(bootmenu_extlinux("DEFAULT a\n", &e));
}

static void test_versions__are_ordered_as_debian_does(void **state)
{
	static const char *const order[] = {"5.10.0-30", "6.1.0-9", "6.1.0-10~rc1", "6.1.0-10",
					    "6.1.0-10+b1", "6.1.0-10-cloud", "6.1.0-56", "6.12", "6.12.1"};
	const unsigned n = sizeof(order) / sizeof(order[0]);

	(void)state;
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < n; j++) {
			int c = bootmenu_compare(order[i], order[j]);

			assert_int_equal((c > 0) - (c < 0), (i > j) - (i < j));
		}
	assert_int_equal(bootmenu_compare("6.01", "6.1"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grub__the_default_entry),
		cmocka_unit_test(test_grub__named_by_title_id_or_saved),
		cmocka_unit_test(test_grub__what_only_grub_understands_is_no_entry),
		cmocka_unit_test(test_extlinux__the_label_that_default_names),
		cmocka_unit_test(test_versions__are_ordered_as_debian_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
