package debian

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/tool"
)

// The key of a step has the versions of the programs that run: the user's PATH
// finds mmdebstrap, and the PATH that mmdebstrap gets finds what it calls.
func TestToolsAreThoseThatRun(t *testing.T) {
	dir := t.TempDir()
	names := []string{"mmdebstrap", "apt-get", "dpkg"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho another\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	want := map[string]string{"mmdebstrap": filepath.Join(dir, "mmdebstrap")}
	for _, name := range names[1:] {
		cmd := exec.Command("/bin/sh", "-c", "command -v "+name)
		cmd.Env = hostEnv()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: install the Debian packages apt and dpkg", name, err)
		}
		want[name] = string(out[:len(out)-1])
	}
	for _, p := range new(bootstrap).Tools()[:len(names)] {
		if path, err := tool.Find(p.Name); err != nil || path != want[p.Base()] {
			t.Errorf("%s: the version of %s (%v) is in the key, and %s runs", p.Base(), path, err, want[p.Base()])
		}
	}
}

// What apt-config says of the machine is said by the apt-config that belongs to
// the apt-get in the key, whatever the user's PATH has.
func TestAptConfigIsTheMachines(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "apt-config"), []byte("#!/bin/sh\necho 'Acquire::Other \"yes\";'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	conf, err := machineAcquire(t.Context(), "/etc/apt")
	if err != nil || strings.Contains(string(conf), "Other") || !strings.Contains(string(conf), "Acquire::") {
		t.Errorf("got %v:\n%s", err, conf)
	}
}

func TestMissingProgramNamesItsPackage(t *testing.T) {
	for _, name := range []string{"/nowhere/apt-config", "/nowhere/apt-helper"} {
		_, err := hostOutput(t.Context(), name)
		if want := filepath.Base(name) + " is not there: install the Debian package apt"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
