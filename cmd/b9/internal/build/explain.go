package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// Explain is `b9 explain`.
func Explain(p *session.Program) *cobra.Command {
	var f Flags
	var all, status bool
	var against string
	cmd := &cobra.Command{
		Use:  "explain TARGET...",
		Args: command.SomeTargets,
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			reasons, err := reasons(ctx, s, f, against, args)
			if err != nil {
				return exit.Resumes(err, resumes)
			}
			doc := document(newTeller(s.Root), reasons)
			if err := s.Show(doc, text(reasons, doc.Steps, all, against)); err != nil {
				return err
			}
			if status && slices.ContainsFunc(reasons, func(r engine.Reason) bool { return r.Runs }) {
				return exit.Status(exit.WouldRun)
			}
			return nil
		}, f.Configure),
	}
	f.Register(cmd)
	HideOut(cmd)
	cmd.Flags().BoolVar(&status, "exit-code", false, "end with status 3 when a step would run")
	cmd.Flags().StringVar(&against, "against", "", "compare with the steps of a repository, or of a build's --events=FILE: `REPO|FILE`")
	cmd.Flags().BoolVar(&all, "all", false, "list the steps that are up to date too")
	return cmd
}

// reasons asks the engine about every step; sources are left out.
func reasons(ctx context.Context, s *session.Session, f Flags, against string, patterns []string) ([]engine.Reason, error) {
	ws, g, err := s.Graph(ctx, session.Evaluation{Options: f.options, Tags: f.tags, Locked: f.locked, ReadOnly: true}, patterns...)
	if err != nil {
		return nil, err
	}
	if f.rerunning, err = rerunning(ctx, ws, g, f.rerun, false); err != nil {
		return nil, err
	}
	m, err := open(s, f, ws, nil)
	if err != nil {
		return nil, err
	}
	reasons, err := explain(ctx, s, m, against, Wanted(g))
	if err := errors.Join(err, m.Close()); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(reasons, func(r engine.Reason) bool { return r.Node.Builtin() == "source" && !r.Runs }), nil
}

// IsDone reports whether a build of the patterns would run and fetch nothing.
func IsDone(ctx context.Context, s *session.Session, f Flags, patterns ...string) bool {
	list, err := reasons(ctx, s, f, "", patterns)
	return err == nil && !slices.ContainsFunc(list, func(r engine.Reason) bool { return r.Runs || r.Cache })
}

// text is the steps that would run, or all, and how many there are.
func text(reasons []engine.Reason, steps []output.Step, all bool, against string) string {
	var text strings.Builder
	var runs, cached int
	for i, r := range reasons {
		if r.Runs {
			runs++
		}
		if r.Cache {
			cached++
		}
		if all || r.Runs && against == "" || against != "" && !r.Same {
			text.WriteString(explained(r, steps[i]))
		}
	}
	fmt.Fprintf(&text, "%s, %d would run", output.Count(len(reasons), "step", "steps"), runs)
	if cached > 0 {
		fmt.Fprintf(&text, ", %d %s", cached, fromCache)
	}
	text.WriteByte('\n')
	return text.String()
}

// fromCache is said of steps that a build would not run but fetch.
const fromCache = "from the step cache"

// document is the steps for programs.
func document(t *teller, reasons []engine.Reason) output.Explain {
	rows := make([]output.Step, len(reasons))
	for i, r := range reasons {
		rows[i] = output.Step{Label: r.Node.Label(), Builtin: r.Node.Builtin(), Runs: r.Runs, Note: note(r), Elsewhere: r.Elsewhere, Changes: t.changes(r.Node, r.Changes)}
		for _, in := range r.Pending {
			rows[i].Pending = append(rows[i].Pending, in.Ref.String())
		}
		if r.Failed != nil {
			rows[i].Failed = &output.FailedStep{Time: r.Failed.Time, Kept: r.Failed.Dir, Log: engine.Log(*r.Failed), Stopped: engine.WasStopped(*r.Failed)}
		}
	}
	return output.Explain{Steps: rows}
}

// note is what there is to say of a step beside its changes.
func note(r engine.Reason) string {
	var words []string
	switch {
	case r.Runs && r.Note != "":
		words = append(words, r.Note)
	case r.Same:
		words = append(words, "the same in "+r.Elsewhere)
	case r.Missing:
		words = append(words, "not in "+r.Elsewhere)
	case r.Cache:
		words = append(words, fromCache)
	}
	switch {
	case r.New && !r.Runs && r.Cache:
		words = append(words, "never built here")
	case r.New && !r.Runs:
		words = append(words, "never built here, from the store")
	}
	return strings.Join(words, ", ")
}

