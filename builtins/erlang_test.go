package builtins

import (
	"crypto/sha256"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/content/yaml"
)

// TestErlangConfig builds configurations from every kind of input.
func TestErlangConfig(t *testing.T) {
	b := newBuilder(t, map[string]string{
		"B9BUILD.star": `
secret = file(content = "it's \"s3cret\".\n]}")
erlang_config(name = "sys", vars = {"host": "db1\" }]", "port": 5432, "peers": ["a", ("b", 2.0)], "secret": secret}, inputs = [
    "base.config",
    "[{kernel, [{logger_level, debug}, verbose]}].",
    {"app": {"url": "x", "on": True, "off": None, erl_atom("Odd"): erl_binary("b")}},
    {"app": {"embedded": secret, "n": [1, 2, 3]}},
])
erlang_config(name = "binary", inputs = [{"text": "é", 1: {}}, {"secret": secret}], strings = "binary", dicts = "map", keys = "text")
erlang_config(name = "replace", inputs = ["{a, 1}. {b, [1]}.", "{a, 2}.\n{b, [2]}."], strategy = "replace")
`,
		"base.config": "%% base\n[{kernel, [{port, ${port}}]},\n {app, [{host, ${host}}, {dsn, \"pg://\" ${host} \":\" ${port}}, {peers, ${peers}}, {key, ${secret}}, {raw, <<${secret}>>}]}].\n",
	})
	for target, want := range map[string]string{
		"//:sys": `[{kernel,[{port,5432},{logger_level,debug},verbose]},
 {app,[{host,"db1\" }]"},
       {dsn,"pg://db1\" }]:5432"},
       {peers,["a",{"b",2.0}]},
       {key,"it's \"s3cret\".\n]}"},
       {raw,<<"it's \"s3cret\".\n]}">>},
       {url,"x"},
       {on,true},
       {off,undefined},
       {'Odd',<<"b">>},
       {embedded,"it's \"s3cret\".\n]}"},
       {n,[1,2,3]}]}].
`,
		"//:binary": "%% -*- coding: utf-8 -*-\n" + `#{<<"text">> => <<"é"/utf8>>,1 => #{},
  <<"secret">> => <<"it's \"s3cret\".\n]}">>}.
`,
		"//:replace": `{a,2}.
{b,[1,2]}.
`,
	} {
		if text, _ := b.build(target, nil); text != want {
			t.Errorf("%s is\n%s\nwant\n%s", target, text, want)
		}
	}
	if _, executed := b.build("//:sys", nil); executed != 0 {
		t.Errorf("again: %d steps ran", executed)
	}
	builtinstest.WriteWorkspace(t, b.root, map[string]string{"base.config": "%% another comment\n[{kernel, [{port, ${port}}]}].\n"})
	if _, executed := b.build("//:sys", nil); executed != 1 {
		t.Errorf("a changed input: %d steps ran, want 1", executed)
	}
}

// TestDigestAndSize uses what digest() and size() make as values, and changes the file.
func TestDigestAndSize(t *testing.T) {
	b := newBuilder(t, map[string]string{
		"B9BUILD.star": `
data = file(content = "some content")
template(name = "sums", content = "${sum} ${long} ${b3} ${bytes}", vars = {
    "sum": digest(data), "long": digest("data.txt", algorithm = "sha512"), "b3": digest(data, algorithm = "blake3"), "bytes": size("data.txt")})
`,
		"data.txt": "some content",
	})
	text, _ := b.build("//:sums", nil)
	parts := strings.Fields(text)
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte("some content"))); len(parts) != 4 || parts[0] != want || len(parts[1]) != 128 || len(parts[2]) != 64 || parts[3] != "12" {
		t.Errorf("got %q", text)
	}
	builtinstest.WriteWorkspace(t, b.root, map[string]string{"data.txt": "other"})
	if text, executed := b.build("//:sums", nil); executed != 3 || !strings.HasSuffix(text, " 5") {
		t.Errorf("a changed file: %d steps ran, want 3: %q", executed, text)
	}
}

// TestEmbedKeepsValues holds that a value without handles comes back as it was.
func TestEmbedKeepsValues(t *testing.T) {
	dict := starlark.NewDict(2)
	_ = dict.SetKey(starlark.String("z"), starlark.NewList([]starlark.Value{starlark.MakeInt(-1), starlark.MakeInt(1).Lsh(80), starlark.Float(0.1), starlark.True, starlark.None}))
	_ = dict.SetKey(starlark.String("a"), starlark.Tuple{starlark.String("text"), starlark.NewDict(0)})
	c := &lang.Call{}
	d, inputs := embed(c, "user_data", dict)
	if c.Failed() || len(inputs) > 0 {
		t.Fatalf("failed: %v, inputs %v", c.Failed(), inputs)
	}
	at := engine.Position{File: "f", Line: 1, Col: 2}
	got, err := d.node(at, unknownTexts())
	if err != nil {
		t.Fatal(err)
	}
	node := func(v any) *yaml.Node { return &yaml.Node{Value: v, At: at} }
	large, _ := new(big.Int).SetString("1208925819614629174706176", 10)
	want := node(yaml.Fields{
		{Key: node("z"), Value: node([]*yaml.Node{node(int64(-1)), node(large), node(0.1), node(true), node(nil)})},
		{Key: node("a"), Value: node([]*yaml.Node{node("text"), node(yaml.Fields{})})},
	})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

// TestEmbedNamesMistakes holds that each mistake in a value comes with its path.
func TestEmbedNamesMistakes(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{
		lang.RootFile: "", lang.BuildFile: `cloud_init(name = "seed", user_data = {"a": (erl_atom("x"), {1: None})})`,
	})
	w, err := openTest(t.Context(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Resolve(t.Context(), []string{"//:seed"})
	want := `B9BUILD.star:1:1: cloud_init(): user_data["a"][0]: a erl_atom can't be written as text
B9BUILD.star:1:1: cloud_init(): user_data["a"][1]: the key 1 is no string`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// TestDatumText holds that the text of an input takes the place of its handle.
func TestDatumText(test *testing.T) {
	d := datum{Kind: dictDatum, Items: []datum{{Kind: stringDatum, Text: "k"}, {Kind: listDatum, Items: []datum{{Kind: embedDatum, Text: "role"}}}}}
	known := texts{read: func(role string) (string, bool, error) { return "<" + role + ">", true, nil }}
	for want, t := range map[string]texts{"k:\n  - \"<role>\"\n": known, "k:\n  - text of role\n": unknownTexts()} {
		n, err := d.node(engine.Position{}, t)
		if err != nil {
			test.Fatal(err)
		}
		if got, err := n.YAML(); err != nil || got != want {
			test.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}
