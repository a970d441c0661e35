package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/cmd/b9/internal/unit"
	"b9.build/b9/engine"
)

// Test is `b9 test`.
func Test(p *session.Program) *cobra.Command {
	t := tester{kinds: testKinds()}
	var f Flags
	filter := ""
	cmd := &cobra.Command{
		Use:  "test [PATTERN...]",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if t.filter, err = regexp.Compile(filter); err != nil {
				return exit.Usagef("--filter %s: %w", filter, err)
			}
			if len(args) == 0 {
				args = []string{"//..."}
			}
			return p.With(func(ctx context.Context, s *session.Session, args []string) error {
				t.maker = &maker{Session: s, Request: Request{Flags: f, Patterns: args, ReadOnly: true}}
				return t.run(ctx)
			}, f.Configure)(cmd, args)
		},
	}
	f.Register(cmd)
	HideOut(cmd)
	cmd.Flags().StringVar(&filter, "filter", "", "run only the tests whose labels match the regular expression `REGEXP`")
	cmd.Flags().StringVar(&t.junit, "junit", "", "write the results to `FILE`, too, in the XML of JUnit")
	cmd.Flags().BoolVar(&t.update, "update", false, "write the files *"+lang.Golden+" anew that tests compare mistakes with")
	return cmd
}

// testKind is a kind of tests.
type testKind struct {
	name    string
	builtin string // targets that it makes are tests, which pass if they can be built; "" for functions of files *_test.star
}

// testKinds is the table of all kinds.
func testKinds() []testKind {
	return []testKind{
		{name: "unit"},
		{name: "boot", builtin: "boot_test"},
	}
}

// tester is one run of tests.
type tester struct {
	*maker
	kinds  []testKind
	filter *regexp.Regexp
	junit  string
	update bool

	mistakes error // of build files, beside which there are tests; nil for none
	left     []lang.LeftOut
}

// test is one test: steps that are done if it passes.
type test struct {
	output.Test
	refs []engine.Ref
	node *engine.Node
}

func (t *tester) run(ctx context.Context) error {
	t.started = time.Now()
	if err := t.removeJUnit(); err != nil {
		return err
	}
	t.Config.Results.Place = unplaced
	ws, err := t.Workspace(ctx, t.evaluation(nil))
	if err != nil {
		return err
	}
	tests, err := t.find(ctx, ws)
	if err != nil {
		return err
	}
	if len(tests) == 0 && t.mistakes == nil {
		return exit.Usagef("no tests%s in %s: tests are functions %s* of files *%s%s", t.filtered(), strings.Join(t.Patterns, " "), unit.Prefix, lang.TestSuffix, t.builtins())
	}
	if t.update {
		if err := t.updateFiles(ctx, tests); err != nil {
			return err
		}
	}
	end, err := t.begin()
	if err != nil {
		return err
	}
	err = t.runAll(ctx, ws, tests)
	return errors.Join(err, end(ctx, err))
}

// filtered says which tests are wanted, for a message.
func (t *tester) filtered() string {
	if t.filter.String() == "" {
		return ""
	}
	return fmt.Sprintf(" that match %q", t.filter)
}

// builtins lists those whose targets are tests, for a message.
func (t *tester) builtins() string {
	text := ""
	for _, k := range t.kinds {
		if k.builtin != "" {
			text += ", and targets of " + k.builtin + "()"
		}
	}
	return text
}

// find finds the tests that the patterns stand for: first those of files, each file's in
// its order, then targets.
func (t *tester) find(ctx context.Context, ws *session.Workspace) ([]*test, error) {
	var files chosenTests
	var targets []string
	one := map[string]bool{}
	for _, pattern := range t.Patterns {
		text, without := strings.CutPrefix(pattern, "-")
		c, err := ws.Suffixed(ctx, text, lang.TestSuffix)
		if err != nil {
			return nil, err
		}
		if c.Targets {
			targets = append(targets, pattern)
			one[pattern] = c.One && !without
		}
		for _, file := range c.Files {
			files.choose(file, c.Name, without)
		}
	}
	var tests []*test
	for _, file := range files {
		found, err := t.inFile(ws, file)
		if err != nil {
			return nil, err
		}
		tests = append(tests, found...)
	}
	of, err := t.targets(ctx, ws, targets, one)
	tests = slices.DeleteFunc(append(tests, of...), func(x *test) bool { return !t.filter.MatchString(x.Label) })
	return tests, err
}

