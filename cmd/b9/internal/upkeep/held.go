package upkeep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/store"
)

// mostHeld is how many things `b9 cache` lists without --all.
const mostHeld = 20

// usage shows what the store holds, for which target, since when, and why.
func usage(ctx context.Context, s *session.Session, all bool) error {
	st, err := s.Store()
	if err != nil {
		return err
	}
	u, err := st.Usage(ctx)
	space, serr := st.Space()
	holds, herr := st.Holds(ctx)
	if err := errors.Join(err, serr, herr); err != nil {
		return err
	}
	doc := output.Cache{Usage: u, Free: space.Free, Total: space.Total, Reserve: space.Reserve(), Limit: s.Policy().Limit(u, space), Held: make([]output.Held, len(holds))}
	for i, h := range holds {
		doc.Held[i] = described(h)
	}
	limit := "none"
	if doc.Limit > 0 {
		limit = size.About(doc.Limit)
	}
	if p := s.Config.Store.MaxSize; p.Percent != 0 {
		limit += fmt.Sprintf(" (%s of what it holds and what is free)", p)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "store      %s\nobjects    %d, %s on disk (%s with holes)\nrecords    %d\nlimit      %s, unused for %s\nfree       %s of %s, of which builds leave %s\nfailed     %d steps kept, %s\n",
		st.Dir(), u.Files+u.Trees, size.About(u.Allocated), size.About(u.Apparent), u.Records,
		limit, s.Config.Store.MaxAge, size.About(space.Free), size.About(space.Total), size.About(doc.Reserve), u.Failed, size.About(u.FailedBytes))
	if all {
		table(&text, doc.Held, len(doc.Held))
	} else {
		table(&text, doc.Held, mostHeld)
	}
	return s.Show(doc, text.String())
}

// described is what is told of something that is held.
func described(h store.Held) output.Held {
	d := output.Held{Bytes: h.Bytes, Used: h.Used.UTC(), Bears: h.Bears, InUse: h.InUse}
	if h.Object != nil {
		d.Digest = h.Object.Digest.String()
	} else {
		d.Failed, _ = engine.SplitStepName(h.Failed)
	}
	for _, s := range h.Steps {
		label, workspace := engine.SplitStepName(s.Label)
		kind, _, _ := strings.Cut(s.Kind, "/")
		d.Steps = append(d.Steps, output.HeldStep{Label: label, Workspace: workspace, Kind: kind, Output: s.Output})
	}
	for _, n := range h.Names {
		if n.IsLink() {
			d.Names = append(d.Names, output.HeldName{Link: n.Label})
		} else {
			d.Names = append(d.Names, output.HeldName{Workspace: n.Workspace, Label: n.Label})
		}
	}
	return d
}

// table lists the first of what is held: bytes, time since it was used, step, reason.
func table(text *strings.Builder, held []output.Held, most int) {
	if len(held) == 0 {
		return
	}
	text.WriteByte('\n')
	w := tabwriter.NewWriter(text, 0, 0, 2, ' ', 0)
	for _, h := range held[:min(most, len(held))] {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", size.About(h.Bytes), age(time.Since(h.Used)), made(h), why(h))
	}
	w.Flush() // to memory
	if more := held[min(most, len(held)):]; len(more) > 0 {
		var bytes int64
		for _, h := range more {
			bytes += h.Bytes
		}
		fmt.Fprintf(text, "and %d more, %s: `b9 cache --all` lists them\n", len(more), size.About(bytes))
	}
}

// age is how long something was not used, in one unit.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// made says which step made it.
func made(h output.Held) string {
	switch {
	case h.Failed != "":
		return h.Failed
	case len(h.Steps) == 0:
		return "(no step)"
	}
	s := h.Steps[0]
	text := s.Label
	if s.Output != "" {
		text += "[" + s.Output + "]"
	}
	text += " " + s.Kind
	if more := len(h.Steps) - 1; more > 0 {
		text += fmt.Sprintf(" and %s", output.Count(more, "other step", "other steps"))
	}
	return text
}

// why says what keeps it.
func why(h output.Held) string {
	var reasons []string
	for _, n := range h.Names {
		switch {
		case n.Link != "":
			reasons = append(reasons, "link "+n.Link)
		case strings.HasPrefix(n.Label, "//") || strings.HasPrefix(n.Label, "@"):
			reasons = append(reasons, "result "+n.Label+" in "+n.Workspace)
		default:
			reasons = append(reasons, n.Label)
		}
	}
	switch {
	case len(reasons) > 2:
		return fmt.Sprintf("%s and %d more names", reasons[0], len(reasons)-1)
	case len(reasons) > 0:
		return strings.Join(reasons, ", ")
	case h.Bears > 0:
		return output.Count(h.Bears, "image is kept as its difference to it", "images are kept as their differences to it")
	case h.InUse:
		return "a build may use it"
	case h.Failed != "":
		return "left by a failure, for b9 shell"
	}
	return "cached: it goes when room is needed"
}
