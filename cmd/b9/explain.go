package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9/engine"
)

func (a *app) explainCommand() *cobra.Command {
	var f engineFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "explain TARGET...",
		Short: "Say which steps would run, and which file, value or tool changed",
		Long: `Say which steps would run if the targets were built now, and why: the file,
parameter, input or host tool that differs from the last time the step ran.
Nothing is built, and b9.lock stays as it is. What the repository of finished
steps (shared.cache) has would not run.`,
		Example: "  b9 explain //web:disk",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(cmd.Context(), &f, args, all)
		},
	}
	f.register(cmd)
	hideOut(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "list the steps that are up to date too")
	return cmd
}

func (a *app) explain(ctx context.Context, f *engineFlags, patterns []string, all bool) error {
	if len(patterns) == 0 {
		return usageError{errNoTargets}
	}
	f.looks = true
	if err := f.apply(a); err != nil {
		return err
	}
	ws, err := a.workspace(ctx, f.options)
	if err != nil {
		return err
	}
	g, err := ws.Resolve(ctx, patterns)
	if err != nil {
		return err
	}
	eng, err := a.newEngine(f, nil)
	if err != nil {
		return err
	}
	reasons, err := eng.Explain(ctx, graphRefs(g)...)
	if err != nil {
		return err
	}
	reasons = slices.DeleteFunc(reasons, func(r engine.Reason) bool { return r.Node.Builtin() == "source" })
	if a.json {
		return errors.Join(a.printReasons(reasons), eng.Close())
	}
	var runs, lent int
	for _, r := range reasons {
		if r.Runs {
			runs++
		}
		if r.Cache {
			lent++
		}
		if r.Runs || all {
			fmt.Fprint(a.stdout, explained(r))
		}
	}
	fmt.Fprintf(a.stdout, "%s, %d would run", count(len(reasons), "step", "steps"), runs)
	if lent > 0 {
		fmt.Fprintf(a.stdout, ", %d %s", lent, fromCache)
	}
	fmt.Fprintln(a.stdout)
	return eng.Close()
}

// fromCache is said of steps that a build would not run but fetch.
const fromCache = "from the step cache"

// printReasons prints the steps as JSON.
func (a *app) printReasons(reasons []engine.Reason) error {
	type change struct {
		Part string `json:"part"`
		Old  string `json:"old"`
		New  string `json:"new"`
	}
	type failure struct {
		Time time.Time `json:"time"`
		Kept string    `json:"kept"`
		Log  string    `json:"log"`
	}
	type reason struct {
		Label   string   `json:"label"`
		Kind    string   `json:"kind"`
		Runs    bool     `json:"runs"`
		Note    string   `json:"note,omitempty"`
		Changes []change `json:"changes,omitempty"`
		Failed  *failure `json:"failed,omitempty"`
	}
	rows := make([]reason, len(reasons))
	for i, r := range reasons {
		rows[i] = reason{Label: r.Node.Label(), Kind: r.Node.Builtin(), Runs: r.Runs, Note: r.Note}
		if r.Cache {
			rows[i].Note = fromCache
		}
		if r.Failed != nil {
			rows[i].Failed = &failure{r.Failed.Time, r.Failed.Dir, engine.Log(*r.Failed)}
		}
		for _, c := range r.Changes {
			rows[i].Changes = append(rows[i].Changes, change(c))
		}
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

// explained renders one step and what changed.
func explained(r engine.Reason) string {
	var b strings.Builder
	state := "up to date"
	switch {
	case r.Runs:
		state = r.Note
	case r.Cache:
		state = fromCache
	}
	if len(r.Changes) > 0 {
		state = "changed:"
	}
	fmt.Fprintf(&b, "%s  %s  %s\n", r.Node.Label(), r.Node.Builtin(), state)
	if r.Failed != nil {
		target, _, _ := strings.Cut(r.Node.Label(), " (") // which an unnamed step belongs to
		fmt.Fprintf(&b, "    failed at %s; its log: %s\n    what it left: %s (look around in it with: b9 shell %s)\n",
			r.Failed.Time.Local().Format(time.DateTime), engine.Log(*r.Failed), r.Failed.Dir, target)
	}
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "    %s: %s -> %s\n", c.Part, brief(c.Old), brief(c.New))
	}
	return b.String()
}

func brief(v string) string {
	switch {
	case v == "":
		return "(none)"
	case strings.HasPrefix(v, "file b3:") || strings.HasPrefix(v, "tree b3:"):
		return v[:min(len(v), len("file b3:")+12)]
	case len(v) > 60:
		return fmt.Sprintf("%q…", v[:57])
	}
	return fmt.Sprintf("%q", v)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
