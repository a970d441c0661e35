package backends

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/container"
)

// world is a backend and the images that its tests start from.
type world struct {
	backend  container.Backend
	features container.Features
	root     string // image with busybox; tests that write take a copy
}

// promises is the contract: what every backend does.
func promises() map[string]func(*testing.T, *world) {
	return map[string]func(*testing.T, *world){
		"status":        testStatus,
		"signal":        testSignal,
		"streams":       testStreams,
		"volume":        testVolume,
		"input":         testInput,
		"surroundings":  testSurroundings,
		"user":          testUser,
		"mounts":        testMounts,
		"offset":        testOffset,
		"readOnlyRoot":  testReadOnlyRoot,
		"traces":        testTraces,
		"hostFiles":     testHostFiles,
		"noServices":    testNoServices,
		"arch":          testArch,
		"capabilities":  testCapabilities,
		"network":       testNetwork,
		"memory":        testMemory,
		"processors":    testProcessors,
		"timeout":       testTimeout,
		"cancel":        testCancel,
		"cancelEarly":   testCancelEarly,
		"stubborn":      testStubborn,
		"background":    testBackground,
		"twice":         testTwice,
		"fullDisk":      testFullDisk,
		"refusals":      testRefusals,
		"brokenOutput":  testBrokenOutput,
		"parallel":      testParallel,
		"terminal":      testTerminal,
		"ownerKilled":   testOwnerKilled,
		"helperKilled":  testHelperKilled,
		"directoryRoot": testDirectoryRoot,

		"mountsBelow":        testMountsBelow,
		"devices":            testDevices,
		"noLoops":            testNoLoops,
		"nothingOutlives":    testNothingOutlives,
		"noGroups":           testNoGroups,
		"hostKernel":         testHostKernel,
		"callersEnvironment": testCallersEnvironment,
		"hostGroups":         testHostGroups,
		"ownRights":          testOwnRights,
		"ownFilesChanged":    testOwnFilesChanged,
		"ownFilesTimes":      testOwnFilesTimes,
		"ownFilesInstalled":  testOwnFilesInstalled,
		"names":              testNames,
		"marked":             testMarked,
		"fullImage":          testFullImage,
		"fullOfFiles":        testFullOfFiles,
		"programs":           testPrograms,
		"memoryShared":       testMemoryShared,

		"secrets":          testSecrets,
		"secretsMasked":    testSecretsMasked,
		"secretsLeft":      testSecretsLeft,
		"secretsElsewhere": testSecretsElsewhere,
		"secretsUntimed":   testSecretsUntimed,
		"secretsRefused":   testSecretsRefused,
		"agent":            testAgent,
		"noAgent":          testNoAgent,
		"readFormats":      testReadFormats,
		"trusted":          testTrusted,
		"vfat":             testVFAT,
		"vfatRoot":         testVFATRoot,
		"vfatPart":         testVFATPart,
		"subvolume":        testSubvolume,
		"readOnlyFound":    testReadOnlyFound,
		"damagedImage":     testDamagedImage,
		"servedMemory":     testServedMemory,
		"servedKilled":     testServedKilled,
		"formatsRefused":   testFormatsRefused,
		"layerLeftAlone":   testLayer,
	}
}

func TestContract(t *testing.T) {
	needTool(t, "busybox", "mke2fs", "e2fsck", "debugfs")
	t.Setenv(callersVariable, callersToken(newID()))
	root := rootImage(t)
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			b, f := openBackend(t, name)
			w := &world{backend: b, features: f, root: root}
			t.Cleanup(func() { checkNothingLeft(t, root) })
			for name, test := range promises() {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, w)
				})
			}
		})
	}
}

// script is a run on a copy of the root image, which is returned too.
func (w *world) script(t *testing.T, text string) (*run, string) {
	t.Helper()
	image := copyImage(t, w.root)
	return script(w.backend, image, text), image
}

// peek is a run that leaves the image alone, so that it needs no copy.
func (w *world) peek(text string) *run {
	r := script(w.backend, w.root, text)
	r.spec.Mounts[0].ReadOnly = true
	return r
}

