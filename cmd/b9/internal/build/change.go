package build

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/lang/outline"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
	"b9.build/b9/engine/size"
)

// teller tells what changed in the words of build files: which parameter and where it is
// written, which file, variable or program.
type teller struct {
	root       string // of the workspace
	operations []lang.Operation
	parsed     map[string]*outline.File // by name; nil for what can't be read
}

func newTeller(root string) *teller {
	return &teller{root: root, operations: builtins.Operations(builtins.Settings{}), parsed: map[string]*outline.File{}}
}

// changes tells those of a step, without what follows from others: how many elements a
// list has.
func (t *teller) changes(n *engine.Node, list []engine.Change) []output.Change {
	var told []output.Change
	for _, c := range list {
		counts := func(other engine.Change) bool {
			return strings.HasPrefix(other.Part, c.Part+"[")
		}
		if !slices.ContainsFunc(list, counts) {
			told = append(told, t.change(n, c))
		}
	}
	return told
}

// change tells one.
func (t *teller) change(n *engine.Node, c engine.Change) output.Change {
	out := output.Change{Part: c.Part, Path: c.Path, Old: c.Old, New: c.New, What: c.Part}
	form := func(value string) string { return value }
	switch word, rest, _ := strings.Cut(c.Part, " "); word {
	case "b9", "kind":
		out.What = "b9, which makes it otherwise now"
	case "time":
		out.What = "environment variable SOURCE_DATE_EPOCH"
		form = func(value string) string { return strings.TrimSuffix(value, "000000000") } // of nanoseconds, seconds
	case "tool":
		out.What = "program " + rest
	case "output":
	case "fingerprint":
		out.What = reads(n, n.Builtin())
	case "input":
		out.What = t.inputOf(n, rest, c.Path)
	default:
		form = t.parameter(n, c.Part, &out)
	}
	out.Was, out.Is = valueOf(c.Old, form), valueOf(c.New, form)
	out.Lines = diffLines(c)
	return out
}

// valueOf is a value as people write it; "" for none.
func valueOf(value string, form func(string) string) string {
	if kind, digest, ok := strings.Cut(value, " b3:"); ok && (kind == "file" || kind == "tree") && len(digest) >= 12 {
		_, more, _ := strings.Cut(digest, ",")
		return strings.TrimSuffix("content "+digest[:12]+","+more, ",")
	}
	if value == "" {
		return ""
	}
	return form(value)
}

// reads is what a source reads.
func reads(n *engine.Node, otherwise string) string {
	if told, ok := n.Action().(engine.Told); ok {
		return told.Reads()
	}
	return otherwise
}

// operation is the one that recorded the node, nil for a source.
func (t *teller) operation(n *engine.Node) *lang.Operation {
	i := slices.IndexFunc(t.operations, func(o lang.Operation) bool { return o.Name == n.Builtin() })
	if i < 0 {
		return nil
	}
	return &t.operations[i]
}

// inputOf names an input by the file that it is, or the step that makes it, and by its
// role where that begins with the name of a parameter.
func (t *teller) inputOf(n *engine.Node, role, below string) string {
	i := slices.IndexFunc(n.Inputs(), func(in engine.Input) bool { return in.Role == role })
	if i < 0 {
		return "input " + role
	}
	ref := n.Inputs()[i].Ref
	what := reads(ref.Node, ref.String())
	if below != "" {
		what = "file " + path.Join(strings.TrimPrefix(what, "directory "), below)
	}
	word, _, _ := strings.Cut(strings.NewReplacer(":", " ", "[", " ").Replace(role), " ")
	if o := t.operation(n); o == nil || !slices.ContainsFunc(o.Params, func(p lang.Param) bool { return p.Name == word || p.Name == word+"s" }) {
		return what
	}
	return fmt.Sprintf("%s (%s)", what, role)
}

