package repo

import (
	"strings"
	"testing"
	"unicode"
)

// TestForeignLines reads what other versions of b9, or other programs, wrote.
func TestForeignLines(t *testing.T) {
	s := kinds()[0].make(t)
	s.create(t)
	lines := []string{
		`{"op":"image","image":{"name":"old","version":"1","format":"qcow2","backing":"b3:00"},"manifest":{"id":"` + newFileID(nil).String() + `","length":7}}`,
		`{"op":"unheard-of"}`,
		`{"op":"image","image":{"name":"evil","version":"1","format":"\u001b[2Jraw","file_systems":["a\nb"],"key":"\u009b","parent":"\u202eweb@1",` +
			`"origin":{"user":"\r","host":"\u0007","label":"\u0000","b9":"\t","source":"\u001b]0;x","commit":"\u007f"}},"manifest":{"id":"` + newFileID(nil).String() + `","length":7}}`,
	}
	flood(t, s, len(lines), func(n int) string { return lines[n] })
	all, err := s.elsewhere(t).List(t.Context(), "")
	if err != nil || len(all) != 2 || all[1].Name != "old" || all[1].Format != "qcow2" {
		t.Fatalf("%+v, %v", all, err)
	}
	v := all[0]
	if v.Format != "\ufffd[2Jraw" {
		t.Errorf("format %q", v.Format)
	}
	for _, text := range append(v.FileSystems, v.Format, v.Key, v.Parent, v.Origin.User, v.Origin.Host, v.Origin.Label, v.Origin.B9, v.Origin.Source, v.Origin.Commit) {
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q would reach a terminal", text)
		}
	}
}