func testStatus(t *testing.T, w *world) {
	for _, code := range []int{0, 3, 255} {
		began := time.Now()
		res := w.peek(fmt.Sprintf("exit %d", code)).do(t)
		if res.Reason != container.Exited || res.Code != code || res.Signal != "" {
			t.Errorf("exit %d: got %+v", code, res)
		}
		if res.Duration <= 0 || res.Duration > time.Since(began) || res.MaxRSS <= 0 || res.MaxRSS > 1<<30 {
			t.Errorf("odd figures: %+v", res)
		}
	}
}

func testSignal(t *testing.T, w *world) {
	res := w.peek("kill -SEGV $$").do(t)
	if res.Reason != container.Signalled || res.Signal != "SIGSEGV" || res.Code != 128+11 {
		t.Errorf("got %+v", res)
	}
}

func testStreams(t *testing.T, w *world) {
	r := w.peek("for i in 1 2 3; do echo out$i; echo err$i >&2; done; printf end")
	r.output(t)
	if got := r.out.String(); got != "out1\nout2\nout3\nend" {
		t.Errorf("standard output %q", got)
	}
	if got := r.err.String(); got != "err1\nerr2\nerr3\n" {
		t.Errorf("standard error %q", got)
	}
	both := w.peek("for i in 1 2 3; do echo out$i; echo err$i >&2; done")
	both.io.Stderr = both.io.Stdout
	if got := both.output(t); got != "out1\nerr1\nout2\nerr2\nout3\nerr3\n" {
		t.Errorf("both streams in one: %q", got)
	}
	silent := w.peek("echo lost; echo lost >&2")
	silent.io = container.IO{}
	silent.output(t)
}

func testVolume(t *testing.T, w *world) {
	const size = 10 << 20
	r := w.peek(fmt.Sprintf("yes 0123456789abcde | head -c %d", size))
	want := sha256.Sum256(bytes.Repeat([]byte("0123456789abcde\n"), size/16))
	if got := sha256.Sum256([]byte(r.output(t))); got != want {
		t.Errorf("%d bytes came through as %d, or changed", size, r.out.Len())
	}
}

func testInput(t *testing.T, w *world) {
	data := bytes.Repeat([]byte("line\n"), 1<<18)
	r := w.peek("wc -c")
	r.io.Stdin = bytes.NewReader(data)
	if got := strings.TrimSpace(r.output(t)); got != fmt.Sprint(len(data)) {
		t.Errorf("read %s bytes of %d", got, len(data))
	}
	if got := w.peek("wc -c").output(t); strings.TrimSpace(got) != "0" {
		t.Errorf("read %q without an input", got)
	}
	// An input that never ends does not keep the run from ending.
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	defer pw.Close()
	open := w.peek("true")
	open.io.Stdin = pr
	open.output(t)
	// Nor does one that is not read.
	unread := w.peek("true")
	unread.io.Stdin = io.LimitReader(neverEnding{}, 1<<40)
	unread.output(t)
}

type neverEnding struct{}

func (neverEnding) Read(b []byte) (int, error) { return len(b), nil }

func testSurroundings(t *testing.T, w *world) {
	r := w.peek(`echo "$A|$HOME|$PATH"; pwd; hostname; umask; ls /dev/null /dev/pts /dev/shm; test -c /dev/null && echo x >/dev/null; [ -w /dev/shm ] && echo shm; cat /sys/x 2>/dev/null; touch /sys/x 2>/dev/null || echo sysro; ulimit -c`)
	r.spec.Env = append(r.spec.Env, "A=b c'd")
	r.spec.Dir = "/home/ann"
	r.spec.Hostname = "a-host"
	want := "b c'd|/root|/bin\n/home/ann\na-host\n0022\n/dev/null\n\n/dev/pts:\nptmx\n\n/dev/shm:\nshm\nsysro\n0\n"
	if got := r.output(t); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	ps := w.peek("ls -d /proc/[0-9]* | wc -l; test -d /proc/1 && echo proc").output(t)
	if fields := strings.Fields(ps); len(fields) != 2 || len(fields[0]) != 1 {
		t.Errorf("processes of the host are visible: %q", ps)
	}
}

