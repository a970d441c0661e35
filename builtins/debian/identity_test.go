package debian

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestForgetIdentity(t *testing.T) {
	dir := writeRoot(t, map[string]string{
		"etc/ssh/ssh_host_rsa_key": "secret", "etc/ssh/ssh_host_rsa_key.pub": "", "etc/ssh/sshd_config": "",
		"etc/ssl/private/ssl-cert-snakeoil.key": "secret", "etc/ssl/certs/ssl-cert-snakeoil.pem": "", "etc/ssl/certs/other.pem": "",
		"etc/nvme/hostid": "1", "etc/nvme/hostnqn": "1", "etc/machine-id": "0123\n", "var/lib/systemd/random-seed": "x",
		"etc/popularity-contest.conf": "PARTICIPATE=\"no\"\nMY_HOSTID=\"0123abc\"\n", "usr/lib/systemd/system/ssh.service": "",
	})
	for link, to := range map[string]string{"0123abcd.0": "ssl-cert-snakeoil.pem", "4567abcd.0": "other.pem"} {
		if err := os.Symlink(to, filepath.Join(dir, "etc/ssl/certs", link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for range 2 { // the second time there is nothing left to do
		if err := forgetIdentity(root); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Join([]string{
		"etc/machine-id", "etc/popularity-contest.conf", "etc/ssh/sshd_config", "etc/ssl/certs/4567abcd.0", "etc/ssl/certs/other.pem",
		"etc/systemd/system/b9-first-boot.service", "etc/systemd/system/sysinit.target.wants/b9-first-boot.service", "usr/lib/systemd/system/ssh.service",
	}, "\n")
	if got := listRoot(t, dir); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if text, _ := root.ReadFile("etc/popularity-contest.conf"); string(text) != "PARTICIPATE=\"no\"\nMY_HOSTID=\"\"\n" {
		t.Errorf("popularity-contest has %q", text)
	}
	if id, err := root.ReadFile("etc/machine-id"); err != nil || len(id) != 0 {
		t.Errorf("machine-id is %q, %v", id, err)
	}
}

// TestASystemWithoutIdentityStaysAsItIs: no unit without something to make.
func TestASystemWithoutIdentityStaysAsItIs(t *testing.T) {
	dir := writeRoot(t, map[string]string{"etc/passwd": "", "usr/lib/systemd/system/x.service": ""})
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := forgetIdentity(root); err != nil {
		t.Fatal(err)
	}
	if got := listRoot(t, dir); got != "etc/passwd\nusr/lib/systemd/system/x.service" {
		t.Errorf("got:\n%s", got)
	}
}

// TestTheLibraryKnowsTheSame compares with what cleanup() of debian.star has.
func TestTheLibraryKnowsTheSame(t *testing.T) {
	library, err := os.ReadFile("../../stdlib/debian.star")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(library), "_IDENTITIES = [\n")
	list, _, _ = strings.Cut(list, "]\n")
	want := ""
	for _, pattern := range identities() {
		want += "    \"/" + pattern + "\",\n"
	}
	if list != want {
		t.Errorf("debian.star has\n%s\nwant\n%s", list, want)
	}
	if !strings.Contains(string(library), "r'''"+firstBoot+"'''") {
		t.Error("debian.star has another unit than first-boot.service")
	}
}

// TestFirstBootUnit lets systemd judge the unit.
func TestFirstBootUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", "first-boot.service").CombinedOutput()
	if err != nil || strings.Contains(string(out), "first-boot.service:") {
		t.Errorf("%v\n%s", err, out)
	}
}
