package backends

import (
	"os"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/vm/vmtest"
)

// guestPromises are those that have failed on an older kernel than this machine's, and
// their like: what the kernel does with device nodes, mounts and control groups.
const guestPromises = "devices|nothingOutlives|mountsBelow|noGroups"

// TestContractOnDebiansKernel keeps promises of the contract on the kernel of Debian's
// stable release, which is older than most that b9 is made on: this program is run again, in
// a guest. B9_TEST_PROMISES, a regular expression, names others.
func TestContractOnDebiansKernel(t *testing.T) {
	if os.Getenv("B9_LONG_TESTS") == "" {
		t.Skip("starts a machine: set B9_LONG_TESTS=1")
	}
	promises := os.Getenv("B9_TEST_PROMISES")
	if promises == "" {
		promises = guestPromises
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := vmtest.Program{
		Argv: []string{self, "-test.run", "^TestContract$/^embedded$/^(" + promises + ")$", "-test.v"},
		Tools: map[string]string{
			"/usr/sbin/mke2fs": "e2fsprogs", "/usr/sbin/e2fsck": "e2fsprogs", "/usr/sbin/debugfs": "e2fsprogs",
			"/usr/bin/perl": "perl-base", "/usr/bin/cp": "coreutils",
		},
		Modules: []string{"loop", "overlay", "fuse", "tun"},
		Limit:   10 * time.Minute,
	}
	release, said, code := p.Run(t)
	if code != 0 || !strings.Contains(said, "--- PASS: TestContract/embedded/") || strings.Contains(said, "--- SKIP") {
		t.Errorf("Linux %s: status %d:\n%s", release, code, said)
	}
}
