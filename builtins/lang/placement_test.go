package lang

import "testing"

func TestOutputNamesStayDifferent(t *testing.T) {
	want := map[string]string{
		"/root": "root", "/data": "data", "/srv/www": "srv-www", "/srv-www": "srv%2Dwww", "/a%2Db": "a%252Db", "iso": "iso",
	}
	seen := map[string]string{}
	for name, file := range want {
		got := outputName(name)
		if got != file {
			t.Errorf("output %q is placed as %q, want %q", name, got, file)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("outputs %q and %q are both placed as %q", name, other, got)
		}
		seen[got] = name
	}
}
