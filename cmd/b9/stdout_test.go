package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/session"
)

// mute stands before the arguments of a command that has no results to print.
const mute = "mute"

// prints has for every command arguments with which it prints results, if it ever does,
// and ends with status 0.
func prints() map[string][]string {
	return map[string][]string{
		"b9":                       {},
		"b9 build":                 {"//:a"},
		"b9 run":                   {"//:root", "--", "/bin/echo", "hello"},
		"b9 shell":                 {"//:root", "--", "/bin/echo", "hello"},
		"b9 query":                 {"//:a"},
		"b9 affected":              {"--since", "HEAD"},
		"b9 query deps":            {"//:image"},
		"b9 query rdeps":           {"//:a"},
		"b9 query options":         {"--json"},
		"b9 query kind":            {"file"},
		"b9 explain":               {"//:a"},
		"b9 log":                   {"-C", "pub", "//:base"},
		"b9 builds":                {"--all"},
		"b9 profile":               {},
		"b9 test":                  {"-C", "tested"},
		"b9 watch":                 {"//:a", "--builds", "1"},
		"b9 graph":                 {"//:a"},
		"b9 clean":                 {mute},
		"b9 cache":                 {},
		"b9 cache gc":              {},
		"b9 cache verify":          {},
		"b9 config":                {},
		"b9 config set":            {mute, "build.jobs", "2"},
		"b9 config check":          {mute},
		"b9 diff":                  {"x.raw", "x.raw"},
		"b9 doctor":                {"--json"},
		"b9 image":                 {},
		"b9 image info":            {"x.raw"},
		"b9 image convert":         {mute, "x.raw", "new.qcow2"},
		"b9 image resize":          {mute, "x.raw", "2M"},
		"b9 image partitions":      {"disk.raw"},
		"b9 image replace":         {mute, "disk.raw", "1", "small.raw"},
		"b9 image compare":         {"--json", "x.raw", "x.raw"},
		"b9 image check":           {"--json", "disk.raw"},
		"b9 builtins":              {},
		"b9 fmt":                   {"--json", "-C", "odd"},
		"b9 lsp":                   {mute},
		"b9 lint":                  {"--json", "B9BUILD.star"},
		"b9 init":                  {"-C", "new"},
		"b9 version":               {},
		"b9 ls":                    {"//:image"},
		"b9 cat":                   {"//:image:/a"},
		"b9 cp":                    {mute, "//:image:/a", "copy"},
		"b9 list":                  {"--json", "-r", "local"},
		"b9 push":                  {"--json", "base", "-r", "team"},
		"b9 pull":                  {"--json", "base", "-r", "team"},
		"b9 update":                {"--json"},
		"b9 repo":                  {},
		"b9 repo add":              {mute, "second", "repo"},
		"b9 repo remove":           {mute, "third"},
		"b9 repo list":             {},
		"b9 repo check":            {"--json", "team"},
		"b9 clean-local":           {},
		"b9 clean-remote":          {"-r", "team"},
		"b9 help":                  {},
		"b9 doc":                   {"--format", "markdown"},
		"b9 man":                   {mute, "pages"},
		"b9 completion":            {},
		"b9 completion bash":       {},
		"b9 completion fish":       {},
		"b9 completion powershell": {},
		"b9 completion zsh":        {},
	}
}

// TestStandardOutputThatTakesNothing runs every command with a standard output that is
// full, closed, or read by nobody. Nobody is told that all went well.
func TestStandardOutputThatTakesNothing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	s := newFaultSite(t)
	s.template = filepath.Join(s.work, "..", "printing")
	printing(s)
	nothingYet(t, filepath.Join(s.work, "ws"))
	s.copy(s.work, s.template)
	root := commands(session.New(nil, nil, nil))
	root.InitDefaultHelpCmd()
	rows := prints()
	each(root, func(cmd *cobra.Command) {
		args, ok := rows[cmd.CommandPath()]
		if !ok {
			t.Errorf("%s is not in the table", cmd.CommandPath())
		}
		delete(rows, cmd.CommandPath())
		t.Run(strings.ReplaceAll(cmd.CommandPath(), " ", "-"), func(t *testing.T) {
			s := *s
			s.t = t
			words := strings.Fields(cmd.CommandPath())[1:]
			if len(args) > 0 && args[0] == mute {
				s.printNothing(append(words, args[1:]...))
				return
			}
			s.printInto(append(words, args...))
		})
	})
	if len(rows) > 0 {
		t.Errorf("in the table, and no commands: %v", slices.Collect(maps.Keys(rows)))
	}
}

