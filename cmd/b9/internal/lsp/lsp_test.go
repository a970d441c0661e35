package lsp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sourcegraph/jsonrpc2"
	protocol "github.com/tliron/glsp/protocol_3_16"

	"b9.build/b9/cmd/b9/internal/session"
)

// editor is a client of a server for a workspace.
type editor struct {
	*testing.T
	dir  string
	conn *jsonrpc2.Conn

	mu   sync.Mutex
	told map[string]chan []protocol.Diagnostic // by file
}

// edit starts a server for a workspace of these files.
func edit(t *testing.T, files map[string]string) *editor {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	e := &editor{T: t, dir: t.TempDir(), told: map[string]chan []protocol.Diagnostic{}}
	for name, text := range files {
		e.write(name, text)
	}
	toServer, fromEditor := io.Pipe()
	toEditor, fromServer := io.Pipe()
	p := session.New(toServer, fromServer, io.Discard)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- serve(ctx, p) }()
	e.conn = jsonrpc2.NewConn(ctx, jsonrpc2.NewBufferedStream(stream{toEditor, fromEditor}, jsonrpc2.VSCodeObjectCodec{}), jsonrpc2.HandlerWithError(e.handle))
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	root := uriOf(e.dir)
	e.call("initialize", protocol.InitializeParams{RootURI: &root}, &map[string]any{})
	return e
}

func (e *editor) write(name, text string) {
	e.Helper()
	path := filepath.Join(e.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		e.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		e.Fatal(err)
	}
}

func (e *editor) handle(_ context.Context, _ *jsonrpc2.Conn, r *jsonrpc2.Request) (any, error) {
	var d protocol.PublishDiagnosticsParams
	if r.Method == protocol.ServerTextDocumentPublishDiagnostics && json.Unmarshal(*r.Params, &d) == nil {
		e.diagnostics(pathOf(d.URI)) <- d.Diagnostics
	}
	return nil, nil
}

func (e *editor) diagnostics(path string) chan []protocol.Diagnostic {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.told[path] == nil {
		e.told[path] = make(chan []protocol.Diagnostic, 100)
	}
	return e.told[path]
}

// until waits for diagnostics of a file with a text in them, "" for none at all.
func (e *editor) until(name, want string) protocol.Diagnostic {
	e.Helper()
	for list := range e.diagnostics(filepath.Join(e.dir, name)) {
		if want == "" && len(list) == 0 {
			return protocol.Diagnostic{}
		}
		for _, d := range list {
			if want != "" && strings.Contains(d.Message, want) {
				return d
			}
		}
	}
	e.Fatal("the connection ended")
	return protocol.Diagnostic{}
}

func (e *editor) call(method string, params, result any) {
	e.Helper()
	if err := e.conn.Call(e.Context(), method, params, result); err != nil {
		e.Fatalf("%s: %v", method, err)
	}
}

func (e *editor) notify(method string, params any) {
	e.Helper()
	if err := e.conn.Notify(e.Context(), method, params); err != nil {
		e.Fatal(err)
	}
}

func (e *editor) id(name string) protocol.TextDocumentIdentifier {
	return protocol.TextDocumentIdentifier{URI: uriOf(filepath.Join(e.dir, name))}
}

// open opens a file with a text in which | is the pointer, which it returns.
func (e *editor) open(name, text string) protocol.TextDocumentPositionParams {
	e.Helper()
	before, after, _ := strings.Cut(text, "|")
	d := &document{text: before + after}
	e.notify("textDocument/didOpen", protocol.DidOpenTextDocumentParams{TextDocument: protocol.TextDocumentItem{URI: e.id(name).URI, LanguageID: "starlark", Text: d.text}})
	line, col := d.place(len(before))
	return protocol.TextDocumentPositionParams{TextDocument: e.id(name), Position: d.position(line, col)}
}

func (e *editor) completions(name, text string) []string {
	e.Helper()
	var list struct{ Items []protocol.CompletionItem }
	e.call("textDocument/completion", protocol.CompletionParams{TextDocumentPositionParams: e.open(name, text)}, &list)
	var labels []string
	for _, item := range list.Items {
		labels = append(labels, item.Label)
	}
	return labels
}

