package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/diagram"
	"b9.build/b9/cmd/b9/internal/history"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/page"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/cmd/b9/internal/timeline"
	"b9.build/b9/engine"
	"b9.build/b9/engine/config"
)

// graphForms are the values of --format.
var graphForms = [...]string{"dot", "mermaid", "svg", "html"}

// Graph is `b9 graph`.
func Graph(p *session.Program) *cobra.Command {
	var options []string
	form := "dot"
	cmd := &cobra.Command{
		Use:  "graph TARGET...",
		Args: command.SomeTargets,
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			_, g, err := s.Graph(ctx, session.Evaluation{Options: options, ReadOnly: true}, args...)
			if err != nil {
				return err
			}
			nodes := engine.Reachable(Refs(g)...)
			slices.Reverse(nodes)
			if !s.JSON && (form == "dot" || form == "mermaid") {
				return drawn(s.Out, form, nodes)
			}
			doc, err := graphOf(ctx, s, g, nodes)
			if err != nil {
				return err
			}
			if s.JSON {
				return s.Print(doc)
			}
			var text bytes.Buffer
			if form == "svg" {
				text.WriteString(diagram.SVG(pictured(doc), strings.Join(args, " ")))
			} else if err := graphPage(&text, doc, args); err != nil {
				return err
			}
			_, err = io.Copy(s.Out, &text)
			return err
		}, func(*config.Config) error {
			return command.Choice("format", form, graphForms[:])
		}),
	}
	command.Define(cmd.Flags(), &options)
	cmd.Flags().StringVar(&form, "format", form, "print the graph as `FORM`: "+strings.Join(graphForms[:], ", "))
	return cmd
}

// drawn prints the graph alone, of which nothing but the build files need be known.
func drawn(w io.Writer, form string, nodes []*engine.Node) error {
	at := map[*engine.Node]int{}
	for i, n := range nodes {
		at[n] = i
	}
	list := make([]diagram.Node, len(nodes))
	for i, n := range nodes {
		list[i].Name = n.Label()
		for _, in := range n.Inputs() {
			if to := at[in.Ref.Node]; !slices.Contains(list[i].Needs, to) {
				list[i].Needs = append(list[i].Needs, to)
			}
		}
	}
	text := diagram.Dot(list)
	if form == "mermaid" {
		text = diagram.Mermaid(list)
	}
	_, err := io.WriteString(w, text)
	return err
}

// The states of nodes that are not those of runs.
const (
	isSource  = "source"
	upToDate  = "up to date"
	wouldRun  = "would run"
	mayRun    = "may run"
	isUnknown = "unknown"
)

// graphOf finds out what is known of the nodes, which are in the order of the document.
func graphOf(ctx context.Context, s *session.Session, g *lang.Graph, nodes []*engine.Node) (output.Graph, error) {
	doc := output.Graph{Nodes: make([]output.GraphNode, len(nodes))}
	st, err := s.Store()
	if err != nil {
		return doc, err
	}
	docs := map[string]string{}
	for _, t := range g.Deps(g.Targets...) {
		docs[t.Title] = t.Doc
	}
	runs := history.In(st.Dir()).Runs(s.Root)
	took := history.In(st.Dir()).Took(s.Root)
	for i, n := range nodes {
		of := output.GraphNode{Label: n.Label(), Builtin: n.Builtin(), Place: output.PlaceOf(n.Where()), Doc: docs[n.Label()], State: isUnknown, Needs: []string{}}
		if n.Located() {
			of.State = isSource
		}
		for _, in := range n.Inputs() {
			if need := in.Ref.Node.Label(); !slices.Contains(of.Needs, need) {
				of.Needs = append(of.Needs, need)
			}
		}
		if run, ok := runs[n.Label()]; ok && !n.Located() {
			if err := why(st, run.Step); err != nil {
				return doc, err
			}
			of.Last, of.Build, of.Failed = &run.StepRun, run.Build, run.State == history.Failed
		}
		doc.Nodes[i] = of
	}
	doc.Critical = markCritical(doc.Nodes, nodes, took)
	return doc, judge(ctx, s, g, doc.Nodes)
}

// markCritical marks the steps of the critical path, and returns what it takes.
func markCritical(list []output.GraphNode, nodes []*engine.Node, took map[string]time.Duration) float64 {
	var paths timeline.Paths[*engine.Node]
	for _, n := range slices.Backward(nodes) {
		if t, ok := took[n.Label()]; ok && !n.Located() {
			paths.Ran(n, t, n.Needs())
		} else {
			paths.Cached(n, n.Needs)
		}
	}
	path, length := paths.Critical()
	for i, n := range nodes {
		list[i].Critical = slices.Contains(path, n)
	}
	return length.Seconds()
}

