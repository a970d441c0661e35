package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/engine/config"
)

// settingTests has, for each setting, the script that sees what it does.
func settingTests() map[string]string {
	return map[string]string{
		"build.jobs": "settings", "build.keep_going": "settings", "build.out": "settings", "build.verbosity": "settings",
		"results.place": "place",
		"store.dir":     "settings", "store.max_size": "settings", "store.max_age": "settings",
		"container.backend": "container_backend", "container.memory": "container_settings", "container.cpus": "container_settings",
		"container.capabilities": "container_settings", "container.network": "container_settings", "container.timeout": "container_settings", "container.timeout_factor": "container_settings",
		"vm.timeout": "boot_test", "vm.timeout_factor": "boot_test",
		"libvirt.uri": "container_backend", "libvirt.emulator": "container_backend", "libvirt.network": "container_backend",
		"bootstrap.mirror": "settings", "bootstrap.refresh": "settings", "fs.ext4_features": "settings",
		"shared.repository": "share_parameters", "shared.keep": "share_keep", "shared.cache": "stepcache", "shared.cache_push": "stepcache",
		"options.NAME": "settings", "repositories.NAME": "stepcache", "sources.NAME": "sources",
	}
}

// TestEverySettingHasAnEffect walks over the settings. Each is given on a command
// line of the script that the table names; those of containers in one that runs
// on every backend, as all do whose name begins with container.
func TestEverySettingHasAnEffect(t *testing.T) {
	c, err := config.Load(config.Layers{Flags: []string{"store.dir=/x", "options.NAME=x", "repositories.NAME=/x", "sources.NAME=/x"}})
	if err != nil {
		t.Fatal(err)
	}
	table := settingTests()
	for _, s := range c.Settings() {
		script, ok := table[s.Key]
		delete(table, s.Key)
		if !ok {
			t.Errorf("%s has no test that sees its effect: write a script, and name it here", s.Key)
			continue
		}
		text, err := os.ReadFile(filepath.Join(scriptDir(), script+".txtar"))
		if err != nil {
			t.Error(err)
			continue
		}
		section, name, _ := strings.Cut(s.Key, ".")
		given := "-c " + section + "." + strings.TrimPrefix(name+"=", "NAME=")
		if !strings.Contains(string(text), given) {
			t.Errorf("%s: the script %s gives it no value", s.Key, script)
		}
		if (section == "container" || section == "libvirt") && !strings.HasPrefix(script, "container") {
			t.Errorf("%s: the script %s runs on one backend only", s.Key, script)
		}
	}
	for key := range table {
		t.Errorf("there is no setting %s", key)
	}
}

// samples has, for each setting, two values that it can have, and one that it can't, if
// there is such a one.
func samples() map[string][3]string {
	return map[string][3]string{
		"build.jobs": {"3", "0", "many"}, "build.keep_going": {"true", "false", "perhaps"}, "build.out": {"made", "out/b9", "/srv"}, "build.verbosity": {"quiet", "debug", "lodu"},
		"results.place": {"link", "none", "move"},
		"store.dir":     {"/srv/b9", "/srv/b8", ""}, "store.max_size": {"4GiB", "20%", "400%"}, "store.max_age": {"7d", "12h", "soon"},
		"container.backend": {"embedded", "libvirt-lxc", "nspawn"}, "container.memory": {"512MiB", "2GiB", "12"}, "container.cpus": {"1.5", "2", "-1"},
		"container.capabilities": {"sys_admin,net_raw", "", "-"}, "container.network": {"none", "lab", ""}, "container.timeout": {"1m30s", "2h", "-3s"}, "container.timeout_factor": {"2.5", "4", "0"}, "vm.timeout": {"1m30s", "2h", "-3s"}, "vm.timeout_factor": {"2.5", "4", "0"},
		"libvirt.uri": {"lxc:///system", "lxc:///", ""}, "libvirt.emulator": {"/usr/lib/x", "", "x"}, "libvirt.network": {"lab", "", "-"},
		"bootstrap.mirror": {"http://deb.example/debian", "", "-"}, "bootstrap.refresh": {"1h", "30m", "never"}, "fs.ext4_features": {"64bit,^has_journal", "", "-"},
		"shared.repository": {"local", "", "-"}, "shared.cache": {"", "", "-"}, "shared.keep": {"3", "0", "-1"}, "shared.cache_push": {"true", "false", "2"},
		"options.NAME": {"a \"b\" \\c", "", "-"}, "repositories.NAME": {"/srv/images", "ssh://host/x", ""}, "sources.NAME": {"/srv/sources", "/srv", ""},
	}
}

// TestSetEverySetting walks over the settings: each is written into a file of the
// workspace and of the user, where comments stay, is read from there, changes, and
// is left alone by a value that it can't have.
func TestSetEverySetting(t *testing.T) {
	c, err := config.Load(config.Layers{Flags: []string{"store.dir=/x", "options.NAME=x", "repositories.NAME=/x", "sources.NAME=/x"}})
	if err != nil {
		t.Fatal(err)
	}
	table := samples()
	for _, set := range c.Settings() {
		values, ok := table[set.Key]
		if delete(table, set.Key); !ok {
			t.Errorf("%s: add two values and a wrong one", set.Key)
			continue
		}
		for _, to := range []string{"--workspace", "--user"} {
			setTwice(t, set.Key, to, values)
		}
		for _, choice := range set.Choices {
			if err := config.Check("/ws/b9.toml", set.Key, choice, true, nil); err != nil {
				t.Errorf("%s: completion offers %q: %v", set.Key, choice, err)
			}
		}
	}
	for key := range table {
		t.Errorf("there is no setting %s", key)
	}
}