func siteFiles() map[string]string {
	return map[string]string{
		"b9.toml":          "",
		"B9BUILD.star":     "file(name = \"one\", content = \"1\", doc = \"the first\")\nfile(name = \"two\", content = \"2\")\n",
		"web/lib.star":     "\"\"\"Helpers.\"\"\"\n\ndef site(name, root = \":root\", *, extra = []):\n    \"\"\"A site of that name.\"\"\"\n    return file(name = name, content = root)\n\ndef _hidden():\n    pass\n",
		"web/B9BUILD.star": "load(\":lib.star\", \"site\")\n\nsite(\"home\")\n",
		".hidden/no.star":  "",
	}
}

func TestCompletion(t *testing.T) {
	e := edit(t, siteFiles())
	for _, c := range []struct {
		file, text string
		want, no   []string
	}{
		{"B9BUILD.star", "fi|", []string{"file"}, []string{"image", "one"}},
		{"B9BUILD.star", "file(name = \"x\", co|)", []string{"content ="}, []string{"name ="}},
		{"B9BUILD.star", "image(name = \"x\", fs = \"|", []string{"ext4", "vfat"}, []string{":one"}},
		{"B9BUILD.star", "group(name = \"g\", targets = [\":|\"])", []string{":one", ":two"}, []string{"//web:home"}},
		{"B9BUILD.star", "group(name = \"g\", targets = [\":one\", \"//|", []string{"//:one", "//web:home"}, nil},
		{"web/B9BUILD.star", "group(name = \"g\", targets = [\"//:t|", []string{"//:two"}, []string{"//:one"}},
		{"web/B9BUILD.star", "load(\"|", []string{"@b9//debian.star", ":lib.star", "//web:lib.star"}, []string{"//.hidden:no.star", ":B9BUILD.star"}},
		{"web/B9BUILD.star", "load(\":lib.star\", \"|", []string{"site"}, []string{"_hidden"}},
		{"web/B9BUILD.star", "load(\":lib.star\", \"site\")\n\nsi|", []string{"site"}, nil},
		{"web/B9BUILD.star", "load(\":lib.star\", \"site\")\n\nsite(\"x\", |)", []string{"root =", "extra =", "site", "file"}, []string{"content ="}},
		{"web/B9BUILD.star", "x = 'ä𝄞' + fi|", []string{"file"}, nil},
		{"web/B9BUILD.star", "# fi|", nil, []string{"file"}},
		{"web/B9BUILD.star", "x = \"a\".fo|", nil, []string{"for"}},
	} {
		got := e.completions(c.file, c.text)
		for _, want := range c.want {
			if !slices.Contains(got, want) {
				t.Errorf("%s: %q is completed by %q, want %q", c.file, c.text, got, want)
			}
		}
		for _, no := range c.no {
			if slices.Contains(got, no) {
				t.Errorf("%s: %q is completed by %q, which has %q", c.file, c.text, got, no)
			}
		}
	}
}

func TestHoverAndDefinition(t *testing.T) {
	e := edit(t, siteFiles())
	for _, c := range []struct {
		file, text string
		hover      string
		place      string // file:line
	}{
		{"web/B9BUILD.star", "load(\":lib.star\", \"site\")\n\nsi|te(\"home\")\n", "A site of that name.", "web/lib.star:3"},
		{"web/B9BUILD.star", "load(\":li|b.star\", \"site\")\n\nsite(\"home\")\n", "", "web/lib.star:1"},
		{"web/B9BUILD.star", "load(\":lib.star\", \"si|te\")\n\nsite(\"home\")\n", "", "web/lib.star:3"},
		{"web/B9BUILD.star", "group(name = \"g\", targets = [\"//:o|ne\"])\n", "the first", "B9BUILD.star:1"},
		{"web/B9BUILD.star", "group(name = \"g\", targets = [\":ho|me\"])\n", "file()", "web/lib.star:5"},
		{"B9BUILD.star", "ima|ge(name = \"x\", size = \"1M\")\n", "Parameters:", ""},
		{"B9BUILD.star", "def f(x):\n    y = x\n    return y|\n", "", "B9BUILD.star:2"},
	} {
		at := e.open(c.file, c.text)
		var hover *struct{ Contents struct{ Value string } }
		e.call("textDocument/hover", protocol.HoverParams{TextDocumentPositionParams: at}, &hover)
		if (hover != nil) != (c.hover != "") || hover != nil && !strings.Contains(hover.Contents.Value, c.hover) {
			t.Errorf("%q: hover %+v, want %q", c.text, hover, c.hover)
		}
		var where *protocol.Location
		e.call("textDocument/definition", protocol.DefinitionParams{TextDocumentPositionParams: at}, &where)
		place := ""
		if where != nil {
			rel, _ := filepath.Rel(e.dir, pathOf(where.URI))
			place = fmt.Sprintf("%s:%d", rel, where.Range.Start.Line+1)
		}
		if place != c.place {
			t.Errorf("%q: defined at %q, want %q", c.text, place, c.place)
		}
	}
}

