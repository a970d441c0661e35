package image

import (
	"os/exec"
	"testing"
)

// TestCompareVersions compares versions in both orders, and asks dpkg.
func TestCompareVersions(t *testing.T) {
	dpkg, _ := exec.LookPath("dpkg")  // is on every Debian
	for _, pair := range [][2]string{ // each older than the other
		{"6.1.0-9-amd64", "6.1.0-10-amd64"}, {"6.1.0~rc1", "6.1.0"}, {"6.1", "6.1.1"}, {"6.1.9", "6.1.10"}, {"5.99", "6.0"},
		{"6.1.0-10-amd64", "6.1.0-10-cloud-amd64"}, {"6.1a", "6.1+"}, {"6.09", "6.10"}, {"1", "18446744073709551616"},
	} {
		older, newer := pair[0], pair[1]
		if compareVersions(older, newer) >= 0 || compareVersions(newer, older) <= 0 || compareVersions(older, older) != 0 {
			t.Errorf("%s and %s: %d and %d", older, newer, compareVersions(older, newer), compareVersions(newer, older))
		}
		if dpkg != "" && exec.Command(dpkg, "--compare-versions", older, "lt", newer).Run() != nil {
			t.Errorf("dpkg does not find %s older than %s", older, newer)
		}
	}
	if compareVersions("6.01", "6.1") != 0 {
		t.Error("leading zeros count")
	}
}
