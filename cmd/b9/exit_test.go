package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
)

// usage is what a command takes, for the tests that walk over all commands.
type usage struct {
	args    []string   // that are right
	targets bool       // args begins with a target
	wrong   [][]string // arguments that are a mistake in the command line
}

// usages has a row for every command that runs.
func usages() map[string]usage {
	no := func(args ...string) [][]string { return [][]string{args} }
	return map[string]usage{
		"b9":                  {wrong: no("biuld")},
		"b9 build":            {[]string{"//:a"}, true, [][]string{{}, {"//:a", "--display", "loud"}, {"//:a", "-j", "-1"}, {"//:a", "-j", "x"}, {"//:a", "--backend", "nspawned"}, {"//:a", "--on-error", "shel"}, {"//:a", "--on-error", "shell"}, {"shared:"}, {"//:a", "@lib//:x"}}},
		"b9 query":            {[]string{"//:a"}, true, [][]string{{"depz", "//:a"}, {"deps(//:a"}, {"//:a", "--output", "xml"}, {"owner(/etc/passwd)"}, {"filter(\"(\", //:a)"}, {"kind(\"(\", //:a)"}, {"attr(name, \"(\", //:a)"}, {"some(//:a, 0)"}, {"deps(//:a, -1)"}}},
		"b9 query options":    {[]string{"//:a"}, true, no("//:a", "--output", "xml")},
		"b9 run":              {[]string{"//:a"}, true, [][]string{{}, {"//:a", "//:b"}, {"//:a", "--display", "loud"}, {"//...", "--", "true"}, {"//:a", "--env", "=x"}, {"//:a", "--env", "NOT_SET_ANYWHERE"}, {"//:a", "--network", "hots"}, {"//:a", "--share", "x"}, {"//:a", "--share", ".:/"}, {"//:a", "--share", "nowhere:/x"}, {"//:a", "--memory", "0"}, {"//:a", "--memory", "4Q"}, {"//:a", "--forward", "x"}, {"//:vm", "--network", "bridge:"}, {"//:vm", "--persist", "--snapshot"}, {"//:vm", "--forward", "80"}, {"//:vm", "--forward", "1:70000"}, {"//:vm", "--ssh", "--network", "none"}, {"//:vm", "--forward", "80:80", "--network", "bridge:br0"}, {"//:vm", "--share", "nowhere"}, {"//:vm", "--share", ".:/x", "--ssh"}, {"//:vm", "--memory", "1K", "--gdb"}}},
		"b9 shell":            {[]string{"//:a"}, true, [][]string{{"//:a", "//:b"}, {}, {"//:a", "--backend", "nspawned"}, {"//:a", "--env", "=x"}, {"//:a", "--env", "NOT_SET_ANYWHERE"}, {"//:a", "--network", "hots"}, {"//:a", "--share", "x"}, {"//:a", "--share", ".:/"}, {"//:a", "--share", "nowhere:/x"}, {"//:a", "--memory", "0"}, {"//:a", "--memory", "4Q"}}},
		"b9 affected":         {wrong: [][]string{{}, {"--since", "HEAD", "--output", "xml"}, {"--since", "HEAD", "//:nothing"}, {"--since", "HEAD", "//a//b"}}},
		"b9 query deps":       {[]string{"//:a"}, true, no()},
		"b9 query rdeps":      {[]string{"//:a"}, true, no()},
		"b9 query kind":       {[]string{"file"}, false, [][]string{{}, {"flie"}, {"file", "//:nothing"}, {"file", "//a//b"}}},
		"b9 explain":          {[]string{"//:a"}, true, [][]string{{}, {"//:a", "--display", "loud"}, {"//:a", "-j", "-1"}}},
		"b9 log":              {[]string{"//:a"}, true, [][]string{{"//:a", "//:b"}, {"//:a", "--json"}, {"20200101-000000", "//:a", "//:b"}}},
		"b9 graph":            {[]string{"//:a"}, true, [][]string{{}, {"//:a", "--format", "pdf"}}},
		"b9 watch":            {[]string{"//:a"}, true, [][]string{{}, {"//:a", "--builds", "-1"}, {"//:a", "-j", "x"}}},
		"b9 test":             {wrong: [][]string{{"//..."}, {"//:a"}, {"nothing_test.star"}, {"//nowhere/..."}, {"--filter", "("}, {"-j", "x"}, {"--display", "loud"}, {"-D", "x"}}},
		"b9 profile":          {wrong: [][]string{{"a", "b"}, {"--format", "pdf"}}},
		"b9 builds":           {wrong: [][]string{{"x"}, {"-n", "-1"}}},
		"b9 clean":            {wrong: no("x")},
		"b9 cache":            {wrong: no("x")},
		"b9 cache gc":         {wrong: [][]string{{"x"}, {"--max-size", "0"}, {"--max-size", "4Q"}, {"--max-age", "soon"}}},
		"b9 cache verify":     {wrong: no("x")},
		"b9 config":           {wrong: [][]string{{"x"}, {"build.jobs", "1", "2"}, {"build.jobs", "many"}, {"build.jobs", "--user"}, {"chekc"}}},
		"b9 config set":       {[]string{"build.jobs", "2"}, false, [][]string{{"build.jobs"}, {"build.jbos", "2"}, {"build.jobs", "many"}, {"build.verbosity", "loud"}, {"container.memory", "4Q"}, {"repositories.x", "ftp://x/y"}, {"build.jobs", "2", "--user", "--workspace"}}},
		"b9 config check":     {wrong: no("x")},
		"b9 diff":             {[]string{"//:a", "//:a"}, true, [][]string{{"//:a"}, {"x.raw", "nothing.raw"}, {"x.raw", "x.raw", "-f", "rwa"}}},
		"b9 doctor":           {wrong: no("x")},
		"b9 image":            {wrong: no("inof")},
		"b9 image info":       {[]string{"x.raw"}, false, [][]string{{}, {"x.raw", "y"}, {"x.raw", "-f", "rwa"}, {"x.raw", "--backing", "base.raw"}}},
		"b9 image convert":    {[]string{"x.raw", "y.qcow2"}, false, [][]string{{"x.raw"}, {"x.raw", "y.unknown"}, {"x.raw", "y", "-O", "qcow3"}, {"x.raw", "y.qcow2", "--compress", "lzma"}, {"x.raw", "y.vmdk", "--subformat", "x"}, {"x.raw", "y.vmdk", "--adapter", "x"}, {"x.raw", "y.raw", "--compress", "zstd"}, {"x.raw", "y.qcow2", "--onto", "x.raw"}, {"x.raw", "y.qcow2", "--onto", "qcow3:x.raw"}}},
		"b9 image resize":     {[]string{"x.raw", "2M"}, false, [][]string{{"x.raw"}, {"x.raw", "2Q"}, {"x.raw", "+"}, {"x.raw", "2M", "-f", "rwa"}}},
		"b9 image partitions": {[]string{"x.raw"}, false, [][]string{{}, {"x.raw", "--sector", "7"}, {"x.raw", "-f", "rwa"}}},
		"b9 image replace":    {[]string{"x.raw", "1", "x.raw"}, false, [][]string{{"x.raw"}, {"x.raw", "1", "x.raw", "-f", "rwa"}}},
		"b9 image compare":    {[]string{"x.raw", "x.raw"}, false, [][]string{{"x.raw"}, {"x.raw", "x.raw", "-f", "rwa"}, {"x.raw", "x.raw", "-F", "rwa"}}},
		"b9 image check":      {[]string{"x.raw"}, false, [][]string{{}, {"x.raw", "-f", "rwa"}}},
		"b9 builtins":         {wrong: [][]string{{"imgae"}, {"image", "file"}}},
		"b9 fmt":              {wrong: [][]string{{"nothing.star"}, {"b9.toml"}}},
		"b9 lsp":              {wrong: no("x")},
		"b9 lint":             {wrong: [][]string{{"nothing.star"}, {"b9.toml"}}},
		"b9 init":             {wrong: [][]string{{"x"}, {"--template", "mashine"}}},
		"b9 version":          {wrong: no("x")},
		"b9 ls":               {[]string{"//:a"}, true, [][]string{{}, {"nothing.raw"}, {"//:image", "/etc"}, {":/etc"}, {"//:image", "-f", "rwa"}}},
		"b9 cat":              {[]string{"//:a"}, true, [][]string{{}, {"nothing.raw:/x"}, {"//:image", "/etc"}}},
		"b9 cp":               {[]string{"//:a", "."}, true, [][]string{{}, {"//:image:/x"}, {"nothing.raw:/x", "."}, {"//:a:/x", "//:a:/y", "nowhere"}}},
		"b9 list":             {wrong: [][]string{{"a", "b"}, {"no/name"}, {"-r", "nowhere"}}},
		"b9 push":             {[]string{"base"}, false, [][]string{{}, {"a", "b"}, {"no/name"}, {"base@no/version"}}},
		"b9 pull":             {[]string{"base"}, false, [][]string{{"a", "b"}, {"a", "-r", "nowhere"}, {"base", "-r", "local"}}},
		"b9 update":           {wrong: [][]string{{"a", "b"}, {"no/name"}}},
		"b9 repo":             {wrong: no("adr")},
		"b9 repo add":         {[]string{"team", "/nowhere"}, false, [][]string{{"team"}, {"no/name", "/x"}, {"team", "ftp://x/y"}}},
		"b9 repo remove":      {[]string{"team"}, false, [][]string{{}, {"team"}, {"local"}}},
		"b9 repo list":        {wrong: no("x")},
		"b9 repo check":       {wrong: [][]string{{"a", "b"}, {"nowhere"}}},
		"b9 clean-local":      {wrong: [][]string{{"x"}, {"--keep", "0"}}},
		"b9 clean-remote":     {wrong: [][]string{{"x"}, {"-r", "nowhere"}, {"-r", "local"}, {"--steps", "-2"}}},
		"b9 help":             {wrong: no("biuld")},
		"b9 doc":              {wrong: [][]string{{"imge"}, {"@b9//bot.star"}, {"//none.star"}, {"x.star", "f"}, {"image", "name"}, {"--format", "xml"}, {"a", "b", "c"}}},
		"b9 man":              {wrong: [][]string{{}, {"a", "b"}}},

		"b9 completion":            {wrong: no("x")},
		"b9 completion bash":       {wrong: no("x")},
		"b9 completion fish":       {wrong: no("x")},
		"b9 completion powershell": {wrong: no("x")},
		"b9 completion zsh":        {wrong: no("x")},
	}
}

