package difference

import (
	"fmt"
	"strings"

	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine/size"
)

// Words is a difference for people: what the second side has instead, volume by volume.
func Words(d output.Diff) string {
	var b strings.Builder
	if d.Same {
		fmt.Fprintf(&b, "%s and %s are the same\n", d.A, d.B)
		return b.String()
	}
	fmt.Fprintf(&b, "from %s to %s:\n", d.A, d.B)
	differs(&b, "", d.Changes)
	offset(&b, "", d.Offset, len(d.Changes) == 0)
	writeLines(&b, d.Lines)
	for _, v := range d.Volumes {
		volume(&b, v)
	}
	return b.String()
}

func volume(b *strings.Builder, v output.VolumeDiff) {
	if v.Partition > 0 {
		fmt.Fprintf(b, "partition %d", v.Partition)
		if v.FileSystem != "" {
			b.WriteString(", " + v.FileSystem)
		}
		switch v.Only {
		case "a":
			b.WriteString(": gone")
		case "b":
			b.WriteString(": new")
		}
		b.WriteString("\n")
	}
	differs(b, "", v.Changes)
	offset(b, "", v.Offset, len(v.Changes) == 0 && v.FileSystem != "")
	if n := len(v.Packages); n > 0 {
		fmt.Fprintf(b, "%s:\n", output.Count(n, "package", "packages"))
	}
	for _, p := range v.Packages {
		switch {
		case p.A == "":
			fmt.Fprintf(b, "  + %s %s\n", display.Clean(p.Package), display.Clean(p.B))
		case p.B == "":
			fmt.Fprintf(b, "  - %s %s\n", display.Clean(p.Package), display.Clean(p.A))
		default:
			fmt.Fprintf(b, "    %s %s -> %s\n", display.Clean(p.Package), display.Clean(p.A), display.Clean(p.B))
		}
	}
	if n := len(v.Files); n > 0 {
		fmt.Fprintf(b, "%s:\n", output.Count(n, "file or directory", "files and directories"))
	}
	for _, f := range v.Files {
		file(b, f)
	}
}

func file(b *strings.Builder, f output.FileDiff) {
	path := display.Clean(f.Path)
	what := f.Type
	if f.Below > 0 {
		what += " with " + output.Count(f.Below, "file", "files")
	}
	if f.Type == "file" {
		what += ", " + size.About(f.Size)
	}
	switch f.Change {
	case "added":
		fmt.Fprintf(b, "  + %s  (%s)\n", path, what)
		return
	case "removed":
		fmt.Fprintf(b, "  - %s  (%s)\n", path, what)
		return
	}
	fmt.Fprintf(b, "    %s\n", path)
	differs(b, "        ", f.Changes)
	if f.Lines == nil {
		offset(b, "        ", f.Offset, false)
	}
	writeLines(b, f.Lines)
}

func differs(b *strings.Builder, indent string, list []output.Differs) {
	for _, c := range list {
		fmt.Fprintf(b, "%s%s: %s -> %s\n", indent, c.What, shown(c.A), shown(c.B))
	}
}

func shown(value string) string {
	if value == "" {
		return "(none)"
	}
	return display.Clean(value)
}

// offset says from where on bytes differ; alone, where nothing else does.
func offset(b *strings.Builder, indent string, at *int64, alone bool) {
	switch {
	case at == nil:
	case alone:
		fmt.Fprintf(b, "%sfiles and attributes are the same; bytes differ from offset %d on\n", indent, *at)
	default:
		fmt.Fprintf(b, "%sbytes differ from offset %d on\n", indent, *at)
	}
}

func writeLines(b *strings.Builder, lines []string) {
	for _, line := range lines {
		b.WriteString("        " + display.Clean(line) + "\n")
	}
}
