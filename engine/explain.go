package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/engine/store"
)

// Reason says whether a step would run now, and why.
type Reason struct {
	Node    *Node
	Runs    bool
	Cache   bool     // it does not run, for the cache has it
	New     bool     // the workspace never built it: its result, if there is one, was made elsewhere
	Changes []Change // against the last time the step ran or was found, when it is known
	Note    string   // beside changes or in their place: "never built", "its inputs are built first", ...

	// Elsewhere is the workspace of whose step it is the result, or with whose step it
	// is compared, where that is not the engine's own.
	Elsewhere string
	Same      bool    // of [Engine.Against]: the key is the same there
	Missing   bool    // likewise: there is no such step
	Pending   []Input // are built first: the step may run because of them

	Failed *store.FailedStep // what the step left when it failed last and has not succeeded since; nil for nothing
}

// Change is one part of a key that differs from the last run's.
type Change struct {
	Part string `json:"part"`           // such as "input script" or "Script[2]"
	Path string `json:"path,omitempty"` // of a file in the directory that the part is, the others being the same
	Old  string `json:"old"`            // "" where the part is new
	New  string `json:"new"`            // "" where it is gone

	OldText string `json:"-"` // what a digest in Old stands for, as far as it is known
	NewText string `json:"-"` // likewise
}

// Explain tells, for every step that refs need and inputs first, whether it
// would run. Nothing is run, and nothing is reported as an event. Below a step
// that would run nothing more can be known, since its output may come out
// unchanged.
func (e *Engine) Explain(ctx context.Context, refs ...Ref) ([]Reason, error) {
	return e.explain(ctx, nil, refs)
}

// Against is Explain, but every step is compared with what another machine has: theirs
// returns its record of the step with a label, nil for none.
func (e *Engine) Against(ctx context.Context, theirs func(label string) *store.Record, refs ...Ref) ([]Reason, error) {
	return e.explain(ctx, theirs, refs)
}

func (e *Engine) explain(ctx context.Context, theirs func(string) *store.Record, refs []Ref) ([]Reason, error) {
	p := newPlan(refs)
	x := explainer{executor: newExecutor(e, &Result{}), theirs: theirs}
	x.elsewhere = sync.OnceValues(func() (map[string]*store.Record, error) { return x.newestElsewhere(p) })
	var reasons []Reason
	for i := range p.steps {
		r, err := x.explain(ctx, &p.steps[i])
		if err != nil {
			return reasons, err
		}
		reasons = append(reasons, r)
	}
	return reasons, nil
}

// explainer tells about steps without running them.
type explainer struct {
	*executor
	theirs    func(label string) *store.Record         // nil: compared is with what this machine has
	elsewhere func() (map[string]*store.Record, error) // by label; those of the workspace by name
}

// newestElsewhere finds the newest records of the steps in other workspaces, and those in
// this one whose labels the store has lost.
func (x *explainer) newestElsewhere(p *plan) (map[string]*store.Record, error) {
	wanted := map[string]bool{}
	for i := range p.steps {
		wanted[p.steps[i].node.Label()] = true
	}
	here := x.engine.cfg.Workspace
	return x.engine.cfg.Store.Newest(func(name string) string {
		label, in := SplitStepName(name)
		switch {
		case !wanted[label]:
			return ""
		case in == here:
			return name
		}
		return label
	})
}

// explain tells about one step after its inputs. One that would run gets no
// outputs, by which those after it know.
func (x *explainer) explain(ctx context.Context, s *step) (Reason, error) {
	r := Reason{Node: s.node}
	for i, dep := range s.inputs {
		if dep.artifacts() == nil {
			r.Pending = append(r.Pending, s.node.opts.Inputs[i])
		}
	}
	if err := x.ask(ctx, s); err != nil {
		return r, &StepError{Node: s.node, Err: err}
	}
	if s.artifacts() != nil { // read in place
		return r, nil
	}
	if r.Runs = len(r.Pending) > 0; !r.Runs {
		if err := x.identify(s); err != nil {
			return r, &StepError{Node: s.node, Err: err}
		}
		from, err := x.lookup(ctx, s, x.suppliers...)
		if err != nil {
			return r, &StepError{Node: s.node, Err: err}
		}
		if from != nil {
			r.Cache = from != x.suppliers[0]
			if x.theirs == nil {
				return r, x.origin(s, &r)
			}
		} else {
			r.Runs = true
		}
	}
	if x.theirs != nil {
		return r, x.compare(ctx, s, &r)
	}
	return r, x.why(ctx, s, &r)
}

