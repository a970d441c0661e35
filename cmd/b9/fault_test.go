package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Every command that writes is run again and again while one system call of it fails:
// the n-th of a kind, for every n. Afterwards each file is the old one or the new one,
// whole; the status says whether all is new; nothing lies beside; and the same command
// without a fault then brings all to its end. strace makes calls fail. It counts the
// calls of each thread, so that one fault may be several.

// faults are the calls that fail, and how.
var faults = map[string][]string{
	"openat":          {"EIO", "ENOSPC", "EINTR"},
	"write":           {"ENOSPC", "EIO", "EINTR"},
	"pwrite64":        {"ENOSPC", "EIO", "EINTR"},
	"copy_file_range": {"ENOSPC", "EIO"},
	"ftruncate":       {"ENOSPC", "EIO"},
	"fallocate":       {"ENOSPC", "EINTR"},
	"fsync":           {"EIO", "ENOSPC", "EINTR"},
	"syncfs":          {"EIO", "ENOSPC"},
	"mkdirat":         {"ENOSPC", "EIO"},
	"linkat":          {"EIO", "ENOSPC"},
	"renameat":        {"EIO", "ENOSPC"},
	"renameat2":       {"EIO", "ENOSPC"},
	"unlinkat":        {"EIO"},
	"newfstatat":      {"EIO"},
	"getdents64":      {"EIO"},
	"read":            {"EIO", "EINTR"},
	"pread64":         {"EIO"},
	"flock":           {"EINTR", "ENOLCK"},
}

// faultCase is a command that writes.
type faultCase struct {
	before [][]string // commands that prepare what all have
	args   []string
	after  [][]string // commands that must succeed whether it came to its end or not
	// apart is a directory of which two right runs differ: the commands in after look
	// at what is in it.
	apart string
	known []fault // that are always tried, because something was wrong with them
}

// faultCases has the commands by the name of their test.
func faultCases() map[string]faultCase {
	build, old := []string{"build", "//:every"}, []string{"-C", "pub", "build", "-D", "text=old", "//:base"}
	publish := [][]string{{"-C", "pub", "--store", "store2", "build", "//:base"}, {"--store", "store2", "push", "base", "-r", "team"}}
	again := [][]string{{"-C", "pub", "--store", "store2", "build", "-D", "text=old", "//:base"}, {"--store", "store2", "push", "base", "-r", "team"}}
	verify, check := [][]string{{"cache", "verify"}}, [][]string{{"repo", "check", "team", "--deep"}}
	// Whoever can't read what b9 has placed must not forget it.
	placed := []fault{{"openat", "EIO", 1, "b9-out/.placed"}, {"openat", "ENOSPC", 1, "b9-out/.placed"}, {"read", "EIO", 1, "b9-out/.placed"}}
	with := func(all ...[][]string) [][]string { return slices.Concat(all...) }
	return map[string]faultCase{
		"build":         {args: build, after: verify},
		"build-again":   {before: [][]string{{"build", "-D", "text=old", "//:every"}}, args: build, after: verify, known: placed},
		"build-out":     {before: [][]string{build}, args: []string{"build", "--out", "elsewhere", "//:every"}, after: verify},
		"build-shared":  {before: publish, args: []string{"build", "//use:used"}, after: verify},
		"clean":         {before: [][]string{build}, args: []string{"clean"}, after: verify, known: placed},
		"cache-gc":      {before: [][]string{build, {"clean"}}, args: []string{"cache", "gc", "--max-size", "1K"}, after: verify},
		"cache-verify":  {before: [][]string{build}, args: []string{"cache", "verify", "--repair"}, after: verify},
		"convert":       {args: []string{"image", "convert", "disk.raw", "new.qcow2"}},
		"convert-force": {before: [][]string{{"image", "convert", "small.raw", "new.vmdk"}}, args: []string{"image", "convert", "--force", "disk.raw", "new.vmdk"}},
		"resize-raw":    {args: []string{"image", "resize", "small.raw", "3M"}},
		"replace":       {args: []string{"image", "replace", "disk.raw", "1", "small.raw"}},
		"cp":            {before: [][]string{build}, args: []string{"cp", "b9-out/vfat.raw:/a", "copy"}},
		"cp-tree":       {before: [][]string{build}, args: []string{"cp", "b9-out/vfat.raw:/dir", "copied"}},
		"push":          {before: publish[:1], args: []string{"--store", "store2", "push", "base", "-r", "team"}, after: check, apart: "repo"},
		"pull":          {before: publish, args: []string{"pull", "base", "-r", "team"}, after: verify},
		"update":        {before: with(publish, [][]string{{"build", "//use:used"}}, again), args: []string{"update"}},
		"clean-remote":  {before: with(publish, again), args: []string{"clean-remote", "-r", "team", "--keep", "1"}, after: check, apart: "repo"},
		"clean-local":   {before: [][]string{old, {"-C", "pub", "build", "//:base"}}, args: []string{"clean-local", "--keep", "1"}, after: verify},
		"repo-add":      {args: []string{"repo", "add", "second", "repo"}},
		"repo-create":   {args: []string{"repo", "add", "--create", "third", "new"}, after: [][]string{{"list", "-r", "team"}}, apart: "new"},
		"repo-remove":   {before: [][]string{{"repo", "add", "second", "repo"}}, args: []string{"repo", "remove", "second"}},
		"init":          {args: []string{"-C", "empty", "init"}},
	}
}