// each calls visit for every command that runs.
func each(root *cobra.Command, visit func(cmd *cobra.Command)) {
	if root.Runnable() {
		visit(root)
	}
	for _, c := range root.Commands() {
		each(c, visit)
	}
}

// site is a workspace with a store of its own, in which commands run.
type site struct {
	*testing.T
	dir, store string
}

func newSite(t *testing.T, files map[string]string) *site {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("SOURCE_DATE_EPOCH", "")
	t.Setenv("USER", "somebody")
	s := &site{t, filepath.Join(t.TempDir(), "ws"), filepath.Join(t.TempDir(), "store")}
	for name, text := range files {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// b9 runs the program in the workspace.
func (s *site) b9(args ...string) (status int, stdout, stderr string) {
	s.Helper()
	return s.inside(append([]string{"-C", s.dir, "--store", s.store}, args...)...)
}

// inside runs the program with these arguments alone.
func (s *site) inside(args ...string) (status int, stdout, stderr string) {
	s.Helper()
	var out, errs bytes.Buffer
	status = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// TestMistakesInTheCommandLine makes each kind of mistake with each command: the
// status is 2, standard output stays empty, and a sentence says what is wrong.
func TestMistakesInTheCommandLine(t *testing.T) {
	s := newSite(t, map[string]string{
		"b9.toml":      "",
		"B9BUILD.star": "file(name = \"a\", content = \"x\")\nfile(name = \"b\", content = \"y\")\nimage(name = \"image\", size = \"1M\", fs = \"vfat\")\nvirtual_machine(name = \"vm\", disks = [\":image\"])\n",
		"x.raw":        strings.Repeat("\x00", 1<<20),
	})
	rows := usages()
	seen := 0
	root := commands(session.New(nil, nil, nil))
	root.InitDefaultHelpCmd()
	each(root, func(cmd *cobra.Command) {
		u, ok := rows[cmd.CommandPath()]
		if !ok {
			t.Errorf("%s is not in the table of commands", cmd.CommandPath())
			return
		}
		seen++
		words := strings.Fields(cmd.CommandPath())[1:]
		for _, wrong := range mistakes(cmd, u) {
			args := append(append([]string{}, words...), wrong...)
			status, out, errs := s.b9(args...)
			if status != exit.WrongUsage || out != "" && !slices.Contains(args, "--json") || errs == "" || !strings.HasPrefix(errs, "b9: ") && !strings.Contains(errs, ".star:") {
				t.Errorf("b9 %q: status %d, want 2\nstandard output: %s\nstandard error: %s", args, status, out, errs)
			}
		}
	})
	if seen != len(rows) {
		t.Errorf("%d commands are in the table and %d in the program", len(rows), seen)
	}
}

// mistakes lists arguments of a command that are wrong, one way each.
func mistakes(cmd *cobra.Command, u usage) [][]string {
	with := func(more ...string) []string { return append(append([]string{}, u.args...), more...) }
	all := append([][]string{
		with("--no-such-flag"), with("--json=perhaps"), with("-c"), with("-c", "container.memory"),
		with("-c", "container.memroy=1G"), with("-c", "container.memory=much"), with("-C", "/no/such/directory"),
	}, u.wrong...)
	if cmd.Flag("define") != nil {
		all = append(all, with("-D", "x"), with("-D", "=x"), with("-D", "nobody=declares"))
	}
	if u.targets {
		for _, bad := range []string{"//:nothing", "//nowhere:x", "//nowhere/...", "//:a[out]", "//a//b", "//..:x", "//:", "//a:b:c", "//nowhere.star:x"} {
			all = append(all, append([]string{bad}, u.args[1:]...))
		}
	}
	return all
}

// TestEmptyFlags gives every flag that takes a text an empty one, with every command.
func TestEmptyFlags(t *testing.T) {
	s := newSite(t, map[string]string{"b9.toml": "", "B9BUILD.star": "file(name = \"a\", content = \"x\")\n"})
	rows := usages()
	each(commandsOf(t), func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() != "string" {
				return
			}
			args := slices.Concat(path, []string{"--" + f.Name + "="}, rows[cmd.CommandPath()].args)
			if status, out, errs := s.inside(append([]string{"-C", s.dir}, args...)...); status != 2 || out != "" || !strings.Contains(errs, "--"+f.Name+" has an empty value: want ") {
				t.Errorf("b9 %q: status %d, %s%s", args, status, out, errs)
			}
		})
	})
}

