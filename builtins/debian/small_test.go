package debian

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"b9.build/b9/builtins/image"
)

// smallArchive is an archive of a Debian of a handful of packages, served on
// loopback, which installs in a second or two. Its essential package holds
// programs of this machine.
type smallArchive struct {
	*httptest.Server
	t    *testing.T
	dir  string // what is served
	keys string // GnuPG's directory, "" for an archive without signatures

	mu   sync.Mutex
	fail func(w http.ResponseWriter, r *http.Request) bool // answers in place of the archive and reports so
}

// suiteLists is what a suite of the archive has: packages by component.
type suiteLists map[string][]smallPackage

// smallPackage is one package. Files are by absolute path.
type smallPackage struct {
	Name, Version, Arch string
	Fields              string // further lines of its control file
	Files               map[string]string
	Programs            []string // of this machine, with their libraries
	PostInst            string
}

func newSmallArchive(t *testing.T) *smallArchive {
	t.Helper()
	needRoot(t)
	for _, program := range []string{"mmdebstrap", "dpkg-deb", "ldd", aptHelper} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	a := &smallArchive{t: t, dir: t.TempDir()}
	if err := os.Chmod(a.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir(a.dir))
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		fail := a.fail
		a.mu.Unlock()
		if fail == nil || !fail(w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// failing sets what answers in place of the archive; nil for nothing.
func (a *smallArchive) failing(f func(w http.ResponseWriter, r *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = f
}

// sign gives the archive a key, and returns the file of its public half.
func (a *smallArchive) sign(armored bool) string {
	a.t.Helper()
	for _, program := range []string{"gpg", "gpgconf", "gpgv"} {
		if _, err := exec.LookPath(program); err != nil {
			a.t.Skipf("needs %s", program)
		}
	}
	dir, err := os.MkdirTemp("", "b9gpg") // sockets have short paths
	if err != nil {
		a.t.Fatal(err)
	}
	a.keys = dir
	a.t.Cleanup(func() {
		a.gpg("gpgconf", "--kill", "all")
		os.RemoveAll(dir)
	})
	a.gpg("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Archive <archive@example.org>", "ed25519", "sign", "never")
	export := []string{"gpg", "--export"}
	if armored {
		export = append(export, "--armor")
	}
	file := filepath.Join(a.t.TempDir(), "archive-key")
	if err := os.WriteFile(file, a.gpg(export...), 0o644); err != nil {
		a.t.Fatal(err)
	}
	return file
}

func (a *smallArchive) gpg(argv ...string) []byte {
	a.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+a.keys)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		a.t.Fatalf("%v: %v\n%s", argv, err, &said)
	}
	return out
}

// publish makes the state of a suite.
func (a *smallArchive) publish(suite string, arch string, components suiteLists) {
	a.publishAt("debian", suite, arch, components)
}

func (a *smallArchive) publishAt(root, suite, arch string, components suiteLists) {
	a.t.Helper()
	var names []string
	var sums strings.Builder
	for component, packages := range components {
		names = append(names, component)
		var list strings.Builder
		for _, p := range packages {
			list.WriteString(a.build(root, p) + "\n")
		}
		name := component + "/binary-" + arch + "/Packages"
		a.write(path.Join(root, "dists", suite, name), list.String())
		fmt.Fprintf(&sums, " %x %d %s\n", sha256.Sum256([]byte(list.String())), list.Len(), name)
	}
	slices.Sort(names)
	release := fmt.Sprintf("Origin: Small\nSuite: %s\nCodename: %[1]s\nDate: %s\nArchitectures: all %s\nComponents: %s\nSHA256:\n%s",
		suite, time.Now().UTC().Format(time.RFC1123), arch, strings.Join(names, " "), &sums)
	a.write(path.Join(root, "dists", suite, "Release"), release)
	if a.keys != "" {
		in := filepath.Join(a.dir, root, "dists", suite, "Release")
		os.Remove(filepath.Join(filepath.Dir(in), "InRelease"))
		a.gpg("gpg", "--batch", "--clearsign", "--output", filepath.Join(filepath.Dir(in), "InRelease"), in)
	}
}

func (a *smallArchive) write(name, text string) {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

// build makes the package, unless the archive has it, and returns its paragraph
// of the list.
func (a *smallArchive) build(root string, p smallPackage) string {
	a.t.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: b9 <b9@example.org>\nDescription: a test\n%s", p.Name, p.Version, p.Arch, p.Fields)
	name := fmt.Sprintf("pool/%s_%s_%s.deb", p.Name, p.Version, p.Arch)
	file := filepath.Join(a.dir, root, name)
	if _, err := os.Stat(file); err != nil {
		a.pack(file, control, p)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		a.t.Fatal(err)
	}
	return fmt.Sprintf("%sFilename: %s\nSize: %d\nSHA256: %x\n", control, name, len(data), sha256.Sum256(data))
}

func (a *smallArchive) pack(file, control string, p smallPackage) {
	a.t.Helper()
	tree := map[string]string{"DEBIAN/control": control}
	if p.PostInst != "" {
		tree["DEBIAN/postinst"] = "#!/bin/sh\nset -e\n" + p.PostInst + "\n"
	}
	for name, text := range p.Files {
		tree[strings.TrimPrefix(name, "/")] = text
	}
	dir := writeRoot(a.t, tree)
	for _, program := range p.Programs {
		installProgram(a.t, dir, program)
	}
	if p.PostInst != "" {
		if err := os.Chmod(filepath.Join(dir, "DEBIAN/postinst"), 0o755); err != nil {
			a.t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		a.t.Fatal(err)
	}
	cmd := exec.Command("dpkg-deb", "--build", "-Znone", "--root-owner-group", dir, file)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=86400")
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("%v\n%s", err, out)
	}
}

var libraryPath = regexp.MustCompile(`/\S+`)

// installProgram copies a program of this machine and the libraries that it is
// linked with below the root's usr.
func installProgram(t *testing.T, root, program string) {
	t.Helper()
	at, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s", program)
	}
	files := []string{at}
	if out, err := exec.Command("ldd", at).Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			if f := libraryPath.FindString(line); f != "" {
				files = append(files, f)
			}
		}
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, "usr", strings.TrimPrefix(strings.TrimPrefix(f, "/usr"), "/"))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// essential is the packages that a system needs to install further ones.
func essential() []smallPackage { return essentialOf("amd64") }