// setTwice sets a setting to two values, and once to a wrong one.
func setTwice(t *testing.T, key, to string, values [3]string) {
	t.Helper()
	s := newSite(t, map[string]string{"b9.toml": "# the team's\n"})
	path := filepath.Join(s.dir, "b9.toml")
	if to == "--user" {
		path = config.UserFile()
	}
	b9 := func(args ...string) (int, string, string) {
		return s.inside(append([]string{"-C", s.dir, "config"}, args...)...)
	}
	for _, value := range values[:2] {
		if status, out, errs := b9("set", to, "--", key, value); status != 0 || out+errs != "" {
			t.Errorf("%s=%s %s: status %d, %s%s", key, value, to, status, out, errs)
		}
		if _, out, errs := b9(key); out != value+"\n" {
			t.Errorf("%s=%s %s: then it is %q %s", key, value, to, out, errs)
		}
	}
	before, err := os.ReadFile(path)
	if err != nil || to == "--workspace" && !strings.HasPrefix(string(before), "# the team's\n") {
		t.Errorf("%s: the file has %q, %v", key, before, err)
	}
	wrong := values[2]
	if wrong == "-" || key == "build.out" && to == "--user" {
		return // there is no wrong one
	}
	status, _, errs := b9("set", to, "--", key, wrong)
	if after, _ := os.ReadFile(path); status != 2 || !strings.Contains(errs, key) && !strings.Contains(errs, strings.TrimPrefix(key, "repositories.")) || string(after) != string(before) {
		t.Errorf("%s=%s %s: status %d, %sthe file has %q, had %q", key, wrong, to, status, errs, after, before)
	}
}

// TestConfigCheck finds every mistake of every layer, where no other command runs, and
// what is set then is written in spite of them.
func TestConfigCheck(t *testing.T) {
	s := newSite(t, map[string]string{"b9.toml": "[build]\n  jbos = 3\njobs = \"x\"\n[contaner]\nmemory = 1\n[shared]\n cache = \"teem\"\n"})
	user := config.UserFile()
	if err := os.MkdirAll(filepath.Dir(user), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(user, []byte("repositories.team = \"/x\"\nrepositories.far = \"ftp://x/y\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("B9_BUILD_VERBOSITY", "lodu")
	toml := filepath.Join(s.dir, "b9.toml")
	want := []string{
		user + ":2:1: repositories.far: ",
		toml + `:2:3: unknown setting "build.jbos": did you mean "build.jobs"?`,
		toml + `:3:1: build.jobs: wants an integer, not the string "x"`,
		toml + `:4:2: unknown section [contaner]: did you mean "container"?`,
		toml + `:7:2: shared.cache: there is no repository "teem" (have team): did you mean "team"?`,
		`environment B9_BUILD_VERBOSITY: build.verbosity: unknown value "lodu"`,
	}
	for _, command := range [][]string{{"config", "check"}, {"query"}} {
		status, out, errs := s.inside(append([]string{"-C", s.dir}, command...)...)
		for _, w := range want {
			if !strings.Contains(errs, w) {
				t.Errorf("b9 %q does not say %s:\n%s", command, w, errs)
			}
		}
		if n := len(regexp.MustCompile(`(?m)^b9: `).FindAllString(errs, -1)); status != 2 || out != "" {
			t.Errorf("b9 %q: status %d, printed %q and %d messages", command, status, out, n)
		}
	}
	status, _, errs := s.inside("-C", s.dir, "config", "build.jobs", "4")
	text, _ := os.ReadFile(toml)
	if status != 0 || !strings.Contains(string(text), "\njobs = 4\n") || !strings.Contains(errs, "has mistakes (`b9 config check`)") {
		t.Errorf("status %d, %s%s", status, errs, text)
	}
	for path, fixed := range map[string]string{toml: "[build]\njobs = 4\n", user: "[build]\njobs = 5\n"} {
		if err := os.WriteFile(path, []byte(fixed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("B9_BUILD_VERBOSITY", "")
	if status, out, errs := s.inside("-C", s.dir, "config", "check"); status != 0 || out != "" || errs != "no mistakes in "+strings.Join([]string{user, toml}, ", ")+", the environment and the command line\n" {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
	// What counts before the file is named.
	if _, _, errs := s.inside("-C", s.dir, "config", "set", "--user", "build.jobs", "6"); !strings.Contains(errs, "but "+toml+":2 counts before it: it is \"4\"") {
		t.Errorf("%s", errs)
	}
	if status, _, errs := s.inside("-C", filepath.Dir(s.dir), "config", "set", "--workspace", "build.jobs", "6"); status != 2 || !strings.Contains(errs, "b9.toml") {
		t.Errorf("status %d, %s", status, errs)
	}
	if status, _, _ := s.inside("-C", filepath.Dir(s.dir), "config", "set", "build.jobs", "7"); status != 0 {
		t.Errorf("status %d", status)
	}
	if text, _ := os.ReadFile(user); !slices.Equal(strings.Split(string(text), "\n"), []string{"[build]", "jobs = 7", ""}) {
		t.Errorf("outside of a workspace the user's file has %q", text)
	}
}