// faultFiles are the workspaces that the commands work in.
var faultFiles = map[string]string{
	"ws/b9.toml": "",
	"ws/B9BUILD.star": `
text = file(name = "text", content = option("text", default = "new") + "\n")
dir = tree(name = "tree", files = {"a": text, "dir/b": text})
vfat = image(name = "vfat", fs = "vfat", content = dir, size = "2M")
ext4 = image(name = "ext4", content = dir, size = "2M")
group(name = "every", targets = [text, dir, vfat, ext4, convert(ext4, "qcow2", name = "qcow2")])
`,
	"ws/use/B9BUILD.star": "resize(shared(\"base\"), size = \"3M\", name = \"used\")\n",
	"ws/small.raw":        strings.Repeat("small ", 1<<16),
	"ws/pub/b9.toml":      "",
	"ws/pub/B9BUILD.star": `share("base", image(fs = "vfat", size = "2M", content = tree(files = {"a": file(content = option("text", default = "new"))})))` + "\n",
	"ws/empty/keep":       "",
}

// faultSite is a directory in which everything lies: workspaces, store, repository,
// configuration. It is copied for each run, to the same path.
type faultSite struct {
	t         *testing.T
	b9        string
	base      string // as all cases begin with it
	template  string // as one case begins with it
	work      string
	old, made map[string]string
}

// TestFaults makes each command of the table fail at calls of each kind.
func TestFaults(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	base := newFaultSite(t)
	for _, name := range slices.Sorted(maps.Keys(faultCases())) {
		t.Run(name, func(t *testing.T) {
			s := *base
			s.t = t
			s.walk(faultCases()[name])
		})
	}
}

func newFaultSite(t *testing.T) *faultSite {
	dir := t.TempDir()
	s := &faultSite{t: t, b9: filepath.Join(dir, "b9"), base: filepath.Join(dir, "base"), template: filepath.Join(dir, "template"), work: filepath.Join(dir, "work")}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, s.b9); err != nil {
		t.Fatal(err)
	}
	for name, text := range faultFiles {
		path := filepath.Join(s.work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.must("repo", "add", "--create", "team", "repo")
	s.makeDisk()
	s.copy(s.work, s.base)
	return s
}

// makeDisk makes disk.raw, which has a partition for small.raw.
func (s *faultSite) makeDisk() {
	path := filepath.Join(s.work, "ws", "disk.raw")
	if err := os.WriteFile(path, bytes.Repeat([]byte("disk"), 1<<19), 0o644); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "-q", path)
	cmd.Stdin = strings.NewReader("label: dos\n2048,1024\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Skipf("needs sfdisk: %v\n%s", err, out)
	}
}

func (s *faultSite) copy(from, to string) {
	s.t.Helper()
	if err := os.RemoveAll(to); err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}

