package output

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

var update = flag.Bool("update", false, "rewrite the documents of docs/output.md")

// fields lists the fields of a type as the documentation has them: a name and a
// type a line, those of objects further in.
func fields(b *strings.Builder, t reflect.Type, indent string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			fields(b, f.Type, indent)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		of, kind := element(f.Type)
		if strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero") {
			kind += ", optional"
		}
		fmt.Fprintf(b, "%s%-*s %s\n", indent, 24-len(indent), name, kind)
		if strings.Contains(kind, "object") {
			fields(b, of, indent+"  ")
		}
	}
}

// element is what a list or pointer leads to, and the JSON type of it all.
func element(t reflect.Type) (of reflect.Type, kind string) {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return t, "time"
	case t.Kind() == reflect.Pointer:
		return element(t.Elem())
	case t.Kind() == reflect.Slice:
		of, kind := element(t.Elem())
		return of, "list of " + kind
	case t.Kind() == reflect.Struct:
		return t, "object"
	case t.Kind() == reflect.Bool:
		return t, "bool"
	case t.Kind() == reflect.Float64:
		return t, "number"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		return t, "integer"
	}
	return t, "string"
}

// reference is the part of docs/output.md that lists every document.
func reference() string {
	var b strings.Builder
	for _, d := range Documents() {
		fmt.Fprintf(&b, "### %s\n\nPrinted by %s.\n\n", d.Schema(), d.Of)
		fields(&b, reflect.TypeOf(d.Zero), "    ")
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestDocumentation compares docs/output.md with the types.
func TestDocumentation(t *testing.T) {
	name := filepath.Join("..", "..", "..", "..", "docs", "output.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const begin = "## The documents\n\n"
	before, have, ok := strings.Cut(string(text), begin)
	if !ok {
		t.Fatalf("%s has no section %q", name, begin)
	}
	if *update {
		if err := os.WriteFile(name, []byte(before+begin+reference()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != reference() {
		t.Errorf("the section %q of %s is not that of the types (-update writes it, and a field that is gone, or that means something else, wants the next version of its document):\n%s", begin, name, reference())
	}
}

// TestFieldStyle wants lower case with underscores everywhere.
func TestFieldStyle(t *testing.T) {
	good := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	for _, line := range strings.Split(reference(), "\n") {
		name, _, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && strings.HasPrefix(line, "    ") && !good.MatchString(name) {
			t.Errorf("the field %q is not lower case with underscores", name)
		}
	}
}

// TestOnlyHere keeps the JSON that people's programs read in this package.
func TestOnlyHere(t *testing.T) {
	allowed := []string{filepath.Join("internal", "output", "print.go"), "again.go"} // which hashes it
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasSuffix(path, filepath.Join("internal", "site")) {
			return filepath.SkipDir // a program of its own, which reads what b9 prints
		}
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), `"encoding/json"`) && !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasSuffix(path, string(filepath.Separator)+a) }) {
			t.Errorf("%s imports encoding/json: print one of the documents of this package", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	if err := errors.Join(Print(&b, Targets{Targets: []Target{}}), PrintLine(&b, Version{Version: "\u0085\x7f<"})); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"schema\": \"targets/1\",\n  \"targets\": []\n}\n" + `{"schema":"version/1","version":"\u0085\u007f<","revision":"","go":""}` + "\n"
	if b.String() != want {
		t.Errorf("%s, want %s", b.String(), want)
	}
}

func TestFailures(t *testing.T) {
	at := func(line int) engine.Position { return engine.Position{File: "B9BUILD.star", Line: line, Col: 1} }
	mistakes := lang.Errors{
		{Label: "//:x", Msg: `B9BUILD.star has no target "x"`},
		{Pos: at(3), Stack: []lang.Frame{{Pos: at(3)}, {Pos: at(9), Name: "f"}}, Msg: "image(): no"},
	}
	err := fmt.Errorf("%w", errors.Join(mistakes, errors.Join(engine.Position{File: "b9.toml", Line: 2, Col: 1}.Errorf("no")), errors.New("disk is gone")))
	want := "b9: //:x: B9BUILD.star has no target \"x\"\nB9BUILD.star:3:1: image(): no\n\tcalled from B9BUILD.star:9:1 in f\nb9: b9.toml:2:1: no\nb9: disk is gone\n"
	if got := Text(err); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	wantList := []Failure{
		{Label: "//:x", Cause: `B9BUILD.star has no target "x"`},
		{Place: &Place{"B9BUILD.star", 3, 1}, Cause: "image(): no", CalledFrom: []Place{{"B9BUILD.star", 9, 1}}},
		{Place: &Place{"b9.toml", 2, 1}, Cause: "no"},
		{Cause: "disk is gone"},
	}
	if got := Failures(err); !reflect.DeepEqual(got, wantList) {
		t.Errorf("got %+v, want %+v", got, wantList)
	}
	if got := Failures(nil); got != nil {
		t.Errorf("no error gives %v", got)
	}
}