// parameter names the parameter that the part comes from, and its place. It returns how
// values of it are written.
func (t *teller) parameter(n *engine.Node, part string, out *output.Change) func(string) string {
	o := t.operation(n)
	if o == nil {
		return strconv.Quote
	}
	from, ok := o.OriginOf(n.Action(), part)
	if !ok {
		return strconv.Quote
	}
	out.What = from.Param.Name + strings.ToLower(from.Rest)
	out.Place = t.place(n.Where(), o, from.Param.Name)
	if from.Param.Name == "env" {
		out.What = "environment variable " + strings.Trim(from.Rest, `[]"`) + " (env)"
	}
	return func(value string) string { return t.written(from, value) }
}

// place is where the argument is written, else the call.
func (t *teller) place(call engine.Position, o *lang.Operation, param string) *output.Place {
	index := slices.IndexFunc(o.AllParams(), func(p lang.Param) bool { return p.Name == param })
	if index >= o.Positional {
		index = -1
	}
	if file := t.parse(call.File); file != nil {
		if line, col, ok := outline.Argument(file, call.Line, call.Col, param, index); ok {
			call.Line, call.Col = line, col
		}
	}
	return output.PlaceOf(call)
}

// parse reads a file of the workspace, once.
func (t *teller) parse(name string) *outline.File {
	if file, ok := t.parsed[name]; ok || !filepath.IsLocal(name) {
		return file
	}
	t.parsed[name] = nil
	if text, err := os.ReadFile(filepath.Join(t.root, name)); err == nil {
		t.parsed[name], _ = outline.Parse(name, text) // nil for an error
	}
	return t.parsed[name]
}

// written is a value as a build file has it.
func (t *teller) written(from lang.Origin, value string) string {
	number, err := strconv.ParseFloat(value, 64)
	isSize := from.Param.Type&(lang.Size|lang.DictOf(lang.Size)|lang.ListOf(lang.Size)) != 0 || t.isSizeOfPart(from)
	name := from.Param.Name + from.Rest
	switch {
	case value == "true" && !from.Not || value == "false" && from.Not:
		return "True"
	case value == "true" || value == "false":
		return "False"
	case err != nil:
		return strconv.Quote(value)
	case strings.HasSuffix(strings.ToLower(name), "mode") || strings.HasPrefix(name, "modes["):
		return fmt.Sprintf("0o%03o", int64(number))
	case isSize && number == float64(int64(number)) && number != 0:
		return strings.TrimSuffix(size.Bytes(number).String(), "iB")
	case strings.HasPrefix(value, "0x") || strings.HasPrefix(value, "-0x"):
		return strconv.FormatFloat(number, 'g', -1, 64)
	case from.Param.Type&(lang.Int|lang.Float|lang.Size) == 0 && from.Rest == "" && from.Param.Type&lang.String != 0:
		return strconv.Quote(value)
	}
	return value
}

// isSizeOfPart reports whether the origin is a size in part(), the elements of disk().
func (t *teller) isSizeOfPart(from lang.Origin) bool {
	_, field, ok := strings.Cut(from.Rest, "].")
	if from.Param.Name != "partitions" || !ok {
		return false
	}
	for _, o := range t.operations {
		for _, p := range o.Params {
			if o.Name == "part" && strings.EqualFold(p.Name, field) {
				return p.Type&lang.Size != 0
			}
		}
	}
	return false
}

// maxDiff is how many lines of a difference are shown.
const maxDiff = 40

// diffLines shows how a text of several lines, or the content of a file, differs line by
// line; nil where the values tell all, or the texts are not known.
func diffLines(c engine.Change) []string {
	was, is := c.OldText, c.NewText
	if was == "" && is == "" {
		if was, is = c.Old, c.New; !strings.Contains(strings.TrimSuffix(was, "\n")+strings.TrimSuffix(is, "\n"), "\n") {
			return nil
		}
	}
	text := string(diff.Diff("was", []byte(was), "is", []byte(is)))
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) <= 3 {
		return nil
	}
	lines = lines[3:] // the names of the two
	if more := len(lines) - maxDiff; more > 1 {
		lines = append(lines[:maxDiff], fmt.Sprintf("(and %s)", output.Count(more, "line more", "lines more")))
	}
	return lines
}