// run runs b9, after the words of another program that runs it. One that does not end
// within minutes is a failure.
func (s *faultSite) run(with []string, args ...string) (int, string) {
	s.t.Helper()
	cmd, out := s.command(with, args...)
	late := time.AfterFunc(5*time.Minute, func() { cmd.Process.Kill() })
	err := cmd.Run()
	if !late.Stop() {
		s.t.Fatalf("%q did not end\n%s", cmd.Args, out)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// command is a run of b9 that prints into the buffer.
func (s *faultSite) command(with []string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	words := append(append(slices.Clone(with), s.b9, "--store", filepath.Join(s.work, "store")), args...)
	cmd, out := exec.Command(words[0], words[1:]...), new(bytes.Buffer)
	cmd.Dir = filepath.Join(s.work, "ws")
	cmd.Env = append(os.Environ(), "HOME="+s.work, "XDG_CONFIG_HOME="+filepath.Join(s.work, "config"), "XDG_CACHE_HOME="+filepath.Join(s.work, "cache"), "SOURCE_DATE_EPOCH=", "B9_STORE_DIR=")
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

func (s *faultSite) must(args ...string) {
	s.t.Helper()
	if status, out := s.run(nil, args...); status != 0 {
		s.t.Fatalf("b9 %q: status %d\n%s", args, status, out)
	}
}

// fault is one way for one call to fail.
type fault struct {
	call, err string
	n         int    // which of a thread's calls of that kind
	path      string // in the workspace, that the calls are about; "" for all
}

// strace is the words that make a command meet the fault.
func (f fault) strace(dir string) []string {
	words := []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + f.call, "-e", "inject=" + f.String()}
	if f.path == "" {
		return append(words, "--seccomp-bpf")
	}
	return append(words, "-P", filepath.Join(dir, f.path))
}

func (f fault) String() string { return fmt.Sprintf("%s:error=%s:when=%d", f.call, f.err, f.n) }

// walk tries the faults of one case.
func (s *faultSite) walk(c faultCase) {
	s.copy(s.base, s.work)
	for _, args := range c.before {
		s.must(args...)
	}
	s.copy(s.work, s.template)
	s.old = s.state(c)
	all := s.countCalls(c)
	s.made = s.state(c)
	wrong := 0
	for _, f := range append(slices.Clone(c.known), s.choose(all)...) {
		s.copy(s.template, s.work)
		if wrong += s.try(c, f); wrong > mostWrong {
			s.t.Fatal("and perhaps more")
		}
	}
}

// countCalls runs the command and returns the faults that it can meet.
func (s *faultSite) countCalls(c faultCase) (all []fault) {
	log := filepath.Join(s.work, "..", "calls")
	calls := slices.Sorted(maps.Keys(faults))
	status, out := s.run([]string{"strace", "-f", "-qq", "--seccomp-bpf", "-o", log, "-e", "trace=" + strings.Join(calls, ",")}, c.args...)
	if status != 0 {
		s.t.Fatalf("b9 %q: status %d\n%s", c.args, status, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		s.t.Fatal(err)
	}
	type thread struct{ id, call string }
	counts, most := map[thread]int{}, map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^(\d+) +(\w+)\(`).FindAllStringSubmatch(string(text), -1) {
		t := thread{m[1], m[2]}
		counts[t]++
		most[t.call] = max(most[t.call], counts[t])
	}
	for _, call := range calls {
		for n := range most[call] {
			for _, err := range faults[call] {
				all = append(all, fault{call, err, n + 1, ""})
			}
		}
	}
	return all
}

// choose picks as many faults as B9_FAULTS says, or all, from the seed B9_SEED.
func (s *faultSite) choose(all []fault) []fault {
	how := os.Getenv("B9_FAULTS")
	if how == "all" {
		return all
	}
	n, err := strconv.Atoi(how)
	if err != nil {
		n = 1
	}
	random := moments(s.t)
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

// state is what a user sees: each path with a text that changes with its content.
func (s *faultSite) state(c faultCase) map[string]string {
	state := map[string]string{}
	err := filepath.WalkDir(s.work, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(s.work, path)
		name := strings.TrimPrefix(rel, "ws/")
		if err != nil {
			return err
		}
		if d.IsDir() && (rel == "store" || rel == "cache" || name == "store2" || c.apart != "" && name == c.apart) {
			return filepath.SkipDir
		}
		switch {
		case d.Name() == ".placed": // it has times
			return nil
		case d.IsDir():
			state[rel] = "directory"
		case d.Type()&fs.ModeSymlink != 0:
			state[rel], err = os.Readlink(path)
		default:
			var data []byte
			data, err = os.ReadFile(path)
			state[rel] = fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return state
}

// mostWrong is how much one case tells of what is wrong.
const mostWrong = 10

// try runs the command with the fault, and then without. It returns how much was wrong.
func (s *faultSite) try(c faultCase, f fault) (mistakes int) {
	status, out := s.run(f.strace(filepath.Join(s.work, "ws")), c.args...)
	wrong := func(format string, args ...any) {
		s.t.Helper()
		mistakes++
		s.t.Errorf("b9 %q with %v of %q: status %d: %s\n%.3000s", c.args, f, f.path, status, fmt.Sprintf(format, args...), out)
	}
	now := s.state(c)
	for path, got := range now {
		old, had := s.old[path]
		fresh, has := s.made[path]
		if !(had && got == old) && !(has && got == fresh) {
			wrong("%s is neither the old one nor the new one, but %s", path, got)
		}
	}
	for path := range s.old {
		_, has := s.made[path]
		if _, ok := now[path]; has && !ok {
			wrong("%s is gone", path)
		}
	}
	if status == 0 && !maps.Equal(now, s.made) {
		wrong("not all is new")
	}
	if !maps.Equal(now, s.made) {
		if status, out := s.run(nil, c.args...); status != 0 {
			wrong("without the fault status %d: %s", status, out)
		}
		if now := s.state(c); !maps.Equal(now, s.made) {
			wrong("without the fault afterwards: %v, want %v", now, s.made)
		}
	}
	for _, args := range c.after {
		if status, out := s.run(nil, args...); status != 0 || strings.Contains(out, "damaged:") {
			wrong("b9 %q: status %d: %s", args, status, out)
		}
	}
	for _, pattern := range []string{"store/scratch/*", "ws/b9-out/.b9-*", "ws/elsewhere/.b9-*"} {
		if left, _ := filepath.Glob(filepath.Join(s.work, pattern)); len(left) > 0 && len(c.after) > 0 {
			wrong("left: %v", left)
		}
	}
	return mistakes
}

// moments are random numbers for the test: the same for the same B9_SEED, which it prints.
func moments(t *testing.T) *rand.Rand {
	seed, err := strconv.ParseUint(os.Getenv("B9_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("B9_SEED=%d", seed)
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
