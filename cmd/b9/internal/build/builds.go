package build

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/history"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// Builds is `b9 builds`.
func Builds(p *session.Program) *cobra.Command {
	var all bool
	most := 20
	cmd := &cobra.Command{
		Use:  "builds",
		Args: command.NoArgs,
		RunE: p.With(func(_ context.Context, s *session.Session, _ []string) error {
			if most < 0 {
				return exit.Usagef("-n %d: want 0 or more", most)
			}
			list, err := builds(s, all)
			if err != nil {
				return err
			}
			if most > 0 && most < len(list) {
				list = list[:most]
			}
			return s.Show(output.Builds{Builds: output.List(list)}, listText(list))
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "list the builds of other workspaces, too")
	cmd.Flags().IntVarP(&most, "number", "n", most, "list the newest `N`; 0 means all that are kept")
	return cmd
}

// builds lists those of the workspace, or all; outside of one, all.
func builds(s *session.Session, all bool) ([]output.BuildRun, error) {
	st, err := s.Store()
	if err != nil {
		return nil, err
	}
	of := s.Root
	if all {
		of = ""
	}
	return history.In(st.Dir()).List(of)
}

func listText(list []output.BuildRun) string {
	rows := make([][]string, len(list))
	for i, b := range list {
		line := strings.ReplaceAll(commandLine(b.Begun), "\n", `\n`) // a build has a line
		rows[i] = []string{b.ID, b.Started.Local().Format(time.DateTime), ended(b), line}
	}
	return output.Table(rows)
}

// commandLine is what a person would type for the build.
func commandLine(b output.Begun) string {
	words := []string{b.Command}
	for _, p := range b.Patterns {
		words = append(words, display.ShellWord(p))
	}
	for _, o := range b.Options {
		words = append(words, "-D", display.ShellWord(o))
	}
	return strings.Join(words, " ")
}

// ended says how a build ended, and what ran.
func ended(b output.BuildRun) string {
	text := b.State
	if b.Seconds != nil {
		text += " after " + seconds(*b.Seconds)
	}
	var counts []string
	for _, c := range []struct {
		n    int
		what string
	}{{b.Executed, "ran"}, {b.Cached, "cached"}, {b.Failed, "failed"}} {
		if c.n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if len(counts) > 0 {
		text += ": " + strings.Join(counts, ", ")
	}
	return text
}

func seconds(s float64) string {
	return display.Took(time.Duration(s * float64(time.Second)))
}

// logOfBuild prints what became of a build, by default the last that has a log, or what
// a step of it printed.
func logOfBuild(s *session.Session, args []string) error {
	st, err := s.Store()
	if err != nil {
		return err
	}
	dir := history.In(st.Dir())
	id := ""
	if len(args) > 0 {
		id = args[0]
	} else if id, err = lastBuild(s, false); err != nil {
		return err
	}
	b, err := dir.Find(id)
	if err != nil {
		return err
	}
	if len(args) == 2 {
		return printed(s, b, args[1])
	}
	for _, step := range b.Steps {
		if err := why(st, step); err != nil {
			return err
		}
	}
	return s.Show(historyOf(b), historyText(b))
}

// lastBuild is the newest build that has a log of its own, with ran one in which a step
// ran, if there is one.
func lastBuild(s *session.Session, ran bool) (string, error) {
	list, err := builds(s, false)
	if err != nil {
		return "", err
	}
	i := -1
	if ran {
		i = slices.IndexFunc(list, func(b output.BuildRun) bool { return b.Executed+b.Failed > 0 })
	}
	if i < 0 {
		i = slices.IndexFunc(list, func(b output.BuildRun) bool { return b.State != history.Unchanged })
	}
	if i < 0 {
		return "", fmt.Errorf("nothing was built here yet: %w", history.ErrNone)
	}
	return list[i].ID, nil
}

// printed prints what the steps of a target printed in a build.
func printed(s *session.Session, b *history.Build, target string) error {
	if s.JSON {
		return exit.Usagef("the log of a step is text: leave out --json")
	}
	steps, err := stepsOf(s, b, target)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, step := range steps {
		for _, line := range step.Output {
			text.WriteString(line + "\n")
		}
	}
	return s.Show(nil, text.String())
}

// stepsOf are the steps of a build that ran for a target: its own, or that of the title
// given.
func stepsOf(s *session.Session, b *history.Build, target string) ([]*history.Step, error) {
	named := func(match func(label string) bool) (steps []*history.Step) {
		for _, step := range b.Steps {
			if match(step.Label) {
				steps = append(steps, step)
			}
		}
		return steps
	}
	if steps := named(func(label string) bool { return label == target }); steps != nil {
		return steps, nil
	}
	below, err := filepath.Rel(b.Workspace, s.Dir)
	if err != nil || !filepath.IsLocal(below) || below == "." {
		below = ""
	}
	label, err := lang.Canonical(target, filepath.ToSlash(below))
	if err != nil {
		return nil, exit.Usage(err)
	}
	if steps := named(func(l string) bool { return l == label || strings.HasPrefix(l, label+" (") }); steps != nil {
		return steps, nil
	}
	if slices.ContainsFunc(b.Cached, func(c history.Cached) bool { return c.Label == label }) {
		return nil, fmt.Errorf("%s: it was cached in the build %s (`b9 log %s` prints what it printed when it ran)", label, b.ID, label)
	}
	return nil, fmt.Errorf("%s: the build %s had no such step", label, b.ID)
}

// why finds out why a step ran, from the records of then.
func why(st *store.Store, step *history.Step) error {
	key, kerr := store.ParseDigest(step.Key)
	was, werr := store.ParseDigest(step.Was)
	switch {
	case len(step.Changes) > 0 || kerr != nil: // which is told, or it did not begin
	case werr != nil:
		step.Why = "it had not run here before"
	case key == was:
		step.Why = "its result was gone, or it was to run again"
	default:
		changes, ok, err := engine.Since(st, was, key)
		if err != nil {
			return err
		}
		if step.Changes = changes; !ok {
			step.Why = "what differed from the run before is no longer known"
		}
	}
	return nil
}

func historyOf(b *history.Build) output.History {
	doc := output.History{Build: b.BuildRun, Steps: []output.StepRun{}}
	for _, step := range b.Steps {
		doc.Steps = append(doc.Steps, step.StepRun)
	}
	return doc
}

// historyText is a build for people: what was asked for, how it ended, and its steps.
func historyText(b *history.Build) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s  %s  %s\n", b.ID, commandLine(b.Begun), ended(b.BuildRun))
	fmt.Fprintf(&text, "begun %s in %s, by b9 %s\n", b.Started.Local().Format(time.DateTime), b.Workspace, b.Version)
	for _, note := range b.Notes {
		text.WriteString(cleaned("", note))
	}
	steps := slices.Clone(b.Steps)
	slices.SortStableFunc(steps, func(x, y *history.Step) int { return cmp.Compare(rank(x), rank(y)) })
	for _, step := range steps {
		fmt.Fprintf(&text, "\n%s  %s  %s", step.Label, step.Builtin, step.State)
		if step.Seconds != nil {
			fmt.Fprintf(&text, " after %s", seconds(*step.Seconds))
		}
		if step.Lines > 0 {
			fmt.Fprintf(&text, ", printed %s", output.Count(step.Lines, "line", "lines"))
		}
		text.WriteByte('\n')
		if step.Why != "" {
			fmt.Fprintf(&text, "    ran because %s\n", step.Why)
		}
		for _, c := range step.Changes {
			fmt.Fprintf(&text, "    changed: %s: %s\n", c.Part, changed(c.Old, c.New))
		}
		if step.Error != "" {
			text.WriteString(cleaned("    ", step.Error))
		}
	}
	if b.Error != "" && b.Failed == 0 { // of no step
		text.WriteString("\n" + cleaned("", b.Error))
	}
	return text.String()
}

// cleaned is a text of others, safe to show, its lines indented.
func cleaned(indent, text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString(indent + display.Clean(line) + "\n")
	}
	return b.String()
}

// rank puts what failed last, where one looks first.
func rank(s *history.Step) int {
	if s.State == history.Failed {
		return 1
	}
	return 0
}
