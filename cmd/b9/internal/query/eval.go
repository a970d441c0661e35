package query

import (
	"errors"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

// World is what expressions are about.
type World struct {
	// Targets are what a pattern stands for.
	Targets func(pattern string) ([]*lang.Target, error)
	// Path is the path below the root of the workspace, with slashes, that a person means.
	Path func(name string) (string, error)
}

// Kind is what kind() looks at: "source file", or the name of a built-in and "rule".
func Kind(t *lang.Target) string {
	if t.Builtin == "source" {
		return "source file"
	}
	return t.Builtin + " rule"
}

// targets is a set in an order: that in which they were found.
type targets []*lang.Target

// function is one of the language.
type function struct {
	usage    string
	args     string // as argument reads them
	required int    // how many have to be given
	eval     func(*evaluation, []*Expr) (targets, error)
}

// functions is the table of them.
func functions() map[string]function {
	return map[string]function{
		"allpaths": {"(FROM, TO): all targets on paths from FROM to TO", "ee", 2, (*evaluation).allpaths},
		"attr":     {"(NAME, REGEXP, EXPR): targets of which the argument NAME matches", "wre", 3, (*evaluation).attr},
		"deps":     {"(EXPR[, DEPTH]): what the targets need, at most so many steps away", "en", 1, (*evaluation).deps},
		"filter":   {"(REGEXP, EXPR): targets of which the label matches", "re", 2, (*evaluation).filter},
		"kind":     {"(REGEXP, EXPR): targets that such a built-in makes: \"lxc_exec rule\", \"source file\"", "re", 2, (*evaluation).kind},
		"labels":   {"(NAME, EXPR): what the targets were given for the parameter NAME", "we", 2, (*evaluation).labels},
		"owner":    {"(FILE): targets that read the file of the workspace, or are made by its code", "w", 1, (*evaluation).owner},
		"rdeps":    {"(UNIVERSE, EXPR[, DEPTH]): what, of all that UNIVERSE needs, needs the targets", "een", 2, (*evaluation).rdeps},
		"some":     {"(EXPR[, N]): any N of the targets, by default one", "ep", 1, (*evaluation).some},
		"somepath": {"(FROM, TO): the targets on one path", "ee", 2, (*evaluation).somepath},
	}
}

// Functions is one line for each function, by name.
func Functions() []string {
	var list []string
	for name, f := range functions() {
		list = append(list, name+f.usage)
	}
	slices.Sort(list)
	return list
}

// Eval returns the targets that an expression stands for, each once.
func Eval(e *Expr, w World) ([]*lang.Target, error) {
	v := &evaluation{world: w, named: map[string]targets{}, variables: map[string]targets{}}
	return v.eval(e)
}

type evaluation struct {
	world     World
	named     map[string]targets // by pattern
	variables map[string]targets
}

func (v *evaluation) eval(e *Expr) (targets, error) {
	switch e.op {
	case word:
		return v.pattern(e.text)
	case variable:
		return v.variables[e.text], nil
	case let:
		return v.let(e)
	case set:
		var all targets
		for _, w := range e.args {
			list, err := v.eval(w)
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
		return unique(all), nil
	case "union", "except", "intersect":
		return v.operator(e)
	}
	return functions()[e.op].eval(v, e.args)
}

func (v *evaluation) pattern(text string) (targets, error) {
	if list, ok := v.named[text]; ok {
		return list, nil
	}
	list, err := v.world.Targets(text)
	v.named[text] = list
	return list, err
}

func (v *evaluation) let(e *Expr) (targets, error) {
	value, err := v.eval(e.args[0])
	if err != nil {
		return nil, err
	}
	outer, hidden := v.variables[e.text]
	v.variables[e.text] = value
	list, err := v.eval(e.args[1])
	if delete(v.variables, e.text); hidden {
		v.variables[e.text] = outer
	}
	return list, err
}

func (v *evaluation) operator(e *Expr) (targets, error) {
	left, err := v.eval(e.args[0])
	if err != nil {
		return nil, err
	}
	right, err := v.eval(e.args[1])
	if err != nil {
		return nil, err
	}
	if e.op == "union" {
		return unique(append(slices.Clone(left), right...)), nil
	}
	has := members(right)
	return keep(left, func(t *lang.Target) bool { return has[t] == (e.op == "intersect") }), nil
}

func unique(list targets) targets {
	seen := map[*lang.Target]bool{}
	return keep(list, func(t *lang.Target) bool {
		first := !seen[t]
		seen[t] = true
		return first
	})
}

func members(list targets) map[*lang.Target]bool {
	has := make(map[*lang.Target]bool, len(list))
	for _, t := range list {
		has[t] = true
	}
	return has
}

func keep(list targets, match func(*lang.Target) bool) targets {
	var kept targets
	for _, t := range list {
		if match(t) {
			kept = append(kept, t)
		}
	}
	return kept
}

// closure lists what the targets need, directly and through others, and they
// themselves, what is needed first.
func closure(of targets) targets { return (&lang.Graph{Targets: of}).Deps(of...) }

// within lists what is no more than so many steps away, in the order of closure.
func within(of targets, depth int, next func(*lang.Target) []*lang.Target) map[*lang.Target]bool {
	reached, at := members(of), of
	for ; depth > 0 && len(at) > 0; depth-- {
		var further targets
		for _, t := range at {
			for _, n := range next(t) {
				if !reached[n] {
					reached[n] = true
					further = append(further, n)
				}
			}
		}
		at = further
	}
	return reached
}

// reverse returns what, among the targets, needs a target directly.
func reverse(all targets) func(*lang.Target) []*lang.Target {
	users := map[*lang.Target][]*lang.Target{}
	for _, t := range all {
		for _, d := range t.Direct() {
			users[d] = append(users[d], t)
		}
	}
	return func(t *lang.Target) []*lang.Target { return users[t] }
}

// depthOf is the number behind the other arguments; without one more than there are targets.
func depthOf(args []*Expr, at int) int {
	if len(args) <= at {
		return int(^uint(0) >> 1)
	}
	n, _ := strconv.Atoi(args[at].text) // which was checked
	return n
}

// two evaluates the first two arguments.
func (v *evaluation) two(args []*Expr) (a, b targets, err error) {
	if a, err = v.eval(args[0]); err == nil {
		b, err = v.eval(args[1])
	}
	return a, b, err
}

func (v *evaluation) deps(args []*Expr) (targets, error) {
	of, err := v.eval(args[0])
	if err != nil {
		return nil, err
	}
	reached := within(of, depthOf(args, 1), (*lang.Target).Direct)
	return keep(closure(of), func(t *lang.Target) bool { return reached[t] }), nil
}

func (v *evaluation) rdeps(args []*Expr) (targets, error) {
	universe, of, err := v.two(args)
	if err != nil {
		return nil, err
	}
	all := closure(universe)
	has := members(all)
	of = keep(of, func(t *lang.Target) bool { return has[t] })
	reached := within(of, depthOf(args, 2), reverse(all))
	return keep(all, func(t *lang.Target) bool { return reached[t] }), nil
}

func (v *evaluation) allpaths(args []*Expr) (targets, error) {
	from, to, err := v.two(args)
	if err != nil {
		return nil, err
	}
	all := closure(from)
	has := members(all)
	to = keep(to, func(t *lang.Target) bool { return has[t] })
	reached := within(to, depthOf(nil, 0), reverse(all))
	return keep(all, func(t *lang.Target) bool { return reached[t] }), nil
}

// somepath is one of the shortest paths, from its beginning to its end.
func (v *evaluation) somepath(args []*Expr) (targets, error) {
	from, to, err := v.two(args)
	if err != nil {
		return nil, err
	}
	end := members(to)
	before := map[*lang.Target]*lang.Target{}
	seen := members(from)
	for at := from; len(at) > 0; at = at[1:] {
		if t := at[0]; end[t] {
			var path targets
			for ; t != nil; t = before[t] {
				path = append(path, t)
			}
			slices.Reverse(path)
			return path, nil
		}
		for _, d := range at[0].Direct() {
			if !seen[d] {
				seen[d], before[d] = true, at[0]
				at = append(at[:len(at):len(at)], d)
			}
		}
	}
	return nil, nil
}

// matching evaluates the last argument, and keeps what the expression matches in the
// text that of gives.
func (v *evaluation) matching(args []*Expr, of func(*lang.Target) (text string, ok bool)) (targets, error) {
	last := len(args) - 1
	re, err := regexp.Compile(args[last-1].text)
	if err != nil {
		return nil, err // which was checked
	}
	list, err := v.eval(args[last])
	return keep(list, func(t *lang.Target) bool {
		text, ok := of(t)
		return ok && re.MatchString(text)
	}), err
}

func (v *evaluation) kind(args []*Expr) (targets, error) {
	return v.matching(args, func(t *lang.Target) (string, bool) { return Kind(t), true })
}

func (v *evaluation) filter(args []*Expr) (targets, error) {
	return v.matching(args, func(t *lang.Target) (string, bool) { return t.Title, true })
}

func (v *evaluation) attr(args []*Expr) (targets, error) {
	return v.matching(args, func(t *lang.Target) (string, bool) {
		for _, a := range t.Arguments() {
			if a.Name == args[0].text {
				return a.Value, true
			}
		}
		return "", false
	})
}

func (v *evaluation) labels(args []*Expr) (targets, error) {
	list, err := v.eval(args[1])
	var all targets
	for _, t := range list {
		all = append(all, t.Given(args[0].text)...)
	}
	return unique(all), err
}

func (v *evaluation) some(args []*Expr) (targets, error) {
	list, err := v.eval(args[0])
	if err == nil && len(list) == 0 {
		err = errors.New("some(): there is none to choose")
	}
	n := 1
	if len(args) > 1 {
		n = depthOf(args, 1)
	}
	return list[:min(n, len(list))], err
}

// owner lists what reads a file of the workspace itself: what it is given to, alone or in
// a directory, and what its code makes.
func (v *evaluation) owner(args []*Expr) (targets, error) {
	name, err := v.world.Path(args[0].text)
	if err != nil {
		return nil, err
	}
	all, err := v.pattern("//...")
	if err != nil {
		return nil, err
	}
	holds := func(t *lang.Target) bool {
		at, ok := t.Source()
		return ok && (at == name || at == "" || strings.HasPrefix(name, path.Clean(at)+"/"))
	}
	return keep(closure(all), func(t *lang.Target) bool {
		return slices.ContainsFunc(t.Direct(), holds) || slices.ContainsFunc(t.Calls(), func(at engine.Position) bool { return at.File == name })
	}), nil
}
