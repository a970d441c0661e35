package builtins

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
)

const hostileValue = "x\\nevil: true\\n- '\\\"#"

// TestVariables builds documents in which values are put.
func TestVariables(t *testing.T) {
	tests := []struct{ build, want string }{
		{`merge_yaml(["in.yaml"], name = "x", vars = {"host": "db1", "port": 5432, "list": ["a", {"b": True}], "ntp-server": "n.org"})`,
			"host: db1\nport: 5432\nurl: \"http://db1:5432/\"\nlist:\n  - a\n  - b: true\nntp: n.org\nlit: \"${host}\"\ndb1: key\n"},
		{`merge_yaml(["a: ${v}\n"], name = "x", vars = {"v": "` + hostileValue + `"})`, "a: |-\n  x\n  evil: true\n  - '\"#\n"},
		{`merge_yaml(["a: 'x ${v}'\n"], name = "x", vars = {"v": file(content = "text")})`, "a: x text\n"},
		{`merge_yaml(["a: ${v}\nb: ${HOME} ${HOME:-/root}\n"], name = "x", vars = {"v": None}, keep = ["HOME"])`, "a: null\nb: \"${HOME} ${HOME:-/root}\"\n"},
		{`merge_yaml(["a: ${HOME:-/root}\n"], name = "x")`, "a: \"${HOME:-/root}\"\n"}, // without vars and keep it means nothing
		{`merge_yaml(["a: ${v}\n", {"b": "${v}"}], name = "x", vars = {"v": 1.5})`, "a: 1.5\nb: \"${v}\"\n"},
		{`merge_yaml([{"a": b"\xff\x00"}, {"b": raw}], name = "x")`, "a: !!binary /wA=\nb: !!binary /wA=\n"},
		{`merge_yaml(["a: ${v}\n"], name = "x", vars = {"v": raw})`, "a: !!binary /wA=\n"},
		{`merge_yaml([{"a": base64(raw), "b": base64(file(content = ""))}], name = "x")`, "a: /wA=\nb: \"\"\n"},
		{`template(name = "x", content = "${ntp-server} ${HOME:-/root} ${HOME}", vars = {"ntp-server": "n"}, keep = ["HOME"])`, "n ${HOME:-/root} ${HOME}"},
		{`erlang_config(name = "x", inputs = ["[{a, \"http://${host}:${port}/$${x}\"}, {b, <<\"${host}\">>}, {c, ${ntp-server}}, {d, \"${NODE} ${NODE:-n}\"}].\n"], vars = {"host": "db1", "port": 80, "ntp-server": "n"}, keep = ["NODE"])`,
			"[{a,\"http://db1:80/${x}\"},{b,<<\"db1\">>},{c,\"n\"},{d,\"${NODE} ${NODE:-n}\"}].\n"},
		{`erlang_config(name = "x", inputs = ["[{'k${port}', 'n1@${host}'}, {'$${x}', '${NODE}'}].\n"], vars = {"host": "it's", "port": 80}, keep = ["NODE"])`,
			"[{k80,'n1@it\\'s'},{'${x}','${NODE}'}].\n"},
		{`erlang_config(name = "x", inputs = ["['n1@${host}'].\n"])`, "['n1@${host}'].\n"},
		{`erlang_config(name = "x", inputs = ["[{a, \"${NODE}\"}].\n"])`, "[{a,\"${NODE}\"}].\n"},
		{`erlang_config(name = "x", inputs = ["[{a, \"${v}\"}].\n"], vars = {"v": "\"}, {b, c"})`, "[{a,\"\\\"}, {b, c\"}].\n"},
		{`erlang_config(name = "x", inputs = ["[{a, \"${v}${m}\"}].\n"], vars = {"v": "b", "m": erl_atom("c")}, strings = "binary")`, "[{a,\"bc\"}].\n"},
	}
	for _, tt := range tests {
		b := newBuilder(t, map[string]string{
			lang.BuildFile: "raw = file(src = \"raw\")\n" + tt.build, "raw": "\xff\x00",
			"in.yaml": "host: ${host}\nport: ${port}\nurl: http://${host}:${port}/\nlist: ${list}\nntp: ${ntp-server}\nlit: $${host}\n${host}: key\n",
		})
		if got, _ := b.build("//:x", nil); got != tt.want {
			t.Errorf("%s: got %q\nwant %q", tt.build, got, tt.want)
		}
	}
}

// TestSeedVariables holds the same of user-data, in which scripts are left alone.
func TestSeedVariables(t *testing.T) {
	b := newBuilder(t, map[string]string{
		lang.BuildFile: `cloud_init(name = "x", formats = ["vfat"], user_data = ["in", "#!/bin/sh\necho ${HOME}\n", {"write_files": [{"path": "/b", "content": b"\xff"}]}], vars = {"host": "db1", "files": [{"path": "/a", "content": "c"}]})`,
		"in":           "#cloud-config\nhostname: ${host}\nwrite_files: ${files}\n",
	})
	got, _ := b.build("//:x", nil)
	for _, want := range []string{"hostname: db1\n", "- path: /a\n", "content: !!binary /w==\n", "echo ${HOME}\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the seed has no %q", want)
		}
	}
}

func TestGzip(t *testing.T) {
	b := newBuilder(t, map[string]string{lang.BuildFile: `file(name = "x", src = base64(gzip("in")))`, "in": strings.Repeat("text ", 1<<19)})
	got, _ := b.build("//:x", nil)
	packed, err := base64.StdEncoding.DecodeString(got)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil || string(plain) != strings.Repeat("text ", 1<<19) || !r.ModTime.IsZero() || r.Name != "" {
		t.Errorf("%d bytes, %v, %v, %q", len(plain), err, r.ModTime, r.Name)
	}
}