// compare compares the key of s with that of another machine's record.
func (x *explainer) compare(ctx context.Context, s *step, r *Reason) (err error) {
	last := x.theirs(s.node.Label())
	switch {
	case !Shareable(s.node):
		r.Note = "never comes from elsewhere: it has a secret, or an effect of its own"
		return nil
	case last == nil:
		r.Missing = true
		return nil
	}
	if r.Same = len(r.Pending) == 0 && last.Key == s.key; r.Same {
		return nil
	}
	if r.Changes, err = x.engine.changed(ctx, s, last, r.Pending); err == nil && len(r.Changes) == 0 {
		r.Note = "the same there, as far as is known before its inputs are built"
	}
	return err
}

// origin says of a step that does not run whether the workspace ever built it.
func (x *explainer) origin(s *step, r *Reason) error {
	st, name := x.engine.cfg.Store, x.engine.stepName(s.node.Label())
	if !st.LatestKey(name).IsZero() {
		return nil
	}
	record, err := st.Record(s.key)
	if err != nil {
		return fmt.Errorf("%s: %w", s.node.Label(), err)
	}
	r.New = record == nil || record.Label != name
	if record != nil && r.New {
		_, r.Elsewhere = SplitStepName(record.Label)
	}
	return nil
}

// why compares the key of s, which would run, with that of its last run.
func (x *explainer) why(ctx context.Context, s *step, r *Reason) (err error) {
	r.Runs = true
	if r.Failed, err = x.engine.failure(s.node); err != nil {
		return err
	}
	last, err := x.last(s, r)
	if err != nil {
		return fmt.Errorf("%s: %w", s.node.Label(), err)
	}
	if last != nil {
		if r.Changes, err = x.engine.changed(ctx, s, last, r.Pending); err != nil {
			return err
		}
	}
	r.Note = r.note(s.rerun, last != nil)
	return nil
}

// note is what there is to say beside the changes.
func (r *Reason) note(rerun, compared bool) string {
	switch {
	case rerun:
		return "it is to run again, whatever is cached"
	case r.New && r.Failed != nil:
		return "never succeeded"
	case r.New && !compared:
		return "never built"
	case r.New:
		return "never built here"
	case len(r.Pending) > 0 && len(r.Changes) == 0:
		return "runs if an input comes out different"
	case len(r.Changes) == 0:
		return "its result is no longer in the store"
	}
	return ""
}

// last is the record that s is compared with: that of the workspace's last build, else
// the newest of another workspace, else nil.
func (x *explainer) last(s *step, r *Reason) (*store.Record, error) {
	name := x.engine.stepName(s.node.Label())
	last, err := x.engine.cfg.Store.Record(x.engine.cfg.Store.LatestKey(name))
	if err != nil || last != nil {
		return last, err
	}
	others, err := x.elsewhere()
	if last = others[name]; last != nil {
		return last, err
	}
	r.New = true
	if last = others[s.node.Label()]; last != nil {
		_, r.Elsewhere = SplitStepName(last.Label)
	}
	return last, err
}

// changed tells what differs between the record and the key of s as far as it is known:
// what inputs that are built first will be is left out.
func (e *Engine) changed(ctx context.Context, s *step, last *store.Record, pending []Input) ([]Change, error) {
	now := &store.Record{}
	var err error
	if now.Parts, now.Texts, err = e.described(ctx, s.node, s.basis); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(diffRecords(last, now), func(c Change) bool {
		role, ok := strings.CutPrefix(c.Part, "input ")
		return ok && slices.ContainsFunc(pending, func(in Input) bool { return in.Role == role })
	}), nil
}

// diffParts compares two keys part by part, in the order of the new one.
func diffParts(old, new []store.Part) []Change {
	was := map[string]string{}
	for _, p := range old {
		was[p.Name] = p.Value
	}
	var changes []Change
	for _, p := range new {
		v, ok := was[p.Name]
		if !ok || v != p.Value {
			changes = append(changes, Change{Part: p.Name, Old: v, New: p.Value})
		}
		delete(was, p.Name)
	}
	for _, p := range old {
		if v, gone := was[p.Name]; gone {
			changes = append(changes, Change{Part: p.Name, Old: v})
		}
	}
	return changes
}

// What a record tells beside digests
//
// The key of a step has the digest of a source file, and of a long parameter, and a digest
// tells that something changed and not what. So the record of a step keeps such texts
// whole where they are short: of files and parameters the text, of a directory the list of
// its files and the texts of those. What does not fit is told by its digest alone.
const (
	maxText    = 16 << 10 // bytes of a text that a record keeps
	maxTexts   = 64 << 10 // bytes of all texts of a record
	maxTexted  = 500      // files of a directory of which a record has a list
	programTag = '*'      // before the path of a program, in such a list
)