func testUser(t *testing.T, w *world) {
	for user, want := range map[string]string{
		"":           "0 0 0 /root",
		"ann":        "1000 1000 1000 29 /home/ann",
		"1000":       "1000 1000 1000 29 /home/ann",
		"ann:audio":  "1000 29 29 /home/ann",
		"4711:4712":  "4711 4712 4712 /",
		"root:audio": "0 29 29 /root",
	} {
		r := w.peek("echo $(id -u) $(id -g) $(id -G) $HOME; echo fine >/dev/stdout")
		r.spec.User = user
		if got := r.output(t); got != want+"\nfine\n" {
			t.Errorf("user %q: got %q, want %q", user, got, want)
		}
	}
}

func testNoServices(t *testing.T, w *world) {
	tree := busyboxTree(t, "usr/sbin", "var/lib/dpkg")
	write(t, filepath.Join(tree, "var/lib/dpkg/status"), nil, 0o644)
	image := imageOf(t, tree)
	if got := script(w.backend, image, "/usr/sbin/policy-rc.d; echo $?").output(t); got != "101\n" {
		t.Errorf("policy-rc.d answered %q", got)
	}
	if got := listImage(t, image, "/usr/sbin"); len(got) != 0 {
		t.Errorf("/usr/sbin has %q", got)
	}
}

func testArch(t *testing.T, w *world) {
	for _, arch := range w.features.Archs {
		r := w.peek("uname -m")
		r.spec.Arch = arch
		if got := strings.TrimSpace(r.output(t)); got != arch {
			t.Errorf("architecture %s: uname says %s", arch, got)
		}
	}
	if len(w.features.Archs) == 0 {
		t.Error("no architecture")
	}
}

func testCapabilities(t *testing.T, w *world) {
	const mount = "mkdir -p /m && mount -t tmpfs none /m 2>/dev/null && echo mounted"
	plain, _ := w.script(t, "set -e; mknod /b b 7 99; mknod /c c 1 3; chown 1:1 /bin; chroot / id >/dev/null; su ann -c true; "+mount+" || echo refused")
	if got := plain.output(t); got != "refused\n" {
		t.Errorf("mount without the capability: %q", got)
	}
	with, _ := w.script(t, mount)
	with.spec.Capabilities = []string{"sys_admin", "CAP_NET_ADMIN"}
	if got := with.output(t); got != "mounted\n" {
		t.Errorf("mount with the capability: %q", got)
	}
}

func testNetwork(t *testing.T, w *world) {
	count := "grep -c : /proc/net/dev"
	none := w.peek(count + "; ping -c 1 127.0.0.1 >/dev/null && echo up; test -s /etc/resolv.conf || echo no resolver")
	none.spec.Network = "none"
	if got := none.output(t); got != "1\nup\nno resolver\n" {
		t.Errorf("network none: %q", got)
	}
	host := w.peek("cat /proc/net/dev")
	host.spec.Network = container.NetworkHost
	own, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	if got := host.output(t); strings.Count(got, ":") != strings.Count(string(own), ":") {
		t.Errorf("network host: %s\nwant the interfaces of %s", got, own)
	}
	unknown := w.peek("true")
	unknown.spec.Network = "nosuch"
	unknown.refused(t, `network "nosuch"`)
}

func testMemory(t *testing.T, w *world) {
	if !w.features.Limits {
		t.Fatal("no limits here: the backend reports no control groups that it may use")
	}
	r := w.peek("dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null")
	r.spec.Memory = 64 << 20
	if res := r.do(t); res.Reason != container.OutOfMemory || res.Code == 0 {
		t.Errorf("got %+v", res)
	}
	r = w.peek("dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null")
	r.output(t)
	r = w.peek("dd if=/dev/zero of=/dev/null bs=20M count=1 2>/dev/null")
	r.spec.Memory = 64 << 20
	r.output(t)
}

func testProcessors(t *testing.T, w *world) {
	if !w.features.Limits {
		t.Fatal("no limits here: the backend reports no control groups that it may use")
	}
	r := w.peek("timeout 1 sh -c 'while :; do :; done'; times | tail -n 1")
	r.spec.CPUs = 0.2
	var minutes, seconds float64
	out := r.do(t)
	if _, err := fmt.Sscanf(r.out.String(), "%fm%fs", &minutes, &seconds); err != nil {
		t.Fatalf("%v: %v: %q", out, err, r.out.String())
	}
	if seconds > 0.45 {
		t.Errorf("a fifth of a processor gave %.2f s in about one second", seconds)
	}
}