// TestStatuses ends with every other status of the table.
func TestStatuses(t *testing.T) {
	s := newSite(t, map[string]string{
		"b9.toml":      "",
		"B9BUILD.star": "file(name = \"a\", content = \"x\")\nresize(image(size = \"64M\"), \"64K\", name = \"fails\")\n",
		"bad.star":     "file(name = 1)\n",
		"x.raw":        strings.Repeat("\x00", 1<<20),
		"y.raw":        strings.Repeat("\x01", 1<<20),
	})
	for _, c := range []struct {
		want int
		args string
	}{
		{exit.WouldRun, "explain --exit-code //:a"},
		{exit.OK, "explain //:a"},
		{exit.WouldRun, "explain --exit-code --json //:a"},
		{exit.OK, "build //:a"},
		{exit.OK, "explain --exit-code //:a"},
		{exit.Failed, "build //:fails"},
		{exit.Failed, "build bad.star:x"},
		{exit.Failed, "build bad.star:x //:nothing"},
		{exit.Failed, "image info nothing.raw"},
		{exit.OK, "image compare x.raw x.raw"},
		{exit.Different, "image compare x.raw y.raw"},
		{exit.Different, "image compare --json x.raw y.raw"},
		{exit.Trouble, "image compare x.raw nothing.raw"},
		{exit.OK, "diff x.raw x.raw"},
		{exit.Different, "diff x.raw y.raw"},
		{exit.Different, "diff --json x.raw //:a"},
		{exit.Trouble, "diff x.raw //:fails"},
		{exit.Trouble, "diff x.raw nothing.raw"},
		{exit.OK, "help build"},
		{exit.OK, "image"},
	} {
		if status, out, errs := s.b9(strings.Fields(c.args)...); status != c.want {
			t.Errorf("b9 %s: status %d, want %d\n%s%s", c.args, status, c.want, out, errs)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errInterrupted)
	var out bytes.Buffer
	if status := run(ctx, []string{"-C", s.dir, "--store", s.store, "build", "//:fails"}, strings.NewReader(""), &out, &out); status != exit.Interrupted {
		t.Errorf("interrupted: status %d\n%s", status, out.String())
	}
}

// meaning is one row of the table of exit statuses.
type meaning struct {
	Status string // a number, or who chooses it
	Of     string // the commands that end with it
	When   string
}

// meanings is the table that the README and docs/output.md show.
func meanings() []meaning {
	return []meaning{
		{"0", "every command", "what was asked for is done"},
		{"1", "every command", "a step failed, a build file is wrong, or something else could not be done; `doctor`: builds will not work here; `cache verify`, `repo check`, `image check`: there is damage; `fmt --check`, `fmt --diff`, `lint`: something would change, or is suspicious; `test`: a test failed"},
		{"2", "every command", "the command line or the configuration is wrong: an unknown command, flag, target, pattern, option or repository, or a value that is not allowed"},
		{"3", "`explain --exit-code`", "a step would run"},
		{"0, 1, 2", "`diff`, `image compare`", "as cmp: the same, different, not to be compared"},
		{"the command's", "`run`, `shell`", "a command ran in the image; 128 and the number after a signal"},
		{"126", "`run`, `shell`", "the command can't be executed"},
		{"127", "`run`, `shell`", "the command is not in the image"},
		{"130", "every command", "interrupted by SIGINT, SIGTERM or SIGHUP"},
		{"141", "every command", "nobody reads standard output any longer: killed by SIGPIPE, without a message"},
	}
}

// markdown is the table as the documentation has it.
func markdown() string {
	var b strings.Builder
	b.WriteString("| Status | Commands | When |\n|---|---|---|\n")
	for _, m := range meanings() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.Status, m.Of, m.When)
	}
	return b.String()
}

// TestStatusesAreDocumented compares the documentation with the table.
func TestStatusesAreDocumented(t *testing.T) {
	for _, name := range []string{"README.md", filepath.Join("docs", "output.md")} {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), markdown()) {
			t.Errorf("%s does not have this table:\n%s", name, markdown())
		}
	}
}
