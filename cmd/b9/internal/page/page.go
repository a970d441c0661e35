// Package page writes pages that a browser shows: the timeline of a build, and the graph
// of targets. A page is one file, which loads nothing else and runs no script but its own.
// What it tells is in its text, in the order in which it is read aloud, and its script only
// finds, zooms and unfolds; so it can be used without a mouse, without a picture, and, but
// for that, without the script.
package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"sync"
	"time"

	"b9.build/b9/cmd/b9/internal/diagram"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/timeline"
)

//go:embed page.html
var skeleton string

//go:embed page.css
var styleText string

//go:embed page.js
var scriptText string

var layout = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Parse(skeleton))
})

// view is what the page shows.
type view struct {
	Style   template.CSS
	Script  template.JS
	Title   string
	Lines   []string // what there is to say of all
	Path    []link   // the critical path
	Took    string   // by it
	Picture template.HTML
	Bars    bool // steps have one
	Begins  string
	Ends    string
	Steps   []Step
}

// link leads to a step of the page.
type link struct{ ID, Text, Took string }

// Step is one step or target of a page.
type Step struct {
	Label, Builtin string
	State          string // done, failed, cached and the like
	Took           string // "" where it is not known
	Critical       bool
	Facts          []Fact   // what else there is to say of it
	Needs          []string // labels
	Printed        []string // the last lines of its output

	ID      string // is filled in
	At, For float64
	Links   []link
}

// Fact is something known of a step.
type Fact struct{ Name, Text string }

// Graph writes the page of a graph, with a picture of it. The steps are in the order in
// which they are read.
func Graph(w io.Writer, title string, lines []string, steps []Step, criticalTook string) error {
	v := view{Title: title, Lines: lines, Steps: steps, Took: criticalTook}
	v.number()
	nodes := make([]diagram.Node, len(v.Steps))
	at := map[string]int{}
	for i, s := range v.Steps {
		at[s.Label] = i
	}
	for i, s := range v.Steps {
		nodes[i] = diagram.Node{Name: s.Label, Below: s.Builtin + ", " + s.State, Class: Class(s.State, s.Critical), Link: "#" + s.ID}
		if s.Took != "" {
			nodes[i].Below += ", " + s.Took
		}
		for _, need := range s.Needs {
			if to, ok := at[need]; ok {
				nodes[i].Needs = append(nodes[i].Needs, to)
			}
		}
	}
	v.Picture = template.HTML(diagram.SVG(nodes, "graph")) // which escapes what it is given
	return v.write(w)
}

// Class is the class of a node in a picture.
func Class(state string, critical bool) string {
	class := state
	switch state {
	case "failed":
	case "up to date", "done", "cached", "source":
		class = "fresh"
	default:
		class = "stale"
	}
	if critical {
		class += " critical"
	}
	return class
}

// Timeline writes the page of a build. printed returns the last lines that a step printed.
func Timeline(w io.Writer, p output.Profile, printed func(label string) []string) error {
	length := timeline.Length(p)
	v := view{Title: "b9 " + p.Build.Command + " " + p.Build.ID, Bars: true, Begins: "0 s", Ends: took(length), Took: took(p.Critical)}
	v.Lines = []string{
		fmt.Sprintf("%s in %s, begun %s: %s after %s.", p.Build.Command, p.Build.Workspace, p.Build.Started.Local().Format(time.DateTime), p.Build.State, took(length)),
		fmt.Sprintf("%s ran and took %s together, %s were cached; no step ran for %s.", output.Count(len(p.Steps), "step", "steps"), took(p.Work), fmt.Sprint(p.Build.Cached), took(p.Idle)),
	}
	if p.Build.Error != "" {
		v.Lines = append(v.Lines, p.Build.Error)
	}
	for _, s := range p.Steps {
		one := Step{Label: s.Label, Builtin: s.Builtin, State: s.State, Critical: s.Critical, Needs: s.Inputs, Printed: printed(s.Label), Took: took(timeline.Seconds(s.StepRun))}
		if length > 0 {
			one.At, one.For = 100*s.Offset/length, 100*timeline.Seconds(s.StepRun)/length
		}
		one.Facts = []Fact{{"began", took(s.Offset) + " after the build"}}
		if s.Place != nil {
			one.Facts = append(one.Facts, Fact{"place", fmt.Sprintf("%s:%d:%d", s.Place.File, s.Place.Line, s.Place.Col)})
		}
		one.Facts = append(one.Facts, Facts(s.StepRun)...)
		v.Steps = append(v.Steps, one)
	}
	v.number()
	return v.write(w)
}

// Facts is what is known of a step that ran.
func Facts(s output.StepRun) []Fact {
	var facts []Fact
	if s.Why != "" {
		facts = append(facts, Fact{"ran because", s.Why})
	}
	for _, c := range s.Changes {
		facts = append(facts, Fact{"ran because " + c.Part + " changed", fmt.Sprintf("%s → %s", brief(c.Old), brief(c.New))})
	}
	if s.Error != "" {
		facts = append(facts, Fact{"error", s.Error})
	}
	return facts
}

// briefMost is how many characters of a value are shown.
const briefMost = 200

func brief(value string) string {
	if value == "" {
		return "(none)"
	}
	if r := []rune(value); len(r) > briefMost {
		return string(r[:briefMost]) + "…"
	}
	return value
}

func took(seconds float64) string { return display.Took(timeline.Duration(seconds)) }

// number gives the steps their IDs, and the links that need them.
func (v *view) number() {
	ids := map[string]string{}
	for i := range v.Steps {
		v.Steps[i].ID = fmt.Sprintf("s%d", i+1)
		ids[v.Steps[i].Label] = v.Steps[i].ID
	}
	for i := range v.Steps {
		s := &v.Steps[i]
		if s.Critical {
			v.Path = append(v.Path, link{s.ID, s.Label, s.Took})
		}
		for _, need := range s.Needs {
			s.Links = append(s.Links, link{ID: ids[need], Text: need})
		}
	}
}

func (v *view) write(w io.Writer) error {
	v.Style, v.Script = template.CSS(styleText), template.JS(scriptText)
	return layout().Execute(w, v)
}