// printing makes what the commands of the table work on.
func printing(s *faultSite) {
	s.t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		s.t.Skipf("no /bin/busybox (Debian package busybox-static): %v", err)
	}
	for name, data := range map[string][]byte{"busybox": busybox, "x.raw": make([]byte, 1<<20), "new/keep": nil, "odd/x.star": []byte("x=1\n"), "tested/rules_test.star": []byte("def test_nothing():\n    pass\n"), "B9BUILD.star": []byte(`
a = file(name = "a", content = "a")
image(name = "image", fs = "vfat", size = "2M", content = tree(files = {"a": a}))
image(name = "root", size = "8M", content = tree(files = {"bin/busybox": "busybox"}, links = {"bin/echo": "busybox"}, modes = {"bin/busybox": "0755"}, dirs = ["proc", "sys", "dev"]))
`)} {
		path := filepath.Join(s.work, "ws", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o755)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.must("repo", "add", "third", "repo")
	s.must("-C", "pub", "build", "//:base")
	s.must("push", "base", "-r", "team")
	s.must("build", "//use:used", "//:image", "//:root")
}

// printInto runs b9 with each kind of standard output that takes nothing.
func (s *faultSite) printInto(args []string) {
	s.copy(s.template, s.work)
	if status, out := s.run([]string{"sh", "-c", `exec "$@" 2>/dev/null`, "sh"}, args...); status != 0 || out == "" {
		s.t.Fatalf("b9 %q: status %d, printed %q", args, status, out)
	}
	for _, to := range []struct{ shell, says string }{
		{`exec "$@" >/dev/full`, "write /dev/stdout: no space left on device\n"},
		{`exec "$@" >&-`, "write /dev/stdout: bad file descriptor\n"},
	} {
		status, out := s.run([]string{"sh", "-c", to.shell, "sh"}, args...)
		if status == 0 || !strings.HasSuffix(out, to.says) {
			s.t.Errorf("b9 %q, as %s: status %d: %s", args, to.shell, status, out)
		}
	}
	s.intoNobody(args)
}

// printNothing runs b9 without a standard output, which it does not need.
func (s *faultSite) printNothing(args []string) {
	s.copy(s.template, s.work)
	if status, out := s.run([]string{"sh", "-c", `exec "$@" >&-`, "sh"}, args...); status != 0 {
		s.t.Errorf("b9 %q without standard output: status %d: %s", args, status, out)
	}
	s.copy(s.template, s.work)
	if status, out := s.run([]string{"sh", "-c", `exec "$@" 2>/dev/null`, "sh"}, args...); status != 0 || out != "" {
		s.t.Errorf("b9 %q: status %d, printed %q", args, status, out)
	}
}

// intoNobody runs b9 with a pipe that nobody reads: it ends by SIGPIPE, as others do,
// and leaves no control group.
func (s *faultSite) intoNobody(args []string) {
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd, messages := s.command(nil, args...)
	cmd.Stdout = w
	err = cmd.Run()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ok || !status.Signaled() || status.Signal() != syscall.SIGPIPE || strings.Contains(messages.String(), "pipe") {
		s.t.Errorf("b9 %q into a pipe that nobody reads: %v\n%s", args, err, messages)
	}
	for _, pattern := range []string{"b9.%d.*", "*/b9.%d.*"} {
		if left, _ := filepath.Glob("/sys/fs/cgroup/" + fmt.Sprintf(pattern, cmd.Process.Pid)); len(left) > 0 {
			s.t.Errorf("b9 %q left %v", args, left)
		}
	}
}
