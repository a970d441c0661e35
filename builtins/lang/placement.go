package lang

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"b9.build/b9/engine"
)

// Placement is one result of a target and where it goes.
type Placement struct {
	Ref   engine.Ref
	Label string // of the target that makes it
	Path  string // slash-separated, beneath the output directory
	Mode  uint32 // permission bits of a file; 0 leaves them to the placer
}

// Placements lists the results of the target: //pkg:name goes to pkg/name,
// with the ending of its format. A step with several outputs has a directory
// of its own, and members of a group go where they go without it.
func (t *Target) Placements() []Placement {
	list := make([]Placement, len(t.Refs))
	for i, ref := range t.Refs {
		label, base := ref.Node.Label(), ""
		if l, err := parseLabel(label, Label{}); err == nil {
			base = l.outputPath()
		} else {
			label, base = t.Label.String(), path.Join(t.Label.outputPath(), fmt.Sprint(i+1))
		}
		list[i] = Placement{Ref: ref, Label: label, Path: outputPath(base, ref)}
		if out, err := ref.Node.Declared(ref.Output); err == nil {
			list[i].Mode = out.Mode
		}
	}
	return list
}

// outputPath is where a target goes, without an ending.
func (l Label) outputPath() string { return path.Join(l.Root, l.Pkg, l.File, l.Name) }

func outputPath(base string, ref engine.Ref) string {
	outs := ref.Node.Outputs()
	i := slices.IndexFunc(outs, func(o engine.Output) bool { return o.Name == ref.Output })
	if len(outs) > 1 {
		base = path.Join(base, outputName(outs[i].Name))
	}
	if ext := outs[i].Ext; ext != "" && path.Ext(base) != "."+ext {
		base += "." + ext
	}
	return base
}

// outputName turns an output's name, such as the mount point "/srv/www", into
// a file name, here "srv-www". Different names stay different.
func outputName(name string) string {
	switch name {
	case "/":
		return "root"
	case "/root":
		return "-root"
	}
	return strings.NewReplacer("%", "%25", "-", "%2D", "/", "-").Replace(strings.TrimPrefix(name, "/"))
}

// Arch is the architecture that commands in the target run with: that of the
// step nearest to it that has one, else "".
func (t *Target) Arch() string {
	nodes := engine.Reachable(t.Refs...)
	for _, n := range slices.Backward(nodes) {
		if m, ok := n.Action().(engine.OfMachine); ok {
			return m.Machine()
		}
	}
	return ""
}