// judge finds out which steps would run, without using the network. What it can't find out
// for lack of that stays unknown.
func judge(ctx context.Context, s *session.Session, g *lang.Graph, list []output.GraphNode) error {
	m, err := open(s, Flags{offline: true}, nil, nil)
	if err != nil {
		return err
	}
	reasons, err := m.Explain(ctx, Refs(g)...)
	if ctx.Err() == nil && err != nil {
		s.Console.Warn("whether steps would run is not known of all: %v", err)
		err = nil
	}
	at := map[string]*output.GraphNode{}
	for i := range list {
		at[list[i].Label] = &list[i]
	}
	for _, r := range reasons {
		n := at[r.Node.Label()]
		switch {
		case n.State == isSource:
		case !r.Runs:
			n.State = upToDate
		case strings.HasPrefix(r.Note, mayRunNote):
			n.State = mayRun
		default:
			n.State, n.Changes = wouldRun, r.Changes
			if len(r.Changes) == 0 {
				n.Note = r.Note
			}
		}
	}
	return errors.Join(err, m.Close())
}

// mayRunNote begins what [engine.Engine.Explain] notes of steps behind one that would run.
const mayRunNote = "runs if "

// pictured is the graph for a picture.
func pictured(doc output.Graph) []diagram.Node {
	nodes := make([]diagram.Node, len(doc.Nodes))
	at := map[string]int{}
	for i, n := range doc.Nodes {
		at[n.Label] = i
	}
	for i, n := range doc.Nodes {
		nodes[i] = diagram.Node{Name: n.Label, Below: n.Builtin + ", " + stateOf(n)}
		if n.Last != nil && n.Last.Seconds != nil {
			nodes[i].Below += ", " + seconds(*n.Last.Seconds)
		}
		for _, need := range n.Needs {
			nodes[i].Needs = append(nodes[i].Needs, at[need])
		}
		nodes[i].Class = page.Class(stateOf(n), n.Critical)
	}
	return nodes
}

// stateOf is the state of a node, or that it failed, which matters more.
func stateOf(n output.GraphNode) string {
	if n.Failed && n.State != upToDate {
		return history.Failed
	}
	return n.State
}

// graphPage writes the graph as a page.
func graphPage(w io.Writer, doc output.Graph, targets []string) error {
	counts := map[string]int{}
	steps := make([]page.Step, len(doc.Nodes))
	for i, n := range doc.Nodes {
		counts[stateOf(n)]++
		steps[i] = page.Step{Label: n.Label, Builtin: n.Builtin, State: stateOf(n), Critical: n.Critical, Needs: n.Needs, Facts: graphFacts(n)}
		if n.Last != nil && n.Last.Seconds != nil {
			steps[i].Took = seconds(*n.Last.Seconds)
		}
	}
	var states []string
	for _, state := range []string{upToDate, wouldRun, mayRun, history.Failed, isSource, isUnknown} {
		if counts[state] > 0 {
			states = append(states, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	lines := []string{"What " + strings.Join(targets, " ") + " needs: " + strings.Join(states, ", ") + "."}
	return page.Graph(w, "b9 graph "+strings.Join(targets, " "), lines, steps, seconds(doc.Critical))
}

// graphFacts is what there is to say of a node.
func graphFacts(n output.GraphNode) []page.Fact {
	var facts []page.Fact
	if n.Doc != "" {
		facts = append(facts, page.Fact{Name: "what it is", Text: n.Doc})
	}
	if n.Place != nil {
		facts = append(facts, page.Fact{Name: "place", Text: engine.Position(*n.Place).String()})
	}
	if n.Note != "" {
		facts = append(facts, page.Fact{Name: "would run because", Text: n.Note})
	}
	for _, c := range n.Changes {
		facts = append(facts, page.Fact{Name: "would run because of", Text: c.Part + ": " + changed(c.Old, c.New)})
	}
	if n.Last != nil {
		facts = append(facts, page.Fact{Name: "ran last", Text: n.Last.Started.Local().Format(time.DateTime) + " in build " + n.Build + ": " + n.Last.State})
		facts = append(facts, page.Facts(*n.Last)...)
	}
	return facts
}