// TestVariableMistakes resolves calls whose names are wrong.
func TestVariableMistakes(t *testing.T) {
	for build, want := range map[string]string{
		`merge_yaml(["a:\n  b: ${v}\n"], name = "x", vars = {"w": 1})`:                              `inputs[0]:2:6: unknown name "v" (have w): did you mean "w"? (keep = ["v"] leaves it as it is)`,
		`merge_yaml(["a: x${v}\n"], name = "x", vars = {"v": [1]})`:                                 `inputs[0]:1:4: the value of v is list: only text, a number or a bool can be part of a text`,
		`merge_yaml(["${v}: a\n"], name = "x", vars = {"v": {}})`:                                   `inputs[0]:1:1: a key can't be mapping`,
		`merge_yaml(["a: b\n${v}: c\n"], name = "x", vars = {"v": "a"})`:                            `inputs[0]:2:1: the key "a" is there already`,
		`merge_yaml(["a: ${X:-1}\n"], name = "x", vars = {"v": 1})`:                                 `inputs[0]:1:4: in this text "${X:-1}" is for a shell, and no template has it: give X a value and write "${X}", leave this as it is by keep = ["X"], or write "$${X:-1}"`,
		`merge_yaml(["a: b\n"], name = "x", vars = {"1": 1})`:                                       `vars: bad name "1": use letters, digits, _ and -, and begin with a letter or _`,
		`merge_yaml([{"a": b"\xff"}], name = "x", format = "json")`:                                 "binary data can't be written as JSON",
		`cloud_init(name = "x", user_data = "#cloud-config\nhostname: ${v}\n", vars = {})`:          `user_data:2:11: unknown name "v" (no names are given)`,
		`template(name = "x", content = "${X:-1}")`:                                                 `content:1:1: "${X:-1}" is for a shell`,
		`template(name = "x", content = "${X}", keep = ["a b"])`:                                    `keep: bad name "a b"`,
		`erlang_config(name = "x", inputs = ["{a,\n \"x${v}\"}.\n"], vars = {"w": 1})`:              `inputs[0]:2:2: in this string unknown name "v" (have w): did you mean "w"? (keep = ["v"] leaves it as it is)`,
		`erlang_config(name = "x", inputs = ["{a,\n 'n@${v}'}.\n"], vars = {"w": 1})`:               `inputs[0]:2:2: in this atom unknown name "v" (have w)`,
		`erlang_config(name = "x", inputs = ["{a,\n 'n@${w}'}.\n"], vars = {"w": [1]})`:             `inputs[0]:2:2: in this atom the variable w is a list: only a string, number or atom can be part of it`,
		`erlang_config(name = "x", inputs = ["{a,\n \"${X:-1}\"}.\n"], keep = ["w"])`:               `inputs[0]:2:2: in this string "${X:-1}" is for a shell`,
		`erlang_config(name = "x", inputs = ["{a,\n \"x${v}\"}.\n"], vars = {"v": [1]})`:            `the variable v is a list: only a string, number or atom can be part of it`,
		`cloud_init(name = "x", user_data = {"write_files": [{"path": "/a", "content": "é"[:1]}]})`: `user_data["write_files"][0]["content"]: "\xc3" is not UTF-8: write binary data as bytes, b"..."`,
	} {
		if err := resolveFiles(t, map[string]string{lang.BuildFile: build}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v\nwant %s", build, err, want)
		}
	}
}

// TestUnusedVariables holds which names give a warning.
func TestUnusedVariables(t *testing.T) {
	for build, want := range map[string]string{
		`template(name = "x", content = "${a}", vars = {"a": 1, "b": 2})`:                              "B9BUILD.star:1:1: template(): warning: vars: ${b} stands nowhere\n",
		`template(name = "x", src = file(content = ""), vars = {"a": 1})`:                              "", // not known yet
		`merge_yaml(["a: ${a}\n"], name = "x", vars = {"a": 1, "c": 2, "b": 3})`:                       "B9BUILD.star:1:1: merge_yaml(): warning: vars: ${b} stands nowhere\nB9BUILD.star:1:1: merge_yaml(): warning: vars: ${c} stands nowhere\n",
		`merge_yaml(["a: b\n", file(content = "")], name = "x", vars = {"a": 1})`:                      "",
		`cloud_init(name = "x", user_data = "#cloud-config\nhostname: ${a}\n", vars = {"a": "b"})`:     "",
		`cloud_init(name = "x", user_data = "#!/bin/sh\necho ${a}\n", vars = {"a": "b"})`:              "B9BUILD.star:1:1: cloud_init(): warning: vars: ${a} stands nowhere\n",
		`erlang_config(name = "x", inputs = ["{\"${a}\", ${b}}.\n"], vars = {"a": 1, "b": 2, "c": 3})`: "B9BUILD.star:1:1: erlang_config(): warning: vars: ${c} stands nowhere\n",
	} {
		root := t.TempDir()
		builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", lang.BuildFile: build})
		var printed strings.Builder
		w, err := openTest(context.Background(), lang.Config{Root: root, Stderr: &printed})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Resolve(context.Background(), []string{"//:all"}); err != nil || printed.String() != want {
			t.Errorf("%s: %v, printed %q\nwant %q", build, err, printed.String(), want)
		}
	}
}
