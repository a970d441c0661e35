package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/session"
)

// outputOf runs a program, which has to succeed and say nothing on standard error.
func outputOf(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var said strings.Builder
	cmd.Dir, cmd.Stderr = dir, &said
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return v == "SOURCE_DATE_EPOCH=" }) // which troff refuses
	out, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return string(out)
}

// TestManual reads every manual page with the program that shows them.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, map[string]string{"b9.toml": ""})
	if status, _, stderr := s.b9("man", dir); status != 0 {
		t.Fatal(stderr)
	}
	pages, _ := filepath.Glob(filepath.Join(dir, "man*", "*"))
	commands := 2 // b9.toml and B9BUILD.star
	each(commandsOf(t), func(cmd *cobra.Command) {
		if cmd.IsAvailableCommand() && !strings.HasPrefix(cmd.CommandPath(), "b9 completion") || cmd.CommandPath() == "b9" {
			commands++
		}
	})
	if len(pages) != commands {
		t.Errorf("%d pages, want %d: %v", len(pages), commands, pages)
	}
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("MANWIDTH", "90")
	for _, page := range pages {
		outputOf(t, dir, "man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)
	}
	build := outputOf(t, dir, "man", "-P", "cat", "-l", filepath.Join(dir, "man1", "b9-build.1"))
	for _, want := range []string{"build targets and put the results into b9-out/", "-j, --jobs=N", "b9 build --tags=-slow -- //... -//old/..."} {
		if !strings.Contains(build, want) {
			t.Errorf("b9-build(1) does not say %q:\n%s", want, build)
		}
	}
	settings := outputOf(t, dir, "man", "-P", "cat", "-l", filepath.Join(dir, "man5", "b9.toml.5"))
	if !strings.Contains(settings, "build.keep_going") || !strings.Contains(settings, "default false") {
		t.Errorf("b9.toml(5) lacks a setting:\n%s", settings)
	}
}

func commandsOf(t *testing.T) *cobra.Command {
	t.Helper()
	return commands(session.New(nil, nil, nil))
}

// TestCompletion asks, as the shells do, what can stand at the end of a command line.
func TestCompletion(t *testing.T) {
	files := map[string]string{
		"b9.toml":             "",
		"B9BUILD.star":        "option(\"size\", default = \"16M\", help = \"x\")\nimage(name = \"root\", content = tree(files = {\"etc/motd\": file(content = \"x\")}), size = \"16M\")\nfile(name = \"a\", content = \"\")\n",
		"web/B9BUILD.star":    "file(name = \"disk\", content = \"\")\n",
		"broken/B9BUILD.star": "file(\n",
	}
	s := newSite(t, files)
	if status, _, stderr := s.b9("build", "//:root"); status != 0 {
		t.Fatal(stderr)
	}
	tests := []struct{ line, want string }{
		{"build //", "//:a //:root //web:disk :4"},
		{"build -- //web", "//web:disk :4"},
		{"build :r", ":root :4"},
		{"build --rerun //w", "//web:disk :4"},
		{"run //:root x", ":4"},
		{"query rdeps //:a //w", "//web:disk :4"},
		{"query kind ta", ":4"},
		{"query kind tr", "tree :4"},
		{"builtins partit", "partition :4"},
		{"cat //:root:/e", "//:root:/etc/ :6"},
		{"cat //:root:/etc/", "//:root:/etc/motd :6"},
		{"cat //:a:/", ":6"},
		{"ls b9-out/root.raw:/etc/m", "b9-out/root.raw:/etc/motd :6"},
		{"build -D s", "size= :6"},
		{"-c results.", "results.place= :6"},
		{"config results.", "results.place :4"},
		{"doc @b9//bo", "@b9//boot.star :0"},
		{"diff //:r", "//:root :4"},
		{"build --place ", "copy link none :4"},
		{"build --backend ", "embedded libvirt-lxc :4"},
		{"query --output ", "table label label_kind location graph json :4"},
		{"help upd", "update :4"},
		{"help repo a", "add :4"},
		{"image info b", ":0"},
		{"build -C w", ":16"},
		{"image resize x.raw 1", ":4"},
		{"version x", ":4"},
		{"lsp ", ":4"},
	}
	for _, test := range tests {
		if got := s.offered(test.line); got != test.want {
			t.Errorf("b9 %s: offered is %q, want %q", test.line, got, test.want)
		}
	}
}

// TestCompletionStaysHere completes places in what is not built, and asks nobody elsewhere
// about it: neither an archive nor the cache of steps.
func TestCompletionStaysHere(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			asked.Add(1)
		}
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of what is no HTTP
	server.Start()
	defer server.Close()
	at := server.Listener.Addr().String()
	s := newSite(t, map[string]string{
		"b9.toml":      "[repositories]\nteam = \"ssh://nobody@" + at + "/srv\"\n[shared]\ncache = \"team\"\n",
		"B9BUILD.star": "tree(name = \"a\", files = {})\nbootstrap(name = \"os\", suite = \"trixie\", mirror = \"http://" + at + "/debian\")\n",
	})
	for _, target := range []string{"//:a", "//:os"} {
		if _, _, stderr := s.b9("explain", target); asked.Swap(0) == 0 {
			t.Fatalf("explain %s asked nobody: %s", target, stderr)
		}
		if got := s.offered("cat " + target + ":/"); got != ":6" || asked.Load() != 0 {
			t.Errorf("cat %s:/: offered is %q, after %d connections", target, got, asked.Swap(0))
		}
	}
}