// explained renders one step and what changed.
func explained(r engine.Reason, step output.Step) string {
	var b strings.Builder
	state := step.Note
	if len(step.Changes) > 0 {
		state = strings.TrimPrefix(state+", changed", ", ")
	}
	if r.Elsewhere != "" && (r.New || len(step.Changes) > 0) {
		state += ", beside what " + r.Elsewhere + " has"
	}
	if state == "" {
		state = "up to date"
	}
	if len(step.Changes) > 0 {
		state += ":"
	}
	fmt.Fprintf(&b, "%s  %s  %s\n", r.Node.Label(), r.Node.Builtin(), state)
	b.WriteString(failure(r))
	for _, c := range step.Changes {
		b.WriteString(changeText(c))
	}
	if len(step.Pending) > 0 {
		fmt.Fprintf(&b, "    runs after %s\n", strings.Join(step.Pending, ", "))
	}
	return b.String()
}

// changeText renders what changed: values in a line, texts line by line.
func changeText(c output.Change) string {
	what := c.What
	if c.Place != nil {
		what += fmt.Sprintf(" at %s:%d", c.Place.File, c.Place.Line)
	}
	if len(c.Lines) == 0 {
		return fmt.Sprintf("    %s: %s -> %s\n", display.Clean(what), shown(c.Was), shown(c.Is))
	}
	return fmt.Sprintf("    %s:\n%s", display.Clean(what), cleaned("      ", strings.Join(c.Lines, "\n")))
}

// shown is a value for people, cut where it is long.
func shown(value string) string {
	const most = 200
	if len(value) > most {
		value = strings.ToValidUTF8(value[:most], "") + "…"
	}
	return display.Clean(cmp.Or(value, "(none)"))
}

// failure tells what a failed step left, and what it can be used for.
func failure(r engine.Reason) string {
	if r.Failed == nil {
		return ""
	}
	var b strings.Builder
	target, _, _ := strings.Cut(r.Node.Label(), " (") // which an unnamed step belongs to
	how := "failed"
	if engine.WasStopped(*r.Failed) {
		how = "stopped"
	}
	fmt.Fprintf(&b, "    %s at %s; its log: %s\n    what it left: %s", how, r.Failed.Time.Local().Format(time.DateTime), engine.Log(*r.Failed), r.Failed.Dir)
	if _, enterable, err := engine.LoadSandbox(r.Failed.Dir); err == nil && enterable {
		fmt.Fprintf(&b, " (look around in it with: b9 shell %s)", display.ShellWord(target))
	}
	b.WriteByte('\n')
	return b.String()
}

// changed shows what differs between two values: of texts of several lines the
// first that do, of long ones the part.
func changed(old, new string) string {
	was, is := differingLines(old, new)
	cut := 0
	if len(was) > 0 && len(is) > 0 && len(was[0]) > briefMost && len(is[0]) > briefMost {
		cut = max(0, commonPrefix([]byte(was[0]), []byte(is[0]))-briefMost/3)
	}
	text := brief(was, cut) + " -> " + brief(is, cut)
	if n := max(len(was), len(is)) - 1; n > 0 {
		text += ", and " + output.Count(n, "line", "lines") + " more"
	}
	return text
}

// differingLines leaves out the lines that both texts begin and end with.
func differingLines(old, new string) (was, is []string) {
	was, is = lines(old), lines(new)
	n := commonPrefix(was, is)
	was, is = was[n:], is[n:]
	for len(was) > 0 && len(is) > 0 && was[len(was)-1] == is[len(is)-1] {
		was, is = was[:len(was)-1], is[:len(is)-1]
	}
	return was, is
}

// lines are those of a text; nothing has none.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func commonPrefix[T comparable](a, b []T) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// briefMost is how many bytes of a value are shown.
const briefMost = 60

// brief shows the first line from an offset on.
func brief(lines []string, from int) string {
	if len(lines) == 0 {
		return "(none)"
	}
	v, head, tail := lines[0], "", ""
	if strings.HasPrefix(v, "file b3:") || strings.HasPrefix(v, "tree b3:") {
		return v[:min(len(v), len("file b3:")+12)]
	}
	if from > 0 {
		head, v = "…", v[from:]
	}
	if len(v) > briefMost {
		tail, v = "…", v[:briefMost-3]
	}
	return head + strconv.Quote(strings.ToValidUTF8(v, "")) + tail
}
