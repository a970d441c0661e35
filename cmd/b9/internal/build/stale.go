package build

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// The reasons why a target was not built, and why what lies in the output directory is not
// what the build files stand for.
const (
	becauseFailed   = "failed"   // a step that it needs failed
	becauseMistakes = "mistakes" // there are mistakes in a build file that it needs
	becauseStopped  = "stopped"  // the build stopped before, when a step failed

	gone  = "gone"  // there is no such target any more
	moved = "moved" // the target has no such result, or has it elsewhere
	old   = "old"   // of an earlier build of the target
)

// notBuilt lists what was asked for and is not there, though nothing is wrong with itself.
func notBuilt(g *lang.Detached, res *engine.Result) []output.NotBuilt {
	var list []output.NotBuilt
	blockers := res.Blockers()
	first := "" // of what failed
	for _, n := range res.Nodes() {
		if blockers[n] == n {
			first = n.Label()
			break
		}
	}
	for _, t := range g.Targets {
		missing := slices.IndexFunc(t.Wanted, func(ref engine.Ref) bool { return res.Artifact(ref) == nil })
		if missing < 0 {
			continue
		}
		why := output.NotBuilt{Label: t.Title, Reason: becauseStopped, Because: first}
		for _, ref := range t.Wanted {
			if by := blockers[ref.Node]; by != nil {
				why.Reason, why.Because = becauseFailed, by.Label()
				break
			}
		}
		if why.Because != t.Title && why.Because != "" {
			list = append(list, why)
		}
	}
	for _, l := range g.Left {
		list = append(list, output.NotBuilt{Label: l.Name, Reason: becauseMistakes, Because: l.Because})
	}
	return list
}

// findStale finds what lies in the output directory and does not belong there any more.
// Where the graph is only a part of what was asked for, the rest is as it was.
func (b *maker) findStale(e *evaluated, res *engine.Result, r *report) error {
	if b.Config.Results.Place == unplaced {
		return nil
	}
	now := map[string]bool{} // what has just been placed
	if r.trace != nil {
		for _, p := range b.placements {
			now[p.Path] = true
		}
	}
	placed, err := engine.PlacedBeside(b.ResultsDir(), now)
	if err != nil || len(placed) == 0 {
		return err
	}
	why := leftovers(e.ws, placed)
	for _, of := range e.made.All {
		for _, p := range of {
			if was, ok := placed[p.Path]; ok && was.Label == p.Label && outdated(res, p.Ref, was) {
				why[p.Path] = old
			}
		}
	}
	for rel, was := range placed {
		if why[rel] == "" && was.Label != "" && (e.mistakes != nil && e.ws.Mistaken(was.Label) || leftOut(e.made, was.Label)) {
			why[rel] = old
		}
	}
	if e.rest {
		b.before.stillStale(why, placed, e.ws, b.ResultsDir())
	}
	left := make([]engine.Left, 0, len(why))
	for _, rel := range slices.Sorted(maps.Keys(why)) {
		left = append(left, engine.Left{Label: placed[rel].Label, Path: filepath.Join(b.ResultsDir(), rel), Why: why[rel]})
	}
	if r.trace != nil {
		r.trace.Left = left
	}
	b.tellStale(r, left)
	return nil
}

// leftovers says why results are none any more, by path.
func leftovers(ws *session.Workspace, placed map[string]engine.Placed) map[string]string {
	labels := map[string]string{}
	for rel, was := range placed {
		if was.Label != "" {
			labels[rel] = was.Label
		}
	}
	why := map[string]string{}
	for rel, left := range ws.Leftovers(labels) {
		if why[rel] = gone; left == lang.Moved {
			why[rel] = moved
		}
	}
	return why
}

func leftOut(g *lang.Detached, label string) bool {
	return slices.ContainsFunc(g.Left, func(l lang.LeftOut) bool { return l.Name == label })
}

// outdated reports whether a result that was placed is not what the build has, or could
// not make.
func outdated(res *engine.Result, ref engine.Ref, was engine.Placed) bool {
	if !res.Has(ref.Node) {
		return false
	}
	for i, a := range res.Outputs(ref.Node) {
		if ref.Node.Outputs()[i].Name == ref.Output {
			return a.Digest() != was.Object.Digest
		}
	}
	return true
}

// stillStale adds what the build before found about files that stand.
func (o *before) stillStale(why map[string]string, placed map[string]engine.Placed, ws *session.Workspace, dir string) {
	for _, l := range o.trace.Left {
		rel, err := filepath.Rel(dir, l.Path)
		was, there := placed[rel]
		if err == nil && there && was.Label == l.Label && why[rel] == "" && !ws.Evaluated(l.Label) {
			why[rel] = l.Why
		}
	}
}

// tellStale notes in the report what is stale, and there.
func (b *maker) tellStale(r *report, left []engine.Left) {
	for _, l := range left {
		if _, err := os.Lstat(l.Path); err == nil {
			r.Stale = append(r.Stale, output.Stale{Label: l.Label, Path: b.Relative(l.Path), Reason: l.Why})
		}
	}
}

// maxNotes bounds how many lines of a kind are printed. The document has all.
const maxNotes = 50

// notes are the lines that the report has for a person beside the results.
func (b *maker) notes(r *report) []string {
	lines := notesOf(r.NotBuilt, func(n output.NotBuilt) string {
		switch n.Reason {
		case becauseMistakes:
			return fmt.Sprintf("%s  not built, because %s has mistakes", n.Label, n.Because)
		case becauseStopped:
			return fmt.Sprintf("%s  not built, because the build stopped when %s failed (-k goes on)", n.Label, n.Because)
		}
		return fmt.Sprintf("%s  not built, because %s failed", n.Label, n.Because)
	})
	return append(lines, notesOf(r.Stale, func(s output.Stale) string {
		switch s.Reason {
		case gone:
			return fmt.Sprintf("%s  left over: there is no target %s any more (b9 clean --stale removes it)", s.Path, s.Label)
		case moved:
			return fmt.Sprintf("%s  left over: %s has no result there any more (b9 clean --stale removes it)", s.Path, s.Label)
		}
		return fmt.Sprintf("%s  is of an earlier build of %s", s.Path, s.Label)
	})...)
}

func notesOf[T any](list []T, line func(T) string) []string {
	var lines []string
	for i, one := range list {
		if i == maxNotes {
			return append(lines, fmt.Sprintf("and %s", output.Count(len(list)-i, "more", "more")))
		}
		lines = append(lines, line(one))
	}
	return lines
}
