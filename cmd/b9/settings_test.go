package main

import (
	"os"
	"path/filepath"
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
		"libvirt.uri": "container_backend", "libvirt.emulator": "container_backend", "libvirt.network": "container_backend",
		"bootstrap.mirror": "settings", "bootstrap.refresh": "settings", "fs.ext4_features": "settings",
		"shared.repository": "share_parameters", "shared.cache": "stepcache", "shared.cache_push": "stepcache",
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