// described lists what the key of n is made of, and the texts that its record keeps.
func (e *Engine) described(ctx context.Context, n *Node, in keyInput) ([]store.Part, map[string]string, error) {
	parts, long, err := nodeParts(n, in)
	if err != nil {
		return nil, nil, err
	}
	t := texts{store: e.cfg.Store, kept: map[string]string{}, left: maxTexts}
	for _, p := range parts {
		if text, ok := long[p.Name]; ok {
			t.add(p.Name, text)
		}
	}
	for i, a := range in.inputs {
		if a == nil || a.Stored() {
			continue
		}
		part := "input " + n.opts.Inputs[i].Role
		if a.Kind() == store.Tree {
			t.addTree(ctx, part, a.path)
		} else {
			t.addFile(ctx, part, a.path, a.Digest())
		}
	}
	if len(t.kept) == 0 {
		return parts, nil, nil
	}
	return parts, t.kept, nil
}

// tellParts are what the key of s is made of, for its event, if that is wanted.
func (e *Engine) tellParts(s *step) []store.Part {
	if !e.cfg.TellParts || s.key.IsZero() {
		return nil
	}
	parts, _, err := nodeParts(s.node, s.basis)
	if err != nil {
		return nil // it has no key either
	}
	return parts
}

// texts gathers the texts of one record. What can't be read is left out.
type texts struct {
	store *store.Store
	kept  map[string]string
	left  int // bytes
}

func (t *texts) add(part, text string) bool {
	if len(text) > t.left || CheckText(part, text) != nil {
		return false
	}
	t.left -= len(text)
	t.kept[part] = text
	return true
}

// addFile adds the text of a source file, if it is what the key says.
func (t *texts) addFile(ctx context.Context, part, path string, d store.Digest) {
	text, err := ReadSmall(path, maxText)
	if err != nil {
		return
	}
	if now, _, err := t.store.FileDigest(ctx, path); err == nil && now == d {
		t.add(part, string(text))
	}
}

// addTree adds the list of the files of a source directory, and their texts.
func (t *texts) addTree(ctx context.Context, part, root string) {
	list, err := t.store.List(ctx, root, nil, maxTexted)
	if err != nil || len(list) == 0 {
		return
	}
	var text strings.Builder
	for _, f := range list {
		tag := byte(' ')
		if f.Program {
			tag = programTag
		}
		fmt.Fprintf(&text, "%s %c%q\n", f.Digest, tag, f.Path)
	}
	if !t.add(part, text.String()) {
		return
	}
	for _, f := range list {
		if f.Size > 0 && f.Size <= maxText {
			t.addFile(ctx, part+"/"+f.Path, filepath.Join(root, filepath.FromSlash(f.Path)), f.Digest)
		}
	}
}

// diffRecords compares the keys of two records part by part, in the order of the new
// one. Of source directories it tells the files, and of texts the texts.
func diffRecords(old, new *store.Record) []Change {
	var changes []Change
	for _, c := range diffParts(old.Parts, new.Parts) {
		if files := diffLists(old, new, c); len(files) > 0 {
			changes = append(changes, files...)
			continue
		}
		c.addTexts(old, new, c.Part)
		changes = append(changes, c)
	}
	return changes
}

// addTexts adds the texts that the part stands for, if they are known.
func (c *Change) addTexts(old, new *store.Record, part string) {
	was, knewOld := old.Texts[part]
	is, knowsNew := new.Texts[part]
	if (knewOld || c.Old == "") && (knowsNew || c.New == "") {
		c.OldText, c.NewText = was, is
	}
}

// diffLists tells which files of a source directory differ; none where that is not known.
func diffLists(old, new *store.Record, c Change) []Change {
	if !strings.HasPrefix(c.Old, "tree ") || !strings.HasPrefix(c.New, "tree ") {
		return nil
	}
	was, is := listedFiles(old.Texts[c.Part]), listedFiles(new.Texts[c.Part])
	if was == nil || is == nil {
		return nil
	}
	files := diffParts(was, is)
	for i := range files {
		f := &files[i]
		f.Part, f.Path = c.Part, f.Part
		f.addTexts(old, new, c.Part+"/"+f.Path)
	}
	return files
}

// listedFiles reads the list of a directory's files that addTree made.
func listedFiles(text string) (files []store.Part) {
	for line := range strings.Lines(text) {
		digest, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || path == "" {
			return nil
		}
		name, value := "", "file "+digest
		if _, err := fmt.Sscanf(path[1:], "%q", &name); err != nil {
			return nil
		}
		if path[0] == programTag {
			value += ", a program"
		}
		files = append(files, store.Part{Name: name, Value: value})
	}
	return files
}