// TestCompletionOfMany offers packages where there are many labels.
func TestCompletionOfMany(t *testing.T) {
	s := newSite(t, map[string]string{
		"b9.toml": "", "a/B9BUILD.star": "file(name = \"a\", content = \"\")\n",
		"many/B9BUILD.star": "[file(name = \"t%d\" % i, content = \"\") for i in range(200)]\n",
	})
	for line, want := range map[string]string{"build /": "//a: //many: :6", "build //many:t19": "//many:t19 " + numbered("//many:t19", 10) + " :4"} {
		if got := s.offered(line); got != want {
			t.Errorf("b9 %s: offered is %q, want %q", line, got, want)
		}
	}
}

// numbered is a word with the numbers below n behind it, one after another.
func numbered(word string, n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(word, i))
	}
	return strings.Join(list, " ")
}

// offered is what b9 offers at the end of a command line.
func (s *site) offered(line string) string {
	words := strings.Split(line, " ")
	_, out, _ := s.b9(append([]string{"__complete"}, words...)...)
	return strings.Join(strings.Fields(out), " ")
}

// TestCompletionIsComplete finds words in usages that the completion does not know.
func TestCompletionIsComplete(t *testing.T) {
	known := []string{"TARGET", "PATTERN", "PLACE", "BUILTIN", "KEY", "VALUE", "COMMAND", "NAME", "LIBRARY", "FUNCTION", "BUILD", "SIZE", "PARTITION",
		"FILE", "DIRECTORY", "-", "SOURCE", "DESTINATION", "DISK", "LOCATION", "DIR"}
	each(commandsOf(t), func(cmd *cobra.Command) {
		if strings.HasPrefix(cmd.CommandPath(), "b9 completion") {
			return
		}
		for _, word := range argumentWords(cmd.Use) {
			found := false
			for _, k := range known {
				found = found || strings.TrimSuffix(word, "...") == k
			}
			if !found {
				t.Errorf("%s: nothing is known of %s (argument in completion.go)", cmd.CommandPath(), word)
			}
		}
	})
}

// TestDistribution installs b9, and makes its Debian package twice: lintian has nothing
// to say of it, the bytes are equal, and shells complete with what lies in it.
func TestDistribution(t *testing.T) {
	if os.Getenv("B9_LONG_TESTS") == "" {
		t.Skip("B9_LONG_TESTS is not set")
	}
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	b9 := filepath.Join(dir, "b9")
	outputOf(t, ".", "go", "build", "-tags", "libvirt_dlopen", "-trimpath", "-buildvcs=false", "-o", b9, ".")
	dist := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, ".ci", "dist"), args...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("dist %s: %v\n%s", args[0], err, out)
		}
		return string(out)
	}
	at := filepath.Join(dir, "usr")
	dist("install", b9, at)
	for _, name := range []string{"bin/b9", "share/man/man1/b9-build.1.gz", "share/man/man5/b9.toml.5.gz", "share/doc/b9/LICENSE"} {
		if _, err := os.Stat(filepath.Join(at, name)); err != nil {
			t.Error(err)
		}
	}
	completesIn(t, at)
	var packages []string
	for _, name := range []string{"one", "two"} {
		dist("deb", b9, "amd64", filepath.Join(dir, name))
		found, _ := filepath.Glob(filepath.Join(dir, name, "b9_*_amd64.deb"))
		if len(found) != 1 {
			t.Fatalf("made is %v", found)
		}
		packages = append(packages, found[0])
	}
	outputOf(t, dir, "cmp", packages...)
	if said := outputOf(t, dir, "lintian", "--allow-root", packages[0]); said != "" {
		t.Errorf("lintian: %s", said)
	}
	outputOf(t, dir, "dpkg-deb", "-x", packages[0], filepath.Join(dir, "root"))
	if said := outputOf(t, dir, filepath.Join(dir, "root/usr/bin/b9"), "version"); !strings.HasPrefix(said, "b9 ") {
		t.Errorf("the packaged program says %q", said)
	}
}

// completesIn has three shells read the completions below a directory, and one complete.
func completesIn(t *testing.T, at string) {
	t.Helper()
	outputOf(t, at, "zsh", "-n", "share/zsh/site-functions/_b9")
	outputOf(t, at, "fish", "--no-execute", "share/fish/completions/b9.fish")
	t.Setenv("PATH", filepath.Join(at, "bin")+":"+os.Getenv("PATH"))
	script := `compopt() { :; }
. /usr/share/bash-completion/bash_completion
. share/bash-completion/completions/b9
COMP_LINE="b9 builtins partit" COMP_POINT=18 COMP_TYPE=9 COMP_WORDS=(b9 builtins partit) COMP_CWORD=2
__start_b9
echo "${COMPREPLY[@]}"`
	if said := outputOf(t, at, "bash", "-c", script); strings.TrimSpace(said) != "partition" {
		t.Errorf("bash completes to %q", said)
	}
}