// essentialOf is essential for another architecture, though the programs stay this
// machine's, which runs them wherever it runs those of the other one.
func essentialOf(arch string) []smallPackage {
	return []smallPackage{
		{Name: "small-base", Version: "1", Arch: arch, Fields: "Essential: yes\nPriority: required\n",
			Files:    map[string]string{"/etc/passwd": "root:*:0:0::/root:/bin/sh\n", "/etc/machine-id": "0123456789abcdef0123456789abcdef\n"},
			Programs: []string{"sh", "dpkg", "dpkg-deb", "dpkg-split", "dpkg-query", "tar", "rm", "env", "diff", "ldconfig", "start-stop-daemon", "cat", "mkdir", "touch", "ln"}},
		{Name: "small-required", Version: "1", Arch: "all", Fields: "Priority: required\n", Files: map[string]string{"/usr/share/required": "1\n"}},
		{Name: "usr-is-merged", Version: "1", Arch: "all", Fields: "Priority: optional\n", Files: map[string]string{"/usr/share/merged": "1\n"}},
	}
}

// more is a package with one file, /usr/share/NAME, that holds its version.
func more(name, version, fields string) smallPackage {
	return smallPackage{Name: name, Version: version, Arch: "all", Fields: fields, Files: map[string]string{"/usr/share/" + name: version + "\n"}}
}

// from is a bootstrap of the archive, which is trusted.
func (a *smallArchive) from(suite string, packages ...string) *bootstrap {
	return &bootstrap{
		Suite: suite, Arch: "amd64", Variant: "minbase", Packages: packages, Apt: "/nonexistent", Refresh: time.Nanosecond,
		Mirrors: []string{"deb [trusted=yes] " + a.URL + "/debian " + suite + " main"},
		Image:   image.FileSystem{FS: "ext4", Free: 1 << 20},
	}
}