// chosenTests are the files of which tests are wanted.
type chosenTests []*chosenFile

// chosenFile says which tests of a file are wanted.
type chosenFile struct {
	file    string
	all     bool
	only    []string // unless all
	without []string
}

// choose adds the test of that name, or all of a file, or takes it away.
func (c *chosenTests) choose(file, name string, without bool) {
	at := slices.IndexFunc(*c, func(f *chosenFile) bool { return f.file == file })
	switch {
	case without && at < 0:
		return
	case without && name == "":
		*c = slices.Delete(*c, at, at+1)
		return
	case at < 0:
		at = len(*c)
		*c = append(*c, &chosenFile{file: file})
	}
	f := (*c)[at]
	switch {
	case without:
		f.without = append(f.without, name)
	case name == "":
		f.all, f.without = true, nil
	default:
		f.only = append(f.only, name)
		f.without = slices.DeleteFunc(f.without, func(n string) bool { return n == name })
	}
}

// inFile finds the tests that are wanted of a file.
func (t *tester) inFile(ws *session.Workspace, c *chosenFile) ([]*test, error) {
	given := maps.Clone(t.Config.Options)
	if given == nil {
		given = map[string]string{}
	}
	for _, o := range t.options {
		key, value, _ := strings.Cut(o, "=")
		given[key] = value
	}
	open := func(ctx context.Context, stderr io.Writer) (*lang.Workspace, error) {
		ws, err := t.Workspace(ctx, t.evaluation(stderr))
		if err != nil {
			return nil, err
		}
		return ws.Workspace, nil
	}
	nodes, err := unit.Config{Open: open, Options: given}.Tests(ws.Workspace, c.file)
	if err != nil {
		return nil, err
	}
	var tests []*test
	var names []string
	for _, n := range nodes {
		function := n.Action().(*unit.Test).Function
		names = append(names, function)
		if (c.all || slices.Contains(c.only, function)) && !slices.Contains(c.without, function) {
			tests = append(tests, newTest("unit", n.Label(), n, n.Ref("")))
		}
	}
	for _, name := range slices.Concat(c.only, c.without) {
		if !slices.Contains(names, name) {
			return nil, exit.Usagef("%s", lang.Unknown(c.file+" has no test", name, names))
		}
	}
	return tests, nil
}

func newTest(kind, label string, n *engine.Node, refs ...engine.Ref) *test {
	return &test{Test: output.Test{Label: label, Kind: kind, Place: output.PlaceOf(n.Where()), Status: testNotRun}, refs: refs, node: n}
}

// targets finds the targets among the tests. Each of the patterns that name one target has
// to name a test.
func (t *tester) targets(ctx context.Context, ws *session.Workspace, patterns []string, one map[string]bool) ([]*test, error) {
	kinds := map[string]string{}
	for _, k := range t.kinds {
		if k.builtin != "" {
			kinds[k.builtin] = k.name
		}
	}
	asked := slices.ContainsFunc(patterns, func(p string) bool { return one[p] })
	if len(patterns) == 0 {
		return nil, nil
	}
	g, err := ws.ResolveUsable(ctx, patterns)
	if err != nil && (!t.Config.Build.KeepGoing || g == nil) {
		return nil, err
	}
	t.mistakes = err
	if err != nil {
		t.left = g.Left
	}
	var tests []*test
	for _, target := range g.Targets {
		kind, ok := kinds[target.Builtin]
		switch {
		case ok && len(target.Refs) > 0:
			tests = append(tests, newTest(kind, target.Title, target.Refs[0].Node, target.Wanted()...))
		case asked && !slices.ContainsFunc(patterns, func(p string) bool { return !one[p] }):
			return nil, exit.Usagef("%s is no test but %s(): tests are functions %s* of files *%s%s", target, target.Builtin, unit.Prefix, lang.TestSuffix, t.builtins())
		}
	}
	return tests, nil
}

// updateFiles runs the tests once to write the files that hold what they expect.
func (t *tester) updateFiles(ctx context.Context, tests []*test) error {
	for i, x := range tests {
		u, ok := x.node.Action().(*unit.Test)
		if !ok {
			continue
		}
		if err := u.Try(ctx, io.Discard, true); ctx.Err() != nil {
			return err // any other is told when it is run again
		}
		again, err := u.Again()
		if err != nil {
			return err
		}
		tests[i] = newTest(x.Kind, x.Label, again, again.Ref(""))
	}
	return nil
}