func TestDiagnosticsAndLayout(t *testing.T) {
	e := edit(t, siteFiles())
	e.open("B9BUILD.star", "file(name = ")
	if d := e.until("B9BUILD.star", "got end of file"); *d.Severity != protocol.DiagnosticSeverityError {
		t.Errorf("%+v", d)
	}
	e.open("B9BUILD.star", "load(\"@b9//paths.star\", \"join\")\n")
	if d := e.until("B9BUILD.star", "nothing uses join"); d.Range.Start.Character != 25 || d.Range.End.Character != 29 || *d.Severity != protocol.DiagnosticSeverityWarning {
		t.Errorf("%+v", d)
	}
	// What only evaluation finds comes once the file is saved, also in other files.
	e.write("B9BUILD.star", "image(name = \"x\", size = \"1X\")\n")
	e.open("B9BUILD.star", "image(name = \"x\", size = \"1X\")\n")
	e.notify("textDocument/didSave", protocol.DidSaveTextDocumentParams{TextDocument: e.id("B9BUILD.star")})
	e.until("B9BUILD.star", "1X")
	e.write("B9BUILD.star", "file(name = \"late\", content = \"\")\n")
	e.open("B9BUILD.star", "file(name = \"late\", content = \"\")\n")
	e.notify("textDocument/didSave", protocol.DidSaveTextDocumentParams{TextDocument: e.id("B9BUILD.star")})
	e.until("B9BUILD.star", "")

	e.open("B9BUILD.star", "x = [ 1,2 ]\ny='ä'")
	var edits []protocol.TextEdit
	e.call("textDocument/formatting", protocol.DocumentFormattingParams{TextDocument: e.id("B9BUILD.star")}, &edits)
	if len(edits) != 1 || edits[0].NewText != "x = [1, 2]\ny = \"ä\"\n" || edits[0].Range.End != (protocol.Position{Line: 1, Character: 5}) {
		t.Errorf("%+v", edits)
	}
	if err := e.conn.Call(t.Context(), "textDocument/rename", map[string]any{}, nil); err == nil {
		t.Error("what the server does not know is answered")
	}
}

// TestNeovim drives the server with a real editor: see testdata/neovim.lua.
func TestNeovim(t *testing.T) {
	if _, err := exec.LookPath("nvim"); err != nil {
		t.Skipf("no nvim (Debian package neovim): %v", err)
	}
	bin := filepath.Join(t.TempDir(), "b9")
	if out, err := exec.Command("go", "build", "-o", bin, "b9.build/b9/cmd/b9").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	for name, text := range siteFiles() {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script, err := filepath.Abs("testdata/neovim.lua")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nvim", "--headless", "-u", "NONE", "-n", "-c", "luafile "+script, filepath.Join(dir, "web", "B9BUILD.star"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "B9="+bin, "XDG_STATE_HOME="+t.TempDir(), "XDG_CACHE_HOME="+t.TempDir(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"hover: A site of that name", "definition: lib.star:3", "completion: site", "diagnostic: nothing uses unused", "layout: x = 1"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in what the editor says:\n%s", want, out)
		}
	}
}

// BenchmarkCompletion completes a label in a workspace of 10,000 targets.
func BenchmarkCompletion(b *testing.B) {
	w := &workspace{root: "/ws", ready: make(chan struct{})}
	close(w.ready)
	for i := range 10000 {
		w.targets = append(w.targets, target{label: fmt.Sprintf("//p%d:t%d", i/20, i%20), builtin: "file"})
	}
	s := &server{documents: map[string]*document{}, workspace: w}
	d := &document{path: "/ws/B9BUILD.star", text: strings.Repeat("x = 1\n", 1000) + "group(name = \"g\", targets = [\"//p499"}
	s.documents[d.path] = d
	line, col := d.place(len(d.text))
	params := &protocol.CompletionParams{TextDocumentPositionParams: protocol.TextDocumentPositionParams{TextDocument: protocol.TextDocumentIdentifier{URI: uriOf(d.path)}, Position: d.position(line, col)}}
	for b.Loop() {
		if list, err := s.complete(nil, params); err != nil || len(list.(protocol.CompletionList).Items) != 20 {
			b.Fatal(list, err)
		}
	}
}
