package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRelease makes a release, of small programs in the place of b9, since two of those take
// minutes to compile, and does with it what docs/install.md tells those who have no compiler.
func TestRelease(t *testing.T) {
	if os.Getenv(longTests) == "" {
		t.Skip("B9_LONG_TESTS is not set")
	}
	dir := t.TempDir()
	b9, err := exec.LookPath("b9") // this test
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("B9", b9)
	t.Setenv("COMPILED", dir)
	compileSmall(t, dir)
	key, out := filepath.Join(dir, "key"), filepath.Join(dir, "dist")
	outputOf(t, dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", ".ci", "dist"), "release", out, key)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dist release: %v\n%s", err, said)
	}
	sums := outputOf(t, out, "cat", "SHA256SUMS")
	found := regexp.MustCompile(`(?m)  b9_(.+)_amd64\.deb$`).FindStringSubmatch(sums)
	if found == nil || strings.Count(sums, "\n") != 4 {
		t.Fatalf("SHA256SUMS is %s", sums)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if said := outputOf(t, out, "dpkg-deb", "-f", "b9_"+found[1]+"_"+arch+".deb", "Architecture"); strings.TrimSpace(said) != arch {
			t.Errorf("the package for %s says %s", arch, said)
		}
	}
	public, err := os.ReadFile(key + ".pub")
	if err == nil {
		err = os.WriteFile(filepath.Join(out, "allowed_signers"), append([]byte("b9 "), public...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(dir, "local")
	if err := os.Mkdir(local, 0o755); err != nil {
		t.Fatal(err)
	}
	told := strings.NewReplacer("VERSION", found[1], "/usr/local", local, "apt install", "apt-get -s --no-install-recommends install").Replace(withoutCompiler(t))
	if said, err := shell(t, out, told); err != nil {
		t.Fatalf("docs/install.md: %v\n%s", err, said)
	}
	if said := outputOf(t, out, filepath.Join(local, "bin", "b9")); said != "a small program\n" {
		t.Errorf("the archive's program says %q", said)
	}
	outputOf(t, out, "man", "-P", "cat", "-l", filepath.Join(local, "share/man/man1/b9-build.1.gz"))
	outputOf(t, out, "sed", "-i", "s/^./0/", "SHA256SUMS")
	if said, err := shell(t, out, told); err == nil {
		t.Errorf("another list of checksums is taken for the signed one: %s", said)
	}
}

// compileSmall compiles a program for both architectures.
func compileSmall(t *testing.T, dir string) {
	t.Helper()
	source := filepath.Join(dir, "small.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"a small program\\n\") }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CGO_ENABLED", "0")
	for _, arch := range []string{"amd64", "arm64"} {
		t.Setenv("GOARCH", arch)
		outputOf(t, ".", "go", "build", "-o", filepath.Join(dir, "b9-"+arch), source)
	}
}

// withoutCompiler is the commands of docs/install.md for those who have no compiler.
func withoutCompiler(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, told, _ := strings.Cut(string(text), "\n## Without a compiler\n")
	told, _, _ = strings.Cut(told, "\n## ")
	var commands strings.Builder
	for line := range strings.Lines(told) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			commands.WriteString(command)
		}
	}
	if n := strings.Count(commands.String(), "\n"); n != 4 {
		t.Fatalf("docs/install.md has %d commands:\n%s", n, commands.String())
	}
	return commands.String()
}

// shell runs commands until one fails.
func shell(t *testing.T, dir, commands string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-ex", "-c", commands)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}