// runAll runs the tests side by side, and tells how they ended.
func (t *tester) runAll(ctx context.Context, ws *session.Workspace, tests []*test) error {
	t.Config.Build.KeepGoing = true
	var refs []engine.Ref
	byNode := map[*engine.Node]*test{}
	for _, x := range tests {
		refs = append(refs, x.refs...)
		byNode[x.node] = x
	}
	var err error
	if t.rerunning, err = t.again(ctx, ws, tests); err != nil {
		return err
	}
	d, end := t.Console.Build(t.shownAs())
	defer end()
	w := &watched{tests: byNode, told: map[*engine.Node]error{}}
	r, result, err := t.execute(ctx, func(e engine.Event) {
		e = w.event(e)
		d.Event(e)
		t.log.Event(e)
		t.Log.Event(e)
	}, ws, refs)
	if result == nil {
		return err
	}
	err = errors.Join(t.mistakes, w.translated(err))
	w.conclude(r.store, result)
	t.ran = r.Build
	took := time.Since(t.started)
	d.Finish(display.Summary{Executed: r.Executed, Cached: r.Cached, Err: err, Interrupted: ctx.Err() != nil, Took: took, Notes: t.leftOut()})
	if terr := t.tellTests(tests, took, err); terr != nil {
		return terr
	}
	if err != nil {
		return reported(ctx, err)
	}
	return t.collect(ctx, r.store)
}

// leftOut says what can't be tested because of mistakes elsewhere.
func (t *tester) leftOut() (notes []string) {
	for _, l := range t.left {
		notes = append(notes, fmt.Sprintf("not built: %s, because %s has mistakes", l.Name, l.Because))
	}
	return notes
}

// again finds the steps that --rerun names, be they tests or others.
func (t *tester) again(ctx context.Context, ws *session.Workspace, tests []*test) (func(*engine.Node) bool, error) {
	chosen := map[*engine.Node]bool{}
	var others []string
	var g lang.Graph
	for _, name := range t.rerun {
		at := slices.IndexFunc(tests, func(x *test) bool { return x.Label == name })
		if at < 0 {
			others = append(others, name)
			continue
		}
		chosen[tests[at].node] = true
	}
	for _, x := range tests {
		g.Targets = append(g.Targets, &lang.Target{Refs: x.refs})
	}
	more, err := rerunning(ctx, ws, &g, others, t.Config.Build.KeepGoing)
	return func(n *engine.Node) bool { return chosen[n] || more != nil && more(n) }, err
}

// How a test ended.
const (
	testPassed = "passed"
	testFailed = "failed"
	testNotRun = "not_run"
)

// tellTests prints the results, and writes them where --junit says.
func (t *tester) tellTests(tests []*test, took time.Duration, err error) error {
	doc := output.Tests{Tests: []output.Test{}, Seconds: took.Seconds()}
	var rows [][]string
	for _, x := range tests {
		doc.Add(x.Test)
		rows = append(rows, x.row())
	}
	for _, l := range t.left {
		doc.NotBuilt = append(doc.NotBuilt, output.NotBuilt{Label: l.Name, Reason: becauseMistakes, Because: l.Because})
	}
	if err != nil {
		doc.Error, doc.Errors = err.Error(), output.Failures(err)
	}
	if t.junit != "" {
		if err := t.writeJUnit(doc); err != nil {
			return err
		}
	}
	return t.Show(doc, strings.ReplaceAll(output.Table(rows), "  \n", "\n")+doc.Total()+" in "+display.Took(took)+"\n")
}

// row is the line of the test.
func (x *test) row() []string {
	switch {
	case x.Status == testPassed && x.Cached:
		return []string{x.Label, "passed", "cached", ""}
	case x.Status == testPassed:
		return []string{x.Label, "passed", seconds(x.Seconds), x.Why}
	case x.Status == testFailed:
		first, _, _ := strings.Cut(x.Failure, "\n")
		return []string{x.Label, "FAILED", seconds(x.Seconds), strings.TrimSuffix(first, ":")}
	}
	return []string{x.Label, "not run", "", cmp.Or(x.Because, "the run was stopped")}
}
