package template

import (
	"strings"
	"testing"

	"b9.build/b9/engine/internal/position"
)

func TestTemplate(t *testing.T) {
	values := map[string]string{"host": "db1", "port": "5432", "_x9": "ok", "empty": "", "dollar": "${host}"}
	tests := []struct{ text, want string }{
		{"", ""},
		{"plain", "plain"},
		{"${host}:${port}", "db1:5432"},
		{"a${empty}b", "ab"},
		{"$${host}", "${host}"},
		{"$$${host}", "$${host}"},
		{"$HOME $(ls) $$ $", "$HOME $(ls) $$ $"},
		{"${_x9}", "ok"},
		{"${dollar}", "${host}"},
		{"é${host}é", "édb1é"},
	}
	for _, tt := range tests {
		tmpl, err := Parse("t", tt.text, nil)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		var b strings.Builder
		if err := tmpl.Execute(&b, values); err != nil || b.String() != tt.want {
			t.Errorf("%q: got %q, %v; want %q", tt.text, b.String(), err, tt.want)
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	have := []string{"host", "port"}
	tests := []struct{ text, want string }{
		{"x\n  ${prot}", `app.cfg:2:3: unknown name "prot" (have host, port): did you mean "port"?`},
		{"é${zzzzz}", `app.cfg:1:2: unknown name "zzzzz" (have host, port)`},
		{"${", `app.cfg:1:1: "${" is not followed by a name and "}": write "$${" for a literal "${"`},
		{"${x:-y}", `app.cfg:1:1: "${x:-y}" is for a shell, and no template has it: give x a value and write "${x}", leave this as it is by keep = ["x"], or write "$${x:-y}"`},
		{"${x##*/}", `app.cfg:1:1: "${x##*/}" is for a shell, and no template has it: give x a value and write "${x}", leave this as it is by keep = ["x"], or write "$${x##*/}"`},
		{"${ntp-sever}", `app.cfg:1:1: unknown name "ntp-sever" (have host, port)`},
		{"${-x}", `app.cfg:1:1: "${" is not followed by a name and "}": write "$${" for a literal "${"`},
		{"${host", `app.cfg:1:1: "${host" has no closing "}"`},
		{"${1}\n${}", "app.cfg:1:1: \"${\" is not followed by a name and \"}\": write \"$${\" for a literal \"${\"\n" +
			"app.cfg:2:1: \"${\" is not followed by a name and \"}\": write \"$${\" for a literal \"${\""},
	}
	for _, tt := range tests {
		tmpl, err := Parse("app.cfg", tt.text, nil)
		if err == nil {
			err = tmpl.Check(have)
		}
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestTemplateWithoutNames(t *testing.T) {
	tmpl, err := Parse("t", "${a}", nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	err = tmpl.Execute(&b, nil)
	if want := `t:1:1: unknown name "a" (no names are given)`; err == nil || err.Error() != want || b.Len() > 0 {
		t.Errorf("got %v and %q, want %s", err, b.String(), want)
	}
}

func TestTemplateErrorsAreCapped(t *testing.T) {
	tmpl, err := Parse("t", strings.Repeat("${a}", 30), nil)
	if err != nil {
		t.Fatal(err)
	}
	msg := tmpl.Check(nil).Error()
	if lines := strings.Split(msg, "\n"); len(lines) != position.MaxErrors+1 || lines[position.MaxErrors] != "t: 10 more mistakes" {
		t.Errorf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// TestKeep holds that kept names stay, with what a shell may say behind them.
func TestKeep(t *testing.T) {
	for text, want := range map[string]string{
		"${HOME}/${ntp-server}": "${HOME}/a.org",
		"${HOME:-/root}":        "${HOME:-/root}",
		"${HOME-/root}":         "${HOME-/root}",
		"$${HOME}":              "${HOME}",
		"${HOME%/*} ${HOME":     "${HOME%/*} ${HOME",
	} {
		tmpl, err := Parse("t", text, []string{"HOME"})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var b strings.Builder
		if err := tmpl.Execute(&b, map[string]string{"ntp-server": "a.org"}); err != nil || b.String() != want {
			t.Errorf("%q: got %q, %v; want %q", text, b.String(), err, want)
		}
	}
	if got := Unused([]string{"c", "a", "b"}, []string{"b"}); len(got) != 2 || got[0] != "a" || got[1] != "c" {
		t.Errorf("unused: %q", got)
	}
}
