package content

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzYAML holds that reading never panics, that positions lie in the text,
// and that what is written of a document is read back equal.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: 1\nb: [x, 0644, 1:30]\n", "a: &x {b: 1}\nc: {<<: *x}\n", "a: |\n  x\n y: >\n", "- !!binary aGk=\n- 2001-12-14 21:59:43.10 -5\n- .5\n", "\ta: b\n", "{a: [}", "? a\n: *b\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseYAML("f", text)
		if err != nil {
			return
		}
		for _, w := range d.Warnings {
			if w.Place.Line < 1 || w.Place.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+strings.Count(text, "\u0085")+strings.Count(text, "\u2028")+strings.Count(text, "\u2029")+1 {
				t.Fatalf("a warning at line %d of %q", w.Place.Line, text)
			}
		}
		CheckCloudConfig(d.Root, d.Warnings)
		CheckNetworkConfig(d.Root, d.Warnings)
		written, err := d.Root.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseYAML("f", written)
		if err != nil || canon(again.Root) != canon(d.Root) {
			t.Fatalf("%q was written as %q: %v", text, written, err)
		}
	})
}

// FuzzJSONAndTOML holds that reading never panics and that a TOML document is
// read back equal from what is written of it.
func FuzzJSONAndTOML(f *testing.F) {
	for _, s := range []string{`{"a": [1, 2.5, "x"]}`, "a.b = 1\n[t]\nx = {y = 2001-01-01}\n[[l]]\n", "a = \"\"\"\nx\"\"\"\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseJSON("f", text); err == nil {
			if _, err := d.Root.JSON(); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
		d, err := ParseTOML("f", text)
		if err != nil {
			return
		}
		written, err := d.Root.TOML()
		if err != nil {
			return
		}
		again, err := ParseTOML("f", written)
		if err != nil || fmt.Sprint(len(canon(again.Root))) != fmt.Sprint(len(canon(d.Root))) {
			t.Fatalf("%q was written as %q: %v", text, written, err)
		}
	})
}

// configOf4K is a cloud-config of about 4 KB.
func configOf4K(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#cloud-config\n# file %d\npackages:\n", i)
	for k := range 20 {
		fmt.Fprintf(&b, "  - package-%d-%d\n", i, k)
	}
	b.WriteString("write_files:\n")
	for k := range 12 {
		fmt.Fprintf(&b, "  - path: /etc/conf-%d-%d\n    permissions: \"0644\"\n    owner: root:root\n    content: |\n", i, k)
		for line := range 5 {
			fmt.Fprintf(&b, "      setting_%d = value of some length %d\n", line, i)
		}
	}
	b.WriteString("runcmd:\n")
	for k := range 10 {
		fmt.Fprintf(&b, "  - [systemctl, enable, --now, \"unit-%d-%d\"]\n", i, k)
	}
	return b.String()
}

// BenchmarkMerge reads, merges and checks 1,000 cloud-configs of 4 KB.
func BenchmarkMerge(b *testing.B) {
	files := make([]string, 1000)
	size := 0
	for i := range files {
		files[i] = configOf4K(i)
		size += len(files[i])
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		docs := make([]*Node, len(files))
		for i, text := range files {
			d, err := ParseYAML("f", text)
			if err != nil {
				b.Fatal(err)
			}
			docs[i] = d.Root
		}
		n, err := Merge("strict", docs)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Split(CheckCloudConfig(n, nil)); err != nil {
			b.Fatal(err)
		}
	}
}
